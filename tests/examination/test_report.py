"""The order of causes and symptoms, and what an examination tries: of findings made by hand."""

import contextlib
import copy
import math
from dataclasses import replace

import pytest

from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.trials.trial_results import Outcome, TrialResults, WholeRun
from ravine.examination.report import (
    examine_subject,
    excuse_unlearnable,
    explain_symptoms,
    is_certain,
    is_symptom,
    join_trials,
    lead_findings,
    merge_certain_findings,
    stop_early,
)
from ravine.examination.subject import Facts, SeedRun, SubjectProfile, TrialBudget
from ravine.finding import Change, Checks, Evidence, Finding, Trial

HELPED, USELESS = Trial(verdict="helped", seeds=5), Trial(verdict="no effect", seeds=5)


def finding(code, cause, **fields):
    plain = {"title": "", "severity": "warning", "confidence": "high"}
    return Finding(code=code, cause=cause, **plain | fields)


def outcome(cause, trial=None, loss=0.1):
    return Outcome(
        cause=cause,
        changes=(Change("optimizer.lr", 0.5),),
        losses=(loss,),
        scores=(0.9,),
        trial=trial,
    )


def results(*outcomes):
    return TrialResults(base=outcome("healthy", loss=1.0), outcomes=outcomes, constant_loss=1.0)


def put_together(found, causes, seen):
    return explain_symptoms(*join_trials(found, causes, seen))


@pytest.mark.parametrize(
    ("code", "symptom"),
    [
        ("RVN-T02", True),
        ("RVN-C03", True),
        ("RVN-S03", True),
        ("RVN-N01", True),
        ("RVN-I13", True),
        ("RVN-I16", True),
        ("RVN-I01", False),
        ("RVN-S02", False),
        ("RVN-X01", False),
        ("RVN-D08", False),
    ],
)
def test_a_symptom_says_that_and_not_why_something_goes_wrong(code, symptom):
    assert is_symptom(finding(code, "labels")) is symptom


@pytest.mark.parametrize(
    ("code", "severity", "confidence", "certain"),
    [
        ("RVN-I01", "error", "exact", True),
        ("RVN-I01", "error", "high", True),
        ("RVN-I01", "error", "medium", False),
        ("RVN-I01", "warning", "exact", False),
        ("RVN-N01", "error", "exact", False),
    ],
)
def test_a_cause_is_certain_as_an_exact_error_that_is_no_symptom(
    code, severity, confidence, certain
):
    found = finding(code, "labels", severity=severity, confidence=confidence)
    assert is_certain(found) is certain


# What is certain


def test_a_fault_that_was_seen_twice_is_an_error_once_if_its_place_is_known():
    exact = {"severity": "error", "confidence": "exact"}
    first = finding("RVN-I01", "shape-pairing", where="head", **exact)
    again = finding("RVN-H07", "shape-pairing", where="", since=5, **exact)
    leads = lead_findings([again, first])
    assert list(leads) == ["shape-pairing"]
    cured = {"shape-pairing": finding("RVN-I01", "shape-pairing", where="head", trial=HELPED)}
    told = merge_certain_findings([again, first], cured)
    assert [(f.code, f.severity) for f in told] == [("RVN-H07", "note"), ("RVN-I01", "warning")]
    assert told[0].trial == HELPED
    nowhere = {"shape-pairing": finding("RVN-I01", "shape-pairing", **exact)}
    assert [f.severity for f in merge_certain_findings([again, first], nowhere)] == [
        "error",
        "error",
    ]


def test_symptoms_are_notes_beside_what_is_certain():
    exact = {"severity": "error", "confidence": "exact"}
    cause = finding("RVN-I07", "initialization", **exact)
    symptom = finding("RVN-T02", "labels", **exact)
    told = merge_certain_findings([symptom, cause], {"initialization": cause})
    assert [(f.code, f.severity, f.explains) for f in told] == [
        ("RVN-T02", "note", ()),
        ("RVN-I07", "error", ("RVN-T02",)),
    ]


# Trials and findings


def test_what_did_not_help_is_not_recommended_and_its_trial_stays():
    asked = finding("RVN-I19", "dropout", changes=(Change("network.dropout", None),))
    (told,) = put_together([asked], [], results(outcome("dropout", USELESS)))
    assert told.changes == () and told.trial.verdict == "no effect"


def test_an_exact_finding_stays_recommended():
    sure = finding("RVN-I19", "dropout", confidence="exact", changes=(Change("dropout", 0.1),))
    (told,) = put_together([sure], [], results(outcome("dropout", USELESS)))
    assert told.changes == sure.changes and told.trial == USELESS


def test_what_is_made_by_hand_stays_recommended():
    by_hand = finding("RVN-D08", "leakage", changes=(Change("data", "without x"),))
    (told,) = put_together([by_hand], [], results(outcome("dropout", USELESS)))
    assert told == by_hand
    (told,) = put_together([by_hand], [], results(outcome("leakage", USELESS)))
    assert told.changes == by_hand.changes and told.trial == USELESS


