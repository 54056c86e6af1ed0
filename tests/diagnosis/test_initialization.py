"""What probing a model and its loss says before the first step: seeded faults, and healthy programs
that look odd.
"""

import copy
import dataclasses
import math
import traceback
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.initialization.pairing_probe import probe_pairing
from ravine.diagnosis.initialization.probe import START_PROBES, profile_start
from ravine.diagnosis.initialization.probed_loss import ProbedLoss
from ravine.diagnosis.initialization.profile import (
    ActivationStats,
    BaselineLosses,
    BatchNormStats,
    ClassWeights,
    FirstLoss,
    LayerStats,
    LossForm,
    LossProfile,
    NetworkProfile,
    SignalFlow,
    StartProfile,
    TargetProfile,
)
from ravine.diagnosis.initialization.rules_loss import light_weight_limit
from ravine.diagnosis.registry import START_RULES
from ravine.diagnosis.rule import run_rules


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def alarms(start):
    found, checks = run_rules(START_RULES, start)
    assert not checks.failed
    return {f.code: f for f in found if f.severity != "note"}


def examined(model, loss, x, y):
    start = profile_start(model, loss, x, y)
    assert start.measured.get("outputs"), start.broke
    return alarms(start)


def table(n=96, columns=6, classes=3):
    x = torch.randn(n, columns)
    return x, torch.randint(0, classes, (n,))


def net(columns=6, width=16, outputs=3, act=nn.ReLU):
    return nn.Sequential(nn.Linear(columns, width), act(), nn.Linear(width, outputs))


class Then(nn.Module):
    """A module, and a function of what it makes."""

    def __init__(self, body, function):
        super().__init__()
        self.body, self.function = body, function

    def forward(self, x):
        return self.function(self.body(x))


# Do examples keep apart?


class Reader(nn.Module):
    def __init__(self, kind, **how):
        super().__init__()
        self.cell, self.head = kind(5, 12, **how), nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_recurrent_layer_that_takes_the_batch_for_time_is_found_and_named(kind):
    x, y = torch.randn(40, 9, 5), torch.randint(0, 3, (40,))
    found = examined(Reader(kind), F.cross_entropy, x, y)
    assert found["RVN-I01"].where == "cell" and found["RVN-I01"].cause == "shape-pairing"
    assert examined(Reader(kind, batch_first=True), F.cross_entropy, x, y) == {}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda out: out.softmax(0), "softmax"),
        (lambda out: out - out.mean(), "sub"),
        (lambda out: out.reshape(3, -1).T, "reshape"),
        (lambda out: out / out.norm(dim=0), "div"),
    ],
)
def test_what_mixes_examples_between_modules_is_found(function, name):
    x, y = table()
    found = profile_start(Then(net(), function), F.mse_loss, x, torch.randn(96, 3))
    first = found.mixing.difference
    assert first is not None and first.where == "" and first.module_class == "Then"
    assert first.function == name


def test_outputs_of_one_shape_for_any_number_of_examples_are_mixed():
    """The mean of 96 features over 96 examples, in place of one over the features."""
    x, _ = table()
    model = Then(nn.Linear(6, 96), lambda out: out.square().mean(0))
    first = profile_start(model, F.mse_loss, x, torch.randn(96)).mixing.difference
    assert first is not None and (first.module_class, first.function) == ("Then", "mean")
    # features of a whole batch, which a loss takes of any number of examples
    found = profile_start(model, lambda out, _: out.mean(), x, torch.randn(96))
    assert found.mixing.difference is None


def test_batch_norm_is_no_mixing_in_evaluation_and_one_without_statistics_is_a_note():
    x, y = table()
    steady = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    assert profile_start(steady, F.cross_entropy, x, y).mixing.difference is None
    loose = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU(), nn.Linear(8, 3)
    )
    start = profile_start(loose, F.cross_entropy, x, y)
    assert start.mixing.difference.where == "1"
    found = next(f for f in run_rules(START_RULES, start)[0] if f.code == "RVN-I01")
    assert (found.severity, found.cause) == ("note", "normalization")


def test_similarities_of_all_pairs_as_outputs_are_not_asked():
    both = Then(nn.Linear(6, 4), lambda z: F.normalize(z, dim=1) @ F.normalize(z, dim=1).T)
    x, _ = table(24)
    start = profile_start(both, F.cross_entropy, x, torch.arange(24))
    assert start.mixing.difference is None and start.has("mixing") is None


def test_attention_over_the_batch_is_found_where_it_stands():
    """nn.MultiheadAttention takes [T, N, E] unless it is told otherwise."""

    class Attends(nn.Module):
        def __init__(self, batch_first):
            super().__init__()
            self.attend, self.head = (
                nn.MultiheadAttention(8, 2, batch_first=batch_first),
                nn.Linear(8, 3),
            )

        def forward(self, x):
            return self.head(self.attend(x, x, x)[0].mean(1))

    x, y = torch.randn(32, 10, 8), torch.randint(0, 3, (32,))
    assert examined(Attends(False), F.cross_entropy, x, y)["RVN-I01"].where == "attend"
    assert examined(Attends(True), F.cross_entropy, x, y) == {}


# Whose targets?


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        F.l1_loss,
        F.smooth_l1_loss,
        lambda out, y: ((out - y) ** 2).mean().sqrt(),
        lambda out, y: (out - y).abs().pow(1.5).sum(),
        lambda out, y: torch.log(torch.cosh(out - y)).mean(),
        lambda out, y: -(y * F.logsigmoid(out) + (1 - y) * F.logsigmoid(-out)).mean(),
    ],
)
def test_a_column_against_a_row_is_found(loss):
    x, _ = table()
    y = (x[:, 0] > 0).float()
    model = net(outputs=1)
    assert examined(model, loss, x, y)["RVN-I02"].cause == "shape-pairing"
    assert examined(model, lambda out, t: loss(out, t[:, None]), x, y) == {}
    flat = Then(net(outputs=1), lambda out: out[:, 0])
    assert "RVN-I02" in examined(flat, loss, x, y[:, None])
    assert "RVN-I02" in examined(model, lambda out, t: loss(out.squeeze(), t), x, y[:, None])


class Tagger(nn.Module):
    def __init__(self, tokens=6, classes=4):
        super().__init__()
        self.embed, self.head = nn.Embedding(tokens, 8), nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.embed(x))


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        (lambda y: y.reshape(-1), False),
        (lambda y: y.T.reshape(-1), True),
        (lambda y: y.flip(0).reshape(-1), True),
        (lambda y: y.roll(1, 0).reshape(-1), True),
        (lambda y: y.roll(1, 1).reshape(-1), False),
    ],
)
def test_targets_in_another_order_are_found_and_a_shift_in_time_is_left_alone(order, wrong):
    x, y = torch.randint(0, 6, (60, 9)), torch.randint(0, 4, (60, 9))
    found = examined(Tagger(), lambda out, t: F.cross_entropy(out.reshape(-1, 4), order(t)), x, y)
    assert ("RVN-I02" in found) == wrong


def correlated(out, y):
    a, b = out[:, 0] - out.mean(), y - y.mean()
    return 1 - (a * b).sum() / (a.norm() * b.norm())


