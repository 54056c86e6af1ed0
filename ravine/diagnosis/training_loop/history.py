"""What was recorded of a training loop, as plain data: the rules of training loops read it.

Every step adds to the events and to the summary of the losses. Some steps are *inspected*: each
leaves a `StepSnapshot`. The history has a bounded size, however long the loop runs.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.nonfinite_origin import NonFiniteOrigin

MIN_LOSSES = 64  # for a statistical test of the losses
MIN_SCALED_GRADIENTS = 20
INACTIVE_EXAMPLES = 128  # with fewer, a unit may be inactive by chance
MAX_MEANS = 256  # at which neighbors are merged, each mean then of twice as many losses
RECENT_LOSSES = 256
MAX_EVENTS = 400  # letters that are kept
MIN_CLASS_BATCHES = 8  # to tell whether examples come in the order of their classes


class LoopEvent:
    """The letters of events. A forward pass has one of four, by mode and by whether it has a graph.
    A healthy step reads `FLBS`. Rules search the letters of a loop with regular expressions.
    """

    FORWARD = "F"  # in training mode, with a graph
    EVAL_FORWARD = "E"  # in evaluation mode, with a graph
    NO_GRAD_FORWARD = "N"  # in training mode, without a graph
    NO_GRAD_EVAL_FORWARD = "n"  # in evaluation mode, without a graph
    LOSS = "L"  # a loss was reported
    BACKWARD = "B"  # a gradient arrived at the observed parameter; noted in inspected steps only
    STEP = "S"  # a watched optimizer stepped
    OTHER_STEP = "s"  # an optimizer stepped that is not watched


FORWARD_EVENTS = frozenset("FENn")  # in either mode, with a graph or without


@dataclass
class LossSummary:
    """Means of successive stretches of equal length, and the last losses themselves.

    Neighboring means are merged at 256 of them: a long series always has 128 to 256 means.

    >>> summary = LossSummary()
    >>> for i in range(1000):
    ...     summary.add(float(i))
    >>> summary.count, summary.width, len(summary.means), summary.stretch_means(4)
    (1000, 4, 250, (123.5, 373.5, 623.5, 873.5))
    """

    count: int = 0
    width: int = 1  # losses in a mean
    means: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_LOSSES))
    _sum: float = 0.0
    _pending: int = 0

    def add(self, value: float) -> None:
        """Add the next loss, which must be finite."""
        self.count += 1
        self.recent.append(value)
        self._sum += value
        self._pending += 1
        if self._pending == self.width:
            self.means.append(self._sum / self._pending)
            self._sum, self._pending = 0.0, 0
            if len(self.means) == MAX_MEANS:
                self.means = [
                    (a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2], strict=True)
                ]
                self.width *= 2

    def stretch_means(self, count: int, *, since: int = 0) -> tuple[float, ...]:
        """The means of `count` stretches of nearly equal length, from loss number `since` on. Empty
        if there are too few losses.
        """
        means: Sequence[float] = self.means[-(-since // self.width) :]
        if len(means) < count:
            return ()
        ends = [len(means) * i // count for i in range(count + 1)]
        return tuple(sum(means[a:b]) / (b - a) for a, b in zip(ends[:-1], ends[1:], strict=True))


@dataclass(frozen=True, kw_only=True)
class WatchedParameter:
    """A parameter of the model, or one that only a watched optimizer has."""

    name: str
    shape: tuple[int, ...]
    owner: str = ""  # the class of its module
    trainable: bool = True
    in_model: bool = True
    registered: bool = True  # False: `model.parameters()` leaves it out
    optimizer: int | None = None  # the index of its watched optimizer; -1: of another optimizer
    received_gradient: bool = False  # at least once
    module_ran: bool = True  # in a forward pass
    default_initialized: bool = False  # still looks as torch initializes it
    is_input: bool = False  # a tensor that a module was called on: perhaps points, not weights
    zero_lr: bool = False  # its group had a learning rate of 0 at every inspected step


@dataclass(frozen=True, kw_only=True)
class InactiveUnits:
    """The units of a layer that a ReLU sets to 0 for every example of the last batches."""

    count: int
    units: int
    examples: int
    at_first: int  # units that the first batch left at 0


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """An optimizer at one step."""

    kind: str = ""  # its class; "": there is no torch optimizer, each reported loss is a step
    lrs: tuple[float, ...] = ()  # of its groups
    momentum: float = 0.0
    eps: float = 0.0
    betas: tuple[float, ...] = ()  # Adam's, if they are numbers
    maximize: bool = False


@dataclass(frozen=True, kw_only=True)
class ObservedGradient:
    """The gradient of one parameter, from the backward pass to the step."""

    norm_after_backward: float | None = None  # None: no gradient arrived; NaN: a sparse one did
    norm_at_step: float | None = None
    accumulated_in: str = ""  # the parameter, if its gradient is the last step's plus the new one
    leftover_fraction: float = 0.0  # the norm of the last step's part over that of the whole
    passes: int = 1  # backward passes that reached the parameter
    discarded: int = 0  # of these, gradients that were cleared though no step had used them
    # parameters whose gradient came in a pass before the last and was gone before the step
    lost: tuple[str, ...] = ()
    lost_terms: int = 0  # of reported losses: their last gradient came in a pass before the last


@dataclass(frozen=True, kw_only=True)
class StepSnapshot:
    """One inspected step of an optimizer."""

    step: int
    optimizer: int  # its index
    settings: OptimizerSettings = OptimizerSettings()
    gradient: ObservedGradient = ObservedGradient()
    gradient_norms: Mapping[str, float] = field(default_factory=dict)  # by parameter
    weight_norm: float = 0.0  # of all parameters of this optimizer
    unchanged_fraction: float | None = None  # of the numbers with a gradient that is not 0
    inactive: Mapping[str, InactiveUnits] = field(default_factory=dict)  # by weight of the layer
    duplicate_rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # and all rows
    loss_scale: float | None = None  # by which the loss was multiplied; None: unknown
    losses: int = 0  # reported since the last step
    second_moment: float | None = None  # root of the optimizer's mean for some numbers
    largest_gradient: float = 0.0  # root mean square of their gradient at any inspected step
    clip_calls: int = 0  # of torch's gradient clipping
    acting_clip_calls: int = 0  # of these, calls that got a gradient of this step

    @property
    def has_gradient(self) -> bool:
        """Whether any parameter of this optimizer has a gradient that is not 0."""
        return any(norm != 0 for norm in self.gradient_norms.values())


@dataclass(frozen=True, kw_only=True)
class WeightOverwrites:
    """How often something other than the optimizer wrote the weights, by what was written."""

    to_start: int = 0  # the weights from before the first step
    repeated: int = 0  # what had been written the last time
    unrelated: int = 0  # other numbers
    clamped: int = 0  # the same numbers, cut to a range or partly set to 0
    # of the numbers of both parameters: once so many had the size of the largest
    cut_fraction: float = 0.0
    other: int = 0
    where: str = ""
    first_step: int = 0
    interval: int = 0  # steps from the first time to the last


@dataclass(frozen=True)
class InputReading:
    """Where the numbers of one input lie; a few outliers change it little."""

    step: int
    mean: float
    spread: float  # mean distance from the mean
    std: float = 0.0


@dataclass(frozen=True, kw_only=True)
class InputHistory:
    """The model's first input at inspected steps in training mode."""

    count: int = 0
    identical: int = 0  # the first so many had the same numbers
    # different examples, where all batches consist of the same few; 0: they do not
    few_examples: int = 0
    rows: int = 0
    in_place: int = 0  # a part of a larger tensor that had been written
    table_rows: int = 0  # of a table in memory that contains it; 0: none, -1: the input is kept
    first_step: int = 0
    readings: tuple[InputReading, ...] = ()  # of floating numbers
    made_by: str = ""  # the operation that made some inputs, as the last one of a generator
    # of others, and of copies of these: the share of variance out of the range of that operation
    out_of_range: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RepeatedDraws:
    """Inspected steps in a row that drew random numbers from one and the same state."""

    steps: int = 0
    first_step: int = 0
    in_pass: bool = True  # from the first pass on, in each; False: before it, after the loop's seed
    state: int = 0  # a hash


