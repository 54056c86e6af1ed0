"""What the rules say of a story, where the programs of `tests/watching/test_watch.py` do not go."""

import py_compile
from dataclasses import replace
from pathlib import Path

import pytest

import ravine
from ravine.diagnosis.registry import LOOP_RULES
from ravine.diagnosis.training_loop import rules_step
from ravine.diagnosis.training_loop.history import Broken, Look, Modes, Schedule, Story, Weight

ROOT = Path(ravine.__file__).parent.parent
LOOK = Look(
    step=3,
    optimizer=0,
    kind="SGD",
    lrs=(0.1,),
    norms={"w": 1.0},
    arrived=1.0,
    at_step=1.0,
    weights=10.0,
)


def codes(story):
    return [f.code for rule in LOOP_RULES if story.has(rule.needs) for f in rule.judge(story)]


def test_a_story_without_anything_says_nothing():
    assert codes(Story()) == [] and not any(Story().has(rule.needs) for rule in LOOP_RULES)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_compile(example, tmp_path):
    py_compile.compile(str(example), cfile=str(tmp_path / "made.pyc"), doraise=True)


@pytest.mark.parametrize(
    ("tape", "found"),
    [
        ("FLBSFLBSFLBS", []),
        ("FLSBFLSBFLSB", ["RVN-L04"]),
        ("FSBLFSBLFSBL", ["RVN-L04"]),
        ("FLBFLBSFLBFLBS", []),
        ("FsFLBSFsFLBSFsFLBS", []),
        ("NLSNLS", ["RVN-L11"]),
        ("FLBSNNNFLBS", ["RVN-L13"]),
        ("FLBSnnnFLBS", []),
        ("NsNsNsFLBSNsNsNsFLBS", []),
        ("NFLBSNFLBSNFLBSNFLBSNFLBS", []),
        ("FLBS" * 5 + "N" + "FLBS" * 5 + "NFLBS", ["RVN-L13"]),
    ],
)
def test_the_order_of_things_on_the_tape(tape, found):
    story = Story(tape=tape, modes=Modes(sensitive=1), looks=[LOOK])
    assert [c for c in codes(story) if c in ("RVN-L04", "RVN-L11", "RVN-L13")] == found


def test_validation_in_training_mode_is_no_matter_without_dropout_or_batch_norm():
    assert codes(Story(tape="FLBSNNNFLBS", looks=[LOOK])) == []


def clipped(kept, lr=0.1, kind="SGD", eps=0.0, lengths=(1e-3,) * 5):
    looks = [
        replace(
            LOOK, step=i, arrived=1.0, at_step=kept, norms={"w": n}, lrs=(lr,), kind=kind, eps=eps
        )
        for i, n in enumerate(lengths)
    ]
    weight = Weight(name="w", shape=(100,), optimizer=0, reached=True)
    return codes(Story(looks=looks, weights=(weight,), steps=5))


def test_clipping_is_a_fault_only_where_it_stops_the_weights():
    assert clipped(1e-3) == ["RVN-L17"]
    assert clipped(1e-3, lr=10.0) == []  # steps long enough all the same
    assert clipped(0.5) == []
    assert (
        clipped(1e-3, lengths=(1e-3, 2e-3, 1e-3, 1e-3, 1e-3)) == []
    )  # scaled, but not to one length
    assert clipped(1e-3, kind="Adam", eps=1e-8) == []  # whose steps do not depend on the length
    assert clipped(1e-8, kind="Adam", eps=1e-8, lengths=(1e-8,) * 5) == ["RVN-L17"]


@pytest.mark.parametrize(
    ("broken", "cause", "confidence"),
    [
        (
            Broken(step=9, what="loss", first=1.0, highest=50.0, lr=1.0),
            "learning-rate-high",
            "high",
        ),
        (
            Broken(step=9, what="loss", first=1.0, highest=1.5, lr=1.0),
            "learning-rate-high",
            "medium",
        ),
        (Broken(step=9, what="gradient", first=1.0, highest=1.0, last=0.5), "loss", "medium"),
        (
            Broken(step=0, what="loss", first=float("nan"), highest=float("nan")),
            "exploding",
            "medium",
        ),
        (
            Broken(step=9, what="loss", inputs=True, first=1.0, highest=50.0),
            "data-degenerate",
            "exact",
        ),
    ],
)
def test_why_numbers_stop_being_finite(broken, cause, confidence):
    (seen,) = rules_step.not_finite(Story(broken=broken))
    assert (seen.cause, seen.confidence) == (cause, confidence)


def test_a_rate_of_zero_counts_after_ten_steps_only():
    assert codes(Story(looks=[LOOK], lr_zero=9, steps=9)) == []
    assert codes(Story(looks=[LOOK], lr_zero=10, steps=10)) == ["RVN-L18"]


def test_steps_lost_in_rounding_are_no_matter_in_a_warm_up_or_after_learning():
    stuck = [replace(LOOK, step=i, unchanged=1.0) for i in range(4)]
    assert codes(Story(looks=stuck, steps=4)) == ["RVN-L19"]
    rising = [replace(look, lrs=(0.01 * (i + 1),)) for i, look in enumerate(stuck)]
    assert codes(Story(looks=rising, steps=4)) == []
    learned = [replace(LOOK, unchanged=0.0), *stuck]
    assert codes(Story(looks=learned, steps=5)) == []


def test_schedules():
    def story(**settings):
        schedule = Schedule(**{"kind": "StepLR", "steps": 5, "before": False, **settings})
        return codes(Story(looks=[LOOK], schedules=(schedule,), steps=100, ended=True))

    assert story() == [] and story(steps=0) == ["RVN-L15"] and story(before=True) == ["RVN-L14"]
    assert story(steps=10, length=10) == [] and story(steps=50, length=10) == ["RVN-L16"]


def test_a_head_only_optimizer_is_noted_if_the_rest_is_trained_and_an_error_if_it_is_random():
    def found(**settings):
        body = Weight(**{"name": "body", "shape": (4, 4), "reached": True, **settings})
        head = Weight(name="head", shape=(4, 4), reached=True, optimizer=0)
        (finding,) = [
            f
            for rule in LOOP_RULES
            if rule.code == "RVN-L05"
            for f in rule.judge(Story(looks=[LOOK], weights=(body, head), steps=8))
        ]
        return finding.severity

    assert found() == "note" and found(fresh=True) == "error"
