"""Streams: the same for the same (seed, purpose, index), unrelated otherwise."""

import itertools
import random

import numpy as np
import pytest
import torch

from ravine.rng import isolated_rng, stream, stream_seed, streams

NAMES = list(itertools.product(range(12), ("weights", "order", "dropout", "a/1", "a"), range(12)))


def test_streams_are_all_different():
    assert len({stream_seed(*name) for name in NAMES}) == len(NAMES)
    firsts = torch.stack(
        [torch.rand(2, generator=stream(*name), dtype=torch.float64) for name in NAMES]
    )
    assert len(firsts.unique(dim=0)) == len(NAMES)


def test_streams_are_independent_of_each_other():
    # The first draws of 720 streams, taken together, are uniform: mean 1/2 within 4 standard errors
    # (sd 1/√12), and neighbors (seed and seed + 1) are uncorrelated within 4/√n.
    draws = torch.stack(
        [torch.rand(1, generator=stream(*name), dtype=torch.float64) for name in NAMES]
    ).flatten()
    assert abs(draws.mean() - 0.5) < 4 / (12 * len(draws)) ** 0.5
    assert abs(torch.corrcoef(torch.stack([draws[:-60], draws[60:]]))[0, 1]) < 4 / len(draws) ** 0.5


def test_a_stream_is_the_same_in_every_process():
    # Python's own hash differs from process to process; these numbers, written down once, must not
    assert stream_seed(7, "weights", 3) == 511786399270401536
    assert stream_seed(0, "order", 12) == 7928455339429127612 < 2**63


def test_a_networks_stream_does_not_depend_on_the_other_networks():
    together = streams([3, 5, 7], "weights")
    assert torch.equal(
        torch.rand(4, generator=together[1]), torch.rand(4, generator=streams([5], "weights")[0])
    )


def test_isolated_rng_leaves_all_generators_as_they_were():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    drawn = []
    for _ in range(2):
        with isolated_rng(3):
            drawn.append((float(torch.rand(())), np.random.rand(), random.random()))
    with pytest.raises(RuntimeError), isolated_rng(3):
        raise RuntimeError
    assert drawn[0] == drawn[1] and torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all() and before[2] == random.getstate()


def test_isolated_rng_without_a_seed_goes_on_from_the_numbers_before():
    with isolated_rng(3):
        expected = float(torch.rand(())), np.random.rand(), random.random()
    with isolated_rng(3):
        with isolated_rng():
            drawn = float(torch.rand(())), np.random.rand(), random.random()
        again = float(torch.rand(())), np.random.rand(), random.random()
    assert drawn == again == expected