def contrastive(out, y):
    z = F.normalize(out, dim=1)
    scores = (z @ z.T / 0.2).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    same = (y[:, None] == y[None]) & ~torch.eye(len(z), dtype=torch.bool)
    return -(scores.log_softmax(1) * same).sum() / same.sum().clamp(min=1)


def batch_hard(out, y):
    far = torch.cdist(out, out)
    same = y[:, None] == y[None]
    return (
        (far.masked_fill(~same, -1e9).amax(1) - far.masked_fill(same, 1e9).amin(1) + 0.3)
        .clamp(min=0)
        .mean()
    )


def moments(out, y):
    return (out.mean(0) - y.mean(0)).square().sum() + (out.std(0) - y.std(0)).square().sum()


def discrepancy(out, y):
    """Of two distributions: their mean kernels (maximum mean discrepancy)."""
    kernel = lambda a, b: torch.exp(-(torch.cdist(a, b) ** 2)).mean()  # noqa: E731
    return kernel(out, out) + kernel(y, y) - 2 * kernel(out, y)


def ranked(out, y):
    """Pairwise logistic ranking."""
    return (F.softplus(-(out - out.T)) * (y[:, None] > y[None])).mean()


@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 20.0])), 3, "classes"),
        (correlated, 1, "numbers"),
        (contrastive, 8, "classes"),
        (batch_hard, 8, "classes"),
        (moments, 2, "pairs"),
        (discrepancy, 2, "pairs"),
        (discrepancy, 1, "column"),
        (ranked, 1, "numbers"),
        (lambda out, y: F.cross_entropy(out, y.roll(0)), 3, "classes"),
        (lambda out, y: (out.sort(0).values - y.sort(0).values).square().mean(), 1, "column"),
        (
            lambda out, y: (
                (F.mse_loss(out, y, reduction="none") * (1 + y.abs())).sum() / (1 + y.abs()).sum()
            ),
            1,
            "column",
        ),
    ],
)
def test_losses_of_whole_batches_are_left_alone(loss, outputs, targets):
    x, classes = table()
    y = {
        "classes": classes,
        "numbers": x[:, 0] + x[:, 1],
        "pairs": torch.randn(96, 2),
        "column": x[:, :1],
    }[targets]
    start = profile_start(net(outputs=outputs), loss, x, y)
    assert (
        start.has("pairing")
        and not start.pairing.compares_all
        and not start.pairing.missed_fraction
    )
    assert "RVN-I02" not in alarms(start)


def test_pairing_is_not_asked_where_all_targets_are_equal_or_do_not_count():
    out = torch.randn(7, 1)
    assert probe_pairing(ProbedLoss(F.mse_loss, out, torch.ones(7))) is None
    assert probe_pairing(ProbedLoss(lambda o, y: o.square().mean(), out, torch.randn(7))) is None


# Does it know of later inputs?


class Writer(nn.Module):
    def __init__(self, mask="causal"):
        super().__init__()
        self.embed, self.place = nn.Embedding(6, 16), nn.Parameter(torch.randn(12, 16))
        self.blocks = nn.ModuleList(
            [nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2)]
        )
        self.head, self.mask = nn.Linear(16, 6), mask

    def forward(self, x):
        h = self.embed(x) + self.place[: x.shape[1]]
        late = torch.full((x.shape[1],) * 2, -torch.inf).triu(1)
        for i, block in enumerate(self.blocks):
            masked = self.mask == "causal" or (self.mask == "second open" and i == 0)
            h = block(h, src_mask=late if masked else None)
        return self.head(h)


def by_token(out, y):
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))


def test_a_missing_mask_is_found_at_the_layer_that_misses_it():
    text = torch.randint(0, 6, (50, 13))
    x, y = text[:, :-1], text[:, 1:]
    assert examined(Writer(), by_token, x, y) == {}
    for mask, where in (("", "blocks.0.self_attn"), ("second open", "blocks.1.self_attn")):
        found = examined(Writer(mask), by_token, x, y)["RVN-I03"]
        assert (found.where, found.cause, found.confidence) == (where, "causality", "exact")
        assert found.changes[0].value.startswith("mask what comes later")
    assert "RVN-I03" not in examined(
        Writer(""), by_token, x, torch.randint(0, 6, x.shape)
    )  # other targets
    assert "RVN-I03" not in examined(Writer(""), by_token, x, x)  # left to others


@pytest.mark.parametrize("both", [False, True])
def test_a_layer_that_reads_backwards_too_is_found(both):
    class Next(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRU(2, 8, batch_first=True, bidirectional=both)
            self.head = nn.Linear(16 if both else 8, 2)

        def forward(self, x):
            return self.head(self.cell(x)[0])

    wave = torch.randn(40, 11, 2)
    start = profile_start(Next(), F.mse_loss, wave[:, :-1], wave[:, 1:])
    leak = start.causality.difference
    assert (leak.where if both else leak) == ("cell" if both else None)


@pytest.mark.parametrize(
    ("over_time", "advice"),
    [
        (nn.Conv1d(16, 16, 3, padding=1), "F.pad(x, ((kernel_size - 1) * dilation, 0))"),
        (nn.AvgPool1d(3, 1, 1), "F.pad(x, (kernel_size - 1, 0))"),
        (nn.MaxPool1d(3, 1, 1), "F.pad(x, (kernel_size - 1, 0))"),
        (nn.InstanceNorm1d(16), "mean and variance of each place alone"),
        (nn.Linear(12, 12), "outputs of their own and earlier inputs alone"),
        (nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(16, 16, 3, dilation=2)), None),
    ],
)
def test_the_advice_fits_the_layer_that_sees_later_inputs(over_time, advice):
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.over_time, self.head = nn.Embedding(6, 16), over_time, nn.Linear(16, 6)

        def forward(self, x):
            h = self.embed(x).transpose(1, 2)
            return self.head(self.over_time(h).transpose(1, 2))

    text = torch.randint(0, 6, (50, 13))
    found = examined(Mixer(), by_token, text[:, :-1], text[:, 1:]).get("RVN-I03")
    assert (found and found.where) == (advice and "over_time")
    assert found is None or found.changes[0].value.startswith(advice)


# Is the answer one answer, and of the input?


def test_dropout_that_does_not_hear_of_evaluation_is_found_and_sampling_is_a_note():
    x, y = table()
    found = examined(Then(net(), lambda out: F.dropout(out, 0.5)), F.cross_entropy, x, y)
    assert found["RVN-I08"].cause == "train-eval-mode" and found["RVN-I08"].suspects == ("dropout",)
    start = profile_start(
        Then(net(), lambda out: out + 0.1 * torch.randn_like(out)), F.cross_entropy, x, y
    )
    assert start.repeat.difference.function == "randn_like" and alarms(start) == {}
    assert start.mixing.difference is None
    assert examined(nn.Sequential(nn.Dropout(0.5), net()), F.cross_entropy, x, y) == {}


def test_a_last_layer_of_zeros_is_healthy_and_two_in_a_row_are_not():
    x, y = table()
    model = net()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    start = profile_start(model, F.cross_entropy, x, y)
    constant = start.dependence.constant
    assert constant is not None and not constant.after_steps and alarms(start) == {}
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    found = examined(model, F.cross_entropy, x, y)
    assert found["RVN-I06"].where == "0" and found["RVN-I06"].cause == "initialization"
    assert found["RVN-I04"].where == "0"


