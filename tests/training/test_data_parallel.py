"""Two processes under torchrun train what one process does, stop together and fail with a word."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import rank_program
import torch
from torch import nn

import ravine
from ravine import networks
from ravine.data import RowGroups
from ravine.errors import InputError, RecipeError, RunError
from ravine.protocols import Batch
from ravine.ranks import Ranks
from ravine.training.batches import Streamed
from ravine.training.data_parallel import share_jobs_
from ravine.training.defaults import prepare
from ravine.training.job_control import JobControl
from ravine.training.jobs import assign_jobs
from ravine.training.train import _load_same_task

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def torchrun(*arguments, **more):
    root = str(Path(ravine.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    return subprocess.Popen(
        [*TORCHRUN, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ranks")
    rank_program.streamed(place)
    rank_program.photos(place)
    return place


@pytest.fixture(scope="module")
def ranks(folder):
    """What two ranks found, by case."""
    process = torchrun(rank_program.__file__, folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]


def assert_same(found, expected):
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", rank_program.cases())
def test_two_ranks_have_the_numbers_of_one_process(ranks, name):
    alone = rank_program.train_case(*rank_program.cases()[name])
    for found in ranks:
        assert found[name].keys() - {"calls"} == alone.keys()
        assert_same(found[name], alone)


def test_a_step_is_one_all_reduce_of_the_gradient_matrix(ranks):
    (calls,) = [found["a backward pass that is written out"]["calls"] for found in ranks[:1]]
    networks, weights, steps, evaluations = 2, 50, 18, 2
    assert len(calls) == steps + evaluations
    # beside the gradients two losses, in steps that are measured effects, and a word on stopping
    assert calls.count(networks * (weights + 1) + 1) == steps - 2


def test_a_rank_opens_its_own_row_groups_and_pictures(ranks, folder):
    assert [sorted(set(found["read"])) for found in ranks] == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]
    opened = [set(found["opened"]) for found in ranks]
    assert not opened[0] & opened[1]
    assert sorted(map(len, opened)) == [12, 12] and len(opened[0] | opened[1]) == 24


def test_pictures_read_by_two_ranks_train_as_those_read_by_one(ranks, folder):
    alone = rank_program.train_case(rank_program.photos(folder), None)
    assert_same(ranks[0]["photos"], alone)


class JoinedBatches:
    """Whole batches, put together from the parts of two ranks that are read one after another."""

    def __init__(self, task, job):
        self.parts = [Streamed(task.train, replace(job, ranks=Ranks(r, 2))) for r in range(2)]
        self.count, self.batch, self.per_epoch = (
            getattr(self.parts[0], name) for name in ("count", "batch", "per_epoch")
        )

    def at(self, step):
        found = [part.at(step) for part in self.parts]
        full = [one for one in found if one.part.share > 0]
        names = ("numbers", "targets", "weights")
        return Batch(**{name: torch.cat([getattr(one, name) for one in full], 1) for name in names})

    def keep(self, seeds):
        pass


def test_a_shard_trains_as_its_part_of_the_batches(ranks, folder, monkeypatch):
    """One process trains on the batches that the parts of both ranks make together."""
    monkeypatch.setattr(
        "ravine.training.train.training_batches",
        lambda task, cohort: JoinedBatches(task, cohort.job),
    )
    alone = rank_program.train_case(rank_program.streamed(folder), None)
    for found in ranks:
        assert_same(found["streamed"], alone)


def test_every_row_is_in_one_batch_of_an_epoch(folder):
    task, recipe = prepare(rank_program.streamed(folder))
    assert isinstance(task.train, RowGroups)
    job = assign_jobs([recipe], [task], device="cpu", workers=1)[0].job
    jobs = [replace(job, ranks=Ranks(r, 3)) for r in range(3)]
    parts = [Streamed(task.train, one) for one in jobs]
    (whole,) = [torch.cat([e.numbers[:, 0] for e in task.train.epoch(0, 0)]).double()]
    batches = [[part.at(step) for part in parts] for step in range(parts[0].per_epoch)]
    for batch in batches[:-1]:
        assert [one.part.counts for one in batch] == 3 * [batch[0].part.counts]
        assert batch[0].part.total == 64
    own = [one.numbers[0, :, 0] for batch in batches for one in batch if one.part.share > 0]
    assert torch.equal(torch.cat(own).sort().values, whole.sort().values)
    middle = parts[0].per_epoch // 2  # as a run that goes on from there reads it
    assert torch.equal(Streamed(task.train, jobs[1]).at(middle).numbers, batches[middle][1].numbers)


def test_ranks_with_other_data_are_refused(monkeypatch):
    ranks = Ranks(0, 2)
    monkeypatch.setattr(ranks, "gather", lambda own: [own, {**own, "data": repr("other")}])
    with pytest.raises(InputError, match="ranks 0 and 1 differ: each has other data"):
        ranks.check_same(data="this", recipe=[])


def test_a_table_in_pieces_goes_on_with_as_many_ranks(folder):
    recipe = rank_program.streamed(folder)
    task, _ = prepare(recipe)
    plan = {"fingerprint": task.fingerprint, "ranks": 2}
    with pytest.raises(RunError, match="begun by 2 processes, and 1 go on.*nproc-per-node 2"):
        _load_same_task(recipe, None, plan, folder, None)
    assert _load_same_task(recipe, None, {**plan, "ranks": 1}, folder, None).train.count


RECIPE = """
base = "plain"
data.source = "digits"
network = {name = "Mlp", hidden = [9], norm = "BatchNorm", dropout = "Dropout"}
batch = 32
epochs = 6
seeds = 2
precision = "float64"
"""
QUIETLY = ("--no-check", "--no-baseline", "--quiet")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A recipe file, and the weights that one process trains."""
    path = tmp_path_factory.mktemp("digits") / "recipe.toml"
    path.write_text(RECIPE)
    return path, ravine.train(ravine.read_recipe(path), baseline=False).model.weights


