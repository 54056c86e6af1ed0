"""Marks in the gallery's figures: series that gray print keeps apart, and dots with whiskers."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ravine.reporting.plot_style import SERIES_COLORS

LINE_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1.2)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)


def line_style(index: int) -> dict[str, Any]:
    """Color and dashes of the i-th series: `axes.plot(x, y, **line_style(1))`. After five they
    begin again.

    >>> line_style(0)
    {'color': '#0072B2', 'linestyle': '-'}
    """
    i = index % len(SERIES_COLORS)
    return {"color": SERIES_COLORS[i], "linestyle": LINE_DASHES[i]}


def intervals(
    axes: Axes,
    at: ArrayLike,
    middle: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    color: str = SERIES_COLORS[0],
    label: str = "",
    upright: bool = True,
    marker: str = "o",
) -> None:
    """Dots with whiskers, `upright` over the places on the x axis, else along it."""
    at, middle, low, high = (np.asarray(x, dtype=float) for x in (at, middle, low, high))
    ends = np.stack([middle - low, high - middle]).clip(min=0)
    style: dict[str, Any] = {"fmt": marker, "color": color, "label": label or None}
    style |= {"capsize": 3, "elinewidth": 1.2, "markersize": 5}
    if upright:
        axes.errorbar(at, middle, yerr=ends, **style)
    else:
        axes.errorbar(middle, at, xerr=ends, **style)
