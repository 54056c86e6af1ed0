"""What each kind of part must offer. A recipe's fields are annotated with these; `catalog.py` lists
who plays them.

Letters: P networks, B examples in a batch, W weights of a network, S steps, C outputs. Columns are
[P, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ravine.effects import Meter
from ravine.layout import Column, Layout, Row, Rows, Slot
from ravine.part import Number, match

State: TypeAlias = dict[
    str, Tensor
]  # what an optimizer remembers: every entry has a row for each network


# Optimizers


class Now(NamedTuple):
    """What an update may know about its moment."""

    step: int  # 1 at the first update
    factor: Any  # the schedule's multiple of the learning rate: a float or a float64 column
    decays: Row  # 1 where weight decay and penalties act, else 0
    layout: Layout
    lr: Row | None = None  # a factor of the learning rate for each weight, None where all are 1
    meter: Meter | None = None  # where techniques report, None in the steps that are not sampled

    def rate(self, lr: Number, rows: Rows) -> Any:
        """The learning rate of this step, ready to multiply rows: lr · schedule · (factor of the
        weight).
        """
        rate = match(lr * self.factor, rows)
        return rate if self.lr is None else rate * self.lr.to(rows)


class Optimizer(Protocol):
    """One rule over the matrix of weights; pure, and the same whatever else is in the cohort."""

    @property
    def lr(self) -> Number: ...

    def start(self, rows: Rows) -> State: ...

    def update(self, rows: Rows, grads: Rows, state: State, now: Now) -> tuple[Rows, State]: ...


class Evaluated(NamedTuple):
    """A loss and its gradient at one point of each network."""

    losses: Column
    grads: Rows


class Searched(Protocol):
    """The loss of a step's batch as a function of the weights, penalties and all; it may be asked
    as often as wanted.

    Each network's loss is that of its own row. The batch and what is drawn for it (dropout) stay
    the same.
    """

    @property
    def first(self) -> Evaluated:
        """At the weights that the step starts from."""
        ...

    def value_and_grad(self, rows: Rows) -> Evaluated: ...

    def hessian(self, rows: Rows) -> Tensor:
        """[P, W, W]: W products with vectors."""
        ...


@runtime_checkable
class Searches(Protocol):
    """An optimizer that needs more of a step's loss than one gradient; it has `search` in place of
    `update`.
    """

    def affords(self, width: int) -> None:
        """Raise `RecipeError` where networks of so many weights take too much memory."""
        ...

    def start(self, rows: Rows) -> State: ...

    def search(
        self, rows: Rows, objective: Searched, state: State, now: Now
    ) -> tuple[Rows, State]: ...


@runtime_checkable
class Settles(Protocol):
    """An optimizer whose rows are not the weights to judge: it walks at one point and stands at
    another.
    """

    def settled(self, rows: Rows, state: State) -> Rows: ...


class Clip(Protocol):
    """Changes the gradient before the update, each network by itself."""

    def clip(self, grads: Rows, now: Now) -> Rows: ...


class Average(Protocol):
    """Keeps averaged weights beside the raw ones."""

    def start(self, rows: Rows) -> State: ...

    def update(self, rows: Rows, state: State, now: Now, plan: Plan) -> State: ...

    def averaged(self, rows: Rows, state: State) -> Rows: ...


class Penalty(Protocol):
    """Adds to the loss a function of the weights alone."""

    def value(self, rows: Rows, decays: Row) -> Column: ...

    def gradient(self, rows: Rows, decays: Row, meter: Meter | None) -> Rows: ...


# Schedules


class Plan(NamedTuple):
    """How long a run is: `steps` in all, of them `per_epoch` in one pass over the training
    examples.
    """

    steps: int
    per_epoch: int


class Schedule(Protocol):
    """The multiple of the learning rate at each step, worked out in float64."""

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        """`step` is float64 [1, S], 0 at the first step. Returns [P, S] or [1, S]."""
        ...


@runtime_checkable
class Reactive(Protocol):
    """A schedule that also answers to the validation score (its `factor` is multiplied by
    `state["factor"]`).
    """

    def start(self, networks: int) -> State: ...

    def observe(self, score: Column, state: State) -> State:
        """`score` is lower-is-better, one for each network."""
        ...


# Networks


class Activation(Protocol):
    """A function of each unit by itself (or, for gated ones, of pairs of units)."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def gain(self) -> float:
        """What keeps the second moment of a signal through a layer: E[f(z)²] = 1/gain² for z ~ N(0,
        1).
        """
        ...


class Initializer(Protocol):
    """The starting values of one slot, each network's from its own stream."""

    def draw(self, slot: Slot, generators: Sequence[torch.Generator]) -> Tensor:
        """[P, *slot.shape], float32."""
        ...


@dataclass
class Batch:
    """The examples of one step, each network its own: shapes [P, B, ...], or [1, B, ...] where all
    see the same.
    """

    # float32 [P, B, F]; pictures [P, B, C, H, W]: uint8, or floats from 0 to 1 once augmented
    numbers: Tensor
    codes: Tensor | None = None  # int64 [P, B, K]: a code for each categorical column, 0 is unseen
    targets: Tensor | None = None  # int64 [P, B] classes, or float32 [P, B, C]
    weights: Tensor | None = None  # float32 [P, B], each example's share in the loss
    others: Tensor | None = (
        None  # like targets: those of the examples that were mixed in (mixup, cutmix)
    )
    mixed: Tensor | None = None  # float32 [P, B]: the share of the others in the loss


