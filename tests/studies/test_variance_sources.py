"""Variance by source: the design, estimates of simulated components, seeds varied one at a time."""

import itertools
import json
import math

import numpy as np
import pytest

import ravine
from ravine.networks.layer_parts import Dropout
from ravine.rng import separate_seeds
from ravine.studies.variance_sources import (
    SOURCE_NAMES,
    VarianceSources,
    crossed_levels,
    deviations_of,
)


@pytest.fixture(scope="module")
def recipe():
    recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 2)
    return recipe.vary("seeds", 1)


@pytest.mark.parametrize("levels", [5, 7, 11, 13])
def test_any_two_levels_of_two_sources_meet_once(levels):
    for one, other in itertools.combinations(crossed_levels(levels).T, 2):
        assert len(set(zip(one.tolist(), other.tolist(), strict=True))) == levels**2


def simulated(levels, draw, deviations):
    scores = draw.normal(0, deviations["together"], levels**2)
    for column, name in zip(crossed_levels(levels).T, SOURCE_NAMES, strict=True):
        scores += draw.normal(0, deviations[name], levels)[column]
    return scores


@pytest.mark.parametrize("levels", [7, 11])
def test_simulated_components_are_found_and_their_intervals_hold_them(levels):
    true = {"split": 0.02, "start": 0.01, "order": 0.0, "dropout": 0.005, "together": 0.01}
    draw, count = np.random.default_rng(levels), 1000
    found = [deviations_of(simulated(levels, draw, true), levels) for _ in range(count)]
    for name, deviation in true.items():
        held = np.mean([one[name].low <= deviation <= one[name].high for one in found])
        assert held >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / count)
    means = {n: np.mean([one[n].value ** 2 for one in found]) for n in ("split", "together")}
    # the variance of an estimated variance: 2 σ⁴ / freedom, for the split a little more
    assert means["together"] == pytest.approx(1e-4, rel=0.05)
    assert means["split"] == pytest.approx(4e-4, rel=0.1)


def test_what_depends_on_two_sources_together_is_given_to_neither():
    draw, levels = np.random.default_rng(0), 11
    design = crossed_levels(levels)
    found = []
    for _ in range(400):
        pairs = draw.normal(0, 0.01, (levels, levels))
        found.append(deviations_of(pairs[design[:, 0], design[:, 2]], levels))
    assert np.mean([one["together"].value ** 2 for one in found]) == pytest.approx(1e-4, rel=0.05)
    zero = [one["split"].low == 0 for one in found]
    assert np.mean(zero) >= 0.975 - 3 * math.sqrt(0.975 * 0.025 / 400)


def trained(recipe, seed):
    run = ravine.train(recipe.vary("seed", seed), baseline=False)
    assert run.model is not None
    return run.model.weights


def test_three_equal_seeds_are_that_seed(recipe):
    dropped = recipe.vary("network.dropout", Dropout(rate=0.5))
    same = separate_seeds(start=3, order=3, dropout=3)
    assert trained(dropped, same).equal(trained(dropped, 3))
    for other in ({"start": 4}, {"order": 4}, {"dropout": 4}):
        seeds = {"start": 3, "order": 3, "dropout": 3} | other
        assert not trained(dropped, separate_seeds(**seeds)).equal(trained(dropped, 3))


def test_a_source_that_a_recipe_does_not_have_changes_nothing(recipe):
    one = trained(recipe, separate_seeds(start=3, order=3, dropout=8))
    assert one.equal(trained(recipe, 3))
    all_at_once = recipe.vary("batch", "all")
    a, b = (trained(all_at_once, separate_seeds(start=3, order=o, dropout=3)) for o in (3, 9))
    assert a.allclose(b, atol=1e-5)  # sums of another order


def test_a_study_reports_each_source(recipe):
    found = ravine.variance_sources(recipe, levels=5)
    assert len(found.scores) == 25
    assert list(found.deviations) == [*SOURCE_NAMES, "together"]
    assert all(one.low <= one.value <= one.high for one in found.deviations.values())
    assert max(map(len, str(found).splitlines())) <= 80
    assert json.loads(json.dumps(found.to_json()))["metric"] == "accuracy"
    assert ravine.variance_sources(recipe, levels=5) == found


def test_failures_leave_nothing_to_estimate():
    scores = np.full(25, 0.5)
    scores[3] = math.nan
    found = VarianceSources("accuracy", "test", tuple(scores), deviations_of(scores, 5))
    assert all(math.isnan(one.value) for one in found.deviations.values())
    assert "1 failed" in str(found)
