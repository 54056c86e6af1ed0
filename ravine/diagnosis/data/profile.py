"""What is known of examples before a network sees them: plain numbers for the rules.

Shapes: N examples, F columns, T places in a sequence, K outputs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ravine.sentinels import Sentinel

MIN_INFORMED_EXAMPLES = 100  # with fewer nothing is said about whether inputs are informative
# standard errors above 0; of uninformative inputs one in twenty gets there, see `association_z`
SURE_SIGNAL = 3.0
BEYOND_DOUBT = 8.0  # standard errors, of which chance takes 1.4
OPPOSED_SIGNAL = -5.0


@dataclass(frozen=True)
class NotFinite:
    """Numbers that are not finite in a column of the inputs or targets."""

    where: str
    nans: int
    infinities: int
    rows: int


@dataclass(frozen=True)
class SpreadRange:
    """The largest and the smallest standard deviation of a column; 0 if all are constant."""

    largest: float = 0.0
    smallest: float = 0.0
    largest_name: str = ""
    smallest_name: str = ""

    @property
    def ratio(self) -> float:
        return self.largest / self.smallest if self.smallest > 0 else math.inf


@dataclass(frozen=True)
class Steepness:
    """The largest eigenvalue of E[x x^T], as the inputs are and after standardizing. It limits the
    learning rate of a first layer: gradient descent on a quadratic needs lr < 2 / eigenvalue.
    """

    raw: float = 0.0
    standardized: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times steeper the loss of a first layer is than with standardized inputs."""
        return self.raw / self.standardized if self.standardized > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class ReshapedInputs:
    """Mean squared differences, over the variance, of neighbors and of numbers that were neighbors
    before a reshape.
    """

    shape: tuple[int, ...]  # of an example
    own: float
    before: float
    signal: float  # standard errors by which the second is surely less


@dataclass(frozen=True)
class NumberStats:
    """Where numbers lie. Constant columns are named and count nowhere else."""

    columns: int
    low: float
    high: float
    mean: float
    std: float  # of all numbers together
    column_stds: tuple[float, ...] = ()  # of at most a thousand columns
    constant_columns: tuple[str, ...] = ()
    largest_offset: float = 0.0  # |mean| / standard deviation of a column
    median_offset: float = 0.0
    spreads: SpreadRange = field(default_factory=SpreadRange)
    # the same of columns that are no flags, small counts or mostly 0
    measured_offset: float = 0.0
    measured_spreads: SpreadRange = field(default_factory=SpreadRange)
    steepness: Steepness = field(default_factory=Steepness)
    sentinels: tuple[Sentinel, ...] = ()
    reshaped: ReshapedInputs | None = None


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Examples that occur more than once. `natural`: values are so few that equal rows are to be
    expected.
    """

    compared: int
    distinct: int
    most_frequent: int  # how often the commonest input occurs
    natural: bool
    contradicted: int  # copies of an input with another target than the first
    repeated: float = 0.0  # share of the examples whose inputs occur more than once
    expected_copies: float = 0.0  # by chance, if one column belonged to other rows
    validation_compared: int = 0
    overlap: int = 0  # validation examples that are training examples, inputs and targets
    expected_overlap: float = 0.0  # by chance, if both came from where these come from


@dataclass(frozen=True)
class LeakingColumn:
    """A column that alone is the target, and others that nearly are. Scores are accuracy or R2."""

    where: str
    score: float  # of this column alone
    rest_score: float  # of all others that do not back it up
    constant_score: float
    rest_informative: bool
    target: str = ""  # which of several
    backed_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CorrelationDrop:
    """The column whose correlation with the target drops most from training to validation."""

    where: str
    correlation: float  # Pearson's, in training
    validation_correlation: float
    z: float  # standard errors between the two, or between the slopes if that is less
    median_z: float  # of the other columns that correlate with the target


@dataclass(frozen=True, kw_only=True)
class ValidationShift:
    """Validation inputs beside training inputs, in units of the training columns' spread."""

    median_shift: float  # distance of the middles
    median_stretch: float  # ratio of the spreads: of quartiles where they differ
    largest_shift: float
    largest_shift_name: str
    largest_z: float  # standard errors by which the surest column moved
    median_z: float
    median_stretch_z: float  # standard errors by which the SDs differ
    rows: int
    effective_columns: float  # all, if none goes with another; 1, if all go together


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """Loss and score of the best constant answer (`constant_`) and of the best quick learner, on
    examples it did not see. `loss` is the cross entropy in nats (classes), the mean binary cross
    entropy (labels) or the mean squared error in the targets' units; `score` is the accuracy (of
    labels: over all of them) or R2 (mean over the outputs). `gain` is the mean of constant_loss -
    loss over examples, paired.
    """

    kind: str
    learner: str
    examples: int
    constant_loss: float
    loss: float
    constant_score: float
    score: float
    gain: float
    gain_error: float  # standard error
    signal: float  # largest `association_z` of a learner
    lowest_signal: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)  # by learner
    # of the best learner, from 0 (best constant) to 1, and its standard error
    validation_score: tuple[float, float] | None = None

    @property
    def informative(self) -> bool | None:
        """Whether the inputs tell anything about the targets: None where that cannot be said. That
        is with too few examples, or where predictions are surely wrong: then there is something to
        be known that these learners take the wrong way, as where neighbors differ (parity, sums
        modulo a number).
        """
        if self.signal > SURE_SIGNAL:
            return True
        unclear = self.examples < MIN_INFORMED_EXAMPLES or self.lowest_signal < OPPOSED_SIGNAL
        return None if unclear else False

    @property
    def scaled_score(self) -> float | None:
        """From 0, the score of the best constant answer, to 1; None where that is perfect."""
        least = 0.0 if self.kind in ("number", "numbers") else self.constant_score
        return (self.score - least) / (1 - least) if self.constant_score < 1 else None

    @property
    def gained_share(self) -> float:
        """The part of the constant loss that the learner takes away: 0 nothing, 1 all."""
        return self.gain / self.constant_loss if self.constant_loss > 0 else 0.0


