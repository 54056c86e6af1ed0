"""The rules that read the profile of examples (`measure.profile_data`)."""

from __future__ import annotations

from ravine.diagnosis.data import rules_inputs, rules_targets, rules_validation

ALL = (
    rules_inputs.not_finite_numbers,
    rules_inputs.equal_inputs,
    rules_inputs.constant_columns,
    rules_targets.equal_targets,
    rules_inputs.input_scale,
    rules_targets.target_scale,
    rules_validation.leaked_examples,
    rules_inputs.leaking_columns,
    rules_targets.unshifted_tokens,
    rules_validation.validation_shift,
    rules_validation.unseen_targets,
    rules_targets.uneven_classes,
    rules_targets.sorted_examples,
    rules_targets.no_information,
    rules_targets.shifted_targets,
    rules_targets.missing_outputs,
    rules_inputs.repeated_inputs,
    rules_validation.uninformative_training,
)
