"""Assertions about a short training: a small batch is learned, and a resumed run goes on as if it
had not stopped.

Copies train: the model, the optimizer and random numbers are left as they were.
"""

import copy
import dataclasses
import io
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ravine.diagnosis.initialization.loss_probe import probe_loss
from ravine.diagnosis.initialization.probed_program import copy_model, leave_out_dropout_
from ravine.diagnosis.initialization.profile import LossProfile, StartProfile
from ravine.diagnosis.initialization.rules_loss import reversed_loss, unfit_output_activation
from ravine.diagnosis.recipe_rules import (
    LEARNED_LOSS,
    OverfitAttempt,
    RecipeProfile,
    SmallBatchFit,
    small_batch_not_overfit,
)
from ravine.diagnosis.resume_rules import ResumeComparison, resumed_differently
from ravine.errors import InputError
from ravine.rng import seed_generators
from ravine.statistics import even_places
from ravine.testing.given import Given, explain_errors, read_batch, undisturbed
from ravine.testing.start_checks import fail_on

SMALL_BATCH = 16  # examples of a batch that are to be learned
RATE_FACTORS = (
    1.0,
    10.0,
    0.1,
    100.0,
)  # of the optimizer's learning rate, each where none before learns
DEFAULT_RATE = 1e-3  # of Adam, where no optimizer is given


def assert_learns_a_batch(
    model: nn.Module,
    loss: Any,
    batch: Any,
    *,
    optimizer: Any = None,
    steps: int = 600,
    seed: int = 0,
) -> None:
    """Assert that the model learns a small batch by heart: 16 different examples of this one
    (RVN-C03), under a loss that prefers right answers (RVN-I09).

    The loss must fall to 2 % of that of the best constant answer (where that is not known, of the
    first loss), above that of right answers, within `steps` steps, at the optimizer's learning rate
    or 10, 0.1 or 100 times it. `optimizer` is one on the model's parameters, or a function from
    parameters to one; Adam with a rate of 0.001 if none is given. Dropout is left out.

    >>> net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 1))
    >>> x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    >>> assert_learns_a_batch(net, nn.functional.mse_loss, (x, x[:, :1] * x[:, 1:]))
    """
    __tracebackhide__ = True
    with undisturbed(seed), explain_errors():
        given = read_batch(model, loss, batch, (optimizer, None))
        rows = given.distinct_rows()
        rows = rows[even_places(len(rows), SMALL_BATCH)]
        known = _profile_loss(given, rows, seed)
        fit = _fit_small_batch(given, rows, known, steps=steps, seed=seed)
    start = StartProfile(examples=len(rows), loss=known)
    found = small_batch_not_overfit.findings(RecipeProfile(small_batch=fit))
    found = [finding for finding in found if finding.severity != "note"]
    causes = unfit_output_activation.findings(start) if found else []
    fail_on([*reversed_loss.findings(start), *causes, *found])


