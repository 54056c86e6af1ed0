"""Streams: the same for the same (seed, purpose, index), unrelated otherwise."""

import itertools
import os
import subprocess
import sys

import torch

from ravine.rng import number, stream, streams

NAMES = list(itertools.product(range(12), ("weights", "order", "dropout", "a/1", "a"), range(12)))


def test_streams_are_all_different():
    assert len({number(*name) for name in NAMES}) == len(NAMES)
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
    # Python's own hash differs from process to process; numbers written down once must not.
    code = "from ravine.rng import number; print(number(7, 'weights', 3))"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert int(done.stdout) == number(7, "weights", 3) < 2**63


def test_a_networks_stream_does_not_depend_on_its_company():
    together = streams([3, 5, 7], "weights")
    assert torch.equal(
        torch.rand(4, generator=together[1]), torch.rand(4, generator=streams([5], "weights")[0])
    )
