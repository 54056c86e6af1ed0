"""The curves of a run and what their rules find: sick series against healthy ones."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from ravine.diagnosis.registry import CURVE_RULES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves.rate_advice import agree_on_rate
from ravine.diagnosis.training_curves.series import (
    Curve,
    LossCurves,
    ModeLosses,
    ReferenceLosses,
    RunPlan,
    ScoreCurve,
    TechniqueEffects,
    TrainingCurves,
    UpdateCurves,
    curves_of_record,
    total_update,
)
from ravine.finding import SEVERITY_LEVELS, Change, Finding
from ravine.record import EffectReport, Member, Record, Score, Series

T, PER = 60, 20
STEPS = np.arange(1, T + 1) * PER
AT = STEPS / STEPS[-1]  # 0 to 1
GROUPS = {
    "plan": RunPlan,
    "losses": LossCurves,
    "references": ReferenceLosses,
    "score": ScoreCurve,
    "updates": UpdateCurves,
    "modes": ModeLosses,
    "effects": TechniqueEffects,
}


def make_curve(values, steps=None):
    """A curve; without steps they are the steps 1, 2, ... of a run."""
    values = np.asarray(list(values), dtype=float)
    return Curve(np.arange(1, len(values) + 1) if steps is None else np.asarray(steps), values)


def flat_curves(**known: Any) -> TrainingCurves:
    """Training curves from the fields of all their groups; what is neither is a field of theirs."""
    groups: dict[str, Any] = {
        name: kind(**{f.name: known.pop(f.name) for f in fields(kind) if f.name in known})
        for name, kind in GROUPS.items()
    }
    return TrainingCurves(**groups, **known)


def at_steps(values):
    """A curve of T values, or of T times the same one."""
    return make_curve(np.broadcast_to(values, T), STEPS)


def finished(
    train, validation=None, *, error=0.01, null: float | None = 1.0, **known: Any
) -> TrainingCurves:
    """A finished run that was evaluated 60 times; `error` is that of validation losses and of their
    differences.
    """
    known = {
        "outcome": "finished",
        "steps": int(STEPS[-1]),
        "budget": int(STEPS[-1]),
        "steps_per_epoch": PER,
        **known,
    }
    if validation is not None:
        low = np.minimum.accumulate(validation)
        known |= {
            "validation": at_steps(validation),
            "validation_error": at_steps(error),
            "rise_error": at_steps(error),
            "rise": at_steps(validation - low),
            "constant_validation_loss": null,
        }
    return flat_curves(train=at_steps(train), constant_train_loss=null, **known)


def find(of, *, least="warning"):
    found, checks = run_rules(CURVE_RULES, of)
    assert not checks.failed
    return {
        f.code: f
        for f in found
        if SEVERITY_LEVELS.index(f.severity) <= SEVERITY_LEVELS.index(least)
    }


def noise(spread, seed=0):
    return 1 + spread * np.random.default_rng(seed).normal(size=T)


LEARNED = 0.2 + 0.8 * np.exp(-9 * AT)
EVEN = at_steps(1.0)


def test_the_total_update_is_the_sum_of_all_steps():
    whole = np.linspace(1e-3, 5e-3, 100)
    assert total_update(make_curve(whole), 100) == pytest.approx(whole.sum())
    assert total_update(make_curve(whole[::10], np.arange(1, 101)[::10]), 100) == pytest.approx(
        whole.sum(), rel=0.1
    )


def test_a_network_has_one_budget_of_false_alarms():
    chance = scipy.stats.norm.sf(flat_curves(steps=0, budget=1).critical_z)
    assert chance * 8 * 13 == pytest.approx(0.05)  # eight tests at thirteen checks


# The curves


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
        notes=(),
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


def record_of(member):
    """The record of one of the three."""
    whole, here = record(), slice(member, member + 1)
    series = whole.series.items()
    effects = (replace(e, values=e.values[here]) for e in whole.effects)
    return replace(
        whole,
        members=whole.members[here],
        series={n: Series(s.steps, s.values[:, here]) for n, s in series},
        effects=tuple(effects),
    )


def test_curves_are_one_members_series():
    one = curves_of_record(record_of(1))
    assert (
        one.losses.train.values.tolist() == [5.0, 4.0]
        and one.outcome == "stopped"
        and one.steps == 20
    )
    assert one.plan == RunPlan(budget=30, steps_per_epoch=10, keeps_best=True, networks=1)
    assert (one.references.constant_train_loss, one.score.examples) == (7.0, 20)
    assert one.score.curve.values.tolist() == [0.5, 0.4]
    assert one.updates.layer_ratios["output.weight"].values.tolist() == [0.5, 0.5]
    assert one.effects.values == {"clip": 0.5, "ema": 0.0}
    assert curves_of_record(record_of(2)).outcome == "diverged"


def test_curves_of_all_are_their_median_without_the_diverged():
    every = curves_of_record(record())
    assert every.losses.train.values.tolist() == [4.0, 3.0, 2.5]  # who stopped keeps the last value
    assert (every.plan.networks, every.diverged, every.outcome, every.steps) == (
        3,
        1,
        "finished",
        30,
    )


def test_values_that_are_not_finite_are_remembered_and_left_out():
    broken = flat_curves(steps=4, budget=9, train=make_curve([3.0, 2.0, math.inf, math.nan]))
    assert broken.broken_at == 3 and broken.losses.train.values.tolist() == [3.0, 2.0]
    assert (
        flat_curves(steps=2, budget=9, gradient_norm=make_curve([1.0, math.nan])).broken_at is None
    )


def test_an_interim_check_knows_nothing_of_later_steps():
    of = finished(LEARNED, LEARNED, lr=EVEN, layer_ratios={"a": EVEN})
    check = of.interim_curves[3]
    assert check.steps < of.steps and not check.has_ended
    assert (
        max(
            c.steps.max()
            for c in (
                check.losses.train,
                check.losses.validation,
                check.updates.lr,
                check.updates.layer_ratios["a"],
            )
        )
        == check.steps
    )
    steps = [x.steps for x in of.interim_curves]
    assert steps == sorted(set(steps)) and of.interim_curves[-1] is of


def test_too_little_is_no_answer():
    short = flat_curves(
        steps=3,
        budget=3,
        train=make_curve([3.0, 2.0, 1.0]),
        outcome="finished",
        constant_train_loss=1.0,
    )
    found, checks = run_rules(CURVE_RULES, short)
    assert not found and {"RVN-T02", "RVN-T03", "RVN-T08"} <= set(checks.not_measured)
    assert {"RVN-T05", "RVN-T07"} <= set(checks.not_applicable)


# Sick


FLAT = noise(0.01)


def answered(no, true_no, yes, true_yes):
    """A run that answers and should answer no and yes so often."""
    return finished(LEARNED, LEARNED, answers={"no": (no, true_no), "yes": (yes, true_yes)})


SICK = {
    "nothing learned: small steps": (
        finished(FLAT, FLAT, update_ratio=at_steps(1e-6)),
        "RVN-T02",
        "learning-rate-low",
    ),
    "nothing learned: long steps": (
        finished(3 * noise(0.3), 3 * noise(0.3), update_ratio=at_steps(0.1)),
        "RVN-T02",
        "learning-rate-high",
    ),
    "nothing learned: cut": (
        finished(
            FLAT, FLAT, clip_kept=at_steps(1e-4), values={"clip": 1.0}, update_ratio=at_steps(1e-6)
        ),
        "RVN-T02",
        "gradient-clipping",
    ),
    "rises": (
        finished((1 + 2 * AT) * noise(0.02), (1 + 2 * AT) * noise(0.02)),
        "RVN-T03",
        "learning-rate-high",
    ),
    "swings": (
        finished(LEARNED, np.where(np.arange(T) % 2, 0.2, 0.7)),
        "RVN-T04",
        "learning-rate-high",
    ),
    "overfits": (
        finished(np.exp(-6 * AT), 0.3 + 0.7 * np.exp(-20 * AT) + 0.5 * AT),
        "RVN-T05",
        "overfitting",
    ),
    "memorizes": (
        finished(np.exp(-9 * AT), 1 + 2 * np.minimum(1, AT * 40)),
        "RVN-T05",
        "overfitting",
    ),
    "falls evenly": (
        finished((1 - 0.2 * AT) * noise(0.003), (1 - 0.2 * AT) * noise(0.003)),
        "RVN-T06",
        "learning-rate-low",
    ),
    "ends too soon": (
        finished(1 - 0.1 * AT, 1 - 0.1 * AT, steps_per_epoch=int(STEPS[-1])),
        "RVN-T06",
        "too-few-steps",
    ),
    "out of reach": (
        finished(0.6 * noise(0.01), 0.6 * noise(0.01), reachable=0.1),
        "RVN-T07",
        "architecture-too-small",
    ),
    "stuck": (
        finished(FLAT, FLAT, layer_ratios={"a": at_steps(1e-7), "b": at_steps(1e-3)}),
        "RVN-T08",
        "vanishing",
    ),
    "schedule over": (
        finished(
            1 - 0.5 * np.minimum(AT, 0.4),
            1 - 0.5 * np.minimum(AT, 0.4),
            lr=make_curve(np.where(AT < 0.4, 1, 1e-4), STEPS),
        ),
        "RVN-T09",
        "schedule",
    ),
    "clipped": (
        finished(
            (1 - 0.1 * AT) * noise(0.002),
            clip_kept=at_steps(1e-4),
            values={"clip": 1.0},
            update_ratio=at_steps(1e-6),
        ),
        "RVN-T12",
        "gradient-clipping",
    ),
    "dropped": (
        finished(0.7 + 0.3 * np.exp(-9 * AT), values={"dropout": 0.95}),
        "RVN-T12",
        "dropout",
    ),
    "decayed": (
        finished(FLAT, FLAT, weight_norm=make_curve(np.exp(-8 * AT), STEPS)),
        "RVN-T12",
        "over-regularized",
    ),
    "modes": (
        finished(LEARNED, training=0.2, evaluation=1.5, gap_error=0.05),
        "RVN-T13",
        "normalization",
    ),
    "one answer": (answered(200, 180, 0, 20), "RVN-T15", "imbalance"),
    "one answer, even classes": (answered(200, 100, 0, 100), "RVN-T15", "labels"),
    "best at once": (
        finished(0.5 + 0.4 * np.minimum(1, AT * 4), 0.5 + 0.4 * np.minimum(1, AT * 4)),
        "RVN-T14",
        "learning-rate-high",
    ),
    "not finite": (finished(np.where(AT < 0.05, 1 + AT, np.inf)), "RVN-N01", "learning-rate-high"),
    "not finite, late": (finished(np.where(AT < 0.7, LEARNED, np.nan)), "RVN-N01", "exploding"),
}


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_is_found_with_its_cause(name):
    of, code, cause = SICK[name]
    found = find(of)
    assert code in found and found[code].cause == cause
    evidence = found[code].evidence
    assert evidence and evidence[0].value is not None and math.isfinite(evidence[0].value)


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"keeps_best": True}, "RVN-T05"), ({"curve": at_steps(0.9), "examples": 200}, "RVN-T05")],
)
def test_overfitting_that_does_no_harm_is_a_note(changed, code):
    of = finished(np.exp(-6 * AT), 0.3 + 0.7 * np.exp(-20 * AT) + 0.5 * AT, **changed)
    assert code not in find(of) and find(of, least="note")[code].severity == "note"


def test_memorized_and_no_worse_than_a_constant_is_a_note():
    of = finished(np.exp(-9 * AT), 0.9 + 0.01 * AT)
    assert "RVN-T05" not in find(of) and "memorized" in find(of, least="note")["RVN-T05"].title
    assert "RVN-T05" not in find(finished(np.exp(-9 * AT), 0.5 + 0.01 * AT), least="note")


@pytest.mark.parametrize(
    ("last", "score", "found"),
    [(1.2, 0.5, True), (1.2, 0.89, False), (0.8, 0.5, False)],
    ids=["no better than a constant", "the score stays", "better than a constant"],
)
def test_few_validation_rows_cannot_be_sure_but_show_that_nothing_generalizes(last, score, found):
    """A standard error of 0.5, as of 18 rows of which some are answered wrong and surely."""
    of = finished(
        np.exp(-9 * AT),
        0.9 + (last - 0.9) * AT,
        error=0.5,
        curve=make_curve(0.9 + (score - 0.9) * AT, STEPS),
        examples=18,
    )
    assert ("RVN-T05" in find(of)) == found


def test_a_run_that_stops_early_has_no_plateau_to_report():
    flat = np.where(AT < 0.2, 1 - 4 * AT, 0.2)
    for outcome, found in (("finished", True), ("stopped", False)):
        of = replace(finished(flat, flat, keeps_best=True), outcome=outcome)
        assert ("RVN-T10" in find(of, least="note")) == found


# Advice on the learning rate


def rate_finding(code, cause, severity, *changes, suspects=()):
    return Finding(
        code=code,
        title="",
        severity=severity,
        confidence="high",
        cause=cause,
        changes=changes,
        suspects=suspects,
    )


LOWER, HIGHER = Change("optimizer.lr", "a third"), Change("optimizer.lr", "10 times")


@pytest.mark.parametrize("first", ["learning-rate-low", "learning-rate-high"])
def test_all_findings_of_a_run_agree_about_the_learning_rate(first):
    second = ({"learning-rate-low", "learning-rate-high"} - {first}).pop()
    own, other = (LOWER, HIGHER) if first == "learning-rate-high" else (HIGHER, LOWER)
    found = [
        rate_finding("A", second, "warning", other, suspects=("gradient-clipping", first)),
        rate_finding("B", first, "error", own),
        rate_finding("C", first, "warning", Change("optimizer.lr", 0.5), Change("stop", None)),
        rate_finding("D", second, "note"),
        rate_finding("E", "labels", "warning", Change("data", "look")),
    ]
    a, b, c, d, e = agree_on_rate(found)
    assert {f.cause for f in (a, b, c, d)} & {"learning-rate-low", "learning-rate-high"} == {first}
    assert (a.cause, a.changes) == ("gradient-clipping", (Change("clip", None),))
    assert b.changes == (own,) and c.changes == (own, Change("stop", None)) and e == found[4]
    assert d.changes and not any(change.path == "optimizer.lr" for change in d.changes)


def test_what_is_advised_after_a_short_run_is_a_number_of_epochs():
    of = finished(1 - 0.1 * AT, 1 - 0.1 * AT, steps_per_epoch=int(STEPS[-1]))
    assert find(of, least="note")["RVN-T06"].changes == (Change("epochs", 3),)


def test_overfitting_is_dated_by_the_look_from_which_it_was_certain():
    of = finished(
        np.exp(-6 * AT), 0.3 + 0.7 * np.exp(-20 * AT) + np.maximum(0, AT - 0.45), error=0.01
    )
    # risen by 15 % of the fall at 0.45 + 0.1, at three looks one later; the next look is at 0.6
    assert find(of)["RVN-T05"].since == pytest.approx(0.6 * STEPS[-1], abs=PER)


def test_a_rise_within_the_doubt_of_few_examples_is_none():
    rising = 0.3 + 0.7 * np.exp(-20 * AT) + 0.5 * AT
    assert "RVN-T05" in find(finished(np.exp(-6 * AT), rising, error=0.02))
    assert "RVN-T05" not in find(finished(np.exp(-6 * AT), rising, error=0.3))


def test_an_unlearned_run_is_a_note_before_its_end():
    of = finished(FLAT, FLAT)
    assert find(of.interim_curves[-3], least="note")["RVN-T02"].title == "not learned so far"
    assert not find(of.interim_curves[-3]) and "RVN-T02" not in find(
        of.interim_curves[2], least="note"
    )


def test_some_networks_that_diverge_are_a_warning_and_most_an_error():
    assert find(finished(LEARNED, networks=8, diverged=2))["RVN-N01"].severity == "warning"
    assert find(finished(LEARNED, networks=8, diverged=5))["RVN-N01"].severity == "error"


def test_what_never_acted_is_named_with_its_place():
    found = run_rules(CURVE_RULES, finished(LEARNED, values={"clip": 0.0, "dropout": 0.1}))[0]
    assert [(f.title, f.where, f.severity) for f in found if f.code == "RVN-T11"] == [
        ("clip never cut", "clip", "note")
    ]


def test_a_games_losses_may_rise():
    assert "RVN-T03" not in find(finished((1 + 2 * AT) * noise(0.02), null=None))


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
        "lr": make_curve(np.cos(t * np.pi / 2) if r.random() < 0.5 else np.ones(count), steps),
        "constant_train_loss": 1.0,
        "train": make_curve(base + size * r.normal(size=count), steps),
        "update_ratio": make_curve(np.full(count, 1e-3), steps),
    }
    kind = r.choice(["paired", "with errors", "without", "no validation, every step"])
    if kind.startswith("no"):
        every = np.arange(1, steps[-1] + 1)
        train = np.interp(every, steps, base) * np.exp(
            r.normal(size=len(every)) * r.uniform(0.05, 0.4)
        )
        known["train"] = make_curve(train, every)
    else:
        known |= {"validation": make_curve(validation, steps), "constant_validation_loss": 1.0}
    if kind in ("paired", "with errors"):
        known["validation_error"] = make_curve(error, steps)
    if kind == "paired":
        known |= {
            "rise": make_curve(validation - np.minimum.accumulate(validation), steps),
            "rise_error": make_curve(np.maximum(size, 0.3 * error), steps),
        }
    return flat_curves(
        steps=int(steps[-1]),
        budget=int(steps[-1]),
        steps_per_epoch=per,
        outcome="finished",
        **known,
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
                for check in healthy(family, rng).interim_curves
                for code in find(replace(check, only_now=True))
            }
            alarms += [(name, *sorted(found))] if found else []
    assert len(alarms) <= 0.05 * RUNS * len(FAMILIES), alarms
    most = scipy.stats.binom.isf(0.01, RUNS, 0.05)
    assert all(sum(a[0] == name for a in alarms) <= most for name in FAMILIES), alarms


# Just on either side of each threshold


def switched(first, then, at):
    """T values: the first ones up to a place, others from there on."""
    return np.where(np.arange(T) < at, first, then)


def constant(loss, **known):
    return finished(np.full(T, loss), np.full(T, loss), error=1e-4, **known)


def broken_after(count, last=0.2):
    """A training loss that falls, and is no number from some evaluation on."""
    losses = np.linspace(1.0, 0.2, count)
    losses[-1] = last
    return finished(np.concatenate([losses, np.full(T - count, np.inf)]))


def jumping(jump, count=15):
    """A validation loss of which the second half jumps up and down again some times."""
    places = T // 2 + 2 * np.arange(count)
    values = np.full(T, 0.2)
    values[places] += jump
    return finished(LEARNED, values, error=1e-4)


def rising_at_the_end(count):
    """A few evaluations of which the last six are each higher than the one before."""
    values = np.concatenate([np.full(count - 6, 0.2), 0.2 + 0.3 * np.arange(1, 7)])
    steps = PER * np.arange(1, count + 1)
    return flat_curves(
        steps=int(steps[-1]),
        budget=int(steps[-1]),
        outcome="finished",
        validation=make_curve(values, steps),
        constant_validation_loss=1.0,
    )


def turning(place, height, train=0.1, **known):
    """A validation loss with its lowest value of 0.2 at a place, and a height from then on; its
    best constant has 1. `train` is the training loss from then on, 0.1 before.
    """
    validation = switched(np.linspace(1.0, 0.21, T), height, place + 1)
    validation[place] = 0.2
    return finished(switched(0.1, train, place + 1), validation, error=1e-3, **known)


def stuck(*ratios, **known):
    """Layers that move by so much of their weights in each of 1,200 steps."""
    layers = {name: at_steps(ratio) for name, ratio in zip("ab", ratios, strict=True)}
    return finished(LEARNED, LEARNED, layer_ratios=layers, **known)


def power_law(null, **known):
    """A loss that falls with the power 0.3 of the steps to 0.5."""
    return finished(0.5 * AT**-0.3, 0.5 * AT**-0.3, null=null, error=1e-4, **known)


def with_setback(count):
    """A loss that falls with the steps, but for the last but one of some evaluations."""
    steps = PER * np.arange(1, count + 1)
    values = 0.5 * (steps / steps[-1]) ** -0.3
    values[-2] = 1.001 * values[-3]
    return flat_curves(
        steps=int(steps[-1]),
        budget=int(steps[-1]),
        outcome="finished",
        train=make_curve(values, steps),
        constant_train_loss=1.0,
    )


def begun(now, steps_per_epoch, steps=50):
    """A run of 50 steps and two evaluations."""
    at = [steps // 2, steps]
    return flat_curves(
        steps=steps,
        budget=steps,
        steps_per_epoch=steps_per_epoch,
        outcome="finished",
        train=make_curve([2.0, now + 0.3], at),
        validation=make_curve([1.2, now], at),
        validation_error=make_curve([0.001, 0.001], at),
        constant_validation_loss=1.0,
        constant_train_loss=1.0,
    )


def short(steps):
    """A run of some steps that learned nothing, by updates of next to nothing."""
    at = steps * np.arange(1, T + 1) / T
    return flat_curves(
        steps=steps,
        budget=steps,
        outcome="finished",
        train=make_curve(np.ones(T), at),
        update_ratio=make_curve(np.full(T, 1e-6), at),
        constant_train_loss=1.0,
    )


def scheduled(until, rest=1e-4):
    lr = at_steps(switched(1.0, rest, until))
    return finished(LEARNED, LEARNED, lr=lr)


def clipped(kept):
    return finished(LEARNED, clip_kept=at_steps(kept), update_ratio=at_steps(1e-3))


def shrinking(left, loss=1.0):
    weights = at_steps(np.linspace(1.0, left, T))
    return constant(loss, weight_norm=weights)


def dropping(share, loss=0.3):
    return constant(loss, values={"dropout": share})


@pytest.mark.parametrize(
    ("code", "severity", "beyond", "short_of"),
    [
        ("RVN-T03", "warning", finished(switched(1.0, 1.11, 1)), finished(switched(1.0, 1.09, 1))),
        ("RVN-T04", "warning", jumping(0.21), jumping(0.199)),  # of a fall of 0.8
        ("RVN-T04", "note", jumping(0.085), jumping(0.079)),
        ("RVN-T04", "warning", jumping(0.6, count=8), jumping(0.6, count=7)),
        ("RVN-T04", "warning", rising_at_the_end(12), rising_at_the_end(11)),
        ("RVN-T10", "note", constant(0.949), constant(0.951)),
        ("RVN-T10", "note", constant(0.051), constant(0.049)),
        (
            "RVN-T10",
            "note",
            finished(LEARNED, switched(0.5049, 0.5, 45)),
            finished(LEARNED, switched(0.5051, 0.5, 45)),
        ),
        ("RVN-T02", "warning", constant(0.9951), constant(0.9949)),
        ("RVN-T02", "error", constant(1.51), constant(1.49)),
        (
            "RVN-T02",
            "note",
            constant(1.0, outcome="", budget=2390),
            constant(1.0, outcome="", budget=2410),
        ),
        ("RVN-T07", "warning", constant(0.41, reachable=0.2), constant(0.39, reachable=0.2)),
        (
            "RVN-T07",
            "warning",
            finished(np.full(T, 0.41), np.full(T, 0.6), reachable=0.2),
            finished(np.full(T, 0.39), np.full(T, 0.6), reachable=0.2),
        ),
        ("RVN-T08", "note", stuck(8.25e-6, 1e-3), stuck(8.42e-6, 1e-3)),
        ("RVN-T08", "note", stuck(7e-6, 2.15e-4), stuck(7e-6, 2.05e-4)),
        (
            "RVN-T08",
            "note",
            stuck(1e-7, 1e-3, outcome="", budget=4790),
            stuck(1e-7, 1e-3, outcome="", budget=4810),
        ),
        ("RVN-T15", "warning", answered(199, 180, 1, 20), answered(198, 180, 2, 20)),
        ("RVN-T15", "warning", answered(100, 97, 0, 3), answered(100, 98, 0, 2)),
        (
            "RVN-T13",
            "warning",
            finished(LEARNED, training=0.1, evaluation=0.301),
            finished(LEARNED, training=0.1, evaluation=0.299),
        ),
        (
            "RVN-T13",
            "warning",
            finished(LEARNED, training=1.0, evaluation=1.51),
            finished(LEARNED, training=1.0, evaluation=1.49),
        ),
        (
            "RVN-T05",
            "note",
            finished(np.full(T, 0.049), np.full(T, 0.9)),
            finished(np.full(T, 0.051), np.full(T, 0.9)),
        ),
        (
            "RVN-T05",
            "note",
            finished(np.full(T, 0.01), np.full(T, 0.701)),
            finished(np.full(T, 0.01), np.full(T, 0.699)),
        ),
        ("RVN-T05", "warning", turning(20, 0.321), turning(20, 0.319)),  # of a fall of 0.8
        ("RVN-T05", "warning", turning(20, 0.4, 0.1019), turning(20, 0.4, 0.1021)),
        ("RVN-T14", "warning", turning(5, 0.4, 0.2), turning(6, 0.4, 0.2)),
        (
            "RVN-T14",
            "warning",
            turning(5, 0.4, 0.2, outcome="", budget=3990),
            turning(5, 0.4, 0.2, outcome="", budget=4010),
        ),
        ("RVN-T06", "note", power_law(1.42), power_law(1.46)),
        ("RVN-T06", "warning", power_law(0.805), power_law(0.82)),
        ("RVN-T06", "note", with_setback(27), with_setback(24)),
        ("RVN-T06", "warning", begun(0.6, 17), begun(0.6, 16)),
        ("RVN-T06", "warning", begun(0.51, 50), begun(0.49, 50)),
        ("RVN-T09", "note", scheduled(36), scheduled(37)),
        ("RVN-T09", "note", scheduled(30, 0.0099), scheduled(30, 0.0101)),
        ("RVN-T12", "note", clipped(0.0099), clipped(0.0101)),
        ("RVN-T12", "note", clipped(1e-4), clipped(switched(1.0, 1e-4, 1))),
        ("RVN-T12", "note", dropping(0.901), dropping(0.899)),
        ("RVN-T12", "warning", dropping(0.95, 0.51), dropping(0.95, 0.49)),
        ("RVN-T12", "warning", shrinking(0.099), shrinking(0.101)),
        ("RVN-T12", "warning", shrinking(0.01, 0.981), shrinking(0.01, 0.979)),
    ],
)
def test_thresholds(code, severity, beyond, short_of):
    found, others = (
        {f.code: f.severity for f in run_rules(CURVE_RULES, curves)[0]}
        for curves in (beyond, short_of)
    )
    assert found.get(code) == severity and others.get(code) != severity


@pytest.mark.parametrize(
    ("code", "cause", "beyond", "short_of"),
    [
        ("RVN-N01", "exploding", broken_after(5), broken_after(4)),
        ("RVN-N01", "exploding", broken_after(30, 0.49), broken_after(30, 0.51)),
        ("RVN-T02", "learning-rate-high", constant(1.51), constant(1.49)),
        (
            "RVN-T02",
            "learning-rate-high",
            constant(1.0, update_ratio=at_steps(0.0501)),
            constant(1.0, update_ratio=at_steps(0.0499)),
        ),
        (
            "RVN-T02",
            "learning-rate-low",
            constant(1.0, update_ratio=at_steps(4.15e-5)),
            constant(1.0, update_ratio=at_steps(4.19e-5)),
        ),
        ("RVN-T02", "too-few-steps", short(99), short(101)),
        (
            "RVN-T02",
            "dead-units",
            constant(1.0, gradient_norm=at_steps(np.linspace(1.0, 0.99e-4, T))),
            constant(1.0, gradient_norm=at_steps(np.linspace(1.0, 1.01e-4, T))),
        ),
        (
            "RVN-T06",
            "too-few-steps",
            power_law(0.8, update_ratio=at_steps(1e-6), steps_per_epoch=241),
            power_law(0.8, update_ratio=at_steps(1e-6), steps_per_epoch=239),
        ),
    ],
)
def test_thresholds_between_causes(code, cause, beyond, short_of):
    found, others = (
        {f.code: f.cause for f in run_rules(CURVE_RULES, curves)[0]}
        for curves in (beyond, short_of)
    )
    assert found[code] == cause != others[code]
