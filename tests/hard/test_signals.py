"""Signals at any moment: one message, an exit code that names the signal, the same bits after it.

`python -m pytest -m slow -n 0 tests/hard/test_signals.py`; moments are drawn from RAVINE_SEED.
"""

import hashlib
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravine.cli import run_command

pytestmark = pytest.mark.slow
RANDOM = random.Random(int(os.environ.get("RAVINE_SEED", "0")))
# runs a command in which two processes pay; tells by a pipe that so many seconds of a phase have
# passed, or of all phases how long they took
AIMED = """
import functools, importlib, json, os, sys, threading, time
wanted, pipe, phases, *arguments = sys.argv[1:]
told, phases = int(pipe), json.loads(phases)
def later():
    timer = threading.Timer(float(wanted), os.write, (told, b"!"))
    timer.daemon = True
    timer.start()
def watch(phase, real):
    entered = []
    @functools.wraps(real)
    def entering(*given, **named):
        began = time.monotonic()
        if wanted and not entered:
            entered.append(later())
        try:
            return real(*given, **named)
        finally:
            if not wanted:
                os.write(told, f"{phase}={time.monotonic() - began}\\n".encode())
    return entering
if phases == {"import": ""}:
    later()
else:
    from ravine.training import jobs, workers
    jobs.SPLIT_SECONDS, workers.START_SECONDS, workers.MEASURED_SECONDS = -1.0, 1e-9, 0.0
    take = workers.Crew.take
    def leave(crew):  # to the other process all but the first job
        here = threading.current_thread() is threading.main_thread()
        while here and crew.threads and crew.waiting and crew.error is None:
            time.sleep(0.01)
        return take(crew)
    workers.Crew.take = leave
    for phase, path in phases.items():
        module, _, name = path.rpartition(".")
        if module:
            module = importlib.import_module(module)
            setattr(module, name, watch(phase, getattr(module, name)))
from ravine.cli import main
main(arguments)
"""
PHASES = {
    "import": "",
    "reading": "ravine.training.train.prepare",
    "preflight": "ravine.examination.api.quick_check",
    "first files": "ravine.training.run_folder.write_plan",
    "training": "ravine.training.train.train_jobs",
    "checkpoint": "ravine.training.train.save_checkpoint",
    "baseline": "ravine.training.results.score_model",
    "last files": "ravine.training.run_folder.write_run",
    "printing": "ravine.cli.train.print_run",
}
RUN = "--target y --recipe plain --seeds 8 --set epochs=150".split()


@dataclass
class Ended:
    """How a command ended: its exit code, what it said, and whether the moment came."""

    code: int
    said: str
    hit: bool = True


def begin(phases, seconds, *arguments, terminal=False):
    """A command in a session of its own; the pipe by which it tells the moment; its terminal."""
    told, telling = os.pipe()
    command = [sys.executable, "-c", AIMED, str(seconds), str(telling), json.dumps(phases)]
    options = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    master = slave = None
    if terminal:
        master, slave = pty.openpty()
        options = dict(stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal)
    process = subprocess.Popen(
        [*command, *map(str, arguments)], start_new_session=True, pass_fds=[telling], **options
    )
    for handle in filter(None, (telling, slave)):
        os.close(handle)
    return process, told, master


