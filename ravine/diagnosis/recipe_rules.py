"""Faults of a recipe that show before its first step: what each check needs, and the rules that
read the checks.

The measuring is done by whoever can run a network; here stands what it means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ravine.diagnosis.rule import Observation, Rule, rule

LEARNED = 0.02  # of the chance level: a loss that counts as about zero
FADED = 1e-3  # signal of the last hidden layer over that of the first
STILL = 0.9  # share of a layer's units that say the same of every example
FLAT = 0.05  # of an activation's steepest slope
SATURATED = 0.5  # share of a layer's units that sit where the slope is next to 0
DISAGREE = 1e-3  # relative difference of a gradient from finite differences, in float64


@dataclass(frozen=True)
class Check:
    """One check: did it pass (None: it does not apply), what came out in a sentence, the numbers,
    and what was seen.

    A check may pass and yet have seen something to note.
    """

    name: str
    passed: bool | None
    said: str
    values: Mapping[str, float] = field(default_factory=dict)
    seen: Observation | None = None


@dataclass(frozen=True)
class Beforehand:
    """The checks that were made of a recipe by their rules' needs; an exception where a check
    broke.
    """

    made: Mapping[str, Check | Exception]

    def has(self, need: str) -> bool | None:
        """The name of a check: None where it does not apply, False where it was not made."""
        check = self.made.get(need)
        if isinstance(check, Check) and check.passed is None:
            return None
        return check is not None

    def of(self, need: str) -> Check:
        """A check that was made. Raises what it raised."""
        check = self.made[need]
        if isinstance(check, Exception):
            raise check
        return check


def _check_rule(
    code: str,
    need: str,
    *,
    severity: str,
    cause: str,
    confidence: str = "exact",
    explains: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    picture: str = "",
) -> Rule:
    """The rule that hands on what its check saw."""

    def find(beforehand: Beforehand) -> Iterator[Observation]:
        check = beforehand.of(need)
        if check.seen is not None:
            yield check.seen

    return rule(
        code,
        severity=severity,
        cause=cause,
        needs=need,
        confidence=confidence,
        explains=explains,
        also=also,
        picture=picture,
    )(find)


ALL = (
    _check_rule(
        "RVN-C01",
        "initial loss",
        severity="warning",
        confidence="high",
        cause="initialization",
        also=("data-degenerate", "leakage", "input-scale", "target-scale", "dropout"),
        picture="initial-loss",
    ),
    _check_rule("RVN-C02", "penalty", severity="warning", cause="loss", picture="initial-loss"),
    _check_rule(
        "RVN-C03",
        "overfit a few",
        severity="warning",
        confidence="high",
        cause="architecture-too-small",
        also=("learning-rate-high", "learning-rate-low", "hidden-activation", "initialization"),
        picture="initial-loss",
    ),
    _check_rule("RVN-C04", "gradient", severity="error", cause="loss", also=("precision",)),
    _check_rule(
        "RVN-C05",
        "independence",
        severity="error",
        cause="normalization",
        also=("shape-pairing", "train-eval-mode"),
    ),
    _check_rule(
        "RVN-C06",
        "signal",
        severity="warning",
        confidence="high",
        cause="vanishing",
        also=("exploding", "initialization"),
        explains=("RVN-C03",),
        picture="deep-tanh",
    ),
    _check_rule(
        "RVN-C07",
        "dead",
        severity="warning",
        confidence="high",
        cause="dead-units",
        also=("initialization", "input-scale"),
        explains=("RVN-C03",),
        picture="activations",
    ),
    _check_rule(
        "RVN-C08",
        "saturation",
        severity="warning",
        confidence="high",
        cause="saturation",
        also=("initialization", "input-scale"),
        explains=("RVN-C03",),
        picture="activations",
    ),
    _check_rule(
        "RVN-C09",
        "nonlinearity",
        severity="warning",
        cause="hidden-activation",
        explains=("RVN-C03",),
    ),
    _check_rule(
        "RVN-C10",
        "symmetry",
        severity="error",
        cause="initialization",
        explains=("RVN-C03", "RVN-C06", "RVN-C07"),
        picture="zero-init",
    ),
)
