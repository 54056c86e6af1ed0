"""Search: spaces, the estimator of the best of k against brute force, trials that are ordinary
runs, the command.
"""

import itertools
import json
import math

import numpy as np
import pytest

from ravine import catalog
from ravine.cli import run_command
from ravine.data import Random
from ravine.errors import InputError, RecipeError
from ravine.recipe_files import read_recipe
from ravine.statistics import wilson_interval
from ravine.studies.search import (
    ChoiceSpace,
    IntegerSpace,
    LogUniformSpace,
    UniformSpace,
    draw_trials,
    read_space,
    search,
)
from ravine.studies.search_results import Search, SearchTrial, expected_best
from ravine.training.train import train

PLAIN = catalog.plain().vary("data.source", "iris").vary("epochs", 4)


@pytest.mark.parametrize("higher", [True, False])
def test_the_expected_best_of_k_is_the_mean_over_all_subsets(higher):
    scores = np.random.default_rng(3).normal(size=7)
    best = max if higher else min
    for k, found in enumerate(expected_best(scores, higher_is_better=higher), 1):
        expected = np.mean([best(chosen) for chosen in itertools.combinations(scores, k)])
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_expected_best_is_unbiased_where_the_plug_in_estimate_is_not():
    # the best of k of uniform numbers is k / (k + 1) on average; F^k of the sample (Dodge et al.)
    # falls short
    samples, k = np.random.default_rng(0).random((4000, 10)), 5
    ours = np.mean([expected_best(s)[k - 1] for s in samples])
    ordered, i = np.sort(samples, 1), np.arange(1, 11)
    plug_in = (ordered * ((i / 10) ** k - ((i - 1) / 10) ** k)).sum(1).mean()
    assert ours == pytest.approx(k / (k + 1), abs=0.005) and plug_in < k / (k + 1) - 0.02


def test_failed_trials_count_as_the_worst_and_many_do_not_overflow():
    assert expected_best([0.5, math.nan, 0.9]).tolist() == expected_best([0.5, 0.5, 0.9]).tolist()
    many = expected_best(np.linspace(0, 1, 3000))
    assert (
        np.isfinite(many).all()
        and (np.diff(many) > -1e-12).all()
        and many[-1] == pytest.approx(1.0)
    )


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("optimizer.lr=log:1e-4..1e-1", LogUniformSpace(1e-4, 1e-1)),
        ("optimizer.lr = 0..0.5", UniformSpace(0.0, 0.5)),
        ("optimizer.momentum=0..1", UniformSpace(0.0, 1.0)),
        ("optimizer.lr=log:1e-4..1e-1/7", LogUniformSpace(1e-4, 1e-1, 7)),
        ("epochs=10..50", IntegerSpace(10, 50)),
        ("batch=8..64/3", IntegerSpace(8, 64, 3)),
        ("batch=[16, 64]", ChoiceSpace((16, 64))),
        ("network.hidden=[[8], [16, 16]]", ChoiceSpace(([8], [16, 16]))),
        ('network.activation=["Tanh", "SiLU"]', ChoiceSpace(("Tanh", "SiLU"))),
    ],
)
def test_spaces_are_read_as_written(text, space):
    assert read_space(text, PLAIN) == (text.partition("=")[0].strip(), space)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer.lr", "PATH=SPACE"),
        ("=1..2", "PATH=SPACE"),
        ("optimizer.lr=", "PATH=SPACE"),
        ("optimizer.learning_rate=0..1", "Did you mean 'lr'"),
        ("optimizer.lr=fast", "is not a space"),
        ("optimizer.lr=0.1", "is not a space"),
        ("optimizer.lr=1..0.1", "below the upper"),
        ("optimizer.lr=a..b", "not a space"),
        ("optimizer.lr=log:0..1", "above 0"),
        ("optimizer.lr=0..1/1", "both ends"),
        ("batch=[16,", "not TOML"),
        ("batch=[]", "empty"),
        ("network.dropout.rate=0..0.5", "no settings of its own"),
        ("optimizer.lr=0..inf", "below"),
        ("optimizer.lr=nan..1", "below"),
        ("optimizer.lr=1e-4...1e-1", "three dots"),
        ("optimizer.lr=log:1e-4...1e-1", "three dots"),
        ("optimizer.momentum=0...5/3", "three dots: a range has two"),
        ("batch=16....64", "three dots"),
    ],
)
def test_spaces_that_are_none_are_refused(text, words):
    with pytest.raises(RecipeError, match=words):
        read_space(text, PLAIN)


def test_draws_are_in_range_even_and_nested():
    space = {
        "a": LogUniformSpace(1e-3, 1.0),
        "b": IntegerSpace(2, 5),
        "c": UniformSpace(-1.0, 1.0),
        "d": ChoiceSpace("xy"),
    }
    found = draw_trials(space, method="random", trials=800, seed=4)
    assert found[:5] == draw_trials(space, method="random", trials=5, seed=4)
    assert [f["a"] for f in found] == [
        f["a"] for f in draw_trials({"a": space["a"]}, method="random", trials=800, seed=4)
    ]
    logs = np.log10([f["a"] for f in found])
    assert -3 <= logs.min() and logs.max() <= 0 and np.mean(logs) == pytest.approx(-1.5, abs=0.1)
    counts = np.unique([f["b"] for f in found], return_counts=True)
    assert counts[0].tolist() == [2, 3, 4, 5] and counts[1].min() > 150
    assert found != draw_trials(space, method="random", trials=800, seed=5)


