"""Runs under attack: two writers of one folder, kills at every event of a file in it.

`python -m pytest -m slow -n 0 tests/hard/test_runs.py`
"""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow
QUICK = "iris --recipe plain --seeds 2 --set epochs=20 --no-check --quiet".split()
# kills itself at the n-th time that something happens to a file in the folder
KILLED = """
import os, signal, sys
folder, wanted = sys.argv[1], int(sys.argv[2])
count = 0
def watch(event, args):
    global count
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.truncate"):
        count += any(isinstance(a, (str, os.PathLike)) and folder in str(a) for a in args)
        if count == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from ravine.cli import main
main(["train", *sys.argv[3:], "-o", folder])
"""


def start(*arguments, **options):
    command = [sys.executable, "-m", "ravine", *map(str, arguments)]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, start_new_session=True, **{**streams, **options})


def finish(process, seconds=300):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def result(folder):
    """What must be the same: weights, series, score."""
    weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    score = json.loads((folder / "record.json").read_text())["score"]
    return weights, (folder / "series.csv").read_bytes(), score


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick") / "run"
    assert finish(start("train", *QUICK, "-o", folder))[0] == 0
    return result(folder)


@pytest.mark.parametrize("attempt", range(6))
def test_of_two_writers_of_one_folder_one_trains_and_one_is_refused(tmp_path, quick, attempt):
    sets = QUICK, ["wine", *QUICK[1:]]
    if attempt >= 3:  # a run is continued, twice
        first = start("train", *QUICK, "-o", tmp_path / "r")
        while not (tmp_path / "r/plan.json").exists():
            time.sleep(0.005)
        first.kill()
        finish(first)
        arguments = [("--resume", tmp_path / "r")] * 2
    else:
        arguments = [(*one, "-o", tmp_path / "r") for one in sets]
    both = [start("train", *one) for one in arguments]
    ended = [finish(one) for one in both]
    assert sorted(code for code, _, _ in ended) == [0, 2], ended
    refused = next(err for code, _, err in ended if code == 2)
    assert "in use: process" in refused or "not empty" in refused or "is finished" in refused
    record = json.loads((tmp_path / "r/record.json").read_text())
    assert finish(start("show", tmp_path / "r"))[0] == 0
    assert record["recipe"]["data"]["source"] in ("iris", "wine")
    if record["recipe"]["data"]["source"] == "iris":
        assert result(tmp_path / "r") == quick
    assert not [p for p in (tmp_path / "r").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("event", range(1, 19, 2))
def test_a_run_killed_at_its_first_files_goes_on_or_trains_again(tmp_path, quick, event):
    folder = tmp_path / "r"
    command = [sys.executable, "-c", KILLED, str(folder), str(event), *QUICK]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    resumed = finish(start("train", "--resume", folder, "--quiet"))
    if resumed[0]:
        assert "is not a run" in resumed[2]
        code, _, err = finish(start("train", *QUICK, "-o", folder))
        assert code == 0, err
    assert result(folder) == quick
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
