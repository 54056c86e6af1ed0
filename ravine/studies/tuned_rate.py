"""What tuning found about a learning rate: which is the best, and how many are nearly as good."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ravine.errors import join_first, shorten
from ravine.recipe import LR_FACTOR
from ravine.reporting.text_table import aligned_rows, hanging_text

NEAR_SHARE = 0.95  # of the gain of the best rate over the constant answer: near the best
NAME_WIDTH = 24


@dataclass(frozen=True, kw_only=True)
class RateResult:
    """What the networks of a learning rate reached on the validation split.

    `score` and `loss` are means over the networks that did not diverge, `failures` counts the
    others. `confirmed` is the score with further seeds, of some of the rates near the best.
    """

    rate: float
    score: float
    loss: float
    failures: int
    gradients: int  # the steps of all its networks
    is_near: bool = False  # the best, or nearly as good
    confirmed: float = math.nan

    def order(self, sign: float) -> tuple[float, ...]:
        """Less for a better rate; `sign` is -1 where lower scores are better."""
        known = (math.inf if math.isnan(x) else x for x in (-sign * self.score, self.loss))
        return (self.failures, *known)


@dataclass(frozen=True, kw_only=True)
class TunedRate:
    """The learning rate that was chosen for a choice, and how much depends on it.

    `tried` has all rates upwards, with seeds of their own; `gradients` is what tuning cost, with
    the further seeds: the steps of all its networks.
    """

    rate: float
    own: float  # what the recipe says
    tried: tuple[RateResult, ...]
    gradients: int
    seeds: tuple[int, ...]
    further_seeds: tuple[int, ...]

    @property
    def decades(self) -> float:
        """How many factors of ten the rates near the best span, as far as they stand beside it."""
        rates = [one.rate for one in self.tried]
        low = high = rates.index(self.rate)
        while low > 0 and self.tried[low - 1].is_near:
            low -= 1
        while high < len(rates) - 1 and self.tried[high + 1].is_near:
            high += 1
        return math.log10(rates[high] / rates[low])


def rates_text(tuned: Mapping[str, TunedRate]) -> str:
    """A line for each choice whose rate was tuned, and what the columns mean."""
    first = next(iter(tuned.values()))
    title = (
        f"Learning rates: {len(first.tried)} for each choice, from 1/{LR_FACTOR:g} to "
        f"{LR_FACTOR:g} times its own, trained with seeds {_span(first.seeds)}, those near the "
        f"best again with seeds {_span(first.further_seeds)}, and chosen by validation scores:"
    )
    rows = [["", "rate", "own rate", "near best", "decades", "gradients"]]
    for name, one in tuned.items():
        near = f"{sum(r.is_near for r in one.tried)} of {len(one.tried)}"
        numbers = [f"{one.rate:.3g}", f"{one.own:.3g}", near, f"{one.decades:.1f}"]
        rows.append([shorten(name, NAME_WIDTH), *numbers, f"{one.gradients:,}"])
    texts = [
        f"Near the best rate are those that keep {100 * NEAR_SHARE:.0f} % of its gain over the "
        "constant answer; decades are the factors of ten that they span, gradients what "
        "tuning cost: steps, times networks."
    ]
    for end, place, beyond in (("lowest", 0, "lower"), ("highest", -1, "higher")):
        names = [name for name, one in tuned.items() if one.rate == one.tried[place].rate]
        if names:
            which = f"the {end} rate tried is the best: a {beyond} one may be better still"
            texts.append(f"For {join_first(names)} {which}.")
    after = [hanging_text("", text) for text in texts]
    return "\n".join([hanging_text("", title), *aligned_rows(rows), *after])


def _span(seeds: tuple[int, ...]) -> str:
    return f"{seeds[0]} to {seeds[-1]}"
