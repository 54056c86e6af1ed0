"""Shapes that broadcast, classes in another dimension than the loss takes, reshapes in place of
transposes, losses with bounds of the wrong sign; and programs that look like these and are healthy.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.initialization.probe import profile_start
from ravine.diagnosis.registry import START_RULES
from ravine.diagnosis.rule import run_rules

PLACES, CLASSES = 9, 6
torch.manual_seed(7)  # of the tensors in the tables of cases


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def alarms(model, loss, x, y):
    start = profile_start(model, loss, x, y)
    assert start.broke == {}
    found, checks = run_rules(START_RULES, start)
    assert not checks.failed
    return {f.code: f for f in found if f.severity != "note"}


class Tagger(nn.Module):
    """Scores [N, T, K] for the classes of each place, and what is made of them."""

    def __init__(self, function, *, places=PLACES, mixing=False, last=None):
        super().__init__()
        self.embed = nn.Embedding(CLASSES, 16)
        self.mix = nn.GRU(16, 16, batch_first=True) if mixing else None
        self.out, self.last, self.function = nn.Linear(16, CLASSES), last, function

    def forward(self, x):
        h = self.embed(x)
        h = self.out(h if self.mix is None else self.mix(h)[0])
        h = h if self.last is None else self.last(h)
        return self.function(h)


def tokens(places=PLACES):
    x = torch.randint(0, CLASSES, (60, places))
    return x, (x + 1) % CLASSES


def transposed(h):
    return h.transpose(1, 2)


def viewed(h):
    return h.reshape(len(h), h.shape[2], h.shape[1])


@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize(
    ("function", "places", "loss", "found"),
    [
        (transposed, PLACES, F.cross_entropy, False),
        (transposed, CLASSES, F.cross_entropy, False),
        (lambda h: h, CLASSES, F.cross_entropy, True),
        (lambda h: h, CLASSES, lambda o, y: F.cross_entropy(transposed(o), y), False),
        (lambda h: h, PLACES, lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()), False),
        (viewed, PLACES, F.cross_entropy, True),
        (viewed, 2 * CLASSES, F.cross_entropy, True),
        (lambda h: viewed(h).log_softmax(1), PLACES, F.nll_loss, True),
        (lambda h: transposed(h).log_softmax(1), PLACES, F.nll_loss, False),
        (
            lambda h: h.softmax(1),
            CLASSES,
            lambda o, y: F.nll_loss(transposed(o).clamp(min=1e-9).log(), y),
            True,
        ),
        (
            viewed,
            PLACES,
            lambda o, y: F.mse_loss(o, transposed(F.one_hot(y, CLASSES).float())),
            True,
        ),
    ],
)
def test_classes_in_another_dimension_than_the_loss_takes(mixing, function, places, loss, found):
    x, y = tokens(places)
    result = alarms(Tagger(function, mixing=mixing), loss, x, y)
    assert ("RVN-I22" in result) == found
    if found:
        assert result["RVN-I22"].cause == "shape-pairing" and result["RVN-I22"].where == "out"


def picked(out, y):
    """The scores of the right classes."""
    return out.gather(-1, y[..., None])


def triplets(out, y):
    distance, same = torch.cdist(out, out), y[:, None] == y
    return (distance[same].mean() - distance[~same].mean() + 1).clamp(min=0)


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda o, y: -picked(o.log_softmax(0), y).mean(), True),
        (lambda o, y: F.nll_loss(o.softmax(0).clamp(min=1e-9).log(), y), True),
        (lambda o, y: -picked(o.log_softmax(1), y).mean(), False),
        (lambda o, y: F.cross_entropy(o - o.mean(0), y), False),
        (triplets, False),
    ],
)
def test_a_softmax_over_the_examples_in_the_loss_is_found(loss, found):
    x = torch.randn(90, 6)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    assert ("RVN-I22" in alarms(model, loss, x, x[:, :3].argmax(1))) == found


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda o, y: -picked(o.log_softmax(1), y).mean(), True),
        (lambda o, y: -picked(o.log_softmax(2), y).mean(), False),
        (lambda o, y: F.cross_entropy(transposed(o).reshape(-1, CLASSES), y.flatten()), True),
        (lambda o, y: F.cross_entropy(o[:, :-1].flatten(0, 1), y[:, 1:].flatten()), False),
        (
            lambda o, y: F.cross_entropy(o.flatten(0, 1) / 2, y.flatten(), label_smoothing=0.1),
            False,
        ),
    ],
)
@pytest.mark.parametrize("places", [PLACES, CLASSES])
def test_losses_that_take_scores_of_several_places_are_found(loss, found, places):
    model = Tagger(lambda h: h, places=places)
    assert ("RVN-I22" in alarms(model, loss, *tokens(places))) == found


class Reshaping(nn.Module):
    """Features [N, T, 8] made of inputs [N, 4, T] by two functions."""

    def __init__(self, first, then):
        super().__init__()
        self.first, self.then = first, then
        self.body, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.then(self.body(self.first(x)).relu()).mean(1))


def heads(order):
    def attend(h):
        n, t, _ = h.shape
        parts = h.view(n, 2, t, 4) if order == "view" else h.view(n, t, 2, 4).transpose(1, 2)
        mixed = (parts @ parts.mT).softmax(-1) @ parts
        return mixed.transpose(1, 2).reshape(n, t, 8)

    return attend


def same(h):
    return h


@pytest.mark.parametrize(
    ("first", "then", "found"),
    [
        (transposed, same, False),
        (viewed, same, True),
        (transposed, heads("transpose"), False),
        (transposed, heads("view"), True),
        (transposed, lambda h: h.reshape(len(h), 3, 24), False),  # three places are one
        (transposed, lambda h: h.reshape(len(h), 3, 3, 8).mean(2), False),
    ],
)
def test_a_reshape_in_place_of_a_transpose_is_found_inside_a_model(first, then, found):
    x = torch.randn(60, 4, PLACES)
    model = Reshaping(first, then)
    model.out = nn.LazyLinear(3)
    model(x)
    result = alarms(model, F.cross_entropy, x, torch.randint(0, 3, (60,)))
    assert ("RVN-I22" in result) == found


@pytest.mark.parametrize(("function", "found"), [(transposed, False), (viewed, True)])
def test_a_reshape_in_place_of_a_transpose_is_found_for_numbers_too(function, found):
    x = torch.randn(60, PLACES, 4)
    y = torch.stack([x.sum(2) * k for k in range(1, CLASSES + 1)], dim=1)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, CLASSES), Function(function))
    assert ("RVN-I22" in alarms(model, F.mse_loss, x, y)) == found


@pytest.mark.parametrize(
    ("function", "then", "found"),
    [
        (transposed, nn.Conv1d(4, 6, 3), False),
        (lambda x: x.view(len(x), 4, 12), nn.Conv1d(4, 6, 3), True),
        (lambda x: x.reshape(len(x), 4, 12), nn.Conv1d(4, 6, 1), True),
        (lambda x: x.view(len(x), 1, 48), nn.Conv1d(1, 6, 3), False),  # one long signal
        (lambda x: x.view(len(x), 6, 8), nn.Conv1d(6, 6, 3), False),  # two steps are one
        (lambda x: x.view(len(x), 4, 12), nn.Linear(12, 6), False),  # three steps are one
    ],
)
def test_steps_that_become_channels_by_a_reshape_are_found_before_a_convolution(
    function, then, found
):
    x = torch.randn(60, 12, 4)
    model = nn.Sequential(Function(function), then, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    model(x)
    result = alarms(model, F.cross_entropy, x, torch.randint(0, 3, (60,)))
    assert ("RVN-I22" in result) == found


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def unpatched(h):
    """Each unit is one pixel of a patch, as masked autoencoders have it."""
    patches = h.reshape(len(h), 3, 3, 2, 2)
    return patches.permute(0, 1, 3, 2, 4).reshape(len(h), 6, 6)


@pytest.mark.parametrize(
    ("model", "loss", "x", "y"),
    [
        (
            nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.PixelShuffle(1)),
            F.cross_entropy,
            torch.randn(40, 2, 5, 5),
            torch.randint(0, 5, (40, 5, 5)),
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.Unflatten(1, (4, 5))),
            F.cross_entropy,
            torch.randn(40, 12),
            torch.randint(0, 4, (40, 5)),
        ),
        (
            nn.Sequential(nn.Linear(6, 4), Function(unpatched)),
            F.mse_loss,
            torch.randn(40, 9, 6),
            torch.randn(40, 6, 6),
        ),
        (
            nn.Sequential(nn.Linear(6, 5), nn.Flatten()),
            F.mse_loss,
            torch.randn(40, 9, 6),
            torch.randn(40, 45),
        ),
    ],
)
def test_layouts_that_look_odd_and_are_healthy(model, loss, x, y):
    assert "RVN-I22" not in alarms(model, loss, x, y)


def rmse(out, y):
    return ((out - y) ** 2).mean().sqrt()


def pinball(out, y):
    q = torch.tensor([0.1, 0.5, 0.9])
    return torch.maximum(q * (y - out), (q - 1) * (y - out)).mean()


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.huber_loss, rmse])
@pytest.mark.parametrize(("outputs", "targets"), [(16, 1), (1, 8), (2, 1)])
def test_outputs_that_broadcast_against_targets_are_found(loss, outputs, targets):
    x = torch.randn(60, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, outputs))
    found = alarms(model, loss, x, x[:, :targets])["RVN-I02"]
    assert found.cause == "shape-pairing" and found.evidence[0].value == max(outputs, targets)
    assert "RVN-I02" not in alarms(model, loss, x, x.repeat(1, 2)[:, :outputs])


def test_places_that_broadcast_are_found():
    x = torch.randn(60, PLACES, 4)
    model, sums = nn.Linear(4, 1), x.sum(2, keepdim=True)
    assert "RVN-I02" in alarms(model, F.mse_loss, x, sums.mean(1, keepdim=True))
    assert "RVN-I02" not in alarms(model, F.mse_loss, x, sums)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (pinball, 3, 1),  # quantiles
        (lambda out, y: F.mse_loss(out.mean(1, keepdim=True), y), 4, 1),  # of several members
        (lambda out, y: F.mse_loss(out, y.mean(1, keepdim=True)), 1, 5),  # of several raters
        (lambda out, y: F.gaussian_nll_loss(out[:, :1], y, out[:, 1:].exp()), 2, 1),
        (lambda out, y: F.mse_loss(out, y * torch.arange(1.0, 4.0)), 3, 1),
    ],
)
def test_losses_that_broadcast_on_purpose_are_left_alone(loss, outputs, targets):
    x = torch.randn(60, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, outputs))
    assert "RVN-I02" not in alarms(model, loss, x, x[:, :targets])


def squared(out, y):
    return ((out - y) ** 2).mean()


@pytest.mark.parametrize(
    ("loss", "y_of", "found"),
    [
        (squared, lambda y: y[:, None], True),  # [N, T, 1] and [N, 1, T]
        (lambda o, y: squared(o, y[:, None]), lambda y: y, True),
        (lambda o, y: (o - y[:, None]).abs().mean(), lambda y: y, True),
        (squared, lambda y: y, True),  # [N, T, 1] and [N, T]: of batches with N = T alone
        (squared, lambda y: y[..., None], False),
        (lambda o, y: squared(o[..., 0], y), lambda y: y, False),
        (lambda o, y: (o.sum((1, 2)) - y.sum(1)).abs().mean(), lambda y: y, False),  # of counts
        (lambda o, y: (o - y[:, None]).abs().amin(1).mean(), lambda y: y, False),  # nearest points
    ],
)
def test_places_that_are_compared_with_all_places_are_found(loss, y_of, found):
    x = torch.randn(60, PLACES, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    y = y_of(x.sum(2))
    start = profile_start(model, loss, x, y)
    codes = {f.code for f in run_rules(START_RULES, start)[0]}
    assert ("RVN-I02" in codes) == found


def dice(p, t):
    return (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def overlap(p, t):
    both = (p * t).sum()
    return (both + 1) / (p.sum() + t.sum() - both + 1)


def correlation(out, y):
    a, b = out - out.mean(0), y - y.mean(0)
    return (a * b).sum() / (a.norm() * b.norm())


def right_share(p, y):
    return p.gather(1, y[:, None]).mean()


def contrast(distance, y):
    """Distances of pairs are small where they belong together (Hadsell et al. 2006)."""
    return (y * distance**2 + (1 - y) * (1 - distance).clamp(min=0) ** 2).mean()


@pytest.mark.parametrize(
    ("last", "loss", "targets"),
    [
        (nn.Softmax(1), lambda p, y: dice(p[:, 1], y), "classes"),
        (nn.Softmax(1), right_share, "classes"),
        (nn.Identity(), lambda o, y: right_share(o.softmax(1), y), "classes"),
        (nn.Sigmoid(), dice, "labels"),
        (nn.Sigmoid(), overlap, "labels"),
        (nn.Identity(), lambda o, y: dice(o.sigmoid(), y), "labels"),
        (nn.Identity(), correlation, "numbers"),
    ],
)
def test_a_loss_with_bounds_of_the_wrong_sign_is_found(last, loss, targets):
    x = torch.randn(96, 6)
    y = {
        "classes": (x[:, 0] > 0).long(),
        "labels": (x[:, :2] > 0.5).float(),
        "numbers": x[:, :2] + 3,
    }[targets]
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2), last)
    found = alarms(model, loss, x, y)["RVN-I09"]
    assert found.cause == "loss" and found.evidence[0].value > found.evidence[1].value
    assert "RVN-I09" not in alarms(model, lambda o, t: 1 - loss(o, t), x, y)


def by_score(loss):
    """A loss of labels 0 and 1 as one of scores and labels -1 and 1."""
    return lambda out, y: loss(out * (2 * y - 1))


def by_pairs(loss):
    """A loss of the scores of positive less those of negative examples."""
    return lambda out, y: loss(out[y == 1][:, None] - out[y == 0][None])


def by_order(loss):
    """A loss of differences of neighbors, times the sign of their targets' difference."""
    return lambda out, y: loss(out.diff(dim=0) * y.diff(dim=0).sign())


