"""`ravine.watch`: watches the training loop of any PyTorch program and reports its faults.

    with ravine.watch(model, optimizer) as watcher:
        for x, y in batches:
            optimizer.zero_grad()
            loss = watcher.loss(criterion(model(x), y))
            loss.backward()
            optimizer.step()

Hooks only read: a watched run ends with an unwatched one's weights and random states, bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from ravine.argument_checks import check_arguments
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.diagnosis.training_loop.optimizer_monitor import OptimizerMonitor
from ravine.diagnosis.training_loop.parameter_names import ParameterNames
from ravine.errors import InputError
from ravine.finding import Finding, Report
from ravine.watching.failures import FailureLog
from ravine.watching.forward_hooks import ForwardHooks
from ravine.watching.inspection_schedule import INSPECTION_INTERVAL, Inspection
from ravine.watching.learning_rates import Scheduler, SchedulerMonitor
from ravine.watching.loss_reader import NONFINITE_INTERVAL, LossReader
from ravine.watching.quiet_steps import quiet_hooks
from ravine.watching.rule_runner import RuleRunner
from ravine.watching.step_hooks import StepHooks

MIN_INTERVAL = 10


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] = (),
    *,
    scheduler: Scheduler | None = None,
    every: int = INSPECTION_INTERVAL,
    quiet: bool = False,
) -> Watcher:
    """Watch the training of a model by one torch optimizer, by several, or by none.

    Without an optimizer, each reported loss counts as a step. A `scheduler` that was made before is
    found without being given; one that is none of torch's is judged by the rates that it sets.
    After the first 200 steps, two in `every` are inspected closely. Findings are printed to stderr
    when they are found, and all of them at the end, unless `quiet`. Raises `InputError` for what is
    no module or no torch optimizer, for a model whose weights are not made yet, for a scheduler
    without `step`, and for `every` below 10.

    >>> import torch
    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with watch(model, optimizer, quiet=True) as watcher:
    ...     for _ in range(4):  # zero_grad is missing
    ...         watcher.loss(model(torch.ones(3, 2)).square().mean()).backward()
    ...         optimizer.step()
    >>> [finding.code for finding in watcher.findings()]
    ['RVN-L01']
    """
    if not isinstance(model, nn.Module):
        what = f"the model is a {type(model).__name__}"
        why = "only a torch.nn.Module can be watched"
        raise InputError(what, why=why, do="give the module whose parameters are trained")
    empty = [name for name, p in model.named_parameters() if is_lazy(p) or p.is_meta]
    if empty:
        what, why = f"the parameter {empty[0]!r} has no numbers yet", "it is lazy, or on meta"
        raise InputError(what, why=why, do="call the model on a batch, or load its weights, before")
    optimizers = tuple(optimizer) if isinstance(optimizer, Iterable) else (optimizer,)
    for one in optimizers:
        if not isinstance(one, Optimizer):
            what = f"the optimizer is a {type(one).__name__}"
            why = "only a torch.optim.Optimizer can be watched"
            raise InputError(what, why=why, do="give the torch optimizer itself, or leave it out")
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        what = f"the scheduler is a {type(scheduler).__name__}"
        do = "give the object whose step() sets the learning rate, or leave it out"
        raise InputError(what, why="it has no step()", do=do)
    check_arguments(watch, locals())
    if every < MIN_INTERVAL:
        why = "two steps in so many are inspected closely"
        raise InputError(f"every is {every}", why=why, do=f"use {MIN_INTERVAL} or more")
    out = None if quiet else sys.stderr
    return Watcher(model, optimizers, scheduler=scheduler, every=every, out=out)


class Watcher:
    """A loop that is being watched. Call `loss` in every step, `findings` and `report` at any time.

    `history` is what the rules read; the last losses are added to it when they do.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        *,
        scheduler: Scheduler | None,
        every: int,
        out: TextIO | None,
    ):
        self.history = LoopHistory(optimizers=max(1, len(optimizers)))
        names = ParameterNames(getattr(model, "_orig_mod", model), optimizers)
        monitors = [OptimizerMonitor(i, o) for i, o in enumerate(optimizers or (None,))]
        self._failures = FailureLog()
        self._forward = ForwardHooks(
            model,
            history=self.history,
            names=names,
            monitor=monitors[0],
            inspection=Inspection(every),
            failures=self._failures,
        )
        self._losses = LossReader(self._forward)
        self._read_quietly = self._losses.quiet_reader()
        schedulers = SchedulerMonitor(scheduler, optimizers, self._losses)
        self._steps = StepHooks(monitors, schedulers, self._forward, self._losses)
        self._rules = RuleRunner(out, self._failures)
        self._guarded_read = self._failures.guard(self._read_loss)  # must not stop the loop
        self._handles: list[Any] = []  # of the hooks on all optimizers

    def __enter__(self) -> Watcher:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Watcher:
        """Begin to watch, as `with` does."""
        self._forward.start()
        self._steps.start()
        if self._steps.names.optimizers:
            guard = self._failures.guard
            own_hooks = guard(self._steps.before_step), guard(self._after_step)
            before, after = quiet_hooks(self._steps, *own_hooks)
            self._handles = [
                register_optimizer_step_pre_hook(before),
                register_optimizer_step_post_hook(after),
            ]
        return self

    def loss(self, value: Any) -> Any:
        """Report the loss of a step, best as a tensor before `backward`. Returns it unchanged.

        Raises `InputError` for what is neither a number nor a tensor.
        """
        if not self._read_quietly(value):
            _check_number(value)
            self._guarded_read(value)
        return value

    def stop(self) -> None:
        """Remove all hooks, and print what was found."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._forward.stop()
        self._steps.stop()
        self._failures.guard(self._read_pending_losses)()
        self._failures.guard(self._losses.finish)()
        self.history.ended = True
        self._run_rules()
        self._rules.print_report(self.history)

    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, most important first.

        A finding that a certain one explains is a note.
        """
        return self._rules.findings()

    def report(self) -> Report:
        """The findings so far, and how each check went: `report().to_json()` is plain data."""
        self._losses.summarize()
        return self._rules.report(self.history)

    def _read_loss(self, value: Any) -> None:
        monitor = self._steps.monitors[0]
        if self._losses.read(value):
            self._run_rules()
        if monitor.optimizer is None:
            if self._steps.end_step(monitor):
                self._run_rules()
        elif self._losses.scaler.remaining <= 0:
            self._losses.scaler.remaining = NONFINITE_INTERVAL
            self._run_rules()

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if self._steps.after_step(optimizer):
            self._run_rules()

    def _read_pending_losses(self) -> None:
        if self._losses.read_pending():
            self._run_rules()

    def _run_rules(self) -> None:
        self._losses.summarize()
        self._steps.update_history()
        self._rules.run(self.history)
        self._losses.next_test = self._rules.next_losses


def _check_number(value: Any) -> None:
    try:
        float(0.0 if isinstance(value, Tensor) else value)
    except (TypeError, ValueError):
        what, why = f"the loss is a {type(value).__name__}", "only a number or a tensor can be read"
        do = "give the loss of the step, best as a tensor before backward"
        raise InputError(what, why=why, do=do) from None
