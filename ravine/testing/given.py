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
from collections.abc import Callable, Iterator, Mapping, Sequence
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

MIN_ROWS = 34  # of a probed batch: of fewer examples some come several times
MAX_ROWS = 256  # on which a loss is probed
Join = Callable[[Any, Tensor], Tensor]  # makes one tensor of outputs, given the model's places
explain_errors = partial(
    wrap_errors,
    InputError,
    "the model does not run",
    "call loss(model(inputs), targets) on this batch yourself",
    why=typed_message,
)


@dataclass(frozen=True)
class Given:
    """A copy of a model and what is built on it, the inputs of a batch, and the loss of outputs and
    `targets`: a tensor, or the batch. Without a `loss` the outputs have it.
    """

    model: nn.Module
    inputs: Any
    call: str  # how the model takes them: as one "argument", "arguments", "keywords"
    loss: Callable[[Any, Any], Any] | None = None
    targets: Any = None
    optimizer: Any = None

    @property
    def rows(self) -> Tensor:
        """The numbers of all examples, [N]."""
        return torch.arange(len(tree_leaves(self.inputs)[0]))

    def distinct_rows(self) -> Tensor:
        """The numbers of the examples whose inputs differ from all before. Raises `InputError` for
        fewer than two.
        """
        first: dict[bytes, Tensor] = {}
        parts = [x.cpu().reshape(len(x), -1) for x in tree_leaves(self.inputs)]
        for i in self.rows:
            pieces = (part[i].contiguous().view(torch.uint8).numpy() for part in parts)
            first.setdefault(b"".join(piece.tobytes() for piece in pieces), i)
        if len(first) < 2:
            why, do = "examples are compared", "give a batch with different ones"
            raise InputError("the batch has fewer than two different inputs", why=why, do=do)
        return torch.stack([*first.values()])

    def model_of_places(self, join: Join, time_dim: int = 1) -> nn.Module:
        """The model as it takes places, its outputs joined; weights and names are its own."""
        parent = type(self.model)

        def forward(model: Any, places: Tensor) -> Tensor:
            inputs = look_up(self.inputs, places, time_dim)
            return join(call_model(partial(parent.forward, model), inputs, self.call), places)

        found = copy.copy(self.model)
        try:
            found.__class__ = type(parent.__name__, (parent,), {"forward": forward})
        except TypeError as error:
            what, why = f"the model is a {parent.__name__}", "its calls cannot be changed"
            raise InputError(what, why=why, do="give the module before it was compiled") from error
        return found

    def with_loss(self, rows: Tensor) -> tuple[nn.Module, Callable[[Any, Any], Tensor], Tensor]:
        """The model of places, its loss, and the targets of some rows."""
        model = self.model_of_places(join_numbers)
        if isinstance(self.targets, Tensor):
            return model, self.evaluate_loss, self.targets[rows]
        return model, lambda out, at: self.evaluate_loss(out, look_up(self.targets, at)), rows

    def evaluate_loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss as a tensor of one number. Raises `InputError` if it is none."""
        outputs = getattr(outputs, "nested", outputs)
        value = find_loss(outputs) if self.loss is None else self.loss(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            do = "return one number, or give None as the loss if the outputs have it"
            raise InputError(f"the loss gives {shape}", why="a step follows one number", do=do)
        return value

    def probe_loss(self, seed: int, rows: Tensor | None = None) -> ProbedProgram:
        """The program with its loss, on some rows of the batch."""
        rows = even_places(len(self.rows), MAX_ROWS) if rows is None else rows
        model, loss, targets = self.with_loss(rows)
        with explain_errors():
            return prepare_program(model, loss, rows, targets, seed=seed)

    def probe_outputs(self, seed: int, time_dim: int | None = None) -> ProbedProgram:
        """The program without a loss, on different examples; with `time_dim` by places in time."""
        distinct = self.distinct_rows()
        # none of these is equal to that half of them later
        half = next(h for h in range(MIN_ROWS // 2, MIN_ROWS) if h % len(distinct))
        rows = distinct[torch.arange(2 * half) % len(distinct)]
        join: Join = join_examples
        if time_dim is not None:
            leaves = tree_leaves(self.inputs)
            places = max((x.shape[time_dim] for x in leaves if x.dim() > time_dim), default=0)
            if places < 2:
                why = f"dimension {time_dim} has no two places"
                raise InputError("the inputs have no time", why=why, do="give dim=..., or more")
            rows, join = rows[:, None].repeat(1, places), partial(join_places, time_dim=time_dim)
        model = self.model_of_places(join, time_dim or 1)
        with explain_errors():
            return prepare_program(model, lambda out, _: out.sum(), rows, rows, seed=seed)


def read_batch(model: Any, loss: Any, batch: Any, optimizer: Any = None) -> Given:
    """The program behind the arguments of an assertion. Raises `InputError` for what cannot run.

    A loss whose second parameter is named `batch` gets the whole batch in place of the targets.
    """
    if loss is not None and not callable(loss):
        why, do = "it is called as loss(outputs, targets)", "give a function, or None"
        raise InputError(f"the loss is a {type(loss).__name__}", why=why, do=do)
    takes_batch = loss is not None and _second_parameter(loss) == "batch"
    inputs, targets = batch, batch
    if loss is not None and not (takes_batch and isinstance(batch, Tensor)):
        try:
            inputs, targets = split_batch(batch)
        except InputError:
            if not takes_batch:
                raise
    given = read_inputs(model, inputs, optimizer)
    loss = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
    targets = _as_plain(batch) if takes_batch or loss is None else targets
    return dataclasses.replace(given, loss=loss, targets=targets)


def read_inputs(model: Any, inputs: Any, optimizer: Any = None) -> Given:
    """Copies of a model and what is built on it, and how it takes its inputs: a tensor, a tuple of
    arguments or a dict of keywords, or one of these as one argument.
    """
    if not isinstance(model, nn.Module):
        why, do = "only a torch.nn.Module can be tested", "give the module itself"
        raise InputError(f"the model is a {type(model).__name__}", why=why, do=do)
    model = getattr(model, "_orig_mod", model)  # as it was before it was compiled
    with wrap_errors(InputError, "the model cannot be copied", why=typed_message):
        model, optimizer = copy.deepcopy((model, optimizer))
    inputs = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, _as_plain(inputs))
    leaves = tree_leaves(inputs)
    if not leaves or not all(isinstance(x, Tensor) and x.dim() for x in leaves):
        why, do = "each has a row for every example", "give tensors, in tuples or dicts"
        raise InputError("the inputs are no tensors", why=why, do=do)
    ways = ["keywords"] if isinstance(inputs, dict) else []
    ways += ["arguments"] if isinstance(inputs, tuple | list) else []
    errors: list[str] = []
    for call in [*ways, "argument"]:
        given = Given(model, inputs, call, optimizer=optimizer)
        lazy = any(nn.parameter.is_lazy(p) for p in model.parameters())
        tried = given if lazy else dataclasses.replace(given, model=copy.deepcopy(model))
        try:
            with torch.no_grad():
                tried.model_of_places(lambda out, _: out)(given.rows)
            return given
        except Exception as error:  # the model's own code may raise anything
            errors.append(typed_message(error))
    with explain_errors():
        raise TypeError("; ".join(errors))


@contextlib.contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Random numbers of a seed, and afterwards as if none had been drawn; with gradients, without
    warnings.
    """
    with isolated_rng(seed), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield


