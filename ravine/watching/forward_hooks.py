"""Hooks on the model's forward pass: its mode, its inputs, and the order of passes and steps."""

import contextlib
import gc
import math
import sys
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from ravine.diagnosis import op_names
from ravine.diagnosis.output_range import unreachable_fraction
from ravine.diagnosis.training_loop.autograd_graph import node_before_views
from ravine.diagnosis.training_loop.history import (
    FORWARD_EVENTS,
    InputReading,
    LoopEvent,
    LoopHistory,
    ModuleModes,
    RepeatedDraws,
)
from ravine.diagnosis.training_loop.optimizer_monitor import OptimizerMonitor
from ravine.diagnosis.training_loop.parameter_names import ParameterNames
from ravine.diagnosis.training_loop.tensor_stats import batch_excerpt, find_tables, first_tensor
from ravine.watching import module_hooks
from ravine.watching.failures import FailureLog
from ravine.watching.inspection_schedule import CONSECUTIVE_STEPS, FIRST_STEPS, Inspection

SUSPECT_INPUTS = 10  # inspected steps with the same inputs, after which their table is searched
MAX_READ_NUMBERS = 65_536  # of a batch; of larger ones an excerpt is read
MAX_READINGS = 64
MIN_ROW_NUMBERS, MAX_ROW_NUMBERS = 5, 512  # of an example, by which equal ones are known
COPIES_IN_BATCH = 4  # rows of a batch for each different one, or more
MIN_EVALUATION_ROWS = 8  # or those of a training batch
MAX_EVALUATIONS = 16  # whose inputs are kept
EVALUATION_INTERVAL = 20  # steps between those that are read, after the first 16
EVENTS_BY_MODE = {  # by whether a graph is recorded, and by training mode
    (False, False): LoopEvent.NO_GRAD_EVAL_FORWARD,
    (False, True): LoopEvent.NO_GRAD_FORWARD,
    (True, False): LoopEvent.EVAL_FORWARD,
    (True, True): LoopEvent.FORWARD,
}


