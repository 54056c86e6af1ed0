"""The process of one peer: reads what to measure as JSON lines, answers with times. Started by
speed.py, one for each.

The times are those of training alone: process CPU time (what other programs on the machine disturb
least) and wall.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.cases import CASES, Weights, starts, validation_loss
from benchmarks.peers import THREADS

Times = tuple[float, float]


def main(peer: str, core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(
            0, {core}
        )  # before the peer starts threads: what sizes its pools by cores sees one
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            module = importlib.import_module(f"benchmarks.peers.train_{peer}")
        except ImportError as error:
            _answer(answers, {"missing": str(error)})
            return
        versions = {name: importlib.metadata.version(name) for name in module.PACKAGES}
        _answer(answers, {"batched": module.BATCHED, "versions": versions})
        for line in sys.stdin:
            asked = json.loads(line)
            _answer(answers, (to_loss if asked.pop("watched") else per_step)(module, **asked))


def per_step(module, *, case: str, optimizer: str, networks: int, epochs: int) -> dict[str, float]:
    """Seconds of training `networks` networks for some epochs, divided by network-steps."""
    chosen = CASES[case]
    count = networks if module.BATCHED else 1
    begun = time.perf_counter()
    go = module.prepare(chosen, optimizer, starts(chosen, count), epochs=epochs)
    prepared = time.perf_counter() - begun
    clock = Clock()
    go()
    cpu, wall = clock.read()
    steps = chosen.per_epoch * epochs * count
    return {"cpu": cpu / steps, "wall": wall / steps, "prepared": prepared}


def to_loss(
    module, *, case: str, optimizer: str, networks: int, epochs: int, first: int
) -> dict[str, list]:
    """After each epoch the training time so far and each network's validation loss; looking stops
    the clock.
    """
    chosen = CASES[case]
    data, count = chosen.data(), networks if module.BATCHED else 1
    cpu, losses = [], []

    def watch(weights: Callable[[], list[Weights]]) -> None:
        clock.stop()
        cpu.append(clock.read()[0])
        losses.append([validation_loss(w, data) for w in weights()])
        clock.go_on()

    go = module.prepare(
        chosen, optimizer, starts(chosen, count, first=first), epochs=epochs, watch=watch
    )
    clock = Clock()
    go()
    return {"cpu": cpu, "losses": losses}


class Clock:
    """CPU and wall seconds since its start, without the pauses."""

    def __init__(self) -> None:
        self.paused, self.stopped = (0.0, 0.0), None
        self.begun = _now()

    def read(self) -> Times:
        now = self.stopped or _now()
        return now[0] - self.begun[0] - self.paused[0], now[1] - self.begun[1] - self.paused[1]

    def stop(self) -> None:
        self.stopped = _now()

    def go_on(self) -> None:
        now, then = _now(), self.stopped
        assert then is not None
        self.paused, self.stopped = (
            (self.paused[0] + now[0] - then[0], self.paused[1] + now[1] - then[1]),
            None,
        )


def _now() -> Times:
    return time.process_time(), time.perf_counter()


def _answer(stream, answer: dict) -> None:
    print(json.dumps(answer), file=stream, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
