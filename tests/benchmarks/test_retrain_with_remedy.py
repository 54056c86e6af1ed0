"""Recommended remedies are retrained beside a random search of equal cost."""

import pytest

from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.retrain_with_remedy import (
    RANDOM_CHANGES,
    count_runs,
    curable,
    recommended_change,
    recommended_changes,
    retrain,
    score_model,
    torch_program,
)
from benchmarks.diagnosis.training_script import TrainingScript
from ravine.examination import torch_capacity, torch_loss_trials, torch_subject
from ravine.examination.torch_model_changes import (
    WrappedModel,
    use_class_outputs,
    use_squared_error,
)
from ravine.examination.torch_program import train_program
from ravine.examination.torch_settings import CURES_BY_CAUSE, STRENGTHS_BY_CAUSE
from ravine.examination.torch_training_changes import set_batch_size
from ravine.finding import TRIABLE_CHANGES, Change

SCRIPTS = {p.name: p for p in ALL}


def test_every_change_that_is_recommended_can_be_made_again():
    made = [
        m
        for table in (STRENGTHS_BY_CAUSE, CURES_BY_CAUSE)
        for s in table.values()
        for k in s
        for m in k
    ]
    for change in (*made, use_class_outputs, use_squared_error, set_batch_size(8)):
        assert recommended_change(change.change) == change


def test_the_search_draws_every_kind_of_change():
    assert {*RANDOM_CHANGES, "steps"} == set(TRIABLE_CHANGES)
    for path, changes in RANDOM_CHANGES.items():
        assert {made.change.path for made in changes} == {path}


def test_changes_are_made_together():
    """Factors of the rate multiply; what is to be done by hand is left to the reader."""
    paths = [("lr", "x0.1"), ("batch", 16), ("data", "drop the code"), ("lr", "x1000")]
    made = [m.change for m in recommended_changes(Change(*pair) for pair in paths)]
    assert made == [Change("batch", 16), Change("lr", "x100")]


def test_every_network_that_is_trained_is_counted():
    modules = (torch_subject, torch_loss_trials, torch_capacity)
    with count_runs() as counted:
        for module in modules:
            with pytest.raises(AttributeError):
                module.train_program(None, seed=0)
    assert len(counted) == 3
    assert all(module.train_program is train_program for module in modules)


@pytest.mark.parametrize("name", ["scan-and-record/healthy", "two-heads/healthy", "wine/healthy"])
def test_programs_of_several_inputs_or_outputs_are_scored_as_they_were_written(name):
    """Also where a change has wrapped the model."""
    setup = SCRIPTS[name].build(0)
    program = torch_program(setup, 0)
    model, _ = program.build()
    assert score_model(setup, program, WrappedModel(model)) == setup.scorer(setup.model)
    assert score_model(setup, program, model) == setup.scorer(setup.model)


def test_what_only_its_author_can_mend_is_not_curable():
    def script(causes, remedy=None):
        return TrainingScript(
            name="a/b",
            family="table",
            task="regression",
            network="mlp",
            code=lambda: None,
            causes=frozenset(causes.split()),
            remedy=remedy,
        )

    assert curable(script("loss", ("loss", "cross-entropy")))
    assert not curable(script("loss", ("formula", "minus")))
    assert curable(script("input-scale learning-rate-high"))
    assert not curable(script("input-scale labels")) and not curable(script(""))


@pytest.mark.slow
def test_a_remedy_is_compared_with_a_search_of_as_many_networks():
    sick = SCRIPTS["wine/hot"]
    found = retrain(sick, SCRIPTS[sick.partner], range(1))
    assert found.remedied is not None and found.before < found.remedied <= 1
    assert found.changes[0].path == "lr" and 10 < found.runs < 40