def test_a_zero_branch_of_two_layers_is_found_where_the_output_lives():
    class Branch(nn.Module):
        def __init__(self, both):
            super().__init__()
            self.stem, self.up, self.down, self.head = (
                nn.Linear(a, b) for a, b in ((6, 8), (8, 8), (8, 8), (8, 3))
            )
            for layer in (self.down, self.up) if both else (self.down,):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

        def forward(self, x):
            h = self.stem(x)
            return self.head(h + self.down(torch.relu(self.up(h))))

    x, y = table()
    assert examined(Branch(False), F.cross_entropy, x, y) == {}
    assert examined(Branch(True), F.cross_entropy, x, y)["RVN-I06"].where == "up"


def test_a_dead_layer_is_named_and_a_dead_output_too():
    x, y = table()
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.constant_(model[2].bias, -50.0)
    found = examined(model, F.cross_entropy, x, y)["RVN-I04"]
    assert (found.where, found.cause) == ("2", "dead-units")
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1), nn.ReLU())
    nn.init.constant_(model[2].bias, -50.0)
    found = examined(model, F.mse_loss, x, x[:, :1])["RVN-I04"]
    assert (found.where, found.cause) == ("3", "output-activation")


def test_a_softmax_of_one_says_the_same_of_everyone():
    x, _ = table()
    model = nn.Sequential(net(outputs=1), nn.Softmax(1))
    found = examined(model, F.binary_cross_entropy, x, (x[:, :1] > 0).float())["RVN-I04"]
    assert (found.where, found.cause) == ("1", "output-activation")


@pytest.mark.parametrize(
    "lose", [lambda h: (h - h).abs(), lambda h: h * 0, lambda h: h[:1].expand_as(h)]
)
def test_an_input_that_is_lost_between_modules_is_lost_in_the_forward_pass(lose):
    class Lost(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(6, 8), nn.LazyLinear(3)

        def forward(self, x):
            return self.head(lose(torch.tanh(self.body(x))))

    x, y = table()
    model = Lost()
    model(x)
    found = examined(model, F.cross_entropy, x, y)["RVN-I04"]
    assert (found.where, found.cause) == ("", "detached-graph")


@pytest.mark.parametrize(
    "settings", [{}, {"num_layers": 2}, {"nonlinearity": "relu"}, {"bidirectional": True}]
)
def test_a_last_state_far_behind_the_padding_has_lost_the_input(settings):
    class LastState(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent, self.head = nn.RNN(6, 8, batch_first=True, **settings), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.recurrent(x)[0][:, -1, :8])

    x, y = table()
    padded = torch.cat([x[:, None], torch.zeros(len(x), 400, 6)], 1)
    torch.manual_seed(0)
    found = examined(LastState(), F.cross_entropy, padded, y)["RVN-I04"]
    assert (found.where, found.cause) == ("recurrent", "vanishing")
    assert "RVN-I04" not in examined(LastState(), F.cross_entropy, padded[:, :3], y)


@pytest.mark.parametrize("value", [0.05, 1.0])
def test_equal_weights_stay_equal_and_softmax_regression_from_zeros_does_not(value):
    x, y = table()
    model = net()
    for p in model.parameters():
        nn.init.constant_(p, value)
    found = examined(model, F.cross_entropy, x, y)["RVN-I07"]
    assert (found.where, found.cause, found.confidence) == ("0", "initialization", "exact")
    linear = nn.Linear(6, 3)
    nn.init.zeros_(linear.weight)
    assert examined(linear, F.cross_entropy, x, y) == {}


class Ensemble(nn.Module):
    """Members that are added, or follow each other; as they are drawn, or copies of the first."""

    def __init__(self, made="copies", follow=False, member=None):
        super().__init__()
        first = member or nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        others = (copy.deepcopy(first) for _ in range(2))
        self.members = nn.ModuleList([first, *others])
        if made != "copies":
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
        self.head, self.follow = nn.Linear(6, 3), follow

    def forward(self, x):
        if self.follow:
            for member in self.members:
                x = member(x)
            return self.head(x)
        return self.head(sum(member(x) for member in self.members))


@pytest.mark.parametrize(
    ("member", "where"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), "members.0.0"),
        (lambda: nn.Linear(6, 6), "members.0"),
        (lambda: nn.Conv1d(6, 6, 1), "members.0"),
    ],
)
def test_copies_of_a_layer_that_work_side_by_side_stay_copies(member, where):
    x, y = table()
    torch.manual_seed(0)
    model = Ensemble(member=member())
    if isinstance(model.members[0], nn.Conv1d):
        model = nn.Sequential(nn.Unflatten(1, (6, 1)), model)
        model[1].head = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
        where = f"1.{where}"
    found = examined(model, F.cross_entropy, x, y)["RVN-I07"]
    assert (found.where, found.suspects) == (where, ("replicas",))
    assert found.title == "layers start as copies of each other"


def test_copies_that_follow_each_other_and_drawn_members_are_healthy():
    x, y = table()
    assert "RVN-I07" not in examined(Ensemble(follow=True), F.cross_entropy, x, y)
    assert "RVN-I07" not in examined(Ensemble("drawn"), F.cross_entropy, x, y)
    layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    model = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 6), encoder, nn.Flatten())
    assert "RVN-I07" not in examined(model.append(nn.Linear(12, 3)), F.cross_entropy, x, y)


def test_pairs_of_equal_units_that_the_next_layer_parts_are_healthy():
    x, y = table()
    model = net()
    with torch.no_grad():
        model[0].weight[8:] = model[0].weight[:8]
        model[0].bias[8:] = model[0].bias[:8]
    assert examined(model, F.cross_entropy, x, y) == {}


# Does the gradient arrive?


@pytest.mark.parametrize(
    ("model", "loss", "cause"),
    [
        (Then(net(), lambda out: out.detach()), F.cross_entropy, "detached-graph"),
        (net(), lambda out, y: (out.argmax(1) != y).float().mean(), "detached-graph"),
        (net().requires_grad_(False), F.cross_entropy, "frozen-parameters"),
        (net(), lambda out, y: torch.tensor(F.cross_entropy(out, y).item()), "detached-graph"),
    ],
)
def test_a_loss_without_a_way_to_the_parameters_is_found(model, loss, cause):
    x, y = table()
    assert examined(model, loss, x, y)["RVN-I05"].cause == cause


def test_a_body_under_no_grad_is_found_if_it_never_learned():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, x):
            with torch.no_grad():
                h = torch.relu(self.body(x))
            return self.head(h)

    x, y = table()
    model = Cut()
    found = examined(model, F.cross_entropy, x, y)["RVN-I05"]
    assert (found.where, found.severity) == ("body", "warning")
    with torch.no_grad():
        model.body.weight.mul_(3.0)  # as if it had been trained somewhere
        model.body.bias.mul_(3.0)
    assert examined(model, F.cross_entropy, x, y) == {}


# Nothing is disturbed


