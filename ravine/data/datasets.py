"""The bundled sets, by name: scikit-learn's small real tables, penguins, and problems drawn from a
known rule.

Penguins: K. Gorman, T. Williams, W. Fraser (2014), PLoS ONE 9(3) e90081; palmerpenguins, released
as CC0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ravine.data import synthetic
from ravine.data.tables import read_table
from ravine.errors import DataError, nearest

SETS = Path(__file__).parent / "sets"
SEED = 0  # of the drawn sets: they are the same on every machine


def bundled(name: str) -> tuple[pd.DataFrame, str]:
    """A bundled set and the name of its target. Raises `DataError` with the nearest name.

    >>> bundled("moons")[0].shape
    (1000, 3)
    """
    if name not in BUNDLED:
        raise DataError(
            f"{name!r} is neither a file nor a bundled set",
            why=nearest(name, BUNDLED),
            do="name a file or one of these",
        )
    return BUNDLED[name]()


def _real(name: str, named: bool) -> tuple[pd.DataFrame, str]:
    """One of scikit-learn's sets; `named`: classes by their names instead of numbers."""
    from sklearn import datasets  # half a second, so only when one is asked for

    found = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = found.frame
    if named:
        frame = frame.assign(target=np.asarray(found.target_names, object)[found.target.to_numpy()])
    return frame, "target"


def _penguins() -> tuple[pd.DataFrame, str]:
    return read_table(SETS / "penguins.csv"), "species"


def _friedman1() -> tuple[pd.DataFrame, str]:
    """y = 10 sin(π x1 x2) + 20 (x3 − ½)² + 10 x4 + 5 x5 + noise; x6 to x10 say nothing (Friedman
    1991).
    """
    generator = np.random.default_rng(SEED)
    x = generator.random((2000, 10))
    y = (
        10 * np.sin(np.pi * x[:, 0] * x[:, 1])
        + 20 * (x[:, 2] - 0.5) ** 2
        + 10 * x[:, 3]
        + 5 * x[:, 4]
    )
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(1, 11)])
    return frame.assign(y=y + generator.standard_normal(2000)), "y"


def _drawn(draw: Callable[[int, int], tuple[np.ndarray, np.ndarray]]) -> tuple[pd.DataFrame, str]:
    points, classes = draw(1000, SEED)
    return pd.DataFrame({"x1": points[:, 0], "x2": points[:, 1], "class": classes}), "class"


BUNDLED: Mapping[str, Callable[[], tuple[pd.DataFrame, str]]] = {
    "breast_cancer": lambda: _real("breast_cancer", True),
    "circles": lambda: _drawn(synthetic.circles),
    "diabetes": lambda: _real("diabetes", False),
    "digits": lambda: _real("digits", False),
    "friedman1": _friedman1,
    "iris": lambda: _real("iris", True),
    "mixture": lambda: _drawn(synthetic.mixture().draw),
    "moons": lambda: _drawn(synthetic.moons),
    "penguins": _penguins,
    "spirals": lambda: _drawn(synthetic.spirals),
    "wine": lambda: _real("wine", True),
}
