"""How one column becomes numbers or a code. All is plain numbers and text, ready to be JSON.

Each encoder has the `names` of its features, in `flags` those that are no measured numbers, and
`encode(values) -> float32 [N, len(names)]`; `Codes` makes one int64 code instead. Letters: N rows.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ravine.data import parsing
from ravine.old_names import get_key

MAX_KNOTS = 1000  # points of a quantile transform
MIN_CIRCULAR_VARIANCE = 1e-3  # two to three days of a year
DATE_CYCLES = ("year", "week", "day")
MISSING_LEVEL = "(missing)"  # the level of a category's gaps


@dataclass(frozen=True)
class Scaling:
    """x <- (x − center) · factor, or with knots the normal quantile of x's rank; then the clip.

    A gap becomes `fill`. The clip x / √(1 + (x/c)²) keeps −c < x < c (Holzmüller 2024: c = 3).
    """

    fill: float
    center: float = 0.0
    factor: float = 1.0
    knots: tuple[float, ...] = ()
    clip: float | None = None
    seen: tuple[float, ...] = ()  # the least and the greatest of the training values

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = np.where(np.isnan(x), self.fill, x)
        x = _normal_rank(x, self.knots) if self.knots else (x - self.center) * self.factor
        return x if self.clip is None else x / np.sqrt(1 + (x / self.clip) ** 2)

    @classmethod
    def fit(cls, x: np.ndarray, how: str, clip: float | None) -> Self:
        """The scaling of training values, gaps as NaN. A constant column becomes zeros."""
        x = x[~np.isnan(x)]
        if len(x) == 0:
            return cls(fill=0.0, factor=0.0)
        fill = float(np.median(x))
        seen = (float(x.min()), float(x.max()))
        center, factor, knots = 0.0, 1.0, ()
        if how == "quantile":
            knots = tuple(np.quantile(x, np.linspace(0, 1, min(MAX_KNOTS, len(x)))).tolist())
        elif how == "robust":
            low, high = np.quantile(x, [0.25, 0.75])
            # half the range for a column that is mostly one value, as RealMLP does
            center = fill
            factor = _inverse(float((high - low) or (x.max() - x.min()) / 2))
        elif how == "standard":
            center, spread = mean_and_spread(x)
            factor = _inverse(spread)
        return cls(fill, center, factor, knots, clip, seen)


def mean_and_spread(x: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation; neither overflows for numbers that float64 can hold.

    >>> mean_and_spread(np.array([0.0, 1e300]))
    (5e+299, 5e+299)
    """
    size = float(np.abs(x).max()) or 1.0
    center = float((x / size).mean())
    spread = float(np.sqrt(((x / size - center) ** 2).mean()))
    return center * size, 0.0 if spread < 1e-14 else spread * size


def _inverse(spread: float) -> float:
    return 1.0 / spread if spread > 0 and math.isfinite(1.0 / spread) else 0.0


def _normal_rank(x: np.ndarray, knots: Sequence[float]) -> np.ndarray:
    """The normal quantile of each value's rank among the knots, at most 5.2."""
    at = np.asarray(knots)
    ranks = np.linspace(0, 1, len(knots))
    rank = (np.interp(x, at, ranks) - np.interp(-x, -at[::-1], -ranks[::-1])) / 2
    return np.clip(ndtri(np.clip(rank, 1e-7, 1 - 1e-7)), -5.2, 5.2)


