"""Assertions about a short training: it learns a small batch, it resumes as if never stopped.

Copies train: the model, the optimizer and random numbers are left as they were.
"""

import contextlib
import copy
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ravine.diagnosis.data.measure import measure_numbers
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.data.rules_targets import target_scale
from ravine.diagnosis.initialization.loss_probe import probe_loss
from ravine.diagnosis.initialization.pairing_probe import probe_loss_pairing
from ravine.diagnosis.initialization.probed_program import copy_model, leave_out_dropout_
from ravine.diagnosis.initialization.profile import LossProfile, StartProfile
from ravine.diagnosis.initialization.rules_exact import mispaired_targets
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
from ravine.finding import Evidence, Finding
from ravine.rng import generator_states, seed_generators, set_generator_states
from ravine.statistics import even_places, mean_and_sd
from ravine.testing.start_checks import fail_on
from ravine.testing.tested_model import TestedModel, isolate_test, read_batch

SMALL_BATCH = 16  # examples of a batch that are to be learned
LEARNING_RATE_FACTORS = (1.0, 10.0, 0.1, 100.0, 0.01, 1000.0, 0.001)  # in turn until one learns
BLIND_FALL_FRACTION = 1 / 3  # of the fall with equal inputs: by so much more a loss must fall
BLIND_RATE_FACTORS = (1.0, 10.0, 0.1)  # tried with equal inputs
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

    Within `steps` steps, at the optimizer's learning rate or 10 or 0.1 times it, all but 2 % of the
    distance from the loss of the best constant answer (the first loss where that is not known) to
    that of right answers must be gone. Where the loss falls below 0 and that of right answers is
    not known, the network is also trained on equal inputs: the loss must fall below that level by
    at least a third of the fall to it. A smaller fall raises `InputError`.

    The finding names what was measured to be at fault: targets that are paired wrongly, an output
    that cannot reach them, targets that are learned once standardized, the learning rate.
    `optimizer` is one on the model's parameters, or a function from parameters to one; Adam with a
    rate of 0.001 if none is given. Dropout is left out.
    """
    __tracebackhide__ = True
    with isolate_test(seed):
        given = read_batch(model, loss, batch, (optimizer, None))
        rows = given.distinct_rows()
        rows = rows[even_places(len(rows), SMALL_BATCH)]
        training = SmallTraining(given, rows, steps, seed, is_separate=loss is not None)
        start = _profile_loss(training)
        found = _find_not_overfit(_fit_small_batch(training, start.loss))
        causes = reversed_loss.findings(start)
        if found and not causes:
            causes = _find_causes(training, start)
    if causes:
        see = f"Mend that first: see {causes[0].code}."
        about = {"cause": causes[0].cause, "suspects": (), "changes": (), "advice": see}
        found = [replace(finding, **about) for finding in found]
    fail_on([*causes, *found])


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
        list(_train(given, whole, steps, given.rows, given.rows))
        torch.save((save or _save_all)(*whole), file)
        saved = _state_of(*whole)
        losses = [tuple(_train(given, whole, steps, given.rows, given.rows))]
        seed_generators(seed + 1)  # as in a new process
        file.seek(0)
        (load or _load_all)(torch.load(file, weights_only=False, map_location="cpu"), *resumed)
        loaded = _state_of(*resumed)
        losses.append(tuple(_train(given, resumed, steps, given.rows, given.rows)))
        ends = [_tensors_of(each[0]) for each in (whole, resumed)]
    changed = {*_differences(first, saved)}  # random numbers that nobody draws do not matter
    lost = [name for name in _differences(saved, loaded) if name in changed]
    different = _differences(*map(_named_values, ends))
    apart = {name: ends[0][name].cdouble() - ends[1][name].cdouble() for name in different}
    comparison = ResumeComparison(
        different={name: float(each.abs().max().detach()) for name, each in apart.items()},
        not_restored={name: (saved.get(name), loaded.get(name)) for name in lost},
        losses=(losses[0], losses[1]),
    )
    fail_on(resumed_differently.findings(comparison))


@dataclass(frozen=True)
class SmallTraining:
    """A model, the rows of its batch that it is to learn, and how long it may take."""

    given: TestedModel
    rows: Tensor
    steps: int
    seed: int
    is_separate: bool  # the loss is no part of the model: inputs do not hold the targets

    def attempt(self, limit: float, factor: float = 1.0, *, blind: bool = False) -> OverfitAttempt:
        """Train until the loss is below a limit; `blind`: with the first row's inputs for all."""
        seed_generators(self.seed)
        model, optimizer = _start_training(self.given)
        leave_out_dropout_(model)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        lowest, learned, seen = math.inf, math.inf, self.rows
        seen = seen[:1].expand(len(seen)) if blind else seen
        values = _train(self.given, (model, optimizer), self.steps, self.rows, seen)
        for step, value in enumerate(values, 1):
            lowest = min(lowest, value)  # infinite where all are NaN
            if value < limit:
                learned = float(step)
            if value < limit or math.isnan(value):
                break
        lr = float(optimizer.param_groups[0]["lr"])
        return OverfitAttempt(lr=lr, factor=factor, steps=learned, least_losses=(lowest,))

    def with_adam(self) -> "SmallTraining":
        """The same training with Adam at a rate of 0.001."""
        return replace(self, given=replace(self.given, optimizer=(None, None)))

    def first_loss(self) -> float:
        """The loss before the first step."""
        untrained = replace(self.given, model=copy_model(self.given.model, training=True))
        run, loss, targets = untrained.with_loss(self.rows)
        return float(loss(run(self.rows), targets).detach())

    def fit(self, constant: float, least: float, baseline: str) -> SmallBatchFit:
        """Attempts at several rates, the last with Adam."""
        fit = SmallBatchFit(
            examples=len(self.rows),
            constant_loss=constant,
            max_steps=self.steps,
            lr_path="lr",
            attempts=(),
            baseline=baseline,
            least_loss=least,
        )
        attempts: list[OverfitAttempt] = []
        for factor in LEARNING_RATE_FACTORS:
            attempts.append(self.attempt(fit.loss_at(LEARNED_LOSS), factor))
            if math.isfinite(attempts[-1].steps):
                return replace(fit, attempts=tuple(attempts))
        own = self.given.optimizer[0] is None
        by_adam = None if own else self.with_adam().attempt(fit.loss_at(LEARNED_LOSS))
        return replace(fit, attempts=tuple(attempts), by_adam=by_adam)


