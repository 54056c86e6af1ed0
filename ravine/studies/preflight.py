"""Checks before training (C1 to C3): the first loss is what chance gives, penalties add to it, a few are learned.

Each check is a function that returns a `Check`; `check` makes all of them. Letters: P networks, N examples, C outputs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import Examples, RowGroups
from ravine.losses import AbsoluteError, BinaryCrossEntropy, SoftmaxCrossEntropy, SquaredError
from ravine.networks.program import Program
from ravine.part import hints, is_part, stack
from ravine.penalties import L1, L2, ElasticNet
from ravine.recipe import Recipe
from ravine.roles import Batch, Loss, Pass
from ravine.schedules import Constant
from ravine.studies.spread import Interval, student
from ravine.training.exact import exact_arithmetic
from ravine.training.jobs import prepare, signature
from ravine.training.run import train_on

NETWORKS = 16  # starts from which the first loss is judged
EXAMPLES = 512  # training examples on which it is judged
HE = 1.0  # what outputs of variance 2 cost for each output: the most that He's rule gives on standardized inputs
FEW = 16  # examples that must be learned by heart
LEARNED = 0.02  # of the chance level: a loss that counts as about zero
STEPS = 600  # in which they must be
RATES = (1.0, 0.1, 10.0)  # multiples of the recipe's learning rate that are tried, its own first


@dataclass(frozen=True)
class Check:
    """One check: did it pass (None: it does not apply), what came out in a sentence, and the numbers by name."""

    name: str
    passed: bool | None
    said: str
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def word(self) -> str:
        return {True: "ok", False: "not ok", None: "not applicable"}[self.passed]


def check(recipe: Recipe, frame: Any = None) -> tuple[Check, ...]:
    """All checks of a recipe, before it is trained: seconds, whatever it would take to train.

    >>> from ravine.catalog import named
    >>> [c.word for c in check(named("plain").vary("data.source", "iris"))]
    ['ok', 'not applicable', 'ok']
    """
    task, resolved = prepare(recipe, frame)
    return initial_loss(resolved, task), penalty_raises(resolved, task), overfits(resolved, task)


# ------------------------------------------------------------------------------------------------ C1: the first loss


def initial_loss(recipe: Recipe, task: Any, *, networks: int = NETWORKS) -> Check:
    """C1: before the first step the loss is what guessing gives.

    Compared are the mean loss of `networks` fresh networks, as training would see it (batch normalization by the batch,
    dropout on), and the loss of a network whose outputs are all 0: log C for C classes, log 2 for each label, half the
    variance of a standardized target. Outputs of SD σ cost about σ²/2 more, by He's rule up to 1; so the check fails
    where the excess is more than twice that and more than the chance level, or if the loss is not finite. Beside it
    stands the best that a constant can do: H(y), the entropy of the classes, or the same half variance. Below that no
    untrained network should be, so a first loss whose whole interval is below it fails, too.
    """
    values = starting_losses(recipe, task, networks)
    examples = _some(task, EXAMPLES)
    chance = chance_level(recipe.loss, examples, task.outputs)  # type: ignore[arg-type]
    least = constant_level(recipe.loss, examples, task.outputs)  # type: ignore[arg-type]
    found = student(values)
    numbers = {"initial loss": found.value, "low": found.low, "high": found.high, "chance": chance, "constant": least}
    said = f"the first loss is {_shown(found)}; guessing gives {chance:.3g}, the best constant {least:.3g}"
    if not math.isfinite(found.value):
        return Check("initial loss", False, f"the first loss is {found.value}: look for values that are not finite in "
                     "the data, or weights that start too large", numbers)  # fmt: skip
    summed = 1 if isinstance(recipe.loss, SoftmaxCrossEntropy) else task.outputs
    if found.value - chance > max(chance, 2 * HE * summed) and found.low > chance:
        return Check("initial loss", False, said + ". The outputs start too large: smaller weights in the last layer "
                     "(network.zero_output = true), or a scaled target", numbers)  # fmt: skip
    if found.high < (1 - 1e-6) * least:
        return Check("initial loss", False, said + ". No untrained network can be better than that: something of the "
                     "target is in the loss already", numbers)  # fmt: skip
    return Check("initial loss", True, said, numbers)


def starting_losses(recipe: Recipe, task: Any, networks: int) -> np.ndarray:
    """The mean loss over some training examples of networks that have not made a step, [P]."""
    seeds = range(recipe.seed, recipe.seed + networks)
    built = Program(stack([recipe] * networks).network, signature(task))
    with exact_arithmetic(), torch.no_grad():
        weights, buffers = built.start(list(seeds))
        examples = _some(task, EXAMPLES)
        now = Pass(training=True, seeds=list(seeds), step=0, batch=examples.count, buffers=buffers)
        numbers, codes = examples.numbers[None], None if examples.codes is None else examples.codes[None]
        outputs = built(built.layout.views(weights), Batch(numbers, codes), now)
        return _each(recipe.loss, outputs, examples).mean(1).double().numpy()  # type: ignore[arg-type]


def chance_level(loss: Loss, examples: Examples, outputs: int) -> float:
    """The loss of a network whose outputs are all 0: every class is equally likely, every number is the mean.

    >>> examples = Examples(torch.zeros(4, 1), targets=torch.tensor([0, 1, 2, 0]))
    >>> round(chance_level(SoftmaxCrossEntropy(), examples, 3), 4)  # log 3
    1.0986
    """
    return _constant_loss(loss, examples, torch.zeros(outputs, dtype=torch.float64))


def constant_level(loss: Loss, examples: Examples, outputs: int) -> float:
    """The least loss of a network whose outputs are the same for all examples: H(y), ½ Var y, mean |y − median|.

    >>> examples = Examples(torch.zeros(4, 1), targets=torch.tensor([0, 0, 0, 1]))
    >>> round(constant_level(SoftmaxCrossEntropy(), examples, 2), 4)  # ¾ log 4/3 + ¼ log 4
    0.5623
    """
    y = examples.targets
    assert y is not None
    if isinstance(loss, SoftmaxCrossEntropy):
        share = torch.bincount(y.reshape(-1).long(), minlength=outputs).double() / y.numel()
        smoothing = float(loss.label_smoothing)
        return _constant_loss(loss, examples, ((1 - smoothing) * share + smoothing / outputs).clamp_min(1e-12).log())
    if isinstance(loss, BinaryCrossEntropy):
        share, smoothing = y.double().reshape(len(y), -1).mean(0), float(loss.label_smoothing)
        return _constant_loss(loss, examples, torch.logit((1 - smoothing) * share + smoothing / 2, eps=1e-12))
    flat = y.double().reshape(len(y), -1)
    if isinstance(loss, SquaredError):
        return _constant_loss(loss, examples, flat.mean(0))
    if isinstance(loss, AbsoluteError):
        return _constant_loss(loss, examples, flat.quantile(0.5, 0))
    tried = [_constant_loss(loss, examples, flat.quantile(q, 0)) for q in torch.linspace(0, 1, 41, dtype=torch.float64)]
    return min(*tried, _constant_loss(loss, examples, flat.mean(0)))


def _constant_loss(loss: Loss, examples: Examples, outputs: Tensor) -> float:
    everywhere = outputs.expand(1, examples.count, len(outputs))
    return float(_each(loss, everywhere, examples.to("cpu", torch.float64)).mean())


def _each(loss: Loss, outputs: Tensor, examples: Examples) -> Tensor:
    targets = examples.targets
    assert targets is not None
    return loss.each(outputs, targets.expand(len(outputs), *targets.shape))


def _some(task: Any, count: int) -> Examples:
    """The first training examples of a task (of those in memory, evenly spread ones), at most `count`."""
    if isinstance(task.train, RowGroups):
        chunk = next(iter(task.train.epoch(0, 0)))
        return chunk.take(torch.arange(min(count, chunk.count)))
    places = torch.linspace(0, task.train.count - 1, min(count, task.train.count)).round().long()
    return task.train.take(places)


# ------------------------------------------------------------------------------------------------ C2: penalties


def penalty_raises(recipe: Recipe, task: Any, *, networks: int = 4) -> Check:
    """C2: the stronger the penalty, the higher the loss; and by exactly what the penalty's formula says.

    The formula is worked out here once more, weight matrix by weight matrix in float64, biases and scales left out.
    """
    if not recipe.penalties:
        said = "the recipe has no penalties"
        if getattr(recipe.optimizer, "weight_decay", 0):
            said += " (weight decay is part of the optimizer's step, not of the loss)"
        return Check("penalty", None, said)
    built = Program(stack([recipe] * networks).network, signature(task))
    weights, _ = built.start(list(range(recipe.seed, recipe.seed + networks)))
    weights, decays = weights.double(), built.layout.decays(dtype=torch.float64)
    tensors = built.layout.views(weights)
    matrices = [tensors[s.name].flatten(1) for s in built.layout.slots if s.role == "weight"]
    numbers: dict[str, float] = {}
    rises, worst, by_hand = True, 0.0, True
    for place, penalty in enumerate(recipe.penalties):
        values = []
        for times in (0.0, 1.0, 10.0, 100.0):
            stronger = dataclasses.replace(penalty, strength=float(penalty.strength) * times)  # type: ignore[attr-defined]
            value = stronger.value(weights, decays)[:, 0]
            values.append(value)
            expected = closed_form(stronger, matrices)
            if expected is None:
                by_hand = False
            else:
                worst = max(worst, float(((value - expected).abs() / expected.abs().clamp_min(1e-300)).max()))
        added = torch.stack(values)
        # nothing to raise where the strength or every weight is 0
        rises = rises and bool((added.diff(dim=0) > 0).all())
        numbers[f"{type(penalty).__name__} {place}"] = float(added[1].mean())
    said = ", ".join(f"{name.split()[0]} adds {value:.3g} to the first loss" for name, value in numbers.items())
    if by_hand:
        numbers["relative difference from the closed form"] = worst
    if not rises:
        return Check("penalty", False, said + "; stronger penalties do not raise it: is a strength 0, or every weight?",
                     numbers)  # fmt: skip
    if worst > 1e-9:
        return Check("penalty", False, said + f"; by the formula it should be {worst:.2g} (relative) off that", numbers)
    return Check("penalty", True, said + ", and ten times as much at ten times the strength", numbers)


def closed_form(penalty: Any, matrices: list[Tensor]) -> Tensor | None:
    """What a penalty adds, [P], from the weight matrices [P, ...] alone; None for a penalty unknown here.

    >>> closed_form(L2(strength=0.5), [torch.tensor([[3.0, 4.0]])])
    tensor([12.5000])
    """
    squares = torch.stack([m.square().sum(1) for m in matrices]).sum(0)
    sizes = torch.stack([m.abs().sum(1) for m in matrices]).sum(0)
    if isinstance(penalty, L2):
        form = {"squared": squares, "half": squares / 2, "norm": squares.sqrt()}[penalty.form]
        return float(penalty.strength) * form
    if isinstance(penalty, L1):
        return float(penalty.strength) * sizes
    if isinstance(penalty, ElasticNet):
        ratio = float(penalty.ratio)
        return float(penalty.strength) * (ratio * squares + (1 - ratio) * sizes)
    return None


# ------------------------------------------------------------------------------------------------ C3: a few examples


def overfits(recipe: Recipe, task: Any, *, few: int = FEW, steps: int = STEPS, seeds: int = 2) -> Check:
    """C3: fresh networks learn a few examples by heart: their loss falls to about zero within `steps` steps.

    About zero is 2 % of the chance level. The networks are the recipe's, without what is meant to stand in the way of
    learning by heart (dropout, penalties, weight decay, label smoothing, augmentation), on all `few` examples at every
    step, at the recipe's learning rate, a tenth and ten times of it. Examples with equal inputs count once.
    """
    chosen = _distinct(_some(task, 20 * few), few)
    if chosen.count < 2:
        return Check("overfit a few", None, "all training examples have the same inputs")
    bare = unhindered(recipe)
    level = constant_level(bare.loss, chosen, task.outputs)  # type: ignore[arg-type]
    if level < 1e-6:
        return Check("overfit a few", None, "the few examples all have the same target")
    lr = float(recipe.optimizer.lr)
    recipes = [bare.vary("optimizer.lr", lr * times).vary("epochs", steps).vary("seeds", seeds) for times in RATES]
    small = dataclasses.replace(task, train=chosen, validation=None, test=None)
    runs = train_on([small] * len(recipes), recipes, workers=1)
    reached = [_reached(run.record, LEARNED * level) for run in runs]
    numbers = {"examples": float(chosen.count), "chance": level}
    for times, (step, loss) in zip(RATES, reached, strict=True):
        numbers |= {f"steps at lr {lr * times:g}": step, f"least loss at lr {lr * times:g}": loss}
    best = min(range(len(runs)), key=lambda i: (reached[i][0], i))
    if math.isfinite(reached[0][0]):
        said = f"{chosen.count} examples are learned by heart in {reached[0][0]:.0f} steps"
        return Check("overfit a few", True, said + f" (loss {level:.3g} to below {LEARNED * level:.2g})", numbers)
    if math.isfinite(reached[best][0]):
        said = f"{chosen.count} examples are learned by heart only at another learning rate: {lr * RATES[best]:g} takes"
        said += f" {reached[best][0]:.0f} steps, the recipe's {lr:g} does not in {steps}"
        return Check("overfit a few", True, said, numbers)
    least = min(loss for _, loss in reached)
    said = (
        f"{chosen.count} examples are not learned in {steps} steps at any of three learning rates: the least loss is "
    )
    said += (
        f"{least:.3g}, guessing gives {level:.3g}. Something between data, loss and update is broken, or the network"
    )
    return Check("overfit a few", False, said + " is far too small", numbers)


def unhindered(recipe: Recipe) -> Recipe:
    """The recipe without all that stands in the way of learning by heart, on all examples at a constant rate.

    >>> from ravine.catalog import named
    >>> unhindered(named("default")).network.dropout is None
    True
    """
    plain = dataclasses.replace(recipe, penalties=(), augment=(), stop=None, average=None, clip=recipe.clip,
                                schedule=Constant(), batch="all", class_weights="none")  # fmt: skip
    off = {"dropout": None, "weight_decay": 0.0, "label_smoothing": 0.0, "snapshots": None}
    return _without(plain, off)


def _without(value: Any, off: Mapping[str, Any]) -> Any:
    """A part with some settings changed wherever they stand in it."""
    if isinstance(value, tuple):
        return tuple(_without(v, off) for v in value)
    if not is_part(value):
        return value
    changes = {n: off[n] if n in off else _without(getattr(value, n), off) for n in hints(type(value))}
    return dataclasses.replace(value, **changes)


def _distinct(examples: Examples, count: int) -> Examples:
    """At most `count` examples, no two with the same inputs; as many different targets as possible come first."""
    seen: set[bytes] = set()
    by_target: dict[bytes, list[int]] = {}
    assert examples.targets is not None
    for i in range(examples.count):
        key = examples.numbers[i].numpy().tobytes()
        key += b"" if examples.codes is None else examples.codes[i].numpy().tobytes()
        if key not in seen:
            seen.add(key)
            by_target.setdefault(examples.targets[i].numpy().tobytes(), []).append(i)
    turns = max((len(places) for places in by_target.values()), default=0)
    order = [places[turn] for turn in range(turns) for places in by_target.values() if turn < len(places)]
    chosen = examples.take(torch.tensor(sorted(order[:count]), dtype=torch.int64))
    return dataclasses.replace(chosen, weights=None)


def _reached(record: Any, limit: float) -> tuple[float, float]:
    """The step at which the last member's training loss fell below a limit (∞: not all did), and their least loss."""
    series = record.series.get("train/loss")
    if series is None:
        return math.inf, math.inf
    below = series.values < limit
    least = float(np.nanmin(series.values)) if np.isfinite(series.values).any() else math.inf
    if not below.any(0).all():
        return math.inf, least
    return float(series.steps[below.argmax(0)].max()), least


def _shown(found: Interval) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
