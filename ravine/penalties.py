"""Penalties: functions of the weights alone that are added to each network's loss.

They act where `decay_mask` is 1: on weights, never on biases, normalization scales or embeddings.
Letters: w the weights of one network, λ `strength`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from ravine.effects import Effect, Meter
from ravine.layout import Column, Row, Rows, row_norm
from ravine.part import Number, match, part, setting
from ravine.protocols import Penalty

PENALTY_MEANING = "length of the penalty's gradient relative to that of the weights"


@part
class L2:
    """Pull all weights towards 0, large ones more.

        squared     λ Σ w²        gradient 2 λ w          the lectures' λ‖W‖_F², Keras
        half        ½ λ Σ w²      gradient λ w            torch's weight_decay
        norm       λ √(Σ w²)     gradient λ w / ‖w‖      the same pull whatever the size; 0 at w = 0

    >>> L2(strength=0.5).value(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([[4.5000]])
    """

    acts: ClassVar[Effect] = Effect("L2", PENALTY_MEANING)
    strength: Number = setting(default=1e-4, ge=0)
    form: Literal["squared", "half", "norm"] = "squared"

    def value(self, rows: Rows, decay_mask: Row) -> Column:
        weights = decay_mask * rows
        if self.form == "norm":
            return match(self.strength, rows) * row_norm(weights)
        strength = self.strength if self.form == "squared" else self.strength * 0.5
        return match(strength, rows) * (weights * weights).sum(1, keepdim=True)

    def gradient(self, rows: Rows, decay_mask: Row, meter: Meter | None) -> Rows:
        weights = decay_mask * rows
        if self.form == "norm":
            size = row_norm(weights)
            found = match(self.strength, rows) * (weights / torch.where(size == 0, 1.0, size))
        else:
            found = match(self.strength * (2.0 if self.form == "squared" else 1.0), rows) * weights
        return _report(self.acts, found, rows, meter)


@part
class L1:
    """Pull all weights towards 0 alike: λ Σ |w|, gradient λ sign(w); small ones end near 0."""

    acts: ClassVar[Effect] = Effect("L1", PENALTY_MEANING)
    strength: Number = setting(default=1e-4, ge=0)

    def value(self, rows: Rows, decay_mask: Row) -> Column:
        return match(self.strength, rows) * (decay_mask * rows).abs().sum(1, keepdim=True)

    def gradient(self, rows: Rows, decay_mask: Row, meter: Meter | None) -> Rows:
        found = match(self.strength, rows) * (decay_mask * rows).sign()
        return _report(self.acts, found, rows, meter)


@part
class ElasticNet:
    """A blend, β = `ratio`: λ (β Σ w² + (1 − β) Σ |w|), gradient λ (2 β w + (1 − β) sign(w)).

    (Zou & Hastie 2005; scikit-learn's `l1_ratio` is 1 − β, and its square comes with a ½.)
    """

    acts: ClassVar[Effect] = Effect("elastic net", PENALTY_MEANING)
    strength: Number = setting(default=1e-4, ge=0)
    ratio: Number = setting(default=0.5, ge=0, le=1)

    def value(self, rows: Rows, decay_mask: Row) -> Column:
        weights = decay_mask * rows
        squares = (weights * weights).sum(1, keepdim=True)
        sizes = weights.abs().sum(1, keepdim=True)
        square = match(self.strength * self.ratio, rows) * squares
        return square + match(self.strength * (1 - self.ratio), rows) * sizes

    def gradient(self, rows: Rows, decay_mask: Row, meter: Meter | None) -> Rows:
        weights = decay_mask * rows
        found = match(2 * self.strength * self.ratio, rows) * weights
        found = found + match(self.strength * (1 - self.ratio), rows) * weights.sign()
        return _report(self.acts, found, rows, meter)


ALL = (L2, L1, ElasticNet)


def penalty_sum(penalties: Sequence[Penalty], rows: Rows, *, decay_mask: Row) -> Column:
    """What several penalties add to each network's loss, [P, 1]."""
    values = (penalty.value(rows, decay_mask) for penalty in penalties)
    return sum(values, torch.zeros_like(rows[:, :1]))


def _report(acts: Effect, found: Rows, rows: Rows, meter: Meter | None) -> Rows:
    if meter is not None:
        meter.add(acts.name, row_norm(found) / row_norm(rows).clamp_min(1e-30))
    return found
