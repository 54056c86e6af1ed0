"""Remedies tried on a subject: screened with a few seeds, confirmed with more, weighed in pairs.

A remedy is screened at each of its strengths; the one that explains best what was missed is
confirmed: the subject with it and without it on the same seeds. Here is decided what to run and
what it showed; all running is done by `subject.run`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ravine.diagnosis.trials.trial_results import MISSED_GAIN, SCORE_GAIN, Outcome, TrialResults
from ravine.examination.remedies import Remedy
from ravine.examination.subject import (
    CannotTryError,
    Say,
    SeedRun,
    Strength,
    Subject,
    SubjectProfile,
)
from ravine.examination.verdict import weigh
from ravine.finding import MANUAL_CHANGES, Change, Evidence, Finding, Trial

HARMFUL_LOSS = 0.1  # of what there was to gain: after a strength that loses so much none is tried
STILL_LOSS = 1e-3  # of the loss at the start: a run that changes it by less stands still
MIN_GAIN_TO_CONFIRM = 0.1  # of what there was to gain
# where they are certain, the loss measures nothing
LOSS_CAUSES = ("loss", "shape-pairing", "target-scale", "imbalance")
ONE_ANSWER_CODE = "RVN-T15"  # every row has one answer: what is asked for is judged by the answers
TIE_BREAK = 1e-6  # of an error
FAILED_ERROR = 2.0  # 1 − score of a run that diverged: as bad as can be


@dataclass(frozen=True)
class Cure:
    """What helps against a cause; `is_certain`: its cause was found without trying it."""

    cause: str
    strength: Strength
    evidence: tuple[Evidence, ...] = ()
    where: str = ""
    is_certain: bool = False


def screen_remedies(
    subject: Subject, profile: SubjectProfile, remedies: Sequence[Remedy], *, say: Say
) -> Screening:
    """Try remedies with a few seeds, round by round, until nothing is left to try."""
    assert profile.results is not None
    budget = subject.budget
    screening = Screening(profile.results, remedies)
    count = sum(len(remedy.strengths) for remedy in remedies)
    say(f"trying {count} changes: {budget.screening_steps} steps, {budget.screening_seeds} seeds")
    while strengths := screening.next_round():
        seeds = range(budget.screening_seeds)
        screening.record(subject.run(strengths, seeds=seeds, steps=budget.screening_steps))
    return screening


def confirm_remedies(
    subject: Subject,
    profile: SubjectProfile,
    screening: Screening,
    *,
    causes: Sequence[str] = (),
    say: Say,
) -> TrialResults:
    """A screening's results with verdicts on the remedy to blame and on those for `causes`."""
    budget = subject.budget
    results = screening.results
    own: Sequence[SeedRun] = profile.runs
    while (outcome := to_confirm(results, causes)) is not None:
        say(f"confirming {outcome.cause}: {budget.seeds} seeds")
        strength, screened = screening.best_runs[outcome.cause]
        known = screened if budget.steps == budget.screening_steps else []
        (more,) = subject.run([strength], seeds=range(len(known), budget.seeds), steps=budget.steps)
        changed = [*known, *_require_runs(more)]
        (more,) = subject.run([()], seeds=range(len(own), budget.seeds), steps=budget.steps)
        own = [*own, *_require_runs(more)]
        new = confirm(results, outcome, own, changed)
        results = _replace(results, outcome, new)
    return results


def trace_best_remedy(
    subject: Subject, screening: Screening, results: TrialResults
) -> TrialResults:
    """The results with the losses of the best remedy along its run, which show since when the
    subject lags behind. Where no remedy explains the run, or one without evidence explains a part
    of it, the subject first tries what else it can.
    """
    if results.best_explanation is None or results.is_partly_explained:
        results = subject.try_unmeasured_remedies(results)
    best = results.best_explanation
    if best is None or best is results.preferred:
        return results
    evaluate_at = [step for step, _, _ in results.base.evaluations if step < results.steps]
    known_since = bool(best.evidence) and best.cause != "learning-rate-high"
    if not evaluate_at or known_since:  # what there is evidence for was so from the beginning
        return results
    strength, _ = screening.best_runs[best.cause]
    steps = subject.budget.screening_steps
    (runs,) = subject.run([strength], seeds=range(1), steps=steps, evaluate_at=evaluate_at)
    traced = replace(best, evaluations=_require_runs(runs)[0].evaluations)
    return _replace(results, best, traced)


