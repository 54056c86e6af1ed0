"""All rules, by what they look at, and the codes that took the place of retired ones."""

from __future__ import annotations

from collections.abc import Mapping

from ravine.diagnosis import recipe_rules
from ravine.diagnosis.data import rules as data_rules
from ravine.diagnosis.initialization import rules as initialization_rules
from ravine.diagnosis.rule import Rule
from ravine.diagnosis.training_curves import rules as curve_rules
from ravine.diagnosis.training_loop import (
    rules_learning_rate,
    rules_loss_curve,
    rules_network,
    rules_output,
    rules_parameters,
    rules_state,
    rules_step,
)
from ravine.diagnosis.trials import rules as trial_rules

_STEP_RULES = (
    *sorted(
        (*rules_step.ALL, *rules_parameters.ALL, *rules_learning_rate.ALL),
        key=lambda rule: rule.code,
    ),
    *rules_state.ALL,
)
LOOP_RULES: tuple[Rule, ...] = (
    *_STEP_RULES,
    *rules_output.ALL,
    *rules_network.ALL,
    *rules_loss_curve.ALL,
)
FAMILIES: Mapping[str, tuple[Rule, ...]] = {
    "the training loop": _STEP_RULES,
    "output and loss": rules_output.ALL,
    "the network": rules_network.ALL,
    "the data": data_rules.ALL,
    "initialization": initialization_rules.ALL,
    "a recipe before training": recipe_rules.ALL,
    "training curves": (*rules_loss_curve.ALL, *curve_rules.ALL),
    "trials": trial_rules.ALL,
}
ALL_RULES: tuple[Rule, ...] = tuple(rule for rules in FAMILIES.values() for rule in rules)
SYMPTOM_CODES = frozenset(rule.code for rule in ALL_RULES if rule.symptom)
RETIRED_CODES: Mapping[str, str] = {
    "RVN-C01": "RVN-I13",
    "RVN-C05": "RVN-I01",
    "RVN-C06": "RVN-I14",
    "RVN-C07": "RVN-I15",
    "RVN-C08": "RVN-I16",
    "RVN-C09": "RVN-S02",
    "RVN-C10": "RVN-I07",
}
