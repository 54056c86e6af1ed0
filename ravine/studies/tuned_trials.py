"""The trials of a study: which are best, which tie with them, what mattered.

Letters: T trials, k of them, B bootstrap samples of the rows.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from numpy.typing import ArrayLike
from optuna.distributions import distribution_to_json
from scipy.special import gammaln

from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.tuning_rules import TUNING_RULES, TunedSetting, TuningView
from ravine.finding import Finding
from ravine.recipe import Recipe
from ravine.recipe_files import with_values
from ravine.studies.population import POPULATION_SAMPLER, Phase
from ravine.studies.spaces import Space, setting_value
from ravine.studies.study_storage import FAILED_OUTCOMES, quiet_optuna
from ravine.studies.verdict import Verdict

STARTING_NAME = "as it was"  # of the recipe, beside the trials
LEAST_SCORED_TRIALS = 8  # for importances
TIE_QUANTILE = 0.025
IMPORTANCE_TREES = 32  # 64 take twice as long, and are no steadier from seed to seed


@dataclass(frozen=True, kw_only=True)
class TunedTrial:
    """One choice of settings: their values by path, and how its networks did.

    `score` is the mean validation score of the weights that were kept, over its networks; NaN where
    one of them diverged. `outcome` is "finished", "pruned" (left before the end of its budget),
    "diverged" or "impossible" (`why`: the recipe cannot have these values together). `rungs` are
    the scores at shares of the budget, `steps` the updates of all its networks, of `budget`, and
    `resampled` the score in bootstrap samples of the validation rows, [B], the same for all trials.
    A member of a population has `phases`, its lineage from the start on; `values` are the last.
    """

    number: int
    values: Mapping[str, Any]
    score: float
    loss: float
    outcome: str
    scores: tuple[float, ...] = ()
    rungs: Mapping[float, float] = field(default_factory=dict)
    steps: int = 0
    budget: int = 0
    resampled: tuple[float, ...] = field(default=(), repr=False)
    why: str = ""
    phases: tuple[Phase, ...] = ()

    @property
    def has_schedule(self) -> bool:
        """Whether its values changed while it trained."""
        return any(phase.values != self.values for phase in self.phases)

    @property
    def is_finished(self) -> bool:
        """Whether it trained to the end without diverging."""
        return self.outcome == "finished"


@dataclass(frozen=True, kw_only=True)
class TunedTrials:
    """The trials of a study in the order drawn, which are best, and what they show.

    `verdict` compares the best of them and the recipe as it was on fresh seeds and the test split
    (None where it was not asked for). `waiting` counts the trials that other processes still train,
    `unit` is what a score of the encoded targets is in the units of the table.
    """

    recipe: Recipe = field(repr=False)
    space: Space = field(repr=False)
    trials: tuple[TunedTrial, ...] = field(repr=False)
    metric: str
    higher_is_better: bool
    rows: int
    sampler: str
    pruner: str
    waiting: int = 0
    unit: float = 1.0
    verdict: Verdict | None = field(default=None, repr=False)

    @property
    def best(self) -> TunedTrial | None:
        """The best trial, of equals the one of least loss; None where none ended well."""
        ranked = self.rank_trials()
        return ranked[0] if ranked and ranked[0].is_finished else None

    @property
    def recommendation(self) -> str | None:
        """What to take: the best trial, or where it failed on fresh seeds or another one is shown
        to be better, the best of the verdict; None where nothing ended well. Of a schedule of
        settings the last ones throughout, unless it is shown to be better than these.
        """
        if self.best is None or self.verdict is None:
            return None if self.best is None else trial_name(self.best)
        name = trial_name(self.best)
        if self.best.has_schedule and not self.is_schedule_better:
            name = constant_name(self.best)
        beaten = any(d.worse == name and d.outcome == "better" for d in self.verdict.differences)
        if beaten or self.verdict[name].has_failed:
            return None if self.verdict.best is None else self.verdict.best.name
        return name

    @property
    def best_recipe(self) -> Recipe | None:
        """The recipe of the recommendation, with as many seeds as the recipe has; None where it is
        a schedule of settings, which no recipe holds.
        """
        names = {constant_name(t) if t.has_schedule else trial_name(t): t for t in self.trials}
        if self.recommendation == STARTING_NAME:
            return self.recipe
        found = names.get(self.recommendation or "")
        return None if found is None else self.recipe_of(found)

    @property
    def failures(self) -> int:
        """How many trials diverged, or cannot be built."""
        return sum(t.outcome in FAILED_OUTCOMES for t in self.trials)

    @property
    def ties(self) -> tuple[TunedTrial, ...]:
        """The other finished trials that the validation rows do not tell from the best one.

        Their difference, in the same bootstrap samples of the rows, is not above 0 in 97.5 % of
        them. (That seeds differ, too, is not counted: ties are at least so many.)
        """
        best = self.best
        if best is None:
            return ()
        sign = 1.0 if self.higher_is_better else -1.0
        ours = np.asarray(best.resampled)
        found = []
        for trial in self.rank_trials()[1:]:
            if trial.is_finished and len(trial.resampled) == len(ours):
                ahead = sign * (ours - np.asarray(trial.resampled))
                if not len(ours) or np.quantile(ahead, TIE_QUANTILE) <= 0:
                    found.append(trial)
        return tuple(found)

    @property
    def cost(self) -> float:
        """The updates made, as a share of those of training every trial to its end."""
        planned = sum(trial.budget for trial in self.trials)
        return sum(trial.steps for trial in self.trials) / planned if planned else math.nan

    @cached_property
    def importance(self) -> dict[str, float]:
        """The share of the scores' variance that each setting accounts for, most important first.

        fANOVA (Hutter et al. 2014) by Optuna. Where trials were pruned the scores are those at the
        first rung, which all have. Empty where fewer than 8 trials have a score, and of a
        population, whose members depend on each other.
        """
        if self.sampler == POPULATION_SAMPLER:
            return {}
        scored = [(t.values, self.comparable_score(t)) for t in self.trials]
        scored = [(values, score) for values, score in scored if math.isfinite(score)]
        if len(scored) < LEAST_SCORED_TRIALS or len({score for _, score in scored}) < 2:
            return {}
        trials = [
            optuna.trial.create_trial(params=dict(v), distributions=dict(self.space), value=s)
            for v, s in scored
        ]
        with quiet_optuna():
            study = optuna.create_study()
            study.add_trials(trials)
            evaluator = optuna.importance.FanovaImportanceEvaluator(
                n_trees=IMPORTANCE_TREES, seed=0
            )
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return {path: float(share) for path, share in found.items()}

    def recipe_of(self, trial: TunedTrial) -> Recipe:
        """The recipe of a trial, by its last values."""
        return self._recipe_with(trial.values)

    def schedule_of(self, trial: TunedTrial) -> dict[float, Recipe]:
        """By which recipes a member of a population trained, from which share of the budget on."""
        return {phase.share: self._recipe_with(phase.values) for phase in trial.phases}

    def _recipe_with(self, values: Mapping[str, Any]) -> Recipe:
        return with_values(self.recipe, {path: setting_value(v) for path, v in values.items()})

    @property
    def is_schedule_better(self) -> bool | None:
        """Whether the best trial's schedule of settings is shown to be better than the last of
        them throughout; None where that was not compared.
        """
        if self.best is None or self.verdict is None:
            return None
        pair = (trial_name(self.best), constant_name(self.best))
        found = [d for d in self.verdict.differences if {d.better, d.worse} == {*pair}]
        shown = [d.outcome == "better" and d.better == pair[0] for d in found]
        return shown[0] if shown else None

    def rank_trials(self) -> list[TunedTrial]:
        """The trials, best first: finished ones, pruned ones by how far they came, failures."""
        return rank_trials(self.trials, higher_is_better=self.higher_is_better)

    def curve(self) -> np.ndarray:
        """The expected best score of k trials, [T] for k = 1 ... T (see `expected_best`)."""
        scores = [self.comparable_score(t) for t in self.trials]
        return expected_best(scores, higher_is_better=self.higher_is_better)

    def findings(self) -> tuple[Finding, ...]:
        """What the trials say of the space: values at an end of it, settings without effect."""
        settings = tuple(
            TunedSetting(path, distribution_to_json(d), self.importance.get(path, math.nan))
            for path, d in self.space.items()
        )
        scored = [t for t in self.rank_trials() if math.isfinite(self.comparable_score(t))]
        view = TuningView(
            settings=settings,
            values=tuple(dict(t.values) for t in scored),
            scores=tuple(self.comparable_score(t) for t in scored),
        )
        return tuple(run_rules(TUNING_RULES, view)[0])

    def optimism(self) -> tuple[float, float] | None:
        """The best trial's validation score in the search, and its mean on fresh seeds."""
        if self.best is None or self.verdict is None:
            return None
        name = trial_name(self.best)
        fresh = [c.validation for c in self.verdict.choices if c.name == name]
        known = [self.unit * v for v in (fresh[0] if fresh else ()) if math.isfinite(v)]
        if self.verdict[name].failures or not known:
            return None  # of networks that diverged nothing is known
        return self.best.score, float(np.mean(known))

    def comparable_score(self, trial: TunedTrial) -> float:
        """A trial's score at the share of the budget to which all trained."""
        if trial.outcome in FAILED_OUTCOMES:
            return math.nan
        return trial.score if trial.phases else next(iter(trial.rungs.values()), trial.score)


