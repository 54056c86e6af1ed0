"""Assertions about a model before it trains, made by the probes and rules of the doctor.

Each runs copies: weights, gradients, mode and random numbers are left as they were. It raises
`AssertionError` with the finding, and `InputError` where nothing can be measured.
"""

import contextlib
import dataclasses
import textwrap
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from functools import partial, update_wrapper
from typing import Any

from torch import nn

from ravine.diagnosis.initialization.dependence_probe import (
    compare_later_inputs,
    probe_dependence,
    probe_mixing,
    probe_repeat,
)
from ravine.diagnosis.initialization.gradient_probe import probe_gradients
from ravine.diagnosis.initialization.loss_probe import probe_loss
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.initialization.profile import (
    BaselineLosses,
    GradientFlow,
    InputDependence,
    LossProfile,
    NetworkProfile,
    PassComparison,
    StartProfile,
)
from ravine.diagnosis.initialization.rules_exact import (
    future_leak,
    missing_gradient,
    mixed_examples,
    random_evaluation,
    stuck_zero_weights,
)
from ravine.diagnosis.initialization.rules_loss import first_loss_not_finite
from ravine.diagnosis.initialization.rules_network import compare_with_guessing, unlike_guessing
from ravine.diagnosis.initialization.signal_probe import probe_first_loss, probe_network
from ravine.diagnosis.registry import ALL_RULES
from ravine.errors import InputError, nearest
from ravine.finding import Finding
from ravine.reporting.findings_text import LABEL_COLUMNS, LABEL_INDENT, finding_text
from ravine.reporting.text_table import TERMINAL_WIDTH
from ravine.testing.given import read_batch, read_inputs, undisturbed

CHANCE_TOLERANCE = 0.5  # of the loss of guessing, above and below


def assert_gradients_reach_every_parameter(
    model: nn.Module, loss: Any, batch: Any, *, except_for: Collection[str] = (), seed: int = 0
) -> None:
    """Assert that the loss of a batch has a gradient for every parameter that requires one
    (RVN-I05), and that no matrix of zeros keeps a gradient of exactly 0 (RVN-I06).

    A gradient counts in training mode or in evaluation mode, dropout left out. What the loss does
    not use fails as well, by design or not: name it in `except_for`, as a parameter, a module or a
    pattern (`"pooler"`, `"*.aux_head.*"`). Experts that no example of the batch is sent to are such
    parameters.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> batch = torch.randn(8, 2), torch.randn(8, 1)
    >>> assert_gradients_reach_every_parameter(net, nn.functional.mse_loss, batch)
    """
    __tracebackhide__ = True
    with undisturbed(seed):
        given = read_batch(model, loss, batch)
        exempt = _find_exempt(model, except_for)
        program = given.probe_loss(seed)
        trained = dataclasses.replace(
            program, model=program.training_model, trace=program.training_trace
        )
        flow, stuck = probe_gradients(trained), ()
        with contextlib.suppress(Exception):  # a loss of what the model returns in training only
            flow = probe_gradients(program) if flow.missing else flow
            dependence = probe_dependence(program) or InputDependence()
            stuck = tuple(name for name in dependence.stuck_weights if name not in exempt)
        if not flow.missing:
            reached = exempt | _reached_parameters(trained) | _reached_parameters(program)
            every = [name for name, p in model.named_parameters() if p.requires_grad]
            lost = tuple(name for name in every if name not in reached)
            unreached = tuple(name for name in flow.unreached if name in lost)
            rest = tuple(name for name in lost if name not in unreached)
            flow = GradientFlow(unreached=unreached, without=rest)
        start = StartProfile(
            examples=len(program.inputs),
            gradients=flow,
            dependence=InputDependence(stuck_weights=stuck),
        )
    hint = ""
    if flow.without or flow.unreached:
        first = (*flow.unreached, *flow.without)[0]
        hint = f"If this is meant: except_for=({first!r},), or the module or a pattern"
    fail_on([*missing_gradient.findings(start), *stuck_zero_weights.findings(start)], hint)


def assert_examples_independent(model: nn.Module, inputs: Any, *, seed: int = 0) -> None:
    """Assert that in evaluation mode the output for an example depends on that example alone
    (RVN-I01).

    `inputs` is what the model is called with: a tensor, a tuple of arguments or a dict of keywords,
    with at least two different examples in dimension 0. In training mode batch normalization mixes
    examples by design, so that is not checked; without running statistics it mixes them in
    evaluation, too, and fails. Outputs without a row for each example are left out.

    >>> import torch
    >>> assert_examples_independent(nn.Linear(2, 3), torch.randn(8, 2))
    >>> assert_examples_independent(nn.Softmax(dim=0), torch.randn(8, 2))
    Traceback (most recent call last):
    AssertionError: ...
    """
    __tracebackhide__ = True
    with undisturbed(seed):
        program = read_inputs(model, inputs).probe_outputs(seed)
        mixing = _require_measured(probe_mixing(program), "outputs are random, or not by example")
    fail_on(mixed_examples.findings(StartProfile(mixing=mixing)))


