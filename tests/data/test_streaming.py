"""Claims about tables larger than memory."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ravine.data import Data, Encoder, Encoding, Given, Grouped, Random, RowGroups, load
from ravine.data.streaming import _sample_rows
from ravine.errors import DataError
from ravine.ranks import Ranks


@pytest.fixture(scope="module")
def frame():
    draw = np.random.default_rng(0)
    rows = 20_000
    x = draw.normal(size=(rows, 3))
    table = pd.DataFrame(x, columns=["a", "b", "c"])
    table["town"] = draw.choice([f"t{i}" for i in range(50)], rows)
    table["group"] = draw.integers(0, 200, rows)
    table.loc[draw.choice(rows, 500, replace=False), "b"] = np.nan
    return table.assign(y=np.where(x[:, 0] > 0.5, "up", "down"), row=np.arange(rows) / 3)


@pytest.fixture(scope="module")
def path(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "table.parquet"
    frame.to_parquet(path, row_group_size=500)
    return path


def streamed(path, split=None, **settings):
    data = Data(source=str(path), target=("y",), memory="500KB", **settings)
    return load(data, split or Random(), Encoding(), seed=0)


def test_the_same_kind_of_task_comes_out_as_in_memory(path, frame):
    task = streamed(path)
    whole = load(Data(source=str(path), target=("y",)), Random(), Encoding(), seed=0)
    assert isinstance(task.train, RowGroups)
    assert isinstance(task.encoder, Encoder) and isinstance(whole.encoder, Encoder)
    assert (task.kind, task.classes, task.outputs) == (whole.kind, whole.classes, whole.outputs)
    assert (
        task.encoder.code_names == whole.encoder.code_names
        and task.encoder.code_sizes == whole.encoder.code_sizes
    )
    assert task.encoder.features == whole.encoder.features
    assert (
        abs(task.train.count / len(frame) - 0.7) < 0.02
    )  # four standard deviations of a binomial: 0.013


def test_an_epoch_has_every_training_row_once_and_no_row_is_in_two_splits(path, frame):
    task = load(
        Data(source=str(path), target=("row",), memory="500KB"), Random(), Encoding(), seed=0
    )
    assert isinstance(task.train, RowGroups)
    decoded = [task.encoder.target.decode(e.targets)[:, 0] for e in task.train.epoch(0, 0)]
    rows = (torch.cat(decoded) * 3).round().long().numpy()
    assert len(rows) == task.train.count == len(set(rows.tolist()))
    held = np.concatenate([task.rows["validation"], task.rows["test"]])
    assert not set(rows.tolist()) & set(held.tolist())


def test_an_epoch_is_the_same_for_the_same_seed_and_another_for_the_next(path):
    groups = streamed(path).train
    assert isinstance(groups, RowGroups)
    one, again, other = (
        torch.cat([e.numbers for e in groups.epoch(3, epoch)]) for epoch in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.allclose(one.double().sum(0), other.double().sum(0), rtol=1e-9, atol=1e-6)


def test_rows_that_follow_each_other_on_disk_do_not_in_an_epoch(path):
    task = load(
        Data(source=str(path), target=("row",), memory="500KB"), Random(), Encoding(), seed=0
    )
    assert isinstance(task.train, RowGroups)
    y = torch.cat([e.targets for e in task.train.epoch(0, 0)])[:, 0]
    follow = torch.stack([y[:-1], y[1:]])
    assert abs(float(torch.corrcoef(follow)[0, 1])) < 0.9  # in the order of the file it is 0.9999


def test_groups_stay_together_and_columns_of_the_split_are_no_inputs(path, frame):
    task = streamed(path, Grouped(column="group"))
    assert isinstance(task.encoder, Encoder) and "group" not in task.encoder.columns
    groups = {name: set(frame["group"].iloc[rows]) for name, rows in task.rows.items()}
    assert not groups["validation"] & groups["test"]


def test_splits_by_given_rows_work_in_pieces(path):
    task = streamed(path, Given(validation_rows=tuple(range(100)), test_rows=(5000, 7000)))
    assert task.rows["test"].tolist() == [5000, 7000] and task.rows["validation"].tolist() == list(
        range(100)
    )


def test_no_row_of_validation_or_test_changes_the_encoder(path, frame, tmp_path):
    before = streamed(path)
    held = np.concatenate([before.rows["validation"], before.rows["test"]])
    changed = frame.copy()
    changed.loc[held, ["a", "c"]] = 1e6
    changed.loc[held, "town"] = "elsewhere"
    changed.to_parquet(tmp_path / "changed.parquet", row_group_size=500)
    after = load(
        Data(source=str(tmp_path / "changed.parquet"), target=("y",), memory="500KB"),
        Random(),
        Encoding(),
        seed=0,
    )
    assert after.encoder == before.encoder
    assert after.fingerprint != before.fingerprint


def test_splits_that_must_sort_are_refused(path):
    from ravine.data import ByTime

    with pytest.raises(DataError, match="larger than memory"):
        streamed(path, ByTime(column="row"))


def test_a_sample_does_not_depend_on_how_rows_came():
    frame = pd.DataFrame({"a": np.arange(100.0)})
    at_once = _sample_rows([frame], 10, 0, last=True)[0]
    kept: list[pd.DataFrame] = []
    for at in range(0, 100, 7):
        kept = _sample_rows([*kept, frame.iloc[at : at + 7]], 10, 0)
    assert sorted(_sample_rows(kept, 10, 0, last=True)[0].index) == sorted(at_once.index)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of this process alone is in /proc")
def test_memory_stays_within_what_is_allowed(tmp_path):
    draw, writer = np.random.default_rng(0), None
    for _ in range(8):
        columns = {f"x{i}": draw.normal(size=30_000) for i in range(12)}
        table = pa.table(
            {**columns, "town": draw.integers(0, 999, 30_000).astype(str), "y": columns["x0"] * 2}
        )
        writer = writer or pq.ParquetWriter(tmp_path / "big.parquet", table.schema)
        writer.write_table(table)
    writer.close()
    pq.write_table(table, tmp_path / "small.parquet")
    # one row group first: Arrow takes some 60 MB for itself when it reads for the first time
    code = """
        import sys
        from ravine.data import Data, Encoding, Random, load
        peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
        folder = sys.argv[1]
        small = load(
            Data(source=folder + "/small.parquet", target=("y",), memory="20KB"),
            Random(),
            Encoding(),
            seed=0,
        )
        list(small.train.epoch(0, 0))
        before = peak()
        task = load(
            Data(source=folder + "/big.parquet", target=("y",), memory="20MB"),
            Random(),
            Encoding(),
            seed=0,
        )
        assert sum(e.count for e in task.train.epoch(0, 0)) == task.train.count > 160_000
        print(1024 * (peak() - before))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 20e6 < 240_000 * 14 * 8  # as a table it is larger than that


