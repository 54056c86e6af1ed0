"""What a second process saves: `train_all` with one and with two, on two kinds of work.

Run: python -m benchmarks.processes [--repeats 2] [--scale 1.0]

Many small recipes: 64 shapes on digits, 8 to 23 and 8 to 11 hidden units, each a job of its own.
One group: 64 networks of one recipe, 64-100-10, which are one job unless they are split. Printed
are the wall times and their ratio, and whether all weights are equal, bit for bit.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import ravine
from ravine.recipe import Recipe


def small_recipes(scale: float) -> list[Recipe]:
    plain = ravine.named_recipe("plain").vary("data.source", "digits").vary("batch", 32)
    plain = plain.vary("epochs", max(1, round(20 * scale)))
    return [plain.vary("network.hidden", (8 + i % 16, 8 + i // 16)) for i in range(64)]


def one_group(scale: float) -> list[Recipe]:
    plain = ravine.named_recipe("plain").vary("data.source", "digits").vary("batch", 64)
    plain = plain.vary("epochs", max(1, round(400 * scale))).vary("seeds", 64)
    return [plain.vary("network.hidden", (100,))]


def train_all(recipes: list[Recipe], workers: int) -> tuple[float, list[torch.Tensor]]:
    """Wall seconds, and the weights of all runs."""
    began = time.perf_counter()
    runs = ravine.train_all(recipes, workers=workers)
    seconds = time.perf_counter() - began
    return seconds, [run.model.weights for run in runs if run.model is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="of the epochs")
    options = parser.parse_args()
    train_all(small_recipes(0.0)[:1], 1)  # what is made once in a process
    kinds = {"64 small recipes": small_recipes, "64 networks of one recipe": one_group}
    for name, recipes_of in kinds.items():
        recipes, seconds, equal = recipes_of(options.scale), ([], []), True
        for _ in range(options.repeats):
            (one, weights), (two, others) = (train_all(recipes, workers) for workers in (1, 2))
            seconds[0].append(one)
            seconds[1].append(two)
            equal = equal and all(map(torch.equal, weights, others))
        one, two = map(statistics.median, seconds)
        print(
            f"{name:28} 1 process {one:6.1f} s, 2 processes {two:6.1f} s: {one / two:.2f} times, "
            f"weights {'equal' if equal else 'NOT equal'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
