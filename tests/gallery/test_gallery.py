"""Every experiment runs and gives what the page needs; the page, the folder and the command keep
their promises.
"""

import json
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.figure import Figure

import ravine_gallery as gallery
from ravine.cli import run_command
from ravine.errors import InputError
from ravine.reporting.plot_style import COLORS, figure, svg
from ravine_gallery import run_all as exhibition
from ravine_gallery.experiment import Experiment, Outcome

ROWS = {
    "D1",
    "D2",
    "D3",
    "D4",
    "D5",
    "O1",
    "O2",
    "O3",
    "O4",
    "O5",
    "O6",
    "O7",
    "O8",
    "O9",
    "S1",
    "S2",
    "S3",
    "S4",
    "S5",
    "S6",
    "S7",
    "I1",
    "I2",
    "I3",
    "N1",
    "A1",
    "R1",
    "R2",
    "R3",
    "R4",
    "E1",
    "E2",
    "E3",
    "T1",
    "T2",
    "C1",
    "C2",
    "C3",
    "C4",
    "H1",
    "L1",
    "L2",
    "V1",
    "V2",
}


@pytest.mark.parametrize("name", gallery.names())
def test_an_experiment_gives_finite_numbers_and_pictures_of_its_own(name):
    found = gallery.experiment(name)
    assert found.name == name
    assert found.rows and set(found.rows) <= ROWS
    assert found.title and found.claim.endswith((".", "?")) and 0 < found.seconds <= 60
    outcome = found.run(True)
    assert outcome.held in (True, False, None)
    assert len(outcome.said) > 40
    assert outcome.numbers and all(math.isfinite(value) for value in outcome.numbers.values()), (
        outcome.numbers
    )
    assert outcome.figures and all(
        isinstance(picture, Figure) for picture in outcome.figures.values()
    )
    for title, picture in outcome.figures.items():
        assert title and picture.axes
        assert any(axes.has_data() or axes.tables for axes in picture.axes)


def test_names_are_the_modules_and_none_is_there_twice():
    assert len(set(gallery.MODULES)) == len(gallery.MODULES) > 0
    assert gallery.names() == tuple(module.replace("_", "-") for module in gallery.MODULES)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'ravine-steps'"):
        gallery.experiment("ravine-step")


# Folder and page


def picture(color=COLORS[0]):
    drawn = figure(3.0, 2.0)
    drawn.subplots().plot([0, 1], [1, 0], color=color)
    return drawn


def invented(name, run):
    return Experiment(
        name=name,
        title=f"About <{name}>",
        rows=("O1",),
        claim="Rates & steps.",
        seconds=1.0,
        run=run,
    )


def fine(quick):
    numbers = {"share": 0.25, "none": math.inf}
    return Outcome(
        held=None,
        said="Only half < all.",
        numbers=numbers,
        figures={"A & B": picture(), "Two": picture()},
    )


def broken(quick):
    raise ValueError("no <such> data")


@pytest.fixture
def two(monkeypatch):
    known = {"broken": invented("broken", broken), "fine": invented("fine", fine)}
    monkeypatch.setattr(exhibition, "experiment", known.__getitem__)
    return tuple(known)


def test_an_experiment_that_fails_names_itself_and_the_others_go_on(two, tmp_path):
    lines = []
    failed, held = exhibition.exhibit(two, folder=tmp_path / "g", say=lines.append)
    assert failed.verdict == "failed" and failed.error == "ValueError: no <such> data"
    assert held.verdict == "partly"
    assert any("broken" in line for line in lines) and any(
        "no <such> data" in line for line in lines
    )
    assert sorted(p.name for p in (tmp_path / "g").iterdir()) == [
        "fine-2.svg",
        "fine.svg",
        "index.html",
        "results.json",
    ]
    plain = json.loads((tmp_path / "g" / "results.json").read_text("utf-8"))
    assert [e["verdict"] for e in plain["experiments"]] == ["failed", "partly"]
    assert plain["experiments"][1]["numbers"] == {"share": 0.25, "none": None}


def test_the_page_stands_alone_and_shows_text_as_text(two, tmp_path):
    exhibition.exhibit(two, folder=tmp_path, quick=True)
    html = (tmp_path / "index.html").read_text("utf-8")
    assert (
        "About &lt;fine&gt;" in html
        and "no &lt;such&gt; data" in html
        and "Only half &lt; all." in html
    )
    assert "<script" not in html
    fetched = re.findall(r"""(?:src|href)=["'](?!#|data:)([^"']+)""", html)
    assert fetched == []
    assert "ravine gallery fine --quick" in html
    assert html.count("<svg") == 2
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for meant in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html):
        assert (meant[0] or meant[1]) in ids


def test_a_picture_is_well_formed_and_always_the_same_bytes(two, tmp_path):
    exhibition.exhibit(two, folder=tmp_path / "one")
    exhibition.exhibit(two, folder=tmp_path / "two")
    first = (tmp_path / "one" / "fine.svg").read_text("utf-8")
    assert first == (tmp_path / "two" / "fine.svg").read_text("utf-8")
    root = ElementTree.fromstring(first)
    assert root.tag.endswith("svg") and "viewBox" in root.attrib and "width" not in root.attrib
    assert svg(picture()) != svg(picture(COLORS[1]))


@pytest.mark.parametrize("kind", ["file", "full"])
def test_a_folder_with_other_things_is_not_written_into(kind, two, tmp_path):
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="To mend it: name"):
        exhibition.exhibit(two, folder=place)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [
        place if kind == "file" else place / "mine.txt"
    ]


def test_what_was_done_is_written_when_the_user_stops(monkeypatch, tmp_path):
    def stopped(quick):
        raise KeyboardInterrupt

    known = {"fine": invented("fine", fine), "stopped": invented("stopped", stopped)}
    monkeypatch.setattr(exhibition, "experiment", known.__getitem__)
    with pytest.raises(KeyboardInterrupt):
        exhibition.exhibit(tuple(known), folder=tmp_path)
    assert len(json.loads((tmp_path / "results.json").read_text("utf-8"))["experiments"]) == 1
    assert "About &lt;fine&gt;" in (tmp_path / "index.html").read_text("utf-8")


# The command


def test_the_command_lists_all_experiments(capsys):
    assert run_command(["gallery"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(
        gallery.names()
    )
    assert run_command(["gallery", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in listed["experiments"]] == list(gallery.names())


def test_the_command_runs_one_and_says_what_came_out(two, capsys, tmp_path):
    assert run_command(["gallery", "fine", "-o", str(tmp_path / "g")]) == 0
    captured = capsys.readouterr()
    assert captured.out == "fine: partly. Only half < all.\n"
    assert "fine" in captured.err and (tmp_path / "g" / "index.html").exists()


def test_a_failed_experiment_is_exit_code_3(two, capsys):
    assert run_command(["gallery", "broken", "--quiet", "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["experiments"][0]["error"] == "ValueError: no <such> data"
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all"], "add -o DIR"),
        (["ravine-steps", "--all", "-o", "x"], "leave one of them out"),
        (["-o", "x"], "add --all"),
        (["ravine-step"], "Did you mean 'ravine-steps'"),
    ],
)
def test_wrong_use_is_answered_before_any_work(arguments, words, capsys):
    assert run_command(["gallery", *arguments]) == 2
    assert words in capsys.readouterr().err
