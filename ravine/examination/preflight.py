"""What `ravine check` asks of a recipe and its data before training: quick checks, then whether a
few are learned.

Each check is a function that returns a `Check`; `check` makes all of them and reports what they
found. Letters: P networks, N examples, C outputs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import Examples
from ravine.data.examples import affordable_count, evenly_spaced
from ravine.diagnosis import recipe_rules
from ravine.diagnosis.data import profile as data_profile
from ravine.diagnosis.data import rules as data_rules
from ravine.diagnosis.recipe_rules import LEARNED, Beforehand, Check
from ravine.diagnosis.rule import Observation, run_rules
from ravine.errors import InputError
from ravine.examination.fresh_networks import (
    EXAMPLES,
    examples_apart,
    gradient_agrees,
    nonlinear,
    signal_fades,
    signals,
    units_dead,
    units_differ,
    units_saturated,
)
from ravine.examination.remedies import useful
from ravine.finding import Change, Checks, Evidence, Finding, Report, arrange
from ravine.losses import AbsoluteError, BinaryCrossEntropy, SoftmaxCrossEntropy, SquaredError
from ravine.networks.batched import BatchedNetwork
from ravine.part import stack
from ravine.penalties import L1, L2, ElasticNet
from ravine.protocols import Loss
from ravine.recipe import Recipe, lr_path
from ravine.schedules import Constant
from ravine.serialization import replace_everywhere
from ravine.statistics import Interval, t_interval
from ravine.training.defaults import batch_size, prepare
from ravine.training.evaluation import starting_losses
from ravine.training.train import train_on

ROWS, NUMBERS = 20_000, 2**23  # of the data that are looked at, numbers only of pictures
NETWORKS = 16  # starts from which the first loss is judged
# what outputs of variance 2 cost for each output: the most that He's rule gives on standardized
# inputs
HE = 1.0
LOUD = 5.0  # root mean square of inputs or targets that are far from standardized
FEW = 16  # examples that must be learned by heart
HALF = 0.5  # of the chance level: learned at least in part
STEPS = 600  # in which they must be
SOON = 100  # in which most are
RATES = (1.0, 0.1, 10.0)  # multiples of the recipe's learning rate that are tried, its own first
FAR_RATES = (100.0, 0.01, 1000.0, 0.001)  # those that are tried when none of these learns


def check(recipe: Recipe, frame: Any = None) -> Report:
    """All checks of a recipe and its data before training: seconds, whatever it would take to
    train.

    >>> from ravine.catalog import named_recipe
    >>> report = check(named_recipe("plain").vary("data.source", "iris"))
    >>> report.findings, report.checks.failed
    ((), ())
    """
    task, resolved = prepare(recipe, frame)
    return reported(*checked(resolved, task, quick(resolved, task) | slow(resolved, task)))


def quick_check(recipe: Recipe, task: Any) -> Report:
    """The checks of a resolved recipe that take about a second: all but the gradient's and the
    trial on a few.
    """
    return reported(*checked(recipe, task, quick(recipe, task)))


def reported(findings: list[Finding], checks: Checks) -> Report:
    """The report of what was found, most important first."""
    return Report(findings=arrange(findings), checks=checks)


def checked(
    recipe: Recipe, task: Any, wanted: Mapping[str, Callable[[], Check]]
) -> tuple[list[Finding], Checks]:
    """What the wanted checks and those of the data find, with the changes that make a difference to
    the recipe.
    """
    try:
        in_data, went = run_rules(data_rules.ALL, examined_data(recipe, task))
    except InputError:
        raise
    except Exception:  # the checks of the recipe still count
        in_data, went = [], Checks(failed=tuple(rule.code for rule in data_rules.ALL))
    in_recipe, made_so = made(wanted)
    found = [
        dataclasses.replace(f, changes=useful(recipe, f.changes)) for f in (*in_data, *in_recipe)
    ]
    return found, went.and_(made_so)


# The data


def examined_data(recipe: Recipe, task: Any) -> data_profile.Examples:
    """What is to be known of a task's examples as networks get them, columns by name."""
    chosen = evenly_spaced(task.train, affordable_count(task.signature, ROWS, NUMBERS))
    held = task.validation
    if held is not None:
        held = held.take(
            torch.linspace(
                0, held.count - 1, min(held.count, affordable_count(task.signature, ROWS, NUMBERS))
            )
            .round()
            .long()
        )
    sizes = _moments(chosen)
    assert chosen.targets is not None
    return data_profile.read_examples(
        _inputs(task, chosen, sizes),
        chosen.targets,
        validation=None if held is None else (_inputs(task, held, sizes), held.targets),
        names=()
        if task.signature.image is not None
        else (*task.encoder.features, *task.encoder.code_names),
        batch=batch_size(recipe, task),
        outputs=(task.outputs,),
        seed=recipe.seed,
    )