def assert_same_when_resumed(
    model: nn.Module,
    loss: Any,
    batch: Any,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    save: Callable[..., Any] | None = None,
    load: Callable[..., Any] | None = None,
    steps: int = 3,
    seed: int = 0,
) -> None:
    """Assert that training which is saved, loaded into new objects and resumed ends with the same
    weights and buffers, bit for bit, as training that was never stopped (RVN-C05).

    A copy makes `steps` steps, is saved, and makes as many more; a copy from before the first step
    loads what was saved and makes the same. `save(model, optimizer, scheduler)` returns what your
    checkpoint holds and `load(state, model, optimizer, scheduler)` restores it; without `scheduler`
    neither gets one. If they are not given, it holds the state dicts of all of them and torch's
    random state. It goes through `torch.save` and `torch.load`.

    `optimizer` is one on the model's parameters, or a function from parameters to one, `scheduler`
    one on that optimizer, or a function from the optimizer to one.

    >>> net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    >>> batch = torch.randn(8, 2), torch.randn(8, 1)
    >>> assert_same_when_resumed(net, nn.functional.mse_loss, batch)
    """
    __tracebackhide__ = True
    if (save is None) != (load is None):
        why = "what one writes the other reads"
        raise InputError("one of save and load is missing", why=why, do="give both, or neither")
    with undisturbed(seed), explain_errors():
        given = read_batch(model, loss, batch, (optimizer, scheduler))
        whole, resumed = (_start_training(given) for _ in range(2))
        rows, file = given.rows, io.BytesIO()
        seed_generators(seed)
        first = _state_of(*whole)
        list(_train(given, whole, steps, rows))
        torch.save((save or _save_all)(*whole), file)
        saved = _state_of(*whole)
        list(_train(given, whole, steps, rows))
        seed_generators(seed + 1)  # as in a new process
        file.seek(0)
        (load or _load_all)(torch.load(file, weights_only=False, map_location="cpu"), *resumed)
        loaded = _state_of(*resumed)
        list(_train(given, resumed, steps, rows))
        different = _differences(_model_state(whole[0]), _model_state(resumed[0]))
    changed = set(_differences(first, saved))  # random numbers that nobody draws do not matter
    lost = [name for name in _differences(saved, loaded) if name in changed]
    comparison = ResumeComparison(different=different, not_restored=tuple(lost), steps=steps)
    fail_on(resumed_differently.findings(comparison))


def _profile_loss(given: Given, rows: Tensor, seed: int) -> LossProfile:
    """What is known of the loss of some rows; nothing where outputs or targets do not tell it."""
    try:
        return probe_loss(given.probe_loss(seed, rows))
    except Exception:  # outputs or targets of several tensors
        return LossProfile()


def _fit_small_batch(
    given: Given, rows: Tensor, known: LossProfile, *, steps: int, seed: int
) -> SmallBatchFit:
    """Attempts to learn some rows, at several rates, until one has. Raises `InputError` where there
    is nothing to learn.
    """
    attempts: list[OverfitAttempt] = []
    constant, baseline = known.baselines.constant_loss, "the best constant answer"
    if constant is None:
        constant, baseline = _first_loss(given, rows), "the untrained network"
    least = known.form.right_loss or 0.0
    least = least if LEARNED_LOSS * constant < least < constant else 0.0
    if least:
        baseline = f"all above the {least:.3g} of right answers; {baseline}"
    targets = given.targets
    same = isinstance(targets, Tensor) and bool((targets[rows] == targets[rows[:1]]).all())
    if same or not constant > least:
        why = f"{baseline} to {len(rows)} examples has a loss of {constant:.3g}"
        do = "give examples with different targets, and a loss of 0 or more"
        raise InputError("there is nothing to learn in the batch", why=why, do=do)
    limit = least + LEARNED_LOSS * (constant - least)
    for factor in RATE_FACTORS:
        seed_generators(seed)
        model, optimizer, *_ = _start_training(given)
        leave_out_dropout_(model)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        losses: list[float] = []
        for value in _train(given, (model, optimizer), steps, rows):
            losses.append(value if math.isfinite(value) else math.inf)
            if value < limit:
                break
        learned = float(len(losses)) if losses[-1] < limit else math.inf
        lr = float(optimizer.param_groups[0]["lr"])
        attempts.append(
            OverfitAttempt(lr=lr, factor=factor, steps=learned, least_losses=(min(losses) - least,))
        )
        if math.isfinite(learned):
            break
    return SmallBatchFit(
        examples=len(rows),
        constant_loss=constant - least,
        max_steps=steps,
        lr_path="lr",
        attempts=tuple(attempts),
        baseline=baseline,
    )


def _first_loss(given: Given, rows: Tensor) -> float:
    model = copy_model(given.model, training=True)
    run, loss, targets = dataclasses.replace(given, model=model).with_loss(rows)
    return float(loss(run(rows), targets).detach())


