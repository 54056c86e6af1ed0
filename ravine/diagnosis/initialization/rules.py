"""The rules that read the profile of a start (`probe.profile_start`)."""

from ravine.diagnosis.initialization import rules_exact, rules_loss, rules_network
from ravine.diagnosis.rule import collect_rules

ALL = collect_rules(rules_exact, rules_loss, rules_network)