# each is of the right sign; of scores that ought to be high where the answer is yes
LOSSES_OF_SCORES = {
    "hinge": by_score(lambda s: (1 - s).clamp(min=0).mean()),
    "softplus": by_score(lambda s: F.softplus(-s).mean()),
    "exponential": by_score(lambda s: (-s).exp().mean()),
    "squared hinge": by_score(lambda s: (1 - s).clamp(min=0).square().mean()),
    "binary cross entropy": F.binary_cross_entropy_with_logits,
    "area under the curve": by_pairs(lambda d: (-d).sigmoid().mean()),
    "area under the curve, hinge": by_pairs(lambda d: (1 - d).clamp(min=0).mean()),
    "correlation with labels": lambda out, y: -correlation(out, y),
}


@pytest.mark.parametrize("name", LOSSES_OF_SCORES)
def test_a_loss_of_scores_is_found_where_its_sign_is_wrong(name):
    x, loss = torch.randn(96, 6), LOSSES_OF_SCORES[name]
    y = (x[:, 0] > 0.3).float()
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
    assert "RVN-I09" not in alarms(model, loss, x, y)
    found = alarms(model, lambda out, t: loss(-out, t), x, y)["RVN-I09"]
    assert found.evidence[0].value > found.evidence[1].value
    squares = nn.Sequential(model, Function(torch.square))  # may be distances
    assert "RVN-I09" not in alarms(squares, lambda out, t: loss(-out, t), x, y)