def try_cures(
    subject: Subject, profile: SubjectProfile, finding: Finding
) -> tuple[Finding, Cure | None]:
    """A finding whose cause is certain, with a trial of its cures; and the cure that helped, or the
    first that did something: another fault may hide what it does. What helped is recommended; where
    nothing did, an exact finding keeps its changes (it needs no trial to be right, and another
    fault may hide what they do), and so do changes made by hand.
    """
    assert profile.results is not None
    budget, steps = subject.budget, subject.budget.steps
    own: Sequence[SeedRun] = profile.runs
    in_doubt = finding.cause in LOSS_CAUSES
    evidence, where = finding.evidence, finding.where
    make_cure = partial(Cure, finding.cause, evidence=evidence, where=where, is_certain=True)
    failed: Trial | None = None
    cure: Cure | None = None
    why = "this change is made by hand" if finding.changes else "nothing to change was found"
    for strength in subject.cures(finding):
        seeds, missing = range(budget.seeds), range(len(own), budget.seeds)
        (changed,) = subject.run([strength], seeds=seeds, steps=steps, loss_in_doubt=in_doubt)
        if isinstance(changed, CannotTryError):
            why = str(changed)
            continue
        (more,) = subject.run([()], seeds=missing, steps=steps, loss_in_doubt=in_doubt)
        own = [*own, *_require_runs(more)]
        pairs = zip(own, changed, strict=True)
        if all((a.loss, a.score) == (b.loss, b.score) for a, b in pairs):
            why = "the change did not act: every run is the same to the last bit"
            finding = replace(finding, changes=lasting_changes(finding))
            continue
        if in_doubt and any(run.score is None for run in (*own, *changed)):
            why = "there is no score to compare"
            continue
        outcome = median_outcome(finding.cause, changed)
        results = replace(profile.results, outcomes=(outcome,))
        new = confirm(results, outcome, own, changed, loss_in_doubt=in_doubt)
        if new.trial is not None and new.trial.verdict == "helped":
            changes = tuple(treatment.change for treatment in strength)
            return replace(finding, changes=changes, trial=new.trial), make_cure(strength)
        failed = failed or new.trial
        cure = cure or make_cure(strength)
    if failed is not None:
        return replace(finding, trial=failed, changes=lasting_changes(finding)), cure
    return replace(finding, trial=Trial(verdict="not tried", why=why)), cure


def try_other_answers(subject: Subject, profile: SubjectProfile, finding: Finding) -> Finding:
    """A finding that every example is answered alike, with a trial of what it asks for; another
    finding as it is. Compared is the mean recall of the classes: losses and rankings may well be
    good.
    """
    if finding.code != ONE_ANSWER_CODE or finding.severity == "note":
        return finding
    strength = subject.treatments_for(finding.changes)
    if not strength:
        return finding
    seeds = range(len(profile.runs))
    (changed,) = subject.run([strength], seeds=seeds, steps=subject.budget.steps)
    if isinstance(changed, CannotTryError):
        return replace(finding, trial=Trial(verdict="not tried", why=str(changed)))
    missed = [[1.0 - (run.recall or 0.0) for run in runs] for runs in (profile.runs, changed)]
    assert profile.results is not None
    what, steps = "1 - balanced accuracy", profile.results.steps
    trial = weigh(*missed, steps=steps, least=SCORE_GAIN / 2, what=what)
    kept = finding.changes if trial.verdict == "helped" else changes_by_hand(finding)
    return replace(finding, trial=trial, changes=kept)


def changes_by_hand(finding: Finding) -> tuple[Change, ...]:
    """Those of a finding's changes that its author makes by hand."""
    return tuple(c for c in finding.changes if c.path in MANUAL_CHANGES)


