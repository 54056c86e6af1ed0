"""Rewired models against models that are written by hand: functions and modules, both modes,
parameters shared.
"""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.examination.model_surgery import (
    RewiredModel,
    hidden_activations,
    layers_without_activation,
    output_calls,
    plan_activation,
    plan_linear_output,
    plan_no_dropout,
    plan_no_example_norm,
    plan_sigmoid_output,
    record_calls,
    rewire,
)

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


def bend(model, inputs, activation):
    return rewire(model, inputs, partial(plan_activation, activation=activation))


class Functional(nn.Module):
    """Activations and dropout as functions and methods, in several ways of writing them."""

    def __init__(self, bend=torch.tanh, head=torch.sigmoid, drop=0.5):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.bend, self.head, self.drop = bend, head, drop

    def forward(self, x):
        x = F.dropout(self.bend(self.one(x)), self.drop, self.training)
        x = F.dropout(self.bend(self.two(x)), self.drop, self.training)
        return self.head(self.out(x))


def functional(seed=0, **how):
    torch.manual_seed(seed)
    return Functional(**how)


WAYS = {
    "torch": torch.relu,
    "functional": F.relu,
    "method": lambda x: x.relu(),
    "in place": F.relu_,
    "method in place": lambda x: x.relu_(),
    "statement in place": lambda x: (x.relu_(), x)[1],
    "flag": lambda x: (F.relu(x, inplace=True), x)[1],
    "keyword": lambda x: F.relu(input=x),
    "module": lambda x: nn.ReLU()(x),
    "gelu with a keyword": lambda x: F.gelu(x, approximate="tanh"),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_another_activation_is_as_if_written_by_hand(way, training):
    model, by_hand = functional(bend=WAYS[way]), functional(bend=torch.tanh)
    bent = bend(model, X, torch.tanh)
    for one in (bent, by_hand):
        one.train(training)
        torch.manual_seed(3)  # the same units are dropped
        one(X).sum().backward()
    torch.manual_seed(3)
    made = bent(X)
    torch.manual_seed(3)
    assert torch.equal(made, by_hand(X))
    for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize(
    "head", [torch.sigmoid, torch.softmax, F.log_softmax, lambda x: x.tanh(), F.relu_]
)
def test_without_its_head_a_model_says_what_the_last_layer_says(head):
    shares = head in (torch.softmax, F.log_softmax)
    model = functional(head=(lambda x: head(x, dim=1)) if shares else head).eval()
    by_hand, logistic = functional(head=lambda x: x).eval(), functional(head=torch.sigmoid).eval()
    assert torch.equal(rewire(model, X, plan_linear_output).eval()(X), by_hand(X))
    assert torch.equal(rewire(model, X, plan_sigmoid_output).eval()(X), logistic(X))


def test_nothing_to_replace_is_none():
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert (
        rewire(plain, X, plan_linear_output) is None
        and rewire(plain, X, plan_sigmoid_output) is None
        and rewire(plain, X, plan_no_dropout) is None
    )
    assert bend(nn.Linear(4, 2), X, torch.relu) is None


def test_an_activation_is_put_where_none_stands():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    by_hand = nn.Sequential(model[0], nn.ReLU(), model[1], nn.ReLU(), model[3])
    assert layers_without_activation(record_calls(model, X)) == [0]
    assert torch.equal(bend(model, X, torch.relu)(X), by_hand(X))


def test_batch_normalization_or_flattening_between_layers_is_not_taken_for_a_gap():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
    )
    assert layers_without_activation(record_calls(model, X)) == []


def test_dropout_goes_wherever_it_is_called():
    model = functional()
    whole = rewire(model, X, plan_no_dropout)
    assert torch.equal(whole(X), whole(X)) and torch.equal(whole(X), model.eval()(X))
    modules = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.AlphaDropout(0.5), nn.Linear(8, 2))
    assert torch.equal(rewire(modules, X, plan_no_dropout)(X), modules.eval()(X))


def test_a_model_that_calls_less_in_evaluation_is_replaced_rightly_in_both_modes():
    class Less(Functional):
        def forward(self, x):
            x = self.bend(self.one(x))
            if self.training:
                x = F.dropout(x, 0.5)
            return self.head(self.two(x))

    torch.manual_seed(0)
    model = Less()
    straight, bent = (
        rewire(model, X, plan_linear_output).eval(),
        bend(model, X, torch.relu).eval(),
    )
    with torch.no_grad():
        assert torch.equal(straight(X), model.two(torch.tanh(model.one(X))))
        assert torch.equal(bent(X), torch.sigmoid(model.two(torch.relu(model.one(X)))))


def test_a_pass_that_calls_something_else_is_refused():
    class Longer(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x):
            for _ in range(len(x)):
                x = torch.tanh(self.cell(x))
            return x

    model = Longer()
    bent = rewire(model, X[:3], plan_linear_output)
    assert bent(X[:3]).shape == (3, 4)
    for other in (X[:4], X[:2]):
        with pytest.raises(RuntimeError, match="recorded"):
            bent(other)


