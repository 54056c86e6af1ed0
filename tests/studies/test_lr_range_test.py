"""The range test against the closed form of a linear model, against training at the rate found, and
by hand.
"""

import json
import math

import numpy as np
import pytest
import torch

from ravine import catalog
from ravine.cli import run_command
from ravine.errors import InputError, RecipeError
from ravine.optimizers import SGD
from ravine.schedules import Cosine
from ravine.studies.lr_range_test import range_test, read_range
from ravine.training.defaults import prepare
from ravine.training.train import train_all


@pytest.mark.parametrize("source", ["diabetes", "friedman1"])
def test_the_largest_rate_of_a_linear_model_is_two_over_its_largest_curvature(source):
    recipe = (
        catalog.plain()
        .vary("data.source", source)
        .vary("network.hidden", ())
        .vary("optimizer", SGD(lr=0.1))
    )
    recipe = recipe.vary("batch", "all")
    task, _ = prepare(recipe)
    x = torch.cat([task.train_examples.numbers, torch.ones(task.train.count, 1)], 1).double()
    stable = 2 / float(torch.linalg.eigvalsh(x.T @ x / len(x))[-1])  # of the mean of ½ (y − f)²
    found = range_test(recipe, low=1e-3, rates=49, steps=200)
    assert found.largest.value <= stable < found.largest.value * found.spacing * 1.001
    assert found.too_high == pytest.approx(found.largest.value * found.spacing)


def test_the_rate_found_trains_better_than_one_ten_times_smaller_or_larger():
    recipe = catalog.plain().vary("data.source", "digits").vary("epochs", 4).vary("seeds", 3)
    found = range_test(recipe, rates=22, seeds=2)
    assert 0.02 < found.rate < 0.3  # the recipe's own 0.1 was tuned
    runs = train_all(
        [recipe.vary("optimizer.lr", found.rate * times) for times in (1.0, 0.1, 10.0)]
    )
    loss = [
        np.mean([m.validation["loss"] for m in run.record.members])
        if not run.record.failures
        else math.inf
        for run in runs
    ]
    assert loss[0] < loss[1] and loss[0] < loss[2]


def test_what_the_lecture_says_of_curves_is_what_is_read_from_them():
    rates = np.geomspace(1e-4, 10, 6)
    losses = np.array(
        [[2.0, 2.0], [1.95, 1.95], [1.0, 1.1], [0.2, 0.3], [0.9, 3.0], [np.inf, np.nan]]
    )
    found = read_range(rates, np.array([2.0, 2.0]), losses, steps=100)
    assert found.rate == rates[3] and found.lowest.value == pytest.approx(rates[2])
    assert found.too_low == rates[1] and found.too_high == rates[5]
    # one seed can use 1, the other 0.1: the geometric mean, and an interval that holds both
    assert found.largest.value == pytest.approx(math.sqrt(rates[3] * rates[4]))
    assert (found.largest.low, found.largest.high) == pytest.approx((rates[3], rates[4]))


def test_a_rate_beyond_one_that_failed_is_not_usable():
    losses = np.array([[1.0], [0.1], [5.0], [0.2]])
    assert read_range(
        np.geomspace(1e-3, 1, 4), np.array([2.0]), losses, steps=9
    ).largest.value == pytest.approx(0.01)


def test_the_recipes_schedule_averages_and_stopping_do_not_matter():
    recipe = catalog.plain().vary("data.source", "iris")
    options = {"rates": 8, "steps": 40, "seeds": 2}
    plain, other = (
        range_test(recipe, **options),
        range_test(recipe.vary("schedule", Cosine()), **options),
    )
    np.testing.assert_array_equal(plain.losses, other.losses)
    np.testing.assert_array_equal(
        plain.losses[:, 1], range_test(recipe.vary("seed", 1), **options).losses[:, 0]
    )


def test_a_large_split_is_cut_and_a_picture_drawn():
    recipe = catalog.plain().vary("data.source", "digits").vary("batch", 16)
    found = range_test(recipe, rates=8, steps=20, seeds=1)
    assert found.steps == 20 and math.isnan(found.largest.low)
    axes = found.figure().axes[0]
    assert axes.get_xscale() == "log" and "20 steps" in axes.get_ylabel()
    assert "nan" not in found.summary() and "(one seed)" in found.summary()


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("best", [0.5, 0.001, 0.0])
def test_the_picture_draws_the_mean_that_it_names(seeds, best):
    """The arithmetic mean: where one seed of several explodes, the line is far above the start."""
    losses = np.full((5, seeds), best)
    losses[0], losses[3, 0], losses[4, 0] = 2.0, 500.0, np.inf
    found = read_range(np.geomspace(1e-3, 10, 5), np.full(seeds, 2.0), losses, steps=9)
    assert "nan" not in found.summary() and max(map(len, found.summary().splitlines())) <= 80
    axes = found.figure().axes[0]
    line = axes.lines[0].get_ydata()
    np.testing.assert_allclose(line[:4], losses[:4].mean(1))
    assert math.isnan(line[4]) and line[3] > 2.0 * 50
    assert axes.get_yscale() == ("linear" if best == 0.5 else "log")
    low, high = axes.get_ylim()
    assert (
        low <= best + 1e-5
        and high > 4.0
        and np.asarray(axes.lines[1].get_xdata()).tolist() == [10.0]
    )
    assert axes.get_title("left").startswith("One seed" if seeds == 1 else "Line: mean over seeds")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": 0.0}, "above 0"),
        ({"low": 1.0, "high": 0.1}, "below the"),
        ({"rates": 2}, "at least 3"),
        ({"steps": 1}, "at least 10"),
        ({"seeds": 0}, "at least 1"),
        ({"seeds": 2**63 - 1}, "at most 100000"),
        ({"low": None}, "a finite number"),
    ],
)
def test_ranges_that_are_none_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        range_test(catalog.plain().vary("data.source", "iris"), **options)


def test_where_no_rate_works_it_is_said():
    with pytest.raises(RecipeError, match="at no learning rate does the loss fall"):
        range_test(
            catalog.plain().vary("data.source", "iris"), low=1e4, high=1e6, rates=3, steps=20
        )


def test_the_command_prints_draws_and_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--rates", "9", "--steps", "30", "--seeds", "2", "--recipe", "plain"]
    assert run_command(["range", "iris", *few, "-o", "r.svg"]) == 0
    assert "usable: " in capsys.readouterr().out and (tmp_path / "r.svg").read_text().startswith(
        "<svg"
    )
    assert (
        run_command(["range", "iris", *few, "-o", "r.svg"]) == 2
        and "already exists" in capsys.readouterr().err
    )
    assert (
        run_command(["range", "iris", *few, "-o", "r.docx"]) == 2
        and ".svg" in capsys.readouterr().err
    )
    assert run_command(["range", "iris", *few, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (
        said["schema"] == 1 and len(said["losses"]) == 9 and said["lowest"]["value"] <= said["rate"]
    )
    assert run_command(["range", "iris", "--low", "1", "--high", "0.1"]) == 2
