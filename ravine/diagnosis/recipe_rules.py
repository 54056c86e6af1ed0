"""Faults of a recipe that show before its first step: what each check needs, and the rules that read the checks.

The measuring is done by whoever can run a network; here stands what it means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ravine.diagnosis.rule import Rule, Seen

LEARNED = 0.02  # of the chance level: a loss that counts as about zero
FADED = 1e-3  # signal of the last hidden layer over that of the first
STILL = 0.9  # share of a layer's units that say the same of every example
FLAT = 0.05  # of an activation's steepest slope
SATURATED = 0.5  # share of a layer's units that sit where the slope is next to 0
DISAGREE = 1e-3  # relative difference of a gradient from finite differences, in float64


@dataclass(frozen=True)
class Check:
    """One check: did it pass (None: it does not apply), what came out in a sentence, the numbers, and what was seen.

    A check may pass and yet have seen something to note.
    """

    name: str
    passed: bool | None
    said: str
    values: Mapping[str, float] = field(default_factory=dict)
    seen: Seen | None = None


@dataclass(frozen=True)
class Beforehand:
    """The checks that were made of a recipe by their rules' needs; an exception where a check broke."""

    made: Mapping[str, Check | Exception]

    def has(self, need: str) -> bool | None:
        """The name of a check: None where it does not apply, False where it was not made."""
        check = self.made.get(need)
        if isinstance(check, Check) and check.passed is None:
            return None
        return check is not None

    def of(self, need: str) -> Check:
        """A check that was made. Raises what it raised."""
        check = self.made[need]
        if isinstance(check, Exception):
            raise check
        return check


def _seen(need: str):
    """The function of a rule that hands on what its check saw."""

    def find(beforehand: Beforehand) -> Iterator[Seen]:
        check = beforehand.of(need)
        if check.seen is not None:
            yield check.seen

    return find


