"""Comparisons of recipes, modules, estimators and runs: against training each alone, scikit-learn's
own scores, and what must be refused.
"""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, RidgeClassifier
from torch import nn

import ravine
from ravine.cli.app import run_command
from ravine.cli.compare import _choices as cli_choices
from ravine.cli.options import DEFAULT_OPTIONS
from ravine.errors import InputError, RecipeError, RunError
from ravine.studies.compare import seconds_alone
from ravine.studies.contestants import vary_recipe
from ravine.studies.verdict import open_verdict
from ravine.training.defaults import load_task, prepare, training_plan


@pytest.fixture(scope="module")
def recipe():
    return ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 6)


@pytest.fixture(scope="module")
def verdict(recipe):
    choices = vary_recipe(recipe, ["optimizer=SGD,AdamW"])
    choices["wild"] = recipe.vary("optimizer.lr", 1e20)
    choices["forest"] = RandomForestClassifier(10)
    choices["ridge"] = RidgeClassifier()
    choices["module"] = lambda signature: nn.Linear(signature.numbers, signature.outputs)
    return ravine.compare(choices, seeds=4, trees=False)


def test_scores_are_those_of_each_recipe_trained_alone(recipe, verdict):
    for name, varied in vary_recipe(recipe, ["optimizer=SGD,AdamW"]).items():
        alone = ravine.train(varied.vary("seeds", 4), baseline=False)
        assert verdict[name].scores == tuple(m.test["accuracy"] for m in alone.record.members)
        assert verdict[name].settings == {"network": "Mlp", "optimizer": name}
    assert (verdict.split, verdict.rows, verdict.seeds) == ("test", 24, (0, 1, 2, 3))


def test_estimators_are_scored_as_scikit_learn_scores_them(recipe, verdict):
    task = load_task(recipe)
    x, y = task.train_examples.numbers.numpy(), task.train_examples.targets.numpy()
    new, truth = task.test.numbers.numpy(), task.test.targets.numpy()
    for seed in range(4):
        forest = RandomForestClassifier(10, random_state=seed).fit(x, y)
        assert verdict["forest"].scores[seed] == pytest.approx(forest.score(new, truth))
    ridge = RidgeClassifier().fit(x, y).score(new, truth)
    assert verdict["ridge"].scores == pytest.approx((ridge,) * 4)
    assert verdict["ridge"].score.low < ridge  # the rows vary, though it has no seeds


def test_failures_come_first_and_last(verdict):
    assert verdict.choices[-1].name == "wild"
    assert verdict["wild"].failures == 4
    assert "wild failed in 4 of 4 seeds" in verdict.summary()
    assert verdict.best.name != "wild"
    assert all(math.isnan(score) for score in verdict["wild"].scores)


def test_too_few_seeds_are_told(verdict):
    assert "With 6 choices, 10 seeds are needed" in verdict.summary()


def test_a_verdict_fits_a_terminal_and_is_read_back(verdict, tmp_path):
    text = verdict.summary()
    assert max(map(len, text.splitlines())) <= 80
    verdict.save(tmp_path / "v")
    again = open_verdict(tmp_path / "v")
    assert str(again) == text
    assert again.to_json() == verdict.to_json()
    frame = pd.read_csv(tmp_path / "v" / "scores.csv")
    assert len(frame) == 24 and frame["accuracy"].isna().sum() == 4
    (tmp_path / "v" / "verdict.json").write_text("{}")
    with pytest.raises(RunError):
        open_verdict(tmp_path / "v")


def test_the_lead_over_a_reference_is_that_over_the_same_estimator(recipe):
    """scikit-learn's estimator of the class shares is the best constant answer."""
    choices = {"net": recipe, "shares": DummyClassifier(strategy="prior")}
    verdict = ravine.compare(choices, seeds=4, trees=False)
    [difference] = verdict.differences
    assert verdict.leads == {"constant answer": difference.interval}
    high = recipe.vary("optimizer.lr", 1e-12)
    behind = ravine.compare({"net": high, "also": high.vary("seed", 1)}, seeds=4).summary()
    assert "is not shown to be better than the constant answer" in behind
    assert "is behind boosted trees" in behind


