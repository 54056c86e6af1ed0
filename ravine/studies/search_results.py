"""What a search found: its trials, their ranks, and the best to expect of fewer of them.

Letters: T trials, k of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from ravine.errors import RecipeError
from ravine.recipe import Recipe
from ravine.reporting.text_table import TERMINAL_WIDTH, aligned_rows, hanging_text
from ravine.training.run import Run


@dataclass(frozen=True)
class SearchTrial:
    """One choice of settings: their values by path, the recipe, and its validation score.

    `score` is the mean over the recipe's networks; NaN where one of them diverged (failed). `low`
    to `high` is its 95 % interval over validation examples, the mean of the networks' own. `loss`
    is the mean validation loss.
    """

    values: Mapping[str, Any]
    recipe: Recipe = field(repr=False)
    score: float
    members: tuple[float, ...]
    low: float = math.nan
    high: float = math.nan
    loss: float = math.nan

    @property
    def has_failed(self) -> bool:
        """Whether one of its networks diverged."""
        return math.isnan(self.score)


@dataclass(frozen=True)
class Search:
    """What a search found: every trial in the order tried, and which is best.

    `refit` is the best recipe trained again with all its seeds, scored on the test split (None
    where it was not asked for).
    """

    trials: tuple[SearchTrial, ...]
    metric: str
    higher_is_better: bool
    refit: Run | None = None

    @property
    def best(self) -> SearchTrial:
        """The best trial, of equals the one of least loss. Raises `RecipeError` if all failed."""
        ordered = self.rank_trials()
        if ordered[0].has_failed:
            what = f"all {len(self.trials)} trials diverged"
            raise RecipeError(what, do="search among smaller learning rates")
        return ordered[0]

    @property
    def failures(self) -> int:
        """How many trials failed."""
        return sum(t.has_failed for t in self.trials)

    @property
    def ties(self) -> int:
        """How many trials have the best score; 0 if all failed."""
        best = self.rank_trials()[0].score
        return sum(trial.score == best for trial in self.trials)

    def rank_trials(self) -> list[SearchTrial]:
        """The trials, best first, of equal ones that of less validation loss, failed ones last."""
        sign = -1.0 if self.higher_is_better else 1.0

        def place(trial: SearchTrial) -> tuple[float, float]:
            loss = math.inf if math.isnan(trial.loss) else trial.loss
            return (math.inf if trial.has_failed else sign * trial.score, loss)

        return sorted(self.trials, key=place)

    def curve(self) -> np.ndarray:
        """The expected best score of k trials, [T] for k = 1 ... T (see `expected_best`)."""
        return expected_best([t.score for t in self.trials], higher_is_better=self.higher_is_better)

    def summary(self, most: int = 10) -> str:
        """A table of the best trials, best first."""
        paths = list(self.trials[0].values)
        measured = [f"validation {self.metric}", "95 % interval", "loss"]
        rows, lines = [[*paths, *measured]], []
        for trial in self.rank_trials()[:most]:
            values = [trial.values[path] for path in paths]
            texts = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
            scores = ["diverged", "", ""]
            if not trial.has_failed:
                interval = f"{trial.low:.4g} to {trial.high:.4g}"
                scores = [f"{trial.score:.4g}", interval, f"{trial.loss:.4g}"]
            rows.append([*texts, *scores])
            settings = [f"{path}={text}" for path, text in zip(paths, texts, strict=True)]
            lines += [", ".join(filter(None, scores)), hanging_text("  ", ", ".join(settings))]
        table = aligned_rows(rows)
        fits = max(map(len, table)) <= TERMINAL_WIDTH
        lines = table if fits else [", ".join(measured), *lines]
        if len(self.trials) > most:
            lines.append(f"and {len(self.trials) - most} more")
        failed = f", {self.failures} diverged" if self.failures else ""
        lines.append(f"{len(self.trials)} trials{failed}")
        if self.ties > 1:
            tie = f"{self.ties} trials are equally good; the first has the least validation loss"
            lines.append(tie)
        if self.refit is not None and self.refit.score is not None:
            score = self.refit.score
            number = f"{score.value:.4g} [{score.low:.4g}, {score.high:.4g}]"
            lines.append(f"the best, trained again: {score.split} {score.metric} {number}")
        return "\n".join(lines)

    __str__ = summary

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        trials = []
        for trial in self.trials:
            score = {"score": trial.score, "members": trial.members, "failed": trial.has_failed}
            spread = {"low": trial.low, "high": trial.high, "loss": trial.loss}
            trials.append({"values": dict(trial.values), **score, **spread})
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "failures": self.failures,
            "best": dict(self.best.values),
            "ties": self.ties,
            "trials": trials,
            "expected_best": self.curve().tolist(),
            "score": None if self.refit is None else self.refit.record.to_json()["score"],
        }


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
    x = np.where(np.isnan(x), np.nanmin(x), x)
    return sign * np.sort(x) @ _draw_shares(len(x)).T


def _draw_shares(count: int) -> np.ndarray:
    """C(i − 1, k − 1) / C(T, k) for k (rows) and i (columns) from 1 to T, by logarithms."""
    i = np.arange(1, count + 1)
    k = i[:, None]
    log_ways = gammaln(np.maximum(i, k)) - gammaln(k) - gammaln(np.maximum(i - k, 0) + 1)
    log_all = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1)
    return np.where(i >= k, np.exp(log_ways - log_all), 0.0)
