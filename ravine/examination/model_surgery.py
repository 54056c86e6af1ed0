"""A foreign model with other activations, without its output's activation, or without dropout:
weights shared, code untouched.

The calls that a forward pass makes are numbered, once as `trace_forward` records them, and again by
a `TorchFunctionMode` at every pass to replace some. Modules and functions look the same to it.
What is done inside compiled kernels (the gates of an LSTM, scripted modules) is not seen and stays
as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ravine.diagnosis.initialization.forward_trace import function_name, trace_forward
from ravine.diagnosis.op_names import (
    ACTIVATION_FUNCTIONS,
    DROPOUT_FUNCTIONS,
    LAYER_FUNCTIONS,
    SOFTMAX_FUNCTIONS,
    WEIGHT_FUNCTIONS,
)
from ravine.rng import isolated_rng

RECORDED_FUNCTIONS = ACTIVATION_FUNCTIONS | SOFTMAX_FUNCTIONS | WEIGHT_FUNCTIONS | DROPOUT_FUNCTIONS


@dataclass(frozen=True)
class ModelCall:
    """One call of a forward pass that may be replaced; `straight`: its input is a weighted layer's
    own output.
    """

    name: str
    straight: bool = False


@dataclass(frozen=True)
class CallPlan:
    """What becomes of the calls of a forward pass in one mode: by number, functions `instead` and
    `after` of them.
    """

    calls: tuple[str, ...]  # names of all, in their order
    instead: Mapping[int, Callable[[Tensor], Tensor]]
    after: Mapping[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)


class _CallReplacer(TorchFunctionMode):
    """Answers some calls by other functions of their first argument, and passes what others made
    through functions.
    """

    def __init__(self, plan: CallPlan):
        super().__init__()
        self.plan, self.count = plan, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = function_name(func), kwargs or {}
        if name not in RECORDED_FUNCTIONS:
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


class RewiredModel(nn.Module):
    """A model whose calls are partly replaced; parameters and buffers are the model's own.

    There is a plan for each mode, as a model may call less in evaluation. A pass that calls
    something else than was planned raises `RuntimeError`.
    """

    def __init__(self, model: nn.Module, training: CallPlan, evaluation: CallPlan):
        super().__init__()
        self.model = model
        self.plans = {True: training, False: evaluation}

    def forward(self, *inputs: Any) -> Any:
        plan = self.plans[self.training]
        with _CallReplacer(plan) as replacing:
            made = self.model(*inputs)
        if replacing.count != len(plan.calls):
            raise RuntimeError(
                f"the model makes {replacing.count} calls, {len(plan.calls)} when it was looked at"
            )
        return made


def record_calls(model: nn.Module, inputs: Tensor, *, training: bool = True) -> list[ModelCall]:
    """The calls of one forward pass of a copy, which is not recorded by autograd."""
    model = copy.deepcopy(model).train(training)
    with torch.no_grad(), isolated_rng():
        functions = trace_forward(model, inputs).functions
    calls = [call for call in functions if call.name in RECORDED_FUNCTIONS]
    straight = [
        {before.name, call.name} <= LAYER_FUNCTIONS and call.follows(before)
        for before, call in pairwise(calls)
    ]
    return [
        ModelCall(call.name, straight=so)
        for call, so in zip(calls, (False, *straight), strict=False)
    ]


def rewire(
    model: nn.Module, inputs: Tensor, how: Callable[[list[ModelCall]], CallPlan]
) -> RewiredModel | None:
    """The model with its calls replaced in both modes; None if there is nothing to replace in
    training.
    """
    plans = [how(record_calls(model, inputs, training=training)) for training in (True, False)]
    return RewiredModel(model, *plans) if plans[0].instead or plans[0].after else None


def output_calls(calls: Sequence[ModelCall]) -> list[int]:
    """Activations and softmaxes after the last layer with weights: those of the output."""
    last = max((i for i, c in enumerate(calls) if c.name in WEIGHT_FUNCTIONS), default=-1)
    return [
        i
        for i, c in enumerate(calls)
        if i > last and c.name in ACTIVATION_FUNCTIONS | SOFTMAX_FUNCTIONS
    ]


def hidden_activations(calls: Sequence[ModelCall]) -> list[int]:
    """Activations before the last layer with weights."""
    last = max((i for i, c in enumerate(calls) if c.name in WEIGHT_FUNCTIONS), default=-1)
    return [i for i, c in enumerate(calls) if i < last and c.name in ACTIVATION_FUNCTIONS]


def layers_without_activation(calls: Sequence[ModelCall]) -> list[int]:
    """Layers with weights whose output goes straight into the next such layer."""
    weighted = [i for i, c in enumerate(calls) if c.name in LAYER_FUNCTIONS]
    return [i for i, j in zip(weighted, weighted[1:], strict=False) if calls[j].straight]


def with_linear_output(model: nn.Module, inputs: Tensor) -> RewiredModel | None:
    """The model without activations at its output; None if it has none.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.Sigmoid())
    >>> x = torch.ones(3, 2)
    >>> torch.equal(torch.sigmoid(with_linear_output(model, x)(x)), model(x))
    True
    """
    return rewire(
        model,
        inputs,
        lambda calls: CallPlan(call_names(calls), dict.fromkeys(output_calls(calls), _identity)),
    )


def with_sigmoid_output(model: nn.Module, inputs: Tensor) -> RewiredModel | None:
    """The model with a sigmoid in place of its output's activation; None if it has none."""

    def bounded(calls: list[ModelCall]) -> CallPlan:
        head = output_calls(calls)
        return CallPlan(
            call_names(calls),
            dict.fromkeys(head, _identity) | dict.fromkeys(head[:1], torch.sigmoid),
        )

    return rewire(model, inputs, bounded)


def with_activation(
    model: nn.Module, inputs: Tensor, activation: Callable[[Tensor], Tensor]
) -> RewiredModel | None:
    """The model with one activation in all hidden places, also where none stands between two
    layers; None if there is no such place.

    >>> x = torch.randn(5, 2)
    >>> bent = with_activation(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), x, torch.relu)
    >>> torch.allclose(bent(x) + bent(-x), bent(2 * x) + bent(-2 * x))
    False
    """

    def bent(calls: list[ModelCall]) -> CallPlan:
        hidden, missing = hidden_activations(calls), layers_without_activation(calls)
        return CallPlan(
            call_names(calls), dict.fromkeys(hidden, activation), dict.fromkeys(missing, activation)
        )

    return rewire(model, inputs, bent)


def without_dropout(model: nn.Module, inputs: Tensor) -> RewiredModel | None:
    """The model without dropout, also where a function drops; None if nothing is dropped by a
    call.
    """

    def whole(calls: list[ModelCall]) -> CallPlan:
        return CallPlan(
            call_names(calls),
            {i: _identity for i, c in enumerate(calls) if c.name in DROPOUT_FUNCTIONS},
        )

    return rewire(model, inputs, whole)


def call_names(calls: Sequence[ModelCall]) -> tuple[str, ...]:
    return tuple(call.name for call in calls)


def _identity(x: Tensor) -> Tensor:
    return x
