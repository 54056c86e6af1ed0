"""Claims: what tuning holds still stays as it is, bit for bit, whatever the optimizer; the rest
learns as it should.
"""

from __future__ import annotations

import pytest
import torch
from optimizer_references import TWINS, settings

import ravine
from ravine import finetuning
from ravine.errors import RecipeError
from ravine.layout import Layout, Slot
from ravine.metrics import main_metric
from ravine.networks.batched import BatchedNetwork
from ravine.networks.layer_parts import BatchNorm
from ravine.optimizers import ALL, SEARCH_OPTIMIZERS, Adam, AdamW, ClipNorm, Ema, Momentum
from ravine.part import stack
from ravine.penalties import L2
from ravine.protocols import Plan
from ravine.recipe_files import recipe_from
from ravine.training.batches import InMemory
from ravine.training.checkpoint import load_checkpoint, save_checkpoint
from ravine.training.cohort import start_cohort
from ravine.training.defaults import load_task, resolve
from ravine.training.evaluation import Evaluator
from ravine.training.jobs import assign_jobs
from ravine.training.loop import train_cohort
from ravine.training.train import train, train_all

BASE = (
    ravine.named_recipe("plain")
    .vary("data.source", "iris")
    .vary("network.hidden", (6, 5))
    .vary("epochs", 4)
    .vary("batch", 16)
)
LAYERS = Layout(
    tuple(
        Slot(name=f"{name}.{kind}", shape=(2, 2) if kind == "weight" else (1, 2), role=kind)
        for name in ("hidden.0", "hidden.1", "hidden.2", "output")
        for kind in ("weight", "bias")
    )
)
PLAN = Plan(steps=40, per_epoch=10)


def kept(run):
    """The weights a run keeps, by slot, and those it began with."""
    task = load_task(run.model.recipe)
    job = assign_jobs([run.model.recipe], [task], device="cpu", workers=1)[0].job
    begun, layout = (
        start_cohort(job),
        BatchedNetwork(stack([run.model.recipe]).network, run.model.signature).layout,
    )
    return layout.views(run.model.weights), layout.views(begun.weights)


def held_still(run, names):
    after, before = kept(run)
    for name in after:
        same = torch.equal(after[name], before[name])
        assert same == (name in names), name
    return run.record.series["held/largest change"].values


FROZEN = {"hidden.0.weight", "hidden.0.bias"}


@pytest.mark.parametrize("cls", ALL)
def test_frozen_weights_do_not_move_by_one_bit_under_any_optimizer(cls):
    for variant in TWINS.get(cls, ["as it is"]):
        recipe = BASE.vary(
            "optimizer", cls() if cls in SEARCH_OPTIMIZERS else cls(**settings(cls, 1, variant))
        )
        recipe = recipe.vary("epochs", 1).vary("seeds", 2).vary("batch", 32)
        if cls not in SEARCH_OPTIMIZERS:
            recipe = recipe.vary("penalties", (L2(strength=0.1),))
        run = train(recipe.vary("tuning", (finetuning.Freeze(layers=("hidden.0",)),)))
        assert run.model is not None, variant
        assert not held_still(run, FROZEN).any(), variant


@pytest.mark.parametrize(
    "optimizer", [AdamW(lr=0.01, weight_decay=0.1), Momentum(lr=0.05, weight_decay=0.1)]
)
def test_frozen_weights_do_not_move_in_rows_wide_enough_for_kernels(optimizer):
    recipe = BASE.vary("network.hidden", (150, 250)).vary("optimizer", optimizer).vary("epochs", 1)
    run = train(recipe.vary("tuning", (finetuning.Freeze(layers=("hidden.0",)),)))
    assert run.model is not None and run.model.size > 2**15
    assert not held_still(run, FROZEN).any()


def test_frozen_weights_stay_in_an_average_of_weights():
    recipe = BASE.vary("average", Ema(decay=0.9)).vary(
        "tuning", (finetuning.Freeze(layers=("hidden.0",)),)
    )
    held_still(train(recipe), FROZEN)