@dataclass
class Pass:
    """What a forward pass may know: whether it trains, the networks' seeds, the step, and where to
    report.
    """

    training: bool
    seeds: Sequence[int] = ()
    step: int = 0
    batch: int = 0  # the size of a full batch (the last of an epoch may be smaller)
    meter: Meter | None = None
    tapped: list[Tensor] | None = None  # if a list: each layer's output is appended
    buffers: dict[str, Tensor] = field(
        default_factory=dict
    )  # running statistics, written by layers that train


class Picture(NamedTuple):
    """The shape of pictures and, channel by channel, the mean and the SD of the training split (of
    values 0 to 1).
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    sd: tuple[float, ...]


class Signature(NamedTuple):
    """What goes in and comes out: F numbers, the number of codes of each categorical column, C
    outputs.

    `flags` are the places of the numbers that take but two or three values (yes and no, one-hot,
    gaps). Where the examples are pictures, `picture` says which, and there are no numbers and no
    codes.
    """

    numbers: int
    codes: tuple[int, ...]
    outputs: int
    picture: Picture | None = None
    flags: tuple[int, ...] = ()


class Layer(Protocol):
    """A built layer: what tensors it needs and what it computes, for all networks at once."""

    @property
    def slots(self) -> tuple[Slot, ...]: ...

    buffers: dict[str, Tensor]  # starting values [*shape] by name

    def start(self, generators: dict[str, Sequence[torch.Generator]]) -> dict[str, Tensor]: ...

    def __call__(self, x: Any, tensors: dict[str, Tensor], now: Pass, /) -> Any: ...


@runtime_checkable
class Measured(Protocol):
    """A layer that knows how long each example's gradient of its own weights is."""

    def squared_lengths(self, x: Tensor, delta: Tensor) -> Tensor:
        """|∂loss/∂(weights of this layer)|² [P, B], given its input x and δ = ∂loss/∂(its output),
        both [P, B, ...].
        """
        ...


class Norm(Protocol):
    """Describes a normalization layer."""

    def layer(self, name: str, units: int) -> Layer: ...


class Drop(Protocol):
    """Describes a dropout layer."""

    def layer(self, name: str) -> Layer: ...


class Pool(Protocol):
    """Describes a layer that makes pictures smaller."""

    def after(self, size: int) -> int:
        """The side that a side of `size` places becomes; 0 or less where the window does not
        fit.
        """
        ...

    def layer(self) -> Layer: ...


class NumberEmbedding(Protocol):
    """Describes how a table's numbers are spread over several inputs each."""

    def layer(self, features: int) -> Any: ...


class Augmentation(Protocol):
    """Changes the examples of training batches and keeps their labels, each network's from its own
    stream.
    """

    def __call__(self, batch: Batch, now: Pass, /) -> Batch:
        """`batch.numbers` are floats from 0 to 1, [P, B, C, H, W]; returns the same shape."""
        ...


class Tuning(Protocol):
    """Which weights of a pretrained network move when, and how fast."""

    def lr(self, layout: Layout, step: int, plan: Plan) -> Row:
        """The factor of each weight's learning rate [1, W] at a step (0 is the first); 0 leaves it
        as it is.
        """
        ...


class Network(Protocol):
    """Describes layers; the part that stands in a recipe."""

    def build(self, signature: Signature) -> Sequence[Layer]: ...


@runtime_checkable
class Continues(Protocol):
    """A network that starts, at least in part, from what was learned before."""

    def taken(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """The starting tensors by name [*shape], of the slots and buffers whose `shapes` are given;
        the same for all networks. Raises `RecipeError` where they cannot be read or do not fit."""
        ...


# Tasks


class Source(Protocol):
    """Where the examples are and what is to be learned from them."""

    @property
    def source(self) -> str: ...

    @property
    def target(self) -> tuple[str, ...]: ...


class Split(Protocol):
    """Which examples train, which validate, which test."""

    @property
    def validation(self) -> float: ...


class Encoding(Protocol):
    """How columns become numbers and codes; fitted on the training split alone."""


class Stop(Protocol):
    """When a network stops and which weights it keeps."""

    @property
    def patience(self) -> int: ...

    @property
    def on(self) -> str: ...

    @property
    def minimum(self) -> float: ...

    @property
    def ties(self) -> str: ...


class Keep(Protocol):
    """Which weights along the way become members of the model, beside the last."""

    @property
    def last(self) -> int | None: ...

    def ends(self, factors: Tensor) -> Tensor:
        """Whether the weights after each step are kept, [S], from the multiples of the learning
        rate [S].
        """
        ...


# Losses


class Loss(Protocol):
    """How far outputs are from targets, and what outputs predict."""

    tasks: ClassVar[tuple[str, ...]]  # kinds of task that it fits: "binary", "classes", ...

    def each(self, outputs: Tensor, targets: Tensor, meter: Meter | None = None) -> Tensor:
        """The loss of each example, [P, B], from outputs [P, B, C] and targets [P, B] or [P, B,
        C].
        """
        ...

    def constant(self, targets: Tensor, shares: Tensor, outputs: int) -> Tensor:
        """The answer [1, C] or [P, C] with the lowest mean loss of those that are the same for all
        examples.

        `targets` are [B] or [B, C]; `shares` [B] sum to 1 and say how much each example counts.
        """
        ...

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities [..., C] (classes), [..., C] per label, or means [..., C] in the target's
        encoded units.
        """
        ...
