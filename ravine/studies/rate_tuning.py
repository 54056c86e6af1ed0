"""Tuning the learning rates of choices before they are compared, on seeds of their own."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ravine.data import Task
from ravine.errors import InputError
from ravine.recipe import LR_FACTOR, Recipe, lr_path
from ravine.record import Member
from ravine.serialization import get
from ravine.studies.panel import Panel
from ravine.studies.tuned_rate import NEAR_SHARE, RateResult, TunedRate
from ravine.training.rungs import train_in_rungs

TUNING_SEEDS, FURTHER_SEEDS = 3, 5
CONFIRMED_RATES = 3  # at most, of those near the best


def tune_rates(
    recipes: Mapping[str, Recipe], tasks: Sequence[Task], panel: Panel, *, count: int, **how: Any
) -> dict[str, TunedRate]:
    """The best of `count` learning rates for each resolved recipe that has one above 0.

    Rates from 1/30 to 30 times its own, evenly on a log scale, train with seeds that follow on its
    own. A rate with more failures is worse, then one with a lower validation score; validation loss
    breaks ties. Of those near the best (`rank_rates`) further seeds choose. `how`: see `train_on`.
    """
    own = {n: rate for n, r in recipes.items() if (rate := float(get(r, lr_path(r)))) > 0}
    if not own:
        raise InputError("no choice has a learning rate", do="leave tune_lr out")
    for (one, a), (other, b) in itertools.combinations(recipes.items(), 2):
        if a != b and with_rate(a, 1.0) == with_rate(b, 1.0):
            what, do = f"{one} and {other} differ in the learning rate alone", "leave tune_lr out"
            raise InputError(what, why="tuning gives both the same one", do=do)
    constants = {n: panel.constant_score(task) for n, task in zip(recipes, tasks, strict=True)}
    sign = 1.0 if panel.metric.higher_is_better else -1.0
    untested = dict(zip(recipes, (replace(task, test=None) for task in tasks), strict=True))

    def train(rates: Mapping[str, Sequence[float]], seeds: range) -> dict[str, list[RateResult]]:
        """What each rate reaches, the best first."""
        wanted = [(name, rate) for name, each in rates.items() for rate in each]
        same = {"seed": seeds[0], "seeds": len(seeds)}
        varied = [replace(with_rate(recipes[name], rate), **same) for name, rate in wanted]
        found: dict[str, list[RateResult]] = {name: [] for name in rates}
        trained = train_in_rungs([untested[name] for name, _ in wanted], varied, **how)
        for (name, rate), one in zip(wanted, trained, strict=True):
            found[name].append(rate_result(rate, one.members, panel.metric.name))
        return {name: rank_rates(each, constants[name], sign) for name, each in found.items()}

    first = next(iter(recipes.values()))
    seeds = range(first.seed + first.seeds, first.seed + first.seeds + TUNING_SEEDS)
    further = range(seeds.stop, seeds.stop + FURTHER_SEEDS)
    factors = LR_FACTOR ** np.linspace(-1, 1, count)
    tried = train({name: (factors * rate).tolist() for name, rate in own.items()}, seeds)
    near = {n: [r.rate for r in each if r.is_near][:CONFIRMED_RATES] for n, each in tried.items()}
    open_ones = {name: each for name, each in near.items() if len(each) > 1}
    again = train(open_ones, further) if open_ones else {}
    found = {}
    for name, each in tried.items():
        known = {one.rate: one for one in again.get(name, [])}
        gradients = sum(one.gradients for one in (*each, *known.values()))
        rate = next(iter(known), each[0].rate)
        each = [replace(r, confirmed=known[r.rate].score) if r.rate in known else r for r in each]
        upwards = tuple(sorted(each, key=lambda one: one.rate))
        found[name] = TunedRate(rate, own[name], upwards, gradients, tuple(seeds), tuple(further))
    return found


def rank_rates(results: Sequence[RateResult], constant: float, sign: float) -> list[RateResult]:
    """Results, the best first, with those marked that are near it: no more failures, and 95 % of
    its gain over the constant answer. `sign` is -1 where lower scores are better.
    """
    ordered = sorted(results, key=lambda one: (one.failures, -sign * one.score, one.loss))
    best = ordered[0]
    gain = sign * (best.score - constant)
    least = sign * best.score - (1 - NEAR_SHARE) * (gain if gain > 0 else 0.0) - 1e-12
    return [
        replace(r, is_near=r is best or r.failures == best.failures and sign * r.score >= least)
        for r in ordered
    ]


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe with another learning rate."""
    return recipe.vary(lr_path(recipe), rate)


def rate_result(rate: float, members: Sequence[Member], metric: str) -> RateResult:
    """The means over the networks that did not diverge, NaN where all did."""
    ended = [m.validation for m in members if m.outcome != "diverged"]
    pairs = [(values[metric], values["loss"]) for values in ended] or [(math.nan, math.nan)]
    score, loss = np.mean(pairs, axis=0).tolist()
    failures, gradients = len(members) - len(ended), sum(m.steps for m in members)
    return RateResult(rate, score, loss, failures, gradients)
