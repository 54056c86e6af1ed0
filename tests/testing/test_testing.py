"""`ravine.testing`: each assertion fails on its planted fault with the finding's text, passes on
what is sound, and leaves everything as it was.
"""

import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.errors import InputError
from ravine.testing import (
    assert_causal,
    assert_eval_deterministic,
    assert_examples_independent,
    assert_gradients_reach_every_parameter,
    assert_learns_a_batch,
    assert_loss_at_chance,
    assert_same_when_resumed,
)


def classes(count=24, features=6, k=3):
    x = torch.randn(count, features, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(count) % k


def mlp(*last, dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 3), *last)


class Calling(nn.Module):
    """A module whose forward is a function of the module and its inputs."""

    def __init__(self, call, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.call = call
        for name, part in parts.items():
            setattr(self, name, part() if isinstance(part, type) else part)

    def forward(self, *inputs, **named):
        return self.call(self, *inputs, **named)


@dataclasses.dataclass
class Answer:
    logits: Tensor
    states: list


def fails(code, title, check, *args, **settings):
    with pytest.raises(AssertionError) as raised:
        check(*args, **settings)
    text = str(raised.value)
    assert f"RVN-{code}" in text and title in text, text
    assert "evidence" in text and "cause" in text and ("   change" in text or "   do " in text)
    assert "more: ravine explain RVN-" in text or "except_for=(" in text
    return text


# Gradients


def test_gradients_that_reach_every_parameter_pass():
    assert_gradients_reach_every_parameter(mlp(dropout=0.5), F.cross_entropy, classes())


def test_a_detached_layer_is_named():
    model = Calling(
        lambda m, x: m.head(m.body(x).detach()), body=nn.Linear(6, 32), head=nn.Linear(32, 3)
    )
    text = fails(
        "I05",
        "layers in use get no gradient",
        assert_gradients_reach_every_parameter,
        model,
        F.cross_entropy,
        classes(),
    )
    assert "body.weight" in text and "body.bias" in text
    assert_gradients_reach_every_parameter(model, F.cross_entropy, classes(), except_for=["body"])


def test_a_part_that_is_not_used_is_named_and_can_be_exempt():
    model = Calling(lambda m, x: m.head(x), head=nn.Linear(6, 3), pooler=nn.Linear(6, 6))
    text = fails(
        "I05",
        "parameters get no gradient",
        assert_gradients_reach_every_parameter,
        model,
        F.cross_entropy,
        classes(),
    )
    assert "pooler.weight, pooler.bias" in text and "except_for=('pooler.weight',)" in text
    for names in (("pooler",), ("pooler.weight", "pooler.bias"), "pooler.*", ("*ooler*",)):
        assert_gradients_reach_every_parameter(model, F.cross_entropy, classes(), except_for=names)
    with pytest.raises(InputError, match="Did you mean 'pooler'"):
        assert_gradients_reach_every_parameter(
            model, F.cross_entropy, classes(), except_for=("poolr",)
        )


def test_frozen_parameters_need_no_gradient_but_some_must_learn():
    model = mlp()
    model[0].requires_grad_(False)
    assert_gradients_reach_every_parameter(model, F.cross_entropy, classes())
    model.requires_grad_(False)
    fails(
        "I05",
        "no parameter requires a gradient",
        assert_gradients_reach_every_parameter,
        model,
        F.cross_entropy,
        classes(),
    )


def test_a_loss_without_a_graph_is_found():
    def loss(outputs, targets):
        return (outputs.argmax(1) != targets).float().mean()

    text = fails("I05", "", assert_gradients_reach_every_parameter, mlp(), loss, classes())
    assert "the loss has no graph" in text


def test_two_layers_of_zeros_are_stuck():
    model = mlp()
    for layer in (model[0], model[3]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    check = assert_gradients_reach_every_parameter
    assert "0.weight" in fails("I06", "", check, model, F.cross_entropy, classes())


def test_an_auxiliary_head_that_only_training_uses_gets_its_gradient():
    def forward(model, x):
        h = model.body(x)
        return (model.head(h), model.aux(h)) if model.training else model.head(h)

    def loss(outputs, targets):
        both = outputs if isinstance(outputs, tuple) else (outputs,)
        return sum(F.cross_entropy(out, targets) for out in both)

    parts = {"body": nn.Linear(6, 8), "head": nn.Linear(8, 3), "aux": nn.Linear(8, 3)}
    assert_gradients_reach_every_parameter(Calling(forward, **parts), loss, classes())


# Examples, time, random numbers


@pytest.mark.parametrize(
    "mixing",
    [
        lambda m, x: m.net(x).softmax(0),
        lambda m, x: m.net(x) - m.net(x).mean(0),
        lambda m, x: m.net(x.reshape(6, -1).T),
        lambda m, x: {"logits": m.net(x), "embedding": x + x.flip(0)},
    ],
)
def test_mixed_examples_are_found(mixing):
    model = Calling(mixing, net=mlp())
    text = fails("I01", "", assert_examples_independent, model, classes()[0])
    assert "spread" in text


@pytest.mark.parametrize("count", [2, 3, 7, 24])
def test_independent_examples_pass_whatever_the_number(count):
    x = classes(count)[0]
    assert_examples_independent(nn.Sequential(nn.BatchNorm1d(6), mlp(dropout=0.5)), x)
    fails("I01", "", assert_examples_independent, nn.Softmax(dim=0), x)


def test_batch_norm_without_running_statistics_mixes_examples():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False))
    assert "'1'" in fails("I01", "", assert_examples_independent, model, classes()[0])


