"""The doctor on recipes and runs that are sick on purpose, and on healthy ones."""

import functools
import json

import numpy as np
import pandas as pd
import pytest

import ravine
from ravine import catalog
from ravine.data import Encoding
from ravine.examination.api import check, doctor
from ravine.examination.recipe_changes import fix_recipe
from ravine.finding import Change, Report
from ravine.networks.activations import Identity
from ravine.networks.initializers import Constant, Zero
from ravine.networks.layer_parts import Dropout
from ravine.optimizers import Momentum
from ravine.penalties import L2
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
    "learning-rate-high": plain(optimizer=Momentum(lr=10.0)),
    "too-few-steps": plain("digits", epochs=1, batch=128, optimizer=Momentum(lr=0.01)),
    "dropout": plain("wine", network__dropout=Dropout(rate=0.98)),
    "initialization": plain(network__initializer=Zero()),
    "over-regularized": plain("wine", penalties=(L2(strength=3.0),), optimizer=Momentum(lr=0.02)),
    "architecture-too-small": plain("digits", network__hidden=(1,)),
}


SLOW = ("too-few-steps", "over-regularized", "architecture-too-small")


@functools.cache
def of_sick(cause):
    return first(SICK[cause])


@pytest.mark.parametrize(
    "cause", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in SICK]
)
def test_the_planted_cause_comes_first_with_a_remedy_that_helped(cause):
    found, report = of_sick(cause)
    assert found.cause == cause and found.severity in ("error", "warning")
    assert (
        found.trial.verdict == "helped" and found.trial.seeds == 5 and found.trial.interval[1] < 0
    )
    mended = fix_recipe(SICK[cause], report)
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
    assert fix_recipe(plain(source), report) == plain(source)


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
    train(plain(optimizer=Momentum(lr=1e12), seeds=2), out=tmp_path / "run")
    found, _ = first(tmp_path / "run")
    assert found.cause == "learning-rate-high" and found.trial.verdict == "helped"


def test_a_run_trained_from_a_frame_is_examined_with_it():
    x = np.random.default_rng(0).normal(size=200)
    frame = pd.DataFrame({"x": x, "y": x * 3 + 1})
    recipe = plain("", data__target=("y",), optimizer=Momentum(lr=1e-6))
    found, _ = first(train(recipe, frame), frame=frame)
    assert found.cause == "learning-rate-low"


def test_without_trials_nothing_is_trained(monkeypatch):
    monkeypatch.setattr("ravine.examination.recipe_subject.prepare_trials", None)
    report = doctor(plain(network__initializer=Zero()), trials=False)
    found = report.findings[0]
    assert found.code == "RVN-I06" and found.cause == "initialization"
    assert found.trial.verdict == "not tried" and "no trials" in found.trial.why


def test_a_fault_of_the_start_is_certain_and_its_cure_is_tried():
    for sick, cause in (
        (plain(network__initializer=Constant(value=0.3)), "initialization"),
        (plain(network__bias=Constant(value=-30.0)), "dead-units"),
    ):
        found, report = first(sick)
        assert (found.severity, found.confidence, found.cause) == ("error", "exact", cause)
        assert found.trial.verdict == "helped" and fix_recipe(sick, report) != sick
        assert check(fix_recipe(sick, report)).findings == ()


def test_a_small_rate_is_blamed_and_that_a_few_examples_are_not_overfit_is_its_symptom():
    found, report = of_sick("learning-rate-low")
    assert found.code == "RVN-X02" and {"RVN-C03", "RVN-T02"} <= set(found.explains)
    assert {f.severity for f in report.findings[1:]} == {"note"}
    assert found.changes == (Change("optimizer.lr", 0.01),) and found.since is None
    assert found.trial.steps == 120  # 30 epochs of 4 steps, as the recipe means them


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cause", "recipe"),
    [
        ("input-scale", plain("wine", encoding=Encoding(scale="none", smooth_clip=None))),
        ("hidden-activation", plain("moons", network__activation=Identity())),
    ],
)
def test_what_checks_before_training_leave_open_trials_name(cause, recipe):
    found, _ = first(recipe)
    assert found.cause == cause and found.trial.verdict == "helped"
