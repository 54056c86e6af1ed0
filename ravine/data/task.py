"""From a source to a task: read, infer the type, split, fit the encoder on training rows, encode.

Letters: N examples, F numbers, K columns of codes, C outputs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ravine.data.encoder import Encoder, Encoding, fit_encoder
from ravine.data.examples import Examples
from ravine.data.images import ImageEncoder, Images, read_images
from ravine.data.source import (
    Data,
    check_columns,
    check_weights,
    describe_excluded,
    open_table,
    parse_size,
    with_targets,
)
from ravine.data.splits import AnySplit, Given, check_row_count, check_splits
from ravine.data.streaming import RowGroups, is_larger_than, survey_table
from ravine.data.tables import TableLike, read_table
from ravine.data.task_type import TaskKind, infer_task_type
from ravine.errors import DataError, nearest
from ravine.old_names import with_earlier_keys
from ravine.protocols import Signature


@dataclass(frozen=True)
class Task:
    """What to learn from which examples.

    `train` is `RowGroups` where the table is larger than the memory allowed. `validation` and
    `test` are None where the split has none. `rows` are the numbers of each split's rows in the
    source (a test file's come after it). `notes` are sentences about what was inferred and dropped.
    Equal tasks have equal fingerprints.
    """

    encoder: Encoder | ImageEncoder
    train: Examples | RowGroups
    validation: Examples | None
    test: Examples | None
    notes: tuple[str, ...]
    fingerprint: str
    rows: Mapping[str, np.ndarray]

    @property
    def kind(self) -> TaskKind:
        return self.encoder.target.task_type.kind

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target's columns."""
        return self.encoder.target.task_type.names

    @property
    def classes(self) -> tuple[Any, ...]:
        return self.encoder.target.task_type.classes

    @property
    def effects(self) -> Mapping[str, float]:
        """How much each technique of the encoding did, 0 for nothing."""
        return self.encoder.effects

    @property
    def outputs(self) -> int:
        """How many outputs a network needs."""
        return self.encoder.target.outputs

    @property
    def train_examples(self) -> Examples:
        """The training examples. Raises `DataError` where they are read in pieces."""
        if isinstance(self.train, RowGroups):
            raise DataError(
                "the training rows are read in pieces",
                why="examples in memory are needed",
                do="leave data.memory out",
            )
        return self.train

    @property
    def signature(self) -> Signature:
        """What goes in and comes out of a network for this task."""
        encoder = self.encoder
        image = encoder.image if isinstance(encoder, ImageEncoder) else None
        codes, flags = tuple(encoder.code_sizes), tuple(encoder.flags)
        return Signature(len(encoder.features), codes, self.outputs, image, flags)


def load(
    data: Data | Images,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    frame: TableLike | None = None,
) -> Task:
    """The task of a source, or of a `frame` from Python (a DataFrame, a mapping, or a pair X, y).

    Raises `DataError` for what is wrong with the table, with what to do about it.

    >>> from ravine.data.splits import Stratified
    >>> task = load(Data(source="iris"), Stratified(), Encoding(), seed=0)
    >>> task.kind, task.classes, task.train.count, task.validation.count, task.test.count
    ('classes', ('setosa', 'versicolor', 'virginica'), 102, 24, 24)
    """
    if isinstance(data, Images):
        return _load_images(data, split, encoding, seed=seed, frame=frame)
    if data.test is not None and not isinstance(split, Given):  # the test rows are another file's
        split = dataclasses.replace(split, test=0.0)
    memory = None if data.memory is None else parse_size(data.memory)
    if frame is None and memory is not None and is_larger_than(Path(data.source), memory):
        return _load_streamed(data, split, encoding, seed=seed, memory=memory)
    notes: list[str] = []
    table, targets = open_table(data, frame, notes)
    check_columns(list(table.columns), data, targets)
    table, places = with_targets(table, targets, notes)
    own = len(table)
    if data.test is not None:
        tested = _test_table(data.test, targets, notes).reindex(columns=table.columns)
        places = np.append(places, len(table) + np.arange(len(tested)))
        table = pd.concat([table, tested])
    check_row_count(own, 0, 0)
    task_type = infer_task_type(table, targets, data.task, notes)
    check_weights(table, data.weight)
    rows = split.rows(table.iloc[:own], task_type, seed, notes)
    if data.test is not None:
        rows = rows._replace(test=np.arange(own, len(table)))
    check_splits(rows, table, task_type, notes)
    notes += describe_excluded(data, split.columns())
    skip = (*data.drop, *split.columns(), *(() if data.weight is None else (data.weight,)))
    encoder = fit_encoder(
        table.iloc[rows.train],
        task_type,
        encoding,
        rows=len(table),
        skip=skip,
        categories=data.categories,
        numbers=data.numbers,
        notes=notes,
    )
    examples = {
        name: encoder.examples(table.iloc[r], data.weight) if len(r) else None
        for name, r in rows._asdict().items()
    }
    numbers = {name: places[r] for name, r in rows._asdict().items()}
    sizes = "{} rows train, {} validate, {} test".format(*map(len, rows))
    notes.append(f"{sizes} ({type(split).__name__}).")
    return _task(encoder, examples, numbers, notes, _fingerprint(encoder, examples, numbers))


def _task(
    encoder: Encoder | ImageEncoder,
    examples: Mapping[str, Examples | None],
    rows: Mapping[str, np.ndarray],
    notes: list[str],
    fingerprint: str,
    *,
    groups: RowGroups | None = None,
) -> Task:
    train = groups or examples["train"]
    assert train is not None  # splits raise before
    held_out = examples["validation"], examples["test"]
    return Task(encoder, train, *held_out, tuple(notes), fingerprint, rows)


def _load_streamed(
    data: Data, split: AnySplit, encoding: Encoding, *, seed: int, memory: int
) -> Task:
    notes: list[str] = []
    groups, examples, rows, digest = survey_table(
        data, split, encoding, seed=seed, memory=memory, notes=notes
    )
    encoder = groups.encoder
    if data.test is not None:
        tested = _test_table(data.test, data.target, notes)
        examples["test"] = encoder.examples(tested, data.weight)
    if examples["validation"] is None and split.validation > 0:
        raise DataError(
            "no row is given to validation",
            why="the recipe keeps a validation split",
            do="mark some rows as validation",
        )
    counts = {name: 0 if e is None else e.count for name, e in examples.items()}
    notes.append(
        f"Split: {groups.count} training, {counts['validation']} validation and {counts['test']} "
        "test rows."
    )
    fingerprint = _fingerprint(encoder, examples, rows, digest)
    return _task(encoder, examples, rows, notes, fingerprint, groups=groups)


def _load_images(
    data: Images, split: AnySplit, encoding: Encoding, *, seed: int, frame: TableLike | None
) -> Task:
    notes: list[str] = []
    encoder, examples, rows, digest = read_images(
        data, split, encoding, seed=seed, frame=frame, notes=notes
    )
    # the digest covers the pixels
    targets = {
        name: e and Examples(torch.empty(e.count, 0), targets=e.targets)
        for name, e in examples.items()
    }
    fingerprint = _fingerprint(encoder, targets, rows, digest)
    return _task(encoder, examples, rows, notes, fingerprint)


def _test_table(path: str, targets: tuple[str, ...], notes: list[str]) -> pd.DataFrame:
    tested = read_table(path, notes)
    for name in targets:
        if name not in tested.columns:
            raise DataError(
                f"{path} has no column {name!r}",
                why=nearest(name, list(tested.columns)),
                do="give a test file with the target",
            )
    return with_targets(tested, targets, notes)[0]


def _fingerprint(
    encoder: Encoder | ImageEncoder,
    examples: Mapping[str, Examples | None],
    rows: Mapping[str, np.ndarray],
    digest: str = "",
) -> str:
    """A hash of all that training can see: encoder, encoded examples, which rows they are."""
    plain = json.dumps(with_earlier_keys(encoder.to_plain()))
    hashed = hashlib.blake2b(plain.encode() + digest.encode(), digest_size=16)
    for name in sorted(examples):
        hashed.update(name.encode())
        found = examples[name]
        for tensor in () if found is None else found.fields:
            shape = b"-" if tensor is None else str(tuple(tensor.shape)).encode()
            hashed.update(shape + (b"" if tensor is None else tensor.numpy().tobytes()))
    for name in sorted(rows):
        hashed.update(rows[name].astype(np.int64).tobytes())
    return hashed.hexdigest()
