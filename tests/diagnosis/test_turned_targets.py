"""Maps of targets that are turned or mirrored against their pictures are found with the turn that
they need; symmetric, unlearnable and whole-picture targets are left alone.
"""

import numpy as np
import pytest
import torch

from ravine.diagnosis.data.measure import profile_data
from ravine.diagnosis.data.turned_targets import TARGET_TURNS, find_turned_targets
from ravine.diagnosis.registry import DATA_RULES
from ravine.diagnosis.rule import run_rules

SIDE = 16
TURNS = [name for name in TARGET_TURNS if name]
INVERSE = {"turned by 90 degrees": "turned by 270 degrees"}
INVERSE |= {there: back for back, there in INVERSE.items()}


def boats(rows: int = 120, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright bars on dark water [N, 2, H, W]; 0 or 1 [N, H, W]."""
    draw = np.random.default_rng(seed)
    y = np.zeros((rows, SIDE, SIDE), int)
    for mask in y:
        r, c = draw.integers(0, SIDE - 3), draw.integers(0, SIDE - 7)
        mask[r : r + 3, c : c + 7] = 1
    return y[:, None] * np.array([1.0, -1.0])[:, None, None] + draw.normal(
        0, noise, (rows, 2, 1, 1)
    ) + draw.normal(0, noise, (rows, 2, SIDE, SIDE)), y


def depth(rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Smooth hills of gray, and how high they are [N, 1, H, W]."""
    draw = np.random.default_rng(1)
    waves = draw.normal(size=(rows, 1, SIDE, SIDE)).cumsum(2).cumsum(3)
    return waves + draw.normal(0, 0.1, waves.shape), 3 * waves + 40


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("examples", [boats, depth])
def test_the_turn_that_the_targets_need_is_named(examples, turn):
    x, y = examples()
    assert find_turned_targets(x, y) is None
    found = find_turned_targets(x, TARGET_TURNS[turn](y))
    assert found is not None and found.turn == INVERSE.get(turn, turn)
    assert found.signal > 12 and found.given_score < 0.2 * found.score


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("share", [0.35, 0.5])
def test_a_part_that_is_turned_is_found(turn, share):
    x, y = boats()
    some = np.random.default_rng(4).random(len(y)) < share
    found = find_turned_targets(x, np.where(some[:, None, None], TARGET_TURNS[turn](y), y))
    assert found is not None and found.turn == INVERSE.get(turn, turn)
    # noise hides the turn of a few of the 60 pictures that are judged
    assert found.turned_share == pytest.approx(some[1::2].mean(), abs=0.1)
    assert found.given_share == pytest.approx(1 - some[1::2].mean(), abs=0.1)


def test_several_random_turns_are_found():
    x, y = boats(240)
    draw = np.random.default_rng(5)
    for axis in (-1, -2):
        some = draw.random(len(y)) < 0.5
        y = np.where(some[:, None, None], np.flip(y, axis), y)
    found = find_turned_targets(x, y)
    assert found is not None and found.turned_share == pytest.approx(0.75, abs=0.1)
    assert found.turn.split(" or ") == [TURNS[0], TURNS[1], TURNS[2]]


def test_pictures_that_are_no_squares_are_only_mirrored():
    x, y = boats()
    found = find_turned_targets(x[..., :12], y[..., :12][..., ::-1])
    assert found is not None and found.turn == "mirrored left to right"


def rings() -> tuple[np.ndarray, np.ndarray]:
    """The same disc in the middle of each picture, of another brightness."""
    draw = np.random.default_rng(2)
    grid = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    disc = (grid**2).sum(0) < 20
    level = draw.normal(1, 0.3, (120, 1, 1, 1))
    return level * disc + draw.normal(0, 0.1, (120, 1, SIDE, SIDE)), level[:, 0] * disc


def sky() -> tuple[np.ndarray, np.ndarray]:
    """What is above is the sky, whatever the picture shows."""
    x, y = boats()
    return x, np.broadcast_to(np.arange(SIDE)[:, None] < 6, y.shape).astype(int)


def mirrored_in_part() -> tuple[np.ndarray, np.ndarray]:
    x, y = boats()
    x[1::20] = x[1::20, :, :, ::-1]  # one of ten pictures that are judged
    return x, y


def faint() -> tuple[np.ndarray, np.ndarray]:
    x, y = boats(noise=3.0)
    return x, y[:, ::-1]


HEALTHY = {
    "rings": rings,
    "where the sky is": sky,
    "some pictures mirrored": mirrored_in_part,
    "noise": lambda: (boats()[0], boats(seed=9)[1]),
    "too faint to say": faint,
    "few pictures": lambda: (boats(20)[0], boats(20)[1][:, ::-1]),
    "whole pictures": lambda: (boats()[0], np.arange(120) % 3),
    "the pictures again": lambda: (boats()[0], boats()[0]),
    "series": lambda: (boats()[1].astype(float), boats()[1][:, ::-1].astype(float)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_other_targets_are_left_alone(name):
    assert find_turned_targets(*HEALTHY[name]()) is None


def test_the_finding_says_how_to_turn_them():
    x, y = (torch.tensor(each) for each in boats())
    found = run_rules(DATA_RULES, profile_data(x, y.transpose(1, 2), outputs=(2, SIDE, SIDE)))[0]
    (finding,) = (f for f in found if f.severity == "error")
    assert (finding.code, finding.cause) == ("RVN-D15", "labels")
    assert finding.title == "targets fit the inputs when transposed"
    healthy = run_rules(DATA_RULES, profile_data(x, y, outputs=(2, SIDE, SIDE)))[0]
    assert [f.code for f in healthy if f.severity != "note"] == []
