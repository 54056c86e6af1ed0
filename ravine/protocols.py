"""What each kind of part must offer: the protocols that annotate the fields of a recipe.

`catalog.py` lists the parts that satisfy them.

Letters: P networks, B examples in a batch, W weights of a network, S steps, C outputs. Columns are
[P, 1], rows of weights [P, W].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ravine.effects import Effect, Meter
from ravine.layout import Column, Layout, Row, Rows, Slot
from ravine.part import Number, match
from ravine.ranks import BatchPart

# what an optimizer, an average or a schedule remembers: every entry has a row for each network
State: TypeAlias = dict[str, Tensor]
UpdateResult: TypeAlias = tuple[Rows, State]  # the new weights, and what to remember
SlotStreams: TypeAlias = Mapping[str, Sequence[torch.Generator]]  # of each slot, by network


class Plan(NamedTuple):
    """How long a run is: `steps` in all, `per_epoch` of them in one pass over the examples."""

    steps: int
    per_epoch: int


class StepContext(NamedTuple):
    """What an update may know about the step it makes."""

    step: int  # 1 at the first update
    factor: Any  # the schedule's multiple of the learning rate: a float or a float64 column
    decay_mask: Row  # 1 where weight decay and penalties act, else 0
    layout: Layout
    lr_multipliers: Row | None = None  # of the learning rate, for each weight; None: all are 1
    meter: Meter | None = None  # where techniques report, None in the steps that are not sampled

    def rate(self, lr: Number, rows: Rows) -> Any:
        """The learning rate of this step by rows: lr · schedule · multiplier of the weight."""
        rate = match(lr * self.factor, rows)
        return rate if self.lr_multipliers is None else rate * self.lr_multipliers.to(rows)


class Optimizer(Protocol):
    """A pure rule that updates weights: a network's new ones depend on its own row alone.

    `start` gives what it remembers before the first step, `update` the new weights and memory.
    """

    @property
    def lr(self) -> Number: ...

    def start(self, rows: Rows) -> State: ...

    def update(
        self, rows: Rows, grads: Rows, state: State, context: StepContext
    ) -> UpdateResult: ...


class LossAndGradient(NamedTuple):
    """The loss and its gradient at one point of each network."""

    losses: Column
    grads: Rows


class SearchObjective(Protocol):
    """The loss of a step's batch as a function of the weights, penalties included.

    It can be evaluated as often as needed; the batch and what is drawn for it (dropout) stay the
    same. Each network's loss depends on its own row alone.
    """

    @property
    def first(self) -> LossAndGradient:
        """At the weights that the step starts from."""
        ...

    def value_and_grad(self, rows: Rows) -> LossAndGradient: ...

    def hessian(self, rows: Rows) -> Tensor:
        """[P, W, W]: W products with vectors."""
        ...


@runtime_checkable
class SearchOptimizer(Protocol):
    """An optimizer that needs more of a step's loss than one gradient: `search`, not `update`.

    In a recipe it stands for an `Optimizer`, and says so: `stands_for = "Optimizer"`.
    """

    def check_memory(self, width: int) -> None:
        """Raise `RecipeError` where networks of so many weights would take too much memory."""
        ...

    def start(self, rows: Rows) -> State: ...

    def search(
        self, rows: Rows, objective: SearchObjective, state: State, context: StepContext
    ) -> UpdateResult: ...


@runtime_checkable
class HasEvalWeights(Protocol):
    """An optimizer that takes gradients at one point and keeps another: its `eval_weights`."""

    def eval_weights(self, rows: Rows, state: State) -> Rows: ...


class Clip(Protocol):
    """Changes the gradient before the update, each network's by itself."""

    def clip(self, grads: Rows, context: StepContext) -> Rows: ...


class Average(Protocol):
    """Keeps averaged weights beside the raw ones; they are evaluated in place of the raw ones."""

    def start(self, rows: Rows) -> State: ...

    def update(self, rows: Rows, state: State, context: StepContext, plan: Plan) -> State: ...

    def eval_weights(self, rows: Rows, state: State) -> Rows: ...