def of_outputs(loss):
    return lambda out, y: loss(-out, y)


def of_others(loss):
    return lambda out, y: loss(out, 1 - y)


def without_minus(loss):
    return lambda out, y: -loss(out, y)


def focal(p, y):
    return -((1 - p) ** 2 * p.log()).gather(1, y[:, None]).mean()


@pytest.mark.parametrize(
    ("last", "loss", "wrong", "targets"),
    [
        (nn.Sigmoid(), F.binary_cross_entropy, of_others, "labels"),
        (nn.Identity(), F.binary_cross_entropy_with_logits, of_others, "labels"),
        (nn.Identity(), F.multi_margin_loss, of_outputs, "classes"),
        (nn.Softmax(1), focal, without_minus, "classes"),
        (nn.Identity(), by_order(lambda d: (0.1 - d).clamp(min=0).mean()), of_outputs, "numbers"),
        (nn.Identity(), by_order(lambda d: F.softplus(-d).mean()), of_outputs, "numbers"),
        (nn.Identity(), lambda o, y: F.mse_loss(o, y).log10(), without_minus, "numbers"),
    ],
)
def test_losses_of_other_targets_are_found_where_their_sign_is_wrong(last, loss, wrong, targets):
    x = torch.randn(96, 6)
    labels, numbers, classes = (x[:, :3] > 0.5).float(), x[:, :3] + 3, x[:, :3].argmax(1)
    y = {"labels": labels, "numbers": numbers, "classes": classes}[targets]
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), last)
    assert "RVN-I09" not in alarms(model, loss, x, y)
    assert "RVN-I09" in alarms(model, wrong(loss), x, y)