def lasting_changes(finding: Finding) -> tuple[Change, ...]:
    """Those of a finding's changes that are recommended even where a trial showed no gain."""
    return finding.changes if finding.confidence == "exact" else changes_by_hand(finding)


def try_stopping_at(subject: Subject, step: int) -> Trial:
    """What ending at a step does: the held-out loss there, and at the end of the same runs."""
    seeds = range(subject.budget.seeds)
    (runs,) = subject.run([()], seeds=seeds, steps=None, evaluate_at=(step,))
    runs = _require_runs(runs)
    on_the_way = ({at: loss for at, loss, _ in run.evaluations} for run in runs)
    at_step = [losses.get(step, run.loss) for losses, run in zip(on_the_way, runs, strict=True)]
    return weigh([run.loss for run in runs], at_step, steps=step)


# What to run next, and what it showed


class Screening:
    """The screening of remedies, in rounds: in each, every remedy at its next strength. None is
    tried after one that is clearly worse than the best so far; of `ordered` strengths that no
    evidence speaks for, none after one that does harm to a run that has learned something; no lower
    learning rate after two at which the loss stands still.
    """

    def __init__(self, results: TrialResults, remedies: Sequence[Remedy]):
        self.own = results
        self.open = list(remedies)
        self.place = -1
        self.best: dict[str, Outcome] = {}  # by cause
        self.best_runs: dict[str, tuple[Strength, list[SeedRun]]] = {}  # of these, by cause
        self.refused: list[tuple[Change, str]] = []

    @property
    def results(self) -> TrialResults:
        outcomes = tuple(self.best.values())
        return replace(self.own, outcomes=outcomes, refused=tuple(self.refused))

    def cure(self, outcome: Outcome) -> Cure:
        """The change whose outcome that is."""
        strength, _ = self.best_runs[outcome.cause]
        return Cure(outcome.cause, strength, outcome.evidence, outcome.where)

    def next_round(self) -> list[Strength]:
        """The strengths to try next; none where the screening is over."""
        self.place += 1
        self.open = [r for r in self.open if self.place < len(r.strengths)]
        return [r.strengths[self.place] for r in self.open]

    def record(self, found: Sequence[list[SeedRun] | CannotTryError]) -> None:
        """Keep the best of each remedy in this round; drop those of which no strength is left."""
        tried, self.open = self.open, []
        for remedy, runs in zip(tried, found, strict=True):
            strength = remedy.strengths[self.place]
            if isinstance(runs, CannotTryError):
                self.refused.append((strength[0].change, str(runs)))
                continue
            outcome = replace(
                median_outcome(remedy.cause, runs),
                changes=tuple(treatment.change for treatment in strength),
                evidence=remedy.evidence,
                where=remedy.where,
                suspects=remedy.suspects,
            )
            best = self.best.get(remedy.cause)
            results = replace(self.own, outcomes=(*self.best.values(), outcome))
            gain = results.gain_of(outcome)
            best_gain = -math.inf if best is None else results.gain_of(best)
            if gain > best_gain:
                self.best[remedy.cause] = outcome
                self.best_runs[remedy.cause] = strength, runs
            does_harm = gain < -HARMFUL_LOSS and self._is_wrong_way(remedy, outcome)
            still = best is not None and self._is_still(best) and self._is_still(outcome)
            idle = remedy.cause == "too-few-steps" and gain < MISSED_GAIN  # longer runs cost more
            if gain >= best_gain - HARMFUL_LOSS and not (does_harm or still or idle):
                self.open.append(remedy)

    def _is_still(self, outcome: Outcome) -> bool:
        """Whether a lower learning rate moves nothing any more: the loss stays as it started."""
        start = self.own.start_loss
        still = abs(outcome.loss - start) <= STILL_LOSS * abs(start)  # False of what diverged
        return outcome.cause == "learning-rate-high" and still

    def _is_wrong_way(self, remedy: Remedy, outcome: Outcome) -> bool:
        """Whether ordered strengths without evidence lead away from what the run has learned. Not
        if a score says that it does better: a rate that is far too high can end at a low loss, by
        chance.
        """
        own = self.own.base
        scored = outcome.score is not None and own.score is not None
        better = scored and outcome.score > own.score  # type: ignore[operator]
        has_learned = own.loss < self.own.constant_loss
        return remedy.ordered and not remedy.evidence and has_learned and not better


