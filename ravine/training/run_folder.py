"""A run's folder: what is written when, and how it is read back; readable without Ravine.

recipe.toml               the recipe, every setting written out
plan.json                what the run is: recipe, data fingerprint, which members train in which job
checkpoint-0.safetensors  while training, one for each job; gone when the run is finished
record.json, series.csv   what happened
encoder.json              how a table becomes numbers, or the size of images
weights.safetensors       the members' weights, a row for each: [members, ...] by name
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ravine.data import Encoder, ImageEncoder, Task, encoder_from_plain
from ravine.errors import InputError, RunError
from ravine.files import check_readable, write_atomically
from ravine.layout import Rows
from ravine.networks.batched import BatchedNetwork
from ravine.networks.torch_module import ModuleFactory
from ravine.old_names import get_key
from ravine.part import stack
from ravine.protocols import ImageShape, Signature
from ravine.recipe import Recipe
from ravine.recipe_files import recipe_from, recipe_text, with_lasting_paths
from ravine.record import (
    RECORD_SCHEMA,
    Record,
    check_schema,
    damaged_file,
    read_json,
    read_record,
    record_files,
    unreadable_file,
)
from ravine.training.model import Model


def new_folder(folder: Path) -> Path:
    """Make the folder of a new run. Raises `InputError` if it is in use or cannot be written to."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "is not empty" if folder.is_dir() else "is a file"
        begun = (folder / "plan.json").exists() and not (folder / "record.json").exists()
        resume = f", or continue that run: ravine train --resume {folder}" if begun else ""
        why = "a run never writes over what is there"
        raise InputError(f"{folder} {kind}", why=why, do=f"name a new folder{resume}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        what = f"{folder} cannot be written to"
        why = error.strerror or str(error)
        raise InputError(what, why=why, do="name another folder with --out") from None
    return folder


def write_plan(
    folder: Path,
    recipe: Recipe,
    task: Task,
    jobs: Sequence[Sequence[int]],
    *,
    device: str,
    findings: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write what a run is, before its first step: enough to go on with it."""
    plan = {
        "schema": RECORD_SCHEMA,
        "recipe": plain_recipe(with_lasting_paths(recipe)),
        "fingerprint": task.fingerprint,
        "device": device,
        "jobs": [list(members) for members in jobs],
        "signature": task.signature._asdict(),
        "findings": list(findings),
    }
    write_atomically(folder / "recipe.toml", recipe_text(recipe, folder).encode())
    write_atomically(folder / "plan.json", json.dumps(plan, indent=1).encode())


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data that `recipe_from` reads back, whatever settings its base has."""
    return tomllib.loads(recipe_text(recipe))


def write_run(record: Record, model: Model | None, folder: Path) -> None:
    """Write a finished run. The record comes last: a folder that has one is complete."""
    if model is not None:
        write_atomically(folder / "encoder.json", json.dumps(model.encoder.to_plain()).encode())
        write_atomically(folder / "weights.safetensors", _weights(model))
    for name, data in record_files(record).items():
        write_atomically(folder / name, data)
    for checkpoint in folder.glob("checkpoint-*.safetensors"):
        checkpoint.unlink()


def planned_recipe(plan: Mapping[str, Any], module: ModuleFactory | None = None) -> Recipe:
    """The recipe of a run's plan; `module` makes its network where that is a torch module."""
    given = dict(plan["recipe"])
    if module is not None:
        given["network"] = {**given["network"], "make": module}
    return recipe_from(given)


def read_run(
    folder: str | Path, module: ModuleFactory | None = None
) -> tuple[Record, Model | None]:
    """The record and model in a run's folder. Raises `RunError` if it is unfinished or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        what = f"{folder} is not a run"
        why = "there is no such folder" if not folder.exists() else "it is a file"
        raise RunError(what, why=why, do="name the folder that `ravine train` printed")
    record = read_record(folder)
    diverged = all(m.outcome == "diverged" for m in record.members)
    if diverged and not (folder / "weights.safetensors").exists():
        return record, None
    plan = read_json(folder / "plan.json")
    recipe = planned_recipe(plan, module)
    shape = _signature(plan["signature"])
    encoder = _read_encoder(folder / "encoder.json")
    weights, buffers = _read_weights(folder / "weights.safetensors", recipe, shape)
    return record, Model(recipe, encoder, shape, weights, buffers)


def _signature(plain: Mapping[str, Any]) -> Signature:
    image = get_key(plain, "image")
    if image is not None:
        channels, height, width, mean, sd = image
        image = ImageShape(channels, height, width, tuple(mean), tuple(sd))
    columns = {name: tuple(plain[name]) for name in ("codes", "flags")}
    return Signature(plain["numbers"], outputs=plain["outputs"], image=image, **columns)


def _read_encoder(path: Path) -> Encoder | ImageEncoder:
    check_readable(path, RunError)
    try:
        return encoder_from_plain(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise unreadable_file(path, error) from None
    except (AttributeError, LookupError, TypeError) as error:
        raise damaged_file(path, "it does not describe an encoder") from error


def _weights(model: Model) -> bytes:
    layout = BatchedNetwork(stack([model.recipe]).network, model.signature).layout
    tensors = {n: v.cpu().contiguous() for n, v in layout.views(model.weights).items()}
    tensors |= {f"buffer/{n}": v.cpu().contiguous() for n, v in model.buffers.items()}
    return safetensors.torch.save(tensors, {"schema": str(RECORD_SCHEMA)})


def _read_weights(path: Path, recipe: Recipe, shape: Signature) -> tuple[Rows, dict[str, Tensor]]:
    layout = BatchedNetwork(stack([recipe]).network, shape).layout
    check_readable(path, RunError)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            check_schema(int((file.metadata() or {}).get("schema", 0)), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        weights = torch.cat([tensors[s.name].flatten(1) for s in layout.slots], 1)
    except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        if isinstance(error, RunError):
            raise
        raise damaged_file(path, str(error)) from None
    buffers = {n.removeprefix("buffer/"): v for n, v in tensors.items() if n.startswith("buffer/")}
    return weights, buffers
