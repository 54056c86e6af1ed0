"""Examine a case: run it, try the remedies that something speaks for, and weigh what they did.

A remedy is screened with one seed, which the run shares; those that gain are tried again with
others, paired.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ravine.diagnosis.baseline_learners import reference
from ravine.diagnosis.data.profile import Examples
from ravine.diagnosis.trials.rules import BEHIND, POINTS, SEEDS, Outcome, Tried
from ravine.examination.torch_changes import NotTriedError, as_classes, changed
from ravine.examination.torch_run import LOOKED, Run, by_groups, plain_score, train
from ravine.examination.torch_subject import Case
from ravine.examination.verdict import weigh
from ravine.finding import MANUAL_CHANGES, Change, Evidence, Finding, Trial
from ravine.rng import isolated_rng

LOOKS = (0.04, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)  # of the budget
LONGEST = 600  # steps of a trial
VALUES = 20  # of a target that may be classes
HITS = 0.25  # of the held-out examples that classes must hit beyond what a number does
TINY = 1e-6  # of a share
ROUNDED = 1e-3  # of a sum of shares


@dataclass(frozen=True)
class Remedy:
    """Changes that may be made at different strengths; the best of those tried counts."""

    cause: str
    strengths: tuple[tuple[Change, ...], ...]
    grounds: tuple[Evidence, ...] = ()
    where: str = ""
    suspects: tuple[str, ...] = ()


def attempted(case: Case, base: Run, remedies: list[Remedy], *, seed: int) -> Tried:
    """The case's run beside what the remedies do in as many steps."""
    steps = min(case.steps, LONGEST)
    judge = replace(case, judged=case.loss) if case.judged is None else case
    marks = [look.step for look in base.looks if 0 < look.step < steps]
    tried = Tried(
        base=_outcome("healthy", until(base, steps)),
        null=null_loss(case),
        start=base.looks[0].loss,
        steps=steps,
        highest=max(
            (look.loss for look in base.looks[1:] if math.isfinite(look.loss)), default=math.nan
        ),
    )
    outcomes: list[Outcome] = []
    refused: list[tuple[Change, str]] = []
    for remedy in remedies:
        best: Outcome | None = None
        for strength in remedy.strengths:
            try:
                other = changed(judge, *strength)
                longer = any(c.path == "steps" for c in strength)
                run = train(
                    other,
                    seed=seed,
                    steps=other.steps if longer else min(other.steps, steps),
                    looks=marks,
                )
            except NotTriedError as error:
                refused.append((strength[0], str(error)))
                break
            except Exception as error:  # the model's own code may raise anything
                refused.append((strength[0], f"it does not run: {type(error).__name__}"))
                break
            found = replace(
                _outcome(remedy.cause, run),
                changes=strength,
                grounds=remedy.grounds,
                where=remedy.where,
                suspects=remedy.suspects,
            )
            so_far = replace(tried, outcomes=(*outcomes, found, *(() if best is None else (best,))))
            if best is None or so_far.gain(found) > so_far.gain(best):
                best = found
            elif so_far.gain(found) < so_far.gain(best) - 0.1:
                break  # past the best strength
        if best is not None:
            outcomes.append(best)
    return replace(tried, outcomes=tuple(outcomes), refused=tuple(refused))


def stopped_early(case: Case, base: Run, step: int, *, seed: int) -> Trial:
    """What ending at a step does: the loss on other examples there, and at the end of the same
    runs.
    """
    before, after = [], []
    for s in range(seed, seed + SEEDS):
        run = base if s == seed else train(case, seed=s, looks=(step,))
        found = next((k for k in run.looks if k.step == step), run.last)
        before.append(run.last.loss)
        after.append(found.loss)
    return weigh(before, after, steps=step)


