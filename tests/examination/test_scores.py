"""Scores of an examination against scikit-learn."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score, roc_auc_score

from ravine.diagnosis.output_kinds import find_class_axis
from ravine.examination.scores import asks_for_quantile, scaled_accuracy, scaled_score

RNG = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_score_of_classes_is_balanced_accuracy_over_chance(classes):
    y = torch.randint(0, classes, (200,), generator=RNG)
    out = torch.randn(200, classes, generator=RNG) + F.one_hot(y, classes)
    known = balanced_accuracy_score(y, out.argmax(1), adjusted=True)
    assert scaled_score(out, y) == pytest.approx(known, abs=1e-6)


def test_one_hot_and_smoothed_targets_are_classes():
    """Every answer is right, though outputs of one class are compared with those of another."""
    y = torch.randint(0, 3, (60,), generator=RNG)
    one_hot = F.one_hot(y, 3).float()
    out = 5 * one_hot + 20 * torch.randn(60, 1, generator=RNG)
    for targets in (one_hot, one_hot.long(), 0.9 * one_hot + 0.1 / 3):
        assert scaled_score(out, targets) == scaled_accuracy(out, targets) == 1.0
        assert scaled_score(-out, targets) < 0
    labels = torch.cat([one_hot[:, :2], 1 - one_hot[:, :1]], 1)  # several in a row
    assert scaled_score(out, labels) < 1.0


def test_the_score_of_yes_and_no_is_twice_the_auc_less_one_averaged_over_labels():
    y = (torch.rand(150, 3, generator=RNG) < torch.tensor([0.1, 0.5, 0.8])).float()
    out = (torch.randn(150, 3, generator=RNG) + y).mul(2).round()  # with ties
    known = 2 * roc_auc_score(y, out, average="macro") - 1
    assert scaled_score(out, y) == pytest.approx(known, abs=1e-6)
    assert scaled_score(out[:, 0], torch.ones(150)) is None
    one = 2 * roc_auc_score(y[:, 0], out[:, 0]) - 1
    assert scaled_score(out[:, :1], y[:, 0]) == pytest.approx(one)  # [N, 1] and [N]


def test_the_score_of_numbers_is_r2():
    y = torch.randn(80, 2, generator=RNG) * torch.tensor([1.0, 5.0])
    out = y + torch.randn(80, 2, generator=RNG)
    assert scaled_score(out, y) == pytest.approx(r2_score(y, out), abs=1e-6)
    pixels, made = y.repeat(1, 16), out.repeat(1, 16)
    pooled = r2_score(pixels, made, multioutput="variance_weighted")
    assert scaled_score(made, pixels) == pytest.approx(pooled, abs=1e-6)
    known = r2_score(y[:, 0], out[:, 0])
    assert scaled_score(out[:, :1], y[:, 0]) == pytest.approx(known, abs=1e-6)
    assert scaled_score(1000 * out, y) == -1.0


def test_classes_may_stand_in_dimension_one_or_last_and_ignored_places_do_not_count():
    y = torch.randint(0, 4, (20, 7), generator=RNG)
    out = torch.randn(20, 7, 4, generator=RNG) + F.one_hot(y, 4)
    known = balanced_accuracy_score(y.flatten(), out.argmax(-1).flatten(), adjusted=True)
    both = scaled_score(out, y), scaled_score(out.movedim(-1, 1), y)
    assert both[0] == both[1] == pytest.approx(known, abs=1e-6)
    masked = torch.where(torch.arange(7) > 2, -100, y)
    assert scaled_score(out, masked) == pytest.approx(scaled_score(out[:, :3], y[:, :3]))


@pytest.mark.parametrize(
    ("outputs", "targets", "score"),
    [
        (torch.full((4, 2), math.nan), torch.tensor([0, 1, 0, 1]), -1.0),
        (torch.zeros(4, 2), torch.zeros(4).long(), None),  # one class
        (torch.zeros(4, 3), torch.zeros(4, 2), None),  # nothing to pair
        ((torch.zeros(4), torch.zeros(4)), torch.zeros(4), None),  # a tuple
        (torch.zeros(4, 1), torch.tensor([True, False, True, False]), 0.0),
        (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1], dtype=torch.uint8), 0.0),
    ],
)
def test_scores_at_the_edges(outputs, targets, score):
    assert scaled_score(outputs, targets) == score


def test_the_scaled_accuracy_is_accuracy_over_that_of_the_most_frequent_class():
    y = (torch.rand(200, generator=RNG) < 0.3).long()
    logits = torch.randn(200, generator=RNG) + 2 * y - 1
    base = max(float(y.float().mean()), 1 - float(y.float().mean()))
    known = (accuracy_score(y, logits > 0) - base) / (1 - base)
    found = scaled_accuracy(torch.stack([-logits, logits], 1), y)
    assert found == pytest.approx(known, abs=1e-5)
    cut = max(accuracy_score(y, logits > at) for at in (0.0, 0.5))
    found = scaled_accuracy(logits[:, None], y.float())
    assert found == pytest.approx((cut - base) / (1 - base), abs=1e-5)


@pytest.mark.parametrize(
    ("outputs", "targets", "accuracy"),
    [
        (torch.full((4, 2), math.nan), torch.tensor([0, 1, 0, 1]), None),
        (torch.zeros(4, 3), torch.zeros(4, 2), None),  # nothing to pair
        (torch.zeros(4, 2), torch.full((4,), -100), None),  # nothing but ignored places
        (torch.zeros(4, 2), torch.zeros(4).long(), None),  # one class: a constant is right
        (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0]), 1.0),  # R2 of numbers
    ],
)
def test_scaled_accuracies_at_the_edges(outputs, targets, accuracy):
    assert scaled_accuracy(outputs, targets) == accuracy


FLATTENED = {  # losses of outputs [N, T, K]
    "cross entropy": lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()),
    "nll": lambda out, y: F.nll_loss(out.log_softmax(-1).flatten(0, 1), y.flatten()),
    "by hand": lambda out, y: -out.log_softmax(-1).gather(-1, y[..., None]).mean(),
}
TRANSPOSED = {  # of outputs [N, K, T]
    "cross entropy": F.cross_entropy,
    "none": lambda out, y: F.cross_entropy(out, y, reduction="none"),
    "nll": lambda out, y: F.nll_loss(out.log_softmax(1), y),
    "by hand": lambda out, y: -out.log_softmax(1).gather(1, y[:, None]).mean(),
}


@pytest.mark.parametrize("size", [2, 5, 8])
@pytest.mark.parametrize(
    ("loss", "axis"),
    [*((loss, -1) for loss in FLATTENED.values()), *((loss, 1) for loss in TRANSPOSED.values())],
    ids=[*(f"{name}, flattened" for name in FLATTENED), *TRANSPOSED],
)
def test_the_loss_says_which_of_two_equal_dimensions_has_the_classes(size, loss, axis):
    y = torch.randint(0, size, (30, size), generator=RNG)
    right = F.one_hot(y, size).float().movedim(-1, axis)
    assert find_class_axis(right, y, loss) == axis
    assert scaled_score(right, y, loss) == scaled_accuracy(right, y, loss) == 1.0


def test_where_no_loss_says_it_the_classes_are_second():
    y = torch.randint(0, 4, (30, 4), generator=RNG)
    right = F.one_hot(y, 4).float().movedim(-1, 1)
    assert scaled_score(right, y) == 1.0
    assert scaled_score(right, y, lambda out, targets: out.sum()) == 1.0


def test_sequences_that_are_no_answers_place_by_place_have_no_score():
    """Of CTC: 16 places, eleven answers each, for two targets."""
    out, y = torch.randn(8, 16, 11, generator=RNG), torch.randint(0, 10, (8, 2), generator=RNG)
    assert scaled_score(out, y) is None and scaled_accuracy(out, y) is None


def pinball(quantile, out, y):
    return torch.maximum(quantile * (y - out), (quantile - 1) * (y - out)).mean()


def test_answers_to_a_loss_of_quantiles_have_no_score():
    """R² of a ninth decile is poor however good it is; the median's is like that of any answer."""
    y = torch.randn(200, 1, generator=RNG)
    answers = y + 1.3 + 0.1 * torch.randn(200, 1, generator=RNG)
    for quantile in (0.05, 0.2, 0.9):
        loss = partial(pinball, quantile)
        assert asks_for_quantile(loss, y)
        assert scaled_score(answers, y, loss) is None


@pytest.mark.parametrize(
    "loss",
    [
        partial(pinball, 0.5),
        F.mse_loss,
        F.smooth_l1_loss,
        lambda out, y: (out.exp() - y * out).mean(),
        lambda out, y: -F.mse_loss(out, y),
        lambda out, y: ((out - y - 5) ** 2).mean(),
        lambda out, y: out["mean"],
    ],
)
def test_other_losses_ask_for_no_quantile(loss):
    y = torch.randn(200, 1, generator=RNG)
    assert not asks_for_quantile(loss, y)
    assert scaled_score(y, y, loss) == 1.0
