"""Remedies for foreign code, as changes of a case: rate, batch, scales, output, start, activation,
loss, and more.

Letters: N examples, F features.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ravine.examination.model_surgery import (
    activated,
    linear_output,
    sigmoid_output,
    without_dropout,
)
from ravine.examination.torch_subject import Case, Rows
from ravine.finding import Change
from ravine.rng import isolated_rng

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
HIDDEN = {"relu": torch.relu, "leaky_relu": F.leaky_relu, "tanh": torch.tanh, "gelu": F.gelu}
PLAIN = 1e-3  # learning rate of the plain Adam that is tried in another optimizer's place
PROBE = 64  # examples on which a start is scaled


class NotTriedError(Exception):
    """Why a change cannot be tried on this case."""


class Scaled(nn.Module):
    """A model whose inputs are first brought to mean 0 and standard deviation 1: (x - mean) /
    sd.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, sd: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(((x - self.mean) / self.sd).to(x.dtype))


class Unscaled(nn.Module):
    """A model that learns standardized targets and answers in the targets' own units: sd model(x) +
    mean.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, sd: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.sd + self.mean


def changed(case: Case, *changes: Change) -> Case:
    """The case with changes made, one after another. Raises `NotTriedError` with the reason where
    one cannot be.
    """
    for change in changes:
        if change.path not in CHANGES:
            raise NotTriedError(f"a change of {change.path} is made by hand")
        case = CHANGES[change.path](case, change.value)
    return case


def _rate(case: Case, value: Any) -> Case:
    """`value`: the new rate, or "x10", "x0.1": a multiple of every group's."""

    def set_rate(model: nn.Module, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * float(value[1:]) if isinstance(value, str) else float(value)
            if "initial_lr" in group:
                group["initial_lr"] = group["lr"]

    return _prepared(case, set_rate)


def _decay(case: Case, value: Any) -> Case:
    def set_decay(model: nn.Module, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["weight_decay"] = float(value)

    return _prepared(case, set_decay)


def _dropout(case: Case, value: Any) -> Case:
    """Only 0 can be tried: modules, functions and the attributes of attention and recurrent
    layers.
    """
    if value != 0:
        raise NotTriedError("only dropout 0 is tried")

    def no_dropout(model: nn.Module, optimizer: Optimizer) -> None:
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0  # type: ignore[assignment]

    case = _prepared(case, no_dropout)
    plain = _rewired(case, without_dropout)
    return case if plain is None else replace(case, model=plain)


def _clip(case: Case, value: Any) -> Case:
    return replace(case, clip=float(value))


def _steps(case: Case, value: Any) -> Case:
    return replace(case, epochs=max(1, math.ceil(float(value) / len(case.train))))


def _batch(case: Case, value: Any) -> Case:
    """Another batch size at the same number of passes."""
    if not isinstance(case.train, Rows):
        raise NotTriedError("the batches come from a loader that cannot be built anew")
    return replace(case, train=replace(case.train, batch=min(int(value), len(case.train.inputs))))


def _shuffle(case: Case, value: Any) -> Case:
    if not isinstance(case.train, Rows):
        raise NotTriedError("the order comes from a loader that cannot be built anew")
    return replace(case, train=replace(case.train, shuffled=bool(value)))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (of [N, F], [N, T, F]) or channel ([N, C, H, W]);
    1 for constants.
    """
    over = (0, 2, 3) if x.dim() == 4 else tuple(range(x.dim() - 1)) if x.dim() > 1 else (0,)
    kind = x.dtype if x.is_floating_point() and x.element_size() > 4 else torch.float
    x = x.double()
    mean, sd = x.mean(over, keepdim=True)[0], x.std(over, keepdim=True, correction=0)[0]
    tiny = sd <= 1e-12 * (mean.abs() + 1e-300)
    return mean.to(kind), torch.where(tiny | (sd == 0), torch.ones_like(sd), sd).to(kind)


def _input_scale(case: Case, value: Any) -> Case:
    inputs, _ = case.examples()
    if not inputs.is_floating_point():
        raise NotTriedError("the inputs are whole numbers")
    return replace(case, model=Scaled(case.model, *moments(inputs)))


def _target_scale(case: Case, value: Any) -> Case:
    """Targets standardized for the loss; the outputs stay in the targets' units."""
    inputs, targets = case.examples()
    if not targets.is_floating_point():
        raise NotTriedError("the targets are whole numbers")
    with isolated_rng(case.seed), torch.no_grad():
        outputs = copy.deepcopy(case.model).eval()(inputs[:4])
    if not isinstance(outputs, Tensor) or outputs.numel() != targets[:4].numel():
        raise NotTriedError("outputs and targets are not paired number by number")
    flat = targets.double().reshape(len(targets), -1)
    mean, sd = flat.mean(), flat.std(correction=0)
    if float(sd) == 0:
        raise NotTriedError("all targets are equal")
    mean, sd, loss = mean.to(targets.dtype), sd.to(targets.dtype), case.loss
    return replace(
        case,
        model=Unscaled(case.model, mean, sd),
        loss=lambda out, y: loss((out - mean) / sd, (y - mean) / sd),
    )


def _output(case: Case, value: Any) -> Case:
    """ "linear" or "sigmoid" in place of the output's activation."""
    linear = _rewired(case, sigmoid_output if value == "sigmoid" else linear_output)
    if linear is None:
        raise NotTriedError("the output has no activation that was seen")
    return replace(case, model=linear)


def _activation(case: Case, value: Any) -> Case:
    bent = _rewired(case, lambda model, inputs: activated(model, inputs, HIDDEN[value]))
    if bent is None:
        raise NotTriedError("no activation was seen between layers")
    return replace(case, model=bent)


def _rewired(case: Case, how: Callable[[nn.Module, Tensor], nn.Module | None]) -> nn.Module | None:
    inputs, _ = case.examples(PROBE)
    with isolated_rng(case.seed):
        return how(case.model, inputs)


def _init(case: Case, value: Any) -> Case:
    """The start drawn anew: He's or Glorot's for matrices, orthogonal for recurrent ones, then each
    layer's output brought to variance 1 on a batch ("unit variance", Mishkin and Matas 2016)."""
    if value not in ("default", "unit variance"):
        raise NotTriedError(f"a start {value!r} is made by hand")
    inputs, _ = case.examples(PROBE)

    def restart(model: nn.Module, optimizer: Optimizer) -> None:
        for module in model.modules():
            _restart(module)
        if value == "unit variance":
            _unit_variance(model, inputs)

    return _prepared(case, restart)


def _restart(module: nn.Module) -> None:
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
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_parameters()  # with the running statistics
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
        module.reset_parameters()


def _unit_variance(model: nn.Module, inputs: Tensor) -> None:
    """Divide every linear and convolutional weight by the standard deviation of its output, in
    order of use.
    """

    def rescale(module: nn.Module, given: Any, made: Tensor) -> Tensor | None:
        if id(module) in done or made.numel() < 2:
            return None
        done.add(id(module))
        sd = float(made.detach().std())
        if not math.isfinite(sd) or sd < 1e-12:
            return None
        with torch.no_grad():
            module.weight.div_(sd)  # type: ignore[operator,union-attr]
        return (
            made / sd
            if module.bias is None
            else (made - _bias(module, made)) / sd + _bias(module, made)
        )

    done: set[int] = set()
    hooks = [
        m.register_forward_hook(rescale)
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)
    ]
    mode = model.training
    with torch.no_grad():
        model.eval()
        model(inputs)
    model.train(mode)
    for hook in hooks:
        hook.remove()


def _bias(module: nn.Module, made: Tensor) -> Tensor:
    bias: Any = module.bias
    return bias if isinstance(module, nn.Linear) else bias.reshape(-1, *[1] * (made.dim() - 2))


def _loss(case: Case, value: Any) -> Case:
    """ "mean": the sum divided by the batch; "balanced": classes (labels) drawn equally often;
    "cross entropy" and "binary cross entropy" on the outputs as logits."""
    loss, train = case.loss, case.train
    if value == "mean":
        return replace(case, loss=lambda out, y: loss(out, y) / len(out))
    if value == "paired":
        return replace(case, loss=lambda out, y: loss(out.reshape(y.shape), y))
    if value == "balanced":
        if not isinstance(train, Rows):
            raise NotTriedError("the examples come from a loader that cannot be built anew")
        return replace(case, train=replace(train, balanced=True))
    if value == "cross entropy":
        return replace(case, loss=lambda out, y: F.cross_entropy(logits_first(out, y), y))
    if value == "binary cross entropy":
        return replace(
            case,
            loss=lambda out, y: F.binary_cross_entropy_with_logits(out.reshape(y.shape), y.float()),
        )
    raise NotTriedError(f"a loss {value!r} is not known")


def logits_first(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs with the classes in dimension 1, where cross entropy wants them."""
    if (
        outputs.dim() == targets.dim() + 1
        and outputs.shape[1:-1] == targets.shape[1:]
        and outputs.dim() > 2
    ):
        return outputs.movedim(-1, 1)
    return outputs


def _optimizer(case: Case, value: Any) -> Case:
    """A plain Adam, "adam" or "adam 0.003", for the parameters that the case's own optimizer holds;
    or its own for "all parameters", also those that are frozen or in no optimizer."""
    if value == "all parameters":
        return _prepared(case, _hold_all)
    own = case.optimizer
    lr = float(str(value).partition(" ")[2] or PLAIN)
    if isinstance(own, Optimizer):
        held = {id(p) for group in own.param_groups for p in group["params"]}
        places = [i for i, p in enumerate(case.model.parameters()) if id(p) in held]
        return replace(
            case,
            optimizer=lambda parameters: Adam(
                [p for i, p in enumerate(parameters) if i in places], lr=lr
            ),
        )
    return replace(
        case,
        optimizer=lambda parameters: Adam(
            [p for group in own(parameters).param_groups for p in group["params"]], lr=lr
        ),
    )


def _hold_all(model: nn.Module, optimizer: Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [p for p in model.parameters() if id(p) not in held]
    for p in model.parameters():
        p.requires_grad_(p.is_floating_point() or p.is_complex())
    if missing:
        optimizer.add_param_group({"params": missing})


class Chosen(nn.Module):
    """A network with an output for each class; while it is evaluated, it answers with the number of
    the likeliest.
    """

    values: Tensor

    def __init__(self, model: nn.Module, values: Tensor, shape: tuple[int, ...]):
        super().__init__()
        self.model, self.shape = model, shape
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return logits if self.training else self.values[logits.argmax(1)].reshape(-1, *self.shape)


def as_classes(case: Case) -> Case:
    """The case with an output for each value of its targets and cross entropy, its last layer drawn
    anew.

    Raises `NotTriedError` if the last layer with weights is no linear one with one output.
    """
    _, targets = case.examples()
    if isinstance(case.optimizer, Optimizer):
        raise NotTriedError("the optimizer holds the old last layer")
    with isolated_rng(case.seed):
        model = copy.deepcopy(case.model)
        linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
        if not linear or linear[-1][1].out_features != 1:
            raise NotTriedError("the last layer is no linear one with one output")
        values = torch.unique(targets).float()
        name, last = linear[-1]
        head = nn.Linear(
            last.in_features,
            len(values),
            bias=last.bias is not None,
            device=last.weight.device,
            dtype=last.weight.dtype,
        )
    above, _, own = name.rpartition(".")
    setattr(model.get_submodule(above), own, head)
    with isolated_rng(case.seed), torch.no_grad():
        outputs = copy.deepcopy(case.model).eval()(case.examples(2)[0])
        if not isinstance(outputs, Tensor):
            raise NotTriedError("the model gives no tensor")
        shape = tuple(outputs.shape[1:])
    judged = case.judged or case.loss

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, torch.searchsorted(values, y.flatten().float()))

    return replace(case, model=Chosen(model, values, shape), loss=loss, judged=judged)


def _normalization(case: Case, value: Any) -> Case:
    if value != "usual":
        raise NotTriedError(f"normalization {value!r} is made by hand")

    def usual(model: nn.Module, optimizer: Optimizer) -> None:
        for module in model.modules():
            if isinstance(module, NORMS):
                module.momentum, module.eps = 0.1, 1e-5

    return _prepared(case, usual)


def _prepared(case: Case, change: Callable[[nn.Module, Optimizer], None]) -> Case:
    return replace(case, prepare=(*case.prepare, change))


CHANGES: dict[str, Callable[[Case, Any], Case]] = {
    "lr": _rate,
    "decay": _decay,
    "dropout": _dropout,
    "clip": _clip,
    "steps": _steps,
    "batch": _batch,
    "shuffle": _shuffle,
    "input.scale": _input_scale,
    "target.scale": _target_scale,
    "output": _output,
    "activation": _activation,
    "init": _init,
    "loss": _loss,
    "optimizer": _optimizer,
    "normalization": _normalization,
}
