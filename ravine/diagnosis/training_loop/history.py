"""What was seen of a loop that someone else runs, as plain data for the rules.

A tape of letters tells in which order things happened: F a forward pass in training, E one in
evaluation mode that still records a graph, N one in training mode without a graph, n one without a
graph in evaluation mode, L a loss told, B a gradient that arrived at the watched parameters, S a
step of a watched optimizer, s of another one. B is noted at looked-at steps only, and the tape is
as long as its last letters; everything here has a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.loss_summary import Told


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A parameter: of the model, or held by a watched optimizer though the model does not have
    it.
    """

    name: str
    shape: tuple[int, ...]
    owner: str = ""  # the class of the module that has it
    trainable: bool = True
    in_model: bool = True
    registered: bool = True  # not merely in a list or dict of a module
    optimizer: int | None = (
        None  # the watched optimizer that holds it; -1 for another one that was seen stepping
    )
    reached: bool = False  # a gradient arrived at least once
    called: bool = True  # its module took part in a forward pass
    fresh: bool = False  # still as torch initializes by default
    still: bool = False  # its group of the optimizer had a learning rate of 0 at every look so far


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Of a rectified layer: how many `units` no example of the last batches (`rows` in all)
    activates.
    """

    count: int
    units: int
    rows: int
    first: int  # how many none of the first batch did


@dataclass(frozen=True, kw_only=True)
class Look:
    """One step of an optimizer, looked at closely. Norms are of this optimizer's gradients, by
    parameter.
    """

    step: int
    optimizer: int
    kind: str  # the optimizer's class; "": each told loss counts as a step
    lrs: tuple[float, ...]
    momentum: float = 0.0
    eps: float = 0.0
    norms: Mapping[str, float] = field(
        default_factory=dict
    )  # gradients at the step; parameters without are absent
    arrived: float | None = (
        None  # norm at one parameter just after backward; None if no gradient arrived
    )
    at_step: float | None = None  # its norm when the step used it
    stale: str = (
        ""  # the parameter whose gradient is, bit for bit, the last step's plus the new one
    )
    kept: float = 0.0  # of that gradient: the old part's norm over the whole's
    weights: float = 0.0  # norm of this optimizer's parameters
    unchanged: float | None = (
        None  # share of entries with a gradient that the step left as they were
    )
    idle: Mapping[str, Idle] = field(default_factory=dict)  # of rectified layers, by weight
    twins: Mapping[str, tuple[int, int]] = field(
        default_factory=dict
    )  # rows equal to another's, rows
    scale: float | None = (
        None  # the gradient that the told loss got: 1, or what it was multiplied by; None: not seen
    )
    passes: int = 1  # backward passes that reached that parameter
    thrown: int = (
        0  # of these: gradients that were cleared before the next came, the weights standing still
    )
    told: int = 0  # losses told since the last step
    second: float | None = (
        None  # root of the mean second moment that the optimizer has for some numbers
    )
    beside: float = 0.0  # the largest root mean square of their gradient in any look so far
    maximize: bool = False


@dataclass(frozen=True, kw_only=True)
class Written:
    """How often the weights before a step were not as the last one left them, by what was found
    there instead.
    """

    to_start: int = 0  # what had been there when watching began
    repeated: int = 0  # what had been written there before
    unrelated: int = 0  # nothing like what was there
    clamped: int = 0  # the same, cut to a range or with zeros put in
    other: int = 0
    where: str = ""
    first: int = 0  # the step before the first
    apart: int = 0  # steps between the last two


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The model's first input, at looked-at steps in training."""

    looks: int = 0
    same: int = 0  # looks so far, all with the same numbers
    rows: int = 0
    # rows of a table in memory that has all of them; 0: none was found, -1: the input itself is
    # kept
    larger: int = 0
    first: int = 0  # the step of the first look
    spreads: tuple[tuple[int, float], ...] = ()  # step and standard deviation
    mean: float = 0.0  # of the last one
    spread: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A module that was called again and again within one graph on its own output, `cut` times
    detached of it.
    """

    where: str
    cut: int
    used: int  # of its calls, how many the loss depends on


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning rate schedule: its class, how often it was stepped, and its planned length (None:
    it has none).
    """

    kind: str
    steps: int
    before: bool  # stepped before the optimizer's first step
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Modes:
    """Modules that behave differently in training: how many there are, and how many stood in
    evaluation mode.
    """

    sensitive: int = 0
    in_evaluation: int = 0  # those with weights that learn, at the last step
    names: tuple[str, ...] = ()
    was_training: bool = False  # an earlier step had the model in training mode
    steps: int = 0  # consecutive steps in evaluation mode


