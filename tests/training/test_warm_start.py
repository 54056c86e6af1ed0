"""Warm starts: networks go on from their own weights, with the optimizer that they had."""

import numpy as np
import pandas as pd
import pytest
import torch

import ravine
from ravine.data import Data, Random, TaskType, task_of_rows
from ravine.errors import RecipeError
from ravine.networks.mlp import Mlp
from ravine.recipe_files import with_settings
from ravine.training.cohort import InitialState
from ravine.training.defaults import prepare, resolve
from ravine.training.warm_start import initial_state_of, train_from

PASS = (
    ravine.named_recipe("plain")
    .vary("split", Random(validation=0.0, test=0.0))
    .vary("network", Mlp(hidden=(8,)))
    .vary("seeds", 3)
    .vary("batch", 16)
)


def frame(rows=100):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, 3))
    return pd.DataFrame(x, columns=list("abc")).assign(y=np.sin(x[:, 0]) + x[:, 1])


def recipe_of(*, epochs, optimizer="Adam"):
    recipe = PASS.vary("epochs", epochs).vary("data", Data(target=("y",)))
    return with_settings(recipe, f"optimizer={optimizer}")


@pytest.mark.parametrize("optimizer", ["Adam", "Momentum", "ScheduleFreeAdamW"])
def test_passes_one_after_another_are_one_run_bit_for_bit(optimizer):
    recipe = recipe_of(epochs=3, optimizer=optimizer)
    whole = ravine.train(recipe, frame()).model
    task, single = prepare(recipe.vary("epochs", 1), frame())
    start, steps = InitialState(), []
    for _ in range(3):
        run, start = train_from(single, task, start)
        steps.append(run.record.members[0].steps)
    assert torch.equal(run.model.weights, whole.weights)
    assert steps == [7, 14, 21]


def test_a_network_that_does_not_move_keeps_its_weights_and_those_of_the_model_it_came_from():
    recipe = recipe_of(epochs=2, optimizer="SGD")
    model = ravine.train(recipe, frame()).model
    before = model.weights.clone()
    task, still = prepare(recipe.vary("optimizer.lr", 0.0), frame())
    run, _ = train_from(still, task, initial_state_of(model, still))
    assert torch.equal(run.model.weights, before)
    task, moving = prepare(recipe, frame())
    run, _ = train_from(moving, task, initial_state_of(model, moving))
    assert not torch.equal(run.model.weights, before) and torch.equal(model.weights, before)


def test_another_optimizer_begins_with_a_state_of_its_own():
    task, adam = prepare(recipe_of(epochs=1), frame())
    _, start = train_from(adam, task, InitialState())
    task, lion = prepare(recipe_of(epochs=1, optimizer="Lion"), frame())
    run, after = train_from(lion, task, start)
    assert set(start.optimizer) != set(after.optimizer)
    assert run.model.weights.isfinite().all()


def test_another_network_is_refused_by_the_weights_that_do_not_fit():
    model = ravine.train(recipe_of(epochs=1), frame()).model
    with pytest.raises(RecipeError, match=r"does not fit weights .* of hidden.0"):
        initial_state_of(model, model.recipe.vary("network.hidden", (9,)))


def test_a_diverged_network_is_left_out_of_the_next_start():
    task, recipe = prepare(recipe_of(epochs=1, optimizer="SGD"), frame())
    _, start = train_from(recipe, task, InitialState())
    start.weights[1] = 1e30
    run, after = train_from(recipe, task, start)
    assert [m.outcome for m in run.record.members] == ["finished", "diverged", "finished"]
    assert len(after.weights) == 2 and after.weights.isfinite().all()


def test_rows_that_lack_a_class_are_encoded_as_the_first_were():
    table = frame().assign(y=np.arange(100) % 3)
    kind = TaskType("classes", ("y",), (0, 1, 2))
    recipe = recipe_of(epochs=1)
    parts = (recipe.data, recipe.split, recipe.encoding)
    first = task_of_rows(table, kind, *parts, seed=0)
    later = table[table.y == 1].reset_index(drop=True)
    more = task_of_rows(later, kind, *parts, seed=0, encoder=first.encoder)
    rows = first.encoder.apply(table).numbers
    assert torch.equal(more.train_examples.numbers, rows[torch.tensor(list(table.y == 1))])
    assert set(more.train_examples.targets.tolist()) == {1}
    run, _ = train_from(resolve(recipe, first), first, InitialState())
    assert run.model.decoded_prediction(later).shape == (33, 3)
