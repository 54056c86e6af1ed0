"""A foreign model with other activations, without its output's activation, or without dropout:
weights shared, code untouched.

The calls that a forward pass makes are numbered by a `TorchFunctionMode`, once to see what they
are, and again at every pass to replace some. Modules and functions look the same to it. What is
done inside compiled kernels (the gates of an LSTM, scripted modules) is not seen and stays as it
is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from ravine.rng import isolated_rng

ACTIVATIONS = {
    "relu",
    "relu_",
    "relu6",
    "leaky_relu",
    "leaky_relu_",
    "prelu",
    "elu",
    "elu_",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "sigmoid",
    "sigmoid_",
    "tanh",
    "tanh_",
    "softplus",
    "softsign",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
    "logsigmoid",
}
SHARES = {"softmax", "log_softmax"}  # at the output only: within a network they are attention
AFFINE = {
    "linear",
    "bilinear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "addmm",
    "matmul",
    "mm",
    "bmm",
    "baddbmm",
    "einsum",
    "__matmul__",
    "__rmatmul__",
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "rnn_tanh_cell",
    "rnn_relu_cell",
    "lstm_cell",
    "gru_cell",
    "multi_head_attention_forward",
    "scaled_dot_product_attention",
}
DROPOUTS = {
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
}
WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d"}  # after which an activation may be missing


@dataclass(frozen=True)
class Call:
    """One call of a forward pass that may be replaced; `straight`: its input is a weighted layer's
    own output.
    """

    name: str
    straight: bool = False


class _Recording(TorchFunctionMode):
    """Notes the calls of interest, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._last: Any = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = short(func)
        if name in ACTIVATIONS | SHARES | AFFINE | DROPOUTS:
            given = args[0] if args else None
            self.calls.append(
                Call(name, straight=name in WEIGHTED and given is not None and given is self._last)
            )
            self._last = made if name in WEIGHTED else None
        return made


@dataclass(frozen=True)
class Plan:
    """What becomes of the calls of a forward pass in one mode: by number, functions `instead` and
    `after` of them.
    """

    calls: tuple[str, ...]  # names of all, in their order
    instead: Mapping[int, Callable[[Tensor], Tensor]]
    after: Mapping[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)


class _Replacing(TorchFunctionMode):
    """Answers some calls by other functions of their first argument, and passes what others made
    through functions.
    """

    def __init__(self, plan: Plan):
        super().__init__()
        self.plan, self.count = plan, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = short(func), kwargs or {}
        if name not in ACTIVATIONS | SHARES | AFFINE | DROPOUTS:
            return func(*args, **kwargs)
        here, self.count = self.count, self.count + 1
        if self.plan.calls[here : here + 1] != (name,):
            raise RuntimeError(
                f"call {here} of the model is {name}, which it was not when it was looked at"
            )
        if here in self.plan.instead:
            given = args[0] if args else kwargs["input"]
            if not name.endswith("_") and not kwargs.get("inplace"):
                return self.plan.instead[here](given)
            return given.copy_(
                self.plan.instead[here](given.clone())
            )  # for those who go on with what they gave
        made = func(*args, **kwargs)
        return self.plan.after[here](made) if here in self.plan.after else made


def short(func: Any) -> str:
    """The last part of a torch function's name.

    >>> short(torch.relu), short(torch.Tensor.sigmoid), short(torch.conv2d)
    ('relu', 'sigmoid', 'conv2d')
    """
    name = getattr(func, "__name__", "") or resolve_name(func) or ""
    return name.rpartition(".")[2]


class Rewired(nn.Module):
    """A model whose calls are partly replaced; parameters and buffers are the model's own.

    There is a plan for each mode, as a model may call less in evaluation. A pass that calls
    something else than was planned raises `RuntimeError`.
    """

    def __init__(self, model: nn.Module, training: Plan, evaluation: Plan):
        super().__init__()
        self.model = model
        self.plans = {True: training, False: evaluation}

    def forward(self, *inputs: Any) -> Any:
        plan = self.plans[self.training]
        with _Replacing(plan) as replacing:
            made = self.model(*inputs)
        if replacing.count != len(plan.calls):
            raise RuntimeError(
                f"the model makes {replacing.count} calls, {len(plan.calls)} when it was looked at"
            )
        return made


