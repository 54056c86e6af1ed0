"""The command line's options: the same in every command, explained, and wrong ones answered in one
message.
"""

import io
import itertools
import json
import re

import pandas as pd
import pytest
from rich.console import Console

from ravine import catalog, recipe_files
from ravine.cli.app import app, run_command
from ravine.cli.options import option_value
from ravine.errors import RecipeError
from ravine.optimizers import AdamW
from ravine.recipe_files import with_settings
from ravine.serialization import get
from ravine.training.defaults import prepare


def helps_of(command):
    """What the help says of each option of a command, without its default."""
    text = io.StringIO()
    app.help_print([command], console=Console(file=text, width=500))
    rows = re.findall(
        r"^│ \*?\s*(--[\w-]+)( -\w)?( [A-Z]+(?:\.\.\.)?)?(.*)│$", text.getvalue(), re.M
    )
    return {name: said.split("[default")[0].strip() for name, _, _, said in rows}


def test_every_option_is_explained_and_means_the_same_in_every_command():
    said = {}
    for command in (name for name in app if not name.startswith("-")):
        for name, text in helps_of(command).items():
            assert len(text) > 5, f"{command} {name} has no help"
            if name in ("--target", "--set", "--recipe", "--json", "--force", "--quiet"):
                said.setdefault(name, set()).add(text)
    assert len(said) == 6 and all(len(texts) == 1 for texts in said.values()), said


def test_a_parts_name_and_its_settings_are_taken_together():
    plain = catalog.named_recipe("plain")
    assert with_settings(
        plain, *["split=ByTime", "epochs=3", "split.column=sold"]
    ) == recipe_files.with_changes(
        plain, {"epochs": 3, "split": {"name": "ByTime", "column": "sold"}}
    )
    told = with_settings(
        plain, *["schedule=WarmUp", "schedule.then=StepDecay", "schedule.then.gamma=0.5"]
    )
    assert told == recipe_files.with_changes(
        plain, {"schedule": {"name": "WarmUp", "then": {"name": "StepDecay", "gamma": 0.5}}}
    )
    own = catalog.named_recipe("default").vary("optimizer", AdamW(beta1=0.5))
    told = with_settings(own, *["optimizer=AdamW", "optimizer.lr=0.1"]).optimizer
    assert told == AdamW(
        lr=0.1
    )  # a name alone starts from the part's defaults, whichever part the recipe has


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("snapshots=Snapshots stop=none schedule=SGDR", {"snapshots": "Snapshots", "stop": "none"}),
        ("split.column=sold split=ByTime", {"split": {"name": "ByTime", "column": "sold"}}),
        ("optimizer.lr=0.1 optimizer.name=SGD", {"optimizer": {"name": "SGD", "lr": 0.1}}),
        (
            "schedule=WarmupStableDecay schedule.warmup=0.9 schedule.cooldown=0.1",
            {"schedule": {"name": "WarmupStableDecay", "warmup": 0.9, "cooldown": 0.1}},
        ),
        (
            "schedule=WarmUp schedule.then=StepDecay schedule.then.gamma=0.5",
            {"schedule": {"name": "WarmUp", "then": {"name": "StepDecay", "gamma": 0.5}}},
        ),
        ("penalties=L2 penalties.0.strength=0.2", {"penalties": [{"name": "L2", "strength": 0.2}]}),
        ("network.hidden.1=7 network.hidden=[3,4]", {"network": {"hidden": [3, 7]}}),
        ("network.hidden.1=7 network.hidden.0=5", {"network": {"hidden": [5, 7]}}),
        ("split.validation=0 stop=none", {"split": {"validation": 0}, "stop": "none"}),
        ("clip.limit=2 clip=ClipNorm", {"clip": {"name": "ClipNorm", "limit": 2}}),
    ],
)
def test_settings_mean_the_same_in_every_order(given, whole):
    default = catalog.named_recipe("default")
    if "SGDR" in given:
        whole = {**whole, "schedule": "SGDR"}
    expected = recipe_files.with_changes(default, whole)
    for order in itertools.permutations(given.split()):
        assert with_settings(default, *order) == expected, order


def test_a_setting_has_one_value():
    with pytest.raises(RecipeError, match="--set epochs=3 --set epochs=4: epochs is set twice"):
        with_settings(catalog.named_recipe("default"), "epochs=3", "seeds=2", "epochs=4")
    assert with_settings(catalog.named_recipe("default"), "epochs=3", "epochs=3").epochs == 3


def test_values_of_a_search_are_taken_together():
    default = catalog.named_recipe("default")
    values = {"split.validation": 0, "stop": None}
    assert recipe_files.with_values(default, values).split.validation == 0
    recipe = default.vary("network.hidden", (8, 8))
    values = {"network.hidden.0": 4, "network.hidden.1": 5}
    assert get(recipe_files.with_values(recipe, values), "network.hidden") == (4, 5)


