"""What each column is: a number, a boolean, a category, a date, or nothing to learn from; and what the target asks.

Columns are judged by the training rows alone. Values are judged, not storage: numbers written as text are numbers.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from ravine.errors import DataError

Kind: TypeAlias = Literal["number", "boolean", "category", "date"]

NO = ("0", "false", "f", "no", "n", "off")
YES = ("1", "true", "t", "yes", "y", "on")
PAIRS = [set(pair) for pair in zip(NO, YES, strict=True)]
GAPS = ("", "?", "-", "--", ".", "na", "n/a", "n.a.", "nan", "none", "null", "missing", "unknown")  # among numbers
FORMATS = (
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d %b %Y",
    "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "ISO8601",
)  # fmt: skip
ENGLISH = re.compile(r"([-+]?)[$€£¥]?\s*([-+]?)(\d{1,3}(?:,\d{3})+|\d*)(\.\d*)?([eE][-+]?\d+)?\s*[%$€£¥]?")
CONTINENTAL = re.compile(r"([-+]?)[$€£¥]?\s*([-+]?)(\d{1,3}(?:\.\d{3})+|\d*)(,\d*)?([eE][-+]?\d+)?\s*[%$€£¥]?")
FEW = 20  # below so many rows, distinct values say nothing about identifiers
TIME_WORDS = re.compile(r"year|month|week|day|date|time|hour|age", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column that is used: its name, what it is, how its values are written (a date's format, a number's style)."""

    name: str
    kind: Kind
    style: str = ""


@dataclass(frozen=True)
class Dropped:
    """A column that is not used, and why."""

    name: str
    why: str


def examine(frame: pd.DataFrame, *, rows: int, categories: Sequence[str] = (), numbers: Sequence[str] = (),
            said: list[str] | None = None) -> tuple[list[Column], list[Dropped]]:  # fmt: skip
    """What the columns of the training rows are. `rows` is how many rows the whole table has, for finding row numbers.

    `categories` and `numbers` are taken to be what they are said to be. What was not obvious is appended to `said`.

    >>> examine(pd.DataFrame({"a": ["$3", "1,200"], "b": ["x", "y"], "c": ["7", "7"]}), rows=2)[0]
    [Column(name='a', kind='number', style='1,234.5'), Column(name='b', kind='category', style='')]
    """
    said = [] if said is None else said
    found = [_examined(frame[name], str(name), rows, categories, numbers, said) for name in frame.columns]
    return [f for f in found if isinstance(f, Column)], [f for f in found if isinstance(f, Dropped)]


def _examined(values: pd.Series, name: str, rows: int, categories: Sequence[str], numbers: Sequence[str],
              said: list[str]) -> Column | Dropped:  # fmt: skip
    texts, codes = texts_of(values)
    count = int((codes >= 0).sum())
    if count == 0:
        return Dropped(name, "it has no values in the training rows")
    if len(texts) == 1 and count == len(values):
        return Dropped(name, f"it is {texts[0]!r} in all training rows")
    if name in categories:
        return Column(name, "category")
    if name in numbers:
        return Column(name, "number", style_of(texts) or "1,234.5" if _is_text(values) else "")
    if isinstance(values.dtype, pd.CategoricalDtype):
        return Column(name, "category")
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or isinstance(values.dtype, pd.PeriodDtype):
        return Column(name, "date")
    if pd.api.types.is_timedelta64_dtype(values.dtype):
        return Column(name, "number", "days")
    if {t.lower() for t in texts} in PAIRS:
        return Column(name, "boolean")
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        if pd.api.types.is_complex_dtype(values.dtype):
            return Dropped(name, "it holds complex numbers")
        why = _numbers_rows(values.dropna().to_numpy(np.float64), name, rows)
        return Dropped(name, why) if why else Column(name, "number")
    return _examined_text(values, name, rows, texts, codes, said)


