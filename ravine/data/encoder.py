"""How a table becomes numbers and codes: settings, fitting on training rows, the fitted encoder.

Letters: N rows, F numbers, K columns of codes.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch

from ravine.data.codes import changes_as_number
from ravine.data.column_encoders import (
    MISSING_LEVEL,
    Codes,
    ColumnEncoder,
    Date,
    DateEncoding,
    Flag,
    Numeric,
    OneHot,
    Scaling,
    Text,
    column_from_plain,
    column_to_plain,
    covered_cycles,
)
from ravine.data.column_types import DroppedColumn, UsedColumn, infer_column_types, values_of
from ravine.data.csv_dialect import Dialect, KnownColumns
from ravine.data.date_styles import without_open_ends
from ravine.data.examples import Examples
from ravine.data.frames import ExamplesLike, table_from
from ravine.data.odd_cells import describe_spellings
from ravine.data.parsing import texts_of, weights_of
from ravine.data.source import Data
from ravine.data.targets import Target, TargetScaling, fit_target
from ravine.data.task_type import TaskType
from ravine.errors import DataError, join_first, nearest
from ravine.old_names import get_key
from ravine.part import part, setting
from ravine.sentinels import Sentinel, find_sentinels

MAX_LISTED_COLUMNS = 10  # in one sentence
MAX_DROPPED_COLUMNS = 20  # that get a sentence each
# of columns, in a sentence
KIND_ADJECTIVES = {
    "number": "numeric",
    "boolean": "boolean",
    "category": "categorical",
    "date": "date",
    "text": "text",
}
MAX_ODD_TEXTS = 20  # odd texts of a column that are kept
MAX_LISTED_TEXTS = 3  # in one sentence


@part
class Encoding:
    """How columns become numbers and codes; everything is fitted on the training split alone.

    `scale`: "standard" (mean 0, standard deviation 1), "robust" (median 0, interquartile range 1),
    "quantile" (normal by rank) or "none". `smooth_clip` c: x / √(1 + (x/c)²), after scaling.
    Categories of at most `one_hot_up_to` levels are one-hot (two levels: one column of ±1); larger
    ones give codes for embeddings, at most `codes_up_to`, the most frequent ones. A level with
    fewer than `rare` training rows is treated like an unseen one (code 0). Gaps in numbers become
    the median; where there are at least `rare`, `indicators` adds a column that says where. Dates
    become days and `cycles`. The words of a text are hashed to `text_features` numbers. `target`:
    regression targets are standardized, logged before if that is less skewed ("auto").
    """

    scale: Literal["standard", "robust", "quantile", "none"] = "standard"
    # 3: ames 0.852 -> 0.877, digits 0.971 -> 0.978, wine 0.941 -> 0.978
    smooth_clip: float | None = setting(default=3.0, gt=0)
    one_hot_up_to: int = setting(default=9, ge=0)
    codes_up_to: int = setting(default=100_000, ge=1)
    rare: int = setting(default=3, ge=1)
    indicators: bool = True
    dates: DateEncoding = "cycles"
    # R² of ridge on 3,000 synthetic titles of 2,000 words: 64 0.22, 256 0.44, 1024 0.61
    text_features: int = setting(default=256, ge=1)
    target: TargetScaling = "auto"


@dataclass(frozen=True)
class Encoder:
    """A fitted encoding: plain numbers and text only, exact through JSON.

    `features` are the names of the F numbers, `code_sizes` the numbers of codes (0 is unseen).
    `dialect` is how the training file was written, so that new files are read as it was.
    `sentinels` are the values that stand for gaps in numbers of the table; none after loading.
    """

    column_encoders: tuple[ColumnEncoder, ...]
    target: Target
    dialect: Dialect = Dialect()
    # what fitting did; not part of the encoder
    effects: Mapping[str, float] = field(default_factory=dict, compare=False)
    sentinels: tuple[Sentinel, ...] = field(default=(), compare=False)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The names of the numbers, [F]."""
        return tuple(name for column in self._number_encoders for name in column.names)

    @cached_property
    def flags(self) -> tuple[int, ...]:
        """The places of features that are no measured numbers: yes or no, one-hot, gaps, words."""
        flagged = [i in c.flags for c in self._number_encoders for i in range(len(c.names))]
        return tuple(np.flatnonzero(flagged).tolist())

    @cached_property
    def code_names(self) -> tuple[str, ...]:
        """The names of the columns of codes, [K]."""
        return tuple(column.name for column in self._code_encoders)

    @cached_property
    def code_sizes(self) -> tuple[int, ...]:
        """How many codes each of these columns has, [K]."""
        return tuple(column.size for column in self._code_encoders)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The table's column of each number and then of each code, [F + K]."""
        numbers = (column.name for column in self._number_encoders for _ in column.names)
        return (*numbers, *self.code_names)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        return tuple(column.name for column in self.column_encoders)

    @property
    def known_columns(self) -> KnownColumns:
        """What is known of tables that are to be predicted, for reading them from files."""
        measured = [c for c in self.column_encoders if isinstance(c, (Numeric, Date))]
        named = [c for c in self.column_encoders if isinstance(c, (OneHot, Codes))]
        texts = [c.name for c in measured if c.style]
        texts += [c.name for c in named if any(map(changes_as_number, c.levels))]
        plain = ("", "1,234.5") if self.dialect.decimal == "." else ("",)
        number_columns = [c for c in measured if isinstance(c, Numeric) and c.style in plain]
        numbers = {c.name: c.scaling.seen for c in number_columns}
        return KnownColumns(self.dialect, self.columns, tuple(texts), numbers)

    def read_column(self, column: Numeric | Date, values: pd.Series) -> np.ndarray:
        """The numbers, or days since 1970, in a column of a table, float64 [N], NaN where missing.

        Text in a column that was numbers has the run's decimal sign.
        """
        return self._in_dialect(column).read(values)

    def _in_dialect(self, column: Any) -> Any:
        usual = self.dialect.decimal == "." or self.dialect.separator == ","
        if usual or not isinstance(column, Numeric) or column.style:
            return column
        return dataclasses.replace(column, style="1.234,5")

    @property
    def _code_encoders(self) -> tuple[Codes, ...]:
        return tuple(c for c in self.column_encoders if isinstance(c, Codes))

    @property
    def _number_encoders(self) -> tuple[Any, ...]:
        return tuple(c for c in self.column_encoders if not isinstance(c, Codes))

    def apply(self, frame: ExamplesLike) -> Examples:
        """A table's rows as examples without targets. Columns that are not needed are passed over.

        `DataError`: a missing column (with the nearest name), text among numbers, infinities.
        """
        return self._encode(table_from(frame)[0])

    def _encode(self, frame: pd.DataFrame) -> Examples:
        for name in self.columns:
            if name not in frame.columns:
                why = nearest(name, list(frame.columns))
                do = "rename the column, or add it"
                raise DataError(f"the table has no column {name!r}", why=why, do=do)
        numeric = map(self._in_dialect, self._number_encoders)
        blocks = [column.encode(frame[column.name]) for column in numeric]
        numbers = np.concatenate(blocks, 1) if blocks else np.zeros((len(frame), 0), np.float32)
        codes = [column.codes(frame[column.name]) for column in self._code_encoders]
        found = torch.from_numpy(np.stack(codes, 1)) if codes else None
        return Examples(torch.from_numpy(numbers), found)

    def examples(self, frame: pd.DataFrame, weight: str | None = None) -> Examples:
        """The rows of a table that was checked, as examples with their targets and weights."""
        weights = None
        if weight is not None:
            weights = torch.from_numpy(weights_of(frame, weight).astype(np.float32))
        inputs = self._encode(frame)
        return dataclasses.replace(inputs, targets=self.target.encode(frame), weights=weights)

    def to_plain(self) -> dict[str, Any]:
        """Plain data, exact through JSON; `from_plain` gives the same encoder back."""
        plain = {
            "columns": [column_to_plain(c) for c in self.column_encoders],
            "target": self.target.to_plain(),
        }
        dialect = self.dialect.to_plain()
        return {**plain, "dialect": dialect} if dialect else plain

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Self:
        """The encoder that plain data describe."""
        columns = tuple(column_from_plain(c) for c in get_key(data, "columns"))
        return cls(columns, Target.from_plain(data["target"]), Dialect(**data.get("dialect", {})))