def _inputs(task: Any, chosen: Examples, sizes: tuple[Tensor, Tensor] | None) -> Tensor:
    """Pictures standardized as networks see them; of rows the numbers, then the codes brought to
    one scale.
    """
    picture = task.signature.image
    if picture is not None:
        mean, sd = (torch.tensor(values)[:, None, None] for values in picture[3:])
        return (chosen.numbers.float() / 255 - mean) / sd
    if chosen.codes is None or sizes is None:
        return chosen.numbers
    return torch.cat([chosen.numbers, (chosen.codes.float() - sizes[0]) / sizes[1]], 1)


def _moments(chosen: Examples) -> tuple[Tensor, Tensor] | None:
    if chosen.codes is None:
        return None
    codes = chosen.codes.float()
    return codes.mean(0), codes.std(0, correction=0).clamp_min(1e-6)


def quick(recipe: Recipe, task: Any) -> dict[str, Callable[[], Check]]:
    """The checks that take about a second, to be made, by the names that their rules need."""
    passed = functools.cache(lambda: signals(recipe, task))
    return {
        "initial loss": lambda: initial_loss(recipe, task),
        "penalty": lambda: penalty_raises(recipe, task),
        "independence": lambda: examples_apart(recipe, task),
        "signal": lambda: signal_fades(passed()),
        "dead": lambda: units_dead(passed()),
        "saturation": lambda: units_saturated(passed()),
        "nonlinearity": lambda: nonlinear(recipe, passed()),
        "symmetry": lambda: units_differ(passed()),
    }


def slow(recipe: Recipe, task: Any) -> dict[str, Callable[[], Check]]:
    """The checks that take some seconds, to be made."""
    return {
        "gradient": lambda: gradient_agrees(recipe, task),
        "overfit a few": lambda: overfits(recipe, task),
    }


def made(wanted: Mapping[str, Callable[[], Check]]) -> tuple[list[Finding], Checks]:
    """Make checks: what their rules find, and how each went. One that breaks is a failed check, the
    others count.
    """
    done: dict[str, Check | Exception] = {}
    for name, make in wanted.items():
        try:
            done[name] = make()
        except InputError:
            raise
        except Exception as error:
            done[name] = error
    return run_rules([r for r in recipe_rules.ALL if r.needs in wanted], Beforehand(done))


# C1: the first loss


