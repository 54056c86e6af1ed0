"""The main job end to end: what a run says, writes, reads back and predicts."""

import csv
import dataclasses
import json
import math
import os
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from ravine import catalog, recipe_files, schedules
from ravine.data import Data, Random, read_table
from ravine.data.datasets import load_bundled
from ravine.early_stopping import EarlyStopping
from ravine.errors import InputError, Interrupted, RecipeError, RunError
from ravine.networks import layer_parts, mlp
from ravine.part import group_key
from ravine.penalties import L2
from ravine.record import read_record, record_files
from ravine.run_progress import JOB_ROW
from ravine.training import train as training
from ravine.training.defaults import load_task
from ravine.training.determinism import exact_arithmetic, flushes_denormals
from ravine.training.train import open_run, resume, train, train_all


def quick(**changes):
    recipe = dataclasses.replace(catalog.plain(), data=Data(source="penguins"), epochs=6, seeds=3)
    return dataclasses.replace(recipe, **changes)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "penguins"
    network = mlp.Mlp(hidden=(16,), norm=layer_parts.BatchNorm())
    return train(
        quick(network=network, stop=EarlyStopping(patience=3)), out=folder, workers=1
    ), folder


def test_a_folder_can_be_read_without_us(written):
    run, folder = written
    assert {p.name for p in folder.iterdir()} == {
        "recipe.toml",
        "plan.json",
        "record.json",
        "series.csv",
        "encoder.json",
        "weights.safetensors",
    }
    assert tomllib.loads((folder / "recipe.toml").read_text())["optimizer"]["name"] == "Momentum"
    record = json.loads((folder / "record.json").read_text())
    assert (
        record["schema"] == 1
        and record["score"]["metric"] == "accuracy"
        and len(record["members"]) == 3
    )
    rows = list(csv.DictReader((folder / "series.csv").read_text().splitlines()))
    assert {
        "train/loss",
        "validation/loss",
        "validation/accuracy",
        "lr",
        "gradient/norm",
        "update/ratio",
    } <= {r["series"] for r in rows}
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    assert weights["hidden.0.weight"].shape[0] == 3 and weights[
        "buffer/hidden.0.norm.mean"
    ].shape == (3, 1, 16)


def test_what_is_read_back_is_what_was_written(written):
    run, folder = written
    again = open_run(folder)
    assert json.dumps(again.record.to_json(), sort_keys=True) == json.dumps(
        run.record.to_json(), sort_keys=True
    )
    for name, series in run.record.series.items():
        np.testing.assert_array_equal(again.record.series[name].values, series.values)
    frame, _ = load_bundled("penguins")
    pd.testing.assert_frame_equal(again.predict(frame), run.predict(frame))
    assert group_key(again.model.recipe) == group_key(run.model.recipe)


def test_what_is_printed_of_a_result_is_one_line(written):
    run, folder = written
    score = run.score
    assert str(score).startswith(f"{score.metric} {score.value:.4f} on {score.examples} test rows")
    assert str(score) in str(run) and str(folder) in str(run)
    assert f"{run.model.size} weights, 3 networks" in str(run.model)
    assert "3 networks, 0 diverged" in str(run.record)
    task = load_task(quick(), None)
    assert str(task) == "Task(classes, 240 training, 52 validation, 52 test rows)"
    for value in (run, run.record, run.model, score, task):
        assert len(str(value)) < 400 and len(str(value).splitlines()) == 1


@pytest.mark.parametrize(
    "damage, why",
    [
        (lambda text: text[:-3], "its last line is not complete"),
        (lambda text: text.rsplit(",", 1)[0] + "\n", "must be series, step and 3 of seeds"),
        (lambda text: text.replace("\n", ",1\n"), "must be series, step and 3 of seeds"),
    ],
    ids=["truncated", "a short row", "a column more"],
)
def test_a_damaged_series_file_is_refused(written, tmp_path, damage, why):
    _, folder = written
    record = json.loads((folder / "record.json").read_text())
    del record["digests"], record["digest"]  # as in runs of before
    (tmp_path / "record.json").write_text(json.dumps(record))
    (tmp_path / "series.csv").write_text((folder / "series.csv").read_text())
    path = tmp_path / "series.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(RunError, match=why):
        read_record(tmp_path)


def test_predictions_do_not_depend_on_the_other_rows(written):
    frame, _ = load_bundled("penguins")
    whole = written[0].predict(frame)
    one = written[0].predict(frame.iloc[[7]])
    pd.testing.assert_frame_equal(one, whole.iloc[[7]], rtol=1e-5)


def test_the_score_is_that_of_the_averaged_predictions_on_the_test_rows(written):
    run, _ = written
    frame, target = load_bundled("penguins")
    task = load_task(quick())
    rows = frame.iloc[task.rows["test"]]
    predicted = run.predict(rows)
    assert run.score.value == pytest.approx((predicted[target] == rows[target]).mean())
    assert run.score.low <= run.score.value <= run.score.high and run.score.split == "test"
    assert len(run.score.members) == 3 and run.score.examples == len(rows)