def _profile_loss(training: SmallTraining) -> StartProfile:
    """The loss of the rows as a function; empty for outputs or targets of several tensors."""
    try:
        known = probe_loss(training.given.probe_loss(training.seed, training.rows))
    except Exception:
        known = LossProfile()
    return StartProfile(examples=len(training.rows), loss=known)


def _find_not_overfit(fit: SmallBatchFit) -> list[Finding]:
    found = small_batch_not_overfit.findings(RecipeProfile(small_batch=fit))
    return [finding for finding in found if finding.severity != "note"]


def _find_causes(training: SmallTraining, start: StartProfile) -> list[Finding]:
    """What is measured to keep a batch from being learned, where that is not the network."""
    pairing = start.pairing
    with contextlib.suppress(Exception):  # outputs or targets of several tensors
        pairing = probe_loss_pairing(training.given.probe_loss(training.seed, training.rows))
    start = replace(start, pairing=pairing)
    found = [*mispaired_targets.findings(start), *unfit_output_activation.findings(start)]
    return found or _find_target_scale(training)


def _find_target_scale(training: SmallTraining) -> list[Finding]:
    """That targets are far from standardized, if they are learned once they are."""
    targets, rows = training.given.targets, training.rows
    if not isinstance(targets, Tensor) or not targets.is_floating_point():
        return []
    numbers = measure_numbers(targets[rows].cpu().double().numpy())
    profile = DataProfile(rows=len(rows), shape=(), layout="table", kind="numbers", targets=numbers)
    found = target_scale.findings(profile)
    mean, sd = mean_and_sd(targets[rows])
    scaled = replace(training.given, targets=((targets - mean) / sd).to(targets.dtype))
    training = replace(training, given=scaled)
    with contextlib.suppress(InputError):
        fit = _fit_small_batch(training, _profile_loss(training).loss) if found else None
        if fit is not None and not _find_not_overfit(fit):
            best = min(fit.attempts, key=lambda attempt: attempt.steps)
            name = "steps to overfit the batch with them standardized"
            learned = Evidence(name, best.steps, text=f"at a rate of {best.lr:g}")
            return [replace(f, evidence=(*f.evidence, learned), confidence="high") for f in found]
    return []


