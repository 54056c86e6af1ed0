"""Faults of a recipe that show before its first step: the rules that hand on what checks observed.

The checks run networks and stand in `ravine.examination`; here stands what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ravine.diagnosis.rule import Observation, Rule, rule

LEARNED_LOSS = 0.02  # of the chance level: a loss that counts as about zero
FADED_HIDDEN_SIGNAL = 1e-3  # of the last hidden layer over that of the first
CONSTANT_UNITS = 0.9  # share of a layer's units with the same output for every example
FLAT_UNIT_SLOPE = 0.05  # of an activation's steepest slope
SATURATED_UNITS = 0.5  # share of a layer's units where the slope is next to 0
GRADIENT_DIFFERENCE = 1e-3  # of a gradient from finite differences, relative, in float64


@dataclass(frozen=True)
class RecipeCheck:
    """One check of a recipe. It may pass and yet have observed something to note."""

    name: str
    passed: bool | None  # None: it does not apply
    summary: str  # what came out, in a sentence
    values: Mapping[str, float] = field(default_factory=dict)
    observation: Observation | None = None


@dataclass(frozen=True)
class NamedChecks:
    """The checks of a recipe by their names; an exception where a check broke."""

    checks: Mapping[str, RecipeCheck | Exception]

    def has(self, need: str) -> bool | None:
        """The name of a check: None where it does not apply, False where it was not made."""
        check = self.checks.get(need)
        if isinstance(check, RecipeCheck) and check.passed is None:
            return None
        return check is not None

    def get(self, name: str) -> RecipeCheck:
        """A check that was made. Raises what it raised."""
        check = self.checks[name]
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
    symptom: bool = False,
    picture: str = "",
) -> Rule:
    """The rule that hands on what its check observed."""

    def find(checks: NamedChecks) -> Iterator[Observation]:
        observation = checks.get(need).observation
        if observation is not None:
            yield observation

    return rule(
        code,
        severity=severity,
        cause=cause,
        needs=need,
        confidence=confidence,
        explains=explains,
        also=also,
        symptom=symptom,
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
        symptom=True,
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
