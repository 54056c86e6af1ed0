"""What the probes share: a copy of a model, its loss, some examples, and passes of these."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ravine.diagnosis.constant_baseline import Loss
from ravine.diagnosis.initialization.forward_trace import ForwardTrace, trace_forward
from ravine.statistics import even_places, mean_and_sd

TraceOrError = ForwardTrace | Exception  # an exception where the model raised it

MAX_PROBED_EXAMPLES = 256
MAX_INPUT_NUMBERS = 2**18  # numbers that the inputs of these have together
MIN_PROBED_EXAMPLES = 16  # however large
SMALL_BATCHES = (7, 11, 13, 17, 5)  # sizes of the small batch: one that no dimension has
LARGE_NUMBERS = 5.0  # root mean square of inputs or targets
EQUAL_OUTPUTS = 1e-6  # of the largest output: equal but for rounding


@dataclass(frozen=True)
class ProbedProgram:
    """A copy of a model in evaluation mode with its loss and some examples. `few` are the rows [n]
    of a small batch. Random numbers of a pass are those of `seed`, but for `repeated_trace`. A
    probe that needs a pass raises what the model raised in it.
    """

    model: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor
    seed: int
    trace: ForwardTrace  # of all examples
    few: Tensor
    training_model: nn.Module
    # of the small batch, of the small batch once more, and of all examples in training mode
    passes: tuple[TraceOrError, ...]

    @property
    def outputs(self) -> Tensor:
        return self.trace.output

    @property
    def few_trace(self) -> ForwardTrace:
        return self._trace(0)

    @property
    def repeated_trace(self) -> ForwardTrace:
        return self._trace(1)

    @property
    def training_trace(self) -> ForwardTrace:
        return self._trace(2)

    def _trace(self, place: int) -> ForwardTrace:
        made = self.passes[place]
        if isinstance(made, Exception):
            raise made
        return made

    @cached_property
    def first_gradients(self) -> dict[str, Tensor | None] | None:
        """The gradient of the loss of all examples, by parameter; None without a graph."""
        loss = self.loss(self.outputs, self.targets)
        return parameter_gradients(loss, learning_parameters(self.model))


def prepare_program(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, *, seed: int
) -> ProbedProgram:
    """Copy a model, choose examples, and make the passes that several probes need. Raises what the
    model raises for all examples in evaluation mode, and `TypeError` for outputs that are no
    tensor.
    """
    most = max(MIN_PROBED_EXAMPLES, MAX_INPUT_NUMBERS * len(inputs) // max(1, inputs.numel()))
    rows = even_places(len(inputs), min(MAX_PROBED_EXAMPLES, most))
    inputs = inputs[rows].detach()
    targets = targets[rows].detach()
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss)
    # what was compiled is probed as it was before: compiling anew for every probe takes long
    model = copy.deepcopy(getattr(model, "_orig_mod", model)).eval()
    trace = trace_forward(model, inputs, seed=seed, copy_modules=True)
    others = {*inputs.shape[1:], *targets.shape[1:], *trace.output.shape[1:]}
    size = next((s for s in SMALL_BATCHES if s not in others), SMALL_BATCHES[0])
    few = even_places(len(inputs), size)
    batch = inputs[few]
    training_model = copy_model(model, training=True)
    passes: list[TraceOrError] = []
    runs = (model, batch, seed), (model, batch, seed + 1), (training_model, inputs, seed)
    for runner, x, draw in runs:
        try:
            passes.append(trace_forward(runner, x, seed=draw, copy_modules=True))
        except Exception as error:  # the model's own code may raise anything
            passes.append(error)
    of_all = model, loss, inputs, targets, seed, trace
    return ProbedProgram(*of_all, few, training_model, tuple(passes))


def copy_model(model: nn.Module, *, training: bool) -> nn.Module:
    """A copy of a model; in training mode with dropout left out."""
    model = copy.deepcopy(model).train(training)
    leave_out_dropout_(model)
    return model


def leave_out_dropout_(model: nn.Module) -> None:
    """Make a model in training mode drop nothing; what functions of its own drop stays."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
        elif isinstance(module, nn.RNNBase | nn.MultiheadAttention):
            module.dropout = 0.0


def learning_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def parameter_gradients(
    loss: Tensor, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor | None] | None:
    """The gradient by parameter, None if not reached; no dict where the loss has no graph."""
    if not loss.requires_grad:
        return None
    grads = torch.autograd.grad(loss.sum(), list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, grads, strict=True))


def is_constant(rows: Tensor) -> bool:
    """Whether all examples [N, ...] are equal but for rounding."""
    rows = rows.detach()
    if not rows.is_floating_point():
        return bool((rows == rows[:1]).all())
    rows = rows.double()
    return bool(((rows - rows[:1]).abs() <= EQUAL_OUTPUTS * rows.abs().max()).all())


def are_large(x: Tensor) -> bool:
    """Whether numbers are far from a root mean square of 1."""
    return x.is_floating_point() and float(x.double().square().mean().sqrt()) > LARGE_NUMBERS


def scaled_outputs(program: ProbedProgram, model: nn.Module) -> Tensor | None:
    """The outputs of a model for standardized inputs; None where the inputs are not large."""
    x = program.inputs
    if not are_large(x):
        return None
    mean, sd = mean_and_sd(x)
    return trace_forward(model, ((x - mean) / sd).to(x.dtype), seed=program.seed).output


def is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def parameter_owner(model: nn.Module, parameter: str) -> nn.Module:
    return model.get_submodule(parameter.rpartition(".")[0])