def initial_loss(recipe: Recipe, task: Any, *, networks: int = NETWORKS) -> Check:
    """C1: before the first step the loss is what guessing gives.

    Compared are the mean loss of `networks` fresh networks, as training would see it (batch
    normalization by the batch, dropout on), and the loss of a network whose outputs are all 0: log
    C for C classes, log 2 for each label, half the variance of a standardized target. Outputs of SD
    σ cost about σ²/2 more, by He's rule up to 1; so the check fails where the excess is more than
    twice that and more than the chance level, or if the loss is not finite. Beside it stands the
    best that a constant can do: H(y), the entropy of the classes, or the same half variance. Below
    that no untrained network should be, so a first loss whose whole interval is below it fails,
    too.
    """
    values = starting_losses(recipe, task, networks)
    examples = evenly_spaced(task.train, affordable_count(task.signature, EXAMPLES))
    chance = chance_level(recipe.loss, examples, task.outputs)  # type: ignore[arg-type]
    least = constant_level(recipe.loss, examples, task.outputs)  # type: ignore[arg-type]
    found = t_interval(values)
    numbers = {
        "initial loss": found.value,
        "low": found.low,
        "high": found.high,
        "chance": chance,
        "constant": least,
    }
    said = (
        f"the first loss is {_shown(found)}; guessing gives {chance:.3g}, the best constant "
        f"{least:.3g}"
    )
    if not math.isfinite(found.value):
        said = (
            f"the first loss is {found.value}: look for values that are not finite in the data, "
            f"or weights that "
        )
        return Check(
            "initial loss",
            False,
            said + "start too large",
            numbers,
            _not_finite(examples, found.value),
        )
    summed = 1 if isinstance(recipe.loss, SoftmaxCrossEntropy) else task.outputs
    limit = chance + max(chance, 2 * HE * summed)
    if found.value > limit and found.low > chance:
        evidence = Evidence("first loss", found.value, "", limit, f"guessing gives {chance:.3g}")
        seen = dataclasses.replace(
            _too_large(recipe, task, examples, limit),
            evidence=(evidence,),
            title="the first loss is far above that of guessing",
        )
        return Check(
            "initial loss",
            False,
            said + ". The outputs start too large: smaller weights in the last layer "
            "(network.zero_output = true), or a scaled target",
            numbers,
            seen,
        )
    if found.high < (1 - 1e-6) * least:
        evidence = Evidence(
            "first loss", found.value, "", least, "the best constant gives that limit"
        )
        seen = Observation(
            title="a fresh network is better than any constant",
            cause="leakage",
            evidence=(evidence,),
        )
        return Check(
            "initial loss",
            False,
            said
            + (
                ". No untrained network can be better than that: something of the target is in the "
                "loss already"
            ),
            numbers,
            seen,
        )
    return Check("initial loss", True, said, numbers)


def _not_finite(examples: Examples, value: float) -> Observation:
    """What a first loss that is not finite points to: the data, if they are not, else the
    weights.
    """
    assert examples.targets is not None
    finite = bool(examples.numbers.isfinite().all() and examples.targets.isfinite().all())
    text = f"it is {value}; the examples are " + ("finite" if finite else "not")
    return Observation(
        title="the first loss is not finite",
        severity="error",
        confidence="exact",
        cause="initialization" if finite else "data-degenerate",
        suspects=("exploding",) if finite else (),
        evidence=(Evidence("first loss", None, text=text),),
    )


def _too_large(recipe: Recipe, task: Any, examples: Examples, limit: float) -> Observation:
    """Why outputs start too large: the target's size, dropout, the inputs' size, or the starting
    weights.
    """
    assert examples.targets is not None
    regression = task.kind == "regression"
    if regression and float(examples.targets.double().square().mean().sqrt()) > LOUD:
        return Observation(
            where=", ".join(task.targets),
            cause="target-scale",
            changes=(Change("encoding.target", "auto"),),
        )
    calm = recipe.vary(
        "network", replace_everywhere(recipe.network, {"dropout": None, "spatial_dropout": None})
    )
    if (
        calm.network != recipe.network
        and float(np.mean(starting_losses(calm, task, NETWORKS))) <= limit
    ):
        return Observation(
            where="network.dropout", cause="dropout", changes=(Change("network.dropout", None),)
        )
    if (
        task.signature.image is None
        and float(examples.numbers.double().square().mean().sqrt()) > LOUD
    ):
        return Observation(
            cause="input-scale",
            suspects=("initialization",),
            changes=(Change("encoding.scale", "standard"),),
        )
    changes = (Change("network.initializer", {"name": "He"}),)
    return Observation(where="output", suspects=("input-scale",), changes=changes)


