"""What a program's batches, model and loss look like, found by trying: `find_form` makes of them a
model from one tensor to one tensor, and a loss of outputs and targets.

What matters of inputs, outputs and targets is found by leaving each part out: without one that does
not matter, model and loss give the very same. One tensor that matters is handed on as it is,
several are packed. Where that is not possible (a step function, a loss that the model computes,
batches that are not made of rows), the form is `whole`: the engine's rows are batches, its outputs
their losses.

Letters: N examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ravine.errors import InputError, shorten, typed_message, wrap_errors
from ravine.examination.known_losses import find_known_loss
from ravine.examination.nested import (
    Nested,
    Path,
    iterate_leaves,
    iterate_paths,
    leaves_at,
    map_leaves,
    map_paths,
    take_rows,
)
from ravine.examination.packed_inputs import (
    Packing,
    adapt_model,
    as_tensor,
    call_nested,
    lay_out_as,
    require_tensor,
    split_batch,
)
from ravine.examination.scores import are_classes
from ravine.examination.ways_to_run import (
    FoundWay,
    Loss,
    ProgramTrial,
    Way,
    is_same_loss,
    list_ways,
    loss_or_nan,
)
from ravine.rng import isolated_rng

Pair: TypeAlias = tuple[Tensor, Tensor]  # inputs and targets
MAX_LEAVES = 48  # of which each is left out once
NO_CALL = "the model does not take the inputs of a batch"
SAME_LOSS_TOLERANCE = 1e-5  # relative: sums in another order
CLASS_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
PASSING_BATCHES = 4  # that are kept while they pass
ANSWER_PROBES = frozenset(("pairing", "layout", "causality", "loss"))  # of answers to targets
WHOLE_PROBES = ANSWER_PROBES | {"mixing", "repeat", "dependence"}  # of outputs by example


@dataclass(frozen=True, kw_only=True)
class Form:
    """A program as the engine runs it. `answer` gives of the outputs the tensor that answers the
    targets; it is None where no single one does.
    """

    model: nn.Module
    loss: Loss
    pair: Callable[[Any], Pair]  # inputs [N, ...] and targets [N, ...] of a batch
    packing: Packing | None = None  # of inputs that are no single tensor
    target_packing: Packing | None = None  # of several targets
    answer: Callable[[Tensor], Tensor] | None = None
    plain_outputs: bool = False  # a tensor that is not packed
    targets: str = "none"  # "one" tensor, "several" packed, or "none" that the loss uses
    whole: BatchStore | None = None  # the batches, where these are the rows
    like: Any = ()  # a batch
    rows: int | None = None  # that run at once in evaluation, with the same random numbers; or all

    def run(self, model: nn.Module, inputs: Tensor) -> Any:
        """The outputs for many rows, with memory for a batch."""
        if self.rows is None or len(inputs) <= self.rows:
            return model(inputs)
        return torch.cat([model(part) for part in inputs.split(self.rows)])

    def pair_as_trained(self, batch: Any) -> Pair:
        """Inputs and targets of a batch that may be laid out in another way than those of training.
        Raises `InputError` where it cannot be read as one of these.
        """
        what = "the validation examples are not laid out as the training batches"
        do = "give them as the loader gives its batches, or as (inputs, targets)"
        with wrap_errors(InputError, what, do, why=typed_message):
            return self.pair(lay_out_as(self.like, batch))

    @property
    def unmeasured_probes(self) -> frozenset[str]:
        """The probes of the start that ask for more than is known of outputs and targets."""
        if self.whole is not None:
            return WHOLE_PROBES
        return frozenset() if self.plain_outputs and self.targets == "one" else ANSWER_PROBES

    def answer_of(self, outputs: Any) -> Any:
        """Of outputs the tensor that answers the targets, if there is one."""
        return None if self.answer is None else self.answer(outputs)


@dataclass
class BatchStore:
    """Batches by number: those that were kept, and the last few of those that pass."""

    device: torch.device
    batches: dict[int, Any] = field(default_factory=dict)
    passing: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, batch: Any) -> Pair:
        """A row [1, 1] that stands for a batch, and no targets [1, 0]."""
        self.batches[self.count] = move_batch(batch, self.device)
        self.passing.append(self.count)
        self.count += 1
        while len(self.passing) > PASSING_BATCHES:
            del self.batches[self.passing.pop(0)]
        return torch.tensor([[self.count - 1]]), torch.zeros(1, 0)


def move_batch(batch: Any, device: torch.device) -> Any:
    """A batch where its model is. What is no container is asked to move by its `to`."""
    devices = {leaf.device.type for leaf in iterate_leaves(batch) if isinstance(leaf, Tensor)}
    if devices | {device.type} == {"cpu"}:
        return batch
    own = getattr(batch, "to", None)  # of a PackedSequence, too
    if callable(own):
        return own(device)
    return map_leaves(batch, lambda x: x.to(device) if callable(getattr(x, "to", None)) else x)


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter of a model is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def whole_form(model: nn.Module, value: Callable[[Any, Any], Tensor]) -> Form:
    """The form of a program of which no more is known than its loss on a batch."""
    store = BatchStore(device_of(model))

    def run(call: Callable[..., Any], model: nn.Module, rows: Tensor) -> Tensor:
        batches = [store.batches[int(row)] for row in rows.flatten()]
        try:
            losses = [value(model, batch) for batch in batches]
        except RuntimeError:
            if torch.is_grad_enabled():
                raise
            with torch.enable_grad():  # a loss may need gradients, also in evaluation
                losses = [value(model, batch).detach() for batch in batches]
        return torch.stack([loss.reshape(()) for loss in losses])

    mean: Loss = lambda outputs, targets: outputs.mean()  # noqa: E731
    return Form(model=adapt_model(model, run), loss=mean, pair=store.add, whole=store, rows=1)


def find_form(trial: ProgramTrial, found: FoundWay, loss: Loss | None, batch: Any) -> Form:
    """The simplest form in which model and loss run on a batch, by the way that was found. Raises
    `InputError` if there is none; inputs and targets that do not run have the usual form, and say
    what is wrong once they are run.
    """
    usual = found.way
    if found.runs and usual is not None:
        return _Reduction(trial, usual, batch, found.outputs).form()
    may_pair = not found.called or isinstance(batch, list | tuple)
    if usual is None and loss is not None and may_pair:
        inputs, _ = split_batch(batch)
        if isinstance(inputs, Tensor):
            usual = next(iter(list_ways(trial.original, loss, batch)))
        else:
            Packing().pack(inputs)
    if usual is not None and usual.targets == "targets":
        return _Reduction(trial, usual, batch, None).usual_form()
    what = "model and loss do not run on a batch" if found.called else NO_CALL
    why = "; ".join(f"{name}: {error}" for error, name in found.errors.items())
    do = "give batches (inputs, targets) and loss(outputs, targets), or loss(outputs, batch), or "
    do += "step=, a function of model and batch to the loss"
    raise InputError(what, why=shorten(why, 300), do=do)


@dataclass
class _Part:
    """The leaves that matter of inputs, outputs or targets: one, or several that are packed."""

    paths: list[Path]
    template: Nested

    def __post_init__(self) -> None:
        self.packing = None if len(self.paths) == 1 else Packing()
        self.template = map_leaves(self.template, lambda leaf: "")  # some drop what is None

    def pick(self, nested: Nested) -> Tensor:
        """The one leaf, or those packed. Raises `InputError` if one is no tensor."""
        leaves = [require_tensor(leaf) for leaf in leaves_at(nested, self.paths)]
        return leaves[0] if self.packing is None else self.packing.pack(leaves)

    def pick_outputs(self, outputs: Nested) -> Tensor:
        """The same with the graph; several in the widest of their formats."""
        leaves = leaves_at(outputs, self.paths)
        widest = max((leaf.dtype for leaf in leaves), key=lambda dtype: dtype.itemsize)
        packing = self.packing
        return leaves[0] if packing is None else packing.pack([x.to(widest) for x in leaves])

    def place(self, rows: Tensor) -> Nested:
        """What was picked where it belongs; None in place of all else."""
        leaves = [rows] if self.packing is None else self.packing.unpack(rows)
        by_path = dict(zip(self.paths, leaves, strict=True))
        return map_paths(self.template, lambda path, leaf: by_path.get(path))


def find_used(nested: Nested, is_same: Callable[[Nested], bool]) -> list[Path]:
    """The paths of the leaves without which something is not the same.

    >>> find_used({"a": 1, "b": (2, 3)}, lambda some: some["b"][1] == 3)
    [('b', 1)]
    """
    paths = [path for path, leaf in iterate_paths(nested) if leaf is not None]
    if len(paths) > MAX_LEAVES:
        return paths

    def holds(kept: Callable[[Path], bool]) -> bool:
        try:
            return is_same(map_paths(nested, lambda path, x: x if kept(path) else None))
        except Exception:  # whatever is raised where something is missing
            return False

    used = [path for path in paths if not holds(lambda other, path=path: other != path)]
    return used if holds(used.__contains__) else paths


@dataclass
class _Reduction:
    """A way that runs on a batch, reduced to what matters of its inputs, outputs and targets."""

    trial: ProgramTrial
    way: Way
    batch: Any
    outputs: Any

    def form(self) -> Form:
        inputs, targets = self._split()
        outputs = self.outputs
        if self.way.targets == "targets" and isinstance(outputs, Tensor) and outputs.dim():
            leaves = [*iterate_leaves(inputs), targets]
            if all(isinstance(leaf, Tensor) for leaf in leaves) and self._are_examples(inputs):
                return self.usual_form(self.trial.uses_targets(self.way, outputs, targets))
        return self._form_by_rows() or self._whole_form()

    def usual_form(self, uses_targets: bool = True) -> Form:
        """The form of a loss of outputs and targets, with all parts of the inputs."""
        inputs, targets = self._split()
        before = _Part([path for path, _ in iterate_paths(inputs)], inputs)
        return self._make(before, None, _Part([()], targets) if uses_targets else None)

    def _whole_form(self) -> Form:
        way = self.way

        def value(model: Any, batch: Any) -> Tensor:
            inputs, targets = (map_leaves(part, as_tensor) for part in way.split(batch))
            return way.loss(call_nested(model, inputs, way.call), targets)

        return whole_form(self.trial.original, value)

    def _split(self) -> tuple[Nested, Nested]:
        inputs, targets = self.way.split(self.batch)
        return map_leaves(inputs, as_tensor), map_leaves(targets, as_tensor)

    def _form_by_rows(self) -> Form | None:
        """The form of what matters; None where that is not made of rows."""
        trial, outputs = self.trial, self.outputs
        if self.way.targets == "none":
            way = find_known_loss(self.way, outputs, map_leaves(self.batch, as_tensor), trial)
            self.way = way or self.way
        inputs, targets = self._split()
        value = trial.value(self.way, outputs, targets)

        def loss_is_same(some_outputs: Nested, some_targets: Nested) -> bool:
            return is_same_loss(trial.value(self.way, some_outputs, some_targets), value)

        of_outputs = find_used(outputs, lambda some: loss_is_same(some, targets))
        of_targets: list[Path] = []
        if self.way.targets != "none":
            of_targets = find_used(targets, lambda some: loss_is_same(outputs, some))
        answers = leaves_at(outputs, of_outputs)
        if not answers or not all(_has_rows(x) and x.is_floating_point() for x in answers):
            return None

        def answers_are_same(some: Nested) -> bool:
            found = leaves_at(trial.outputs(self.way, some), of_outputs)
            pairs = zip(found, answers, strict=True)
            return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)

        of_inputs = find_used(inputs, answers_are_same)
        used = [*leaves_at(inputs, of_inputs), *leaves_at(targets, of_targets), *answers]
        if not of_inputs or not all(map(_has_rows, used)) or len({len(x) for x in used}) != 1:
            return None
        before = _Part(of_inputs, inputs)
        if not self._are_examples(before.place(before.pick(inputs))):
            return None
        after = _Part(of_targets, targets) if of_targets else None
        return self._make(before, _Part(of_outputs, outputs), after)

    def _are_examples(self, inputs: Nested) -> bool:
        """Whether all tensors have a row for each example, and the model runs on half of them."""
        leaves = [leaf for leaf in iterate_leaves(inputs) if leaf is not None]
        if len(leaves) == 1 or not all(map(_has_rows, leaves)):
            return len(leaves) == 1
        rows = len(leaves[0])
        try:
            self.trial.outputs(self.way, take_rows(inputs, slice((rows + 1) // 2)))
        except Exception:  # whatever the model raises
            return False
        return all(len(leaf) == rows for leaf in leaves)

    def _make(self, inputs: _Part, outputs: _Part | None, targets: _Part | None) -> Form:
        """The form of parts: `outputs` is None for all that the model gives."""
        way, trial = self.way, self.trial
        given = self._split()[1]

        def pair(batch: Any) -> Pair:
            before, after = way.split(move_batch(batch, trial.device))
            rows = inputs.pick(before)
            if targets is None:
                return rows, torch.zeros(len(rows), 0, device=trial.device)
            return rows, targets.pick(after)

        def run(call: Callable[..., Any], model: nn.Module, rows: Tensor) -> Any:
            made = call_nested(call, inputs.place(rows), way.call)
            return made if outputs is None else outputs.pick_outputs(made)

        def loss(out: Tensor, y: Tensor) -> Tensor:
            made = out if outputs is None else outputs.place(out)
            if targets is None:  # it does not matter what they are
                dummy = isinstance(given, Tensor) and given.new_zeros(len(out), *given.shape[1:])
                return way.loss(made, None if dummy is False else dummy)
            return way.loss(made, targets.place(y))

        plain_outputs = outputs is None or outputs.paths == [()]
        several = outputs is not None and outputs.packing is not None
        count, answer = "none", None
        if targets is not None:
            count = "one" if targets.packing is None else "several"
        if targets is not None and count == "one":
            (one,) = leaves_at(given, targets.paths)
            made = self.outputs if outputs is None else outputs.pick_outputs(self.outputs)
            if tells_classes_apart(loss, made, targets.pick(given)):
                answer = _find_answer(outputs, self.outputs, one)
        plain = inputs.paths == [()] and way.call == "argument" and plain_outputs
        return Form(
            model=trial.original if plain else adapt_model(trial.original, run),
            loss=way.loss if plain_outputs and targets and targets.paths == [()] else loss,
            pair=pair,
            packing=inputs.packing,
            target_packing=None if targets is None else targets.packing,
            answer=answer,
            plain_outputs=not several,
            targets=count,
            rows=None if outputs is None else len(inputs.pick(self._split()[0])),
        )


def tells_classes_apart(loss: Loss, outputs: Any, targets: Tensor) -> bool:
    """Whether it matters to a loss which class is which. It does not to one that asks for classes
    to lie apart, as of triplets or centers: no output stands for a class.
    """
    if not isinstance(outputs, Tensor) or not outputs.numel() or targets.dtype not in CLASS_DTYPES:
        return True
    classes, varied = targets.unique(), bool((outputs != outputs.flatten()[0]).any())
    if len(classes) < 2 or int(classes[0]) < 0 or not varied:
        return True
    renamed = classes.roll(1)[torch.searchsorted(classes, targets)]
    losses = []
    for names in (targets, renamed):
        with isolated_rng(), torch.no_grad():
            losses.append(float(loss_or_nan(loss, outputs, names)))
    return not math.isclose(*losses, rel_tol=SAME_LOSS_TOLERANCE)


def _find_answer(
    part: _Part | None, outputs: Any, targets: Tensor
) -> Callable[[Tensor], Tensor] | None:
    """What answers the targets: the first output of their shape, or with a number for a class."""
    if part is None or part.packing is None:
        return lambda rows: rows
    packing = part.packing
    for place, leaf in enumerate(leaves_at(outputs, part.paths)):
        if leaf.shape == targets.shape or are_classes(leaf, targets):
            return lambda rows, place=place: packing.unpack(rows)[place]
    return None


def _has_rows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
