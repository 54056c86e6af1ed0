"""Paths in a recipe file start at the file's folder, and a run's own recipe finds its data from
anywhere.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ravine import recipe_files
from ravine.catalog import named_recipe
from ravine.cli import run_command
from ravine.examination.recipe_subject import subject_of
from ravine.networks.pretrained import Continued, Pretrained
from ravine.training.train import open_run, train

RECIPE = 'base = "plain"\nepochs = 2\n[data]\nsource = "houses.csv"\ntarget = ["y"]\n'


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A folder `a` with a table, in which we stand, and a folder `b` without one."""
    for name in "ab":
        (tmp_path / name).mkdir()
    random = np.random.default_rng(0)
    pd.DataFrame({"x": random.normal(size=80), "y": random.normal(size=80)}).to_csv(
        tmp_path / "a" / "houses.csv"
    )
    monkeypatch.chdir(tmp_path / "a")
    return tmp_path


def test_a_runs_own_recipe_trains_the_same_data_from_anywhere(table, monkeypatch, capsys):
    assert (
        run_command(
            "train houses.csv --target y --recipe plain --set epochs=2 --quiet --out run".split()
        )
        == 0
    )
    monkeypatch.chdir(table / "b")
    assert run_command("train ../a/run/recipe.toml --quiet --out again".split()) == 0
    first, second = (
        json.loads((table / at / "record.json").read_text()) for at in ("a/run", "b/again")
    )
    assert first["score"] == second["score"]


def test_a_stopped_run_goes_on_from_another_folder(table, monkeypatch, capsys):
    command = "train houses.csv --target y --recipe plain --set epochs=2 --quiet --out run"
    assert run_command(command.split()) == 0
    (table / "a/run/record.json").unlink()  # as if it had been stopped at its last step
    monkeypatch.chdir(table / "b")
    assert run_command("train --resume ../a/run --quiet".split()) == 0


def test_nothing_is_taken_from_the_working_folder_in_silence(table, monkeypatch, capsys):
    (table / "b" / "r.toml").write_text(RECIPE)
    assert run_command(["train", "../b/r.toml", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert (
        "../b/houses.csv does not exist" in said
        and f"there is a houses.csv in {table / 'a'}" in said
    )


def test_weights_start_at_the_recipes_folder_too(table):
    text = (
        '[network]\nname = "Continued"\nweights = "old/w.pt"\nnetwork = {name = "Continued", '
        'weights = "v.pt"}\n'
    )
    (table / "b" / "r.toml").write_text(text)
    network = recipe_files.read_recipe("../b/r.toml").network
    assert isinstance(network, Continued) and isinstance(network.network, Continued)
    assert network.weights == "../b/old/w.pt" and network.network.weights == "../b/v.pt"
    (table / "b" / "r.toml").write_text(
        'base = "image"\nnetwork = {name = "Pretrained", weights = "random"}\n'
    )
    network = recipe_files.read_recipe("../b/r.toml").network
    assert isinstance(network, Pretrained) and network.weights == "random"


def test_a_bundled_set_stays_its_name(table):
    (table / "b" / "r.toml").write_text('[data]\nsource = "iris"\n')
    assert recipe_files.read_recipe("../b/r.toml").data.source == "iris"
    assert (
        recipe_files.with_lasting_paths(recipe_files.read_recipe("../b/r.toml")).data.source
        == "iris"
    )


def test_a_recipe_written_to_another_folder_names_the_same_file(table, capsys):
    command = (
        "tune houses.csv --target y --recipe plain --set epochs=1 --space "
        "optimizer.lr=[0.1] --confirm 0 --quiet"
    )
    assert run_command([*command.split(), "-o", "../b/study"]) == 0
    found = recipe_files.read_recipe("../b/study/best.toml").data.source
    assert os.path.samefile(found, table / "a" / "houses.csv")
    assert run_command([*command.split(), "-o", "study"]) == 0
    assert 'source = "../houses.csv"' in (table / "a" / "study" / "best.toml").read_text()


def test_a_run_s_folder_that_is_called_as_a_bundled_set_is_not_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = named_recipe("plain").vary("data.source", "iris").vary("epochs", 1)
    first = train(recipe, out="iris")
    assert open_run("iris").score.value == first.score.value
    assert subject_of(Path("iris")).recipe.data.source == "iris"
    assert train(recipe, out="again").score.value == first.score.value