def to_confirm(results: TrialResults, causes: Sequence[str]) -> Outcome | None:
    """The next outcome to confirm with seeds: that to blame, then of found causes that gain."""
    first = results.best_explanation
    if first is not None and first.trial is None:
        return first
    open_outcomes = (o for o in results.outcomes if o.cause in causes and o.trial is None)
    return next((o for o in open_outcomes if results.gain_of(o) > MIN_GAIN_TO_CONFIRM), None)


def confirm(
    results: TrialResults,
    outcome: Outcome,
    before: Sequence[SeedRun],
    after: Sequence[SeedRun],
    *,
    loss_in_doubt: bool = False,
) -> Outcome:
    """The outcome with the medians of its runs and the verdict on them, beside runs of the same
    seeds without it. Compared is 1 − score where the score tells the two apart, else the loss:
    losses of runs that go wrong differ by orders of magnitude, and say less with a few seeds. Of
    equal scores, as few held-out examples have them, the lower loss is the better. Where the loss
    is in doubt the score alone is compared.
    """
    before = before[: len(after)]
    scored = all(run.score is not None for run in (*before, *after))
    new = median_outcome(outcome.cause, after)
    errors = [[_error(run) for run in runs] for runs in (before, after)]
    gained = float(np.median(errors[0]) - np.median(errors[1]))
    if scored and (results.has_score or loss_in_doubt) and gained >= SCORE_GAIN:
        diverged = [sum(not math.isfinite(run.loss) for run in runs) for runs in (before, after)]
        what = "1 - score"
        if any(diverged):
            what += f", {FAILED_ERROR:g} for a run that diverged ({diverged[0]} of {len(before)} "
            what += f"without the change, {diverged[1]} with it)"
        if not loss_in_doubt:
            errors[1] = [_broken_tie(*pair) for pair in zip(before, after, strict=True)]
        trial = weigh(*errors, steps=results.steps, least=SCORE_GAIN / 2, what=what)
    else:
        losses = [[run.loss for run in runs] for runs in (before, after)]
        trial = weigh(*losses, steps=results.steps)
    return replace(outcome, losses=new.losses, scores=new.scores, trial=trial)


def median_outcome(cause: str, runs: Sequence[SeedRun]) -> Outcome:
    """Medians of loss and score over seeds; the loss NaN where most of them diverged. Of two losses
    it is the geometric mean: losses of runs that go wrong differ by orders of magnitude.
    """
    finite = [run for run in runs if math.isfinite(run.loss)]
    counted = finite or list(runs)
    scores = [run.score for run in counted if run.score is not None]
    losses = np.sort([run.loss for run in finite])
    loss = math.nan
    if 2 * len(finite) > len(runs):
        middle = losses[(len(losses) - 1) // 2 : len(losses) // 2 + 1]
        loss = float(math.sqrt(middle[0] * middle[-1]) if middle[0] > 0 else np.mean(middle))
    score = float(np.median(scores)) if len(scores) == len(counted) else None
    return Outcome(cause=cause, losses=(loss,), scores=(score,))


def _error(run: SeedRun) -> float:
    return 1.0 - (run.score or 0.0) if math.isfinite(run.loss) else FAILED_ERROR


def _broken_tie(before: SeedRun, after: SeedRun) -> float:
    """The error of a run; of two that are equal, that of the lower loss is the lower by a hair."""
    error, tied = _error(after), before.score == after.score
    hair = TIE_BREAK * float(np.sign(after.loss - before.loss)) if tied else 0.0
    return error * (1 + hair)


def _require_runs(found: list[SeedRun] | CannotTryError) -> list[SeedRun]:
    if isinstance(found, CannotTryError):
        raise found
    return found


def _replace(results: TrialResults, old: Outcome, new: Outcome) -> TrialResults:
    return replace(results, outcomes=tuple(new if o is old else o for o in results.outcomes))
