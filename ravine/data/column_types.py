"""What each column is: a number, a boolean, a category, a date, or nothing to learn from.

Columns are judged by the training rows alone. Values are judged, not storage: numbers written as
text are numbers.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from ravine.data.parsing import (
    ENGLISH,
    FORMATS,
    GAPS,
    PAIRS,
    format_of,
    is_text,
    number_of,
    numbers_in,
    numbers_of,
    parses,
    style_of,
    texts_of,
)

Kind: TypeAlias = Literal["number", "boolean", "category", "date"]

FEW = 20  # below so many rows, distinct values say nothing about identifiers
TIME_WORDS = re.compile(r"year|month|week|day|date|time|hour|age", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column that is used: its name, what it is, how its values are written (a date's format, a
    number's style).
    """

    name: str
    kind: Kind
    style: str = ""


@dataclass(frozen=True)
class Dropped:
    """A column that is not used, and why."""

    name: str
    why: str


def examine(
    frame: pd.DataFrame,
    *,
    rows: int,
    categories: Sequence[str] = (),
    numbers: Sequence[str] = (),
    said: list[str] | None = None,
) -> tuple[list[Column], list[Dropped]]:
    """What the columns of the training rows are. `rows` is how many rows the whole table has, for
    finding row numbers.

    `categories` and `numbers` are taken to be what they are said to be. What was not obvious is
    appended to `said`.

    >>> examine(pd.DataFrame({"a": ["$3", "1,200"], "b": ["x", "y"], "c": ["7", "7"]}), rows=2)[0]
    [Column(name='a', kind='number', style='1,234.5'), Column(name='b', kind='category', style='')]
    """
    said = [] if said is None else said
    found = [
        _examined(frame[name], str(name), rows, categories, numbers, said) for name in frame.columns
    ]
    return [f for f in found if isinstance(f, Column)], [f for f in found if isinstance(f, Dropped)]


def _examined(
    values: pd.Series,
    name: str,
    rows: int,
    categories: Sequence[str],
    numbers: Sequence[str],
    said: list[str],
) -> Column | Dropped:
    count = int(values.notna().sum())
    if count == 0:
        return Dropped(name, "it has no values in the training rows")
    if _is_number(values) and name not in categories:
        return _examined_numbers(values, name, rows, forced=name in numbers)
    texts, codes = texts_of(values)
    if len(texts) == 1 and count == len(values):
        return Dropped(name, f"it is {texts[0]!r} in all training rows")
    if name in categories:
        return Column(name, "category")
    if name in numbers:
        return Column(name, "number", style_of(texts) or "1,234.5" if is_text(values) else "")
    if isinstance(values.dtype, pd.CategoricalDtype):
        return Column(name, "category")
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or isinstance(
        values.dtype, pd.PeriodDtype
    ):
        return Column(name, "date")
    if pd.api.types.is_timedelta64_dtype(values.dtype):
        return Column(name, "number", "days")
    if {t.lower() for t in texts} in PAIRS:
        return Column(name, "boolean")
    return _examined_text(values, name, rows, texts, codes, said)


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(
        values.dtype
    )


def _examined_numbers(values: pd.Series, name: str, rows: int, *, forced: bool) -> Column | Dropped:
    if pd.api.types.is_complex_dtype(values.dtype):
        return Dropped(name, "it holds complex numbers")
    numbers = numbers_of(values, name)
    present = numbers[~np.isnan(numbers)]
    low, high = present.min(), present.max()
    if low == high and len(present) == len(numbers):
        return Dropped(name, f"it is {low:g} in all training rows")
    if forced:
        return Column(name, "number")
    if low == 0 and high == 1 and ((present == 0) | (present == 1)).all():
        return Column(name, "boolean")
    why = _numbers_rows(present, name, rows)
    return Dropped(name, why) if why else Column(name, "number")


def _examined_text(
    values: pd.Series, name: str, rows: int, texts: list[str], codes: np.ndarray, said: list[str]
) -> Column | Dropped:
    first = values.dropna().iloc[0]
    if isinstance(first, (list, tuple, set, dict, np.ndarray)):
        return Dropped(name, "it holds lists, not single values")
    if isinstance(first, (datetime.date, np.datetime64)):
        return Column(name, "date")
    count, coded = int((codes >= 0).sum()), _coded(texts)
    if coded and len(texts) < count:
        said.append(
            f"{name} is taken as categories: its numbers begin with zeros ({coded!r}). If they are "
            f"amounts, "
            f"set data.numbers = [{name!r}]."
        )
        return Column(name, "category")
    style = "" if coded else style_of(texts)
    if style:
        why = _numbers_rows(numbers_in(texts, style)[codes[codes >= 0]], name, rows)
        return Dropped(name, why) if why else Column(name, "number", style)
    found = format_of(texts)
    if found:
        said += _other_way(texts, found, name)
        return Column(name, "date", found)
    words = np.mean([t.count(" ") + 1 for t in texts[:1000]])
    if count >= FEW and len(texts) == count:
        return Dropped(name, "it has another text in every row")
    if count >= FEW and len(texts) > count / 2 and words >= 4:
        return Dropped(name, "it is free text")
    odd = [t for t in texts if np.isnan(number_of(t, ENGLISH)) and t.lower() not in GAPS]
    if len(texts) > 10 and len(odd) < 0.1 * len(texts):
        said.append(
            f"{name} is taken as categories: most of it is numbers, but not {odd[0]!r}"
            f"{' and others' if len(odd) > 1 else ''}."
        )
    return Column(name, "category")


def _coded(texts: Sequence[str]) -> str:
    """The first of whole numbers that begins with a zero: such are codes, not amounts. Nothing if
    there is none.
    """
    led = next((t for t in texts if re.fullmatch(r"0\d+", t)), "")
    return led if led and all(t.isdecimal() or t.lower() in GAPS for t in texts) else ""


def _other_way(texts: Sequence[str], style: str, name: str) -> list[str]:
    """What is said of dates that could as well be read with day and month exchanged."""
    exchanged = style.translate(str.maketrans("md", "dm"))
    if (
        "%m" not in style
        or exchanged not in FORMATS
        or not parses(pd.Series(list(texts), dtype=object), exchanged)
    ):
        return []
    moment = pd.to_datetime(texts[0], format=style)
    return [
        f"{name} could have day and month the other way round: {texts[0]} is taken as {moment.day} "
        f"{moment.month_name()}. Written as {moment:%Y-%m-%d} it is certain."
    ]


def is_identifier(name: str) -> bool:
    """Whether a column is called as identifiers are.

    >>> is_identifier("customerId"), is_identifier("paid")
    (True, False)
    """
    words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    return bool(words) and words[-1] in (
        "id",
        "ids",
        "pid",
        "uid",
        "uuid",
        "guid",
        "key",
        "index",
        "rownames",
        "order",
    )


def _numbers_rows(values: np.ndarray, name: str, rows: int) -> str:
    """Why a column of numbers is an identifier, or nothing: whole numbers, no two the same, that
    fill their range or are called so."""
    finite = values[np.isfinite(values)]
    if (
        len(finite) < FEW
        or (finite != np.round(finite)).any()
        or len(np.unique(finite)) < len(finite)
    ):
        return ""
    if is_identifier(name):
        return "it is an identifier: another whole number in every row"
    if finite.max() - finite.min() < 1.1 * rows and not TIME_WORDS.search(name):
        return "it numbers the rows"
    return ""
