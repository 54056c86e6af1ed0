"""A change of a torch program: what it is called, and the decorators of the functions that make it.

The changes stand in `torch_training_changes` and `torch_model_changes`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from torch import nn
from torch.optim import Optimizer

from ravine.examination.subject import Treatment
from ravine.examination.torch_program import Loss, TorchProgram
from ravine.finding import Change

ChangeProgram: TypeAlias = Callable[[TorchProgram], TorchProgram]
ChangeSettings: TypeAlias = Callable[[nn.Module, Optimizer], None]


@dataclass(frozen=True)
class TorchChange:
    """One change of a torch program, named in findings by `change`, a path and a value. `apply`
    gives the program with the change made; it raises `CannotTryError` where it cannot be.
    """

    change: Change
    apply: ChangeProgram = field(compare=False, repr=False)


def change_of_program(path: str, value: Any) -> Callable[[ChangeProgram], TorchChange]:
    """Make a change of a function that gives the changed program."""
    return lambda apply: TorchChange(Change(path, value), apply)


def change_of_settings(path: str, value: Any) -> Callable[[ChangeSettings], TorchChange]:
    """Make a change of a function that sets something in the model and optimizer that train."""

    make = change_of_program(path, value)
    return lambda set_in: make(lambda own: replace(own, prepare=(*own.prepare, set_in)))


def change_of_loss(value: str) -> Callable[[Callable[[Loss], Loss]], TorchChange]:
    """Make a change of a function that gives another loss for the program's own."""

    make = change_of_program("loss", value)
    return lambda other: make(lambda own: replace(own, loss=other(own.loss)))


def apply_treatments(program: TorchProgram, changes: Iterable[Treatment]) -> TorchProgram:
    """The program with changes made, one after another. Raises `CannotTryError`."""
    for change in changes:
        assert isinstance(change, TorchChange)  # as all treatments of a torch program are
        program = change.apply(program)
    return program
