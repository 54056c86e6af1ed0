"""Assertions about a model before it trains, made by the probes and rules of the doctor.

Each runs copies: weights, gradients, mode and random numbers are left as they were. It raises
`AssertionError` with the finding, and `InputError` where nothing can be measured.
"""

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial, update_wrapper
from typing import Any

from torch import nn

from ravine.diagnosis.initialization import (
    dependence_probe,
    gradient_probe,
    loss_probe,
    profile,
    rules_exact,
    rules_loss,
    rules_network,
    signal_probe,
)
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.errors import InputError, nearest
from ravine.finding import Finding
from ravine.reporting.findings_text import finding_text
from ravine.testing.tested_model import isolate_test, read_batch, read_inputs

CHANCE_TOLERANCE = 0.5  # of the loss of guessing, above and below


def assert_gradients_reach_every_parameter(
    model: nn.Module, loss: Any, batch: Any, *, except_for: Collection[str] = (), seed: int = 0
) -> None:
    """Assert that the loss of a batch has a gradient for every parameter that requires one
    (RVN-I05), and that no matrix of zeros keeps a gradient of exactly 0 (RVN-I06).

    A gradient counts in training mode or in evaluation mode, dropout left out. What the loss does
    not use fails as well, by design or not, as experts do that no example is sent to: name it in
    `except_for`, as a parameter, a module or a pattern (`"pooler"`, `"*.aux_head.*"`).
    """
    __tracebackhide__ = True
    with isolate_test(seed):
        exempt = _find_exempt(model, except_for)
        program = read_batch(model, loss, batch).probe_loss(seed)
        trained = replace(program, model=program.training_model, trace=program.training_trace)
        flow, stuck = gradient_probe.probe_gradients(trained), ()
        with contextlib.suppress(Exception):  # a loss of what the model returns in training only
            flow = gradient_probe.probe_gradients(program) if flow.missing else flow
            dependence = dependence_probe.probe_dependence(program) or profile.InputDependence()
            stuck = tuple(name for name in dependence.stuck_weights if name not in exempt)
        if not flow.missing:
            reached = exempt | _reached_parameters(trained) | _reached_parameters(program)
            every = (name for name, p in model.named_parameters() if p.requires_grad)
            lost = dict.fromkeys(name for name in every if name not in reached)
            unreached = tuple(name for name in flow.unreached if name in lost)
            rest = tuple(name for name in lost if name not in unreached)
            flow = profile.GradientFlow(unreached=unreached, without=rest)
    dependence = profile.InputDependence(stuck_weights=stuck)
    count = len(program.inputs)
    start = profile.StartProfile(examples=count, gradients=flow, dependence=dependence)
    names = (*flow.unreached, *flow.without)
    hint = f"If this is meant: except_for=({names[0]!r},), or its module" if names else ""
    missing = rules_exact.missing_gradient.findings(start)
    fail_on([*missing, *rules_exact.stuck_zero_weights.findings(start)], hint)


def assert_examples_independent(model: nn.Module, inputs: Any, *, seed: int = 0) -> None:
    """Assert that in evaluation mode the output for an example depends on it alone (RVN-I01).

    `inputs` is what the model is called with: a tensor, a tuple of arguments or a dict of keywords,
    with at least two different examples in dimension 0. In training mode batch normalization mixes
    examples by design, so that is not checked; without running statistics it mixes them in
    evaluation, too, and fails. Outputs without a row for each example are left out.

    >>> import torch
    >>> assert_examples_independent(nn.Linear(2, 3), torch.randn(8, 2))
    """
    __tracebackhide__ = True
    with isolate_test(seed):
        program = read_inputs(model, inputs).probe_outputs(seed)
        mixing = _require_measured(dependence_probe.probe_mixing(program))
    fail_on(rules_exact.mixed_examples.findings(profile.StartProfile(mixing=mixing)))


def assert_causal(model: nn.Module, inputs: Any, *, dim: int = 1, seed: int = 0) -> None:
    """Assert that in evaluation mode no output depends on later inputs (RVN-I03).

    `dim` is the dimension of time in the inputs, and in outputs of several tensors: 1 of
    [N, T, ...], 2 of [N, C, T]. What has no time is left out.
    """
    __tracebackhide__ = True
    with isolate_test(seed):
        program = read_inputs(model, inputs).probe_outputs(seed, dim)
        leak = _require_measured(dependence_probe.compare_later_inputs(program))
    fail_on(rules_exact.future_leak.findings(profile.StartProfile(causality=leak)))


def assert_eval_deterministic(model: nn.Module, inputs: Any, *, seed: int = 0) -> None:
    """Assert that evaluations with different random numbers give the same outputs (RVN-I08)."""
    __tracebackhide__ = True
    with isolate_test(seed):
        program = read_inputs(model, inputs).probe_outputs(seed)
        repeat = _require_measured(dependence_probe.probe_repeat(program))
    fail_on(rules_exact.random_evaluation.findings(profile.StartProfile(repeat=repeat)))


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
    """
    __tracebackhide__ = True
    with isolate_test(seed):
        program = read_batch(model, loss, batch).probe_loss(seed)
        known = profile.LossProfile(baselines=profile.BaselineLosses(constant_loss=chance))
        known = loss_probe.probe_loss(program) if chance is None else known
        if not known.baselines.constant_loss and not known.baselines.even_loss:
            what, why = "the loss of guessing is not known", "outputs and targets do not tell it"
            raise InputError(what, why=why, do="give it, such as chance=math.log(10)")
        start = profile.StartProfile(
            examples=len(program.inputs),
            loss=known,
            first_loss=signal_probe.probe_first_loss(program),
            network=signal_probe.probe_network(program) or profile.NetworkProfile(),
        )
    compare = partial(rules_network.compare_with_guessing, low=1 - rtol, high=1 + rtol)
    find = update_wrapper(compare, rules_network.compare_with_guessing)
    rule = replace(rules_network.unlike_guessing, find=find)
    fail_on([*rules_loss.first_loss_not_finite.findings(start), *rule.findings(start)])


def fail_on(findings: Iterable[Finding], hint: str = "") -> None:
    """Raise `AssertionError` with the text of findings, if there are any: errors, all of them."""
    __tracebackhide__ = True
    found = [replace(finding, severity="error") for finding in findings]
    if found:
        hint = hint or f"more: ravine explain {found[0].code}"
        raise AssertionError("\n\n".join(["", *map(finding_text, found), hint]))


def _reached_parameters(program: ProbedProgram) -> set[str]:
    try:
        grads = program.first_gradients or {}
    except Exception:  # a loss of what the model returns in the other mode
        return set()
    return {name for name, gradient in grads.items() if gradient is not None}


def _find_exempt(model: nn.Module, except_for: Collection[str]) -> set[str]:
    """The parameters that names and patterns leave out; `InputError` for one that names none."""
    names = [name for name, _ in model.named_parameters()]
    exempt: set[str] = set()
    for given in [except_for] if isinstance(except_for, str) else except_for:
        found = {n for n in names if fnmatchcase(n, given) or fnmatchcase(n, f"{given}.*")}
        if not found:
            why = nearest(given, [*names, *(name for name, _ in model.named_modules() if name)])
            raise InputError(f"except_for names no parameter by {given!r}", why=why)
        exempt |= found
    return exempt


def _require_measured(found: profile.PassComparison | None) -> profile.PassComparison:
    if found is None:
        why = "they are random, or have no row for each example or place in time"
        do = "give other inputs, or wrap the model in one that returns such rows"
        raise InputError("the outputs cannot be compared", why=why, do=do)
    return found
