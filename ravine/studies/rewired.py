"""A foreign model with other activations, without its output's activation, or without dropout: weights shared, code
untouched.

The calls that a forward pass makes are numbered by a `TorchFunctionMode`, once to see what they are, and again at every
pass to replace some. Modules and functions look the same to it. What is done inside compiled kernels (the gates of an
LSTM, scripted modules) is not seen and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

ACTIVATIONS = {
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "elu", "elu_", "selu", "celu", "gelu", "silu",
    "mish", "sigmoid", "sigmoid_", "tanh", "tanh_", "softplus", "softsign", "hardtanh", "hardsigmoid", "hardswish",
    "logsigmoid",
}  # fmt: skip
SHARES = {"softmax", "log_softmax"}  # at the output only: within a network they are attention
AFFINE = {
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "addmm", "matmul", "mm",
    "bmm", "baddbmm", "einsum", "__matmul__", "__rmatmul__", "lstm", "gru", "rnn_tanh", "rnn_relu", "rnn_tanh_cell",
    "rnn_relu_cell", "lstm_cell", "gru_cell", "multi_head_attention_forward", "scaled_dot_product_attention",
}  # fmt: skip
DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d"}  # after which an activation may be missing


@dataclass(frozen=True)
class Call:
    """One call of a forward pass that may be replaced; `straight`: its input is a weighted layer's own output."""

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
            self.calls.append(Call(name, straight=name in WEIGHTED and given is not None and given is self._last))
            self._last = made if name in WEIGHTED else None
        return made


class _Replacing(TorchFunctionMode):
    """Answers some calls by other functions of their first argument, and passes what others made through functions."""

    def __init__(
        self, instead: Mapping[int, Callable[[Tensor], Tensor]], after: Mapping[int, Callable[[Tensor], Tensor]]
    ):
        super().__init__()
        self.instead, self.after, self.count = instead, after, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if short(func) not in ACTIVATIONS | SHARES | AFFINE | DROPOUTS:
            return func(*args, **(kwargs or {}))
        here, self.count = self.count, self.count + 1
        if here in self.instead:
            return self.instead[here](args[0] if args else (kwargs or {})["input"])
        made = func(*args, **(kwargs or {}))
        return self.after[here](made) if here in self.after else made


def short(func: Any) -> str:
    """The last part of a torch function's name.

    >>> short(torch.relu), short(torch.Tensor.sigmoid), short(torch.conv2d)
    ('relu', 'sigmoid', 'conv2d')
    """
    name = getattr(func, "__name__", "") or resolve_name(func) or ""
    return name.rpartition(".")[2]


class Rewired(nn.Module):
    """A model whose calls are partly replaced; parameters and buffers are the model's own."""

    def __init__(self, model: nn.Module, instead: Mapping[int, Callable[[Tensor], Tensor]],
                 after: Mapping[int, Callable[[Tensor], Tensor]] | None = None):  # fmt: skip
        super().__init__()
        self.model = model
        self.instead, self.after = dict(instead), dict(after or {})

    def forward(self, *inputs: Any) -> Any:
        with _Replacing(self.instead, self.after):
            return self.model(*inputs)


def calls_of(model: nn.Module, inputs: Tensor) -> list[Call]:
    """The calls of one forward pass in training mode, which is not recorded by autograd."""
    recording = _Recording()
    with torch.no_grad(), recording:
        model(inputs)
    return recording.calls


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
    head = head_calls(calls_of(model, inputs))
    return Rewired(model, dict.fromkeys(head, _same)) if head else None


def sigmoid_output(model: nn.Module, inputs: Tensor) -> Rewired | None:
    """The model with a sigmoid in place of its output's activation; None if it has none."""
    head = head_calls(calls_of(model, inputs))
    return Rewired(model, {head[0]: torch.sigmoid} | dict.fromkeys(head[1:], _same)) if head else None


def activated(model: nn.Module, inputs: Tensor, activation: Callable[[Tensor], Tensor]) -> Rewired | None:
    """The model with one activation in all hidden places, also where none stands between two layers; None if there is
    no such place.

    >>> x = torch.randn(5, 2)
    >>> bent = activated(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), x, torch.relu)
    >>> torch.allclose(bent(x) + bent(-x), bent(2 * x) + bent(-2 * x))
    False
    """
    calls = calls_of(model, inputs)
    hidden, missing = hidden_calls(calls), missing_after(calls)
    if not hidden and not missing:
        return None
    return Rewired(model, dict.fromkeys(hidden, activation), dict.fromkeys(missing, activation))


def without_dropout(model: nn.Module, inputs: Tensor) -> Rewired | None:
    """The model without dropout, also where a function drops; None if nothing is dropped by a call."""
    calls = calls_of(model, inputs)
    dropping = [i for i, c in enumerate(calls) if c.name in DROPOUTS]
    return Rewired(model, dict.fromkeys(dropping, _same)) if dropping else None


def _same(x: Tensor) -> Tensor:
    return x
