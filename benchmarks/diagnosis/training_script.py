"""What a training script is: plain PyTorch, sick or healthy, with the causes that count as right.

There are two kinds. A `setup` is what `ravine.examine` takes: model, loss, examples, optimizer,
batch size, epochs. A `loop` is a function that trains in a loop of its own under a watch; what is
wrong with it stands in the loop itself. Scripts of one group (the part of the name before the
slash) share data and network; they fall in the same half.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = frozenset(
    "learning-rate-high learning-rate-low too-few-steps schedule batch-size optimizer "
    "optimizer-numerics "
    "hidden-activation output-activation loss loss-reduction shape-pairing initialization "
    "input-scale target-scale "
    "data-degenerate labels leakage imbalance split shuffling augmentation dead-units saturation "
    "vanishing exploding "
    "architecture-too-small architecture-too-deep overfitting over-regularized dropout "
    "normalization train-eval-mode "
    "frozen-parameters parameters-not-in-optimizer zero-grad step-order detached-graph "
    "gradient-clipping precision "
    "metric randomness replicas causality seed-fragile healthy".split()
)
REMEDY_PATHS = frozenset(
    "lr batch clip input.scale target.scale output init activation loss dropout decay steps "
    "optimizer formula model data "
    "loop".split()
)  # what a reference remedy may change
BY_HAND_PATHS = frozenset(("formula", "model", "data", "loop"))  # `formula`: terms of a loss
BY_HAND_CAUSES = frozenset(
    "data-degenerate labels leakage split augmentation architecture-too-small "
    "architecture-too-deep shape-pairing detached-graph metric randomness replicas "
    "causality".split()
)  # that no setting mends

Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]  # one, several, or by name
Pair: TypeAlias = tuple[Inputs, Tensor]
Loss: TypeAlias = Callable[[Any, Any], Tensor]


class WatchedLoop(Protocol):
    """What a loop reports to its watcher."""

    def loss(self, value: Tensor) -> None: ...


Watch: TypeAlias = Callable[[nn.Module, torch.optim.Optimizer], AbstractContextManager[WatchedLoop]]


def call_model(model: nn.Module, inputs: Inputs) -> Any:
    """The outputs: several inputs are several arguments, named ones are keywords."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def split_batch(batch: Any) -> Pair:
    """Inputs and targets of a batch: `(x, y)`, `(a, b, y)`, `((a, b), y)`, or a dict with
    `labels`.
    """
    if isinstance(batch, Mapping):
        return {name: x for name, x in batch.items() if name != "labels"}, batch["labels"]
    *inputs, targets = batch
    inputs = inputs[0] if len(inputs) == 1 else inputs
    return (tuple(inputs) if isinstance(inputs, list) else inputs), targets


def batch_loss(model: nn.Module, loss: Loss, batch: Any) -> Tensor:
    """`loss(outputs, targets)`; where the outputs are no tensor, `loss(outputs, batch)`."""
    inputs, targets = split_batch(batch)
    outputs = call_model(model, inputs)
    return loss(outputs, targets if isinstance(outputs, Tensor) else batch)


def main_output(outputs: Any) -> Tensor:
    """What is scored: the outputs, or their first part."""
    if isinstance(outputs, Tensor):
        return outputs
    parts = outputs if isinstance(outputs, tuple | dict) else vars(outputs)
    return next(iter(parts.values())) if isinstance(parts, dict) else parts[0]


@dataclass(frozen=True)
class Scorer:
    """The score of a model on held-out examples, higher is better; `chance` is that of a constant.

    It is not shown to the tool that diagnoses: it says whether a fault does harm. A model whose
    outputs are NaN has `worst`.
    """

    inputs: Inputs
    targets: Tensor
    score: Callable[[Tensor, Tensor], float]
    chance: float
    worst: float = 0.0

    def __call__(self, model: nn.Module) -> float:
        training = model.training
        model.eval()
        with torch.no_grad():
            outputs = main_output(call_model(model, self.inputs)).float()
        model.train(training)
        return self.score(outputs, self.targets) if bool(outputs.isfinite().all()) else self.worst


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """The arguments of `ravine.examine`, and the scorer."""

    model: nn.Module
    loss: Loss
    train: Pair | DataLoader[Any]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | torch.optim.Optimizer
    batch_size: int
    epochs: int
    validation: Pair | None = None
    scorer: Scorer

    @property
    def steps(self) -> int:
        """Updates in the whole budget."""
        if isinstance(self.train, DataLoader):
            return self.epochs * len(self.train)
        return self.epochs * math.ceil(len(self.train[1]) / self.batch_size)


