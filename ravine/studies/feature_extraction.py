"""Transfer by features: what a frozen network makes of pictures, computed once, as a table on which
heads train (T1).

Letters: N pictures, C channels, H × W places, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ravine.data.images import Images
from ravine.data.source import Data
from ravine.data.splits import SPLIT_NAMES, Given
from ravine.errors import DataError, InputError, RecipeError, nearest
from ravine.files import write_atomically
from ravine.finetuning import DepthRates, Gradual
from ravine.networks.mlp import Mlp
from ravine.networks.pretrained import (
    RANDOM_WEIGHTS,
    Architecture,
    ImageFormat,
    PreprocessLayer,
    Pretrained,
)
from ravine.protocols import Tuning
from ravine.recipe import Recipe
from ravine.serialization import vary
from ravine.training.defaults import load_task
from ravine.training.determinism import exact_arithmetic
from ravine.training.run import Run
from ravine.training.train import train

CACHE = Path("~/.cache/ravine/features")
SPLIT = "split"  # the column that says which split a picture is in
Mode = Literal["features", "fine-tune", "scratch"]


def features(
    network: str | Pretrained | nn.Module,
    pictures: Any,
    *,
    layer: str | None = None,
    cache: str | Path | None = CACHE,
    batch: int = 32,
    device: str = "cpu",
) -> Tensor:
    """What a frozen network makes of pictures: float32 [N, F], in the pictures' order.

    `network` is "efficientnet-lite0", "timm/NAME", a `Pretrained` (which also says to what size
    pictures are brought), or any module (which gets them as they are, as floats from 0 to 1).
    `pictures` are bytes or floats from 0 to 1, [N, C, H, W]. `layer` names a module within the
    network whose outputs are taken instead of the last ones; of outputs with places the mean over
    them is taken. The network runs in evaluation mode, `batch` pictures at a time.

    They are computed once: `cache` is the folder that keeps them, under a hash of the weights, of
    how the pictures are prepared and of the pictures (None keeps nothing). A damaged file in it is
    made anew. Raises `InputError` for wrong pictures or names, before any work.

    >>> module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> features(module, torch.zeros(5, 3, 8, 8), cache=None).shape
    torch.Size([5, 4])
    """
    tensor = _pictures(pictures)
    known, module = _frozen(network)
    prepare = _as_is if known is None else PreprocessLayer(known, tensor.shape[1]).preprocess
    inner = _inner(module, layer)
    path = None
    if cache is not None:
        path = Path(cache).expanduser() / f"{_digest(module, known, layer, tensor)}.safetensors"
        found = _cached(path)
        if found is not None:
            return found
    made = _computed(module.to(device), inner, prepare, tensor, batch=batch, device=device)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, safetensors.torch.save({"features": made}))
    return made


def feature_table(values: Tensor) -> pd.DataFrame:
    """Features [N, F] as a table whose columns are f0000, f0001, ...: what the run of `transfer`
    predicts from.

    >>> list(feature_table(torch.zeros(2, 3)).columns)
    ['f0000', 'f0001', 'f0002']
    """
    return pd.DataFrame(
        values.numpy(), columns=pd.Index([f"f{i:04}" for i in range(values.shape[1])])
    )


def transfer(
    recipe: Recipe,
    source: Any = None,
    *,
    network: str | Pretrained = "efficientnet-lite0",
    mode: Mode = "features",
    tuning: tuple[Tuning, ...] = (Gradual(), DepthRates()),
    layer: str | None = None,
    cache: str | Path | None = CACHE,
    **options: Any,
) -> Run:
    """Train on pictures with what a network learned from others: an ordinary run, members, interval
    and all.

    `source` is a folder of pictures, a pair of arrays (X [N, C, H, W], y), or None for the recipe's
    own. All but the network is the recipe's: splits, optimizer, schedule, how long, how many seeds.

        features    the body is frozen; heads train on a table of its features (`features`)
        fine-tune   the body starts from what it learned and moves as `tuning` says: by default one
                    more depth is let go
                    in each epoch, at lower rates the deeper it is
        scratch     the same network from random weights, nothing frozen: to compare both with

    `options` are those of `ravine.train` (`out`, `device`, `workers`, `report`). Raises
    `InputError` before any work. With "features", new pictures are predicted by
    `run.predict(feature_table(features(network, pictures)))`.
    """
    part = Pretrained(of=network) if isinstance(network, str) else network
    recipe, frame = _sourced(recipe, source)
    if mode == "scratch":
        anew = vary(vary(part, "weights", RANDOM_WEIGHTS), "statistics", "batch")
        return train(recipe.vary("network", anew).vary("tuning", ()), frame, **options)
    if mode == "fine-tune":
        return train(recipe.vary("network", part).vary("tuning", tuning), frame, **options)
    if mode != "features":
        raise RecipeError(
            f"mode is {mode!r}", why=nearest(str(mode), ["features", "fine-tune", "scratch"])
        )
    return train(
        *heads_on_features(recipe, frame, network=part, layer=layer, cache=cache), **options
    )


def heads_on_features(
    recipe: Recipe,
    frame: Any = None,
    *,
    network: Pretrained,
    layer: str | None = None,
    cache: str | Path | None = CACHE,
) -> tuple[Recipe, pd.DataFrame]:
    """The recipe of heads on a frozen network's features, and the table of these: for `train`,
    `train_all`, `compare`.

    Each picture stays in the split that the recipe gives it.
    """
    if recipe.augment:
        raise RecipeError(
            "the recipe augments pictures",
            why="features of a frozen network are computed once",
            do='set augment = "none", or use mode = "fine-tune"',
        )
    task = load_task(recipe, frame)
    tables = []
    for name in SPLIT_NAMES:
        examples = getattr(task, name)
        if examples is not None:
            table = feature_table(features(network, examples.numbers, layer=layer, cache=cache))
            tables.append(table.assign(**_answers(task, examples.targets), **{SPLIT: name}))
    columns = tuple(c for c in tables[0].columns if c != SPLIT and c not in task.targets)
    head = Mlp(
        hidden=network.head,
        activation=network.activation,
        initializer=network.initializer,
        bias=network.bias,
        norm=network.norm,
        dropout=network.dropout,
    )
    recipe = recipe.vary("data", Data(target=task.targets, task=task.kind, numbers=columns))
    recipe = recipe.vary(
        "split",
        Given(column=SPLIT, validation=0.0) if task.validation is None else Given(column=SPLIT),
    )
    return recipe.vary("network", head).vary("tuning", ()), pd.concat(tables, ignore_index=True)


# What is given


def _pictures(given: Any) -> Tensor:
    tensor = torch.as_tensor(np.asarray(given) if not isinstance(given, Tensor) else given)
    if tensor.dim() != 4 or not len(tensor):
        raise DataError(
            f"pictures are {list(tensor.shape)}",
            why="they must be [N, C, H, W], one at least",
            do="give bytes or floats from 0 to 1",
        )
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise DataError(
            f"pictures are {tensor.dtype}",
            why="they must be bytes, or floats from 0 to 1",
            do="convert them: pictures.astype(numpy.uint8)",
        )
    return tensor


def _frozen(network: str | Pretrained | nn.Module) -> tuple[ImageFormat | None, nn.Module]:
    """How pictures are prepared (None: not at all), and the network, ready to run."""
    if isinstance(network, nn.Module):
        return None, network.eval()
    part = Pretrained(of=network) if isinstance(network, str) else network
    known, module = part.image_format(), Architecture(part.of).network()
    if part.weights != RANDOM_WEIGHTS:
        module.load_state_dict(part.state())
    return known, module.eval()


def _inner(module: nn.Module, layer: str | None) -> nn.Module | None:
    if layer is None:
        return None
    named = dict(module.named_modules())
    if not layer or layer not in named:
        raise InputError(
            f"the network has no layer {layer!r}", why=nearest(layer, [n for n in named if n])
        )
    return named[layer]


def _sourced(recipe: Recipe, source: Any) -> tuple[Recipe, Any]:
    """The recipe and the frame that stand for a source."""
    if source is None:
        return recipe, None
    if isinstance(source, (str, Path)):
        return recipe.vary("data", Images(source=str(source))), None
    return recipe if isinstance(recipe.data, Images) else recipe.vary("data", Images()), source


def _answers(task: Any, targets: Tensor) -> dict[str, Any]:
    """A split's answers in their own words, by column."""
    if task.kind in ("binary", "classes"):
        places = targets.reshape(len(targets), -1)[:, 0].long().tolist()
        return {task.targets[0]: [task.classes[place] for place in places]}
    values = task.encoder.target.decode(targets).reshape(len(targets), -1)
    values = values.long() if task.kind == "labels" else values
    return {name: values[:, i].tolist() for i, name in enumerate(task.targets)}


