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
from ravine.reporting.plot_style import SERIES_COLORS, figure, svg
from ravine_gallery import run_all
from ravine_gallery.experiment import Experiment, ExperimentOutcome

FAMILIES = {
    "D": 5,
    "O": 9,
    "S": 7,
    "I": 3,
    "N": 1,
    "A": 1,
    "R": 4,
    "E": 3,
    "T": 2,
    "C": 4,
    "H": 1,
    "L": 2,
    "V": 2,
}
ROWS = {f"{family}{i}" for family, count in FAMILIES.items() for i in range(1, count + 1)}

# The verdict of each experiment, in a quick run and in a full one: True where the claim held, False
# where it did not, None where it held in part or was not decided. Where the two differ, the claim
# needs more draws than a quick run has.
VERDICTS = {
    "centering": (None, None),  # centering does not lower every condition number
    "scaling-table": (True, True),
    "splits": (None, None),
    "augmentation": (True, True),
    "minibatch-surfaces": (True, True),
    "gradient-paths": (True, True),
    "rates-and-batches": (True, True),
    "ravine-steps": (True, True),
    "averaged-sgd": (True, True),
    "momentum": (None, None),
    "nesterov": (True, True),
    "adagrad-rmsprop": (None, None),
    "adam-bias": (True, True),
    "optimizer-race": (None, None),
    "newton": (True, True),
    "schedules": (True, True),
    "zero-init": (True, True),
    "deep-tanh": (None, None),
    "he-multiplier": (True, True),
    "activations": (True, True),
    "losses": (True, True),
    "batch-norm-drift": (True, True),
    "mixture-boundaries": (None, None),
    "dropout-expectation": (True, True),
    "l1-zeros": (True, True),
    "early-stopping": (None, None),
    "ensembles": (True, True),
    "learning-curves": (None, None),
    "transfer": (True, True),
    "initial-loss": (True, True),
    "range-test": (True, True),
    "random-against-grid": (None, True),
    "snapshots": (None, None),
    "swa": (None, True),
    "loss-slices": (True, True),
}


def test_the_table_of_verdicts_names_every_experiment():
    assert tuple(VERDICTS) == gallery.experiment_names()


@pytest.mark.parametrize("name", VERDICTS)
def test_a_quick_run_gives_the_verdict_of_the_table_finite_numbers_and_pictures(name, outcome):
    found = gallery.find_experiment(name)
    assert found.name == name
    assert found.rows and set(found.rows) <= ROWS
    assert found.title and found.claim.endswith((".", "?")) and 0 < found.seconds <= 25
    result = outcome(name)
    assert result.held is VERDICTS[name][0], result.said
    assert len(result.said) > 40
    assert result.numbers
    for value in result.numbers.values():
        assert isinstance(value, float) and math.isfinite(value), result.numbers
    assert result.figures
    for title, shown in result.figures.items():
        assert isinstance(shown, Figure) and title and shown.axes
        assert any(axes.has_data() or axes.tables for axes in shown.axes)


@pytest.mark.slow
@pytest.mark.parametrize("name", VERDICTS)
def test_a_full_run_gives_the_verdict_of_the_table(name):
    result = gallery.find_experiment(name).run(False)
    assert result.held is VERDICTS[name][1], result.said


def test_names_are_the_modules_and_none_is_there_twice():
    assert len(set(gallery.EXPERIMENT_MODULES)) == len(gallery.EXPERIMENT_MODULES) > 0
    assert gallery.experiment_names() == tuple(
        module.replace("_", "-") for module in gallery.EXPERIMENT_MODULES
    )


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'ravine-steps'"):
        gallery.find_experiment("ravine-step")


# Folder and page


