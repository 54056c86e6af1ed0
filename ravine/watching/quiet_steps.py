"""Hooks on optimizer steps, which in quiet ones read only the versions of the weights."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.compiler import is_compiling
from torch.optim import Optimizer

from ravine.diagnosis.training_loop.history import LoopEvent
from ravine.watching.step_hooks import StepHooks

StepHook: TypeAlias = Callable[..., None]


def quiet_hooks(hooks: StepHooks, before: StepHook, after: StepHook) -> tuple[StepHook, StepHook]:
    """Hooks on each optimizer's step: `before` and `after`, but for quiet steps."""
    history, inspection, monitor = hooks.history, hooks.inspection, hooks.monitors[0]
    rates_set, watched = hooks.schedulers.last, monitor.optimizer
    versions, parameters = monitor.overwrites.versions, monitor.overwrites.parameters
    note, step_event = history.tape.append, LoopEvent.STEP
    ends = parameters or [torch.empty(0)]  # without weights, no step is quiet
    first, last = ends[0], ends[-1]

    def before_step(optimizer: Optimizer, *_: Any) -> None:
        if is_compiling():
            return
        if inspection.quiet_steps and optimizer is watched and not rates_set:
            if first._version == versions[0] and last._version == versions[1]:
                return  # addresses are compared at the next step that is not quiet
        before(optimizer)

    def after_step(optimizer: Optimizer, *_: Any) -> None:
        if is_compiling():
            return
        is_quiet = inspection.quiet_steps and optimizer is watched
        if is_quiet and optimizer.param_groups[0]["lr"] is inspection.lr:
            versions[0], versions[1] = first._version, last._version
            inspection.quiet_steps -= 1
            note(step_event)
            monitor.steps += 1
            history.steps += 1
        else:
            after(optimizer)

    return before_step, after_step