def test_the_effect_counts_what_is_held():
    run = train(
        BASE.vary(
            "tuning", (finetuning.Freeze(layers=("hidden.0",)), finetuning.DepthRates(decay=0.5))
        )
    )
    shown = {effect.name: effect.values[0] for effect in run.record.effects}
    size = run.model.size
    assert shown["freeze"] == pytest.approx(30 / size)
    at_a_half, at_a_quarter = 35, 30
    assert shown["depth rates"] == pytest.approx((0.5 * at_a_half + 0.75 * at_a_quarter) / size)
    assert (run.record.series["held/weights"].values == 30).all()


def test_frozen_weights_do_not_count_in_the_clip():
    """With the first layer frozen, cutting to a length is cutting what is left: as if the rest were
    the network.
    """
    free = (
        BASE.vary("tuning", (finetuning.Freeze(layers=("hidden.*",)),))
        .vary("batch", "all")
        .vary("epochs", 1)
    )
    run = train(
        free.vary("clip", ClipNorm(limit=1e-3)).vary("optimizer", Momentum(lr=1.0, momentum=0.0))
    )
    after, before = kept(run)
    moved = torch.cat([(after[n] - before[n]).flatten() for n in after if n.startswith("output")])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_a_rate_by_depth_is_a_step_by_depth():
    """One step of gradient descent is the rate times the gradient, so the ratio of two runs' steps
    is the factor.
    """
    one = (
        BASE.vary("batch", "all")
        .vary("epochs", 1)
        .vary("optimizer", Momentum(lr=0.1, momentum=0.0))
    )
    after, before = kept(train(one))
    slowed, _ = kept(train(one.vary("tuning", (finetuning.DepthRates(decay=0.5),))))
    for name, factor in {
        "hidden.0.weight": 0.25,
        "hidden.1.weight": 0.5,
        "output.weight": 1.0,
    }.items():
        step = after[name] - before[name]
        torch.testing.assert_close(slowed[name] - before[name], factor * step, rtol=1e-3, atol=1e-7)


def test_a_thawed_layer_begins_with_steps_of_the_learning_rate():
    """Adam's averages have seen the gradients of what waits. Had they not, ten steps would be some
    thirty rates long: after 400 steps nothing corrects for averages that begin at 0."""
    lr, stages = 1e-3, finetuning.Unfreeze(stages=((0, "output"), (400, "*")))
    recipe = (
        BASE.vary("optimizer", Adam(lr=lr))
        .vary("batch", "all")
        .vary("epochs", 410)
        .vary("tuning", (stages,))
    )
    after, before = kept(train(recipe))
    way = (after["hidden.0.weight"] - before["hidden.0.weight"]).abs().max()
    assert 1 * lr < float(way) < 22 * lr


