"""The recipe for images on Fashion-MNIST, beside the same network in a plain PyTorch loop: time
and accuracy.

    OMP_NUM_THREADS=1 python -m benchmarks.images [--epochs 8] [--examples 60000] [--folder
    FOLDER]

Both start from the same weights and have the same data in the same order, batch, optimizer,
schedule and loss, and one thread: in float64 they keep the same weights to 1e-13, in float32
rounding drives them apart. They take turns, an epoch each, so what disturbs the machine for a while
disturbs both; times are CPU seconds. The plain loop is written as PyTorch's tutorials are, with
channels first in memory unless `--channels-last` is given. The folder holds the four `*-ubyte.gz`
files of Fashion-MNIST (Debian's package `dataset-fashion-mnist`); without them images of its size
are generated.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ravine import catalog
from ravine.data import Examples
from ravine.losses import SoftmaxCrossEntropy
from ravine.metrics import main_metric
from ravine.networks.conv import Conv
from ravine.optimizers import AdamW
from ravine.protocols import ImageShape, Plan, Signature
from ravine.recipe import Recipe
from ravine.rng import stream
from ravine.training.batches import InMemory
from ravine.training.cohort import Cohort, Job, start_cohort
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator, outputs_on
from ravine.training.loop import train_cohort

CLASSES, BATCH_SIZE, TEST_EXAMPLES = 10, 128, 10_000
OURS, THEIRS = "ravine", "plain PyTorch"


def main() -> None:
    args = arguments()
    if (args.folder / "train-images-idx3-ubyte.gz").exists():
        train, test = examples(args.folder, "train"), examples(args.folder, "t10k")
        train = train.take(torch.arange(min(args.examples, train.count)))
    else:
        print("Fashion-MNIST is not installed: images of its size are generated")
        train, test = (generated_examples(n, seed=n) for n in (args.examples, TEST_EXAMPLES))
    recipe = catalog.named_recipe("image").vary("epochs", args.epochs).vary("batch", BATCH_SIZE)
    smoothing = getattr(recipe.loss, "label_smoothing", 0.0)
    recipe = recipe.vary("loss", SoftmaxCrossEntropy(label_smoothing=smoothing))
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    with exact_arithmetic():
        cohort = start_cohort(job_of(recipe, train))
        net = twin(recipe, cohort).to(memory_format=layout)  # type: ignore[call-overload]
        turns = {OURS: our_epochs(cohort, train), THEIRS: their_epochs(recipe, net, train, layout)}
        taken = side_by_side(turns, epochs=args.epochs)
        ours = outputs_on(cohort.network, cohort.weights, cohort.buffers, test)[0]
        theirs = judged(net, test)
    ratios = [b / a for a, b in zip(taken[OURS], taken[THEIRS], strict=True)]
    print(
        f"time of {THEIRS} / time of {OURS}, epoch by epoch: median "
        f"{statistics.median(ratios):.2f} "
        f"[{min(ratios):.2f} .. {max(ratios):.2f}]"
    )
    for name, outputs in ((OURS, ours), (THEIRS, theirs)):
        accuracy = float((outputs.argmax(1) == test.targets).double().mean())
        print(f"{name:14} {sum(taken[name]):6.0f} s, test accuracy {accuracy:.4f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--channels-last", action="store_true")
    return parser.parse_args()


def side_by_side(turns: dict[str, Iterator[None]], *, epochs: int) -> dict[str, list[float]]:
    """The CPU seconds of each epoch; who goes first changes."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    print(f"{'epoch':>5} " + " ".join(f"{name + ', s':>16}" for name in turns))
    for epoch in range(epochs):
        for name in list(turns) if epoch % 2 else list(turns)[::-1]:
            began = time.process_time()
            next(turns[name])
            taken[name].append(time.process_time() - began)
        print(
            f"{epoch + 1:5} " + " ".join(f"{taken[name][-1]:16.1f}" for name in turns), flush=True
        )
    return taken


def examples(folder: Path, name: str) -> Examples:
    """The images of an idx file as bytes [N, 1, 28, 28], and their classes."""
    with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    return Examples(torch.from_numpy(images.copy()), None, torch.from_numpy(classes))