@dataclass(frozen=True, kw_only=True)
class DetachedState:
    """A module that was called on its own output again and again, each time detached."""

    where: str
    detached_calls: int
    loss_calls: int  # calls that the loss depends on


@dataclass(frozen=True, kw_only=True)
class OutputReadings:
    """The model's output when it was read last, and of models of sequences the tokens that they are
    given and trained to tell.
    """

    size: float = 0.0  # root mean square
    pull: float = 0.0  # of its gradient: the root mean square times the count of its numbers
    evenness: float = 1.0  # of its gradient: the median size over the root mean square
    readings: int = 0  # of tokens
    own: int = 0  # each place is to tell its own token, which it sees, and no later one
    next: int = 0  # each place is to tell the next token, which it sees
    where: str = ""  # modules that may look ahead
    kinds: tuple[str, ...] = ()  # their classes
    next_change: float = 0.0  # of an output, over its size, where the token it tells is replaced


@dataclass(frozen=True)
class KeptState:
    """A state of the model that was kept and is its weights, not a copy of them."""

    variable: str  # which holds it when watching ends
    steps: int  # since it was taken
    is_named: bool = False  # as what is to stay as it was
    is_loaded: bool = False  # into the model whose weights it is


@dataclass(frozen=True, kw_only=True)
class SchedulerState:
    """A learning rate scheduler."""

    kind: str
    steps: int  # since watching began
    stepped_first: bool  # before the first step of the optimizer
    length: int | None = None  # planned steps, where it has a length
    rises_past_end: bool = False  # past its length
    optimizer_steps: int = 0
    rate_fraction: float = 1.0  # the highest rate over that which its optimizer was made with
    is_rival: bool = False  # its optimizer has parameters as a watched one has
    overwritten: int = 0  # steps whose rate another scheduler replaced before it was used


