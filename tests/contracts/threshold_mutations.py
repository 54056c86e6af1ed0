"""Multiply and divide every threshold of a family of rules by 1.5, and see whether a test fails.

Run: python tests/contracts/threshold_mutations.py data
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ravine.diagnosis.registry import (
    CURVE_RULES,
    DATA_RULES,
    LOOP_RULES,
    RECIPE_RULES,
    START_RULES,
    TRIAL_RULES,
)
from ravine.diagnosis.rule import Rule

ROOT = Path(__file__).parents[2]
FACTOR = 1.5
RULES: dict[str, tuple[Rule, ...]] = {
    "data": DATA_RULES,
    "initialization": START_RULES,
    "training curves": CURVE_RULES,
    "trials": TRIAL_RULES,
    "recipes": RECIPE_RULES,
    "training loops": LOOP_RULES,
}
TESTS = {  # the quick tests of these rules, below tests/
    "data": ("diagnosis/test_data.py",),
    "initialization": ("diagnosis/test_initialization.py",),
    "training curves": ("diagnosis/test_training_curves.py",),
    "trials": ("diagnosis/test_trial_rules.py",),
    "recipes": ("examination/test_preflight.py",),
    "training loops": (
        "diagnosis/test_loop_thresholds.py",
        "diagnosis/test_training_loop_rules.py",
        "diagnosis/test_loss_curve_rules.py",
        "diagnosis/test_autograd_graph.py",
    ),
}
NO_THRESHOLDS = {  # numbers that decide about nothing by themselves
    "STATISTICAL_TESTS": "the tests that share the chance of a false alarm",
    "MAX_EVENTS": "how many events of a loop are kept",
    "MAX_BLOCKS": "how finely a long curve is read",
    "FIT_POINTS": "how finely the last third is read",
    "TRIAL_SEEDS": "how often examinations repeat a trial",
    "NEAR_PERFECT_SCORE": "when examinations try nothing",
}


@dataclass(frozen=True)
class Threshold:
    """A constant of a module; `modules` are all that have it under this name."""

    name: str
    value: float
    modules: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.modules[0].removeprefix('ravine.diagnosis.')}.{self.name}"

    def mutated(self, factor: float) -> float:
        """Whole numbers are rounded away from the old one."""
        new = self.value * factor
        if isinstance(self.value, int):
            return math.ceil(new) if factor > 1 else math.floor(new)
        return new


def thresholds_of(family: str) -> list[Threshold]:
    """The numbers that the modules of a family's rules have as constants, or import as such, and
    those of the modules beside them from which they import.
    """
    modules = list(dict.fromkeys(rule.find.__module__ for rule in RULES[family]))
    for name in list(modules):
        beside = name.rpartition(".")[0]
        for value in vars(sys.modules[name]).values():
            home = getattr(value, "__module__", "") or ""
            if home.startswith(f"{beside}.") and home not in modules and _decides(home):
                modules.append(home)
    found: dict[str, Threshold] = {}
    for name in modules:
        for constant, value in vars(sys.modules[name]).items():
            if not constant.isupper() or isinstance(value, bool) or constant in NO_THRESHOLDS:
                continue
            if isinstance(value, int | float) and constant not in found:
                found[constant] = Threshold(constant, value, _bearers(constant, value, name))
    return list(found.values())


def _decides(module: str) -> bool:
    """Whether a module beside rules decides with them, and does not measure."""
    return module.rpartition(".")[2] in ("progress", "failure_causes", "outcome", "history")


def _bearers(constant: str, value: float, first: str) -> tuple[str, ...]:
    """The modules of the package that have the constant, as if its definition were changed."""
    others = (
        name
        for name, module in sys.modules.items()
        if name.startswith("ravine.") and vars(module).get(constant) == value
    )
    return (first, *(name for name in others if name != first))


@contextlib.contextmanager
def changed(threshold: Threshold, value: float) -> Iterator[None]:
    modules = [importlib.import_module(name) for name in threshold.modules]
    for module in modules:
        setattr(module, threshold.name, value)
    try:
        yield
    finally:
        for module in modules:
            setattr(module, threshold.name, threshold.value)


def fails(family: str, *, expression: str) -> bool:
    """Whether a test of the family fails now, of those whose name fits an expression."""
    paths = [str(ROOT / "tests" / name) for name in TESTS[family]]
    options = ["-q", "-x", "-k", expression, "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = pytest.main([*options, *paths])
    return code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def survivors(family: str) -> list[str]:
    """The thresholds of a family of which no test notices that they are larger, or smaller.

    Sharp tests, whose names have `threshold`, are tried first.
    """
    for expression in ("threshold", "not threshold"):
        if fails(family, expression=expression):
            raise RuntimeError(f"the tests of {family} fail without any change")
    unnoticed = []
    for threshold in thresholds_of(family):
        for factor in (FACTOR, 1 / FACTOR):
            value = threshold.mutated(factor)
            with changed(threshold, value):
                noticed = fails(family, expression="threshold") or fails(
                    family, expression="not threshold"
                )
            if not noticed:
                unnoticed.append(f"{threshold}: {threshold.value:g} -> {value:g}")
    return unnoticed


if __name__ == "__main__":
    print(json.dumps({family: survivors(family) for family in sys.argv[1:]}))