def fit_encoder(
    train: pd.DataFrame,
    task_type: TaskType,
    encoding: Encoding,
    *,
    data: Data,
    split_columns: Sequence[str],
    rows: int,
    notes: list[str],
    levels: Mapping[str, Counter] | None = None,
) -> Encoder:
    """Fit an encoder on the training rows; `rows` is how many rows the whole table has.

    Targets, the weight and the columns that the split needs are no inputs. `levels` count values of
    categories where `train` is but a sample. What was inferred or dropped is appended to `notes`.
    """
    if data.weight is not None:
        notes.append(f"{data.weight} weighs the rows and is not an input (data.weight).")
    for name in split_columns:
        notes.append(f"{name} splits the rows and is not an input (split.column).")
    excluded = {*task_type.names, *data.drop, *split_columns, data.weight}
    inputs = train.drop(columns=[name for name in train.columns if name in excluded])
    used, dropped = infer_column_types(inputs, rows=rows, hints=data.column_hints, notes=notes)
    # reported even where they do nothing
    requested = ["columns scaled"] * (encoding.scale != "none")
    requested += ["columns clipped"] * (encoding.smooth_clip is not None)
    effects = Counter(dict.fromkeys(requested, 0))
    found = _fit_columns(train, used, encoding, levels=levels or {}, effects=effects, notes=notes)
    fitted = [f for f in found if not isinstance(f, DroppedColumn)]
    dropped += [f for f in found if isinstance(f, DroppedColumn)]
    notes += _describe_columns(used, dropped)
    if not fitted:
        reasons = "; ".join(f"{d.name}: {d.why}" for d in dropped[:5]) or "there are only targets"
        what = "no column is left to learn from"
        raise DataError(what, why=reasons, do="give a table with usable columns")
    target, of_target = fit_target(train, task_type, encoding.target, notes)
    effects["columns dropped"] += len(dropped)
    shown = {name: float(n) for name, n in effects.items() if n or name in requested}
    return Encoder(tuple(fitted), target, effects=shown | of_target)


