"""The order of causes and symptoms, and what an examination tries: of findings made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ravine.diagnosis.data.measure import measure_numbers
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.trials.trial_results import LearnerComparison, Outcome, TrialResults
from ravine.examination.report import (
    add_screening,
    excuse_unlearnable,
    explain_symptoms,
    fold_repeats,
    is_certain,
    is_symptom,
    join_trials,
    lead_findings,
    merge_certain_findings,
    stop_early,
)
from ravine.examination.subject import TrialBudget
from ravine.finding import Change, Evidence, Finding, Trial

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


def test_a_symptom_is_blamed_on_what_was_not_tried_in_vain():
    budget = TrialBudget(screening_seeds=1, screening_steps=100, seeds=5, steps=100)
    dead = finding("RVN-S03", "learning-rate-high", suspects=("dead-units",))
    told = add_screening(dead, [outcome("learning-rate-high")], budget)
    assert (told.cause, told.suspects) == ("dead-units", ("learning-rate-high",))
    assert told.trial.verdict == "no effect"
    both = [outcome("learning-rate-high"), outcome("dead-units")]
    assert add_screening(dead, both, budget).cause == "learning-rate-high"
    assert add_screening(dead, [outcome("optimizer")], budget).cause == "learning-rate-high"
    sure = finding("RVN-D03", "input-scale", suspects=("data-degenerate",))
    assert add_screening(sure, [outcome("input-scale")], budget).cause == "input-scale"


def test_an_exact_finding_stays_recommended():
    sure = finding("RVN-I19", "dropout", confidence="exact", changes=(Change("dropout", 0.1),))
    (told,) = put_together([sure], [], results(outcome("dropout", USELESS)))
    assert told.changes == sure.changes and told.trial == USELESS


def test_an_exact_finding_whose_cure_helped_is_an_error():
    sure = finding("RVN-H01", "output-activation", confidence="exact")
    seen = results(outcome("output-activation", HELPED))
    (told,) = put_together([sure], [], seen)
    assert (told.severity, told.trial) == ("error", HELPED)
    (told,) = put_together([sure], [], results(outcome("output-activation", USELESS)))
    assert told.severity == "warning"
    (guess,) = put_together([finding("RVN-H01", "output-activation")], [], seen)
    assert guess.severity == "warning"


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


@pytest.mark.parametrize(
    ("base", "after", "least", "learner", "evidence", "severity"),
    [
        (0.6, 0.75, 0.1, 0.75, True, "warning"),
        (0.6, 0.75, 0.1, 0.6, True, "warning"),
        (0.2, 0.7, 0.3, 0.74, True, "warning"),
        (0.6, 0.75, 0.09, 0.75, True, "note"),  # it may gain less than a tenth
        (0.6, 0.75, 0.1, 0.9, True, "note"),  # a quick learner does far better: more is wrong
        (0.6, 0.75, 0.1, 0.75, False, "note"),
        (0.05, 0.0, -0.1, 0.0, True, "note"),
    ],
)
def test_a_note_is_a_warning_where_its_remedy_is_proved(
    base, after, least, learner, evidence, severity
):
    trial = replace(HELPED, interval=(-0.5, -least))
    seen = (Evidence("dropout rate", 0.8, limit=0.4),) if evidence else ()
    own = replace(outcome("healthy", loss=0.5), scores=(base,))
    new = replace(
        outcome("dropout", trial, loss=0.4),
        scores=(after,),
        evidence=seen,
        suspects=("over-regularized",),
    )
    measured = TrialResults(
        base=own, outcomes=(new,), constant_loss=1.0, learner=LearnerComparison(score=learner)
    )
    (told,), _ = join_trials([finding("RVN-I19", "dropout", severity="note")], [], measured)
    assert told.severity == severity
    assert told.suspects == (("over-regularized",) if severity == "warning" else ())


def test_a_trial_confirms_the_check_that_explains_the_others():
    late = finding("RVN-H08", "output-activation", where="3")
    early = finding("RVN-I10", "output-activation", where="3", explains=("RVN-H08",))
    blamed = finding("RVN-X08", "output-activation", severity="error", evidence=(Evidence("x", 1),))
    told, rest = join_trials([late, early], [blamed], results(outcome("output-activation")))
    assert rest == [] and [f.severity for f in told] == ["warning", "error"]


LINEAR = (Change("output", "linear"),)


def test_one_fault_that_two_checks_find_is_one_alarm_with_the_place_of_one():
    first = finding("RVN-I02", "shape-pairing", changes=LINEAR)
    second = finding("RVN-H06", "shape-pairing", where="2", since=0, changes=LINEAR)
    worse = finding("RVN-H07", "shape-pairing", severity="error", changes=LINEAR)
    told = fold_repeats([first, second, worse])
    assert [f.severity for f in told] == ["error", "note", "note"]
    assert told[0].where == "2" and told[0].since is None
    assert told[0].explains == ("RVN-H06", "RVN-H07")


@pytest.mark.parametrize(
    "other",
    [
        {"where": "4"},
        {"changes": (Change("output", "sigmoid"),)},
        {"changes": ()},
        {"cause": "loss"},
        {"severity": "note"},
        {"code": "RVN-T02"},  # a symptom
    ],
)
def test_what_is_another_fault_stays_beside_the_first(other):
    first = finding("RVN-I10", "output-activation", where="3", changes=LINEAR)
    plain = {"code": "RVN-H08", "cause": "output-activation", "where": "3", "changes": LINEAR}
    second = finding(**(plain | other))
    assert fold_repeats([first, second]) == [first, second]


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
    same = replace(data, targets=measure_numbers(np.full((10, 1), 0.5)))
    assert [f.severity for f in excuse_unlearnable(found, same)] == ["note", "warning", "note"]
    varied = replace(data, targets=measure_numbers(np.arange(10.0)[:, None]))
    assert excuse_unlearnable(found, varied) == found


def test_overfitting_leaves_out_what_helps_because_it_stops_earlier():
    late = finding("RVN-X20", "overfitting", changes=(Change("steps", 40),))
    others = [finding("RVN-X01", "learning-rate-high"), finding("RVN-X13", "dropout")]
    told = stop_early([late, *others], HELPED)
    assert [f.cause for f in told] == ["overfitting", "dropout"]
    assert told[0].changes == late.changes and told[0].trial == HELPED
    assert stop_early([late], USELESS)[0].changes == ()
