"""What was seen of a loop that someone else runs, as plain data for the rules.

A tape of letters tells in which order things happened: F a forward pass in training, E one in evaluation mode that
still records a graph, N one in training mode without a graph, n one without a graph in evaluation mode, L a loss
told, B a gradient that arrived at the watched parameters, S a step of a watched optimizer, s of another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ravine.diagnosis.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A parameter: of the model, or held by a watched optimizer though the model does not have it."""

    name: str
    shape: tuple[int, ...]
    owner: str = ""  # the class of the module that has it
    trainable: bool = True
    in_model: bool = True
    registered: bool = True  # not merely in a list or dict of a module
    optimizer: int | None = None  # the watched optimizer that holds it; -1 for another one that was seen stepping
    reached: bool = False  # a gradient arrived at least once
    called: bool = True  # its module took part in a forward pass
    fresh: bool = False  # still as torch initializes by default


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Of a rectified layer: how many `units` no example of the last batches (`rows` in all) activates."""

    count: int
    units: int
    rows: int
    first: int  # how many none of the first batch did


@dataclass(frozen=True, kw_only=True)
class Look:
    """One step of an optimizer, looked at closely. Norms are of this optimizer's gradients, by parameter."""

    step: int
    optimizer: int
    kind: str  # the optimizer's class
    lrs: tuple[float, ...]
    momentum: float = 0.0
    eps: float = 0.0
    norms: Mapping[str, float] = field(default_factory=dict)  # gradients at the step; parameters without are absent
    arrived: float | None = None  # norm at one parameter just after backward; None if no gradient arrived
    at_step: float | None = None  # its norm when the step used it
    stale: str = ""  # the parameter whose gradient is, bit for bit, the last step's plus the new one
    kept: float = 0.0  # of that gradient: the old part's norm over the whole's
    weights: float = 0.0  # norm of this optimizer's parameters
    unchanged: float | None = None  # share of entries with a gradient that the step left as they were
    idle: Mapping[str, Idle] = field(default_factory=dict)  # of rectified layers, by weight
    twins: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # rows equal to another's, rows


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning rate schedule: its class, how often it was stepped, and its planned length (None: it has none)."""

    kind: str
    steps: int
    before: bool  # stepped before the optimizer's first step
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Modes:
    """Modules that behave differently in training: how many there are, and how many stood in evaluation mode."""

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
    tape: str = ""
    weights: tuple[Weight, ...] = ()
    looks: list[Look] = field(default_factory=list)
    graph: Graph | None = None  # of the last loss that was looked at
    reached: frozenset[str] = frozenset()  # parameters in the graph of any loss
    losses: list[float] = field(default_factory=list)  # the first ones
    cut: str = ""  # a loss without a graph: "leaf" if it asks for a gradient itself, "none" if not
    schedules: tuple[Schedule, ...] = ()
    highest_lr: float = 0.0
    lr: float = 0.0  # the highest of the last step
    lr_zero: int = 0  # consecutive steps at which every learning rate was 0
    lr_low: int = 0  # consecutive steps at less than a thousandth of the highest
    modes: Modes = Modes()
    broken: Broken | None = None
    ended: bool = False

    def has(self, need: str) -> bool | None:
        """Whether it was seen: "looks" (a step), "graph" (a loss as a tensor), "forward" (the model was called as a
        whole), "schedule" (None: there is none)."""
        return {
            "looks": bool(self.looks),
            "graph": self.graph is not None,
            "forward": any(letter in self.tape for letter in "FENn"),
            "schedule": True if self.schedules else None,
        }[need]