def test_equal_examples_cannot_be_compared():
    with pytest.raises(InputError, match="fewer than two different"):
        assert_examples_independent(mlp(), torch.ones(8, 6))


def test_several_inputs_and_keywords_are_taken():
    model = Calling(lambda m, a, b: Answer(m.net(a + b), [a]), net=mlp())
    x = classes()[0]
    assert_examples_independent(model, (x, x.flip(0)))
    assert_examples_independent(model, {"a": x, "b": x.flip(0)})
    with pytest.raises(InputError, match="does not run"):
        assert_examples_independent(model, x)


def test_a_mask_over_the_future_is_needed():
    x = torch.randn(6, 5, 8)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    masked = Calling(lambda m, x: m.layer(x, src_mask=mask, is_causal=True), layer=layer)
    assert_causal(masked, x)
    text = fails("I03", "", assert_causal, layer, x)
    assert "spread" in text and "target" not in text  # none was given


@pytest.mark.parametrize("leak", [False, True])
def test_time_may_stand_in_another_dimension_and_beside_other_inputs(leak):
    conv = nn.Conv1d(3, 4, 3)

    def forward(model, x, lengths):
        padded = F.pad(x, (1, 1) if leak else (2, 0))
        return {"out": model.conv(padded), "state": lengths}

    model = Calling(forward, conv=conv)
    inputs = {"x": torch.randn(6, 3, 9), "lengths": torch.arange(6)}
    if leak:
        fails("I03", "", assert_causal, model, inputs, dim=2)
    else:
        assert_causal(model, inputs, dim=2)
    with pytest.raises(InputError, match="no time"):
        assert_causal(model, inputs, dim=3)


def test_random_evaluation_is_found():
    model = Calling(lambda m, x: F.dropout(m.net(x), 0.5), net=mlp())
    assert "dropout" in fails("I08", "", assert_eval_deterministic, model, classes()[0])
    assert_eval_deterministic(mlp(dropout=0.5), classes()[0])


# Loss


def test_the_first_loss_is_that_of_guessing():
    assert_loss_at_chance(mlp(), F.cross_entropy, classes(96))
    assert_loss_at_chance(mlp(), F.cross_entropy, classes(96), chance=math.log(3))
    model = mlp()
    with torch.no_grad():
        model[3].weight.mul_(100)
    text = fails("I13", "far above", assert_loss_at_chance, model, F.cross_entropy, classes(96))
    assert "1.65" in text  # 1.5 times log 3
    assert_loss_at_chance(model, F.cross_entropy, classes(96), rtol=50)


def test_a_loss_below_chance_or_without_a_number_fails():
    class Cheat(nn.Module):
        def forward(self, x):
            return 10 * F.one_hot(x[:, 0].long(), 3).float()

    y = torch.arange(24) % 3
    batch = y[:, None].float(), y
    fails("I13", "far below", assert_loss_at_chance, Cheat(), F.cross_entropy, batch)
    nan = Calling(lambda m, x: m.net(x).log(), net=mlp())
    fails("I12", "not finite", assert_loss_at_chance, nan, F.cross_entropy, classes())