class Penalty(Protocol):
    """Adds a function of the weights where `decay_mask` is 1 to the loss; reports its gradient."""

    def value(self, rows: Rows, decay_mask: Row) -> Column: ...

    def gradient(self, rows: Rows, decay_mask: Row, meter: Meter | None) -> Rows: ...


class Schedule(Protocol):
    """The multiple of the learning rate at each step, in float64."""

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        """`step` is float64 [1, S], 0 at the first step. Returns [P, S] or [1, S]."""
        ...


@runtime_checkable
class ReactiveSchedule(Protocol):
    """A schedule that depends on the validation score: its `factor` times `state["factor"]`.

    A setting `on`, "loss" or "score", says which; else it is what the stop rule judges by.
    """

    def start(self, networks: int) -> State: ...

    def observe(self, score: Column, state: State) -> State:
        """`score` is lower-is-better, one for each network."""
        ...


class Activation(Protocol):
    """A function of each unit by itself (gated ones: of pairs of units)."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def gain(self) -> float:
        """The factor that keeps a signal's second moment: E[f(z)²] = 1/gain² for z ~ N(0, 1)."""
        ...


class Initializer(Protocol):
    """The starting values of one slot, each network's from its own stream."""

    def draw(self, slot: Slot, generators: Sequence[torch.Generator]) -> Tensor:
        """[P, *slot.shape], float32."""
        ...


@dataclass
class Batch:
    """The examples of one step: [P, B, ...], or [1, B, ...] with the same for all networks."""

    numbers: Tensor  # float32 [P, B, F]; images [P, B, C, H, W]: uint8, or floats from 0 to 1
    codes: Tensor | None = None  # int64 [P, B, K]: a code for each categorical column, 0 is unseen
    targets: Tensor | None = None  # int64 [P, B] classes, or float32 [P, B, C]
    weights: Tensor | None = None  # float32 [P, B], each example's share in the loss
    mixed_targets: Tensor | None = None  # targets of the examples mixed in by mixup or cutmix
    mixed_share: Tensor | None = None  # float32 [P, B]: their share in the loss
    part: BatchPart | None = None  # what these are of the batch; None: all of it


@dataclass
class ForwardContext:
    """What a forward pass may know: whether it trains, seeds, the step, and where to report."""

    training: bool
    seeds: Sequence[int] = ()
    step: int = 0
    batch: int = 0  # the size of a full batch (the last of an epoch may be smaller)
    meter: Meter | None = None
    layer_outputs: list[Tensor] | None = None  # if a list: each layer's output is appended
    # running statistics, written by layers that train
    buffers: dict[str, Tensor] = field(default_factory=dict)
    part: BatchPart | None = None  # of the batch, where several processes train together


class ImageShape(NamedTuple):
    """The shape of images; each channel's mean and SD in the training split (values 0 to 1)."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    sd: tuple[float, ...]


class Signature(NamedTuple):
    """What goes into a network and comes out: F numbers, codes of each column, C outputs.

    `flags` are the places of the numbers with only two or three values (yes and no, one-hot, gaps).
    Where the examples are images, `image` is their shape, and there are no numbers and no codes.
    """

    numbers: int
    codes: tuple[int, ...]
    outputs: int
    image: ImageShape | None = None
    flags: tuple[int, ...] = ()


class Layer(Protocol):
    """A built layer: the tensors it needs (`slots`), how they start, what it computes of them."""

    @property
    def slots(self) -> tuple[Slot, ...]: ...

    buffers: dict[str, Tensor]  # starting values [*shape] by name

    def start(self, generators: SlotStreams) -> dict[str, Tensor]: ...

    def __call__(self, x: Any, tensors: dict[str, Tensor], context: ForwardContext, /) -> Any: ...


@runtime_checkable
class HasGradientNorms(Protocol):
    """A layer that computes the norm of each example's gradient of its weights."""

    def squared_gradient_norms(self, x: Tensor, delta: Tensor) -> Tensor:
        """|∂loss/∂(its weights)|² [P, B], from its input x and δ = ∂loss/∂(its output)."""
        ...


