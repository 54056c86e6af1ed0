"""What inputs and targets are, by their type, shape and values, and how often each class occurs.

Shapes: N examples, F columns, T places in a sequence, K outputs.
"""

from dataclasses import replace

import numpy as np

from ravine.diagnosis.baseline_learners import Array, are_tokens, evenly_spaced_rows
from ravine.diagnosis.data.profile import ClassCounts

MAX_SAMPLE = 4000  # examples for what is costly
IGNORED_TARGET = -100  # cross_entropy leaves it out


def find_layout(x: Array) -> str:
    """The layout of inputs by their shape; see `DataProfile`."""
    if are_tokens(x) and x.shape[1] > 1:
        return "tokens"
    return {0: "table", 1: "table", 2: "table", 3: "signals"}.get(x.ndim, "images")


def find_task_kind(x: Array, y: Array, outputs: tuple[int, ...] = ()) -> str:
    """What targets are, by their type, shape and values; see `DataProfile`."""
    one = y.ndim == 1 or y.shape[1:] == (1,)
    if y.shape == x.shape and y.ndim > 1 and y.dtype.kind == "f" and _are_inputs(x, y):
        return "inputs"
    if y.dtype.kind in "iub":
        if one:
            return "binary" if outputs == (1,) and len(np.unique(y)) <= 2 else "classes"
        if y.ndim == 2 and y.shape[1:] == x.shape[1:2] and are_tokens(x):
            return "next" if y.shape[1] > 2 and _are_next_tokens(x, y) else "tokens"
        otherwise = "tokens"
        zero_or_one = y.min() >= 0 and y.max() <= 1
    else:
        values = tuple(np.unique(y[evenly_spaced_rows(len(y), MAX_SAMPLE)]))
        if one:
            return "binary" if values in ((0.0, 1.0), (-1.0, 1.0)) else "number"
        otherwise = "numbers"
        zero_or_one = values == (0.0, 1.0)
    if not zero_or_one or y.ndim != 2:
        return otherwise
    return "classes" if (y.sum(1) == 1).all() else "labels"


def count_classes(y: Array, kind: str) -> dict[int, int]:
    """Examples by class, also of one-hot targets, or by label; ignored targets do not count."""
    if kind == "labels" or (kind == "classes" and y.ndim == 2 and y.shape[1] > 1):
        return dict(enumerate(int(count) for count in (y > 0.5).sum(0)))
    if kind not in ("classes", "binary", "tokens", "next"):
        return {}
    values, counts = np.unique(y[y != IGNORED_TARGET], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def profile_classes(
    y: Array, kind: str, outputs: tuple[int, ...], names: tuple[str, ...] = ()
) -> ClassCounts:
    """Examples by class, and how many targets have no output of their own."""
    found = ClassCounts(names=names, train=count_classes(y, kind), outputs=outputs)
    if kind not in ("classes", "tokens", "next") or y.dtype.kind not in "iu" or not outputs:
        return found
    if kind == "classes" and y.ndim > 1 and y.shape[1] > 1:
        return found
    by_place = kind != "classes" and len(outputs) > 1  # outputs [T, K] of one example, or [K, T]
    classes = outputs[-1 if by_place else 0]
    if classes < 2 or (by_place and outputs[:1] != y.shape[1:2]):
        return found
    known = y[y != IGNORED_TARGET]
    below = int((known < 0).sum())
    return replace(found, below_zero=below, beyond_outputs=int((known >= classes).sum()))


def single_answers(y: Array, kind: str) -> Array | None:
    """One number for each example: its class or value."""
    if kind == "classes" and y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(1)
    return y.reshape(-1) if kind in ("classes", "binary", "number") and y.size == len(y) else None


def _are_inputs(x: Array, y: Array) -> bool:
    """Whether targets are the inputs, but for a scale or for some places."""
    rows = evenly_spaced_rows(len(x), 500)
    a, b = (each[rows].reshape(len(rows), -1).astype(float) for each in (x, y))
    if a.shape[1] < 2 or a.std() == 0:
        return False
    if float((a == b)[a != 0].mean()) > 0.5:
        return True
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    return len(a) > 1 and a.std() > 0 and b.std() > 0 and float(np.corrcoef(a, b)[0, 1]) > 0.999


def _are_next_tokens(x: Array, y: Array) -> bool:
    """Whether targets are the inputs, one place later (but for those that are ignored)."""
    known = y[:, :-1] != IGNORED_TARGET
    return bool(known.any()) and float((y[:, :-1] == x[:, 1:])[known].mean()) > 0.95
