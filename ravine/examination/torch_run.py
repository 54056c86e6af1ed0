"""Train a case and look at it: losses, and at looks what it does on examples it learns from and on
others.

Letters: G groups of examples.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ravine.diagnosis.data.profile import IGNORED
from ravine.examination.torch_changes import logits_first
from ravine.examination.torch_subject import LOOKED, Case, Loss, Pair, measured
from ravine.rng import isolated_rng, seed_generators
from ravine.statistics import roc_auc


class Watched(Protocol):
    """What is told the losses of a run."""

    def loss(self, value: Tensor) -> object: ...


Watch = Callable[[nn.Module, torch.optim.Optimizer], AbstractContextManager[Watched | None]]
GROUPS = 16  # parts of the examples whose losses are compared in pairs


@dataclass(frozen=True)
class Look:
    """The network at one step, in evaluation mode: losses of G groups of examples, and a score
    where one is known.
    """

    step: int
    train: tuple[float, ...]
    others: tuple[float, ...]
    score: (
        float | None
    )  # on the validation examples where there are any, else on the training examples

    @property
    def loss(self) -> float:
        """The mean loss on the validation examples, or where there are none, the training
        examples.
        """
        groups = self.others or self.train
        return sum(groups) / len(groups)


@dataclass
class Run:
    """What a run left: the loss of every step, looks, and the trained model."""

    losses: list[float] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    model: nn.Module | None = None

    @property
    def last(self) -> Look:
        return self.looks[-1]

    @property
    def diverged(self) -> bool:
        return not all(map(math.isfinite, self.losses)) or not math.isfinite(self.last.loss)


def train(
    case: Case,
    *,
    seed: int,
    steps: int | None = None,
    looks: Sequence[int] = (),
    watch: Watch | None = None,
) -> Run:
    """Train a copy of the case's model for `steps` (its whole budget) with the order drawn from
    `seed`.

    A look is taken at the start, at `looks` (steps), and at the end. `watch` gets model and
    optimizer, and is told the loss of every step. The third loss that is not finite ends the run.
    """
    if isinstance(case.loss, nn.Module):  # which may keep something of every call
        case = replace(case, loss=copy.deepcopy(case.loss))
    steps = case.steps if steps is None else steps
    watch = _unwatched if watch is None else watch
    sample = case.examples(LOOKED)
    others = (
        None
        if case.validation is None
        else (case.validation[0][:LOOKED], case.validation[1][:LOOKED])
    )
    run, due = Run(), {*looks, steps}
    with isolated_rng(seed):
        model, optimizer = case.build()
        model.train()
        run.looks.append(look(case, model, sample, others, 0))
        seed_generators(seed + 1)  # the order is the same whatever was drawn while building
        failed = 0
        with watch(model, optimizer) as watched:
            for inputs, targets in _batches(case, steps):
                optimizer.zero_grad()
                loss = measured(case.loss, model(inputs), targets)
                if watched is not None:
                    watched.loss(loss)
                if loss.requires_grad:
                    loss.backward()
                if case.clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), case.clip)
                optimizer.step()
                run.losses.append(float(loss.detach()))
                broken = not math.isfinite(run.losses[-1])
                failed += broken
                if len(run.losses) in due or (broken and failed == 1):
                    run.looks.append(look(case, model, sample, others, len(run.losses)))
                if failed > 2:  # two more passes show who watches where it began
                    break
    run.model = model
    return run


def _unwatched(model: nn.Module, optimizer: torch.optim.Optimizer) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def _batches(case: Case, steps: int) -> Iterator[Pair]:
    """As many batches as there are steps, pass after pass."""
    given = 0
    while given < steps:
        for batch in case.train.epoch():
            yield batch
            given += 1
            if given == steps:
                return


def look(case: Case, model: nn.Module, sample: Pair, others: Pair | None, step: int) -> Look:
    """The model as it is now, in evaluation mode; training goes on as if nobody had looked."""
    training = model.training
    model.eval()
    with torch.no_grad(), isolated_rng():
        seen = grouped(case, model, sample)
        rest, score = (), None
        if others is None:
            score = scored(model(sample[0]), sample[1])
        else:
            outputs = model(others[0])
            rest, score = grouped(case, model, others, outputs), scored(outputs, others[1])
    model.train(training)
    return Look(step, seen, rest, score)


def grouped(
    case: Case, model: nn.Module, examples: Pair, outputs: Tensor | None = None
) -> tuple[float, ...]:
    """The loss of each of up to G groups of neighboring examples."""
    made: Tensor = model(examples[0]) if outputs is None else outputs
    return by_groups(case.judged or case.loss, made, examples[1])


def by_groups(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[float, ...]:
    """The loss of each of up to G groups of neighboring examples, from outputs."""
    if not isinstance(outputs, Tensor) or len(outputs) != len(targets):
        return (float(measured(loss, outputs, targets)),)
    places = torch.arange(len(targets)).tensor_split(min(GROUPS, max(1, len(targets) // 4)))
    return tuple(float(measured(loss, outputs[p], targets[p])) for p in places)


def scored(outputs: Tensor, targets: Tensor) -> float | None:
    """How well outputs answer, 1 at best and 0 for the best constant answer; None where that is not
    clear.

    Classes: (mean recall - 1/K) / (1 - 1/K) over the K classes there are, so that rare ones count
    as much. Targets 0 and 1: 2 AUC - 1, averaged over labels. Numbers: R2, not below -1.

    >>> scored(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 0]))
    1.0
    >>> scored(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 3.0]))
    -1.0
    """
    if not isinstance(outputs, Tensor):
        return None
    outputs = outputs.detach().float()
    if not bool(torch.isfinite(outputs).all()):
        return -1.0
    if (
        not targets.is_floating_point()
        and outputs.dim() == targets.dim() + 1
        and outputs.numel() > targets.numel()
    ):
        right, y = (
            (logits_first(outputs, targets).argmax(1) == targets).flatten(),
            targets.flatten(),
        )
        right, y = right[y != IGNORED], y[y != IGNORED]
        classes = y.unique()
        if len(classes) < 2:
            return None
        recall = sum(float(right[y == k].float().mean()) for k in classes) / len(classes)
        return (recall - 1 / len(classes)) / (1 - 1 / len(classes))
    if outputs.numel() != targets.numel():
        return None
    out, y = outputs.reshape(len(targets), -1).double(), targets.reshape(len(targets), -1).double()
    if bool(((y == 0) | (y == 1)).all()):
        area = float(roc_auc(out[None], y, torch.ones(len(y), dtype=y.dtype))[0])
        return None if math.isnan(area) else 2 * area - 1
    rest = float(((out - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum().clamp_min(1e-30))
    return max(-1.0, 1 - rest)


def plain_score(outputs: Tensor, targets: Tensor) -> float | None:
    """Accuracy of classes and 0/1 targets, or R2, from 0 for the best constant answer to 1; None
    where it is not clear.

    One output for 0 and 1 is cut at 0 or at 0.5, whichever is right more often.

    >>> plain_score(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 0]))
    1.0
    """
    if not isinstance(outputs, Tensor) or not bool(torch.isfinite(outputs).all()):
        return None
    if (
        not targets.is_floating_point()
        and outputs.dim() == targets.dim() + 1
        and outputs.numel() > targets.numel()
    ):
        told = targets != IGNORED
        if not bool(told.any()):
            return None
        right = float((logits_first(outputs, targets).argmax(1) == targets)[told].float().mean())
        least = float(torch.unique(targets[told], return_counts=True)[1].max()) / int(told.sum())
    elif outputs.numel() == targets.numel() and bool(((targets == 0) | (targets == 1)).all()):
        out, y = outputs.reshape(targets.shape), targets > 0.5
        right = max(float(((out > cut) == y).float().mean()) for cut in (0.0, 0.5))
        share = y.reshape(len(y), -1).float().mean(0)
        least = float(torch.maximum(share, 1 - share).mean())
    elif outputs.numel() == targets.numel():
        return scored(outputs, targets)
    else:
        return None
    return (right - least) / (1 - least) if least < 1 else None
