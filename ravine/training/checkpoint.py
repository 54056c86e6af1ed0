"""Checkpoints: all that a cohort needs to go on, in one file that is replaced as a whole.

Randomness needs no place in it: every stream is made anew from (seed, purpose, step).
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
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
from ravine.old_names import current_code
from ravine.part import rows_of, stack
from ravine.record import RECORD_SCHEMA, check_schema, damaged_file
from ravine.training.cohort import Cohort, Job
from ravine.training.cohort_state import EndedNetworks, TrainingLog, TrainingState


def save_checkpoint(cohort: Cohort, path: Path) -> None:
    """Write a cohort's checkpoint."""
    tensors = {"weights": cohort.weights}
    for group, values in cohort.row_tensors.items():
        tensors |= {f"{group}/{name}": value for name, value in values.items()}
    tensors |= {f"ended/{name}": value for name, value in cohort.ended.tensors.items()}
    tensors |= {f"meter/{name}": value for name, value in cohort.log.meter.sums.items()}
    plain = {
        "schema": RECORD_SCHEMA,
        "counts": cohort.log.meter.counts,
        "ids": cohort.ids,
        "step": cohort.step,
        "loss_count": cohort.state.loss_count,
        "outcomes": cohort.ended.outcomes,
        "effects": cohort.ended.effects,
        "series": cohort.log.series,
        "events": cohort.log.events,
    }
    _write({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, plain, path)


def _write(tensors: dict[str, Tensor], plain: Mapping[str, Any], path: Path) -> None:
    state = json.dumps(plain)
    metadata = {"state": state, "digest": _digest(tensors, state)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def move_rows(
    paths: Sequence[Path], origins: Sequence[Sequence[tuple[int, int]]], folder: Path
) -> None:
    """Write the checkpoints of jobs whose networks go on from where others stand to a folder.

    `paths` are their checkpoints, all of one step, `origins` for each network of each job the job
    and the network there that it goes on from. All that belongs to a network goes with it, its
    series and events, too; one that goes on from a network that has ended has ended. A technique
    that reported in other jobs only did nothing to the networks of a job.
    """
    found = [_unpack(path) for path in paths]
    like = {name: value for tensors, _ in found for name, value in tensors.items()}
    every = [plain["counts"] for _, plain in found]
    counts = {
        name: max(each.get(name, 0) for each in every) for name in sorted(set().union(*every))
    }
    for job, (path, sources) in enumerate(zip(paths, origins, strict=True)):
        ids = [i for i, (c, n) in enumerate(sources) if n in found[c][1]["ids"]]
        rows = [(sources[i][0], found[sources[i][0]][1]["ids"].index(sources[i][1])) for i in ids]
        plain = found[rows[0][0] if rows else job][1]
        tensors = {}
        for name, value in like.items():
            chosen = sources if name.startswith("ended/") else rows
            none = value.new_zeros(value.shape[1:])  # of a technique that acted in other jobs only
            own = [found[c][0][name][i] if name in found[c][0] else none for c, i in chosen]
            tensors[name] = torch.stack(own) if own else found[job][0].get(name, value[:0])
        series: dict[str, dict[int, list[float]]] = {}
        events = [event for event in found[job][1]["events"] if event["member"] is None]
        for i, (c, n) in enumerate(sources):
            events += [e | {"member": i} for e in found[c][1]["events"] if e["member"] == n]
            for name, points in found[c][1]["series"].items():
                for step, values in points:
                    by_step = series.setdefault(name, {})
                    by_step.setdefault(step, [math.nan] * len(sources))[i] = values[n]
        plain = plain | {
            "counts": counts,
            "ids": ids,
            "outcomes": [found[c][1]["outcomes"][n] for c, n in sources],
            "effects": [found[c][1]["effects"][n] for c, n in sources],
            "series": {name: sorted(by_step.items()) for name, by_step in series.items()},
            "events": events,
        }
        _write(tensors, plain, folder / path.name)


def load_checkpoint(path: Path, job: Job) -> Cohort:
    """The cohort of a checkpoint. Raises `RunError` if the file is damaged or of another job."""
    tensors, plain = _unpack(path)
    ids = plain["ids"]
    networks = tensors["ended/steps"].shape[0]
    if networks != len(job.recipes):
        what = f"{path} is of another run"
        why = f"it holds {networks} networks, the recipe asks for {len(job.recipes)}"
        raise RunError(what, why=why, do="resume with the recipe in its folder")
    groups = _groups(tensors, job.device)
    parts = stack(job.recipes)
    if 0 < len(ids) < len(job.recipes):
        parts = rows_of(parts, torch.tensor(ids))
    meter = Meter(len(ids))
    meter.sums = groups.get("meter", {})
    meter.counts = plain["counts"]
    names = ("optimizer", "average", "schedule", "best", "losses", "lowest")
    events = [e | {"kind": current_code(e["kind"])} for e in plain["events"]]
    kept = {name: groups.get(name, {}) for name in names}
    return Cohort(
        job=job,
        parts=parts,
        network=BatchedNetwork(parts.network, job.signature),
        ids=ids,
        step=plain["step"],
        weights=tensors["weights"].to(job.device),
        buffers=groups.get("buffers", {}),
        state=TrainingState(**kept, loss_count=plain["loss_count"]),
        log=TrainingLog(meter, plain["series"], events),
        ended=EndedNetworks(groups["ended"], plain["outcomes"], plain["effects"]),
    )


def _groups(tensors: Mapping[str, Tensor], device: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by group and name, each where `start_cohort` puts it."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        group, _, rest = name.partition("/")
        on_host = group in ("meter", "schedule") or name in ("best/value", "best/step")
        on_host = on_host or (group == "ended" and not value.is_floating_point())
        groups.setdefault(group, {})[rest] = value if on_host else value.to(device)
    return groups


def _unpack(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    check_readable(path, RunError)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        state = metadata["state"]
        plain = json.loads(state)
    except FileNotFoundError:
        do = "train again"
        raise RunError(f"{path} is missing", why="the run left no checkpoint", do=do) from None
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise damaged_file(path, str(error)) from None
    check_schema(plain.get("schema"), path)
    if _digest(tensors, state) != metadata.get("digest"):
        raise damaged_file(path, "its contents do not match its digest")
    return tensors, plain


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    digest = hashlib.blake2b(state.encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
