"""Intervals, quantiles and trends against scipy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from ravine.statistics import (
    binomial_tail,
    bootstrap_interval,
    censored_median,
    even_places,
    mean_with_error,
    roc_auc,
    t_interval,
    t_quantile,
    theil_sen,
    wilson_interval,
)


def test_intervals_are_students_and_the_bootstraps():
    x = np.random.default_rng(0).normal(size=12)
    low, high = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert t_interval(x) == pytest.approx((x.mean(), low, high))
    found = stats.bootstrap(
        (x,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
    )
    ours = bootstrap_interval(x, lambda drawn: drawn.mean(1))
    assert ours[1:] == pytest.approx(found.confidence_interval, abs=0.05)


@pytest.mark.parametrize("freedom", [4, 9, 30])
@pytest.mark.parametrize("chance", [0.05, 1e-3, 1e-5])
def test_the_quantile_is_students(freedom, chance):
    z = stats.norm.isf(chance)
    assert t_quantile(z, freedom) == pytest.approx(stats.t.isf(chance, freedom), rel=1e-9)


def test_slope_and_interval_are_theil_and_sens():
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(size=30))
    y = 2 * x + rng.standard_t(2, size=30) * 0.1
    ours = theil_sen(x, y, stats.norm.isf(0.025))
    slope, _, low, high = stats.theilslopes(y, x, 0.95)
    # scipy rounds the ranks to the nearest, here they go outward
    np.testing.assert_allclose(ours, [slope, low, high], rtol=0.02)


def test_the_binomial_tail_is_scipys():
    assert binomial_tail(4, 30, 0.05) == pytest.approx(stats.binom.sf(3, 30, 0.05))


def test_the_error_of_a_mean_counts_what_lasts():
    slow = np.repeat(np.random.default_rng(0).normal(size=10), 20)
    assert mean_with_error(slow)[1] == pytest.approx(slow[::20].std(ddof=1) / math.sqrt(10))


def test_wilson_is_scipys():
    for correct, count in [(0, 5), (3, 10), (97, 100), (7, 7)]:
        expected = stats.binomtest(correct, count).proportion_ci(0.9, method="wilson")
        assert wilson_interval(correct / count, count, confidence=0.9) == pytest.approx(
            (expected.low, expected.high), abs=1e-12
        )


def test_the_area_of_several_labels_is_scikit_learns_mean():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 150, 3, generator=generator, dtype=torch.float64).round(decimals=1)
    truth = (torch.rand(150, 3, generator=generator) < 0.4).double()
    weights = torch.ones(150, dtype=torch.float64)
    assert float(roc_auc(scores, truth, weights)[0]) == pytest.approx(
        roc_auc_score(truth, scores[0], average="macro")
    )
    nothing = roc_auc(scores, torch.ones(150, 3), weights)
    assert nothing[0].isnan().all() and nothing[1].isnan().all()


@pytest.mark.parametrize("count", [7, 1000, 2**24 + 4, 2**31 + 6])
@pytest.mark.parametrize("most", [1, 3, 16])
def test_even_places_are_among_the_rows_however_many_there_are(count, most):
    places = even_places(count, most).tolist()
    exact = np.linspace(0, count - 1, min(most, count))
    assert places == pytest.approx(exact, rel=2**-22, abs=0.5)
    assert places[0] == 0 and max(places) < count


@pytest.mark.parametrize("count", [6, 9, 16, 25])
def test_the_interval_of_a_censored_median_is_the_binomial_one(count):
    """P(x(j) <= median <= x(n-j+1)) = 1 - 2 P(B < j), B binomial: as narrow as 95 % allows."""
    found = censored_median(np.arange(1.0, count + 1))
    assert found.value == (count + 1) / 2
    j = int(found.low)
    assert found.high == count + 1 - j
    assert stats.binom.cdf(j - 1, count, 0.5) <= 0.025 < stats.binom.cdf(j, count, 0.5)


def test_the_interval_of_a_censored_median_holds_it_though_a_third_is_censored():
    draw = np.random.default_rng(0)
    times = draw.exponential(size=(4000, 16))
    times[times > np.log(3)] = np.nan  # a third of them
    held = [i.low <= np.log(2) <= i.high for i in map(censored_median, times)]
    assert np.mean(held) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 4000)


def test_a_median_beyond_what_came_is_infinite():
    nan = math.nan
    assert censored_median([3.0, nan, nan]) == (math.inf, 3.0, math.inf)
    assert censored_median([3.0, nan]).value == math.inf
    assert censored_median([nan, nan]).low == math.inf