def test_transformer_layers_are_replaced_in_training_and_in_evaluation():
    """In evaluation torch would take a fast path of its own, which no function shows."""
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))

    def layer(activation):
        torch.manual_seed(0)
        return nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.0, activation=activation, batch_first=True
        )

    model, by_hand = layer("gelu"), layer("relu")
    bent = bend(model, x, torch.relu)
    for mode in (True, False):
        assert torch.allclose(bent.train(mode)(x), by_hand.train(mode)(x), atol=1e-6)
        with torch.no_grad():  # kernels of the fast path sum in another order
            assert torch.allclose(bent(x), by_hand(x), atol=1e-5)
            assert not torch.allclose(bent(x), model.train(mode)(x), atol=1e-3)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gates_within_recurrent_layers_stay(kind):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.run, self.hidden, self.out = (
                kind(4, 6, batch_first=True),
                nn.Linear(6, 6),
                nn.Linear(6, 2),
            )

        def forward(self, x):
            return torch.softmax(self.out(torch.tanh(self.hidden(self.run(x)[0][:, -1]))), 1)

    x = torch.randn(5, 7, 4)
    model = Recurrent()
    bent = bend(model, x, torch.relu)
    hidden = model.run(x)[0][:, -1]
    assert torch.equal(bent(x), torch.softmax(model.out(torch.relu(model.hidden(hidden))), 1))
    assert torch.equal(
        rewire(model, x, plan_linear_output)(x), model.out(torch.tanh(model.hidden(hidden)))
    )


def test_attention_is_no_head_and_keeps_its_softmax():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 2)

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, -1)
            return self.out(torch.softmax(q @ k.transpose(-1, -2), -1) @ v).sigmoid()

    x = torch.randn(2, 3, 4)
    calls = record_calls(Attending(), x)
    assert [calls[i].name for i in output_calls(calls)] == ["sigmoid"] and hidden_activations(
        calls
    ) == []
    assert [c.name for c in calls] == ["linear", "matmul", "softmax", "matmul", "linear", "sigmoid"]


def test_parameters_are_the_model_s_own_and_a_state_can_be_saved_and_loaded():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2), nn.Sigmoid()
    )
    bent = rewire(model, X, plan_linear_output)
    assert [id(p) for p in bent.parameters()] == [id(p) for p in model.parameters()]
    assert {k.removeprefix("model.") for k in bent.state_dict()} == set(model.state_dict())
    other = rewire(copy.deepcopy(model), X, plan_linear_output)
    bent(X)  # moves the running mean
    other.load_state_dict(bent.state_dict())
    assert torch.equal(other.eval()(X), bent.eval()(X))


def test_a_copy_of_model_and_optimizer_keeps_sharing():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bent, stepper = copy.deepcopy((rewire(model, X, plan_linear_output), optimizer))
    assert isinstance(bent, RewiredModel)
    held = stepper.param_groups[0]["params"]
    assert all(a is b for a, b in zip(bent.parameters(), held, strict=True))
    assert not any(a is b for a, b in zip(model.parameters(), held, strict=True))
    before = copy.deepcopy(model.state_dict())
    F.cross_entropy(bent(X), torch.zeros(12).long()).backward()
    stepper.step()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not torch.equal(bent.model[0].weight, model[0].weight)


def test_looking_at_calls_changes_neither_model_nor_random_numbers():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2), nn.Sigmoid()
    ).eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    for plan in (plan_linear_output, plan_sigmoid_output, plan_no_dropout):
        assert rewire(model, X, plan) is not None
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert torch.equal(torch.get_rng_state(), state) and not model.training


def test_a_rewired_model_can_be_rewired():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2), nn.Softmax(1)
    )
    bent = bend(rewire(model, X, plan_linear_output), X, torch.relu)
    both = rewire(bent, X, plan_no_dropout)
    assert torch.equal(both(X), model[3](torch.relu(model[0](X))))


class WeighsStates(nn.Module):
    """Shares of states by a softmax, as attention has them."""

    def __init__(self):
        super().__init__()
        self.score, self.out = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.score(x).softmax(1) * x)


def test_a_softmax_between_layers_is_an_activation_and_one_that_weighs_states_is_none():
    model = nn.Sequential(nn.Linear(4, 5), nn.Softmax(1), nn.Linear(5, 3), nn.Tanh()).extend(
        nn.Sequential(nn.Linear(3, 2), nn.LogSoftmax(1))
    )
    calls = record_calls(model, X)
    assert [calls[i].name for i in hidden_activations(calls)] == ["softmax", "tanh"]
    assert layers_without_activation(calls) == []
    assert hidden_activations(record_calls(WeighsStates(), X)) == []
    assert [calls[i].name for i in output_calls(calls)] == ["log_softmax"]


def test_without_norms_of_each_example_its_level_stays():
    torch.manual_seed(0)
    norm = nn.InstanceNorm1d(4)
    model = nn.Sequential(
        nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 4, 1), nn.Flatten(), nn.Linear(4, 2)
    )
    pictures = torch.randn(6, 4, 5)
    normed = nn.Sequential(norm, nn.Flatten(), nn.Linear(20, 2))
    changed = rewire(normed, pictures, plan_no_example_norm)
    plain = nn.Sequential(nn.Flatten(), normed[2])
    assert torch.equal(changed(pictures), plain(pictures))
    assert not torch.allclose(normed(pictures), plain(pictures))
    assert rewire(model, X, plan_no_example_norm) is None
