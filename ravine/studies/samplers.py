"""How trials are drawn and which of them end early: Optuna's samplers, and successive halving.

Letters: η the share of trials that stay at a rung is 1/η, s the number of rungs before the end.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler

from ravine.errors import InputError, RecipeError
from ravine.rng import stream_seed
from ravine.studies.spaces import Space
from ravine.training.rungs import Standing

SamplerName: TypeAlias = Literal["tpe", "random", "qmc", "grid", "gp", "cmaes"]
PrunerName: TypeAlias = Literal["none", "halving", "hyperband"]
SAMPLER_NAMES: tuple[str, ...] = get_args(SamplerName)
PRUNER_NAMES: tuple[str, ...] = get_args(PrunerName)

MODEL_SAMPLERS = ("tpe", "gp", "cmaes")  # these learn from trials that have ended
STARTING_TRIALS = 10  # drawn at random before a model is made
MODEL_BATCH = 10  # trials between two fits of the model
REDUCTION_FACTOR = 3  # η
RUNGS: Mapping[str, int] = {"none": 0, "halving": 2, "hyperband": 3}


def make_sampler(name: SamplerName, space: Space, *, seed: int, done: int) -> BaseSampler:
    """The sampler of the next batch, after `done` trials: what it draws follows from these two.

    So a study that goes on draws what it would have drawn. Raises `InputError` for a sampler whose
    package is missing, `RecipeError` for a grid of a range without a count.
    """
    fresh = stream_seed(seed, "tune", done) % 2**32
    if name == "random":
        return optuna.samplers.RandomSampler(seed=fresh)
    if name == "grid":
        return optuna.samplers.GridSampler(grid_of(space), seed=seed)
    independent = optuna.samplers.RandomSampler(seed=fresh)
    if name == "qmc":
        return optuna.samplers.QMCSampler(
            scramble=True,
            seed=seed,
            independent_sampler=independent,
            warn_independent_sampling=False,
        )
    if name == "tpe":
        return optuna.samplers.TPESampler(
            seed=fresh, multivariate=True, n_startup_trials=STARTING_TRIALS
        )
    if name == "gp":
        return optuna.samplers.GPSampler(seed=fresh, n_startup_trials=STARTING_TRIALS)
    try:
        return optuna.samplers.CmaEsSampler(
            seed=fresh, independent_sampler=independent, warn_independent_sampling=False
        )
    except ImportError as error:
        what, do = "the sampler cmaes needs the package cmaes", "run pip install cmaes"
        raise InputError(what, do=do) from error


def batch_size(name: SamplerName, pruner: PrunerName, *, done: int, at_once: int) -> int:
    """How many trials to ask for next, where a cohort of good size holds `at_once` of them."""
    if name in ("qmc", "cmaes") and done == 0:
        return 1  # from the first trial these learn what the space is
    if name not in MODEL_SAMPLERS:
        return at_once
    least = 3 ** RUNGS[pruner] if pruner != "none" else MODEL_BATCH
    return max(least, STARTING_TRIALS - done)


def grid_of(space: Space) -> dict[str, list[Any]]:
    """The values of each setting of a grid. Raises `RecipeError` for a range without a count."""
    found = {}
    for path, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            found[path] = list(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            found[path] = list(range(distribution.low, distribution.high + 1, distribution.step))
        else:
            assert isinstance(distribution, FloatDistribution)
            do = f"write {path}=LOW..HIGH/5, or use another sampler"
            why = "a grid must know how many values to try"
            raise RecipeError(f"the space of {path} has no count", why=why, do=do)
    return found


def grid_size(space: Space) -> int:
    """How many trials a grid has."""
    return math.prod(len(values) for values in grid_of(space).values())


class Halving:
    """Successive halving of a batch, in one bracket or in Hyperband's several.

        at the share η^(i − 1 − s) of the budget, i = 1 ... s, max(1, ⌊n η⁻ⁱ⌋) of n trials stay

    Jamieson & Talwalkar 2016, Li et al. 2018. Hyperband's brackets start at later and later rungs
    with fewer trials: those that are slow to show what they are worth also have their chance.
    Trials are divided among them as Hyperband's own counts are: in proportion to η^s / (s + 1).
    """

    def __init__(self, pruner: PrunerName, trials: int, *, higher_is_better: bool):
        most = RUNGS[pruner]
        self.sign = -1.0 if higher_is_better else 1.0
        self.shares = [REDUCTION_FACTOR**-i for i in range(most, 0, -1)]
        self.brackets = [most] * trials  # the number of rungs of each trial
        if pruner == "hyperband":
            self.brackets = divide_among_brackets(trials, most)
        self.left: set[int] = set()

    def __call__(self, share: float, standings: Sequence[Standing]) -> list[int]:
        """The trials that leave at a rung."""
        rungs = round(-math.log(share, REDUCTION_FACTOR))  # those still to come, this one included
        leaving = []
        for bracket in sorted(set(self.brackets)):
            if bracket < rungs:
                continue
            places = [i for i, b in enumerate(self.brackets) if b == bracket]
            staying = max(1, int(len(places) * REDUCTION_FACTOR ** -(bracket - rungs + 1.0) + 1e-9))
            ranked = sorted(
                (i for i in places if i not in self.left), key=lambda i: self._place(standings[i])
            )
            leaving += ranked[staying:]
        self.left |= set(leaving)
        return leaving

    def _place(self, standing: Standing) -> tuple[float, float]:
        score = self.sign * standing.score
        loss = math.inf if math.isnan(standing.loss) else standing.loss
        return (math.inf if math.isnan(score) else score, loss)


def divide_among_brackets(trials: int, most: int) -> list[int]:
    """The bracket (number of rungs) of each of some trials, as Hyperband's counts are divided.

    >>> divide_among_brackets(10, 2)
    [2, 1, 0, 2, 1, 2, 2, 1, 0, 2]
    """
    counts = [math.ceil((most + 1) / (s + 1) * REDUCTION_FACTOR**s) for s in range(most + 1)]
    found, given = [], [0] * (most + 1)
    for _ in range(trials):
        s = min(range(most, -1, -1), key=lambda b: (given[b] / counts[b], -b))
        given[s] += 1
        found.append(s)
    return found