def finish(process):
    output, errors = process.communicate(timeout=200)
    return process.returncode, output, errors


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_with_one_message_and_a_checkpoint(digits, tmp_path):
    recipe, weights = digits
    folder = tmp_path / "runs" / "a"
    arguments = (rank_program.__file__, 100, "train", recipe, "--out", folder, *QUIETLY)
    code, output, errors = finish(torchrun(*arguments))
    assert code != 0 and not output
    assert errors.count("error:") == errors.count("rank 0 of 2 has lost another") == 1
    assert f"ravine train --resume {folder}" in errors
    assert f'File "{Path(ravine.__file__).parent}' not in errors and "rank 1 writes" not in errors
    shutil.copytree(folder, tmp_path / "runs" / "b")
    alone = ravine.resume(tmp_path / "runs" / "b", baseline=False)
    torch.testing.assert_close(alone.model.weights, weights, rtol=1e-6, atol=1e-6)
    again = ("-m", "ravine", "train", "--resume", folder, "--no-baseline")
    code, output, errors = finish(torchrun(*again))
    assert code == 0, errors
    assert output.count("run         ") == 1
    found = ravine.open_run(folder).model.weights
    torch.testing.assert_close(found, weights, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_ranks_after_one_step(digits, tmp_path, number):
    recipe, weights = digits
    folder = tmp_path / "runs" / "a"
    slow = ("--set", "epochs=6000")
    process = torchrun("-m", "ravine", "train", recipe, "--out", folder, *slow, *QUIETLY)
    deadline = time.monotonic() + 60
    while not (folder / "recipe.toml").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)  # some steps
    process.send_signal(number)
    code, output, errors = finish(process)
    assert code != 0 and not output and "error:" not in errors
    assert errors.count(f"stopped; go on with: ravine train --resume {folder}") == 1
    assert (folder / "checkpoint-0.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "iris", "--vary", "lr=1,2"), "ravine compare does not run under torchrun"),
        (("train", "iris", "--workers", "2"), "error: workers is 2: torchrun has started all"),
        (("train", "iris", "--set", "batch=1"), "error: batch is 1: 2 processes share each batch"),
        (("train", "nothing.csv"), "error: nothing.csv"),
    ],
)
def test_a_mistake_is_one_message_of_all_ranks(arguments, message, tmp_path):
    code, output, errors = finish(torchrun("-m", "ravine", *arguments, cwd=tmp_path))
    assert code != 0 and not output
    assert errors.count("error: ") == errors.count(message) == 1
    assert list(tmp_path.iterdir()) == []


class Halves(nn.Module):
    """A linear layer after a part that is given."""

    def __init__(self, part, signature):
        super().__init__()
        self.part, self.linear = part, nn.Linear(signature.numbers, signature.outputs)

    def forward(self, x):
        return self.linear(self.part(x))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.Dropout(0.1), "draws numbers in training (Dropout)"),
        (nn.BatchNorm1d(4), "depends on all examples of a batch in training (BatchNorm1d)"),
        (nn.LayerNorm(4), ""),
    ],
)
def test_a_module_that_would_give_other_numbers_is_refused(part, message):
    network = networks.TorchModule(make=partial(Halves, part))
    recipe = rank_program.vary(rank_program.BASE, data__source="iris", network=network, epochs=1)
    task, recipe = prepare(recipe)
    (assignment,) = assign_jobs([recipe], [task], device="cpu", workers=1)
    ranks = Ranks(1, 2)
    with pytest.raises(RecipeError, match=re.escape(message)) if message else nullcontext():
        share_jobs_([assignment], [JobControl()], ranks, None)
    assert (assignment.job.ranks is ranks) == (not message)
