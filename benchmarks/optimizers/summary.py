"""What the measurements say: gaps, ranks, profiles, sensitivity, and paired claims.

Gaps, intervals, tests and failures are those of `ravine.compare`; here they are put together. A gap
is how far a choice is behind the best one of a problem, as a share of what that one gains over the
constant answer (on a function: over the start, in powers of ten). Letters: K a budget of draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ravine.paired import holm, paired_interval
from ravine.statistics import Interval, bootstrap_interval
from ravine.studies.compare_tasks import TaskVerdicts
from ravine.studies.score_differences import NO_INTERVAL, SIGNIFICANCE_LEVEL, compare_scores
from ravine.studies.verdict import REFERENCE_NAMES, ChoiceResult, Difference, Verdict

Known = Mapping[str, Mapping[str, Any]]  # by problem, as `protocol.py` keeps it
Column = tuple[str, int]  # an entry (an optimizer, or one with a schedule), and a budget
CLOSE_GAP = 0.05  # of the best one's gain: what "within 5 %" means
SHOWN_NAMES = {"TorchOptimizer": "Adafactor"}  # what it runs
LARGEST_GAP = 1.0  # a failure, and whoever ends below the constant answer, counts as that in means


def budgets_of(known: Known) -> list[int]:
    """The budgets, upwards: the number of draws, 1 for the defaults."""
    return list(next(iter(known.values()))["plan"]["budgets"])


def with_shown_names(known: Known) -> Known:
    """The same with the names under which optimizers are shown."""
    return {
        problem: {**kept, "entries": {SHOWN_NAMES.get(n, n): e for n, e in kept["entries"].items()}}
        for problem, kept in known.items()
    }


def network_part(known: Known) -> Known:
    """The problems in which networks train."""
    return {name: kept for name, kept in known.items() if kept["has_networks"]}


def function_part(known: Known) -> Known:
    """The problems that are functions."""
    return {name: kept for name, kept in known.items() if not kept["has_networks"]}


def entries_everywhere(known: Known, *, schedules: bool = False) -> list[str]:
    """The optimizers (or those with schedules) that were measured on all of the problems."""
    each = [kept["entries"] for kept in known.values()]
    names = each[0] if each else []
    return [n for n in names if all(n in found for found in each) and (" + " in n) == schedules]


def scores_of(kept: Mapping[str, Any], column: Column) -> tuple[float, ...]:
    """The test score for each seed, NaN where that network or walker failed."""
    name, budget = column
    entry = kept["entries"][name]
    draw = entry["best"].get(str(budget), entry["best"]["1"])
    return tuple(math.nan if s is None else s for s in entry["test"][str(draw)])


def choice_of(kept: Mapping[str, Any], column: Column, label: str = "") -> ChoiceResult:
    """The scores of an entry as those of a choice that is compared."""
    scores = scores_of(kept, column)
    ended = [score for score in scores if not math.isnan(score)]
    score = paired_interval(ended) if ended else NO_INTERVAL
    seeds = tuple(range(len(scores)))
    return ChoiceResult(
        name=label or column[0], kind="recipe", seeds=seeds, scores=scores, score=score
    )


def verdicts_of(known: Known, columns: Mapping[str, Column]) -> TaskVerdicts:
    """The choices on each problem, the best first. Their differences are left out."""
    found = {}
    for problem, kept in known.items():
        sign = 1.0 if kept["higher_is_better"] else -1.0
        choices = [choice_of(kept, column, label) for label, column in columns.items()]
        choices.sort(key=lambda one: (one.has_failed, -sign * one.score.value))
        found[problem] = Verdict(
            metric=kept["metric"],
            higher_is_better=kept["higher_is_better"],
            split="test",
            rows=0,
            choices=tuple(choices),
            differences=(),
            references={REFERENCE_NAMES["constant"]: kept["test_constant"]},
        )
    return TaskVerdicts(found)


def gaps_of(known: Known, columns: Mapping[str, Column]) -> pd.DataFrame:
    """The gap of each choice (a column) on each problem, infinite where it failed in half of its
    seeds or more.
    """
    return verdicts_of(known, columns).gaps()[list(columns)]


def gaps_at(known: Known, names: Iterable[str], budgets: Iterable[int]) -> dict[int, pd.DataFrame]:
    """Gaps at each budget, all behind one and the same best: that of all names and budgets."""
    names, budgets = list(names), list(budgets)
    columns = {f"{name} @ {k}": (name, k) for k in budgets for name in names}
    gaps = gaps_of(known, columns)
    return {k: gaps[[f"{name} @ {k}" for name in names]].set_axis(names, axis=1) for k in budgets}


def mean_gap(gaps: pd.DataFrame) -> pd.Series:
    """The mean over problems, of at most 1 each."""
    return gaps.clip(upper=LARGEST_GAP).mean()


def rank_intervals(gaps: pd.DataFrame) -> dict[str, Interval]:
    """Mean ranks over problems, ties shared, with intervals for other problems (bootstrap)."""
    ranks = gaps.rank(axis=1)
    return {
        str(name): bootstrap_interval(ranks[name].to_numpy(), lambda drawn: drawn.mean(1))
        for name in ranks
    }


def difference_of(kept: Mapping[str, Any], one: Column, other: Column) -> Difference:
    """How much one entry is better than another on a problem, seed by seed, or the other way."""
    choices = [choice_of(kept, one, "one"), choice_of(kept, other, "other")]
    higher = kept["higher_is_better"]
    return compare_scores(choices, [None, None], higher_is_better=higher)[1][0]


@dataclass(frozen=True)
class Tally:
    """On how many problems an entry was shown to be better than another, or worse."""

    better: int
    worse: int
    ties: int

    @property
    def problems(self) -> int:
        """How many there were."""
        return self.better + self.worse + self.ties

    def __str__(self) -> str:
        return f"{self.better} / {self.ties} / {self.worse}"


def tally_pairs(known: Known, one: Column, other: Column) -> Tally:
    """Compare two entries on every problem; p values are corrected for all of these (Holm)."""
    found = [difference_of(kept, one, other) for kept in known.values()]
    return _tally(found, holm([d.p for d in found]))


def tally_against(
    known: Known, names: Sequence[str], reference: str, budget: int
) -> dict[str, Tally]:
    """Compare every entry with one that was chosen beforehand; on each problem p values are
    corrected for all entries (Holm).
    """
    others = [name for name in names if name != reference]
    found: dict[str, list[Difference]] = {name: [] for name in others}
    corrected: dict[str, list[float]] = {name: [] for name in others}
    for kept in known.values():
        here = [difference_of(kept, (name, budget), (reference, budget)) for name in others]
        for name, one, p in zip(others, here, holm([d.p for d in here]), strict=True):
            found[name].append(one)
            corrected[name].append(float(p))
    return {name: _tally(found[name], corrected[name]) for name in others}


def _tally(found: Sequence[Difference], corrected: Iterable[float]) -> Tally:
    outcomes = []
    for one, p in zip(found, corrected, strict=True):
        one = replace(one, corrected_p=p)
        is_shown = p <= SIGNIFICANCE_LEVEL and not one.interval.low <= 0
        outcomes.append(one.better if is_shown else "")
    return Tally(outcomes.count("one"), outcomes.count("other"), outcomes.count(""))


def sensitivities(known: Known, names: Iterable[str]) -> pd.DataFrame:
    """Over problems: the median share of draws that are near the best one, the median of the
    factors of ten that their rates span, and the share of draws that failed with a seed.
    """
    rows = {}
    for name in names:
        entries = [kept["entries"][name] for kept in known.values()]
        draws = [len(entry["draws"]) for entry in entries]
        failed = [sum(fails > 0 for _, fails in entry["draws"]) for entry in entries]
        rows[name] = (
            float(np.median([e["near"] / n for e, n in zip(entries, draws, strict=True)])),
            float(np.median([entry["decades"] for entry in entries])),
            sum(failed) / sum(draws),
        )
    return pd.DataFrame(rows, index=["near", "decades", "failed"]).T


def expected_best(gains: Sequence[float], k: int) -> float:
    """The mean of the best of k of n values, over all ways to choose them.

        Σᵢ C(i − 1, k − 1) / C(n, k) x₍ᵢ₎,      x₍₁₎ ≤ x₍₂₎ ≤ …      (Tang et al. 2020: unbiased)

    >>> expected_best([1.0, 2.0, 3.0], 1), expected_best([1.0, 2.0, 3.0], 3)
    (2.0, 3.0)
    """
    count = len(gains)
    ways = [math.comb(i, k - 1) / math.comb(count, k) for i in range(count)]
    return float(np.dot(ways, np.sort(gains)))


def gain_curve(known: Known, name: str, counts: Sequence[int]) -> np.ndarray:
    """The expected validation score of the best of k draws [K], as a share of the best gain over
    the constant answer of any draw of any optimizer; the mean over problems.
    """
    curves = []
    for kept in known.values():
        sign = 1.0 if kept["higher_is_better"] else -1.0
        best = max(
            sign * score
            for entry in kept["entries"].values()
            for score, fails in entry["draws"]
            if score is not None and not fails
        )
        base = sign * kept["constant"]
        gains = [
            0.0 if score is None or fails else max(0.0, (sign * score - base) / (best - base))
            for score, fails in kept["entries"][name]["draws"]
        ]
        curves.append([expected_best(gains, k) for k in counts])
    return np.mean(curves, axis=0)


def best_default(kept: Mapping[str, Any], names: Iterable[str]) -> str:
    """Whose defaults have the best validation score of a problem, those that never failed first."""
    sign = 1.0 if kept["higher_is_better"] else -1.0

    def place(name: str) -> tuple[int, float]:
        score, fails = kept["entries"][name]["default"]
        return fails, math.inf if score is None else -sign * score

    return min(names, key=place)