def look_up(nested: Any, places: Tensor, time_dim: int = 1) -> Any:
    """Rows [N] of all tensors; of those with T places in `time_dim`, each place of the row that
    stands there in `places` [N, T].

    >>> look_up(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0, 1]]))
    tensor([[1, 4]])
    """

    def look_up_leaf(leaf: Any) -> Any:
        if places.dim() == 1:
            return leaf[places] if isinstance(leaf, Tensor) and leaf.dim() else leaf
        if leaf.dim() <= time_dim or leaf.shape[time_dim] != places.shape[1]:
            return leaf[places[:, 0]]
        found = leaf.movedim(time_dim, 1)[places, torch.arange(places.shape[1])]
        return found.movedim(1, time_dim)

    return tree_map(look_up_leaf, nested)


def call_model(forward: Callable[..., Any], inputs: Any, call: str) -> Any:
    """Call a model with its inputs as one "argument", as "arguments" or as "keywords"."""
    if call == "keywords":
        return forward(**inputs)
    return forward(*inputs) if call == "arguments" else forward(inputs)


def find_loss(outputs: Any) -> Any:
    """The loss that outputs have: an attribute, a key, the first of several, or all there is."""
    if isinstance(outputs, Mapping):
        return outputs.get("loss")
    return getattr(outputs, "loss", outputs[0] if isinstance(outputs, tuple) else outputs)


def output_tensors(outputs: Any) -> list[Tensor]:
    """The tensors in tuples, lists, dicts and dataclasses, in order; complex numbers as pairs."""
    tensors = (x for x in tree_leaves(_as_plain(outputs)) if isinstance(x, Tensor))
    return [torch.view_as_real(x) if x.is_complex() else x for x in tensors]


def join_examples(outputs: Any, places: Tensor) -> Tensor:
    """A tensor as it is; of several, all numbers of each example in a row."""
    tensors, count = output_tensors(outputs), len(places)
    if isinstance(outputs, Tensor):
        return tensors[0]
    found = [x.movedim(x.shape.index(count), 0) for x in tensors if count in x.shape]
    return _join([x.reshape(count, -1) for x in found], "row for each example")


def join_places(outputs: Any, places: Tensor, *, time_dim: int) -> Tensor:
    """A tensor as it is; of several, all numbers of each place, [N, T, ...], where they have it."""
    if isinstance(outputs, Tensor):
        return output_tensors(outputs)[0]
    moved = [x.movedim(time_dim, 1) for x in output_tensors(outputs) if x.dim() > time_dim]
    found = [x for x in moved if x.shape[:2] == places.shape]
    return _join([x.reshape(*places.shape, -1) for x in found], "output for each place")


def join_numbers(outputs: Any, places: Tensor) -> Tensor:
    """A tensor as it is; of several, all numbers, with the outputs as attribute `nested`."""
    if isinstance(outputs, Tensor):
        return outputs
    numbers = [x.reshape(-1) for x in output_tensors(outputs) if x.is_floating_point()]
    joined: Any = _join(numbers, "numbers")
    joined.nested = outputs
    return joined


def _join(found: Sequence[Tensor], what: str) -> Tensor:
    if not found:
        why, do = "nothing can be compared", "return tensors, in tuples, dicts or a dataclass"
        raise InputError(f"the model returns no {what}", why=why, do=do)
    return torch.cat([x if len(found) == 1 else x.double() for x in found], -1)


def _as_plain(nested: Any) -> Any:
    """A mapping or a dataclass as a dict."""
    if dataclasses.is_dataclass(nested) and not isinstance(nested, type):
        return {k: _as_plain(v) for k, v in vars(nested).items()}
    if isinstance(nested, Mapping):
        return {k: _as_plain(v) for k, v in nested.items()}
    return nested


def _second_parameter(loss: Any) -> str:
    try:
        return [*inspect.signature(loss).parameters, "", ""][1]
    except (TypeError, ValueError):  # built in
        return ""