def assert_causal(model: nn.Module, inputs: Any, *, dim: int = 1, seed: int = 0) -> None:
    """Assert that in evaluation mode no output depends on later inputs (RVN-I03).

    `dim` is the dimension of time in inputs and outputs: 1 of [N, T, ...], 2 of [N, C, T]. Inputs
    without it, and outputs without a number for each place, are left out.

    >>> import torch
    >>> net = nn.GRU(2, 3, batch_first=True)
    >>> assert_causal(net, torch.randn(8, 5, 2))
    >>> assert_causal(nn.GRU(2, 3, batch_first=True, bidirectional=True), torch.randn(8, 5, 2))
    Traceback (most recent call last):
    AssertionError: ...
    """
    __tracebackhide__ = True
    with undisturbed(seed):
        program = read_inputs(model, inputs).probe_outputs(seed, dim)
        leak = _require_measured(compare_later_inputs(program), "no output has these places")
    fail_on(future_leak.findings(StartProfile(causality=leak)))


def assert_eval_deterministic(model: nn.Module, inputs: Any, *, seed: int = 0) -> None:
    """Assert that two evaluations of the same inputs with different random numbers give the same
    outputs (RVN-I08).

    >>> import torch
    >>> assert_eval_deterministic(nn.Dropout(0.5), torch.randn(8, 2))
    """
    __tracebackhide__ = True
    with undisturbed(seed):
        program = read_inputs(model, inputs).probe_outputs(seed)
        repeat = _require_measured(probe_repeat(program), "the outputs cannot be compared")
    fail_on(random_evaluation.findings(StartProfile(repeat=repeat)))


def assert_loss_at_chance(
    model: nn.Module,
    loss: Any,
    batch: Any,
    *,
    chance: float | None = None,
    rtol: float = CHANCE_TOLERANCE,
    seed: int = 0,
) -> None:
    """Assert that the loss of an untrained model is finite (RVN-I12) and about that of guessing
    (RVN-I13): `log(10)` for ten classes.

    It may exceed by `rtol` the larger of two losses, that of the best constant answer to this batch
    and that of outputs of 0, and fall below the first by as much. The loss is that of training
    mode, dropout left out. Where the loss of guessing is not known, because outputs or targets are
    several tensors or the outputs hold the loss, give it as `chance`.

    >>> import torch
    >>> net, batch = nn.Linear(2, 10), (torch.randn(64, 2), torch.randint(10, (64,)))
    >>> assert_loss_at_chance(net, nn.CrossEntropyLoss(), batch)
    """
    __tracebackhide__ = True
    with undisturbed(seed):
        program = read_batch(model, loss, batch).probe_loss(seed)
        found = LossProfile(baselines=BaselineLosses(constant_loss=chance))
        if chance is None:
            found = probe_loss(program)
        if not found.baselines.constant_loss and not found.baselines.even_loss:
            what, why = "the loss of guessing is not known", "outputs and targets do not tell it"
            raise InputError(what, why=why, do="give it, such as chance=math.log(10)")
        start = StartProfile(
            examples=len(program.inputs),
            loss=found,
            first_loss=probe_first_loss(program),
            network=probe_network(program) or NetworkProfile(),
        )
    compare = partial(compare_with_guessing, low=1 - rtol, high=1 + rtol)
    find = update_wrapper(compare, compare_with_guessing)
    rule = dataclasses.replace(unlike_guessing, find=find)
    fail_on([*first_loss_not_finite.findings(start), *rule.findings(start)])


def fail_on(findings: Iterable[Finding], hint: str = "") -> None:
    """Raise `AssertionError` with the text of findings, if there are any."""
    __tracebackhide__ = True
    found = tuple(findings)
    if found:
        blocks = [finding_text(f) + ("" if f.changes else _remedy(f)) for f in found]
        blocks += [hint] if hint else []
        raise AssertionError("\n\n".join(["", *blocks, f"more: ravine explain {found[0].code}"]))


def _remedy(finding: Finding) -> str:
    """What the page of a finding's code says to do."""
    remedy = next(rule for rule in ALL_RULES if rule.code == finding.code).explanation.remedy
    indent = " " * (LABEL_INDENT + LABEL_COLUMNS)
    text = textwrap.fill(remedy, TERMINAL_WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"\n{' ' * LABEL_INDENT}{'change':{LABEL_COLUMNS}}{text.lstrip()}"


def _reached_parameters(program: ProbedProgram) -> set[str]:
    try:
        grads = program.first_gradients or {}
    except Exception:  # a loss of what the model returns in the other mode
        return set()
    return {name for name, gradient in grads.items() if gradient is not None}


def _find_exempt(model: nn.Module, except_for: Collection[str]) -> set[str]:
    """The parameters that names of parameters or modules, or patterns, leave out. Raises
    `InputError` for one that is none.
    """
    names = [name for name, _ in model.named_parameters()]
    exempt: set[str] = set()
    for given in [except_for] if isinstance(except_for, str) else except_for:
        prefix = f"{given}."
        found = {n for n in names if n.startswith(prefix) or n == given or fnmatchcase(n, given)}
        if not found:
            why = nearest(given, [*names, *(name for name, _ in model.named_modules() if name)])
            raise InputError(f"except_for names no parameter by {given!r}", why=why)
        exempt |= found
    return exempt


def _require_measured(found: PassComparison | None, why: str) -> PassComparison:
    if found is None:
        do = "give different examples to a model whose outputs are tensors by example"
        raise InputError("the outputs cannot be compared", why=why, do=do)
    return found
