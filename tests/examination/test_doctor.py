"""The doctor on recipes and runs that are sick on purpose, and on healthy ones."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

import ravine
from ravine import catalog
from ravine.data import Encoding
from ravine.diagnosis.trials.rules import Outcome, Tried
from ravine.errors import InputError
from ravine.examination.recipe_subject import judge_of
from ravine.examination.remedies import applied, remedies, useful
from ravine.examination.report import doctor, fixed, patient_of, treated
from ravine.examination.trials import bench_of, confirmed, cut, shortened
from ravine.finding import Change, Evidence, Finding, Report, Trial
from ravine.networks.activations import Tanh
from ravine.networks.initializers import Normal, Zero
from ravine.networks.layer_parts import Dropout
from ravine.optimizers import Adam, Lookahead, Momentum
from ravine.penalties import L2
from ravine.training.defaults import prepare, training_plan
from ravine.training.train import train


def plain(source="iris", **changes):
    recipe = catalog.plain().vary("data.source", source)
    for path, value in changes.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    return recipe


def first(recipe, **options):
    report = doctor(recipe, **options)
    assert report.checks.failed == ()
    return report.findings[0], report


SICK = {
    "learning-rate-low": plain(optimizer=Momentum(lr=1e-6)),
    "learning-rate-high": plain("digits", optimizer=Momentum(lr=1.0)),
    "too-few-steps": plain("digits", epochs=1, batch=128, optimizer=Momentum(lr=0.01)),
    "dropout": plain("wine", network__dropout=Dropout(rate=0.98)),
    "initialization": plain(network__initializer=Zero()),
    "over-regularized": plain("wine", penalties=(L2(strength=3.0),), optimizer=Momentum(lr=0.02)),
    "architecture-too-small": plain("digits", network__hidden=(1,)),
}


SLOW = ("too-few-steps", "over-regularized", "architecture-too-small", "initialization")


@pytest.mark.parametrize(
    "cause", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in SICK]
)
def test_the_planted_cause_comes_first_with_a_remedy_that_helped(cause):
    found, report = first(SICK[cause])
    assert found.cause == cause and found.severity in ("error", "warning")
    assert (
        found.trial.verdict == "helped" and found.trial.seeds == 5 and found.trial.interval[1] < 0
    )
    mended = fixed(SICK[cause], report)
    assert mended != SICK[cause] and mended.data == SICK[cause].data


@pytest.mark.parametrize(
    "source",
    [
        "iris",
        "diabetes",
        *(
            pytest.param(s, marks=pytest.mark.slow)
            for s in ("wine", "moons", "friedman1", "breast_cancer", "penguins")
        ),
    ],
)
def test_healthy_recipes_get_no_warning_and_no_remedy(source):
    report = doctor(plain(source))
    assert [f.code for f in report.findings if f.severity != "note"] == []
    assert fixed(plain(source), report) == plain(source)


def test_a_run_is_examined_from_its_folder_and_from_what_train_returned(tmp_path):
    sick = plain("wine", network__dropout=Dropout(rate=0.98), seeds=5)
    run = train(sick, out=tmp_path / "run")
    report = doctor(tmp_path / "run")
    assert report.run == str(tmp_path / "run") and report.score == run.score
    assert report.findings[0].cause == "dropout"
    assert doctor(run, trials=False).to_json() == doctor(tmp_path / "run", trials=False).to_json()
    assert Report.from_json(json.loads(json.dumps(report.to_json()))).to_json() == report.to_json()
    assert ravine.doctor is doctor


def test_a_run_that_diverged_is_examined_too(tmp_path):
    train(plain("digits", optimizer=Momentum(lr=1e12), seeds=2), out=tmp_path / "run")
    found, _ = first(tmp_path / "run")
    assert found.cause == "learning-rate-high" and found.trial.verdict == "helped"


def test_what_is_no_run_and_data_that_changed_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a run"):
        doctor(tmp_path)
    frame = pd.DataFrame({"x": np.arange(60) % 11 / 3, "y": np.arange(60) % 7 / 2})
    frame.to_csv(tmp_path / "t.csv", index=False)
    train(plain(str(tmp_path / "t.csv"), data__target=("y",)), out=tmp_path / "run")
    frame.assign(x=1 - frame.x).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="have changed"):
        patient_of(tmp_path / "run")


def test_a_run_trained_from_a_frame_is_examined_with_it():
    x = np.random.default_rng(0).normal(size=200)
    frame = pd.DataFrame({"x": x, "y": x * 3 + 1})
    recipe = plain("", data__target=("y",), optimizer=Momentum(lr=1e-6))
    found, _ = first(train(recipe, frame), frame=frame)
    assert found.cause == "learning-rate-low"


def test_without_trials_nothing_is_trained(monkeypatch):
    monkeypatch.setattr("ravine.examination.report.bench_of", None)
    report = doctor(plain(network__initializer=Zero()), trials=False)
    assert report.findings[0].code == "RVN-C10" and report.findings[0].trial is None


# Trials and findings


def outcome(cause, verdict, loss=0.1):
    changes = (Change("optimizer.lr", 0.5),)
    return Outcome(
        cause=cause,
        changes=changes,
        losses=(loss,),
        scores=(0.9,),
        trial=Trial(verdict=verdict, seeds=5),
    )


def finding(code, cause, **fields):
    return Finding(
        **{
            "code": code,
            "title": "",
            "severity": "warning",
            "confidence": "high",
            "cause": cause,
            **fields,
        }
    )


def test_what_did_not_help_is_not_recommended_and_its_trial_stays():
    seen = Tried(
        base=outcome("healthy", "not tried", 1.0),
        outcomes=(outcome("dropout", "no effect"),),
        null=1.0,
    )
    (told,) = treated(
        plain(),
        [finding("RVN-C01", "dropout", changes=(Change("network.dropout", None),))],
        [],
        seen,
    )
    assert told.changes == () and told.trial.verdict == "no effect"
    by_hand = finding("RVN-D08", "leakage", changes=(Change("data", "without x"),))
    (told,) = treated(plain(), [by_hand], [], seen)
    assert told.changes == by_hand.changes and told.trial.verdict == "not tried"


def test_a_cause_is_told_once_and_what_it_explains_is_noted():
    seen = Tried(
        base=outcome("healthy", "not tried", 1.0),
        outcomes=(outcome("learning-rate-low", "helped"),),
        null=1.0,
    )
    known = finding("RVN-C01", "learning-rate-low")
    symptom = finding("RVN-T02", "labels", severity="error")
    blamed = finding(
        "RVN-X02", "learning-rate-low", severity="error", evidence=(Evidence("missed", 90.0),)
    )
    told = treated(plain(), [known, symptom], [blamed], seen)
    assert [(f.code, f.severity) for f in told] == [("RVN-C01", "error"), ("RVN-T02", "note")]
    assert told[0].explains == ("RVN-T02",) and told[0].changes == (Change("optimizer.lr", 0.5),)
    alone = treated(plain(), [symptom], [blamed], seen)
    assert [(f.code, f.explains) for f in alone] == [("RVN-T02", ()), ("RVN-X02", ("RVN-T02",))]


def test_of_two_changes_of_one_setting_the_first_is_made():
    helped = Trial(verdict="helped")
    low = finding(
        "A",
        "learning-rate-low",
        changes=(Change("optimizer.lr", 0.7), Change("data", "x")),
        trial=helped,
    )
    high = finding("B", "learning-rate-high", changes=(Change("optimizer.lr", 0.01),), trial=helped)
    drop = finding("C", "dropout", changes=(Change("epochs", 9),), trial=Trial(verdict="no effect"))
    assert fixed(plain(), Report(findings=(low, high, drop))) == plain(optimizer__lr=0.7)


def test_changes_are_plain_data_and_what_cannot_be_made_is_left_out():
    recipe = plain(network__dropout=Dropout(rate=0.5))
    assert applied(recipe, [Change("network.dropout", None)]).network.dropout is None
    assert applied(recipe, [Change("network.hidden", [8, 4])]).network.hidden == (8, 4)
    assert (
        applied(recipe, [Change("network.activation", {"name": "Tanh"})]).network.activation
        == Tanh()
    )
    asked = [
        Change("optimizer.lr", "divided by 3"),
        Change("nowhere", 1),
        Change("epochs", 30),
        Change("epochs", 31),
        Change("data", "look"),
        Change("input.scale", "standardize"),
    ]
    assert useful(recipe, asked) == (Change("epochs", 31), Change("data", "look"))
    bare = plain(encoding=Encoding(scale="none"))
    assert useful(bare, asked[-1:]) == (Change("encoding.scale", "standard"),)


def test_every_remedy_can_be_made():
    sick = plain(
        "digits",
        network__dropout=Dropout(rate=0.9),
        penalties=(L2(strength=1.0),),
        batch="all",
        optimizer=Lookahead(inner=Adam(lr=0.1)),
        encoding=Encoding(scale="none"),
        epochs=2,
        network__hidden=(3,),
        network__initializer=Normal(sd=1.0),
    )
    task, resolved = prepare(sick)
    found = remedies(resolved, task)
    causes = [r.cause for r in found]
    assert len(causes) == len(set(causes)) and {
        "dropout",
        "over-regularized",
        "batch-size",
        "input-scale",
        "too-few-steps",
        "architecture-too-small",
        "initialization",
        "learning-rate-high",
    } <= set(causes)
    for remedy in found:
        for strength in remedy.strengths:
            assert applied(resolved, strength) != resolved
    rates = next(r for r in found if r.cause == "learning-rate-high")
    assert rates.strengths[0] == (Change("optimizer.inner.lr", 0.01),)


def test_trials_are_paired_and_the_untouched_recipe_is_its_own_equal():
    task, recipe = prepare(plain(epochs=10))
    bench = bench_of(recipe, task, None)
    same = confirmed(bench, Outcome(cause="too-few-steps", changes=(Change("epochs", 10),)))
    assert (
        same.trial.difference == 0.0 and same.trial.verdict == "no effect"
    )  # same seeds, same steps: same networks
    assert bench.whole and bench.marks.losses == pytest.approx(
        bench.judge.marks(bench.run, task, 5).losses
    )


def test_trials_are_short_and_large_sets_are_cut():
    task, recipe = prepare(plain("digits"))
    assert training_plan(shortened(recipe, task, 300), task).steps == pytest.approx(300, abs=40)
    assert shortened(recipe, task, 10**9) == recipe
    assert cut(task, recipe) is task
    tiny = recipe.vary("batch", 1)
    assert cut(task, tiny).train.count == 300 and cut(task, tiny).fingerprint != task.fingerprint


@pytest.mark.parametrize("source", ["iris", "moons", "diabetes"])
def test_the_best_constant_answer_scores_0_and_its_loss_is_the_null(source):
    task, recipe = prepare(plain(source))
    judge = judge_of(task)
    y = task.validation.targets
    if task.kind == "regression":
        mean = task.train.targets.double().mean()
        expected = float(
            ((y - mean) ** 2).mean() / (y.double() - y.double().mean()).square().mean()
        )
    else:
        share = torch.bincount(task.train.targets.reshape(-1).long()).double() / task.train.count
        expected = float(-share[y.reshape(-1).long()].log().mean())
    assert judge.null == pytest.approx(expected, rel=1e-5)
    run = train(recipe)
    assert (
        judge.marks(run, task, 5).losses[0] < judge.null and judge.marks(run, task, 5).scores[0] > 0
    )
    gone = dataclasses.replace(run, model=None)
    assert math.isnan(judge.marks(gone, task, 5).losses[0])