@dataclass(frozen=True)
class Numeric:
    """A number, scaled; with `gaps` also a column that is 1 where it is missing.

    `odd_texts` are the most frequent texts among the numbers of the table: these and any other text
    are gaps. Without any, a text among the numbers is an error.
    """

    name: str
    style: str
    scaling: Scaling
    gaps: bool
    odd_texts: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} is missing") if self.gaps else (self.name,)

    @property
    def flags(self) -> range:
        return range(1, len(self.names))

    def encode(self, values: pd.Series) -> np.ndarray:
        return _with_gaps(self.scaling, self.read(values), self.gaps)

    def read(self, values: pd.Series) -> np.ndarray:
        """The numbers, float64 [N], NaN where missing."""
        read = parsing.numbers_or_gaps if self.odd_texts else parsing.numbers_of
        return read(values, self.name, self.style)

    def read_cells(self, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """The numbers, and whether each cell holds something else, float64 and bool [N]."""
        return parsing.read_numbers(values, self.style)


@dataclass(frozen=True)
class Flag:
    """Yes or no: +1 or −1, and 0 where it is missing or neither."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def flags(self) -> range:
        return range(1)

    def encode(self, values: pd.Series) -> np.ndarray:
        return parsing.signs_of(values)[:, None]


@dataclass(frozen=True)
class OneHot:
    """A category with few levels: a column of 0 and 1 each; of two levels one column of −1 and +1.

    An unseen or rare value is 0 in all of them.
    """

    name: str
    levels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        levels = self.levels[1:] if len(self.levels) == 2 else self.levels
        return tuple(f"{self.name} = {level}" for level in levels)

    @property
    def flags(self) -> range:
        return range(len(self.names))

    def encode(self, values: pd.Series) -> np.ndarray:
        codes = level_codes(values, self.levels)
        if len(self.levels) == 2:
            return np.array([0, -1, 1], np.float32)[codes][:, None]
        return np.eye(len(self.levels) + 1, dtype=np.float32)[codes][:, 1:]


@dataclass(frozen=True)
class Codes:
    """A category with many levels: code 1 for the most frequent, 0 for unseen and rare values."""

    name: str
    levels: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.levels) + 1

    def codes(self, values: pd.Series) -> np.ndarray:
        return level_codes(values, self.levels)


@dataclass(frozen=True)
class Date:
    """A date: the scaled day, and its place in `cycles` (year, week, day) as sine and cosine.

    `odd_texts` are texts among the dates, as among the numbers of `Numeric`.
    """

    name: str
    style: str
    scaling: Scaling
    cycles: tuple[str, ...]
    gaps: bool
    odd_texts: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        waves = [f"{self.name} {wave} of {c}" for c in self.cycles for wave in ("sine", "cosine")]
        return (self.name, *([f"{self.name} is missing"] if self.gaps else []), *waves)

    @property
    def flags(self) -> range:
        return range(1, 2 if self.gaps else 1)

    def encode(self, values: pd.Series) -> np.ndarray:
        days = self.read(values)
        angles = [2 * np.pi * cycle_phase(days, cycle) for cycle in self.cycles]
        waves = [np.nan_to_num(wave(angle)) for angle in angles for wave in (np.sin, np.cos)]
        blocks = [_with_gaps(self.scaling, days, self.gaps), *waves]
        return np.column_stack(blocks).astype(np.float32)

    def read(self, values: pd.Series) -> np.ndarray:
        """Days since 1970, float64 [N], NaN where missing."""
        return parsing.dates_of(values, self.name, self.style, self.odd_texts)

    def read_cells(self, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """The days, and whether each cell holds something else, float64 and bool [N]."""
        return parsing.read_dates(values, self.style)


@dataclass(frozen=True)
class Text:
    """Free text: its words, each counted with a sign in one of `size` features by a hash of it
    (Weinberger et al. 2009), the whole scaled to the length √size; 0 where it is missing.

    No word is kept, so that words that training never saw have features, too.
    """

    name: str
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name} words {i}" for i in range(self.size))

    @property
    def flags(self) -> range:
        return range(self.size)

    def encode(self, values: pd.Series) -> np.ndarray:
        from sklearn.feature_extraction.text import HashingVectorizer  # takes 0.3 s to import

        texts, codes = parsing.texts_of(values)
        hashed: Any = HashingVectorizer(n_features=self.size).transform([*texts, ""])
        return (hashed.toarray() * math.sqrt(self.size)).astype(np.float32)[codes]


def cycle_phase(days: np.ndarray, cycle: str) -> np.ndarray:
    """The place in a cycle, from 0 to 1, of days since 1970 (a Thursday).

    >>> cycle_phase(np.array([0.25, 4.25]), "day"), cycle_phase(np.array([4.0]), "week")
    (array([0.25, 0.25]), array([0.]))
    """
    length, start = {"year": (365.2425, 0), "week": (7.0, 4), "day": (1.0, 0)}[cycle]
    return np.mod(days - start, length) / length


def covered_cycles(days: np.ndarray) -> tuple[str, ...]:
    """The cycles that training dates cover: half a year or more, several weekdays, hours.

    Dates that all have one place in a cycle, such as the first of January of each year, do not:
    1 - |mean of exp(i 2π place)|, their circular variance, is at least `MIN_CIRCULAR_VARIANCE`.
    """
    days = days[~np.isnan(days)]
    if len(days) == 0:
        return ()
    covers = {
        "year": np.ptp(days) > 180,
        "week": len(np.unique(np.floor(days) % 7)) > 1,
        "day": bool((days != np.floor(days)).any()),
    }
    variances = {c: 1 - abs(np.exp(2j * np.pi * cycle_phase(days, c)).mean()) for c in covers}
    return tuple(c for c in DATE_CYCLES if covers[c] and variances[c] > MIN_CIRCULAR_VARIANCE)


def level_codes(values: pd.Series, levels: Sequence[str]) -> np.ndarray:
    """1 + the place of each value among the levels, 0 where it is none of them, int64 [N].

    Gaps have the level "(missing)" where the training rows had enough of them.
    """
    texts, codes = parsing.texts_of(values)
    known = pd.Index(np.array(levels, object))
    places = known.get_indexer(pd.Index(np.array([*texts, MISSING_LEVEL], object))) + 1
    return places.astype(np.int64)[codes]


def _with_gaps(scaling: Scaling, x: np.ndarray, gaps: bool) -> np.ndarray:
    columns = [scaling(x), np.isnan(x).astype(np.float64)] if gaps else [scaling(x)]
    return np.stack(columns, 1).astype(np.float32)


ColumnEncoder: TypeAlias = Numeric | Flag | OneHot | Codes | Date | Text
COLUMN_ENCODERS: Mapping[str, type] = {c.__name__: c for c in get_args(ColumnEncoder)}
DateEncoding: TypeAlias = Literal["cycles", "days", "drop"]


def column_to_plain(encoder: ColumnEncoder) -> dict[str, Any]:
    """A column's encoder as plain data, as earlier versions wrote it where no texts are odd."""
    plain = {"encoder": type(encoder).__name__, **dataclasses.asdict(encoder)}
    return {key: value for key, value in plain.items() if key != "odd_texts" or value}


def column_from_plain(data: Mapping[str, Any]) -> ColumnEncoder:
    """The column's encoder that plain data describe."""
    settings = {k: _as_tuple(v) for k, v in data.items() if k not in ("encoder", "form")}
    if "scaling" in settings:
        settings["scaling"] = Scaling(**{k: _as_tuple(v) for k, v in settings["scaling"].items()})
    return COLUMN_ENCODERS[get_key(data, "encoder")](**settings)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
