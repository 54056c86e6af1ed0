"""How trials are drawn and which of them end early: Optuna's samplers, and successive halving.

Letters: s rungs of a bracket, m of the longest, n trials; 1/η of them stay at a rung.
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

SamplerName: TypeAlias = Literal["tpe", "random", "qmc", "grid", "gp", "cmaes", "pbt"]
PrunerName: TypeAlias = Literal["none", "halving", "hyperband"]
SAMPLER_NAMES: tuple[str, ...] = get_args(SamplerName)
PRUNER_NAMES: tuple[str, ...] = get_args(PrunerName)

MODEL_SAMPLERS = ("tpe", "gp", "cmaes")  # these learn from trials that have ended
STARTING_TRIALS = 10  # drawn at random before a model is made
MODEL_BATCH = 10  # trials between two fits of the model
REDUCTION_FACTOR = 3.0  # η
HYPERBAND_RUNGS = 3
# of each bracket its rungs: the share of the budget, and the share of the trials that go on
HALVING_BRACKETS: Mapping[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "none": ((),),
    "halving": (((1 / 27, 1 / 2), (1 / 9, 1 / 3), (1 / 3, 1 / 5)),),
    "hyperband": tuple(
        tuple((REDUCTION_FACTOR ** (i - s), REDUCTION_FACTOR ** -(i + 1)) for i in range(s))
        for s in range(HYPERBAND_RUNGS, -1, -1)
    ),
}
COUNT_ROUNDING = 1e-9
LEAST_HALVED, LARGEST_BATCH = 27, 256  # trials in a batch


def make_sampler(name: SamplerName, space: Space, *, seed: int, done: int) -> BaseSampler:
    """The sampler of the next batch, after `done` trials: what it draws follows from these two.

    So a study that goes on draws what it would have drawn. Raises `InputError` for a sampler whose
    package is missing, `RecipeError` for a grid of a range without a count.
    """
    fresh = stream_seed(seed, "tune", done) % 2**32
    if name in ("random", "pbt"):
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


def trials_to_draw(name: SamplerName, pruner: PrunerName, *, done: int) -> int:
    """How many trials to draw next: as many as may be where they do not depend on each other."""
    if name in ("qmc", "cmaes") and done == 0:
        return 1  # from the first trial these learn what the space is
    if name not in MODEL_SAMPLERS:
        return LARGEST_BATCH
    least = MODEL_BATCH if pruner == "none" else LEAST_HALVED
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


def grid_size(space: Space) -> float:
    """How many trials a grid of all values has; infinite for a range of numbers."""
    if any(isinstance(d, FloatDistribution) for d in space.values()):
        return math.inf
    return math.prod(len(values) for values in grid_of(space).values())


class Halving:
    """Successive halving of a batch, in one bracket or in Hyperband's several.

    At a rung, which is a share of the budget, those of the best score so far stay, and the others
    leave (Jamieson & Talwalkar 2016). "halving" lets half of the trials go on after 1/27 of the
    budget, a third of all after 1/9 and a fifth after 1/3: 28 % of the steps. The last is more than
    the usual 1/η² of η = 3, since scores of a few hundred rows are noisy. "hyperband" (Li et al.
    2018) has brackets with 3, 2, 1 and 0 rungs, at each of which a third stays: those that start
    late have few trials, and give those that are slow to show what they are worth their chance.
    """

    def __init__(self, pruner: PrunerName, trials: int, *, higher_is_better: bool):
        self.sign = -1.0 if higher_is_better else 1.0
        brackets = HALVING_BRACKETS[pruner]
        self.shares = sorted({share for rungs in brackets for share, _ in rungs})
        self.bracket_of = divide_among_brackets(trials, len(brackets))
        self.brackets = brackets
        self.left: set[int] = set()
        self.rungs: list[dict[float, float]] = [{} for _ in range(trials)]  # scores at shares

    def __call__(self, share: float, standings: Sequence[Standing]) -> dict[int, None]:
        """The trials that leave at a rung."""
        leaving = []
        for bracket, rungs in enumerate(self.brackets):
            stays = dict(rungs).get(share)
            if stays is None:
                continue
            places = [i for i, b in enumerate(self.bracket_of) if b == bracket]
            ranked = sorted(
                (i for i in places if i not in self.left), key=lambda i: self._place(standings[i])
            )
            leaving += ranked[max(1, math.floor(stays * len(places) + COUNT_ROUNDING)) :]
        for i in set(range(len(standings))) - self.left:
            self.rungs[i][share] = standings[i].score
        self.left |= set(leaving)
        return dict.fromkeys(leaving)

    def _place(self, standing: Standing) -> tuple[float, float]:
        score = self.sign * standing.score
        loss = math.inf if math.isnan(standing.loss) else standing.loss
        return (math.inf if math.isnan(score) else score, loss)


def divide_among_brackets(trials: int, brackets: int) -> list[int]:
    """The bracket of each of some trials, in the proportion of Hyperband's own counts.

        n of the bracket with s of at most m rungs = ⌈(m + 1) / (s + 1) · ηˢ⌉

    >>> divide_among_brackets(10, 3)
    [0, 1, 2, 0, 1, 0, 0, 2, 1, 0]
    """
    most = brackets - 1
    counts = [math.ceil(brackets / (s + 1) * REDUCTION_FACTOR**s) for s in range(most, -1, -1)]
    found, given = [], [0] * brackets
    for _ in range(trials):
        b = min(range(brackets), key=lambda b: (given[b] / counts[b], b))
        given[b] += 1
        found.append(b)
    return found
