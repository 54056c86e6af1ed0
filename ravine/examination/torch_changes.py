"""Changes of a torch program, a class for each: of its rate, batches, scales, start, activations,
loss and more.

A change names itself in a finding by `change`, a path and a value; `apply` gives the program with
the change made. Letters: N examples, F features.
"""

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ravine.examination.model_surgery import (
    CallPlan,
    ModelCall,
    plan_activation,
    plan_linear_output,
    plan_no_dropout,
    plan_sigmoid_output,
    rewire,
)
from ravine.examination.scores import classes_second
from ravine.examination.subject import CannotTryError, Treatment
from ravine.examination.torch_data import TensorData
from ravine.examination.torch_program import TorchProgram, held_parameters
from ravine.finding import Change
from ravine.rng import isolated_rng

RUNNING_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
HIDDEN_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
}
SURGERY_EXAMPLES = 64  # on which calls are recorded and a start is scaled


class TorchChange(Treatment, Protocol):
    """One change of a torch program."""

    def apply(self, program: TorchProgram) -> TorchProgram:
        """The program with the change made. Raises `CannotTryError` where it cannot be."""
        ...


class SettingChange:
    """A change of settings of model and optimizer, made in the copies that train."""

    def set_in(self, model: nn.Module, optimizer: Optimizer) -> None:
        raise NotImplementedError

    def apply(self, program: TorchProgram) -> TorchProgram:
        return replace(program, prepare=(*program.prepare, self.set_in))


def apply_treatments(program: TorchProgram, treatments: Sequence[Any]) -> TorchProgram:
    """The program with changes made, one after another. Raises `CannotTryError`."""
    for treatment in treatments:
        program = treatment.apply(program)
    return program


# Optimizer and budget


