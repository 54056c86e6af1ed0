"""Probe whether the gradient of the loss arrives at the parameters."""

import torch
from torch import Tensor, nn

from ravine.diagnosis.initialization import forward_trace, probed_program
from ravine.diagnosis.initialization.pairing_probe import jitter_outputs
from ravine.diagnosis.initialization.probed_loss import ProbedLoss, prepare_loss
from ravine.diagnosis.initialization.profile import GradientFlow
from ravine.diagnosis.training_loop.tensor_stats import has_default_initialization

STEP_FUNCTIONS = frozenset("sign sgn round floor ceil trunc heaviside".split())  # derivative 0
FAR_OUTPUTS = 10.0  # times as far apart as they are


def probe_gradients(program: probed_program.ProbedProgram) -> GradientFlow:
    """Does the loss have a graph, and which parameters that act does its gradient not reach?"""
    learning = probed_program.learning_parameters(program.model)
    if not learning:
        return GradientFlow(missing="frozen")
    if not program.outputs.requires_grad:
        return GradientFlow(missing="outputs", cut_at=_find_cut(program.model, program.trace))
    grads = program.first_gradients
    if grads is None:
        return GradientFlow(missing="loss")
    without = [name for name, gradient in grads.items() if gradient is None]
    if len(without) == len(grads):
        return GradientFlow(missing="parameters")
    if not any(g is not None and bool((g != 0).any()) for g in grads.values()):
        if is_flat(prepare_loss(program)):
            return GradientFlow(missing="flat")
    zero = [name for name, g in grads.items() if g is not None and not bool((g != 0).any())]
    if any(not n.endswith("bias") and not bool((p != 0).any()) for n, p in learning.items()):
        zero = []  # weights of 0, of a last layer or a gate, stop a gradient, too, until they move
    steps = _find_steps(program.training_trace.output) if zero else ()
    flattened = tuple(zero) if steps else ()
    few, unreached = program.inputs[program.few], []
    for name in without:
        model = _with_changed_parameter(program.model, name)
        if model is None:
            continue
        outputs = forward_trace.trace_forward(model, few, seed=program.seed).output
        if bool(forward_trace.unequal_elements(program.few_trace.output, outputs).any()):
            unreached.append(name)
    return GradientFlow(unreached=tuple(unreached), flattened=flattened, steps=steps)


def _find_steps(outputs: Tensor) -> tuple[str, ...]:
    """The step functions in the graph of outputs."""
    found: dict[str, None] = {}
    seen, open_nodes = set(), [outputs.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name().partition("Backward")[0].lower()
        if name in STEP_FUNCTIONS:
            found[name] = None
        open_nodes += [following for following, _ in node.next_functions]
    return tuple(found)


def is_flat(probed: ProbedLoss) -> bool:
    """Whether a loss changes with the outputs, and its gradient is exactly 0 wherever it is asked.

    That of a margin is 0 only where the margin is met.

    >>> outputs = torch.tensor([[-2.0], [-1.1], [-0.4], [0.2], [0.7], [1.3], [2.4], [3.1]])
    >>> targets = torch.ones(8, 1)
    >>> share = ProbedLoss(lambda o, y: (o < 0).float().mean() + 0 * o.sum(), outputs, targets)
    >>> margin = ProbedLoss(lambda o, y: (1 - o * y).relu().mean(), outputs + 9, targets)
    >>> is_flat(share), is_flat(margin)
    (True, False)
    """
    out = jitter_outputs(probed)
    size = out.abs().mean()
    tried = [out, out + size, *((out - out.mean()) * far for far in (FAR_OUTPUTS, -FAR_OUTPUTS))]
    values = [probed.value(x) for x in tried]
    gradients = (probed.gradient(x, probed.targets) for x in tried)
    return len(set(values)) > 1 and not any(bool((g != 0).any()) for g in gradients)


def _find_cut(model: nn.Module, trace: forward_trace.ForwardTrace) -> str:
    """The first module that learns, none of whose calls made a tensor with a graph."""
    without_graph = {call.where for call in trace.functions}
    without_graph -= {call.where for call in trace.functions if call.output.requires_grad}
    called = ((name, m) for name, m in model.named_modules() if name in without_graph)
    learning = (n for n, m in called if any(p.requires_grad for p in m.parameters(recurse=False)))
    return next(learning, "")


def _with_changed_parameter(model: nn.Module, name: str) -> nn.Module | None:
    """A copy with other numbers in a parameter; None unless that is as torch initializes it."""
    model = probed_program.copy_model(model, training=False)
    weight = model.get_parameter(name)
    if not has_default_initialization(weight, probed_program.parameter_owner(model, name)):
        return None
    with torch.no_grad():
        ramp = torch.linspace(0.5, 1.5, weight.numel(), device=weight.device, dtype=weight.dtype)
        weight.mul_(ramp.view_as(weight))
    return model
