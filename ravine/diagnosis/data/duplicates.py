"""Examples that occur more than once, and how many of them chance explains.

Shapes: N examples, F columns.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ravine.diagnosis.baseline_learners import (
    Array,
    evenly_spaced_rows,
    has_measured_numbers,
    row_bytes,
)
from ravine.diagnosis.data.data_kinds import MAX_SAMPLE
from ravine.diagnosis.data.profile import Duplicates

MAX_COMPARED_BYTES = 200_000_000  # of inputs that are compared for copies
MAX_PERMUTED_COLUMNS = 200  # in wider tables no two rows are equal by chance
PERMUTATION_COUNT = 5  # of each column


def find_duplicates(x: Array, y: Array, validation: tuple[Array, Array] | None) -> Duplicates:
    """Examples that occur more than once, by their bytes, also in both parts."""
    most = max(100, MAX_COMPARED_BYTES // max(1, x[0].nbytes))
    kept = evenly_spaced_rows(len(x), most)
    rows, answers = row_bytes(x[kept]), row_bytes(y[kept])
    first = dict(zip(reversed(rows), reversed(answers), strict=True))  # the first of each input
    counts = Counter(rows)
    sample = x[evenly_spaced_rows(len(x), MAX_SAMPLE)]
    natural = not has_measured_numbers(sample.reshape(len(sample), -1))
    copies = 0.0
    if len(counts) < len(rows):
        flat = x[kept].reshape(len(kept), -1)
        copies = _expect_by_permutation(flat, lambda sums: len(sums) - len(np.unique(sums)))
    found = Duplicates(
        compared=len(rows),
        distinct=len(counts),
        most_frequent=max(counts.values()),
        natural=natural,
        contradicted=sum(first[row] != answer for row, answer in zip(rows, answers, strict=True)),
        repeated=_repeated_share(counts),
        expected_copies=copies,
    )
    if validation is None:
        return found
    new_x = validation[0]
    if new_x.shape[1:] != x.shape[1:] or new_x.dtype != x.dtype:
        return found
    some = evenly_spaced_rows(len(new_x), most)
    new_rows, new_answers = (row_bytes(each[some]) for each in validation)
    known = set(zip(rows, answers, strict=True))
    overlap = sum(pair in known for pair in zip(new_rows, new_answers, strict=True))
    expected = 0.0
    if natural:
        expected = _expect_overlap(counts, Counter(new_rows))
    elif overlap:
        part, new_part = (x[kept], y[kept]), (new_x[some], validation[1][some])
        expected = _expect_permuted_overlap(part, new_part)
    found = replace(found, overlap=overlap, expected_overlap=expected)
    return replace(found, validation_compared=len(new_rows))


def _repeated_share(counts: Counter[bytes]) -> float:
    """The share of the rows that occur more than once."""
    return sum(count for count in counts.values() if count > 1) / counts.total()


def _expect_overlap(counts: Counter[bytes], new_counts: Counter[bytes]) -> float:
    """How many of the new rows would be among the others if any row were as likely to be there."""
    rows, new_rows = counts.total(), new_counts.total()
    pairs = sum(count * (count - 1) for count in new_counts.values())
    alike = pairs / max(1, new_rows * (new_rows - 1))
    return float(new_rows * max(_repeated_share(counts), 1 - (1 - alike) ** rows))


def _expect_permuted_overlap(part: tuple[Array, Array], new_part: tuple[Array, Array]) -> float:
    """How many new rows would be among the others by chance; inputs and targets are columns."""
    tables = [np.concatenate([v.reshape(len(v), -1) for v in pair], 1) for pair in (part, new_part)]
    known = len(tables[0])
    return _expect_by_permutation(
        np.concatenate(tables), lambda sums: int(np.isin(sums[known:], sums[:known]).sum())
    )


def _expect_by_permutation(rows: Array, count: Callable[[Array], int]) -> float:
    """What `count` would give if one column were paired with the rest at random: the least over the
    columns. It gets a number for each row [N], equal where rows are. A column that is not needed to
    distinguish the rows says nothing; where no column is needed, no two rows are equal by chance.
    """
    if rows.shape[1] > MAX_PERMUTED_COLUMNS:
        return 0.0
    draw = np.random.default_rng(0)
    # a random number for each value of a column: rows are equal where the sums of theirs are
    codes = (np.unique(column, return_inverse=True)[1].reshape(-1) for column in rows.T)
    names = np.stack([draw.integers(0, 2**63, c.max() + 1, np.uint64)[c] for c in codes])
    whole = names.sum(0)
    distinct = len(np.unique(whole))
    expected = []
    for own in names:
        rest = whole - own
        if len(np.unique(rest)) == distinct:
            continue
        mixed = [rest + draw.permutation(own) for _ in range(PERMUTATION_COUNT)]
        expected.append(float(np.mean([count(sums) for sums in mixed])))
    return min(expected, default=0.0)
