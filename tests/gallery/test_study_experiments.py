"""The experiments on many runs: what is exact holds in a quick run too, and their helpers are
right.
"""

import numpy as np
import pytest
import torch

from ravine.studies.tuned_trials import TunedTrial
from ravine.studies.tuning import TuningResult
from ravine_gallery import random_against_grid, snapshots


def test_tiny_weights_start_at_chance_and_zero_ones_learn_nothing(numbers):
    found = numbers("initial-loss")
    assert found["largest relative distance from chance, weights of SD 0.001"] < 1e-4
    assert found["penalty's relative difference from its formula"] < 1e-12
    assert (
        found["share of networks that did"] == 1
        and found["least loss of the broken ones, of chance"] > 0.5
    )


def test_the_limit_of_the_linear_model_lies_between_two_rates(numbers):
    found = numbers("range-test")
    spacing = 10000 ** (1 / 14)  # of 15 rates from 1e-3 to 10
    assert found["found"] <= found["limit of the linear model"] < found["found"] * spacing * 1.001
    assert found["validation loss at the rate"] < found["at ten times"]


def test_both_searches_are_scored_alike(numbers):
    found = numbers("random-against-grid")
    assert 0.5 < found["best of the grid"] <= 1 and 0.5 < found["best at random"] <= 1
    assert found["random above grid"] == pytest.approx(
        found["best at random"] - found["best of the grid"]
    )
    assert found["rank correlation, learning rate"] > 0.8


def test_the_influence_of_a_setting_is_seen_on_both_sides_of_its_best_value():
    x, other = np.linspace(0, 1, 401), np.random.default_rng(0).permutation(401)
    trials = tuple(
        TunedTrial(
            number=i, values={"a": v, "b": w}, score=1 - abs(v - 0.5), loss=0.0, outcome="finished"
        )
        for i, (v, w) in enumerate(zip(x, other, strict=True))
    )
    found = TuningResult(
        recipe=None,
        space={},
        trials=trials,
        metric="accuracy",
        higher_is_better=True,
        rows=1,
        sampler="random",
        pruner="none",
    )
    assert random_against_grid.rank_influence(found, "a") == pytest.approx(1.0)
    assert random_against_grid.rank_influence(found, "b") < 0.3


def test_averages_of_predictions_lose_no_more_than_their_members(numbers):
    found = numbers("snapshots")
    assert found["loss, snapshots"] > 0 and found["barrier"] >= 0
    p, truth = torch.rand(3, 4, 50, 2, dtype=torch.float64), torch.randint(0, 2, (50,))
    p = p / p.sum(-1, keepdim=True)
    each = np.stack([snapshots.log_losses(p[:, m], truth) for m in range(4)])
    assert (snapshots.log_losses(p.mean(1), truth) <= each.mean(0) + 1e-12).all()


def test_raw_and_averaged_weights_come_from_one_run(numbers):
    found = numbers("swa")
    assert found["test loss below raw, SWA"] == pytest.approx(
        found["test loss, raw"] - found["test loss, SWA"]
    )
    assert found["rise at distance 2, raw"] > 0
