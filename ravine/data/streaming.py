"""Tables larger than memory: Parquet read in pieces, in bounded memory.

A first pass splits every row by a hash of its number, counts, and draws a sample of the training
rows, on which the encoder is fitted (the levels of categories and the classes are counted in all
rows). A second pass encodes validation and test. Training reads row groups in an order shuffled for
each epoch, and shuffles again within a buffer. The limit holds beside some 60 MB that Arrow and
pandas take for themselves. Letters: N rows of a block, F numbers, K columns of codes, C outputs.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype

from ravine.data import source
from ravine.data.encoder import Encoder, Encoding, allow_odd_cells, count_levels, fit_encoder
from ravine.data.examples import Examples, concatenate
from ravine.data.parquet_files import RowGroup, is_parquet, read_blocks, row_groups_of
from ravine.data.parsing import weights_of
from ravine.data.splits import SPLIT_NAMES, AnySplit, BlockSplit, ByTime, hash_places
from ravine.data.task_type import TaskType, infer_task_type
from ravine.errors import DataError
from ravine.ranks import Ranks
from ravine.rng import stream, stream_seed

MAX_COUNTED_TARGETS = 10_000  # so many different targets are no classes
SAMPLE_ROWS = (2_000, 100_000)  # least and most rows on which the encoder is fitted
EXAMPLES_PER_CHUNK = 4096  # examples handed out at once


def is_larger_than_memory(data: source.Data) -> bool:
    """Whether a Parquet source takes more than its `memory` as a table (twice its plain size)."""
    path = Path(data.source)
    if data.memory is None or not path.exists() or not is_parquet(path):
        return False
    rows, size = _size(row_groups_of(path))
    return rows * size > source.parse_size(data.memory)


def _size(pieces: Sequence[RowGroup]) -> tuple[int, float]:
    """Rows, and bytes of a row as a table."""
    rows = sum(p.rows for p in pieces)
    return rows, sum(p.bytes for p in pieces) / max(rows, 1)


@dataclass(frozen=True)
class RowGroups:
    """The training rows of a table on disk. Equal (seed, epoch) give equal epochs at any time."""

    pieces: tuple[RowGroup, ...]
    encoder: Encoder
    split: BlockSplit
    seed: int  # of the split
    weight: str | None
    count: int  # training rows
    block: int  # rows read at once
    buffer: int  # examples that are shuffled among each other
    # of the training rows: weights are divided by it, as they are in memory
    mean_weight: float = 1.0
    piece_counts: tuple[int, ...] = ()  # training rows of each piece

    def shards(self, ranks: int) -> list[int]:
        """The training rows of each rank, which reads the pieces rank, rank + ranks, ..."""
        return [sum(self.piece_counts[rank::ranks]) for rank in range(ranks)]

    def epoch(self, seed: int, epoch: int, *, rank: int = 0, ranks: int = 1) -> Iterator[Examples]:
        """All training examples once, in chunks: row groups shuffled, then rows in the buffer.

        Of several ranks each has those of its own row groups, in an order of its own.
        """
        generator = stream(seed, "order", epoch * ranks + rank)
        own = self.pieces[rank::ranks]
        held: list[Examples] = []
        for i in torch.randperm(len(own), generator=generator).tolist():
            for frame in read_blocks(own[i], self.block):
                held.append(self._training(frame))
                if sum(e.count for e in held) >= self.buffer:
                    yield from _shuffle_chunks(held, generator)
                    held = []
        if held:
            yield from _shuffle_chunks(held, generator)

    def _training(self, frame: pd.DataFrame) -> Examples:
        frame, place = place_rows(frame, self.encoder.target.task_type.names, self.split, self.seed)
        examples = self.encoder.examples(frame[place == 0], self.weight)
        if examples.weights is None:
            return examples
        return replace(examples, weights=examples.weights / self.mean_weight)


def _shuffle_chunks(held: list[Examples], generator: torch.Generator) -> Iterator[Examples]:
    examples = concatenate(held)
    held.clear()
    order = torch.randperm(examples.count, generator=generator)
    for at in range(0, examples.count, EXAMPLES_PER_CHUNK):
        yield examples.take(order[at : at + EXAMPLES_PER_CHUNK])


def place_rows(
    frame: pd.DataFrame, targets: Sequence[str], split: BlockSplit, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of a block that have their targets, and the split of each."""
    known = source.has_targets(frame, targets)
    place = split.place_block(frame, int(frame.index[0]), seed)
    return (frame, place) if known.all() else (frame[known], place[known])