def test_regression_estimators_predict_in_units(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2]})
    frame["y"] = 1000 + 50 * x[:, 0] - 20 * x[:, 1] + draw.normal(size=200)
    recipe = ravine.named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 3)
    found = ravine.compare({"net": recipe, "line": LinearRegression()}, frame, seeds=6)
    assert found.metric == "r2"
    assert found["line"].score.value > 0.95  # inputs are clipped smoothly, as networks get them
    assert found.best.name == "line"
    assert found.from_best()[0].outcome == "better"
    assert set(found.references) == {"boosted trees", "constant answer"}
    assert "Take line: it is better than net." in found.summary()


@pytest.mark.parametrize("metric", ["r2", "rmse"])
def test_numbers_that_explode_without_being_infinite_are_failures(metric):
    draw = np.random.default_rng(1)
    frame = pd.DataFrame({"a": draw.normal(size=120), "b": draw.normal(size=120)})
    frame["y"] = frame.a - frame.b
    recipe = ravine.named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 3)
    recipe = recipe.vary("metric", metric)
    found = ravine.compare(
        {"good": recipe, "wild": recipe.vary("optimizer.lr", 50.0)}, frame, seeds=6, trees=False
    )
    assert found["wild"].failures >= 3
    assert found.best.name == "good"


def test_a_recipe_is_no_better_than_itself(recipe):
    found = ravine.compare({"one": recipe, "same": recipe}, seeds=6, trees=False)
    (difference,) = found.differences
    assert difference.interval == (0.0, 0.0, 0.0)
    assert difference.corrected_p == 1.0
    assert "Their scores are the same" in found.summary()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (lambda r: {"a": r}, "nothing stands beside it"),
        (lambda r: {}, "no choice"),
        (lambda r: {"a": r, "b": 3}, "the choice 'b' is 3"),
        (lambda r: {"a": r, "b": nn.Linear(2, 2)}, "a function of a Signature"),
        (lambda r: {"a": RidgeClassifier(), "b": RidgeClassifier()}, "no choice is a recipe"),
        (lambda r: r, "it must be a mapping"),
        (lambda r: [r, 3], "only recipes are named"),
        (lambda r: {"a": r, "b": r.vary("data.source", "wine")}, "other rows"),
        (lambda r: {"a": r, "b": r.vary("split.test", 0.3)}, "other rows"),
        (lambda r: {"a": r, "b": r.vary("metric", "f1")}, "f1"),
        (lambda r: {"a": r, "b": r.vary("metric", "macro_f1")}, "Set metric to the same"),
        (lambda r: {"a": r, "b": RidgeClassifier(alpha=-1.0)}, "'b' cannot be fitted"),
        (lambda r: {"a": r, "b": LinearRegression()}, "'b' is for other targets"),
    ],
)
def test_what_cannot_be_compared_is_refused(recipe, choices, message):
    with pytest.raises(InputError, match=message):
        ravine.compare(choices(recipe), seeds=2, trees=False)


def test_numbers_that_make_no_sense_are_refused(recipe):
    pair = {"a": recipe, "b": recipe}
    with pytest.raises(InputError, match="seeds is 1"):
        ravine.compare(pair, seeds=1)
    with pytest.raises(InputError, match="margin"):
        ravine.compare(pair, margin=0.0)


def test_all_combinations_are_named_by_what_varies(recipe):
    found = vary_recipe(recipe, ["optimizer=SGD,AdamW", "network.hidden=[8],[8, 4]", "batch=16"])
    assert list(found) == [
        "SGD, hidden=[8]",
        "SGD, hidden=[8, 4]",
        "AdamW, hidden=[8]",
        "AdamW, hidden=[8, 4]",
    ]
    assert {r.batch for r in found.values()} == {16}
    for wrong in ("optimizer", "optimizer=", "=SGD"):
        with pytest.raises(InputError, match="--vary"):
            vary_recipe(recipe, [wrong])
    together = vary_recipe(recipe, ["optimizer=SGD,AdamW"], ["optimizer.lr=0.5"])
    assert {r.optimizer.lr for r in together.values()} == {0.5}
    with pytest.raises(InputError, match="seeds"):
        vary_recipe(recipe, ["seeds=2,4"])
    with pytest.raises(InputError, match="twice"):
        vary_recipe(recipe, ["epochs=1,2", "epochs=3"])
    with pytest.raises(RecipeError, match="--vary optimizer=SGX"):
        vary_recipe(recipe, ["optimizer=SGX,AdamW"])