def risk(out, y):
    """The partial likelihood of times to live (Cox 1972): a high risk is a short time."""
    order = y.argsort(dim=0, descending=True)[:, 0]
    return (out[order].logcumsumexp(0) - out[order]).mean()


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (risk, lambda x: x[:, :1].exp()),
        (lambda o, y: (o * (y - 0.5)).mean(), lambda x: (x[:, :1] > 0).float()),  # a critic's
        (lambda o, y: o.exp().mean() - (o * y).mean(), lambda x: torch.poisson(x[:, :1].exp())),
    ],
)
def test_losses_whose_sign_cannot_be_told_are_left_alone(loss, targets):
    x = torch.randn(96, 6)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    assert "RVN-I09" not in alarms(model, loss, x, targets(x))


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Identity(), nn.Softplus()])
def test_distances_that_are_small_for_ones_are_left_alone(last):
    x = torch.randn(96, 6)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1), last)
    y = (x[:, :1] > 0).float()
    assert "RVN-I09" not in alarms(model, contrast, x, y)
    costs = x[:, :1] + 2
    assert "RVN-I09" not in alarms(model, lambda out, cost: (out * cost).mean(), x, costs)


def multinomial(out, y):
    return -(out.log_softmax(1) * y).sum(1).mean()


def soft_focal(p, y):
    ones, zeros = (1 - p) ** 2 * (p + 1e-7).log(), p**2 * (1 - p + 1e-7).log()
    return -(y * ones + (1 - y) * zeros).mean()


