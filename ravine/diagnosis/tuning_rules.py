"""What the trials of a study say of the space that they were drawn from."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import kruskal, spearmanr

from ravine.diagnosis.rule import Observation, observe, rule
from ravine.finding import Change, Evidence

LEAST_TRIALS = 10
TOP_SHARE = 0.1  # of the trials: the best ones
LEAST_TOP = 3
END_SHARE = 0.05  # of a range: its ends, for the best trial
TOP_END_SHARE = 0.2  # and for the median of the best trials
TREND_P = 0.05  # of the scores towards that end, by rank
WIDER_FACTOR = 10.0  # how much farther a range on a log scale should reach
LEAST_TO_CLEAR = 20  # trials, to say that a setting makes no difference
UNIMPORTANT_SHARE = 0.02
UNRELATED_P = 0.2


@dataclass(frozen=True)
class TunedSetting:
    """A setting's path, its distribution as Optuna's JSON, and its importance (NaN: not known)."""

    path: str
    distribution: str
    importance: float

    @property
    def ends(self) -> tuple[float, float, bool] | None:
        """The ends of its range and whether its scale is a log one; None for a list of values."""
        plain = json.loads(self.distribution)
        attributes = plain["attributes"]
        if "low" not in attributes:
            return None
        return attributes["low"], attributes["high"], bool(attributes["log"])


@dataclass(frozen=True, kw_only=True)
class TuningView:
    """The settings of a study, and its trials, best first: values by path, and scores."""

    settings: tuple[TunedSetting, ...]
    values: tuple[Mapping[str, Any], ...]
    scores: tuple[float, ...]

    def has(self, need: str) -> bool | None:
        """Whether there are enough trials."""
        least = {"trials": LEAST_TRIALS, "many trials": LEAST_TO_CLEAR}[need]
        return len(self.scores) >= least


@rule("RVN-U01", "warning", "search-space", needs="trials", confidence="medium")
def find_edges(view: TuningView) -> Iterator[Observation]:
    top = max(LEAST_TOP, round(TOP_SHARE * len(view.values)))
    for setting in view.settings:
        if setting.ends is None:
            continue
        low, high, is_log = setting.ends
        scale = np.log if is_log else np.asarray
        tried = np.array([values[setting.path] for values in view.values], dtype=float)
        places = (scale(tried) - scale(low)) / (scale(high) - scale(low))
        for end, near in ((low, places), (high, 1 - places)):
            # of few whole numbers the end itself
            limit = END_SHARE if tried[0] != end else math.inf
            if near[0] <= limit and np.median(near[:top]) <= TOP_END_SHARE and _is_trend(near):
                yield _edge(setting, float(tried[0]), end, is_log=is_log, is_low=end == low)


def _is_trend(near: np.ndarray) -> bool:
    """Whether trials are the better, the nearer to an end; they come best first."""
    if np.ptp(near) == 0:
        return False
    related: Any = spearmanr(near, np.arange(len(near)), alternative="greater")
    return float(related.pvalue) <= TREND_P


def _edge(
    setting: TunedSetting, best: float, end: float, *, is_log: bool, is_low: bool
) -> Observation:
    factor = 1 / WIDER_FACTOR if is_low else WIDER_FACTOR
    wider = f", such as to {end * factor:.2g}" if is_log else ""
    word, side = ("below", "lower") if is_low else ("above", "upper")
    return observe(
        Evidence("best value", best, limit=end),
        where=setting.path,
        title=f"the best {setting.path} is at the {side} end of its range",
        advice=f"let {setting.path} also be {word} {end:.4g}{wider} in another study, if it can be",
    )


@rule("RVN-U02", "note", "search-space", needs="many trials", confidence="low")
def find_idle_settings(view: TuningView) -> Iterator[Observation]:
    for setting in view.settings:
        if not setting.importance <= UNIMPORTANT_SHARE:
            continue
        values = [values[setting.path] for values in view.values]
        p = _relation_p(values, np.array(view.scores))
        if p > UNRELATED_P:
            yield observe(
                Evidence(
                    "importance", 100 * setting.importance, "%", limit=100 * UNIMPORTANT_SHARE
                ),
                Evidence("p", p, limit=UNRELATED_P),
                Change("data", f"leave {setting.path} out of the space"),
                where=setting.path,
                title=f"{setting.path} makes no difference that {len(values)} trials show",
            )


def _relation_p(values: list[Any], scores: np.ndarray) -> float:
    """The p of no relation: rank correlation for numbers, Kruskal and Wallis' test for others."""
    if len({str(v) for v in values}) < 2 or np.ptp(scores) == 0:
        return 1.0
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        related: Any = spearmanr(np.array(values, dtype=float), scores)
        return float(related.pvalue)
    groups = [scores[[str(v) == name for v in values]] for name in sorted({str(v) for v in values})]
    return float(kruskal(*groups).pvalue)


TUNING_RULES = (find_edges, find_idle_settings)