ALL = (
    Rule(code="RVN-C01", title="the first loss is not that of guessing", cause="initialization", severity="warning",
         confidence="high", find=_seen("initial loss"), needs="initial loss",
         also=("data-degenerate", "leakage", "input-scale", "target-scale", "dropout"),
         because="the last layer's outputs start large, or something of the target is in the loss already",
         misses="starts that are too small: they begin at the loss of guessing, too",
         means="A network that has learned nothing should lose what guessing loses: log C for C classes, log 2 for a "
               "label, half the variance of a standardized number. One that starts far above spends its first steps "
               "on making its outputs smaller; one that starts below the best constant knows what it should not.",
         detected="The mean loss of 16 fresh networks on up to 512 training examples, as training would see it, with "
                  "Student's interval. Too high: above chance by more than chance itself and by more than twice what "
                  "outputs of variance 2 cost, the whole interval above chance. Too low: the whole interval below "
                  "the loss of the best constant. A first loss that is not finite is an error.",
         remedy="Start the last layer at zero or smaller; scale inputs and a numeric target; look for the target "
                "among the features.",
         patch="  [network]\n+ zero_output = true",
         references=("Karpathy 2019: A recipe for training neural networks, karpathy.github.io",
                     "He, Zhang, Ren, Sun 2015: Delving deep into rectifiers, ICCV"),
         picture="initial-loss"),
    Rule(code="RVN-C02", title="a penalty does not raise the loss", cause="loss", severity="warning",
         find=_seen("penalty"), needs="penalty",
         because="its strength is 0, every weight is 0, or its value and its formula differ",
         misses="weight decay that is part of the optimizer's step: it is not in the loss",
         means="A penalty that adds nothing to the loss does nothing to the weights, though the recipe lists it. What "
               "it was to prevent, weights that grow to fit single examples, is not prevented.",
         detected="The penalty's value on four fresh networks at 0, 1, 10 and 100 times its strength must rise, and "
                  "equal the sum over all weight matrices worked out once more in float64.",
         remedy="Give the penalty a strength above 0, or leave it out.",
         patch="  [[penalties]]\n  name = \"L2\"\n- strength = 0.0\n+ strength = 1e-4",
         references=("Krogh, Hertz 1991: A simple weight decay can improve generalization, NeurIPS",),
         picture="initial-loss"),
    Rule(code="RVN-C03", title="a few examples are not learned by heart", cause="architecture-too-small",
         severity="warning", confidence="high", find=_seen("overfit a few"), needs="overfit a few",
         also=("learning-rate-high", "learning-rate-low", "hidden-activation", "initialization"),
         because="something between data, loss and update is broken, the network is far too small, or the learning "
                 "rate is far off",
         misses="faults that show on many examples only",
         means="A network that can learn anything can learn 16 examples by heart. One that cannot is broken, far too "
               "small, or makes steps of the wrong length; more data and more time will not help it.",
         detected=f"Two fresh networks train on 16 different examples, all at each step, without dropout, penalties, "
                  f"decay and augmentation, at the recipe's learning rate, a tenth and ten times of it. They pass if "
                  f"the loss falls below {LEARNED:.0%} of chance within 600 steps. If none does, a hundred and a "
                  "thousand times as much and as little are tried, too: a rate that far off is named.",
         remedy="Look at the other findings first. Then take a rate that learns, or a wider network.",
         patch="  [optimizer]\n- lr = 2e-6\n+ lr = 2e-3",
         references=("Karpathy 2019: A recipe for training neural networks, karpathy.github.io",
                     "Zhang, Bengio, Hardt, Recht, Vinyals 2017: Understanding deep learning requires rethinking "
                     "generalization, ICLR"),
         picture="initial-loss"),
    Rule(code="RVN-C04", title="the gradient is not that of the loss", cause="loss", severity="error",
         find=_seen("gradient"), needs="gradient", also=("precision",),
         because="a backward pass written by hand differs from its forward pass, or a part of the loss has no "
                 "derivative",
         misses="faults smaller than one in a thousand; weights that a tuning holds",
         means="The steps go along a direction in which the loss does not fall as the gradient says. Training may seem "
               "to work and end worse than it need, or not work at all.",
         detected="In float64, for two fresh networks on up to 32 examples: the gradient that training uses, "
                  "penalties and all, against (L(w + h d) - L(w - h d)) / 2h along itself and along three random "
                  f"directions. They must agree to {DISAGREE:g} of the gradient's length for one h of 1e-5, 1e-6 and "
                  "1e-7 of the weights' length.",
         remedy="Look at the part that was written by hand: a custom loss, penalty or module.",
         patch="  def gradient(self, rows, decays, meter):\n-     return rows\n+     return 2 * rows",
         references=("Press, Teukolsky, Vetterling, Flannery 2007: Numerical recipes, section 5.7, Cambridge",)),
    Rule(code="RVN-C05", title="an example's output depends on the others in its batch", cause="normalization",
         severity="error", find=_seen("independence"), needs="independence", also=("shape-pairing", "train-eval-mode"),
         because="a reshape or a softmax mixes examples, or batch statistics are used in evaluation",
         misses="a dependence that is the same for all contents of a batch",
         means="In evaluation each example must be answered by itself. If the others in the batch have a say, the "
               "score depends on how examples are put together, and a single one cannot be predicted.",
         detected="Two fresh networks answer a batch twice in evaluation, the second time with other examples in its "
                  "second half. The answers to the first half may differ by 1e-5 of their spread at most.",
         remedy="Reduce and normalize over features, not over the batch; use running statistics in evaluation.",
         patch="  scores = model(x)\n- answer = scores.softmax(dim=0)\n+ answer = scores.softmax(dim=1)",
         references=("Ioffe, Szegedy 2015: Batch normalization, ICML",)),
    Rule(code="RVN-C06", title="the signal fades or grows with depth", cause="vanishing", severity="warning",
         confidence="high", find=_seen("signal"), needs="signal", also=("exploding", "initialization"),
         explains=("RVN-C03",),
         because="the starting weights are too small or too large for the width, and each layer multiplies",
         misses="networks with fewer than three hidden layers; layers inside a residual block or a module of yours",
         means="What tells examples apart is multiplied by about the same factor in each layer. After many layers "
               "hardly anything of it is left, or it overflows; gradients go the same way back.",
         detected=f"The standard deviation over examples of each hidden layer's output, before any step. The last "
                  f"hidden layer's is below {FADED:g} or above {1 / FADED:g} times the first's in every one of four "
                  "networks.",
         remedy="Draw weights with a variance that fits the width (He, Glorot, LeCun), or normalize in between.",
         patch='  [network.initializer]\n- name = "Normal"\n- sd = 0.01\n+ name = "He"',
         references=("Glorot, Bengio 2010: Understanding the difficulty of training deep feedforward neural networks, "
                     "AISTATS",
                     "He, Zhang, Ren, Sun 2015: Delving deep into rectifiers, ICCV",
                     "Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017: Deep information propagation, ICLR"),
         picture="deep-tanh"),
    Rule(code="RVN-C07", title="units are dead before the first step", cause="dead-units", severity="warning",
         confidence="high", find=_seen("dead"), needs="dead", also=("initialization", "input-scale"),
         explains=("RVN-C03",),
         because="biases start far below 0, or the inputs push all examples to one side",
         misses="layers with fewer than nine still units in ten, and less than 64 examples",
         means="Most units of a layer say the same of every example, so nothing after them can tell examples apart, "
               "and rectified ones get no gradient.",
         detected=f"At least {STILL:.0%} of the units behind an activation have the same output for up to 512 "
                  "examples, in every one of four networks.",
         remedy="Start biases at 0 and weights by He's rule, scale the inputs.",
         patch="  [network.bias]\n- value = -10.0\n+ value = 0.0",
         references=("Lu, Shin, Su, Karniadakis 2020: Dying ReLU and initialization: theory and numerical examples, "
                     "Communications in Computational Physics 28",),
         picture="activations"),
    Rule(code="RVN-C08", title="units are saturated before the first step", cause="saturation", severity="warning",
         confidence="high", find=_seen("saturation"), needs="saturation", also=("initialization", "input-scale"),
         explains=("RVN-C03",),
         because="weights or inputs are so large that a bounded activation sits at its bounds",
         misses="activations without bounds, for which it does not apply",
         means="Where a sigmoid or tanh is near its bounds its slope is next to 0, and so is every gradient that "
               "passes through it.",
         detected=f"At least {SATURATED:.0%} of a layer's units have a mean slope below {FLAT:.0%} of the "
                  "activation's steepest, in every one of four networks.",
         remedy="Smaller starting weights (Glorot, LeCun), scaled inputs, or a rectifier.",
         patch='  [network.initializer]\n- name = "Normal"\n- sd = 1.0\n+ name = "Glorot"',
         references=("LeCun, Bottou, Orr, Müller 1998: Efficient BackProp, in Neural Networks: Tricks of the Trade",
                     "Glorot, Bengio 2010: Understanding the difficulty of training deep feedforward neural networks, "
                     "AISTATS"),
         picture="activations"),
    Rule(code="RVN-C09", title="hidden layers without a nonlinearity", cause="hidden-activation", severity="warning",
         find=_seen("nonlinearity"), needs="nonlinearity", explains=("RVN-C03",),
         because="the activation is the identity",
         misses="modules of yours; activations that are as good as linear",
         means="Layers without a nonlinearity between them can do together what one layer can.",
         detected="The network has hidden layers and its activation is Identity.",
         remedy='Choose an activation, or leave the hidden layers out (hidden = []) where a linear model is meant.',
         patch='  [network]\n- activation = "Identity"\n+ activation = "ReLU"',
         references=("Leshno, Lin, Pinkus, Schocken 1993: Multilayer feedforward networks with a nonpolynomial "
                     "activation function can approximate any function, Neural Networks 6",)),
    Rule(code="RVN-C10", title="units of a hidden layer start equal", cause="initialization", severity="error",
         find=_seen("symmetry"), needs="symmetry", explains=("RVN-C03", "RVN-C06", "RVN-C07"),
         because="all weights start at one value, so equal units get equal gradients",
         misses="layers inside a residual block or a module of yours",
         means="Units with equal weights get equal gradients and stay copies of each other: the layer can do what "
               "one unit can.",
         detected="All weights of a hidden layer of two units or more are equal, bit for bit.",
         remedy="Draw weights at random; zero is for biases and for the last layer.",
         patch='  [network]\n- initializer = "Zero"\n+ initializer = "He"',
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 8.4, MIT Press",),
         picture="zero-init"),
)  # fmt: skip
