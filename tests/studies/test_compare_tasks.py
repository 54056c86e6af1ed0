"""Several tasks: each verdict as alone, gaps and profiles by hand, p against SciPy's Wilcoxon."""

import json
import math

import numpy as np
import pytest
from scipy import stats

import ravine
from ravine.cli.app import run_command
from ravine.errors import InputError
from ravine.statistics import Interval
from ravine.studies.compare_tasks import TaskVerdicts
from ravine.studies.contestants import vary_recipe
from ravine.studies.score_differences import compare_scores
from ravine.studies.verdict import ChoiceResult, Verdict, open_verdict


@pytest.fixture(scope="module")
def choices():
    recipe = ravine.named_recipe("plain").vary("epochs", 3)
    return vary_recipe(recipe, ["optimizer=SGD,AdamW"], ["optimizer.lr=0.01"])


@pytest.fixture(scope="module")
def found(choices):
    return ravine.compare_tasks(["iris", "wine"], choices, seeds=4, trees=False)


def made(scores, *, constant=0.5, higher=True):
    """A verdict on choices of which each has the same score for two seeds; NaN for a failure."""
    given = [
        ChoiceResult(name=n, kind="run", seeds=(0, 1), scores=(s, s), score=Interval(s, s, s))
        for n, s in scores.items()
    ]
    ordered, differences = compare_scores(given, [None] * len(given), higher_is_better=higher)
    return Verdict(
        metric="accuracy" if higher else "rmse",
        higher_is_better=higher,
        split="test",
        rows=10,
        choices=ordered,
        differences=differences,
        references={"constant answer": constant},
    )


def test_the_verdict_on_each_task_is_that_of_comparing_there(choices, found):
    there = {name: one.vary("data.source", "wine") for name, one in choices.items()}
    alone = ravine.compare(there, seeds=4, trees=False)
    for choice in alone.choices:
        assert found.verdicts["wine"][choice.name].scores == choice.scores
    parts = {task: there["SGD"].data for task in ("a", "b")}
    again = ravine.compare_tasks(parts, choices, seeds=4, trees=False)
    assert again.verdicts["a"]["SGD"].scores == alone["SGD"].scores


def test_gaps_are_shares_of_the_gain_over_the_constant_answer():
    tasks = {
        "x": made({"a": 0.9, "b": 0.88, "c": 0.7}),
        "y": made({"a": 2.0, "b": 1.0, "c": math.nan}, constant=5.0, higher=False),
        "z": made({"a": 0.4, "b": 0.3, "c": 0.4}),
    }
    gaps = TaskVerdicts(tasks).gaps()
    assert gaps.loc["x"].to_dict() == pytest.approx({"a": 0, "b": 0.05, "c": 0.5})
    assert gaps.loc["y"].to_dict() == pytest.approx({"a": 0.25, "b": 0, "c": math.inf})
    assert gaps.loc["z"].to_dict() == {"a": 0, "b": math.inf, "c": 0}  # none beats the constant
    profile = TaskVerdicts(tasks).profile()
    assert profile.loc["a", ["best", "1 %", "5 %", "20 %"]].tolist() == [2 / 3] * 3 + [2 / 3]
    assert profile.loc["b", ["best", "1 %", "5 %", "20 %"]].tolist() == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    )
    assert profile["mean rank"].to_dict() == pytest.approx(
        {"a": (1 + 2 + 1.5) / 3, "b": (2 + 1 + 3) / 3, "c": (3 + 3 + 1.5) / 3}
    )
    assert profile["worse on"].to_dict() == pytest.approx(
        {"a": math.nan, "b": 2, "c": 2.5}, nan_ok=True
    )


def test_p_is_that_of_wilcoxon_over_tasks():
    draw = np.random.default_rng(0)
    worse = draw.uniform(0, 0.1, 9)
    worse[:2] *= -1
    tasks = {f"t{i}": made({"a": 0.8, "b": 0.8 - w}) for i, w in enumerate(worse)}
    profile = TaskVerdicts(tasks).profile()
    gaps = TaskVerdicts(tasks).gaps()
    _, expected = stats.wilcoxon(gaps["b"] - gaps["a"], method="exact")
    assert profile.index[0] == "a"
    assert profile.loc["b", "p"] == pytest.approx(expected)
    assert profile.loc["b", "worse on"] == 7


def test_equal_choices_are_told_apart_over_tasks_in_at_most_five_of_a_hundred():
    """Of four equal ones the best is compared with the others: that it is the best is luck."""
    draw, wrong = np.random.default_rng(1), 0
    for _ in range(300):
        scores = draw.uniform(0.6, 0.9, (10, 4))
        tasks = {str(i): made(dict(zip("abcd", s, strict=True))) for i, s in enumerate(scores)}
        wrong += TaskVerdicts(tasks).profile()["p"].min() <= 0.05
    assert wrong / 300 <= 0.08  # 5 % and two and a half standard errors


def test_a_choice_that_fails_everywhere_is_last_and_too_few_tasks_are_said():
    tasks = {str(i): made({"bad": math.nan, "a": 0.9, "b": 0.8}) for i in range(3)}
    found = TaskVerdicts(tasks)
    assert found.best == "a" and found.profile().index[-1] == "bad"
    assert "that takes 7 tasks" in found.summary()
    assert TaskVerdicts({"x": made({"a": math.nan, "b": math.nan})}).best is None


def test_the_verdicts_fit_a_terminal_and_are_written(found, tmp_path):
    assert max(map(len, str(found).splitlines())) <= 80
    found.save(tmp_path)
    assert open_verdict(tmp_path / "wine").to_json() == found.verdicts["wine"].to_json()
    assert json.loads(json.dumps(found.to_json()))["best"] == found.best


def test_long_names_fit_a_terminal():
    scores = {name * 40: 0.9 - i / 10 for i, name in enumerate("ab")}
    tasks = {f"{'a long name ' * 9}{i}": made(scores) for i in range(20)}
    assert max(map(len, str(TaskVerdicts(tasks)).splitlines())) <= 80


def test_tasks_that_cannot_be_compared_are_refused(choices):
    with pytest.raises(InputError, match="2 sources with 1 names"):
        ravine.compare_tasks(["wine", "wine"], choices, seeds=2)
    with pytest.raises(InputError, match="1 sources"):
        ravine.compare_tasks(["wine"], choices, seeds=2)
    with pytest.raises(InputError, match="winne"):
        ravine.compare_tasks(["wine", "winne"], choices, seeds=2)


def test_the_command_compares_on_several_sources(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "iris", "wine", "--recipe", "plain", "--set", "epochs=2", "--quiet"]
    arguments += ["--no-trees", "--seeds", "2", "--vary", "optimizer=SGD,AdamW"]
    assert run_command([*arguments, "--json", "-o", "found"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data["tasks"]) == {"iris", "wine"}
    assert set(data["profile"]) == {"SGD", "AdamW"}
    assert (tmp_path / "found" / "iris" / "verdict.json").exists()
    assert run_command([*arguments, "iris"]) == 2
    assert "named twice" in capsys.readouterr().err
