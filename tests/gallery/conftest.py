"""The outcomes of quick runs, shared by the tests of a process: an experiment runs once."""

import pytest

from ravine_gallery import find_experiment


@pytest.fixture(scope="session")
def outcome():
    """The outcome of an experiment's quick run, by the experiment's name."""
    found = {}

    def of(name):
        if name not in found:
            found[name] = find_experiment(name).run(True)
        return found[name]

    return of


@pytest.fixture(scope="session")
def numbers(outcome):
    """The numbers of an experiment's quick run, by the experiment's name."""
    return lambda name: dict(outcome(name).numbers)
