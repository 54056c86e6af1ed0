"""The bundled sets: scikit-learn's small real tables, penguins, and problems drawn from a rule.

Penguins: K. Gorman, T. Williams, W. Fraser (2014), PLoS ONE 9(3) e90081; palmerpenguins, CC0.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from ravine.data import synthetic
from ravine.data.tables import read_table
from ravine.errors import DataError, nearest

SETS_FOLDER = Path(__file__).parent / "sets"
DRAW_SEED = 0  # of the drawn sets: they are the same on every machine
TableAndTarget: TypeAlias = tuple[pd.DataFrame, str]


def load_bundled(name: str) -> TableAndTarget:
    """A bundled set and the name of its target. Raises `DataError` with the nearest name.

    >>> load_bundled("moons")[0].shape
    (1000, 3)
    """
    if name not in BUNDLED_SETS:
        what = f"{name!r} is neither a file nor a bundled set"
        raise DataError(what, why=nearest(name, BUNDLED_SETS), do="name a file or one of these")
    return BUNDLED_SETS[name]()


def _sklearn_set(name: str, named: bool) -> TableAndTarget:
    """One of scikit-learn's sets; `named`: classes by their names instead of numbers."""
    from sklearn import datasets  # half a second, so only when one is asked for

    found = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = found.frame
    if named:
        frame = frame.assign(target=np.asarray(found.target_names, object)[found.target.to_numpy()])
    return frame, "target"


def _friedman1() -> TableAndTarget:
    """y = 10 sin(π x1 x2) + 20 (x3 − ½)² + 10 x4 + 5 x5 + noise; 5 more inputs (Friedman 1991)."""
    generator = np.random.default_rng(DRAW_SEED)
    x = generator.random((2000, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y = y + 10 * x[:, 3] + 5 * x[:, 4]
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(1, 11)])
    return frame.assign(y=y + generator.standard_normal(2000)), "y"


def _points_table(draw: Callable[[int, int], tuple[np.ndarray, np.ndarray]]) -> TableAndTarget:
    points, classes = draw(1000, DRAW_SEED)
    return pd.DataFrame({"x1": points[:, 0], "x2": points[:, 1], "class": classes}), "class"


BUNDLED_SETS: Mapping[str, Callable[[], TableAndTarget]] = {
    "breast_cancer": lambda: _sklearn_set("breast_cancer", True),
    "circles": lambda: _points_table(synthetic.circles),
    "diabetes": lambda: _sklearn_set("diabetes", False),
    "digits": lambda: _sklearn_set("digits", False),
    "friedman1": _friedman1,
    "iris": lambda: _sklearn_set("iris", True),
    "mixture": lambda: _points_table(synthetic.mixture().draw),
    "moons": lambda: _points_table(synthetic.moons),
    "penguins": lambda: (read_table(SETS_FOLDER / "penguins.csv"), "species"),
    "spirals": lambda: _points_table(synthetic.spirals),
    "wine": lambda: _sklearn_set("wine", True),
}
