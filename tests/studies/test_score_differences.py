"""Verdicts from made scores: false alarms, power, failures, equivalence, Holm."""

import math

import numpy as np
import pytest

from ravine.statistics import Interval
from ravine.studies.score_differences import compare_scores
from ravine.studies.verdict import ChoiceResult, Verdict, open_verdict

NO_SCORE = Interval(math.nan, math.nan, math.nan)


def choices(**scores):
    return [
        ChoiceResult(
            name=name,
            kind="recipe",
            seeds=tuple(range(len(each))),
            scores=tuple(map(float, each)),
            score=NO_SCORE,
        )
        for name, each in scores.items()
    ]


def compared(given, **settings):
    settings = {"higher_is_better": True, **settings}
    return compare_scores(given, [None] * len(given), **settings)


def outcomes(differences):
    return {(d.better, d.worse): d.outcome for d in differences}


def test_equals_are_called_different_in_at_most_five_of_a_hundred_verdicts():
    """Of four choices that differ by nothing, six pairs: Holm keeps all of them together at 5 %."""
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        seeds = draw.normal(0.8, 0.05, 12)
        given = choices(**{n: seeds + draw.normal(0, 0.01, 12) for n in "abcd"})
        _, differences = compared(given)
        wrong += any(d.outcome == "better" for d in differences)
    assert wrong / 400 <= 0.08  # 5 % and three standard errors


def test_a_difference_of_two_deviations_is_found_in_most_verdicts():
    draw, found = np.random.default_rng(1), 0
    for _ in range(100):
        seeds = draw.normal(0.8, 0.5, 12)
        given = choices(a=seeds + draw.normal(0.02, 0.01, 12), b=seeds, c=seeds - 0.3)
        ordered, differences = compared(given)
        assert [c.name for c in ordered] == ["a", "b", "c"]
        found += outcomes(differences)["a", "b"] == "better"
    assert found >= 90


def test_pairing_shows_what_the_spread_of_seeds_hides():
    seeds = np.random.default_rng(2).normal(0.8, 0.1, 8)
    given = choices(a=seeds + 0.01 + np.arange(8) * 1e-4, b=seeds)
    assert outcomes(compared(given)[1])["a", "b"] == "better"
    assert outcomes(compared(given, paired=False)[1])["a", "b"] == "undecided"


def test_lower_losses_are_better():
    ordered, (difference,) = compared(
        choices(a=[2.0, 2.1, 2.2, 2.0, 2.1, 2.2], b=[1.0] * 6), higher_is_better=False
    )
    assert ordered[0].name == "b"
    assert difference.interval.value == pytest.approx(1.1)
    assert difference.outcome == "better"


def test_failures_are_worse_than_any_score_and_are_not_averaged():
    nan = math.nan
    given = choices(a=[0.7] * 8, b=[0.9, 0.9, nan, nan, nan, nan, nan, nan])
    ordered, (difference,) = compared(given)
    assert [c.name for c in ordered] == ["a", "b"]
    assert ordered[1].failures == 6 and ordered[1].has_failed
    assert ordered[1].score.value == pytest.approx(0.9)
    assert difference.probability.value == 0.75
    assert difference.interval.value == pytest.approx(-0.2)  # of the seeds in which both trained
    assert difference.outcome == "undecided"


def test_a_choice_that_always_fails_is_worse():
    given = choices(a=[0.7] * 8, b=[math.nan] * 8)
    ordered, (difference,) = compared(given)
    assert difference.corrected_p == 2 / 2**8
    assert difference.outcome == "better"
    assert math.isnan(ordered[1].score.value)


def test_a_margin_makes_small_differences_equivalent():
    seeds = np.random.default_rng(3).normal(0.8, 0.1, 10)
    given = choices(a=seeds + 0.002, b=seeds, c=seeds - 0.1)
    found = outcomes(compared(given, margin=0.01)[1])
    assert found == {("a", "b"): "equivalent", ("a", "c"): "better", ("b", "c"): "better"}
    noisy = choices(a=seeds + np.random.default_rng(4).normal(0, 0.05, 10), b=seeds)
    assert set(outcomes(compared(noisy, margin=0.01)[1]).values()) == {"undecided"}


def test_few_seeds_show_nothing():
    """Five seeds cannot reach 5 % by signs, whatever they are."""
    _, (difference,) = compared(choices(a=[2.0] * 5, b=[1.0] * 5))
    assert difference.p == 2 / 2**5
    assert difference.outcome == "undecided"


def test_what_varies_with_the_rows_widens_the_interval():
    draw = np.random.default_rng(5)
    given = choices(a=[0.82] * 8, b=[0.8] * 8)
    samples = [np.repeat(draw.normal(m, 0.03, (500, 1)), 8, 1) for m in (0.82, 0.8)]
    ordered, (difference,) = compare_scores(given, samples, higher_is_better=True)
    half = 1.96 * math.hypot(0.03, 0.03)
    assert difference.interval.high - 0.02 == pytest.approx(half, rel=0.1)
    assert difference.outcome == "undecided"
    assert ordered[0].score.high - 0.82 == pytest.approx(1.96 * 0.03, rel=0.1)


def verdict_of(given, **settings):
    ordered, differences = compared(given)
    about = {"metric": "accuracy", "higher_is_better": True, "split": "test", "rows": 100}
    return Verdict(choices=ordered, differences=differences, **about | settings)


def test_means_that_are_equal_are_not_called_the_same_scores():
    swapped = verdict_of(choices(a=[0.5, 0.75, 0.5, 0.75], b=[0.75, 0.5, 0.75, 0.5])).summary()
    assert "are the same" not in swapped and "do not tell them apart" in swapped
    same = verdict_of(choices(a=[0.5, 0.75, 0.5, 0.75], b=[0.5, 0.75, 0.5, 0.75])).summary()
    assert "Their scores are the same in all 4 seeds." in same


def test_the_choice_that_is_hardest_to_tell_apart_is_named():
    near, far = [0.80, 0.81, 0.79, 0.80], [0.7, 0.85, 0.6, 0.8]
    verdict = verdict_of(choices(best=[0.81, 0.80, 0.80, 0.81], near=near, far=far))
    needed = {d.worse: d.seeds_needed for d in verdict.from_best()}
    assert needed["near"] > needed["far"] > 4
    assert f"About {needed['near']:.0f} seeds would tell near from best" in verdict.summary()


def test_leads_that_are_not_known_are_read_back_and_left_out(tmp_path):
    verdict = verdict_of(choices(a=[0.5, 0.6], b=[0.5, 0.7]), leads={"boosted trees": NO_SCORE})
    verdict.save(tmp_path)
    again = open_verdict(tmp_path)
    assert math.isnan(again.leads["boosted trees"].low) and again.summary() == verdict.summary()
