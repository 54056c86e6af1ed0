"""Every threshold of the rules is held by a test: one that is half as large again, or two thirds of
it, makes a quick test of its family fail.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from threshold_mutations import RULES, TESTS, Threshold, thresholds_of

DRIVER = Path(__file__).parents[1] / "contracts" / "threshold_mutations.py"


def test_every_family_has_thresholds_and_whole_numbers_move():
    assert all(thresholds_of(family) for family in RULES)
    assert all((DRIVER.parents[1] / test).exists() for tests in TESTS.values() for test in tests)
    assert Threshold("MIN_EXAMPLES", 2, ("module",)).mutated(1.5) == 3
    assert Threshold("MIN_EXAMPLES", 2, ("module",)).mutated(1 / 1.5) == 1
    assert Threshold("MIN_SHARE", 0.3, ("module",)).mutated(1.5) == pytest.approx(0.45)


@pytest.mark.slow
@pytest.mark.parametrize("family", RULES)
def test_every_threshold_is_noticed_when_it_changes(family):
    """In a process of its own: constants are changed in modules that other tests use."""
    ran = subprocess.run(
        [sys.executable, str(DRIVER), family],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    unnoticed = json.loads(ran.stdout.splitlines()[-1])[family]
    assert not unnoticed, "\n".join(unnoticed)
