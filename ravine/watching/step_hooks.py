"""Hooks on gradients and optimizer steps: snapshots of inspected steps, overwritten weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.diagnosis.training_loop.history import LoopEvent
from ravine.diagnosis.training_loop.optimizer_monitor import (
    OptimizerMonitor,
    StateMonitor,
    tensor_norms,
)
from ravine.diagnosis.training_loop.parameter_names import ParameterNames, optimizer_parameters
from ravine.diagnosis.training_loop.tensor_stats import count_duplicate_rows
from ravine.watching.forward_hooks import ForwardHooks
from ravine.watching.inspection_schedule import FIRST_STEPS
from ravine.watching.kept_states import KeptStateMonitor
from ravine.watching.learning_rates import READING_INTERVAL, LearningRateMonitor, SchedulerMonitor
from ravine.watching.loss_reader import LossReader
from ravine.watching.torch_calls import CallListener, add_listener, remove_listener

MAX_QUIET_STEPS = 50  # in a row, while the rate does not change
MAX_SNAPSHOTS = 64  # beside the first
FIRST_SNAPSHOTS = 16  # kept: they show whether something was so from the start
DUPLICATE_STEPS = 16  # the first, in which rows are compared


@dataclass(eq=False)
class StepHooks:
    """The monitors of all watched optimizers, and what is recorded at each of their steps."""

    monitors: Sequence[OptimizerMonitor]
    schedulers: SchedulerMonitor
    forward: ForwardHooks
    losses: LossReader

    def __post_init__(self) -> None:
        self.history = self.forward.history
        self.names = self.forward.names
        self.inspection = self.forward.inspection
        self.rates = LearningRateMonitor(self.history)
        self.duplicates = DuplicateRowMonitor(self.names)
        self.states = StateMonitor()
        guard = self.forward.failures.guard
        failures, monitors = self.forward.failures, self.monitors
        self.kept = KeptStateMonitor(self.names.model, self.history, failures, monitors)
        heard = (self._record_clipping, self.schedulers.note_step, self.forward.expect_evaluation)
        heard = (*heard, self.forward.note_seeding, self.kept.forget, self.losses.before_backward)
        self._listener = CallListener(*map(guard, heard))
        self._by_optimizer = {id(m.optimizer): m for m in self.monitors if m.optimizer is not None}

    def start(self) -> None:
        self.names.refresh()
        self.schedulers.find()
        for monitor in self.monitors:
            monitor.start(self._parameters(monitor))
            self._observe_gradients(monitor)
        self.kept.start()
        add_listener(self._listener)

    def stop(self) -> None:
        self.forward.failures.guard(self.kept.stop)()
        remove_listener(self._listener)
        self.history.idle_optimizers = {
            m.index: m.gradients.passes for m in self.monitors if self._is_idle(m)
        }
        for monitor in self.monitors:
            monitor.gradients.remove_hooks()
            monitor.arrivals.remove_hooks()
            monitor.gradients.parameter = None
            monitor.overwrites.left = []
            monitor.forget_step()

    def before_step(self, optimizer: Optimizer, *_: Any) -> None:
        """An optimizer is about to step."""
        monitor = self._by_optimizer.get(id(optimizer))
        self.states.before_step(optimizer)
        if monitor is None:
            self.history.tape.append(LoopEvent.OTHER_STEP)
            self.names.note_other_optimizer(optimizer)
            return
        self.inspection.quiet_steps = 0
        self.schedulers.last.pop(id(optimizer), None)  # it steps at the rate that was set last
        if monitor.overwrites.left or monitor.overwrites.was_written():
            model = self.history.model
            model.overwrites = monitor.overwrites.compare(
                model.overwrites, self.names.by_id, monitor.steps
            )
        if self.history.steps == 0:
            self.schedulers.find()
            self.schedulers.note_first_step()
        if self.inspection.active and self.inspection.includes(monitor.steps):
            is_skipped, scale = fused_scaling(optimizer)
            if not is_skipped:
                monitor.before_step(optimizer_parameters(optimizer), self.names.by_id, scale)

    def after_step(self, optimizer: Optimizer) -> bool:
        """An optimizer made a step. True if the rules should run."""
        monitor, is_due = self._by_optimizer.get(id(optimizer)), False
        self.states.after_step(optimizer)
        if monitor is not None:
            self.history.tape.append(LoopEvent.STEP)
            is_due = self.end_step(monitor)
        others = (m.overwrites for m in self.monitors if m.optimizer is not optimizer)
        for overwrites in others:  # weights that others share with this optimizer
            if overwrites.versions and overwrites.shares_weights(optimizer):
                overwrites.remember(sampled=bool(overwrites.left))
        return is_due

    def end_step(self, monitor: OptimizerMonitor) -> bool:
        """A step was made. True if the rules should run."""
        history, inspection, forward = self.history, self.inspection, self.forward
        inspected = inspection.active and inspection.includes(monitor.steps)
        self.losses.summarize()
        if inspected:
            self._record(monitor)
        if inspection.active and monitor is self.monitors[0]:
            forward.random_states.end_step(monitor.steps)
        if forward.modules.handles:
            forward.modules.remove()
        if history.steps == 0:
            forward.find_entrance()
        monitor.steps += 1
        history.steps += 1
        optimizer = monitor.optimizer
        is_due = monitor.steps <= FIRST_STEPS or self.losses.total >= self.losses.next_test
        is_reading = inspected or inspection.quiet_steps or monitor.steps % READING_INTERVAL == 0
        inspection.quiet_steps = 0  # where some were left, the rate was set
        if optimizer is not None and is_reading:
            is_due |= self.rates.read(optimizer)
        if forward.modes.modules:
            is_due |= forward.modes.update(inspected=inspection.active)
        if forward.modes.trained_without_graph:
            is_due, forward.modes.trained_without_graph = True, False
        next_inspected = inspection.includes(monitor.steps)
        if inspection.active or next_inspected:
            self._begin_step(monitor)
        if optimizer is not None:
            monitor.overwrites.remember(sampled=next_inspected)
        is_busy = inspection.active or forward.modes.modules or monitor.overwrites.left
        can_be_quiet = len(self.monitors) == 1 and monitor.overwrites.versions and not is_busy
        if optimizer is not None and can_be_quiet and self.losses.scaler.remaining > 0:
            inspection.lr = lr = optimizer.param_groups[0].get("lr")
            is_constant = isinstance(lr, float) and lr == history.rates.now == history.rates.highest
            interval = MAX_QUIET_STEPS if is_constant else READING_INTERVAL
            reading = monitor.steps - monitor.steps % interval + interval
            due = (s for s in range(monitor.steps + 1, reading) if inspection.includes(s))
            inspection.quiet_steps = next(due, reading) - 1 - monitor.steps
            inspection.quiet_losses = self.losses.quiet_losses()
        # of consecutive inspected steps, after the last
        return is_due or (inspected and not next_inspected)

    def _record_clipping(self, parameters: Sequence[Tensor]) -> None:
        """In inspected steps: note a call of torch's gradient clipping."""
        if not self.inspection.active:
            return
        for monitor in self.monitors:
            if monitor.optimizer is not None and self.inspection.includes(monitor.steps):
                own = {id(p) for p in optimizer_parameters(monitor.optimizer)}
                monitor.gradients.record_clipping(parameters, own)

    def update_history(self) -> None:
        """Bring the history up to date for the rules."""
        history, modules = self.history, self.forward.modules
        zero_lr = {i for monitor in self.monitors for i in monitor.zero_lr}
        history.model.parameters = self.names.describe(modules.ran, zero_lr, modules.inputs)
        history.model.twin_calls = dict(modules.double_calls.steps)
        history.model.statistics_shift = self.forward.modules.statistics.shift()
        history.single_optimizer = self.names.single_optimizer
        history.model.lost_states = self.states.count_lost(self.names.parameters.values())
        steps = {id(m.optimizer): m.steps for m in self.monitors}
        losses = history.loss.summary.count if history.ended else None
        history.rates.schedulers = self.schedulers.states(steps, losses)
        history.rates.plateaus = self.schedulers.plateaus()
        history.rates.other_schedulers = self.schedulers.other_states(self.names)
        history.scaled_gradients = self.losses.scaler.summary()
        if history.ended:
            distances = (monitor.overwrites.relative_distance() for monitor in self.monitors)
            history.model.relative_distance = max(distances)

    def _is_idle(self, monitor: OptimizerMonitor) -> bool:
        """Whether an optimizer made no step, and nothing else moved or may move its weights."""
        if monitor.optimizer is None or monitor.steps:
            return False
        parameters = optimizer_parameters(monitor.optimizer)
        return not self.names.are_stepped_elsewhere(parameters) and (
            monitor.overwrites.relative_distance() == 0
        )

    def _begin_step(self, monitor: OptimizerMonitor) -> None:
        """Forget the last step, and hook what the next one needs."""
        self.forward.units.is_hooked = False
        self.forward.modules.forget_calls()
        self.losses.begin_step()
        monitor.forget_step()
        self._observe_gradients(monitor)
        due = any(self.inspection.includes(m.steps) for m in self.monitors)
        self.inspection.active = self.forward.modules.searches or due
        self.forward.update_model_hook()

    def _parameters(self, monitor: OptimizerMonitor) -> list[Any]:
        if monitor.optimizer is None:
            return list(self.names.model.parameters())
        return optimizer_parameters(monitor.optimizer)

    def _record(self, monitor: OptimizerMonitor) -> None:
        """Add a snapshot of the step, unless a gradient scaler makes a fused step do nothing."""
        self.names.refresh()
        is_skipped, _ = fused_scaling(monitor.optimizer)
        if is_skipped:
            return
        parameters = self._parameters(monitor)
        snapshot, passes = (
            monitor.after_step(parameters, self.names.by_id),
            monitor.gradients.passes,
        )
        lost = sum(0 <= at < passes - 1 for at in self.losses.term_passes)
        snapshot = replace(
            snapshot,
            gradient=replace(snapshot.gradient, lost_terms=lost),
            inactive=self.forward.units.summary(),
            duplicate_rows=self.duplicates.find(monitor.steps, self.history.steps),
            loss_scale=self.losses.scaler.scale,
            losses=self.losses.count,
        )
        snapshots = self.history.snapshots
        snapshots.append(snapshot)
        del snapshots[FIRST_SNAPSHOTS:-MAX_SNAPSHOTS]
        norms = snapshot.gradient_norms
        self.losses.divergence.add_gradient_norms(norms, step=monitor.steps)
        if norms and not monitor.gradients.passes:
            if monitor.steps < FIRST_STEPS:  # other parameters do get gradients: observe one
                monitor.gradients.choose_parameter(p for p in parameters if p.grad is not None)

    def _observe_gradients(self, monitor: OptimizerMonitor) -> None:
        """If the next step is inspected: observe the gradients that arrive in it."""
        gradients = monitor.gradients
        gradients.remove_hooks()
        monitor.arrivals.remove_hooks()
        parameter = gradients.parameter
        if parameter is None or not self.inspection.includes(monitor.steps):
            return
        if not parameter.requires_grad:
            return  # frozen for now
        guard = self.forward.failures.guard
        record_arrival = guard(partial(self._record_arrival, monitor))
        gradients.handles = [
            parameter.register_hook(guard(gradients.record_incoming)),
            parameter.register_post_accumulate_grad_hook(record_arrival),
        ]
        monitor.arrivals.observe(self._parameters(monitor), guard(monitor.arrivals.note))
        gradients.keep_leftover()

    def _record_arrival(self, monitor: OptimizerMonitor, parameter: nn.Parameter) -> None:
        tape = self.history.tape
        if not tape or tape[-1] != LoopEvent.BACKWARD:
            tape.append(LoopEvent.BACKWARD)
        self.forward.modules.forget_calls()
        weights = [p.detach() for p in self._parameters(monitor)]
        monitor.gradients.record_arrival(parameter, tensor_norms(weights))
        self.losses.scaler.add_gradient(monitor.gradients.norm)


