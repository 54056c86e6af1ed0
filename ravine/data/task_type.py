"""What the target asks for: binary, classes, regression or labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype

from ravine.data import parsing
from ravine.data.codes import find_code
from ravine.data.number_styles import read_written_numbers
from ravine.data.odd_cells import Reading, describe_spellings
from ravine.errors import DataError

TaskKind: TypeAlias = Literal["binary", "classes", "regression", "labels"]


@dataclass(frozen=True)
class TaskType:
    """What is to be learned: the kind, the target columns, their classes, how numbers are written.

    Classes keep their types. For labels they are the columns' names, or what one column's lists
    hold; `words` are what each column says for no and yes, unless that is 0 and 1.
    """

    kind: TaskKind
    names: tuple[str, ...]
    classes: tuple[Any, ...] = ()
    styles: tuple[str, ...] = ()
    lists: bool = False
    words: tuple[tuple[Any, Any], ...] = ()


def infer_task_type(
    frame: pd.DataFrame, names: Sequence[str], task: str, notes: list[str], decimal: str = "auto"
) -> TaskType:
    """What targets ask for; `task` must fit or be "auto" (`DataError`), `decimal` settles doubt."""
    name, *others = names
    names = (name, *others)
    if others:
        return _infer_several_targets(frame, names, task, notes=notes, decimal=decimal)
    values = frame[name]
    if isinstance(values.iloc[0], (list, tuple, set, np.ndarray)):
        if task not in ("auto", "labels"):
            do = 'set data.task = "labels"'
            raise DataError(f"the task is {task}", why=f"{name} holds lists", do=do)
        classes = _sort_classes({_python_value(v) for row in values for v in row})
        notes.append(f"Target {name}: multi-label classification, lists of {len(classes)} labels.")
        return TaskType("labels", names, classes, lists=True)
    distinct = values.nunique()
    if distinct == 1:
        what = f"the target {name} is {str(values.iloc[0])!r} in every row"
        raise DataError(what, why="there is nothing to learn", do="choose another target")
    kind, why = (task, "as told") if task != "auto" else _kind_of(values, distinct, decimal)
    if kind == "regression":
        reading = _read_numbers(values, decimal)
        style = reading.style
        parsing.numbers_of(values, name, style)
        notes.append(f"Target {name}: regression ({why}).")
        change = 'data.task = "classes"'
        notes += [f"{name} {d}".replace("data.categories", change) for d in reading.doubts]
        return TaskType("regression", names, styles=(style,))
    if kind == "labels":
        return _labels_of(frame, names)
    return _classes_of(values, name, kind, why=why, notes=notes)


def _classes_of(values: pd.Series, name: str, kind: str, *, why: str, notes: list[str]) -> TaskType:
    """The task of telling a column's values apart. Raises `DataError` where they are too many."""
    texts, codes = parsing.texts_of(values)
    # the first row of each class has it in its own type
    rows = pd.Series(np.arange(len(codes))).groupby(codes, sort=True).first()
    found = [_python_value(values.iloc[int(rows[i])]) for i in range(len(texts))]
    classes = _sort_classes(v.strip() if isinstance(v, str) else v for v in found)
    if kind == "binary" and len(classes) != 2:
        what = f"the target {name} has {len(classes)} values"
        raise DataError(what, why="a binary task has two", do='set data.task = "classes"')
    if len(classes) > max(2, len(values) / 2):
        first = ", ".join(map(repr, classes[:3]))
        what = f"the target {name} has {len(classes)} different values in {len(values)} rows"
        do = "choose another target"
        raise DataError(what, why=f"classes need several rows each; the first are {first}", do=do)
    if kind == "binary":
        no, yes = map(repr, classes)
        notes.append(f"Target {name}: binary classification, {no} or {yes} (the positive class).")
    else:
        notes.append(f"Target {name}: classification, {len(classes)} classes ({why}).")
    notes += describe_spellings(name, map(str, classes))
    return TaskType(kind, (name,), classes)  # type: ignore[arg-type]


def _kind_of(values: pd.Series, distinct: int, decimal: str) -> tuple[str, str]:
    if distinct == 2:
        return "binary", "two values"
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "classes", "a column of categories"
    if is_datetime64_any_dtype(values.dtype):
        what, why = f"the target {values.name} is a date", "dates cannot be predicted"
        raise DataError(what, why=why, do="convert it to a number, such as days since a fixed date")
    style = _read_numbers(values, decimal).style
    if parsing.is_text(values):
        code = find_code(parsing.texts_of(values)[0])[1] if 2 * distinct <= len(values) else ""
        if code:
            why = f'codes such as {code}; if they are amounts, set data.task = "regression"'
            return "classes", why
        if not style:
            return "classes", "a column of text"
    numbers = parsing.numbers_of(values, str(values.name), style)
    whole = bool((numbers == np.round(numbers)).all())
    if whole and distinct <= 20 and len(values) >= 10 * distinct:
        return "classes", 'few whole numbers; if they are amounts, set data.task = "regression"'
    return "regression", f"{distinct} different {'whole numbers' if whole else 'numbers'}"