def test_the_kept_weights_are_those_of_the_best_validation_loss(written):
    run, _ = written
    losses = run.record.series["validation/loss"]
    for m, member in enumerate(run.record.members):
        best = np.nanargmin(losses.values[:, m])
        assert member.best_step == losses.steps[best]
        assert member.validation["loss"] == losses.values[best, m]


def test_everything_a_recipe_file_says_comes_back():
    for name, make in catalog.NAMED_RECIPES.items():
        recipe = make()
        assert (
            recipe_files.recipe_from(tomllib.loads(recipe_files.recipe_text(recipe))) == recipe
        ), name
    full = quick(
        clip=None, schedule=schedules.WarmUp(epochs=2.0, then=schedules.SGDR()), batch="all"
    )
    assert recipe_files.recipe_from(tomllib.loads(recipe_files.recipe_text(full))) == full


def test_a_recipe_file_names_the_line_of_a_mistake(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('epochs = 3\n\n[optimizer]\nname = "AdamW"\nlearning_rate = 0.1\n')
    with pytest.raises(RecipeError, match=r"r\.toml:5: AdamW has no setting 'learning_rate'.*lr"):
        recipe_files.read_recipe(path)
    path.write_text("epochs = 3\n[network.dropout]\nrate = 2\n")
    with pytest.raises(RecipeError, match=r"r\.toml:3: Dropout\.rate is 2.*less than 1"):
        recipe_files.read_recipe(path)
    path.write_text('[optimizer]\nname = "Addam"\n')
    with pytest.raises(
        RecipeError, match=r"r\.toml:2: optimizer has no 'Addam'.*Did you mean 'Adam"
    ):
        recipe_files.read_recipe(path)


def test_paths_in_a_recipe_file_are_relative_to_it(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    for name in ("houses.csv", "more.csv"):
        (tmp_path / "sub" / name).write_text("a,y\n1,2\n")
    (tmp_path / "sub" / "r.toml").write_text(
        '[data]\nsource = "houses.csv"\ntest = "more.csv"\ntarget = ["y"]\n'
    )
    monkeypatch.chdir(tmp_path)
    data = recipe_files.read_recipe("sub/r.toml").data
    assert isinstance(data, Data)
    assert (data.source, data.test) == (
        os.path.join("sub", "houses.csv"),
        os.path.join("sub", "more.csv"),
    )


@pytest.mark.parametrize("name", ["AdamW", "adamw", "adam_w", "Adam-W"])
def test_the_same_part_under_another_spelling_keeps_its_settings(name):
    assert (
        recipe_files.with_settings(catalog.default(), f"optimizer.name={name}") == catalog.default()
    )


def test_numbers_that_could_not_be_worked_out_come_back_as_such(written, tmp_path):
    record = written[0].record
    score = dataclasses.replace(
        record.score, low=math.nan, others={**record.score.others, "auc": math.nan}
    )
    members = tuple(dataclasses.replace(m, test={"auc": math.nan}) for m in record.members)
    for name, data in record_files(
        dataclasses.replace(record, score=score, members=members)
    ).items():
        (tmp_path / name).write_bytes(data)
    read = read_record(tmp_path)
    assert (
        math.isnan(read.score.low)
        and math.isnan(read.score.others["auc"])
        and math.isnan(read.members[0].test["auc"])
    )


def test_settings_change_by_path():
    recipe = recipe_files.with_settings(catalog.plain(), "optimizer=adam")
    assert type(recipe.optimizer).__name__ == "Adam"
    network = recipe_files.with_settings(recipe, "network.hidden=[3,4]").network
    assert isinstance(network, mlp.Mlp) and network.hidden == (3, 4)
    assert recipe_files.with_settings(recipe, "stop=none").stop is None
    recipe = recipe_files.with_settings(recipe, 'penalties=[{name = "L2", strength = 0.1}]')
    (penalty,) = recipe_files.with_settings(recipe, "penalties.0.strength=0.5").penalties
    assert isinstance(penalty, L2) and penalty.strength == 0.5
    with pytest.raises(RecipeError, match="Did you mean 'epochs'"):
        recipe_files.with_settings(recipe, "epoch=3")


def test_recipes_that_share_a_program_train_as_one_cohort_and_others_apart():
    base = quick(epochs=2)
    runs = train_all(
        [base, base.vary("optimizer.lr", 0.5), base.vary("network.hidden", (9,))], workers=1
    )
    assert [len(r.record.members) for r in runs] == [3, 3, 3]
    assert runs[0].model.size == runs[1].model.size != runs[2].model.size


def test_a_run_whose_networks_all_diverge_has_no_model(tmp_path):
    run = train(quick().vary("optimizer.lr", 1e30), out=tmp_path / "run", workers=1)
    assert run.record.failures == 3 and run.model is None and run.score is None
    assert {e.kind for e in run.record.events} == {"diverged"}
    again = open_run(tmp_path / "run")
    assert again.record.failures == 3
    with pytest.raises(RunError, match="every network diverged"):
        again.predict(load_bundled("penguins")[0])


def test_a_stop_file_saves_and_leaves(tmp_path):
    folder = tmp_path / "run"
    seen = []

    def report(progress):
        seen.append(progress)
        (folder / "stop").touch()

    with pytest.raises(Interrupted, match="--resume"):
        train(quick(epochs=40), out=folder, workers=1, report=report)
    assert seen and not (folder / "record.json").exists()
    assert resume(folder, workers=1).record.members[0].steps == 40 * 8
    whole = train(quick(epochs=40), workers=1)
    assert torch.equal(whole.model.weights, open_run(folder).model.weights)


@pytest.mark.parametrize("recipes", [1, 3])
def test_processes_give_the_same_numbers_as_one(monkeypatch, processes_pay, recipes):
    several = [quick(seeds=4, network=mlp.Mlp(hidden=(5 + i,))) for i in range(recipes)]
    ones = train_all(several, workers=1)
    here, real = [], training.train_cohort

    def train_cohort(*given, **options):
        here.append(os.getpid())
        return real(*given, **options)

    def wait(progress):
        """Have every other job trained by another process."""
        began, shares = time.monotonic(), [0.0]
        while min(shares) == 0.0 and time.monotonic() - began < 60:
            noted = Path(progress.board.path).read_bytes()
            shares = [share for share, _ in JOB_ROW.iter_unpack(noted)]
            time.sleep(0.02)

    monkeypatch.setattr(training, "train_cohort", train_cohort)
    twos = train_all(several, workers=2, report=wait)
    assert len(here) == 1
    for one, two in zip(ones, twos, strict=True):
        assert torch.equal(one.model.weights, two.model.weights)
        for what in ("members", "events", "effects", "score"):
            assert getattr(one.record, what) == getattr(two.record, what)
        for name, series in one.record.series.items():
            np.testing.assert_array_equal(series.steps, two.record.series[name].steps)
            np.testing.assert_array_equal(series.values, two.record.series[name].values)


def test_what_is_there_is_never_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not empty"):
        train(quick(), out=tmp_path, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_mistake_in_the_data_leaves_no_folder(tmp_path):
    with pytest.raises(InputError):
        train(
            quick(data=Data(source="penguins", target=("specis",))), out=tmp_path / "run", workers=1
        )
    assert not (tmp_path / "run").exists()


def test_float64_and_gradient_descent_on_all_examples():
    run = train(quick(precision="float64", batch="all", epochs=20), workers=1)
    assert run.model.weights.dtype == torch.float64
    assert run.record.members[0].steps == 20


def test_a_frame_with_a_regression_target_predicts_in_its_units():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.standard_normal((300, 3)), columns=list("abc"))
    frame["y"] = 1000 + 50 * frame["a"] - 20 * frame["b"]
    run = train(quick(data=Data(target=("y",)), split=Random(), epochs=60), frame, workers=1)
    assert run.score.metric == "r2" and run.score.value > 0.95
    assert abs(run.predict(frame)["y"].mean() - 1000) < 10


def test_a_csv_file_trains_like_the_frame_it_holds(tmp_path):
    frame, _ = load_bundled("penguins")
    path = tmp_path / "p.csv"
    frame.to_csv(path, index=False, sep=";")
    ours = train(quick(data=Data(source=str(path), target=("species",))), workers=1)
    given = train(quick(data=Data(target=("species",))), read_table(path), workers=1)
    assert torch.equal(ours.model.weights, given.model.weights)


def test_only_the_ratios_of_weights_count():
    frame, _ = load_bundled("penguins")
    frame = frame.assign(heavy=np.where(frame["island"] == "Biscoe", 2.0, 1.0))
    data = Data(target=("species",), weight="heavy")
    one, thousand = (
        train(quick(data=data, seeds=1), f, workers=1)
        for f in (frame, frame.assign(heavy=frame.heavy * 1000))
    )
    torch.testing.assert_close(one.model.weights, thousand.model.weights, rtol=1e-4, atol=1e-5)
    flat = train(quick(data=data, seeds=1), frame.assign(heavy=1.0), workers=1)
    assert not torch.allclose(one.model.weights, flat.model.weights, atol=1e-4)


def test_training_leaves_the_processs_arithmetic_as_it_was():
    torch.set_flush_denormal(False)
    with exact_arithmetic():
        assert flushes_denormals()
    assert not flushes_denormals()
    torch.set_flush_denormal(True)
    with exact_arithmetic():
        pass
    assert flushes_denormals()
    torch.set_flush_denormal(False)
