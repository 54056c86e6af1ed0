"""Transfer learning by features: a frozen network's outputs as a table on which heads train.

Letters: N images, C channels, H × W places, F features.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ravine.argument_checks import Count, check_arguments
from ravine.data.images import Images
from ravine.data.source import Data
from ravine.data.splits import SPLIT_NAMES, Given
from ravine.data.task import Task
from ravine.errors import DataError, InputError, RecipeError, nearest, value_text
from ravine.files import write_atomically
from ravine.finetuning import DepthRates, Gradual
from ravine.networks import Mlp, Pretrained, pretrained
from ravine.networks.pretrained import ImageFormat, to_unit_range
from ravine.protocols import Tuning
from ravine.recipe import Recipe
from ravine.serialization import vary
from ravine.training.arguments import require_device
from ravine.training.defaults import load_task
from ravine.training.determinism import exact_arithmetic
from ravine.training.run import Run
from ravine.training.train import train

CACHE_FOLDER = Path("~/.cache/ravine/features")
SPLIT_COLUMN = "split"  # the column that says which split an image is in
Mode = Literal["features", "fine-tune", "scratch"]


def features(
    network: str | Pretrained | nn.Module,
    images: Any,
    *,
    layer: str | None = None,
    cache: str | Path | None = CACHE_FOLDER,
    batch: Count = 32,
    device: str = "cpu",
) -> Tensor:
    """The outputs of a frozen network on images: float32 [N, F], in the images' order.

    `network` is "efficientnet-lite0", "timm/NAME", a `Pretrained` (which also resizes images), or
    any module (which gets floats from 0 to 1). `images` are bytes or floats from 0 to 1, [N, C, H,
    W]. `layer` names a module within the network whose outputs are used instead of the last ones;
    outputs [N, F, H, W] are averaged over places. The network runs in evaluation mode, `batch`
    images at a time.

    They are computed once: `cache` is the folder that keeps them, under a hash of the weights, the
    preprocessing and the images (None keeps nothing). A damaged file in it is replaced. Raises
    `InputError` for wrong images or names, before any work.

    >>> module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> features(module, torch.zeros(5, 3, 8, 8), cache=None).shape
    torch.Size([5, 4])
    """
    check_arguments(features, locals())
    tensor = _check_images(images)
    device = require_device(device)
    known, module = _load_frozen(network)
    observed = module if layer is None else _layer_named(module, layer)
    path = None
    if cache is not None:
        path = Path(cache).expanduser() / f"{_digest(module, known, layer, tensor)}.safetensors"
        with suppress(OSError, KeyError, ValueError, safetensors.SafetensorError):
            return safetensors.torch.load_file(path)["features"]
    prepare = to_unit_range
    if known is not None:
        prepare = pretrained.PreprocessLayer(known, tensor.shape[1]).preprocess
    found = _compute(module.to(device), observed, prepare, tensor, batch=batch, device=device)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, safetensors.torch.save({"features": found}))
    return found


def feature_table(values: Tensor) -> pd.DataFrame:
    """Features [N, F] as the table that the run of `transfer` predicts from.

    >>> list(feature_table(torch.zeros(2, 3)).columns)
    ['f0000', 'f0001', 'f0002']
    """
    check_arguments(feature_table, locals())
    return pd.DataFrame({f"f{i:04}": column for i, column in enumerate(values.numpy().T)})


def transfer(
    recipe: Recipe,
    source: Any = None,
    *,
    network: str | Pretrained = "efficientnet-lite0",
    mode: Mode = "features",
    tuning: tuple[Tuning, ...] = (Gradual(), DepthRates()),
    layer: str | None = None,
    cache: str | Path | None = CACHE_FOLDER,
    **options: Any,
) -> Run:
    """Train on images with a pretrained network: an ordinary run.

    `source` is a folder of images, a pair of arrays (X [N, C, H, W], y), or None for the recipe's
    own. All but the network is the recipe's: splits, optimizer, schedule, epochs, seeds.

        features    the body is frozen; heads train on a table of its features (`features`)
        fine-tune   the body starts from its pretrained weights and trains as `tuning` says: by
                    default one more depth is unfrozen in each epoch, at lower rates the deeper
        scratch     the same network from random weights, nothing frozen: for comparison

    `options` are those of `ravine.train` (`out`, `device`, `workers`, `report`). Raises
    `InputError` before any work. With "features", new images are predicted by
    `run.predict(feature_table(features(network, images)))`.
    """
    check_arguments(transfer, locals())
    part = Pretrained(of=network) if isinstance(network, str) else network
    frame = source
    if isinstance(source, (str, Path)):
        recipe, frame = recipe.vary("data", Images(source=str(source))), None
    elif source is not None and not isinstance(recipe.data, Images):
        recipe = recipe.vary("data", Images())
    if mode == "scratch":
        anew = vary(vary(part, "weights", pretrained.RANDOM_WEIGHTS), "statistics", "batch")
        return train(recipe.vary("network", anew).vary("tuning", ()), frame, **options)
    if mode == "fine-tune":
        return train(recipe.vary("network", part).vary("tuning", tuning), frame, **options)
    recipe, table = heads_on_features(recipe, frame, network=part, layer=layer, cache=cache)
    return train(recipe, table, **options)


def heads_on_features(
    recipe: Recipe,
    frame: Any = None,
    *,
    network: Pretrained,
    layer: str | None = None,
    cache: str | Path | None = CACHE_FOLDER,
) -> tuple[Recipe, pd.DataFrame]:
    """The recipe of heads on a frozen network's features, and the table of these.

    Each image stays in the split that the recipe gives it.
    """
    if recipe.augment:
        what, why = "the recipe augments images", "features of a frozen network are computed once"
        raise RecipeError(what, why=why, do='set augment = "none", or use mode = "fine-tune"')
    task = load_task(recipe, frame)
    tables = []
    for name in SPLIT_NAMES:
        examples = getattr(task, name)
        if examples is not None:
            table = feature_table(features(network, examples.numbers, layer=layer, cache=cache))
            tables.append(table.assign(**_answers(task, examples.targets), **{SPLIT_COLUMN: name}))
    columns = tuple(c for c in tables[0].columns if c != SPLIT_COLUMN and c not in task.targets)
    same = ("activation", "initializer", "bias", "norm", "dropout")
    head = Mlp(hidden=network.head, **{name: getattr(network, name) for name in same})
    data = Data(target=task.targets, task=task.kind, numbers=columns)
    split = Given(column=SPLIT_COLUMN)
    if task.validation is None:
        split = vary(split, "validation", 0.0)
    recipe = dataclasses.replace(recipe, data=data, split=split, network=head, tuning=())
    return recipe, pd.concat(tables, ignore_index=True)


def _check_images(given: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(np.asarray(given) if not isinstance(given, Tensor) else given)
    except (TypeError, ValueError, RecursionError, OverflowError):
        why = "they must be an array [N, C, H, W]"
        raise DataError(f"images are {value_text(given)}", why=why) from None
    if tensor.dim() != 4 or not len(tensor):
        why, do = "they must be [N, C, H, W], one at least", "give bytes or floats from 0 to 1"
        raise DataError(f"images are {list(tensor.shape)}", why=why, do=do)
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        why, do = "they must be bytes, or floats from 0 to 1", "convert them to numpy.uint8"
        raise DataError(f"images are {tensor.dtype}", why=why, do=do)
    return tensor


def _load_frozen(network: str | Pretrained | nn.Module) -> tuple[ImageFormat | None, nn.Module]:
    """How images are prepared (None: not at all), and the network, ready to run."""
    if isinstance(network, nn.Module):
        return None, network.eval()
    part = Pretrained(of=network) if isinstance(network, str) else network
    module = pretrained.Architecture(part.of).network()
    if part.weights != pretrained.RANDOM_WEIGHTS:
        module.load_state_dict(part.state())
    return part.image_format(), module.eval()


def _layer_named(module: nn.Module, layer: str) -> nn.Module:
    named = dict(module.named_modules())
    if not layer or layer not in named:
        why = nearest(layer, [n for n in named if n])
        raise InputError(f"the network has no layer {layer!r}", why=why)
    return named[layer]


def _answers(task: Task, targets: Tensor) -> dict[str, Any]:
    """A split's answers in their own words, by column."""
    if task.kind in ("binary", "classes"):
        places = targets.reshape(len(targets), -1)[:, 0].long().tolist()
        return {task.targets[0]: [task.classes[place] for place in places]}
    values = task.encoder.target.decode(targets).reshape(len(targets), -1)
    values = values.long() if task.kind == "labels" else values
    return {name: values[:, i].tolist() for i, name in enumerate(task.targets)}


@torch.inference_mode()
def _compute(
    module: nn.Module,
    observed: nn.Module,
    prepare: Callable[[Tensor, torch.dtype], Tensor],
    images: Tensor,
    *,
    batch: int,
    device: str,
) -> Tensor:
    outputs: list[Any] = []
    hook = observed.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    found = []
    try:
        with exact_arithmetic():
            for at in range(0, len(images), batch):
                module(prepare(images[at : at + batch].to(device), torch.float32))
                output = outputs[-1]
                outputs.clear()
                found.append(output.mean((2, 3)) if output.dim() == 4 else output.flatten(1))
    finally:
        hook.remove()
    return torch.cat(found).float().cpu().clone()


def _digest(module: nn.Module, known: ImageFormat | None, layer: str | None, images: Tensor) -> str:
    """A hash of all that features depend on."""
    settings = f"{module!r} {known!r} {layer!r} {images.dtype} {images.shape}"
    hashed = hashlib.blake2b(settings.encode(), digest_size=16)
    for name, value in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    hashed.update(images.cpu().contiguous().numpy().data)
    return hashed.hexdigest()