def test_row_groups_without_training_rows_are_passed_over(frame, tmp_path):
    split = np.repeat(["train", "validation", "test"], [14_000, 3_000, 3_000])
    path = tmp_path / "ordered.parquet"
    frame.assign(split=split).to_parquet(path, row_group_size=1000)
    task = streamed(path, Given(column="split"))
    assert isinstance(task.train, RowGroups) and task.train.count == 14_000
    assert sum(chunk.count for chunk in task.train.epoch(0, 0)) == 14_000


class Together(Ranks):
    """A rank in a thread, which gathers from the other threads without a network."""

    def __init__(self, rank, barrier, shelf):
        super().__init__(rank, barrier.parties)
        self.barrier, self.shelf = barrier, shelf

    def gather(self, own):
        self.shelf[self.rank] = own
        self.barrier.wait(60)
        found = [self.shelf[rank] for rank in range(self.count)]
        self.barrier.wait(60)
        return found


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_that_read_a_shard_each_have_the_task_of_one_process(path, count):
    barrier, shelf, found = threading.Barrier(count), {}, {}

    def read(rank):
        ranks = Together(rank, barrier, shelf)
        data = Data(source=str(path), target=("y",), memory="500KB", weight="row")
        found[rank] = load(data, Random(), Encoding(), seed=0, ranks=ranks)

    threads = [threading.Thread(target=read, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = streamed(path, weight="row")
    assert isinstance(alone.train, RowGroups)
    for task in found.values():  # the fingerprint is of encoder, held-out examples and all rows
        assert task.fingerprint == alone.fingerprint and task.notes == alone.notes
        assert task.train.piece_counts == alone.train.piece_counts
        assert task.train.mean_weight == pytest.approx(alone.train.mean_weight, rel=1e-12)
    assert sum(alone.train.shards(count)) == alone.train.count
