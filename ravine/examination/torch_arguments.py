"""The arguments of `examine`, checked and tried once: a program that runs, or one clear error."""

import copy
import inspect
import math
import operator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ravine.errors import InputError, typed_message, wrap_errors
from ravine.examination import torch_data
from ravine.examination.packed_inputs import (
    Packing,
    find_call,
    split_batch,
    take_rows,
    unpacking_model,
)
from ravine.examination.torch_program import (
    PROFILED_EXAMPLES,
    TorchProgram,
    held_parameters,
    loss_or_nan,
)
from ravine.rng import isolated_rng

TRIED_ROWS = 8
# what a user's model, loss, optimizer or data raise
explain_errors = partial(wrap_errors, InputError, why=typed_message)
EXAMPLE_OPTIMIZER = "lambda parameters: torch.optim.Adam(parameters, lr=1e-3)"
ON_A_BATCH = (
    "model and loss do not run on a batch",
    "call loss(model(inputs), targets) on one batch yourself",
)


def read_program(
    model: Any,
    loss: Any,
    train: Any,
    *,
    optimizer: Any,
    validation: Any = None,
    batch_size: int | None,
    epochs: int | None,
    seed: int = 0,
) -> TorchProgram:
    """The program behind the arguments of `examine`. Raises `InputError` for what cannot be run."""
    if not isinstance(model, nn.Module):
        why, do = "only a torch.nn.Module can be examined", "give the module that is trained"
        raise InputError(f"the model is a {type(model).__name__}", why=why, do=do)
    if not callable(loss):
        why = "it is called as loss(outputs, targets)"
        do = "give a function, or a module such as torch.nn.CrossEntropyLoss()"
        raise InputError(f"the loss is a {type(loss).__name__}", why=why, do=do)
    if not isinstance(optimizer, Optimizer) and not callable(optimizer):
        why = "every trial needs a new optimizer"
        do = f"give a torch optimizer on the model's parameters, or a function: {EXAMPLE_OPTIMIZER}"
        raise InputError(f"the optimizer is a {type(optimizer).__name__}", why=why, do=do)
    loss_of: Any = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss  # as it is now
    stepper: Any = optimizer
    epochs = _integer("epochs", epochs, why="training needs at least one pass")
    seed = _integer("seed", seed, least=-math.inf, why="random numbers are drawn from it") % 2**32
    model, packing = _take_packed_inputs(model, train, seed)
    if isinstance(train, DataLoader):
        data = torch_data.read_loader(train, packing)
    else:
        inputs, targets = torch_data.require_rows(torch_data.as_pair(train, packing), "training")
        batch = _integer("batch_size", batch_size, why="tensors are cut into batches")
        data = torch_data.TensorData(inputs, targets, batch)
    if any(is_lazy(p) for p in model.parameters()):
        model, stepper = _materialize(model, stepper, data, seed)
    program = TorchProgram(
        model=model,
        loss=loss_of,
        train=data,
        optimizer=stepper,
        epochs=epochs,
        validation=None if validation is None else _validation_data(validation, packing),
        seed=seed,
        packing=packing,
    )
    if validation is None and isinstance(data, torch_data.TensorData):
        kept, held = torch_data.hold_out(data, seed)
        program = replace(program, train=kept, held_out=held is not None, validation=held)
    _try_once(program)
    return program


def _integer(name: str, value: Any, *, least: float = 1, why: str) -> int:
    """The value as a whole number, of whatever type it is."""
    try:
        number = operator.index(value)
    except TypeError:
        number = math.nan
    if not number >= least:
        raise InputError(f"{name} is {value!r}", why=why, do="give a whole number")
    return int(number)


def _take_packed_inputs(
    model: nn.Module, train: Any, seed: int
) -> tuple[nn.Module, Packing | None]:
    """The model as it takes the inputs of examples; with a packing if they are no single tensor."""
    batch = train
    if isinstance(train, DataLoader):
        torch_data.require_batches(train, "training")
        with isolated_rng(seed), explain_errors("the loader gives no batch", "iterate it yourself"):
            batch = next(torch_data.iterate_batches(train))
    inputs, _ = split_batch(batch)
    if isinstance(inputs, Tensor):
        return model, None
    several = isinstance(batch, list | tuple) and len(batch) > 2
    if not isinstance(train, DataLoader):  # a few examples show how the model is called
        inputs = take_rows(inputs, TRIED_ROWS)
    packing = find_call(model, inputs, Packing("arguments" if several else "argument"))
    return unpacking_model(model, packing), packing


