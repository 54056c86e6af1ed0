"""All rules for a loop that is watched, in the order in which they are read."""

from __future__ import annotations

from ravine.diagnosis.rule import Rule
from ravine.diagnosis.training_loop import rules_loss_curve, rules_network, rules_output, rules_state, rules_step

ALL: tuple[Rule, ...] = (
    *rules_step.ALL,
    *rules_state.ALL,
    *rules_output.ALL,
    *rules_network.ALL,
    *rules_loss_curve.ALL,
)
