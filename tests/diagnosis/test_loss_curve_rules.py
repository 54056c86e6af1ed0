"""Tests of the loss curve: rarely wrong on healthy runs, by simulation, and sure of real faults."""

import math

import numpy as np
import pytest

from ravine.diagnosis.registry import LOSS_CURVE_RULES
from ravine.diagnosis.training_loop import rules_loss_curve
from ravine.diagnosis.training_loop.history import (
    LearningRates,
    LoopHistory,
    LossHistory,
    LossSummary,
    ModelHistory,
)

LENGTHS = (200, 500, 1500)
CONSTANT = 1.1  # the loss of the best constant answer
RUNS = 125  # of each of eight families: a thousand


def flat(rng, n):
    """As of a network that went on from where another run had ended."""
    return 0.5 + 0.1 * rng.standard_normal(n)


def slow(rng, n):
    return (
        0.8 * np.exp(-np.arange(n) / (n * rng.uniform(0.3, 2)))
        + 0.3
        + rng.uniform(0.02, 0.3) * rng.standard_normal(n)
    )


def fast(rng, n):
    return (
        1.1 * np.exp(-np.arange(n) / (n * rng.uniform(0.01, 0.1)))
        + 0.3
        + 0.1 * rng.standard_normal(n)
    )


def heavy_tails(rng, n):
    return 0.5 + 0.1 * np.abs(rng.standard_t(2.5, n))


def skewed(rng, n):
    return 0.4 * np.exp(0.8 * rng.standard_normal(n))


def game(rng, n):
    """Up and down about one level, with a period of up to a quarter of the run."""
    turns = 2 * math.pi * (np.arange(n) / rng.uniform(10, n / 4) + rng.uniform())
    return 0.8 + rng.uniform(0.1, 0.6) * np.sin(turns) + 0.1 * rng.standard_normal(n)


def with_memory(rng, n):
    """Each loss is like the one before, as where batches come in an order."""
    kept, noise, x = rng.uniform(0.5, 0.99), rng.standard_normal(n), 0.0
    values = []
    for e in noise:
        x = kept * x + math.sqrt(1 - kept**2) * e
        values.append(0.5 * math.exp(0.3 * x))
    return np.array(values)


def restarts(rng, n):
    since = np.arange(n) % (n / rng.integers(2, 8))
    return 0.3 + 0.8 * np.exp(-since / (n / 50)) + 0.05 * rng.standard_normal(n)


HEALTHY = (flat, slow, fast, heavy_tails, skewed, game, with_memory, restarts)


def found(values, *, low_rate_from=None, kind="NllLoss", constant=CONSTANT, moved=1.0, first=None):
    """The codes found when the losses are reported one by one and tested as in a watched loop."""
    loss = LossHistory(
        kind=kind, baseline=constant, baseline_error=0.01, first=[first or values[0]]
    )
    rates = LearningRates(highest=1.0, now=1.0)
    model = ModelHistory(relative_distance=moved)
    history = LoopHistory(loss=loss, rates=rates, model=model)
    codes, due = set(), 64
    for i, value in enumerate(values.tolist()):
        loss.summary.add(value)
        history.steps, history.ended = i + 1, i + 1 == len(values)
        if low_rate_from is not None and i >= low_rate_from:
            rates.now, rates.steps_below_hundredth = 5e-3, i + 1 - low_rate_from
        if i + 1 == due or history.ended:
            due *= 2
            rules = [r for r in LOSS_CURVE_RULES if history.has(r.needs)]
            codes |= {rule.code for rule in rules if rule.findings(history)}
    return codes


def test_healthy_losses_are_called_ill_at_most_in_one_run_of_twenty():
    rng = np.random.default_rng(1)
    wrong = {
        f.__name__: sum(bool(found(f(rng, int(rng.choice(LENGTHS))))) for _ in range(RUNS))
        for f in HEALTHY
    }
    assert sum(wrong.values()) <= 0.05 * RUNS * len(HEALTHY), wrong
    assert max(wrong.values()) <= 0.05 * RUNS, wrong  # in no family either


def test_a_schedule_that_ends_early_is_no_fault_while_the_loss_falls():
    rng = np.random.default_rng(2)
    falls = [
        np.linspace(1.0, 0.3, n) + 0.05 * rng.standard_normal(n)
        for n in (300, 600)
        for _ in range(40)
    ]
    assert sum("RVN-T09" in found(v, low_rate_from=len(v) // 5) for v in falls) <= 0.05 * len(falls)


def rises(rng, n):
    return np.exp(np.linspace(0, 3, n)) + 0.2 * rng.standard_normal(n)


def jumps_at_once(rng, n):
    values = 30 + 5 * rng.standard_normal(n)
    values[0] = 1.1
    return values


def explodes_and_returns(rng, n):
    """Rises to 1e8 times at once and falls back to its start."""
    return 1.1 + 10 ** (8 - np.linspace(0, 9, n)) + 0.1 * rng.standard_normal(n)


def at_chance(rng, n):
    return CONSTANT + 0.02 + 0.1 * rng.standard_normal(n)


def jumpy(rng, n):
    values = flat(rng, n)
    for at in (n - 150, n - 60):
        values[at : at + 12] += 20
    return values


@pytest.mark.parametrize(
    ("family", "code", "settings"),
    [
        (rises, "RVN-T03", {}),
        (jumps_at_once, "RVN-T03", {}),
        (explodes_and_returns, "RVN-T03", {"moved": 101.0, "first": 1.1}),
        (at_chance, "RVN-T02", {}),
        (at_chance, "RVN-T09", {"low_rate_from": 60}),
        (jumpy, "RVN-T04", {}),
    ],
)
def test_faults_are_seen(family, code, settings):
    rng = np.random.default_rng(3)
    assert sum(code in found(family(rng, 512), **settings) for _ in range(40)) >= 36


def test_large_losses_without_exploded_weights_are_none():
    values = explodes_and_returns(np.random.default_rng(3), 512)
    assert "RVN-T03" not in found(values, moved=99.0, first=1.1, constant=None)
    assert "RVN-T03" not in found(np.minimum(values, 90.0), moved=101.0, first=1.1, constant=None)


def test_other_losses_may_grow_a_hundredfold():
    rng = np.random.default_rng(4)
    assert found(rises(rng, 512), kind="MseLoss", constant=None) == set()


def test_where_several_optimizers_step_nothing_is_said():
    history = LoopHistory(single_optimizer=False)
    for _ in range(100):
        history.loss.summary.add(1.0)
    assert history.has("losses") is None and history.has("baseline") is None


def test_the_parts_of_the_budget_do_not_exceed_it():
    spent = sum(rules_loss_curve.significance(64 * 2**j) for j in range(60))
    assert 0.9 * 0.05 < len(LOSS_CURVE_RULES) * spent <= 0.05


def test_a_summary_takes_constant_memory_and_keeps_the_means():
    summary, values = LossSummary(), np.random.default_rng(5).standard_normal(200_000)
    for value in values.tolist():
        summary.add(value)
    assert len(summary.means) < 256 and len(summary.recent) == 256 and summary.count == len(values)
    whole = values[: len(summary.means) * summary.width].reshape(-1, summary.width).mean(1)
    np.testing.assert_allclose(summary.means, whole, atol=1e-12)
    np.testing.assert_allclose(
        summary.stretch_means(2, since=100_000)[0],
        whole[len(whole) // 2 :][: len(whole) // 4].mean(),
        atol=0.01,
    )