def rank_trials(trials: Iterable[TunedTrial], *, higher_is_better: bool) -> list[TunedTrial]:
    """Trials, best first: finished ones, pruned ones by how far they came, failures."""
    sign = -1.0 if higher_is_better else 1.0

    def place(trial: TunedTrial) -> tuple[float, ...]:
        order = {"finished": 0.0, "pruned": 1.0}.get(trial.outcome, 2.0)
        if order == 2.0:
            return (2.0, 0.0, 0.0, 0.0)
        far = -trial.steps / max(trial.budget, 1) if order else 0.0
        return (order, far, sign * trial.score, trial.loss)

    return sorted(trials, key=place)


def trial_name(trial: TunedTrial) -> str:
    """What a trial is called in a verdict."""
    return f"trial {trial.number}"


def constant_name(trial: TunedTrial) -> str:
    """What the last values of a member of a population are called, from the start on."""
    return f"last values of {trial_name(trial)}"


def expected_best(scores: ArrayLike, *, higher_is_better: bool = True) -> np.ndarray:
    """The expected best of k of the T scores drawn without replacement, for k = 1 ... T: [T].

        E[max of k of T] = Σᵢ₌ₖᵀ C(i − 1, k − 1) / C(T, k) · x₍ᵢ₎,  x₍₁₎ ≤ ... ≤ x₍ₜ₎

    Unbiased for the best of k new trials (Tang et al. 2020); the plug-in estimate of Dodge et al.
    2019 is too low. A failed trial (NaN) counts as the worst score of those that did not fail.

    >>> expected_best([1.0, 2.0, 3.0]).round(4).tolist()
    [2.0, 2.6667, 3.0]
    """
    sign = 1.0 if higher_is_better else -1.0
    x = sign * np.asarray(scores, dtype=float).ravel()
    if np.isnan(x).all():
        return x
    x = np.where(np.isnan(x), np.nanmin(x), x)
    return sign * np.sort(x) @ _draw_shares(len(x)).T


def _draw_shares(count: int) -> np.ndarray:
    """C(i − 1, k − 1) / C(T, k) for k (rows) and i (columns) from 1 to T, by logarithms."""
    i = np.arange(1, count + 1)
    k = i[:, None]
    log_ways = gammaln(np.maximum(i, k)) - gammaln(k) - gammaln(np.maximum(i - k, 0) + 1)
    log_all = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1)
    return np.where(i >= k, np.exp(log_ways - log_all), 0.0)
