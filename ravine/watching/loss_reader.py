"""The reported losses: their values, their graph, a gradient scaler, and the first that is NaN."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from ravine.diagnosis.constant_baseline import SavedTargetBaseline
from ravine.diagnosis.op_names import SCALING_NODES, node_name
from ravine.diagnosis.training_loop.autograd_graph import Graph, read_graph
from ravine.diagnosis.training_loop.class_order import count_batch_classes, read_target_range
from ravine.diagnosis.training_loop.history import (
    LoopEvent,
    LoopHistory,
    NonFiniteEvent,
    ScaledGradients,
)
from ravine.diagnosis.training_loop.nonfinite_origin import NonFiniteOrigin, find_nonfinite_origin
from ravine.diagnosis.training_loop.rules_output import has_single_class
from ravine.watching.backward_starts import BackwardStarts
from ravine.watching.forward_hooks import ForwardHooks, InputMonitor

FIRST_LOSSES = 8  # kept one by one
MAX_UNSUMMARIZED = 64  # losses that wait to be added to the history
PENDING_LOSSES = 10  # on an accelerator, that are read together
GRAPH_STEPS = 4  # the first, whose graph is read
MIN_LOSS_SCALE = 2.0  # a loss that is multiplied by more has a gradient scaler
SCALED_PASSES = 40  # backward passes that are remembered
MAX_TERMS = 64  # of a loss, that are followed
NONFINITE_INTERVAL = 20  # gradients of scaled losses that are not finite, after which rules run
FIRST_CLASS_BATCHES, LAST_CLASS_BATCHES = 16, 48  # whose classes are kept
NONNEGATIVE_LOSSES = (
    *("NllLoss", "MseLoss", "SmoothL1Loss"),
    *("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits"),
)


class LossReader:
    """Reads each reported loss, and its graph in inspected steps."""

    def __init__(self, forward: ForwardHooks):
        self.forward = forward
        self.history, self.inspection = forward.history, forward.inspection
        self.count = 0  # in this step, if it is inspected
        self.starts = BackwardStarts()
        self.term_passes: list[int] = []  # of a step's losses: the last that each had; -1: none
        self.scaler = ScalerMonitor()
        self.divergence = DivergenceMonitor(self.history, forward.inputs)
        self.baseline = SavedTargetBaseline()
        self.total = 0  # finite losses
        self.next_test = math.inf  # finite losses after which the rules should run
        self._unsummarized: list[float] = []
        self._pending: list[Tensor] = []  # on an accelerator
        self._graph_step = -1
        self._are_on_cpu = True

    def quiet_reader(self) -> Callable[[Any], bool]:
        """A function that reads a finite loss in a quiet step; False if `read` must do it."""
        inspection, keep = self.inspection, self._unsummarized.append
        note, loss_event = self.history.tape.append, LoopEvent.LOSS

        def read_quietly(value: Any) -> bool:
            if is_compiling() or inspection.quiet_losses <= 0 or not inspection.quiet_steps:
                return False
            try:
                number = value.item()
                if number - number != 0:  # NaN or infinite; `isfinite` takes 2 us here
                    return False
            except Exception:  # not one number
                return False
            keep(number)
            inspection.quiet_losses -= 1
            note(loss_event)
            return True

        return read_quietly

    def quiet_losses(self) -> float:
        """How many may be read one by one until the rules should run; 0 on an accelerator."""
        return min(self.next_test - self.total - 1, MAX_UNSUMMARIZED) if self._are_on_cpu else 0

    def read(self, value: Any) -> bool:
        """Read a loss. True if the rules should run."""
        self.history.tape.append(LoopEvent.LOSS)
        if self.inspection.active:
            self.count += 1
            was_read = self.starts.was_read(value)
            if isinstance(value, Tensor) and value.numel() == 1 and not was_read:
                self._read_tensor(value, self.forward.monitor.steps, is_first=self.count == 1)
        if not isinstance(value, Tensor):
            return self._add(float(value))
        self._are_on_cpu = value.is_cpu
        if value.is_cpu:
            number = value.item() if value.numel() == 1 else float(value.detach().double().mean())
            return self._add(number, loss=value)
        # one at a time, the loop would wait for the device
        self._pending.append(value.detach())
        if len(self._pending) >= PENDING_LOSSES or self.inspection.active:
            return self.read_pending()
        return False

    def read_pending(self) -> bool:
        """Read the losses that are still on an accelerator. True if the rules should run."""
        values, self._pending = self._pending, []
        means = [v.double().mean() for v in values if v.numel()]
        found = [self._add(value) for value in torch.stack(means).tolist()] if means else []
        return any(found)

    def summarize(self) -> None:
        """Add the losses that were read to the history."""
        for value in self._unsummarized:
            if len(self.history.loss.first) < FIRST_LOSSES:
                self.history.loss.first.append(value)
            if math.isfinite(value):
                self.total += 1
                self.history.loss.summary.add(value)
                self.divergence.add(value)
        self._unsummarized.clear()

    def finish(self) -> None:
        """At the end: a search for what is not finite found what it could; or read the weights."""
        history, divergence = self.history, self.divergence
        if divergence.pending is not None:
            history.nonfinite, divergence.pending = divergence.pending, None
        elif history.nonfinite is None:
            trained = {n: p for n, p in self.forward.names.parameters.items() if p.requires_grad}
            # an infinite one may be meant, as of a mask
            where = next((n for n, p in trained.items() if bool(p.detach().isnan().any())), "")
            divergence.find("weight", step=max(0, history.steps - 1), where=where)

    def before_backward(self, tensors: Any) -> None:
        """A backward pass starts: where its loss is reported late, it is read now."""
        if not self.inspection.active:
            return
        for start in (tensors,) if isinstance(tensors, Tensor) else tensors:
            if isinstance(start, Tensor) and start.grad_fn is not None and start.numel() == 1:
                is_first, step = not self.starts.starts, self.forward.monitor.steps
                if (loss := self.starts.note(start)) is not None:
                    self._read_tensor(cast(Tensor, loss), step, is_first=is_first)

    def begin_step(self) -> None:
        """Forget the last inspected step."""
        self.count, self.term_passes = 0, []
        self.starts.begin_step()

    def _read_tensor(self, value: Tensor, step: int, *, is_first: bool) -> None:
        loss = self.history.loss
        if value.grad_fn is None:
            is_leaf = isinstance(value, Tensor) and value.requires_grad
            is_leaf = is_leaf and not isinstance(value, nn.Parameter)
            loss.missing_graph = "leaf" if is_leaf else "none"
            return
        loss.missing_graph = ""
        self.scaler.scale = None
        value.register_hook(self.forward.failures.guard(self.scaler.read_scale))
        self._follow_terms(value)
        kind = self.baseline.add(value)
        loss.kind = kind if self.total == 0 or loss.kind == kind else ""
        if kind:
            loss.baseline = self.baseline.loss
            loss.baseline_error = self.baseline.standard_error
        if is_first:
            self._count_classes(value, step)
        is_due = step < GRAPH_STEPS or step % self.inspection.every == 0
        if is_due and self._graph_step != self.history.steps:
            self._graph_step = self.history.steps
            self._read_graph(value)
        self.forward.modules.nodes.clear()  # they hold a part of the graph: not beyond the step

    def _follow_terms(self, value: Tensor) -> None:
        """Note in which backward pass of the step the terms of a loss have their gradients."""
        passes, gradients = self.term_passes, self.forward.monitor.gradients

        def note(place: int, *_: Any) -> None:
            passes[place] = gradients.passes

        for term in sum_terms(value.grad_fn):
            term.register_prehook(self.forward.failures.guard(partial(note, len(passes))))
            passes.append(-1)

    def _read_graph(self, value: Tensor) -> None:
        history, modules = self.history, self.forward.modules
        names = self.forward.names
        graph = history.graph = read_graph(value, names.by_id, modules.nodes)
        if graph is None:
            return
        history.loss.parameters |= graph.parameters
        self._note_single_class(graph)
        history.model.detached_states = modules.states.detached_states(graph)
        history.model.examples_as_time = modules.time_axes.examples_as_time(graph)
        # in a game, the loss of a player that is not trained here is rightly negated
        history.loss.negated = is_negated(value) and names.are_optimized(graph.parameters)

    def _count_classes(self, value: Tensor, step: int) -> None:
        """Keep the classes or numbers of a batch with one for each example: tokens have several."""
        counts, batches = count_batch_classes(value), self.history.loss.class_counts
        count, rows = sum(counts.values()), self.history.inputs.rows
        if found := read_target_range(value):
            ranges = self.history.loss.target_ranges
            ranges.append((step, *found))
            del ranges[FIRST_CLASS_BATCHES:-LAST_CLASS_BATCHES]
        if count < 2 or rows not in (0, count):
            return
        batches.append((step, counts))
        del batches[FIRST_CLASS_BATCHES:-LAST_CLASS_BATCHES]

    def _note_single_class(self, graph: Graph) -> None:
        """Note whether the targets of this loss are of the one class that earlier ones were of."""
        loss = self.history.loss
        if loss.single_class_reads < 0:
            return
        classes = {n.low for n in graph.nodes if n.name == "NllLoss"}
        is_single = len(classes) == 1 and has_single_class(graph)
        if is_single and (not loss.single_class_reads or loss.single_class in classes):
            loss.single_class_reads += 1
            loss.single_class = classes.pop()
        else:
            loss.single_class_reads = -1

    def _add(self, value: float, loss: Tensor | None = None) -> bool:
        """Add a loss to the history. True if the place of a number that is not finite is known."""
        history, divergence = self.history, self.divergence
        self._unsummarized.append(value)
        self.summarize()
        if math.isfinite(value):
            if self.total >= self.next_test:
                self.inspection.quiet_steps = 0
            if divergence.pending is None:
                return False
        if history.nonfinite is not None:
            return False
        modules = self.forward.modules
        if divergence.pending is None:
            parameters = self.forward.names.parameters.items()
            broken = (n for n, p in parameters if not bool(torch.isfinite(p.detach()).all()))
            weight = next(broken, "")
            origin = None if weight else _origin_of(loss)
            divergence.begin(value, where=weight, origin=origin)
            searches = not weight and origin is None
            self.forward.search_nonfinite(searches)
            if searches:
                return False  # the next forward pass shows in which module
        divergence.complete(modules.nonfinite_module or "loss")
        modules.searches = False
        return True


def _origin_of(loss: Tensor | None) -> NonFiniteOrigin | None:
    """What the graph of a loss shows of a number that is not finite; None where there is none."""
    if loss is None or loss.grad_fn is None:
        return None
    try:
        with torch.no_grad():
            return find_nonfinite_origin(loss)
    except Exception:  # an operation that keeps something unusual: the finding goes without
        return None


@dataclass(eq=False)
class ScalerMonitor:
    """By how much a gradient scaler multiplies the loss, and which gradients it makes overflow."""

    scale: float | None = None  # the gradient of the last reported loss
    is_used: bool = False
    are_finite: deque[bool] = field(default_factory=lambda: deque(maxlen=SCALED_PASSES))
    remaining: int = NONFINITE_INTERVAL  # gradients not finite until the rules should run

    def read_scale(self, grad: Tensor) -> None:
        self.scale = float(grad.detach())

    def add_gradient(self, norm: float | None) -> None:
        """Note the norm of a gradient that arrived at the observed parameter."""
        if norm is None or self.scale is None:
            return
        self.is_used = self.is_used or abs(self.scale) >= MIN_LOSS_SCALE
        if not self.is_used:
            return
        is_finite = math.isfinite(norm)
        # at first, a scaler lowers its scale until nothing overflows
        if is_finite or self.are_finite or abs(self.scale) <= 1:
            self.are_finite.append(is_finite)
            self.remaining -= not is_finite

    def summary(self) -> ScaledGradients:
        count = len(self.are_finite)
        return ScaledGradients(count=count, nonfinite=count - sum(self.are_finite))


@dataclass(eq=False)
class DivergenceMonitor:
    """The losses up to the first number that is not finite, and where that number is."""

    history: LoopHistory
    inputs: InputMonitor
    first: float | None = None
    highest: float = -math.inf  # of the finite losses
    last: float = math.nan
    pending: NonFiniteEvent | None = None  # its place is being searched

    def add(self, value: float) -> None:
        """Add a finite loss."""
        if self.first is None:
            self.first = value
        self.highest = max(self.highest, value)
        self.last = value

    def begin(self, value: float, *, where: str, origin: NonFiniteOrigin | None) -> None:
        """A loss is not finite; `origin` is what its graph shows of that."""
        event = self._event(value, what="loss", step=self.history.steps, where=where)
        self.pending = replace(event, origin=origin)

    def _event(self, loss: float, *, what: str, step: int, where: str) -> NonFiniteEvent:
        first = loss if self.first is None else self.first
        readings = self.history.inputs.readings
        before = median([reading.std for reading in readings if reading.step < step] or [0.0])
        is_known = before > 0 and readings[-1].step == step
        norms = [s.weight_norm for s in self.history.snapshots if math.isfinite(s.weight_norm)]
        return NonFiniteEvent(
            step=step,
            what=what,
            where=where,
            nonfinite_inputs=self.inputs.nonfinite,
            first_loss=first,
            highest_loss=max(self.highest, first),
            last_loss=self.last,
            lr=self.history.rates.now,
            input_growth=readings[-1].std / before if is_known else None,
            weight_growth=norms[-1] / max(norms[0], 1e-30) if norms else 1.0,
        )

    def complete(self, where: str) -> None:
        """The place is known, or cannot be known better."""
        event, self.pending = self.pending, None
        assert event is not None
        inputs, where = self.inputs.nonfinite, event.where or where
        self.history.nonfinite = replace(event, where=where, nonfinite_inputs=inputs)

    def add_gradient_norms(self, norms: Mapping[str, float], *, step: int) -> None:
        """Check the gradients of an inspected step while the loss is still finite."""
        if self.history.nonfinite is not None or self.pending is not None:
            return
        where = next((name for name, norm in norms.items() if not math.isfinite(norm)), "")
        if step or math.isfinite(self.last):  # the first loss may still be reported
            self.find("gradient", step=step, where=where)

    def find(self, what: str, *, step: int, where: str) -> None:
        """A weight or a gradient is not finite; "": none is."""
        if where:
            self.history.nonfinite = self._event(self.last, what=what, step=step, where=where)


def sum_terms(node: Any) -> list[Any]:
    """The nodes whose outputs are added up, perhaps times numbers, to the output of one."""
    waiting, terms = [node], []
    for found in waiting:  # grows while it is read
        if node_name(found) in ("Add", "Sub", *SCALING_NODES) and len(waiting) < MAX_TERMS:
            waiting += [source for source, _ in found.next_functions if source is not None]
        else:
            terms.append(found)
    return terms


def is_negated(loss: Tensor) -> bool:
    """Whether a loss that cannot be negative is, with nothing but a sign before it."""
    node: Any = loss.grad_fn
    if node is None or float(loss.detach()) >= 0:
        return False
    sources = [n for n, _ in node.next_functions if n is not None]
    if node_name(node) not in ("Neg", "Mul") or len(sources) != 1:
        return False
    name = node_name(sources[0])
    if name == "NllLoss" and node_name(sources[0].next_functions[0][0]) != "LogSoftmax":
        return False
    return name in NONNEGATIVE_LOSSES