def test_probing_changes_nothing():
    x, y = table()
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 3)
    ).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    profile_start(model, F.cross_entropy, x, y)
    assert torch.equal(torch.rand(4), expected) and np.array_equal(np.random.get_state()[1], state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training and all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_breaks_is_not_measured():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            return self.layer(x.view(96, 6))  # one size of batch only

    x, y = table()
    start = profile_start(Stubborn(), F.cross_entropy, x, y)
    assert (
        start.has("gradients")
        and start.has("mixing") is False
        and "RuntimeError" in start.broke["mixing"]
    )
    assert profile_start(nn.Linear(5, 3), F.cross_entropy, x, y).has("outputs") is False
    assert (
        profile_start(Then(nn.Linear(6, 3), lambda out: (out, out)), F.cross_entropy, x, y).has(
            "outputs"
        )
        is False
    )
    assert alarms(profile_start(nn.Linear(6, 3), lambda out, y: 1 / 0, x, y)) == {}
    assert run_rules(START_RULES, StartProfile())[0] == []


class Counting(nn.Module):
    """A network that records the size and the mode of every pass, and our frames above it."""

    passes: ClassVar[list[tuple[int, bool]]] = []
    frames: ClassVar[list[int]] = []

    def __init__(self, first=None, norm=None):
        super().__init__()
        self.first, self.norm, self.last = first or nn.Linear(6, 8), norm, nn.Linear(8, 3)

    def __deepcopy__(self, memo):
        copied = Counting(copy.deepcopy(self.first), copy.deepcopy(self.norm))
        copied.load_state_dict(self.state_dict())
        return copied.train(self.training)

    def forward(self, x):
        self.passes.append((len(x), self.training))
        ours = [f for f in traceback.extract_stack() if "diagnosis/initialization" in f.filename]
        self.frames.append(len(ours))
        hidden = self.first(x)
        return self.last(torch.relu(hidden if self.norm is None else self.norm(hidden)))


def count_passes(model, x, y, loss=F.cross_entropy):
    Counting.passes.clear()
    Counting.frames.clear()
    assert profile_start(model, loss, x, y).broke == {}
    return Counter(Counting.passes)


def test_passes_over_the_same_inputs_are_shared_among_the_probes():
    x, y = table()
    # all examples: two passes, one after each small step but the last, and one in training mode;
    # a small batch: as it is, with other random numbers, and with either half changed
    expected = {(96, False): 5, (96, True): 1, (7, False): 4}
    assert count_passes(Counting(), x, y) == expected
    normed = count_passes(Counting(norm=nn.BatchNorm1d(8)), x, y)
    assert normed == expected | {(32, True): 30}
    text = torch.randint(0, 3, (60, 13))
    tokens = count_passes(Counting(nn.Embedding(3, 8)), text[:, :-1], text[:, 1:], by_token)
    # three more with a later input, three more with a unit of the last layer moved
    assert tokens == {(60, False): 5, (60, True): 1, (7, False): 10}


def test_between_the_call_and_the_model_stand_at_most_three_functions():
    count_passes(Counting(), *table())
    assert max(Counting.frames) <= 3


def test_every_probe_has_its_field_in_the_profile():
    fields = {field.name for field in dataclasses.fields(StartProfile)}
    assert set(START_PROBES) == fields - {"measured", "broke", "examples"}
    assert {rule.needs for rule in START_RULES} <= set(START_PROBES) | {"outputs"}


# What does the loss ask for?


def figures(model, loss, x, y):
    start = profile_start(model, loss, x, y)
    assert start.has("loss"), start.broke
    return start


@pytest.mark.parametrize(
    ("loss", "takes"),
    [
        (F.cross_entropy, "logits"),
        (nn.CrossEntropyLoss(label_smoothing=0.2), "logits"),
        (F.nll_loss, "log-probabilities"),
        (lambda out, y: F.nll_loss(out.clamp(min=1e-7).log(), y), ""),
        (F.multi_margin_loss, "logits"),
        (lambda out, y: -torch.log(out.gather(1, y[:, None])).mean(), "probabilities"),
    ],
)
def test_what_a_loss_of_classes_takes(loss, takes):
    x, y = table()
    assert figures(nn.Sequential(net(), nn.Softmax(1)), loss, x, y).loss.form.takes == takes


@pytest.mark.parametrize(
    ("loss", "takes"),
    [
        (F.binary_cross_entropy_with_logits, "logits"),
        (F.binary_cross_entropy, "probabilities"),
        (F.mse_loss, ""),
        (lambda p, y: F.binary_cross_entropy(p.clamp(1e-7, 1 - 1e-7), y), ""),
        (nn.MultiLabelSoftMarginLoss(), "logits"),
        (lambda p, y: 1 - 2 * (p * y).sum() / (p.sum() + y.sum()), ""),
    ],
)
def test_what_a_loss_of_labels_takes(loss, takes):
    x, _ = table()
    start = figures(nn.Sequential(net(), nn.Sigmoid()), loss, x, (x[:, :3] > 0).float())
    form = start.loss.form
    assert (form.takes, form.gives) == (takes, "0 to 1")
    assert start.loss.targets.kind == "labels"
    assert ("RVN-I10" in alarms(start)) == (takes == "logits")


def test_softmax_before_cross_entropy_leaves_what_algebra_says():
    """For K classes and one-hot answers the loss is ln(1 + (K - 1)/e); a constant answer has ln
    K.
    """
    x, _ = table()
    y = torch.arange(96) % 3
    start = figures(nn.Sequential(net(), nn.Softmax(1)), F.cross_entropy, x, y)
    assert start.loss.form.gives == "probabilities"
    baselines = start.loss.baselines
    assert baselines.constant_loss == pytest.approx(math.log(3), rel=1e-4)
    assert baselines.unreachable == pytest.approx(math.log(1 + 2 / math.e) / math.log(3), rel=0.02)
    assert alarms(start)["RVN-I10"].where == "1"


@pytest.mark.parametrize(
    ("last", "targets", "found"),
    [
        (nn.Tanh(), lambda x: 3 * x, True),
        (nn.Tanh(), lambda x: x.tanh(), False),
        (nn.ReLU(), lambda x: x, True),
        (nn.ReLU(), lambda x: x.abs(), False),
        (nn.Softplus(), lambda x: x - 1, True),
        (nn.Sigmoid(), torch.sigmoid, False),
        (nn.Softplus(), lambda x: torch.poisson(x.abs()), False),
        (nn.Identity(), lambda x: 100 * x, False),
    ],
)
def test_targets_out_of_an_activations_reach(last, targets, found):
    x, _ = table()
    start = figures(nn.Sequential(net(outputs=1), last), F.mse_loss, x, targets(x[:, :1]))
    assert ("RVN-I10" in alarms(start)) == found
    if (
        isinstance(last, nn.ReLU) and found
    ):  # what is below 0 stays: sum of min(y, 0)^2 over the sum of squares
        y = x[:, :1]
        assert start.loss.baselines.unreachable == pytest.approx(
            float(y.clamp(max=0).square().sum() / (y - y.mean()).square().sum()), rel=1e-3
        )


@pytest.mark.parametrize(
    ("loss", "targets", "found"),
    [
        (lambda out, y: out.log_softmax(1).gather(1, y[:, None]).mean(), "classes", True),
        (lambda out, y: -out.log_softmax(1).gather(1, y[:, None]).mean(), "classes", False),
        (F.nll_loss, "classes", True),
        (lambda out, y: F.cross_entropy(-out, y), "classes", True),
        (lambda out, y: -F.mse_loss(out, y), "numbers", True),
        (F.mse_loss, "numbers", False),
        (lambda out, y: F.cosine_similarity(out, y).mean(), "numbers", True),
        (lambda out, y: 1 - F.cosine_similarity(out, y).mean(), "numbers", False),
        (nn.PoissonNLLLoss(), "counts", False),
        (lambda out, y: -F.binary_cross_entropy_with_logits(out, y), "labels", True),
        (F.soft_margin_loss, "signs", False),
        (lambda out, y: (1 - out * y).clamp(min=0).mean(), "signs", False),
        (lambda out, y: (out * (0.5 - y)).mean(), "labels", False),
        (F.multi_margin_loss, "classes", False),
    ],
)
def test_losses_that_reward_wrong_answers(loss, targets, found):
    x, y = table()
    of = {
        "classes": y,
        "numbers": x[:, :3] * 2 + 1,
        "labels": (x[:, :3] > 0).float(),
        "signs": x[:, :3].sign(),
        "counts": torch.poisson(x[:, :3].exp()),
    }
    assert ("RVN-I09" in examined(net(), loss, x, of[targets])) == found


def test_log_probabilities_are_no_logits():
    x, y = table()
    assert examined(nn.Sequential(net(), nn.LogSoftmax(1)), F.nll_loss, x, y) == {}
    found = examined(nn.Sequential(net(), nn.Softmax(1)), F.nll_loss, x, y)["RVN-I09"]
    assert found.severity == "warning" and found.cause == "loss"


def test_reduction_and_the_loss_of_a_constant_answer():
    x, y = table()
    mean = figures(net(), F.cross_entropy, x, y)
    shares = y.bincount().double() / len(y)
    assert mean.loss.form.reduction == pytest.approx(1.0)
    assert mean.loss.classes.answer == pytest.approx(shares.tolist(), abs=1e-3)
    assert mean.loss.baselines.constant_loss == pytest.approx(
        float(-(shares * shares.log()).sum()), rel=1e-4
    )
    summed = figures(net(), nn.CrossEntropyLoss(reduction="sum"), x, y)
    assert summed.loss.form.reduction == pytest.approx(2.0) and alarms(summed) == {}
    squares = figures(net(outputs=1), F.mse_loss, x, x[:, :1])
    assert squares.loss.baselines.constant_loss == pytest.approx(
        float(x[:, 0].var(correction=0)), rel=1e-4
    )


def focal(out, y):
    p = out.sigmoid()
    hit = torch.where(y > 0.5, p, 1 - p)
    return (-torch.where(y > 0.5, 0.25, 0.75) * (1 - hit) ** 2 * hit.clamp(min=1e-8).log()).mean()


@pytest.mark.parametrize(
    ("loss", "share", "found"),
    [
        (nn.BCEWithLogitsLoss(), 0.05, False),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([19.0])), 0.05, False),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.05])), 0.05, True),
        (focal, 0.05, False),
        (focal, 0.3, False),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.02])), 0.5, True),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([120.0])), 0.4, True),  # a count of zeros
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([19.0])), 0.05, False),  # zeros over ones
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([120.0])), 0.8, False),  # zeros are rare
        (
            nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.25])),
            0.8,
            False,
        ),  # zeros are rare, and weigh more
    ],
)
def test_weights_of_a_label(loss, share, found):
    x = torch.randn(200, 6)
    y = (torch.arange(200) < 200 * share).float()[:, None]
    assert ("RVN-I11" in examined(net(outputs=1), loss, x, y)) == found


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ((1.0, 1.0, 1.0), False),
        ((1.0, 4.0, 20.0), False),
        ((20.0, 4.0, 1.0), True),
        ((1.0, 4.0, 400.0), True),  # inverse shares, squared
        ((1.0, 4.0, 200.0), False),  # 13 times the balance
        ((0.1, 1.0, 1.0), False),
        ((0.0, 1.0, 1.0), False),
        ((1.0, 1.0, 0.0), False),
    ],
)
def test_weights_of_classes(weights, found):
    x = torch.randn(200, 6)
    y = torch.tensor([0] * 150 + [1] * 40 + [2] * 10)
    start = figures(net(), nn.CrossEntropyLoss(weight=torch.tensor(weights)), x, y)
    assert start.loss.classes.shares == pytest.approx((0.75, 0.2, 0.05))
    if weights[0]:
        assert start.loss.classes.weights == pytest.approx(
            [w / weights[0] for w in weights], rel=1e-3
        )
    assert ("RVN-I11" in alarms(start)) == found


