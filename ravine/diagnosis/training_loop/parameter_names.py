"""What the parameters of a watched loop are called, who has them, and who steps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.diagnosis.training_loop.history import Weight
from ravine.diagnosis.training_loop.tensor_stats import hidden_parameters, looks_default_initialized


class Names:
    """The names of all parameters: the model's, those in its lists, and what else the optimizers
    hold.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]):
        self.model, self.optimizers = model, optimizers
        self.names: dict[int, str] = {}  # by id
        self.parameters: dict[str, nn.Parameter] = {}
        self.owners: dict[str, nn.Module] = {}
        self._hidden: set[str] = set()
        self._foreign: set[str] = set()
        self._fresh: dict[str, bool] = {}
        self._elsewhere: dict[
            int, set[int]
        ] = {}  # optimizers that nobody watches, and the ids of their parameters
        self._held: tuple[int, ...] = ()
        self.read()

    def read(self) -> None:
        """Read all names, which layers that come and go may change."""
        held = tuple(id(p) for o in self.optimizers for p in parameters(o))
        mine = dict(self.model.named_parameters())
        if held == self._held and mine.keys() <= self.parameters.keys():
            if all(self.parameters[n] is p for n, p in mine.items()):
                return
        self._held, self.parameters = held, mine
        self.owners = {
            f"{path}.{name}" if path else name: module
            for path, module in self.model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }
        self.names = {id(p): n for n, p in self.parameters.items()}
        hidden = hidden_parameters(self.model)
        self._hidden, self._foreign = set(hidden), set()
        for n, p in hidden.items():
            self.parameters[n] = p
            self.names[id(p)] = n
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(parameters(optimizer)):
                if id(p) not in self.names and isinstance(p, nn.Parameter):
                    name = f"optimizer {i} parameter {j}"
                    self.names[id(p)], self.parameters[name] = name, p
                    self._foreign.add(name)

    def elsewhere(self, optimizer: Optimizer) -> None:
        """Note an optimizer that steps and is not watched; a few of them, where each step has one
        of its own.
        """
        if id(optimizer) not in self._elsewhere and len(self._elsewhere) < 100:
            self._elsewhere[id(optimizer)] = {id(p) for p in parameters(optimizer)}

    @property
    def alone(self) -> bool:
        """Whether there is one optimizer at most."""
        return len(self.optimizers) <= 1 and not self._elsewhere

    def weights(self, reached: set[str], called: set[int], still: set[int]) -> tuple[Weight, ...]:
        """All of them as plain data. `called` are the modules that ran (ids; empty: not known),
        `still` the ids of parameters in groups whose learning rate has been 0."""
        held = {id(p): i for i, o in enumerate(self.optimizers) for p in parameters(o)}
        out = {i for ids in self._elsewhere.values() for i in ids}
        unknown = not self.optimizers  # who steps is not seen, so nothing is known to be left out
        return tuple(
            Weight(
                name=name,
                shape=tuple(p.shape),
                owner=type(self.owners.get(name)).__name__,
                trainable=p.requires_grad,
                in_model=name not in self._foreign,
                registered=name not in self._hidden,
                optimizer=held.get(id(p), -1 if unknown or id(p) in out else None),
                reached=name in reached,
                called=not called or id(self.owners.get(name)) in called,
                fresh=self._is_fresh(
                    name, p, asked=id(p) not in held or id(p) in still or name not in reached
                ),
                still=id(p) in still,
            )
            for name, p in self.parameters.items()
        )

    def _is_fresh(self, name: str, p: Tensor, *, asked: bool) -> bool:
        """Worked out once, and only where it is asked: for what is frozen, in no optimizer, or
        without a gradient.
        """
        if p.requires_grad and not asked:
            return False
        if name not in self._fresh:
            owner = self.owners.get(name)
            self._fresh[name] = owner is not None and looks_default_initialized(p, owner)
        return self._fresh[name]


def parameters(optimizer: Optimizer) -> list[Any]:
    """All parameters of an optimizer."""
    return [p for group in optimizer.param_groups for p in group["params"]]
