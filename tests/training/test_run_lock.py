"""A run's folder belongs to one process, and one that was killed there leaves it usable."""

import errno
import json
import os
import subprocess
import sys

import pytest

from ravine import catalog
from ravine.cli import run_command
from ravine.errors import InputError, Interrupted, RunError
from ravine.record import read_record
from ravine.training.run_lock import LOCK_FILE, STOP_FILE, lock_folder
from ravine.training.train import open_run, resume, train

HOLDER = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); f.write('77\\n'); "


def quick(**changes):
    recipe = catalog.plain().vary("data.source", "iris").vary("epochs", 1).vary("seeds", 2)
    for path, value in changes.items():
        recipe = recipe.vary(path, value)
    return recipe


def stopped(folder):
    """A run that was stopped at its first step."""
    (folder.parent / "stop now").touch()
    with pytest.raises(Interrupted, match="--resume"):
        train(quick(), out=folder, workers=1, stop=folder.parent / "stop now")
    return folder


def test_a_folder_that_another_process_holds_is_refused_before_the_checks(tmp_path):
    (tmp_path / "r").mkdir()
    lock = tmp_path / "r" / LOCK_FILE
    code = HOLDER + "f.flush(); print(flush=True); sys.stdin.read()"
    held = subprocess.Popen([sys.executable, "-c", code, lock], stdin=-1, stdout=-1)
    assert held.stdout is not None and held.stdout.readline()
    checked = []
    with pytest.raises(RunError, match="is in use: process 77 trains there"):
        train(quick(), out=tmp_path / "r", check=lambda *_: checked.append(1) or (), workers=1)
    assert not checked and [p.name for p in (tmp_path / "r").iterdir()] == [LOCK_FILE]
    held.kill()
    held.communicate()
    train(quick(), out=tmp_path / "r", workers=1)  # the lock of a dead process is taken over
    assert not (tmp_path / "r" / LOCK_FILE).exists()


def test_a_resume_beside_a_run_is_refused(tmp_path):
    folder = stopped(tmp_path / "r")
    with lock_folder(folder):
        with pytest.raises(RunError, match=f"in use: process {os.getpid()}"):
            resume(folder, workers=1)
    resume(folder, workers=1)
    assert open_run(folder).score == train(quick(), workers=1).score


def test_what_a_killed_process_left_does_not_count_but_a_users_file_does(tmp_path):
    for name in (LOCK_FILE, ".ravine-00ff", ".stop-00ff"):
        (tmp_path / name).touch()
    train(quick(), out=tmp_path, workers=1)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/recipe.toml").write_text("precious")
    with pytest.raises(InputError, match="is not empty"):
        train(quick(), out=tmp_path / "mine", workers=1)
    assert (tmp_path / "mine/recipe.toml").read_text() == "precious"


@pytest.mark.parametrize("file", [1, 2], ids=["at the plan", "at the recipe"])
def test_a_disk_full_at_the_first_files_leaves_a_usable_folder(tmp_path, monkeypatch, file):
    real, count = os.fsync, iter(range(9))

    def full(handle):
        if next(count) >= 2 * (file - 1):  # each file is synced, and then its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr("ravine.files.os.fsync", full)
    with pytest.raises(RunError, match="Free disk space, then " + ("try again", "cont")[file - 1]):
        train(quick(), out=tmp_path / "r", workers=1)
    monkeypatch.undo()
    again = train(quick(), out=tmp_path / "r", workers=1) if file == 1 else resume(tmp_path / "r")
    assert (tmp_path / "r/recipe.toml").exists() and again.score is not None


def test_an_edited_recipe_is_refused_and_a_reformatted_one_is_not(tmp_path):
    path = stopped(tmp_path / "r") / "recipe.toml"
    text = path.read_text()
    for change, words in (
        (("lr = 0.1", "lr = 0.2"), "optimizer.lr differs"),
        (("epochs = 1", "epochs = 2"), "epochs differs"),
        (('"iris"', '"wine"'), "data.source"),
        (("epochs = 1", "epochs = "), "cannot be read"),
    ):
        path.write_text(text.replace(*change))
        assert path.read_text() != text
        with pytest.raises(RunError, match=words):
            resume(tmp_path / "r", workers=1)
    path.write_text("# a note\n" + text.replace("lr = 0.1", "lr = 1e-1"))
    resume(tmp_path / "r", workers=1)


def test_a_resume_under_other_versions_says_so(tmp_path, monkeypatch, capsys):
    stopped(tmp_path / "r")
    plan = json.loads((tmp_path / "r/plan.json").read_text())
    assert set(plan["versions"]) == {"python", "torch", "numpy", "numba", "ravine"}
    monkeypatch.setattr("ravine.training.run_folder.installed_version", lambda _: "99.0")
    assert run_command(["train", "--resume", str(tmp_path / "r"), "--quiet"]) == 0
    assert f"torch {plan['versions']['torch']}, then 99.0" in capsys.readouterr().err
    first = read_record(tmp_path / "r").events[0]
    assert first.kind == "versions" and "then 99.0" in first.text


def test_a_stop_that_came_before_the_lock_is_kept_and_a_stale_one_is_not(tmp_path):
    folder = stopped(tmp_path / "r")
    with pytest.raises(Interrupted):
        resume(folder, workers=1, stop=tmp_path / "stop now")
    (folder / STOP_FILE).touch()  # of a process that was killed
    resume(folder, workers=1)


def test_a_doctors_report_is_printed_where_it_cannot_be_kept(tmp_path, monkeypatch, capsys):
    train(quick(), out=tmp_path / "r", workers=1)

    def refuse(path, data):
        raise RunError(f"{path} cannot be written", why="Read-only file system")

    monkeypatch.setattr("ravine.cli.diagnose.write_atomically", refuse)
    assert run_command(["doctor", str(tmp_path / "r"), "--no-trials", "--quiet"]) in (0, 1)
    said = capsys.readouterr()
    assert "RVN" in said.out or "nothing found" in said.out
    assert "note: " in said.err and "Read-only" in said.err