@dataclass
class SurveyCounts:
    """What the first pass found out."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))  # rows of each split
    rows: int = 0
    weight: float = 0.0  # of all training rows together
    sample: pd.DataFrame = field(default_factory=pd.DataFrame)  # training rows
    levels: dict[str, Counter] = field(default_factory=dict)  # of categories, in training rows
    targets: dict[str, Counter] = field(default_factory=dict)  # all values, where they are few
    # of each piece, by its first row: how many rows train, and a hash of all
    pieces: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def add(self, other: "SurveyCounts") -> "SurveyCounts":
        """Add what was counted in other pieces; a sample of both is not drawn."""
        self.counts = self.counts + other.counts
        self.rows += other.rows
        self.weight += other.weight
        self.pieces |= other.pieces
        for own, others in ((self.levels, other.levels), (self.targets, other.targets)):
            for name, counter in others.items():
                own.setdefault(name, Counter()).update(counter)
        return self


def read_in_pieces(
    data: source.Data,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    notes: list[str],
    ranks: Ranks | None = None,
) -> tuple[Encoder, dict[str, Any], dict[str, np.ndarray], str]:
    """Two passes over a Parquet source in at most `data.memory` bytes; each rank reads its shard.

    Returns the encoder; training rows, validation, test; numbers of the latter's rows; a hash.
    """
    split = _check_settings(data, split)
    assert data.memory is not None
    pieces = row_groups_of(Path(data.source))
    memory = source.parse_size(data.memory)
    total, width = _size(pieces)
    block = int(min(65536, max(256, memory / 32 / width)))
    wanted = int(min(SAMPLE_ROWS[1], max(SAMPLE_ROWS[0], memory / 16 / width)))
    own = pieces if ranks is None else pieces[ranks.rank :: ranks.count]
    survey = _first_pass(own, data, split, encoding, seed=seed, block=block, sample=wanted)
    surveys = [survey] if ranks is None else ranks.gather(survey)
    survey = functools.reduce(SurveyCounts.add, surveys, SurveyCounts())
    if survey.counts[0] < 2:
        what = f"{data.source} has {survey.counts[0]} training rows with a target"
        raise DataError(what, why="two are the least", do="choose another target or split")
    samples = [one.sample for one in surveys]
    train = survey.sample = _sample_rows(samples, wanted, seed, last=True)[0].sort_index()
    count = int(survey.counts[0])
    notes.append(
        f"{data.source} has {total} rows, more than {data.memory} of memory: it is read in pieces; "
        f"the encoding is fitted on {len(train)} training rows drawn at random."
    )
    if survey.rows < total:
        targets = ", ".join(data.target)
        notes.append(f"{total - survey.rows} of {total} rows have no {targets} and are left out.")
    task_type = _task_type(survey, data, notes)
    encoder = fit_encoder(
        train,
        task_type,
        encoding,
        data=data,
        split_columns=split.columns(),
        rows=total,
        notes=notes,
        levels=survey.levels,
    )
    encoder, _ = allow_odd_cells(encoder, train, notes)
    size = 4 * len(encoder.features) + 8 * len(encoder.code_sizes) + 4 * encoder.target.outputs + 4
    room = int(max(1024, memory / 16 / size))
    trained, hashes = zip(*(survey.pieces[piece.first] for piece in pieces), strict=True)
    groups = RowGroups(
        pieces, encoder, split, seed, data.weight, count, block, buffer=room, piece_counts=trained
    )
    if data.weight is not None:
        groups = replace(groups, mean_weight=(survey.weight or 1.0) / count)
    held_out, numbers = _held_out(groups, own, survey.counts, room, notes, ranks)
    if data.test is not None:
        tested = source.read_test_table(data.test, data.target, notes, encoder.known_columns)
        held_out["test"] = encoder.examples(tested, data.weight)
    if held_out["validation"] is None and split.validation > 0:
        why = "the recipe keeps a validation split"
        raise DataError("no row is given to validation", why=why, do="mark some rows as validation")
    sizes = [0 if e is None else e.count for e in held_out.values()]
    notes.append("Split: {} training, {} validation and {} test rows.".format(count, *sizes))
    digest = hashlib.blake2b(b"".join(hashes), digest_size=16).hexdigest()
    return encoder, {"train": groups, **held_out}, numbers, digest


def _check_settings(data: source.Data, split: AnySplit) -> BlockSplit:
    """The split. Raises `DataError` for settings that need the whole table at once."""
    if isinstance(split, ByTime):
        what = f"split {type(split).__name__} cannot be used on a table larger than memory"
        why = "its rows would have to be sorted"
        raise DataError(what, why=why, do="use Random, Grouped or Given")
    if data.rare_classes == "join" or data.min_class_rows > 2:
        what = "rare classes are neither joined nor left out of a table larger than memory"
        do = "leave out data.rare_classes and data.min_class_rows"
        raise DataError(what, why="its rows are read in pieces", do=do)
    return split


def _first_pass(
    pieces: Sequence[RowGroup],
    data: source.Data,
    split: BlockSplit,
    encoding: Encoding,
    *,
    seed: int,
    block: int,
    sample: int,
) -> SurveyCounts:
    survey = SurveyCounts()
    kept: list[pd.DataFrame] = []
    for piece in pieces:
        hashed = hashlib.blake2b(digest_size=16)
        before = int(survey.counts[0])
        for raw in read_blocks(piece, block):
            if not survey.targets:
                source.check_columns(list(raw.columns), data, data.target)
                survey.targets = {name: Counter() for name in data.target}
            frame, place = place_rows(raw, data.target, split, seed)
            hashed.update(_hash(frame))
            if len(frame):
                source.check_weights(frame, data.weight)
            survey.rows += len(frame)
            survey.counts += np.bincount(place[place >= 0], minlength=3)
            train = frame[place == 0]
            if data.weight is not None:
                survey.weight += float(weights_of(train, data.weight).sum())
            _count_targets(survey.targets, frame)
            _count_categories(survey.levels, train, data, 4 * encoding.codes_up_to)
            kept = _sample_rows([*kept, train], sample, seed)
        survey.pieces[piece.first] = (int(survey.counts[0]) - before, hashed.digest())
    if survey.counts[0]:
        survey.sample = _sample_rows(kept, sample, seed, last=True)[0]
    return survey


def _hash(frame: pd.DataFrame) -> bytes:
    try:
        return pd.util.hash_pandas_object(frame).to_numpy().tobytes()
    except TypeError:  # lists
        return pd.util.hash_pandas_object(frame.astype(str)).to_numpy().tobytes()


def _count_targets(counts: dict[str, Counter], frame: pd.DataFrame) -> None:
    for name, counter in counts.items():
        lists = len(frame) > 0 and isinstance(frame[name].iloc[0], (list, np.ndarray))
        if len(counter) <= MAX_COUNTED_TARGETS and not lists:
            counter.update(frame[name].value_counts().to_dict())


def _count_categories(
    levels: dict[str, Counter], frame: pd.DataFrame, data: source.Data, most: int
) -> None:
    """Count values of text columns; of those that are too many the rarest are forgotten."""
    for name in frame.columns:
        dtype = frame[name].dtype
        text = not is_numeric_dtype(dtype) or name in data.categories
        if name in data.target or not text or is_datetime64_any_dtype(dtype):
            continue
        counter = levels.setdefault(str(name), Counter())
        counter.update(count_levels(frame[name]))
        if len(counter) > 2 * most:
            levels[str(name)] = Counter(dict(counter.most_common(most)))


def _sample_rows(
    frames: list[pd.DataFrame], count: int, seed: int, *, last: bool = False
) -> list[pd.DataFrame]:
    """Of all rows the `count` with the smallest hash of their number: the same in any order."""
    if sum(map(len, frames)) < 2 * count and not last:
        return frames
    whole = pd.concat([f for f in frames if len(f)])
    if len(whole) <= count:
        return [whole]
    with np.errstate(over="ignore"):
        keys = whole.index.to_numpy().astype(np.uint64) ^ np.uint64(stream_seed(seed, "sample"))
        keys = (keys ^ (keys >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
        keys = (keys ^ (keys >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return [whole.iloc[np.argpartition(keys, count)[:count]]]


def _task_type(survey: SurveyCounts, data: source.Data, notes: list[str]) -> TaskType:
    """What the targets ask: from all their values where they are few, else from the sample."""
    name, *others = data.target
    counter = survey.targets[name]
    if others or not 0 < len(counter) <= MAX_COUNTED_TARGETS:
        return infer_task_type(survey.sample, data.target, data.task, notes, data.decimal)
    ordered = sorted(counter.items(), key=lambda item: str(item[0]))
    values = [v for v, n in ordered for _ in range(min(n, 20))]
    dtype = survey.sample[name].dtype
    column = pd.Series(values, dtype=None if isinstance(dtype, pd.CategoricalDtype) else dtype)
    return infer_task_type(column.to_frame(name), data.target, data.task, notes, data.decimal)


def _held_out(
    groups: RowGroups,
    pieces: Sequence[RowGroup],
    counts: np.ndarray,
    room: int,
    notes: list[str],
    ranks: Ranks | None,
) -> tuple[dict[str, Examples | None], dict[str, np.ndarray]]:
    """Validation and test, encoded; a sample of a split with more rows than there is room for."""
    names = SPLIT_NAMES[1:]
    found: list[tuple[int, str, Examples, np.ndarray]] = []  # and the first row of the piece
    for i, name in enumerate(names, 1):
        if counts[i] > room:
            used = f"about {room} are used, as many as memory holds"
            notes.append(f"Of {counts[i]} {name} rows {used}.")
    targets = groups.encoder.target.task_type.names
    for piece in pieces:
        for raw in read_blocks(piece, groups.block):
            frame, place = place_rows(raw, targets, groups.split, groups.seed)
            numbers = frame.index.to_numpy()
            for i, name in enumerate(names, 1):
                chosen = place == i
                if counts[i] > room:
                    share = room / int(counts[i])
                    chosen &= hash_places(numbers, 0.0, share, groups.seed + 1) == 2
                if chosen.any():
                    encoded = groups.encoder.examples(frame[chosen], groups.weight)
                    found.append((piece.first, name, encoded, numbers[chosen]))
    if ranks is not None:
        found = sorted(sum(ranks.gather(found), []), key=lambda one: one[0])
    kept = {name: [one for one in found if one[1] == name] for name in names}
    examples = {n: concatenate([e for _, _, e, _ in k]) if k else None for n, k in kept.items()}
    none = np.zeros(0, np.int64)
    return examples, {n: np.concatenate([none, *(r for *_, r in k)]) for n, k in kept.items()}
