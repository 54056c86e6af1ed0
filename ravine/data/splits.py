"""Which rows train, validate and test: at random, by class, by group, by time, or as given.

Everything is drawn from the stream (seed, "split"). Letters: N rows.
"""

from typing import NamedTuple, Self, TypeAlias

import numpy as np
import pandas as pd
import torch

from ravine.data.column_types import infer_column_types, is_identifier, values_of
from ravine.data.parsing import texts_of
from ravine.data.task_type import TaskType
from ravine.errors import DataError, RecipeError, join_first, nearest
from ravine.part import part, setting
from ravine.rng import stream, stream_seed

SPLIT_NAMES = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "fit"), 0),
    **dict.fromkeys(("validation", "valid", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing", "holdout"), 2),
}
MIN_ROWS_TO_CHECK = 10  # in a smaller split one class alone may be chance
# what a column is called that says who or what a row is about
GROUP_WORDS = "id ids pid uid uuid guid userid patient subject person customer client user".split()
MIN_GROUPS = 20  # a column with fewer values rather says which of a few kinds
MIN_GROUPED_SHARE = 0.2  # of the rows, so many are not the only one of their group


class SplitRows(NamedTuple):
    """Row numbers of each split, int64, ascending."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, place: np.ndarray) -> Self:
        """From each row's place: 0 train, 1 validation, 2 test, anything else none of them."""
        return cls(*(np.flatnonzero(place == i) for i in range(3)))


class _Split:
    def columns(self) -> tuple[str, ...]:
        """Columns that the split needs and networks do not read."""
        column = getattr(self, "column", "")
        return (column,) if column else ()


@part
class _Sizes(_Split):
    """Shares of the rows; the rest trains."""

    validation: float = setting(default=0.15, ge=0, lt=1)
    test: float = setting(default=0.15, ge=0, lt=1)

    def check(self) -> None:
        if self.validation + self.test >= 1:
            shares = f"{self.validation:g} to validation and {self.test:g} to test"
            why, do = "nothing is left to train on", "make them smaller, such as 0.15"
            raise RecipeError(f"{type(self).__name__} gives {shares}", why=why, do=do)


@part
class Random(_Sizes):
    """Rows at random."""

    def rows(self, frame: pd.DataFrame, task: TaskType, seed: int, notes: list[str]) -> SplitRows:
        """The split of a table's rows."""
        return SplitRows.of(draw_places(len(frame), self.validation, self.test, seed))

    def place_block(self, frame: pd.DataFrame, first: int, seed: int) -> np.ndarray:
        """Each row's place where rows come in blocks; `first` is the number of the first row."""
        return hash_places(np.arange(first, first + len(frame)), self.validation, self.test, seed)


@part
class Stratified(Random):
    """Rows at random, each class in the same proportions; numbers and labels plainly at random.

    Every class with three rows or more is in every split; a class of one row trains.
    """

    def rows(self, frame: pd.DataFrame, task: TaskType, seed: int, notes: list[str]) -> SplitRows:
        if task.kind not in ("binary", "classes"):
            return Random.rows(self, frame, task, seed, notes)
        require_count(len(frame), self.validation, self.test)
        texts, codes = texts_of(frame[task.names[0]])
        generator = stream(seed, "split")
        place = np.zeros(len(frame), np.int64)
        for code in np.argsort(texts, kind="stable"):
            members = np.flatnonzero(codes == code)
            members = members[torch.randperm(len(members), generator=generator).numpy()]
            test, validation = _counts(len(members), self.test, self.validation)
            place[members[:test]] = 2
            place[members[test : test + validation]] = 1
        return SplitRows.of(place)


@part
class Grouped(_Sizes):
    """Whole groups of rows: all rows with the same value in `column` go to the same split."""

    column: str

    def rows(self, frame: pd.DataFrame, task: TaskType, seed: int, notes: list[str]) -> SplitRows:
        texts, codes = _complete_texts(frame, self.column)
        wanted = sum(f > 0 for f in (self.validation, self.test)) + 1
        if len(texts) < wanted:
            what = f"{self.column} has {len(texts)} groups"
            why = f"{wanted} splits need at least {wanted}"
            raise DataError(what, why=why, do="choose another column, or fewer splits")
        shuffled = torch.randperm(len(texts), generator=stream(seed, "split")).numpy()
        order = np.argsort(texts, kind="stable")[shuffled]
        sizes = np.bincount(codes)[order]
        place = np.zeros(len(texts), np.int64)
        at = 0
        for split, share in ((2, self.test), (1, self.validation)):
            rows = 0
            enough = share * len(frame)
            while share > 0 and at < len(order) - 1 and (not rows or rows + sizes[at] / 2 < enough):
                place[order[at]] = split
                rows += sizes[at]
                at += 1
        return SplitRows.of(place[codes])

    def place_block(self, frame: pd.DataFrame, first: int, seed: int) -> np.ndarray:
        texts, codes = _complete_texts(frame, self.column)
        keys = pd.util.hash_array(np.array(texts, object)).view(np.int64)
        return hash_places(keys, self.validation, self.test, seed)[codes]


@part
class ByTime(_Sizes):
    """The past trains, what follows validates, the latest tests; equal moments stay together."""

    column: str

    def rows(self, frame: pd.DataFrame, task: TaskType, seed: int, notes: list[str]) -> SplitRows:
        values = _column(frame, self.column)
        found = infer_column_types(values.to_frame(), rows=0)[0]
        if not found or found[0].kind not in ("date", "number"):
            what, do = f"{self.column} is no time", "choose a column of dates or numbers"
            raise DataError(what, why=f"its first value is {str(values.iloc[0])!r}", do=do)
        moments = values_of(values, found[0])
        _check_complete(~np.isnan(moments), self.column)
        require_count(len(frame), self.validation, self.test)
        test, validation = _counts(len(frame), self.test, self.validation)
        ordered = np.sort(moments)
        place = np.zeros(len(frame), np.int64)
        if validation:
            place[moments >= ordered[len(frame) - test - validation]] = 1
        if test:
            place[moments >= ordered[len(frame) - test]] = 2
        if len(np.unique(place)) < 1 + (test > 0) + (validation > 0):
            what = f"{self.column} has too few different moments"
            do = "choose another column, or split at random"
            raise DataError(what, why="rows of one moment stay together", do=do)
        return SplitRows.of(place)


@part
class Given(_Split):
    """Splits from outside: a `column` that says train, validation or test, or row numbers (from 0).

    Rows that are in no list train, unless `train_rows` are given. Where no row is to validate, the
    share `validation` of the training rows is drawn at random.
    """

    column: str = ""
    train_rows: tuple[int, ...] = ()
    validation_rows: tuple[int, ...] = ()
    test_rows: tuple[int, ...] = ()
    validation: float = setting(default=0.15, ge=0, lt=1)

    def check(self) -> None:
        lists = self.train_rows + self.validation_rows + self.test_rows
        if bool(self.column) == bool(lists):
            what = "Given needs a column or lists of rows"
            why = "it has both" if lists else "it has neither"
            raise RecipeError(what, why=why, do='write column = "split", or test_rows')
        if len(set(lists)) < len(lists):
            what, do = "Given has a row in two splits", "put each row in one list"
            raise RecipeError(what, why="then a score would not be honest", do=do)

    def rows(self, frame: pd.DataFrame, task: TaskType, seed: int, notes: list[str]) -> SplitRows:
        lists = (self.train_rows, self.validation_rows, self.test_rows)
        for name, rows in zip(SPLIT_NAMES, lists, strict=True):
            outside = [r for r in rows if not 0 <= r < len(frame)]
            if outside:
                what = f"row {outside[0]} is given to {name}"
                raise DataError(what, why=f"rows are 0 to {len(frame) - 1}")
        place = self.place_block(frame, 0, seed)
        if (place == 0).sum() == 0:
            raise DataError("no row is given to training", do="name the training rows")
        train = np.flatnonzero(place == 0)
        if not (place == 1).any() and self.validation > 0:
            place[train[draw_places(len(train), self.validation, 0.0, seed) == 1]] = 1
            drawn = f"{(place == 1).sum()} of {len(train)} training rows are"
            notes.append(f"No row was given to validation: {drawn}.")
        return SplitRows.of(place)

    def place_block(self, frame: pd.DataFrame, first: int, seed: int) -> np.ndarray:
        if self.column:
            texts, codes = _complete_texts(frame, self.column)
            odd = [t for t in texts if t.lower() not in SPLIT_WORDS]
            if odd:
                what = f"the split column {self.column} has the value {odd[0]!r}"
                why = "it must be train, validation or test"
                raise DataError(what, why=why, do="rename the values")
            return np.array([SPLIT_WORDS[t.lower()] for t in texts], np.int64)[codes]
        numbers = np.arange(first, first + len(frame))
        place = np.full(len(frame), -1 if self.train_rows else 0, np.int64)
        for i, rows in enumerate((self.train_rows, self.validation_rows, self.test_rows)):
            place[np.isin(numbers, rows)] = i
        return place


BlockSplit: TypeAlias = Stratified | Random | Grouped | Given  # has `place_block`
AnySplit: TypeAlias = BlockSplit | ByTime


def draw_places(count: int, validation: float, test: float, seed: int) -> np.ndarray:
    """Each row's place, drawn: 0 train, 1 validation, 2 test. `DataError` for too few rows."""
    require_count(count, validation, test)
    order = torch.randperm(count, generator=stream(seed, "split")).numpy()
    tested, validated = _counts(count, test, validation)
    place = np.zeros(count, np.int64)
    place[order[:tested]] = 2
    place[order[tested : tested + validated]] = 1
    return place


def hash_places(keys: np.ndarray, validation: float, test: float, seed: int) -> np.ndarray:
    """Each row's place by a hash of (seed, key), wherever the row stands (splitmix64's mixer)."""
    with np.errstate(over="ignore"):
        x = keys.astype(np.uint64) + np.uint64(stream_seed(seed, "split"))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    drawn = (x >> np.uint64(11)).astype(np.float64) / 2**53
    return np.where(drawn < test, 2, np.where(drawn < test + validation, 1, 0))


def require_count(count: int, validation: float, test: float) -> None:
    """Raise `DataError` unless two rows can train and one can be in each other split."""
    least = 2 + (validation > 0) + (test > 0)
    if count < least:
        what = f"the table has {count} {'row' if count == 1 else 'rows'} with a target"
        why = f"the splits need at least {least}"
        raise DataError(what, why=why, do="give more rows, or fewer splits")


def _counts(count: int, test: float, validation: float) -> tuple[int, int]:
    """Rows to test and validate: at least one for each share above 0 if a row is left to train."""
    tested = max(round(test * count), 1) if test > 0 else 0
    validated = max(round(validation * count), 1) if validation > 0 else 0
    if tested + validated >= count:
        validated = max(0, min(validated, count - 1 - tested))
    return min(tested, count - 1), validated


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    """The column that a split names. Raises `DataError` with the nearest name."""
    if name not in frame.columns:
        why = nearest(name, [str(c) for c in frame.columns])
        raise DataError(f"split.column is {name!r}, which is no column", why=why)
    return frame[name]


def _complete_texts(frame: pd.DataFrame, name: str) -> tuple[list[str], np.ndarray]:
    """The distinct texts of the column that a split names, and each row's place among them."""
    texts, codes = texts_of(_column(frame, name))
    _check_complete(codes >= 0, name)
    return texts, codes


def _check_complete(present: np.ndarray, name: str) -> None:
    if not present.all():
        what = f"{name} is missing in row {int(np.flatnonzero(~present)[0])}"
        do = "fill the gap, or leave the row out"
        raise DataError(what, why="the split needs it in every row", do=do)


def check_splits(rows: SplitRows, frame: pd.DataFrame, task: TaskType, notes: list[str]) -> None:
    """Raise `DataError` where training lacks a class or a split has only one; note other gaps."""
    if task.kind not in ("binary", "classes"):
        return
    texts, codes = texts_of(frame[task.names[0]])
    held = {name: set(codes[r].tolist()) for name, r in rows._asdict().items()}
    absent = [c for c in range(len(texts)) if c not in held["train"]]
    if absent:
        what = f"no training row has the class {texts[absent[0]]!r} of {task.names[0]}"
        most = max(int((codes == c).sum()) for c in absent)
        do = f'set split.name = "Stratified", or data.min_class_rows = {most + 1} to leave it out'
        raise DataError(what, why="all its rows are in other splits", do=do)
    do = 'set split.name = "Stratified"'
    for name in SPLIT_NAMES[1:]:
        if len(getattr(rows, name)) >= MIN_ROWS_TO_CHECK and len(held[name]) == 1:
            what = f"all {name} rows have the class {texts[held[name].pop()]!r}"
            raise DataError(what, why="nothing can be told apart there", do=do)
        lacking = [t for c, t in enumerate(texts) if c not in held[name]]
        if lacking and len(getattr(rows, name)):
            notes.append(f"The {name} split has no row of {join_first(lacking)}.")


def describe_shared_groups(
    rows: SplitRows, frame: pd.DataFrame, split: object, targets: tuple[str, ...]
) -> list[str]:
    """A sentence on the identifier with most values whose rows a random split parts, if any."""
    found = (
        _count_groups(frame[name], name, rows)
        for name in frame.columns
        if isinstance(split, Random)
        and name not in targets
        and is_identifier(str(name), GROUP_WORDS)
    )
    largest = max(filter(None, found), default=None)
    if largest is None:
        return []
    count, name = largest
    option = f'"split.column={name}"' if " " in name else f"split.column={name}"
    return [
        f"{name} has {count:,} values in {len(frame):,} rows, and rows with the same one are in "
        f"several splits: if they belong together, --set split=Grouped --set {option} keeps "
        "them so."
    ]


def _count_groups(values: pd.Series, name: str, rows: SplitRows) -> tuple[int, str] | None:
    """How many values a column has, and its name, if rows of one value are in several splits."""
    texts, codes = texts_of(values)
    sizes = np.bincount(codes[codes >= 0], minlength=len(texts))
    if len(texts) < MIN_GROUPS or sizes[sizes > 1].sum() < MIN_GROUPED_SHARE * len(values):
        return None
    trained = np.isin(codes[np.concatenate(rows[1:])], codes[rows.train])
    return (len(texts), str(name)) if trained.any() else None