def test_stages_thaw_when_they_say():
    recipe = BASE.vary("epochs", 30).vary("tuning", (finetuning.Gradual(epochs=10),))
    run = train(recipe)
    held = run.record.series["held/weights"]
    epochs = (held.steps - 1) // (run.record.task["examples"]["train"] // 16 + 1)
    expected = [{0: 65, 1: 30, 2: 0}[int(epoch) // 10] for epoch in epochs]
    assert held.values[:, 0].tolist() == expected
    held_still(run, set())


def test_alone_and_in_a_cohort_a_tuned_network_has_the_same_bits():
    parts = (finetuning.Gradual(epochs=2), finetuning.DepthRates(decay=0.7))
    recipes = [
        BASE.vary("tuning", parts).vary("optimizer.lr", lr).vary("seed", i)
        for i, lr in enumerate((0.02, 0.1))
    ]
    together = train_all(recipes)
    for recipe, member in zip(recipes, together, strict=True):
        alone = train(recipe)
        assert torch.equal(alone.model.weights, member.model.weights)


def test_a_tuned_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    recipe = BASE.vary(
        "tuning", (finetuning.Gradual(epochs=1), finetuning.DepthRates(decay=0.7))
    ).vary("optimizer", Adam())
    task = load_task(recipe)
    work = assign_jobs([resolve(recipe, task)], [task], device="cpu", workers=1)[0]

    def go(cohort, until):
        source = InMemory(task.train, cohort.seeds, batch=work.job.batch)
        evaluate = Evaluator(work.job.plan, None, main_metric(task.kind))
        train_cohort(cohort, source, evaluate, pause=lambda c: c.step == until)
        return cohort

    whole = go(start_cohort(work.job), -1)
    stopped = go(
        start_cohort(work.job), 10
    )  # in the second epoch of seven steps, in which the second depth waits no longer
    save_checkpoint(stopped, tmp_path / "checkpoint.safetensors")
    resumed = go(load_checkpoint(tmp_path / "checkpoint.safetensors", work.job), -1)
    assert torch.equal(resumed.ended.tensors["weights"], whole.ended.tensors["weights"])


def test_without_frozen_layers_tuning_changes_nothing():
    recipe = BASE.vary("optimizer", Adam(lr=0.01))
    assert torch.equal(
        train(recipe).model.weights,
        train(recipe.vary("tuning", (finetuning.DepthRates(decay=1.0),))).model.weights,
    )


def test_norms_and_embeddings_belong_to_a_depth():
    recipe = BASE.vary("network.norm", BatchNorm())
    task = load_task(recipe)
    layout = assign_jobs([resolve(recipe, task)], [task], device="cpu", workers=1)
    program = start_cohort(layout[0].job).network
    found = finetuning.depths(program.layout)
    assert [names[0] for names in found] == ["hidden.0.weight", "hidden.1.weight", "output.weight"]
    assert "hidden.0.norm.gamma" in found[0]


def test_factors_of_parts():
    def factors(part, step):
        row = part.lr_multipliers(LAYERS, step, PLAN)
        return [
            float(row[0, LAYERS.spans[f"{n}.weight"][0]])
            for n in ("hidden.0", "hidden.1", "hidden.2", "output")
        ]

    assert factors(finetuning.LastLayers(count=3), 0) == [0, 1, 1, 1]
    assert factors(finetuning.Gradual(epochs=2), 19) == [0, 0, 0, 1]
    assert factors(finetuning.Gradual(epochs=2), 20) == [0, 0, 1, 1]
    assert factors(finetuning.Freeze(layers=("hidden.[01]*",)), 0) == [0, 0, 1, 1]
    assert factors(finetuning.Unfreeze(stages=((0, "output"), (3, "hidden.2"))), 30) == [0, 0, 1, 1]
    assert factors(finetuning.DepthRates(decay=0.1), 0) == pytest.approx([1e-3, 1e-2, 0.1, 1])


@pytest.mark.parametrize(
    "part, words",
    [
        (
            finetuning.Freeze(layers=("hiden.0",)),
            ["'hiden.0'", "Freeze.layers", "Did you mean 'hidden.0"],
        ),
        (
            finetuning.Unfreeze(stages=((0, "output"), (1, "body"))),
            ["'body'", "Unfreeze.stages", "hidden.1.weight"],
        ),
        (finetuning.Freeze(layers=("*",)), ["freezes every weight"]),
    ],
)
def test_wrong_patterns_are_refused_before_any_work(part, words):
    with pytest.raises(RecipeError) as caught:
        train(BASE.vary("tuning", (part,)))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_stages_that_begin_with_nothing_are_refused():
    with pytest.raises(RecipeError, match="nothing would train"):
        finetuning.Unfreeze(stages=((1, "output"),))


def test_a_recipe_file_says_tuning():
    given = {
        "tuning": [
            {"name": "Unfreeze", "stages": [[0, "output"], [2, "*"]]},
            {"name": "DepthRates"},
        ]
    }
    assert recipe_from(given).tuning == (
        finetuning.Unfreeze(stages=((0, "output"), (2, "*"))),
        finetuning.DepthRates(),
    )
    assert recipe_from({"tuning": {"name": "LastLayers", "count": 2}}).tuning == (
        finetuning.LastLayers(count=2),
    )
