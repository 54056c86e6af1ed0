"""The experiments on many runs: what is exact holds in a quick run too, and their helpers are
right.
"""

import numpy as np
import pytest
import torch

from ravine.studies.search import Search, SearchTrial
from ravine_gallery import initial_loss, names, random_against_grid, range_test, snapshots, swa

ALL = (initial_loss, random_against_grid, range_test, snapshots, swa)


@pytest.fixture(scope="module")
def numbers():
    """The numbers of an experiment's quick run, each run once."""
    found = {}

    def of(module):
        if module not in found:
            outcome = module.EXPERIMENT.run(True)
            assert (
                outcome.said
                and outcome.figures
                and all(isinstance(v, float) for v in outcome.numbers.values())
            )
            found[module] = dict(outcome.numbers)
        return found[module]

    return of


@pytest.mark.parametrize("module", ALL, ids=lambda m: m.EXPERIMENT.name)
def test_each_is_listed_under_its_own_name(module):
    assert module.EXPERIMENT.name in names()
    assert module.__name__.endswith("." + module.EXPERIMENT.name.replace("-", "_"))


def test_tiny_weights_start_at_chance_and_zero_ones_learn_nothing(numbers):
    found = numbers(initial_loss)
    assert found["largest relative distance from chance, weights of SD 0.001"] < 1e-4
    assert found["penalty's relative difference from its formula"] < 1e-12
    assert (
        found["share of networks that did"] == 1
        and found["least loss of the broken ones, of chance"] > 0.5
    )


def test_the_limit_of_the_linear_model_lies_between_two_rates(numbers):
    found = numbers(range_test)
    spacing = 10000 ** (1 / 14)  # of 15 rates from 1e-3 to 10
    assert found["found"] <= found["limit of the linear model"] < found["found"] * spacing * 1.001
    assert found["validation loss at the rate"] < found["at ten times"]


def test_both_searches_are_judged_alike(numbers):
    found = numbers(random_against_grid)
    assert 0.5 < found["best of the grid"] <= 1 and 0.5 < found["best at random"] <= 1
    assert found["random above grid"] == pytest.approx(
        found["best at random"] - found["best of the grid"]
    )
    assert found["rank correlation, learning rate"] > 0.8


def test_what_matters_is_seen_on_both_sides_of_the_best():
    x, other = np.linspace(0, 1, 401), np.random.default_rng(0).permutation(401)
    trials = tuple(
        SearchTrial({"a": v, "b": w}, None, 1 - abs(v - 0.5), ())
        for v, w in zip(x, other, strict=True)
    )
    found = Search(trials, "accuracy", True)
    assert random_against_grid._matters(found, "a") == pytest.approx(1.0)
    assert random_against_grid._matters(found, "b") < 0.3


def test_averages_of_predictions_lose_no_more_than_their_members(numbers):
    found = numbers(snapshots)
    assert found["loss, snapshots"] > 0 and found["barrier"] >= 0
    p, truth = torch.rand(3, 4, 50, 2, dtype=torch.float64), torch.randint(0, 2, (50,))
    p = p / p.sum(-1, keepdim=True)
    each = np.stack([snapshots._loss(p[:, m], truth) for m in range(4)])
    assert (snapshots._loss(p.mean(1), truth) <= each.mean(0) + 1e-12).all()


def test_raw_and_averaged_weights_come_from_one_run(numbers):
    found = numbers(swa)
    assert found["test loss below raw, SWA"] == pytest.approx(
        found["test loss, raw"] - found["test loss, SWA"]
    )
    assert found["rise at distance 2, raw"] > 0
