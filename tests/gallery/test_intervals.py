"""The interval of a share, verdicts from intervals, and their pictures."""

import numpy as np
import pytest
from scipy import stats

from ravine.reporting.plot_style import figure
from ravine.statistics import Interval, t_interval
from ravine_gallery import intervals


def test_the_interval_of_a_share_is_wilsons():
    wilson = stats.binomtest(3, 40).proportion_ci(method="wilson")
    assert intervals.share_interval(np.arange(40) < 3) == pytest.approx((3 / 40, *wilson))


def test_one_value_decides_nothing():
    assert intervals.decide([t_interval([1.0])]) is None
    assert intervals.decide([Interval(1.0, 0.5, 1.5), t_interval([1.0])]) is None


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
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    dots = [np.asarray(line.get_xydata()).tolist()[0] for line in lines]
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
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == line
    corners = np.asarray(axes.collections[0].get_paths()[0].vertices).tolist()
    assert all([x, y] in corners for ends in (low, high) for x, y in enumerate(ends))