def _examined_text(values: pd.Series, name: str, rows: int, texts: list[str], codes: np.ndarray,
                   said: list[str]) -> Column | Dropped:  # fmt: skip
    first = values.dropna().iloc[0]
    if isinstance(first, (list, tuple, set, dict, np.ndarray)):
        return Dropped(name, "it holds lists, not single values")
    if isinstance(first, (datetime.date, np.datetime64)):
        return Column(name, "date")
    style = style_of(texts)
    if style:
        why = _numbers_rows(_plain(texts, style)[codes[codes >= 0]], name, rows)
        return Dropped(name, why) if why else Column(name, "number", style)
    found = _format_of(texts)
    if found:
        return Column(name, "date", found)
    count, words = int((codes >= 0).sum()), np.mean([t.count(" ") + 1 for t in texts[:1000]])
    if count >= FEW and len(texts) == count:
        return Dropped(name, "it has another text in every row")
    if count >= FEW and len(texts) > count / 2 and words >= 4:
        return Dropped(name, "it is free text")
    odd = [t for t in texts if np.isnan(_number(t, ENGLISH)) and t.lower() not in GAPS]
    if len(texts) > 10 and len(odd) < 0.1 * len(texts):
        said.append(f"{name} is taken as categories: most of it is numbers, but not {odd[0]!r}"
                    f"{' and others' if len(odd) > 1 else ''}.")  # fmt: skip
    return Column(name, "category")


def _numbers_rows(values: np.ndarray, name: str, rows: int) -> str:
    """Why a column of numbers is an identifier, or nothing: whole numbers, no two the same, that fill their range or
    are called so."""
    finite = values[np.isfinite(values)]
    if len(finite) < FEW or (finite != np.round(finite)).any() or len(np.unique(finite)) < len(finite):
        return ""
    words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    if words and (words[-1] in ("id", "ids", "pid", "uid", "uuid", "guid", "key", "index", "rownames", "order")):
        return "it is an identifier: another whole number in every row"
    if finite.max() - finite.min() < 1.1 * rows and not TIME_WORDS.search(name):
        return "it numbers the rows"
    return ""


# ------------------------------------------------------------------------------------------------ values


def texts_of(values: pd.Series) -> tuple[list[str], np.ndarray]:
    """The distinct values as text, and for each row the place of its own (-1 where it is missing).

    Numbers have one text however they are stored: 1, 1.0 and True are different storage of '1', '1' and 'True'.

    >>> texts_of(pd.Series([2.0, None, 7.5, 2.0]))
    (['2', '7.5'], array([ 0, -1,  1,  0]))
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    try:
        codes, distinct = pd.factorize(values)
    except TypeError:  # lists cannot be hashed
        codes, distinct = pd.factorize(values.map(str, na_action="ignore"))
    texts = [_text(v) for v in distinct]
    places: dict[str, int] = {}
    for text in texts:
        places.setdefault(text, len(places))
    if len(places) < len(texts):
        codes = np.append([places[t] for t in texts], -1)[codes]
    return list(places), codes


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def _is_text(values: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_timedelta64_dtype(values.dtype))


def style_of(texts: Sequence[str]) -> str:
    """How numbers are written in texts: `1,234.5` or `1.234,5`; nothing if they are not all numbers."""
    kept = [t for t in texts if t.lower() not in GAPS]
    if not kept:
        return ""
    for style, pattern in (("1,234.5", ENGLISH), ("1.234,5", CONTINENTAL)):
        if all(not np.isnan(_number(t, pattern)) for t in kept):
            return style
    return ""


def _number(text: str, pattern: re.Pattern) -> float:
    """The number that a text writes, NaN if it writes none.

    >>> _number("-$1,234.5", ENGLISH), _number("12 %", ENGLISH), _number("1.234,5", CONTINENTAL)
    (-1234.5, 12.0, 1234.5)
    """
    found = pattern.fullmatch(text)
    if found is None:
        return float(text) if text.lower().lstrip("+-") in ("inf", "infinity") else np.nan
    sign, other, whole, part, power = (g or "" for g in found.groups())
    digits = re.sub(r"[.,]", "", whole)
    if not digits and not part[1:] or (sign and other):
        return np.nan
    return float(f"{sign}{other}{digits or '0'}.{part[1:] or '0'}{power}")


def _plain(texts: Sequence[str], style: str) -> np.ndarray:
    pattern = CONTINENTAL if style == "1.234,5" else ENGLISH
    return np.array([_number(t, pattern) for t in texts], np.float64)


def numbers_of(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """The numbers of a column, float64 [N], NaN where missing. Raises `DataError` naming column, value and row."""
    if style == "days" or pd.api.types.is_timedelta64_dtype(values.dtype):
        found = pd.to_timedelta(values, errors="coerce").dt.total_seconds().to_numpy(np.float64) / 86400
        _refuse(values, np.isnan(found) & values.notna().to_numpy(), name, "a duration")
    elif _is_text(values):
        texts, codes = texts_of(values)
        numbers = _plain(texts, style)
        bad = np.array([np.isnan(x) and t.lower() not in GAPS for x, t in zip(numbers, texts, strict=True)] + [False])
        _refuse(values, bad[codes], name, "a number")
        found = np.append(numbers, np.nan)[codes]
    else:
        found = values.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    if np.isinf(found).any():
        row = int(np.flatnonzero(np.isinf(found))[0])
        raise DataError(f"{name} is infinite in row {values.index[row]}", why="networks need finite numbers",
                        do="repair the value, or leave it empty")  # fmt: skip
    return found


def weights_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column of example weights, float64 [N], NaN where missing."""
    return numbers_of(frame[name], name, style_of(texts_of(frame[name])[0]) if _is_text(frame[name]) else "")


