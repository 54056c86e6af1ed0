"""docs/recipes.md names every setting of a recipe and every part that can stand in it."""

import re
from pathlib import Path

import pytest

from ravine import protocols
from ravine.catalog import PARTS_BY_ROLE
from ravine.data import Data
from ravine.part import field_types
from ravine.recipe import Recipe

PAGE = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text("utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]
SETTINGS = {name for line in ROWS for name in re.findall(r"`([\w.]+)`", line.split("|")[1])}
WITHIN = (
    protocols.Activation,
    protocols.Drop,
    protocols.Initializer,
    protocols.Norm,
    protocols.NumberEmbedding,
    protocols.Pool,
)  # of networks


@pytest.mark.parametrize(
    "name", [*field_types(Recipe), *(f"data.{name}" for name in field_types(Data))]
)
def test_the_page_has_a_row_for_the_setting(name):
    assert name in SETTINGS


@pytest.mark.parametrize(
    "role", [role for role in PARTS_BY_ROLE if role not in WITHIN], ids=lambda role: role.__name__
)
def test_the_page_names_every_part(role):
    named = {
        part
        for line in ROWS
        for part in re.findall(r"`(\w+)`", line.split("|")[3] if line.count("|") > 3 else "")
    }
    assert [cls.__name__ for cls in PARTS_BY_ROLE[role] if cls.__name__ not in named] == []