CURES: dict[str, tuple[tuple[Change, ...], ...]] = {
    "output-activation": ((Change("output", "linear"),), (Change("output", "sigmoid"),)),
    "shape-pairing": ((Change("loss", "paired"),),),
    "initialization": (
        (Change("init", "default"),),
        (Change("activation", "relu"), Change("init", "default")),
    ),
    "dead-units": ((Change("init", "default"),),),
    "hidden-activation": ((Change("activation", "relu"),),),
    "vanishing": (
        (Change("activation", "relu"),),
        (Change("activation", "relu"), Change("init", "default")),
        (Change("init", "unit variance"),),
    ),
    "exploding": ((Change("init", "default"),), (Change("init", "unit variance"),)),
    "saturation": ((Change("init", "default"),), (Change("input.scale", "standardize"),)),
    "parameters-not-in-optimizer": ((Change("optimizer", "all parameters"),),),
    "frozen-parameters": ((Change("optimizer", "all parameters"),),),
    "imbalance": ((Change("loss", "balanced"),),),
    "loss": ((Change("loss", "cross entropy"),), (Change("loss", "binary cross entropy"),)),
    "shuffling": ((Change("shuffle", True),),),
    "normalization": ((Change("normalization", "usual"),),),
    "dropout": ((Change("dropout", 0),),),
    "input-scale": ((Change("input.scale", "standardize"),),),
    "target-scale": ((Change("target.scale", "standardize"),),),
}  # by cause: what can be tried for a fault that was found without trying


def cured(case: Case, base: Run, finding: Finding) -> Finding:
    """The finding with a trial of what can be tried for its cause; what did not help is not
    recommended.

    A change that is made by hand stays as it is, not tried.
    """
    steps = min(case.steps, LONGEST)
    tried = Tried(
        base=_outcome("healthy", until(base, steps)),
        null=null_loss(case),
        start=base.looks[0].loss,
        steps=steps,
    )
    failed: Trial | None = None
    why = "made by hand" if finding.changes else "nothing to change was found"
    wrong = finding.cause in (
        "loss",
        "shape-pairing",
    )  # the loss itself, which then measures nothing
    for strength in CURES.get(finding.cause, ()):
        try:
            other = changed(
                case if wrong else replace(case, judged=case.judged or case.loss), *strength
            )
            run = train(other, seed=case.seed, steps=min(other.steps, steps))
            outcome = replace(_outcome(finding.cause, run), changes=strength)
            seen = replace(tried, outcomes=(outcome,))
            outcome = confirmed(case, seen, outcome, seed=case.seed, wrong_loss=wrong)
        except NotTriedError as error:
            why = str(error)
            continue
        except Exception as error:  # the model's own code may raise anything
            why = f"with the change it does not run: {type(error).__name__}"
            continue
        if outcome.trial is not None and outcome.trial.verdict == "helped":
            return replace(finding, changes=strength, trial=outcome.trial)
        failed = failed or outcome.trial
    if failed is not None:
        return replace(
            finding,
            trial=failed,
            changes=tuple(c for c in finding.changes if c.path in MANUAL_CHANGES),
        )
    return replace(finding, trial=Trial(verdict="not tried", why=why))


def with_classes(case: Case, base: Run, tried: Tried, *, seed: int) -> Outcome | None:
    """The remedy of an output for each value, where targets are a few whole numbers and the network
    has one output.

    It helps if it hits far more of them exactly, and is no farther off on average: then their order
    says little.
    """
    _, targets = case.examples()
    values = torch.unique(targets)
    whole = (
        bool((values == values.round()).all())
        and 3 <= len(values) <= VALUES
        and targets[0].numel() == 1
    )
    if not whole or case.validation is None or base.diverged:
        return None
    found: list[tuple[tuple[float, float], tuple[float, float]]] = []
    rate: tuple[Change, ...] = ()
    try:
        for rate in (
            (),
            (Change("lr", "x10"),),
        ):  # a cross entropy has smaller gradients than squares of numbers
            other = changed(as_classes(case), *rate)
            found = []
            for s in range(seed, seed + SEEDS):
                found.append((_hit(case, tried.steps, s, case), _hit(other, tried.steps, s, case)))
                (missed, loss), (fewer, lower) = found[0]
                if missed - fewer < HITS or lower > 1.2 * loss:
                    found = []
                    break
            if found:
                break
    except Exception:  # it cannot be tried, or the model's own code raises what it likes
        return None
    if not found:
        return None
    before, after = [missed for (missed, _), _ in found], [fewer for _, (fewer, _) in found]
    as_number, as_class = (100 * (1 - missed[0]) for missed in (before, after))
    return Outcome(
        cause="loss",
        changes=(Change("loss", "cross entropy, one output for each class"), *rate),
        losses=tuple(after),
        scores=(None,) * len(after),
        trial=weigh(before, after, steps=tried.steps, least=HITS),
        grounds=(
            Evidence(
                "different values of the target", len(values), "", VALUES, "all whole numbers"
            ),
            Evidence(
                "of them hit after rounding", as_number, "%", None, f"{as_class:.0f} % as classes"
            ),
        ),
    )