@dataclass(eq=False)
class DuplicateRowMonitor:
    """Weight matrices whose rows were equal at the start and stay equal, also in their gradient."""

    names: ParameterNames
    _has_duplicates: dict[str, bool] = field(default_factory=dict)  # by name of the matrix

    def find(self, step: int, loop_steps: int) -> dict[str, tuple[int, int]]:
        """By matrix: how many rows equal another one, and how many rows there are."""
        if loop_steps >= DUPLICATE_STEPS:
            return {}
        found = {}
        for name, weight in self.names.parameters.items():
            if weight.dim() < 2 or len(weight) < 2 or not weight.requires_grad:
                continue
            is_table = isinstance(self.names.owners.get(name), nn.Embedding | nn.EmbeddingBag)
            if is_table or not self._has_duplicates.get(name, step == 0):
                continue
            count = count_duplicate_rows(weight.detach())
            if count:
                count = count_duplicate_rows(torch.cat(self._columns(name, weight), dim=1))
            if count:
                found[name] = (count, len(weight))
            self._has_duplicates[name] = count > 0
        return found

    def _columns(self, name: str, weight: Tensor) -> list[Tensor]:
        """The rows of a matrix beside those of its gradient, its bias, and the bias's gradient."""
        columns = [weight.detach().flatten(1)]
        bias = self.names.parameters.get(name.removesuffix("weight") + "bias")
        for p in (weight, bias):
            if p is not None and p.grad is not None and len(p) == len(weight):
                grad = p.grad.detach()
                columns.append(grad.flatten(1) if p.dim() > 1 else grad[:, None])
        if bias is not None and bias.dim() == 1 and len(bias) == len(weight):
            columns.append(bias.detach()[:, None])
        return columns


def fused_scaling(optimizer: Optimizer | None) -> tuple[bool, float]:
    """Whether a gradient scaler cancels a fused step, and by what the step divides gradients."""
    found_inf = getattr(optimizer, "found_inf", None)
    scale = getattr(optimizer, "grad_scale", None)
    is_skipped = found_inf is not None and float(found_inf) > 0
    return is_skipped, 1.0 if scale is None else float(scale)
