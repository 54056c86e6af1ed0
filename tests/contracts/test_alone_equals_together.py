"""A network gives the same numbers alone and in a cohort, bit for bit: for every part there is."""

import dataclasses

import pytest
import torch

from ravine import catalog, losses, optimizers, penalties, schedules
from ravine.data import Data, Random
from ravine.early_stopping import EarlyStopping
from ravine.networks import activations, initializers, layer_parts, mlp
from ravine.part import field_types, is_number
from ravine.training.determinism import exact_arithmetic
from ravine.training.train import train_all


def small(**changes):
    """105 examples, batches of 32 and a last one of 9; widths that are no multiple of a vector's
    length.
    """
    recipe = catalog.plain()
    recipe = dataclasses.replace(
        recipe, data=Data(source="iris"), network=mlp.Mlp(hidden=(13, 7)), epochs=3, seeds=2
    )
    return dataclasses.replace(recipe, **changes)


def spread(make, cls):
    """Three recipes whose part has different values for each Number it has, within its bounds."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    part, numbers = cls(), [n for n, hint in field_types(cls).items() if is_number(hint)]
    found = []
    for i, share in enumerate((1.0, 0.7, 0.4)):
        changes = {}
        for name in numbers:
            bounds = fields[name].metadata.get("bounds", {})
            least = bounds.get("gt", bounds.get("ge", 0.0))
            changes[name] = least + (getattr(part, name) - least) * share
        found.append(make(dataclasses.replace(part, **changes)).vary("seed", i))
    return found


def assert_same(together, alone):
    assert together.record.members == alone.record.members
    for name, series in alone.record.series.items():
        assert torch.equal(
            torch.tensor(series.values).nan_to_num(7.0),
            torch.tensor(together.record.series[name].values).nan_to_num(7.0),
        ), name
    assert (together.model is None) == (alone.model is None)
    if alone.model is not None:
        assert torch.equal(together.model.weights, alone.model.weights)
        for name, buffer in alone.model.buffers.items():
            assert torch.equal(together.model.buffers[name], buffer)


def check(recipes):
    together = train_all(recipes, workers=1)
    for recipe, run in zip(recipes, together, strict=True):
        assert_same(run, train_all([recipe], workers=1)[0])
    single = train_all([recipes[0].vary("seeds", 1)], workers=1)[0]
    assert single.record.members[0] == together[0].record.members[0]


def test_arithmetic_is_exact_in_this_process():
    with exact_arithmetic() as holds:
        assert holds


# whole Hessians of these networks take ten seconds: on smaller ones in
# tests/optimizers/test_second_order.py
RULES = [c for c in optimizers.ALL if c not in (optimizers.Newton, optimizers.SaddleFreeNewton)]


@pytest.mark.parametrize("cls", RULES, ids=lambda c: c.__name__)
def test_optimizers(cls):
    check(spread(lambda part: small(optimizer=part), cls))


@pytest.mark.parametrize(
    "cls", [c for c in schedules.ALL if c is not schedules.WarmUp], ids=lambda c: c.__name__
)
def test_schedules(cls):
    check(spread(lambda part: small(schedule=part), cls))


@pytest.mark.parametrize("cls", activations.ALL, ids=lambda c: c.__name__)
def test_activations(cls):
    check(spread(lambda part: small(network=mlp.Mlp(hidden=(13, 7), activation=part)), cls))


@pytest.mark.parametrize("cls", initializers.ALL, ids=lambda c: c.__name__)
def test_initializers(cls):
    check(spread(lambda part: small(network=mlp.Mlp(hidden=(13, 7), initializer=part)), cls))


@pytest.mark.parametrize("cls", layer_parts.ALL_NORMS, ids=lambda c: c.__name__)
def test_norms(cls):
    check(spread(lambda part: small(network=mlp.Mlp(hidden=(13, 7), norm=part)), cls))


@pytest.mark.parametrize("cls", layer_parts.ALL_DROPOUTS, ids=lambda c: c.__name__)
def test_dropout(cls):
    check(spread(lambda part: small(network=mlp.Mlp(hidden=(13, 7), dropout=part)), cls))


@pytest.mark.parametrize("cls", layer_parts.ALL_NUMBER_EMBEDDINGS, ids=lambda c: c.__name__)
def test_number_embeddings(cls):
    check(spread(lambda part: small(network=mlp.Mlp(hidden=(13, 7), numbers=part)), cls))


@pytest.mark.parametrize("cls", penalties.ALL, ids=lambda c: c.__name__)
def test_penalties(cls):
    check(spread(lambda part: small(penalties=(part,)), cls))


@pytest.mark.parametrize("cls", optimizers.ALL_CLIPS, ids=lambda c: c.__name__)
def test_clips(cls):
    check(spread(lambda part: small(clip=part), cls))


@pytest.mark.parametrize("cls", optimizers.ALL_AVERAGES, ids=lambda c: c.__name__)
def test_averages(cls):
    check(spread(lambda part: small(average=part), cls))


SOURCES = {"SoftmaxCrossEntropy": "iris", "BinaryCrossEntropy": "breast_cancer"}


@pytest.mark.parametrize("cls", losses.ALL, ids=lambda c: c.__name__)
def test_losses(cls):
    source = SOURCES.get(cls.__name__, "diabetes")
    split = Random() if source == "diabetes" else catalog.plain().split
    check(spread(lambda part: small(loss=part, data=Data(source=source), split=split), cls))


def test_the_wide_ones_and_realmlp():
    base = catalog.realmlp_td_s().vary("data", Data(source="iris"))
    base = dataclasses.replace(base, epochs=2, batch=37)
    check(
        [
            base.vary("seed", s).vary("optimizer.lr", lr)
            for s, lr in ((0, 0.04), (1, 0.01), (2, 0.02))
        ]
    )


def test_a_network_that_diverges_leaves_the_others_alone():
    recipes = [small(seed=s).vary("optimizer.lr", lr) for s, lr in ((0, 0.1), (1, 1e30), (2, 0.05))]
    together = train_all(recipes, workers=1)
    assert [m.outcome for m in together[1].record.members] == ["diverged", "diverged"]
    for i in (0, 2):
        assert_same(together[i], train_all([recipes[i]], workers=1)[0])


def test_networks_that_stop_early_leave_the_others_alone():
    recipes = [
        small(seed=s, stop=EarlyStopping(patience=1), epochs=12).vary("optimizer.lr", lr)
        for s, lr in ((0, 0.9), (1, 0.003), (2, 0.1))
    ]
    together = train_all(recipes, workers=1)
    assert len({m.steps for run in together for m in run.record.members}) > 1, (
        "none stopped at a time of its own"
    )
    for recipe, run in zip(recipes, together, strict=True):
        assert_same(run, train_all([recipe], workers=1)[0])


def test_the_same_seed_gives_the_same_run():
    assert_same(train_all([small()], workers=1)[0], train_all([small()], workers=1)[0])
