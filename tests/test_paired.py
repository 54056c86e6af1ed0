"""Paired statistics against scipy, published tables and simulated studies."""

import math

import numpy as np
import pytest
from scipy import stats

from ravine.paired import holm, paired_interval, probability_of_better, seeds_needed, sign_flip_p

# Darwin's maize (Fisher 1935, section 21): the heights of 15 pairs of plants, crossed less
# self-fertilized, in eighths of an inch
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_flipping_signs_gives_fishers_number_for_darwins_plants():
    # of 2^15 ways, 863 give a sum as large, by Fisher's count; he doubles it
    assert sign_flip_p(DARWIN) == pytest.approx(2 * 863 / 2**15)


def test_flipping_signs_agrees_with_scipy():
    draw = np.random.default_rng(0)
    for count in (4, 9, 24):
        x = draw.normal(0.4, 1.0, count)
        reference = stats.permutation_test(
            (x,), np.mean, permutation_type="samples", n_resamples=40_000, random_state=draw
        )
        assert sign_flip_p(x) == pytest.approx(reference.pvalue, abs=0.01)


def test_flipping_signs_is_as_wrong_as_it_says():
    draw = np.random.default_rng(1)
    found = [sign_flip_p(draw.standard_t(2, 8)) <= 0.05 for _ in range(2000)]
    assert 0.03 <= np.mean(found) <= 0.06  # of 128 values of p, six are at most 0.05: 0.047


def test_no_difference_is_never_significant():
    assert sign_flip_p([0.0] * 6) == 1.0
    assert sign_flip_p([0.3]) == 1.0
    assert sign_flip_p([1.0] * 5) > 0.05


def test_holms_example():
    # Holm 1979's procedure on four p values: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 raised to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_as_many_seeds_are_needed_as_gpower_says():
    # G*Power 3.1, two dependent means, two tails, alpha 0.05, power 0.8: by effect size
    for effect, count in ((0.2, 199), (0.5, 34), (0.8, 15), (3.0, 6)):  # the last: flips need 6
        x = np.array([-1.0, 1.0] * 8)
        x = x / x.std(ddof=1) + effect
        assert seeds_needed(x) == count
    assert seeds_needed([0.0, 0.0]) == math.inf
    assert math.isnan(seeds_needed([1.0]))


def test_without_rows_the_interval_is_students():
    low, high = stats.t.interval(0.9, 14, loc=np.mean(DARWIN), scale=stats.sem(DARWIN))
    assert paired_interval(DARWIN, confidence=0.9) == pytest.approx((np.mean(DARWIN), low, high))


def studies(count, *, seeds, rows, of_seed, of_row, of_both):
    """Simulated comparisons: differences [S], and in 200 samples of the rows [B, S]."""
    draw = np.random.default_rng(2)
    for _ in range(count):
        each = draw.normal(0, of_seed, (seeds, 1)) + draw.normal(0, of_row, rows)
        each = 1.0 + each + draw.normal(0, of_both, (seeds, rows))
        weights = draw.multinomial(rows, np.full(rows, 1 / rows), 200) / rows
        yield each.mean(1), weights @ each.T


@pytest.mark.parametrize(
    ("of_seed", "of_row", "of_both"), [(0.1, 0.1, 1.0), (0.1, 1.0, 1.0), (0.02, 1.0, 0.2)]
)
@pytest.mark.parametrize("seeds", [5, 12])
def test_an_interval_covers_other_seeds_and_other_rows(seeds, of_seed, of_row, of_both):
    found = studies(2000, seeds=seeds, rows=60, of_seed=of_seed, of_row=of_row, of_both=of_both)
    held = [low < 1.0 < high for _, low, high in (paired_interval(*study) for study in found)]
    assert 0.935 <= np.mean(held) <= 0.965  # 0.95; 2,000 studies: known to 0.01


def test_failures_count_as_worse():
    found = probability_of_better([math.inf, 0.2, -math.inf, 0.1])
    assert found.value == 0.75
    assert found.low < 0.75 < found.high
