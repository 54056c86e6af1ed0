"""What a comparison costs, and that its numbers are those of plain PyTorch.

Run: python -m benchmarks.comparison [--seeds 16] [--epochs 30]

Four choices (momentum SGD and Adam, two rates each) with 16 seeds on digits, 64-100-10: once by
`ravine.compare` on two processes (training, scoring, statistics and the time of one network alone
counted in), once by a plain loop of PyTorch over the same runs on two processes of one thread each,
with the same starts and the same orders of examples, `torch.optim` as it comes, and the accuracy of
the last weights. Printed are the wall time of both, their ratio, and the largest difference of an
accuracy.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
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

PROCESSES = 2
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
    torch.set_num_threads(1)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipes = {name: recipe_of(*choice, options.epochs) for name, choice in CHOICES.items()}
    ravine.train(next(iter(recipes.values())).vary("epochs", 1))  # what is made once in a process
    began = time.perf_counter()
    verdict = ravine.compare(recipes, seeds=options.seeds, workers=PROCESSES)
    ours = time.perf_counter() - began
    runs = [(*c, options.epochs, s) for c in CHOICES.values() for s in range(options.seeds)]
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        began = time.perf_counter()
        scores = pool.starmap(train_plainly, runs, chunksize=1)
        theirs = time.perf_counter() - began
    found = [score for name in CHOICES for score in verdict[name].scores]
    apart = max(abs(a - b) for a, b in zip(found, scores, strict=True))
    print(verdict)
    print(f"\nravine.compare {ours:.1f} s, plain loop {theirs:.1f} s: {theirs / ours:.1f} times")
    print(
        f"largest difference of an accuracy: {apart:.4f} (one row of {verdict.rows}: "
        f"{1 / verdict.rows:.4f})"
    )


if __name__ == "__main__":
    main()
