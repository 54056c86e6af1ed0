"""Random numbers of an examination are its own."""

import random

import numpy as np
import pytest
import torch

from ravine.examination.isolation import isolated_rng


def test_isolated_numbers_repeat_and_leave_all_generators_as_they_were():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    drawn = []
    for _ in range(2):
        with isolated_rng(3):
            drawn.append((float(torch.rand(())), np.random.rand(), random.random()))
    with pytest.raises(RuntimeError), isolated_rng(3):
        raise RuntimeError
    assert drawn[0] == drawn[1] and torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all() and before[2] == random.getstate()
