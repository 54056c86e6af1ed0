"""Puts each recipe's run together: its members from the jobs they trained in, the model, its score,
the record.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ravine import metrics
from ravine.recipe import Recipe
from ravine.record import EffectReport, Event, Member, Record, Score, Series
from ravine.serialization import to_plain
from ravine.training.cohort import Cohort
from ravine.training.effects import shown_effects
from ravine.training.jobs import Work, plan_of, signature
from ravine.training.model import Model

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Done:
    """What a job gives back: for each of its N networks the kept weights and what happened to
    it.
    """

    weights: torch.Tensor
    buffers: dict[str, torch.Tensor]
    snapshots: dict[
        str, torch.Tensor
    ]  # "taken" [N, K], "weights" [N, K, W], "buffer/NAME" [N, K, ...]; or nothing
    steps: list[int]
    best_steps: list[int]
    outcomes: list[str]
    effects: list[dict[str, float]]
    series: dict[str, list[tuple[int, list[float]]]]
    events: list[dict[str, Any]]
    interrupted: bool

    @classmethod
    def of(cls, cohort: Cohort, *, interrupted: bool) -> Done:
        """What a cohort has left behind."""
        ended = cohort.ended
        return cls(
            weights=ended["weights"],
            buffers={
                n.removeprefix("buffer/"): v for n, v in ended.items() if n.startswith("buffer/")
            },
            snapshots={
                n.removeprefix("snapshot/"): v
                for n, v in ended.items()
                if n.startswith("snapshot/")
            },
            steps=ended["steps"].tolist(),
            best_steps=ended["best_step"].tolist(),
            outcomes=cohort.outcomes,
            effects=cohort.effects,
            series=cohort.series,
            events=cohort.events,
            interrupted=interrupted,
        )


def assemble(
    place: int,
    recipe: Recipe,
    task: Any,
    works: Sequence[Work],
    done: Sequence[Done],
    *,
    seconds: float,
) -> tuple[Record, Model | None]:
    """The record and the model of the recipe at a place of the list; no model where every member
    diverged.
    """
    found = [
        (member, d, row)
        for w, d in zip(works, done, strict=True)
        for s in w.shares
        if s.recipe == place
        for row, member in zip(s.rows, s.members, strict=True)
    ]
    found.sort(key=lambda f: f[0])
    series = _series(found)
    model = _model(recipe, task, found)
    members = [
        Member(
            seed=recipe.seed + m,
            outcome=d.outcomes[row],
            steps=d.steps[row],
            best_step=d.best_steps[row],
            validation=_kept(series, m, d.best_steps[row]),
        )
        for m, d, row in found
    ]
    score, test = (None, {}) if model is None else score_of(model, task)
    healthy = [m for m, member in enumerate(members) if member.outcome != "diverged"]
    for m, values in zip(healthy, _last_of_each(found, list(test)), strict=False):
        members[m] = Member(**{**vars(members[m]), "test": values})
    steps = plan_of(recipe, task).steps
    effects = shown_effects(
        recipe, [d.effects[row] for _, d, row in found], series, members, steps=steps
    )
    effects += tuple(
        EffectReport(name=n, meaning="of the table's encoding", values=(float(v),))
        for n, v in task.effects.items()
        if v
    )
    places = {(id(d), row): m for m, d, row in found}
    jobs = {id(d): d for _, d, _ in found}
    events = [
        Event(
            step=e["step"],
            kind=e["kind"],
            text=e["text"],
            member=None if row is None else places[i, row],
        )
        for i, d in jobs.items()
        for e in d.events
        for row in [e["member"]]
        if row is None or (i, row) in places
    ]
    record = Record(
        recipe=to_plain(recipe),
        task=describe(task, model),
        members=tuple(members),
        series=series,
        events=tuple(
            sorted(dict.fromkeys(events), key=lambda e: e.step)
        ),  # every job tells what befell the run
        effects=effects,
        notes=tuple(task.said),
        surroundings=surroundings(),
        score=score,
        seconds=seconds,
    )
    return record, model


def describe(task: Any, model: Model | None) -> dict[str, Any]:
    """The task in plain data: its kind, target, classes, and how many examples and features there
    are.
    """
    sizes = {name: _count(getattr(task, name)) for name in ("train", "validation", "test")}
    picture = getattr(task.encoder, "picture", None)
    inputs = len(task.encoder.features) if picture is None else math.prod(picture[:3])
    return {
        "kind": task.kind,
        "target": list(task.targets),
        "classes": [str(c) for c in task.classes or ()],
        "examples": sizes,
        "features": inputs,
        "code_sizes": list(task.encoder.code_sizes),
        "weights": 0 if model is None else model.size,
        "fingerprint": task.fingerprint,
    }


def surroundings() -> dict[str, Any]:
    """Where a run happened: versions and the machine, no names."""
    names = ("ravine", "torch", "numpy", "pandas", "scikit-learn")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "flush_denormal": True,
    }


def _count(examples: Any) -> int:
    return 0 if examples is None else examples.count


def _series(found: Sequence[tuple[int, Done, int]]) -> dict[str, Series]:
    """Series of a recipe's members, from the jobs they were in; NaN where a member had left."""
    points: dict[str, dict[int, list[float]]] = {}
    for place, (_, d, row) in enumerate(found):
        for name, logged in d.series.items():
            by_step = points.setdefault(name, {})
            for step, values in logged:
                by_step.setdefault(step, [math.nan] * len(found))[place] = values[row]
    made = {}
    for name, by_step in points.items():
        rows = [(s, v) for s, v in sorted(by_step.items()) if not all(math.isnan(x) for x in v)]
        if rows:
            made[name] = Series(np.array([s for s, _ in rows]), np.array([v for _, v in rows]))
    return made


