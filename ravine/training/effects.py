"""Gathers effect proofs: what every technique of a recipe reported, and which reported nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ravine.effects import Effect
from ravine.losses import SMOOTHING_EFFECT
from ravine.part import is_part
from ravine.recipe import Recipe
from ravine.record import EffectReport, Member, Series

UPDATE = Effect("update", "mean |Δw| / |w| of a step")
CLASS_WEIGHTS = Effect("class weights", "mean |weight − 1| of the training examples")


def shown_effects(
    recipe: Recipe,
    reported: Sequence[Mapping[str, float]],
    series: Mapping[str, Series],
    members: Sequence[Member],
    *,
    steps: int,
) -> tuple[EffectReport, ...]:
    """One entry for each technique in the recipe, with a number for each member.

    What a part reported to the meter stands as it is; a technique that never reported counts as 0:
    it did nothing.
    """
    derived = {
        "schedule": _lr_range(series, len(members)),
        "warm-up": _rise(series, len(members)),
        "early stopping": [1 - m.best_step / max(steps, 1) for m in members],
    }
    shown = []
    for effect in dict.fromkeys([UPDATE, *_techniques(recipe)]):
        values = derived.get(effect.name) or [r.get(effect.name, 0.0) for r in reported]
        shown.append(EffectReport(name=effect.name, meaning=effect.meaning, values=tuple(values)))
    return tuple(shown)


def _techniques(recipe: Recipe) -> Iterator[Effect]:
    for field in dataclasses.fields(recipe):
        if field.name not in (
            "data",
            "split",
            "encoding",
        ):  # the task reports what was done to the data
            yield from _acts(getattr(recipe, field.name))
    if recipe.class_weights != "none":
        yield CLASS_WEIGHTS
    if getattr(recipe.loss, "label_smoothing", 0):
        yield SMOOTHING_EFFECT


def _acts(value: Any) -> Iterator[Effect]:
    if isinstance(value, tuple):
        for entry in value:
            yield from _acts(entry)
    elif is_part(value):
        acts = getattr(value, "acts", None)
        if acts is not None:
            yield from (acts,) if isinstance(acts, Effect) else acts
        for field in dataclasses.fields(value):
            yield from _acts(getattr(value, field.name))


def _lr_range(series: Mapping[str, Series], members: int) -> list[float]:
    if "lr" not in series:
        return [0.0] * members
    lr = series["lr"].values
    high, low = np.nanmax(lr, 0), np.nanmin(lr, 0)
    return [
        float((top - least) / top) if top > 0 else 0.0 for top, least in zip(high, low, strict=True)
    ]


def _rise(series: Mapping[str, Series], members: int) -> list[float]:
    if "lr" not in series:
        return [0.0] * members
    lr = series["lr"].values
    return [
        float(1 - first / high) if high > 0 and math.isfinite(first) else 0.0
        for first, high in zip(lr[0], np.nanmax(lr, 0), strict=True)
    ]