@dataclass(frozen=True)
class ScaleLearningRate(SettingChange):
    """Every group's learning rate times a factor."""

    factor: float

    @property
    def change(self) -> Change:
        return Change("lr", f"x{self.factor:g}")

    def set_in(self, model: nn.Module, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * self.factor
            if "initial_lr" in group:
                group["initial_lr"] = group["lr"]


@dataclass(frozen=True)
class SetWeightDecay(SettingChange):
    """One weight decay for all groups."""

    value: float

    @property
    def change(self) -> Change:
        return Change("decay", self.value)

    def set_in(self, model: nn.Module, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["weight_decay"] = float(self.value)


@dataclass(frozen=True)
class ClipGradient:
    """The gradient's norm clipped to a limit before each step."""

    limit: float

    @property
    def change(self) -> Change:
        return Change("clip", self.limit)

    def apply(self, program: TorchProgram) -> TorchProgram:
        return replace(program, clip=float(self.limit))


@dataclass(frozen=True)
class UseAdam:
    """A plain Adam for the parameters that the program's own optimizer holds."""

    lr: float = 1e-3

    @property
    def change(self) -> Change:
        return Change("optimizer", "adam" if self.lr == 1e-3 else f"adam {self.lr:g}")

    def apply(self, program: TorchProgram) -> TorchProgram:
        own = program.optimizer
        held = held_parameters(own) if isinstance(own, Optimizer) else set()
        is_held = [id(p) in held for p in program.model.parameters()]

        def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
            if isinstance(own, Optimizer):
                return Adam(itertools.compress(parameters, is_held), lr=self.lr)
            groups = own(parameters).param_groups
            return Adam([p for group in groups for p in group["params"]], lr=self.lr)

        return replace(program, optimizer=adam)


@dataclass(frozen=True)
class TrainAllParameters(SettingChange):
    """All parameters in the optimizer and trained, also those that are frozen or were left out."""

    change = Change("optimizer", "all parameters")

    def set_in(self, model: nn.Module, optimizer: Optimizer) -> None:
        held = held_parameters(optimizer)
        missing = [p for p in model.parameters() if id(p) not in held]
        for p in model.parameters():
            p.requires_grad_(p.is_floating_point() or p.is_complex())
        if missing:
            optimizer.add_param_group({"params": missing})


@dataclass(frozen=True)
class SetSteps:
    """Another budget: so many steps, in whole epochs."""

    steps: int

    @property
    def change(self) -> Change:
        return Change("steps", self.steps)

    def apply(self, program: TorchProgram) -> TorchProgram:
        epochs = max(1, math.ceil(float(self.steps) / len(program.train)))
        return replace(program, epochs=epochs)


# Examples


@dataclass(frozen=True)
class SetBatchSize:
    """Another batch size at the same number of passes."""

    size: int

    @property
    def change(self) -> Change:
        return Change("batch", self.size)

    def apply(self, program: TorchProgram) -> TorchProgram:
        data = _in_memory(program)
        size = min(int(self.size), len(data.inputs))
        return replace(program, train=replace(data, batch=size))


@dataclass(frozen=True)
class ShuffleExamples:
    """A new order of the examples in every pass."""

    change = Change("shuffle", True)

    def apply(self, program: TorchProgram) -> TorchProgram:
        return replace(program, train=replace(_in_memory(program), is_shuffled=True))


@dataclass(frozen=True)
class BalanceClasses:
    """Classes (labels) drawn equally often."""

    change = Change("loss", "balanced")

    def apply(self, program: TorchProgram) -> TorchProgram:
        return replace(program, train=replace(_in_memory(program), balanced=True))


class StandardizedModel(nn.Module):
    """A model with the mean and standard deviation of what is standardized."""

    mean: Tensor
    sd: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, sd: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)


class StandardizedInputs(StandardizedModel):
    """A model whose inputs are first standardized: model((x − mean) / sd)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.model(((x - self.mean) / self.sd).to(x.dtype))


@dataclass(frozen=True)
class StandardizeInputs:
    """Inputs brought to mean 0 and standard deviation 1, by feature or channel."""

    change = Change("input.scale", "standardize")

    def apply(self, program: TorchProgram) -> TorchProgram:
        inputs, _ = program.examples()
        if not inputs.is_floating_point():
            raise CannotTryError("the inputs are whole numbers")
        return replace(program, model=StandardizedInputs(program.model, *mean_and_sd(inputs)))


def mean_and_sd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (of [N, F], [N, T, F]) or channel
    ([N, C, H, W]); 1 in place of the standard deviation of a constant.
    """
    over = (0, 2, 3) if x.dim() == 4 else tuple(range(x.dim() - 1)) if x.dim() > 1 else (0,)
    kind = x.dtype if x.is_floating_point() and x.element_size() > 4 else torch.float
    x = x.double()
    mean, sd = x.mean(over, keepdim=True)[0], x.std(over, keepdim=True, correction=0)[0]
    constant = (sd <= 1e-12 * (mean.abs() + 1e-300)) | (sd == 0)
    return mean.to(kind), torch.where(constant, torch.ones_like(sd), sd).to(kind)


class RescaledOutputs(StandardizedModel):
    """A model that learns standardized targets and answers in their units: sd model(x) + mean."""

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.sd + self.mean


@dataclass(frozen=True)
class StandardizeTargets:
    """Targets standardized for the loss; the outputs stay in the targets' units."""

    change = Change("target.scale", "standardize")

    def apply(self, program: TorchProgram) -> TorchProgram:
        inputs, targets = program.examples()
        if not targets.is_floating_point():
            raise CannotTryError("the targets are whole numbers")
        outputs = _outputs(program, inputs[:4])
        if not isinstance(outputs, Tensor) or outputs.numel() != targets[:4].numel():
            raise CannotTryError("outputs and targets are not paired number by number")
        flat = targets.double().reshape(len(targets), -1)
        mean, sd = flat.mean(), flat.std(correction=0)
        if float(sd) == 0:
            raise CannotTryError("all targets are equal")
        mean, sd, own = mean.to(targets.dtype), sd.to(targets.dtype), program.loss
        return replace(
            program,
            model=RescaledOutputs(program.model, mean, sd),
            loss=lambda out, y: own((out - mean) / sd, (y - mean) / sd),
        )


# Network


@dataclass(frozen=True)
class RemoveDropout(SettingChange):
    """No dropout: in modules, functions and the attributes of attention and recurrent layers."""

    change = Change("dropout", 0)

    def set_in(self, model: nn.Module, optimizer: Optimizer) -> None:
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0  # type: ignore[assignment]

    def apply(self, program: TorchProgram) -> TorchProgram:
        return _rewire(super().apply(program), plan_no_dropout)


@dataclass(frozen=True)
class LinearOutput:
    """No activation at the output."""

    change = Change("output", "linear")

    def apply(self, program: TorchProgram) -> TorchProgram:
        return _rewire(program, plan_linear_output, missing="activation at the output")


@dataclass(frozen=True)
class SigmoidOutput:
    """A sigmoid in place of the output's activation."""

    change = Change("output", "sigmoid")

    def apply(self, program: TorchProgram) -> TorchProgram:
        return _rewire(program, plan_sigmoid_output, missing="activation at the output")


@dataclass(frozen=True)
class ReplaceActivations:
    """One activation, of `HIDDEN_ACTIVATIONS`, in all hidden places, also where none stands."""

    activation: str

    @property
    def change(self) -> Change:
        return Change("activation", self.activation)

    def apply(self, program: TorchProgram) -> TorchProgram:
        plan = partial(plan_activation, activation=HIDDEN_ACTIVATIONS[self.activation])
        return _rewire(program, plan, missing="activation between layers")


@dataclass(frozen=True)
class Reinitialize(SettingChange):
    """New starting weights: He's for linear layers and convolutions, orthogonal for recurrent
    matrices; norms and embeddings as new.
    """

    change = Change("init", "default")

    def set_in(self, model: nn.Module, optimizer: Optimizer) -> None:
        for module in model.modules():
            _reinitialize_(module)


@dataclass(frozen=True)
class UnitVarianceStart:
    """New starting weights, then each layer's output brought to variance 1 on a batch (Mishkin and
    Matas 2016).
    """

    change = Change("init", "unit variance")

    def apply(self, program: TorchProgram) -> TorchProgram:
        inputs, _ = program.examples(SURGERY_EXAMPLES)
        return replace(Reinitialize().apply(program), first_pass=(inputs, unit_variance_hooks))


def _reinitialize_(module: nn.Module) -> None:
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


@contextlib.contextmanager
def unit_variance_hooks(model: nn.Module) -> Iterator[None]:
    """In the next forward pass, divide every linear and convolutional weight by the standard
    deviation of its output, in order of use.
    """
    kinds = nn.Linear | nn.modules.conv._ConvNd
    done: set[int] = set()

    def rescale(module: Any, given: Any, made: Tensor) -> Tensor | None:
        if id(module) in done or made.numel() < 2:
            return None
        done.add(id(module))
        sd = float(made.detach().std())
        if not math.isfinite(sd) or sd < 1e-12:
            return None
        with torch.no_grad():
            module.weight.div_(sd)
        if module.bias is None:
            return made / sd
        bias = module.bias
        if not isinstance(module, nn.Linear):
            bias = bias.reshape(-1, *[1] * (made.dim() - 2))
        return (made - bias) / sd + bias

    hooks = [m.register_forward_hook(rescale) for m in model.modules() if isinstance(m, kinds)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class ResetNormalization(SettingChange):
    """The usual momentum (0.1) and epsilon (1e-5) of normalization with running statistics."""

    change = Change("normalization", "usual")

    def set_in(self, model: nn.Module, optimizer: Optimizer) -> None:
        for module in model.modules():
            if isinstance(module, RUNNING_NORMS):
                module.momentum, module.eps = 0.1, 1e-5


# Loss


@dataclass(frozen=True)
class AverageLoss:
    """The loss, a sum, divided by the size of the batch."""

    change = Change("loss", "mean")

    def apply(self, program: TorchProgram) -> TorchProgram:
        loss = program.loss
        return replace(program, loss=lambda out, y: loss(out, y) / len(out))


@dataclass(frozen=True)
class PairLoss:
    """Outputs in the targets' shape before they reach the loss."""

    change = Change("loss", "paired")

    def apply(self, program: TorchProgram) -> TorchProgram:
        loss = program.loss
        return replace(program, loss=lambda out, y: loss(out.reshape(y.shape), y))


@dataclass(frozen=True)
class UseCrossEntropy:
    """Cross entropy on the outputs as logits."""

    change = Change("loss", "cross entropy")

    def apply(self, program: TorchProgram) -> TorchProgram:
        return replace(program, loss=lambda out, y: F.cross_entropy(classes_second(out, y), y))


@dataclass(frozen=True)
class UseBinaryCrossEntropy:
    """Binary cross entropy on the outputs as logits."""

    change = Change("loss", "binary cross entropy")

    def apply(self, program: TorchProgram) -> TorchProgram:
        loss = F.binary_cross_entropy_with_logits
        return replace(program, loss=lambda out, y: loss(out.reshape(y.shape), y.float()))


class LikeliestClass(nn.Module):
    """A network with an output for each class; in evaluation it gives the likeliest's value."""

    values: Tensor

    def __init__(self, model: nn.Module, values: Tensor, shape: Sequence[int]):
        super().__init__()
        self.model, self.shape = model, shape
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return logits if self.training else self.values[logits.argmax(1)].reshape(-1, *self.shape)


@dataclass(frozen=True)
class OutputForEachClass:
    """An output for each value of the targets and cross entropy; the last layer starts anew."""

    change = Change("loss", "cross entropy, one output for each class")

    def apply(self, program: TorchProgram) -> TorchProgram:
        """Raises `CannotTryError` if the last layer with weights is not linear with one output."""
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
    with isolated_rng(program.seed):
        model = copy.deepcopy(program.model)
        linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
        if not linear or linear[-1][1].out_features != 1:
            raise CannotTryError("the last layer is no linear one with one output")
        name, last = linear[-1]
        layer = nn.Linear(
            last.in_features,
            outputs,
            bias=last.bias is not None,
            device=last.weight.device,
            dtype=last.weight.dtype,
        )
    above, _, own = name.rpartition(".")
    setattr(model.get_submodule(above), own, layer)
    return model


def _outputs(program: TorchProgram, inputs: Tensor) -> object:
    """What the model makes of some inputs in evaluation."""
    with isolated_rng(program.seed), torch.no_grad():
        return copy.deepcopy(program.model).eval()(inputs)


def _in_memory(program: TorchProgram) -> TensorData:
    if not isinstance(program.train, TensorData):
        raise CannotTryError("the examples come from a loader that cannot be built again")
    return program.train


def _rewire(
    program: TorchProgram, plan: Callable[[Sequence[ModelCall]], CallPlan], *, missing: str = ""
) -> TorchProgram:
    """The program with calls of its model replaced. Raises `CannotTryError` if all are missing."""
    inputs, _ = program.examples(SURGERY_EXAMPLES)
    with isolated_rng(program.seed):
        model = rewire(program.model, inputs, plan)
    if model is None and missing:
        raise CannotTryError(f"there is no {missing}")
    return program if model is None else replace(program, model=model)


# What can be tried for a cause that is suspected, from weak to strong
STRENGTHS_BY_CAUSE: Mapping[str, tuple[tuple[TorchChange, ...], ...]] = {
    "learning-rate-low": tuple((ScaleLearningRate(k),) for k in (10, 100, 1000)),
    "learning-rate-high": tuple((ScaleLearningRate(k),) for k in (0.1, 0.01, 0.001)),
    "optimizer": ((UseAdam(),), (UseAdam(0.01),)),
    "optimizer-numerics": ((UseAdam(),), (UseAdam(0.01),)),
    "input-scale": ((StandardizeInputs(),),),
    "target-scale": ((StandardizeTargets(),),),
    "loss-reduction": ((AverageLoss(),),),
    "imbalance": ((BalanceClasses(),),),
    "frozen-parameters": ((TrainAllParameters(),),),
    "initialization": ((Reinitialize(),), (UnitVarianceStart(),)),
    "dropout": ((RemoveDropout(),),),
    "over-regularized": ((SetWeightDecay(0.0),),),
    "normalization": ((ResetNormalization(),),),
    "output-activation": ((LinearOutput(),),),
    "hidden-activation": ((ReplaceActivations("relu"),), (ReplaceActivations("tanh"),)),
    "shuffling": ((ShuffleExamples(),),),
}

# What can be tried for a cause that is certain, the likeliest first
CURES_BY_CAUSE: Mapping[str, tuple[tuple[TorchChange, ...], ...]] = {
    "output-activation": ((LinearOutput(),), (SigmoidOutput(),)),
    "shape-pairing": ((PairLoss(),),),
    "initialization": ((Reinitialize(),), (ReplaceActivations("relu"), Reinitialize())),
    "dead-units": ((Reinitialize(),),),
    "hidden-activation": ((ReplaceActivations("relu"),),),
    "vanishing": (
        (ReplaceActivations("relu"),),
        (ReplaceActivations("relu"), Reinitialize()),
        (UnitVarianceStart(),),
    ),
    "exploding": ((Reinitialize(),), (UnitVarianceStart(),)),
    "saturation": ((Reinitialize(),), (StandardizeInputs(),)),
    "parameters-not-in-optimizer": ((TrainAllParameters(),),),
    "frozen-parameters": ((TrainAllParameters(),),),
    "imbalance": ((BalanceClasses(),),),
    "loss": ((UseCrossEntropy(),), (UseBinaryCrossEntropy(),)),
    "shuffling": ((ShuffleExamples(),),),
    "normalization": ((ResetNormalization(),),),
    "dropout": ((RemoveDropout(),),),
    "input-scale": ((StandardizeInputs(),),),
    "target-scale": ((StandardizeTargets(),),),
}