def _read_numbers(values: pd.Series, decimal: str) -> Reading:
    """How a target writes numbers in text, if it does. `DataError` names a cell if few are odd."""
    found = parsing.read_column(values, read_written_numbers, decimal)
    if found is None:
        return Reading("")
    if found.odd:
        texts, codes = parsing.texts_of(values)
        odd = np.array([*(text in found.odd for text in texts), False])[codes]
        row = int(np.flatnonzero(odd)[0])
        what = f"the target {values.name} is {str(values.iloc[row])!r} in row {values.index[row]}"
        why = f"it must be a number, as {len(values) - odd.sum():,} of {len(values):,} values are"
        do = 'repair the value, or leave it empty; if these are classes, set data.task = "classes"'
        raise DataError(what, why=why, do=do)
    return found


def _infer_several_targets(
    frame: pd.DataFrame, names: tuple[str, ...], task: str, *, notes: list[str], decimal: str
) -> TaskType:
    if task in ("binary", "classes"):
        what = f"the task is {task} and there are {len(names)} targets: {', '.join(names)}"
        why = "classes are values of one column"
        raise DataError(what, why=why, do='name one target, or set data.task = "labels"')
    texts = {name: parsing.texts_of(frame[name])[0] for name in names}
    for name, found in texts.items():
        if len(found) < 2:
            what = f"the target {name} is {found[0]!r} in every row"
            raise DataError(what, why="there is nothing to learn", do="leave it out")
    flags = all({t.lower() for t in found} in parsing.YES_NO_PAIRS for found in texts.values())
    if task == "labels" or (task == "auto" and flags):
        task_type = _labels_of(frame, names)
        pairs = dict.fromkeys(task_type.words or [(0, 1)])
        shown = ", ".join(f"{no!r} or {yes!r}" for no, yes in pairs)
        notes.append(f"Targets {', '.join(names)}: multi-label classification ({shown}).")
        return task_type
    styles = tuple(_read_numbers(frame[name], decimal).style for name in names)
    for name, style in zip(names, styles, strict=True):
        if parsing.is_text(frame[name]) and not style:
            what = f"the target {name} is {texts[name][0]!r} in row {frame.index[0]}"
            why = "several targets must all be numbers, or all 0 or 1"
            raise DataError(what, why=why, do="name one target")
        parsing.numbers_of(frame[name], name, style)
    notes.append(f"Targets {', '.join(names)}: regression with {len(names)} outputs.")
    return TaskType("regression", names, styles=styles)


def _labels_of(frame: pd.DataFrame, names: tuple[str, ...]) -> TaskType:
    """The task of columns that each say no or yes. Raises `DataError` where one says neither."""
    words = []
    for name in names:
        signs = parsing.signs_of(frame[name])
        bad = (signs == 0) & frame[name].notna().to_numpy()
        parsing.refuse_values(frame[name], bad, f"the label {name}", "0 or 1")
        said = [_commonest(frame[name][signs == sign], word) for sign, word in ((-1, 0), (1, 1))]
        is_written = any(isinstance(word, (str, bool)) and word not in ("0", "1") for word in said)
        words.append(tuple(said) if is_written else (0, 1))
    has_words = any(pair != (0, 1) or isinstance(pair[0], bool) for pair in words)
    return TaskType("labels", names, names, words=tuple(words) if has_words else ())


def _commonest(values: pd.Series, otherwise: Any) -> Any:
    """The most frequent value, if there is any."""
    found = _python_value(values.value_counts().index[0]) if len(values) else otherwise
    return found.strip() if isinstance(found, str) else found


def _sort_classes(values: Any) -> tuple[Any, ...]:
    found = list(values)
    lowered = {str(v).lower() for v in found}
    if len(found) == 2 and lowered in parsing.YES_NO_PAIRS:
        return tuple(sorted(found, key=lambda v: str(v).lower() in parsing.YES_WORDS))
    mixed = len({isinstance(v, str) for v in found}) > 1
    return tuple(sorted(found, key=str if mixed else None))


def _python_value(value: Any) -> Any:
    """A value in Python's own type, so that it can be written as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (str, int, float, bool)) else str(value)
