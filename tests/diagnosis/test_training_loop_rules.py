"""What the rules say of a history, beyond the loops of `tests/watching/test_watch.py`."""

import py_compile
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from usual_snapshot import SNAPSHOT

import ravine
from ravine.diagnosis.registry import LOOP_RULES
from ravine.diagnosis.training_loop import rules_nonfinite
from ravine.diagnosis.training_loop.history import (
    LearningRates,
    LoopHistory,
    ModelHistory,
    ModuleModes,
    NonFiniteEvent,
    ObservedGradient,
    OptimizerSettings,
    SchedulerState,
    WatchedParameter,
)

ROOT = Path(ravine.__file__).parent.parent


def codes(history):
    return [
        f.code for rule in LOOP_RULES if history.has(rule.needs) for f in rule.findings(history)
    ]


def test_an_empty_history_has_no_findings():
    assert codes(LoopHistory()) == []
    assert not any(LoopHistory().has(rule.needs) for rule in LOOP_RULES)


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
        (("FLS" * 40 + "N") * 2 + "FLS", ["RVN-L13"]),  # backward is noted in inspected steps only
        (("FLBS" + "FLS" * 9 + "N") * 3 + "FLS", ["RVN-L13"]),
        ("FLS" * 60 + "NFLS", []),
    ],
)
def test_the_order_of_things_on_the_tape(tape, found):
    model = ModelHistory(modes=ModuleModes(mode_dependent=1))
    history = LoopHistory(tape=deque(tape), model=model, snapshots=[SNAPSHOT])
    assert [c for c in codes(history) if c in ("RVN-L04", "RVN-L11", "RVN-L13")] == found


@pytest.mark.parametrize(("norms", "found"), [((1.0, 2.0), False), ((1.0, 1.0), True)])
def test_gradients_that_are_set_by_hand_need_no_graph(norms, found):
    """As SPSA estimates them from two losses; a gradient that stays the same is a stale one."""
    snapshots = [
        replace(SNAPSHOT, step=step, gradient_norms={"0.weight": norm})
        for step, norm in enumerate(norms)
    ]
    history = LoopHistory(tape=deque("NLSNLSNLS"), snapshots=snapshots)
    assert ("RVN-L11" in codes(history)) is found


def test_validation_in_training_mode_is_no_matter_without_dropout_or_batch_norm():
    assert codes(LoopHistory(tape=deque("FLBSNNNFLBS"), snapshots=[SNAPSHOT])) == []


def clipped(kept, lr=0.1, kind="SGD", eps=0.0, lengths=(1e-3,) * 5):
    snapshots = [
        replace(
            SNAPSHOT,
            step=i,
            settings=OptimizerSettings(kind=kind, lrs=(lr,), eps=eps),
            gradient=ObservedGradient(norm_after_backward=1.0, norm_at_step=kept),
            gradient_norms={"w": n},
        )
        for i, n in enumerate(lengths)
    ]
    weight = WatchedParameter(name="w", shape=(100,), optimizer=0, received_gradient=True)
    model = ModelHistory(parameters=(weight,))
    return codes(LoopHistory(snapshots=snapshots, model=model, steps=5))


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
    ("event", "cause", "confidence"),
    [
        (
            NonFiniteEvent(step=9, what="loss", first_loss=1.0, highest_loss=50.0, lr=1.0),
            "learning-rate-high",
            "high",
        ),
        (
            NonFiniteEvent(
                step=9, what="loss", first_loss=1.0, highest_loss=1.5, lr=1.0, weight_growth=20.0
            ),
            "learning-rate-high",
            "medium",
        ),
        (
            NonFiniteEvent(step=9, what="loss", first_loss=1.0, highest_loss=1.5, lr=1.0),
            "data-degenerate",
            "medium",
        ),
        (
            NonFiniteEvent(step=9, what="loss", where="0.weight", first_loss=1.0, highest_loss=1.5),
            "loss",
            "medium",
        ),
        (
            NonFiniteEvent(
                step=9, what="gradient", first_loss=1.0, highest_loss=1.0, last_loss=0.5
            ),
            "loss",
            "medium",
        ),
        (
            NonFiniteEvent(step=0, what="loss", first_loss=float("nan"), highest_loss=float("nan")),
            "exploding",
            "medium",
        ),
        (
            NonFiniteEvent(
                step=9, what="loss", nonfinite_inputs=True, first_loss=1.0, highest_loss=50.0
            ),
            "data-degenerate",
            "exact",
        ),
    ],
)
def test_why_numbers_stop_being_finite(event, cause, confidence):
    (found,) = rules_nonfinite.nonfinite_numbers.findings(LoopHistory(nonfinite=event))
    assert (found.cause, found.confidence) == (cause, confidence)


