"""Puts each recipe's run together: members, model, score, effects of techniques, record."""

import functools
import importlib.metadata
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ravine.data import Task
from ravine.effects import Effect
from ravine.losses import SMOOTHING_EFFECT
from ravine.part import is_part
from ravine.recipe import Recipe
from ravine.record import EffectReport, Event, Member, Record, Series
from ravine.serialization import to_plain
from ravine.training.batches import CLASS_WEIGHTS_EFFECT
from ravine.training.cohort import InitialState
from ravine.training.cohort_state import EndedNetworks, TrainingLog
from ravine.training.defaults import training_plan
from ravine.training.intervals import calibrate_intervals
from ravine.training.jobs import JobAssignment
from ravine.training.model import Model
from ravine.training.scores import score_model
from ravine.training.snapshots import BUFFER_KEY, FILLED_KEY, WEIGHTS_KEY

UPDATE_EFFECT = Effect("update", "mean |Δw| / |w| of a step")


class JobResult(NamedTuple):
    """What a job gives back: what is left of its N networks, and what was measured."""

    ended: EndedNetworks
    log: TrainingLog
    interrupted: bool
    end: InitialState | None = None  # where its networks stand, if it began from a `InitialState`
    way: str = ""  # how its steps were made


class TrainedMember(NamedTuple):
    """A member of a recipe: the result of the job that it trained in, and its row there."""

    member: int
    result: JobResult
    row: int

    @property
    def outcome(self) -> str:
        """How it ended."""
        return self.result.ended.outcomes[self.row]

    def at_end(self, name: str) -> Tensor:
        """Its row in one of the tensors that are left of ended networks."""
        return self.result.ended.tensors[name][self.row]

    @property
    def snapshots(self) -> Tensor | None:
        """Which places hold a snapshot, [K]; None where the recipe keeps none."""
        return self.at_end(FILLED_KEY) if FILLED_KEY in self.result.ended.tensors else None


def assemble_run(
    recipe: Recipe,
    task: Task,
    *,
    place: int = 0,
    assignments: Sequence[JobAssignment],
    results: Sequence[JobResult],
    seconds: float,
    baseline: bool = False,
) -> tuple[Record, Model | None]:
    """The record and the model of the recipe at a place of a list; no model if all diverged.

    With `baseline` boosted trees are fitted and scored beside the model.
    """
    trained = _members_of(place, assignments, results)
    series = _series(trained)
    model = _model(recipe, task, trained)
    score, tested = (None, []) if model is None else score_model(model, task, baseline=baseline)
    members = _members(recipe, trained, series, tested)
    steps = training_plan(recipe, task).steps
    reported = [network.result.ended.effects[network.row] for network in trained]
    effects = list_effects(recipe, reported, series, members, steps=steps)
    done = {name: (float(value),) for name, value in task.effects.items() if value}
    meaning = "of the table's encoding"
    effects += tuple(EffectReport(name=n, meaning=meaning, values=v) for n, v in done.items())
    record = Record(
        recipe=to_plain(recipe),
        task=describe_task(task, model),
        members=members,
        series=series,
        events=_events(trained),
        effects=effects,
        notes=tuple(task.notes),
        surroundings=surroundings() | {"steps": trained[0].result.way},
        score=score,
        seconds=seconds,
        intervals={} if model is None else calibrate_intervals(model, task),
    )
    return record, model


def assemble_members(
    recipe: Recipe,
    task: Task,
    *,
    place: int,
    assignments: Sequence[JobAssignment],
    results: Sequence[JobResult],
) -> tuple[tuple[Member, ...], Model | None]:
    """The members of the recipe at a place of a list, and its model, without record and score."""
    trained = _members_of(place, assignments, results)
    return _members(recipe, trained, _series(trained), []), _model(recipe, task, trained)


def _members_of(
    place: int, assignments: Sequence[JobAssignment], results: Sequence[JobResult]
) -> list[TrainedMember]:
    """The members of the recipe at a place of the list, in their order."""
    found = [
        TrainedMember(member, result, row)
        for assignment, result in zip(assignments, results, strict=True)
        for share in assignment.shares
        if share.recipe == place
        for row, member in zip(share.rows, share.members, strict=True)
    ]
    return sorted(found, key=lambda network: network.member)


def _members(
    recipe: Recipe,
    trained: Sequence[TrainedMember],
    series: Mapping[str, Series],
    test_values: Sequence[dict[str, float]],
) -> tuple[Member, ...]:
    """The members as the record has them, with test values for those that did not diverge."""
    healthy = [place for place, network in enumerate(trained) if network.outcome != "diverged"]
    # one value for each snapshot kept: the last of each network counts
    if test_values and trained[0].snapshots is not None:
        counts = [int(trained[place].at_end(FILLED_KEY).sum()) for place in healthy]
        test_values = [test_values[end - 1] for end in np.cumsum(counts)]
    tested = dict(zip(healthy, test_values, strict=False))
    return tuple(
        Member(
            seed=recipe.seed + network.member,
            outcome=network.outcome,
            steps=int(network.at_end("steps")),
            best_step=int(network.at_end("best_step")),
            validation=_validation_values(series, network.member, int(network.at_end("best_step"))),
            test=tested.get(place, {}),
        )
        for place, network in enumerate(trained)
    )


def _validation_values(series: Mapping[str, Series], member: int, step: int) -> dict[str, float]:
    """The validation values of the weights that were kept."""
    values = {}
    for name, recorded in series.items():
        split, _, what = name.partition("/")
        at = np.nonzero(recorded.steps == step)[0]
        if split == "validation" and len(at):
            values[what] = float(recorded.values[at[0], member])
    return values


