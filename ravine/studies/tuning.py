"""What tuning found: the trials, which are best, what mattered, and what fresh seeds say of it.

Letters: T trials, k of them, B bootstrap samples of the rows.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import ArrayLike
from optuna.distributions import distribution_to_json
from scipy.special import gammaln

from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.tuning_rules import TUNING_RULES, TunedSetting, TuningView
from ravine.files import write_atomically
from ravine.finding import Finding
from ravine.recipe import Recipe
from ravine.recipe_files import recipe_text, with_values
from ravine.record import RECORD_SCHEMA, finite_json, json_with_digest
from ravine.studies.spaces import Space, setting_value
from ravine.studies.study_storage import FAILURES, quiet_optuna
from ravine.studies.verdict import Verdict

LEAST_SCORED_TRIALS = 8  # for importances
TIE_QUANTILE = 0.025
SHOWN_TRIALS = 10
STARTING_NAME = "as it was"
RESULT_FILE = "tuning.json"


@dataclass(frozen=True, kw_only=True)
class TunedTrial:
    """One choice of settings: their values by path, and how its networks did.

    `score` is the mean validation score of the weights that were kept, over its networks; NaN where
    one of them diverged. `outcome` is "finished", "pruned" (left before the end of its budget),
    "diverged" or "impossible" (`why`: the recipe cannot have these values together). `rungs` are
    the scores at shares of the budget, `steps` the updates of all its networks, of `budget`, and
    `resampled` the score in bootstrap samples of the validation rows, [B], the same for all trials.
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

    @property
    def is_finished(self) -> bool:
        """Whether it trained to the end without diverging."""
        return self.outcome == "finished"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What tuning found: every trial in the order drawn.

    `verdict` compares the best of them and the recipe as it was on fresh seeds and the test split
    (None where it was not asked for). `waiting` counts the trials that other processes still train.
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
    verdict: Verdict | None = field(default=None, repr=False)

    @property
    def best(self) -> TunedTrial | None:
        """The best trial, of equals the one of least loss; None where none ended well."""
        ranked = self.ranked()
        return ranked[0] if ranked and ranked[0].is_finished else None

    @property
    def best_recipe(self) -> Recipe | None:
        """The recipe of the best trial, with as many seeds as the recipe has."""
        return None if self.best is None else self.recipe_of(self.best)

    @property
    def failures(self) -> int:
        """How many trials diverged, or cannot be built."""
        return sum(t.outcome in FAILURES for t in self.trials)

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
        for trial in self.ranked()[1:]:
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
        first rung, which all have. Empty where fewer than 8 trials have a score.
        """
        scored = [(t.values, self._comparable_score(t)) for t in self.trials]
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
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return {path: float(share) for path, share in found.items()}

    def recipe_of(self, trial: TunedTrial) -> Recipe:
        """The recipe of a trial."""
        values = {path: setting_value(value) for path, value in trial.values.items()}
        return with_values(self.recipe, values)

    def ranked(self) -> list[TunedTrial]:
        """The trials, best first: finished ones, pruned ones by how far they came, failures."""
        sign = -1.0 if self.higher_is_better else 1.0

        def place(trial: TunedTrial) -> tuple[float, ...]:
            order = {"finished": 0.0, "pruned": 1.0}.get(trial.outcome, 2.0)
            if order == 2.0:
                return (2.0, 0.0, 0.0, 0.0)
            far = -trial.steps / max(trial.budget, 1) if order else 0.0
            return (order, far, sign * trial.score, trial.loss)

        return sorted(self.trials, key=place)

    def curve(self) -> np.ndarray:
        """The expected best score of k trials, [T] for k = 1 ... T (see `expected_best`)."""
        scores = [self._comparable_score(t) for t in self.trials]
        return expected_best(scores, higher_is_better=self.higher_is_better)

    def findings(self) -> tuple[Finding, ...]:
        """What the trials say of the space: values at an end of it, settings without effect."""
        settings = tuple(
            TunedSetting(path, distribution_to_json(d), self.importance.get(path, math.nan))
            for path, d in self.space.items()
        )
        scored = [t for t in self.ranked() if math.isfinite(self._comparable_score(t))]
        view = TuningView(
            settings=settings,
            values=tuple(dict(t.values) for t in scored),
            scores=tuple(self._comparable_score(t) for t in scored),
        )
        return tuple(run_rules(TUNING_RULES, view)[0])

    def optimism(self) -> tuple[float, float] | None:
        """The best trial's validation score in the search, and its mean on fresh seeds."""
        if self.best is None or self.verdict is None:
            return None
        name = trial_name(self.best)
        fresh = [c.validation for c in self.verdict.choices if c.name == name]
        known = [v for v in (fresh[0] if fresh else ()) if math.isfinite(v)]
        return (self.best.score, float(np.mean(known))) if known else None

    def summary(self, most: int = SHOWN_TRIALS) -> str:
        """The best trials, what mattered, and how sure the best is."""
        from ravine.studies.tuning_text import tuning_summary

        return tuning_summary(self, most)

    __str__ = summary

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        best, optimism = self.best, self.optimism()
        trials = [{k: v for k, v in asdict(t).items() if k != "resampled"} for t in self.trials]
        for trial in trials:
            trial["rungs"] = {f"{share:.4g}": score for share, score in trial["rungs"].items()}
        data = {
            "schema": RECORD_SCHEMA,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "failures": self.failures,
            "waiting": self.waiting,
            "cost": self.cost,
            "best": None if best is None else {"number": best.number, "values": dict(best.values)},
            "ties": [trial.number for trial in self.ties],
            "importance": self.importance,
            "expected_best": self.curve().tolist(),
            "optimism": None if optimism is None else list(optimism),
            "findings": [finding.to_json() for finding in self.findings()],
            "trials": trials,
            "verdict": None if self.verdict is None else self.verdict.to_json(),
        }
        return finite_json(data)

    def frame(self) -> pd.DataFrame:
        """The trials as a table: number, settings, score, loss, outcome and steps."""
        rows = []
        for t in self.trials:
            measured = {
                self.metric: t.score,
                "loss": t.loss,
                "outcome": t.outcome,
                "steps": t.steps,
            }
            rows.append({"trial": t.number, **t.values, **measured})
        return pd.DataFrame(rows)

    def save(self, folder: str | Path) -> None:
        """Write trials.csv, tuning.json, tuning.svg and best.toml (and the verdict) to a folder."""
        from ravine.reporting.plot_style import svg
        from ravine.studies.tuning_figure import tuning_figure

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "trials.csv", self.frame().to_csv(index=False).encode())
        write_atomically(folder / RESULT_FILE, json_with_digest(self.to_json()))
        if self.best_recipe is not None:
            text = recipe_text(self.best_recipe, folder)
            write_atomically(folder / "best.toml", text.encode())
            drawing = svg(tuning_figure(self), title="tuning")
            write_atomically(folder / "tuning.svg", drawing.encode())
        if self.verdict is not None:
            self.verdict.save(folder)

    def _comparable_score(self, trial: TunedTrial) -> float:
        """A trial's score at the share of the budget to which all trained."""
        if trial.outcome in FAILURES:
            return math.nan
        return next(iter(trial.rungs.values()), trial.score)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


def trial_name(trial: TunedTrial) -> str:
    """What a trial is called in a verdict."""
    return f"trial {trial.number}"


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