def test_an_unknown_loss_of_guessing_must_be_given():
    model = Calling(lambda m, x: {"logits": m.net(x)}, net=mlp())

    def loss(outputs, batch):
        return F.cross_entropy(outputs["logits"], batch[1])

    with pytest.raises(InputError, match="chance="):
        assert_loss_at_chance(model, loss, classes())
    assert_loss_at_chance(model, loss, classes(), chance=math.log(3))


# Learning


@pytest.mark.parametrize(
    "optimizer",
    [None, lambda p: torch.optim.SGD(p, lr=0.3), lambda p: torch.optim.LBFGS(p, lr=0.1)],
)
def test_a_small_batch_is_learned(optimizer):
    assert_learns_a_batch(mlp(dropout=0.5), F.cross_entropy, classes(), optimizer=optimizer)


def test_label_smoothing_has_a_loss_of_its_own():
    assert_learns_a_batch(mlp(), nn.CrossEntropyLoss(label_smoothing=0.1), classes())


def test_an_optimizer_of_the_model_trains_a_copy():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    assert_learns_a_batch(model, F.cross_entropy, classes(), optimizer=optimizer)
    assert optimizer.state_dict()["state"] == {}


def test_a_softmax_before_cross_entropy_learns_no_batch():
    check, model = assert_learns_a_batch, mlp(nn.Softmax(1))
    text = fails("C03", "", check, model, F.cross_entropy, classes(), steps=60)
    assert "16 examples" in text and "RVN-I10" in text and "what the last layer gives" in text


def test_a_reversed_loss_learns_the_wrong_answers():
    def reverse(outputs, targets):
        return 5 - F.cross_entropy(outputs, targets)

    fails("I09", "", assert_learns_a_batch, mlp(), reverse, classes())


def test_a_model_that_returns_its_loss_is_called_with_the_whole_batch():
    def forward(model, x, labels):
        logits = model.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    model, (x, y) = Calling(forward, net=mlp()), classes()
    batch = {"x": x, "labels": y}
    assert_learns_a_batch(model, None, batch)
    assert_gradients_reach_every_parameter(model, None, batch)
    assert_same_when_resumed(model, None, batch)
    assert_loss_at_chance(model, None, batch, chance=math.log(3))


def test_targets_that_are_all_the_same_teach_nothing():
    x, y = classes()
    with pytest.raises(InputError, match="nothing to learn"):
        assert_learns_a_batch(mlp(), F.cross_entropy, (x, torch.zeros_like(y)))


# What keeps a batch from being learned


def numbers(scale=1.0, offset=0.0):
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    return x, scale * (2 * x[:, :1] + x[:, 1:2]) + offset


def regressor(outputs=1):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, outputs))


@pytest.mark.parametrize(
    ("make", "cause", "text"),
    [
        (lambda p: torch.optim.SGD(p, lr=10.0), "learning-rate-high", "0.01 times the"),
        (lambda p: torch.optim.SGD(p, lr=1e-9), "learning-rate-low", "with Adam at 0.001"),
        (lambda p: torch.optim.Adam(p, lr=1e-6), "learning-rate-low", "1000 times the"),
    ],
)
def test_a_learning_rate_at_which_nothing_is_learned_is_named(make, cause, text):
    check = assert_learns_a_batch
    said = fails("C03", "", check, regressor(), F.mse_loss, numbers(), optimizer=make)
    assert f"cause     {cause}" in said and text in " ".join(said.split())
    assert "architecture" not in said


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.huber_loss])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_outputs_that_meet_all_targets_are_named(loss):
    x, y = numbers()
    text = fails("I02", "every output", assert_learns_a_batch, regressor(), loss, (x, y[:, 0]))
    assert "outputs [" in text and "Mend that first: see RVN-I02" in text
    assert "architecture" not in text


@pytest.mark.parametrize(("scale", "offset"), [(1000.0, 50000.0), (1.0, 3000.0), (2e4, 0.0)])
def test_targets_that_are_learned_once_standardized_are_named(scale, offset):
    batch = numbers(scale, offset)
    text = fails("D06", "", assert_learns_a_batch, regressor(), F.mse_loss, batch)
    assert "with them standardized" in " ".join(text.split())
    assert "cause     target-scale" in text and "architecture" not in text