@dataclass(eq=False)
class ForwardHooks:
    """The hook on the model itself, with monitors of its mode, its inputs and its modules."""

    model: nn.Module
    history: LoopHistory
    names: ParameterNames
    monitor: OptimizerMonitor  # of the first optimizer: inputs are counted by its steps
    inspection: Inspection
    failures: FailureLog

    def __post_init__(self) -> None:
        self.modes = ModeMonitor(self.names.model, self.history)
        self.inputs = InputMonitor(self.history)
        self.random_states = RandomStateMonitor(self.model, self.history)
        self.modules = module_hooks.ModuleHooks(self.model, self.history, self.failures)
        self.units = module_hooks.InactiveUnitMonitor(self.failures)
        self._can_be_hooked = False
        self._handle: Any = None
        self._entrance_handle: Any = None
        self._evaluation_handle: Any = None  # of the first pass in evaluation mode

    def start(self) -> None:
        """Register the hooks, as far as the model takes any."""
        self.modes.find_modules()
        self.history.model.repeated_layers = module_hooks.find_repeated_layers(self.model)
        for name, module in self.model.named_modules():  # as a copy or in place
            if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None):
                self.history.model.compiled = self.history.model.compiled or name or "the model"
        in_place = getattr(self.model, "_compiled_call_impl", None) is not None  # with its hooks
        unhookable = (*module_hooks.FAST_PATH_MODULES, torch.jit.ScriptModule)
        self._can_be_hooked = not in_place and not isinstance(self.model, unhookable)
        self.update_model_hook()
        self.modules.register(fast_path=False)

    def stop(self) -> None:
        self._can_be_hooked = False
        self.update_model_hook()
        for handle in (self._entrance_handle, self._evaluation_handle):
            if handle is not None:
                handle.remove()
        self.modules.stop()
        self.inputs.stop()

    def update_model_hook(self) -> None:
        """Hook the model: always where its mode matters, otherwise in inspected steps only. Torch
        calls a module without hooks on a shorter path, which saves microseconds a step.
        """
        wanted = self._can_be_hooked and (self.inspection.active or bool(self.modes.modules))
        if wanted and self._handle is None:
            hook = self.failures.guard(self._before_forward)
            self._handle = self.model.register_forward_pre_hook(hook, with_kwargs=True)
        elif self._handle is not None and not wanted:
            self._handle.remove()
            self._handle = None

    def expect_evaluation(self, module: nn.Module) -> None:
        """A module goes to evaluation mode: if it is the model, read its next input."""
        if module is not self.model or not self._can_be_hooked or self._evaluation_handle:
            return
        read, steps = self.history.evaluations, self.history.steps
        if len(read) < MAX_EVALUATIONS or steps - read[-1].step >= EVALUATION_INTERVAL:
            # of all modules: a hook of its own would keep the model from being scripted
            hook = self.failures.guard(self._before_evaluation)
            self._evaluation_handle = register_module_forward_pre_hook(hook)

    def _before_evaluation(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module is not self.model:
            return
        self._evaluation_handle.remove()
        self._evaluation_handle = None
        first = first_tensor(inputs)
        if first is not None and not module.training:
            with contextlib.suppress(RuntimeError):  # within `vmap` no number can be read
                self.inputs.read_evaluation(first, step=self.history.steps)

    def note_seeding(self, seed: Any, code: Any) -> None:
        """Torch is seeded by a function with this code; a tensor is a state, as `fork_rng` sets."""
        if self.inspection.active and not self.random_states.states:
            self.random_states.seeding = None if isinstance(seed, Tensor) else (int(seed), code)

    def search_nonfinite(self, wanted: bool) -> None:
        """From the next forward pass on, search the module whose output is not finite."""
        self.modules.searches = self.inspection.active = wanted
        self.inspection.quiet_steps = 0
        if wanted:
            self.update_model_hook()

    def find_entrance(self) -> None:
        """After the first step: where the model is never called as a whole, watch one module."""
        called, self.modules.first_calls = self.modules.first_calls, []
        if not called or not FORWARD_EVENTS.isdisjoint(self.history.tape):
            return
        entrance = next((m for m in called if depends_on_mode(m)), called[0])
        hook = self.failures.guard(self._before_entrance)
        self._entrance_handle = entrance.register_forward_pre_hook(hook)

    def _before_entrance(self, module: nn.Module, *_: Any) -> None:
        if torch.is_grad_enabled():
            self.history.tape.append(EVENTS_BY_MODE[True, module.training])

    def _before_forward(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        recording = torch.is_grad_enabled()
        training = module.training
        self.history.tape.append(EVENTS_BY_MODE[recording, training])
        if not (recording and training):
            if self.inspection.active:
                self.random_states.note_pass(trains=False)
            self.modes.trained_without_graph |= training
            if training and self.inspection.active and self.history.steps < FIRST_STEPS:
                self.modules.register(fast_path=False)  # what it does to statistics
            return
        if not self.inspection.active:
            return
        self.random_states.note_pass(trains=True)
        first = first_tensor((*inputs, *named.values()))
        if first is not None:
            is_first_pass = not self.monitor.gradients.passes
            self.inputs.read(first, step=self.monitor.steps, is_first_pass=is_first_pass)
            self.inputs.compare_made_inputs(first)
            self.modules.double_calls.add_call("", (first,))
        if self.modules.searches or self.history.steps < CONSECUTIVE_STEPS:
            self.modules.register(fast_path=True)
        if not self.units.is_hooked:
            graph = None if self.history.model.compiled else self.history.graph
            self.modules.handles += self.units.register(graph, self.names.owners)
            hook = self.failures.guard(self.modules.outputs.read_output)
            self.modules.handles.append(module.register_forward_hook(hook, with_kwargs=True))


@dataclass(eq=False)
class ModeMonitor:
    """Whether the model trains in evaluation mode, or runs in training mode without a graph."""

    model: nn.Module
    history: LoopHistory
    modules: dict[str, nn.Module] = field(default_factory=dict)  # that depend on the mode
    evaluation_steps: int = 0
    trained_without_graph: bool = False  # since the last step

    def find_modules(self) -> None:
        modules = self.model.named_modules()
        self.modules = {n or type(m).__name__: m for n, m in modules if depends_on_mode(m)}
        means = [getattr(m, "running_mean", None) for m in self.modules.values()]
        known = [mean for mean in means if mean is not None]
        learned = [not is_lazy(mean) and not mean.is_meta and bool(mean.any()) for mean in known]
        modes = self.history.model.modes
        self.history.model.modes = replace(modes, loaded_statistics=bool(learned) and all(learned))

    def update(self, *, inspected: bool) -> bool:
        """After a step: note its mode. True if it is certain just now that the mode is wrong."""
        modes = self.history.model.modes
        if self.model.training:
            if self.evaluation_steps or not modes.was_training:
                self.evaluation_steps = 0
                self.history.model.modes = ModuleModes(
                    mode_dependent=len(self.modules), was_training=True, names=tuple(self.modules)
                )
            return False
        if self.evaluation_steps > CONSECUTIVE_STEPS and not inspected:
            self.evaluation_steps += 1
            return False
        events = self.history.events
        is_evaluating = events.rfind(LoopEvent.EVAL_FORWARD) > events.rfind(LoopEvent.FORWARD)
        self.evaluation_steps = self.evaluation_steps + 1 if is_evaluating else 0
        names = self._names_in_evaluation()
        self.history.model.modes = replace(
            modes,
            mode_dependent=len(self.modules),
            in_evaluation=len(names),
            names=names,
            evaluation_steps=self.evaluation_steps,
        )
        return self.evaluation_steps == CONSECUTIVE_STEPS

    def _names_in_evaluation(self) -> tuple[str, ...]:
        """Modules in evaluation mode, but for those that a partly frozen model leaves there."""
        partly_frozen = any(not p.requires_grad for p in self.model.parameters())
        names = []
        for name, module in self.modules.items():
            may_be_frozen = partly_frozen or isinstance(module, module_hooks.BATCH_NORM_MODULES)
            is_trained = any(p.requires_grad for p in module.parameters())
            if not module.training and (is_trained or not may_be_frozen):
                names.append(name)
        return tuple(names)


@dataclass(eq=False)
class InputMonitor:
    """Whether the model's first input changes from step to step, and on which scale it is."""

    history: LoopHistory
    excerpt: Tensor | None = None  # of the first input
    nonfinite: bool = False
    _few: Tensor | None = None  # the different rows of the first batch, if they are few
    _made_shape: tuple[int, ...] = ()  # of inputs that another model made
    _copies: list[Any] = field(default_factory=list)  # weak references: tensors of just this input

    def stop(self) -> None:
        self.excerpt = self._few = None
        self._copies = []

    def read(self, batch: Tensor, *, step: int, is_first_pass: bool) -> None:
        """Record an input; of several batches in one step only the first."""
        if _is_nonfinite(batch):
            self.nonfinite = True
            return
        old = self.history.inputs
        if old.count and not is_first_pass:
            return
        excerpt = batch_excerpt(batch)
        same = self._is_same(excerpt)
        table_rows = self._find_table(batch) if same else old.table_rows
        numeric = batch.is_floating_point() and batch.numel() > 1
        readings = old.readings
        if numeric and not batch.requires_grad:
            numbers = batch if batch.numel() <= MAX_READ_NUMBERS else excerpt
            readings = (*readings, read_input_level(numbers, step))
        if len(readings) > MAX_READINGS:
            half = MAX_READINGS // 2
            readings = readings[:half] + readings[half::2]
        self.history.inputs = replace(
            old,
            count=old.count + 1,
            identical=old.identical + same,
            few_examples=self._count_few(batch) if old.few_examples or not old.count else 0,
            rows=len(batch),
            in_place=old.in_place + (batch._is_view() and batch._version > 0),
            table_rows=table_rows,
            first_step=step if not old.count else old.first_step,
            readings=readings,
        )

    def compare_made_inputs(self, batch: Tensor) -> None:
        """Compare inputs with the range of an activation whose outputs are inputs as well."""
        old, name = self.history.inputs, op_names.node_name(node_before_views(batch.grad_fn))
        if name in op_names.BOUNDED_NODES:
            self.history.inputs, self._made_shape = replace(old, made_by=name), batch.shape[1:]
        elif old.made_by and not batch.requires_grad and batch.shape[1:] == self._made_shape:
            missed = unreachable_fraction(batch_excerpt(batch), old.made_by)
            missed = (*old.out_of_range[1 - MAX_READINGS :], missed)
            self.history.inputs = replace(old, out_of_range=missed)

    def read_evaluation(self, batch: Tensor, *, step: int) -> None:
        """Record the first input of an evaluation, unless it has very few examples."""
        least = min(self.history.inputs.rows or MIN_EVALUATION_ROWS, MIN_EVALUATION_ROWS)
        is_numeric = batch.is_floating_point() and batch.numel() > 1 and not batch.requires_grad
        if is_numeric and len(batch) >= least:
            read = self.history.evaluations
            read.append(read_input_level(batch_excerpt(batch), step))
            del read[:-MAX_EVALUATIONS]

    def _count_few(self, batch: Tensor) -> int:
        """How many examples all batches consist of, each many times in a batch; else 0."""
        if not batch.is_floating_point() or batch.requires_grad or batch.dim() < 2:
            return 0
        numbers = batch.detach().flatten(1)
        numbers = numbers[:, :: -(-numbers.shape[1] // MAX_ROW_NUMBERS)]
        rows = torch.unique(numbers, dim=0)
        # what has few levels or whole numbers recurs by itself
        varied = 2 * len(torch.unique(rows)) >= rows.numel() and bool((rows != rows.round()).any())
        if (
            COPIES_IN_BATCH * len(rows) > len(batch)
            or rows.shape[1] < MIN_ROW_NUMBERS
            or not varied
        ):
            return 0
        self._few = rows if self._few is None else self._few
        return len(rows) if torch.equal(rows, self._few) else 0

    def _is_same(self, excerpt: Tensor) -> bool:
        """Whether all inputs so far had the numbers of this one."""
        inputs = self.history.inputs
        if self.excerpt is None:
            self.excerpt = excerpt
        return (
            inputs.identical == inputs.count
            and self.excerpt.shape == excerpt.shape
            and bool(torch.equal(self.excerpt, excerpt))
        )

    def _find_table(self, batch: Tensor) -> int:
        """The rows of a table that contains the same inputs at every step; 0: none is found. A loop
        that trains on all examples at once keeps them from step to step (-1). A batch that is taken
        from a larger table at every step is gone at the next one.
        """
        inputs = self.history.inputs
        table_rows = inputs.table_rows
        if table_rows < 0 or inputs.count > SUSPECT_INPUTS + 1:
            return table_rows
        if any(copy() is not None for copy in self._copies):
            return -1
        copies = []
        if inputs.count == SUSPECT_INPUTS:
            copies, table_rows = find_tables(batch, gc.get_objects())
        self._copies = [weakref.ref(x) for x in (*copies, batch)]
        return table_rows


@dataclass(eq=False)
class RandomStateMonitor:
    """Whether inspected steps begin their first pass with one random state, and draw from it."""

    model: nn.Module
    history: LoopHistory
    seeding: tuple[int, Any] | None = None  # the last seed in this step, and the code that set it
    states: dict[str, int] = field(default_factory=dict)  # by device, at the first pass

    def note_pass(self, *, trains: bool) -> None:
        if not trains and not self.states:
            self.seeding = None  # for an evaluation
        elif not self.states:
            self.states = self._read()
            if self.seeding is not None:
                fresh = torch.Generator("cpu").manual_seed(self.seeding[0])
                frame: Any = sys._getframe()
                while frame and frame.f_code is not self.seeding[1]:
                    frame = frame.f_back
                # a function that has ended may have made the same examples on purpose
                if frame is None or self.states["cpu"] == _hash(fresh.get_state()):
                    self.seeding = None

    def end_step(self, step: int) -> None:
        draws, after = self.history.model.repeated_draws, self._read() if self.states else {}
        for name, state in self.states.items():
            old, in_pass = draws.pop(name, None), after.get(name) != state
            if in_pass or (name == "cpu" and self.seeding is not None):
                if old is None or old.state != state:
                    old = RepeatedDraws(first_step=step, state=state)
                in_all = old.in_pass and in_pass
                draws[name] = replace(old, steps=old.steps + 1, in_pass=in_all)
        self.states, self.seeding = {}, None

    def _read(self) -> dict[str, int]:
        states, first = {"cpu": _hash(torch.get_rng_state())}, next(self.model.parameters(), None)
        if first is not None and first.is_cuda and not torch.cuda.is_current_stream_capturing():
            states[str(first.device)] = _hash(torch.cuda.get_rng_state(first.device))
        return states


def _hash(state: Tensor) -> int:
    return hash(state.numpy().tobytes())


def read_input_level(numbers: Tensor, step: int) -> InputReading:
    """The mean of some numbers, their mean distance from it, and their standard deviation."""
    std, mean = torch.std_mean(numbers.float())
    spread = (numbers.float() - mean).abs().mean()
    return InputReading(step, float(mean), float(spread), float(std))


def _is_nonfinite(batch: Tensor) -> bool:
    """Whether a batch has a number that is not finite."""
    # a sum is the quickest check of all numbers; it may also be too large though each is finite
    if not batch.is_floating_point() or math.isfinite(float(batch.detach().sum())):
        return False
    return not bool(torch.isfinite(batch.detach()).all())


def depends_on_mode(module: nn.Module) -> bool:
    """Whether a module behaves differently in training and in evaluation."""
    is_dropout = isinstance(module, module_hooks.DROPOUT_MODULES) and module.p > 0
    return is_dropout or isinstance(module, module_hooks.BATCH_NORM_MODULES)
