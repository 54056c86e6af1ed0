"""Assertions about a short training: it learns a small batch, it resumes as if never stopped.

Copies train: the model, the optimizer and random numbers are left as they were.
"""

import copy
import io
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from ravine.testing.start_checks import fail_on
from ravine.testing.tested_model import TestedModel, isolate_test, read_batch

SMALL_BATCH = 16  # examples of a batch that are to be learned
LEARNING_RATE_FACTORS = (1.0, 10.0, 0.1, 100.0)  # each where none before learns
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
    """
    __tracebackhide__ = True
    with isolate_test(seed):
        given = read_batch(model, loss, batch, (optimizer, None))
        rows = given.distinct_rows()
        rows = rows[even_places(len(rows), SMALL_BATCH)]
        try:
            known = probe_loss(given.probe_loss(seed, rows))
        except Exception:  # outputs or targets of several tensors
            known = LossProfile()
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
    weights and buffers, bit for bit, as training that was never stopped (RVN-C15).

    `save(model, optimizer, scheduler)` returns what your checkpoint holds, which goes through
    `torch.save` and `torch.load`, and `load(state, model, optimizer, scheduler)` restores it;
    without `scheduler` neither gets one. If they are not given, it is the state dicts of all and
    the states of the random generators. `optimizer` is one on the model's parameters, or a function
    from parameters to one, `scheduler` one on that optimizer, or a function from it to one.
    """
    __tracebackhide__ = True
    if (save is None) != (load is None):
        why = "what one writes the other reads"
        raise InputError("one of save and load is missing", why=why, do="give both, or neither")
    with isolate_test(seed):
        given, file = read_batch(model, loss, batch, (optimizer, scheduler)), io.BytesIO()
        whole, resumed = _start_training(given), _start_training(given)
        seed_generators(seed)
        first = _state_of(*whole)
        list(_train(given, whole, steps, given.rows))
        torch.save((save or _save_all)(*whole), file)
        saved = _state_of(*whole)
        list(_train(given, whole, steps, given.rows))
        seed_generators(seed + 1)  # as in a new process
        file.seek(0)
        (load or _load_all)(torch.load(file, weights_only=False, map_location="cpu"), *resumed)
        loaded = _state_of(*resumed)
        list(_train(given, resumed, steps, given.rows))
        ends = [_named_values({"model": _tensors_of(each[0])}) for each in (whole, resumed)]
    changed = {*_differences(first, saved)}  # random numbers that nobody draws do not matter
    lost = tuple(name for name in _differences(saved, loaded) if name in changed)
    comparison = ResumeComparison(different=_differences(*ends), not_restored=lost, steps=steps)
    fail_on(resumed_differently.findings(comparison))


def _fit_small_batch(
    given: TestedModel, rows: Tensor, known: LossProfile, *, steps: int, seed: int
) -> SmallBatchFit:
    """Attempts at several rates to learn some rows; `InputError` if there is nothing to learn."""
    constant, baseline = known.baselines.constant_loss, "the best constant answer"
    if constant is None:
        untrained = replace(given, model=copy_model(given.model, training=True))
        run, loss, targets = untrained.with_loss(rows)
        constant, baseline = float(loss(run(rows), targets).detach()), "the untrained network"
    least = known.form.right_loss or 0.0
    least = least if LEARNED_LOSS * constant < least < constant else 0.0
    targets = given.targets
    same = isinstance(targets, Tensor) and bool((targets[rows] == targets[rows[:1]]).all())
    if same or not constant > 0:
        why = f"{baseline} to {len(rows)} examples has a loss of {constant:.3g}"
        do = "give examples with different targets, and a loss of 0 or more"
        raise InputError("there is nothing to learn in the batch", why=why, do=do)
    if least:
        baseline = f"all above the {least:.3g} of right answers; {baseline}"
    limit, attempts = least + LEARNED_LOSS * (constant - least), []
    for factor in LEARNING_RATE_FACTORS:
        seed_generators(seed)
        model, optimizer = _start_training(given)
        leave_out_dropout_(model)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        lowest, learned = math.inf, math.inf
        for step, value in enumerate(_train(given, (model, optimizer), steps, rows), 1):
            lowest = min(lowest, value)  # infinite where all are NaN
            if value < limit:
                learned = float(step)
                break
        lr, losses = float(optimizer.param_groups[0]["lr"]), (lowest - least,)
        attempts.append(OverfitAttempt(lr=lr, factor=factor, steps=learned, least_losses=losses))
        if learned < math.inf:
            break
    return SmallBatchFit(
        examples=len(rows),
        constant_loss=constant - least,
        max_steps=steps,
        lr_path="lr",
        attempts=tuple(attempts),
        baseline=baseline,
    )


