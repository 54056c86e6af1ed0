"""Intervals: Student's, Wilson's and the bootstrap's, verdicts from them, and their pictures."""

import math

import numpy as np
import pytest
from scipy import stats

from ravine.reporting.plot_style import figure
from ravine.statistics import Interval, bootstrap, student
from ravine_gallery import intervals


def test_an_interval_of_few_values_is_that_of_the_tables():
    found = student([1.0, 2.0, 4.0, 7.0])
    half = 3.182446 * np.std([1, 2, 4, 7], ddof=1) / 2  # t of three degrees of freedom, from tables
    assert found.value == 3.5
    assert found.high - found.value == pytest.approx(half, rel=1e-6)
    assert math.isnan(student([1.0]).low)


def test_intervals_are_those_of_scipy():
    x = np.random.default_rng(0).normal(size=12)
    low, high = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert student(x) == pytest.approx((x.mean(), low, high))
    found = stats.bootstrap(
        (x,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
    )
    ours = bootstrap(x, lambda drawn: drawn.mean(1))
    assert ours[1:] == pytest.approx(found.confidence_interval, abs=0.05)
    wilson = stats.binomtest(3, 40).proportion_ci(method="wilson")
    assert intervals.share_interval(np.arange(40) < 3) == pytest.approx((3 / 40, *wilson))


def test_one_value_decides_nothing():
    assert intervals.decide([student([1.0])]) is None
    assert intervals.decide([Interval(1.0, 0.5, 1.5), student([1.0])]) is None


@pytest.mark.parametrize("upright", [True, False])
def test_each_name_stands_beside_its_interval(upright):
    axes = figure().subplots()
    found = {"a": Interval(0.1, 0.05, 0.2), "b": Interval(0.3, 0.2, 0.4)}
    intervals.draw_named_intervals(axes, found, scale=100, upright=upright)
    names, ticks = (
        (axes.get_xticklabels(), axes.get_xticks())
        if upright
        else (axes.get_yticklabels(), axes.get_yticks())
    )
    assert [text.get_text() for text in names] == ["a", "b"] and list(ticks) == [0, 1]
    dots = [line.get_xydata().tolist()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == ([[0, 10], [1, 30]] if upright else [[10, 0], [30, 1]])


@pytest.mark.parametrize(
    ("draw", "line", "low", "high"),
    [
        (intervals.draw_range, [2.5, 3.5], [1, 2], [4, 5]),
        (intervals.draw_quartiles, [2.5, 3.5], [1.75, 2.75], [3.25, 4.25]),
    ],
)
def test_a_band_holds_its_values(draw, line, low, high):
    axes = figure().subplots()
    draw(axes, [0, 1], np.array([[1.0, 2, 3, 4], [2, 3, 4, 5]]), color="#000000")
    assert axes.lines[0].get_ydata().tolist() == line
    corners = axes.collections[0].get_paths()[0].vertices.tolist()
    assert all([x, y] in corners for ends in (low, high) for x, y in enumerate(ends))
