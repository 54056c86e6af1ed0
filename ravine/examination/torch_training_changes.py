"""Changes of how a torch program trains: learning rate, optimizer, steps, batches, and examples."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace

from torch import nn
from torch.optim import Adam, Optimizer

from ravine.diagnosis.training_loop.parameter_names import optimizer_parameters, plain_weights
from ravine.examination.subject import CannotTryError, Treatment
from ravine.examination.torch_change import TorchChange, change_of_program, change_of_settings
from ravine.examination.torch_data import TensorData
from ravine.examination.torch_program import TorchProgram

# Optimizer and budget


def scale_learning_rate(factor: float) -> TorchChange:
    """Every group's learning rate times a factor."""

    @change_of_settings("lr", f"x{factor:g}")
    def change(model: nn.Module, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
            if "initial_lr" in group:
                group["initial_lr"] = group["lr"]

    return change


def join_changes(changes: Iterable[Treatment]) -> tuple[Treatment, ...]:
    """Changes that are made together: factors of the learning rate multiply, and of two values for
    one setting the last counts.

    >>> joined = join_changes([scale_learning_rate(0.1), set_batch_size(8), use_adam()])
    >>> [(c.change.path, c.change.value) for c in (*joined, *join_changes(joined))][:3]
    [('batch', 8), ('optimizer', 'adam'), ('lr', 'x0.1')]
    """
    factor = 1.0
    by_setting: dict[object, Treatment] = {}
    for made in changes:
        change = made.change
        if change.path == "lr":
            factor *= float(change.value[1:])
            continue
        beside = made is train_all_parameters or made is draw_classes_equally  # not instead
        key = change if beside else change.path
        by_setting.pop(key, None)
        by_setting[key] = made
    rate = () if math.isclose(factor, 1.0) else (scale_learning_rate(factor),)
    return (*by_setting.values(), *rate)


def set_weight_decay(value: float) -> TorchChange:
    """One weight decay for all groups."""

    @change_of_settings("decay", value)
    def change(model: nn.Module, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["weight_decay"] = float(value)

    return change


def clip_gradient(limit: float) -> TorchChange:
    """The gradient's norm clipped to a limit before each step."""
    return change_of_program("clip", limit)(lambda program: replace(program, clip=float(limit)))


def use_adam(lr: float = 1e-3) -> TorchChange:
    """A plain Adam for the parameters that the program's own optimizer holds."""

    @change_of_program("optimizer", "adam" if lr == 1e-3 else f"adam {lr:g}")
    def change(program: TorchProgram) -> TorchProgram:
        own = program.optimizer
        held = set(map(id, optimizer_parameters(own))) if isinstance(own, Optimizer) else set()
        is_held = [id(p) in held for p in program.model.parameters()]

        def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
            if isinstance(own, Optimizer):
                return Adam(itertools.compress(parameters, is_held), lr=lr)
            groups = own(parameters).param_groups
            return Adam([p for group in groups for p in group["params"]], lr=lr)

        return replace(program, optimizer=adam)

    return change


@change_of_settings("optimizer", "all parameters")
def train_all_parameters(model: nn.Module, optimizer: Optimizer) -> None:
    """Train all: parameters frozen or left out, and matrices that are no parameters."""
    for name, weight in plain_weights(model).items():
        path, _, attribute = name.rpartition(".")
        delattr(model.get_submodule(path), attribute)
        setattr(model.get_submodule(path), attribute, nn.Parameter(weight.clone()))
    held = set(map(id, optimizer_parameters(optimizer)))
    missing = [p for p in model.parameters() if id(p) not in held]
    for p in model.parameters():
        p.requires_grad_(p.is_floating_point() or p.is_complex())
    if missing:
        optimizer.add_param_group({"params": missing})


def set_steps(steps: int) -> TorchChange:
    """Another budget: so many steps, in whole epochs where the budget has whole ones."""

    @change_of_program("steps", steps)
    def change(program: TorchProgram) -> TorchProgram:
        epochs = float(steps) / len(program.train)
        whole = float(program.epochs).is_integer()
        return replace(program, epochs=max(1, math.ceil(epochs)) if whole else epochs)

    return change


# Examples


def set_batch_size(size: int) -> TorchChange:
    """Another batch size at the same number of passes."""

    @change_of_program("batch", size)
    def change(program: TorchProgram) -> TorchProgram:
        data = _tensor_data(program)
        return replace(program, train=replace(data, batch=min(int(size), len(data.inputs))))

    return change


@change_of_program("shuffle", True)
def shuffle_examples(program: TorchProgram) -> TorchProgram:
    """A new order of the examples in every pass."""
    return replace(program, train=replace(_tensor_data(program), is_shuffled=True))


@change_of_program("loss", "balanced")
def draw_classes_equally(program: TorchProgram) -> TorchProgram:
    """Classes (labels) drawn equally often."""
    return replace(program, train=replace(_tensor_data(program), balanced=True))


def _tensor_data(program: TorchProgram) -> TensorData:
    if not isinstance(program.train, TensorData):
        raise CannotTryError("the examples come from a loader that cannot be built again")
    return program.train
