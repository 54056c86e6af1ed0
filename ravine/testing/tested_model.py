"""What a test gives, a model, a loss and a batch of any shape, as a program that the probes run.

The inputs of that program are places in the batch, numbers [N] of examples or [N, T] of examples at
each place in time, and its model looks them up: a probe that exchanges examples need not know what
a batch holds. Letters: N examples, T places.
"""

import contextlib
import copy
import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ravine.diagnosis.initialization.probed_program import ProbedProgram, prepare_program
from ravine.errors import InputError, typed_message, wrap_errors
from ravine.examination.packed_inputs import split_batch
from ravine.rng import isolated_rng
from ravine.statistics import even_places

MIN_TESTED_ROWS = 34  # of a probed batch: of fewer examples some come several times
MAX_TESTED_ROWS = 256  # on which a loss is probed
RUN_ADVICE = "call loss(model(inputs), targets) on this batch yourself"
Join = Callable[[Any, Tensor], Tensor]  # makes one tensor of outputs, by the places of the inputs
explain_errors = partial(
    wrap_errors, InputError, "the model does not run", RUN_ADVICE, why=typed_message
)


@dataclass(frozen=True)
class TestedModel:
    """Copies of a model and of what is built on it, the inputs of a batch and the call that takes
    them ("argument", "arguments", "keywords"), and the loss of outputs and `targets`, a tensor or
    the batch. Without a loss the outputs have it.
    """

    model: nn.Module
    inputs: Any
    call: str
    loss: Callable[[Any, Any], Any] | None = None
    targets: Any = None
    optimizer: Any = None

    @property
    def rows(self) -> Tensor:
        """The numbers of all examples, [N]."""
        return torch.arange(len(tree_leaves(self.inputs)[0]))

    def distinct_rows(self) -> Tensor:
        """The numbers of examples with different inputs. Raises `InputError` for fewer than two."""
        flat = [x.reshape(len(x), -1).double() for x in tree_leaves(self.inputs)]
        groups = torch.unique(torch.cat(flat, 1), dim=0, return_inverse=True)[1].tolist()
        first = {group: row for row, group in reversed([*enumerate(groups)])}
        if len(first) < 2:
            why, do = "examples are compared", "give a batch with different ones"
            raise InputError("the batch has fewer than two different inputs", why=why, do=do)
        return torch.tensor(sorted(first.values()))

    def model_of_places(self, join: Join, time_dim: int = 1) -> nn.Module:
        """The model as it takes places, its outputs joined; weights and names are its own."""
        parent = type(self.model)

        def forward(model: Any, places: Tensor) -> Tensor:
            inputs = take_places(self.inputs, places, time_dim)
            if self.call == "keywords":
                return join(parent.forward(model, **inputs), places)
            arguments = inputs if self.call == "arguments" else [inputs]
            return join(parent.forward(model, *arguments), places)

        found = copy.copy(self.model)
        found.__class__ = type(parent.__name__, (parent,), {"forward": forward})
        return found

    def with_loss(self, rows: Tensor) -> tuple[nn.Module, Callable[[Any, Any], Tensor], Tensor]:
        """The model of places, its loss, and the targets of some rows."""
        model = self.model_of_places(join_numbers)
        if isinstance(self.targets, Tensor):
            return model, self.evaluate_loss, self.targets[rows]
        return model, lambda out, at: self.evaluate_loss(out, take_places(self.targets, at)), rows

    def evaluate_loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss as a tensor of one number. Raises `InputError` if it is none."""
        outputs = getattr(outputs, "nested", outputs)
        value = _find_loss(outputs) if self.loss is None else self.loss(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            do = "return one number, or give None as the loss if the outputs have it"
            raise InputError(f"the loss gives {shape}", why="a step follows one number", do=do)
        return value

    def probe_loss(self, seed: int, rows: Tensor | None = None) -> ProbedProgram:
        """The program with its loss, on some rows of the batch."""
        rows = even_places(len(self.rows), MAX_TESTED_ROWS) if rows is None else rows
        model, loss, targets = self.with_loss(rows)
        return prepare_program(model, loss, rows, targets, seed=seed)

    def probe_outputs(self, seed: int, time_dim: int | None = None) -> ProbedProgram:
        """The program without a loss, on different examples; with `time_dim` by places in time."""
        distinct, join = self.distinct_rows(), partial(join_outputs, time_dim=time_dim)
        # none of these rows is equal to that half of them later
        half = next(h for h in range(MIN_TESTED_ROWS // 2, MIN_TESTED_ROWS) if h % len(distinct))
        rows = distinct[torch.arange(2 * half) % len(distinct)]
        if time_dim is not None:
            leaves = tree_leaves(self.inputs)
            places = max((x.shape[time_dim] for x in leaves if x.dim() > time_dim), default=0)
            if places < 2:
                why = f"dimension {time_dim} has no two places"
                raise InputError("the inputs have no time", why=why, do="give dim=..., or more")
            rows = rows[:, None].repeat(1, places)
        model = self.model_of_places(join, time_dim or 1)
        return prepare_program(model, lambda out, _: out.sum(), rows, rows, seed=seed)


def read_batch(model: Any, loss: Any, batch: Any, optimizer: Any = None) -> TestedModel:
    """The program behind the arguments of an assertion. Raises `InputError` for what cannot run.

    A loss whose second parameter is named `batch` gets the whole batch in place of the targets.
    """
    inputs, targets, whole = batch, batch, loss is None or _second_parameter(loss) == "batch"
    if loss is not None:
        try:
            inputs, targets = split_batch(batch)
        except InputError:
            if not whole:
                raise
    given = read_inputs(model, inputs, optimizer)
    loss = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
    return dataclasses.replace(given, loss=loss, targets=_as_dict(batch) if whole else targets)


def read_inputs(model: Any, inputs: Any, optimizer: Any = None) -> TestedModel:
    """Copies of a model and of what is built on it, with inputs: a tensor, a tuple of arguments, a
    dict of keywords, or one of these as one argument.
    """
    if not isinstance(model, nn.Module):
        why, do = "only a torch.nn.Module can be tested", "give the module itself"
        raise InputError(f"the model is a {type(model).__name__}", why=why, do=do)
    # what was compiled is taken as it was before
    model, optimizer = copy.deepcopy((getattr(model, "_orig_mod", model), optimizer))
    inputs = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, _as_dict(inputs))
    if not all(isinstance(x, Tensor) and x.dim() for x in tree_leaves(inputs)):
        why, do = "each has a row for every example", "give tensors, in tuples or dicts"
        raise InputError("the inputs are no tensors", why=why, do=do)
    ways = ["keywords"] if isinstance(inputs, dict) else []
    ways += ["arguments"] if isinstance(inputs, tuple | list) else []
    is_lazy = any(map(nn.parameter.is_lazy, model.parameters()))  # then this gives it its shapes
    errors: list[str] = []
    for call in [*ways, "argument"]:
        given = TestedModel(model, inputs, call, optimizer=optimizer)
        tried = given if is_lazy else dataclasses.replace(given, model=copy.deepcopy(model))
        try:
            with torch.no_grad():
                tried.model_of_places(lambda out, _: out)(given.rows)
            return given
        except Exception as error:  # the model's own code may raise anything
            errors.append(typed_message(error))
    raise InputError("the model does not run", why="; ".join(errors), do=RUN_ADVICE)


@contextlib.contextmanager
def isolate_test(seed: int) -> Iterator[None]:
    """Random numbers of a seed, and afterwards as if none had been drawn; with gradients, without
    warnings; what a model or a loss raises as `InputError`.
    """
    with isolated_rng(seed), warnings.catch_warnings(), torch.enable_grad(), explain_errors():
        warnings.simplefilter("ignore")
        yield


def take_places(nested: Any, places: Tensor, time_dim: int = 1) -> Any:
    """Rows [N] of all tensors; of those with T places in `time_dim`, each place of the row that
    stands there in `places` [N, T].

    >>> take_places(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0, 1]]))
    tensor([[1, 4]])
    """

    def take_from_leaf(leaf: Any) -> Any:
        if places.dim() == 1:
            return leaf[places] if isinstance(leaf, Tensor) and leaf.dim() else leaf
        if leaf.dim() <= time_dim or leaf.shape[time_dim] != places.shape[1]:
            return leaf[places[:, 0]]
        found = leaf.movedim(time_dim, 1)[places, torch.arange(places.shape[1])]
        return found.movedim(1, time_dim)

    return tree_map(take_from_leaf, nested)


def join_outputs(outputs: Any, places: Tensor, *, time_dim: int | None) -> Tensor:
    """A tensor as it is; of several, all numbers of each example, or of each place in time, in a
    row. Raises `InputError` where none has such rows.
    """
    tensors = [x for x in tree_leaves(_as_dict(outputs)) if isinstance(x, Tensor)]
    tensors = [torch.view_as_real(x) if x.is_complex() else x for x in tensors]
    if isinstance(outputs, Tensor):
        return tensors[0]
    rows, count = places.shape, len(places)
    if time_dim is None:
        moved = [x.movedim(x.shape.index(count), 0) for x in tensors if count in x.shape]
    else:
        moved = [x.movedim(time_dim, 1) for x in tensors if x.dim() > time_dim]
    found = [x.reshape(*rows, -1).double() for x in moved if x.shape[: len(rows)] == rows]
    if not found:
        why, do = "nothing can be compared", "return tensors, in tuples, dicts or a dataclass"
        raise InputError("no output has a row for each example or place", why=why, do=do)
    return torch.cat(found, -1)


def join_numbers(outputs: Any, places: Tensor) -> Tensor:
    """A tensor as it is; of several, all numbers, with the outputs as attribute `nested`."""
    if isinstance(outputs, Tensor):
        return outputs
    tensors = [x for x in tree_leaves(_as_dict(outputs)) if isinstance(x, Tensor)]
    joined: Any = torch.cat([x.reshape(-1).double() for x in tensors if x.is_floating_point()])
    joined.nested = outputs
    return joined


def _as_dict(nested: Any) -> Any:
    """A mapping or a dataclass as a dict."""
    if isinstance(nested, Mapping):
        return dict(nested)
    return vars(nested) if dataclasses.is_dataclass(nested) else nested


def _find_loss(outputs: Any) -> Any:
    """The loss that outputs have: by key or attribute, the first of several, or they are it."""
    if isinstance(outputs, Mapping):
        return outputs.get("loss")
    return getattr(outputs, "loss", outputs[0] if isinstance(outputs, tuple) else outputs)


def _second_parameter(loss: Any) -> str:
    try:
        return [*inspect.signature(loss).parameters, "", ""][1]
    except (TypeError, ValueError):  # built in
        return ""
