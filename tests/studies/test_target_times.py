"""Times to a target: against the series of each recipe trained alone, censored, never averaged."""

import math

import numpy as np
import pandas as pd
import pytest

import ravine
from ravine.errors import InputError
from ravine.studies.contestants import vary_recipe
from ravine.studies.target_times import TargetTimes, times_text
from ravine.studies.verdict import open_verdict

TARGET_SCORE = 0.8


@pytest.fixture(scope="module")
def recipe():
    return ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 20)


@pytest.fixture(scope="module")
def choices(recipe):
    found = vary_recipe(recipe, ["optimizer.lr=1e-2,1e-6"])
    return found | {"wild": recipe.vary("optimizer.lr", 1e20)}


@pytest.fixture(scope="module")
def verdict(choices):
    return ravine.compare(choices, seeds=4, target=TARGET_SCORE, trees=False)


def reached(times):
    return sum(not math.isnan(steps) for steps in times.steps)


def test_a_target_is_reached_at_the_first_evaluation_as_good(choices, verdict):
    alone = ravine.train(choices["lr=1e-2"].vary("seeds", 4), baseline=False).record
    series = alone.series["validation/accuracy"]
    times = verdict["lr=1e-2"].times
    for member, steps in enumerate(times.steps):
        values = series.values[:, member]
        first = [s for s, v in zip(series.steps, values, strict=True) if v >= TARGET_SCORE]
        assert steps == first[0]
    assert reached(times) == 4
    per_epoch = {m.steps for m in alone.members if m.outcome == "finished"}
    assert all(steps % times.per_epoch == 0 for steps in per_epoch)
    assert times.step_seconds * 20 * times.per_epoch == pytest.approx(verdict["lr=1e-2"].seconds)


def test_a_seed_that_never_reaches_it_has_no_time(verdict):
    for name in ("lr=1e-6", "wild"):
        assert reached(verdict[name].times) == 0
        assert all(math.isnan(steps) for steps in verdict[name].times.steps)
    assert "0 of 4" in verdict.summary()


def test_a_verdict_with_times_fits_a_terminal_and_is_read_back(verdict, tmp_path):
    assert f"Time to accuracy {TARGET_SCORE} on validation rows" in verdict.summary()
    assert max(map(len, verdict.summary().splitlines())) <= 80
    verdict.save(tmp_path)
    again = open_verdict(tmp_path)
    assert again.to_json() == verdict.to_json()
    assert str(again) == str(verdict)


def test_without_a_target_nothing_is_shown(choices):
    found = ravine.compare(choices, seeds=2, trees=False)
    assert found.target is None and found.choices[0].times is None
    assert "Time to" not in found.summary()


def test_medians_are_over_all_seeds():
    times = TargetTimes(steps=(10.0, 30.0, math.nan, 20.0, math.nan), per_epoch=5, step_seconds=0.1)
    (row,) = times_text({"a": times}, "it").splitlines()[2:3]
    assert row.split() == ["a", "3", "of", "5", "6", "2", "to", "never", "30", "3"]
    never = TargetTimes(steps=(10.0, math.nan, math.nan), per_epoch=5, step_seconds=0.1)
    (row,) = times_text({"a": never}, "it").splitlines()[2:3]
    assert row.split() == ["a", "1", "of", "3", "never", "2", "to", "never", "never", "never"]


def numbers_table():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=200), "b": draw.normal(size=200)})
    return frame.assign(y=1000 + 50 * frame.a + draw.normal(size=200))


def test_a_target_of_numbers_is_in_their_units():
    recipe = ravine.named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 20)
    recipe = recipe.vary("metric", "rmse").vary("optimizer.lr", 0.01)
    choices = {"a": recipe, "b": recipe.vary("optimizer.lr", 1e-7)}
    found = ravine.compare(choices, numbers_table(), seeds=2, target=25.0, trees=False)
    assert reached(found["a"].times) == 2 and reached(found["b"].times) == 0
    assert min(found["a"].times.steps) > found["a"].times.per_epoch
    r2 = {name: one.vary("metric", "r2") for name, one in choices.items()}
    again = ravine.compare(r2, numbers_table(), seeds=2, target=0.75, trees=False)
    assert reached(again["a"].times) == 2 and reached(again["b"].times) == 0


def test_targets_that_cannot_be_read_off_are_refused(recipe):
    numbers = ravine.named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 2)
    numbers = numbers.vary("encoding.target", "log").vary("metric", "rmse")
    with pytest.raises(InputError, match="logarithms"):
        ravine.compare({"a": numbers, "b": numbers}, numbers_table(), seeds=2, target=3.0)
    alone = recipe.vary("split.validation", 0.0).vary("stop", None)
    with pytest.raises(InputError, match="no validation split"):
        ravine.compare({"a": alone, "b": alone}, seeds=2, target=0.9)
