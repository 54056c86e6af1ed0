"""The course of a run and what its rules say: statistics against scipy, sick series against healthy
ones.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves import rules as curve_rules
from ravine.diagnosis.training_curves.series import (
    ALPHA,
    LOOKS,
    TESTS,
    Course,
    course_of,
    curve,
    total_update,
)
from ravine.finding import SEVERITY_LEVELS
from ravine.record import EffectReport, Member, Record, Score, Series

T, PER = 60, 20
STEPS = np.arange(1, T + 1) * PER
AT = STEPS / STEPS[-1]  # 0 to 1


def course(train, validation=None, *, error=0.01, null: float | None = 1.0, **known: Any) -> Course:
    """A finished run that was looked at 60 times; `error` is that of validation losses and of their
    differences.
    """
    known = {
        "outcome": "finished",
        "steps": int(STEPS[-1]),
        "budget": int(STEPS[-1]),
        "per_epoch": PER,
        **known,
    }
    if validation is not None:
        errors = curve(np.full(T, error), STEPS)
        low = np.minimum.accumulate(validation)
        known |= {
            "validation": curve(validation, STEPS),
            "error": errors,
            "rise_error": errors,
            "rise": curve(validation - low, STEPS),
            "null_validation": null,
        }
    return Course(train=curve(train, STEPS), null=null, **known)


def said(of, *, least="warning"):
    found, checks = run_rules(curve_rules.ALL, of)
    assert not checks.failed
    return {
        f.code: f
        for f in found
        if SEVERITY_LEVELS.index(f.severity) <= SEVERITY_LEVELS.index(least)
    }


def noise(spread, seed=0):
    return 1 + spread * np.random.default_rng(seed).normal(size=T)


LEARNED = 0.2 + 0.8 * np.exp(-9 * AT)
EVEN = curve(np.ones(T), STEPS)


def test_the_total_update_is_the_sum_of_all_steps():
    whole = np.linspace(1e-3, 5e-3, 100)
    assert total_update(curve(whole), 100) == pytest.approx(whole.sum())
    assert total_update(curve(whole[::10], np.arange(1, 101)[::10]), 100) == pytest.approx(
        whole.sum(), rel=0.1
    )


def test_a_network_has_one_budget_of_false_alarms():
    chance = scipy.stats.norm.sf(Course(steps=0, budget=1).z)
    assert chance * TESTS * len(LOOKS) == pytest.approx(ALPHA)


# The noun


def record():
    """Three members: one finished, one stopped early, one diverged."""
    values = np.array([[3.0, 5.0, 9.0], [2.0, 4.0, np.nan], [1.0, np.nan, np.nan]])
    members = tuple(
        Member(seed=i, outcome=o, steps=s, best_step=s)
        for i, (o, s) in enumerate([("finished", 30), ("stopped", 20), ("diverged", 10)])
    )
    steps = np.array([10, 20, 30])
    return Record(
        recipe={"batch": 10, "epochs": 3, "stop": {"name": "EarlyStopping"}},
        members=members,
        events=(),
        said=(),
        task={"examples": {"train": 100, "validation": 20, "test": 20}},
        surroundings={},
        series={
            "train/loss": Series(steps, values),
            "validation/loss": Series(steps, values + 1),
            "validation/accuracy": Series(steps, values / 10),
            "lr": Series(steps, values * 0 + 0.1),
            "update/ratio/output.weight": Series(steps, values * 0 + 0.5),
            "null/train/loss": Series(np.array([0]), np.full((1, 3), 7.0)),
        },
        effects=(
            EffectReport(name="clip", meaning="share", values=(0.0, 0.5, 0.2)),
            EffectReport(name="ema", meaning="distance", values=(0.0, 0.0, 0.0)),
        ),
        score=Score(
            metric="accuracy",
            value=0.1,
            low=0,
            high=1,
            confidence=0.95,
            higher_is_better=True,
            split="test",
            examples=20,
        ),
    )


def test_a_course_is_one_members_series():
    one = course_of(record(), 1)
    assert one.train.values.tolist() == [5.0, 4.0] and one.outcome == "stopped" and one.steps == 20
    assert (one.budget, one.per_epoch, one.null, one.keeps_best, one.examples) == (
        30,
        10,
        7.0,
        True,
        20,
    )
    assert one.score.values.tolist() == [0.5, 0.4] and one.layers[
        "output.weight"
    ].values.tolist() == [0.5, 0.5]
    assert one.effects == {"clip": 0.5, "ema": 0.0}
    assert course_of(record(), 2).outcome == "diverged"


def test_a_course_of_all_is_their_median_without_the_diverged():
    every = course_of(record())
    assert every.train.values.tolist() == [4.0, 3.0, 2.5]  # who stopped keeps the last value
    assert (every.networks, every.diverged, every.outcome, every.steps) == (3, 1, "finished", 30)


def test_values_that_are_not_finite_are_remembered_and_left_out():
    broken = Course(steps=4, budget=9, train=curve([3.0, 2.0, math.inf, math.nan]))
    assert broken.broken == 3 and broken.train.values.tolist() == [3.0, 2.0]
    assert Course(steps=2, budget=9, gradient=curve([1.0, math.nan])).broken is None


def test_a_look_knows_nothing_of_later_steps():
    of = course(LEARNED, LEARNED, lr=EVEN, layers={"a": EVEN})
    look = of.looks[3]
    assert look.steps < of.steps and not look.ended
    assert (
        max(c.steps.max() for c in (look.train, look.validation, look.lr, look.layers["a"]))
        == look.steps
    )
    assert [x.steps for x in of.looks] == sorted({x.steps for x in of.looks}) and of.looks[-1] is of


def test_curves_need_a_step_for_each_value():
    with pytest.raises(ValueError, match="a step for each value"):
        curve([1.0, 2.0], [1])


def test_too_little_is_no_answer():
    short = Course(steps=3, budget=3, train=curve([3.0, 2.0, 1.0]), outcome="finished", null=1.0)
    found, checks = run_rules(curve_rules.ALL, short)
    assert not found and {"RVN-T02", "RVN-T03", "RVN-T08"} <= set(checks.not_measured)
    assert {"RVN-T05", "RVN-T07"} <= set(checks.not_applicable)


# Sick


FLAT = noise(0.01)
SICK = {
    "nothing learned: small steps": (
        course(FLAT, FLAT, update=curve(np.full(T, 1e-6), STEPS)),
        "RVN-T02",
        "learning-rate-low",
    ),
    "nothing learned: long steps": (
        course(3 * noise(0.3), 3 * noise(0.3), update=curve(np.full(T, 0.1), STEPS)),
        "RVN-T02",
        "learning-rate-high",
    ),
    "nothing learned: cut": (
        course(
            FLAT,
            FLAT,
            kept=curve(np.full(T, 1e-4), STEPS),
            effects={"clip": 1.0},
            update=curve(np.full(T, 1e-6), STEPS),
        ),
        "RVN-T02",
        "gradient-clipping",
    ),
    "rises": (
        course((1 + 2 * AT) * noise(0.02), (1 + 2 * AT) * noise(0.02)),
        "RVN-T03",
        "learning-rate-high",
    ),
    "swings": (
        course(LEARNED, np.where(np.arange(T) % 2, 0.2, 0.7)),
        "RVN-T04",
        "learning-rate-high",
    ),
    "overfits": (
        course(np.exp(-6 * AT), 0.3 + 0.7 * np.exp(-20 * AT) + 0.5 * AT),
        "RVN-T05",
        "overfitting",
    ),
    "by heart": (course(np.exp(-9 * AT), 1 + 2 * np.minimum(1, AT * 40)), "RVN-T05", "overfitting"),
    "falls evenly": (
        course((1 - 0.2 * AT) * noise(0.003), (1 - 0.2 * AT) * noise(0.003)),
        "RVN-T06",
        "learning-rate-low",
    ),
    "ends too soon": (
        course(1 - 0.1 * AT, 1 - 0.1 * AT, per_epoch=int(STEPS[-1])),
        "RVN-T06",
        "too-few-steps",
    ),
    "out of reach": (
        course(0.6 * noise(0.01), 0.6 * noise(0.01), reachable=0.1),
        "RVN-T07",
        "architecture-too-small",
    ),
    "stuck": (
        course(
            FLAT,
            FLAT,
            layers={"a": curve(np.full(T, 1e-7), STEPS), "b": curve(np.full(T, 1e-3), STEPS)},
        ),
        "RVN-T08",
        "vanishing",
    ),
    "schedule over": (
        course(
            1 - 0.5 * np.minimum(AT, 0.4),
            1 - 0.5 * np.minimum(AT, 0.4),
            lr=curve(np.where(AT < 0.4, 1, 1e-4), STEPS),
        ),
        "RVN-T09",
        "schedule",
    ),
    "clipped": (
        course(
            (1 - 0.1 * AT) * noise(0.002),
            kept=curve(np.full(T, 1e-4), STEPS),
            effects={"clip": 1.0},
            update=curve(np.full(T, 1e-6), STEPS),
        ),
        "RVN-T12",
        "gradient-clipping",
    ),
    "dropped": (
        course(0.7 + 0.3 * np.exp(-9 * AT), effects={"dropout": 0.95}),
        "RVN-T12",
        "dropout",
    ),
    "decayed": (
        course(FLAT, FLAT, weights=curve(np.exp(-8 * AT), STEPS)),
        "RVN-T12",
        "over-regularized",
    ),
    "modes": (
        course(LEARNED, in_training=0.2, in_evaluation=1.5, gap_error=0.05),
        "RVN-T13",
        "normalization",
    ),
    "best at once": (
        course(0.5 + 0.4 * np.minimum(1, AT * 4), 0.5 + 0.4 * np.minimum(1, AT * 4)),
        "RVN-T14",
        "learning-rate-high",
    ),
    "not finite": (course(np.where(AT < 0.05, 1 + AT, np.inf)), "RVN-T01", "learning-rate-high"),
    "not finite, late": (course(np.where(AT < 0.7, LEARNED, np.nan)), "RVN-T01", "exploding"),
}


@pytest.mark.parametrize("name", SICK)
def test_a_sick_course_is_found_with_its_cause(name):
    of, code, cause = SICK[name]
    found = said(of)
    assert code in found and found[code].cause == cause
    evidence = found[code].evidence
    assert evidence and evidence[0].value is not None and math.isfinite(evidence[0].value)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"keeps_best": True}, "RVN-T05"),
        ({"score": curve(np.full(T, 0.9), STEPS), "examples": 200}, "RVN-T05"),
    ],
)
def test_overfitting_that_does_no_harm_is_a_note(changed, code):
    of = course(np.exp(-6 * AT), 0.3 + 0.7 * np.exp(-20 * AT) + 0.5 * AT, **changed)
    assert code not in said(of) and said(of, least="note")[code].severity == "note"


def test_by_heart_and_no_worse_than_a_constant_is_a_note():
    of = course(np.exp(-9 * AT), 0.9 + 0.01 * AT)
    assert "RVN-T05" not in said(of) and "by heart" in said(of, least="note")["RVN-T05"].title
    assert "RVN-T05" not in said(course(np.exp(-9 * AT), 0.5 + 0.01 * AT), least="note")


def test_overfitting_is_dated_by_the_look_from_which_it_was_certain():
    of = course(
        np.exp(-6 * AT), 0.3 + 0.7 * np.exp(-20 * AT) + np.maximum(0, AT - 0.45), error=0.01
    )
    # risen by 15 % of the fall at 0.45 + 0.1, at three looks one later; the next look is at 0.6
    assert said(of)["RVN-T05"].since == pytest.approx(0.6 * STEPS[-1], abs=PER)


def test_a_rise_within_the_doubt_of_few_examples_is_none():
    rising = 0.3 + 0.7 * np.exp(-20 * AT) + 0.5 * AT
    assert "RVN-T05" in said(course(np.exp(-6 * AT), rising, error=0.02))
    assert "RVN-T05" not in said(course(np.exp(-6 * AT), rising, error=0.3))


def test_an_unlearned_run_is_a_note_before_its_end():
    of = course(FLAT, FLAT)
    assert said(of.looks[-3], least="note")["RVN-T02"].title == "not learned so far"
    assert not said(of.looks[-3]) and "RVN-T02" not in said(of.looks[2], least="note")


def test_some_networks_that_diverge_are_a_warning_and_most_an_error():
    assert said(course(LEARNED, networks=8, diverged=2))["RVN-T01"].severity == "warning"
    assert said(course(LEARNED, networks=8, diverged=5))["RVN-T01"].severity == "error"


def test_what_never_acted_is_named_with_its_place():
    found = run_rules(curve_rules.ALL, course(LEARNED, effects={"clip": 0.0, "dropout": 0.1}))[0]
    assert [(f.title, f.where, f.severity) for f in found if f.code == "RVN-T11"] == [
        ("clip never cut", "clip", "note")
    ]


def test_a_games_losses_may_rise():
    assert "RVN-T03" not in said(course((1 + 2 * AT) * noise(0.02), null=None))


# Healthy

FAMILIES = {
    "exponential": lambda r, t: 0.1 + 0.9 * np.exp(-t * r.uniform(4, 30)),
    "power law": lambda r, t: (
        r.uniform(0, 0.3) + (1 + t * r.uniform(100, 1000)) ** -r.uniform(0.4, 1.2)
    ),
    "to nothing": lambda r, t: np.exp(-t * r.uniform(5, 12)) + 1e-6,
    "late drop": lambda r, t: 0.3 + 0.69 / (1 + np.exp((t - r.uniform(0.15, 0.5)) / 0.03)),
    "high floor": lambda r, t: (f := r.uniform(0.6, 0.9)) + (1 - f) * np.exp(-t * r.uniform(5, 40)),
    "restarts": lambda r, t: (
        0.1
        + 0.9 * np.exp(-t * 12)
        + 0.1 * np.exp(-(1 - np.cos(np.pi * (t * 7 % 1))) * 2) * np.exp(-t * 1.5)
    ),
    "one cycle": lambda r, t: (
        0.08
        + 0.9 * np.exp(-t * 8)
        + 0.15 * np.exp(-(((t - 0.3) / 0.12) ** 2)) * np.minimum(1, t * 10)
    ),
    "pretrained": lambda r, t: 0.3 + 0.2 * np.exp(-t * 10),
    "bad start": lambda r, t: 0.2 + r.uniform(3, 100) * np.exp(-t * 60) + 0.8 * np.exp(-t * 10),
}
RUNS = 30  # of each family


def healthy(family, r):
    """A healthy run of a family: looked at seldom or often, few examples or many, noise that lasts,
    a small gap.
    """
    count, per = int(r.choice([20, 60, 200])), int(r.integers(5, 50))
    steps = np.arange(1, count + 1) * per
    t = steps / steps[-1]
    base = family(r, t)
    size = r.uniform(0.005, 0.04) * base
    lasting = scipy.signal.lfilter([math.sqrt(0.75)], [1, -0.5], r.normal(size=count))
    validation = np.abs(base * (1 + r.uniform(0, 0.1) * np.minimum(1, 3 * t)) + size * lasting)
    error = base * r.uniform(0.5, 1.5) / math.sqrt(r.choice([40, 200, 2000]))
    known = {
        "lr": curve(np.cos(t * np.pi / 2) if r.random() < 0.5 else np.ones(count), steps),
        "null": 1.0,
        "train": curve(base + size * r.normal(size=count), steps),
        "update": curve(np.full(count, 1e-3), steps),
    }
    kind = r.choice(["paired", "with errors", "without", "no validation, every step"])
    if kind.startswith("no"):
        every = np.arange(1, steps[-1] + 1)
        train = np.interp(every, steps, base) * np.exp(
            r.normal(size=len(every)) * r.uniform(0.05, 0.4)
        )
        known["train"] = curve(train, every)
    else:
        known |= {"validation": curve(validation, steps), "null_validation": 1.0}
    if kind in ("paired", "with errors"):
        known["error"] = curve(error, steps)
    if kind == "paired":
        known |= {
            "rise": curve(validation - np.minimum.accumulate(validation), steps),
            "rise_error": curve(np.maximum(size, 0.3 * error), steps),
        }
    return Course(
        steps=int(steps[-1]), budget=int(steps[-1]), per_epoch=per, outcome="finished", **known
    )


def test_healthy_runs_keep_the_budget_of_false_alarms():
    """Any warning at any look, in at most 5 % of all runs, and in no family in more than chance has
    of 5 %.
    """
    rng = np.random.default_rng(7)
    alarms = []
    for name, family in FAMILIES.items():
        for _ in range(RUNS):
            found = {
                code
                for look in healthy(family, rng).looks
                for code in said(replace(look, now=True))
            }
            alarms += [(name, *sorted(found))] if found else []
    assert len(alarms) <= ALPHA * RUNS * len(FAMILIES), alarms
    most = scipy.stats.binom.isf(0.01, RUNS, ALPHA)
    assert all(sum(a[0] == name for a in alarms) <= most for name in FAMILIES), alarms
