"""What an examination tries, round by round: on subjects that are made up."""

import contextlib
import copy
import math
from dataclasses import replace

import pytest

from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.trials.trial_results import Outcome, TrialResults, WholeRun
from ravine.examination.rounds import examine_subject
from ravine.examination.subject import Facts, SeedRun, SubjectProfile, TrialBudget
from ravine.finding import Change, Checks, Evidence, Finding


def finding(code, cause, **fields):
    plain = {"title": "", "severity": "warning", "confidence": "high"}
    return Finding(code=code, cause=cause, **plain | fields)


# A subject that is made up


class Recorder:
    """A subject with one remedy that helps; it notes what it runs, and how many threads it has."""

    name, score, has_budget = "runs/one", None, True
    budget = TrialBudget(screening_seeds=1, screening_steps=10, seeds=5, steps=10)

    def __init__(self, *findings, own_score=0.0, own_loss=1.0, whole=()):
        self.found, self.asked, self.limited = list(findings), [], False
        self.own, self.whole, self.made = SeedRun(own_loss, own_score), whole, ()

    @contextlib.contextmanager
    def limit_threads(self):
        self.limited = True
        yield
        self.limited = False

    def profile(self, *, trials, say):
        assert self.limited
        base = Outcome(cause="healthy", losses=(self.own.loss,), scores=(self.own.score,))
        seen = TrialResults(
            base=base,
            constant_loss=1.0,
            start_loss=1.0,
            steps=10,
            whole_run=WholeRun(evaluations=self.whole),
        )
        return SubjectProfile(
            findings=self.found,
            checks=Checks(passed=("RVN-D01",)),
            start=StartProfile(),
            runs=(self.own,),
            results=seen if trials else None,
        )

    def strengths(self, cause):
        return ((Made(Change("dropout", 0)),),) if cause == "dropout" else ()

    def cures(self, finding):
        return ((Made(Change("init", "default")),),)

    def treatments_for(self, changes):
        return ()

    def join(self, strengths):
        return tuple(made for strength in strengths for made in strength)

    def with_treatments(self, strength, *, loss_in_doubt):
        changed = copy.copy(self)
        changed.own = SeedRun(self.loss_with(strength), None)
        changed.made, changed.found = (*self.made, *strength), []
        return changed

    def loss_with(self, strength):
        return 0.1 if (*self.made, *strength) else self.own.loss

    def facts(self, cause, profile):
        return Facts((Evidence("dropout rate", 0.9),), "hidden") if cause == "dropout" else None

    def run(self, strengths, *, seeds, steps, evaluate_at=(), loss_in_doubt=False):
        assert self.limited
        self.asked += [tuple(made.change.path for made in strength) for strength in strengths]
        return [
            [SeedRun(self.loss_with(strength) + s / 1000, None) for s in seeds]
            for strength in strengths
        ]

    def try_unmeasured_remedies(self, results):
        return results


class Made:
    def __init__(self, change):
        self.change = change


def test_remedies_are_tried_and_what_helps_names_the_cause():
    subject = Recorder(finding("RVN-T02", "labels", severity="error"))
    said = []
    report = examine_subject(subject, trials=True, say=said.append)
    first, symptom = report.findings
    assert (first.code, first.cause, first.where) == ("RVN-X13", "dropout", "hidden")
    assert first.trial.verdict == "helped" and first.explains == ("RVN-T02",)
    assert (symptom.code, symptom.severity) == ("RVN-T02", "note")
    assert report.run == "runs/one" and not subject.limited
    assert "RVN-D01" in report.checks.passed and "RVN-X01" in report.checks.passed
    assert said == [
        "trying 1 changes: 10 steps, 1 seeds",
        "confirming dropout: 5 seeds",
        "examining it with what helped",
    ]


