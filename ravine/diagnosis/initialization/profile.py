"""What probes measure of a model and its loss before the first step: plain numbers, one small
dataclass for each probe.

Fields keep their defaults where nothing was measured. `where` is always the name of a module, ""
for the model itself.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class FirstDifference:
    """The place at which two forward passes first differ."""

    where: str = ""  # the deepest module
    module_class: str = ""
    function: str = ""
    change: float = 0.0  # largest change of an output over the spread of the outputs


@dataclass(frozen=True, kw_only=True)
class PassComparison:
    """Two forward passes with outputs that should be equal, and where they first differ."""

    difference: FirstDifference | None = None


@dataclass(frozen=True, kw_only=True)
class TargetPairing:
    """Whose targets the loss compares with an output."""

    compares_all: bool = False  # it compares every output with every target
    missed_fraction: float = 0.0  # of the changed targets: no effect on their own example's output
    # "outputs": several of an example have one target; "targets": several have one output
    repeated: str = ""
    output_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClassLayout:
    """Where the loss looks for the classes of a place, and where the last layer's units are."""

    where: str = ""  # the last layer
    mixed: bool = False  # the numbers of a unit stand where several classes do, or are scattered
    loss_axis: int | None = None  # dimension of the outputs; None of a loss without classes
    unit_axis: int | None = None  # None: the units have no dimension of their own
    output_shape: tuple[int, ...] = ()
    reshaped_from: tuple[int, ...] = ()  # of a reshape with the sizes of a transpose
    reshaped_to: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GradientFlow:
    """Which parameters the gradient of the loss reaches. `missing` says what keeps it from all of
    them: "frozen" (no parameter requires a gradient), "outputs" (the outputs have no graph), "loss"
    (the loss has none), "parameters" (no parameter is in the graph), "flat" (that of the loss is
    exactly 0 at any outputs), or "" where some parameter gets a gradient.
    """

    missing: str = ""
    cut_at: str = ""  # first module whose output has no graph though its parameters require one
    unreached: tuple[str, ...] = ()  # parameters as initialized that act and get no gradient
    flattened: tuple[str, ...] = ()  # parameters with a gradient of exactly 0, if there are `steps`
    steps: tuple[str, ...] = ()  # step functions in the graph
    # others without one, which may be meant; measured where all are to get one
    without: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ConstantOutput:
    """The model gives the same output for every example, and what may be the reason."""

    after_steps: bool  # also after a few small gradient steps
    zero_weights: tuple[str, ...] = ()  # weight matrices of zeros without a gradient
    dead_layers: tuple[str, ...] = ()  # layers whose rectified units are all at 0
    no_gradient: bool = False  # no parameter gets a gradient, or the input is not used
    varies_when_scaled: bool = False  # it does not with standardized inputs
    softmax_of_one: bool = False  # a softmax over a single unit makes the output
    dead_output: bool = False  # the dead rectifier makes the output
    constant_from: str = ""  # first layer with the same output for different inputs
    recurrent: str = ""  # a recurrent layer, whose last state may have lost the input


@dataclass(frozen=True, kw_only=True)
class InputDependence:
    """What a few small gradient steps show of weights, units and outputs."""

    stuck_weights: tuple[str, ...] = ()  # matrices of zeros with a gradient of exactly 0
    copied_weights: tuple[str, ...] = ()  # matrices whose rows start and stay equal
    equal_weights: tuple[str, ...] = ()  # matrices that start and stay equal to another one
    constant: ConstantOutput | None = None
    copies_alone: bool = False  # targets are the inputs again, each told from itself alone


@dataclass(frozen=True, kw_only=True)
class LossForm:
    """What the loss takes, and what it gets."""

    takes: str = ""  # logits, log-probabilities, probabilities
    gives: str = ""  # the outputs: probabilities, log-probabilities, "0 to 1", "-1 to 1", "from 0"
    last_at: str = ""  # the module of the last activation, or the last layer
    right_loss: float | None = None  # of outputs that favor the right answers
    wrong_loss: float | None = None  # of outputs that favor wrong ones
    unbounded: bool = False  # the loss falls without end as logits of the right answers grow
    reversed: bool = False  # wrong answers have the lower loss, in whatever form they are given
    reduction: float | None = None  # loss of a batch taken twice over its loss: 1 mean, 2 sum


@dataclass(frozen=True, kw_only=True)
class ClassWeights:
    """Shares of the classes (or, for each label, of its ones), and their weights in the loss."""

    shares: tuple[float, ...] = ()
    # pull of one example at outputs of 0, the most frequent class's 1; of a label's one over a zero
    weights: tuple[float, ...] = ()
    answer: tuple[float, ...] = ()  # shares according to the best constant answer
    # weights of a label, or of two classes, are the same however wrong an answer is
    fixed: bool = False
    ignored: float = 0.0  # share of examples, all with targets of 0, that have no gradient


@dataclass(frozen=True, kw_only=True)
class BaselineLosses:
    """Losses of outputs that do not depend on the input."""

    constant_loss: float | None = None  # of the best constant output
    even_loss: float | None = None  # of outputs of 0, or of even probabilities
    unreachable: float | None = None  # of the constant loss, kept by the best outputs in range


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """What the targets are to the outputs: classes, tokens (a class at each place), labels (0 and
    1), shares (rows that sum to 1), numbers, or "" if neither shape nor type says.
    """

    kind: str = ""
    output_shape: tuple[int, ...] = ()
    # share of examples whose labels do not sum to 1, of a loss with a softmax over these
    unlike_shares: float = 0.0
    unlabeled: float = 0.0  # share of examples without any label, of such a loss
    class_numbers: bool = False  # whole numbers, compared with one output as if they were sizes