def calls_of(model: nn.Module, inputs: Tensor, *, training: bool = True) -> list[Call]:
    """The calls of one forward pass of a copy, which is not recorded by autograd."""
    recording, model = _Recording(), copy.deepcopy(model).train(training)
    with torch.no_grad(), isolated_rng(), recording:
        model(inputs)
    return recording.calls


def rewired(model: nn.Module, inputs: Tensor, how: Callable[[list[Call]], Plan]) -> Rewired | None:
    """The model with its calls replaced in both modes; None if there is nothing to replace in
    training.
    """
    plans = [how(calls_of(model, inputs, training=training)) for training in (True, False)]
    return Rewired(model, *plans) if plans[0].instead or plans[0].after else None


def head_calls(calls: list[Call]) -> list[int]:
    """Activations and softmaxes after the last layer with weights: those of the output."""
    last = max((i for i, c in enumerate(calls) if c.name in AFFINE), default=-1)
    return [i for i, c in enumerate(calls) if i > last and c.name in ACTIVATIONS | SHARES]


def hidden_calls(calls: list[Call]) -> list[int]:
    """Activations before the last layer with weights."""
    last = max((i for i, c in enumerate(calls) if c.name in AFFINE), default=-1)
    return [i for i, c in enumerate(calls) if i < last and c.name in ACTIVATIONS]


def missing_after(calls: list[Call]) -> list[int]:
    """Layers with weights whose output goes straight into the next such layer."""
    weighted = [i for i, c in enumerate(calls) if c.name in WEIGHTED]
    return [i for i, j in zip(weighted, weighted[1:], strict=False) if calls[j].straight]


def linear_output(model: nn.Module, inputs: Tensor) -> Rewired | None:
    """The model without activations at its output; None if it has none.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.Sigmoid())
    >>> x = torch.ones(3, 2)
    >>> torch.equal(torch.sigmoid(linear_output(model, x)(x)), model(x))
    True
    """
    return rewired(
        model, inputs, lambda calls: Plan(named(calls), dict.fromkeys(head_calls(calls), _same))
    )


def sigmoid_output(model: nn.Module, inputs: Tensor) -> Rewired | None:
    """The model with a sigmoid in place of its output's activation; None if it has none."""

    def bounded(calls: list[Call]) -> Plan:
        head = head_calls(calls)
        return Plan(
            named(calls), dict.fromkeys(head, _same) | dict.fromkeys(head[:1], torch.sigmoid)
        )

    return rewired(model, inputs, bounded)


def activated(
    model: nn.Module, inputs: Tensor, activation: Callable[[Tensor], Tensor]
) -> Rewired | None:
    """The model with one activation in all hidden places, also where none stands between two
    layers; None if there is no such place.

    >>> x = torch.randn(5, 2)
    >>> bent = activated(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), x, torch.relu)
    >>> torch.allclose(bent(x) + bent(-x), bent(2 * x) + bent(-2 * x))
    False
    """

    def bent(calls: list[Call]) -> Plan:
        hidden, missing = hidden_calls(calls), missing_after(calls)
        return Plan(
            named(calls), dict.fromkeys(hidden, activation), dict.fromkeys(missing, activation)
        )

    return rewired(model, inputs, bent)


def without_dropout(model: nn.Module, inputs: Tensor) -> Rewired | None:
    """The model without dropout, also where a function drops; None if nothing is dropped by a
    call.
    """

    def whole(calls: list[Call]) -> Plan:
        return Plan(named(calls), {i: _same for i, c in enumerate(calls) if c.name in DROPOUTS})

    return rewired(model, inputs, whole)


def named(calls: list[Call]) -> tuple[str, ...]:
    return tuple(call.name for call in calls)


def _same(x: Tensor) -> Tensor:
    return x
