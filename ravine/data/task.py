"""From a source to a task: read, infer the type, split, fit the encoder on training rows, encode.

Letters: N examples, F numbers, K columns of codes, C outputs.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from ravine.data import source
from ravine.data.csv_dialect import Dialect, KnownColumns
from ravine.data.encoder import Encoder, Encoding, allow_odd_cells, fit_encoder
from ravine.data.examples import Examples
from ravine.data.foreign_rows import drop_foreign_rows
from ravine.data.frames import TableLike
from ravine.data.images import ImageEncoder, Images, read_images
from ravine.data.parsing import is_text, texts_of
from ravine.data.splits import (
    SPLIT_NAMES,
    AnySplit,
    Given,
    SplitRows,
    check_splits,
    describe_shared_groups,
    require_count,
)
from ravine.data.streaming import RowGroups, is_larger_than_memory, read_in_pieces
from ravine.data.task_type import TaskKind, TaskType, infer_task_type
from ravine.errors import DataError, join_first
from ravine.old_names import with_earlier_keys
from ravine.protocols import Signature
from ravine.ranks import Ranks

JOINED_CLASS = "(other)"


@dataclass(frozen=True)
class Task:
    """What to learn from which examples.

    `train` is `RowGroups` where the table is larger than the memory allowed. `validation` and
    `test` are None where the split has none. `rows` are the numbers of each split's rows in the
    source (a test file's come after it). `notes` are sentences about what was inferred and dropped,
    `effects` how much each technique of the encoding did. Equal tasks have equal fingerprints.
    """

    encoder: Encoder | ImageEncoder
    train: Examples | RowGroups
    validation: Examples | None
    test: Examples | None
    notes: tuple[str, ...]
    fingerprint: str
    rows: Mapping[str, np.ndarray]

    def __repr__(self) -> str:
        """One line, without the examples."""
        splits = {"training": self.train, "validation": self.validation, "test": self.test}
        counts = [f"{split.count} {name}" for name, split in splits.items() if split is not None]
        return f"Task({self.kind}, {', '.join(counts)} rows)"

    @property
    def kind(self) -> TaskKind:
        """What kind of task it is: "binary", "classes", "labels" or "regression"."""
        return self.encoder.target.task_type.kind

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target's columns."""
        return self.encoder.target.task_type.names

    @property
    def classes(self) -> tuple[Any, ...]:
        """The classes or labels, in the target's own values; none for numbers."""
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
            what = "the training rows are read in pieces"
            raise DataError(what, why="examples in memory are needed", do="leave data.memory out")
        return self.train

    @property
    def signature(self) -> Signature:
        """What goes in and comes out of a network for this task."""
        return signature_of(self.encoder)


def signature_of(encoder: Encoder | ImageEncoder) -> Signature:
    """What goes in and comes out of a network for the examples that an encoder makes."""
    image = encoder.image if isinstance(encoder, ImageEncoder) else None
    numbers, outputs = len(encoder.features), encoder.target.outputs
    return Signature(numbers, encoder.code_sizes, outputs, image, encoder.flags)


def load(
    data: source.Data | Images,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    frame: TableLike | None = None,
    ranks: Ranks | None = None,
) -> Task:
    """The task of a source, or of a `frame` from Python (a DataFrame, a mapping, or a pair X, y).

    Of images, and of a table that is read in pieces, each of several `ranks` reads its share.
    Raises `DataError` for what is wrong with the table, with what to do about it.

    >>> from ravine.data import Data, Stratified
    >>> task = load(Data(source="iris"), Stratified(), Encoding(), seed=0)
    >>> task.kind, task.classes, task.train.count, task.validation.count, task.test.count
    ('classes', ('setosa', 'versicolor', 'virginica'), 102, 24, 24)
    """
    notes: list[str] = []
    if isinstance(data, Images):
        found = read_images(data, split, encoding, seed=seed, frame=frame, notes=notes, ranks=ranks)
    else:
        if data.test is not None and not isinstance(split, Given):
            split = dataclasses.replace(split, test=0.0)  # the test rows are another file's
        if frame is None and is_larger_than_memory(data):
            found = read_in_pieces(data, split, encoding, seed=seed, notes=notes, ranks=ranks)
        else:
            found = _read_at_once(data, split, encoding, seed=seed, frame=frame, notes=notes)
    encoder, examples, rows, digest = found
    fingerprint = _fingerprint(encoder, examples, rows, digest)
    train = examples["train"]
    assert train is not None  # a split without training rows was refused
    validation, test = examples["validation"], examples["test"]
    return Task(encoder, train, validation, test, tuple(notes), fingerprint, rows)


def task_of_rows(
    frame: TableLike,
    task_type: TaskType,
    data: source.Data,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    encoder: Encoder | None = None,
) -> Task:
    """The task of rows whose targets are known to be of a type and without gaps.

    Nothing is inferred of the targets, so they may lack a class. An `encoder` that was fitted
    before is used as it is; the columns that it does not know are passed over.
    """
    notes: list[str] = []
    table, data, dialect = source.open_table(data, frame, notes)
    source.check_columns(list(table.columns), data, task_type.names)
    places = np.arange(len(table))
    rows = SplitRows(places, places[:0], places[:0])
    if len(table) > 1:
        rows = split.rows(table, task_type, seed, notes)
    if encoder is None:
        encoder, table = _fit(
            table, rows, task_type, dialect, data=data, split=split, encoding=encoding, notes=notes
        )
    examples = _encode_splits(encoder, table, rows, split, data.weight, notes)
    fingerprint = _fingerprint(encoder, examples, rows._asdict(), "")
    train, validation, test = (examples[name] for name in SPLIT_NAMES)
    assert train is not None  # every split leaves rows to train on
    return Task(encoder, train, validation, test, tuple(notes), fingerprint, rows._asdict())


def _read_at_once(
    data: source.Data,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    frame: TableLike | None,
    notes: list[str],
) -> tuple[Encoder, dict[str, Examples | None], dict[str, np.ndarray], str]:
    """The encoder of a table; its examples and the numbers of their rows by split; no digest."""
    table, data, dialect = source.open_table(data, frame, notes)
    targets = data.target
    source.check_columns(list(table.columns), data, targets)
    table, kept = drop_foreign_rows(table, notes)
    table, places = source.with_targets(table, targets, notes)
    places = kept[places]
    own = len(table)
    if data.test is not None:
        texts = tuple(name for name in table.columns if is_text(table[name]))
        known = KnownColumns(dialect, texts=texts)
        tested = source.read_test_table(data.test, targets, notes, known)
        tested = tested.reindex(columns=table.columns)
        places = np.append(places, len(table) + np.arange(len(tested)))
        table = pd.concat([table, tested])
    require_count(own, 0, 0)
    table, chosen, task_type = leave_out_rare_classes(table, own, targets, data, notes)
    own, places = int((chosen < own).sum()), places[chosen]
    source.check_weights(table, data.weight)
    rows = split.rows(table.iloc[:own], task_type, seed, notes)
    if data.test is not None:
        rows = rows._replace(test=np.arange(own, len(table)))
    check_splits(rows, table, task_type, notes)
    notes += describe_shared_groups(rows, table, split, task_type.names)
    encoder, table = _fit(
        table, rows, task_type, dialect, data=data, split=split, encoding=encoding, notes=notes
    )
    examples = _encode_splits(encoder, table, rows, split, data.weight, notes)
    return encoder, examples, {name: places[r] for name, r in rows._asdict().items()}, ""


def _fit(
    table: pd.DataFrame,
    rows: SplitRows,
    task_type: TaskType,
    dialect: Dialect,
    *,
    data: source.Data,
    split: AnySplit,
    encoding: Encoding,
    notes: list[str],
) -> tuple[Encoder, pd.DataFrame]:
    """The encoder of the training rows, and the table with numbers in place of their texts."""
    encoder = fit_encoder(
        table.iloc[rows.train],
        task_type,
        encoding,
        data=data,
        split_columns=split.columns(),
        rows=len(table),
        notes=notes,
    )
    return allow_odd_cells(dataclasses.replace(encoder, dialect=dialect), table, notes)


def _encode_splits(
    encoder: Encoder,
    table: pd.DataFrame,
    rows: SplitRows,
    split: AnySplit,
    weight: str | None,
    notes: list[str],
) -> dict[str, Examples | None]:
    """The examples of each split, None for one without rows."""
    found = {
        name: encoder.examples(table.iloc[places], weight) if len(places) else None
        for name, places in rows._asdict().items()
    }
    sizes = "{} training, {} validation and {} test rows".format(*map(len, rows))
    notes.append(f"Split: {sizes} ({type(split).__name__}).")
    return found


def _fingerprint(
    encoder: Encoder | ImageEncoder,
    examples: Mapping[str, Examples | RowGroups | None],
    rows: Mapping[str, np.ndarray],
    digest: str,
) -> str:
    """A hash of all that training can see: encoder, encoded examples, which rows they are.

    `digest` covers the pixels of images, and rows that are read in pieces.
    """
    # how a file is written is not to be learned
    task_type = dataclasses.replace(encoder.target.task_type, words=())
    target = dataclasses.replace(encoder.target, task_type=task_type)
    encoder = dataclasses.replace(encoder, target=target)
    if isinstance(encoder, Encoder):
        encoder = dataclasses.replace(encoder, dialect=Dialect())
    plain = json.dumps(with_earlier_keys(encoder.to_plain()))
    hashed = hashlib.blake2b(plain.encode() + digest.encode(), digest_size=16)
    for name, found in sorted(examples.items()):
        if isinstance(found, RowGroups):
            continue
        hashed.update(name.encode())
        if found is not None and isinstance(encoder, ImageEncoder):
            found = Examples(torch.empty(found.count, 0), targets=found.targets)
        for tensor in () if found is None else found.fields:
            shape = b"-" if tensor is None else str(tuple(tensor.shape)).encode()
            hashed.update(shape + (b"" if tensor is None else tensor.numpy().tobytes()))
    for name in sorted(rows):
        hashed.update(rows[name].astype(np.int64).tobytes())
    return hashed.hexdigest()


def leave_out_rare_classes(
    table: pd.DataFrame, own: int, targets: Sequence[str], data: source.Data, notes: list[str]
) -> tuple[pd.DataFrame, np.ndarray, TaskType]:
    """What the targets ask for; the table without rare classes, or with these joined; its places.

    A class is rare where fewer than `data.min_class_rows` of the first `own` rows have it; the
    other rows are a test file's. What is done with it is appended to `notes`.
    """
    every, tentative = np.arange(len(table)), []
    task_type = infer_task_type(table, targets, data.task, tentative, data.decimal)
    rare = np.zeros(len(table), bool)
    if task_type.kind in ("binary", "classes"):
        texts, codes = texts_of(table[targets[0]])
        counts = np.bincount(codes[:own], minlength=len(texts))
        rare = (counts < data.min_class_rows)[codes]
    if not rare.any():
        notes += tentative
        return table, every, task_type
    name = targets[0]
    classes, _ = texts_of(table[name][rare])
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
