"""From a source to a task: read, infer the type of task, split, fit the encoder on the training
rows, encode.

Letters: N examples, F numbers, K columns of codes, C outputs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
from ravine.data.splits import SPLIT_NAMES, AnySplit, SplitRows, check_row_count, check_splits
from ravine.data.streaming import RowGroups, is_larger_than, survey_table
from ravine.data.tables import TableLike, read_table
from ravine.data.task_type import infer_task_type
from ravine.errors import DataError, nearest
from ravine.old_names import with_earlier_keys
from ravine.protocols import Signature


@dataclass(frozen=True)
class Task:
    """What to learn from which examples.

    `train` is `RowGroups` where the table is larger than the memory allowed. `validation` and
    `test` are None where the split has none. `rows` are the numbers of each split's rows in the
    source (a test file's come after it). `notes` are sentences about what was inferred and dropped;
    `effects` how much each technique of the encoding did, 0 for nothing. Equal tasks have equal
    fingerprints.
    """

    kind: Literal["binary", "classes", "regression", "labels"]
    targets: tuple[str, ...]
    classes: tuple[Any, ...]
    encoder: Encoder | ImageEncoder
    train: Examples | RowGroups
    validation: Examples | None
    test: Examples | None
    notes: tuple[str, ...]
    effects: Mapping[str, float]
    fingerprint: str
    rows: Mapping[str, np.ndarray]

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
        return Signature(
            len(encoder.features),
            tuple(encoder.code_sizes),
            self.outputs,
            encoder.image if isinstance(encoder, ImageEncoder) else None,
            tuple(encoder.flags),
        )


def load(
    data: Data | Images,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    frame: TableLike | None = None,
) -> Task:
    """The task of a source, or of a `frame` given from Python (a DataFrame, a mapping, or a pair X,
    y).

    Raises `DataError` for what is wrong with the table, with what to do about it.

    >>> from ravine.data.splits import Stratified
    >>> task = load(Data(source="iris"), Stratified(), Encoding(), seed=0)
    >>> task.kind, task.classes, task.train.count, task.validation.count, task.test.count
    ('classes', ('setosa', 'versicolor', 'virginica'), 102, 24, 24)
    """
    if isinstance(data, Images):
        return _load_images(data, split, encoding, seed=seed, frame=frame)
    if data.test is not None:
        split = _without_test(split)
    if (
        frame is None
        and data.memory is not None
        and is_larger_than(Path(data.source), parse_size(data.memory))
    ):
        return _load_streamed(data, split, encoding, seed=seed)
    notes: list[str] = []
    table, targets = open_table(data, frame, notes)
    check_columns(list(table.columns), data, targets)
    table, places = with_targets(table, targets, notes)
    own = len(table)
    if data.test is not None:
        tested = _test_table(data.test, targets, notes).reindex(columns=table.columns)
        table, places = (
            pd.concat([table, tested]),
            np.append(places, len(table) + np.arange(len(tested))),
        )
    check_row_count(own, 0, 0)
    task_type = infer_task_type(table, targets, data.task, notes)
    check_weights(table, data.weight)
    rows = split.rows(table.iloc[:own], task_type, seed, notes)
    if data.test is not None:
        rows = dataclasses.replace(rows, test=np.arange(own, len(table)))
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
        name: _examples(encoder, table, getattr(rows, name), data.weight) for name in SPLIT_NAMES
    }
    numbers = {name: places[getattr(rows, name)] for name in SPLIT_NAMES}
    assert examples["train"] is not None  # splits raise before
    return Task(
        kind=task_type.kind,
        targets=task_type.names,
        classes=task_type.classes,
        encoder=encoder,
        **examples,  # type: ignore[arg-type]
        notes=tuple([*notes, _describe_sizes(rows, split)]),
        effects=encoder.effects,
        fingerprint=_fingerprint(encoder, examples, numbers),
        rows=numbers,
    )


def _load_streamed(data: Data, split: AnySplit, encoding: Encoding, *, seed: int) -> Task:
    notes: list[str] = []
    assert data.memory is not None
    found = survey_table(
        data, split, encoding, seed=seed, memory=parse_size(data.memory), notes=notes
    )
    held: dict[str, Examples | None] = {"validation": found.validation, "test": found.test}
    if data.test is not None:
        held["test"] = found.encoder.examples(
            _test_table(data.test, data.target, notes), data.weight
        )
    if held["validation"] is None and split.validation > 0:
        raise DataError(
            "no row is given to validation",
            why="the recipe keeps a validation split",
            do="mark some rows as validation",
        )
    counts = {name: 0 if e is None else e.count for name, e in held.items()}
    notes.append(
        f"Split: {found.train.count} training, {counts['validation']} validation and "
        f"{counts['test']} test rows."
    )
    return Task(
        kind=found.task_type.kind,
        targets=found.task_type.names,
        classes=found.task_type.classes,
        encoder=found.encoder,
        train=found.train,
        **held,
        notes=tuple(notes),
        effects=found.encoder.effects,
        fingerprint=_fingerprint(found.encoder, held, found.rows, found.digest),
        rows=found.rows,
    )


def _load_images(
    data: Images, split: AnySplit, encoding: Encoding, *, seed: int, frame: TableLike | None
) -> Task:
    notes: list[str] = []
    found = read_images(data, split, encoding, seed=seed, frame=frame, notes=notes)
    held = {name: getattr(found, name) for name in SPLIT_NAMES}
    targets = {
        n: e and Examples(torch.empty(e.count, 0), targets=e.targets) for n, e in held.items()
    }
    return Task(
        kind=found.task_type.kind,
        targets=found.task_type.names,
        classes=found.task_type.classes,
        encoder=found.encoder,
        **held,
        notes=tuple(notes),
        effects=found.encoder.effects,
        fingerprint=_fingerprint(found.encoder, targets, found.rows, found.digest),
        rows=found.rows,
    )


def _without_test(split: AnySplit) -> Any:
    """The split without a test share: the test rows are another file's."""
    return dataclasses.replace(split, test=0.0) if hasattr(split, "test") else split


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


def _examples(
    encoder: Encoder, table: pd.DataFrame, rows: np.ndarray, weight: str | None
) -> Examples | None:
    return encoder.examples(table.iloc[rows], weight) if len(rows) else None


def _describe_sizes(rows: SplitRows, split: AnySplit) -> str:
    sizes = [len(getattr(rows, name)) for name in SPLIT_NAMES]
    return (
        f"Split: {sizes[0]} training, {sizes[1]} validation and {sizes[2]} test rows "
        f"({type(split).__name__})."
    )


def _fingerprint(
    encoder: Encoder | ImageEncoder,
    examples: Mapping[str, Examples | None],
    rows: Mapping[str, np.ndarray],
    digest: str = "",
) -> str:
    """A hash of everything that training can see: encoder, encoded examples, which rows they
    are.
    """
    hashed = hashlib.blake2b(
        json.dumps(with_earlier_keys(encoder.to_plain())).encode() + digest.encode(), digest_size=16
    )
    for name in sorted(examples):
        hashed.update(name.encode())
        for tensor in examples[name].fields if examples[name] is not None else ():  # type: ignore
            hashed.update(
                b"-"
                if tensor is None
                else str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes()
            )
    for name in sorted(rows):
        hashed.update(rows[name].astype(np.int64).tobytes())
    return hashed.hexdigest()