# How does the network start?


def deep(depth=12, width=24, act=nn.ReLU, gain=1.0, rule=None, norm=False):
    layers = []
    for i in range(depth):
        linear = nn.Linear(6 if i == 0 else width, width)
        if rule:
            rule(linear.weight)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():
            linear.weight *= gain
        layers += [linear, *([nn.LayerNorm(width)] if norm else []), act()]
    return nn.Sequential(*layers, nn.Linear(width, 3))


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        (lambda: deep(16), "vanishing"),
        (lambda: deep(8, act=nn.Sigmoid), "vanishing"),
        (lambda: deep(10, gain=0.1), "initialization"),
        (lambda: deep(16, gain=12.0), "initialization"),
        (lambda: deep(12, rule=nn.init.kaiming_normal_), None),
        (lambda: deep(16, norm=True), None),
        (lambda: deep(4), None),
        (lambda: deep(10, act=nn.Tanh, rule=nn.init.xavier_normal_), None),
    ],
)
def test_signal_through_depth(model, cause):
    x, y = table()
    found = examined(model(), F.cross_entropy, x, y)
    assert (found["RVN-I14"].cause if "RVN-I14" in found else None) == cause


def test_the_signal_of_a_random_network_falls_as_theory_says():
    """He et al. 2015: with weights of variance g^2 2 / fan in, a ReLU layer multiplies the variance
    by g^2.
    """
    x, y = torch.randn(256, 200), torch.randint(0, 3, (256,))
    layers = [m for _ in range(6) for m in (nn.Linear(200, 200, bias=False), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(200, 3))
    for m in layers[::2]:
        nn.init.normal_(m.weight, std=0.5 * (2 / 200) ** 0.5)
    start = profile_start(model, F.cross_entropy, x, y)
    levels = [layer.output_rms for layer in start.network.layers[1:6]]
    assert [b / a for a, b in zip(levels, levels[1:], strict=False)] == pytest.approx(
        [0.5] * 4, rel=0.15
    )
    assert start.network.layers[0].weight_ratio == pytest.approx(0.5 * 2**0.5, rel=0.02)
    assert start.network.flow.depth == 6


def test_a_recurrence_by_hand_that_grows_is_found_at_its_layer():
    class Echo(nn.Module):
        def __init__(self, gain):
            super().__init__()
            self.inward, self.again, self.out = (
                nn.Linear(2, 16),
                nn.Linear(16, 16, bias=False),
                nn.Linear(16, 1),
            )
            nn.init.orthogonal_(self.again.weight, gain)

        def forward(self, x):
            state = x.new_zeros(len(x), 16)
            for t in range(x.shape[1]):
                state = torch.relu(self.inward(x[:, t]) + self.again(state))
            return self.out(state)

    x = torch.randn(64, 15, 2)
    assert examined(Echo(4.0), F.mse_loss, x, x[:, 0, :1])["RVN-I14"].where == "again"
    assert "RVN-I14" not in examined(Echo(1.0), F.mse_loss, x, x[:, 0, :1])


def test_dead_and_saturated_units_before_the_first_step():
    x, y = table()
    model = net(width=32)
    nn.init.constant_(model[0].bias[:30].data, -50.0)
    assert examined(model, F.cross_entropy, x, y)["RVN-I15"].where == "0"
    model = net(width=32, act=nn.Tanh)
    nn.init.normal_(model[0].weight, std=40.0)
    found = examined(model, F.cross_entropy, x, y)["RVN-I16"]
    assert (found.where, found.cause) == ("0", "initialization")
    assert (
        examined(net(width=32, act=nn.Tanh), F.cross_entropy, 200 * x, y)["RVN-I16"].cause
        == "input-scale"
    )


def test_closed_gates_and_sparse_units_are_healthy():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.value, self.gate, self.out = nn.Linear(6, 32), nn.Linear(6, 32), nn.Linear(32, 3)
            nn.init.constant_(self.gate.bias, -6.0)

        def forward(self, x):
            return self.out(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x)))

    x, y = table()
    assert examined(Gated(), F.cross_entropy, x, y) == {}
    model = net(width=200)
    nn.init.constant_(model[0].bias, -0.8)
    assert examined(model, F.cross_entropy, x, y) == {}


