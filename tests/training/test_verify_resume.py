"""What verify-resume says where a run ends before it could be killed as often as asked."""

import math
import signal
from pathlib import Path

import pytest

from ravine.catalog import named_recipe
from ravine.errors import DataError, InputError, RunError
from ravine.training import verify_resume

IRIS = named_recipe("plain").vary("data.source", "iris")


@pytest.mark.parametrize(
    ("kills", "text"),
    [
        (1, "the same bit for bit after 1 kill: weights, series and score"),
        (2, "the same bit for bit after 1 kill of 2 (the run ended before the next): weights, "),
    ],
)
def test_a_missing_kill_has_its_reason(monkeypatch, kills, text):
    was_killed = iter([True, False])

    def train(folder, recipe, kill_after=math.inf):
        killed = kill_after < math.inf and next(was_killed)
        if not killed:
            folder.mkdir(exist_ok=True)
            (folder / "record.json").write_text('{"score": null}')
        return killed

    monkeypatch.setattr(verify_resume, "_train", train)
    said = []
    proof = verify_resume.prove_resume(IRIS, kills=kills, say=said.append)
    assert proof.summary().startswith(text)
    assert proof.to_json() == {"same": True, "kills": 1, "wanted": kills, "different": ()}
    assert ("the run ended before kill 2 of 2" in said) == (kills == 2)


def test_a_recipe_that_cannot_be_trained_is_refused_before_a_process_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "houses.csv").write_text("a,b\n" + "1,2\n3,4\n" * 40)
    recipe = named_recipe("plain").vary("data.source", "houses.csv")
    monkeypatch.setattr(verify_resume.subprocess, "Popen", None)
    with pytest.raises(DataError, match="no target is given"):
        verify_resume.prove_resume(recipe, kills=1, say=print)


@pytest.mark.parametrize("kills", [0, None, "3"])
def test_kills_are_a_number_from_one_on(kills):
    with pytest.raises(InputError, match="kills is .*: it must be"):
        verify_resume.prove_resume(IRIS, kills=kills, say=print)


def test_a_run_that_fails_says_why_and_one_that_is_interrupted_leaves_no_process(monkeypatch):
    monkeypatch.setattr(verify_resume, "CHILD_SCRIPT", "raise SystemExit('ravine.errors.A: why')")
    with pytest.raises(RunError, match="cannot be trained: why"):
        verify_resume.prove_resume(IRIS, kills=1, say=print)
    started = []

    def interrupt(process, *_):
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(verify_resume, "CHILD_SCRIPT", "import time; time.sleep(60)")
    monkeypatch.setattr(verify_resume, "_is_alive_after", interrupt)
    with pytest.raises(KeyboardInterrupt):
        verify_resume._train(Path("nowhere"), IRIS, kill_after=1.0)
    assert started[0].returncode == -signal.SIGKILL