def dates_of(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """Days since 1970 of a column of dates, float64 [N], NaN where missing. Raises `DataError` naming value and row."""
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        moments = pd.to_datetime(values, utc=True)
    else:
        texts = values.map(_text, na_action="ignore").replace("", None)
        moments = pd.to_datetime(texts, format=style or "ISO8601", errors="coerce", utc=True)
        _refuse(values, (moments.isna() & texts.notna()).to_numpy(), name, f"a date like {style or '2024-12-31'}")
    return ((moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(np.float64, na_value=np.nan)


def _format_of(texts: Sequence[str]) -> str:
    """The format of dates in which all texts are written, nothing if there is none."""
    if not all(re.search(r"\d", t) and len(t) >= 6 for t in texts[:50]):
        return ""
    sample = pd.Series(list(texts[:100]), dtype=object)
    for style in FORMATS:
        if not _parses(sample, style):
            continue
        if len(texts) <= 100 or _parses(pd.Series(list(texts), dtype=object), style):
            return style
    return ""


def _parses(texts: pd.Series, style: str) -> bool:
    return bool(pd.to_datetime(texts, format=style, errors="coerce", utc=True).notna().all())


def _refuse(values: pd.Series, bad: np.ndarray, name: str, wanted: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"{name} is {str(values.iloc[row])!r} in row {values.index[row]}", why=f"it must be {wanted}",
                        do="repair the value, or leave it empty")  # fmt: skip


# ------------------------------------------------------------------------------------------------ what the target asks


@dataclass(frozen=True)
class Asked:
    """What is to be learned: the kind of task, the target columns, their classes, and how numbers are written in them.

    Classes keep their types. For labels they are the names of the columns, or what the lists of one column hold.
    """

    kind: Literal["binary", "classes", "regression", "labels"]
    names: tuple[str, ...]
    classes: tuple[Any, ...] = ()
    styles: tuple[str, ...] = ()
    lists: bool = False


def asked(frame: pd.DataFrame, names: Sequence[str], task: str, said: list[str]) -> Asked:
    """What the target columns ask for. `task` is "auto" or a kind. Raises `DataError` where they do not fit."""
    names = tuple(names)
    values = frame[names[0]]
    if len(names) > 1:
        return _asked_many(frame, names, task, said)
    if isinstance(values.iloc[0], (list, tuple, set, np.ndarray)):
        _only(task, "labels", f"{names[0]} holds lists")
        classes = _sorted({_python(v) for row in values for v in row})
        said.append(f"{names[0]} holds lists of {len(classes)} labels: each is predicted by itself.")
        return Asked("labels", names, classes, lists=True)
    texts, codes = texts_of(values)
    if len(texts) == 1:
        raise DataError(f"the target {names[0]} is {texts[0]!r} in every row", why="there is nothing to learn",
                        do="choose another target")  # fmt: skip
    kind, why = (task, "as told") if task != "auto" else _kind_of(values, texts)
    if kind == "regression":
        style = style_of(texts) if _is_text(values) else ""
        numbers_of(values, names[0], style)
        said.append(f"{names[0]} is a number: regression ({why}).")
        return Asked("regression", names, styles=(style,))
    if kind == "labels":
        classes = _zero_one(frame, names)
        return Asked("labels", names, classes)
    classes = _classes(values, texts, codes)
    if kind == "binary" and len(classes) != 2:
        raise DataError(f"the target {names[0]} has {len(classes)} values", why="a binary task has two",
                        do='set task = "classes"')  # fmt: skip
    if len(classes) > max(2, len(values) / 2):
        raise DataError(f"the target {names[0]} has {len(classes)} different values in {len(values)} rows",
                        why=f"classes need several rows each; the first are {', '.join(map(repr, classes[:3]))}",
                        do="choose another target")  # fmt: skip
    if kind == "binary":
        said.append(f"{names[0]} is {classes[0]!r} or {classes[1]!r}: binary, {classes[1]!r} is the positive one.")
    else:
        said.append(f"{names[0]} has {len(classes)} values: classes ({why}).")
    return Asked(kind, names, classes)  # type: ignore[arg-type]


def _kind_of(values: pd.Series, texts: list[str]) -> tuple[str, str]:
    if len(texts) == 2:
        return "binary", "two values"
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "classes", "it is categorical"
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        raise DataError(f"the target {values.name} is a date", why="dates cannot be predicted",
                        do="make a number of it: days until it, or since it")  # fmt: skip
    style = style_of(texts)
    if _is_text(values) and not style:
        return "classes", "it is text"
    numbers = _plain(texts, style) if _is_text(values) else np.array([float(t) for t in texts])
    whole = bool((numbers == np.round(numbers)).all())
    if whole and len(texts) <= 20 and len(values) >= 10 * len(texts):
        return "classes", 'few whole numbers; if they are amounts, set task = "regression"'
    return "regression", f"{len(texts)} different {'whole numbers' if whole else 'numbers'}"


def _asked_many(frame: pd.DataFrame, names: tuple[str, ...], task: str, said: list[str]) -> Asked:
    if task in ("binary", "classes"):
        raise DataError(f"the task is {task} and there are {len(names)} targets: {', '.join(names)}",
                        why="classes are values of one column", do='name one target, or set task = "labels"')
    texts = {name: texts_of(frame[name])[0] for name in names}
    for name, found in texts.items():
        if len(found) < 2:
            raise DataError(f"the target {name} is {found[0]!r} in every row", why="there is nothing to learn",
                            do="leave it out")  # fmt: skip
    flags = all({t.lower() for t in found} in PAIRS for found in texts.values())
    if task == "labels" or (task == "auto" and flags):
        said.append(f"{', '.join(names)} are 0 or 1: labels, each predicted by itself.")
        return Asked("labels", names, _zero_one(frame, names))
    styles = tuple(style_of(texts[n]) if _is_text(frame[n]) else "" for n in names)
    for name, style in zip(names, styles, strict=True):
        if _is_text(frame[name]) and not style:
            raise DataError(f"the target {name} is {texts[name][0]!r} in row {frame.index[0]}",
                            why="several targets must all be numbers, or all 0 or 1", do="name one target")  # fmt: skip
        numbers_of(frame[name], name, style)
    said.append(f"{', '.join(names)} are numbers: regression with {len(names)} outputs.")
    return Asked("regression", names, styles=styles)


def _zero_one(frame: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        known = np.array([t.lower() in NO + YES for t in texts_of(frame[name])[0]] + [True])
        bad = ~known[texts_of(frame[name])[1]]
        _refuse(frame[name], bad, f"the label {name}", "0 or 1")
    return names


def _only(task: str, kind: str, why: str) -> None:
    if task not in ("auto", kind):
        raise DataError(f"the task is {task}", why=why, do=f'set task = "{kind}"')


def _classes(values: pd.Series, texts: list[str], codes: np.ndarray) -> tuple[Any, ...]:
    """The distinct values, sorted, in their own types."""
    first = pd.Series(np.arange(len(codes))).groupby(codes, sort=True).first()
    found = [_python(values.iloc[int(first[i])]) for i in range(len(texts))]
    return _sorted(v.strip() if isinstance(v, str) else v for v in found)


def _sorted(values: Any) -> tuple[Any, ...]:
    found = list(values)
    lowered = {str(v).lower() for v in found}
    if len(found) == 2 and lowered in PAIRS:
        return tuple(sorted(found, key=lambda v: str(v).lower() in YES))
    by: Callable[[Any], Any] = (lambda v: v) if len({isinstance(v, str) for v in found}) == 1 else str
    return tuple(sorted(found, key=by))


def _python(value: Any) -> Any:
    """A value in Python's own type, so that it can be written as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (str, int, float, bool)) else str(value)