def _series(trained: Sequence[TrainedMember]) -> dict[str, Series]:
    """Series of a recipe's members, from the jobs they were in; NaN where a member had left."""
    points: dict[str, dict[int, list[float]]] = {}
    for place, (_, result, row) in enumerate(trained):
        for name, logged in result.log.series.items():
            by_step = points.setdefault(name, {})
            for step, values in logged:
                by_step.setdefault(step, [math.nan] * len(trained))[place] = values[row]
    made = {}
    for name, by_step in points.items():
        rows = [(s, v) for s, v in sorted(by_step.items()) if not all(math.isnan(x) for x in v)]
        if rows:
            made[name] = Series(np.array([s for s, _ in rows]), np.array([v for _, v in rows]))
    return made


def _events(trained: Sequence[TrainedMember]) -> tuple[Event, ...]:
    """The events of a recipe's members and of the run, by step; the same of several jobs once."""
    places = {(id(network.result), network.row): network.member for network in trained}
    results = {id(network.result): network.result for network in trained}
    events = []
    for key, result in results.items():
        for event in result.log.events:
            row = event["member"]
            if row is None or (key, row) in places:
                member = None if row is None else places[key, row]
                events.append(replace(Event(**event), member=member))
    return tuple(sorted(dict.fromkeys(events), key=lambda event: event.step))


def _model(recipe: Recipe, task: Task, trained: Sequence[TrainedMember]) -> Model | None:
    healthy = [network for network in trained if network.outcome != "diverged"]
    if not healthy:
        return None

    def gather(kept: str, snapshots: str) -> Tensor:
        if healthy[0].snapshots is None:
            return torch.stack([network.at_end(kept) for network in healthy])
        return torch.cat([network.at_end(snapshots)[network.snapshots] for network in healthy])

    weights = gather("weights", WEIGHTS_KEY)
    kept = [n for n in healthy[0].result.ended.tensors if n.startswith("buffer/")]
    names = [n.removeprefix("buffer/") for n in kept]
    buffers = {n: gather(f"buffer/{n}", f"{BUFFER_KEY}{n}") for n in names}
    return Model(recipe, task.encoder, task.signature, weights, buffers)


def describe_task(task: Task, model: Model | None) -> dict[str, Any]:
    """The task in plain data: its kind, target, classes, and counts of examples and features."""
    splits = {"train": task.train, "validation": task.validation, "test": task.test}
    image = task.signature.image
    inputs = len(task.encoder.features) if image is None else math.prod(image[:3])
    return {
        "kind": task.kind,
        "target": list(task.targets),
        "classes": [str(c) for c in task.classes or ()],
        "examples": {name: split.count if split else 0 for name, split in splits.items()},
        "features": inputs,
        "code_sizes": list(task.encoder.code_sizes),
        "weights": 0 if model is None else model.size,
        "fingerprint": task.fingerprint,
    }


@functools.cache  # the packages' files are read for it
def installed_version(name: str) -> str:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def surroundings() -> dict[str, Any]:
    """Where a run happened: versions and the machine, no names."""
    packages = ("ravine", "torch", "numpy", "pandas", "scikit-learn", "numba")
    return {
        "versions": {name: installed_version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "flush_denormal": True,
    }


def list_effects(
    recipe: Recipe,
    reported: Sequence[Mapping[str, float]],
    series: Mapping[str, Series],
    members: Sequence[Member],
    *,
    steps: int,
) -> tuple[EffectReport, ...]:
    """One entry for each technique in the recipe, with a number for each member.

    What a part reported to the meter stands as it is; a technique that never reported counts as 0.
    """
    derived = {"early stopping": [1 - m.best_step / max(steps, 1) for m in members]}
    derived |= _lr_effects(series["lr"].values) if "lr" in series else {}
    shown = []
    for effect in dict.fromkeys([UPDATE_EFFECT, *_techniques(recipe)]):
        values = derived.get(effect.name) or [r.get(effect.name, 0.0) for r in reported]
        shown.append(EffectReport(name=effect.name, meaning=effect.meaning, values=tuple(values)))
    return tuple(shown)


def _techniques(recipe: Recipe) -> Iterator[Effect]:
    for field in fields(recipe):
        # what was done to the data, the task reports
        if field.name not in ("data", "split", "encoding"):
            yield from _effects_of(getattr(recipe, field.name))
    if recipe.class_weights != "none":
        yield CLASS_WEIGHTS_EFFECT
    if getattr(recipe.loss, "label_smoothing", 0):
        yield SMOOTHING_EFFECT


def _effects_of(value: object) -> Iterator[Effect]:
    """The effects of a setting's parts, of those within them too."""
    if isinstance(value, tuple):
        for entry in value:
            yield from _effects_of(entry)
    elif is_part(value):
        acts = getattr(value, "acts", None)
        if acts is not None:
            yield from (acts,) if isinstance(acts, Effect) else acts
        for field in fields(value):  # type: ignore[arg-type]
            yield from _effects_of(getattr(value, field.name))


def _lr_effects(lr: np.ndarray) -> dict[str, list[float]]:
    """How far each member's rate [T, M] fell, and began, below its highest, as shares of that."""
    high = np.nanmax(lr, 0)
    first = lr[0]
    size = np.where(high > 0, high, 1.0)
    fall = (high - np.nanmin(lr, 0)) / size
    rise = np.where((high > 0) & np.isfinite(first), 1 - first / size, 0.0)
    return {"schedule": fall.tolist(), "warm-up": rise.tolist()}
