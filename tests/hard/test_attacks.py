"""Attacks by strangers' files and words: each is refused by one message, or harmless.

`python -m pytest -m slow -n 0 tests/hard/test_attacks.py`. A command may write in its folder alone,
start no program, reach no network, print no control character, take 2 GB and two minutes.
"""

import csv
import os
import stat
import sys
from pathlib import Path

import attacks
import matplotlib.font_manager  # noqa: F401 (it asks a program for the fonts, once)
import numpy as np
import pandas as pd
import pytest
from forked import complaint, run_forked

from ravine import catalog
from ravine.cli import run_command
from ravine.errors import Interrupted
from ravine.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
MOST_BYTES = 2 * 2**30
PROGRAMS = ("gs", "convert", "magick", "unzip", "gzip", "soffice", "xdg-open")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A table, a finished run, and one that was stopped."""
    folder, draw = tmp_path_factory.mktemp("base"), np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(90, 2)).round(3), columns=["a", "b"])
    table["city"] = draw.choice(["rome", "oslo", "bern"], 90)
    table["y"] = np.where(table.a > table.b, "yes", "no")
    table.to_csv(folder / "t.csv", index=False)
    line = [
        "train",
        str(folder / "t.csv"),
        "--target",
        "y",
        *attacks.QUICK,
        "--quiet",
        "--no-check",
    ]
    assert run_command([*line, "-o", str(folder / "run")]) == 0
    recipe = catalog.plain().vary("data.source", str(folder / "t.csv")).vary("data.target", ("y",))
    (folder / "stop now").touch()
    with pytest.raises(Interrupted):
        train(
            recipe.vary("epochs", 1), out=folder / "unfinished", stop=folder / "stop now", workers=1
        )
    (folder / "stop now").unlink()
    return folder


@pytest.fixture
def here(base, tmp_path, monkeypatch):
    """A copy of the table and the runs, to work in; beside it what must stay as it is."""
    import shutil

    shutil.copytree(base, tmp_path / "in")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious.txt").write_text("precious")
    (tmp_path / "in/bin").mkdir()
    for name in PROGRAMS:  # stand-ins, which tell that they were called
        program = tmp_path / "in/bin" / name
        program.write_text(f"#!{sys.executable}\nopen({str(tmp_path / 'outside/called')!r}, 'w')\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "in/tmp").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "in/bin"))
    for name in ("TMPDIR", "HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "in/tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path / "in")
    return tmp_path


def withstand(here, build, *, terminal=True):
    """Run an attack's commands; what is wrong, by command."""
    failures = {}
    for line in build():
        ended = run_forked(line, terminal=terminal)
        wrong = complaint(ended, inside=[here / "in"])
        if not wrong and ended.bytes > MOST_BYTES:
            wrong = f"{ended.bytes / 1e9:.1f} GB"
        outside = {p.name: p.read_text() for p in (here / "outside").iterdir()}
        if outside != {"precious.txt": "precious"}:
            wrong = f"{wrong} outside: {outside}"
        print(f"{ended.code} {ended.seconds:5.1f} s {ended.bytes / 1e6:6.0f} MB {line!a:.90}")
        if wrong:
            failures[ascii(line)] = wrong
    return failures


@pytest.mark.parametrize("name", attacks.TERMINAL)
def test_nothing_that_is_shown_is_obeyed_by_the_terminal(here, name):
    assert withstand(here, attacks.TERMINAL[name]) == {}


@pytest.mark.parametrize("name", attacks.CELLS)
def test_no_cell_that_is_written_is_a_formula(here, name):
    assert withstand(here, attacks.CELLS[name]) == {}
    with open("p.csv", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells and not [c for c in cells if c[:1] in "=+-@\t\r" and not is_number(c)]


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return cell == ""
    return True


@pytest.mark.parametrize("name", attacks.PATHS)
def test_nothing_outside_the_folder_is_written(here, name):
    assert withstand(here, attacks.PATHS[name]) == {}


@pytest.mark.parametrize("name", attacks.DECODERS)
def test_what_is_decoded_is_bounded(here, name):
    assert withstand(here, attacks.DECODERS[name]) == {}
    assert not list(Path(os.environ["TMPDIR"]).glob("ravine*"))
