"""What many machines would be worth: rates measured on this one, and what follows from them.

Run: python -m benchmarks.scale [--rows 400000] [--megabytes 1 10 100]

Measured are the rates of everything that a study or a large table passes through: tasks to worker
processes, trials in a storage, reading and encoding of Parquet in pieces, gradients between ranks,
checkpoints. CPU time is taken where one process works alone, wall time where several do. What is
printed as extrapolated is arithmetic from these rates and from what is assumed of the network.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import optuna
import pandas as pd
import torch
import torch.distributed as dist

import ravine
from ravine.data import Data, Encoding, Random, RowGroups, load
from ravine.data.parquet_files import read_blocks, row_groups_of
from ravine.studies.study_storage import open_book
from ravine.training.checkpoint import save_checkpoint
from ravine.training.cohort import start_cohort
from ravine.training.defaults import prepare
from ravine.training.job_control import JobControl
from ravine.training.jobs import assign_jobs
from ravine.training.train import train_jobs
from ravine.training.workers import Crew

NETWORK_MB = 1250.0  # a second over 10 Gbit/s: assumed
MACHINES, CORES = 100, 16  # assumed
RECIPES, TABLE_MB = 10_000, 1_000_000
ROW_COLUMNS = 20


def seconds_of(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least CPU time of a call: other programs on the machine disturb it least."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def plain_recipe(epochs: int) -> Any:
    recipe = ravine.named_recipe("plain").vary("data.source", "digits")
    return recipe.vary("epochs", epochs).vary("seeds", 1)


def tasks() -> dict[str, float]:
    """Bytes of a job for a worker, how many a second are handed out, and how long one trains."""
    task, recipe = prepare(plain_recipe(20))
    (assignment,) = assign_jobs([recipe], [task], device="cpu", workers=1)
    call = functools.partial(train_jobs, [assignment], [JobControl()], workers=1)
    bare = replace(assignment, task=None)  # as a cluster gets it: the data are there already
    found: dict[str, float] = {"seconds of one job": seconds_of(call)}
    found["bytes of a job with its data"] = len(cloudpickle.dumps(call))
    found["bytes of a job without its data"] = len(cloudpickle.dumps((bare, JobControl())))
    payload = functools.partial(len, os.urandom(int(found["bytes of a job without its data"])))
    count = 2000
    crew = Crew([payload] * count, [JobControl()] * count, [1.0] * count, 1)
    began, half = 0.0, count // 2
    thread = threading.Thread(target=crew._run_worker, daemon=True)
    thread.start()
    while thread.is_alive():
        if not began and len(crew.found) >= half:
            began, half = time.perf_counter(), len(crew.found)
        time.sleep(0.001)
    found["jobs a second to one worker"] = (count - half) / (time.perf_counter() - began)
    return found


def dask_jobs() -> dict[str, float]:
    """Jobs a second through a Dask scheduler with one worker, where Dask is installed."""
    try:
        import distributed
    except ImportError:
        return {}
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(10)))
        began = time.perf_counter()
        client.gather(client.map(functools.partial(divmod, 7), range(1, 1001), pure=False))
        return {"jobs a second through Dask": 1000 / (time.perf_counter() - began)}


def trials(folder: Path) -> dict[str, float]:
    """Trials a second that are drawn and told, in memory and in a SQLite file."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: Any = {"optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)}
    sampler = optuna.samplers.RandomSampler(seed=0)
    result = {"outcome": "finished", "score": 0.5, "rungs": [], "budget": 100}
    found = {}
    for name, place in (("memory", None), ("SQLite", folder)):
        book = open_book(place, None, "study", {"higher_is_better": True})
        count, began = 200, time.perf_counter()
        batch = book.ask(space, count, sampler)
        found[f"trials a second drawn, {name}"] = count / (time.perf_counter() - began)
        began = time.perf_counter()
        for trial in batch.trials:
            book.tell(trial, result)
        found[f"trials a second told, {name}"] = count / (time.perf_counter() - began)
        book.close()
    return found