class Norm(Protocol):
    """Describes a normalization layer."""

    def layer(self, name: str, units: int) -> Layer: ...


class Drop(Protocol):
    """Describes a dropout layer."""

    def layer(self, name: str) -> Layer: ...


class Pool(Protocol):
    """Describes a layer that makes images smaller."""

    def output_size(self, size: int) -> int:
        """The side that a side of `size` pixels becomes; below 1 where the window does not fit."""
        ...

    def layer(self) -> Layer: ...


class NumberEmbedding(Protocol):
    """Describes how each number of a table becomes several inputs."""

    def layer(self, features: int) -> Any: ...


class Augmentation(Protocol):
    """Changes the examples of training batches, with draws from each network's own stream."""

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        """`batch.numbers` are floats from 0 to 1, [P, B, C, H, W]; returns the same shape."""
        ...


@runtime_checkable
class ChecksShape(Protocol):
    """An augmentation that cannot be done to all images."""

    def check_shape(self, image: ImageShape) -> None:
        """Raise `RecipeError` where images are too small or have the wrong channels."""
        ...


class Tuning(Protocol):
    """Which weights of a pretrained network train when, and how fast."""

    acts: ClassVar[Effect]

    def effect_of(self, row: Row) -> float:
        """What it did in a step, from the multipliers that it gave."""
        ...

    def lr_multipliers(self, layout: Layout, step: int, plan: Plan) -> Row:
        """The multiplier of each weight's learning rate [1, W] at a step (from 0); 0 freezes it."""
        ...


class Network(Protocol):
    """Describes layers, which `build` makes for a task; the part that stands in a recipe."""

    def build(self, signature: Signature) -> Sequence[Layer]: ...


@runtime_checkable
class LoadsWeights(Protocol):
    """A network that starts, at least in part, from weights of an earlier training."""

    def load_weights(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """Starting tensors [*shape] by name, for slots and buffers among `shapes`; the same for all
        networks. Raises `RecipeError` where they cannot be read or do not fit.
        """
        ...


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


class ColumnEncoding(Protocol):
    """How columns become numbers and codes; fitted on the training split alone."""

    @property
    def scale(self) -> str:
        """How numbers are scaled."""
        ...


class StopRule(Protocol):
    """When a network stops, and which of its weights are kept."""

    @property
    def on(self) -> str:
        """What must improve: "loss" or "score"."""
        ...

    def improves(self, value: Tensor, best: Tensor) -> Tensor:
        """Whether a value [P] (lower is better) counts as better than the best so far [P]."""
        ...

    def is_over(self, step: int, best_step: Tensor, plan: Plan) -> Tensor:
        """Whether each network [P] has gone on for too long since its best step [P]."""
        ...


class SnapshotRule(Protocol):
    """Which weights along the way become members of the model, beside the last."""

    @property
    def last(self) -> int | None: ...

    def ends(self, factors: Tensor) -> Tensor:
        """Whether the weights after each step are kept, from the multiples of the rate, [S]."""
        ...


class Loss(Protocol):
    """How far outputs are from targets, and what outputs predict."""

    tasks: ClassVar[tuple[str, ...]]  # kinds of task that it fits: "binary", "classes", ...

    def per_example(self, outputs: Tensor, targets: Tensor, meter: Meter | None = None) -> Tensor:
        """The losses [P, B], from outputs [P, B, C] and targets [P, B] or [P, B, C]."""
        ...

    def best_constant(self, targets: Tensor, shares: Tensor, outputs: int) -> Tensor:
        """The outputs with the lowest mean loss if all examples get the same, [1, C] or [P, C].

        `targets` are [B] or [B, C]; `shares` [B] sum to 1 and say how much each example counts.
        """
        ...

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities of classes or labels, or means in encoded units, [..., C]."""
        ...
