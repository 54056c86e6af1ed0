"""Files of earlier versions are still read: recipes, run folders, and what commands printed with
`--json` (`tests/old_formats/README.md`).
"""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from torch import nn

import ravine
from ravine.augment import KorniaAugmentation
from ravine.catalog import PARTS_BY_ROLE
from ravine.cli import run_command
from ravine.data import read_table
from ravine.finding import Finding, Report
from ravine.networks import TorchModule
from ravine.old_names import OLD_PART_NAMES, current_code
from ravine.optimizers import Lookahead, TorchOptimizer
from ravine.recipe_files import recipe_text, with_settings
from ravine.record import read_record

FILES = Path(__file__).parent / "old_formats"


def two_layers(signature):
    return nn.Sequential(
        nn.Linear(signature.numbers, 8), nn.ReLU(), nn.Linear(8, signature.outputs)
    )


def saved(name):
    return json.loads((FILES / name).read_text("utf-8"))


def read_named(name, folder):
    """A recipe file of old, read and written again, and that read again."""
    recipe = ravine.read_recipe(FILES / name)
    again = folder / name
    again.write_text(recipe_text(recipe, folder), encoding="utf-8")
    return recipe, again.read_text("utf-8"), ravine.read_recipe(again)


def test_a_recipe_of_a_table_is_read_and_means_the_same(tmp_path):
    recipe, text, again = read_named("table.toml", tmp_path)
    assert type(recipe.optimizer) is TorchOptimizer
    assert recipe.optimizer.optimizer == "Adagrad"
    assert recipe.optimizer.settings == {"lr_decay": 0.1}
    assert recipe.optimizer.lr == 0.05
    assert again == recipe
    assert "Guest" not in text and 'name = "TorchOptimizer"' in text


def test_a_recipe_of_images_is_read_and_means_the_same(tmp_path):
    recipe, text, again = read_named("images.toml", tmp_path)
    assert type(recipe.augment[1]) is KorniaAugmentation
    assert recipe.augment[1].augmentation == "RandomInvert"
    assert recipe.augment[1].settings == {"p": 0.25}
    assert isinstance(recipe.optimizer, Lookahead)
    assert isinstance(recipe.optimizer.inner, TorchOptimizer)
    assert recipe.optimizer.inner.optimizer == "Adam"
    assert again.optimizer == recipe.optimizer and again.augment == recipe.augment
    assert "Guest" not in text and 'name = "KorniaAugmentation"' in text


def test_an_old_name_changes_the_settings_of_the_part_that_has_it_now():
    recipe = ravine.read_recipe(FILES / "table.toml")
    varied = with_settings(recipe, *["optimizer=Guest", "optimizer.lr=0.5"]).optimizer
    assert type(varied) is type(recipe.optimizer) and varied.lr == 0.5


@pytest.mark.parametrize(("name", "module"), [("run", None), ("run-module", two_layers)])
def test_a_run_predicts_as_it_did(name, module):
    run = ravine.open_run(FILES / name, module=module)
    expected = pd.read_csv(FILES / name / "predictions.csv")
    predictions = run.predict(read_table(FILES / "rows.csv"))
    pd.testing.assert_frame_equal(predictions, expected, rtol=1e-4, check_dtype=False)
    assert run.record.series["train/loss"].values.shape[1] == 2
    assert (type(run.model.recipe.network) is TorchModule) == (module is not None)


def test_a_run_on_images_predicts_as_it_did(tmp_path):
    folder, out = shutil.copytree(FILES / "run-images", tmp_path / "run"), tmp_path / "out.csv"
    assert run_command(["predict", str(folder), str(FILES / "images"), "-o", str(out)]) == 0
    expected = pd.read_csv(FILES / "run-images" / "predictions.csv")
    pd.testing.assert_frame_equal(pd.read_csv(out), expected, rtol=1e-4)
    recipe = ravine.open_run(folder).model.recipe
    assert type(recipe.optimizer) is TorchOptimizer
    assert type(recipe.augment[1]) is KorniaAugmentation


def test_every_old_name_means_a_part_and_no_two_of_one_place():
    known = {cls.__name__ for classes in PARTS_BY_ROLE.values() for cls in classes}
    assert set(OLD_PART_NAMES) <= known
    for classes in PARTS_BY_ROLE.values():
        names = [
            n for cls in classes for n in (cls.__name__, *OLD_PART_NAMES.get(cls.__name__, ()))
        ]
        assert len(names) == len(set(names))


def test_a_run_of_old_is_diagnosed(tmp_path, capsys):
    folder = shutil.copytree(FILES / "run", tmp_path / "run")
    assert run_command(["doctor", str(folder), "--no-trials", "--json"]) in (0, 1)
    assert set(saved("doctor.json")) <= set(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("name", ["check.json", "doctor.json"])
def test_findings_are_read_as_they_were_printed(name):
    text = (FILES / name).read_text("utf-8")
    expected = json.loads(re.sub(r"RVN-\w+", lambda match: current_code(match[0]), text))
    assert Report.from_json(saved(name)).to_json() == expected


def test_a_finding_with_a_retired_code_is_read_as_one_of_today():
    plain = saved("doctor.json")["findings"][0] | {"code": "RVN-T22", "explains": ["RVN-T24"]}
    found = Finding.from_json(plain)
    assert (found.code, found.explains) == ("RVN-T02", ("RVN-T04",))


def test_an_event_with_a_retired_code_is_read_as_one_of_today(tmp_path):
    folder = shutil.copytree(FILES / "run", tmp_path / "run")
    record = json.loads((folder / "record.json").read_text("utf-8"))
    record["events"].append({"step": 3, "kind": "RVN-T01", "text": "diverged", "member": None})
    (folder / "record.json").write_text(json.dumps(record), "utf-8")
    assert read_record(folder).events[-1].kind == "RVN-N01"


PLAIN = ["iris", "--recipe", "plain"]
SMALL = 'network.initializer={name="Normal", sd=0.001}'
COMMANDS = {
    "train.json": ["train", str(FILES / "table.toml"), "--out", "run"],
    "show.json": ["show", str(FILES / "run")],
    "check.json": ["check", *PLAIN, "--set", "optimizer.lr=1e-6", "--set", SMALL],
    "explain.json": ["explain", "L01"],
    "range.json": ["range", "iris", "--rates", "4", "--seeds", "2", "--steps", "20"],
    "ensemble.json": [
        *["ensemble", "iris", "--members", "2", "--repeats", "2", "--set", "epochs=4"]
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_that_a_command_printed_is_there_today(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command([*COMMANDS[name], "--json"]) in (0, 1)
    assert missing_keys(saved(name), json.loads(capsys.readouterr().out)) == []


RENAMED = {"f1": "macro_f1"}  # of several classes: f1 is that of the positive class


def missing_keys(before, now, path=""):
    """The keys of one object that another has not; of lists the first entries are compared."""
    if isinstance(before, dict) and isinstance(now, dict):
        gone = [f"{path}.{key}" for key in before if not {key, RENAMED.get(key)} & now.keys()]
        below = [missing_keys(before[k], now[k], f"{path}.{k}") for k in before if k in now]
        return gone + [key for keys in below for key in keys]
    if isinstance(before, list) and isinstance(now, list) and before and now:
        return missing_keys(before[0], now[0], f"{path}[0]")
    return []
