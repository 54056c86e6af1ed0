"""Changes of a torch program's model and loss: scales, activations, dropout, start, outputs.

Letters: N examples, T tokens, F features, C channels, H, W pixels.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.examination import model_surgery
from ravine.examination.model_surgery import CallPlan, ModelCall
from ravine.examination.remedies import SPREAD_RATIO
from ravine.examination.scores import classes_second
from ravine.examination.subject import CannotTryError
from ravine.examination.torch_change import (
    TorchChange,
    change_of_loss,
    change_of_program,
    change_of_settings,
)
from ravine.examination.torch_program import Loss, TorchProgram, evaluating
from ravine.rng import isolated_rng
from ravine.statistics import mean_and_sd

RUNNING_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
HIDDEN_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
}
SURGERY_EXAMPLES = 64  # on which calls are recorded and a start is scaled

# Scales of inputs and targets


class WrappedModel(nn.Module):
    """A model with a function of its inputs before it, or one of its outputs behind it."""

    def __init__(
        self,
        model: nn.Module,
        *,
        before: Callable[[Tensor], Tensor] | None = None,
        behind: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.model, self.before, self.behind = model, before, behind

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.model(x if self.before is None else self.before(x))
        return outputs if self.behind is None else self.behind(outputs)


@change_of_program("input.scale", "standardize")
def standardize_inputs(program: TorchProgram) -> TorchProgram:
    """Inputs, or without rows what the model is given, to mean 0 and deviation 1 by feature."""
    inputs = program.examples()[0] if program.form.whole is None else called_on(program)
    if inputs is None or not inputs.is_floating_point():
        raise CannotTryError("the inputs are whole numbers, or not known")
    mean, sd = mean_and_sd(inputs)
    scale: Callable[[Tensor], Tensor] = lambda x: ((x - mean) / sd).to(x.dtype)  # noqa: E731
    if program.form.whole is None:
        return replace(program, model=WrappedModel(program.model, before=scale))

    def scale_first(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        is_input = given and getattr(given[0], "shape", ())[1:] == inputs.shape[1:]
        return (scale(given[0]), *given[1:]) if is_input else None

    def scale_calls(model: nn.Module, optimizer: Optimizer) -> None:
        model.register_forward_pre_hook(scale_first)

    return replace(program, prepare=(*program.prepare, scale_calls))


def called_on(program: TorchProgram) -> Tensor | None:
    """What a model is called on first in each of some batches, where that is numbers."""
    model, seen = copy.deepcopy(program.model), list[Any]()
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0] if given else None))
    for row in program.examples()[0]:
        calls = len(seen)
        with evaluating(model, seed=program.seed):
            program.form.run(model, row[None])
        del seen[calls + 1 :]
    known = [x for x in seen if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1]
    return torch.cat(known) if len({x.shape[1:] for x in known}) == 1 else None


@change_of_program("target.scale", "standardize")
def standardize_targets(program: TorchProgram) -> TorchProgram:
    """Targets standardized for the loss; the outputs stay in the targets' units."""
    inputs, targets = program.examples()
    if not targets.is_floating_point():
        raise CannotTryError("the targets are whole numbers")
    outputs = _outputs(program, inputs[:4])
    if not isinstance(outputs, Tensor) or outputs.numel() != targets[:4].numel():
        raise CannotTryError("outputs and targets are not paired number by number")
    if not bool((targets != targets[:1]).any()):
        raise CannotTryError("all targets are equal")
    mean, sd = (part.to(targets.dtype) for part in mean_and_sd(targets))
    if outputs.shape[1:] != targets.shape[1:] or float(sd.max() / sd.min()) <= SPREAD_RATIO:
        flat = targets.double()  # of one size: what they are to each other stays
        mean, sd = flat.mean().to(targets.dtype), flat.std(correction=0).to(targets.dtype)
    own = program.loss
    return replace(
        program,
        model=WrappedModel(program.model, behind=lambda out: out * sd + mean),
        loss=lambda out, y: own((out - mean) / sd, (y - mean) / sd),
    )


# Activations, dropout and normalization