def chance_level(loss: Loss, examples: Examples, outputs: int) -> float:
    """The loss of a network whose outputs are all 0: every class is equally likely, every number is
    the mean.

    >>> examples = Examples(torch.zeros(4, 1), targets=torch.tensor([0, 1, 2, 0]))
    >>> round(chance_level(SoftmaxCrossEntropy(), examples, 3), 4)  # log 3
    1.0986
    """
    return _constant_loss(loss, examples, torch.zeros(outputs, dtype=torch.float64))


def constant_level(loss: Loss, examples: Examples, outputs: int) -> float:
    """The least loss of a network whose outputs are the same for all examples: H(y), ½ Var y, mean
    |y − median|.

    >>> examples = Examples(torch.zeros(4, 1), targets=torch.tensor([0, 0, 0, 1]))
    >>> round(constant_level(SoftmaxCrossEntropy(), examples, 2), 4)  # ¾ log 4/3 + ¼ log 4
    0.5623
    """
    y = examples.targets
    assert y is not None
    if isinstance(loss, SoftmaxCrossEntropy):
        share = torch.bincount(y.reshape(-1).long(), minlength=outputs).double() / y.numel()
        smoothing = float(loss.label_smoothing)
        return _constant_loss(
            loss, examples, ((1 - smoothing) * share + smoothing / outputs).clamp_min(1e-12).log()
        )
    if isinstance(loss, BinaryCrossEntropy):
        share, smoothing = y.double().reshape(len(y), -1).mean(0), float(loss.label_smoothing)
        return _constant_loss(
            loss, examples, torch.logit((1 - smoothing) * share + smoothing / 2, eps=1e-12)
        )
    flat = y.double().reshape(len(y), -1)
    if isinstance(loss, SquaredError):
        return _constant_loss(loss, examples, flat.mean(0))
    if isinstance(loss, AbsoluteError):
        return _constant_loss(loss, examples, flat.quantile(0.5, 0))
    tried = [
        _constant_loss(loss, examples, flat.quantile(q, 0))
        for q in torch.linspace(0, 1, 41, dtype=torch.float64)
    ]
    return min(*tried, _constant_loss(loss, examples, flat.mean(0)))


def _constant_loss(loss: Loss, examples: Examples, outputs: Tensor) -> float:
    everywhere = outputs.expand(1, examples.count, len(outputs))
    return float(_each(loss, everywhere, examples.to("cpu", torch.float64)).mean())


def _each(loss: Loss, outputs: Tensor, examples: Examples) -> Tensor:
    targets = examples.targets
    assert targets is not None
    return loss.per_example(outputs, targets.expand(len(outputs), *targets.shape))


# C2: penalties


def penalty_raises(recipe: Recipe, task: Any, *, networks: int = 4) -> Check:
    """C2: the stronger the penalty, the higher the loss; and by exactly what the penalty's formula
    says.

    The formula is worked out here once more, weight matrix by weight matrix in float64, biases and
    scales left out.
    """
    if not recipe.penalties:
        said = "the recipe has no penalties"
        if getattr(recipe.optimizer, "weight_decay", 0):
            said += " (weight decay is part of the optimizer's step, not of the loss)"
        return Check("penalty", None, said)
    built = BatchedNetwork(stack([recipe] * networks).network, task.signature)
    weights, _ = built.start(list(range(recipe.seed, recipe.seed + networks)))
    weights, decays = weights.double(), built.layout.decays(dtype=torch.float64)
    tensors = built.layout.views(weights)
    matrices = [tensors[s.name].flatten(1) for s in built.layout.slots if s.role == "weight"]
    numbers: dict[str, float] = {}
    rises, worst, by_hand = True, 0.0, True
    for place, penalty in enumerate(recipe.penalties):
        values = []
        for times in (0.0, 1.0, 10.0, 100.0):
            part: Any = penalty
            stronger = dataclasses.replace(part, strength=float(part.strength) * times)
            value = stronger.value(weights, decays)[:, 0]
            values.append(value)
            expected = closed_form(stronger, matrices)
            if expected is None:
                by_hand = False
            else:
                worst = max(
                    worst,
                    float(((value - expected).abs() / expected.abs().clamp_min(1e-300)).max()),
                )
        added = torch.stack(values)
        # nothing to raise where the strength or every weight is 0
        rises = rises and bool((added.diff(dim=0) > 0).all())
        numbers[f"{type(penalty).__name__} {place}"] = float(added[1].mean())
    said = ", ".join(
        f"{name.split()[0]} adds {value:.3g} to the first loss" for name, value in numbers.items()
    )
    if by_hand:
        numbers["relative difference from the closed form"] = worst
    if not rises:
        seen = Observation(
            where="penalties",
            evidence=(
                Evidence(
                    "added by the penalties at 1 to 100 times their strength",
                    float(added[1].mean()),
                    "",
                    0.0,
                    "nothing more at a higher one",
                ),
            ),
        )
        return Check(
            "penalty",
            False,
            said + "; stronger penalties do not raise it: is a strength 0, or every weight?",
            numbers,
            seen,
        )
    if worst > 1e-9:
        seen = Observation(
            where="penalties",
            title="a penalty is not what its formula says",
            severity="error",
            evidence=(Evidence("difference from the formula", worst, "relative", 1e-9),),
        )
        return Check(
            "penalty",
            False,
            said + f"; by the formula it should be {worst:.2g} (relative) off that",
            numbers,
            seen,
        )
    return Check(
        "penalty", True, said + ", and ten times as much at ten times the strength", numbers
    )


