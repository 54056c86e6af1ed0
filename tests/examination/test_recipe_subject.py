"""A recipe as a subject: how its runs are evaluated, that trials are paired and short, what may be
changed for a cause.
"""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, r2_score

from ravine import catalog
from ravine.errors import InputError
from ravine.examination import recipe_trials
from ravine.examination.recipe_changes import SetSetting
from ravine.examination.recipe_subject import subject_of
from ravine.examination.recipe_trials import (
    constant_loss_of_task,
    cut_task,
    prepare_trials,
    shorten_recipe,
)
from ravine.examination.subject import CannotTryError, SubjectProfile, stay_silent
from ravine.finding import Change, Evidence, Finding
from ravine.networks.activations import Identity
from ravine.networks.initializers import Normal, Zero
from ravine.networks.layer_parts import Dropout
from ravine.optimizers import Adam, AdamW, Lookahead, Momentum
from ravine.optimizers.clipping import ClipNorm
from ravine.penalties import L2
from ravine.training.defaults import prepare, training_plan
from ravine.training.train import train


def plain(source="iris", **changes):
    recipe = catalog.plain().vary("data.source", source)
    for path, value in changes.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    return recipe


def trials_of(recipe):
    task, resolved = prepare(recipe)
    return prepare_trials(resolved, task, say=stay_silent)


def with_trials(recipe):
    subject = subject_of(recipe)
    subject.trials = prepare_trials(subject.recipe, subject.task, say=stay_silent)
    return subject


# What it stands for


def test_what_is_no_run_and_data_that_changed_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a run"):
        subject_of(tmp_path)
    frame = pd.DataFrame({"x": np.arange(60) % 11 / 3, "y": np.arange(60) % 7 / 2})
    frame.to_csv(tmp_path / "t.csv", index=False)
    train(plain(str(tmp_path / "t.csv"), data__target=("y",)), out=tmp_path / "run")
    frame.assign(x=1 - frame.x).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="have changed"):
        subject_of(tmp_path / "run")