@dataclass(frozen=True, kw_only=True)
class TrainingScript:
    """One script.

    `code` builds the setup; or it takes a watch, trains, and returns the model with its scorer.
    `causes` are the answers that count as right (none: it is healthy); `where` is the module or
    column to be named; `remedy` a change, as path and value, that makes it well; `exact` says that
    the fault can be proved without statistics. `unmoved` names a parameter that must not have moved
    in a run (the direct proof of some exact faults). `honest` marks a healthy script that has
    nothing to learn and says so.
    """

    name: str
    family: Literal["table", "image", "sequence", "loop", "healthy"]
    task: Literal["classification", "regression", "multi-label", "generation"]
    network: Literal["linear", "mlp", "cnn", "recurrent", "attention"]
    code: Callable[..., Any]
    kind: Literal["setup", "loop"] = "setup"
    causes: frozenset[str] = frozenset()
    where: str | None = None
    remedy: tuple[str, Any] | None = None
    exact: bool = False
    unmoved: str | None = None
    nothing_to_learn: bool = False
    # by how much less than its healthy form a sick one scores, a healthy one more than chance
    margin: float = 0.05
    # How a fault is proved. "score": worse than its healthy form; "unmoved": the parameter stands
    # still; "validation": its own validation flatters it; "mixes": examples answer for each other;
    # "leak": outputs know of later inputs
    proof: Literal["score", "unmoved", "validation", "mixes", "leak"] = "score"
    steps: int | None = None  # the budget of a loop; that of a setup is in the setup

    @property
    def group(self) -> str:
        return self.name.split("/")[0]

    @property
    def file(self) -> str:
        """The name of the file that it stands in."""
        code = self.code
        while isinstance(code, partial):
            code = code.func
        return code.__module__.rpartition(".")[2]

    @property
    def sick(self) -> bool:
        return bool(self.causes)

    @property
    def partner(self) -> str:
        """The name of the healthy form."""
        return f"{self.group}/healthy"

    @property
    def half(self) -> Literal["tune", "report"]:
        """By the group's name, so that no script of the half that is reported has a relative in
        the other.
        """
        return "tune" if hashlib.sha256(self.group.encode()).digest()[2] % 2 == 0 else "report"

    def build(self, seed: int) -> TrainingSetup:
        """The setup, its weights drawn from `seed`."""
        torch.manual_seed(seed)
        return self.code()

    def run(self, seed: int, watch: Watch) -> tuple[nn.Module, Scorer]:
        """Train by the loop, weights and order drawn from `seed`."""
        torch.manual_seed(seed)
        return self.code(watch)

    def budget(self, seed: int = 0) -> int:
        return self.steps if self.steps is not None else self.build(seed).steps


@dataclass(frozen=True)
class Fault:
    """A sick form of a group: what it changes in the healthy one, and its causes and remedy."""

    name: str
    causes: frozenset[str]
    answers: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


def fault(
    name: str, causes: str, *, answers: dict[str, Any] | None = None, **changes: Any
) -> Fault:
    """A form with `causes` (separated by spaces) that calls the group's function with `changes`."""
    return Fault(name, frozenset(causes.split()), answers or {}, changes)


def group(
    name: str, code: Callable[..., Any], *forms: Fault, **common: Any
) -> tuple[TrainingScript, ...]:
    """The healthy form of `code` and its sick ones."""
    healthy = (TrainingScript(name=f"{name}/healthy", code=code, **common),)
    return healthy + tuple(
        TrainingScript(
            name=f"{name}/{form.name}",
            code=partial(code, **form.changes),
            causes=form.causes,
            **{**common, **form.answers},
        )
        for form in forms
    )


def loader(
    inputs: Tensor, targets: Tensor, batch: int, *, shuffle: bool = True, drop_last: bool = False
) -> DataLoader[Any]:
    return DataLoader(
        TensorDataset(inputs, targets), batch_size=batch, shuffle=shuffle, drop_last=drop_last
    )


def accuracy(inputs: Inputs, targets: Tensor) -> Scorer:
    """Share of right classes; chance is the largest class. Outputs [N, K] or, of sequences, [N, T,
    K].
    """
    chance = float(targets.flatten().bincount().max() / targets.numel())
    return Scorer(
        inputs, targets, lambda out, y: float((out.argmax(-1) == y).float().mean()), chance
    )


def mean_recall(inputs: Inputs, targets: Tensor) -> Scorer:
    """Mean over the classes of the share that is found; chance 1/K."""
    classes = int(targets.max()) + 1

    def score(out: Tensor, y: Tensor) -> float:
        right = out.argmax(-1) == y
        return sum(float(right[y == k].float().mean()) for k in range(classes)) / classes

    return Scorer(inputs, targets, score, 1 / classes)


def binary_accuracy(inputs: Inputs, targets: Tensor, threshold: float = 0.0) -> Scorer:
    """Share of right answers of one output per example, cut at `threshold`."""
    share = float(targets.float().mean())
    return Scorer(
        inputs,
        targets,
        lambda out, y: float(
            ((out.reshape(len(y), -1) > threshold) == (y.reshape(len(y), -1) > 0.5)).float().mean()
        ),
        max(share, 1 - share),
    )


def micro_f1(inputs: Inputs, targets: Tensor, threshold: float = 0.0) -> Scorer:
    """F1 of many labels per example, over all labels together; chance is saying yes to
    everything.
    """

    def score(out: Tensor, y: Tensor) -> float:
        chosen, true = out > threshold, y > 0.5
        return 2 * float((chosen & true).sum()) / max(float(chosen.sum() + true.sum()), 1.0)

    return Scorer(inputs, targets, score, score(torch.ones_like(targets) + threshold, targets))


def r2(inputs: Inputs, targets: Tensor, scale: float = 1.0, shift: float = 0.0) -> Scorer:
    """R2 of the outputs after out * scale + shift; chance 0, never counted below -1."""

    def score(out: Tensor, y: Tensor) -> float:
        out = out.reshape(y.shape) * scale + shift
        rest = float(((out - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())
        return max(-1.0, 1.0 - rest)

    return Scorer(inputs, targets, score, 0.0, -1.0)