def _hit(case: Case, steps: int, seed: int, original: Case) -> tuple[float, float]:
    """The share of held-out targets that the answer does not round to, and the loss by the
    original's measure.
    """
    run = train(replace(case, judged=original.loss), seed=seed, steps=min(case.steps, steps))
    assert run.model is not None and original.validation is not None
    inputs, targets = original.validation
    run.model.eval()
    with torch.no_grad():
        missed = (run.model(inputs).flatten().round() != targets.flatten()).float().mean()
    return float(missed), run.last.loss


def judged_whole(case: Case, base: Run, tried: Tried, examples: Examples) -> Tried:
    """What the whole run shows beside what a quick learner does with the same examples."""
    known, behind = examples.reference, BEHIND
    if examples.kind == "inputs":  # a narrow code is meant to lose something
        known, behind = reference(*case.examples(), "numbers", seed=case.seed), 2 * BEHIND
    reached = fitted = None
    if base.model is not None and case.validation is not None and not base.diverged:
        base.model.eval()
        with torch.no_grad():
            reached = plain_score(
                base.model(case.validation[0][:LOOKED]), case.validation[1][:LOOKED]
            )
            seen = case.examples(LOOKED)
            fitted = plain_score(base.model(seen[0]), seen[1])
        base.model.train()
    score = None
    if known is not None and known.null_score < 1:
        least = 0.0 if known.kind in ("number", "numbers") else known.null_score
        score = (known.score - least) / (1 - least)
    return replace(
        tried,
        known=score,
        behind=behind,
        informative=None if known is None else known.informative,
        reached=reached,
        fitted=fitted,
        loss_fitted=sum(base.last.train) / len(base.last.train),
        whole=tuple((k.step, k.loss, k.score) for k in base.looks),
        rise=risen(base),
    )


def risen(run: Run) -> tuple[float, float] | None:
    """By how much the loss on other examples ended above its least: mean and standard error over
    groups, paired.
    """
    if not run.last.others or run.diverged:
        return None
    best = min((k for k in run.looks if math.isfinite(k.loss)), key=lambda k: k.loss)
    rises = [a - b for a, b in zip(run.last.others, best.others, strict=True)]
    mean = sum(rises) / len(rises)
    if len(rises) < 4:
        return None
    spread = math.sqrt(sum((a - mean) ** 2 for a in rises) / (len(rises) - 1) / len(rises))
    return mean, spread


def until(run: Run, step: int) -> Run:
    """The run as it stood at its first look from a step on: the whole run if there is none before
    its end.
    """
    look = next((look for look in run.looks if look.step >= step), run.last)
    return Run(
        losses=run.losses[: look.step],
        looks=[k for k in run.looks if k.step <= look.step],
        model=run.model,
    )


def _outcome(cause: str, run: Run) -> Outcome:
    loss = run.last.loss if not run.diverged else math.nan
    course = tuple((look.step, look.loss, look.score) for look in run.looks)
    return Outcome(cause=cause, losses=(loss,), scores=(run.last.score,), course=course)


def null_loss(case: Case) -> float:
    """The loss of the best answer that is the same for every example, fitted on training examples
    and judged on the others; NaN where none could be found."""
    inputs, targets = case.examples(LOOKED)
    with isolated_rng(case.seed), torch.no_grad():
        try:
            outputs = copy.deepcopy(case.model)(
                inputs
            )  # normalization keeps something of what it sees
        except Exception:
            return math.nan
    if not isinstance(outputs, Tensor) or len(outputs) != len(targets):
        return math.nan
    answer, best = _best_constant(case, outputs.detach().float(), targets)
    if answer is None:
        return math.nan
    others = targets if case.validation is None else case.validation[1][:LOOKED]
    try:
        with torch.no_grad():
            losses = by_groups(
                case.judged or case.loss, answer.expand(len(others), *answer.shape), others
            )
    except Exception:
        return best
    return sum(losses) / len(losses)


