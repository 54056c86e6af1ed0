"""Where the variance of a score comes from: split, start, order and dropout, each varied by itself.

Letters: K levels of each source, an odd prime; K² networks.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from ravine import metrics
from ravine.argument_checks import check_arguments
from ravine.data import TableLike
from ravine.recipe import Recipe
from ravine.record import RECORD_SCHEMA, finite_json, score_text
from ravine.reporting.text_table import aligned_rows, hanging_text
from ravine.rng import separate_seeds
from ravine.statistics import Interval
from ravine.training import arguments
from ravine.training.defaults import load_tasks, resolve
from ravine.training.train import Report, train_on

SOURCE_NAMES = ("split", "start", "order", "dropout")
TOGETHER_NAME = "together"
MAX_FIRST_SEED = 1_000_000  # so that all are below 2^20


@dataclass(frozen=True)
class VarianceSources:
    """The standard deviation of a score by source, in points of the score, with intervals.

    `together` is what depends on several sources at once. All are NaN where a network failed.
    """

    metric: str
    split: str
    scores: tuple[float, ...]
    deviations: Mapping[str, Interval]

    def summary(self) -> str:
        """A line for each source, the largest first."""
        rows = [["", "sd", "95 % interval", "share of the variance"]]
        total = sum(one.value**2 for one in self.deviations.values())
        for name, one in sorted(self.deviations.items(), key=lambda pair: -pair[1].value):
            value, low, high = ("" if math.isnan(x) else score_text(x) for x in one)
            share = f"{one.value**2 / total:.0%}".replace("%", " %") if total > 0 else ""
            rows.append([name, value, f"{low} to {high}" if low else "", share])
        failed = sum(map(math.isnan, self.scores))
        text = (
            f"{len(self.scores)} networks, {failed} failed (then nothing is known). Together is"
            " what depends on several of these at once; another split has other test rows, too."
        )
        title = f"The standard deviation of {self.metric} on {self.split} rows by its source:"
        return "\n".join([title, "", *aligned_rows(rows), "", hanging_text("", text)])

    __str__ = summary

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        deviations = {name: one._asdict() for name, one in self.deviations.items()}
        return finite_json({"schema": RECORD_SCHEMA, **asdict(self), "deviations": deviations})


def variance_sources(
    recipe: Recipe,
    frame: TableLike | None = None,
    *,
    levels: Literal[5, 7, 11, 13, 17, 19, 23] = 11,
    device: str = "cpu",
    workers: int | str | None = None,
    report: Report | None = None,
) -> VarianceSources:
    """Train a recipe with `levels`² combinations of `levels` splits, starts, orders and dropouts.

    Any two levels of two sources meet exactly once (an orthogonal array of strength 2, Rao 1947):
    what depends on several sources at once is as independent noise to each of them.

    >>> import ravine
    >>> recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 2)
    >>> list(variance_sources(recipe, levels=5).deviations)
    ['split', 'start', 'order', 'dropout', 'together']
    """
    workers = arguments.require_workers(workers)
    device = arguments.require_device(device)
    check_arguments(variance_sources, locals())
    varied = []
    first = recipe.seed % MAX_FIRST_SEED
    for split, *others in crossed_levels(levels).tolist():
        start, order, dropout = (first + level for level in others)
        seed = separate_seeds(start=start, order=order, dropout=dropout)
        varied.append(replace(recipe, seed=seed, seeds=1, split_seed=recipe.split_seed + split))
    tasks = load_tasks(varied, frame)
    resolved = [resolve(one, task) for one, task in zip(varied, tasks, strict=True)]
    runs = train_on(tasks, resolved, device=device, workers=workers, report=report)
    metric = metrics.main_metric(tasks[0].kind, resolved[0].metric).name
    scores = tuple(run.record.members[0].test.get(metric, math.nan) for run in runs)
    split = "validation" if tasks[0].test is None else "test"
    return VarianceSources(metric, split, scores, deviations_of(np.array(scores), levels))


def crossed_levels(levels: int) -> np.ndarray:
    """The levels of the four sources, [K², 4]: i, j, i + j and i + 2 j modulo K."""
    i, j = np.divmod(np.arange(levels**2), levels)
    return np.stack([i, j, i + j, i + 2 * j], 1) % levels


def deviations_of(scores: np.ndarray, levels: int) -> dict[str, Interval]:
    """The standard deviations of random effects, with intervals, from scores [K²].

    From mean squares, σ² = (M - M₀) / K; the intervals of Williams (1962) and Tukey, which hold at
    least 90 %, here 95 % as a rule: K - 1 and (K - 1)(K - 3) degrees of freedom.
    """
    design, freedom = crossed_levels(levels), levels - 1
    rest = freedom * (levels - 3)
    means = [np.bincount(column, scores) / levels for column in design.T]
    squares = [levels * float(((mean - scores.mean()) ** 2).sum()) for mean in means]
    together = (float(((scores - scores.mean()) ** 2).sum()) - sum(squares)) / rest
    together = 0.0 if together < 0 else together  # NaN stays
    tails = np.array([0.5, 0.975, 0.025])
    found = {}
    for name, square in zip(SOURCE_NAMES, squares, strict=True):
        f, chi2 = stats.f.ppf(tails, freedom, rest), stats.chi2.ppf(tails, freedom)
        f[0], chi2[0] = 1.0, freedom
        found[name] = (square - freedom * together * f) / (levels * chi2)
    chi2 = stats.chi2.ppf(tails, rest)
    chi2[0] = rest
    found[TOGETHER_NAME] = rest * together / chi2
    return {name: Interval(*np.sqrt(np.maximum(x, 0.0)).tolist()) for name, x in found.items()}
