"""A torch program: it trains again and again, on deep copies and with random numbers of its own.

Letters: N examples, G groups of examples.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ravine.examination.program_forms import Form, Pair
from ravine.examination.scores import scaled_score
from ravine.examination.torch_data import LoaderData, TensorData
from ravine.examination.ways_to_run import Loss, loss_or_nan
from ravine.finding import Report
from ravine.rng import isolated_rng, seed_generators
from ravine.watching.watcher import watch

PROFILED_EXAMPLES = 4096  # of the training examples that are measured
EVALUATED_EXAMPLES = 1024
LARGE_MODEL_BYTES = 2**30  # of parameters
LOSS_GROUPS = 16  # parts of the examples whose losses are compared in pairs
MAX_BAD_LOSSES = 3  # that are not finite, after which a run ends


@dataclass(frozen=True)
class Evaluation:
    """The network at one step, in evaluation mode: losses of G groups of examples, and a score
    where one is known. On the validation examples where there are any, else on training examples.
    """

    step: int
    losses: tuple[float, ...]
    score: float | None

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


@dataclass
class TorchRun:
    """What a run left: losses of every step, evaluations, the model, and a watcher's report."""

    losses: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    model: nn.Module | None = None
    report: Report | None = None

    @property
    def last(self) -> Evaluation:
        return self.evaluations[-1]

    @property
    def has_diverged(self) -> bool:
        return not all(map(math.isfinite, self.losses)) or not math.isfinite(self.last.loss)

    def evaluate(self, model: nn.Module, loss: Loss, examples: Pair, form: Form) -> None:
        """Add an evaluation of the model as it is after the last step."""
        inputs, targets = examples
        with evaluating(model, seed=None if form.rows is None else 0):
            outputs = model(inputs) if form.rows is None else form.run(model, inputs)
            losses = losses_by_group(loss, outputs, targets)
            score = scaled_score(form.answer_of(outputs), targets, loss)
        self.evaluations.append(Evaluation(len(self.losses), losses, score))

    def until(self, step: int) -> TorchRun:
        """The run as it stood at its first evaluation from a step on, or at its end."""
        end = next((e for e in self.evaluations if e.step >= step), self.last)
        evaluations = [e for e in self.evaluations if e.step <= end.step]
        return TorchRun(self.losses[: end.step], evaluations, self.model)


@dataclass(frozen=True, kw_only=True)
class TorchProgram:
    """What `examine` was given, checked (see `torch_arguments.read_program`)."""

    model: nn.Module
    loss: Loss
    train: TensorData | LoaderData
    form: Form
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | Optimizer
    epochs: float
    validation: Pair | None = None
    held_out: bool = False  # the validation examples were taken out of the training examples
    evaluated: int = EVALUATED_EXAMPLES  # at once, and no more
    seed: int = 0
    clip: float | None = None
    evaluation_loss: Loss | None = None  # where a change has given training another loss
    # applied to each copy of model and optimizer before training
    prepare: tuple[Callable[[nn.Module, Optimizer], None], ...] = ()
    initialize: Callable[[nn.Module], None] | None = None  # sets the weights by a forward pass
    loss_reads_parameters: bool = False  # of `model`, as a penalty does

    @property
    def steps(self) -> int:
        """Updates in the whole budget."""
        return max(1, round(self.epochs * len(self.train)))

    @property
    def is_large(self) -> bool:
        """Whether copies of the model are so large that few are made."""
        parameters = self.model.parameters()
        return sum(p.numel() * p.element_size() for p in parameters) > LARGE_MODEL_BYTES

    def build(self) -> tuple[nn.Module, Optimizer]:
        """A copy of the model, and an optimizer of the copy's parameters."""
        if isinstance(self.optimizer, Optimizer):
            model, optimizer = copy.deepcopy((self.model, self.optimizer))
        else:
            model = copy.deepcopy(self.model)
            optimizer = self.optimizer(model.parameters())
        for change in self.prepare:
            change(model, optimizer)
        return model, optimizer

    @contextlib.contextmanager
    def substitute_parameters(self, model: nn.Module) -> Iterator[None]:
        """While this lasts, `self.model` has the parameters of its copy `model`, if the loss reads
        any: a penalty on the weights is then one on those that are trained. So are the buffers.
        """
        modules = zip(self.model.modules(), model.modules(), strict=True)
        pairs = [*modules] if self.loss_reads_parameters else []
        own = [(original._parameters, original._buffers) for original, _ in pairs]
        try:
            for original, copied in pairs:
                original._parameters, original._buffers = copied._parameters, copied._buffers
            yield
        finally:
            for (original, _), (parameters, buffers) in zip(pairs, own, strict=True):
                original._parameters, original._buffers = parameters, buffers

    def examples(self, count: int = PROFILED_EXAMPLES) -> Pair:
        """Some training examples."""
        with isolated_rng(self.seed):
            return self.train.first(count)

    def evaluated_examples(self) -> Pair:
        """The training examples on which a model is evaluated."""
        inputs, targets = self.examples(EVALUATED_EXAMPLES)
        return inputs[: self.evaluated], targets[: self.evaluated]

    def evaluation_examples(self) -> Pair:
        """The examples on which runs are compared."""
        inputs, targets = self.validation or self.evaluated_examples()
        return inputs[: self.evaluated], targets[: self.evaluated]

    def keeping_measure(self) -> TorchProgram:
        """The program evaluated by its present loss, also where a change gives training another."""
        return self if self.evaluation_loss else replace(self, evaluation_loss=self.loss)


