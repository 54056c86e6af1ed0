"""The best answer that is the same for every example, and its loss.

Letters: N examples.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ravine.examination.torch_program import EVALUATED_EXAMPLES, TorchProgram, losses_by_group
from ravine.rng import isolated_rng

MIN_SHARE = 1e-6
SUM_TOLERANCE = 1e-3  # by which shares may miss a sum of 1


def constant_loss(program: TorchProgram) -> float:
    """The loss of the best answer that is the same for every example, fitted on training examples
    and judged on the others; NaN where none could be found."""
    inputs, targets = program.examples(EVALUATED_EXAMPLES)
    with isolated_rng(program.seed), torch.no_grad():
        try:
            outputs = copy.deepcopy(program.model)(
                inputs
            )  # normalization keeps something of what it sees
        except Exception:
            return math.nan
    if not isinstance(outputs, Tensor) or len(outputs) != len(targets):
        return math.nan
    answer, best = _best_constant(program, outputs.detach().float(), targets)
    if answer is None:
        return math.nan
    others = targets if program.validation is None else program.validation[1][:EVALUATED_EXAMPLES]
    try:
        with torch.no_grad():
            losses = losses_by_group(
                program.evaluation_loss or program.loss,
                answer.expand(len(others), *answer.shape),
                others,
            )
    except Exception:
        return best
    return sum(losses) / len(losses)


def _best_constant(
    program: TorchProgram, outputs: Tensor, targets: Tensor
) -> tuple[Tensor | None, float]:
    """One answer for all, and its loss: by Adam from several starts; of starts in closed form, the
    best that there is.

    Where outputs are shares, or their logarithms, and the loss does not see to it, the answer keeps
    to that.
    """
    constrain = _constraint(program, outputs, targets)
    mean, shares = outputs.mean(0), constrain is not None and bool((outputs >= 0).all())
    starts = [mean.clamp_min(MIN_SHARE).log() if shares else mean, torch.zeros_like(mean)]
    if targets.is_floating_point() and mean.numel() == targets[0].numel():
        starts.append(targets.mean(0).reshape(mean.shape))
    best, answer = math.inf, None
    for start, steps in [*((s, 80) for s in starts), *((s, 1) for s in _priors(mean, targets))]:
        constant = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([constant], lr=0.05 * max(1.0, float(start.abs().mean())))
        for _ in range(steps):
            answer_now = constant if constrain is None else constrain(constant)
            try:
                loss = program.loss(answer_now.expand(outputs.shape), targets)
                (grad,) = torch.autograd.grad(loss, constant)
            except Exception:  # a constant that the loss refuses, or one that it does not depend on
                break
            value = float(loss.detach())
            if math.isfinite(value) and value < best:
                best, answer = value, answer_now.detach().clone()
            constant.grad = grad
            optimizer.step()
    return answer, best


def _constraint(
    program: TorchProgram, outputs: Tensor, targets: Tensor
) -> Callable[[Tensor], Tensor] | None:
    """What makes any numbers into an answer such as the outputs are: None where any numbers will
    do.
    """
    with torch.no_grad():
        try:
            same, other = (float(program.loss(outputs + shift, targets)) for shift in (0.0, 0.1))
        except Exception:
            return None
    if math.isclose(same, other, rel_tol=1e-4):  # the loss takes logits
        return None
    for d in {d % outputs.dim() for d in (1, -1) if outputs.dim() > 1 and outputs.shape[d] > 1}:
        if bool((outputs.logsumexp(d).abs() < SUM_TOLERANCE).all()):
            return partial(torch.log_softmax, dim=d - 1)
        if bool((outputs >= 0).all()) and bool(((outputs.sum(d) - 1).abs() < SUM_TOLERANCE).all()):
            return partial(torch.softmax, dim=d - 1)
    return None


def _priors(like: Tensor, targets: Tensor) -> Iterator[Tensor]:
    """Best constants of the usual losses, in closed form: log shares of classes, medians,
    logarithms, log odds.
    """
    if not targets.is_floating_point():
        for d in {0, like.dim() - 1}:
            known = (
                targets[(targets >= 0) & (targets < like.shape[d])].long().flatten()
                if like.dim()
                else targets[:0]
            )
            if len(known):
                share = torch.bincount(known, minlength=like.shape[d]) / len(known)
                log = (
                    share.clamp_min(MIN_SHARE)
                    .log()
                    .reshape([-1 if k == d else 1 for k in range(like.dim())])
                )
                yield log.expand(like.shape)
    if targets[0].numel() != like.numel():
        return
    numbers = targets.float().reshape(len(targets), *like.shape)
    mean = numbers.mean(0)
    yield numbers.median(0).values
    if bool((mean > 0).all()):
        yield mean.log()
    if bool(((mean >= 0) & (mean <= 1)).all()):
        yield mean.clamp(MIN_SHARE, 1 - MIN_SHARE).logit()
