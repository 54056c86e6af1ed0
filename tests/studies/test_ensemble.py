"""Ensembles against means by hand, torch's AveragedModel, brute force; their folders; the
comparison of budgets.
"""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch

from ravine import catalog, metrics
from ravine.cli import run_command
from ravine.data import Data, Random
from ravine.data.datasets import load_bundled
from ravine.errors import RecipeError
from ravine.networks import layer_parts, mlp
from ravine.networks.batched import BatchedNetwork
from ravine.optimizers.averaging import Snapshots
from ravine.part import stack
from ravine.schedules import SGDR
from ravine.studies.ensemble import (
    INDEPENDENT_MEMBERS,
    LONGER_NETWORK,
    ONE_NETWORK,
    SHORT_MEMBERS,
    SNAPSHOT_ENSEMBLE,
    as_run,
    compare_ensembles,
    greedy_selection,
    greedy_soup,
    join_models,
    select_members,
    selection_metric,
    soup,
)
from ravine.training.defaults import prepare
from ravine.training.train import open_run, train, train_all

RECIPE = dataclasses.replace(
    catalog.plain(), data=Data(source="iris"), network=mlp.Mlp(hidden=(8,)), epochs=6, seeds=3
)


@pytest.fixture(scope="module")
def trained():
    task, _ = prepare(RECIPE)
    return train(RECIPE).model, task


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(trained):
    model, task = trained
    other = train(RECIPE.vary("seed", 50).vary("optimizer.lr", 0.03)).model
    both = join_models([model, other])
    expected = np.concatenate(
        [model.member_predictions(task.test).numpy(), other.member_predictions(task.test).numpy()]
    ).mean(0)
    np.testing.assert_allclose(both.mean_prediction(task.test).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-9)


def test_what_cannot_be_joined_is_refused(trained):
    model, _ = trained
    with pytest.raises(RecipeError, match="networks differ"):
        join_models([model, train(RECIPE.vary("network.hidden", (9,)).vary("epochs", 1)).model])
    with pytest.raises(RecipeError, match="encodings differ"):
        join_models([model, train(RECIPE.vary("split_seed", 1).vary("epochs", 1)).model])
    with pytest.raises(RecipeError, match="nothing"):
        join_models([])


def test_a_uniform_soup_is_torchs_averaged_model(trained):
    model, task = trained
    made = soup(model, task)
    layout = BatchedNetwork(stack([model.recipe]).network, model.signature).layout
    average = None
    for row in model.weights.double():
        tensors = layout.views(row[None])
        net = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        ).double()
        for layer, name in ((net[0], "hidden.0"), (net[2], "output")):
            layer.weight.data = tensors[f"{name}.weight"][0].T.clone()
            layer.bias.data = tensors[f"{name}.bias"].reshape(-1).clone()
        average = torch.optim.swa_utils.AveragedModel(net) if average is None else average
        average.update_parameters(net)
    expected = torch.softmax(average(task.test.numbers.double()), 1)
    torch.testing.assert_close(
        made.mean_prediction(task.test), expected.detach(), rtol=1e-5, atol=1e-6
    )
    assert made.weights.shape[0] == 1


def test_a_soup_has_the_statistics_of_its_own_weights():
    recipe = RECIPE.vary("network", mlp.Mlp(hidden=(8,), norm=layer_parts.BatchNorm()))
    task, _ = prepare(recipe)
    made = soup(train(recipe).model, task)
    layout = BatchedNetwork(stack([recipe]).network, made.signature).layout
    signal = (
        task.train_examples.numbers.double()
        @ layout.views(made.weights.double())["hidden.0.weight"][0]
    )
    mean = made.buffers["hidden.0.norm.mean"].reshape(-1).double()
    torch.testing.assert_close(mean, signal.mean(0), rtol=1e-4, atol=1e-5)


def test_a_greedy_soup_is_no_worse_than_its_best_ingredient(trained):
    _, task = trained
    shared = [
        RECIPE.vary("optimizer.lr", lr).vary("seeds", 1) for lr in (0.001, 0.03, 0.1, 0.3)
    ]  # from one start
    model = join_models([run.model for run in train_all(shared)])
    made, truth = greedy_soup(model, task), task.validation.targets
    alone = metrics.LOG_LOSS.of(model.member_predictions(task.validation), truth)
    assert (
        float(metrics.LOG_LOSS.of(made.member_predictions(task.validation), truth)[0])
        <= float(alone.min()) + 1e-9
    )
    assert made.weights.shape[0] == 1


def test_greedy_selection_follows_brute_force_step_by_step_and_may_repeat():
    generator = torch.Generator().manual_seed(5)
    each = torch.rand(5, 40, 1, generator=generator, dtype=torch.float64)
    truth = (torch.rand(40, generator=generator) < 0.5).long()
    chosen = greedy_selection(each, truth, metrics.LOG_LOSS, size=6)
    for step, member in enumerate(chosen):
        before = each[chosen[:step]].sum(0) if step else 0
        tried = [float(metrics.LOG_LOSS.of(((before + e) / (step + 1))[None], truth)) for e in each]
        assert member == int(np.argmin(tried))
    pairs = [
        each[list(p)].mean(0)
        for p in itertools.combinations_with_replacement(range(5), len(chosen))
    ]
    assert len(pairs) >= 5
    strong = torch.cat([torch.where(truth[:, None] == 1, 0.9, 0.1)[None].double(), each[:1]])
    assert greedy_selection(strong, truth, metrics.LOG_LOSS, size=9) == [
        0
    ]  # the smallest of equals


