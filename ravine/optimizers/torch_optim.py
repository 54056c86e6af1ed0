"""Bridges to torch.optim: our rules in your training loop, torch's optimizers in a recipe."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import torch
from torch import Tensor

from ravine.errors import RecipeError, nearest, value_text, wrap_errors
from ravine.layout import Layout, Rows, Slot
from ravine.part import Number, part, setting
from ravine.protocols import (
    HasEvalWeights,
    Optimizer,
    SearchOptimizer,
    State,
    StepContext,
    UpdateResult,
)

UPDATE_COUNT = "updates"  # the entry of a tensor's state that counts its updates


class AsTorch(torch.optim.Optimizer):
    """One of our rules as a torch optimizer, with schedulers, `state_dict` and parameter groups.

    A group's "lr" is the rate; all other settings are the rule's. Weight decay acts on tensors of
    two or more dimensions and leaves biases and scales alone. Each tensor is updated by itself.

    >>> from ravine.optimizers.sgd import Momentum
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = AsTorch(model.parameters(), Momentum(lr=0.1))
    >>> model(torch.ones(4, 2)).sum().backward()
    >>> optimizer.step()
    """

    def __init__(self, params: Iterable[Any], rule: Optimizer):
        if isinstance(rule.lr, Tensor) or rule.lr <= 0:
            why = "the rate must be one number above 0"
            raise RecipeError(f"{type(rule).__name__}.lr is {rule.lr}", why=why)
        if isinstance(rule, SearchOptimizer):
            what = f"{type(rule).__name__} as a torch optimizer"
            do = "use torch.optim.LBFGS, or train with it in a recipe"
            raise RecipeError(what, why="it needs the loss as a function", do=do)
        self.rule = rule
        super().__init__(params, {"lr": rule.lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. Returns what a given `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group["lr"])
        return loss

    def _update(self, p: Tensor, grad: Tensor, lr: Any) -> None:
        rows = p.reshape(1, -1)
        kept = self.state[p]
        if not kept:
            kept |= {UPDATE_COUNT: 0, **self.rule.start(rows)}
        kept[UPDATE_COUNT] += 1
        role = "weight" if p.dim() > 1 else "bias"
        layout = Layout((Slot(name="tensor", shape=tuple(p.shape), role=role),))
        decay_mask = layout.decay_mask(dtype=p.dtype).to(p.device)
        context = StepContext(kept[UPDATE_COUNT], float(lr) / self.rule.lr, decay_mask, layout)
        new, state = self.rule.update(rows, grad.reshape(1, -1), _tensors(kept), context)
        p.copy_(new.view_as(p))
        kept |= state

    def load_state_dict(self, state_dict: Any) -> None:
        """As torch's, but float64 stays: torch casts it to the precision of the weights."""
        super().load_state_dict(state_dict)
        params = [p for group in self.param_groups for p in group["params"]]
        for index, kept in state_dict["state"].items():
            p = params[index]
            tensors = {n: v for n, v in kept.items() if isinstance(v, Tensor)}
            self.state[p] |= {n: v.detach().clone().to(p.device) for n, v in tensors.items()}

    @contextmanager
    def eval_weights(self) -> Iterator[None]:
        """Within this context parameters are the weights to evaluate, where a rule has others."""
        params = [p for group in self.param_groups for p in group["params"] if self.state[p]]
        before = [(p, p.detach().clone()) for p in params]
        if isinstance(self.rule, HasEvalWeights):
            with torch.no_grad():
                for p, raw in before:
                    state = _tensors(self.state[p])
                    p.copy_(self.rule.eval_weights(raw.reshape(1, -1), state).view_as(p))
        try:
            yield
        finally:
            with torch.no_grad():
                for p, raw in before:
                    p.copy_(raw)


def _tensors(kept: Mapping[str, Any]) -> State:
    return {name: value for name, value in kept.items() if name != UPDATE_COUNT}


@part
class TorchOptimizer:
    """Any class of torch.optim by name, run in a cohort: an instance for each network and update.

    `settings` are the class's own; they are the same for all networks, `lr` may differ. Slower than
    our rules by about 0.1 ms a network and step. A network's weights are one long vector to it: it
    decays biases too, and classes that need matrices or closures (Muon, LBFGS) cannot be used.

    >>> TorchOptimizer(optimizer="Adagrad", settings={"lr_decay": 0.1}).settings
    {'lr_decay': 0.1}
    """

    lr: Number = setting(default=0.001, ge=0)
    optimizer: str = "Adam"
    settings: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        if self.optimizer not in _usable_classes():
            what = f"torch.optim has no {self.optimizer!r} that can be used here"
            raise RecipeError(what, why=nearest(self.optimizer, _usable_classes()))
        what = f"TorchOptimizer.settings are {value_text(self.settings)}"
        with wrap_errors(RecipeError, what):
            self._update_one(torch.zeros(2), torch.ones(2), {}, 0.1)

    def start(self, rows: Rows) -> State:
        return {}

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        rate = torch.as_tensor(self.lr * context.factor, dtype=torch.float64)
        rates = rate.flatten().expand(rows.shape[0]).tolist()
        updated = [
            self._update_one(rows[i], grads[i], {n: v[i] for n, v in state.items()}, rate)
            for i, rate in enumerate(rates)
        ]
        new = torch.stack([row for row, _ in updated])
        if context.lr_multipliers is not None:
            new = rows + context.lr_multipliers.to(rows) * (new - rows)
        names = updated[0][1]
        return new, {name: torch.stack([kept[name] for _, kept in updated]) for name in names}

    def _update_one(self, row: Tensor, grad: Tensor, kept: State, rate: float) -> UpdateResult:
        row = row.clone()
        make = _usable_classes()[self.optimizer]
        instance = make([row], lr=rate, foreach=False, **self.settings)
        if kept:
            instance.state[row] = {name: value.clone() for name, value in kept.items()}
        row.grad = grad.clone()
        instance.step()
        row.grad = None
        return row, {n: v for n, v in instance.state[row].items() if isinstance(v, Tensor)}


@functools.cache
def _usable_classes() -> dict[str, Any]:
    """The classes of torch.optim that need nothing but a vector and its gradient."""
    classes = ((n, c) for n, c in vars(torch.optim).items() if inspect.isclass(c))
    named = {n: c for n, c in classes if issubclass(c, torch.optim.Optimizer)}
    return {n: c for n, c in named.items() if "foreach" in inspect.signature(c).parameters}
