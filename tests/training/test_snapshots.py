"""Snapshots are the weights that shorter runs end with; they survive kills and company, and are the
model.
"""

import dataclasses

import pytest
import torch

from ravine import catalog, recipe_files, schedules
from ravine.data import Data
from ravine.data.datasets import load_bundled
from ravine.early_stopping import EarlyStopping
from ravine.errors import RecipeError
from ravine.networks import layer_parts, mlp
from ravine.optimizers import Momentum, Swa
from ravine.optimizers.averaging import Snapshots
from ravine.training.train import open_run, resume, train, train_all

CYCLIC = dataclasses.replace(
    catalog.plain(),
    data=Data(source="iris"),
    network=mlp.Mlp(hidden=(7,), norm=layer_parts.BatchNorm()),
    schedule=schedules.SGDR(epochs=4.0, times=1.0),
    snapshots=Snapshots(),
    epochs=12,
    seeds=2,
)


def shorter(recipe, epochs):
    return dataclasses.replace(recipe, snapshots=None, epochs=epochs)


def test_each_snapshot_is_what_a_run_ends_with_that_stops_there():
    run = train(CYCLIC)
    assert run.model.weights.shape[0] == 6 and len(run.score.members) == 6
    for place, epochs in enumerate((4, 8, 12)):
        alone = train(shorter(CYCLIC, epochs))
        assert torch.equal(run.model.weights[place::3], alone.model.weights)
        for name, value in alone.model.buffers.items():
            assert torch.equal(run.model.buffers[name][place::3], value)
        assert [run.score.members[place], run.score.members[3 + place]] == list(alone.score.members)
        if epochs == 12:
            assert [m.test for m in run.record.members] == [m.test for m in alone.record.members]


def test_the_model_averages_their_probabilities_and_is_read_back(tmp_path):
    run = train(CYCLIC, out=tmp_path / "run")
    parts = [train(shorter(CYCLIC, epochs)).model for epochs in (4, 8, 12)]
    frame = load_bundled("iris")[0]
    mean = torch.stack([model.encoded_prediction(frame) for model in parts]).mean(0)
    torch.testing.assert_close(run.model.encoded_prediction(frame), mean, rtol=0, atol=1e-14)
    again = open_run(tmp_path / "run")
    assert torch.equal(again.model.weights, run.model.weights) and again.predict(frame).equals(
        run.predict(frame)
    )
    assert again.model.recipe.snapshots == Snapshots()


@pytest.mark.parametrize("evaluation", [1, 2])
def test_a_killed_run_keeps_its_snapshots(tmp_path, evaluation):
    class Killed(Exception):
        pass

    seen = []

    def report(progress):
        seen.append(progress)
        if len(seen) == evaluation:
            raise Killed

    recipe = CYCLIC.vary("schedule", schedules.SGDR(epochs=1.5, times=1.5)).vary("batch", 8)
    whole = train(recipe)
    with pytest.raises(Killed):
        train(recipe, out=tmp_path / "run", checkpoint_seconds=0.0, report=report)
    assert list((tmp_path / "run").glob("checkpoint-*"))
    found = resume(tmp_path / "run")
    assert (
        torch.equal(found.model.weights, whole.model.weights)
        and found.record.effects == whole.record.effects
    )


def test_networks_with_other_cycles_or_that_diverge_share_a_batch_and_change_nothing():
    recipes = [CYCLIC, CYCLIC.vary("schedule.epochs", 3.0), CYCLIC.vary("optimizer.lr", 1e20)]
    together = train_all(recipes)
    assert [run.model.weights.shape[0] for run in together[:2]] == [6, 8] and together[
        2
    ].model is None
    for recipe, run in zip(recipes[:2], together[:2], strict=True):
        assert torch.equal(run.model.weights, train(recipe).model.weights)


def test_only_the_last_are_kept_where_asked():
    model, last = train(CYCLIC).model, train(CYCLIC.vary("snapshots.last", 2)).model
    assert torch.equal(last.weights, model.weights[[1, 2, 4, 5]])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.SGDR(epochs=2.0, times=2.0), [2, 6, 14]),  # cycles of 2, 4, 8 epochs
        (
            schedules.Cyclical(epochs=3.0),
            [7, 13, 14],
        ),  # lows are met by the step that begins a cycle
        (schedules.WarmUp(epochs=1.0, then=schedules.SGDR(epochs=7.0, times=1.0)), [7, 14]),
        (schedules.Constant(), [14]),
        (schedules.Cosine(), [14]),
    ],
)
def test_cycles_end_where_the_rate_rises_again(schedule, expected):
    from ravine.protocols import Plan

    steps = torch.arange(14, dtype=torch.float64)[None]
    ends = Snapshots().ends(schedule.factor(steps, Plan(14, 1)).reshape(-1))
    assert (torch.nonzero(ends).flatten() + 1).tolist() == expected


def test_snapshots_without_a_cycle_are_named_as_idle():
    idle = [e.name for e in train(CYCLIC.vary("schedule", schedules.Constant())).record.idle()]
    assert "snapshots" in idle
    assert "snapshots" not in [e.name for e in train(CYCLIC).record.idle()]


@pytest.mark.parametrize("other", [{"stop": EarlyStopping()}, {"average": Swa()}])
def test_contradictions_are_refused(other):
    with pytest.raises(RecipeError, match="keeps snapshots and has"):
        dataclasses.replace(CYCLIC, **other)


def test_a_recipe_file_says_it(tmp_path):
    (tmp_path / "r.toml").write_text(
        'base = "plain"\nsnapshots = "Snapshots"\n[data]\nsource = "iris"\n'
    )
    assert recipe_files.read_recipe(tmp_path / "r.toml").snapshots == Snapshots()
    assert recipe_files.recipe_from({"base": "plain"}).snapshots is None
    assert CYCLIC.optimizer == Momentum(lr=0.1, momentum=0.9)
