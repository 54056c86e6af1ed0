"""The examination of a case: what is found before, while and after it trains, put in the order of
causes and symptoms.

Whoever calls brings the watch, which stands above this floor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.diagnosis.baseline_learners import plain
from ravine.diagnosis.data.profile import Examples, counted, read_examples
from ravine.diagnosis.data.rules import ALL as DATA
from ravine.diagnosis.initialization.probe import read_start
from ravine.diagnosis.initialization.rules import ALL as STARTS
from ravine.diagnosis.initialization.rules import Start
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.trials import rules as trial_rules
from ravine.diagnosis.trials.rules import GENERAL, GOOD
from ravine.errors import InputError
from ravine.examination.torch_remedies import remedies
from ravine.examination.torch_run import Run, train
from ravine.examination.torch_subject import Case
from ravine.examination.torch_trials import (
    LONGEST,
    LOOKS,
    attempted,
    confirmed,
    cured,
    judged_whole,
    stopped_early,
    with_classes,
)
from ravine.finding import MANUAL_CHANGES, Checks, Finding, Report, Trial, arrange

SMALL = 500_000  # parameters
PROBED = 256  # training examples on which the start is probed
EARLIER = ("learning-rate-high", "optimizer", "initialization", "batch-size")
# codes of what other causes explain, if one is found: dead units, numbers, the course, signal and
# units at the start
SYMPTOMS = ("RVN-S03", "RVN-N01", "RVN-N02", "RVN-T", "RVN-I13", "RVN-I14", "RVN-I15", "RVN-I16")


class Watching(Protocol):
    """What watches a run, and then reports."""

    def __enter__(self) -> Watching: ...

    def __exit__(self, *_: object) -> None: ...

    def loss(self, value: Tensor) -> object: ...

    def report(self) -> Report: ...


Watch = Callable[[nn.Module, Optimizer], Watching]


def examined(case: Case, *, watch: Watch, trials: bool) -> Report:
    """The examination of a case: before training, under a watch while a copy trains, and by
    trials.
    """
    with few_threads(case):
        return _examined(case, watch, trials)


def _examined(case: Case, watch: Watch, trials: bool) -> Report:
    start, examples = looked_at(case)
    at_start, started = run_rules(STARTS, start)
    in_data, read = (
        run_rules(DATA, examples)
        if examples.kind
        else ([], Checks(failed=tuple(r.code for r in DATA)))
    )
    found, checks, base = watched_run(case, watch)
    found, checks = [*found, *at_start, *in_data], checks.and_(started, read)
    sure = any(certain(f) for f in found)
    if trials and not sure:
        more, went = trial_findings(case, base, start, examples)
        found, checks = explained(*weighed(quiet(found, examples), more)), checks.and_(went)
    else:
        checks = checks.and_(Checks(not_measured=tuple(rule.code for rule in trial_rules.ALL)))
        found = settled(case, base, found, trials=trials) if sure else found
    return Report(
        checks=checks, findings=tuple(with_trial(f, trials=trials) for f in arrange(found))
    )


def looked_at(case: Case) -> tuple[Start, Examples]:
    """Network and loss before the first step, and the examples."""
    inputs, targets = case.examples()
    some = torch.linspace(0, len(inputs) - 1, min(len(inputs), PROBED)).round().long()
    start = read_start(
        case.model,
        case.loss,
        inputs[some],
        targets[some],
        validation=case.validation,
        seed=case.seed,
    )
    try:
        examples = read_examples(
            inputs,
            targets,
            validation=None if case.held_out else case.validation,
            shuffled=case.train.shuffled,
            batch=case.train.batch,
            outputs=start.output_shape[1:],
            seed=case.seed,
        )
    except (
        Exception
    ):  # data of a kind that nobody foresaw: the rest of the examination goes on without
        return start, Examples(rows=len(inputs), shape=tuple(inputs.shape[1:]), layout="", kind="")
    if case.held_out and case.validation is not None:
        counts = counted(plain(case.validation[1]), examples.kind)
        examples = replace(examples, validation_counts=counts)
    return start, examples


def certain(finding: Finding) -> bool:
    """Whether a finding is a cause without doubt, so that nothing needs to be tried."""
    sure = finding.severity == "error" and finding.confidence in ("exact", "high")
    return sure and not finding.code.startswith(SYMPTOMS)


def settled(case: Case, base: Run, found: list[Finding], *, trials: bool) -> list[Finding]:
    """The findings where a cause is certain: one trial for each cause. A fault that was seen twice
    is an error once, by the finding that leads, if that names the place."""
    leads: dict[str, Finding] = {}
    for finding in arrange(f for f in found if certain(f)):
        if finding.cause not in leads:
            leads[finding.cause] = cured(case, base, finding) if trials else finding
    seen = []
    for finding in found:
        if certain(finding):
            lead = leads[finding.cause]
            again = replace(
                finding,
                trial=lead.trial,
                changes=lead.changes,
                severity="note" if lead.where else finding.severity,
            )
            seen.append(lead if (finding.code, finding.where) == (lead.code, lead.where) else again)
    return explained([f for f in found if not certain(f)], seen)


@contextlib.contextmanager
def few_threads(case: Case) -> Iterator[None]:
    """One thread while small networks are run again and again: with more, waiting for each other
    costs more than it saves, many times over on a busy machine. Larger networks keep the threads
    they have."""
    threads = torch.get_num_threads()
    small = sum(p.numel() for p in case.model.parameters()) < SMALL
    if small:
        torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):  # of the quick learners' linear algebra
            yield
    finally:
        torch.set_num_threads(threads)


def with_trial(finding: Finding, *, trials: bool) -> Finding:
    """A finding that recommends something says what became of it: here, that nobody tried."""
    if finding.trial is not None or not finding.changes:
        return finding
    by_hand = all(change.path in MANUAL_CHANGES for change in finding.changes)
    why = (
        "made by hand"
        if by_hand
        else "another cause was tried first"
        if trials
        else "no trials were asked for"
    )
    return replace(finding, trial=Trial(verdict="not tried", why=why))


def weighed(found: list[Finding], causes: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Measured facts before what helped on general grounds: another rate or more steps make up for
    many faults.
    """
    facts = [
        f
        for f in found
        if f.severity != "note"
        and f.confidence in ("exact", "high")
        and not f.code.startswith(SYMPTOMS)
    ]
    general = [
        f for f in causes if f.severity != "note" and f.cause in GENERAL and f.since is not None
    ]
    if not facts or not general:
        return found, causes
    worst = "error" if any(f.severity == "error" for f in general) else "warning"
    leading = [
        replace(
            f,
            severity=worst,
            suspects=tuple(dict.fromkeys((*f.suspects, *(g.cause for g in general)))),
        )
        if f in facts
        else f
        for f in found
    ]
    return leading, [replace(f, severity="note") if f in general else f for f in causes]


