"""The rules that read the profile of examples (`measure.profile_data`)."""

from ravine.diagnosis.data import rules_inputs, rules_targets, rules_validation
from ravine.diagnosis.rule import collect_rules

ALL = collect_rules(rules_inputs, rules_targets, rules_validation)
