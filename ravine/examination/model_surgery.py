"""A foreign model with other activations, without its output's activation, or without dropout:
weights shared, code untouched.

The calls that a forward pass makes are numbered, once as `trace_forward` records them, and again by
a `TorchFunctionMode` at every pass to replace some. Modules and functions look the same to it.
What is done inside compiled kernels (the gates of an LSTM, scripted modules) is not replaced.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ravine.diagnosis.initialization.forward_trace import function_name, trace_forward
from ravine.diagnosis.op_names import (
    ACTIVATION_FUNCTIONS,
    DROPOUT_FUNCTIONS,
    EXAMPLE_NORM_FUNCTIONS,
    LAYER_FUNCTIONS,
    SOFTMAX_FUNCTIONS,
    WEIGHT_FUNCTIONS,
)
from ravine.rng import isolated_rng

Activation: TypeAlias = Callable[[Tensor], Tensor]
RECORDED_FUNCTIONS = ACTIVATION_FUNCTIONS | SOFTMAX_FUNCTIONS | WEIGHT_FUNCTIONS | DROPOUT_FUNCTIONS
RECORDED_FUNCTIONS |= EXAMPLE_NORM_FUNCTIONS


@dataclass(frozen=True)
class ModelCall:
    """A call that may be replaced; `straight`: between layers and softmaxes, its input is the very
    output of the call before it.
    """

    name: str
    straight: bool = False


@dataclass(frozen=True)
class CallPlan:
    """What becomes of the calls of a forward pass in one mode: by number, in place or after."""

    calls: Sequence[ModelCall]  # all, in their order
    instead: Mapping[int, Activation]
    after: Mapping[int, Activation] = field(default_factory=dict)


class _CallReplacer(TorchFunctionMode):
    """Replaces some calls by functions of their first argument, and follows others by one."""

    def __init__(self, plan: CallPlan):
        super().__init__()
        self.plan = plan
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function_name(func)
        kwargs = kwargs or {}
        if name not in RECORDED_FUNCTIONS:
            return func(*args, **kwargs)
        here = self.count
        self.count += 1
        if here >= len(self.plan.calls) or self.plan.calls[here].name != name:
            what = f"call {here} of the model is {name}"
            raise RuntimeError(f"{what}; another call was recorded there")
        if here in self.plan.instead:
            inputs = args[0] if args else kwargs["input"]
            if not name.endswith("_") and not kwargs.get("inplace"):
                return self.plan.instead[here](inputs)
            # for those who go on with what they gave
            return inputs.copy_(self.plan.instead[here](inputs.clone()))
        output = func(*args, **kwargs)
        return self.plan.after[here](output) if here in self.plan.after else output


class RewiredModel(nn.Module):
    """A model whose calls are partly replaced; parameters and buffers are the model's own. There is
    a plan for each mode, as a model may call less in evaluation. A pass that calls something else
    than was planned raises `RuntimeError`.
    """

    def __init__(self, model: nn.Module, training: CallPlan, evaluation: CallPlan):
        super().__init__()
        self.model = model
        self.plans = {True: training, False: evaluation}

    def forward(self, *inputs: Any) -> Any:
        plan = self.plans[self.training]
        with _CallReplacer(plan) as replacing:
            outputs = self.model(*inputs)
        if replacing.count != len(plan.calls):
            counts = f"{replacing.count} calls, {len(plan.calls)} when it was recorded"
            raise RuntimeError(f"the model makes {counts}")
        return outputs


def record_calls(model: nn.Module, inputs: Tensor, *, training: bool = True) -> list[ModelCall]:
    """The calls of one forward pass of a copy, which is not recorded by autograd."""
    model = copy.deepcopy(model).train(training)
    with torch.no_grad(), isolated_rng():
        functions = trace_forward(model, inputs).functions
    calls = [call for call in functions if call.name in RECORDED_FUNCTIONS]
    recorded = [ModelCall(call.name) for call in calls[:1]]
    for before, call in pairwise(calls):
        between_layers = {before.name, call.name} <= LAYER_FUNCTIONS | SOFTMAX_FUNCTIONS
        straight = between_layers and call.follows(before)
        recorded.append(ModelCall(call.name, straight=straight))
    return recorded


def rewire(
    model: nn.Module, inputs: Tensor, plan: Callable[[Sequence[ModelCall]], CallPlan]
) -> RewiredModel | None:
    """The model with its calls replaced in both modes; None if there is nothing to replace in
    training.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.Sigmoid())
    >>> x = torch.ones(3, 2)
    >>> torch.equal(torch.sigmoid(rewire(model, x, plan_linear_output)(x)), model(x))
    True
    """
    in_training = plan(record_calls(model, inputs, training=True))
    if not in_training.instead and not in_training.after:
        return None
    in_evaluation = plan(record_calls(model, inputs, training=False))
    return RewiredModel(model, in_training, in_evaluation)


def plan_linear_output(calls: Sequence[ModelCall]) -> CallPlan:
    """No activations at the output."""
    return CallPlan(calls, dict.fromkeys(output_calls(calls), _identity))


def plan_sigmoid_output(calls: Sequence[ModelCall]) -> CallPlan:
    """A sigmoid in place of the output's activation."""
    instead = dict.fromkeys(output_calls(calls), _identity)
    return CallPlan(calls, instead | dict.fromkeys(list(instead)[:1], torch.sigmoid))