@pytest.mark.parametrize(
    ("last", "loss", "found"),
    [
        (nn.Softmax(1), F.mse_loss, True),
        (nn.Softmax(1), F.binary_cross_entropy, True),
        (nn.Softmax(1), soft_focal, True),
        (nn.Softmax(1), lambda p, y: 1 - dice(p, y), True),
        (nn.LogSoftmax(1), lambda p, y: F.mse_loss(p.exp(), y), True),
        (nn.Identity(), F.cross_entropy, True),
        (nn.Identity(), lambda o, y: F.binary_cross_entropy(o.softmax(1), y), True),
        (nn.Sigmoid(), F.mse_loss, False),
        (nn.Identity(), F.binary_cross_entropy_with_logits, False),
    ],
)
@pytest.mark.parametrize("places", [(), (5, 5)])
def test_a_softmax_is_found_where_labels_do_not_sum_to_one(last, loss, found, places):
    x = torch.randn(96, 6, *places)
    layer = nn.Conv2d(6, 5, 1) if places else nn.Linear(6, 5)
    y = (x[:, :5] > 0.2).float()
    assert ("RVN-I10" in alarms(nn.Sequential(layer, last), loss, x, y)) == found
    assert "RVN-I10" not in alarms(nn.Sequential(layer), multinomial, x, y.clamp(min=0.1))
    one = F.one_hot(x[:, :5].argmax(1), 5).float().movedim(-1, 1)
    assert "RVN-I10" not in alarms(nn.Sequential(layer, last), loss, x, one)


