"""Classes of too few rows to be both learned and judged: left out, or joined into one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ravine.data.parsing import counts_of, texts_of
from ravine.data.source import Data
from ravine.data.task_type import TaskType, infer_task_type
from ravine.errors import DataError, join_first

JOINED_CLASS = "(other)"


def leave_out_rare_classes(
    table: pd.DataFrame, own: int, targets: Sequence[str], data: Data, notes: list[str]
) -> tuple[pd.DataFrame, np.ndarray, TaskType]:
    """What the targets ask for; the table without rows of rare classes, or with these joined; and
    the places of its rows.

    A class is rare where fewer than `data.min_class_rows` of the first `own` rows have it; the
    other rows are a test file's. What is done with it is appended to `notes`.
    """
    every, tentative = np.arange(len(table)), []
    task_type = infer_task_type(table, targets, data.task, tentative, data.decimal)
    rare = _rare_rows(table, own, task_type, data.min_class_rows)
    if not rare.any():
        notes += tentative
        return table, every, task_type
    name = targets[0]
    classes, codes = texts_of(table[name][rare])
    listed = join_first([repr(c) for c in classes])
    least = data.min_class_rows
    few = f"{len(classes)} classes of {name} have fewer than {least} rows"
    few = few if len(classes) > 1 else f"One class of {name} has fewer than {least} rows"
    if data.rare_classes == "join" and int(rare[:own].sum()) >= least:
        table = table.assign(**{name: table[name].astype(object).mask(rare, JOINED_CLASS)})
        notes.append(f"{few}: they are joined into {JOINED_CLASS!r} ({listed}).")
        return table, every, infer_task_type(table, targets, data.task, notes, data.decimal)
    if table[name][~rare].nunique() < 2:
        why, do = "then there is nothing to tell apart", "add rows, or set data.min_class_rows = 1"
        raise DataError(f"only one class of {name} has {least} rows or more", why=why, do=do)
    change = "data.min_class_rows = 1 keeps them"
    gone = f"{rare.sum()} rows are" if rare.sum() > 1 else "one row is"
    notes.append(f"{few}: {gone} left out ({listed}); {change}.")
    table = table[~rare]
    return table, every[~rare], infer_task_type(table, targets, data.task, notes, data.decimal)


def _rare_rows(table: pd.DataFrame, own: int, task_type: TaskType, least: int) -> np.ndarray:
    if task_type.kind not in ("binary", "classes"):
        return np.zeros(len(table), bool)
    texts, codes = texts_of(table[task_type.names[0]])
    counts = np.zeros(len(texts), np.int64)
    found = counts_of(codes[:own])
    counts[: len(found)] = found
    return (counts < least)[codes]