def test_a_cause_is_told_once_and_what_it_explains_is_noted():
    seen = results(outcome("learning-rate-low", HELPED))
    known = finding("RVN-L01", "learning-rate-low", evidence=(Evidence("rate", 1e-6),))
    symptom = finding("RVN-T02", "labels", severity="error")
    blamed = finding(
        "RVN-X02", "learning-rate-low", severity="error", evidence=(Evidence("missed", 90.0),)
    )
    told = put_together([known, symptom], [blamed], seen)
    assert [(f.code, f.severity) for f in told] == [("RVN-L01", "error"), ("RVN-T02", "note")]
    assert told[0].explains == ("RVN-T02",) and told[0].changes == (Change("optimizer.lr", 0.5),)
    assert [e.name for e in told[0].evidence] == ["rate", "missed"]
    alone = put_together([symptom], [blamed], seen)
    assert [(f.code, f.explains) for f in alone] == [("RVN-T02", ()), ("RVN-X02", ("RVN-T02",))]


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"where": "hidden"}, True),
        ({"where": ""}, True),
        ({"where": "output"}, False),
        ({"severity": "note"}, False),
        ({"code": "RVN-I13"}, False),  # a symptom
    ],
)
def test_a_check_has_found_what_a_trial_names_at_no_other_place(fields, same):
    given = {"code": "RVN-L01"} | fields
    known = finding(given.pop("code"), "initialization", **given)
    blamed = finding("RVN-X10", "initialization", where="hidden", evidence=(Evidence("x", 1.0),))
    seen = results(outcome("initialization", HELPED))
    told, rest = join_trials([known], [blamed], seen)
    assert (rest == []) is same and len(told) == 1


def test_a_trial_that_a_finding_already_has_stays():
    own = finding("RVN-X20", "overfitting", trial=USELESS, changes=(Change("steps", 3),))
    told, _ = join_trials([own], [], results(outcome("overfitting", HELPED)))
    assert told == [own]


def test_without_a_cause_symptoms_stay_what_they_are():
    symptom, note = finding("RVN-T02", "labels"), finding("RVN-X02", "optimizer", severity="note")
    assert explain_symptoms([symptom], [note]) == [symptom, note]


def test_a_code_is_explained_once():
    symptom = finding("RVN-C03", "labels")
    cause = finding("RVN-X51", "architecture-too-small", explains=("RVN-C03",))
    assert explain_symptoms([symptom, symptom], [cause])[-1].explains == ("RVN-C03",)


def test_that_nothing_was_learned_is_excused_where_there_is_nothing_to_learn():
    class Reference:
        informative: bool | None = False

    found = [
        finding("RVN-T02", "labels"),
        finding("RVN-T05", "labels"),
        finding("RVN-T15", "labels"),
    ]
    data = DataProfile(rows=10, shape=(2,), layout="", kind="classes", baseline=Reference())
    assert [f.severity for f in excuse_unlearnable(found, data)] == ["note", "warning", "note"]
    assert excuse_unlearnable(found, None) == found
    Reference.informative = None
    assert excuse_unlearnable(found, data) == found


def test_overfitting_leaves_out_what_helps_because_it_stops_earlier():
    late = finding("RVN-X20", "overfitting", changes=(Change("steps", 40),))
    others = [finding("RVN-X01", "learning-rate-high"), finding("RVN-X13", "dropout")]
    told = stop_early([late, *others], HELPED)
    assert [f.cause for f in told] == ["overfitting", "dropout"]
    assert told[0].changes == late.changes and told[0].trial == HELPED
    assert stop_early([late], USELESS)[0].changes == ()


# A subject that is made up


class Recorder:
    """A subject with one remedy that helps; it notes what it runs, and how many threads it has."""

    name, score = "runs/one", None
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
    assert said == ["trying 1 changes: 10 steps, 1 seeds", "confirming dropout: 5 seeds"]


def test_where_a_cause_is_certain_only_what_cures_it_is_tried():
    sure = finding("RVN-I07", "initialization", severity="error", confidence="exact")
    subject = Recorder(sure)
    report = examine_subject(subject, trials=True)
    assert subject.asked == [("init",), ()]
    (told,) = report.findings
    assert told.trial.verdict == "helped" and told.changes == (Change("init", "default"),)
    assert "RVN-X13" in report.checks.not_measured


@pytest.mark.parametrize(
    ("trials", "score", "why"),
    [(False, 0.0, "no trials were asked for"), (True, 0.97, "nothing is left to gain")],
)
def test_nothing_is_tried_where_nothing_is_wanted_or_left_to_gain(trials, score, why):
    changes = (Change("dropout", 0),)
    subject = Recorder(finding("RVN-I19", "dropout", changes=changes), own_score=score)
    report = examine_subject(subject, trials=trials)
    assert subject.asked == [] and "RVN-X13" in report.checks.not_measured
    (told,) = report.findings
    assert told.trial.verdict == "not tried" and told.changes == changes
    assert told.trial.why.startswith(why)


def test_a_score_a_little_lower_leaves_something_to_gain():
    subject = Recorder(own_score=0.96)
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