def test_shares_of_several_items_are_left_alone():
    x = torch.randn(96, 6)
    some = (x[:, :5] > 0.2).float()
    some[:, 0] = 1  # everyone has one item or more (Liang et al. 2018)
    padded = F.one_hot(x[:, :5].argmax(1), 5) * (x[:, :1] > 0)  # no target where nothing counts
    for y in (some, padded.float()):
        assert "RVN-I10" not in alarms(nn.Linear(6, 5), multinomial, x, y)


def flags(share=0.4):
    x = torch.randn(256, 6)
    return x, (x[:, 0] > x[:, 0].quantile(1 - share)).float()


def rounded(out, y):
    return (out[:, 0].sigmoid().round() + 0 * out[:, 0] - y).abs().mean()


def cut(out, y):
    return 1 - ((out[:, 0] > 0).float() * y + 0 * out[:, 0]).sum() / y.sum()


def sign(out, y):
    return -(out[:, 0].sign() * (2 * y - 1)).mean()


@pytest.mark.parametrize("loss", [rounded, cut, sign])
def test_a_loss_without_a_slope_is_found(loss):
    model = nn.Linear(6, 1)
    found = alarms(model, loss, *flags())["RVN-I05"]
    assert found.severity == "error" and "loss" in found.suspects
    assert (
        torch.autograd.grad(loss(model(flags()[0]), flags()[1]), model.weight)[0].abs().sum() == 0
    )


def test_a_margin_that_is_met_has_a_slope_elsewhere():
    model = nn.Linear(6, 1)
    nn.init.constant_(model.bias, 100.0)
    x, _ = flags()
    assert "RVN-I05" not in alarms(
        model, lambda o, y: (1 - o[:, 0]).relu().mean() + 0 * y.sum(), x, x[:, 0]
    )


def hinge(out, y):
    return (1 - out[:, 0] * y).relu().mean()


def squared_hinge(out, y):
    return (1 - out[:, 0] * y).relu().square().mean()


def only_ones(out, y):
    return -(y * F.logsigmoid(out[:, 0])).mean()


@pytest.mark.parametrize("loss", [hinge, squared_hinge, only_ones])
def test_losses_that_ignore_zeros_are_found(loss):
    x, y = flags()
    found = alarms(nn.Linear(6, 1), loss, x, y)["RVN-I09"]
    assert "0" in found.title and found.evidence[0].value == pytest.approx(60, abs=1)
    if loss is not only_ones:
        assert "RVN-I09" not in alarms(nn.Linear(6, 1), loss, x, 2 * y - 1)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: F.poisson_nll_loss(o[:, 0], y),
        lambda o, y: F.binary_cross_entropy_with_logits(o[:, 0], y, pos_weight=torch.tensor(50.0)),
        lambda o, y: (y * o[:, 0] ** 2 + (1 - y) * (1 - o[:, 0]).relu() ** 2).mean(),
    ],
)
def test_losses_that_use_zeros_are_left_alone(loss):
    assert "RVN-I09" not in alarms(nn.Linear(6, 1), loss, *flags())


