"""What trying remedies showed: which one explains best why the run fell short, and whether it fell short at all.

A gain is a share of what there was to gain: (loss without - loss with) / (loss of the best constant - least loss seen).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from ravine.diagnosis.rule import Rule, Seen
from ravine.finding import Change, Evidence, Trial

SHORT = 0.2  # share of what there was to gain in loss that a run must have missed to be called sick
LACKING = 0.45  # the same for remedies that no fact speaks for
POINTS = 0.05  # and of the score, on a scale from 0 (best constant) to 1, where there is one
CLEAR = 0.3  # of the score: enough by itself, whatever the loss says
NOTHING = 0.03  # of the best constant's loss: who gains less has learned nothing
NEARLY = 0.75  # of the best remedy's gain: as good, if something speaks for it besides
GENERAL = ("learning-rate-high", "learning-rate-low", "too-few-steps", "batch-size", "initialization", "optimizer")
RISEN = 0.3  # of the fall of the loss on other examples that is lost again
SURE = 2.5  # standard errors
BEHIND = 0.15  # of the score
GOOD = 0.97  # score of a run from which nothing is left to gain
SEEDS = 5  # on which a remedy must have helped


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one remedy did with each seed: losses and scores on examples that were not learned from.

    `grounds` are facts that speak for it, found without trying; a remedy without any was tried on general grounds.
    """

    cause: str
    changes: tuple[Change, ...] = ()
    losses: tuple[float, ...] = ()
    scores: tuple[float | None, ...] = ()
    grounds: tuple[Evidence, ...] = ()
    where: str = ""
    suspects: tuple[str, ...] = ()
    trial: Trial | None = None
    course: tuple[tuple[int, float, float | None], ...] = ()  # step, loss and score at looks

    @property
    def loss(self) -> float:
        return self.losses[0]

    @property
    def score(self) -> float | None:
        return self.scores[0]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A run as it is (`base`) and with remedies; `null` is the loss of the best constant answer, NaN if unknown."""

    base: Outcome
    outcomes: tuple[Outcome, ...] = ()
    null: float = math.nan
    start: float = math.nan  # the loss before the first step
    steps: int = 0
    highest: float = math.nan  # loss seen in the run
    refused: tuple[tuple[Change, str], ...] = ()  # what was not tried, and why
    known: float | None = None  # what a quick learner that is no network reaches: accuracy or R2, 0 for a constant
    behind: float = BEHIND  # how far the network must stay behind that to be called too small
    informative: bool | None = None  # whether the inputs tell anything about the targets
    reached: float | None = None  # the same score of the run, on examples that it did not learn from
    fitted: float | None = None  # and on those it did
    loss_fitted: float = math.nan  # the loss on examples it learned from, at the end
    whole: tuple[tuple[int, float, float | None], ...] = ()  # the whole budget: step, loss and score at looks
    rise: tuple[float, float] | None = None  # mean and standard error, over groups of examples, of the loss's rise

    settled: Outcome | None = None  # a remedy that is judged by something else than loss and score

    @cached_property
    def best(self) -> tuple[int, float]:
        """Step and loss of the look with the least loss."""
        step, loss, _ = min(
            (w for w in self.whole if math.isfinite(w[1])), key=lambda w: w[1], default=(0, math.nan, None)
        )
        return step, loss

    def has(self, need: str) -> bool | None:
        """ "tried": some remedy was tried."""
        return bool(self.outcomes)

    @cached_property
    def least(self) -> float:
        """The least loss of any run."""
        finite = [o.loss for o in (self.base, *self.outcomes) if math.isfinite(o.loss)]
        return min(finite, default=math.nan)

    @cached_property
    def scored(self) -> bool:
        """Whether the score means something here: the run with the least loss has one above 0."""
        best = min(
            (o for o in (self.base, *self.outcomes) if math.isfinite(o.loss)), key=lambda o: o.loss, default=None
        )
        top = max((o.score for o in (self.base, *self.outcomes) if o.score is not None), default=-1.0)
        return best is not None and best.score is not None and top > 0 and best.score > 0.3 * top

    def gain(self, outcome: Outcome) -> float:
        """What a remedy gains, as a share of what there was to gain; at most 1, below 0 if it does harm."""
        before, after = self.base.loss, outcome.loss
        if not math.isfinite(after):
            return -1.0
        top = self.null if math.isfinite(self.null) else self.start
        whole = top - self.least
        if not whole > NOTHING * abs(top):
            return 0.0  # no run does better than a constant answer
        if not math.isfinite(before):
            before = top
        by_loss = (min(before, top) - min(after, top)) / whole
        if not self.scored or self.base.score is None or outcome.score is None:
            return max(-1.0, min(1.0, by_loss))
        by_score = outcome.score - max(self.base.score, 0.0)
        if by_score >= CLEAR:
            return min(1.0, max(by_score, by_loss))
        if by_score < POINTS:
            return max(-1.0, min(by_score, 0.0))
        return max(-1.0, min(1.0, by_loss))

    def since(self, outcome: Outcome) -> int | None:
        """The first look at which the run lags behind the one with the remedy, by half of what it misses in the end."""
        missed = 0.5 * (self.base.loss - outcome.loss)
        points = 0.5 * ((outcome.score or 0.0) - (self.base.score or 0.0))
        mine = {step: (loss, score) for step, loss, score in self.base.course}
        for step, loss, score in outcome.course:
            if step == 0 or step not in mine:
                continue
            before, mark = mine[step]
            if (
                not math.isfinite(before)
                or (missed > 0 and before - loss >= missed)
                or (points > POINTS / 2 and (score or 0.0) - (mark or 0.0) >= points)
            ):
                return step
        return self.steps

    @cached_property
    def ranked(self) -> tuple[Outcome, ...]:
        """Remedies that make up for what was missed, the likeliest cause first.

        One that facts speak for goes before one that was tried on general grounds, if it gains nearly as much.
        """
        gains = [(self.gain(o), o) for o in self.outcomes]
        best = max((g for g, o in gains if g >= (SHORT if o.grounds else LACKING)), default=math.inf)
        near = [(g, o) for g, o in gains if g >= max(SHORT if o.grounds else LACKING, NEARLY * best)]
        return tuple(o for _, o in sorted(near, key=lambda p: (not p[1].grounds, GENERAL.index(p[1].cause), -p[0])
                                          if p[1].cause in GENERAL else (not p[1].grounds, -1, -p[0])))  # fmt: skip

    @cached_property
    def blamed(self) -> Outcome | None:
        """The first of the ranked remedies that helped on every count; None if the run lacks nothing that was tried."""
        if self.settled is not None and self.settled.trial is not None and self.settled.trial.verdict == "helped":
            return self.settled
        return next((o for o in self.ranked if o.trial is None or o.trial.verdict == "helped"), None)


def blamed(tried: Tried, *, cause: str) -> Iterator[Seen]:
    """The cause whose remedy helped, if it is this one."""
    found = tried.blamed
    if found is None or found.cause != cause:
        return
    gain, others = (
        0.5 if found is tried.settled else tried.gain(found),
        [o.cause for o in tried.ranked if o.cause != cause],
    )
    evidence = [*found.grounds, Evidence("part of the possible gain that was missed", 100 * gain, "%", 100 * SHORT)]
    if found.score is not None and tried.base.score is not None and tried.scored:
        evidence.append(Evidence("score without the change", tried.base.score, "", None,
                                 f"{found.score:.3g} with it, from 0 (best constant answer) to 1"))  # fmt: skip
    sure = found.trial is not None and (bool(found.grounds) or gain > 0.5)
    yield Seen(where=found.where, since=None if found.grounds and cause != "learning-rate-high" else tried.since(found),
               severity="error" if gain > 0.6 else "warning", confidence="high" if sure else "medium",
               evidence=tuple(evidence), changes=found.changes, trial=found.trial,
               suspects=tuple(dict.fromkeys((*others, *found.suspects)))[:3])  # fmt: skip


def by_heart(tried: Tried) -> Iterator[Seen]:
    """The loss on other examples rose again by a good part of what it fell, while that on its own kept falling."""
    if tried.rise is None or not tried.whole or not math.isfinite(tried.best[1]):
        return
    step, least = tried.best
    mean, error = tried.rise
    first = min(tried.whole[0][1], tried.null) if math.isfinite(tried.null) else tried.whole[0][1]
    fell = first - least
    if fell <= NOTHING * abs(first) or mean < RISEN * fell or mean < SURE * error or tried.loss_fitted > least:
        return
    scores = [score for at, _, score in tried.whole if score is not None and at >= step]
    if tried.scored and scores and max(scores) - scores[-1] < POINTS / 2:
        return  # it only grows too sure of itself
    yield Seen(since=next((at for at, loss, _ in tried.whole if at > step and loss - least > RISEN * fell / 2), step),
               evidence=(
        Evidence("loss on held-out examples over its least", mean, "", RISEN * fell, f"least at step {step}"),
        Evidence("standard error of that", error), Evidence("loss on training examples", tried.loss_fitted),
    ), changes=(Change("steps", step),), suspects=("labels", "architecture-too-small")[:1])  # fmt: skip


def untold(tried: Tried) -> Iterator[Seen]:
    """What it learns by heart does not hold for other examples, nor can any quick learner tell their targets."""
    if tried.informative is not False or not tried.whole or not math.isfinite(tried.null) or tried.blamed is not None:
        return
    last = tried.whole[-1][1]
    mean, error = tried.rise if tried.rise is not None else (0.0, math.inf)
    fits = tried.loss_fitted < 0.9 * tried.null
    if fits and last > 1.1 * tried.null and mean > SURE * error:
        yield Seen(since=None, evidence=(
            Evidence("loss on held-out examples", last, "", tried.null, "that of the best constant answer"),
            Evidence("loss on training examples", tried.loss_fitted),
            Evidence("what a quick learner tells of the targets", tried.known or 0.0, "", None, "0 is nothing"),
        ), changes=(Change("data", "inputs and targets paired row by row"),), suspects=("overfitting",))  # fmt: skip


def too_small(tried: Tried) -> Iterator[Seen]:
    """The network stays behind a quick learner, on its own training examples too, whatever was tried."""
    if tried.known is None or tried.reached is None or tried.fitted is None or not tried.scored:
        return
    if any(tried.gain(o) >= SHORT for o in tried.outcomes):
        return  # something else helps
    behind = tried.known - max(tried.reached, tried.fitted)
    if behind < tried.behind or tried.known < 2 * BEHIND:
        return
    yield Seen(since=None, evidence=(
        Evidence("score of a quick learner on examples it did not see", tried.known, "", None, "1 is perfect"),
        Evidence("score of the network on examples it learned from", tried.fitted, "", tried.known - tried.behind),
        Evidence("on others", tried.reached),
    ), changes=(Change("model", "more units, or layers that see more of the input"),),
               suspects=("labels", "hidden-activation"))  # fmt: skip


def _tried(number: int, cause: str, title: str, **texts: Any) -> Rule:
    return Rule(code=f"RVN-X{number:02}", title=title, cause=cause, severity="warning", confidence="medium",
                find=partial(blamed, cause=cause), needs="tried", detected=TRIED, **texts)  # fmt: skip


TRIED = (
    "The same program is run again with this change, from the same seed, and judged on examples that it did not learn "
    "from. It must gain "
    f"{SHORT:.0%} ({LACKING:.0%} if no other fact speaks for it) of what there was to gain (the loss of the best "
    "constant answer less the least loss of any run) and, "
    f"where there is a score, {POINTS:g} of it from 0, a constant answer, to 1; or {CLEAR:g} of the score alone. Then "
    f"both are run with {SEEDS} seeds in pairs, and the change must help. Of changes that gain nearly as much, one "
    "that facts speak for comes first."
)
SMALL = "losses of less than a fifth of what there was to gain, and of less than half where no fact speaks for it"
ALL = (
    _tried(1, "learning-rate-high", "a lower learning rate learns more",
           because="steps overshoot: the loss rises along steep directions, or units end where no gradient reaches",
           misses=SMALL,
           means="The same program with a lower learning rate reaches a clearly lower loss on held-out examples in "
                 "the same number of steps. Long steps jump across the valley of the loss: they stay high, swing, "
                 "or throw units to where their gradient is 0.",
           remedy="Take the rate that the trial names, or a tenth of yours; a falling schedule lets you begin "
                  "higher.",
           patch="- optimizer = torch.optim.SGD(model.parameters(), lr=3.0)\n"
                 "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.3)",
           references=("Bengio 2012: Practical recommendations for gradient-based training of deep architectures, "
                       "in Neural Networks: Tricks of the Trade, Springer",
                       "Smith 2017: Cyclical learning rates for training neural networks, WACV"),
           picture="range-test"),
    _tried(2, "learning-rate-low", "a higher learning rate learns more",
           because="steps are too short to get anywhere within the budget",
           misses=SMALL,
           means="The same program with a higher learning rate reaches a clearly lower loss on held-out examples "
                 "in the same number of steps. With short steps the run ends before the weights have got anywhere.",
           remedy="Take the rate that the trial names, or ten times yours.",
           patch="- optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)\n"
                 "+ optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)",
           references=("Smith 2017: Cyclical learning rates for training neural networks, WACV",),
           picture="range-test"),
    _tried(3, "too-few-steps", "more steps learn more",
           because="training ends while the network still learns",
           misses=SMALL,
           means="The same program run for longer reaches a clearly lower loss on held-out examples. It was "
                 "stopped while it was learning.",
           remedy="Train for more epochs, and stop when the validation loss has not fallen for some time.",
           patch="- epochs = 5\n"
                 "+ epochs = 50\n"
                 "  for epoch in range(epochs):\n"
                 "      train_epoch(model)",
           references=("Prechelt 1998: Early stopping, but when?, in Neural Networks: Tricks of the Trade, "
                       "Springer",),
           picture="early-stopping"),
    _tried(4, "batch-size", "smaller batches learn more",
           because="large batches leave few steps in the same number of passes",
           misses="batches that are too small",
           means="The same program with smaller batches, and as many passes over the examples, reaches a clearly "
                 "lower loss. Large batches give few steps to a pass, and their steps are hardly better than those "
                 "of middling ones.",
           remedy="Take batches of 32 to 256 examples, or raise the learning rate with the batch.",
           patch="- batches = list(zip(x.split(4096), y.split(4096)))\n"
                 "+ batches = list(zip(x.split(32), y.split(32)))",
           references=("Bottou, Curtis, Nocedal 2018: Optimization methods for large-scale machine learning, SIAM "
                       "Review 60",
                       "Masters, Luschi 2018: Revisiting small batch training for deep neural networks, arXiv "
                       "1804.07612"),
           picture="rates-and-batches"),
    _tried(5, "optimizer", "another optimizer learns more",
           because="one learning rate fits no direction of this loss: some are steep, others flat",
           misses=SMALL,
           means="The same network with another optimizer reaches a clearly lower loss in the same number of "
                 "steps. Plain descent has one rate for all weights; where the loss is steep along some and flat "
                 "along others, no single rate suits both.",
           remedy="Take an optimizer with a rate for each weight, such as AdamW, or add momentum.",
           patch="- optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"
                 "+ optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)",
           references=("Kingma, Ba 2015: Adam: A method for stochastic optimization, ICLR",
                       "Loshchilov, Hutter 2019: Decoupled weight decay regularization, ICLR"),
           picture="optimizer-race"),
    _tried(6, "optimizer-numerics", "the optimizer's epsilon brakes it",
           because="Adam divides by sqrt(v) + eps: where eps is larger than the gradients, steps shrink in "
                   "proportion to them",
           misses="optimizers without eps",
           means="Adam divides each step by the root of the mean squared gradient plus eps. Where eps is larger "
                 "than that root, it takes over, and steps become far shorter than the learning rate says. With "
                 "the usual eps the same program learns clearly more.",
           remedy="Leave eps at its default, 1e-8, unless the gradients are in float16.",
           patch="- optimizer = torch.optim.Adam(model.parameters(), eps=1.0)\n"
                 "+ optimizer = torch.optim.Adam(model.parameters())",
           references=("Kingma, Ba 2015: Adam: A method for stochastic optimization, ICLR",
                       "PyTorch 2.13 documentation: torch.optim.Adam"),
           picture="adam-bias"),
    _tried(7, "hidden-activation", "another activation between the layers learns more",
           because="a nonlinearity is missing, or squashes so much that little gradient gets through",
           misses="activations inside compiled modules",
           means="The same network with another activation between its layers, or with one where none was, reaches "
                 "a clearly lower loss. Without a nonlinearity layers are one linear map; saturating ones let "
                 "little gradient through.",
           remedy="Take ReLU, GELU or SiLU between layers.",
           patch="- net = nn.Sequential(nn.Linear(8, 32), nn.Sigmoid(), nn.Linear(32, 3))\n"
                 "+ net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))",
           references=("Glorot, Bordes, Bengio 2011: Deep sparse rectifier neural networks, AISTATS",),
           picture="activations"),
    _tried(8, "output-activation", "the output learns more without its activation",
           because="the activation cannot reach the targets, or the loss applies one of its own",
           misses="compiled modules",
           means="The same network without its last activation reaches a clearly lower loss. A bounded output "
                 "cannot meet targets beyond its bounds, and a loss that takes logits applies an activation of its "
                 "own.",
           remedy="Give the loss what it is made for: logits for cross entropy, free numbers for a squared error.",
           patch="- net = nn.Sequential(body, nn.Linear(32, 1), nn.Sigmoid())\n"
                 "+ net = nn.Sequential(body, nn.Linear(32, 1))\n"
                 "  loss = F.mse_loss(net(x).squeeze(1), 10.0 * y)",
           references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.2.2, MIT Press",
                       "PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss"),
           picture="losses"),
    _tried(9, "loss-reduction", "the loss is a sum over the batch, and its steps are too long",
           because="a sum over N examples has N times the gradient of the mean",
           misses="sums that a low learning rate makes up for",
           means="The loss adds up over the examples of a batch, so its gradient is as many times larger as the "
                 "batch has examples, and the learning rate acts that much longer. With a mean the same program "
                 "learns clearly more.",
           remedy="Let the loss be a mean, so that the learning rate means the same at every batch size.",
           patch="- criterion = nn.CrossEntropyLoss(reduction=\"sum\")\n"
                 "+ criterion = nn.CrossEntropyLoss()",
           references=("PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss",)),
    _tried(10, "initialization", "a fresh start learns more",
           because="weights too large, too small, or equal: signal or gradient is lost on the way through the "
                   "layers",
           misses="parameters outside linear, convolutional, recurrent, embedding and normalization modules",
           means="The same network with freshly drawn weights reaches a clearly lower loss. Weights that start too "
                 "large saturate or explode, too small ones let the signal die on its way through the layers, "
                 "equal ones stay equal.",
           remedy="Leave torch's initialization, or draw by He's rule for rectifiers and Glorot's for tanh; biases "
                  "at 0.",
           patch="  for p in model.parameters():\n"
                 "-     nn.init.normal_(p, std=10.0)\n"
                 "+     if p.dim() > 1:\n"
                 "+         nn.init.kaiming_normal_(p, nonlinearity=\"relu\")",
           references=("Glorot, Bengio 2010: Understanding the difficulty of training deep feedforward neural "
                       "networks, AISTATS",
                       "He, Zhang, Ren, Sun 2015: Delving deep into rectifiers, ICCV"),
           picture="he-multiplier"),
    _tried(11, "input-scale", "standardized inputs learn more",
           because="features of different size make the loss steep along some weights and flat along others",
           misses="networks that are given whole numbers",
           means="The same program with standardized inputs reaches a clearly lower loss. Features far from 0 or "
                 "of very different size make the loss a narrow valley: the steep weights limit the learning rate, "
                 "the flat ones then hardly move.",
           remedy="Standardize by mean and standard deviation of the training examples, the others by the same "
                  "numbers.",
           patch="+ mean, sd = x.mean(0), x.std(0)\n"
                 "+ x, x_valid = (x - mean) / sd, (x_valid - mean) / sd\n"
                 "  loss = criterion(model(x), y)",
           references=("LeCun, Bottou, Orr, Müller 1998: Efficient BackProp, in Neural Networks: Tricks of the "
                       "Trade, Springer",),
           picture="scaling-table"),
    _tried(12, "target-scale", "standardized targets learn more",
           because="outputs start near 0 and have far to go, and errors of large targets make large gradients",
           misses="losses that need targets as they are",
           means="The same program with standardized targets reaches a clearly lower loss, in the targets' own "
                 "units. Outputs start near 0 with a spread near 1; far targets take many steps to reach, and "
                 "their large errors make large gradients.",
           remedy="Standardize the targets for training and undo it in predictions.",
           patch="  y = y.float()\n"
                 "+ mean, sd = y.mean(), y.std()\n"
                 "- loss = F.mse_loss(net(x).squeeze(1), y)\n"
                 "+ loss = F.mse_loss(net(x).squeeze(1), (y - mean) / sd)\n"
                 "+ predicted = net(x).squeeze(1) * sd + mean",
           references=("LeCun, Bottou, Orr, Müller 1998: Efficient BackProp, in Neural Networks: Tricks of the "
                       "Trade, Springer",)),
    _tried(13, "dropout", "the network learns more without dropout",
           because="so many units are dropped that what is left cannot carry the answer",
           misses="dropout by arithmetic of one's own",
           means="The same network with dropout off reaches a clearly lower loss on held-out examples. So many "
                 "units are left out in each step that the rest cannot carry the answer.",
           remedy="Take a rate of 0.1 to 0.5, less in small networks, and none right before the output.",
           patch="- net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.95))\n"
                 "+ net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2))",
           references=("Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014: Dropout, JMLR 15",),
           picture="dropout-expectation"),
    _tried(14, "over-regularized", "the network learns more without weight decay",
           because="decay pulls the weights to 0 faster than the loss pulls them away",
           misses="penalties that are a part of the loss",
           means="The same program without weight decay reaches a clearly lower loss on held-out examples. Decay "
                 "shrinks all weights by a share in each step; if it is stronger than the pull of the loss, they "
                 "end near 0 and the output is next to constant.",
           remedy="Take a decay between 0 and 1e-2 and compare it with none.",
           patch="- optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1.0)\n"
                 "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)",
           references=("Krogh, Hertz 1991: A simple weight decay can improve generalization, NeurIPS",
                       "Loshchilov, Hutter 2019: Decoupled weight decay regularization, ICLR"),
           picture="mixture-boundaries"),
    _tried(15, "normalization", "the statistics of batch normalization do not follow the data",
           because="a momentum near 0 or 1 keeps the first or only the last batch's mean and variance",
           misses="normalization written by hand",
           means="In evaluation batch norm uses a running mean and variance, and these are not those of the data "
                 "that the network now makes. With a usual momentum the same program is clearly better on held-out "
                 "examples.",
           remedy="Leave the momentum at 0.1; with batches of a few examples take layer or group norm.",
           patch="- norm = nn.BatchNorm1d(32, momentum=1e-4)\n"
                 "+ norm = nn.BatchNorm1d(32)",
           references=("Ioffe, Szegedy 2015: Batch normalization, ICML",
                       "Ba, Kiros, Hinton 2016: Layer normalization, arXiv 1607.06450"),
           picture="batch-norm-drift"),
    _tried(16, "shuffling", "the network learns more from shuffled examples",
           because="examples come in a fixed order, such as class after class, so that each step unlearns the last",
           misses="loaders that cannot be built anew",
           means="The same program on shuffled examples reaches a clearly lower loss. When examples come class "
                 "after class, or sorted, each step learns what the last ones held and unlearns the rest.",
           remedy="Shuffle the training examples anew in every epoch.",
           patch="- loader = DataLoader(TensorDataset(x, y), batch_size=32)\n"
                 "+ loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)",
           references=("PyTorch 2.13 documentation: torch.utils.data.DataLoader",
                       "Bottou, Curtis, Nocedal 2018: Optimization methods for large-scale machine learning, SIAM "
                       "Review 60")),
    _tried(17, "imbalance", "a rare class is never answered",
           because="with few examples of a class, never answering it costs next to nothing",
           misses="classes with fewer than five held-out examples",
           means="A class with few examples is hardly ever answered, and with weights by class it is. Accuracy "
                 "hides this: leaving out a class of 2 % costs 2 points.",
           remedy="Weight the loss by class or draw rare classes more often, and watch the recall of each class.",
           patch="+ counts = torch.bincount(y).clamp(min=1)\n"
                 "+ weight = len(y) / (len(counts) * counts)\n"
                 "- loss = F.cross_entropy(model(x), y)\n"
                 "+ loss = F.cross_entropy(model(x), y, weight=weight)",
           references=("He, Garcia 2009: Learning from imbalanced data, IEEE Transactions on Knowledge and Data "
                       "Engineering 21",
                       "PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss")),
    _tried(18, "loss", "another loss learns more",
           because="the loss does not ask for what the targets are",
           misses="losses for more than one output tensor",
           means="The same network with another loss, one made for targets of this kind, is clearly better by the "
                 "score. A squared error on probabilities, for one, has hardly any pull where the network is "
                 "surely wrong.",
           remedy="Take cross entropy for classes, binary cross entropy for labels, a squared or Huber loss for "
                  "numbers.",
           patch="- loss = F.mse_loss(model(x).softmax(dim=1), F.one_hot(y, 3).float())\n"
                 "+ loss = F.cross_entropy(model(x), y)",
           references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.2, MIT Press",
                       "PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss"),
           picture="losses"),
    _tried(19, "frozen-parameters", "the network learns more when all parameters are trained",
           because="parameters that still are as drawn at random are frozen, or in no optimizer",
           misses="frozen parameters that were trained before",
           means="Parameters that are still as drawn at random were kept from learning. With all of them trained "
                 "the same program reaches a clearly lower loss.",
           remedy="Freeze trained layers only, and give all others to the optimizer.",
           patch="- model.requires_grad_(False)\n"
                 "+ model.requires_grad_(True)\n"
                 "  optimizer = torch.optim.SGD(model.parameters(), lr=0.05)",
           references=("Yosinski, Clune, Bengio, Lipson 2014: How transferable are features in deep neural "
                       "networks? NeurIPS",),
           picture="transfer"),
    Rule(code="RVN-X20", title="the network learns by heart", cause="overfitting",
         severity="warning", find=by_heart, needs="tried", confidence="high",
         because="it goes on fitting its examples when nothing more is to be learned",
         misses="loaders without validation examples",
         also=("labels", "architecture-too-small"),
         means="The loss on held-out examples fell, and then rose again by a good part of that, while the loss on "
               "training examples kept falling. From there on the network learned the noise of its examples.",
         detected="Over the whole budget, the loss of the last look less the least one, on the same held-out "
                  f"examples: over {RISEN:.0%} of all that was gained and over {SURE:g} standard errors of the "
                  "difference between groups of examples, while the training loss is below. Not where the score "
                  "stayed: then only the confidence suffers.",
         remedy="Keep the weights of the best look; then more examples, augmentation, dropout, decay, or a smaller "
                "network.",
         patch="  for epoch in range(epochs):\n"
               "      train_epoch(model)\n"
               "+     score = validate(model)  # a loss\n"
               "+     if epoch == 0 or score < best:\n"
               "+         best, kept = score, copy.deepcopy(model.state_dict())\n"
               "+ model.load_state_dict(kept)",
         references=("Prechelt 1998: Early stopping, but when?, in Neural Networks: Tricks of the Trade, Springer",
                     "Zhang, Bengio, Hardt, Recht, Vinyals 2017: Understanding deep learning requires rethinking "
                     "generalization, ICLR"),
         picture="early-stopping"),
    Rule(code="RVN-X21", title="the targets have nothing to do with the inputs", cause="labels",
         severity="warning", find=untold, needs="tried", confidence="medium",
         because="inputs and targets were shuffled apart, or shifted",
         misses="fewer than 100 examples; targets that only a network can tell",
         also=("overfitting",),
         means="The network learns its training examples by heart, does worse than a constant on others, and no "
               "quick learner finds anything in the inputs that tells the targets. Most likely rows of inputs and "
               "targets do not belong together.",
         detected="Ridge or logistic regression, nearest neighbors, a kernel and trees, cross-validated, tell "
                  "nothing of the targets. The training loss is over 10 % below the best constant answer's, the "
                  f"held-out loss over 10 % above it and over {SURE:g} standard errors above its own least.",
         remedy="Look at single examples after the loading, shuffling and splitting: do input and target belong "
                "together? Shuffle both by one order.",
         patch="  order = torch.randperm(len(x))\n"
               "- x, y = x[order], y[torch.randperm(len(y))]\n"
               "+ x, y = x[order], y[order]\n"
               "+ for a, b in zip(x[:5], y[:5]):\n"
               "+     print(a, b)",
         references=("Zhang, Bengio, Hardt, Recht, Vinyals 2017: Understanding deep learning requires rethinking "
                     "generalization, ICLR",
                     "Karpathy 2019: A recipe for training neural networks, karpathy.github.io")),
    Rule(code="RVN-X22", title="the network cannot express what the examples show", cause="architecture-too-small",
         severity="warning", find=too_small, needs="tried", confidence="medium",
         because="too few units, a bottleneck, or a field of view that misses what matters",
         misses="tasks of which quick learners understand less than the network",
         also=("labels", "hidden-activation"),
         means="A quick learner answers examples that it has not seen better than the network answers those that "
               "it learned from, and no change that was tried helps. Something in the network keeps the answer "
               "from being expressed.",
         detected="The quick learner's cross-validated score (accuracy or R2, 0 for a constant answer) is over "
                  f"{BEHIND:g} above the network's on both its training and its held-out examples, and no tried "
                  "change made up for what is missing.",
         remedy="Widen the narrowest layer, let the layers see all of the input that matters, or give the network "
                "the features that the quick learner used.",
         patch="- net = nn.Sequential(nn.Linear(8, 1), nn.ReLU(), nn.Linear(1, 3))\n"
               "+ net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 5.2, MIT Press",)),
)  # fmt: skip
