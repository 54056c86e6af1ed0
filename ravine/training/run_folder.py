"""A run's folder: what is written when, and how it is read back; readable without Ravine.

recipe.toml               the recipe, every setting written out
plan.json                what the run is: recipe, data fingerprint, which members train in which job
checkpoint-0.safetensors  while training, one for each job; gone when the run is finished
record.json, series.csv   what happened
encoder.json              how a table becomes numbers, or the size of images
weights.safetensors       the members' weights, a row for each: [members, ...] by name
"""

import dataclasses
import json
import os
import platform
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pydantic
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ravine import recipe_files
from ravine.data import Encoder, ImageEncoder, Task, encoder_from_plain, signature_of
from ravine.errors import InputError, RunError, first_line
from ravine.files import check_readable, require_path, run_state, write_atomically
from ravine.finding import Finding
from ravine.layout import Rows
from ravine.networks.batched import BatchedNetwork
from ravine.networks.torch_module import ModuleFactory, TorchModule
from ravine.old_names import get_key
from ravine.part import stack
from ravine.protocols import ImageShape, Signature
from ravine.recipe import Recipe
from ravine.record import (
    RECORD_SCHEMA,
    Record,
    check_contents,
    check_schema,
    digest_of,
    json_with_digest,
    read_json,
    read_record,
    record_files,
)
from ravine.serialization import is_name_of, to_plain
from ravine.training.model import Model
from ravine.training.results import installed_version
from ravine.training.run_lock import LOCK_FILE, is_left_over, lock_folder


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make the folder of a new run and hold it alone.

    Raises `InputError` if it is in use, holds anything, or cannot be written to. Files left by a
    process that was killed before its run had begun do not count.
    """
    if not (folder / LOCK_FILE).exists():
        _check_unused(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{folder} cannot be written to"
        why = error.strerror or str(error)
        raise InputError(what, why=why, do="name another folder with --out") from None
    with lock_folder(folder):
        _check_unused(folder)
        yield


def _check_unused(folder: Path) -> None:
    """Raise `InputError` where a folder is a file, or holds anything but what was left over."""
    if folder.exists() and not folder.is_dir():
        kind = "is a file"
    elif folder.exists() and not all(map(is_left_over, folder.iterdir())):
        kind = "is not empty"
    else:
        return
    begun = run_state(folder) == "begun"
    resume = f", or continue that run: ravine train --resume {folder}" if begun else ""
    why = "a run never writes over what is there"
    raise InputError(f"{folder} {kind}", why=why, do=f"name a new folder{resume}")


def write_plan(
    folder: Path,
    recipe: Recipe,
    task: Task,
    jobs: Sequence[Sequence[int]],
    *,
    device: str,
    ranks: int = 1,
    findings: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write what a run is, before its first step: enough to go on with it.

    The plan comes first: a folder that has one can be resumed, any other be trained into.
    """
    plan = {
        "schema": RECORD_SCHEMA,
        "recipe": recipe_files.plain_recipe(recipe_files.with_lasting_paths(recipe, folder)),
        "fingerprint": task.fingerprint,
        "device": device,
        "ranks": ranks,
        "jobs": [list(members) for members in jobs],
        "signature": task.signature._asdict(),
        "findings": list(findings),
        "versions": plan_versions(),
    }
    write_atomically(folder / "plan.json", json_with_digest(plan))
    write_atomically(folder / "recipe.toml", recipe_files.recipe_text(recipe, folder).encode())


def plan_versions() -> dict[str, str]:
    """The versions on which a run's numbers depend."""
    packages = {name: installed_version(name) for name in ("torch", "numpy", "numba", "ravine")}
    return {"python": platform.python_version(), **packages}


def other_versions(plan: Mapping[str, Any]) -> str:
    """Which versions have changed since a plan was made, in a sentence; empty if none has."""
    began, *since = [plan.get("versions", {}), *plan.get("resumed_with", ()), plan_versions()]
    seen = {n: dict.fromkeys([old, *(v.get(n) for v in since)]) for n, old in began.items()}
    changes = [f"{name} {', then '.join(map(str, v))}" for name, v in seen.items() if len(v) > 1]
    if not changes:
        return ""
    why = "its numbers may differ from those of a run never stopped"
    return f"the run was trained with {'; '.join(changes)}: {why}"


