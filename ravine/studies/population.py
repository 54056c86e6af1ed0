"""Population-based training: members that do badly go on from those that do well, by settings near
theirs (Jaderberg et al. 2017).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from ravine.data import Task
from ravine.errors import RavineError, RecipeError, join_first
from ravine.part import group_key, starting_numbers
from ravine.protocols import Plan
from ravine.recipe import Recipe
from ravine.recipe_files import with_values
from ravine.rng import stream_seed
from ravine.studies.spaces import Space, extreme_values, setting_value
from ravine.training.defaults import training_plan
from ravine.training.evaluation import steps_between_evaluations
from ravine.training.rungs import Standing

POPULATION_SAMPLER = "pbt"
BUDGET_PARTS = 20  # members are replaced between them
REPLACED_SHARE = 0.2  # of the members each time, by others of as large a share
# 0.8 and 1.25, as in the paper, are of many more exchanges: NOTEBOOK 2026-11-28
EXPLORE_FACTORS = (0.5, 2.0)
EXPLORE_STEP = 0.1  # of a range on a linear scale, which may hold 0: no factor leads away from that
REDRAW_CHANCE = 0.25  # of one of several values


class Phase(NamedTuple):
    """From a share of the budget on, a lineage was in the place of a trial and had these values."""

    share: float
    trial: int
    values: Mapping[str, Any]


def can_change(recipe: Recipe, path: str, distribution: BaseDistribution) -> bool:
    """Whether a setting may change in mid-training: a `Number` that is not read at the start only.

    >>> from ravine.catalog import named_recipe
    >>> can_change(named_recipe("plain"), "batch", CategoricalDistribution([16, 32]))
    False
    """
    values = [setting_value(value) for value in extreme_values(distribution)]
    recipes = [with_values(recipe, {path: value}) for value in values]
    return len({(group_key(one), starting_numbers(one)) for one in recipes}) == 1


def check_population(
    recipe: Recipe, space: Space, *, trials: int | None, minutes: float | None, pruner: str
) -> None:
    """Raise `RecipeError` where a study cannot be a population, with what to do instead."""
    fixed = [path for path in space if not can_change(recipe, path, space[path])]
    what = f"{join_first(fixed)} cannot change in mid-training"
    why = "only numbers that act after the start and may differ in networks of one shape can"
    other = f"leave {join_first(fixed)} out of the space, or use another sampler"
    beside = "all members of a population train side by side"
    alone = "a population needs at least 2 members"
    members = "say how many members: --budget 16 (trials=16)"
    ends = "pbt replaces members and ends none"
    replaced = "a member's weights are replaced while it trains"
    for is_wrong, *texts in (
        (fixed, what, why, other),
        (minutes is not None, "minutes is set", beside, members),
        (trials == 1, "trials is 1", alone, members),
        (pruner != "none", f"pruner is {pruner}", ends, "leave pruner out"),
        (recipe.snapshots, "the recipe takes snapshots", replaced, 'set snapshots = "none"'),
    ):
        if is_wrong:
            raise RecipeError(texts[0], why=texts[1], do=texts[2])


def exchange_shares(recipe: Recipe, task: Task) -> tuple[float, ...]:
    """The shares of a resolved recipe's budget at which members are replaced: twentieths,
    each at another evaluation. Raises `RecipeError` where there is none before the end.
    """
    plan = training_plan(recipe, task)
    shares = [i / BUDGET_PARTS for i in range(1, BUDGET_PARTS)]
    first = {exchange_step(share, plan): share for share in shares[::-1]}
    found = [share for step, share in first.items() if step < plan.steps]
    if not found:
        what, why = f"epochs is {recipe.epochs}", "the run is evaluated at its end only"
        raise RecipeError(what, why=f"{why}: nothing to choose by", do="train for more epochs")
    return tuple(sorted(found))


def exchange_step(share: float, plan: Plan) -> int:
    """The step of the evaluation at which members are replaced at a share of the budget."""
    every = steps_between_evaluations(plan)
    return min(-(-math.ceil(share * plan.steps) // every) * every, plan.steps)


def explore(values: Mapping[str, Any], space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """Values near others: numbers halved or doubled, on a linear scale a tenth of their range up or
    down, clipped into the range; of several values sometimes another one.

    >>> from optuna.distributions import FloatDistribution
    >>> space = {"lr": FloatDistribution(1e-3, 1.0, log=True), "rate": FloatDistribution(0.0, 0.5)}
    >>> explore({"lr": 0.1, "rate": 0.0}, space, np.random.default_rng(0))
    {'lr': 0.2, 'rate': 0.05}
    """
    found = dict(values)
    for path, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            if rng.random() < REDRAW_CHANCE:
                found[path] = distribution.choices[rng.integers(len(distribution.choices))]
            continue
        known: Any = distribution  # of numbers
        old, is_up = values[path], bool(rng.integers(2))
        change = (1 if is_up else -1) * EXPLORE_STEP * (known.high - known.low)
        change = (EXPLORE_FACTORS[is_up] - 1) * old if known.log else change
        if known.step is not None:
            change = (round(change / known.step) or (1 if is_up else -1)) * known.step
        found[path] = min(max(old + change, known.low), known.high)
    return found


@dataclass(kw_only=True)
class Population:
    """Which members of a population are replaced at a share of the budget, and by which others.

    Truncation selection: members whose validation score is now among the lowest fifth, and all that
    diverged, go on from one of the best fifth, drawn at random, by values near those of that. Draws
    follow from `seed`, share and place: where the standings are the same, so are the answers.
    `make` gives the recipe of values; where it raises, the values of the better member are kept.
    """

    phases: list[tuple[Phase, ...]]  # of the member in each place
    space: Space
    make: Callable[[Mapping[str, Any]], Recipe]
    shares: Sequence[float]
    seed: int
    higher_is_better: bool
    # by place the scores at shares
    rungs: dict[int, dict[float, float]] = field(default_factory=lambda: defaultdict(dict))

    def __call__(
        self, share: float, standings: Sequence[Standing]
    ) -> dict[int, tuple[int, Recipe]]:
        """From where the members that are replaced go on, and by which recipes."""
        for place, standing in enumerate(standings):
            self.rungs[place][share] = standing.latest
        failed = [i for i, standing in enumerate(standings) if math.isnan(standing.latest)]
        ranked = [i for i in range(len(standings)) if i not in failed]
        sign = -1.0 if self.higher_is_better else 1.0
        ranked.sort(key=lambda i: (sign * standings[i].latest, standings[i].loss))
        count = max(1, int(REPLACED_SHARE * len(standings)))
        best = [i for i in ranked if standings[i].is_training][:count]
        worst = ranked[len(ranked) - max(0, count - len(failed)) :]
        before, moves = list(self.phases), {}
        for i in {*failed, *worst}.difference(best) if best else ():
            rng = np.random.default_rng(stream_seed(self.seed, f"population/{share:.6f}", i))
            source = best[rng.integers(len(best))]
            values = before[source][-1].values
            try:
                tried = explore(values, self.space, rng)
                recipe, values = self.make(tried), tried
            except RavineError:  # they do not go together
                recipe = self.make(values)
            self.phases[i] = (*before[source], Phase(share, before[i][-1].trial, values))
            moves[i] = (source, recipe)
        return moves
