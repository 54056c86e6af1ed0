"""A run's folder and its data can be moved, together or alone."""

import numpy as np
import pandas as pd
import pytest

from ravine import catalog
from ravine.cli import run_command
from ravine.errors import Interrupted, RunError
from ravine.examination.api import doctor
from ravine.networks.pretrained import Continued
from ravine.training.train import open_run, resume, train


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A run that was stopped at its first step, in a folder beside its data."""
    (tmp_path / "one/runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one")
    rows = np.arange(90)
    pd.DataFrame({"a": rows % 7, "y": rows % 5 + 0.5}).to_csv("t.csv", index=False)
    (tmp_path / "stop now").touch()
    with pytest.raises(Interrupted):
        train(recipe(), out="runs/r", workers=1, stop=tmp_path / "stop now")
    return tmp_path


def recipe():
    table = {"data.source": "t.csv", "data.target": ("y",), "epochs": 1, "seeds": 2}
    found = catalog.plain()
    for place, value in table.items():
        found = found.vary(place, value)
    return found


def test_a_folder_and_its_data_move_together(begun, monkeypatch):
    for name in ("plan.json", "recipe.toml"):
        assert str(begun) not in (begun / "one/runs/r" / name).read_text()
    (begun / "one").rename(begun / "two")
    monkeypatch.chdir(begun)
    resume("two/runs/r", workers=1)
    assert str(begun) not in (begun / "two/runs/r/record.json").read_text()


def test_the_record_of_a_resumed_run_is_that_of_one_never_stopped(begun):
    resumed = resume("runs/r", workers=1).record
    assert resumed.recipe == train(recipe(), out="runs/whole", workers=1).record.recipe


def test_a_run_that_diverged_finds_its_data_from_anywhere(begun, monkeypatch):
    wild = recipe().vary("optimizer.lr", 1e30)
    assert train(wild, out="runs/wild", workers=1).model is None
    monkeypatch.chdir(begun)
    assert doctor(open_run("one/runs/wild"), trials=False).findings


def test_a_folder_that_moves_alone_says_where_it_looked_and_takes_the_path(begun, monkeypatch):
    whole = train(recipe(), workers=1).score
    (begun / "far/away").mkdir(parents=True)
    (begun / "one/runs/r").rename(begun / "far/away/r")
    monkeypatch.chdir(begun / "far/away")
    (begun / "other.csv").write_text("a,y\n" + "1,2.5\n2,3.5\n" * 40)
    looked = f"data.source is {begun}/far/t.csv, which does not exist.*--set data.source=PATH"
    for act in (resume, doctor):
        with pytest.raises(RunError, match=looked):
            act("r")
        with pytest.raises(RunError, match="epochs of r cannot be changed.*data.source"):
            act("r", files={"epochs": "1"})
        with pytest.raises(RunError, match=f"data.source is {begun}/far/away/none.csv, which"):
            act("r", files={"data.source": "none.csv"})
    with pytest.raises(RunError, match="the data of r have changed"):
        resume("r", files={"data.source": begun / "other.csv"})
    assert resume("r", files={"data.source": begun / "one/t.csv"}, workers=1).score == whole
    table = begun / "one/t.csv"
    assert len(open_run("r").predict(pd.read_csv(table))) == 90  # needs no data of its own
    command = ["doctor", "r", "--no-trials", "--quiet"]
    assert run_command(command) == 2
    assert run_command([*command, "--set", f"data.source={table}"]) in (0, 1)
    assert run_command([*command, "--target", "y"]) == 2


def test_a_frame_stands_for_the_source_alone(begun):
    whole = train(recipe(), workers=1).score
    frame = pd.read_csv("t.csv")
    (begun / "one/t.csv").unlink()
    for act in (resume, doctor):
        with pytest.raises(RunError, match="epochs of .*r cannot be changed"):
            act("runs/r", frame, files={"epochs": "1"})
    assert doctor("runs/r", frame, trials=False).checks.failed == ()
    assert resume("runs/r", frame, workers=1).score == whole


def test_weights_that_moved_are_named_and_taken_beside_a_frame(begun):
    frame = pd.read_csv("t.csv")
    first = train(recipe().vary("data.source", ""), frame, out="first", workers=1).recipe
    continued = Continued(network=first.network, weights="first")
    again = recipe().vary("data.source", "").vary("network", continued)
    with pytest.raises(Interrupted):
        train(again, frame, out="runs/more", workers=1, stop=begun / "stop now")
    (begun / "one/first").rename(begun / "weights of before")
    with pytest.raises(RunError, match="network.weights is .*first, which does not exist"):
        resume("runs/more", frame, workers=1)
    moved = {"network.weights": begun / "weights of before"}
    assert resume("runs/more", frame, files=moved, workers=1).model is not None
