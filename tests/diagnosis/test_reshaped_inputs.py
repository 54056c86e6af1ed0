"""Signals and pictures that were reshaped where their dimensions were to be exchanged are found;
inputs without neighbors, with a period, or in the right order are left alone.
"""

import numpy as np
import pytest
import torch

from ravine.diagnosis.data.measure import profile_data
from ravine.diagnosis.data.reshaped_inputs import find_reshaped_inputs
from ravine.diagnosis.registry import DATA_RULES
from ravine.diagnosis.rule import run_rules

DRAW = np.random.default_rng(5)


def motions(rows=300, steps=32):
    """Three axes, of which two move together under much noise [N, T, 3]."""
    t = np.arange(steps)
    speed, start = DRAW.uniform(0.4, 1.0, (rows, 1)), DRAW.uniform(0, 6.3, (rows, 1))
    wave, side = np.sin(speed * t + start), np.sin(2 * speed * t + start)
    x = np.stack([0.7 * wave, side, 1.5 * wave], 2) + DRAW.normal(0, 0.8, (rows, steps, 3))
    return (x - x.mean((0, 1))) / x.std((0, 1))


def walks(rows=200, steps=50, channels=6):
    return DRAW.normal(size=(rows, steps, channels)).cumsum(1)


def spots(rows=150, side=16):
    """Colored spots on a colored ground [N, H, W, 3]."""
    at = np.indices((side, side)).transpose(1, 2, 0)
    middle = DRAW.uniform(3, side - 3, (rows, 1, 1, 2))
    spot = np.exp(-((at - middle) ** 2).sum(3) / 18)[..., None]
    ground, color = DRAW.uniform(size=(2, rows, 1, 1, 3))
    return ground + spot * (color - ground) + DRAW.normal(0, 0.1, (rows, side, side, 3))


def plain_colors(rows=200):
    return DRAW.uniform(size=(rows, 1, 1, 3)) + DRAW.normal(0, 0.2, (rows, 8, 8, 3))


def channels_first(x):
    return np.moveaxis(x, -1, 1)


def reshaped(x):
    return x.reshape(len(x), x.shape[-1], *x.shape[1:-1])


@pytest.mark.parametrize("make", [motions, walks, spots, plain_colors])
def test_a_reshape_is_found_and_a_permutation_is_not(make):
    x = make()
    found = find_reshaped_inputs(reshaped(x))
    assert found is not None and found.signal > 9
    assert find_reshaped_inputs(channels_first(x)) is None


def test_a_reshape_is_an_error():
    for x, codes in ((reshaped(motions()), {"RVN-D21"}), (channels_first(motions()), set())):
        data = profile_data(torch.tensor(x).float(), torch.arange(300) % 3)
        assert codes == {f.code for f in run_rules(DATA_RULES, data)[0]} & {"RVN-D21"}


WEEK = np.array([3.0, 2.0, 2.5, 3.0, 5.0, 7.0, 4.0])
LOOK_ALIKES = {
    "noise": lambda: DRAW.normal(size=(300, 3, 40)),
    "pictures of noise": lambda: DRAW.normal(size=(300, 3, 12, 12)),
    # seven shops for four weeks, each day of the week like the next one
    "a week": lambda: (
        DRAW.gamma(5, size=(300, 1, 1)) * np.tile(WEEK, 4) + DRAW.normal(size=(300, 7, 28))
    ),
    "spectra": lambda: (
        np.exp(-((np.arange(60) - DRAW.uniform(5, 55, (200, 3, 1))) ** 2) / 8)
        + DRAW.normal(0, 0.02, (200, 3, 60))
    ),
    "letters": lambda: np.eye(4)[DRAW.integers(0, 4, (300, 30))].transpose(0, 2, 1),
    "repeated letters": lambda: np.eye(4)[DRAW.integers(0, 4, (300, 10)).repeat(3, 1)].transpose(
        0, 2, 1
    ),
    "columns folded to pictures": lambda: (
        DRAW.normal(size=(300, 5)) @ DRAW.normal(size=(5, 192)) + DRAW.normal(size=(300, 192))
    ).reshape(300, 3, 8, 8),
    "bright middles": lambda: (
        np.hanning(12)[:, None] * np.hanning(12) * DRAW.uniform(size=(300, 3, 1, 1))
        + DRAW.normal(0, 0.3, (300, 3, 12, 12))
    ),
    "windows": lambda: np.hanning(48) * channels_first(walks(steps=48, channels=3)),
    "alternating": lambda: (
        np.cos(np.pi * np.arange(40)) * DRAW.normal(size=(300, 2, 1))
        + DRAW.normal(size=(300, 2, 40))
    ),
    "one stream in parts": lambda: DRAW.normal(size=(200, 96)).cumsum(1).reshape(200, 4, 24),
    "steps first": lambda: walks(steps=40, channels=3),
    "a mask": lambda: (DRAW.uniform(size=(200, 3, 10, 10)) < 0.2).astype(float),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_inputs_that_look_alike_are_left_alone(name):
    assert find_reshaped_inputs(LOOK_ALIKES[name]()) is None