def _fit_small_batch(training: SmallTraining, known: LossProfile) -> SmallBatchFit:
    """Attempts at several rates to learn some rows; `InputError` if these cannot show it."""
    rows, targets = training.rows, training.given.targets
    constant, right = known.baselines.constant_loss, known.form.right_loss
    baseline = "the untrained network" if constant is None else "the best constant answer"
    level = training.first_loss() if constant is None else constant
    same = isinstance(targets, Tensor) and bool((targets[rows] == targets[rows[:1]]).all())
    if same or level == 0:
        why = f"{baseline} to {len(rows)} examples has a loss of {level:.3g}"
        do = "give examples with different targets"
        raise InputError("there is nothing to learn in the batch", why=why, do=do)
    least = 0.0
    if right is not None and right < level and (right < 0 or right > LEARNED_LOSS * level):
        least = right
        baseline = f"that of right answers {least:.3g}, {baseline}"
    if level < least or not math.isfinite(level):
        return _fit_by_fall(training)
    fit = training.fit(level, least, baseline)
    last = fit.attempts[-1]
    if constant is None and training.is_separate and math.isfinite(last.steps):
        again, limit = replace(training, steps=int(last.steps)), fit.loss_at(LEARNED_LOSS)
        if math.isfinite(again.attempt(limit, last.factor, blind=True).steps):
            return _fit_by_fall(training)  # a constant answer gets there, too: 0 is not the least
    return fit


def _fit_by_fall(training: SmallTraining) -> SmallBatchFit:
    """Attempts under a loss whose least value is not known, compared with those on equal inputs."""
    what = "it cannot be judged whether the batch is learned"
    do = "test with a loss that is 0 for right answers, such as the squared error"
    first = training.first_loss()
    if not training.is_separate:
        why = f"the loss starts at {first:.3g}, and how low it can be is not known"
        raise InputError(what, why=why, do=f"{do}, or give loss(outputs, targets)")
    tried = [training.attempt(-math.inf, factor, blind=True) for factor in BLIND_RATE_FACTORS]
    tried.append(training.with_adam().attempt(-math.inf, blind=True))
    blind = min(loss for attempt in tried for loss in attempt.least_losses)
    fall = max(BLIND_FALL_FRACTION * (first - blind), LEARNED_LOSS * abs(blind))
    fit = training.fit(blind, blind - fall, "the same network with equal inputs")
    lowest = min(loss for attempt in fit.attempts for loss in attempt.least_losses)
    learned = any(math.isfinite(attempt.steps) for attempt in fit.attempts)
    if not learned and lowest < fit.loss_at(1 - LEARNED_LOSS):
        why = f"its loss falls from {first:.3g} to {lowest:.3g}, with equal inputs to {blind:.3g}, "
        raise InputError(what, why=why + "and how low it can be is not known", do=do)
    return fit


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
    given: TestedModel, training: Sequence[Any], steps: int, rows: Tensor, seen: Tensor
) -> Iterator[float]:
    """Yield the loss before each step on some rows, with the inputs of those that are `seen`."""
    model, optimizer, *schedulers = training
    run, loss, targets = replace(given, model=model).with_loss(rows)
    leaves = [p for p in model.parameters() if p.requires_grad]  # no gradient lands elsewhere

    def compute_gradients() -> Tensor:
        optimizer.zero_grad()
        value = loss(run(seen), targets)
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
    return {"states": [each.state_dict() for each in objects], "random": generator_states()}


def _load_all(saved: dict[str, Any], *objects: Any) -> None:
    for each, state in zip(objects, saved["states"], strict=True):
        each.load_state_dict(state)
    set_generator_states(saved["random"])


def _state_of(model: nn.Module, optimizer: Any, *scheduler: Any) -> dict[str, object]:
    """All that may change in training, by name: what state dicts hold, and what they leave out."""
    tensors, skipped = _tensors_of(model), ("_parameters", "_buffers", "_modules", "_is_running")
    for name, part in model.named_modules():
        tensors[name] = {k: v for k, v in vars(part).items() if k not in skipped}
    named: dict[str, Any] = {"model": tensors, "optimizer": vars(optimizer)}
    named |= dict(zip(("scheduler",), map(vars, scheduler), strict=False))
    return _named_values(named | {"random numbers": generator_states()})


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
