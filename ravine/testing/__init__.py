"""The doctor's exact checks as assertions for a test suite: `assert_learns_a_batch` and others."""

from ravine.testing.start_checks import (
    assert_causal,
    assert_eval_deterministic,
    assert_examples_independent,
    assert_gradients_reach_every_parameter,
    assert_loss_at_chance,
)
from ravine.testing.training_checks import assert_learns_a_batch, assert_same_when_resumed

__all__ = [
    "assert_causal",
    "assert_eval_deterministic",
    "assert_examples_independent",
    "assert_gradients_reach_every_parameter",
    "assert_learns_a_batch",
    "assert_loss_at_chance",
    "assert_same_when_resumed",
]