def _start_training(given: TestedModel) -> tuple[Any, ...]:
    """Copies of the model in training mode, its optimizer, and a scheduler if there is one."""
    model, (optimizer, scheduler) = copy.deepcopy((given.model, given.optimizer))
    model.train()
    if not isinstance(optimizer, Optimizer):
        make = optimizer or (lambda parameters: Adam(parameters, lr=DEFAULT_RATE))
        optimizer = make(model.parameters())
    if scheduler is None:
        return model, optimizer
    return model, optimizer, scheduler if hasattr(scheduler, "step") else scheduler(optimizer)


def _train(
    given: TestedModel, training: Sequence[Any], steps: int, rows: Tensor
) -> Iterator[float]:
    """Make steps on some rows. Yields the loss of each, as it was before the step."""
    model, optimizer, *schedulers = training
    run, loss, targets = replace(given, model=model).with_loss(rows)
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


def _save_all(*objects: Any) -> dict[str, Any]:
    """The state dicts of all, and the states of all random generators."""
    return {"states": [each.state_dict() for each in objects], "random": _random_states()}


def _load_all(saved: dict[str, Any], *objects: Any) -> None:
    for each, state in zip(objects, saved["states"], strict=True):
        each.load_state_dict(state)
    states = saved["random"]
    torch.set_rng_state(states["torch"])
    np.random.set_state(states["numpy"])
    random.setstate(states["random"])
    if "torch.cuda" in states:
        torch.cuda.set_rng_state_all(states["torch.cuda"])


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "numpy": np.random.get_state()}
    if torch.cuda.is_initialized():
        states["torch.cuda"] = torch.cuda.get_rng_state_all()
    return states | {"random": random.getstate()}


def _state_of(model: nn.Module, optimizer: Any, *scheduler: Any) -> dict[str, object]:
    """All that may change in training, by name: what state dicts hold, and what they leave out."""
    tensors, skipped = _tensors_of(model), ("_parameters", "_buffers", "_modules")
    for name, part in model.named_modules():
        tensors[name] = {k: v for k, v in vars(part).items() if k not in skipped}
    named: dict[str, Any] = {"model": tensors, "optimizer": vars(optimizer)}
    named |= dict(zip(("scheduler",), map(vars, scheduler), strict=False))
    return _named_values(named | {"random numbers": _random_states()})


def _tensors_of(model: nn.Module) -> dict[str, Any]:
    """Parameters and buffers by name, those among them that the state dict leaves out, too."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _named_values(value: Any, name: str = "") -> dict[str, object]:
    """Numbers, texts, and tensors by their bits, in dicts and lists, by name: "optimizer: lr"."""
    value = value.get_state() if isinstance(value, torch.Generator) else value
    if isinstance(value, Tensor | np.ndarray):
        array = torch.as_tensor(value).detach().cpu().contiguous()
        bits = array.flatten().view(torch.uint8).numpy().tobytes()
        return {name: (str(array.dtype), array.shape, bits)}
    if isinstance(value, bool | int | float | str):
        return {name: value}
    found: dict[str, object] = {}
    if isinstance(value, Mapping | list | tuple):
        items = list(value.items() if isinstance(value, Mapping) else enumerate(value))
        for place, (key, item) in enumerate(items):
            if key not in ("params", "_opt_called"):  # the model's; what torch warns by
                key = f"parameter {place}" if isinstance(key, Tensor) else str(key)
                joint = "." if ": " in name else ": "
                found |= _named_values(item, joint.join(filter(None, (name, key))))
    return found


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name))