def picture(color=SERIES_COLORS[0]):
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
    return ExperimentOutcome(
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
    monkeypatch.setattr(run_all, "find_experiment", known.__getitem__)
    return tuple(known)


def test_an_experiment_that_fails_names_itself_and_the_others_go_on(two, tmp_path):
    lines = []
    failed, partly = run_all.run_experiments(two, folder=tmp_path / "g", say=lines.append)
    assert failed.verdict == "failed" and failed.error == "ValueError: no <such> data"
    assert partly.verdict == "partly"
    assert any("broken" in line for line in lines) and any("failed in" in line for line in lines)
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
    run_all.run_experiments(two, folder=tmp_path, quick=True)
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
    run_all.run_experiments(two, folder=tmp_path / "one")
    run_all.run_experiments(two, folder=tmp_path / "two")
    first = (tmp_path / "one" / "fine.svg").read_text("utf-8")
    assert first == (tmp_path / "two" / "fine.svg").read_text("utf-8")
    root = ElementTree.fromstring(first)
    assert root.tag.endswith("svg") and "viewBox" in root.attrib and "width" not in root.attrib
    assert svg(picture()) != svg(picture(SERIES_COLORS[1]))


def test_experiments_that_a_folder_holds_stay_on_its_page(two, tmp_path):
    run_all.run_experiments(["fine"], folder=tmp_path)
    before = json.loads((tmp_path / "results.json").read_text("utf-8"))["experiments"]
    pictures = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    run_all.run_experiments(["broken"], folder=tmp_path, quick=True)
    after = json.loads((tmp_path / "results.json").read_text("utf-8"))["experiments"]
    assert after[0] == before[0] and [e["name"] for e in after] == ["fine", "broken"]
    html = (tmp_path / "index.html").read_text("utf-8")
    assert "Only half &lt; all." in html and "no &lt;such&gt; data" in html
    assert html.count("<svg") == 2 and "<figcaption>A &amp; B</figcaption>" in html
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")} == pictures
    # an experiment that is run again takes its old place, and no picture of before is left
    (tmp_path / "fine-3.svg").write_bytes(pictures["fine-2.svg"])
    run_all.run_experiments(["fine"], folder=tmp_path, quick=True)
    again = json.loads((tmp_path / "results.json").read_text("utf-8"))["experiments"]
    assert [(e["name"], e["quick"]) for e in again] == [("fine", True), ("broken", True)]
    assert not (tmp_path / "fine-3.svg").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("index.html", "<title>My thesis</title>"),
        ("fine.svg", "<svg>mine</svg>"),
        ("results.json", '{"accuracy": 0.9}'),
        ("results.json", '{"experiments": [{"name": "mine"}]}'),
        ("results.json", "[[["),
    ],
)
def test_a_file_that_is_not_the_gallerys_is_never_written_over(file, text, two, tmp_path):
    run_all.run_experiments(["broken"], folder=tmp_path)
    (tmp_path / file).write_text(text)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="Name another folder with -o"):
        run_all.run_experiments(two, folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", ["file", "full"])
def test_a_folder_with_other_things_is_not_written_into(kind, two, tmp_path):
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="Name"):
        run_all.run_experiments(two, folder=place)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [
        place if kind == "file" else place / "mine.txt"
    ]


def test_what_was_done_is_written_when_the_user_stops(monkeypatch, tmp_path):
    def stopped(quick):
        raise KeyboardInterrupt

    known = {"fine": invented("fine", fine), "stopped": invented("stopped", stopped)}
    monkeypatch.setattr(run_all, "find_experiment", known.__getitem__)
    with pytest.raises(KeyboardInterrupt):
        run_all.run_experiments(tuple(known), folder=tmp_path)
    assert len(json.loads((tmp_path / "results.json").read_text("utf-8"))["experiments"]) == 1
    assert "About &lt;fine&gt;" in (tmp_path / "index.html").read_text("utf-8")


# The command


def test_the_command_lists_all_experiments(capsys):
    assert run_command(["gallery"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert names == list(gallery.experiment_names()) and max(map(len, lines)) <= 80
    assert run_command(["gallery", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in listed["experiments"]] == list(gallery.experiment_names())


def test_the_command_runs_one_and_says_what_came_out(two, capsys, tmp_path):
    assert run_command(["gallery", "fine", "-o", str(tmp_path / "g")]) == 0
    captured = capsys.readouterr()
    assert captured.out == "fine: partly. Only half < all.\n"
    assert (
        "fine" in captured.err
        and "Only half" not in captured.err
        and (tmp_path / "g" / "index.html").exists()
    )


def test_a_failed_experiment_is_exit_code_3(two, capsys):
    assert run_command(["gallery", "broken", "--quiet", "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["experiments"][0]["error"] == "ValueError: no <such> data"
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all"], "Add -o DIR"),
        (["ravine-steps", "--all", "-o", "x"], "Leave one of them out"),
        (["-o", "x"], "add --all"),
        (["ravine-step"], "Did you mean 'ravine-steps'"),
    ],
)
def test_wrong_use_is_answered_before_any_work(arguments, words, capsys):
    assert run_command(["gallery", *arguments]) == 2
    assert words in capsys.readouterr().err