def _fit_columns(
    train: pd.DataFrame,
    used: Sequence[UsedColumn],
    encoding: Encoding,
    *,
    levels: Mapping[str, Counter],
    effects: Counter,
    notes: list[str],
) -> list[ColumnEncoder | DroppedColumn]:
    """What becomes of each column; of those with one content in training rows the first counts."""
    found: list[ColumnEncoder | DroppedColumn] = []
    first: dict[bytes, str] = {}
    for column in used:
        values = train[column.name]
        measured = column.kind in ("number", "date")
        # of others the codes: two columns that name the same groups differently are equal
        content = values_of(values, column) if measured else texts_of(values)[1]
        kind = column.kind if measured or column.kind == "text" else "category"
        key = hashlib.blake2b(kind.encode() + content.tobytes(), digest_size=16).digest()
        twin = first.setdefault(key, column.name)
        if twin != column.name:
            found.append(DroppedColumn(column.name, f"it repeats {twin}"))
        elif measured:
            found.append(_fit_measured(column, content, encoding, effects))
        elif column.kind == "boolean":
            effects["flags as ±1"] += 1
            found.append(Flag(column.name))
        elif column.kind == "text":
            effects["texts hashed"] += 1
            found.append(Text(column.name, encoding.text_features))
        else:
            counts = levels.get(column.name) or count_levels(values)
            notes += describe_spellings(column.name, counts)
            found.append(_fit_category(column.name, counts, encoding, effects))
    return found


def _fit_measured(
    column: UsedColumn, content: np.ndarray, encoding: Encoding, effects: Counter
) -> Numeric | Date | DroppedColumn:
    if column.kind == "date" and encoding.dates == "drop":
        return DroppedColumn(column.name, "dates are left out")
    scaling = Scaling.fit(content, encoding.scale, encoding.smooth_clip)
    gaps = int(np.isnan(content).sum())
    effects["gaps filled"] += gaps
    effects["columns scaled"] += scaling.center != 0 or scaling.factor != 1 or bool(scaling.knots)
    if encoding.smooth_clip is not None:
        unclipped = dataclasses.replace(scaling, clip=None)
        effects["columns clipped"] += bool((scaling(content) != unclipped(content)).any())
    indicated = encoding.indicators and gaps >= encoding.rare
    if column.kind == "number":
        return Numeric(column.name, column.style, scaling, indicated)
    effects["dates as cycles"] += encoding.dates == "cycles"
    cycles = covered_cycles(content) if encoding.dates == "cycles" else ()
    return Date(column.name, column.style, scaling, cycles, indicated)


def _fit_category(
    name: str, counts: Counter, encoding: Encoding, effects: Counter
) -> OneHot | Codes | DroppedColumn:
    frequent = [t for t, n in counts.items() if n >= encoding.rare]
    kept = sorted(frequent, key=lambda t: (-counts[t], t))[: encoding.codes_up_to]
    effects["rare levels joined"] += len(counts) - len(kept)
    if len(kept) == 0 or (len(kept) == 1 and len(counts) == 1):
        return DroppedColumn(name, f"none of its values occurs {encoding.rare} times")
    if len(kept) > encoding.one_hot_up_to:
        effects["categories as codes"] += 1
        return Codes(name, tuple(kept))
    effects["categories as one-hot"] += 1
    return OneHot(name, tuple(sorted(kept)))