def test_wild_weights_and_a_large_head():
    x, y = table()
    model = net(width=64)
    nn.init.normal_(model[2].weight, std=1.0)
    start = profile_start(model, F.cross_entropy, x, y)
    assert alarms(start) == {}
    assert start.first_loss.value > 1.2 * start.loss.baselines.constant_loss > 0
    for p in model.parameters():
        nn.init.normal_(p, std=5.0)
    found = examined(model, F.cross_entropy, x, y)["RVN-I13"]
    assert (found.cause, found.where) == ("initialization", "0")
    tokens = nn.Sequential(nn.Embedding(9, 16), nn.Flatten(), nn.Linear(80, 3))
    nn.init.normal_(tokens[0].weight, std=300.0)
    assert (
        examined(tokens, F.cross_entropy, torch.randint(0, 9, (96, 5)), y)["RVN-I13"].where == "0"
    )


def test_batch_norm_that_never_remembers():
    x, y = table()

    def normed(momentum):
        return nn.Sequential(
            nn.Linear(6, 12), nn.BatchNorm1d(12, momentum=momentum), nn.ReLU(), nn.Linear(12, 3)
        )

    found = examined(normed(0.0), F.cross_entropy, 30 * x + 5, y)["RVN-I18"]
    assert (found.where, found.cause) == ("1", "normalization")
    for momentum in (0.1, None):
        assert examined(normed(momentum), F.cross_entropy, 30 * x + 5, y) == {}
    trained = normed(0.1).train()
    for _ in range(60):
        trained(30 * x + 5)
    trained[1].momentum = 0.0  # frozen, and it fits
    assert examined(trained, F.cross_entropy, 30 * x + 5, y) == {}


@pytest.mark.parametrize(
    ("model", "loss", "cause", "where"),
    [
        (net(), lambda out, y: -out.gather(1, y[:, None]).log().mean(), "loss", ""),
        (
            nn.Sequential(net(), Then(nn.Identity(), lambda h: h.sqrt())),
            F.cross_entropy,
            "initialization",
            "1",
        ),
    ],
)
def test_a_first_loss_that_is_not_finite(model, loss, cause, where):
    x, y = table()
    found = examined(model, loss, x, y)["RVN-I12"]
    assert (found.cause, found.where) == (cause, where)
    gap = x.clone()
    gap[3, 2] = math.nan
    assert examined(net(), F.cross_entropy, gap, y)["RVN-I12"].cause == "data-degenerate"
    assert examined(Then(net(), lambda out: out.nan_to_num()), F.cross_entropy, gap, y) == {}


@pytest.mark.parametrize(
    ("model", "scale", "cause"),
    [
        (Then(net(), lambda h: h.exp()), 1e4, "input-scale"),
        (Then(net(), lambda h: (h / 0.1).exp() ** 3), 300.0, "input-scale"),
        (Then(nn.Identity(), lambda x: x[:, :3] / (x[:, 3:4] - x[:, 3:4])), 1.0, "data-degenerate"),
        (nn.Sequential(net(), Then(nn.Identity(), lambda h: h * 0 / 0)), 1.0, "data-degenerate"),
        (nn.Sequential(net(), Then(nn.Identity(), lambda h: h.sqrt())), 1.0, "initialization"),
    ],
)
def test_what_makes_the_first_loss_finite_is_its_cause(model, scale, cause):
    x, y = table()
    found = examined(model, lambda out, y: F.mse_loss(out[:, 0], y.float()), scale * x, y)
    assert found["RVN-I12"].cause == cause


def test_outputs_are_blamed_on_the_weights_though_the_loss_of_zeros_is_infinite():
    """With all weights 0 the outputs are finite, and so is their logarithm not."""
    x, y = table()
    model = nn.Sequential(net(), Then(nn.Identity(), lambda h: h.sqrt()))
    found = examined(model, lambda out, y: -out[:, 0].log().mean(), x, y)["RVN-I12"]
    assert found.cause == "initialization" and "weights 0" not in found.evidence[0].text


def log_cosh(out, y):
    return torch.log(torch.cosh(out - y)).mean()


def exponential(out, y):
    return (torch.exp(y - out) - (y - out)).mean()


@pytest.mark.parametrize(
    ("loss", "size", "cause"),
    [
        (log_cosh, 400.0, "target-scale"),
        (exponential, 300.0, "target-scale"),
        (lambda out, y: ((out - y) ** 2).mean(), 1e25, "target-scale"),
        (lambda out, y: (out - y).log().mean(), 400.0, "loss"),  # of what may be below 0
    ],
)
def test_targets_that_make_the_first_loss_infinite(loss, size, cause):
    x, _ = table()
    found = examined(net(outputs=1), loss, x, size * (x[:, :1] - x[:, 1:2]))
    assert found["RVN-I12"].cause == cause


@pytest.mark.parametrize(
    ("middle", "scale", "cause"),
    [
        (nn.ReLU6(), 1e6, "input-scale"),
        (nn.Sigmoid(), 1e6, "input-scale"),
        (nn.Hardtanh(), 1e6, "input-scale"),
        (Then(nn.Identity(), lambda h: h * 0), 1e6, "initialization"),  # at any scale
        (Then(nn.Identity(), lambda h: h * 0), 1.0, "initialization"),
    ],
)
def test_outputs_that_are_equal_because_the_inputs_are_large(middle, scale, cause):
    x, y = table()
    model = nn.Sequential(nn.Linear(6, 16), middle, nn.Linear(16, 3))
    with torch.no_grad():  # all units on one side
        model[0].weight.abs_()
    found = examined(model, F.cross_entropy, scale * (x.abs() + 1), y)
    assert found["RVN-I04"].cause == cause