def test_the_selected_ensemble_is_best_where_it_was_selected(trained):
    model, task = trained
    made, truth = select_members(model, task, size=8), task.validation.targets
    loss = selection_metric(task)
    whole, single = (
        float(loss.of(p, truth).min())
        for p in (
            model.mean_prediction(task.validation)[None],
            model.member_predictions(task.validation),
        )
    )
    assert (
        float(loss.of(made.mean_prediction(task.validation)[None], truth))
        <= min(whole, single) + 1e-12
    )


def test_an_ensemble_is_saved_and_read_as_a_run(trained, tmp_path):
    model, task = trained
    run = as_run(join_models([model, model]), task, out=tmp_path / "e", notes=["twice the same"])
    again = open_run(tmp_path / "e")
    frame = load_bundled("iris")[0]
    assert again.predict(frame).equals(run.predict(frame)) and again.score == run.score
    assert len(again.record.members) == 6 and again.record.notes == ("twice the same",)
    assert run.score.value == train(RECIPE).score.value  # the same three, each twice
    assert run_command(["show", str(tmp_path / "e")]) == 0


@pytest.fixture(scope="module")
def compared():
    return compare_ensembles(RECIPE, members=3, repeats=2)


def test_the_comparison_is_of_the_runs_that_train_gives(compared):
    scores = []
    for r in range(2):
        run = train(RECIPE.vary("seed", 3 * r), baseline=False)
        scores.append(run.score.value)
        if r == 0:
            assert run.score == compared.runs[INDEPENDENT_MEMBERS].score
    assert compared[INDEPENDENT_MEMBERS].score.value == pytest.approx(np.mean(scores))
    cyclic = dataclasses.replace(
        RECIPE, schedule=SGDR(epochs=2.0, times=1.0), snapshots=Snapshots(), seeds=1
    )
    assert compared.runs[SNAPSHOT_ENSEMBLE].score == train(cyclic, baseline=False).score
    assert compared.runs[SNAPSHOT_ENSEMBLE].model.weights.shape[0] == 3
    assert (
        compared.runs[LONGER_NETWORK].score
        == train(RECIPE.vary("seeds", 1).vary("epochs", 18), baseline=False).score
    )


def test_differences_are_paired_and_to_the_single_run_of_the_same_budget(compared):
    assert compared[ONE_NETWORK].better is None and compared[LONGER_NETWORK].lower is None
    for name, single in ((SHORT_MEMBERS, ONE_NETWORK), (INDEPENDENT_MEMBERS, LONGER_NETWORK)):
        line = compared[name]
        assert line.better.value == pytest.approx(line.score.value - compared[single].score.value)
        assert line.lower.value == pytest.approx(compared[single].loss.value - line.loss.value)
        assert (
            line.lower.low <= line.lower.value <= line.lower.high
            and line.budget == compared[single].budget
        )


def test_the_mean_prediction_has_no_more_loss_than_the_members_on_average(compared):
    # −log is convex (Jensen): true for any members on any examples
    each = compared.runs[INDEPENDENT_MEMBERS].score
    task, _ = prepare(RECIPE)
    loss = metrics.LOG_LOSS.of(
        compared.runs[INDEPENDENT_MEMBERS].model.member_predictions(task.test), task.test.targets
    )
    assert each.others["log_loss"] <= float(loss.mean()) + 1e-12


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"members": 1}, "at least 2"),
        ({}, {"repeats": 1}, "at least 2"),
        ({"epochs": 3}, {"members": 2}, "two at"),
        ({"split": Random(test=0.0)}, {"members": 2}, "no test split"),
    ],
)
def test_comparisons_that_are_none_are_refused(change, options, words):
    with pytest.raises(RecipeError, match=words):
        compare_ensembles(dataclasses.replace(RECIPE, **change), **options)


def test_divergence_is_no_average():
    with pytest.raises(RecipeError, match="diverged"):
        compare_ensembles(RECIPE.vary("optimizer.lr", 1e20), members=2, repeats=2)


def test_choosing_needs_a_validation_split(trained):
    model, task = trained
    with pytest.raises(RecipeError, match="no validation split"):
        select_members(model, dataclasses.replace(task, validation=None))


def test_the_command_prints_the_table(capsys):
    few = [
        "ensemble",
        "iris",
        "--recipe",
        "plain",
        "--set",
        "epochs=4",
        "--members",
        "2",
        "--repeats",
        "2",
    ]
    assert run_command(few) == 0
    printed = capsys.readouterr().out
    assert "snapshots of one run" in printed and max(map(len, printed.splitlines())) <= 80
    assert run_command([*few, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["lines"]) == 7
    assert run_command(["ensemble", "iris", "--members", "1"]) == 2
