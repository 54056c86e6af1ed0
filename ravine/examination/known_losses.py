"""Losses that models compute themselves, as Hugging Face's do: recognized by their value.

Letters: N examples, T tokens, K classes.
"""

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ravine.diagnosis.data.data_kinds import IGNORED_TARGET
from ravine.examination.nested import Nested, Path, iterate_paths, leaves_at
from ravine.examination.packed_inputs import as_tensor
from ravine.examination.ways_to_run import Loss, ProgramTrial, Way

SAME_LOSS = 1e-4  # relative: more than rounding in another order
MAX_TRIED_OUTPUTS = 8  # that are tried


def _class_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of outputs [N, K] or [N, T, K] and targets [N] or [N, T]."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _number_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error of as many numbers."""
    return F.mse_loss(outputs.flatten(), targets.flatten())


def _label_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))


# each with how many places later its targets [N, T] stand; the last ones are left out
KNOWN_LOSSES = ((_class_loss, 0), (_class_loss, 1), (_number_loss, 0), (_label_loss, 0))


def _move_targets(targets: Tensor, places: int) -> Tensor:
    return F.pad(targets[:, places:], (0, places), value=IGNORED_TARGET) if places else targets


def find_known_loss(way: Way, outputs: Any, batch: Any, trial: ProgramTrial) -> Way | None:
    """The way with a known loss that has the value of the loss that the model computes; or None."""
    value = float(trial.value(way, outputs, None).detach())
    of_outputs = [(p, t) for p, t in iterate_paths(outputs) if isinstance(t, Tensor) and t.dim()]
    of_batch = [(p, t) for p, t in iterate_paths(batch) if isinstance(t, Tensor) and t.dim()]
    tried = itertools.product(of_outputs[:MAX_TRIED_OUTPUTS], of_batch, KNOWN_LOSSES)
    for (path, output), (other, targets), (loss, places) in tried:
        try:
            with torch.no_grad():
                found = float(loss(output, _move_targets(targets, places)))
        except Exception:  # shapes or types that do not fit
            continue
        if math.isclose(found, value, rel_tol=SAME_LOSS):
            return _known_way(way, path, other, loss, places)
    return None


def _known_way(way: Way, path: Path, other: Path, loss: Loss, places: int) -> Way:
    def split(batch: Any) -> tuple[Nested, Nested]:
        return way.split(batch)[0], _move_targets(as_tensor(leaves_at(batch, [other])[0]), places)

    def value_of(outputs: Any, targets: Any) -> Tensor:
        return loss(leaves_at(outputs, [path])[0], targets)

    return Way(way.name, split, way.call, value_of, "targets")