def test_notes_are_notes():
    x, y = table()
    found = {
        f.code: f
        for f in run_rules(
            START_RULES, profile_start(nn.Sequential(net(), nn.Dropout(0.9)), F.cross_entropy, x, y)
        )[0]
    }
    assert (found["RVN-I19"].severity, found["RVN-I19"].where) == ("note", "1")
    start = profile_start(
        net(outputs=1), lambda out, t: F.mse_loss(out[:, 0], t.float()), x, torch.arange(96) % 5
    )
    found = {f.code: f for f in run_rules(START_RULES, start)[0]}
    assert start.loss.targets.class_numbers
    assert (found["RVN-I21"].severity, found["RVN-I21"].where) == ("note", "2")


# What looks odd and is healthy


class Experts(nn.Module):
    """Each example goes to one expert: the others get no gradient from it."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 3), nn.ModuleList([net() for _ in range(3)])

    def forward(self, x):
        shares = self.gate(x).softmax(-1)
        made = torch.stack([e(x) for e in self.experts], 1)
        top = shares.argmax(-1, keepdim=True)
        return made.gather(1, top[..., None].expand(-1, -1, 3))[:, 0] * shares.gather(1, top)


class Adapted(nn.Module):
    """A frozen layer and a factor of low rank whose second part starts at zero (Hu et al. 2022)."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 16).requires_grad_(False), nn.Linear(16, 3)
        self.down, self.up = nn.Parameter(torch.randn(6, 2)), nn.Parameter(torch.zeros(2, 16))

    def forward(self, x):
        return self.head(torch.relu(self.body(x) + x @ self.down @ self.up))


class Timed(nn.Module):
    """Time first inside, as torch's recurrent layers have it, and turned back."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(5, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.cell(x.transpose(0, 1))[0][-1])


@pytest.mark.parametrize(
    "program",
    [
        lambda: (Experts(), F.cross_entropy, *table()),
        lambda: (Adapted(), F.cross_entropy, *table()),
        lambda: (Timed(), F.cross_entropy, torch.randn(60, 9, 5), torch.randint(0, 3, (60,))),
        lambda: (
            nn.Sequential(nn.LazyLinear(8), nn.ReLU(inplace=True), nn.LazyLinear(3)),
            F.cross_entropy,
            *table(),
        ),
        lambda: (torch.jit.script(net()), F.cross_entropy, *table()),
        lambda: (
            nn.Sequential(
                nn.GRU(5, 6, batch_first=True), Then(nn.Identity(), lambda made: made[0])
            ),
            lambda out, y: F.ctc_loss(
                out.log_softmax(-1).transpose(0, 1),
                y,
                torch.full((len(out),), 9),
                torch.full((len(out),), 3),
            ),
            torch.randn(40, 9, 5),
            torch.randint(1, 6, (40, 3)),
        ),
        lambda: (
            nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
            ),
            F.cross_entropy,
            torch.randint(0, 256, (60, 3, 8, 8)).float(),
            torch.randint(0, 3, (60,)),
        ),
        lambda: (
            nn.Conv2d(2, 3, 1),
            F.cross_entropy,
            torch.randn(40, 2, 5, 5),
            torch.randint(0, 3, (40, 5, 5)),
        ),
        lambda: (net(), F.cross_entropy, torch.randn(1, 6), torch.tensor([1])),
        lambda: (net(), F.cross_entropy, torch.ones(40, 6), torch.randint(0, 3, (40,))),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_odd_and_healthy(program):
    start = profile_start(*program())
    assert start.has("outputs") and alarms(start) == {}


# Just on either side of each threshold


def started(**known):
    """A profile of which all was measured."""
    return StartProfile(measured=dict.fromkeys((*START_PROBES, "outputs"), True), **known)


def with_form(*, unreachable=None, **known):
    return started(
        loss=LossProfile(form=LossForm(**known), baselines=BaselineLosses(unreachable=unreachable))
    )


def with_classes(shares, weights, answer):
    return started(
        loss=LossProfile(
            classes=ClassWeights(shares=shares, weights=weights, answer=answer),
            targets=TargetProfile(kind="classes"),
        )
    )


def with_first_loss(value, **known):
    return started(
        first_loss=FirstLoss(value=value),
        loss=LossProfile(baselines=BaselineLosses(constant_loss=1.0, even_loss=1.0)),
        **known,
    )


def layer(ratio, *, expected=0.1, where="0"):
    return LayerStats(
        where=where,
        function="linear",
        units=8,
        fan_in=100,
        weight_rms=ratio * expected,
        expected_rms=expected,
        output_rms=1.0,
        output_spread=1.0,
    )


def with_layers(*ratios, signal=1.0, gradient=None, **known):
    flow = SignalFlow(
        signal=signal, gradient=signal if gradient is None else gradient, depth=6, where="0"
    )
    layers = tuple(layer(ratio, **known) for ratio in ratios)
    return started(network=NetworkProfile(layers=layers, flow=flow))


def with_activation(*, input_spread=1.0, ratio=1.0, **known):
    figures = {"where": "0", "function": "relu", "units": 100, "values_per_unit": 1000}
    network = NetworkProfile(
        layers=(layer(ratio),), activations=(ActivationStats(**figures | known),)
    )
    return started(network=network, first_loss=FirstLoss(input_spread=input_spread))


def with_norm(**known):
    figures = {"where": "0", "momentum": 0.0005, "mean_offset": 3.0}
    return started(batch_norms=(BatchNormStats(**figures | known),))


def with_dropout(share):
    return started(network=NetworkProfile(dropouts={"0": share}))


@pytest.mark.parametrize(
    ("code", "severity", "beyond", "short"),
    [
        ("RVN-I10", "warning", with_form(unreachable=0.11), with_form(unreachable=0.09)),
        ("RVN-I10", "error", with_form(unreachable=0.51), with_form(unreachable=0.49)),
        # a class for half as many examples, of half the weight: it gets a quarter of the answer
        (
            "RVN-I11",
            "warning",
            with_classes((0.667, 0.333), (1.0, 0.49), (0.81, 0.19)),
            with_classes((0.667, 0.333), (1.0, 0.51), (0.81, 0.19)),
        ),
        (
            "RVN-I11",
            "warning",
            with_classes((0.667, 0.333), (1.0, 0.4), (0.9, 0.1)),
            with_classes((0.665, 0.335), (1.0, 0.4), (0.9, 0.1)),
        ),
        (
            "RVN-I11",
            "warning",
            with_classes((0.5, 0.5), (1.0, 0.09), (0.95, 0.05)),
            with_classes((0.5, 0.5), (1.0, 0.11), (0.95, 0.05)),
        ),
        # one example for two of the other class, with a weight that gives it odds of 20 or more
        (
            "RVN-I11",
            "warning",
            with_classes((0.667, 0.333), (1.0, 41.0), (0.046, 0.954)),
            with_classes((0.667, 0.333), (1.0, 39.0), (0.049, 0.951)),
        ),
        (
            "RVN-I11",
            "warning",
            with_classes((0.667, 0.333), (1.0, 41.0), (0.047, 0.953)),
            with_classes((0.667, 0.333), (1.0, 41.0), (0.048, 0.952)),  # as of a focal loss
        ),
        ("RVN-I13", "note", with_first_loss(30.5), with_first_loss(29.5)),
        ("RVN-I13", "note", with_first_loss(0.4), with_first_loss(0.6)),
        ("RVN-I17", "note", with_layers(3.05), with_layers(2.95)),
        ("RVN-I17", "note", with_layers(10.1, expected=1.0), with_layers(9.9, expected=1.0)),
        ("RVN-I17", "note", with_layers(0.0299), with_layers(0.0301)),
        ("RVN-I14", "note", with_layers(1.0, signal=0.99e-3), with_layers(1.0, signal=1.01e-3)),
        ("RVN-I14", "warning", with_layers(1.0, signal=0.99e-4), with_layers(1.0, signal=1.01e-4)),
        ("RVN-I14", "warning", with_layers(1.0, signal=1.01e4), with_layers(1.0, signal=0.99e4)),
        ("RVN-I15", "note", with_activation(dead_units=50), with_activation(dead_units=49)),
        ("RVN-I15", "warning", with_activation(dead_units=90), with_activation(dead_units=89)),
        (
            "RVN-I15",
            "warning",
            with_activation(dead_units=99, values_per_unit=64),
            with_activation(dead_units=99, values_per_unit=63),
        ),
        (
            "RVN-I15",
            "warning",
            with_activation(dead_units=4, units=4),
            with_activation(dead_units=3, units=3),
        ),
        (
            "RVN-I16",
            "note",
            with_activation(function="tanh", flat_units=50),
            with_activation(function="tanh", flat_units=49),
        ),
        (
            "RVN-I16",
            "warning",
            with_activation(function="tanh", flat_units=90),
            with_activation(function="tanh", flat_units=89),
        ),
        (
            "RVN-I16",
            "warning",
            with_activation(function="sigmoid", flat_units=99, mean_output=0.11),
            with_activation(function="sigmoid", flat_units=99, mean_output=0.09),
        ),
        ("RVN-I18", "warning", with_norm(mean_offset=1.01), with_norm(mean_offset=0.99)),
        (
            "RVN-I18",
            "warning",
            with_norm(mean_offset=0.0, std_ratio=2.01),
            with_norm(mean_offset=0.0, std_ratio=1.99),
        ),
        ("RVN-I18", "warning", with_norm(momentum=0.00099), with_norm(momentum=0.00101)),
        ("RVN-I18", "note", with_norm(momentum=0.991), with_norm(momentum=0.989)),
        ("RVN-I19", "note", with_dropout(0.8), with_dropout(0.79)),
    ],
)
def test_thresholds(code, severity, beyond, short):
    found, short_of = (
        {f.code: f.severity for f in run_rules(START_RULES, start)[0]} for start in (beyond, short)
    )
    assert found.get(code) == severity and short_of.get(code) != severity


@pytest.mark.parametrize(("odds", "weight"), [(0.49, 0.5), (0.51, 0.1), (1.49, 0.1), (1.51, 0.0)])
def test_thresholds_of_a_classs_weight_go_by_how_often_it_occurs(odds, weight):
    assert light_weight_limit(odds) == weight


@pytest.mark.parametrize(
    ("code", "cause", "beyond", "short"),
    [
        (
            "RVN-I14",
            "initialization",
            with_layers(0.19, signal=1e-5),
            with_layers(0.21, signal=1e-5),
        ),
        (
            "RVN-I16",
            "input-scale",
            with_activation(function="tanh", flat_units=99, input_spread=5.1),
            with_activation(function="tanh", flat_units=99, input_spread=4.9),
        ),
        (
            "RVN-I16",
            "initialization",
            with_activation(function="tanh", flat_units=99, ratio=3.1),
            with_activation(function="tanh", flat_units=99, ratio=2.9),
        ),
    ],
)
def test_thresholds_between_causes(code, cause, beyond, short):
    found, short_of = (
        {f.code: f.cause for f in run_rules(START_RULES, start)[0]} for start in (beyond, short)
    )
    assert found[code] == cause != short_of[code]


@pytest.mark.parametrize(
    ("norm", "shape", "where"),
    [
        (nn.LayerNorm(1), (32, 5, 1), "0"),
        (nn.GroupNorm(6, 6), (32, 6), "0"),
        (nn.GroupNorm(6, 6), (32, 6, 1), "0"),
        (nn.GroupNorm(3, 6), (32, 6), None),
        (nn.GroupNorm(6, 6), (32, 6, 4), None),
        (nn.LayerNorm(6), (32, 6), None),
        (nn.BatchNorm1d(6), (32, 6), None),
    ],
)
def test_normalization_over_a_single_value_gives_zeros(norm, shape, where):
    """Whatever the input, the layer's output is its bias."""
    x = torch.randn(shape)
    model = nn.Sequential(norm, nn.Flatten(), nn.LazyLinear(3))
    model(x)
    found = examined(model, F.cross_entropy, x, torch.arange(len(x)) % 3).get("RVN-I23")
    assert (found.where if found else None) == where
    spread = float(norm(x).detach().std(0).max())
    assert (spread < 1e-5) == (where is not None)