def entropy_of_shares(out, y):
    return -(y * out).sum(1).mean()


def divergence_of_shares(out, y):
    return F.kl_div(out, y, reduction="batchmean")


def by_rows(out, y):
    return torch.stack(
        [F.kl_div(o, t, reduction="sum") for o, t in zip(out, y, strict=True)]
    ).mean()


@pytest.mark.parametrize("loss", [entropy_of_shares, divergence_of_shares, by_rows])
def test_shares_against_outputs_that_are_no_logarithms(loss):
    x = torch.randn(64, 6)
    y = x[:, :3].softmax(1)
    assert alarms(nn.Linear(6, 3), loss, x, y)["RVN-I09"].confidence == "exact"
    healthy = nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(1))
    assert "RVN-I09" not in alarms(healthy, loss, x, y)
    assert "RVN-I09" not in alarms(nn.Linear(6, 3), lambda o, t: loss(o.log_softmax(1), t), x, y)


def test_a_linear_loss_of_other_targets_is_left_alone():
    """A critic's or a policy's."""
    x = torch.randn(64, 6)
    assert "RVN-I09" not in alarms(nn.Linear(6, 3), lambda o, t: -(o * t).mean(), x, x[:, :3])


def light_focal(alpha, power=2.0):
    def loss(out, y):
        each = F.binary_cross_entropy_with_logits(out[:, 0], y, reduction="none")
        return (torch.where(y > 0, alpha, 1 - alpha) * (1 - (-each).exp()) ** power * each).mean()

    return loss


def lighter_squares(out, y):
    return (torch.where(y > 0, 0.02, 1.0) * (out[:, 0].sigmoid() - y) ** 2).mean()


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (light_focal(0.05), True),
        (light_focal(0.03, 4.0), True),
        (light_focal(0.15), True),
        (lighter_squares, True),
        (light_focal(0.2), False),
        (light_focal(0.25), False),  # as RetinaNet has it
        (light_focal(0.95), False),
        (light_focal(0.5, 5.0), False),
    ],
)
def test_a_number_that_makes_rare_ones_light_is_found_in_any_loss(loss, found):
    assert ("RVN-I11" in alarms(nn.Linear(6, 1), loss, *flags(0.05))) == found


def two_class_focal(alpha, power=2.0):
    def loss(out, y):
        each = F.cross_entropy(out, y, reduction="none")
        return (torch.where(y > 0, alpha, 1 - alpha) * (1 - (-each).exp()) ** power * each).mean()

    return loss


def weighted(*weights, smoothing=0.0):
    return nn.CrossEntropyLoss(torch.tensor(weights), label_smoothing=smoothing)


@pytest.mark.parametrize(
    ("loss", "confidence"),
    [
        (two_class_focal(0.1), "high"),
        (two_class_focal(0.05, 4.0), "exact"),
        (weighted(25.0, 1.0), "exact"),
        (weighted(3.0, 1.0), "high"),
        (weighted(1.0, 1.0), None),
        (weighted(1.0, 25.0), None),
        (weighted(1.0, 1.0, smoothing=0.1), None),
        (two_class_focal(0.2), None),
        (two_class_focal(0.25), None),
        (two_class_focal(0.5, 5.0), None),
        (two_class_focal(0.9), None),
    ],
)
@pytest.mark.parametrize("share", [0.02, 0.12])
def test_the_number_that_makes_the_rarer_of_two_classes_light(loss, confidence, share):
    x, y = flags(share)
    found = alarms(nn.Linear(6, 2), loss, x, y.long()).get("RVN-I11")
    assert (found and found.confidence) == confidence
