"""Remedies tried on a subject: screened with a few seeds, confirmed with more, weighed in pairs.

A remedy is screened at each of its strengths; the one that explains best what was missed is
confirmed: the subject with it and without it on the same seeds. Here is decided what to run and
what it showed; all running is done by `try_remedies` and `try_cures`, in `subject.run`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ravine.diagnosis.trials.trial_results import SCORE_GAIN, Outcome, TrialResults
from ravine.examination.remedies import Remedy
from ravine.examination.subject import CannotTryError, Observed, Say, SeedRun, Strength, Subject
from ravine.examination.verdict import weigh
from ravine.finding import MANUAL_CHANGES, Change, Finding, Trial

HARMFUL_LOSS = 0.1  # of what there was to gain: after a strength that loses so much none is tried
MIN_GAIN_TO_CONFIRM = 0.1  # of what there was to gain
LOSS_CAUSES = ("loss", "shape-pairing")  # where they are certain, the loss measures nothing
FAILED_ERROR = 2.0  # 1 − score of a run that diverged: as bad as can be


def try_remedies(
    subject: Subject,
    observed: Observed,
    remedies: Sequence[Remedy],
    *,
    found_causes: Sequence[str] = (),
    say: Say,
) -> TrialResults:
    """What remedies did, each at its best strength. Confirmed are the one to blame, and those for
    causes that a check has found already.
    """
    assert observed.results is not None
    budget, screening = subject.budget, Screening(observed.results, remedies)
    count = sum(len(remedy.strengths) for remedy in remedies)
    say(f"trying {count} changes: {budget.screening_steps} steps, {budget.screening_seeds} seeds")
    while strengths := screening.next_round():
        seeds = range(budget.screening_seeds)
        screening.record(subject.run(strengths, seeds=seeds, steps=budget.screening_steps))
    results, own = screening.results, list(observed.runs)
    while (outcome := to_confirm(results, found_causes)) is not None:
        say(f"confirming {outcome.cause}: {budget.seeds} seeds")
        strength, known = screening.tried[_key(outcome.changes)]
        known = known if budget.steps == budget.screening_steps else []
        seeds, own_seeds = range(len(known), budget.seeds), range(len(own), budget.seeds)
        (more,) = subject.run([strength], seeds=seeds, steps=budget.steps)
        (less,) = subject.run([()], seeds=own_seeds, steps=budget.steps)
        after = [*known, *_require_runs(more)]
        own += _require_runs(less)
        new = confirm(results, outcome, own, after, screened=budget.screening_seeds)
        results = _replace(results, outcome, new)
    blamed = results.best_explanation
    if blamed is None:
        return subject.try_otherwise(results)
    evaluate_at = [step for step, _, _ in results.base.evaluations if step < results.steps]
    known_since = bool(blamed.evidence) and blamed.cause != "learning-rate-high"
    if not evaluate_at or known_since:  # what there is evidence for was so from the beginning
        return results
    strength, _ = screening.tried[_key(blamed.changes)]
    steps = budget.screening_steps
    (runs,) = subject.run([strength], seeds=range(1), steps=steps, evaluate_at=evaluate_at)
    traced = replace(blamed, evaluations=_require_runs(runs)[0].evaluations)
    return _replace(results, blamed, traced)


def try_cures(subject: Subject, observed: Observed, finding: Finding) -> Finding:
    """A finding whose cause is certain with a trial of what cures it; a change that did not help is
    not recommended.

    A change that is made by hand stays as it is, not tried.
    """
    assert observed.results is not None
    budget, in_doubt = subject.budget, finding.cause in LOSS_CAUSES
    own = list(observed.runs)
    failed: Trial | None = None
    why = "this change is made by hand" if finding.changes else "nothing to change was found"
    for strength in subject.cures(finding):
        changes = tuple(treatment.change for treatment in strength)
        seeds = range(budget.seeds)
        (runs,) = subject.run([strength], seeds=seeds, steps=budget.steps, loss_in_doubt=in_doubt)
        if isinstance(runs, CannotTryError):
            why = str(runs)
            continue
        if len(own) < budget.seeds:
            seeds = range(len(own), budget.seeds)
            (less,) = subject.run([()], seeds=seeds, steps=budget.steps, loss_in_doubt=in_doubt)
            own += _require_runs(less)
        screened = mean_outcome(finding.cause, runs[: budget.screening_seeds])
        outcome = replace(screened, changes=changes)
        results = replace(observed.results, outcomes=(outcome,))
        if in_doubt and any(run.score is None for run in (*own, *runs)):
            why = "there is no score to compare"
            continue
        trial = confirm(
            results, outcome, own, runs, screened=budget.screening_seeds, loss_in_doubt=in_doubt
        ).trial
        if trial is not None and trial.verdict == "helped":
            return replace(finding, changes=changes, trial=trial)
        failed = failed or trial
    if failed is not None:
        return replace(finding, trial=failed, changes=changes_by_hand(finding))
    return replace(finding, trial=Trial(verdict="not tried", why=why))


def changes_by_hand(finding: Finding) -> tuple[Change, ...]:
    """Those of a finding's changes that its author makes by hand."""
    return tuple(c for c in finding.changes if c.path in MANUAL_CHANGES)


