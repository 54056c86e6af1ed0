"""The arguments of `examine`, checked and tried once: a program that runs, or one clear error."""

import copy
import inspect
import math
import operator
import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ravine.diagnosis.training_loop.parameter_names import optimizer_parameters
from ravine.errors import InputError, typed_message, wrap_errors
from ravine.examination import torch_data, ways_to_run
from ravine.examination.batch_sources import (
    BatchSource,
    count_rows,
    cut_into_batches,
    hold_out_batches,
    read_source,
)
from ravine.examination.nested import take_rows
from ravine.examination.packed_inputs import lay_out_as
from ravine.examination.program_forms import Form, device_of, find_form, move_batch, whole_form
from ravine.examination.torch_program import (
    EVALUATED_EXAMPLES,
    PROFILED_EXAMPLES,
    TorchProgram,
    TorchRun,
    copy_loss,
)
from ravine.examination.training_steps import (
    configured_optimizer,
    is_lightning_module,
    training_step,
)
from ravine.rng import isolated_rng

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
    optimizer: Any = None,
    validation: Any = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    step: Any = None,
    seed: int = 0,
) -> TorchProgram:
    """The program behind the arguments of `examine`. Raises `InputError` for what cannot be run."""
    if not isinstance(model, nn.Module):
        why, do = "only a torch.nn.Module can be examined", "give the module that is trained"
        raise InputError(f"the model is a {type(model).__name__}", why=why, do=do)
    if train is None and loss is not None and not callable(loss):
        train, loss = loss, None  # of a model that computes its loss
    if step is None and loss is None and is_lightning_module(model):
        step = training_step
        optimizer = configured_optimizer(model) if optimizer is None else optimizer
    name, given = ("loss", loss) if step is None else ("step", step)
    if not callable(given) and not (loss is None and train is not None and step is None):
        why = "it is called as loss(outputs, targets), or step(model, batch)"
        do = "give a function, or a module such as torch.nn.CrossEntropyLoss()"
        raise InputError(f"the {name} is a {type(given).__name__}", why=why, do=do)
    if not isinstance(optimizer, Optimizer) and not callable(optimizer):
        why = "every trial needs a new optimizer"
        do = f"give a torch optimizer on the model's parameters, or a function: {EXAMPLE_OPTIMIZER}"
        raise InputError(f"the optimizer is a {type(optimizer).__name__}", why=why, do=do)
    stepper: Any = optimizer
    loss_of: Any = copy_loss(loss, model)  # as it is now
    if epochs is not None and steps is not None:
        what, why = f"epochs is {epochs}, and steps is {steps}", "both are the whole budget"
        raise InputError(what, why=why, do="give one of them")
    budget, name = (epochs, "epochs") if steps is None else (steps, "steps")
    if budget is None:
        why = "how long to train is not known"
        raise InputError("neither epochs nor steps is given", why=why, do="give one of them")
    budget = _integer(name, budget, why="training needs at least 1")
    seed = _integer("seed", seed, least=-math.inf, why="random numbers are drawn from it") % 2**32
    with isolated_rng(seed):
        # a step takes what a list holds, a loss takes (inputs, targets)
        lists_batches = step is not None and batch_size is None
        read = partial(read_source, batch_size=batch_size, lists_batches=lists_batches)
        source, own = read(train, split="training", steps=steps), None
        if validation is None:
            source, own = hold_out_batches(source)
        else:
            own = read(validation, split="validation", steps=None)
    form = _find_form(model, loss_of, step, source, batch_size, seed)
    data, examples = _read_examples(form, source, batch_size, seed, hold_out=own is None)
    model = form.model
    if any(is_lazy(p) for p in model.parameters()):
        model, stepper = _materialize(model, stepper, data, seed)
    if own is not None:
        examples = _validation_data(form, own, batch_size)
    program = TorchProgram(
        model=model,
        loss=form.loss,
        train=data,
        form=form,
        optimizer=stepper,
        epochs=budget if steps is None else budget / len(data),
        validation=examples,
        held_out=validation is None and examples is not None,
        seed=seed,
    )
    return _try_once(program)


def _integer(name: str, value: Any, *, least: float = 1, why: str) -> int:
    """The value as a whole number, of whatever type it is."""
    try:
        number = operator.index(value)
    except TypeError:
        number = math.nan
    if not number >= least:
        raise InputError(f"{name} is {value!r}", why=why, do="give a whole number")
    return int(number)