@dataclass(frozen=True, kw_only=True)
class Broken:
    """The first number that was not finite."""

    step: int
    what: str  # loss, gradient, weights
    where: str = ""  # a parameter or module
    inputs: bool = False  # the model's inputs already had one
    first: float = 0.0  # the first loss
    highest: float = 0.0  # the highest finite loss before
    last: float = 0.0  # the last finite loss
    lr: float = 0.0


@dataclass(kw_only=True)
class Story:
    """All that was seen so far; whoever watches adds to it, the rules only read."""

    steps: int = 0  # of all watched optimizers
    optimizers: int = 1
    tape: str = ""  # the last letters
    weights: tuple[Weight, ...] = ()
    looks: list[Look] = field(default_factory=list)
    graph: Graph | None = None  # of the last loss that was looked at
    reached: frozenset[str] = frozenset()  # parameters in the graph of any loss
    losses: list[float] = field(default_factory=list)  # the first ones
    told: Told = field(default_factory=Told)  # all of them, in summary
    constant: float | None = (
        None  # the loss of the best constant answer, by the targets that were seen
    )
    spread: float = 0.0  # the standard error of that
    kind: str = (
        ""  # the loss by name if it is torch's and nothing stands between it and what was told
    )
    flipped: bool = False  # a loss that cannot be below 0 was told with a minus before it
    moved: float = 0.0  # distance of the weights from their start over their length there
    written: Written = Written()
    inputs: Inputs = Inputs()
    cuts: tuple[Cut, ...] = ()
    lost: tuple[int, int] = (
        0,
        0,
    )  # of the last looked-at backward passes with a scaled loss: not finite, all
    alone: bool = True  # no optimizer steps beside one watched optimizer
    opaque: str = ""  # a compiled part of the model, into which nobody can look
    cut: str = ""  # a loss without a graph: "leaf" if it asks for a gradient itself, "none" if not
    schedules: tuple[Schedule, ...] = ()
    highest_lr: float = 0.0
    lr: float = 0.0  # the highest of the last step
    lr_zero: int = 0  # consecutive steps at which every learning rate was 0
    lr_low: int = 0  # consecutive steps at less than a thousandth of the highest
    lr_faint: int = 0  # consecutive steps at less than a hundredth of the highest
    modes: Modes = Modes()
    broken: Broken | None = None
    ended: bool = False

    def has(self, need: str) -> bool | None:
        """Whether it was seen: "looks" (a step), "steps" (of an optimizer), "graph" (a loss as a
        tensor, the model not compiled), "forward" (the model was called), "inputs" (as a whole,
        with a tensor), "schedule" (None: there is none), "scaler" (gradients of scaled losses;
        None: there are none), "losses" (enough of them for a test; None: several optimizers pull at
        them), "constant" (targets of a loss that is known)."""
        enough = None if not self.alone else self.told.count >= 64
        return {
            "looks": bool(self.looks),
            "steps": bool(self.looks) and bool(self.looks[-1].kind),
            "scaler": None if not self.lost[1] else self.lost[1] >= 20,
            "graph": self.graph is not None and not self.opaque,
            "forward": any(letter in self.tape for letter in "FENn"),
            "inputs": self.inputs.looks > 0,
            "schedule": True if self.schedules else None,
            "losses": enough,
            "constant": enough and self.constant is not None,
        }[need]