def _best_constant(case: Case, outputs: Tensor, targets: Tensor) -> tuple[Tensor | None, float]:
    """One answer for all, and its loss: by Adam from several starts; of starts in closed form, the
    best that there is.

    Where outputs are shares, or their logarithms, and the loss does not see to it, the answer keeps
    to that.
    """
    kept = _kept(case, outputs, targets)
    mean, shares = outputs.mean(0), kept is not None and bool((outputs >= 0).all())
    starts = [mean.clamp_min(TINY).log() if shares else mean, torch.zeros_like(mean)]
    if targets.is_floating_point() and mean.numel() == targets[0].numel():
        starts.append(targets.mean(0).reshape(mean.shape))
    best, answer = math.inf, None
    for start, steps in [*((s, 80) for s in starts), *((s, 1) for s in _priors(mean, targets))]:
        constant = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([constant], lr=0.05 * max(1.0, float(start.abs().mean())))
        for _ in range(steps):
            said = constant if kept is None else kept(constant)
            try:
                loss = case.loss(said.expand(outputs.shape), targets)
                (grad,) = torch.autograd.grad(loss, constant)
            except Exception:  # a constant that the loss refuses, or one that it does not depend on
                break
            value = float(loss.detach())
            if math.isfinite(value) and value < best:
                best, answer = value, said.detach().clone()
            constant.grad = grad
            optimizer.step()
    return answer, best


def _kept(case: Case, outputs: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor] | None:
    """What makes any numbers into an answer such as the outputs are: None where any numbers will
    do.
    """
    with torch.no_grad():
        try:
            same, other = (float(case.loss(outputs + shift, targets)) for shift in (0.0, 0.1))
        except Exception:
            return None
    if math.isclose(same, other, rel_tol=1e-4):  # the loss takes logits
        return None
    for d in {d % outputs.dim() for d in (1, -1) if outputs.dim() > 1 and outputs.shape[d] > 1}:
        if bool((outputs.logsumexp(d).abs() < ROUNDED).all()):
            return partial(torch.log_softmax, dim=d - 1)
        if bool((outputs >= 0).all()) and bool(((outputs.sum(d) - 1).abs() < ROUNDED).all()):
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
                    share.clamp_min(TINY)
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
        yield mean.clamp(TINY, 1 - TINY).logit()


def confirmed(
    case: Case, tried: Tried, outcome: Outcome, *, seed: int, wrong_loss: bool = False
) -> Outcome:
    """The remedy tried with more seeds, and the verdict: on 1 - score where the score tells them
    apart, else the loss.

    Losses of runs that go wrong differ by orders of magnitude, and say less with a few seeds. Where
    the loss is what is wrong, the score alone is compared.
    """
    judge = replace(case, judged=case.loss) if case.judged is None and not wrong_loss else case
    other = changed(judge, *outcome.changes)
    longer = any(c.path == "steps" for c in outcome.changes)
    before, after = [(tried.base.loss, tried.base.score)], [(outcome.loss, outcome.score)]
    for s in range(seed + 1, seed + SEEDS):
        for one, kept in ((judge, before), (other, after)):
            run = train(
                one,
                seed=s,
                steps=one.steps if longer and one is other else min(one.steps, tried.steps),
            )
            kept.append((math.nan if run.diverged else run.last.loss, run.last.score))
    scored = all(score is not None for _, score in (*before, *after))
    if wrong_loss and not scored:
        raise NotTriedError("there is no score to compare")
    if (
        scored
        and (tried.scored or wrong_loss)
        and (outcome.score or 0.0) - (tried.base.score or 0.0) >= POINTS
    ):
        trial = weigh(
            [_error(*b) for b in before],
            [_error(*a) for a in after],
            steps=tried.steps,
            least=POINTS / 2,
        )
    else:
        trial = weigh([b for b, _ in before], [a for a, _ in after], steps=tried.steps)
    return replace(
        outcome, losses=tuple(a for a, _ in after), scores=tuple(a for _, a in after), trial=trial
    )


def _error(loss: float, score: float | None) -> float:
    return (
        1.0 - (score or 0.0) if math.isfinite(loss) else 2.0
    )  # a run that broke off is as bad as can be
