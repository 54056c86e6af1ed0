"""All rules, by what they read.

A code may have two checks: one reads the curves of a run, the other what was recorded of a watched
loop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import ModuleType

from ravine.diagnosis import recipe_rules, resume_rules, tuning_rules
from ravine.diagnosis.data import rules_inputs, rules_targets, rules_validation
from ravine.diagnosis.initialization import rules_exact, rules_loss
from ravine.diagnosis.initialization import rules_network as start_network_rules
from ravine.diagnosis.rule import Rule, collect_rules
from ravine.diagnosis.training_curves import (
    rules_divergence,
    rules_duration,
    rules_learning,
    rules_overfitting,
    rules_settings,
)
from ravine.diagnosis.training_loop import (
    rules_gradients,
    rules_learning_rate,
    rules_loss_curve,
    rules_network,
    rules_nonfinite,
    rules_optimizer,
    rules_output,
    rules_parameters,
    rules_passes,
)
from ravine.diagnosis.trials import rules as trial_rules


def _sorted_rules(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules of modules by code; RVN-L20 and later ones come after the symptoms (RVN-N)."""
    rules = collect_rules(*modules)
    return tuple(sorted(rules, key=lambda r: ("RVN-L20" <= r.code < "RVN-M", r.code)))


_STEP_RULES = _sorted_rules(
    rules_gradients,
    rules_parameters,
    rules_passes,
    rules_learning_rate,
    rules_optimizer,
    rules_nonfinite,
)
_OUTPUT_RULES = _sorted_rules(rules_output)
_NETWORK_RULES = _sorted_rules(rules_network)
LOSS_CURVE_RULES = collect_rules(rules_loss_curve)
LOOP_RULES = (*_STEP_RULES, *_OUTPUT_RULES, *_NETWORK_RULES, *LOSS_CURVE_RULES)
DATA_RULES = _sorted_rules(rules_inputs, rules_targets, rules_validation)
# of these, what is found in the inputs alone
_INPUT_CODES = ("RVN-D01", "RVN-D03", "RVN-D05", "RVN-D19", "RVN-D21")
INPUT_RULES = tuple(r for r in DATA_RULES if r.code in _INPUT_CODES)
# and where there are several targets
SEVERAL_TARGET_RULES = tuple(r for r in DATA_RULES if r in INPUT_RULES or r.code == "RVN-D06")
START_RULES = _sorted_rules(rules_exact, rules_loss, start_network_rules)
RECIPE_RULES = _sorted_rules(recipe_rules)
CURVE_RULES = _sorted_rules(
    rules_divergence, rules_duration, rules_learning, rules_overfitting, rules_settings
)
TRIAL_RULES = _sorted_rules(trial_rules)
RESUME_RULES = _sorted_rules(resume_rules)
CHECKS_BY_FAMILY: Mapping[str, tuple[Rule, ...]] = {
    "the training loop": _STEP_RULES,
    "output and loss": _OUTPUT_RULES,
    "the network": _NETWORK_RULES,
    "the data": DATA_RULES,
    "initialization": START_RULES,
    "a recipe before training": RECIPE_RULES,
    "training curves": (*CURVE_RULES, *LOSS_CURVE_RULES),
    "trials": TRIAL_RULES,
    "a resumed run": RESUME_RULES,
    "a study of settings": tuning_rules.TUNING_RULES,
}
ALL_CHECKS = tuple(check for checks in CHECKS_BY_FAMILY.values() for check in checks)


def merge_checks(checks: Iterable[Rule]) -> dict[str, Rule]:
    """A rule for each code: its first check, with the causes and the symptoms of all of them."""
    merged: dict[str, Rule] = {}
    for check in checks:
        first = merged.setdefault(check.code, check)
        causes = dict.fromkeys((first.cause, *first.also, check.cause, *check.also))
        explains = dict.fromkeys((*first.explains, *check.explains))
        merged[check.code] = replace(first, also=tuple(causes)[1:], explains=tuple(explains))
    return merged


_RULES_BY_CODE = merge_checks(ALL_CHECKS)
ALL_RULES: tuple[Rule, ...] = tuple(_RULES_BY_CODE.values())
RULES_BY_FAMILY: Mapping[str, tuple[Rule, ...]] = {
    family: tuple(_RULES_BY_CODE[code] for code in dict.fromkeys(check.code for check in checks))
    for family, checks in CHECKS_BY_FAMILY.items()
}
SYMPTOM_CODES = frozenset(check.code for check in ALL_CHECKS if check.symptom)