def count_levels(values: pd.Series) -> Counter:
    """How often each value occurs, as text; gaps count as "(missing)"."""
    texts, codes = texts_of(values)
    counts = np.bincount(codes + 1, minlength=len(texts) + 1)
    named = zip([MISSING_LEVEL, *texts], counts.tolist(), strict=True)
    return Counter({text: count for text, count in named if count > 0})


def _describe_columns(used: Sequence[UsedColumn], dropped: Sequence[DroppedColumn]) -> list[str]:
    gone = {d.name for d in dropped}
    left = [c for c in used if c.name not in gone]
    kept = {kind: [c for c in left if c.kind == kind] for kind in KIND_ADJECTIVES}
    counts = [f"{len(columns)} {KIND_ADJECTIVES[k]}" for k, columns in kept.items() if columns]
    sentences = [f"Input columns: {', '.join(counts)}."] if counts else []
    texts = [c.name for c in kept["number"] if c.style and c.style != "days"]
    if texts:
        sentences.append(f"Numbers written as text: {join_first(texts, MAX_LISTED_COLUMNS)}.")
    dates = [f"{c.name} ({c.style})" if c.style else c.name for c in kept["date"]]
    if dates:
        sentences.append(f"Dates: {join_first(dates, MAX_LISTED_COLUMNS)}.")
    sentences += [f"{d.name} is not used: {d.why}." for d in dropped[:MAX_DROPPED_COLUMNS]]
    more = len(dropped) - MAX_DROPPED_COLUMNS
    return sentences + ([f"{more} more columns are not used."] if more > 0 else [])


def allow_odd_cells(
    encoder: Encoder, table: pd.DataFrame, notes: list[str]
) -> tuple[Encoder, pd.DataFrame]:
    """The encoder that takes texts among the numbers and dates of its table for gaps; and the table
    with numbers in place of their texts, so that these are read once. It knows the sentinels.

    `table` has all rows, not those of the training split alone. What is read as a gap is appended
    to `notes`; so are dates that stand for no end, such as 9999-12-31.
    """
    columns: list[ColumnEncoder] = []
    numbers = {}
    sentinels: list[Sentinel] = []
    for column in encoder.column_encoders:
        if isinstance(column, (Numeric, Date)):
            values = table[column.name]
            found, odd = column.read_cells(values)
            sentinels += find_sentinels(found[:, None], lambda _, name=column.name: name)
            if isinstance(column, Numeric) and column.style not in ("", "days"):
                numbers[column.name] = found
            if odd.any():
                kind = "number" if isinstance(column, Numeric) else "date"
                notes.append(_describe_gaps(values, odd, f"hold no {kind}"))
                texts = values[odd].map(str).value_counts().index[:MAX_ODD_TEXTS]
                column = dataclasses.replace(column, odd_texts=tuple(texts))
            if isinstance(column, Date):
                ends = np.isnan(without_open_ends(found)) & ~np.isnan(found)
                if ends.any():
                    notes.append(_describe_gaps(values, ends, "stand for an open end"))
        columns.append(column)
    sentinels += _find_target_sentinels(encoder.target, table, notes)
    whole = dataclasses.replace(encoder, column_encoders=tuple(columns), sentinels=tuple(sentinels))
    return whole, table.assign(**numbers)


def _find_target_sentinels(
    target: Target, table: pd.DataFrame, notes: list[str]
) -> tuple[Sentinel, ...]:
    """Those of numbers that are to be predicted, each also a note with its rows."""
    if target.task_type.kind != "regression":
        return ()
    y = target.numbers(table)
    found = find_sentinels(y, target.labels.__getitem__)
    for s in found:
        rows = table.index[y[:, s.place] == s.value]
        shown = join_first([str(row) for row in rows], MAX_LISTED_TEXTS)
        notes.append(
            f"The target {s.where} is {s.value:.6g} in {s.rows:,} of {len(y):,} rows ({shown}), "
            f"{s.distance:.3g} spreads from all others, and is learned as a number: if it stands "
            "for a gap, leave these cells empty."
        )
    return tuple(dataclasses.replace(s, place=-1) for s in found)


def _describe_gaps(values: pd.Series, rows: np.ndarray, why: str) -> str:
    first = values[rows].drop_duplicates()
    named = [f"{str(text)[:30]!r} in row {row}" for row, text in first.items()]
    shown = join_first(named, MAX_LISTED_TEXTS)
    count = f"{rows.sum():,} of {len(values):,} cells"
    return f"{values.name}: {count} {why} and are read as gaps: {shown}."