def test_where_a_cause_is_certain_it_is_cured_before_anything_else_is_tried():
    sure = finding("RVN-I07", "initialization", severity="error", confidence="exact")
    subject = Recorder(sure)
    report = examine_subject(subject, trials=True)
    assert subject.asked == [("init",), (), ("dropout",)]  # the last in a second round
    (told,) = report.findings
    assert told.trial.verdict == "helped" and told.changes == (Change("init", "default"),)
    assert "RVN-X13" in report.checks.not_measured
    assert report.left_out == ("other remedies: another cause is certain: mend that first",)


@pytest.mark.parametrize(
    ("trials", "score", "why"),
    [(False, 0.0, "no trials were asked for"), (True, 0.97, "nothing is left to gain")],
)
def test_nothing_is_tried_where_nothing_is_wanted_or_left_to_gain(trials, score, why):
    changes = (Change("dropout", 0),)
    found = finding("RVN-I19", "dropout", changes=changes)
    subject = Recorder(found, own_score=score, own_loss=0.1)
    report = examine_subject(subject, trials=trials)
    assert subject.asked == [] and "RVN-X13" in report.checks.not_measured
    (told,) = report.findings
    assert told.trial.verdict == "not tried" and told.changes == changes
    assert told.trial.why.startswith(why)
    assert [why in text for text in report.left_out] == [True] * trials


@pytest.mark.parametrize(("score", "loss"), [(0.96, 0.1), (0.97, 1.0)])
def test_a_lower_score_or_a_high_loss_leaves_something_to_gain(score, loss):
    subject = Recorder(own_score=score, own_loss=loss)
    examine_subject(subject, trials=True)
    assert subject.asked


def test_a_change_by_hand_says_that_it_is():
    by_hand = finding("RVN-D08", "leakage", changes=(Change("data", "without x"),))
    (told,) = examine_subject(Recorder(by_hand), trials=False).findings
    assert (told.trial.verdict, told.trial.why) == ("not tried", "this change is made by hand")
    assert told.changes == by_hand.changes


def test_a_run_that_diverged_is_examined_too():
    subject = Recorder(own_loss=math.nan)
    (told,) = examine_subject(subject, trials=True).findings
    assert told.cause == "dropout" and told.trial.verdict == "helped"


class OneAnswer(Recorder):
    """A subject whose answers are all alike; balanced classes tell some of them apart."""

    gained = 0.2

    def profile(self, *, trials, say):
        known = super().profile(trials=trials, say=say)
        return replace(known, runs=tuple(SeedRun(1.0, self.own.score, recall=0.5) for _ in "12345"))

    def strengths(self, cause):
        return ((Made(Change("class_weights", "balanced")),),) if cause == "imbalance" else ()

    def treatments_for(self, changes):
        return (Made(changes[0]),) if changes else ()

    def facts(self, cause, profile):
        return None

    def run(self, strengths, *, seeds, steps, evaluate_at=(), loss_in_doubt=False):
        self.asked += [tuple(made.change.path for made in strength) for strength in strengths]
        recall = 0.5 + self.gained
        return [[SeedRun(1.2, 0.0, recall=recall + s / 1000) for s in seeds] for _ in strengths]


@pytest.mark.parametrize("score", [0.0, 0.98])  # ranks badly, or so well that nothing is left
@pytest.mark.parametrize(("gained", "verdict"), [(0.2, "helped"), (0.0, "no effect")])
def test_one_answer_for_all_is_tried_by_its_answers(score, gained, verdict):
    asked = (Change("class_weights", "balanced"),)
    found = finding("RVN-T15", "imbalance", confidence="exact", changes=asked)
    subject = OneAnswer(found, own_score=score)
    subject.gained = gained
    (told,) = examine_subject(subject, trials=True).findings
    assert (told.trial.verdict, told.trial.before) == (verdict, 0.5)
    assert told.trial.after == pytest.approx(0.5 - gained - 0.002)
    assert told.changes == (asked if verdict == "helped" else ())


def test_a_symptom_for_which_all_was_tried_in_vain_says_so():
    symptom = finding("RVN-T02", "labels")
    imbalanced = finding("RVN-D12", "imbalance", changes=(Change("class_weights", "balanced"),))
    told = {
        f.code: f for f in examine_subject(OneAnswer(symptom, imbalanced), trials=True).findings
    }
    for code in ("RVN-T02", "RVN-D12"):
        assert told[code].trial.verdict == "no effect" and told[code].changes == ()
        assert told[code].trial.why.endswith("by changes against imbalance")


