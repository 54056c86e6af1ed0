"""Evidence for causes in the settings of a recipe, and what to change for each."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ravine.data import Task
from ravine.examination.recipe_changes import HE_START, ZERO_BIAS
from ravine.examination.remedies import SUSPECT_DROPOUT_RATE
from ravine.examination.subject import Facts
from ravine.finding import Change, Evidence
from ravine.networks.activations import Identity
from ravine.networks.initializers import Glorot, He, LeCun, Orthogonal, TorchDefault
from ravine.networks.mlp import Mlp
from ravine.recipe import Recipe, lr_path
from ravine.schedules import Constant, Cosine, WarmUp
from ravine.serialization import get, iterate_settings
from ravine.training.defaults import training_plan

LOWER_RATE_FACTORS = (0.1, 0.01, 0.001)
HIGHER_RATE_FACTORS = (3.0, 10.0, 100.0, 1000.0)
EPOCH_FACTORS = (3, 10, 30)
MAX_LONGER_STEPS = 1500  # of a longer run that is tried
MAX_SHRINKAGE = 3.0  # weight decay · rate · steps: e^-3 of a weight without a gradient is left
MIN_SMOOTHING = 0.4  # of labels
SMALL_WIDTH = 32  # units of the widest layer
WIDE_LAYERS = [256, 256]
FEW_EPOCH_STEPS, MANY_EXAMPLES = 4, 64  # steps of so many examples that are few
WIDTH_AWARE = (He, Glorot, LeCun, Orthogonal, TorchDefault)  # initializers that mind the width
DROPOUT_SETTINGS = ("dropout", "spatial_dropout")

ChangeSet: TypeAlias = tuple[Change, ...]  # made together


def _rates(recipe: Recipe, factors: Sequence[float]) -> Iterator[ChangeSet]:
    """Multiples of the learning rate; and the optimizer's usual rate, if it is further off."""
    path = lr_path(recipe)
    lr = float(get(recipe, path))
    usual = float(type(get(recipe, path.rpartition(".")[0]))().lr)
    rates = [float(f"{lr * factor:.6g}") for factor in factors]
    further = usual < min(rates) if factors[0] < 1 else usual > max(rates)
    for rate in (*rates, usual) if further else rates:
        yield (Change(path, rate),)


def _more_epochs(recipe: Recipe, task: Task) -> Iterator[ChangeSet]:
    assert recipe.epochs is not None  # resolved
    for factor in EPOCH_FACTORS:
        if factor * training_plan(recipe, task).steps <= MAX_LONGER_STEPS:
            yield (Change("epochs", factor * recipe.epochs),)


def _smaller_batch(recipe: Recipe, task: Task) -> Iterator[ChangeSet]:
    usual = 2 ** round(math.log2(max(1, task.train.count / 30)))
    yield (Change("batch", min(256, max(16, usual))),)


def _less_regularization(recipe: Recipe, task: Task) -> Iterator[ChangeSet]:
    for path, _ in _weight_decays(recipe):
        yield (Change(path, 0.0),)
    if recipe.penalties:
        yield (Change("penalties", []),)
    if _label_smoothing(recipe) >= MIN_SMOOTHING:
        yield (Change("loss.label_smoothing", 0.0),)


def _other_start(recipe: Recipe, task: Task) -> Iterator[ChangeSet]:
    network = recipe.network
    fitted = getattr(network, "parametrization", "standard") == "standard"
    if hasattr(network, "initializer") and fitted:
        yield (HE_START, ZERO_BIAS) if hasattr(network, "bias") else (HE_START,)


def _no_dropout(recipe: Recipe, task: Task) -> Iterator[ChangeSet]:
    settings = (n for n in DROPOUT_SETTINGS if getattr(recipe.network, n, None) is not None)
    yield tuple(Change(f"network.{name}", None) for name in settings)


def _one_change(path: str, value: Any) -> Callable[[Recipe, Task], Iterable[ChangeSet]]:
    return lambda recipe, task: ((Change(path, value),),)


# What may be changed for a cause, from weak to strong
CHANGES_BY_CAUSE: Mapping[str, Callable[[Recipe, Task], Iterable[ChangeSet]]] = {
    "input-scale": _one_change("encoding.scale", "standard"),
    "target-scale": _one_change("encoding.target", "standard"),
    "imbalance": _one_change("class_weights", "balanced"),
    "hidden-activation": _one_change("network.activation", {"name": "ReLU"}),
    "architecture-too-small": _one_change("network.hidden", WIDE_LAYERS),
    "gradient-clipping": _one_change("clip", None),
    "learning-rate-low": lambda recipe, task: _rates(recipe, HIGHER_RATE_FACTORS),
    "learning-rate-high": lambda recipe, task: _rates(recipe, LOWER_RATE_FACTORS),
    "too-few-steps": _more_epochs,
    "batch-size": _smaller_batch,
    "over-regularized": _less_regularization,
    "schedule": lambda recipe, task: [
        (Change("schedule", {"name": name}),) for name in ("Cosine", "Constant")
    ],
    "dropout": _no_dropout,
    **dict.fromkeys(("initialization", "dead-units", "saturation"), _other_start),
    **dict.fromkeys(("vanishing", "exploding"), _other_start),
}