@dataclass(frozen=True)
class PlateauMetrics:
    """What ReduceLROnPlateau was given, each with the mean loss since the time before."""

    mode: str
    metrics: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class ModuleModes:
    """Modules that behave differently in training and in evaluation: dropout, batch norm."""

    mode_dependent: int = 0
    in_evaluation: int = 0  # of these, modules that train but were in evaluation mode
    names: tuple[str, ...] = ()
    was_training: bool = False  # the model was in training mode at an earlier step
    loaded_statistics: bool = False  # batch norms had running statistics when watching began
    evaluation_steps: int = 0  # consecutive steps in evaluation mode


@dataclass(frozen=True, kw_only=True)
class StatisticsShift:
    """Forward passes without a graph that move the running statistics of a batch norm."""

    where: str = ""
    passes: int = 0
    distance: float = 0.0  # of their means from those of the training batches, in deviations


@dataclass(frozen=True, kw_only=True)
class NonFiniteEvent:
    """The first loss, gradient or weight that was not finite."""

    step: int
    what: str  # loss, gradient, weight
    where: str = ""  # a parameter or a module
    nonfinite_inputs: bool = False  # the model's inputs had such a number before
    first_loss: float = 0.0
    highest_loss: float = 0.0  # of the finite ones
    last_loss: float = 0.0  # the last finite one; NaN: none was reported
    lr: float = 0.0
    origin: NonFiniteOrigin | None = None  # in the graph of the loss, if that shows it
    input_growth: float | None = None  # spread of its batch over the median before
    weight_growth: float = 1.0  # norm of the weights when last inspected, over that at first


@dataclass(frozen=True, kw_only=True)
class ScaledGradients:
    """Gradients of the last losses that a gradient scaler had multiplied."""

    count: int = 0
    nonfinite: int = 0


@dataclass(kw_only=True)
class LossHistory:
    """The reported losses."""

    first: list[float] = field(default_factory=list)
    summary: LossSummary = field(default_factory=LossSummary)
    kind: str = ""  # torch's name of the loss, if it is known and was reported unchanged
    negated: bool = False  # a loss that cannot be negative was reported with a minus
    missing_graph: str = ""  # why there is none: "leaf", a new tensor; "none", only a number
    parameters: frozenset[str] = frozenset()  # those that any loss depended on
    # graphs whose targets all are of one class, the same in all; -1: in some they are not
    single_class_reads: int = 0
    single_class: float = -1.0
    # by inspected step: the examples of each class in its batch
    class_counts: list[tuple[int, Mapping[int, int]]] = field(default_factory=list)
    # the lowest and the highest number, where each example has one
    target_ranges: list[tuple[int, float, float]] = field(default_factory=list)
    baseline: float | None = None  # the loss of the best constant answer, from the targets so far
    baseline_error: float = 0.0  # its standard error


@dataclass(kw_only=True)
class LearningRates:
    """The highest learning rate of all groups, and the schedulers."""

    now: float = 0.0
    highest: float = 0.0
    steps_at_zero: int = 0  # consecutive steps
    steps_below_thousandth: int = 0  # of the highest, consecutive
    steps_below_hundredth: int = 0
    last_rise: int = 0  # the step at which the rate was last seen to rise
    last_fall: int = 0
    schedulers: tuple[SchedulerState, ...] = ()
    plateaus: tuple[PlateauMetrics, ...] = ()
    # stepped in this loop for optimizers that are not
    other_schedulers: tuple[SchedulerState, ...] = ()


@dataclass(kw_only=True)
class ModelHistory:
    """The model: its parameters, the modes of its modules, and what happened to its weights."""

    parameters: tuple[WatchedParameter, ...] = ()
    modes: ModuleModes = ModuleModes()
    # by layer with weights that stands in several places of one list: these places
    repeated_layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    compiled: str = ""  # a part that torch.compile has compiled: its inside cannot be read
    overwrites: WeightOverwrites = WeightOverwrites()
    detached_states: tuple[DetachedState, ...] = ()
    kept_state: KeptState | None = None
    outputs: OutputReadings = OutputReadings()
    # by path ("": the model): steps with two calls on the same inputs before backward
    twin_calls: Mapping[str, int] = field(default_factory=dict)
    statistics_shift: StatisticsShift = StatisticsShift()
    relative_distance: float = 0.0  # of the weights from their start, over their length there
    # by layer that takes time first: time and batch of its inputs, where time has the examples
    examples_as_time: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    lost_states: int = 0  # steps that began without the state that an earlier one had left
    repeated_draws: dict[str, RepeatedDraws] = field(default_factory=dict)  # by device