def generated_examples(count: int, *, seed: int) -> Examples:
    """Images in the size of Fashion-MNIST: a pattern for each class, under noise."""
    patterns = np.random.default_rng(7).integers(0, 256, (CLASSES, 1, 28, 28), np.uint8)
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, CLASSES, count)
    images = rng.integers(0, 256, (count, 1, 28, 28), np.uint8)
    images = images // 4 * 3 + patterns[classes] // 4
    return Examples(torch.from_numpy(images), None, torch.from_numpy(classes))


# Ravine


def job_of(recipe: Recipe, train: Examples) -> Job:
    assert isinstance(recipe.batch, int) and recipe.epochs is not None
    values = train.numbers.double() / 255
    image = ImageShape(1, 28, 28, (float(values.mean()),), (float(values.std()),))
    per_epoch = -(-train.count // recipe.batch)
    return Job(
        recipes=(recipe,),
        seeds=(recipe.seed,),
        signature=Signature(0, (), CLASSES, image),
        plan=Plan(steps=per_epoch * recipe.epochs, per_epoch=per_epoch),
        batch=recipe.batch,
    )


def our_epochs(cohort: Cohort, train: Examples) -> Iterator[None]:
    """An epoch of Ravine's loop, with all that it records, at each turn."""
    plan = cohort.job.plan
    evaluator = Evaluator(plan, None, main_metric("classes"))
    source = InMemory(train, cohort.seeds, batch=cohort.job.batch)
    while True:
        train_cohort(cohort, source, evaluator, pause=lambda c: c.step % plan.per_epoch == 0)
        yield


# Plain PyTorch


class Standardize(nn.Module):
    def __init__(self, image: ImageShape):
        super().__init__()
        self.mean, self.sd = image.mean[0], image.sd[0]

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() / 255 - self.mean) / self.sd


def twin(recipe: Recipe, cohort: Cohort) -> nn.Module:
    """The recipe's network as torch.nn, with the weights of the cohort's only network."""
    network, image = recipe.network, cohort.job.signature.image
    assert isinstance(network, Conv) and image is not None
    layers: list[nn.Module] = [Standardize(image)]
    inputs, side = image.channels, image.height
    for channels in network.channels:
        layers += [
            nn.Conv2d(inputs, channels, network.kernel, padding=network.kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        inputs, side = channels, side // 2
    layers += [nn.Flatten(), nn.Linear(inputs * side * side, CLASSES)]
    net = nn.Sequential(*layers)
    ours = cohort.network.layout.views(cohort.weights)
    for value, parameter in zip(ours.values(), net.parameters(), strict=True):
        turned = value[0].T if value[0].dim() == 2 and parameter.dim() == 2 else value[0]
        parameter.data.copy_(turned.reshape(parameter.shape))
    return net


def their_epochs(recipe: Recipe, net: nn.Module, train: Examples, layout: Any) -> Iterator[None]:
    """An epoch of the plain loop at each turn."""
    optimizer, batch, epochs = recipe.optimizer, recipe.batch, recipe.epochs
    assert (
        isinstance(optimizer, AdamW)
        and isinstance(recipe.loss, SoftmaxCrossEntropy)
        and train.targets is not None
    )
    assert isinstance(batch, int) and epochs is not None
    decayed = [p for p in net.parameters() if p.dim() > 1]
    groups = [
        {"params": decayed},
        {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(
        groups, lr=float(optimizer.lr), weight_decay=float(optimizer.weight_decay)
    )
    steps = -(-train.count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, max_lr=float(optimizer.lr), total_steps=steps * epochs, cycle_momentum=False
    )
    measured = nn.CrossEntropyLoss(label_smoothing=float(recipe.loss.label_smoothing))
    for epoch in range(epochs):
        net.train()
        for index in torch.randperm(
            train.count, generator=stream(recipe.seed, "order", epoch)
        ).split(batch):
            x, y = train.numbers[index].to(memory_format=layout), train.targets[index]
            loss = measured(net(x), y)
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
        yield


@torch.no_grad()
def judged(net: nn.Module, test: Examples) -> Tensor:
    net.eval()
    return torch.cat([net(x) for x in test.numbers.split(250)])


if __name__ == "__main__":
    main()