def _start_training(given: Given) -> tuple[Any, ...]:
    """Copies of the model in training mode, its optimizer, and a scheduler if there is one."""
    model, (optimizer, scheduler) = copy.deepcopy((given.model, given.optimizer))
    model.train()
    if optimizer is None:
        optimizer = Adam(model.parameters(), lr=DEFAULT_RATE)
    elif not isinstance(optimizer, Optimizer):
        optimizer = optimizer(model.parameters())
    if scheduler is None:
        return model, optimizer
    return model, optimizer, scheduler if hasattr(scheduler, "step") else scheduler(optimizer)


def _train(given: Given, training: Sequence[Any], steps: int, rows: Tensor) -> Iterator[float]:
    """Make steps on some rows. Yields the loss of each, as it was before the step."""
    model, optimizer, *schedulers = training
    run, loss, targets = dataclasses.replace(given, model=model).with_loss(rows)
    leaves = [p for p in model.parameters() if p.requires_grad]  # no gradient lands elsewhere

    def compute_gradients() -> Tensor:
        optimizer.zero_grad()
        value = loss(run(rows), targets)
        if value.requires_grad and leaves:
            value.backward(inputs=leaves)
        return value.detach()

    for _ in range(steps):
        value = compute_gradients()
        optimizer.step(*([compute_gradients] if isinstance(optimizer, LBFGS) else []))
        for scheduler in schedulers:
            scheduler.step(*([value] if isinstance(scheduler, ReduceLROnPlateau) else []))
        yield float(value)


# Saving and loading


def _save_all(model: nn.Module, optimizer: Optimizer, *scheduler: Any) -> dict[str, Any]:
    """The state dicts of all, and the state of all random generators."""
    states = [each.state_dict() for each in (model, optimizer, *scheduler)]
    return {"states": states, "random": _random_states()}


def _load_all(saved: dict[str, Any], *objects: Any) -> None:
    for each, state in zip(objects, saved["states"], strict=True):
        each.load_state_dict(state)
    saved = saved["random"]
    torch.set_rng_state(saved["torch"])
    if "torch.cuda" in saved:
        torch.cuda.set_rng_state_all(saved["torch.cuda"])
    np.random.set_state(saved["numpy"])
    random.setstate(saved["random"])


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "numpy": np.random.get_state()}
    if torch.cuda.is_initialized():
        states["torch.cuda"] = torch.cuda.get_rng_state_all()
    return states | {"random": random.getstate()}


def _state_of(model: nn.Module, optimizer: Optimizer, *scheduler: Any) -> dict[str, object]:
    """All that may change in training, by name: what state dicts hold, and what they leave out."""
    named = [(f"model: {name}.".replace(" .", " "), part) for name, part in model.named_modules()]
    named += [("optimizer: ", optimizer), *(("scheduler: ", each) for each in scheduler)]
    found = {f"{kind}{k}": v for kind, part in named for k, v in _flatten(vars(part))}
    return found | {f"random numbers: {k}": v for k, v in _flatten(_random_states())}


def _model_state(model: nn.Module) -> dict[str, object]:
    """Parameters and buffers by name, those among them that the state dict leaves out, too."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value for name, tensor in named for _, value in _flatten(tensor)}


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, object]]:
    """Numbers, texts, and tensors by their bits, in dicts and lists, by name; nothing else."""
    value = value.get_state() if isinstance(value, torch.Generator) else value
    if isinstance(value, Tensor | np.ndarray):
        array = torch.as_tensor(value).detach().cpu().contiguous()
        bits = array.flatten().view(torch.uint8).numpy().tobytes()
        yield name, (str(array.dtype), array.shape, bits)
    elif isinstance(value, bool | int | float | str):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        items = list(value.items() if isinstance(value, Mapping) else enumerate(value))
        for place, (key, item) in enumerate(items):
            if key not in ("params", "_opt_called"):  # the model's; what torch warns by
                key = f"parameter {place}" if isinstance(key, Tensor) else str(key)
                yield from _flatten(item, f"{name}.{key}" if name else key)


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    names = dict.fromkeys((*one, *other))
    return tuple(name for name in names if one.get(name) != other.get(name))