def run(folder, recipe, **settings):
    for path, value in settings.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    ravine.train(recipe, out=folder, baseline=False)
    return str(folder)


def test_finished_runs_are_paired_by_their_seeds(recipe, tmp_path):
    recipe = recipe.vary("seeds", 8)
    good = run(tmp_path / "good", recipe)
    slow = run(tmp_path / "slow", recipe, optimizer__lr=1e-5)
    found = ravine.compare_runs([good, slow])
    assert found.paired and found.seeds == tuple(range(8))
    assert found.from_best()[0].outcome == "better"
    anew = ravine.compare({"g": recipe, "s": recipe.vary("optimizer.lr", 1e-5)}, seeds=8)
    assert found[good].scores == anew["g"].scores
    elsewhere = run(tmp_path / "elsewhere", recipe, optimizer__lr=1e-5, split_seed=3)
    found = ravine.compare_runs([good, elsewhere])
    assert found.from_best()[0].outcome == "undecided"
    assert "other rows" in found.summary()
    other = run(tmp_path / "other", recipe, optimizer__lr=1e-5, seed=100)
    unpaired = ravine.compare_runs([good, other])
    assert not unpaired.paired
    assert "not paired" in unpaired.summary()
    assert unpaired.from_best()[0].outcome == "better"
    unpaired.save(tmp_path / "unpaired")
    assert str(open_verdict(tmp_path / "unpaired")) == str(unpaired)
    frame = pd.read_csv(tmp_path / "unpaired" / "scores.csv")
    assert frame.groupby("choice").seed.min().to_dict() == {good: 0, other: 100}
    with pytest.raises(InputError, match="nowhere is no finished run"):
        cli_choices((good, "nowhere"), (), DEFAULT_OPTIONS)


def test_the_command_compares_recipes_and_runs(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "iris", "--recipe", "plain", "--set", "epochs=2", "--quiet"]
    code = run_command([*arguments, "--vary", "optimizer=SGD,AdamW", "--seeds", "6", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {choice["name"] for choice in data["choices"]} == {"SGD", "AdamW"}
    assert data["best"] == data["choices"][0]["name"]
    assert data["schema"] == 1
    (tmp_path / "a.toml").write_text('base = "plain"\ndata.source = "iris"\nepochs = 2\n')
    (tmp_path / "b.toml").write_text('base = "plain"\ndata.source = "iris"\nepochs = 3\n')
    assert run_command(["compare", "a.toml", "b.toml", "--seeds", "6", "--quiet", "-o", "v"]) == 0
    assert (tmp_path / "v" / "verdict.json").exists()
    assert "p " in capsys.readouterr().out
    for wrong in (
        ["compare"],
        ["compare", "iris"],
        ["compare", "a.toml", "iris"],
        ["compare", "a.toml", "a.toml"],
        ["compare", "a.toml", "b.toml", "--vary", "epochs=1,2"],
        ["compare", "a.toml", "b.toml", "-o", "v"],
        ["compare", "a.toml", "b.toml", "--estimator", "RandomForrestClassifier"],
    ):
        assert run_command(wrong) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_a_command_where_everything_failed_says_so(tmp_path, capsys):
    arguments = ["compare", "iris", "--recipe", "plain", "--set", "epochs=2", "--quiet"]
    code = run_command([*arguments, "--vary", "optimizer.lr=1e20,1e21", "--seeds", "2"])
    out = capsys.readouterr().out
    assert code == 3
    assert "Take none of them" in out


def test_one_network_is_timed_by_its_steps_and_once_for_those_that_train_together(
    recipe, monkeypatch
):
    ticks = itertools.count()
    monkeypatch.setattr("ravine.studies.compare.time.process_time", lambda: 0.01 * next(ticks))
    task, resolved = prepare(recipe)
    alone = seconds_alone(resolved, task, device="cpu")
    assert alone == pytest.approx(0.01 * training_plan(resolved, task).steps)
    timed = []
    monkeypatch.setattr(
        "ravine.studies.compare.seconds_alone", lambda r, *_, **__: timed.append(r) or 1.0
    )
    faster = recipe.vary("optimizer.lr", 0.03)
    wider = recipe.vary("network.hidden", (3,))
    ravine.compare({"a": recipe, "b": faster, "c": wider}, seeds=2, workers=1)
    assert len(timed) == 2