def test_a_rate_of_zero_counts_after_ten_steps_only():
    def found(steps):
        rates = LearningRates(steps_at_zero=steps)
        return codes(LoopHistory(snapshots=[SNAPSHOT], rates=rates, steps=steps))

    assert found(9) == [] and found(10) == ["RVN-L18"]


def test_steps_lost_in_rounding_are_no_matter_in_a_warm_up_or_after_learning():
    stuck = [replace(SNAPSHOT, step=i, unchanged_fraction=1.0) for i in range(4)]
    assert codes(LoopHistory(snapshots=stuck, steps=4)) == ["RVN-L19"]
    rising = [
        replace(s, settings=OptimizerSettings(kind="SGD", lrs=(0.01 * (i + 1),)))
        for i, s in enumerate(stuck)
    ]
    assert codes(LoopHistory(snapshots=rising, steps=4)) == []
    learned = [replace(SNAPSHOT, unchanged_fraction=0.0), *stuck]
    assert codes(LoopHistory(snapshots=learned, steps=5)) == []


def test_schedules():
    def found(**settings):
        scheduler = SchedulerState(
            **{"kind": "StepLR", "steps": 5, "stepped_first": False, **settings}
        )
        rates = LearningRates(schedulers=(scheduler,))
        return codes(LoopHistory(snapshots=[SNAPSHOT], rates=rates, steps=100, ended=True))

    assert found() == [] and found(steps=0) == ["RVN-L15"]
    assert found(stepped_first=True) == ["RVN-L14"]
    assert found(steps=10, length=10) == [] and found(steps=50, length=10) == []  # of a warm-up
    assert found(steps=50, length=10, rises_past_end=True) == ["RVN-L16"]


def test_a_plan_that_is_not_over_is_a_fault_only_where_it_counts_something_else():
    def severity(losses=320, **settings):
        scheduler = SchedulerState(
            **{"kind": "OneCycleLR", "steps": 20, "stepped_first": False, "optimizer_steps": 320}
            | settings
        )
        rates = LearningRates(schedulers=(scheduler,), last_fall=8)
        history = LoopHistory(snapshots=[SNAPSHOT], rates=rates, steps=320, ended=True)
        history.loss.summary.count = losses
        found = [f for r in LOOP_RULES if r.code == "RVN-L32" for f in r.findings(history)]
        return "".join(f.severity for f in found)

    assert severity(length=320) == severity(length=330) == "warning"
    assert severity(length=300) == "note"  # may be epochs of a loop that was stopped early
    assert severity(length=60) == "note" and severity(length=39) == severity(length=None) == ""
    assert severity(length=1280, losses=1280, steps=320) == "warning"  # a plan in batches
    assert severity(length=1280, steps=320) == "note"
    assert severity(length=300, steps=150) == ""


def test_a_head_only_optimizer_is_noted_if_the_rest_is_trained_and_an_error_if_it_is_random():
    def found(**settings):
        settings = {"shape": (4, 4), "received_gradient": True, **settings}
        body = WatchedParameter(name="body", **settings)
        head = WatchedParameter(name="head", shape=(4, 4), received_gradient=True, optimizer=0)
        model = ModelHistory(parameters=(body, head))
        (finding,) = [
            f
            for rule in LOOP_RULES
            if rule.code == "RVN-L05"
            for f in rule.findings(LoopHistory(snapshots=[SNAPSHOT], model=model, steps=8))
        ]
        return finding.severity

    assert found() == "note" and found(default_initialized=True) == "error"