@dataclass(frozen=True)
class ExampleOrder:
    """How alike the targets of a batch are where nothing shuffles. `purity` is the mean share of
    the commonest class in a batch; of numbers 1 - variance within batches / variance.
    """

    purity: float
    shuffled_purity: float
    is_sorted: bool  # targets only ever rise, or only ever fall


@dataclass(frozen=True)
class ShiftedTargets:
    """Targets of other rows that are informative where the given ones are not."""

    rows: int  # 0: the targets stand in the opposite order
    signal: float
    given_signal: float
    score: float
    constant_score: float
    # from which on; then scores are correlations of predictions with other and with own targets
    first_row: int | None = None


@dataclass(frozen=True, kw_only=True)
class TurnedTargets:
    """Maps that fit their pictures in another orientation, all of them or some."""

    turn: str  # what makes them fit, perhaps several
    score: float  # R2 of small patches with the turned maps, of all pictures
    given_score: float  # and with the maps as they are
    signal: float = 0.0  # by how many standard errors the first is above the second
    turned_share: float = 1.0  # of the pictures: these fit only when turned
    given_share: float = 0.0  # these fit as they are


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Examples by class, of labels by label; empty for numbers. `names` are () if unknown."""

    names: tuple[str, ...] = ()
    train: Mapping[int, int] = field(default_factory=dict)
    validation: Mapping[int, int] = field(default_factory=dict)
    outputs: tuple[int, ...] = ()  # shape of the model's output for one example, () if unknown
    below_zero: int = 0  # targets
    beyond_outputs: int = 0  # targets at or above the number of outputs

    @property
    def evenness(self) -> float:
        """(exp H - 1) / (K - 1): 1 if all classes are as frequent, 0 if there is one."""
        return class_evenness(self.train)

    def name_of(self, place: int) -> str:
        """A class or label as a reader knows it: its name, or else its number."""
        return repr(self.names[place]) if 0 <= place < len(self.names) else str(place)


@dataclass(frozen=True, kw_only=True)
class ValidationProfile:
    """Validation examples beside training examples."""

    rows: int
    targets: NumberStats | None = None
    outside_fraction: float = 0.0  # of the targets: outside the range of training targets
    shift: ValidationShift | None = None
    correlation_drop: CorrelationDrop | None = None
    # learned from validation examples, where training examples are not informative
    baseline: BaselineResult | None = None


@dataclass(frozen=True, kw_only=True)
class DataProfile:
    """What was measured of examples. `layout` is table, images, signals or tokens; `kind` what the
    targets are:

    classes (one of several), binary (two, one output), labels (several yes and no), number,
    numbers, tokens (a class for each place), next (the token that follows), inputs (the inputs
    themselves).
    """

    rows: int
    shape: tuple[int, ...]
    layout: str
    kind: str
    not_finite: tuple[NotFinite, ...] = ()
    inputs: NumberStats | None = None  # None for tokens
    targets: NumberStats | None = None  # None for classes
    classes: ClassCounts = field(default_factory=ClassCounts)
    validation: ValidationProfile | None = None
    duplicates: Duplicates | None = None
    leaking_columns: tuple[LeakingColumn, ...] = ()
    same_tokens: float = 0.0  # share of target tokens that are the input token at their place
    order: ExampleOrder | None = None  # None where training shuffles
    baseline: BaselineResult | None = None
    shifted_targets: ShiftedTargets | TurnedTargets | None = None

    def has(self, need: str) -> bool | None:
        """Whether it was measured: "inputs", "columns" (None: no table), "numbers" (the inputs are
        numbers), "values" (the targets are), "classes", "labels" (classes whose number of outputs
        is known), "validation", "order" (None: it does not matter), "sequences" (tokens in and
        out), "baseline", "duplicates"."""
        has_classes = True if self.kind in ("classes", "binary", "tokens", "next") else None
        known_outputs = bool(self.classes.outputs) and bool(self.classes.train)
        sequences = self.layout == "tokens" and self.kind in ("tokens", "next")
        return {
            "inputs": True,
            "columns": True if self.layout == "table" and len(self.shape) == 1 else None,
            "numbers": None if self.layout == "tokens" else self.inputs is not None,
            "values": None if self.kind not in ("number", "numbers") else self.targets is not None,
            "classes": has_classes,
            "labels": None if has_classes is None else known_outputs,
            "validation": None if self.validation is None else True,
            "order": None if self.order is None else True,
            "sequences": True if sequences else None,
            "baseline": None if self.kind == "inputs" else self.baseline is not None,
            "duplicates": self.duplicates is not None,
        }[need]


def class_evenness(counts: Mapping[int, int]) -> float:
    """(exp H - 1) / (K - 1) over the classes that occur; 1 if all are as frequent, 0 with one
    class.

    >>> class_evenness({0: 50, 1: 50}), round(class_evenness({0: 99, 1: 1}), 3)
    (1.0, 0.058)
    """
    share = np.array([count for count in counts.values() if count > 0], float)
    if len(share) < 2:
        return 0.0
    share /= share.sum()
    return float(np.round((math.exp(-(share * np.log(share)).sum()) - 1) / (len(share) - 1), 12))