def test_an_entry_of_a_list_can_be_set_at_any_depth():
    default = catalog.named_recipe("default")
    assert get(with_settings(default, *["network.hidden.0=64"]), "network.hidden") == (64, 256)
    told = with_settings(
        default, *["penalties=[{name='L2', strength=0.1}, 'L1']", "penalties.0.strength=0.2"]
    )
    assert [type(p).__name__ for p in told.penalties] == ["L2", "L1"] and get(
        told, "penalties.0.strength"
    ) == 0.2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["split=ByTime"], "--set split=ByTime: ByTime needs column. Set split.column, too."),
        (
            ["clip.norm=1"],
            "--set clip.norm=1: clip is not set: it may be ClipNorm, ClipValue. Write "
            "--set clip=ClipNorm, too, which has the settings limit.",
        ),
        (["loss.delta=2"], "Write --set loss=Huber, too, which has the settings delta"),
        (["network.hidden.5=64"], "no setting 'network.hidden.5': its places are 0 to 1"),
        (["penalties.0.strength=1"], "there is nothing in it. Set penalties as a whole."),
        (
            ["split=ByTime", "split.colum=x"],
            "--set split=ByTime --set split.colum=x: ByTime has no setting 'colum'",
        ),
    ],
)
def test_a_setting_that_cannot_be_made_says_what_to_write(given, said):
    with pytest.raises(RecipeError) as caught:
        with_settings(catalog.named_recipe("default"), *given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "train t.csv --epochs 3",
            "train has no option --epochs: epochs is a setting of the recipe. Write "
            "--set epochs=3.",
        ),
        ("train t.csv --epochs=3", "Write --set epochs=3."),
        ("train t.csv --lr 0.1", "Write --set optimizer.lr=0.1."),
        ("check t.csv --learning-rate", "Write --set optimizer.lr=VALUE."),
        ("range t.csv --network.dropout.rate 0.3", "Write --set network.dropout.rate=0.3."),
        ("train t.csv --targt y", "Unknown option: --targt. Did you mean --target?"),
        ("show t --epochs 3", "Unknown option: --epochs. See ravine show --help."),
        ("show a b", "b: one argument too many"),
        ("trian t.csv", "ravine has no command 'trian': there are augment, check, "),
        ("trian t.csv", "Did you mean 'train'?"),
        ("", "no command is named: there are augment, check, "),
        ("--help nothing", "ravine has no command 'nothing': there are augment, check, "),
        ("check", 'Command "check" parameter WHAT requires an argument. See ravine check --help.'),
        (
            "train t.csv --seeds many",
            "Invalid value for --seeds: it must be an integer, not 'many'",
        ),
    ],
)
def test_arguments_that_no_command_takes_are_one_message_and_one_object(asked, said, capsys):
    assert run_command([*asked.split(), "--json"]) == 2
    out, err = capsys.readouterr()
    assert said in err and err.startswith("error: ") and len(err.splitlines()) == 1
    assert json.loads(out)["error"]["what"] in err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("optimizer=Adma", "Did you mean 'Adam'?"),
        ("network.hidden=64", "Mlp.hidden is 64: it must be a list. Write [64]."),
        ("data.drop=id", "Data.drop is 'id': it must be a list. Write [\"id\"]."),
        ("network.hidden=[1,2,-3]", "it must be at least 1 at place 2, not -3"),
        ('data.target=["y", "y"]', "data.target has 'y' twice: each target is learned once"),
    ],
)
def test_a_wrong_value_says_what_to_write(given, said):
    with pytest.raises(RecipeError) as caught:
        with_settings(catalog.named_recipe("default"), *[given])
    assert said in str(caught.value)


def test_long_values_are_shortened_in_messages():
    given = f"network.hidden={[*range(1, 500), -1]}"
    with pytest.raises(RecipeError) as caught:
        with_settings(catalog.named_recipe("default"), *[given])
    assert len(str(caught.value)) < 240 and "at place 499, not -1" in str(caught.value)


def test_going_on_is_advised_only_where_a_run_was_begun(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    for asked in ("show", "train iris --out"):
        for place in ("full", "file"):
            assert run_command([*asked.split(), str(tmp_path / place)]) == 2
            assert "resume" not in capsys.readouterr().err
        (tmp_path / "full" / "plan.json").write_text("{}")
        assert run_command([*asked.split(), str(tmp_path / "full")]) == 2
        assert f"ravine train --resume {tmp_path / 'full'}" in capsys.readouterr().err
        (tmp_path / "full" / "plan.json").unlink()


def test_on_a_terminal_messages_are_wrapped(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run_command(["train", "iris", "--set", "optimizer=Adma"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 80


def test_the_word_for_a_setting_is_its_path(tmp_path):
    table = pd.DataFrame({"x": [i**0.5 for i in range(80)], "n": [0, 1, 2, 3] * 20})
    said = prepare(with_settings(catalog.named_recipe("plain"), *['data.target=["n"]']), table)[
        0
    ].notes
    assert any('set data.task = "regression"' in line for line in said)


def test_an_empty_value_is_none():
    assert option_value("--lr", ["train", "t.csv", "--lr", ""]) == "VALUE"
    assert option_value("--lr", ["train", "t.csv", "--lr"]) == "VALUE"
    assert option_value("--lr", ["train", "--lr", "0.1"]) == "0.1"