class Layered(Recorder):
    """A subject whose loss falls with each cure; a fault shows once those before it are cured."""

    def __init__(self, losses, findings, **more):
        super().__init__(own_loss=losses[()], **more)
        self.losses, self.by_made = losses, findings
        self.found = list(findings.get((), ()))

    def with_treatments(self, strength, *, loss_in_doubt):
        changed = super().with_treatments(strength, loss_in_doubt=loss_in_doubt)
        changed.found = list(self.by_made.get(paths(changed.made), ()))
        return changed

    def loss_with(self, strength):
        return self.losses.get(paths((*self.made, *strength)), 9.6)

    def cures(self, finding):
        return ((Made(Change(finding.where, 0)),),)

    def strengths(self, cause):
        return ()


def paths(made):
    return tuple(sorted({each.change.path for each in made}))


def certain(code, cause, where):
    return finding(code, cause, where=where, severity="error", confidence="exact")


OUTPUT = certain("RVN-I10", "output-activation", "output")
START = certain("RVN-I07", "initialization", "init")


def test_one_cure_uncovers_the_next_fault_and_both_are_advised():
    losses = {(): 9.6, ("output",): 2.0, ("init", "output"): 0.1}
    subject = Layered(losses, {(): [OUTPUT], ("output",): [START]})
    told = examine_subject(subject, trials=True).findings
    assert [f.cause for f in told] == ["output-activation", "initialization"]
    for each in told:
        assert {c.path for c in each.changes} == {"output", "init"}
        assert each.trial.verdict == "helped" and each.trial.after == pytest.approx(0.102)


def test_nothing_more_is_asked_where_the_first_cure_is_whole():
    subject = Layered({(): 9.6, ("output",): 0.1}, {(): [OUTPUT], ("output",): [START]})
    (told,) = examine_subject(subject, trials=True).findings
    assert told.cause == "output-activation" and "more is wrong" not in told.trial.why


def test_a_cure_that_leaves_the_run_above_the_constant_says_so():
    (told,) = examine_subject(
        Layered({(): 9.6, ("output",): 2.0}, {(): [OUTPUT]}), trials=True
    ).findings
    assert told.trial.verdict == "helped"
    assert told.trial.why.endswith("no better than the best constant answer: more is wrong")


def test_there_are_four_rounds_at_most():
    names = ["a", "b", "c", "d", "e", "f"]
    causes = ["dropout", "initialization", "normalization", "shuffling", "imbalance", "split"]
    found, losses = {}, {}
    for count in range(len(names) + 1):
        losses[tuple(names[:count])] = 9.6 - count
        if count < len(names):
            place = names[count]
            found[tuple(names[:count])] = [certain(f"RVN-I0{count}", causes[count], place)]
    told = examine_subject(Layered(losses, found), trials=True).findings
    assert [f.cause for f in told] == causes[:4]


def test_rounds_end_with_the_budget():
    losses = {(): 9.6, ("output",): 2.0, ("init", "output"): 0.1}
    subject = Layered(losses, {(): [OUTPUT], ("output",): [START]})
    subject.has_budget = False
    (told,) = examine_subject(subject, trials=True).findings
    assert told.cause == "output-activation" and told.trial.why.endswith("more is wrong")


def test_facts_of_the_first_round_stay_beside_what_several_cures_show():
    scale = finding("RVN-D05", "initialization", severity="note", confidence="low")
    losses = {(): 9.6, ("output",): 2.0, ("init", "output"): 0.1}
    subject = Layered(losses, {(): [OUTPUT, scale], ("output",): [START, OUTPUT]})
    told = examine_subject(subject, trials=True).findings
    assert sorted(f.code for f in told) == ["RVN-D05", "RVN-I07", "RVN-I10"]