class StraightThrough(nn.Module):
    def forward(self, x):
        return x + (x.sign() - x).detach()


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (torch.sign, True),
        (torch.round, True),
        (lambda x: torch.heaviside(x, torch.zeros_like(x)), False),  # it has no graph at all
        (lambda x: torch.floor(4 * x) / 4, True),
        (torch.tanh, False),
        (StraightThrough(), False),
        (lambda x: x + 0.1 * x.round(), False),  # the gradient goes by another way
    ],
)
def test_a_step_function_stops_the_gradient(step, found):
    x, y = table()
    first = nn.Linear(6, 16)
    model = nn.Sequential(Then(first, step), nn.Linear(16, 3))
    report = examined(model, nn.CrossEntropyLoss(), x, y)
    stopped = "RVN-I05" in report and report["RVN-I05"].title.startswith("a step function")
    assert stopped is found
    if found:
        assert report["RVN-I05"].where == "0.body"
        model(x).sum().backward()
        assert first.weight.grad is not None and not first.weight.grad.any()


def test_steps_before_weights_that_start_at_zero_are_not_accused():
    """Until these have moved no gradient passes them, whatever is before."""
    x, y = table()
    model = nn.Sequential(Then(nn.Linear(6, 16), lambda h: h.sign() * h.abs().log1p()))
    model.append(nn.Linear(16, 3))
    nn.init.zeros_(model[1].weight)
    assert "RVN-I05" not in examined(model, nn.CrossEntropyLoss(), x, y)


def test_a_normalization_of_single_values_on_a_side_branch_is_a_warning():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.norm = nn.Linear(6, 3), nn.LayerNorm(1)

        def forward(self, x):
            return self.out(x) + self.norm(x.mean(1, keepdim=True))

    x, y = table()
    assert examined(Branch(), nn.CrossEntropyLoss(), x, y)["RVN-I23"].severity == "warning"
    alone = nn.Sequential(nn.Linear(6, 6), nn.GroupNorm(6, 6), nn.Linear(6, 3))
    assert examined(alone, nn.CrossEntropyLoss(), x, y)["RVN-I23"].severity == "error"