def train_program(
    program: TorchProgram,
    *,
    seed: int,
    steps: int | None = None,
    evaluate_at: Iterable[int] = (),
    watched: bool = False,
    end: float | None = None,
) -> TorchRun:
    """Train a copy of the program's model for `steps` (its whole budget) with the order drawn from
    `seed`. It is evaluated at the steps `evaluate_at` (0 is before the first) and at the end. If
    `watched`, a watcher reports its faults. The third loss that is not finite ends the run, and so
    does the first step after `end`, by the monotonic clock.
    """
    train_loss = copy_loss(program.loss, program.model)  # one may remember its calls
    evaluation_loss = copy_loss(program.evaluation_loss or program.loss, program.model)
    steps = program.steps if steps is None else steps
    due = {*evaluate_at, steps}
    examples = program.evaluation_examples()
    run = TorchRun()
    with isolated_rng(seed):
        model, optimizer = program.build()
        if program.initialize is not None:
            program.initialize(model)
        model.train()
        if 0 in due:
            run.evaluate(model, evaluation_loss, examples, program.form)
        seed_generators(seed + 1)  # the order is the same whatever was drawn while building
        bad = 0
        passes = (program.train.epoch() for _ in itertools.count())
        batches = itertools.islice(itertools.chain.from_iterable(passes), steps)
        watcher = watch(model, optimizer, quiet=True) if watched else None
        with watcher or contextlib.nullcontext():
            for inputs, targets in batches:
                optimizer.zero_grad()
                outputs = model(inputs)
                with program.substitute_parameters(model):
                    loss = loss_or_nan(train_loss, outputs, targets)
                if watcher is not None:
                    watcher.loss(loss)
                if loss.requires_grad:
                    loss.backward()
                if program.clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), program.clip)
                optimizer.step()
                run.losses.append(float(loss.detach()))
                broken = not math.isfinite(run.losses[-1])
                bad += broken
                late = end is not None and time.monotonic() > end
                if len(run.losses) in due or (broken and bad == 1) or late:
                    run.evaluate(model, evaluation_loss, examples, program.form)
                if late or bad >= MAX_BAD_LOSSES:  # the last two show a watch where it began
                    break
    run.model = model
    run.report = watcher and watcher.report()
    return run


def copy_loss(loss: Any, model: nn.Module) -> Any:
    """A copy of a loss that is a module, with the model's own parts; other losses as they are."""
    if not isinstance(loss, nn.Module):
        return loss
    parts = (*model.modules(), *model.parameters(), *model.buffers())
    return copy.deepcopy(loss, {id(part): part for part in parts})


@contextlib.contextmanager
def keeping_buffers(model: Any) -> Iterator[None]:
    """Whatever is done to a module's buffers is undone, also where an error ends it."""
    buffers = model.buffers() if isinstance(model, nn.Module) else ()
    before = [(buffer, buffer.clone()) for buffer in buffers if not is_lazy(buffer)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


@contextlib.contextmanager
def evaluating(model: nn.Module, *, seed: int | None = None) -> Iterator[None]:
    """Evaluation mode without gradients, then as before; with a `seed`, equal random numbers."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), isolated_rng(seed):
            yield
    finally:
        model.train(training)


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU, the algorithms that give the same numbers every time, where there are any."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic.*")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def showing_warnings_once() -> Iterator[None]:
    """Every warning of a program once, whatever numbers it has: each of its runs repeats it."""
    known: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_new(message: Warning | str, *about: Any) -> None:
            kind = re.sub(r"[\d., ]+", "", str(message))
            if kind not in known:
                known.add(kind)
                show(message, *about)

        warnings.showwarning = show_new
        yield


def losses_by_group(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[float, ...]:
    """The loss of each of up to G groups of neighboring examples, from outputs; the loss of all
    together where that of a group raises or is not finite, as where all its targets are ignored.
    """
    if not isinstance(outputs, Tensor) or len(outputs) != len(targets):
        return (float(loss_or_nan(loss, outputs, targets)),)
    groups = min(LOSS_GROUPS, max(1, len(targets) // 4))
    places = torch.arange(len(targets)).tensor_split(groups)
    try:
        found = tuple(float(loss_or_nan(loss, outputs[p], targets[p])) for p in places)
    except Exception:  # of a loss of so many examples as there are, or one that is wrong
        found = ()
    if found and all(map(math.isfinite, found)):
        return found
    return (float(loss_or_nan(loss, outputs, targets)),)
