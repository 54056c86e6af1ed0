"""Schedules: torch's where it has them, closed forms elsewhere; and independence of networks."""

import dataclasses
import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from ravine.catalog import named_recipe
from ravine.early_stopping import EarlyStopping
from ravine.errors import RecipeError
from ravine.part import field_types, is_number, stack
from ravine.protocols import Plan, ReactiveSchedule
from ravine.schedules import (
    ALL,
    SGDR,
    Constant,
    Cosine,
    Coslog4,
    Cyclical,
    EveryK,
    Exponential,
    FlatCosine,
    InverseSqrt,
    InverseTime,
    Linear,
    OneCycle,
    Polynomial,
    ReduceOnPlateau,
    StepDecay,
    WarmUp,
    WarmupStableDecay,
)
from ravine.training.train import train

PLAN = Plan(steps=120, per_epoch=6)


def steps(plan=PLAN):
    return torch.arange(plan.steps, dtype=torch.float64)[None]


def factors(schedule, plan=PLAN):
    return schedule.factor(steps(plan), plan)[0]


def torchs(make, plan=PLAN, *, lr=1.0, every=1):
    """The learning rates of a torch scheduler that is stepped after every update, or once in
    `every`.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, found = make(optimizer), []
    for step in range(plan.steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            with warnings.catch_warnings():  # the closed forms of torch warn about each other
                warnings.simplefilter("ignore")
                scheduler.step()
    return torch.tensor(found, dtype=torch.float64)


CASES = {
    "step": (
        StepDecay(milestones=(0.25, 0.5), gamma=0.3),
        lambda o: lr_scheduler.MultiStepLR(o, [30, 60], gamma=0.3),
    ),
    "step by epochs": (
        StepDecay(milestones=(3, 10, 15), gamma=0.3),
        lambda o: lr_scheduler.MultiStepLR(o, [18, 60, 90], gamma=0.3),
    ),
    "linear": (Linear(minimum=0.2), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, total_iters=120)),
    "polynomial": (Polynomial(power=1.7), lambda o: lr_scheduler.PolynomialLR(o, 120, power=1.7)),
    "cosine": (Cosine(minimum=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 120, eta_min=0.1)),
    "cyclical": (
        Cyclical(epochs=2.5, minimum=0.1),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=15, cycle_momentum=False),
    ),
    "triangular2": (
        Cyclical(epochs=2.0, minimum=0.1, form="triangular2"),
        lambda o: lr_scheduler.CyclicLR(
            o, 0.1, 1.0, step_size_up=12, mode="triangular2", cycle_momentum=False
        ),
    ),
    "one cycle": (
        OneCycle(rise=0.25, div=20.0, final_div=300.0),
        lambda o: lr_scheduler.OneCycleLR(
            o,
            1.0,
            total_steps=121,
            pct_start=0.25,
            div_factor=20.0,
            final_div_factor=300.0,
            cycle_momentum=False,
        ),
    ),
    "restarts": (
        SGDR(epochs=2.0, times=2.0, minimum=0.05),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 12, T_mult=2, eta_min=0.05),
    ),
    "equal restarts": (
        SGDR(epochs=3.0, times=1.0),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 18, T_mult=1),
    ),
    "warm-up": (
        WarmUp(epochs=3.0, first=0.1, then=Cosine()),
        lambda o: lr_scheduler.ChainedScheduler(
            [
                lr_scheduler.CosineAnnealingLR(o, 120),
                lr_scheduler.LinearLR(o, 0.1, 1.0, total_iters=18),
            ]
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name):
    schedule, make = CASES[name]
    expected = torchs(make)
    plan = PLAN
    if (
        name == "one cycle"
    ):  # torch is stepped once more than there are updates, so its run is one longer
        plan = Plan(steps=121, per_epoch=6)
    found = factors(schedule, plan)[:120]
    # torch multiplies its way through a run, so its own rounding adds up
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_once_an_epoch_schedules_equal_torchs_step_and_exponential():
    expected = torchs(lambda o: lr_scheduler.StepLR(o, 4, gamma=0.5), every=6)
    torch.testing.assert_close(factors(EveryK(epochs=4.0)), expected, rtol=1e-12, atol=0)
    expected = torchs(lambda o: lr_scheduler.ExponentialLR(o, math.exp(-0.3)), every=6)
    torch.testing.assert_close(factors(Exponential(k=0.3))[::6], expected[::6], rtol=1e-12, atol=0)


def test_closed_forms():
    s, found = steps()[0], factors
    ones = torch.ones(120, dtype=torch.float64)
    same = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)  # noqa: E731
    same(found(Constant()), ones)
    same(found(InverseTime(k=0.7)), 1 / (1 + 0.7 * s / 6))
    same(found(Coslog4()), 0.5 * (1 - torch.cos(2 * math.pi * torch.log2(1 + 15 * s / 120))))
    same(
        found(FlatCosine()),
        torch.where(s < 60, ones, 0.5 * (1 + torch.cos(math.pi * (s - 60) / 60))),
    )
    same(found(InverseSqrt(epochs=2.0)), torch.where(s < 12, (s + 1) / 12, (12 / (s + 1)).sqrt()))
    rest = ((s - 96) / 24).clamp(0, 1)
    up = ((s + 1) / 12).clamp(max=1)
    same(
        found(WarmupStableDecay(warmup=0.1, cooldown=0.2, minimum=0.1)),
        up * (0.1 + 0.9 * (1 - rest)),
    )
    same(found(WarmupStableDecay(warmup=0.1, cooldown=0.2, form="sqrt")), up * (1 - rest.sqrt()))
    same(found(WarmUp(steps=10, first=0.0)), (s / 10).clamp(max=1))


def test_a_warm_up_multiplies_what_it_wraps_and_the_clock_is_the_runs():
    inner = EveryK(epochs=1.0)
    torch.testing.assert_close(
        factors(WarmUp(epochs=0.5, first=0.5, then=inner))[3:], factors(inner)[3:]
    )
    assert factors(WarmUp(epochs=0.5, first=0.25, then=inner))[0] == 0.25


def test_warm_restarts_fall_on_their_step():
    for plan, schedule in [
        (Plan(3000, 7), SGDR(epochs=3.0, times=2.0)),
        (Plan(2000, 10), SGDR(epochs=0.7, times=1.0)),
        (Plan(4000, 5), SGDR(epochs=1.0, times=3.0)),
    ]:
        found = factors(schedule, plan)
        restarts, length = [], schedule.epochs * plan.per_epoch
        at = length
        while at < plan.steps:
            restarts.append(round(at))
            length *= schedule.times
            at += length
        jumps = (torch.nonzero(found[1:] > found[:-1]).flatten() + 1).tolist()
        assert jumps == restarts
        torch.testing.assert_close(found[restarts], torch.ones(len(restarts), dtype=torch.float64))


# On a plateau


@pytest.mark.parametrize("form", ["relative", "absolute"])
@pytest.mark.parametrize("negated", [False, True])
def test_reduces_where_torch_does_decision_by_decision(form, negated):
    generator = torch.Generator().manual_seed(5)
    settings = [
        dict(gamma=0.5, patience=2.0, cooldown=0.0, minimum=0.0, threshold=1e-4),
        dict(gamma=0.1, patience=0.0, cooldown=3.0, minimum=0.001, threshold=0.05),
        dict(gamma=0.3, patience=5.0, cooldown=1.0, minimum=0.2, threshold=0.0),
    ]
    # a score that falls, then wanders; sometimes not a number
    scores = (
        torch.exp(-torch.arange(150) / 20.0)[:, None]
        + 0.05 * torch.randn(150, 3, generator=generator).abs()
        + 0.1
    )
    scores = scores.double()
    scores[torch.rand(150, 3, generator=generator) < 0.05] = math.nan
    schedule = stack([ReduceOnPlateau(form=form, **s) for s in settings])
    assert isinstance(schedule, ReactiveSchedule)
    state, found = schedule.start(3), []
    for score in scores:
        state = schedule.observe((-1 / score if negated else score)[:, None], state)
        found.append(state["factor"][:, 0])
    for i, s in enumerate(settings):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        twin = lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode="max" if negated else "min",
            factor=s["gamma"],
            patience=int(s["patience"]),
            cooldown=int(s["cooldown"]),
            min_lr=s["minimum"],
            threshold=s["threshold"],
            threshold_mode=form[:3],
            eps=0.0,
        )
        expected = []
        for score in scores[:, i].tolist():
            twin.step(1 / score if negated else score)
            expected.append(optimizer.param_groups[0]["lr"])
        assert torch.stack(found)[:, i].tolist() == expected
    assert (torch.stack(found)[-1] < 1).all()


def test_a_warm_up_hands_the_score_on():
    schedule = WarmUp(then=ReduceOnPlateau(patience=0.0, gamma=0.5))
    state = schedule.start(2)
    for _ in range(2):
        state = schedule.observe(torch.ones(2, 1), state)
    assert state["factor"].tolist() == [[0.5], [0.5]]
    quiet = WarmUp(then=Cosine())
    assert quiet.observe(torch.ones(2, 1), quiet.start(2)) == {}


@pytest.mark.parametrize("on", ["loss", "score", None])
@pytest.mark.parametrize("stop", [None, EarlyStopping(on="score", patience=1000)])
@pytest.mark.parametrize("warm", [False, True])
def test_a_run_reduces_by_the_value_that_is_named(on, stop, warm):
    """As torch's ReduceLROnPlateau, given the run's own validation losses or accuracies."""
    schedule = ReduceOnPlateau(patience=1.0, gamma=0.5, on=on)
    changes = dict(
        stop=stop, seeds=2, schedule=WarmUp(steps=1, then=schedule) if warm else schedule
    )
    recipe = named_recipe("plain").vary("data.source", "wine").vary("epochs", 16)
    record = train(dataclasses.replace(recipe, **changes)).record
    by_score = on == "score" or (on is None and stop is not None)
    seen = record.series["validation/accuracy" if by_score else "validation/loss"]
    rates = record.series["lr"]
    for member in range(2):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        mode = "max" if by_score else "min"
        twin = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, factor=0.5, patience=1)
        after = {0: 0.1}
        for step, value in zip(seen.steps, seen.values[:, member], strict=True):
            twin.step(value)
            after[step] = optimizer.param_groups[0]["lr"]
        expected = [after[max(s for s in after if s < step)] for step in rates.steps[1:]]
        assert rates.values[1:, member].tolist() == pytest.approx(expected, rel=1e-12)
        assert expected[-1] < 0.1


# The battery


def varied(cls, share):
    """A part with each Number a little different, within its bounds."""
    part = cls()
    bounds = {f.name: f.metadata.get("bounds", {}) for f in dataclasses.fields(cls)}
    values = {
        n: getattr(part, n) * share for n, hint in field_types(cls).items() if is_number(hint)
    }
    return dataclasses.replace(
        part, **{n: max(v, bounds[n].get("ge", v)) for n, v in values.items()}
    )


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("plan", [PLAN, Plan(1, 1), Plan(7, 7), Plan(513, 19)], ids=str)
def test_finite_and_not_negative_in_the_run_and_after_it(cls, plan):
    found = cls().factor(torch.arange(plan.steps + 300, dtype=torch.float64)[None], plan)
    assert found.dtype == torch.float64 and found.shape == (1, plan.steps + 300)
    assert found.isfinite().all() and (found >= 0).all() and (found <= 1 + 1e-12).all()
    assert (found[0, plan.steps :] == found[0, plan.steps]).all()


@pytest.mark.parametrize("cls", ALL)
def test_starts_right(cls):
    first = {
        OneCycle: 1 / 25,
        Cyclical: 0.1,
        InverseSqrt: 1 / 6,
        Coslog4: 0.0,
        WarmUp: 0.01,
        WarmupStableDecay: 1 / 6,
    }
    assert float(factors(cls())[0]) == pytest.approx(first.get(cls, 1.0), abs=1e-12)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("count", [1, 7, 120, 256])
def test_a_network_gets_the_same_bits_alone_and_in_a_cohort(cls, count):
    parts = [varied(cls, share) for share in (1.0, 0.9, 0.7, 0.5, 0.3)]
    if cls is WarmUp:
        parts = [
            WarmUp(epochs=p.epochs, first=p.first, then=Polynomial(power=1 + i))
            for i, p in enumerate(parts)
        ]
    at = torch.arange(count, dtype=torch.float64)[None]
    together = stack(parts).factor(at, PLAN).expand(5, -1)
    for i, alone in enumerate(parts):
        assert torch.equal(alone.factor(at, PLAN)[0], together[i])
        assert torch.equal(stack([alone]).factor(at, PLAN)[0], together[i])
    # and whatever other steps are worked out with it
    assert torch.equal(
        stack(parts).factor(at[:, count // 2 :], PLAN).expand(5, -1), together[:, count // 2 :]
    )


def test_powers_have_the_same_bits_wherever_they_stand():
    # torch.pow has not: with it some 3 in 1,000 of these differ
    parts = [EveryK(epochs=0.5, gamma=0.1 + 0.02 * i) for i in range(40)]
    at = torch.arange(117, dtype=torch.float64)[None]
    together = stack(parts).factor(at, PLAN)
    for i, alone in enumerate(parts):
        assert torch.equal(
            torch.cat([alone.factor(at[:, s : s + 1], PLAN) for s in range(117)], 1)[0], together[i]
        )


@pytest.mark.parametrize(
    "cls", [c for c in ALL if any(is_number(h) for h in field_types(c).values())]
)
def test_columns_give_each_network_its_own_schedule(cls):
    if cls is ReduceOnPlateau:
        return  # its factor is in its state: tested above
    together = stack([varied(cls, 1.0), varied(cls, 0.5)]).factor(steps(), PLAN)
    assert together.shape == (2, 120)
    if cls not in (Linear, Cosine):  # their one Number is 0 by default
        assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("cls", [c for c in ALL if c is not Constant])
def test_says_what_it_does(cls):
    assert cls.acts.name == ("warm-up" if cls is WarmUp else "schedule")
    if cls is not ReduceOnPlateau:
        assert factors(cls()).max() > factors(cls()).min()


def test_settings_out_of_range_are_refused():
    with pytest.raises(RecipeError, match="SGDR.times is 0.5"):
        SGDR(times=0.5)
    with pytest.raises(RecipeError, match="shares of one run"):
        WarmupStableDecay(warmup=0.6, cooldown=0.6)
    with pytest.raises(RecipeError, match="milestones"):
        StepDecay(milestones=(0.5, 30.0))
    with pytest.raises(RecipeError, match="those below 1 are fractions of the run"):
        StepDecay(milestones=(0.5, 30.0))
    with pytest.raises(RecipeError, match="more than 0"):
        StepDecay(milestones=(-1,))
