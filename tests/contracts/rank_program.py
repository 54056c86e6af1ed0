"""Recipes that one process and two ranks train to the same weights.

`torchrun rank_program.py FOLDER` writes there what each rank found; `torchrun rank_program.py CALL
ARGUMENTS` is Ravine's command, which saves often, and rank 1 is killed at its all-reduce CALL.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import ravine
from ravine import networks, penalties
from ravine.augment import ALL as AUGMENTATIONS
from ravine.cli import main
from ravine.data import Data, Images, Random, image_file, streaming
from ravine.networks.layer_parts import BatchNorm, Dropout, LayerNorm, SpatialDropout
from ravine.optimizers.adaptive import AdamW
from ravine.optimizers.averaging import Ema
from ravine.optimizers.clipping import ClipNorm
from ravine.optimizers.second_order import Lbfgs, Newton
from ravine.optimizers.sgd import SGD
from ravine.training.train import train

BASE = ravine.named_recipe("plain").vary("precision", "float64").vary("epochs", 3)
TABLE = BASE.vary("data.target", ("y",)).vary("seeds", 2).vary("network.hidden", (7,))
PARTS = {part.__name__: part for part in AUGMENTATIONS}


def table():
    """77 rows of a table; 53 train, so that batches of 13 leave one row over."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(77, 4))
    columns = {name: x[:, i] for i, name in enumerate("abcd")}
    noise = draw.normal(size=77)
    return pd.DataFrame({**columns, "y": x[:, 0] - x[:, 1] ** 2 + noise, "weight": x[:, 2] ** 2})


def images():
    """A pair of 60 small images and their classes."""
    draw = np.random.default_rng(1)
    labels = np.arange(60) % 3
    return draw.random((60, 6, 6)) * 0.5 + labels[:, None, None] / 6, labels


def vary(recipe, **settings):
    for path, value in settings.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    return recipe


def cases():
    """Recipe and data of each case by name."""
    conv = vary(BASE, data=Images(), network=networks.Conv(channels=(4,)), batch=16, seeds=1)
    norm = {"network__norm": BatchNorm()}
    recipes = {
        "dropout, weights, clipping, penalties, AdamW": vary(
            TABLE,
            data__weight="weight",
            network__dropout=Dropout(rate=0.3),
            network__norm=LayerNorm(),
            penalties=(penalties.L2(strength=0.01), penalties.L1(strength=0.001)),
            clip=ClipNorm(limit=0.3),
            optimizer=AdamW(lr=0.01),
            batch=13,
        ),
        "batch norm, an average, SGD": vary(
            TABLE, **norm, optimizer=SGD(lr=0.05), average=Ema(), batch=13
        ),
        "a backward pass that is written out": vary(TABLE, batch=10),
        "all rows at once, a line search": vary(TABLE, batch="all", optimizer=Lbfgs()),
        "batch norm, the whole Hessian": vary(TABLE, **norm, batch="all", optimizer=Newton()),
    }
    found = {name: (recipe, table()) for name, recipe in recipes.items()}
    augment = tuple(PARTS[name]() for name in ("Flip", "Erase", "Mixup"))
    conv = vary(conv, network__norm=BatchNorm(), network__dropout=SpatialDropout(rate=0.2))
    found["a convolution, batch norm, augmentation"] = (vary(conv, augment=augment), images())
    return found


def train_case(recipe, frame):
    """What a run is compared by: weights, buffers, what techniques did, the last losses."""
    run = ravine.train(recipe, frame, workers=1, baseline=False)
    effects = {e.name: torch.tensor(e.values) for e in run.record.effects}
    series = {n: torch.tensor(s.values[-1]) for n, s in run.record.series.items()}
    return {"weights": run.model.weights, **run.model.buffers, **effects, **series}


def streamed(folder):
    """A recipe whose table is read in pieces: 11 row groups of unequal sizes."""
    path = Path(folder) / "rows.parquet"
    if not path.exists():
        draw = np.random.default_rng(2)
        x = draw.normal(size=(6000, 3))
        frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x.sum(1), "w": x[:, 2] ** 2})
        frame.to_parquet(path, row_group_size=570)
    data = Data(source=str(path), target=("y",), memory="300KB", weight="w")
    settings = {"network__hidden": (5,), "network__dropout": Dropout(rate=0.2)}
    recipe = vary(BASE, data=data, split=Random(), **settings, batch=64, epochs=2)
    return recipe.vary("optimizer", SGD(lr=0.02))


def photos(folder):
    """A recipe on a folder of 24 pictures of two classes."""
    root = Path(folder) / "photos"
    if not root.exists():
        draw = np.random.default_rng(3)
        for i in range(24):
            place = root / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 128, (8, 8, 3)) + 100 * (i % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    network = networks.Conv(channels=(3,), hidden=())
    return vary(BASE, data=Images(source=str(root)), network=network, batch=8, epochs=2)


def counted(module, name, calls):
    """Replace a function by one that notes its first argument."""
    function = getattr(module, name)
    setattr(
        module,
        name,
        lambda first, *more, **named: calls.append(first) or function(first, *more, **named),
    )


def train_all_cases(folder):
    """Train every case as this rank, and write what it found and what it opened."""
    calls, read, opened = [], [], []
    counted(torch.distributed, "all_reduce", calls)
    counted(streaming, "read_blocks", read)
    counted(image_file, "decode_image", opened)
    counted(image_file, "read_header", opened)
    everything = {}
    for name, case in cases().items():
        calls.clear()
        everything[name] = {**train_case(*case), "calls": [call.numel() for call in calls]}
    everything["streamed"] = train_case(streamed(folder), None)
    everything["photos"] = train_case(photos(folder), None)
    everything |= {"read": [piece.group for piece in read], "opened": [str(p) for p in opened]}
    torch.save(everything, Path(folder) / f"rank-{torch.distributed.get_rank()}.pt")


def run_command(last, arguments):
    """Ravine's command; rank 1 is killed at an all-reduce, and says what it writes in `runs`."""
    train.__kwdefaults__["checkpoint_seconds"] = 0.0
    reduce, calls = torch.distributed.all_reduce, itertools.count(1)

    def reduce_or_die(values):
        if next(calls) == last and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return reduce(values)

    def report_writing(event, given):
        if event == "open" and f"{os.sep}runs{os.sep}" in str(given[0]):
            if given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                print("rank 1 writes", given[0], file=sys.stderr)

    if os.environ["RANK"] == "1":
        sys.addaudithook(report_writing)
    torch.distributed.all_reduce = reduce_or_die
    main(arguments)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run_command(int(sys.argv[1]), sys.argv[2:])
    else:
        train_all_cases(sys.argv[1])
