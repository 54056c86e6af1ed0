"""The page of techniques is complete and true: every row has a name, a setting, a test and an
experiment that exist.
"""

import re
import shlex
from pathlib import Path

import pytest

import ravine
import ravine_gallery as gallery
from ravine.catalog import named_recipe
from ravine.recipe_files import with_settings

ROOT = Path(ravine.__file__).parent.parent
PAGE = ROOT / "docs" / "techniques.md"
IDS = [
    f"{family}{i}"
    for family, count in (
        ("D", 5),
        ("O", 9),
        ("S", 7),
        ("I", 3),
        ("N", 1),
        ("A", 1),
        ("R", 4),
        ("E", 3),
        ("T", 2),
        ("C", 3),
        ("H", 1),
        ("L", 2),
        ("V", 2),
    )
    for i in range(1, count + 1)
]


def rows():
    """The page's table: the cells of each row by its id."""
    lines = [
        line for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| [A-Z]\d \|", line)
    ]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row for row in cells}


ROWS = rows()


def links(cell):
    return re.findall(r"\[([^\]]*)\]\(\.\./([^)]+)\)", cell)


def test_every_technique_has_a_row():
    assert list(ROWS) == IDS


@pytest.mark.parametrize("row", ROWS)
def test_the_name_is_defined_where_the_link_says(row):
    found = links(ROWS[row][2])
    assert found
    for text, path in found:
        assert re.search(
            rf"^(class|def) {text.strip('`')}\b", (ROOT / path).read_text("utf-8"), re.M
        ), text


@pytest.mark.parametrize("row", ROWS)
def test_the_setting_can_be_set_and_the_command_parses(row):
    from ravine.cli.app import app

    said = re.findall(r"`([^`]+)`", ROWS[row][3])
    assert said or row == "O9"  # asked of a run, from Python
    recipe = named_recipe("plain")
    for text in said:
        if text.startswith("ravine "):
            app.parse_args(shlex.split(text)[1:], exit_on_error=False, print_error=False)
        else:
            recipe = with_settings(recipe, text)


@pytest.mark.parametrize("row", ROWS)
def test_the_test_exists(row):
    found = links(ROWS[row][4])
    assert found
    for text, path in found:
        source = (ROOT / path).read_text("utf-8")
        assert f"def test_{text.replace(' ', '_')}(" in source, f"{text} in {path}"


@pytest.mark.parametrize("row", ROWS)
def test_the_experiment_shows_the_row(row):
    found = [text for text, _ in links(ROWS[row][5])]
    assert found and all(name in gallery.experiment_names() for name in found)
    assert all(row in gallery.find_experiment(name).rows for name in found)


def test_every_experiment_is_on_the_page():
    shown = {text for row in ROWS.values() for text, _ in links(row[5])}
    assert shown == set(gallery.experiment_names())
