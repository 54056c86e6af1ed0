"""The plug-in of pytest, in a pytest of its own."""

import tomllib
from pathlib import Path

import pytest

import ravine

TRAINING = """
import pytest, torch
from torch import nn

def train(watch_training, clear, report=True):
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = (x[:, 0] > 0).long()
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch_training(model, optimizer)
    for inputs, targets in zip(x.split(8), y.split(8)):
        if clear:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        if report:
            watcher.loss(loss)
        loss.backward()
        optimizer.step()
    return model
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run tests in a pytest of their own: whether each passed, and what was printed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # it may be installed, too

    class Outcomes:
        def __init__(self):
            self.passed = {}

        def pytest_runtest_logreport(self, report):
            if report.when == "call" or report.failed:
                self.passed[report.head_line, report.when] = report.passed

    def run_tests(text):
        path, outcomes = tmp_path / f"{tmp_path.name}.py", Outcomes()  # a name of its own
        path.write_text(TRAINING + text, "utf-8")
        options = ["-p", "ravine.pytest_plugin", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
        options.append("-rN")  # no summary: where CI is set it repeats the messages in full
        pytest.main([*options, "--import-mode=importlib", str(path)], plugins=[outcomes])
        assert {when for _, when in outcomes.passed} == {"call"}
        return {name: passed for (name, _), passed in outcomes.passed.items()}, capsys.readouterr()

    return run_tests


def test_a_fault_in_training_fails_the_test_with_its_text_alone(run):
    passed, (text, _) = run(
        """
def test_sound(watch_training):
    train(watch_training, True)

def test_forgetful(watch_training):
    train(watch_training, False)

def test_without_losses(watch_training):
    train(watch_training, False, report=False)
"""
    )
    assert passed == {"test_sound": True, "test_forgetful": False, "test_without_losses": False}
    assert text.count("RVN-L01  gradients of earlier steps") == 2
    assert "optimizer.zero_grad() before loss.backward()" in text
    assert "watcher.py" not in text and "pytest_plugin.py" not in text


def test_an_error_of_the_test_itself_is_shown_and_watching_ends(run):
    passed, (text, _) = run(
        """
from torch.optim.optimizer import _global_optimizer_post_hooks

def test_wrong(watch_training):
    train(watch_training, False)
    assert 1 == 2

def test_after():
    assert not _global_optimizer_post_hooks
"""
    )
    assert passed == {"test_wrong": False, "test_after": True}
    assert "assert 1 == 2" in text and "RVN" not in text


def test_the_assertions_hide_their_own_frames(run):
    passed, (text, _) = run(
        """
from ravine.testing import assert_examples_independent

def test_mixing():
    assert_examples_independent(nn.Softmax(dim=0), torch.randn(8, 2))
"""
    )
    assert passed == {"test_mixing": False}
    assert "RVN-I01" in text and "start_checks.py" not in text


def test_the_plugin_is_an_entry_point():
    project = Path(ravine.__file__).parents[1] / "pyproject.toml"
    entries = tomllib.loads(project.read_text("utf-8"))["project"]["entry-points"]
    assert entries == {"pytest11": {"ravine": "ravine.pytest_plugin"}}