def closed_form(penalty: Any, matrices: list[Tensor]) -> Tensor | None:
    """What a penalty adds, [P], from the weight matrices [P, ...] alone; None for a penalty unknown
    here.

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


# C3: a few examples


def overfits(
    recipe: Recipe, task: Any, *, few: int = FEW, steps: int = STEPS, seeds: int = 2
) -> Check:
    """C3: fresh networks learn a few examples by heart: their loss falls to about zero within
    `steps` steps.

    About zero is 2 % of the chance level. The networks are the recipe's, without what is meant to
    stand in the way of learning by heart (dropout, penalties, weight decay, label smoothing,
    augmentation), on all `few` examples at every step, at the recipe's learning rate; where that
    fails, at a tenth and ten times of it; and then far from it, too. Examples with equal inputs
    count once.
    """
    chosen = _distinct(evenly_spaced(task.train, 20 * few), few)
    if chosen.count < 2:
        return Check("overfit a few", None, "all training examples have the same inputs")
    bare = unhindered(recipe)
    level = constant_level(bare.loss, chosen, task.outputs)  # type: ignore[arg-type]
    if level < 1e-6:
        return Check("overfit a few", None, "the few examples all have the same target")
    lr = float(recipe.optimizer.lr)
    small = dataclasses.replace(task, train=chosen, validation=None, test=None)
    limit = LEARNED * level
    tried: dict[float, tuple[float, float]] = {}
    for count in dict.fromkeys(
        (min(SOON, steps), steps)
    ):  # most learn soon: then nothing else has to be tried
        if 1.0 not in tried or not math.isfinite(tried[1.0][0]):
            tried = _by_heart(bare, small, RATES[:1], limit, steps=count, seeds=seeds)
    if not math.isfinite(tried[1.0][0]):
        tried |= _by_heart(bare, small, RATES[1:], limit, steps=steps, seeds=seeds)
    if not any(math.isfinite(step) for step, _ in tried.values()):
        tried |= _by_heart(bare, small, FAR_RATES, limit, steps=steps, seeds=seeds)
    numbers = {"examples": float(chosen.count), "chance": level}
    for times, (step, loss) in tried.items():
        numbers |= {f"steps at lr {lr * times:g}": step, f"least loss at lr {lr * times:g}": loss}
    if math.isfinite(tried[1.0][0]):
        said = f"{chosen.count} examples are learned by heart in {tried[1.0][0]:.0f} steps"
        return Check(
            "overfit a few", True, said + f" (loss {level:.3g} to below {limit:.2g})", numbers
        )
    best = min(tried, key=lambda times: (tried[times][0], abs(math.log(times))))
    if math.isfinite(tried[best][0]):
        said = (
            f"{chosen.count} examples are learned by heart only at another learning rate: "
            f"{lr * best:g} takes"
        )
        said += f" {tried[best][0]:.0f} steps, the recipe's {lr:g} does not in {steps}"
        far = best not in RATES
        seen = Observation(
            where=lr_path(recipe),
            severity="warning" if far else "note",
            suspects=("too-few-steps",),
            title=f"a few examples are learned by heart only at a learning rate {best:g} times as "
            f"high",
            cause="learning-rate-low" if best > 1 else "learning-rate-high",
            evidence=(
                Evidence(
                    "steps to learn them",
                    tried[best][0],
                    "",
                    None,
                    f"at {lr * best:g}; at {lr:g} they are not learned in {steps}",
                ),
            ),
            changes=(Change(lr_path(recipe), lr * best),),
        )
        return Check("overfit a few", not far, said, numbers, seen)
    least = min(loss for _, loss in tried.values())
    said = (
        f"{chosen.count} examples are not learned in {steps} steps at any of {len(tried)} "
        f"learning rates: the least "
    )
    said += (
        f"loss is {least:.3g}, guessing gives {level:.3g}. Something between data, loss and "
        f"update is broken, or "
    )
    nearest = min(tried, key=lambda times: tried[times][1])
    evidence = Evidence(
        "least loss", least, "", limit, f"of {chosen.count} examples; guessing gives {level:.3g}"
    )
    seen = Observation(
        where="network", evidence=(evidence,), suspects=("hidden-activation", "initialization")
    )
    if (
        nearest in FAR_RATES and least < HALF * level < tried[1.0][1]
    ):  # no rate is enough, but one far away is nearest
        seen = Observation(
            where=lr_path(recipe),
            cause="learning-rate-low" if nearest > 1 else "learning-rate-high",
            suspects=("architecture-too-small",),
            evidence=(evidence,),
            changes=(Change(lr_path(recipe), lr * nearest),),
        )
    return Check("overfit a few", False, said + "the network is far too small", numbers, seen)


def _by_heart(
    bare: Recipe, small: Any, rates: tuple[float, ...], limit: float, *, steps: int, seeds: int
) -> dict[float, tuple[float, float]]:
    """By multiple of the recipe's learning rate: steps to a loss below a limit (∞: it stayed
    above), and the least.
    """
    lr = float(bare.optimizer.lr)
    path = lr_path(bare)
    recipes = [
        bare.vary(path, lr * times).vary("epochs", steps).vary("seeds", seeds) for times in rates
    ]
    runs = train_on([small] * len(recipes), recipes, workers=1)
    return {times: _reached(run.record, limit) for times, run in zip(rates, runs, strict=True)}


def unhindered(recipe: Recipe) -> Recipe:
    """The recipe without all that stands in the way of learning by heart, on all examples at a
    constant rate.

    >>> from ravine.catalog import named_recipe
    >>> unhindered(named_recipe("default")).network.dropout is None
    True
    """
    plain = dataclasses.replace(
        recipe,
        penalties=(),
        augment=(),
        stop=None,
        average=None,
        clip=recipe.clip,
        schedule=Constant(),
        batch="all",
        class_weights="none",
    )
    off = {"dropout": None, "weight_decay": 0.0, "label_smoothing": 0.0, "snapshots": None}
    return replace_everywhere(plain, off)


def _distinct(examples: Examples, count: int) -> Examples:
    """At most `count` examples, no two with the same inputs; as many different targets as possible
    come first.
    """
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
    order = [
        places[turn] for turn in range(turns) for places in by_target.values() if turn < len(places)
    ]
    chosen = examples.take(torch.tensor(sorted(order[:count]), dtype=torch.int64))
    return dataclasses.replace(chosen, weights=None)


def _reached(record: Any, limit: float) -> tuple[float, float]:
    """The step at which the last member's training loss fell below a limit (∞: not all did), and
    their least loss.
    """
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
