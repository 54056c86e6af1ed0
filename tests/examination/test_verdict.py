"""The verdict on a remedy: against Wilcoxon's signed ranks, and failures first."""

import math

import numpy as np
import pytest
from scipy import stats

from ravine.examination.verdict import weigh
from ravine.statistics import signed_rank_interval, signed_rank_tail


@pytest.mark.parametrize("pairs", [2, 5, 6, 8, 12])
def test_signed_ranks_are_scipys(pairs):
    rng = np.random.default_rng(pairs)
    for shift in (-1.0, 0.0, 0.3):
        x = rng.normal(shift, 1.0, pairs)
        _, expected = stats.wilcoxon(x, alternative="less", method="exact")
        assert signed_rank_tail(x) == pytest.approx(expected)


@pytest.mark.parametrize(("pairs", "least"), [(5, 0.925), (6, 0.955), (9, 0.945), (12, 0.945)])
def test_the_interval_covers_the_center(pairs, least):
    rng = np.random.default_rng(0)
    intervals = [signed_rank_interval(rng.laplace(2.0, 1.0, pairs)) for _ in range(2000)]
    assert np.mean([i.low <= 2.0 <= i.high for i in intervals]) > least


def test_the_pair_that_gains_most_does_not_count_against_the_rest():
    before, after = [24.0, 25.0, 64.0, 24.0, 25.0], [12.0, 12.1, 12.2, 11.9, 12.0]
    trial = weigh(before, after, steps=10)
    assert stats.ttest_rel(after, before).confidence_interval().high > 0
    assert (trial.verdict, trial.before, trial.after) == ("helped", 25.0, 12.0)
    assert trial.interval == pytest.approx((-51.8, -12.0)) and trial.difference == -12.9
    assert weigh(before, [12.0, 12.1, 12.2, 11.9, 25.1], steps=10).verdict == "no effect"


def test_a_sure_but_small_gain_is_no_effect_below_the_least_that_counts():
    before = [1.0, 1.1, 1.2, 0.9, 1.05]
    assert weigh(before, [0.97 * x for x in before], steps=5).verdict == "helped"
    assert weigh(before, [0.99 * x for x in before], steps=5).verdict == "no effect"
    after = [x - 0.01 for x in before]
    assert weigh(before, after, steps=5, least=0.001).verdict == "helped"
    assert weigh(before, after, steps=5, least=0.1).verdict == "no effect"
    assert weigh(after, before, steps=5, least=0.001).verdict == "worse"


@pytest.mark.parametrize("chance", range(5))
def test_what_changes_nothing_seldom_helps(chance):
    rng = np.random.default_rng(chance)
    losses = np.exp(rng.standard_t(2, (2, 400, 5)))  # heavy tails
    verdicts = [weigh(a, b, steps=5).verdict for a, b in zip(*losses, strict=True)]
    assert verdicts.count("helped") < 0.055 * 400


def test_noise_is_no_effect():
    assert weigh([1.0, 2.0, 3.0], [2.0, 1.0, 3.1], steps=5).verdict == "no effect"


def test_failures_are_counted_first():
    nan = math.nan
    assert weigh([nan, nan, 1.0], [2.0, 2.0, 2.0], steps=5).verdict == "helped"
    assert weigh([1.0, 1.0], [0.1, nan], steps=5).verdict == "worse"
    both = weigh([nan, nan], [nan, nan], steps=5)
    assert both.verdict == "no effect" and both.before is None and "2 of 2" in both.why


def test_one_pair_shows_nothing():
    trial = weigh([5.0], [1.0], steps=5)
    assert trial.verdict == "no effect" and trial.interval is None


def test_unpaired_losses_are_refused():
    with pytest.raises(ValueError, match="paired"):
        weigh([1.0], [1.0, 2.0], steps=5)


def test_what_nearly_doubles_the_loss_of_every_seed_is_worse():
    assert weigh([0.24, 0.252], [0.40, 0.504], steps=40).verdict == "worse"
    assert weigh([0.24, 0.252], [0.40, 0.28], steps=40).verdict == "no effect"  # one by a ninth
    assert weigh([0.24], [0.50], steps=40).verdict == "no effect"
    assert weigh([0.40, 0.504], [0.24, 0.252], steps=40).verdict == "no effect"
    assert weigh([0.0, 0.0], [0.3, 0.01], steps=40).verdict == "worse"
    assert weigh([0.0, 0.0], [0.3, 0.01], steps=40, least=0.1).verdict == "no effect"