def test_trials_are_the_runs_that_train_gives_and_the_best_is_refitted():
    found = search(
        PLAIN,
        {"optimizer.lr": ChoiceSpace((1e-4, 0.1)), "network.hidden": ChoiceSpace(([8], [16, 4]))},
        method="grid",
        seeds=2,
    )
    assert len(found.trials) == 4 and found.failures == 0
    for trial in found.trials:
        run = train(trial.recipe.vary("seeds", 2))
        scores = [m.validation["accuracy"] for m in run.record.members]
        assert list(trial.members) == scores and trial.score == pytest.approx(np.mean(scores))
    assert found.best.values["optimizer.lr"] == 0.1
    assert found.refit.record.score == train(found.best.recipe).record.score
    assert found.curve()[-1] == found.best.score
    assert str(found) == found.summary() and len(repr(found)) < 2000


def test_diverged_trials_are_counted_and_never_best():
    space = {"optimizer.lr": ChoiceSpace((0.05, 1e20))}
    found = search(PLAIN, space, method="grid", refit=False)
    assert (
        found.failures == 1
        and found.best.values == {"optimizer.lr": 0.05}
        and "1 diverged" in found.summary()
    )
    with pytest.raises(RecipeError, match="all 2 trials diverged"):
        _ = search(
            PLAIN, {"optimizer.lr": ChoiceSpace((1e20, 1e21))}, method="grid", refit=False
        ).best


def test_of_equal_trials_the_one_of_least_loss_is_best_and_the_tie_is_said():
    def trial(lr, score, loss):
        return SearchTrial({"optimizer.lr": lr}, PLAIN, score, (score,), 0.5, 0.95, loss)

    tried = (trial(0.1, 0.9, 0.4), trial(0.2, 0.9, 0.3), trial(0.3, 0.8, 0.1))
    tried += (trial(0.4, math.nan, math.nan),)
    found = Search(tried, "accuracy", True)
    assert [t.values["optimizer.lr"] for t in found.rank_trials()] == [0.2, 0.1, 0.3, 0.4]
    assert found.ties == 2 and "2 trials are equally good" in found.summary()
    assert found.to_json()["best"] == {"optimizer.lr": 0.2} and found.to_json()["ties"] == 2
    assert "equally" not in Search(tried[1:], "accuracy", True).summary()
    assert "1 trials, 1 diverged" in Search(tried[3:], "accuracy", True).summary()
    lower = Search(tried[:3], "log_loss", False)
    assert lower.best.values["optimizer.lr"] == 0.3


def test_a_trials_interval_is_wilsons_over_the_validation_rows():
    found = search(PLAIN, {"optimizer.lr": ChoiceSpace((1e-3, 0.1))}, method="grid", seeds=2)
    rows = found.refit.record.task["examples"]["validation"]
    for trial in found.trials:
        ends = np.mean([wilson_interval(score, rows) for score in trial.members], 0)
        assert (trial.low, trial.high) == pytest.approx(tuple(ends), abs=1e-12)
        assert trial.low < trial.score < trial.high and trial.loss > 0


def test_many_settings_fit_a_terminal():
    values = {f"network.a_setting_with_a_long_name_{i}": 0.123456 for i in range(4)}
    summary = Search(
        (SearchTrial(values, PLAIN, 0.9, (0.9,)),), "average_precision", True
    ).summary()
    assert max(map(len, summary.splitlines())) <= 80 and summary.count("=0.1235") == 4


def test_numbers_search_in_one_batch_are_the_same_as_alone():
    space = {
        "optimizer.lr": LogUniformSpace(1e-3, 0.5),
        "optimizer.momentum": UniformSpace(0.0, 0.95),
    }
    together = search(PLAIN, space, trials=5, refit=False)
    assert together.trials[3].score == search(PLAIN, space, trials=4, refit=False).trials[3].score


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": {}}, "nothing to search"),
        ({"method": "gird"}, "there are grid, random. Did you mean"),
        ({"trials": 0}, "at least 1"),
        ({"method": "grid"}, "no count"),
        ({"space": None}, "a mapping"),
        ({"space": {"optimizer.lr": (0.1, 0.2)}}, "each value a SearchSpace"),
        ({"space": {"optimizer.rate": UniformSpace(0, 1)}}, "no setting 'rate'"),
        ({"recipe": PLAIN.vary("split", Random(validation=0.0))}, "no validation split"),
    ],
)
def test_searches_that_are_none_are_refused_before_training(options, words):
    options = {"recipe": PLAIN, "space": {"optimizer.lr": UniformSpace(0.0, 1.0)}, **options}
    with pytest.raises(InputError, match=words):
        search(**options)


def test_the_command_prints_a_table_and_writes_the_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = [
        "search",
        "iris",
        "--recipe",
        "plain",
        "--set",
        "epochs=3",
        "--trials",
        "3",
        "--space",
        "optimizer.lr=log:1e-3..1e-1",
    ]
    assert run_command([*asked, "-o", "best.toml"]) == 0
    said = capsys.readouterr().out
    assert "validation accuracy" in said and "3 trials" in said and "trained again" in said
    best = read_recipe("best.toml")
    assert f"{best.optimizer.lr:.4g}" in said.splitlines()[1] and best.epochs == 3
    assert (
        run_command([*asked, "-o", "best.toml"]) == 2
        and "already exists" in capsys.readouterr().err
    )
    assert run_command([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1 and len(found["trials"]) == 3 and len(found["expected_best"]) == 3
    assert run_command([*asked, "--method", "grid"]) == 2 and "/5" in capsys.readouterr().err
    assert run_command([*asked, "--space", "optimizer.lr=0..1"]) == 2
    assert run_command(["search", "iris"]) == 2 and "nothing to search" in capsys.readouterr().err