def try_stopping_at(subject: Subject, step: int) -> Trial:
    """What ending at a step does: the held-out loss there, and at the end of the same runs."""
    seeds = range(subject.budget.seeds)
    (runs,) = subject.run([()], seeds=seeds, steps=None, evaluate_at=(step,))
    runs = _require_runs(runs)
    at_step = [
        next((loss for at, loss, _ in run.evaluations if at == step), run.loss) for run in runs
    ]
    return weigh([run.loss for run in runs], at_step, steps=step)


# What to run next, and what it showed


class Screening:
    """The screening of remedies, in rounds: in each, every remedy at its next strength.

    None is tried after one that is clearly worse than the best so far; of `ordered` strengths that
    no evidence speaks for, none after one that does harm to a run that has learned something.
    """

    def __init__(self, results: TrialResults, remedies: Sequence[Remedy]):
        self.own, self.open = results, list(remedies)
        self.place = -1
        self.best: dict[str, Outcome] = {}
        self.refused: list[tuple[Change, str]] = []
        self.tried: dict[tuple, tuple[Strength, list[SeedRun]]] = {}  # by an outcome's changes

    @property
    def results(self) -> TrialResults:
        outcomes, refused = tuple(self.best.values()), tuple(self.refused)
        return replace(self.own, outcomes=outcomes, refused=refused)

    def next_round(self) -> list[Strength]:
        """The strengths to try next; none where the screening is over."""
        self.place += 1
        self.open = [r for r in self.open if self.place < len(r.strengths)]
        return [r.strengths[self.place] for r in self.open]

    def record(self, found: Sequence[list[SeedRun] | CannotTryError]) -> None:
        """Take what the strengths of this round did."""
        still_open = []
        for remedy, runs in zip(self.open, found, strict=True):
            strength = remedy.strengths[self.place]
            if isinstance(runs, CannotTryError):
                self.refused.append((strength[0].change, str(runs)))
                continue
            changes = tuple(treatment.change for treatment in strength)
            self.tried[_key(changes)] = strength, runs
            outcome = replace(
                mean_outcome(remedy.cause, runs),
                changes=changes,
                evidence=remedy.evidence,
                where=remedy.where,
                suspects=remedy.suspects,
            )
            if self._is_worth_more(remedy, outcome):
                still_open.append(remedy)
        self.open = still_open

    def _is_worth_more(self, remedy: Remedy, outcome: Outcome) -> bool:
        """Keep the outcome if it is the remedy's best; whether to try the next strength."""
        known = self.best.get(remedy.cause)
        so_far = replace(self.own, outcomes=(*self.best.values(), outcome))
        gain = so_far.gain_of(outcome)
        before = -math.inf if known is None else so_far.gain_of(known)
        if gain > before:
            self.best[remedy.cause] = outcome
        wrong_way = remedy.ordered and not remedy.evidence and self._lost_something(outcome)
        return gain >= before - HARMFUL_LOSS and not (wrong_way and gain < -HARMFUL_LOSS)

    def _lost_something(self, outcome: Outcome) -> bool:
        """Whether the run has learned something, and no score says that it does better with the
        remedy: a rate that is far too high can end at a low loss, by chance.
        """
        own = self.own.base
        scored = outcome.score is not None and own.score is not None
        better = scored and outcome.score > own.score  # type: ignore[operator]
        return own.loss < self.own.null_loss and not better