def streaming(folder: Path, rows: int) -> dict[str, float]:
    """MB a second of a Parquet table in pieces: read, surveyed, read and encoded for an epoch."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(rows, ROW_COLUMNS)).astype(np.float32)
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(ROW_COLUMNS)])
    path = folder / "table.parquet"
    frame.assign(y=x.sum(1)).to_parquet(path, row_group_size=20_000)
    size = path.stat().st_size / 1e6

    def read() -> None:
        for piece in row_groups_of(path):
            for _ in read_blocks(piece, 16384):
                pass

    memory = f"{max(1, round(size / 4))}MB"
    data = Data(source=str(path), target=("y",), memory=memory)
    began = time.process_time()
    task = load(data, Random(), Encoding(), seed=0)
    survey = time.process_time() - began
    groups = task.train
    assert isinstance(groups, RowGroups)

    def epoch() -> None:
        for _ in groups.epoch(0, 0):
            pass

    rates = {"read": seconds_of(read), "two passes of preparing": survey}
    rates["an epoch: read and encode"] = seconds_of(epoch)
    found = {f"MB/s of Parquet, {name}": size / seconds for name, seconds in rates.items()}
    return {**found, "bytes of a row in Parquet": size * 1e6 / rows}


def wide_recipe() -> Any:
    """A network of 3 million weights on digits, five steps of 256 examples an epoch."""
    return plain_recipe(8).vary("network.hidden", (1700, 1700)).vary("batch", 256)


def checkpoints(folder: Path) -> dict[str, float]:
    """MB a second of checkpoints of the wide network."""
    task, recipe = prepare(wide_recipe())
    (assignment,) = assign_jobs([recipe], [task], device="cpu", workers=1)
    cohort = start_cohort(assignment.job)
    path = folder / "checkpoint.safetensors"
    seconds = seconds_of(lambda: save_checkpoint(cohort, path))
    return {
        "MB/s of checkpoints": path.stat().st_size / 1e6 / seconds,
        "MB of a gradient": cohort.weights.numel() * 4 / 1e6,
    }


def seconds_a_step(ranks: str) -> dict[str, float]:
    """CPU and wall time of a step of the wide network, from its first evaluation to its last."""
    times: list[tuple[int, float, float]] = []
    ravine.train(
        wide_recipe(),
        workers=1,
        baseline=False,
        report=lambda at: times.append((at.step, time.process_time(), time.perf_counter())),
    )
    steps, cpu, wall = (b - a for a, b in zip(times[0], times[-1], strict=True))
    name = f"seconds of a step of 256 examples, {ranks}"
    return {f"CPU {name}": cpu / steps, f"wall {name}": wall / steps}


def run_as_rank(megabytes: Iterable[float]) -> None:
    """What each of two processes does that torchrun starts: sums of matrices, then training."""
    dist.init_process_group("gloo")
    found = {}
    for size in megabytes:
        values = torch.ones(round(size * 1e6 / 4))
        dist.all_reduce(values)
        seconds = []
        for _ in range(10):
            began = time.perf_counter()
            dist.all_reduce(values)
            seconds.append(time.perf_counter() - began)
        found[f"MB/s of an all-reduce of {size:g} MB"] = size / sorted(seconds)[5]
    if dist.get_rank() == 0:
        found |= seconds_a_step("each of 2 ranks")
        print(json.dumps(found), flush=True)
    else:
        ravine.train(wide_recipe(), baseline=False)


def two_ranks(megabytes: Iterable[float]) -> dict[str, float]:
    """Sums over two processes by gloo, and their training, on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "benchmarks.scale", "--as-rank"]
    run = subprocess.run([*command, *map(str, megabytes)], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def study_of(found: dict[str, float]) -> list[str]:
    """10,000 recipes on 100 machines."""
    job, tasks = found["seconds of one job"], MACHINES * CORES
    handed = found.get("jobs a second through Dask", found["jobs a second to one worker"])
    told = 1 / (
        1 / found["trials a second told, SQLite"] + 1 / found["trials a second drawn, SQLite"]
    )
    data = found["bytes of a job with its data"] / 1e6
    compute = math.ceil(RECIPES / tasks) * job
    return [
        f"training      {math.ceil(RECIPES / tasks)} jobs a core x {job:.2f} s = {compute:.1f} s",
        f"handing out   {RECIPES:,} / {handed:,.0f} a second = {RECIPES / handed:.1f} s",
        f"the storage   {RECIPES:,} / {told:,.0f} drawn and told a second = {RECIPES / told:.1f} s",
        f"the data      {data:.1f} MB x {MACHINES} machines / {NETWORK_MB:,.0f} MB/s"
        f" = {data * MACHINES / NETWORK_MB:.1f} s, once",
        f"all cores are busy once a job takes {tasks / min(handed, told):.1f} s"
        f" = {tasks:,} cores / {min(handed, told):,.0f} a second",
    ]


def table_of(found: dict[str, float]) -> list[str]:
    """A table of 1 TB on 100 machines, with one rank on each, and with one on each core."""
    prepare, epoch = (
        found[f"MB/s of Parquet, {name}"]
        for name in ("two passes of preparing", "an epoch: read and encode")
    )
    rows = TABLE_MB * 1e6 / found["bytes of a row in Parquet"]
    step, size = found["CPU seconds of a step of 256 examples, alone"], found["MB of a gradient"]
    wire = 2 * (MACHINES - 1) / MACHINES * size / NETWORK_MB
    lines = [f"{'ranks':>6}{'batch':>9}{'steps':>12}   preparing  reading  arithmetic  all-reduce"]
    for ranks in (1, MACHINES, MACHINES * CORES):
        steps = math.ceil(rows / (256 * ranks))
        within = size / found["MB/s of an all-reduce of 10 MB"] if ranks > MACHINES else 0.0
        across = wire if ranks > 1 else 0.0
        seconds = (
            TABLE_MB / prepare / ranks,
            TABLE_MB / epoch / ranks,
            steps * step,
            steps * (across + within),
        )
        hours = "".join(f"{value / 3600:9.2f} h" for value in seconds)
        lines.append(f"{ranks:6,}{256 * ranks:9,}{steps:12,} {hours}")
    return [
        *lines,
        f"an epoch has {rows:.3g} rows; preparing is done once",
        f"a step: arithmetic {step:.3f} s; all-reduce between machines",
        f"  2 x 99/100 x {size:.1f} MB / {NETWORK_MB:,.0f} MB/s = {wire:.3f} s, within one",
        f"  {size:.1f} MB / {found['MB/s of an all-reduce of 10 MB']:.0f} MB/s"
        f" = {size / found['MB/s of an all-reduce of 10 MB']:.3f} s",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000, help="of the Parquet table")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--as-rank", type=float, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.as_rank:
        return run_as_rank(options.as_rank)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = {**tasks(), **dask_jobs(), **trials(folder), **streaming(folder, options.rows)}
        found |= {**checkpoints(folder), **two_ranks(options.megabytes)}
    found |= seconds_a_step("alone")
    load_average = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"measured, {os.cpu_count()} cores with a load of {load_average}, {torch.__version__}")
    for name, value in found.items():
        print(f"  {name:56}{value:14,.{0 if value >= 100 else 3}f}")
    assumed = f"{MACHINES} machines of {CORES} cores, {NETWORK_MB:,.0f} MB/s between them"
    print(f"extrapolated, not measured: {assumed}")
    for title, lines in (
        (f"{RECIPES:,} recipes", study_of(found)),
        ("a table of 1 TB", table_of(found)),
    ):
        print(f"  {title}")
        for line in lines:
            print(f"    {line}")


if __name__ == "__main__":
    main()
