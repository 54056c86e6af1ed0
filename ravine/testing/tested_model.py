"""What a test gives, a model, a loss and a batch of any shape, as a program that the probes run.

The inputs of that program are places in the batch, numbers [N] of examples or [N, T] of examples at
each place in time, and its model looks them up: a probe that exchanges examples need not know what
a batch holds. Letters: N examples, T places.
"""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ravine.diagnosis.initialization.probed_program import ProbedProgram, prepare_program
from ravine.errors import InputError, typed_message, wrap_errors
from ravine.examination.nested import iterate_leaves, map_leaves, split_nested, take_rows
from ravine.examination.packed_inputs import adapt_model, as_tensor, call_nested
from ravine.examination.program_forms import device_of
from ravine.examination.ways_to_run import ProgramTrial, find_way, require_number
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
    """Copies of a model and what is built on it; inputs and the call that takes them ("argument",
    "arguments", "keywords"); the loss of outputs and `targets`, a tensor or the batch.
    """

    model: nn.Module
    inputs: Any
    call: str
    loss: Callable[[Any, Any], Any]
    targets: Any
    optimizer: Any = None

    def __post_init__(self) -> None:
        if not all(isinstance(x, Tensor) and x.dim() for x in iterate_leaves(self.inputs)):
            why, do = "each has a row for every example", "give tensors, in tuples or dicts"
            raise InputError("the inputs are no tensors", why=why, do=do)

    @property
    def rows(self) -> Tensor:
        """The numbers of all examples, [N]."""
        return torch.arange(len(next(iterate_leaves(self.inputs))))

    def distinct_rows(self) -> Tensor:
        """The numbers of examples with different inputs. Raises `InputError` for fewer than two."""
        flat = [x.reshape(len(x), -1).double() for x in iterate_leaves(self.inputs)]
        groups = torch.unique(torch.cat(flat, 1), dim=0, return_inverse=True)[1].tolist()
        first = {group: row for row, group in reversed([*enumerate(groups)])}
        if len(first) < 2:
            why, do = "examples are compared", "give a batch with different ones"
            raise InputError("the batch has fewer than two different inputs", why=why, do=do)
        return torch.tensor(sorted(first.values()))

    def model_of_places(self, join: Join, time_dim: int = 1) -> nn.Module:
        """The model as it takes places, its outputs joined; weights and names are its own."""

        def run(call: Callable[..., Any], model: nn.Module, places: Tensor) -> Any:
            inputs = take_places(self.inputs, places, time_dim)
            return join(call_nested(call, inputs, self.call), places)

        adapted = adapt_model(self.model, run)
        # what a forward pass writes into the model itself stays in it
        object.__setattr__(adapted, "__dict__", vars(self.model))
        return adapted

    def with_loss(self, rows: Tensor) -> tuple[nn.Module, Callable[[Any, Any], Tensor], Tensor]:
        """The model of places, its loss, and the targets of some rows."""
        model = self.model_of_places(join_numbers)
        if isinstance(self.targets, Tensor):
            return model, self.evaluate_loss, self.targets[rows]
        return model, lambda out, at: self.evaluate_loss(out, take_places(self.targets, at)), rows

    def evaluate_loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss as a tensor of one number. Raises `InputError` if it is none."""
        return require_number(self.loss(getattr(outputs, "nested", outputs), targets))

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
            leaves = [*iterate_leaves(self.inputs)]
            places = max((x.shape[time_dim] for x in leaves if x.dim() > time_dim), default=0)
            if places < 2:
                why = f"dimension {time_dim} has no two places"
                raise InputError("the inputs have no time", why=why, do="give dim=..., or more")
            rows = rows[:, None].repeat(1, places)
        model = self.model_of_places(join, time_dim or 1)
        return prepare_program(model, lambda out, _: out.sum(), rows, rows, seed=seed)


def read_batch(model: Any, loss: Any, batch: Any, optimizer: Any = None) -> TestedModel:
    """The program of an assertion, in the first way that runs; `InputError` where none does."""
    if not isinstance(model, nn.Module):
        why, do = "only a torch.nn.Module can be tested", "give the module itself"
        raise InputError(f"the model is a {type(model).__name__}", why=why, do=do)
    # what was compiled is taken as it was before
    model, optimizer = copy.deepcopy((getattr(model, "_orig_mod", model), optimizer))
    trial = ProgramTrial(model, device_of(model), seed=0)
    if loss is run_only:
        trial.model.eval()
    found = find_way(trial, loss, batch)
    way = found.way
    if way is None:
        raise InputError("the model does not run", why="; ".join(found.errors), do=RUN_ADVICE)
    inputs, targets = (map_leaves(part, as_tensor) for part in way.split(batch))
    if any(map(is_lazy, model.parameters())):
        with torch.no_grad():
            call_nested(model, inputs, way.call)  # gives it its shapes
    value = copy.deepcopy(way.loss) if isinstance(way.loss, nn.Module) else way.loss
    return TestedModel(model, inputs, way.call, value, targets, optimizer)


def read_inputs(model: Any, inputs: Any) -> TestedModel:
    """A copy of a model with inputs: a tensor, arguments, keywords, or one of these as one."""
    items = None if isinstance(inputs, tuple | list) else split_nested(inputs)
    return read_batch(model, run_only, (inputs if items is None else items,))


def run_only(outputs: Any, _: Any) -> Tensor:
    """In place of a loss where there is none."""
    return torch.zeros(())


@contextlib.contextmanager
def isolate_test(seed: int) -> Iterator[None]:
    """Random numbers of a seed, restored later; gradients; no warnings; errors as `InputError`."""
    with isolated_rng(seed), warnings.catch_warnings(), torch.enable_grad(), explain_errors():
        warnings.simplefilter("ignore")
        yield


def take_places(nested: Any, places: Tensor, time_dim: int = 1) -> Any:
    """Rows [N] of all tensors; of those with T places in `time_dim`, each place of the row that
    stands there in `places` [N, T].

    >>> take_places(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0, 1]]))
    tensor([[1, 4]])
    """

    if places.dim() == 1:
        return take_rows(nested, places)

    def take_from_leaf(leaf: Tensor) -> Tensor:
        if leaf.dim() <= time_dim or leaf.shape[time_dim] != places.shape[1]:
            return leaf[places[:, 0]]
        return leaf.movedim(time_dim, 1)[places, torch.arange(places.shape[1])].movedim(1, time_dim)

    return map_leaves(nested, take_from_leaf)


def join_outputs(outputs: Any, places: Tensor, *, time_dim: int | None) -> Tensor:
    """A tensor as it is; of several, all numbers of each example, or of each place in time, in a
    row. Raises `InputError` where none has such rows.
    """
    tensors = [x for x in iterate_leaves(outputs) if isinstance(x, Tensor)]
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
    tensors = [x for x in iterate_leaves(outputs) if isinstance(x, Tensor)]
    joined: Any = torch.cat([x.reshape(-1).double() for x in tensors if x.is_floating_point()])
    joined.nested = outputs
    return joined