def test_an_unfinished_run_is_what_it_is_to_become(tmp_path):
    run = train(plain(epochs=2), out=tmp_path / "run")
    finished = subject_of(tmp_path / "run")
    assert finished.score == run.score and finished.name == str(tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()
    unfinished = subject_of(tmp_path / "run")
    assert unfinished.own_run is None and unfinished.score is None
    assert unfinished.recipe == finished.recipe and unfinished.name == finished.name


# How runs are evaluated


@pytest.mark.parametrize("source", ["iris", "moons", "diabetes"])
def test_the_loss_of_the_best_constant_answer_is_that_of_the_closed_form(source):
    task, recipe = prepare(plain(source))
    y = task.validation.targets
    if task.kind == "regression":
        mean = task.train_examples.targets.double().mean()
        spread = (y.double() - y.double().mean()).square().mean()
        expected = float(((y - mean) ** 2).mean() / spread)
    else:
        share = (
            torch.bincount(task.train_examples.targets.reshape(-1).long()).double()
            / task.train.count
        )
        expected = float(-share[y.reshape(-1).long()].log().mean())
    assert constant_loss_of_task(task) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("source", ["iris", "diabetes"])
def test_runs_are_scored_from_0_for_a_constant_answer_and_worth_more_than_it(source):
    trials = trials_of(plain(source, epochs=10))
    runs = trials.evaluate(trials.run)
    assert len(runs) == 5 and all(0 < run.score <= 1 for run in runs)
    assert all(run.loss < trials.constant_loss for run in runs)
    held = trials.task.validation
    predictions = trials.run.model.member_predictions(held)
    y = held.targets.numpy()
    if source == "iris":
        known = [balanced_accuracy_score(y, p.argmax(1), adjusted=True) for p in predictions]
    else:
        known = [r2_score(y, p) for p in predictions]
    assert [run.score for run in runs] == pytest.approx(known, abs=1e-5)


def test_a_run_without_weights_has_no_loss_and_a_bad_one_at_most_twice_the_constant_s():
    trials = trials_of(plain(epochs=2, network__initializer=Normal(sd=100.0)))
    gone = dataclasses.replace(trials.run, model=None)
    assert all(math.isnan(run.loss) and run.score is None for run in trials.evaluate(gone))
    assert all(
        run.loss <= 2 * trials.constant_loss * (1 + 1e-6) for run in trials.evaluate(trials.run)
    )


def test_networks_that_diverged_are_none_among_those_that_did_not():
    trials = trials_of(plain(epochs=5))
    members = [
        dataclasses.replace(m, outcome="diverged") if place == 1 else m
        for place, m in enumerate(trials.run.record.members)
    ]
    record = dataclasses.replace(trials.run.record, members=members)
    whole = trials.evaluate(trials.run)
    left = trials.evaluate(dataclasses.replace(trials.run, record=record))
    assert math.isnan(left[1].loss) and left[1].score is None
    assert left[2:] == whole[2:]


# Trials


def test_trials_are_paired_and_the_untouched_recipe_is_its_own_equal():
    subject = with_trials(plain(epochs=10))
    own = subject.trials.evaluate(subject.trials.run)
    same = (SetSetting(Change("epochs", 10)),)
    (found,) = subject.run([same], seeds=range(5), steps=subject.budget.steps)
    assert found == own  # same seeds, same steps: same networks
    (some,) = subject.run([()], seeds=range(2, 4), steps=subject.budget.steps)
    assert some == own[2:4]
    assert subject.trials.whole


def test_trials_of_different_networks_and_encodings_run_beside_each_other():
    subject = with_trials(plain(epochs=3))
    strengths = [
        (SetSetting(Change("network.hidden", [8])),),
        (SetSetting(Change("encoding.scale", "none")),),
        (SetSetting(Change("optimizer.lr", -1.0)),),
        (SetSetting(Change("epochs", 6)),),
    ]
    narrow, unscaled, refused, longer = subject.run(strengths, seeds=range(2), steps=30)
    assert isinstance(refused, CannotTryError) and "lr" in str(refused)
    assert [len(found) for found in (narrow, unscaled, longer)] == [2, 2, 2]
    for place, found in ((0, narrow), (1, unscaled), (3, longer)):  # alone as together
        (alone,) = subject.run([strengths[place]], seeds=range(2), steps=30)
        assert isinstance(alone, list) and isinstance(found, list)
        assert [r.loss for r in alone] == pytest.approx([r.loss for r in found], rel=1e-6)


def test_trials_are_short_and_large_sets_are_cut():
    task, recipe = prepare(plain("digits"))
    assert training_plan(shorten_recipe(recipe, task, 300), task).steps == pytest.approx(
        300, abs=40
    )
    assert shorten_recipe(recipe, task, 10**9) == recipe
    assert cut_task(task, recipe) is task
    tiny = recipe.vary("batch", 1)
    assert cut_task(task, tiny).train.count == 300
    assert cut_task(task, tiny).fingerprint != task.fingerprint


def test_a_run_that_is_meant_to_be_longer_stays_so_and_others_are_cut():
    trials = trials_of(plain("digits", epochs=4))
    steps = training_plan(trials.recipe, trials.task).steps
    longer = trials.shorten_with((Change("epochs", 8),), steps // 2)
    assert longer.epochs == 8
    assert trials.shorten_with((), steps // 2).epochs == 2
    assert trials.shorten_with((Change("optimizer.lr", 0.3),), None).epochs == 4


def test_the_steps_of_its_trials_are_those_that_it_makes():
    subject = subject_of(plain(epochs=4))
    seen = subject.profile(trials=True, say=stay_silent)
    assert seen.results.steps == training_plan(subject.recipe, subject.task).steps
    assert len(seen.runs) == 5 and seen.results.base.loss == pytest.approx(
        float(np.sqrt(np.prod([run.loss for run in seen.runs[:2]])))
    )


def test_a_run_with_enough_seeds_is_not_trained_again(monkeypatch):
    run = train(plain(epochs=3, seeds=5))
    subject = subject_of(run)
    trained = []
    original = recipe_trials.train_on

    def counting(tasks, recipes, **options):
        trained.extend(recipes)
        return original(tasks, recipes, **options)

    monkeypatch.setattr(recipe_trials, "train_on", counting)
    subject.profile(trials=True, say=stay_silent)
    assert subject.trials.run is run and not trained


def test_without_trials_nothing_is_trained(monkeypatch):
    monkeypatch.setattr("ravine.examination.recipe_subject.prepare_trials", None)
    seen = subject_of(plain(epochs=3)).profile(trials=False, say=stay_silent)
    assert seen.results is None and seen.runs == ()


# What may be changed


def changes(recipe, cause):
    return [[made.change for made in strength] for strength in subject_of(recipe).strengths(cause)]


def test_rates_are_multiples_and_the_usual_one_where_that_is_further_off():
    low = changes(plain(optimizer=Adam(lr=1e-7)), "learning-rate-low")
    assert [c.value for (c,) in low] == [3e-7, 1e-6, 1e-5, 1e-4, 1e-3]
    near = changes(plain(optimizer=Adam(lr=1e-3)), "learning-rate-high")
    assert [c.value for (c,) in near] == [1e-4, 1e-5, 1e-6]
    inner = changes(plain(optimizer=Lookahead(inner=Adam(lr=0.1))), "learning-rate-high")
    assert inner[0] == [Change("optimizer.inner.lr", 0.01)]


def test_what_is_not_there_is_not_changed():
    for cause in ("dropout", "over-regularized", "gradient-clipping", "input-scale", "leakage"):
        assert changes(plain(), cause) == []
    assert changes(plain(clip=ClipNorm(limit=1.0)), "gradient-clipping") == [[Change("clip", None)]]
    decayed = plain(optimizer=AdamW(weight_decay=0.5), penalties=(L2(strength=1.0),))
    assert changes(decayed, "over-regularized") == [
        [Change("optimizer.weight_decay", 0.0)],
        [Change("penalties", [])],
    ]


@pytest.mark.parametrize(
    "cause", ["initialization", "dead-units", "saturation", "vanishing", "exploding"]
)
def test_another_start_is_tried_for_every_fault_of_the_start(cause):
    he = Change("network.initializer", {"name": "He"})
    assert changes(plain(network__initializer=Zero()), cause) == [[he]]
    assert changes(plain(), cause) == []


def test_longer_runs_are_tried_up_to_1500_steps():
    digits = plain("digits", epochs=1, batch=128)
    steps = training_plan(subject_of(digits).recipe, subject_of(digits).task).steps
    tried = [c.value for (c,) in changes(digits, "too-few-steps")]
    assert tried == [k for k in (3, 10, 30) if k * steps <= 1500] and len(tried) >= 2
    assert changes(plain("digits", epochs=1000), "too-few-steps") == []


def test_cures_begin_with_what_the_finding_asks_for():
    sick = subject_of(plain(network__initializer=Zero(), network__dropout=Dropout(rate=0.5)))
    asked = Finding(
        code="RVN-I06",
        title="",
        severity="error",
        confidence="exact",
        cause="initialization",
        changes=(Change("network.initializer", {"name": "Glorot"}), Change("model", "by hand")),
    )
    first, second = sick.cures(asked)
    assert [made.change.value for made in first] == [{"name": "Glorot"}]
    assert [made.change.value for made in second] == [{"name": "He"}]
    nothing = dataclasses.replace(asked, cause="leakage", changes=(Change("data", "look"),))
    assert sick.cures(nothing) == ()


# What its settings say


def facts(recipe, cause, *findings):
    subject = subject_of(recipe)
    seen = dataclasses.replace(NOTHING_SEEN, findings=list(findings))
    return subject.facts(cause, seen)


NOTHING_SEEN = SubjectProfile(findings=[], checks=None, start=None)


def test_settings_that_are_far_off_speak_for_their_cause():
    assert facts(plain(network__dropout=Dropout(rate=0.9)), "dropout").evidence[0].value == 0.9
    assert facts(plain(network__dropout=Dropout(rate=0.3)), "dropout").evidence == ()
    assert facts(plain(network__activation=Identity()), "hidden-activation").evidence
    assert facts(plain(network__hidden=(3,)), "architecture-too-small").evidence[0].value == 3
    assert facts(plain(network__hidden=(64,)), "architecture-too-small") is None
    assert facts(plain(network__initializer=Normal(sd=1.0)), "initialization").evidence
    assert facts(plain(), "initialization").evidence == ()
    assert facts(plain(batch="all"), "batch-size").evidence[0].value == 1
    assert facts(plain(batch=4), "batch-size") is None


def test_decay_speaks_where_it_takes_most_of_a_weight_away():
    strong, weak = (
        plain(optimizer=AdamW(lr=0.01, weight_decay=decay), epochs=30) for decay in (10.0, 0.01)
    )
    assert facts(strong, "over-regularized").evidence[0].name == "weight decay"
    assert facts(weak, "over-regularized").evidence == ()
    assert facts(plain(penalties=(L2(strength=0.1),)), "over-regularized").where == "penalties"


def test_what_a_check_is_sure_of_speaks_where_settings_do_not():
    found = Finding(
        code="RVN-C03",
        title="",
        severity="warning",
        confidence="high",
        cause="learning-rate-low",
        evidence=(Evidence("steps to learn them", 56.0), Evidence("more", 1.0)),
    )
    told = facts(plain(optimizer=Momentum(lr=1e-6)), "learning-rate-low", found)
    assert told.evidence == found.evidence[:1] and told.where == "optimizer.lr"
    guess = dataclasses.replace(found, confidence="low")
    assert facts(plain(), "learning-rate-low", guess).evidence == ()