def test_a_network_that_cannot_learn_is_blamed_itself():
    torch.manual_seed(0)
    narrow = nn.Sequential(nn.Linear(6, 1), nn.Linear(1, 1))
    x, y = numbers()
    noise = torch.randn(24, 1, generator=torch.Generator().manual_seed(1))
    text = fails("C03", "", assert_learns_a_batch, narrow, F.mse_loss, (x, noise))
    assert "architecture-too-small" in text and "networks" not in text
    sgd = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.01)}
    text = fails("C03", "", assert_learns_a_batch, narrow, F.mse_loss, (x, 1e4 * noise), **sgd)
    assert "architecture-too-small" in text and "RVN-D06" not in text


# Losses below 0


def gaussian(outputs, targets):
    """A Gaussian likelihood; outputs are means and logarithms of variances."""
    mean, log_variance = outputs[:, :1], outputs[:, 1:].clamp(-9, 9)
    return 0.5 * ((targets - mean) ** 2 * torch.exp(-log_variance) + log_variance).mean()


NEGATIVE_LOSSES = {
    "likelihood": (gaussian, numbers(0.01), 2),
    "reward": (lambda out, y: -torch.exp(-((out - y) ** 2)).mean(), numbers(), 1),
    "cosine": (lambda out, y: -F.cosine_similarity(out, y).mean(), (numbers()[0],) * 2, 6),
    "shifted": (lambda out, y: F.cross_entropy(out, y) - 2.0, classes(), 3),
}


@pytest.mark.parametrize("name", NEGATIVE_LOSSES)
def test_a_loss_that_falls_below_0_is_learned_by_a_network_that_sees_its_inputs(name):
    loss, batch, outputs = NEGATIVE_LOSSES[name]
    assert_learns_a_batch(regressor(outputs), loss, batch)


@pytest.mark.parametrize("name", NEGATIVE_LOSSES)
def test_a_constant_answer_is_not_learning_however_low_its_loss_is(name):
    loss, batch, outputs = NEGATIVE_LOSSES[name]
    blind = Calling(lambda m, x: m.net(x.detach() * 0 + 1e-9 * x), net=regressor(outputs))
    fails("C03", "", assert_learns_a_batch, blind, loss, batch, steps=200)


def test_a_fall_of_which_nothing_is_known_is_said_to_tell_nothing():
    x, _ = numbers()
    noise = torch.randn(24, 1, generator=torch.Generator().manual_seed(1))
    model = Calling(lambda m, x: m.net((x[:, :1] > 0).float().repeat(1, 6)), net=regressor(2))
    with pytest.raises(InputError, match=r"cannot be judged.* with equal inputs to "):
        batch = x, 0.01 * (x[:, :1].sign() + noise)
        assert_learns_a_batch(model, gaussian, batch, steps=300)


# Resuming


def step_down(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("optimizer", [None, momentum, torch.optim.RMSprop])
@pytest.mark.parametrize("scheduler", [None, step_down])
def test_state_dicts_and_random_states_resume_training(optimizer, scheduler):
    model = nn.Sequential(nn.BatchNorm1d(6), mlp(dropout=0.5))
    settings = {"optimizer": optimizer, "scheduler": scheduler}
    assert_same_when_resumed(model, F.cross_entropy, classes(), **settings)


def test_objects_that_exist_are_copied_together():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    settings = {"optimizer": optimizer, "scheduler": plateau, "steps": 4}
    assert_same_when_resumed(model, F.cross_entropy, classes(), **settings)
    assert plateau.last_epoch == 0 and optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    ("saved", "missing"),
    [
        (("model", "scheduler", "random"), "optimizer"),
        (("model", "optimizer", "random"), "scheduler"),
        (("model", "optimizer", "scheduler"), "random numbers"),
        (("optimizer", "scheduler", "random"), "model"),
    ],
)
def test_what_a_checkpoint_leaves_out_is_named(saved, missing):
    def save(model, optimizer, scheduler):
        every = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        states = {name: each.state_dict() for name, each in every.items() if name in saved}
        return states | {"random": torch.get_rng_state()}

    def load(state, model, optimizer, scheduler):
        every = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        for name in set(saved) & set(every):
            every[name].load_state_dict(state[name])
        if "random" in saved:
            torch.set_rng_state(state["random"])

    settings = {"optimizer": momentum, "scheduler": step_down, "save": save, "load": load}
    text = fails(
        "C15",
        "",
        assert_same_when_resumed,
        mlp(dropout=0.5),
        F.cross_entropy,
        classes(),
        **settings,
    )
    assert f"where     {missing}" in text