def _validation_data(validation: Any, packing: Packing | None) -> torch_data.Pair:
    if isinstance(validation, DataLoader):
        torch_data.require_batches(validation, "validation")
        with isolated_rng(0):
            return torch_data.LoaderData(validation, packing).first(PROFILED_EXAMPLES)
    return torch_data.require_rows(torch_data.as_pair(validation, packing), "validation")


def _materialize(
    model: nn.Module, optimizer: Any, data: torch_data.TensorData | torch_data.LoaderData, seed: int
) -> tuple[nn.Module, Any]:
    """Copies of model and optimizer, if it is one, in which lazy layers have their shapes."""
    if isinstance(optimizer, Optimizer):
        model, optimizer = copy.deepcopy((model, optimizer))
    else:
        model = copy.deepcopy(model)
    with isolated_rng(seed), torch.no_grad(), explain_errors(*ON_A_BATCH):
        model(next(iter(data.epoch()))[0])
    return model, optimizer


def _try_once(program: TorchProgram) -> None:
    """One forward and backward pass and one step: what cannot run says so before all else."""
    with isolated_rng(program.seed):
        do = "give an optimizer on the model's parameters, or a function from parameters to one"
        with explain_errors("model and optimizer cannot be built again", do):
            model, optimizer = program.build()
        _check_optimizer(program, optimizer)
        gradients = [p.grad for p in program.model.parameters()]
        try:
            for p in program.model.parameters():
                p.grad = None
            _step_once(program, model.train(), optimizer)
            if program.validation is not None:
                _evaluate_once(program, model.eval())
            if any(p.grad is not None for p in program.model.parameters()):
                what = "loss or forward pass use the parameters of the very model that was given"
                why = "copies of it are trained, whose parameters that does not reach"
                do = "give a loss of outputs and targets alone, and decay to the optimizer"
                raise InputError(what, why=why, do=do)
        finally:
            for p, gradient in zip(program.model.parameters(), gradients, strict=True):
                p.grad = gradient


def _check_optimizer(program: TorchProgram, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        why, do = "only a torch.optim.Optimizer can be stepped", "return a torch optimizer"
        what = f"the optimizer function made a {type(optimizer).__name__}"
        raise InputError(what, why=why, do=do)
    if not held_parameters(optimizer).isdisjoint(map(id, program.model.parameters())):
        what = "the optimizer function does not use the parameters that it is given"
        why = "copies of the model are trained, and it holds those of the model itself"
        raise InputError(what, why=why, do=f"write it as {EXAMPLE_OPTIMIZER}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        why = "its step needs a closure that computes the loss again, and trials have none"
        do = "examine the program with another optimizer, such as torch.optim.Adam"
        raise InputError(f"the optimizer is {type(optimizer).__name__}", why=why, do=do)


def _step_once(program: TorchProgram, model: nn.Module, optimizer: Optimizer) -> None:
    with explain_errors(*ON_A_BATCH):
        inputs, targets = next(iter(program.train.epoch()))
        loss: Any = loss_or_nan(program.loss, model(inputs), targets)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        why, do = "a step goes down the gradient of one number", "return the mean of the losses"
        raise InputError(f"the loss gives {shape}", why=why, do=do)
    do = "call loss.backward() and optimizer.step() on one batch yourself"
    with explain_errors("a step cannot be made", do):
        if loss.requires_grad:
            loss.backward()
        optimizer.step()


def _evaluate_once(program: TorchProgram, model: nn.Module) -> None:
    inputs, targets = program.evaluation_examples()
    what = "model and loss do not run on the validation examples"
    do = "give examples of the same kind as for training"
    with torch.no_grad(), explain_errors(what, do):
        loss_or_nan(program.loss, model(inputs), targets)
