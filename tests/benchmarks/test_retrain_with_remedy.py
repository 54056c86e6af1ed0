"""Recommended remedies are retrained beside a random search of equal cost."""

import pytest

from benchmarks.diagnosis import retrain_with_remedy
from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.retrain_with_remedy import RANDOM_CHANGES, recommended_change, retrain
from ravine.examination.torch_model_changes import use_class_outputs
from ravine.examination.torch_settings import CURES_BY_CAUSE, STRENGTHS_BY_CAUSE
from ravine.examination.torch_training_changes import set_batch_size
from ravine.finding import TRIABLE_CHANGES

SCRIPTS = {p.name: p for p in ALL}


def test_every_change_that_is_recommended_can_be_made_again():
    made = [
        m
        for table in (STRENGTHS_BY_CAUSE, CURES_BY_CAUSE)
        for s in table.values()
        for k in s
        for m in k
    ]
    for change in (*made, use_class_outputs, set_batch_size(8)):
        assert recommended_change(change.change) == change


def test_the_search_draws_every_kind_of_change():
    assert {*RANDOM_CHANGES, "steps"} == set(TRIABLE_CHANGES)
    for path, changes in RANDOM_CHANGES.items():
        assert {made.change.path for made in changes} == {path}


@pytest.mark.slow
def test_a_remedy_is_compared_with_a_search_of_as_many_networks():
    sick = SCRIPTS["wine/hot"]
    found = retrain(sick, SCRIPTS[sick.partner], range(1))
    assert found.remedied is not None and found.before < found.remedied <= 1
    assert found.changes[0].path == "lr" and 10 < found.runs < 40
    assert (
        retrain_with_remedy.torch_subject.train_program is retrain_with_remedy.train_program
    )  # nothing is left behind