def to_confirm(results: TrialResults, found_causes: Iterable[str]) -> Outcome | None:
    """The next outcome that more seeds must confirm: that to blame, then those of causes that a
    check has found, if they gain something.
    """
    first, causes = results.best_explanation, set(found_causes)
    if first is not None and first.trial is None:
        return first
    for outcome in results.outcomes:
        if outcome.cause in causes and outcome.trial is None:
            if results.gain_of(outcome) > MIN_GAIN_TO_CONFIRM:
                return outcome
    return None


def confirm(
    results: TrialResults,
    outcome: Outcome,
    before: Sequence[SeedRun],
    after: Sequence[SeedRun],
    *,
    screened: int,
    loss_in_doubt: bool = False,
) -> Outcome:
    """The outcome with the verdict on runs of the same seeds without it and with it.

    Compared is 1 − score where the score tells the two apart, else the loss: losses of runs that go
    wrong differ by orders of magnitude, and say less with a few seeds. Where the loss is in doubt
    the score alone is compared.
    """
    before = before[: len(after)]
    scored = all(run.score is not None for run in (*before, *after))
    new = mean_outcome(outcome.cause, after[:screened])
    gained = (new.score or 0.0) - (results.base.score or 0.0)
    if scored and (results.has_score or loss_in_doubt) and gained >= SCORE_GAIN:
        errors = [[_error(run) for run in runs] for runs in (before, after)]
        diverged = [sum(not math.isfinite(run.loss) for run in runs) for runs in (before, after)]
        what = "1 - score"
        if any(diverged):
            what += f", {FAILED_ERROR:g} for a run that diverged ({diverged[0]} of {len(before)} "
            what += f"without the change, {diverged[1]} with it)"
        trial = weigh(*errors, steps=results.steps, least=SCORE_GAIN / 2, what=what)
    else:
        losses = [[run.loss for run in runs] for runs in (before, after)]
        trial = weigh(*losses, steps=results.steps)
    return replace(outcome, losses=new.losses, scores=new.scores, trial=trial)


def mean_outcome(cause: str, runs: Sequence[SeedRun]) -> Outcome:
    """Loss and score averaged over seeds; the loss NaN where most of them diverged."""
    finite = [run for run in runs if math.isfinite(run.loss)]
    counted = finite or list(runs)
    scores = [run.score for run in counted if run.score is not None]
    loss = float(np.mean([run.loss for run in finite])) if 2 * len(finite) > len(runs) else math.nan
    score = float(np.mean(scores)) if len(scores) == len(counted) else None
    return Outcome(cause=cause, losses=(loss,), scores=(score,))


def _error(run: SeedRun) -> float:
    return 1.0 - (run.score or 0.0) if math.isfinite(run.loss) else FAILED_ERROR


def _require_runs(found: list[SeedRun] | CannotTryError) -> list[SeedRun]:
    if isinstance(found, CannotTryError):
        raise found
    return found


def _replace(results: TrialResults, old: Outcome, new: Outcome) -> TrialResults:
    return replace(results, outcomes=tuple(new if o is old else o for o in results.outcomes))


def _key(changes: Iterable[Change]) -> tuple:
    return tuple((change.path, repr(change.value)) for change in changes)