class Centering(nn.Module):
    """Subtracts a running mean that no checkpoint has: of three kinds."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        if kind == "buffer":
            self.register_buffer("mean", torch.zeros(6), persistent=False)
        else:
            self.mean = torch.zeros(6) if kind == "tensor" else 0.0

    def forward(self, x):
        if self.training:
            new = x.mean() if self.kind == "number" else x.mean(0)
            mean = 0.9 * self.mean + 0.1 * new
            self.mean = float(mean) if self.kind == "number" else mean
        return x - self.mean


@pytest.mark.parametrize("kind", ["buffer", "tensor", "number"])
def test_state_of_a_model_that_its_state_dict_lacks_is_named(kind):
    model = nn.Sequential(Centering(kind), mlp())
    check = assert_same_when_resumed
    text = fails("C15", "", check, model, F.cross_entropy, classes())
    assert "mean" in text and "where     model" in text


def test_state_in_attributes_of_the_outermost_module_is_compared_and_shown():
    model = Calling(lambda m, x: m.net(x) + count(m), net=mlp())
    model.calls = 0

    def count(module):
        module.calls += module.training
        return module.calls * torch.eye(3)[0]

    text = fails("C15", "", assert_same_when_resumed, model, F.cross_entropy, classes())
    text = " ".join(text.split())
    assert "calls (saved 3, loaded 0)" in text and "where model" in text


def test_a_failure_says_when_losses_differ_first_and_by_how_much_the_weights():
    def save(model, optimizer):
        return model.state_dict(), torch.get_rng_state()

    def load(state, model, optimizer):
        model.load_state_dict(state[0])

    settings = {"optimizer": momentum, "save": save, "load": load}
    check, ends = assert_same_when_resumed, []
    text = fails("C15", "", check, mlp(), F.cross_entropy, classes(), **settings)
    for stops in (False, True):  # once more by hand: the momentum is lost
        model = mlp()
        optimizer = momentum(model.parameters())
        for step in range(6):
            if stops and step == 3:
                optimizer = momentum(model.parameters())
            optimizer.zero_grad()
            F.cross_entropy(model(classes()[0]), classes()[1]).backward()
            optimizer.step()
        ends.append(model)
    pairs = zip(*(model.parameters() for model in ends), strict=True)
    farthest = max(float((one - other).detach().abs().max()) for one, other in pairs)
    assert f" by {farthest:.2g}, " in " ".join(text.split())
    assert "first difference of losses, before step 2" in " ".join(text.split())


def test_random_numbers_that_no_checkpoint_knows_are_a_cause_of_their_own():
    own = torch.Generator().manual_seed(1)
    model = Calling(lambda m, x: m.net(x + torch.randn(x.shape, generator=own)), net=mlp())
    text = fails("C15", "", assert_same_when_resumed, model, F.cross_entropy, classes())
    assert "cause     randomness" in text and "torch.Generator" in text


def test_save_needs_load():
    with pytest.raises(InputError, match="save and load"):
        assert_same_when_resumed(mlp(), F.cross_entropy, classes(), save=lambda *all: all)


# Nothing changes


def test_model_batch_and_random_numbers_are_left_as_they_were():
    model, (x, y) = nn.Sequential(nn.BatchNorm1d(6), mlp(dropout=0.5)), classes()
    model[1][0].eval()
    F.cross_entropy(model(x), y).backward()
    modes = [m.training for m in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    grads = [p.grad.clone() for p in model.parameters()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    kept = x.clone(), y.clone()
    batch = x, y
    for check in (
        assert_gradients_reach_every_parameter,
        assert_loss_at_chance,
        assert_learns_a_batch,
        assert_same_when_resumed,
    ):
        check(model, F.cross_entropy, batch)
    for check in (assert_examples_independent, assert_eval_deterministic):
        check(model, x)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, model.parameters(), strict=True))
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1], states[2]) == (np.random.get_state()[1].tolist(), random.getstate())
    assert torch.equal(kept[0], x) and torch.equal(kept[1], y)


def test_a_loss_with_the_model_in_it_leaves_no_gradient_behind():
    model = mlp()

    def penalized(outputs, targets):
        return F.cross_entropy(outputs, targets) + 1e-6 * model[0].weight.square().sum()

    assert_learns_a_batch(model, penalized, classes())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("model", ["a text", mlp])
def test_what_is_no_module_is_refused(model):
    with pytest.raises(InputError, match="torch.nn.Module"):
        assert_examples_independent(model, torch.ones(4, 6))
