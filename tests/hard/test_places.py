"""Where a command runs: full disks, closed streams, folders that take nothing, odd names.

`python -m pytest -m slow -n 0 tests/hard/test_places.py`. Disks are mounted in a copy of this
process alone; where the system forbids it, those tests are skipped.
"""

import ctypes
import json
import os
import shutil
from pathlib import Path

import matplotlib.figure  # noqa: F401 (it looks for its own files, once)
import pandas as pd
import pytest
from forked import complaint, run_forked

from ravine.cli import run_command
from ravine.errors import InputError
from ravine.training.train import resume, train

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RUN = "--target y --recipe plain --seeds 2 --set epochs=3 --no-baseline".split()
STREAMS = {
    "stdout is closed": {1: "closed"},
    "stderr is closed": {2: "closed"},
    "all are closed": {0: "closed", 1: "closed", 2: "closed"},
    "stdout is full": {1: "/dev/full"},
    "stderr is full": {2: "/dev/full"},
    "both are full": {1: "/dev/full", 2: "/dev/full"},
    "nobody reads stdout": {1: "a broken pipe"},
    "nobody reads stderr": {2: "a broken pipe"},
    "nobody reads": {1: "a broken pipe", 2: "a broken pipe"},
}
COMMANDS = {
    "train": ("train", "t.csv", *RUN, "-o", "new"),
    "train in JSON": ("train", "t.csv", *RUN, "-o", "new", "--json"),
    "resume": ("train", "--resume", "unfinished"),
    "predict": ("predict", "run", "t.csv"),
    "predict into a file": ("predict", "run", "t.csv", "-o", "p.csv"),
    "show": ("show", "run"),
    "check": ("check", "t.csv", "--target", "y"),
    "doctor": ("doctor", "run", "--no-trials"),
    "help": ("train", "--help"),
    "a mistake": ("train", "t.csv", "--target", "z"),
    "range": ("range", "t.csv", *RUN[:4], "--rates", "3", "--seeds", "1", "--steps", "10"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A table, a run on it that is finished, and one that was stopped."""
    folder = tmp_path_factory.mktemp("base")
    rows = pd.DataFrame({"a": range(90), "b": [i % 7 for i in range(90)]})
    rows["y"] = ["no" if i % 7 > 3 else "yes" for i in range(90)]
    rows.to_csv(folder / "t.csv", index=False)
    line = ["train", str(folder / "t.csv"), *RUN, "--quiet", "--no-check"]
    assert run_command([*line, "-o", str(folder / "run")]) == 0
    shutil.copytree(folder / "run", folder / "unfinished")
    for name in ("record.json", "series.csv", "encoder.json", "weights.safetensors"):
        (folder / "unfinished" / name).unlink()
    return folder


@pytest.fixture
def here(base, tmp_path, monkeypatch):
    shutil.copytree(base, tmp_path / "in")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "in")
    return tmp_path / "in"


def result(folder):
    """What must be the same: weights and score."""
    score = json.loads((Path(folder) / "record.json").read_text())["score"]
    return (Path(folder) / "weights.safetensors").read_bytes(), score["value"], score["members"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("streams", STREAMS)
def test_a_stream_that_takes_nothing_ends_in_no_traceback(here, streams, command):
    ended = run_forked(COMMANDS[command], streams=STREAMS[streams])
    assert "Traceback" not in ended.said and "Exception" not in ended.said, ended
    expected = {"a mistake": (2,), "doctor": (0, 1), "check": (0, 1), "help": (0, 1)}.get(
        command, (0,)
    )
    lost = STREAMS[streams].get(1) == "/dev/full"  # the result cannot be written
    assert ended.code in (expected if not lost else (*expected, 2)), ended
    assert not lost or command == "predict into a file" or ended.code == 2, ended
    for name in ("new", "unfinished"):
        if command.startswith("train" if name == "new" else "resume"):
            assert result(name) == result("run")
    if command == "predict into a file":
        assert len(pd.read_csv("p.csv")) == 90


# Disks


def mount(what, place, kind, flags, options):
    """Mount something, seen by this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, new_user, private = 0x20000, 0x10000000, 0x44000
    if not getattr(mount, "alone", False):
        if libc.unshare(new_mounts) and libc.unshare(new_mounts | new_user):
            raise OSError(ctypes.get_errno(), "no mounts of one's own")
        libc.mount(b"none", b"/", None, private, None)
        mount.alone = True
    words = [word.encode() if word else None for word in (what, str(place), kind)]
    if libc.mount(*words, flags, options.encode()):
        raise OSError(ctypes.get_errno(), "cannot mount")


def mount_disk(place, size):
    place.mkdir(exist_ok=True)
    mount("tmpfs", place, "tmpfs", 0, f"size={size}k")


def mount_read_only(place):
    bind, read_only_again = 0x1000, 0x1021
    mount(str(place), place, "", bind, "")
    mount(str(place), place, "", read_only_again, "")
    os.chdir(place)  # not the one below what was mounted


@pytest.fixture
def mounting(tmp_path):
    """Skips where nothing can be mounted."""
    child = os.fork()
    if not child:
        try:
            mount_disk(tmp_path / "probe", 4)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        pytest.skip("the system forbids mounts")


@pytest.mark.parametrize("size", [4, 8, 12, 16, 20, 24, 32, 48])
def test_a_full_disk_ends_in_a_message_and_what_is_there_goes_on(here, mounting, size):
    ended = run_forked(
        ("train", "t.csv", *RUN, "-o", "disk/new"),
        before=lambda: mount_disk(here / "disk", size),
        after=lambda: shutil.copytree("disk", "saved"),
    )
    assert not complaint(ended, inside=[here, here.parent / "tmp"], codes=(0, 2)), ended
    new = here / "saved/new"
    if ended.code == 0:
        assert size > 20 and result(new) == result("run")
        return
    assert "No space left on device" in ended.err and "ree disk space" in ended.err
    assert not list(new.glob(".ravine-*")), "an unfinished file was left"
    os.makedirs("disk", exist_ok=True)
    if new.exists():
        shutil.move(new, here / "disk/new")
    begun = (here / "disk/new/plan.json").exists()
    assert ("--resume" in ended.err) == begun
    line = ("--resume", "disk/new") if begun else ("t.csv", *RUN, "-o", "disk/new")
    assert run_command(["train", *line, "--quiet"]) == 0
    assert result("disk/new") == result("run")


@pytest.mark.parametrize("size", [4, 8])
def test_predictions_on_a_full_disk_are_all_or_none(here, mounting, size):
    many = pd.concat([pd.read_csv("t.csv")] * 40)
    many.to_csv("many.csv", index=False)
    ended = run_forked(
        ("predict", "run", "many.csv", "-o", "disk/p.csv"),
        before=lambda: mount_disk(here / "disk", size),
        after=lambda: shutil.copytree("disk", "saved"),
    )
    assert ended.code == 2 and not complaint(ended, inside=[here, here.parent / "tmp"])
    assert "No space left" in ended.err and "--resume" not in ended.err
    assert not list((here / "saved").iterdir())


READ_ONLY = {
    "show": (("show", "run"), (0,)),
    "predict": (("predict", "run", "t.csv"), (0,)),
    "predict into it": (("predict", "run", "t.csv", "-o", "run/p.csv"), (2,)),
    "doctor": (("doctor", "run", "--no-trials"), (0, 1)),
    "doctor in JSON": (("doctor", "run", "--no-trials", "--json"), (0, 1)),
    "resume": (("train", "--resume", "unfinished"), (2,)),
    "train into it": (("train", "t.csv", *RUN, "-o", "run/new"), (2,)),
    "train over it": (("train", "t.csv", *RUN, "-o", "run"), (2,)),
    "train": (("train", "t.csv", *RUN), (2,)),
    "range": (("range", "t.csv", *RUN[:4], "--rates", "3", "--steps", "10", "-o", "r.svg"), (2,)),
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_place_that_may_only_be_read(here, mounting, name):
    line, codes = READ_ONLY[name]
    ended = run_forked(line, before=lambda: mount_read_only(here))
    assert not complaint(ended, inside=[here, here.parent / "tmp"], codes=codes), ended
    assert "Read-only" in ended.err or codes == (0,) or "is not empty" in ended.err
    if name.startswith("doctor"):
        assert "RVN" in ended.out or "nothing found" in ended.out or '"findings"' in ended.out


# Names

NAMES = {
    "not UTF-8": "t\udcff",
    "255 letters": "x" * 251,
    "a line break": "a\nb",
    "blanks": "  a  b ",
    "quotes": "a'b\"c`d$e\\f",
    "dots": "..a..",
    "a percent sign and braces": "%s{0}{x}[1]",
    "signs of a pattern": "*?[a-z]",
    "a tilde": "~",
    "another alphabet": "данные-数据-💧",
    "an equals sign": "a=b",
    "a hash": "#1",
}
REFUSED = {
    "256 letters": "x" * 300,
    "a path of 5,000 letters": "x/" * 2_500,
    "a NUL": "a\0b",
    "a missing folder": "none/none/t",
    "nothing": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_table_and_a_run_may_have_any_name(here, name):
    word = NAMES[name]
    try:
        os.rename("t.csv", f"{word}.csv")
    except (OSError, UnicodeError):
        pytest.skip("the file system has no such name")
    line = ["train", f"{word}.csv", *RUN, "-o", f"new{word}"[:250]]
    if name == "not UTF-8":  # other libraries open files by names in UTF-8
        assert (
            complaint(ended := run_forked(line), inside=[here, here.parent / "tmp"], codes=(2,))
            == ""
        ), ended
        assert "utf-8" in ended.err
        return
    assert (
        complaint(ended := run_forked(line), inside=[here, here.parent / "tmp"], codes=(0,)) == ""
    ), ended
    run = line[-1]
    for command in (
        ("show", run),
        ("predict", run, f"{word}.csv"),
        ("predict", run, f"{word}.csv", "-o", f"p{word}"[:240] + ".csv"),
    ):
        ended = run_forked(command)
        assert complaint(ended, inside=[here, here.parent / "tmp"], codes=(0,)) == "", (
            command,
            ended,
        )
    (Path(run) / "record.json").unlink()
    ended = run_forked(("train", "--resume", run, "--quiet"))
    assert complaint(ended, inside=[here, here.parent / "tmp"], codes=(0,)) == "", ended


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_cannot_be_is_refused_wherever_it_stands(here, name):
    word = REFUSED[name]
    for line in (
        ("train", word, *RUN, "-o", "new"),
        ("train", f"{word}.toml"),
        ("train", "--resume", word),
        ("show", word),
        ("predict", word, "t.csv"),
        ("predict", "run", word),
        ("doctor", word),
        ("check", word, "--target", "y"),
        ("train", "t.csv", *RUN, "--set", f"data.source={word}", "-o", "new"),
    ):
        ended = run_forked(line)
        assert complaint(ended, inside=[here, here.parent / "tmp"], codes=(2,)) == "", (line, ended)
    if name in ("a missing folder", "nothing"):  # these are made, or mean the folder that is
        return
    for line in (
        ("train", "t.csv", *RUN, "-o", word),
        ("predict", "run", "t.csv", "-o", f"{word}.csv"),
    ):
        ended = run_forked(line)
        assert complaint(ended, inside=[here, here.parent / "tmp"], codes=(2,)) == "", (line, ended)
    with pytest.raises(InputError):
        train(f"{word}.toml", out=word)
    with pytest.raises(InputError):
        resume(word)
