"""What watching costs: blocks of steps with and without a watcher, in turn within one process.

Run: python -m benchmarks.watching [--only mlp] [--pairs 60]

Each network is trained twice, watched and unwatched, block by block in turn; which of the two goes
first changes from pair to pair. The time is CPU time of the process. Printed are the fastest block
of each, which other programs on the machine disturb least: the time of an unwatched step, and by
how much a watched one takes longer; then the median over pairs of watched / unwatched - 1, with its
quartiles. `every step` is the cost of steps that are not inspected, in short blocks; `inspected` is
with two inspected steps in 200, in blocks of 200; `first 200` are the first 200 steps of a new
watcher, with starting it.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torch.optim.optimizer as home
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

import ravine
from ravine.watching.inspection_schedule import INSPECTION_INTERVAL
from ravine.watching.watcher import Watcher


@dataclass(frozen=True)
class Case:
    """A network, its batches and its optimizer."""

    build: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    classes: int
    block: int  # steps
    adam: bool = False


CASES = {
    "tiny": Case(
        lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), (16, 8), 3, 100
    ),
    "mlp": Case(
        lambda: nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        ),
        (128, 784),
        10,
        20,
    ),
    "cnn": Case(
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32 * 64, 10),
        ),
        (64, 1, 20, 20),
        10,
        5,
        adam=True,
    ),
}


class NoWatcher:
    """In place of a watcher: does nothing."""

    def loss(self, value: Tensor) -> Tensor:
        return value


class Loop:
    """A model that learns random labels, four batches in turn."""

    def __init__(self, case: Case):
        torch.manual_seed(0)
        self.model = case.build()
        self.batches = [
            (torch.randn(case.inputs), torch.randint(case.classes, case.inputs[:1]))
            for _ in range(4)
        ]
        kind: type[Optimizer] = Adam if case.adam else SGD
        self.optimizer = kind(self.model.parameters(), lr=1e-3)

    def seconds(self, steps: int, watcher: Watcher | NoWatcher) -> float:
        start = time.process_time()
        for i in range(steps):
            x, y = self.batches[i % 4]
            self.optimizer.zero_grad()
            watcher.loss(F.cross_entropy(self.model(x), y)).backward()
            self.optimizer.step()
        return time.process_time() - start


@contextlib.contextmanager
def without_optimizer_hooks() -> Iterator[None]:
    """Without the hooks that torch keeps for all optimizers: the unwatched loop must not pay for
    them.
    """
    tables: list[dict[int, Any]] = [
        home._global_optimizer_pre_hooks,
        home._global_optimizer_post_hooks,
    ]
    kept = [dict(hooks) for hooks in tables]
    for hooks in tables:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in zip(tables, kept, strict=True):
            hooks.update(before)


def time_running(case: Case, pairs: int, every: int, block: int) -> list[tuple[float, float]]:
    """Seconds per step without a watcher, and with one that has its first 200 steps behind it."""
    plain, watched = Loop(case), Loop(case)
    found = []
    with ravine.watch(watched.model, watched.optimizer, quiet=True, every=every) as watcher:
        watched.seconds(2 * INSPECTION_INTERVAL, watcher)
        plain.seconds(20, NoWatcher())
        for i in range(pairs):
            times = {}
            for which in ("plain", "watched") if i % 2 else ("watched", "plain"):
                if which == "plain":
                    with without_optimizer_hooks():
                        times[which] = plain.seconds(block, NoWatcher()) / block
                else:
                    times[which] = watched.seconds(block, watcher) / block
            found.append((times["plain"], times["watched"]))
    return found


def time_first_steps(case: Case, pairs: int) -> list[tuple[float, float]]:
    """Seconds per step of 200 steps without and with a new watcher."""
    plain = Loop(case)
    plain.seconds(20, NoWatcher())
    found = []
    for i in range(pairs):
        times = {}
        for which in ("plain", "watched") if i % 2 else ("watched", "plain"):
            if which == "plain":
                times[which] = plain.seconds(200, NoWatcher()) / 200
                continue
            watched = Loop(case)
            start = time.process_time()
            watcher = ravine.watch(watched.model, watched.optimizer, quiet=True).start()
            watched.seconds(200, watcher)
            times[which] = (time.process_time() - start) / 200
            watcher.stop()
        found.append((times["plain"], times["watched"]))
    return found


def result_line(name: str, what: str, found: list[tuple[float, float]]) -> str:
    ratios = [100 * (b / a - 1) for a, b in found]
    low, middle, high = statistics.quantiles(ratios, n=4)
    base, more = (
        1e6 * min(a for a, _ in found),
        1e6 * (min(b for _, b in found) - min(a for a, _ in found)),
    )
    fastest = f"{base:8.0f} us{more:+8.1f} us{100 * more / base:+7.1f} %"
    return (
        f"{name:6s}{what:12s}{fastest}{middle:+9.1f} %   [{low:+.1f}, {high:+.1f}] of {len(found)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", choices=("", *CASES))
    parser.add_argument("--pairs", type=int, default=60)
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs: quartiles need at least 2")
    torch.set_num_threads(1)
    print(f"{'':18s}{'fastest':>11s}{'more':>11s}{'':9s}{'median':>11s}   quartiles, pairs")
    for name, case in CASES.items():
        if options.only in ("", name):
            few = max(8, options.pairs // 5)
            interval = INSPECTION_INTERVAL
            found = time_running(case, options.pairs, 10**9, case.block)
            print(result_line(name, "every step", found), flush=True)
            found = time_running(case, few, interval, interval)
            print(result_line(name, "inspected", found), flush=True)
            print(result_line(name, "first 200", time_first_steps(case, few)), flush=True)


if __name__ == "__main__":
    main()