# What the settings say


def _rate_facts(recipe: Recipe, task: Task) -> Facts:
    return Facts((), lr_path(recipe))


def _batch_facts(recipe: Recipe, task: Task) -> Facts | None:
    per_epoch = training_plan(recipe, task).per_epoch
    if per_epoch > FEW_EPOCH_STEPS or task.train.count < MANY_EXAMPLES:
        return None
    evidence = Evidence("steps in an epoch", per_epoch, limit=FEW_EPOCH_STEPS)
    return Facts((evidence,), "batch", ("too-few-steps",))


def _dropout_facts(recipe: Recipe, task: Task) -> Facts | None:
    parts = {name: getattr(recipe.network, name, None) for name in DROPOUT_SETTINGS}
    rates = {name: float(getattr(part, "rate", 0.0)) for name, part in parts.items()}
    name = max(rates, key=lambda n: rates[n])
    if rates[name] <= 0:
        return None
    evidence = Evidence("dropout rate", rates[name], limit=SUSPECT_DROPOUT_RATE)
    suspect = rates[name] >= SUSPECT_DROPOUT_RATE
    return Facts((evidence,) if suspect else (), f"network.{name}", ("over-regularized",))


def _regularization_facts(recipe: Recipe, task: Task) -> Facts:
    for path, value in _weight_decays(recipe):
        shrinkage = value * float(recipe.optimizer.lr) * training_plan(recipe, task).steps
        if shrinkage > MAX_SHRINKAGE:
            left = f"e^-{shrinkage:.3g} is left of a weight without a gradient"
            return Facts((Evidence("weight decay", value, text=left),), path)
    if recipe.penalties:
        names = ", ".join(map(repr, recipe.penalties))
        return Facts((Evidence("penalties", len(recipe.penalties), text=names),), "penalties")
    smoothing = _label_smoothing(recipe)
    if smoothing >= MIN_SMOOTHING:
        evidence = Evidence("label smoothing", smoothing, limit=MIN_SMOOTHING)
        return Facts((evidence,), "loss.label_smoothing")
    return Facts(())


def _activation_facts(recipe: Recipe, task: Task) -> Facts | None:
    activation = getattr(recipe.network, "activation", None)
    if activation is None:
        return None
    evidence = Evidence("activation between the layers", None, text="Identity")
    return Facts((evidence,) if isinstance(activation, Identity) else (), "network.activation")


def _start_facts(recipe: Recipe, task: Task) -> Facts:
    initializer = getattr(recipe.network, "initializer", None)
    evidence: tuple[Evidence, ...] = ()
    if initializer is not None and not isinstance(initializer, WIDTH_AWARE):
        name = "initializer that does not depend on the width"
        evidence = (Evidence(name, None, text=repr(initializer)),)
    return Facts(evidence, "network.initializer")


def _width_facts(recipe: Recipe, task: Task) -> Facts | None:
    network = recipe.network
    width = max(network.hidden, default=0) if isinstance(network, Mlp) else 0
    if not 0 < width < SMALL_WIDTH:
        return None
    evidence = Evidence("units of the widest hidden layer", width, limit=SMALL_WIDTH)
    return Facts((evidence,), "network.hidden")


def _schedule_facts(recipe: Recipe, task: Task) -> Facts | None:
    usual = isinstance(recipe.schedule, (Cosine, WarmUp, Constant))
    return None if usual else Facts((), "schedule", ("learning-rate-low",))


def _clip_facts(recipe: Recipe, task: Task) -> Facts | None:
    return None if recipe.clip is None else Facts((), "clip", ("learning-rate-low",))


# Evidence for a cause
RECIPE_FACTS: Mapping[str, Callable[[Recipe, Task], Facts | None]] = {
    "learning-rate-low": _rate_facts,
    "learning-rate-high": _rate_facts,
    "too-few-steps": lambda recipe, task: Facts((), "epochs"),
    "batch-size": _batch_facts,
    "dropout": _dropout_facts,
    "over-regularized": _regularization_facts,
    "hidden-activation": _activation_facts,
    "initialization": _start_facts,
    "architecture-too-small": _width_facts,
    "schedule": _schedule_facts,
    "gradient-clipping": _clip_facts,
}


def _label_smoothing(recipe: Recipe) -> float:
    return float(getattr(recipe.loss, "label_smoothing", 0.0))


def _weight_decays(recipe: Recipe) -> Iterator[tuple[str, float]]:
    """The weight decays above 0 of an optimizer and of those in it, by path."""
    for path, value in iterate_settings(recipe.optimizer, "optimizer"):
        if path.endswith(".weight_decay") and value > 0:
            yield path, float(value)
