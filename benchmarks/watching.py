"""What watching costs: blocks of steps, watched and not, in turn within one process.

Run: python -m benchmarks.watching [--only mlp] [--pairs 60]

For each network there are twins, one watched and one not, which take turns block by block; which of
the two goes first changes from pair to pair. The time is CPU time of the process. Shown are the
time of a step without a watch, the median over pairs of watched / unwatched - 1 with its quartiles,
and the same for the fastest block of each, which other programs on the machine disturb least.
`always` is what every step costs, without looks, in short blocks; `probes` is with two looks in 200
steps, in blocks of 200; `first 200` the first 200 steps of a new watch, with starting it.
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
from ravine.watching.inspection import INSPECTION_INTERVAL
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


class Alone:
    """In place of a watch."""

    def loss(self, value: Tensor) -> Tensor:
        return value


class Loop:
    """A model that learns random labels, always a few batches in turn."""

    def __init__(self, case: Case):
        torch.manual_seed(0)
        self.model = case.build()
        self.batches = [
            (torch.randn(case.inputs), torch.randint(case.classes, case.inputs[:1]))
            for _ in range(4)
        ]
        kind: type[Optimizer] = Adam if case.adam else SGD
        self.optimizer = kind(self.model.parameters(), lr=1e-3)  # type: ignore[call-arg]

    def seconds(self, steps: int, watched: Watcher | Alone) -> float:
        start = time.process_time()
        for i in range(steps):
            x, y = self.batches[i % 4]
            self.optimizer.zero_grad()
            watched.loss(F.cross_entropy(self.model(x), y)).backward()
            self.optimizer.step()
        return time.process_time() - start


@contextlib.contextmanager
def unhooked() -> Iterator[None]:
    """Without the hooks that torch keeps for all optimizers: the twin that is not watched must not
    pay for them.
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
        for hooks, held in zip(tables, kept, strict=True):
            hooks.update(held)


def running(case: Case, pairs: int, every: int, block: int) -> list[tuple[float, float]]:
    """Seconds per step without and with a watch that has its first 200 steps behind it."""
    bare, seen = Loop(case), Loop(case)
    found = []
    with ravine.watch(seen.model, seen.optimizer, quiet=True, every=every) as watched:
        seen.seconds(2 * INSPECTION_INTERVAL, watched)
        bare.seconds(20, Alone())
        for i in range(pairs):
            times = {}
            for which in ("bare", "seen") if i % 2 else ("seen", "bare"):
                if which == "bare":
                    with unhooked():
                        times[which] = bare.seconds(block, Alone()) / block
                else:
                    times[which] = seen.seconds(block, watched) / block
            found.append((times["bare"], times["seen"]))
    return found


def beginning(case: Case, pairs: int) -> list[tuple[float, float]]:
    """Seconds per step of 200 steps without and with a new watch."""
    bare = Loop(case)
    bare.seconds(20, Alone())
    found = []
    for i in range(pairs):
        times = {}
        for which in ("bare", "seen") if i % 2 else ("seen", "bare"):
            if which == "bare":
                times[which] = bare.seconds(200, Alone()) / 200
                continue
            seen = Loop(case)
            start = time.process_time()
            watched = ravine.watch(seen.model, seen.optimizer, quiet=True).start()
            seen.seconds(200, watched)
            times[which] = (time.process_time() - start) / 200
            watched.stop()
        found.append((times["bare"], times["seen"]))
    return found


def line(name: str, what: str, found: list[tuple[float, float]]) -> str:
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
    torch.set_num_threads(1)
    print(f"{'':18s}{'fastest':>11s}{'more':>11s}{'':9s}{'median':>11s}   quartiles, pairs")
    for name, case in CASES.items():
        if options.only in ("", name):
            few = max(8, options.pairs // 5)
            print(line(name, "always", running(case, options.pairs, 10**9, case.block)), flush=True)
            print(
                line(name, "probes", running(case, few, INSPECTION_INTERVAL, INSPECTION_INTERVAL)),
                flush=True,
            )
            print(line(name, "first 200", beginning(case, few)), flush=True)


if __name__ == "__main__":
    main()