def plan_activation(calls: Sequence[ModelCall], activation: Activation) -> CallPlan:
    """One activation in all hidden places, also where none stands between two layers."""
    instead = dict.fromkeys(hidden_activations(calls), activation)
    return CallPlan(calls, instead, dict.fromkeys(layers_without_activation(calls), activation))


def plan_no_dropout(calls: Sequence[ModelCall]) -> CallPlan:
    """No dropout, also where a function drops."""
    places = [i for i, call in enumerate(calls) if call.name in DROPOUT_FUNCTIONS]
    return CallPlan(calls, dict.fromkeys(places, _identity))


def plan_no_example_norm(calls: Sequence[ModelCall]) -> CallPlan:
    """No normalization of each example by itself."""
    places = [i for i, call in enumerate(calls) if call.name in EXAMPLE_NORM_FUNCTIONS]
    return CallPlan(calls, dict.fromkeys(places, _identity))


def output_calls(calls: Sequence[ModelCall]) -> list[int]:
    """Activations and softmaxes after the last layer with weights: those of the output."""
    last = _last_layer(calls)
    functions = ACTIVATION_FUNCTIONS | SOFTMAX_FUNCTIONS
    return [i for i, call in enumerate(calls) if i > last and call.name in functions]


def hidden_activations(calls: Sequence[ModelCall]) -> list[int]:
    """Activations before the last layer with weights, softmaxes in their place among them."""
    last, softmaxes = _last_layer(calls), hidden_softmaxes(calls)
    names = ACTIVATION_FUNCTIONS
    return [i for i, call in enumerate(calls[:last]) if call.name in names or i in softmaxes]


def hidden_softmaxes(calls: Sequence[ModelCall]) -> list[int]:
    """Softmaxes that stand between two layers as activations do; not those of attention."""
    places = (i for i, call in enumerate(calls[:-1]) if call.name in SOFTMAX_FUNCTIONS)
    return [i for i in places if calls[i].straight and calls[i + 1].straight]


def layers_without_activation(calls: Sequence[ModelCall]) -> list[int]:
    """Layers with weights whose output goes straight into the next such layer."""
    layers = [i for i, call in enumerate(calls) if call.name in LAYER_FUNCTIONS]
    return [i for i, then in pairwise(layers) if then == i + 1 and calls[then].straight]


def _last_layer(calls: Sequence[ModelCall]) -> int:
    return max((i for i, call in enumerate(calls) if call.name in WEIGHT_FUNCTIONS), default=-1)


def _identity(x: Tensor) -> Tensor:
    return x
