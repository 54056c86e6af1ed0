"""Learning rates tuned for a comparison: against training every rate alone, and made results."""

import math

import pytest
from sklearn.linear_model import RidgeClassifier

import ravine
from ravine.errors import InputError
from ravine.recipe import LR_FACTOR
from ravine.studies.contestants import vary_recipe
from ravine.studies.rate_tuning import rank_rates
from ravine.studies.tuned_rate import RateResult, TunedRate, rates_text
from ravine.studies.verdict import open_verdict


@pytest.fixture(scope="module")
def recipe():
    return ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 3)


@pytest.fixture(scope="module")
def verdict(recipe):
    choices = vary_recipe(recipe, ["optimizer=SGD,AdamW"]) | {"ridge": RidgeClassifier()}
    return ravine.compare(choices, seeds=4, tune_lr=5, trees=False)


def result(score, *, rate=0.1, loss=0.0, failures=0, **fields):
    return RateResult(rate, score, loss, failures, gradients=5, **fields)


def tuned_rate(rate, near):
    tried = tuple(result(0.5, rate=r, is_near=r in near) for r in (0.01, 0.1, 1.0, 10.0))
    return TunedRate(rate, 0.1, tried, gradients=1200, seeds=(4, 5, 6), further_seeds=(7, 8))


def test_the_rate_is_the_best_of_each_trained_alone(recipe, verdict):
    for name, varied in vary_recipe(recipe, ["optimizer=SGD,AdamW"]).items():
        found, own = verdict[name].tuned_rate, varied.optimizer.lr
        rates = [one.rate for one in found.tried]
        assert rates == pytest.approx([own * LR_FACTOR**x for x in (-1, -0.5, 0, 0.5, 1)])
        assert found.own == rates[2] == own

        def mean_score(rate, seeds, varied=varied):
            alone = varied.vary("optimizer.lr", rate).vary("seed", seeds[0])
            run = ravine.train(alone.vary("seeds", len(seeds)), baseline=False)
            members = run.record.members
            steps = sum(m.steps for m in members)
            return sum(m.validation["accuracy"] for m in members) / len(members), steps

        tried = [mean_score(rate, found.seeds) for rate in rates]
        assert [one.score for one in found.tried] == pytest.approx([score for score, _ in tried])
        again = [one for one in found.tried if not math.isnan(one.confirmed)]
        confirmed = [mean_score(one.rate, found.further_seeds) for one in again]
        assert [one.confirmed for one in again] == pytest.approx([score for score, _ in confirmed])
        assert all(one.is_near for one in again)
        chosen = found.tried[rates.index(found.rate)]
        best = max(again or found.tried, key=lambda one: one.confirmed if again else one.score)
        assert chosen.confirmed == best.confirmed if again else chosen.score == best.score
        assert found.gradients == sum(steps for _, steps in [*tried, *confirmed])


def test_tuning_choosing_and_reporting_have_seeds_of_their_own(recipe, verdict):
    for name in ("SGD", "AdamW"):
        choice = verdict[name]
        sets = [choice.seeds, choice.tuned_rate.seeds, choice.tuned_rate.further_seeds]
        assert len(set().union(*sets)) == sum(map(len, sets))
        (varied,) = vary_recipe(recipe, [f"optimizer={name}"]).values()
        alone = varied.vary("optimizer.lr", choice.tuned_rate.rate).vary("seeds", 4)
        members = ravine.train(alone, baseline=False).record.members
        assert choice.scores == tuple(m.test["accuracy"] for m in members)


def test_choices_without_a_rate_are_as_they_are_and_it_is_said(verdict):
    assert verdict["ridge"].tuned_rate is None
    assert "so as they are: ridge." in verdict.summary()


def test_a_verdict_with_rates_fits_a_terminal_and_is_read_back(verdict, tmp_path):
    assert max(map(len, verdict.summary().splitlines())) <= 80
    verdict.save(tmp_path)
    again = open_verdict(tmp_path)
    assert again == verdict or again.to_json() == verdict.to_json()
    assert str(again) == str(verdict)


def test_failures_are_last_and_ties_are_broken_by_the_loss():
    ok, failed, tie = result(0.9, loss=0.4), result(0.99, failures=1), result(0.9, loss=0.3)
    nothing = result(math.nan, loss=math.nan, failures=3)
    found = rank_rates([nothing, ok, failed, tie], 0.5, 1.0)
    assert [(one.loss, one.failures) for one in found[:3]] == [(0.3, 0), (0.4, 0), (0.0, 1)]
    assert [one.is_near for one in found] == [True, True, False, False]


def test_what_is_near_does_not_depend_on_the_scale_of_the_score():
    for scale, shift, sign in ((1.0, 0.0, 1.0), (100.0, 7.0, 1.0), (-3.0, 20.0, -1.0)):
        given = [result(shift + scale * s) for s in (0.9, 0.88, 0.879, 0.5)]
        found = rank_rates(given, shift + scale * 0.5, sign)
        assert [one.is_near for one in found] == [True, True, False, False]


def test_a_best_rate_no_better_than_a_constant_answer_is_near_to_itself_alone():
    assert [one.is_near for one in rank_rates([result(0.3), result(0.29)], 0.4, 1.0)] == [
        True,
        False,
    ]
    nothing = [result(math.nan, failures=3), result(math.nan, failures=3)]
    assert [one.is_near for one in rank_rates(nothing, 0.4, 1.0)] == [True, False]


@pytest.mark.parametrize(
    ("rate", "near", "decades"),
    [(0.1, (0.1,), 0), (0.1, (0.01, 0.1, 1.0), 2), (10.0, (1.0, 10.0), 1)],
)
def test_decades_are_those_of_the_rates_near_the_best(rate, near, decades):
    assert tuned_rate(rate, near).decades == pytest.approx(decades)


def test_a_best_rate_at_the_end_of_the_range_is_said():
    text = rates_text({"a": tuned_rate(10.0, (10.0,)), "b": tuned_rate(0.1, (0.1,))})
    assert "For a the highest rate tried is the best" in text
    assert "lowest rate" not in text
    assert "lowest rate" in rates_text({"a": tuned_rate(0.01, (0.01,))})


@pytest.mark.parametrize(
    ("vary", "settings", "message"),
    [
        ("optimizer.lr=0.1,0.2", {"tune_lr": 5}, "differ in the learning rate alone"),
        ("optimizer=SGD,AdamW", {"tune_lr": 2}, "at least 3"),
        ("optimizer=SGD,Adam", {"tune_lr": 5, "base": 0.0}, "no choice has a learning rate"),
    ],
)
def test_what_cannot_be_tuned_is_refused(recipe, vary, settings, message):
    same = [f"optimizer.lr={settings.pop('base')}"] if "base" in settings else []
    with pytest.raises(InputError, match=message):
        ravine.compare(vary_recipe(recipe, [vary], same), seeds=2, trees=False, **settings)


def test_rates_need_a_validation_split(recipe):
    alone = recipe.vary("split.validation", 0.0).vary("stop", None)
    with pytest.raises(InputError, match="rates are chosen"):
        ravine.compare(vary_recipe(alone, ["optimizer=SGD,AdamW"]), seeds=2, tune_lr=3)