def quiet(found: list[Finding], examples: Examples) -> list[Finding]:
    """That nothing was learned is no fault where a quick learner finds nothing to learn, either."""
    if examples.reference is None or examples.reference.informative is not False:
        return found
    return [replace(f, severity="note") if f.code == "RVN-T22" else f for f in found]


def explained(found: list[Finding], causes: list[Finding]) -> list[Finding]:
    """All findings; symptoms become notes where a cause was found that accounts for them."""
    if not any(f.severity in ("error", "warning") for f in causes):
        return [*found, *causes]
    codes = tuple(dict.fromkeys(f.code for f in found if f.code.startswith(SYMPTOMS)))
    notes = [replace(f, severity="note") if f.code.startswith(SYMPTOMS) else f for f in found]
    return [*notes, *(replace(f, explains=(*f.explains, *codes)) for f in causes)]


def watched_run(case: Case, watch: Watch) -> tuple[list[Finding], Checks, Run]:
    """The case's whole budget, under the watch that other loops get."""
    kept: list[Watching] = []

    def kept_watch(model: nn.Module, optimizer: Optimizer) -> Watching:
        kept.append(watch(model, optimizer))
        return kept[-1]

    shares = (max(1, round(case.steps * share)) for share in LOOKS)
    looks = sorted({min(case.steps, LONGEST), *shares})  # also where trials end
    try:
        run = train(case, seed=case.seed, looks=looks, watch=kept_watch)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            "training breaks off",
            why=f"{type(error).__name__}: {error}"[:300],
            do="see that every batch passes model and loss, the last one too",
        ) from error
    report = kept[0].report()
    return list(report.findings), report.checks, run


def trial_findings(
    case: Case, base: Run, start: Start, examples: Examples
) -> tuple[list[Finding], Checks]:
    """What trying remedies says, if anything is left to gain."""
    if base.last.score is not None and base.last.score >= GOOD:
        return [], Checks(
            not_measured=tuple(rule.code for rule in trial_rules.ALL)
        )  # nothing is left to gain
    wanted = remedies(case, base, start=start, examples=examples)
    seen = judged_whole(case, base, attempted(case, base, wanted, seed=case.seed), examples)
    while (first := seen.blamed) is not None and first.trial is None:
        outcome = confirmed(case, seen, first, seed=case.seed)
        seen = replace(seen, outcomes=tuple(outcome if o is first else o for o in seen.outcomes))
    if (
        seen.blamed is None
        and (outcome := with_classes(case, base, seen, seed=case.seed)) is not None
    ):
        seen = replace(seen, outcomes=(*seen.outcomes, outcome), settled=outcome)
    found, checks = run_rules(trial_rules.ALL, seen)
    learned_by_heart = [f for f in found if f.cause == "overfitting"]
    for finding in learned_by_heart:
        step = next(int(c.value) for c in finding.changes if c.path == "steps")
        trial = stopped_early(case, base, step, seed=case.seed)
        kept = finding.changes if trial.verdict == "helped" else ()
        found[found.index(finding)] = replace(finding, trial=trial, changes=kept)
    if learned_by_heart:  # a lower rate or fewer steps help because they stop earlier
        found = [f for f in found if f.cause not in EARLIER]
    return found, checks
