"""Means with 95 % intervals: in words, as a verdict, and in pictures.

Letters: T places along a line, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ravine.reporting.plot_style import SERIES_COLORS, band
from ravine.statistics import Interval, t_interval, wilson_interval
from ravine_gallery.marks import intervals


def share_interval(hits: ArrayLike) -> Interval:
    """The share of hits among independent trials, with Wilson's interval.

    >>> share_interval([True, False, True, False]).value
    0.5
    """
    hits = np.asarray(hits, dtype=bool)
    share = float(hits.mean())
    return Interval(share, *wilson_interval(share, len(hits)))


def format_interval(found: Interval, form: str = ".3g", *, scale: float = 1.0) -> str:
    """A number and its interval in brackets.

    >>> format_interval(Interval(2.0, -0.4837, 4.4837))
    '2 [-0.484, 4.48]'
    >>> format_interval(Interval(0.02, 0.01, 0.03), "+.1f", scale=100)
    '+2.0 [+1.0, +3.0]'
    """
    value, low, high = (f"{scale * v:{form}}" for v in found)
    return f"{value} [{low}, {high}]"


def format_percent(share: Interval, form: str = ".1f") -> str:
    """A share and its interval as percentages.

    >>> format_percent(Interval(0.5, 0.4, 0.6))
    '50.0 % [40.0, 60.0]'
    """
    value, low, high = (f"{100 * v:{form}}" for v in share)
    return f"{value} % [{low}, {high}]"


def decide(gains: Iterable[Interval]) -> bool | None:
    """True where every interval lies above 0, False where every one lies below, None otherwise.

    >>> decide([Interval(2, 1, 3)]), decide([Interval(-2, -3, -1)]), decide([Interval(1, -1, 3)])
    (True, False, None)
    """
    gains = list(gains)
    if all(gain.low > 0 for gain in gains):
        return True
    return False if all(gain.high < 0 for gain in gains) else None


def label_numbers(label: str, values: Mapping[Any, SupportsFloat | Interval]) -> dict[str, float]:
    """Numbers for an `ExperimentOutcome`, one for each name; of an interval its value.

    >>> label_numbers("error", {"SGD": 0.5, "Adam": Interval(0.25, 0.2, 0.3)})
    {'error, SGD': 0.5, 'error, Adam': 0.25}
    """
    return {
        f"{label}, {name}": float(v.value if isinstance(v, Interval) else v)
        for name, v in values.items()
    }


# Pictures


def draw_intervals(
    axes: Axes, at: ArrayLike, found: Iterable[Interval], *, scale: float = 1.0, **style: Any
) -> None:
    """Dots with the whiskers of their intervals; `style` goes to `marks.intervals`."""
    value, low, high = scale * np.array(list(found), dtype=float).T
    intervals(axes, at, value, low, high, **style)


def draw_named_intervals(
    axes: Axes,
    found: Mapping[Any, Interval],
    *,
    scale: float = 1.0,
    upright: bool = True,
    colors: Sequence[str] = SERIES_COLORS,
) -> None:
    """A dot with its whiskers for each name, in colors that repeat; the names stand on the axis."""
    for i, value in enumerate(found.values()):
        color = colors[i % len(colors)]
        draw_intervals(axes, [i], [value], scale=scale, color=color, upright=upright)
    if upright:
        axes.set_xticks(range(len(found)), list(found))
    else:
        axes.set_yticks(range(len(found)), list(found))
        axes.invert_yaxis()


def draw_mean(axes: Axes, x: ArrayLike, values: np.ndarray, **style: Any) -> None:
    """A line through the means of values [T, S] over seeds, in a band of their intervals.

    `style` goes to `axes.plot` and has a color.
    """
    axes.plot(x, values.mean(1), **style)
    found = [t_interval(row) for row in values]
    band(axes, x, [f.low for f in found], [f.high for f in found], color=style["color"])


def draw_range(axes: Axes, x: ArrayLike, values: np.ndarray, **style: Any) -> None:
    """The same in a band from the least to the largest value."""
    axes.plot(x, values.mean(1), **style)
    band(axes, x, values.min(1), values.max(1), color=style["color"])


def draw_quartiles(axes: Axes, x: ArrayLike, values: np.ndarray, **style: Any) -> None:
    """A line through the medians of values [T, S], in a band of their middle half."""
    low, middle, high = np.percentile(values, [25, 50, 75], axis=1)
    axes.plot(x, middle, **style)
    band(axes, x, low, high, color=style["color"])
