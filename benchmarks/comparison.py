"""What a comparison costs, and that its numbers are those of plain PyTorch.

Run: python -m benchmarks.comparison [--seeds 16] [--epochs 30]

Four choices (momentum SGD and Adam, two rates each) with 16 seeds on digits, 64-100-10: by
`ravine.compare` as it comes, which uses a second process where it pays (training, scoring, trees,
statistics and the time of one network alone counted in), and by a plain loop of PyTorch over the
same runs, with the same starts and the same orders of examples, `torch.optim` as it comes, and the
accuracy of the last weights. The loop is timed as it comes, one run after another in one process
with torch's own number of threads; in one process of one thread; and spread by hand over two
processes. Printed are wall and process seconds of each, the ratios, and the largest difference of
an accuracy.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim import SGD, Adam, Optimizer

import ravine
from ravine.networks.as_module import as_module
from ravine.networks.batched import BatchedNetwork
from ravine.recipe import Recipe
from ravine.recipe_files import with_settings
from ravine.rng import stream
from ravine.training.defaults import prepare

CHOICES: dict[str, tuple[str, float]] = {
    "Momentum, lr=0.1": ("Momentum", 0.1),
    "Momentum, lr=0.01": ("Momentum", 0.01),
    "Adam, lr=0.003": ("Adam", 0.003),
    "Adam, lr=0.001": ("Adam", 0.001),
}


def recipe_of(optimizer: str, lr: float, epochs: int) -> Recipe:
    recipe = ravine.named_recipe("plain").vary("data.source", "digits")
    recipe = recipe.vary("network.hidden", (100,)).vary("batch", 64).vary("epochs", epochs)
    return with_settings(recipe, f"optimizer={optimizer}", f"optimizer.lr={lr}")


def train_plainly(optimizer: str, lr: float, epochs: int, seed: int) -> float:
    """The test accuracy of one network, trained as in a tutorial."""
    task, recipe = prepare(recipe_of(optimizer, lr, epochs))
    network = BatchedNetwork(recipe.network, task.signature)
    model = as_module(network, task.signature, *network.start([seed])).float()
    kinds: dict[str, Any] = {"Momentum": lambda p: SGD(p, lr=lr, momentum=0.9)}
    make = kinds.get(optimizer, lambda p: Adam(p, lr=lr))
    opt: Optimizer = make(model.parameters())
    x, y = task.train_examples.numbers, task.train_examples.targets
    assert y is not None and task.test is not None and task.test.targets is not None
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=stream(seed, "order", epoch))
        for rows in order.split(64):
            opt.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            opt.step()
    with torch.no_grad():
        return float((model(task.test.numbers).argmax(1) == task.test.targets).float().mean())


def timed(name: str, work: Callable[[], Any]) -> tuple[Any, float]:
    """What work returns, and its wall seconds; printed beside those of all its processes."""
    began, used = time.perf_counter(), sum(os.times()[:4])
    found = work()
    wall, used = time.perf_counter() - began, sum(os.times()[:4]) - used
    print(f"{name:40} {wall:6.1f} s, of processes {used:6.1f} s", flush=True)
    return found, wall


def train_in_two(runs: list[tuple[Any, ...]]) -> list[float]:
    """The accuracies of a plain loop spread over two processes of one thread each."""
    with multiprocessing.get_context("fork").Pool(2, torch.set_num_threads, (1,)) as pool:
        scores = pool.starmap(train_plainly, runs, chunksize=1)
        pool.close()
        pool.join()
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    recipes = {name: recipe_of(*choice, options.epochs) for name, choice in CHOICES.items()}
    ravine.train(next(iter(recipes.values())).vary("epochs", 1))  # what is made once in a process
    verdict, ours = timed("ravine.compare", lambda: ravine.compare(recipes, seeds=options.seeds))
    runs = [(*c, options.epochs, s) for c in CHOICES.values() for s in range(options.seeds)]
    threads = torch.get_num_threads()
    name = f"plain loop as it comes, {threads} threads"
    scores, theirs = timed(name, lambda: [train_plainly(*run) for run in runs])
    torch.set_num_threads(1)
    _, single = timed("plain loop, 1 thread", lambda: [train_plainly(*run) for run in runs])
    _, spread = timed("plain loop, 2 processes of 1 thread", lambda: train_in_two(runs))
    found = [score for name in CHOICES for score in verdict[name].scores]
    apart = max(abs(a - b) for a, b in zip(found, scores, strict=True))
    print(verdict)
    print(
        f"\nas often as ravine.compare takes: the loop as it comes {theirs / ours:.1f}, with one "
        f"thread {single / ours:.1f}, in two processes {spread / ours:.1f}"
    )
    print(
        f"largest difference of an accuracy: {apart:.4f} (one row of {verdict.rows}: "
        f"{1 / verdict.rows:.4f})"
    )


if __name__ == "__main__":
    main()
