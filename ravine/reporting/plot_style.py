"""The style of all figures: colors, fonts, grid, bands, and SVG whose bytes are reproducible.

Figures are made with `figure()`, never with pyplot: no global state is changed.
"""

import io
import re
from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from numpy.typing import ArrayLike

# Each has a contrast of at least 3 : 1 to white, and color-blind readers can tell them apart (after
# Okabe & Ito); use at most five in one figure, each with its own dashes, for gray print.
SERIES_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
GRAY_COLOR = "#6B6B6B"  # reference lines, remarks

# what is not said there is as the reader's own settings have it
HOUSE_STYLE = matplotlib.rc_params_from_file(
    Path(__file__).with_name("house.mplstyle"), use_default_template=False
)
HOUSE_STYLE["axes.prop_cycle"] = cycler(color=list(SERIES_COLORS))


def in_house_style(method: Callable[..., Any]) -> Any:
    """A method of matplotlib that runs in the house style."""

    @wraps(method)
    def call_in_style(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.rc_context(HOUSE_STYLE):
            return method(*args, **kwargs)

    return call_in_style


class HouseAxes(Axes):
    """Axes whose lines, legends and remarks are in the house style."""

    plot = in_house_style(Axes.plot)
    legend = in_house_style(Axes.legend)
    set_title = in_house_style(Axes.set_title)
    text = in_house_style(Axes.text)

    @in_house_style
    def imshow(self, *args: Any, **kwargs: Any) -> Any:
        self.grid(False)
        return super().imshow(*args, **kwargs)


class HouseFigure(Figure):
    """A matplotlib figure whose axes, legends and titles are in the house style."""

    suptitle = in_house_style(Figure.suptitle)
    legend = in_house_style(Figure.legend)
    colorbar = in_house_style(Figure.colorbar)
    savefig = in_house_style(Figure.savefig)

    @in_house_style
    def add_subplot(self, *args: Any, **kwargs: Any) -> Any:
        if "projection" not in kwargs and not kwargs.get("polar"):
            kwargs.setdefault("axes_class", HouseAxes)
        return super().add_subplot(*args, **kwargs)


def figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure in the house style, in inches; nothing in it overlaps ("constrained" layout).

    >>> axes = figure(4.0, 3.0).subplots()
    >>> len(axes.plot([0, 1], [2, 3]))
    1
    """
    return HouseFigure(figsize=(width, height), dpi=100, layout="constrained")


def band(
    axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, color: str = SERIES_COLORS[0]
) -> None:
    """A pale area from `low` to `high` under a line of that color: an interval or a range of seeds.

    Places where an end is not finite are left out.
    """
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    known = (np.isfinite(low) & np.isfinite(high)).tolist()
    axes.fill_between(np.asarray(x), low, high, where=known, color=color, alpha=0.18, linewidth=0)


def svg(drawing: Figure, *, title: str = "", prefix: str = "") -> str:
    """The figure as SVG text: the same figure always gives the same bytes.

    `title` is for screen readers. `prefix` is put before every id, so that several figures in one
    page do not use each other's clip paths. The size is left to the page: there is only a viewBox.

    >>> text = svg(figure(2.0, 1.0), title="Loss < 1", prefix="a-")
    >>> text.startswith("<svg"), "Loss &lt; 1" in text, text == svg(figure(2.0, 1.0),
    ...                                                             title="Loss < 1", prefix="a-")
    (True, True, True)
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(HOUSE_STYLE):
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    text = f"{head}>" + re.sub(r'\bd="[^"]*"', _round_path, rest)
    if prefix:
        text = re.sub(r'\bid="', f'id="{prefix}', text)
        text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", text)
    if title:
        text = text.replace(">", f' role="img"><title>{escape(title)}</title>', 1)
    return text


def _round_path(path: re.Match[str]) -> str:
    """A path's coordinates to a hundredth of a point: the text is a third shorter."""
    return re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace(" \n", "\n")