def _find_form(
    model: nn.Module, loss: Any, step: Any, source: Any, batch_size: int | None, seed: int
) -> Form:
    """The form of the program, by its first batch."""
    if isinstance(source, DataLoader | BatchSource):
        with isolated_rng(seed), explain_errors("the loader gives no batch", "iterate it yourself"):
            batch = next(torch_data.iterate_batches(source))
    else:
        batch = take_rows(source, slice(batch_size))
    if step is not None:
        form = whole_form(model, lambda model, batch: ways_to_run.loss_in(step(model, batch)))
        return replace(form, like=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is tried may well be wrong
        trial = ways_to_run.ProgramTrial(model, device_of(model), seed)
        batch = move_batch(batch, trial.device)
        found = ways_to_run.find_way(trial, loss, batch)
        return replace(find_form(trial, found, loss, batch), like=batch)


def _read_examples(
    form: Form, source: Any, batch_size: int | None, seed: int, *, hold_out: bool
) -> tuple[torch_data.TensorData | torch_data.LoaderData, torch_data.Pair | None]:
    """The training examples, and those that were held out of them, if any."""
    if isinstance(source, DataLoader | BatchSource):
        data = torch_data.read_loader(source, form.pair, form.whole)
    elif form.whole is not None:
        count = count_rows(source) if hold_out and batch_size else None
        places = torch_data.draw_held_out(count, batch_size or 1, seed)
        parts = (source, None) if places is None else [take_rows(source, p) for p in places]
        kept, held_out = parts
        data = torch_data.LoaderData(cut_into_batches(kept, batch_size), form.pair, form.whole)
        return data, None if held_out is None else _validation_data(form, held_out, batch_size)
    else:
        inputs, targets = torch_data.require_rows(form.pair(source), "training")
        batch = _integer("batch_size", batch_size, why="tensors are cut into batches")
        data = torch_data.TensorData(inputs, targets, batch)
    if hold_out and isinstance(data, torch_data.TensorData):
        return torch_data.hold_out(data, seed)
    return data, None


def _validation_data(form: Form, source: Any, batch_size: int | None) -> torch_data.Pair:
    if form.whole is not None and not isinstance(source, DataLoader | BatchSource):
        source = cut_into_batches(lay_out_as(form.like, source), batch_size)
    if isinstance(source, DataLoader | BatchSource):
        with isolated_rng(0):
            data = torch_data.LoaderData(source, form.pair_as_trained, form.whole)
            return data.first(PROFILED_EXAMPLES)
    return torch_data.require_rows(form.pair_as_trained(source), "validation")


def _materialize(
    model: nn.Module, optimizer: Any, data: torch_data.TensorData | torch_data.LoaderData, seed: int
) -> tuple[nn.Module, Any]:
    """Copies of model and optimizer, if it is one, in which lazy layers have their shapes."""
    held = optimizer if isinstance(optimizer, Optimizer) else None
    model, held = copy.deepcopy((model, held))
    with isolated_rng(seed), torch.no_grad(), explain_errors(*ON_A_BATCH):
        model(next(iter(data.epoch()))[0])
    return model, held or optimizer


def _try_once(program: TorchProgram) -> TorchProgram:
    """One forward and backward pass, one step and one evaluation: what cannot run says so before
    all else. Of a program that runs on as many examples as a batch has, and not on more, these
    alone are evaluated.
    """
    with isolated_rng(program.seed):
        do = "give an optimizer on the model's parameters, or a function from parameters to one"
        with explain_errors("model and optimizer cannot be built again", do):
            model, optimizer = program.build()
        _check_optimizer(program, optimizer)
        gradients = [p.grad for p in program.model.parameters()]
        try:
            program = _step_once(program, model.train(), optimizer)
            program = _evaluate_once(program, model.eval())
            if any(p.grad is not None for p in program.model.parameters()):
                what = "loss or forward pass hold parameters of the very model that was given"
                why = "copies of the model are trained, and their parameters are others"
                do = "read parameters from the model in each call, as model.parameters() does"
                raise InputError(what, why=why, do=do)
        finally:
            for p, gradient in zip(program.model.parameters(), gradients, strict=True):
                p.grad = gradient
    return program


def _check_optimizer(program: TorchProgram, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        why, do = "only a torch.optim.Optimizer can be stepped", "return a torch optimizer"
        what = f"the optimizer function made a {type(optimizer).__name__}"
        raise InputError(what, why=why, do=do)
    if {*map(id, optimizer_parameters(optimizer))} & {*map(id, program.model.parameters())}:
        what = "the optimizer function does not use the parameters that it is given"
        why = "copies of the model are trained, and it holds those of the model itself"
        raise InputError(what, why=why, do=f"write it as {EXAMPLE_OPTIMIZER}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        why = "its step needs a closure that computes the loss again, and trials have none"
        do = "examine the program with another optimizer, such as torch.optim.Adam"
        raise InputError(f"the optimizer is {type(optimizer).__name__}", why=why, do=do)


def _step_once(program: TorchProgram, model: nn.Module, optimizer: Optimizer) -> TorchProgram:
    """The program, after one step on `model`: it now says whether its loss reads the parameters of
    the model that was given, as these have a gradient if so.
    """
    with explain_errors(*ON_A_BATCH):
        inputs, targets = next(iter(program.train.epoch()))
    do = "call loss.backward() and optimizer.step() on one batch yourself"
    for reads in (False, True):
        program = replace(program, loss_reads_parameters=reads)
        for p in program.model.parameters():
            p.grad = None
        with explain_errors(*ON_A_BATCH):
            outputs = model(inputs)
            with program.substitute_parameters(model):
                loss = ways_to_run.require_number(
                    ways_to_run.loss_or_nan(program.loss, outputs, targets)
                )
        with explain_errors("a step cannot be made", do):
            if loss.requires_grad:
                loss.backward()
        if all(p.grad is None for p in program.model.parameters()):
            break
    with explain_errors("a step cannot be made", do):
        optimizer.step()
    return program


def _evaluate_once(program: TorchProgram, model: nn.Module) -> TorchProgram:
    """The program, with as many examples to evaluate as it runs on: all, or those of a batch."""
    batch = 1 if program.form.whole else min(program.train.batch, EVALUATED_EXAMPLES)
    kind = "training" if program.validation is None else "validation"
    what = f"model and loss do not run on the {kind} examples"
    do = "give examples of the same kind as for training"
    with torch.no_grad(), explain_errors(what, do):
        try:
            TorchRun().evaluate(model, program.loss, program.evaluation_examples(), program.form)
        except Exception:  # what model or loss raise
            if batch == len(program.evaluation_examples()[0]):
                raise
            train = program.train
            if isinstance(train, torch_data.TensorData):
                train = replace(train, drop_last=True)  # fewer are left where some are held out
            program = replace(program, evaluated=batch, train=train)
            TorchRun().evaluate(model, program.loss, program.evaluation_examples(), program.form)
    return program
