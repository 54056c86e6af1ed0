"""Runs under attack: writers of one folder, kills at the first files, signals at any moment.

`python -m pytest -m slow -n 0 tests/hard/test_runs.py`; moments are drawn from RAVINE_SEED.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
RANDOM = random.Random(int(os.environ.get("RAVINE_SEED", "0")))
QUICK = "iris --recipe plain --seeds 2 --set epochs=20 --no-check --quiet".split()
# 128 small networks, of which an estimate says that two processes pay
LONG = "iris --recipe plain --seeds 128 --set epochs=1200 --set stop=none --no-check".split()
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


def check_same(folder, wanted):
    assert result(folder) == wanted


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick") / "run"
    assert finish(start("train", *QUICK, "-o", folder))[0] == 0
    return result(folder)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "run"
    began = time.monotonic()
    assert finish(start("train", *LONG, "-o", folder, "--workers", 2))[0] == 0
    return result(folder), time.monotonic() - began


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


@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_at_any_moment_ends_in_a_message_and_the_run_goes_on(
    tmp_path, long, name, workers, attempt
):
    wanted, seconds = long
    number, folder = getattr(signal, name), tmp_path / "r"
    moment = RANDOM.uniform(0.2, 0.6 * seconds)
    process = start("train", *LONG, "-o", folder, "--workers", workers)
    time.sleep(moment)
    if name == "SIGTERM":
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)  # a terminal sends it to all
    code, _, err = finish(process)
    assert "Traceback" not in err and "Error" not in err, (moment, err)
    if code == 0:  # it was about to end
        return check_same(folder, wanted)
    assert code == 128 + number, (moment, code, err)
    said = [line for line in err.splitlines() if "interrupted" in line or "--resume" in line]
    assert len(said) == 1, (moment, err)
    if (folder / "plan.json").exists():
        assert f"ravine train --resume {folder}" in err
        code, _, err = finish(start("train", "--resume", folder, "--workers", workers))
    else:
        code, _, err = finish(start("train", *LONG, "-o", folder, "--workers", workers))
    assert code == 0, (moment, err)
    check_same(folder, wanted)


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    for task in Path(f"/proc/{pid}/task").iterdir():
        text += " " + (task / "children").read_text()
    return {int(child) for child in text.split()}


def wait_for_worker(process, folder):
    """The worker of a run that has begun to train."""
    while not (folder / "plan.json").exists() or not children(process.pid):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(RANDOM.uniform(1.0, 4.0))
    (worker,) = children(process.pid)
    return worker


@pytest.mark.parametrize("attempt", range(2))
def test_a_killed_worker_ends_in_a_message_and_the_run_goes_on(tmp_path, long, attempt):
    process = start("train", *LONG, "-o", tmp_path / "r", "--workers", 2)
    os.kill(wait_for_worker(process, tmp_path / "r"), signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 2 and "killed by signal 9" in err and "Traceback" not in err
    assert f"ravine train --resume {tmp_path / 'r'}" in err
    assert finish(start("train", "--resume", tmp_path / "r"))[0] == 0
    assert result(tmp_path / "r") == long[0]


@pytest.mark.parametrize("attempt", range(2))
def test_workers_end_when_their_parent_is_killed(tmp_path, long, attempt):
    process = start("train", *LONG, "-o", tmp_path / "r", "--workers", 2)
    worker = wait_for_worker(process, tmp_path / "r")
    process.kill()
    finish(process)
    deadline = time.monotonic() + 2
    while Path(f"/proc/{worker}").exists() and "Z" not in state(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert finish(start("train", "--resume", tmp_path / "r", "--workers", 2))[0] == 0
    assert result(tmp_path / "r") == long[0]


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.skipif(shutil.which("nohup") is None, reason="needs nohup")
def test_nohup_is_heeded(tmp_path, quick):
    command = ["nohup", sys.executable, "-m", "ravine", "train", *QUICK, "-o", tmp_path / "r"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.0)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0 and result(tmp_path / "r") == quick
