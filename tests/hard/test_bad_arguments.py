"""Bad arguments and bad recipes, tens of thousands of kinds: each ends in one message, or is right.

A quick sample is in the ordinary suite; all of them:
`python -m pytest -m slow -n 0 tests/hard/test_bad_arguments.py`. RAVINE_SEED draws another sample.
"""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bad_arguments import argument_kinds
from bad_options import option_kinds, prepare
from bad_recipes import recipe_kinds, training_kinds
from bad_values import failure

SEED = int(os.environ.get("RAVINE_SEED", "0"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failures(kinds):
    return {kind.name: text for kind in kinds if (text := failure(kind))}


def test_a_sample_of_wrong_settings_is_refused(here):
    kinds = list(recipe_kinds())
    assert len(kinds) > 30_000
    assert failures(random.Random(SEED).sample(kinds, 60)) == {}


@pytest.mark.slow
def test_wrong_settings_are_refused_however_they_are_given(here):
    assert failures(recipe_kinds()) == {}


@pytest.mark.slow
def test_what_is_accepted_trains(here):
    assert failures(training_kinds()) == {}


@pytest.mark.slow
def test_wrong_arguments_of_functions_are_refused(here):
    kinds = list(argument_kinds())
    assert len(kinds) > 5_000
    assert failures(kinds) == {}


@pytest.mark.slow
def test_wrong_words_on_the_command_line_are_refused(here):
    prepare()
    kinds = list(option_kinds())
    assert len(kinds) > 3_000
    assert failures(kinds) == {}
