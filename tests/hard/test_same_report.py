"""`check` and `doctor` give the same report for the same input, to the last bit."""

import subprocess
import sys

import pytest

RECIPES = [
    ("iris", "optimizer.lr=1e-6"),
    ("wine", "epochs=1"),
    ("diabetes", "network.hidden=[128, 128]"),
]


def report(command, source, setting, folder):
    run = [sys.executable, "-m", "ravine", command, source, "--recipe", "plain"]
    done = subprocess.run(
        [*run, "--set", setting, "--set", "epochs=2" if command == "doctor" else setting, "--json"],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.stdout.startswith("{"), done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("source", "setting"), RECIPES)
@pytest.mark.parametrize("command", ["check", "doctor"])
def test_two_processes_give_the_same_report(command, source, setting, tmp_path):
    assert report(command, source, setting, tmp_path) == report(command, source, setting, tmp_path)
