"""`ravine runs`: finished, diverged, unfinished and damaged runs in one table."""

import json
import os

import pytest

import ravine
from ravine.cli.app import run_command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 2)
    for name, varied in {
        "good": recipe.vary("epochs", 20),
        "poor": recipe.vary("optimizer.lr", 1e-6),
        "deep/er/wild": recipe.vary("optimizer.lr", 1e20),
    }.items():
        ravine.train(varied, out=tmp_path / "runs" / name, baseline=False)
    for name in ("begun", "damaged"):
        path = tmp_path / "runs" / name
        path.mkdir()
        (path / "plan.json").write_text("{}")
    (tmp_path / "runs" / "damaged" / "record.json").write_text("{}")
    (tmp_path / "runs" / "empty").mkdir()
    os.utime(tmp_path / "runs" / "good" / "record.json", (0, 0))
    return tmp_path / "runs"


def listed(capsys, *arguments):
    assert run_command(["runs", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["runs"]


def test_runs_are_listed_with_their_scores(folder, capsys):
    runs = {run["folder"]: run for run in listed(capsys)}
    assert set(runs) == {f"runs/{n}" for n in ("good", "poor", "deep/er/wild", "begun", "damaged")}
    record = ravine.open_run(folder / "good").record
    assert runs["runs/good"]["score"] == record.score.value
    assert runs["runs/good"]["constant"] == record.score.constant_baseline
    assert runs["runs/deep/er/wild"]["failures"] == 1
    assert runs["runs/deep/er/wild"]["findings"]["error"] >= 1
    assert runs["runs/begun"]["state"] == "begun"
    assert runs["runs/damaged"]["state"] == "damaged"


def test_runs_are_sorted(folder, capsys):
    by_score = [run["folder"] for run in listed(capsys, "--sort", "score")]
    assert by_score[:2] == ["runs/good", "runs/poor"]
    assert [run["folder"] for run in listed(capsys)][-1] == "runs/good"
    by_name = [run["folder"] for run in listed(capsys, "--sort", "name")]
    assert by_name == sorted(by_name)


def test_the_table_fits_a_terminal(folder, capsys):
    assert run_command(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and max(map(len, lines)) <= 80
    assert any("all diverged" in line for line in lines)


def test_folders_without_runs_are_no_failure(folder, capsys):
    assert run_command(["runs", "runs/empty"]) == 0
    assert "holds no runs" in capsys.readouterr().err
    for wrong in ("nowhere", "runs/good/record.json"):
        assert run_command(["runs", wrong]) == 2
        assert "is no folder" in capsys.readouterr().err