def note_versions(plan: Mapping[str, Any], folder: Path) -> str:
    """Add the versions of today to a plan; what `other_versions` says of them."""
    text = other_versions(plan)
    now, known = plan_versions(), [plan.get("versions"), *plan.get("resumed_with", ())]
    if text and now != known[-1]:
        plan = {**plan, "resumed_with": [*known[1:], now]}
        write_atomically(folder / "plan.json", json_with_digest(plan))
    return text


def planned_jobs(plan: Mapping[str, Any], recipe: Recipe, folder: Path) -> list[list[int]]:
    """The members that each job of a run's plan trains."""
    with check_contents(folder / "plan.json"):
        jobs = [[int(member) for member in members] for members in plan["jobs"]]
        if sorted(sum(jobs, [])) != list(range(recipe.seeds)) or not all(jobs):
            raise ValueError(f"its jobs are not the {recipe.seeds} networks of the recipe")
        return jobs


def write_run(record: Record, model: Model | None, folder: Path) -> None:
    """Write a finished run. The record comes last: a folder that has one is complete.

    It has the digests of all other files that say what the run is.
    """
    files = {}
    if model is not None:
        encoder = json.dumps(model.encoder.to_plain()).encode()
        files = {"encoder.json": encoder, "weights.safetensors": _weights(model)}
    digests = {name: digest_of(data) for name, data in files.items()}
    digests["plan.json"] = digest_of((folder / "plan.json").read_bytes())
    for name, data in {**files, **record_files(record, digests)}.items():
        write_atomically(folder / name, data)
    for checkpoint in folder.glob("checkpoint-*.safetensors"):
        checkpoint.unlink()


def unfinished_plan(folder: Path) -> dict[str, Any]:
    """The plan of a run that can go on. Raises `RunError` where the folder holds none."""
    if run_state(folder) == "finished":
        do = f"predict with it: ravine predict {folder} new.csv"
        raise RunError(f"{folder} is finished", why="there is nothing left to train", do=do)
    return read_json(folder / "plan.json")


def planned_recipe(
    plan: Mapping[str, Any], folder: Path, module: ModuleFactory | None = None
) -> Recipe:
    """The recipe of a run's plan; `module` makes its network where that is a torch module."""
    with check_contents(folder / "plan.json"):
        return _recipe_at(plan["recipe"], folder, module)


def check_same_recipe(recipe: Recipe, folder: Path, module: ModuleFactory | None = None) -> None:
    """Raise `RunError` where the recipe.toml of a run that began is not the recipe of its plan.

    A missing one, of a run that was killed before it was written, is written.
    """
    path = folder / "recipe.toml"
    if not path.exists():
        return write_atomically(path, recipe_files.recipe_text(recipe, folder).encode())
    do = f"undo the change, or train anew: ravine train {path}"
    check_readable(path, RunError)
    try:
        own = _recipe_at(tomllib.loads(path.read_text("utf-8")), folder, module)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read", why=first_line(error), do=do) from None
    if different := recipe_files.recipe_differences(own, recipe):
        what = f"{path} was changed after the run began"
        raise RunError(what, why=f"{different[0][0]} differs; a run goes on as it began", do=do)


def _recipe_at(given: Mapping[str, Any], folder: Path, module: ModuleFactory | None) -> Recipe:
    """The recipe that plain data in a run's folder describe."""
    if module is not None:
        given = {**given, "network": {**given["network"], "make": module}}
    recipe = recipe_files.recipe_from(given)
    return recipe_files.with_paths_from(recipe, Path(os.path.realpath(folder)))


def read_run(
    folder: str | Path, module: ModuleFactory | None = None
) -> tuple[Record, Model | None]:
    """The record and model in a run's folder. Raises `RunError` if it is unfinished or damaged."""
    folder = require_path(folder, "the run's folder")
    if not folder.is_dir():
        what = f"{folder} is not a run"
        why = "there is no such folder" if not folder.exists() else "it is a file"
        raise RunError(what, why=why, do="name the folder that `ravine train` printed")
    record = read_record(folder)
    with check_contents(folder / "record.json"):
        record = _checked_record(record)
    diverged = all(m.outcome == "diverged" for m in record.members)
    if diverged and not (folder / "weights.safetensors").exists():
        return record, None
    plan = read_json(folder / "plan.json")
    recipe = planned_recipe(plan, folder, module)
    encoder = _read_encoder(folder / "encoder.json")
    with check_contents(folder / "plan.json"):
        shape = _signature(plan["signature"])
        if shape != signature_of(encoder):
            raise ValueError("it is not of the encoder in encoder.json")
    weights, buffers = _read_weights(folder / "weights.safetensors", recipe, shape)
    model = Model(recipe, encoder, shape, weights, buffers)
    if isinstance(encoder, Encoder):
        # tried on a row of gaps: earlier runs have no digests
        with check_contents(folder / "encoder.json"):
            model.predict(pd.DataFrame({name: [None] for name in encoder.columns}))
    return record, model


