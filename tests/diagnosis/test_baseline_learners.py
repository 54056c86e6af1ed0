"""The quick learner against what is known of made examples: their noise, their chance level, their
information.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from ravine.diagnosis.baseline_learners import (
    association_z,
    fit_baseline,
    has_measured_numbers,
    make_features,
    score_on_validation,
)


def numbers(rows, columns, seed=3):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_a_line_with_noise_is_known_up_to_the_noise():
    x, noise = numbers(500, 4), 0.5 * numbers(500, 1, 4)
    known = fit_baseline(x, x @ torch.tensor([[1.0], [-2], [0], [0.5]]) + noise, "number")
    assert known.loss == pytest.approx(0.25, rel=0.15)
    assert (
        known.score == pytest.approx(1 - 0.25 / 5.5, abs=0.02)
        and known.informative
        and known.learner == "linear"
    )
    assert (
        known.gain == pytest.approx(known.constant_loss - known.loss)
        and known.gain > 10 * known.gain_error
    )


def test_a_bend_is_known_where_a_line_is_not():
    x = numbers(400, 2)
    y = (x[:, :1] * x[:, 1:]).sign()  # XOR
    line = cross_val_score(LinearRegression(), x.numpy(), y[:, 0].numpy(), cv=3).mean()
    known = fit_baseline(x, y[:, 0].long(), "classes")
    assert line < 0.05 and known.score > 0.9


def test_the_null_answers_with_frequencies_and_mean():
    x, y = numbers(300, 3), torch.arange(300) % 4 // 3
    known = fit_baseline(x, y, "classes")
    assert known.constant_loss == pytest.approx(
        -0.25 * math.log(0.25) - 0.75 * math.log(0.75), rel=0.01
    )
    assert known.constant_score == 0.75
    y = 5 + 2 * numbers(300, 1, 8)
    assert fit_baseline(x, y, "number").constant_loss == pytest.approx(float(y.var()), rel=0.03)


def test_targets_without_information_are_seldom_called_informative():
    x = numbers(120, 4)
    told = [
        fit_baseline(
            x,
            torch.randint(0, 2, (120,), generator=torch.Generator().manual_seed(seed)),
            "classes",
            learners=("linear", "neighbors"),
        ).informative
        for seed in range(40)
    ]
    assert told.count(True) <= 5  # one in twenty is expected: P(more than 5) is 1 %


def test_too_few_examples_say_nothing():
    x = numbers(60, 3)
    assert fit_baseline(x, numbers(60, 1, 5), "number").informative is None
    assert fit_baseline(x[:20], x[:20, 0], "number") is None
    assert (
        fit_baseline(x, x, "inputs") is None and fit_baseline(x, torch.ones(60), "number") is None
    )


def test_sums_modulo_a_number_are_not_called_empty():
    pairs = torch.cartesian_prod(torch.arange(23), torch.arange(23))
    assert fit_baseline(pairs, pairs.sum(1) % 23, "classes").informative is not False


def test_copies_of_an_example_are_never_on_both_sides():
    x, y = numbers(120, 5), numbers(120, 1, 9)
    once, thrice = (
        fit_baseline(x.repeat(n, 1), y.repeat(n, 1), "number", learners=("neighbors",))
        for n in (1, 3)
    )
    assert (
        thrice.score < 0.1 and once.score < 0.1
    )  # a neighbor that is the same row would know the noise
    assert thrice.examples == 120


def test_tokens_are_known_by_place_and_by_count():
    x = torch.randint(0, 4, (400, 10), generator=torch.Generator().manual_seed(2))
    assert fit_baseline(x, x[:, 0], "classes").score > 0.98
    assert fit_baseline(x, ((x == 1).sum(1) > (x == 2).sum(1)).long(), "classes").score > 0.9


def test_of_a_target_for_each_token_the_future_is_not_used():
    x = torch.randint(0, 5, (60, 9), generator=torch.Generator().manual_seed(2))
    past, future = x.roll(1, 1), x.roll(-1, 1)
    past[:, 0] = future[:, -1] = -100
    assert fit_baseline(x, past, "tokens").score > 0.98
    assert fit_baseline(x, future, "tokens").score < 0.3


def test_a_thing_somewhere_in_a_picture_is_known():
    draw = np.random.default_rng(0)
    pictures, kinds = draw.normal(0, 0.1, (300, 1, 10, 10)), draw.integers(0, 2, 300)
    for picture, kind in zip(pictures, kinds, strict=True):
        row, column = draw.integers(0, 5, 2)
        picture[0][(row, slice(column, column + 5)) if kind else (slice(row, row + 5), column)] += 1
    assert fit_baseline(torch.tensor(pictures), torch.tensor(kinds), "classes").score > 0.95


def test_labels_and_several_numbers():
    x = numbers(300, 5)
    known = fit_baseline(x, (x[:, :3] > 0).float(), "labels")
    assert known.constant_loss == pytest.approx(math.log(2), abs=0.02) and known.score > 0.85
    assert fit_baseline(x, torch.stack([x[:, 0], x[:, 1] ** 2], 1), "numbers").score > 0.8


def test_going_together_is_a_t_statistic():
    draw = np.random.default_rng(1)
    said, y, folds = draw.normal(size=(300, 1)), draw.normal(size=(300, 1)), np.zeros(300, int)
    product = (said - said.mean()) * (y - y.mean())
    t, _ = stats.ttest_1samp(product[:, 0], 0)
    assert association_z(said, y, folds, np.arange(300)) == pytest.approx(t * math.sqrt(300 / 299))


def test_columns_are_standardized_and_constant_ones_left_out():
    x = np.random.default_rng(3).normal(50, 7, (200, 3))
    x[:, 1], x[4, 2] = 3.0, np.nan
    features = make_features(x)
    assert (
        features.shape == (200, 2)
        and np.allclose(features.mean(0), 0, atol=1e-9)
        and np.isfinite(features).all()
    )
    assert has_measured_numbers(x) and not has_measured_numbers(np.arange(200)[:, None] % 4.0)


def test_the_same_seed_gives_the_same():
    x = numbers(200, 4)
    assert fit_baseline(x, x[:, :1] ** 2, "number", seed=5) == fit_baseline(
        x, x[:, :1] ** 2, "number", seed=5
    )


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        (lambda x: x, 0.9, 1.0),
        (lambda x: x.flip(1), -1.0, 0.1),  # the columns in another order
        (lambda x: x / 255, -1.0, 0.3),  # another unit
    ],
)
def test_a_learner_keeps_its_score_on_examples_prepared_alike(change, low, high):
    def of(rows, seed):
        x = numbers(rows, 4, seed)
        return x, x @ torch.tensor([[1.0], [-2], [0], [0.5]]) + 0.2 * numbers(rows, 1, seed + 1)

    examples, (x, y) = of(300, 3), of(100, 5)
    known = fit_baseline(*examples, "number")
    scored = score_on_validation(examples, (change(x), y), known)
    assert scored is not None and low <= scored[0] <= high and scored[1] < 0.2


def test_a_score_on_validation_is_that_of_scikit_learn():
    x, new = numbers(200, 3), numbers(80, 3, 9)
    y, asked = (x[:, 0] > 0).long(), (new[:, 0] > 0).long()
    known = fit_baseline(x, y, "classes", learners=("neighbors",))
    both = torch.cat([x, new]).numpy()
    scaled = (both - both.mean(0)) / both.std(0)
    right = KNeighborsClassifier(7, weights="distance", algorithm="brute").fit(scaled[:200], y)
    accuracy, least = right.score(scaled[200:], asked), float(asked.bincount().max()) / 80
    scored = score_on_validation((x, y), (new, asked), known)
    assert scored is not None
    found, error = scored
    assert found == pytest.approx((accuracy - least) / (1 - least), abs=0.03)
    # binomial standard error, scaled as the accuracy; the bootstrap also draws the constant's
    usual = math.sqrt(accuracy * (1 - accuracy) / 80) / (1 - least)
    assert 0.7 * usual < error < 1.6 * usual


def test_few_validation_examples_or_constant_targets_have_no_score():
    x = numbers(100, 3)
    known = fit_baseline(x, x[:, :1], "number")
    assert score_on_validation((x, x[:, :1]), (x[:29], x[:29, :1]), known) is None
    assert score_on_validation((x, x[:, :1]), (x, torch.ones(100, 1)), known) is None
