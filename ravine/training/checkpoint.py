"""Checkpoints: all that a cohort needs to go on, in one safetensors file that is replaced as a
whole.

Randomness needs no place in it: every stream is made anew from (seed, purpose, step).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ravine.effects import Meter
from ravine.errors import RunError
from ravine.files import check_readable, write_atomically
from ravine.networks.batched import BatchedNetwork
from ravine.part import rows_of, stack
from ravine.record import RECORD_SCHEMA, check_schema
from ravine.training.cohort import Cohort, Job


def save(cohort: Cohort, path: Path) -> None:
    """Write a cohort's checkpoint."""
    tensors = {"weights": cohort.weights}
    for group, held in cohort.held.items():
        tensors |= {f"{group}/{name}": value for name, value in held.items()}
    tensors |= {f"ended/{name}": value for name, value in cohort.ended.items()}
    tensors |= {f"meter/{name}": value for name, value in cohort.meter.sums.items()}
    plain = {
        name: getattr(cohort, name)
        for name in ("ids", "step", "loss_count", "outcomes", "effects", "series", "events")
    }
    state = json.dumps({"schema": RECORD_SCHEMA, "counts": cohort.meter.counts, **plain})
    write_atomically(path, _packed(tensors, state))


def load(path: Path, job: Job) -> Cohort:
    """The cohort of a job as its checkpoint holds it. Raises `RunError` if the file is damaged or
    of another job.
    """
    tensors, state = _unpacked(path)
    ids = state["ids"]
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        group, _, rest = name.partition("/")
        on_host = group in ("meter", "schedule") or (
            group == "ended" and not value.is_floating_point()
        )  # as `start`
        groups.setdefault(group, {})[rest] = value if on_host else value.to(job.device)
    if tensors["ended/steps"].shape[0] != len(job.recipes):
        held = tensors["ended/steps"].shape[0]
        why = f"it holds {held} networks, the recipe asks for {len(job.recipes)}"
        raise RunError(
            f"{path} is of another run", why=why, do="resume with the recipe in its folder"
        )
    parts = stack(job.recipes)
    if 0 < len(ids) < len(job.recipes):
        parts = rows_of(parts, torch.tensor(ids))
    meter = Meter(len(ids))
    meter.sums, meter.counts = groups.get("meter", {}), state["counts"]
    for name in ("value", "step"):
        groups["best"][name] = groups["best"][name].cpu()
    return Cohort(
        job=job,
        parts=parts,
        program=BatchedNetwork(parts.network, job.signature),
        meter=meter,
        weights=tensors["weights"].to(job.device),
        **{
            name: groups.get(name, {})
            for name in ("buffers", "optimizer", "average", "schedule", "best", "losses", "lowest")
        },
        ended=groups["ended"],
        ids=ids,
        step=state["step"],
        loss_count=state["loss_count"],
        outcomes=state["outcomes"],
        effects=state["effects"],
        series={
            name: [(step, values) for step, values in points]
            for name, points in state["series"].items()
        },
        events=state["events"],
    )


def _packed(tensors: Mapping[str, Tensor], state: str) -> bytes:
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return safetensors.torch.save(tensors, {"state": state, "digest": _digest(tensors, state)})


def _unpacked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    check_readable(path, RunError)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        state = metadata["state"]
        plain = json.loads(state)
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing", why="the run left no checkpoint", do="train again"
        ) from None
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise RunError(
            f"{path} is damaged", why=str(error), do="train again without --resume"
        ) from None
    check_schema(plain.get("schema"), path)
    if _digest(tensors, state) != metadata.get("digest"):
        raise RunError(
            f"{path} is damaged",
            why="its contents do not match its digest",
            do="train again without --resume",
        )
    return tensors, plain


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    digest = hashlib.blake2b(state.encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