def _signature(plain: Mapping[str, Any]) -> Signature:
    image = get_key(plain, "image")
    if image is not None:
        channels, height, width, mean, sd = image
        image = ImageShape(channels, height, width, tuple(mean), tuple(sd))
    columns = {name: tuple(plain[name]) for name in ("codes", "flags")}
    return Signature(plain["numbers"], outputs=plain["outputs"], image=image, **columns)


def _read_encoder(path: Path) -> Encoder | ImageEncoder:
    check_readable(path, RunError)
    with check_contents(path):
        encoder = encoder_from_plain(json.loads(path.read_text("utf-8")))
        _check_types(encoder)
        return encoder


@dataclasses.dataclass(frozen=True)
class TaskFields:
    """What a record says of its task (`describe_task`)."""

    kind: str
    target: list[str]
    classes: list[str]
    examples: dict[str, int]
    features: int
    code_sizes: list[int]
    weights: int
    fingerprint: str


def _checked_record(record: Record) -> Record:
    """A record with its recipe as this version writes it.

    Raises `ValueError` where a field has, at any depth, another type.
    """
    _check_types(record, but="series")  # those are arrays, checked where they are read
    fields = dataclasses.fields(TaskFields)
    _check_types(TaskFields(**{f.name: record.task[f.name] for f in fields}))
    for finding in record.findings:
        _check_types(Finding.from_json(finding))
    if is_name_of(TorchModule, record.recipe["network"]["name"]):  # its function is only named
        return record
    recipe = to_plain(recipe_files.recipe_from({"base": "plain", **record.recipe}))
    if not isinstance(recipe["batch"], int | str) or not isinstance(recipe["epochs"], int):
        raise ValueError("its recipe is not resolved")
    return dataclasses.replace(record, recipe=recipe)


def _check_types(value: Any, but: str = "") -> None:
    """Raise `ValueError` where a dataclass has a field, at any depth, of another type."""
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        if field.name == but:
            continue
        given = getattr(value, field.name)
        entries = given if isinstance(given, tuple) else (given,)
        if entries and all(map(dataclasses.is_dataclass, entries)):
            for entry in entries:
                _check_types(entry)
        else:
            pydantic.TypeAdapter(hints[field.name]).validate_python(given, strict=True)


def _weights(model: Model) -> bytes:
    layout = BatchedNetwork(stack([model.recipe]).network, model.signature).layout
    tensors = {n: v.cpu().contiguous() for n, v in layout.views(model.weights).items()}
    tensors |= {f"buffer/{n}": v.cpu().contiguous() for n, v in model.buffers.items()}
    return safetensors.torch.save(tensors, {"schema": str(RECORD_SCHEMA)})


def _read_weights(path: Path, recipe: Recipe, shape: Signature) -> tuple[Rows, dict[str, Tensor]]:
    check_readable(path, RunError)
    with check_contents(path):
        network = BatchedNetwork(stack([recipe]).network, shape)
        with safetensors.safe_open(path, framework="pt") as file:
            check_schema(int((file.metadata() or {}).get("schema", 0)), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        shapes = {slot.name: slot.shape for slot in network.layout.slots}
        shapes |= {f"buffer/{name}": tuple(v.shape) for name, v in network.buffers.items()}
        members = {len(tensors[name]) for name in shapes}
        for name, wanted in shapes.items():
            if tuple(tensors[name].shape[1:]) != wanted or len(members) != 1:
                raise ValueError(f"{name} has the shape {tuple(tensors[name].shape)}")
        weights = torch.cat([tensors[s.name].flatten(1) for s in network.layout.slots], 1)
    buffers = {n.removeprefix("buffer/"): v for n, v in tensors.items() if n.startswith("buffer/")}
    return weights, buffers
