"""The progress line: the whole run, whoever trains it, and the time that is left."""

import io
import pickle
import time

import pytest

import ravine
from ravine.catalog import named_recipe
from ravine.reporting import progress
from ravine.run_progress import Progress, ProgressBoard


def at(step, board=None):
    about = dict(step=step, steps=1000, per_epoch=10, training=3, networks=4)
    return Progress(values={"train/loss": 0.5}, board=board, **about)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_that_of_the_rest_at_the_speed_since_the_first_report(clock):
    stream = io.StringIO()
    line = progress.ProgressLine(stream)
    for seconds, step in ((60.0, 500), (80.0, 600), (120.0, 900)):  # resumed at step 500
        clock[0] = seconds
        line(at(step))
    assert stream.getvalue().splitlines() == [
        "epoch 50/100  1:00  loss 0.5  3/4 nets",
        "epoch 60/100  1:20, 1:20 left  loss 0.5  3/4 nets",
        "epoch 90/100  2:00, 0:15 left  loss 0.5  3/4 nets",
    ]


def test_the_line_shows_all_parts_of_a_run_while_any_is_trained(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(progress, "BOARD_SECONDS", 0.01)
    board = ProgressBoard([3.0, 1.0], [4, 2])
    stream = io.StringIO()
    line = progress.ProgressLine(stream)
    board.write(0, share=1.0, training=0)
    line(at(1000, board))
    elsewhere = pickle.loads(pickle.dumps(board))  # as in another process
    elsewhere.write(1, share=0.4, training=2)
    until = time.monotonic() + 5
    while "85 % done" not in stream.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    elsewhere.write(1, share=1.0, training=0)
    time.sleep(0.05)
    line.close()
    first, *_, last = stream.getvalue().splitlines()
    assert first.startswith("75 % done") and first.endswith("2/6 nets")
    assert last.startswith("85 % done") and " left" in last  # none where all have ended
    time.sleep(0.05)
    assert stream.getvalue().splitlines()[-1] == last  # nothing after it is closed


def test_a_run_of_several_jobs_tells_of_all():
    seen = []
    recipes = [named_recipe("plain").vary("data.source", "iris").vary("epochs", 2)]
    recipes.append(recipes[0].vary("network.hidden", (3,)))
    recipes = [recipe.vary("seeds", 2) for recipe in recipes]
    ravine.train_all(recipes, workers=1, report=lambda at: seen.append(at.board.read()))
    shares = [each.share for each in seen]
    assert shares == sorted(shares) and seen[0].training == 4
    assert seen[-1].share == pytest.approx(1.0) and seen[-1].networks == 4