def take_terminal():
    """Have the terminal on standard input send its signals to this session."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def aim(number, phase, seconds, tmp_path, *line, how, times=1):
    """Send a signal to a run after seconds of a phase, sooner where that was over; the folder."""
    for attempt in range(6):
        folder = tmp_path / f"r{attempt}"
        moment = seconds / 2**attempt
        ended = send(number, phase, moment, "train", *line, "-o", folder, how=how, times=times)
        if ended.hit:
            return ended, folder
    pytest.fail(f"{phase} is over too soon")


def send(number, phase, seconds, *arguments, how, times):
    """Send a signal to a command after seconds of a phase; how it ended."""
    process, told, master = begin(
        {phase: PHASES[phase]}, seconds, *arguments, terminal=how == "terminal"
    )
    said = b""
    if master is not None:
        while not select.select([told], [], [], 0.02)[0]:
            said += read_terminal(master)
    hit = os.read(told, 1) == b"!"
    os.close(told)
    for _ in range(times if hit else 0):
        if how == "terminal" and number == signal.SIGHUP:
            os.close(master)
            master = None
        elif how == "terminal":
            os.write(master, b"\x03")
        elif how == "group":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        time.sleep(RANDOM.uniform(0.0, 0.3) if times > 1 else 0.0)
    if master is not None:
        while process.poll() is None:
            said += read_terminal(master)
        os.close(master)
    elif how != "terminal":
        said = process.communicate(timeout=300)[1]
    return Ended(process.wait(300), said.decode(errors="replace").replace("\r", "\n"), hit)


def read_terminal(master):
    """What can be read within a moment."""
    if not select.select([master], [], [], 0.05)[0]:
        return b""
    try:
        return os.read(master, 65536)
    except OSError:  # nobody has it open any more
        return b""


def command(*arguments):
    """A command that is left alone."""
    words = [sys.executable, "-m", "ravine", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    return Ended(done.returncode, done.stderr)


def result(folder, table):
    """What must be the same: weights, series, predictions, and the record but for its times."""
    weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    record = json.loads((folder / "record.json").read_text())
    for name in ("seconds", "surroundings", "digest", "digests"):
        record.pop(name, None)
    predictions = folder.parent / "p.csv"
    assert run_command(["predict", str(folder), str(table), "-o", str(predictions), "--force"]) == 0
    return weights, (folder / "series.csv").read_bytes(), predictions.read_bytes(), record


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of three numbers and a class."""
    path, draw = tmp_path_factory.mktemp("table") / "t.csv", np.random.default_rng(0)
    x = draw.normal(size=(160, 3)).round(3)
    rows = [f"{a},{b},{c},{'no' if a + b > 0 else 'yes'}" for a, b, c in x]
    path.write_text("a,b,c,y\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, table):
    """The result of the run that nothing interrupts, and the seconds of each phase."""
    folder = tmp_path_factory.mktemp("whole") / "r"
    process, told, _ = begin(PHASES, "", "train", table, *RUN, "-o", folder, "--workers", 1)
    process.communicate(timeout=300)
    assert process.returncode == 0
    with open(told) as lines:
        entries = [line.strip().split("=") for line in lines]
    seconds = {"import": 2.0} | {phase: float(value) for phase, value in reversed(entries)}
    assert seconds.keys() == PHASES.keys()
    return result(folder, table), seconds


def check_message(ended, number, folder):
    """One message without a traceback, which names what to do; the exit code names the signal."""
    assert "Traceback" not in ended.said and "Error" not in ended.said, ended
    assert ended.code == 128 + number, ended
    assert len(re.findall("interrupted|--resume", ended.said)) == 1, ended
    begun = (folder / "plan.json").exists() and not (folder / "record.json").exists()
    said = " ".join(ended.said.split())  # a terminal's lines are broken at 80 columns
    assert (f"ravine train --resume {folder}" in said) == begun, ended


def go_on(folder, table, workers):
    """Resume a run, or train again where it had not begun."""
    if (folder / "record.json").exists():
        return
    again = ["--resume"] if (folder / "plan.json").exists() else [table, *RUN, "-o"]
    ended = command("train", *again, folder, "--workers", workers)
    assert ended.code == 0, ended
    assert not [p for p in folder.iterdir() if p.name.startswith((".", "checkpoint", "stop"))]


TRIES = [
    (phase, name, how, 1 + (place + turn) % 2)
    for turn, (name, how) in enumerate(
        [
            ("SIGINT", "group"),
            ("SIGTERM", "process"),
            ("SIGHUP", "group"),
            ("SIGINT", "terminal"),
            ("SIGHUP", "terminal"),
        ]
    )
    for place, phase in enumerate(PHASES)
]


@pytest.mark.parametrize(("phase", "name", "how", "workers"), TRIES)
def test_a_signal_in_any_phase_ends_in_a_message_and_the_run_goes_on(
    tmp_path, table, wanted, phase, name, how, workers
):
    number = getattr(signal, name)
    share = RANDOM.uniform(0.1, 0.9) if phase == "import" else RANDOM.random()
    line = [table, *RUN, "--workers", workers]
    ended, folder = aim(number, phase, share * wanted[1][phase], tmp_path, *line, how=how)
    if ended.code == 0:  # nothing was left to stop
        assert phase in ("checkpoint", "baseline", "last files", "printing"), ended
    elif how == "terminal" and number == signal.SIGHUP:
        assert ended.code == 128 + number, ended  # the terminal is gone: nothing can be read
    else:
        check_message(ended, number, folder)
    go_on(folder, table, workers)
    assert result(folder, table) == wanted[0]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("how", ["group", "terminal"])
def test_a_second_ctrl_c_leaves_at_once(tmp_path, table, wanted, how, times, workers):
    moment, line = RANDOM.random() * wanted[1]["training"], [table, *RUN, "--workers", workers]
    ended, folder = aim(signal.SIGINT, "training", moment, tmp_path, *line, how=how, times=times)
    assert ended.code == 130 and "Traceback" not in ended.said, ended
    go_on(folder, table, workers)
    assert result(folder, table) == wanted[0]


def begin_workers(tmp_path, table, wanted):
    """A run of two processes in its training; its folder; the other process."""
    for attempt in range(6):
        folder = tmp_path / f"r{attempt}"
        moment = RANDOM.uniform(0.3, 1.0) * wanted[1]["training"] / 2**attempt
        line = ["train", table, *RUN, "-o", folder, "--workers", 2]
        process, told, _ = begin({"training": PHASES["training"]}, moment, *line)
        hit = os.read(told, 1) == b"!"
        os.close(told)
        workers = children(process.pid) if hit else set()
        if workers:
            (worker,) = workers
            return process, folder, worker
        process.communicate(timeout=300)
    pytest.fail("training is over too soon")


def children(pid):
    """The processes that a process has started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return {int(child) for task in tasks for child in (task / "children").read_text().split()}
    except OSError:
        return set()


def is_alive(pid):
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("attempt", range(4))
def test_a_killed_worker_ends_in_a_message_and_the_run_goes_on(tmp_path, table, wanted, attempt):
    process, folder, worker = begin_workers(tmp_path, table, wanted)
    os.kill(worker, signal.SIGKILL)
    said = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 2 and "killed by signal 9" in said and "Traceback" not in said
    assert f"ravine train --resume {folder}" in said
    go_on(folder, table, 1)
    assert result(folder, table) == wanted[0]


@pytest.mark.parametrize("attempt", range(4))
def test_workers_end_when_their_parent_is_killed(tmp_path, table, wanted, attempt):
    process, folder, worker = begin_workers(tmp_path, table, wanted)
    process.kill()
    process.communicate(timeout=300)
    began = time.monotonic()
    while is_alive(worker):
        assert time.monotonic() - began < 5
        time.sleep(0.02)
    go_on(folder, table, 2)
    assert result(folder, table) == wanted[0]


@pytest.mark.skipif(shutil.which("nohup") is None, reason="needs nohup")
def test_nohup_is_heeded(tmp_path, table, wanted):
    words = ["nohup", sys.executable, "-m", "ravine", "train", table, *RUN, "-o", tmp_path / "r"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "r/plan.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    assert process.wait(300) == 0 and result(tmp_path / "r", table) == wanted[0]


@pytest.mark.parametrize("how", ["group", "terminal"])
def test_reading_pictures_ends_at_once(tmp_path, monkeypatch, how):
    draw = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i in range(150):
            pixels = draw.integers(0, 256, (600, 600, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pics" / name / f"{i}.png", compress_level=1)
    line = ["train", tmp_path / "pics", "--set", "epochs=1", "-o", tmp_path / "r"]
    monkeypatch.setitem(PHASES, "decoding", "ravine.data.image_store.read_files")
    ended = send(signal.SIGINT, "decoding", 0.2, *line, how=how, times=1)
    assert ended.hit and ended.code == 130 and ended.said.count("interrupted") == 1, ended
    assert "Traceback" not in ended.said and not (tmp_path / "r").exists()
