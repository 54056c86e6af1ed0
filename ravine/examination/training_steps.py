"""Modules that have their own training step and optimizer, as Lightning's do; nothing of Lightning
is imported.
"""

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.errors import InputError, typed_message, wrap_errors
from ravine.examination.ways_to_run import loss_in


def is_lightning_module(model: nn.Module) -> bool:
    """Whether a module says itself how it is trained."""
    names = ("training_step", "configure_optimizers")
    return all(callable(getattr(model, name, None)) for name in names)


def training_step(model: Any, batch: Any) -> Tensor:
    """The loss of a module's own training step. What it logs is lost."""
    for name in ("log", "log_dict"):
        vars(model).setdefault(name, lambda *values, **named: None)
    return loss_in(model.training_step(batch, 0))


def configured_optimizer(model: Any) -> Optimizer:
    """The one optimizer of `configure_optimizers`, before any schedule. Raises `InputError`."""
    do = "examine it with step=, a function of model and batch to the loss, and one optimizer"
    if not getattr(model, "automatic_optimization", True):
        why = "what its training step does cannot be done on copies"
        raise InputError("the module optimizes by hand", why=why, do=do)
    with wrap_errors(InputError, "configure_optimizers() fails", do, why=typed_message):
        made = model.configure_optimizers()
    if isinstance(made, tuple | list) and made and isinstance(made[0], tuple | list):
        made = made[0]  # schedules stand behind
    made = made[0] if isinstance(made, tuple | list) and len(made) == 1 else made
    made = made.get("optimizer") if isinstance(made, dict) else made
    if not isinstance(made, Optimizer):
        what = f"configure_optimizers() gives a {type(made).__name__}"
        raise InputError(what, why="one optimizer can be examined", do=do)
    for group in made.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])
    return made
