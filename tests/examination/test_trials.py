"""Trials: the rounds of a screening, who is confirmed, pairs of seeds, cures of what is certain."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.trials.trial_results import LearnerComparison, Outcome, TrialResults
from ravine.examination.remedies import Remedy
from ravine.examination.subject import (
    CannotTryError,
    SeedRun,
    SubjectProfile,
    TrialBudget,
    stay_silent,
)
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_program import train_program
from ravine.examination.torch_subject import TorchSubject
from ravine.examination.torch_training_changes import scale_learning_rate
from ravine.examination.trials import (
    Screening,
    confirm,
    confirm_remedies,
    median_outcome,
    screen_remedies,
    to_confirm,
    trace_best_remedy,
    try_cures,
    try_stopping_at,
)
from ravine.finding import Change, Checks, Evidence, Finding, Trial
from ravine.statistics import signed_rank_interval

FACT = (Evidence("a fact", 1.0),)


class Made:
    """A treatment by name."""

    def __init__(self, path, value=1):
        self.change = Change(path, value)


def remedy(cause, *names, **more):
    return Remedy(cause, tuple((Made(name),) for name in names), **more)


def results(loss=2.0, null=2.0, score=None, **more):
    base = Outcome(cause="healthy", losses=(loss,), scores=(score,))
    return TrialResults(base=base, constant_loss=null, start_loss=null, steps=10, **more)


def run(loss, score=None):
    return [SeedRun(loss, score)]


def paths(strengths):
    return [strength[0].change.path for strength in strengths]


# Screening


def test_a_round_has_every_remedy_at_its_next_strength():
    screening = Screening(results(), [remedy("optimizer", "a"), remedy("dropout", "b", "c", "d")])
    assert paths(screening.next_round()) == ["a", "b"]
    screening.record([run(1.5), run(1.9)])
    assert paths(screening.next_round()) == ["c"]
    screening.record([run(1.0)])
    assert paths(screening.next_round()) == ["d"]
    screening.record([run(0.5)])
    assert screening.next_round() == []
    best = {o.cause: (o.changes[0].path, o.loss) for o in screening.results.outcomes}
    assert best == {"optimizer": ("a", 1.5), "dropout": ("d", 0.5)}


def test_the_best_strength_stays_and_none_is_tried_after_one_that_is_clearly_worse():
    screening = Screening(results(), [remedy("dropout", "a", "b", "c", "d", "e")])
    screening.next_round()
    screening.record([run(1.0)])
    screening.next_round()
    screening.record([run(1.05)])  # nearly as good: 5 % of what there is to gain
    assert paths(screening.next_round()) == ["c"]
    screening.record([run(1.5)])
    assert screening.next_round() == []
    (best,) = screening.results.outcomes
    assert best.changes == (Change("a", 1),) and best.loss == 1.0


def test_an_outcome_keeps_what_its_remedy_says():
    asked = remedy("dropout", "a", evidence=FACT, where="hidden", suspects=("over-regularized",))
    screening = Screening(results(), [asked])
    screening.next_round()
    screening.record([run(1.0)])
    (found,) = screening.results.outcomes
    assert (found.evidence, found.where) == (FACT, "hidden")
    assert found.suspects == ("over-regularized",) and found.trial is None


@pytest.mark.parametrize(
    ("ordered", "own_loss", "goes_on"),
    [
        (True, 1.0, False),  # it learned something, and this direction does harm
        (False, 1.0, True),
        (True, 2.0, True),  # nothing was learned: what does no good now may do good yet
        (True, math.nan, True),
    ],
)
def test_ordered_strengths_stop_after_harm_only_where_the_run_has_learned_something(
    ordered, own_loss, goes_on
):
    other = remedy("dropout", "good")  # there is something to gain, whatever the own run did
    rates = remedy("learning-rate-high", "x0.1", "x0.01", ordered=ordered)
    screening = Screening(results(own_loss), [other, rates])
    screening.next_round()
    screening.record([run(0.5), run(1.9)])
    assert (paths(screening.next_round()) == ["x0.01"]) is goes_on


def test_harm_to_the_loss_alone_does_not_stop_ordered_strengths():
    """At a rate far too high the loss is low by chance, and the score tells the two apart."""
    rates = remedy("learning-rate-high", "x0.1", "x0.01", ordered=True)
    for score, goes_on in ((0.56, True), (0.2, False)):
        screening = Screening(results(0.52, 0.69, score=0.39), [rates])
        screening.next_round()
        screening.record([run(0.68, score)])
        assert (paths(screening.next_round()) == ["x0.01"]) is goes_on


def test_ordered_strengths_that_evidence_speaks_for_go_on_after_harm():
    """At a rate far too high a tenth of it may be too high, and do worse by chance."""
    rates = remedy("learning-rate-high", "x0.1", "x0.01", ordered=True, evidence=FACT)
    screening = Screening(results(0.64, 0.69, score=0.18), [rates])
    screening.next_round()
    screening.record([run(0.69, 0.0)])
    assert paths(screening.next_round()) == ["x0.01"]


def test_lower_rates_end_where_two_of_them_moved_nothing():
    rates = remedy("learning-rate-high", "x0.1", "x0.01", "x0.001", ordered=True, evidence=FACT)
    screening = Screening(results(0.9, 1.0), [rates])
    for loss in (1.0, 0.9999):
        assert len(screening.next_round()) == 1
        screening.record([run(loss)])
    assert screening.next_round() == []


def test_little_harm_does_not_stop_ordered_strengths():
    rates = remedy("learning-rate-low", "x10", "x100", ordered=True)
    screening = Screening(results(1.0), [remedy("dropout", "good"), rates])
    screening.next_round()
    screening.record([run(0.5), run(1.1)])  # 7 % of what there was to gain
    assert paths(screening.next_round()) == ["x100"]


def test_refusals_are_kept_with_their_reason_and_end_their_remedy_alone():
    screening = Screening(results(), [remedy("dropout", "a", "b"), remedy("optimizer", "c", "d")])
    screening.next_round()
    screening.record([CannotTryError("there is none"), run(1.0)])
    assert paths(screening.next_round()) == ["d"]
    screening.record([CannotTryError("no more")])
    assert screening.next_round() == []
    refused = [(change.path, why) for change, why in screening.results.refused]
    assert refused == [("a", "there is none"), ("d", "no more")]
    assert [o.cause for o in screening.results.outcomes] == ["optimizer"]


def test_without_remedies_there_is_no_round():
    assert Screening(results(), []).next_round() == []


# Who is confirmed


def outcome(cause, loss, **more):
    made = {"changes": (Change(cause, 1),), "losses": (loss,), "scores": (None,)}
    return Outcome(cause=cause, **made | more)


def test_first_the_one_to_blame_then_those_that_a_check_has_found_if_they_gain():
    helped, useless = Trial(verdict="helped"), Trial(verdict="no effect")
    best = outcome("dropout", 0.5, evidence=FACT)
    found, little = outcome("input-scale", 1.5), outcome("imbalance", 1.9)
    causes = ["input-scale", "imbalance"]
    seen = results(outcomes=(found, little, best))
    assert to_confirm(seen, causes) is best
    confirmed = replace(seen, outcomes=(found, little, replace(best, trial=helped)))
    assert to_confirm(confirmed, causes) is found
    assert to_confirm(confirmed, []) is None
    done = (replace(found, trial=useless), little, replace(best, trial=helped))
    assert to_confirm(replace(seen, outcomes=done), causes) is None  # 7 % is too little


def test_after_one_that_did_not_help_the_next_is_to_blame():
    useless = Trial(verdict="no effect")
    best, next_best = (
        outcome("dropout", 0.5, evidence=FACT),
        outcome("optimizer", 0.6, evidence=FACT),
    )
    assert to_confirm(results(outcomes=(best, next_best)), []) is best
    seen = results(outcomes=(replace(best, trial=useless), next_best))
    assert to_confirm(seen, []) is next_best


# The verdict


BEFORE = [SeedRun(loss, None) for loss in (2.0, 2.3, 1.9, 2.1, 2.2)]
AFTER = [SeedRun(loss, None) for loss in (1.0, 1.4, 0.8, 1.1, 1.3)]


def test_runs_are_compared_in_pairs_of_the_same_seed():
    first = outcome("dropout", 1.0)
    found = confirm(results(outcomes=(first,)), first, BEFORE, AFTER)
    differences = [a.loss - b.loss for a, b in zip(AFTER, BEFORE, strict=True)]
    known = signed_rank_interval(differences)
    assert found.trial.verdict == "helped" and found.trial.seeds == 5 and found.trial.steps == 10
    assert found.trial.difference == pytest.approx(known.value)
    assert found.trial.interval == pytest.approx((known.low, known.high))
    # in another order the pairs differ, and the interval is wider
    other = confirm(results(outcomes=(first,)), first, BEFORE, AFTER[::-1])
    assert other.trial.interval[0] < known.low and other.trial.interval[1] > known.high


def test_runs_without_the_remedy_beyond_those_with_it_are_left_out():
    first = outcome("dropout", 1.0)
    more = [*BEFORE, SeedRun(1000.0, None)]
    seen = results(outcomes=(first,))
    assert confirm(seen, first, more, AFTER) == confirm(seen, first, BEFORE, AFTER)


def test_the_middle_of_all_seeds_is_the_outcome_s_loss():
    first = outcome("dropout", 1.0)
    seen = results(outcomes=(first,))
    assert confirm(seen, first, BEFORE, AFTER).loss == 1.1
    two = confirm(seen, first, BEFORE[:2], AFTER[:2])
    assert two.loss == pytest.approx(math.sqrt(1.4))  # the geometric mean


def test_the_score_is_compared_where_it_tells_the_two_apart():
    before = [SeedRun(2.0, s) for s in (0.1, 0.12, 0.08, 0.1, 0.11)]
    after = [SeedRun(1.5, s) for s in (0.8, 0.83, 0.79, 0.8, 0.81)]
    first = outcome("dropout", 1.5, scores=(0.8,))
    found = confirm(results(score=0.1, outcomes=(first,)), first, before, after)
    assert (found.trial.before, found.trial.after) == pytest.approx((0.9, 0.2))
    close = [SeedRun(loss, 0.12) for loss in (1.5, 1.6, 1.4, 1.5, 1.55)]
    found = confirm(results(score=0.1, outcomes=(first,)), first, before, close)
    assert (found.trial.before, found.trial.after) == (2.0, pytest.approx(1.5))


def test_runs_that_diverged_are_told_where_scores_are_compared():
    before = [SeedRun(math.nan, -1.0), SeedRun(1.5, 0.1), SeedRun(1.5, 0.1)]
    after = [SeedRun(0.4, s) for s in (0.8, 0.83, 0.79)]
    first = outcome("dropout", 0.4, scores=(0.8,))
    found = confirm(results(score=0.1, outcomes=(first,)), first, before, after)
    assert found.trial.why == (
        "medians of 1 - score, 2 for a run that diverged (1 of 3 without the change, 0 with it)"
    )


def test_where_the_loss_is_in_doubt_the_score_alone_is_compared():
    before = [SeedRun(0.1, s) for s in (0.1, 0.12, 0.08, 0.1, 0.11)]  # a loss that measures nothing
    after = [SeedRun(9.0, s) for s in (0.8, 0.83, 0.79, 0.8, 0.81)]
    first = outcome("loss", 9.0, scores=(0.8,))
    seen = results(0.1, score=0.1, outcomes=(first,))
    trusted = confirm(seen, first, before, after)
    doubted = confirm(seen, first, before, after, loss_in_doubt=True)
    assert trusted.trial.verdict == "worse" and doubted.trial.verdict == "helped"


def test_a_run_that_diverged_fails_whatever_is_compared():
    first = outcome("dropout", 1.0)
    broken = [SeedRun(math.nan, None)] * 3
    found = confirm(results(math.nan, outcomes=(first,)), first, broken, AFTER[:3])
    assert (
        found.trial.verdict == "helped"
        and "3 of 3 runs failed without the change" in found.trial.why
    )
    scored = [SeedRun(math.nan, 0.9)] * 5
    after = [SeedRun(1.0, s) for s in (0.5, 0.52, 0.49, 0.5, 0.51)]
    best = outcome("dropout", 1.0, scores=(0.5,))
    found = confirm(results(score=0.0, outcomes=(best,)), best, scored, after)
    assert found.trial.verdict == "helped" and found.trial.before == 2.0


def test_a_median_outcome_is_nan_only_where_most_seeds_diverged():
    one = median_outcome("dropout", [SeedRun(1.0, 0.5), SeedRun(2.0, 0.7), SeedRun(math.nan, -1.0)])
    assert (one.loss, one.score) == pytest.approx((math.sqrt(2), 0.6))
    heavy = [SeedRun(loss, 0.5) for loss in (24.0, 25.0, 64.0)]
    assert median_outcome("dropout", heavy).loss == 25.0
    most = median_outcome("dropout", [SeedRun(1.0, 0.5), SeedRun(math.nan, -1.0)])
    assert math.isnan(most.loss) and most.score == 0.5
    assert median_outcome("dropout", [SeedRun(1.0, None)]).score is None


# Everything together, on a subject that is made up


class Recorder:
    """Losses by treatment and seed: its own run has 2 and a little; it notes what it runs."""

    def __init__(self, losses, *, screening=10, steps=10, cures=()):
        self.losses, self.known_cures, self.asked = losses, cures, []
        self.budget = TrialBudget(
            screening_seeds=1, screening_steps=screening, seeds=5, steps=steps
        )

    def run(self, strengths, *, seeds, steps, evaluate_at=(), loss_in_doubt=False):
        found = []
        for strength in strengths:
            name = strength[0].change.path if strength else ""
            self.asked.append((name, seeds, steps, tuple(evaluate_at)))
            loss = self.losses.get(name, 2.0)
            if isinstance(loss, CannotTryError):
                found.append(loss)
                continue
            course = tuple((step, 1.0, None) for step in evaluate_at)
            found.append([SeedRun(loss + 0.01 * s, None, course) for s in seeds])
        return found

    def cures(self, finding):
        return self.known_cures

    def try_unmeasured_remedies(self, results):
        learner = LearnerComparison(informative=False)  # a mark that it was asked
        return replace(results, learner=learner)


def try_remedies(subject, profile, remedies, *, causes=(), say):
    screening = screen_remedies(subject, profile, remedies, say=say)
    results = confirm_remedies(subject, profile, screening, causes=causes, say=say)
    return trace_best_remedy(subject, screening, results)


def profile(course=()):
    base = Outcome(cause="healthy", losses=(2.0,), scores=(None,), evaluations=course)
    seen = TrialResults(base=base, constant_loss=2.0, start_loss=2.0, steps=10)
    own = (SeedRun(2.0, None),)
    return SubjectProfile(
        findings=[], checks=Checks(), start=StartProfile(), runs=own, results=seen
    )


def test_one_seed_screens_and_the_one_to_blame_gets_the_other_four_beside_the_own_run():
    subject = Recorder({"a": 1.5, "b": 0.5})
    remedies = [remedy("optimizer", "a"), remedy("dropout", "b", evidence=FACT)]
    found = try_remedies(subject, profile(), remedies, say=stay_silent)
    assert (
        found.best_explanation.cause == "dropout"
        and found.best_explanation.trial.verdict == "helped"
    )
    assert (
        found.best_explanation.trial.seeds == 5
        and found.best_explanation.trial.difference == pytest.approx(-1.5)
    )
    assert subject.asked == [
        ("a", range(1), 10, ()),
        ("b", range(1), 10, ()),
        ("b", range(1, 5), 10, ()),
        ("", range(1, 5), 10, ()),
    ]


def test_where_a_screening_is_shorter_than_a_trial_its_seeds_run_again():
    subject = Recorder({"b": 0.5}, screening=4)
    remedies = [remedy("dropout", "b", evidence=FACT)]
    try_remedies(subject, profile(), remedies, say=stay_silent)
    assert subject.asked == [
        ("b", range(1), 4, ()),
        ("b", range(5), 10, ()),
        ("", range(1, 5), 10, ()),
    ]


def test_the_own_run_s_other_seeds_are_run_once():
    subject = Recorder({"a": 0.6, "b": 0.5})
    remedies = [remedy("input-scale", "a"), remedy("dropout", "b", evidence=FACT)]
    found = try_remedies(subject, profile(), remedies, causes=["input-scale"], say=stay_silent)
    assert all(o.trial.verdict == "helped" for o in found.outcomes)
    own = [(seeds, steps) for name, seeds, steps, _ in subject.asked if name == ""]
    assert own == [(range(1, 5), 10), (range(5, 5), 10)]


def test_since_when_a_run_lags_is_traced_where_only_general_grounds_speak():
    course = ((0, 2.0, None), (3, 2.0, None), (10, 2.0, None))
    general = [remedy("learning-rate-low", "a")]
    subject = Recorder({"a": 0.5})
    found = try_remedies(subject, profile(course), general, say=stay_silent)
    assert subject.asked[-1] == ("a", range(1), 10, (0, 3))
    assert found.best_explanation.evaluations == ((0, 1.0, None), (3, 1.0, None))
    subject = Recorder({"a": 0.5})
    facts = [remedy("learning-rate-low", "a", evidence=FACT)]
    found = try_remedies(subject, profile(course), facts, say=stay_silent)
    assert found.best_explanation.evaluations == () and subject.asked[-1][3] == ()


def test_where_nothing_helps_the_subject_tries_otherwise():
    subject = Recorder({"a": 2.1})
    found = try_remedies(subject, profile(), [remedy("optimizer", "a")], say=stay_silent)
    assert found.best_explanation is None and found.learner.informative is False


def finding(cause, *changes, confidence="high"):
    return Finding(
        code="T", title="", severity="error", confidence=confidence, cause=cause, changes=changes
    )


def test_of_cures_the_first_that_helps_is_recommended():
    subject = Recorder({"a": 2.001, "b": CannotTryError("it has none"), "c": 1.0})
    subject.known_cures = tuple((Made(name),) for name in "abc")
    found, _ = try_cures(subject, profile(), finding("dead-units", Change("init", "new")))
    assert found.trial.verdict == "helped" and found.changes == (Change("c", 1),)
    own = [seeds for name, seeds, _, _ in subject.asked if name == "" and len(seeds)]
    assert own == [range(1, 5)]  # once for all


@pytest.mark.parametrize(
    ("cures", "changes", "verdict", "why", "left"),
    [
        ((), (), "not tried", "nothing to change was found", ()),
        (
            (),
            (Change("model", "a mask"),),
            "not tried",
            "this change is made by hand",
            (Change("model", "a mask"),),
        ),
        (("b",), (Change("lr", 1),), "not tried", "it has none", (Change("lr", 1),)),
        (
            ("a",),
            (Change("lr", 1), Change("model", "by hand")),
            "no effect",
            "medians of the loss; the same in all 5 seeds",
            (Change("model", "by hand"),),
        ),
        (
            ("same",),
            (Change("lr", 1),),
            "not tried",
            "the change did not act: every run is the same to the last bit",
            (),
        ),
    ],
)
def test_what_does_not_help_is_not_recommended_and_what_was_not_tried_says_why(
    cures, changes, verdict, why, left
):
    subject = Recorder({"a": 2.001, "same": 2.0, "b": CannotTryError("it has none")})
    subject.known_cures = tuple((Made(name),) for name in cures)
    found, _ = try_cures(subject, profile(), finding("causality", *changes))
    assert (found.trial.verdict, found.trial.why, found.changes) == (verdict, why, left)


def test_an_exact_finding_keeps_its_advice_whatever_a_trial_shows():
    subject = Recorder({"a": 9.0})
    subject.known_cures = ((Made("a"),),)
    advice = Change("loss", "outputs without a softmax")
    found, _ = try_cures(subject, profile(), finding("dead-units", advice, confidence="exact"))
    assert found.trial.verdict == "worse" and found.changes == (advice,)


def test_a_subject_that_breaks_unchanged_is_no_cure_that_cannot_be_tried():
    subject = Recorder({"": CannotTryError("it breaks"), "a": 1.0})
    subject.known_cures = ((Made("a"),),)
    with pytest.raises(CannotTryError, match="it breaks"):
        try_cures(subject, profile(), finding("dead-units"))[0]


def test_a_loss_in_doubt_without_a_score_is_not_compared():
    subject = Recorder({"a": 0.1})
    subject.known_cures = ((Made("a"),),)
    found, _ = try_cures(subject, profile(), finding("loss"))
    assert (found.trial.verdict, found.trial.why) == ("not tried", "there is no score to compare")


def test_stopping_early_is_weighed_within_the_same_runs():
    subject = Recorder({"": 3.0})
    trial = try_stopping_at(subject, 4)
    assert subject.asked == [("", range(5), None, (4,))]
    assert trial.verdict == "helped" and (trial.before, trial.after) == (pytest.approx(3.02), 1.0)


# On a torch program


X = torch.randn(28, 4, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(28, 4, generator=torch.Generator().manual_seed(5))


def program(*tail, lr, optimizer=torch.optim.Adam):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), *tail)
    return read_program(
        model,
        F.cross_entropy,
        (X, (X[:, 0] > 0).long()),
        validation=(OTHERS, (OTHERS[:, 0] > 0).long()),
        optimizer=lambda p: optimizer(p, lr=lr),
        batch_size=7,
        epochs=10,
    )


def test_a_remedy_is_confirmed_on_seeds_in_pairs():
    subject = TorchSubject(program(lr=1e-5))
    seen = subject.profile(trials=True, say=stay_silent)
    rates = Remedy("learning-rate-low", subject.strengths("learning-rate-low"), ordered=True)
    found = try_remedies(subject, seen, [rates], say=stay_silent)
    (blamed,) = found.outcomes
    assert blamed.trial.verdict == "helped" and blamed.trial.seeds == 5
    assert blamed.trial.after < blamed.trial.before
    factor = float(blamed.changes[0].value[1:])
    errors = []
    for changed in (subject.program, scale_learning_rate(factor).apply(subject.program)):
        runs = [train_program(changed, seed=seed) for seed in range(5)]
        errors.append(float(np.median([1 - run.last.score for run in runs])))
    assert [blamed.trial.before, blamed.trial.after] == pytest.approx(errors)


def test_a_certain_fault_s_cure_is_tried_and_what_does_not_help_is_not_recommended():
    subject = TorchSubject(program(nn.Softmax(1), lr=0.5, optimizer=torch.optim.SGD))
    seen = subject.profile(trials=True, say=stay_silent)
    cured, _ = try_cures(subject, seen, finding("output-activation", Change("output", "linear")))
    assert cured.trial.verdict == "helped" and cured.changes == (Change("output", "linear"),)
    by_hand = Change("model", "by hand")
    idle, _ = try_cures(
        subject, seen, finding("normalization", Change("normalization", "usual"), by_hand)
    )
    assert idle.trial.verdict == "not tried" and idle.changes == (by_hand,)
    assert "did not act" in idle.trial.why
    mask, _ = try_cures(subject, seen, finding("causality", Change("model", "a mask")))
    assert mask.trial.verdict == "not tried"


def test_of_equal_scores_the_lower_loss_is_the_better():
    first = replace(outcome("too-few-steps", 0.4), scores=(0.6,))
    seen = replace(results(outcomes=(first,), score=0.4), constant_loss=2.0)
    before = [SeedRun(0.75, score) for score in (0.4, 0.4, 0.37, 0.6, 0.3)]
    after = [SeedRun(0.4, 0.6)] * 5
    assert confirm(seen, first, before, after).trial.verdict == "helped"
    higher = [*after[:3], SeedRun(0.8, 0.6), after[4]]
    assert confirm(seen, first, before, higher).trial.verdict == "no effect"
    in_doubt = confirm(seen, first, before, after, loss_in_doubt=True)
    assert in_doubt.trial.verdict == "no effect"