# Computing and keeping


def _as_is(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    return pictures.to(dtype) / 255 if pictures.dtype == torch.uint8 else pictures.to(dtype)


@torch.inference_mode()
def _computed(
    module: nn.Module,
    inner: nn.Module | None,
    prepare: Callable[[Tensor, torch.dtype], Tensor],
    pictures: Tensor,
    *,
    batch: int,
    device: str,
) -> Tensor:
    seen: list[Tensor] = []

    def see(_module: nn.Module, _given: Any, output: Tensor) -> None:
        seen.append(output)

    hook = None if inner is None else inner.register_forward_hook(see)
    found = []
    try:
        with exact_arithmetic():
            for at in range(0, len(pictures), batch):
                seen.clear()
                output = module(prepare(pictures[at : at + batch].to(device), torch.float32))
                output = output if inner is None else seen[-1]
                found.append(output.mean((2, 3)) if output.dim() == 4 else output.flatten(1))
    finally:
        if hook is not None:
            hook.remove()
    return torch.cat(found).float().cpu().clone()


def _digest(
    module: nn.Module, known: ImageFormat | None, layer: str | None, pictures: Tensor
) -> str:
    """A hash of all that features depend on."""
    hashed = hashlib.blake2b(
        f"{module!r} {known!r} {layer!r} {pictures.dtype} {pictures.shape}".encode(), digest_size=16
    )
    for name, value in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    hashed.update(pictures.cpu().contiguous().numpy().data)
    return hashed.hexdigest()


def _cached(path: Path) -> Tensor | None:
    try:
        return safetensors.torch.load_file(path)["features"]
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return None
