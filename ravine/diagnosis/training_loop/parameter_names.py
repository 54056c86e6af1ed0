"""The parameters of a watched loop: their names, their modules, and which optimizer steps them."""

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.diagnosis.training_loop.history import WatchedParameter
from ravine.diagnosis.training_loop.tensor_stats import has_default_initialization

MAX_OTHER_OPTIMIZERS = 100  # some loops make a new one for each step


class ParameterNames:
    """The names of all parameters: of the model, of its plain lists, and of the optimizers."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]):
        self.model, self.optimizers = model, optimizers
        self.by_id: dict[int, str] = {}
        self.parameters: dict[str, nn.Parameter] = {}
        self.owners: dict[str, nn.Module] = {}
        self._hidden: set[str] = set()  # in plain lists and dicts of the model
        self._foreign: set[str] = set()  # in an optimizer only
        self._received_gradient: set[str] = set()
        self._default_initialized: dict[str, bool] = {}
        self._other_optimizers: dict[int, set[int]] = {}  # ids of their parameters
        self._optimized: tuple[int, ...] = ()  # ids, when the names were last read
        self.refresh()

    def refresh(self) -> None:
        """Read all names again where layers have come or gone."""
        optimized = tuple(id(p) for o in self.optimizers for p in optimizer_parameters(o))
        own = dict(self.model.named_parameters())
        if optimized == self._optimized and own.keys() <= self.parameters.keys():
            if all(self.parameters[n] is p for n, p in own.items()):
                return
        self._optimized, self.parameters = optimized, own
        self.owners = {
            f"{path}.{name}" if path else name: module
            for path, module in self.model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }
        self.by_id = {id(p): n for n, p in self.parameters.items()}
        hidden = hidden_parameters(self.model)
        self._hidden, self._foreign = set(hidden), set()
        self.parameters |= hidden
        self.by_id |= {id(p): n for n, p in hidden.items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(optimizer_parameters(optimizer)):
                if id(p) not in self.by_id and isinstance(p, nn.Parameter):
                    name = f"optimizer {i} parameter {j}"
                    self.by_id[id(p)], self.parameters[name] = name, p
                    self._foreign.add(name)

    def note_other_optimizer(self, optimizer: Optimizer) -> None:
        """Note an optimizer that steps and is not watched."""
        known = self._other_optimizers
        if id(optimizer) not in known and len(known) < MAX_OTHER_OPTIMIZERS:
            known[id(optimizer)] = {id(p) for p in optimizer_parameters(optimizer)}

    def has_stepped(self, optimizer: Optimizer) -> bool:
        """Whether an optimizer that is not watched has made a step."""
        return id(optimizer) in self._other_optimizers

    def are_stepped_elsewhere(self, parameters: Sequence[Any]) -> bool:
        """Whether an optimizer that is not watched has stepped any of these parameters."""
        stepped = {i for ids in self._other_optimizers.values() for i in ids}
        return any(id(p) in stepped for p in parameters)

    @property
    def single_optimizer(self) -> bool:
        """Whether one optimizer steps at most, watched or not."""
        return len(self.optimizers) <= 1 and not self._other_optimizers

    def are_optimized(self, names: frozenset[str]) -> bool:
        """Whether the only optimizer trains all of these parameters."""
        ids = {id(p) for o in self.optimizers for p in optimizer_parameters(o)}
        if not ids or not self.single_optimizer:
            return False
        return all(n in self.parameters and id(self.parameters[n]) in ids for n in names)

    def describe(
        self, ran: set[int], zero_lr: set[int], inputs: Collection[int] = ()
    ) -> tuple[WatchedParameter, ...]:
        """All parameters as plain data. `ran` are ids of modules that ran (empty: unknown),
        `zero_lr` of parameters at a rate of 0, `inputs` of tensors that modules were called on.
        """
        seen = self._received_gradient
        seen.update(n for n, p in self.parameters.items() if n not in seen and p.grad is not None)
        index = {id(p): i for i, o in enumerate(self.optimizers) for p in optimizer_parameters(o)}
        others = {i for ids in self._other_optimizers.values() for i in ids}
        unknown = not self.optimizers  # without a torch optimizer nobody can say who steps what
        return tuple(
            WatchedParameter(
                name=name,
                shape=tuple(p.shape),
                owner=type(self.owners.get(name)).__name__,
                trainable=p.requires_grad,
                in_model=name not in self._foreign,
                registered=name not in self._hidden,
                optimizer=index.get(id(p), -1 if unknown or id(p) in others else None),
                received_gradient=name in seen,
                module_ran=not ran or id(self.owners.get(name)) in ran,
                default_initialized=self._is_default_initialized(
                    name, p, trains=id(p) in index and id(p) not in zero_lr and name in seen
                ),
                is_input=id(p) in inputs,
                zero_lr=id(p) in zero_lr,
            )
            for name, p in self.parameters.items()
        )

    def _is_default_initialized(self, name: str, p: Tensor, *, trains: bool) -> bool:
        """Worked out once for each name, and False for parameters that train: no rule asks."""
        if p.requires_grad and trains:
            return False
        known, owner = self._default_initialized, self.owners.get(name)
        if name not in known:
            known[name] = owner is not None and has_default_initialization(p, owner)
        return known[name]


def optimizer_parameters(optimizer: Optimizer) -> list[Any]:
    """All parameters of an optimizer."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def hidden_parameters(model: nn.Module) -> dict[str, Any]:
    """What `model.parameters()` leaves out: parameters in lists and dicts, plain leaf tensors.

    >>> model = nn.Module()
    >>> model.layers = [nn.Linear(2, 2)]
    >>> list(hidden_parameters(model))
    ['layers.0.weight', 'layers.0.bias']
    """
    known = {id(p) for p in model.parameters()}
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or not isinstance(value, list | tuple | dict | Tensor):
                continue
            items = {"": value} if isinstance(value, Tensor) else value
            for key, item in items.items() if isinstance(items, dict) else enumerate(items):
                here = ".".join(part for part in (path, name, str(key)) if part)
                learns = isinstance(item, Tensor) and item.requires_grad and item.is_leaf
                if learns or isinstance(item, nn.Parameter):
                    found[here] = item
                elif isinstance(item, nn.Module):
                    found |= {f"{here}.{inner}": p for inner, p in item.named_parameters()}
    return {name: p for name, p in found.items() if id(p) not in known}


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """Matrices that are attributes of modules and neither parameters nor buffers: constants.

    >>> import torch
    >>> model = nn.Module()
    >>> model.w = torch.randn(2, 3)
    >>> list(plain_weights(model))
    ['w']
    """
    return {
        f"{path}.{name}" if path else name: value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2
        if not value.requires_grad
    }