@dataclass(kw_only=True)
class LoopHistory:
    """Everything that was recorded of a loop so far."""

    steps: int = 0  # of all watched optimizers
    ended: bool = False
    tape: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))  # see `LoopEvent`
    optimizers: int = 1
    idle_optimizers: Mapping[int, int] = field(default_factory=dict)  # see `RVN-L34`
    single_optimizer: bool = True  # no optimizer steps beside the one that is watched
    snapshots: list[StepSnapshot] = field(default_factory=list)
    model: ModelHistory = field(default_factory=ModelHistory)
    graph: Graph | None = None  # of the last inspected loss
    loss: LossHistory = field(default_factory=LossHistory)
    inputs: InputHistory = InputHistory()
    evaluations: list[InputReading] = field(default_factory=list)  # first passes after `eval()`
    rates: LearningRates = field(default_factory=LearningRates)
    scaled_gradients: ScaledGradients = ScaledGradients()
    nonfinite: NonFiniteEvent | None = None

    @property
    def events(self) -> str:
        """The letters of the last events."""
        return "".join(self.tape)

    def snapshots_of(self, optimizer: int) -> list[StepSnapshot]:
        """The snapshots of one optimizer, by its index."""
        return [s for s in self.snapshots if s.optimizer == optimizer]

    def last_snapshots(self, count: int) -> Iterator[list[StepSnapshot]]:
        """The last snapshots of each optimizer that has as many."""
        for index in range(self.optimizers):
            snapshots = self.snapshots_of(index)[-count:]
            if len(snapshots) == count:
                yield snapshots

    def has(self, need: str) -> bool | None:
        """Whether something was recorded that rules need; None where it does not apply.

        "snapshots": an inspected step. "steps": one of a torch optimizer. "graph": a loss as a
        tensor, of a model that is not compiled. "forward": a call of the model. "inputs": one with
        a tensor. "evaluations": also one after `eval()`; None without. "schedule": None without a
        scheduler. "scaler": None without a gradient scaler. "losses": enough for a statistical
        test; None where several optimizers step. "baseline": also the targets of a known loss.
        "classes": batches of classes or numbers; None without. "units": enough examples to call
        a unit of a ReLU dead; None without one. "updates 20": so many steps; 0: one, or the end.
        "steps 20", "losses 200": so many; "optimizer": a step of any, or none until the end;
        "snapshots 5": so many of each optimizer. Commas part several needs.
        """
        found = [self._has_one(*part.split()) for part in need.split(", ")]
        return False if False in found else None if None in found else True

    def _has_one(self, need: str, count: str = "1") -> bool | None:
        """One need, and how often."""
        least = int(count)
        if need == "snapshots":
            fewest = min(len(self.snapshots_of(index)) for index in range(self.optimizers))
            return len(self.snapshots) >= 1 and (least == 1 or fewest >= least)
        if need == "steps":
            is_torch = bool(self.snapshots) and bool(self.snapshots[-1].settings.kind)
            return is_torch and (least == 1 or self.steps >= least)
        if need == "updates":
            return self.steps >= least and (self.steps > 0 or self.ended)
        losses = self.loss.summary.count
        enough = None if not self.single_optimizer else losses >= max(least, MIN_LOSSES)
        scaled = self.scaled_gradients.count
        classes = max(self.loss.class_counts, self.loss.target_ranges, key=len)
        applies = bool(classes) and self.single_optimizer
        units = [u for s in self.snapshots for u in s.inactive.values()]
        return {
            "optimizer": self.steps + self.model.lost_states > 0 or bool(self.idle_optimizers),
            "scaler": None if not scaled else scaled >= MIN_SCALED_GRADIENTS,
            "graph": self.graph is not None and not self.model.compiled,
            "forward": not FORWARD_EVENTS.isdisjoint(self.tape),
            "inputs": self.inputs.count > 0,
            "evaluations": True if self.evaluations and self.inputs.readings else None,
            "schedule": True if self.rates.schedulers else None,
            "losses": enough,
            "baseline": enough and self.loss.baseline is not None,
            "classes": len(classes) >= MIN_CLASS_BATCHES if applies else None,
            "units": max(u.examples for u in units) >= INACTIVE_EXAMPLES if units else None,
        }[need]