@change_of_program("dropout", 0)
def remove_dropout(program: TorchProgram) -> TorchProgram:
    """No dropout: in modules, functions and the attributes of attention and recurrent layers."""

    def set_rates(model: nn.Module, optimizer: Optimizer) -> None:
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0  # type: ignore[assignment]

    changed = replace(program, prepare=(*program.prepare, set_rates))
    return _rewire(changed, model_surgery.plan_no_dropout)


@change_of_program("output", "linear")
def use_linear_output(program: TorchProgram) -> TorchProgram:
    """No activation at the output."""
    return _rewire(program, model_surgery.plan_linear_output, missing="activation at the output")


@change_of_program("output", "sigmoid")
def use_sigmoid_output(program: TorchProgram) -> TorchProgram:
    """A sigmoid in place of the output's activation."""
    return _rewire(program, model_surgery.plan_sigmoid_output, missing="activation at the output")


def replace_activations(activation: str) -> TorchChange:
    """One activation, of `HIDDEN_ACTIVATIONS`, in all hidden places, also where none stands."""

    @change_of_program("activation", activation)
    def change(program: TorchProgram) -> TorchProgram:
        plan = partial(model_surgery.plan_activation, activation=HIDDEN_ACTIVATIONS[activation])
        return _rewire(program, plan, missing="activation between layers")

    return change


@change_of_program("normalization", "none of each example")
def remove_example_norms(program: TorchProgram) -> TorchProgram:
    """No instance normalization, which takes away how large an example's numbers are."""
    return _rewire(program, model_surgery.plan_no_example_norm, missing="instance normalization")


@change_of_settings("normalization", "usual")
def reset_normalization(model: nn.Module, optimizer: Optimizer) -> None:
    """The usual momentum (0.1) and epsilon (1e-5) of normalization with running statistics."""
    for module in model.modules():
        if isinstance(module, RUNNING_NORMS):
            module.momentum = 0.1
            module.eps = 1e-5


def _rewire(
    program: TorchProgram, plan: Callable[[Sequence[ModelCall]], CallPlan], *, missing: str = ""
) -> TorchProgram:
    """The program with calls of its model replaced. Raises `CannotTryError` if all are missing."""
    inputs, _ = program.examples(SURGERY_EXAMPLES)
    with isolated_rng(program.seed):
        model = model_surgery.rewire(program.model, inputs, plan)
    if model is None and missing:
        raise CannotTryError(f"there is no {missing}")
    return program if model is None else replace(program, model=model)


# Start


@change_of_settings("init", "default")
def reinitialize(model: nn.Module, optimizer: Optimizer) -> None:
    """New starting weights: He's for linear layers and convolutions, orthogonal for recurrent
    matrices; norms and embeddings as new. Matrices of other modules, of which it is not known which
    side is which, by Glorot.
    """
    for module in model.modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            for name, p in module.named_parameters(recurse=False):
                if p.dim() > 1:
                    (nn.init.orthogonal_ if "hh" in name else nn.init.xavier_uniform_)(p)
                else:
                    nn.init.zeros_(p)
        elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.embedding_dim))
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            module.reset_parameters()  # with the running statistics
        else:
            for p in module.parameters(recurse=False):
                if p.dim() == 2:
                    nn.init.xavier_normal_(p)


@change_of_program("init", "unit variance")
def scale_start(program: TorchProgram) -> TorchProgram:
    """New weights, each layer's output of variance 1 on a batch (Mishkin and Matas 2016)."""
    inputs, _ = program.examples(SURGERY_EXAMPLES)

    def scale_weights(model: nn.Module) -> None:
        kinds = nn.Linear | nn.modules.conv._ConvNd
        hook = _unit_variance_hook()
        handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
        try:
            with evaluating(model):
                model(inputs)
        finally:
            for handle in handles:
                handle.remove()

    return replace(reinitialize.apply(program), initialize=scale_weights)


def _unit_variance_hook() -> Callable[..., Tensor | None]:
    """A hook that divides each weight by the standard deviation of its output, at its first use."""
    done: set[int] = set()

    def divide(module: Any, inputs: Any, output: Tensor) -> Tensor | None:
        if id(module) in done or output.numel() < 2:
            return None
        done.add(id(module))
        sd = float(output.std())
        if not math.isfinite(sd) or sd < 1e-12:
            return None
        module.weight.div_(sd)
        if module.bias is None:
            return output / sd
        bias = module.bias
        if not isinstance(module, nn.Linear):
            bias = bias.reshape(-1, *[1] * (output.dim() - 2))
        return (output - bias) / sd + bias

    return divide


