"""What tuning found about a learning rate: which is the best, and how many are nearly as good."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ravine.errors import join_first, shorten
from ravine.recipe import LR_FACTOR
from ravine.reporting.text_table import aligned_rows, hanging_text

NEAR_SHARE = 0.95  # of the gain of the best rate over the constant answer: near the best
CHOICE_WIDTH = 24  # of choices, in tables


@dataclass(frozen=True)
class RateResult:
    """What the networks of a learning rate reached on the validation split."""

    rate: float
    score: float  # the mean over networks that did not diverge
    loss: float
    failures: int  # networks that diverged
    gradients: int  # the steps of all its networks
    is_near: bool = False  # the best, or nearly as good
    confirmed: float = math.nan  # the score with further seeds


@dataclass(frozen=True)
class TunedRate:
    """The learning rate of a choice, chosen of those `tried` (upwards), each with `seeds`."""

    rate: float
    own: float  # what the recipe says
    tried: tuple[RateResult, ...]
    gradients: int  # what tuning took: the steps of all its networks
    seeds: tuple[int, ...]
    further_seeds: tuple[int, ...]  # of those near the best

    @property
    def decades(self) -> float:
        """How many factors of ten the rates near the best span."""
        rates = [one.rate for one in self.tried if one.is_near]
        return math.log10(max(rates) / min(rates))


def rates_text(tuned: Mapping[str, TunedRate]) -> str:
    """A line for each choice whose rate was tuned, and what the columns mean."""
    title = f"Learning rates, from 1/{LR_FACTOR:g} to {LR_FACTOR:g} times each choice's own:"
    rows = [["", "tuned", "as given", "near best", "decades", "gradients"]]
    for name, one in tuned.items():
        near = f"{sum(r.is_near for r in one.tried)} of {len(one.tried)}"
        numbers = [f"{one.rate:.3g}", f"{one.own:.3g}", near, f"{one.decades:.1f}"]
        rows.append([shorten(name, CHOICE_WIDTH), *numbers, f"{one.gradients:,}"])
    text = (
        "The scores above are at the tuned rates, which validation rows chose. "
        f"Near the best rate are those with {100 * NEAR_SHARE:.0f} % of its gain over the constant "
        "answer; decades are the factors of ten that they span, gradients what tuning took."
    )
    lines = [title, *aligned_rows(rows), hanging_text("", text)]
    for end, place, beyond in (("lowest", 0, "lower"), ("highest", -1, "higher")):
        names = [name for name, one in tuned.items() if one.rate == one.tried[place].rate]
        text = f"the {end} rate tried is the best: a {beyond} one may be better still"
        lines += [hanging_text("", f"For {join_first(names)} {text}.")] if names else []
    return "\n".join(lines)
