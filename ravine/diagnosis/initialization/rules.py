"""The rules that read the profile of a start (`probe.profile_start`): facts first, then what is
only likely.
"""

from __future__ import annotations

from ravine.diagnosis.initialization import rules_exact, rules_loss, rules_network

ALL = (
    rules_exact.mixed_examples,
    rules_exact.mispaired_targets,
    rules_exact.future_leak,
    rules_exact.constant_output,
    rules_exact.missing_gradient,
    rules_exact.stuck_zero_weights,
    rules_exact.copied_units,
    rules_exact.random_evaluation,
    rules_loss.reversed_loss,
    rules_loss.unfit_output_activation,
    rules_loss.reversed_class_weights,
    rules_loss.first_loss_not_finite,
    rules_network.unlike_guessing,
    rules_network.fading_signal,
    rules_network.initially_dead_units,
    rules_network.saturated_units,
    rules_network.odd_weight_scale,
    rules_network.stale_statistics,
    rules_network.high_dropout,
    rules_loss.summed_loss,
    rules_loss.classes_as_numbers,
)
