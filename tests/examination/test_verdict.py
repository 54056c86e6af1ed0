"""The verdict on a remedy: against a paired t-test, and failures first."""

import math

import numpy as np
import pytest
from scipy import stats

from ravine.examination.verdict import weigh


def test_the_interval_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(3)
    before = rng.normal(1.0, 0.3, 6)
    after = before - 0.2 + rng.normal(0, 0.05, 6)
    trial = weigh(list(before), list(after), steps=10)
    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert trial.interval == pytest.approx((low, high))
    assert trial.verdict == "helped"
    assert trial.difference == pytest.approx(after.mean() - before.mean())


def test_a_sure_but_small_gain_is_no_effect_below_the_least_that_counts():
    before, after = [1.0, 1.1, 1.2], [0.99, 1.09, 1.19001]
    assert weigh(before, after, steps=5).verdict == "helped"
    assert weigh(before, after, steps=5, least=0.1).verdict == "no effect"
    assert weigh(after, before, steps=5, least=0.001).verdict == "worse"


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