@dataclass(frozen=True, kw_only=True)
class LossProfile:
    """The loss as a function of outputs and targets."""

    form: LossForm = field(default_factory=LossForm)
    classes: ClassWeights = field(default_factory=ClassWeights)
    baselines: BaselineLosses = field(default_factory=BaselineLosses)
    targets: TargetProfile = field(default_factory=TargetProfile)


@dataclass(frozen=True)
class BrokenContract:
    """What a function of torch gets that it is not made for."""

    what: str
    change: str
    severity: str = "error"
    cause: str = "labels"
    function: str = ""
    share: float = 0.0  # in percent


@dataclass(frozen=True, kw_only=True)
class FirstLoss:
    """The first loss in training mode."""

    value: float | None = None
    not_finite: str = ""  # the first that is not finite: inputs, targets, outputs, loss
    not_finite_at: str = ""  # the module
    # what makes it finite: "standardized inputs", "standardized targets", or "no weights"
    finite_when: str = ""
    finite_rows: float = 0.0  # share of examples whose outputs are finite all the same
    target_size: float = 0.0  # of the largest number among targets
    input_spread: float = math.nan
    output_spread: float = math.nan  # over examples, root mean square over the outputs


@dataclass(frozen=True, kw_only=True)
class LayerStats:
    """A layer with a weight matrix. Gradients are those of the loss of one batch."""

    where: str
    function: str  # linear, conv2d, embedding, gru, ...
    units: int
    fan_in: int
    weight_rms: float
    expected_rms: float  # 1 / sqrt(fan in); 1 of an embedding
    output_rms: float
    output_spread: float  # standard deviation over examples, root mean square over units
    gradient_rms: float | None = None  # at the output

    @property
    def weight_ratio(self) -> float:
        """Weights over what is usual for so many inputs."""
        return self.weight_rms / self.expected_rms

    @property
    def usual_is_one(self) -> bool:
        """Whether weights of about 1 are usual: in an embedding, or a layer with one input."""
        return self.expected_rms == 1.0


@dataclass(frozen=True)
class ActivationStats:
    """One call of an activation. `where` is the layer before it, else its own module."""

    where: str
    function: str
    units: int
    values_per_unit: int
    dead_units: int = 0  # of a rectifier: at 0 for every value
    flat_units: int = 0  # of a bounded activation: under 5 % of its steepest slope on average
    mean_output: float = 0.0
    mean_slope: float = 1.0  # share of the steepest slope, over all units
    makes_output: bool = False


@dataclass(frozen=True, kw_only=True)
class SignalFlow:
    """How the signal and its gradient change along the hidden layers."""

    signal: float  # spread of the last hidden layer's output over that of the first
    gradient: float  # at the first hidden layer's output over that at the last
    depth: int  # hidden layers
    where: str  # the first layer; of a growing signal the second, which multiplies it first


@dataclass(frozen=True, kw_only=True)
class NetworkProfile:
    """Layers and activations in the order of their calls, in training mode without dropout."""

    layers: tuple[LayerStats, ...] = ()
    activations: tuple[ActivationStats, ...] = ()
    single_value_norms: tuple[str, ...] = ()  # layers that normalize over one value: it becomes 0
    batch_norm_first: bool = False  # before the first layer with weights
    dropouts: Mapping[str, float] = field(default_factory=dict)  # probability, by module
    flow: SignalFlow | None = None


@dataclass(frozen=True, kw_only=True)
class BatchNormStats:
    """A batch normalization after thirty batches: its statistics beside those of the examples."""

    where: str
    momentum: float | None
    mean_offset: float = 0.0  # median of |running mean - mean| / standard deviation
    std_ratio: float = 1.0  # median of the larger over the smaller standard deviation
    batch_statistics: bool = False  # none are kept: evaluation uses those of the batch


@dataclass(frozen=True, kw_only=True)
class StartProfile:
    """A model, its loss and some examples before the first step: a field for each probe. `measured`
    maps a probe to True (it ran), None (it does not apply) or False (it broke); `broke` says why.
    """

    measured: Mapping[str, bool | None] = field(default_factory=dict)
    broke: Mapping[str, str] = field(default_factory=dict)
    examples: int = 0
    mixing: PassComparison = PassComparison()  # other examples of the batch are changed
    pairing: TargetPairing = field(default_factory=TargetPairing)
    layout: ClassLayout = field(default_factory=ClassLayout)
    # later inputs are changed, where the targets are the inputs one place later
    causality: PassComparison = PassComparison()
    repeat: PassComparison = PassComparison()  # in evaluation mode, with other random numbers
    gradients: GradientFlow = field(default_factory=GradientFlow)
    dependence: InputDependence = field(default_factory=InputDependence)
    loss: LossProfile = field(default_factory=LossProfile)
    contracts: tuple[BrokenContract, ...] = ()
    first_loss: FirstLoss = field(default_factory=FirstLoss)
    network: NetworkProfile = field(default_factory=NetworkProfile)
    batch_norms: tuple[BatchNormStats, ...] = ()

    def has(self, need: str) -> bool | None:
        """Whether a probe ran ("outputs": the model itself); None where it does not apply."""
        return self.measured.get(need, False)