def _kept(series: dict[str, Series], member: int, step: int) -> dict[str, float]:
    """The validation values of the weights that were kept."""
    values = {}
    for name, s in series.items():
        split, _, what = name.partition("/")
        at = np.nonzero(s.steps == step)[0]
        if split == "validation" and len(at):
            values[what] = float(s.values[at[0], member])
    return values


def _model(recipe: Recipe, task: Any, found: Sequence[tuple[int, Done, int]]) -> Model | None:
    healthy = [(d, row) for _, d, row in found if d.outcomes[row] != "diverged"]
    if not healthy:
        return None
    names = healthy[0][0].buffers
    if healthy[0][0].snapshots:
        kept = [(d.snapshots, row, d.snapshots["taken"][row]) for d, row in healthy]
        weights = torch.cat([s["weights"][row][taken] for s, row, taken in kept])
        buffers = {
            n: torch.cat([s[f"buffer/{n}"][row][taken] for s, row, taken in kept]) for n in names
        }
        return Model(recipe, task.encoder, signature(task), weights, buffers)
    buffers = {n: torch.stack([d.buffers[n][row] for d, row in healthy]) for n in names}
    weights = torch.stack([d.weights[row] for d, row in healthy])
    return Model(recipe, task.encoder, signature(task), weights, buffers)


def _last_of_each(
    found: Sequence[tuple[int, Done, int]], values: list[dict[str, float]]
) -> list[dict[str, float]]:
    """The values of each healthy member's last weights, from those of all that it kept."""
    if not values or not found[0][1].snapshots:
        return values
    ends = np.cumsum(
        [
            int(d.snapshots["taken"][row].sum())
            for _, d, row in found
            if d.outcomes[row] != "diverged"
        ]
    )
    return [values[end - 1] for end in ends]


def score_of(model: Model, task: Any) -> tuple[Score | None, list[dict[str, float]]]:
    """The model's score on the test split (or, without one, on the validation split), and each
    member's values.
    """
    split = "test" if task.test is not None else "validation"
    examples = task.test if task.test is not None else task.validation
    if examples is None:
        return None, []
    examples = examples.to(model.weights.device, torch.float64)
    each = task.encoder.target.decode(model.members(examples))
    truth = task.encoder.target.decode(examples.targets)
    headline = metrics.main_metric(task.kind)
    averaged = task.encoder.target.decode(model.averaged(examples)[None])
    low, high = metrics.confidence_interval(
        headline.name, averaged[0], truth, confidence=CONFIDENCE
    )
    others = {m.name: float(m.of(averaged, truth)[0]) for m in metrics.metrics_for(task.kind)}
    by_member = {m.name: m.of(each, truth).tolist() for m in metrics.metrics_for(task.kind)}
    values = [{n: v[i] for n, v in by_member.items()} for i in range(each.shape[0])]
    score = Score(
        metric=headline.name,
        value=others[headline.name],
        low=low,
        high=high,
        confidence=CONFIDENCE,
        higher_is_better=headline.higher_is_better,
        split=split,
        examples=examples.numbers.shape[0],
        members=tuple(by_member[headline.name]),
        others=others,
    )
    return score, values
