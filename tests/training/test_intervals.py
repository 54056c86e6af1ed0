"""Intervals beside predicted numbers hold as many new rows as they say."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from ravine import catalog
from ravine.cli import run_command
from ravine.data import Data, Random
from ravine.errors import InputError
from ravine.training.intervals import calibrate_intervals
from ravine.training.model import Model
from ravine.training.train import open_run, prepare, train


def draw(rows, seed, skewed=False):
    """The spread grows with c."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(rows, 3))
    y = 2 * x[:, 0] + x[:, 1] ** 2 + (0.2 + np.abs(x[:, 2])) * chance.normal(size=rows)
    return pd.DataFrame(x, columns=list("abc")).assign(y=np.exp(y) if skewed else y, z=-y)


def recipe(*targets, **changes):
    split = Random(validation=0.4, test=0.1)
    made = dataclasses.replace(catalog.plain(), data=Data(target=targets), split=split, epochs=12)
    for path, value in {"seeds": 3, **changes}.items():
        made = made.vary(path.replace("__", "."), value)
    return made


def covered(predicted, rows, name):
    inside = (predicted[f"{name} low"] <= rows[name]) & (rows[name] <= predicted[f"{name} high"])
    return inside.mean()


@pytest.fixture(scope="module")
def run():
    return train(recipe("y"), draw(1500, 1).drop(columns="z"), workers=1, baseline=False)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.99])
def test_new_rows_are_inside_as_often_as_the_level_says(run, level):
    new = draw(4000, 2)
    predicted = run.predict(new, interval=level)
    assert (predicted["y low"] < predicted["y"]).all() & (
        predicted["y"] < predicted["y high"]
    ).all()
    # 600 validation rows: the coverage varies by sqrt(p (1 - p) / 600), here three times that
    error = 3 * (level * (1 - level) / 600) ** 0.5
    assert covered(predicted, new, "y") == pytest.approx(level, abs=error)


def test_skewed_targets_that_are_logged_are_covered_too():
    made = recipe("y", encoding__target="log", epochs=6)
    run = train(made, draw(1500, 3, skewed=True).drop(columns="z"), workers=1, baseline=False)
    new = draw(4000, 4, skewed=True)
    predicted = run.predict(new, interval=0.9)
    assert (predicted["y low"] > 0).all()
    assert covered(predicted, new, "y") == pytest.approx(0.9, abs=0.037)


def test_each_of_several_targets_has_its_own_interval():
    run = train(recipe("y", "z"), draw(1500, 5), workers=1, baseline=False)
    new = draw(4000, 6)
    predicted = run.predict(new, interval=0.8)
    assert list(predicted) == ["y", "z", "y low", "y high", "z low", "z high"]
    for name in ("y", "z"):
        assert covered(predicted, new, name) == pytest.approx(0.8, abs=0.05)


def test_calibration_is_the_order_statistic_of_the_ratios(run):
    task, _ = prepare(recipe("y"), draw(1500, 1).drop(columns="z"))
    members = run.model.member_predictions(task.validation)[..., 0].numpy()
    missed = np.abs(task.validation.targets[:, 0].numpy() - members.mean(0))
    offset = np.sort(missed)[(len(missed) - 1) // 2]
    ratios = np.sort(missed / (members.std(0) + offset))
    found = run.record.intervals
    assert found["rows"] == 600 and found["offset"] == pytest.approx([offset])
    for level in (50, 90, 99):
        at = int(np.ceil(601 * level / 100))
        assert found["ratios"][str(level)] == pytest.approx([ratios[at - 1]])


def test_few_validation_rows_give_no_wide_interval():
    table = draw(60, 7).drop(columns="z")
    run = train(recipe("y", split__validation=0.2, epochs=2), table, workers=1, baseline=False)
    assert run.record.intervals["rows"] == 12 and "92" in run.record.intervals["ratios"]
    assert "93" not in run.record.intervals["ratios"]  # 13 times 0.93 is above 12
    run.predict(table, interval=0.9)
    with pytest.raises(InputError, match="12 validation rows are too few for it"):
        run.predict(table, interval=0.95)


@pytest.mark.parametrize("interval", [0.0, 1.0, 0.2, -1.0, float("nan"), 90.0])
def test_a_level_that_is_none_is_refused(run, interval):
    with pytest.raises(InputError, match="it must be from 0.5 to 0.99"):
        run.predict(draw(3, 8), interval=interval)


def test_classes_and_runs_without_validation_rows_have_none():
    table = draw(60, 9).drop(columns="z")
    none = recipe("y", split__validation=0.0, epochs=1, batch=8)
    run = train(none, table, workers=1, baseline=False)
    with pytest.raises(InputError, match="kept no validation rows"):
        run.predict(table, interval=0.9)
    classes = table.assign(y=np.where(table.y > 1, "a", "b"))
    run = train(recipe("y", epochs=1, batch=8), classes, workers=1, baseline=False)
    assert run.record.intervals == {}
    with pytest.raises(InputError, match="classes have probabilities"):
        run.predict(table, interval=0.9)


def test_the_command_writes_them_and_leaves_them_out(tmp_path, capsys):
    table = draw(120, 10).drop(columns="z")
    train(recipe("y", epochs=2), table, out=tmp_path / "run", workers=1, baseline=False)
    table.to_csv(tmp_path / "new.csv", index=False)
    given = ["predict", str(tmp_path / "run"), str(tmp_path / "new.csv")]
    headers = {}
    for level in (["--interval", "0.8"], []):
        assert run_command([*given, *level]) == 0
        headers[tuple(level)] = capsys.readouterr().out.splitlines()[0]
    assert headers == {("--interval", "0.8"): "row,y,y low,y high", (): "row,y"}
    assert run_command([*given, "--interval", "0.999"]) == 2
    assert "there is no interval of 0.999: it must be from 0.5 to 0.99" in capsys.readouterr().err
    again = open_run(tmp_path / "run").predict(table, interval=0.9)
    assert (again["y high"] - again["y low"] > 0).all()


def test_one_network_has_intervals_of_one_width():
    table = draw(200, 11).drop(columns="z")
    task, made = prepare(recipe("y", seeds=1, epochs=1), table)
    run = train(made, table, workers=1, baseline=False)
    assert isinstance(run.model, Model) and calibrate_intervals(run.model, task)
    predicted = run.predict(table, interval=0.9)
    widths = torch.tensor((predicted["y high"] - predicted["y low"]).to_numpy())
    torch.testing.assert_close(widths, widths[:1].expand_as(widths))