# Loss


@change_of_loss("mean")
def average_loss(loss: Loss) -> Loss:
    """The loss, a sum, divided by the size of the batch."""
    return lambda out, y: loss(out, y) / len(out)


@change_of_loss("paired")
def pair_loss(loss: Loss) -> Loss:
    """Outputs in the targets' shape before they reach the loss."""
    return lambda out, y: loss(out.reshape(y.shape), y)


@change_of_loss("cross entropy")
def use_cross_entropy(loss: Loss) -> Loss:
    """Cross entropy on the outputs as logits, of class numbers or of a share for each class."""

    def cross_entropy(out: Tensor, y: Tensor) -> Tensor:
        shares = not y.is_floating_point() or bool(((y.sum(1) - 1).abs() < 1e-4).all())
        scores = classes_second(out, y, loss) if out.dim() > 1 else out[:, None]
        if scores.shape[1] < 2 or not shares:
            raise CannotTryError("the targets are no classes")
        return F.cross_entropy(scores, y)

    return cross_entropy


@change_of_loss("binary cross entropy")
def use_binary_cross_entropy(loss: Loss) -> Loss:
    """Binary cross entropy on the outputs as logits, of targets 0 and 1 or −1 and 1."""

    def binary_cross_entropy(out: Tensor, y: Tensor) -> Tensor:
        if bool((y.abs() > 1).any()):
            raise CannotTryError("the targets are no labels")
        labels = y.float() if bool((y >= 0).all()) else (y > 0).float()
        return F.binary_cross_entropy_with_logits(out.reshape(y.shape), labels)

    return binary_cross_entropy


@change_of_loss("squared error")
def use_squared_error(loss: Loss) -> Loss:
    """The mean squared error of outputs in the targets' shape."""
    return lambda out, y: F.mse_loss(out.reshape(y.shape), y.to(out.dtype))


class LikeliestClass(nn.Module):
    """A network with an output for each class; in evaluation it gives the likeliest's value."""

    def __init__(self, model: nn.Module, values: Tensor, shape: Sequence[int]):
        super().__init__()
        self.model, self.values, self.shape = model, values, shape

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return logits if self.training else self.values[logits.argmax(1)].reshape(-1, *self.shape)


@change_of_program("loss", "cross entropy, one output for each class")
def use_class_outputs(program: TorchProgram) -> TorchProgram:
    """Outputs for each value of the targets, cross entropy; the last layer, linear, starts anew."""
    if isinstance(program.optimizer, Optimizer):
        raise CannotTryError("the optimizer holds the old last layer")
    values = torch.unique(program.examples()[1]).float()
    outputs = _outputs(program, program.examples(2)[0])
    if not isinstance(outputs, Tensor):
        raise CannotTryError("the model gives no tensor")
    model = LikeliestClass(_with_outputs(program, len(values)), values, outputs.shape[1:])

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, torch.searchsorted(values, y.flatten().float()))

    return replace(program.keeping_measure(), model=model, loss=loss)


def _with_outputs(program: TorchProgram, outputs: int) -> nn.Module:
    """A copy of the model with a new last layer with so many outputs."""
    model = copy.deepcopy(program.model)
    linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    name, last = linear[-1] if linear else ("", None)
    if last is None or last.out_features != 1:
        raise CannotTryError("the last layer is no linear one with one output")
    like = {"device": last.weight.device, "dtype": last.weight.dtype}
    with isolated_rng(program.seed):
        layer = nn.Linear(last.in_features, outputs, bias=last.bias is not None, **like)
    model.set_submodule(name, layer)
    return model


def _outputs(program: TorchProgram, inputs: Tensor) -> object:
    """What the model makes of some inputs in evaluation."""
    with isolated_rng(program.seed), torch.no_grad():
        return copy.deepcopy(program.model).eval()(inputs)
