"""Checks before training: against closed forms, and against recipes broken on purpose."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ravine import catalog, losses
from ravine.cli import run_command
from ravine.data import Examples
from ravine.data.examples import evenly_spaced
from ravine.diagnosis.recipe_rules import (
    ChangedRun,
    FirstSteps,
    GradientError,
    OverfitAttempt,
    PenaltyEffect,
    RecipeProfile,
    SmallBatchFit,
)
from ravine.diagnosis.registry import RECIPE_RULES, START_RULES
from ravine.diagnosis.rule import run_rules
from ravine.examination import first_steps as first_steps_module
from ravine.examination import gradient_check, preflight
from ravine.examination.api import check, quick_check
from ravine.examination.first_steps import measure_first_steps
from ravine.examination.preflight import check_recipe, profile_recipe_start
from ravine.examination.preflight_checks import (
    measure_gradient,
    measure_penalties,
    overfit_small_batch,
    penalty_by_formula,
)
from ravine.examination.recipe_changes import apply_changes
from ravine.examination.recipe_module import module_inputs, recipe_module
from ravine.finding import Change, Report
from ravine.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    Huber,
    SoftmaxCrossEntropy,
    SquaredError,
)
from ravine.networks import activations
from ravine.networks.activations import Identity, ReLU, Sigmoid, Tanh
from ravine.networks.initializers import Constant, He, LeCun, Normal, Zero
from ravine.networks.layer_parts import BatchNorm, Dropout, LayerNorm
from ravine.networks.torch_module import TorchModule
from ravine.old_names import RETIRED_CODES
from ravine.optimizers import SGD, AdamW, Lookahead, Rprop
from ravine.part import part
from ravine.penalties import L1, L2, ElasticNet
from ravine.recipe import lr_path
from ravine.schedules import Cosine, Exponential, OneCycle, StepDecay
from ravine.training import compiled_steps
from ravine.training.defaults import prepare
from ravine.training.evaluation import constant_loss, starting_losses
from ravine.training.train import train_on


def plain(source="iris", **changes):
    recipe = catalog.plain().vary("data.source", source)
    for path, value in changes.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    return recipe


def classes(counts):
    return Examples(
        torch.zeros(sum(counts), 1),
        targets=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
    )


def test_the_best_constant_has_the_loss_of_the_entropy():
    counts = [7, 2, 1]
    share = np.array(counts) / 10
    assert constant_loss(SoftmaxCrossEntropy(), classes(counts), 3) == pytest.approx(
        -(share * np.log(share)).sum()
    )
    one = Examples(torch.zeros(10, 1), targets=torch.tensor([[1.0]] * 3 + [[0.0]] * 7))
    assert constant_loss(BinaryCrossEntropy(), one, 1) == pytest.approx(
        -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    )


def test_smoothing_is_in_the_best_constant():
    examples, loss = classes([6, 3, 1]), SoftmaxCrossEntropy(label_smoothing=0.2)
    q = 0.8 * np.array([0.6, 0.3, 0.1]) + 0.2 / 3
    assert constant_loss(loss, examples, 3) == pytest.approx(-(q * np.log(q)).sum())


def test_numbers_have_half_their_variance_and_the_spread_around_the_median():
    y = torch.tensor([[1.0], [2.0], [4.0], [9.0]])
    examples = Examples(torch.zeros(4, 1), targets=y)
    assert constant_loss(SquaredError(), examples, 1) == pytest.approx(
        0.5 * float(y.double().var(correction=0))
    )
    assert constant_loss(AbsoluteError(), examples, 1) == pytest.approx(float((y - 3).abs().mean()))
    assert constant_loss(Huber(delta=100.0), examples, 1) == pytest.approx(
        constant_loss(SquaredError(), examples, 1)
    )


# The first loss


@pytest.mark.parametrize(
    ("source", "level"), [("iris", math.log(3)), ("digits", math.log(10)), ("moons", math.log(2))]
)
def test_a_zero_output_layer_starts_at_chance_exactly(source, level):
    task, recipe = prepare(plain(source, network__zero_output=True))
    found = starting_losses(recipe, task, 16)
    assert found == pytest.approx(np.full(16, level), rel=1e-6)
    assert profile_recipe_start(recipe, task).first_loss.value == pytest.approx(level, rel=1e-6)
    assert "RVN-I13" in quick_check(recipe, task).checks.passed


def test_small_outputs_cost_half_their_variance():
    sd = 0.02
    task, recipe = prepare(plain("digits", network__initializer=Normal(sd=sd), network__hidden=()))
    found = starting_losses(recipe, task, 256) - math.log(10)
    x = task.train_examples.numbers.double()
    expected = 0.5 * sd**2 * float(x.square().sum(1).mean()) * (1 - 1 / 10)
    error = found.std(ddof=1) / 16
    assert found.mean() - 3 * error < expected < found.mean() + 3 * error < 2 * expected


@pytest.mark.parametrize("source", ["iris", "iris", "diabetes"])
def test_large_weights_make_a_first_loss_that_is_named(source):
    found = start_findings(source, network__initializer=Normal(sd=3.0))["RVN-I13"]
    assert (found.severity, found.cause, found.where) == ("warning", "initialization", "hidden.0")
    assert found.evidence[0].value > found.evidence[0].limit


@pytest.mark.parametrize("field", ["numbers", "targets"])
def test_numbers_that_are_not_finite_are_named_before_training(field):
    task, recipe = prepare(plain("diabetes"))
    getattr(task.train, field)[0, 0] = torch.nan
    found = next(f for f in quick_check(recipe, task).findings if f.code == "RVN-I12")
    assert (found.severity, found.confidence) == ("error", "exact")
    assert found.cause == "data-degenerate" and "not finite" in found.title


def test_weights_that_start_without_bound_are_named():
    task, recipe = prepare(plain("diabetes", network__initializer=Normal(sd=1e30)))
    found = next(f for f in quick_check(recipe, task).findings if f.code == "RVN-I12")
    assert found.cause == "initialization" and "exploding" in found.suspects


# The penalty


@pytest.mark.parametrize(
    "penalty",
    [
        L2(strength=0.01),
        L2(strength=0.01, form="half"),
        L2(strength=0.01, form="norm"),
        L1(strength=0.01),
        ElasticNet(strength=0.01, ratio=0.3),
    ],
    ids=repr,
)
def test_penalties_raise_the_loss_by_their_formula(penalty):
    task, recipe = prepare(plain(penalties=(penalty,)))
    effect = measure_penalties(recipe, task)
    assert effect.rises and effect.difference < 1e-12 and effect.added[0] > 0
    assert recipe_findings(penalty=effect) == []


def recipe_findings(**measured):
    """What is found in measurements of a recipe."""
    profile = RecipeProfile(**measured)
    return run_rules([r for r in RECIPE_RULES if r.needs in measured], profile)[0]


def test_the_closed_form_is_numpys():
    a, b = (
        np.random.default_rng(0).normal(size=(2, 5, 3)),
        np.random.default_rng(1).normal(size=(2, 4)),
    )
    matrices = [torch.tensor(a).flatten(1), torch.tensor(b)]
    whole = np.concatenate([a.reshape(2, -1), b], 1)
    squared = penalty_by_formula(L2(strength=0.1), matrices)
    np.testing.assert_allclose(squared, 0.1 * (whole**2).sum(1))
    absolute = penalty_by_formula(L1(strength=0.1), matrices)
    np.testing.assert_allclose(absolute, 0.1 * abs(whole).sum(1))


@part
class Forgetful:
    """A penalty that leaves out one weight, and one that does nothing."""

    strength: float = 0.1
    nothing: bool = False

    def value(self, rows, decay_mask):
        return (
            0 * rows[:, :1]
            if self.nothing
            else self.strength * (decay_mask * rows)[:, 1:].square().sum(1, keepdim=True)
        )

    def gradient(self, rows, decay_mask, meter):
        return 2 * self.strength * decay_mask * rows


@pytest.mark.parametrize("penalty", [Forgetful(nothing=True), L2(strength=0.0)])
def test_a_penalty_that_does_nothing_is_found(penalty):
    task, recipe = prepare(plain(penalties=(penalty,)))
    (found,) = recipe_findings(penalty=measure_penalties(recipe, task))
    assert (found.code, found.severity, found.where) == ("RVN-C02", "warning", "penalties")


def test_a_penalty_that_differs_from_its_formula_is_an_error():
    for difference, count in ((1.5e-9, 1), (0.7e-9, 0)):
        effect = PenaltyEffect(added=(1.0,), rises=True, difference=difference)
        found = recipe_findings(penalty=effect)
        assert [f.severity for f in found] == ["error"] * count


def test_without_a_penalty_the_check_does_not_apply():
    task, recipe = prepare(plain(optimizer=AdamW()))
    assert measure_penalties(recipe, task) is None
    assert "RVN-C02" in quick_check(recipe, task).checks.not_applicable


# A small batch


@pytest.mark.parametrize("source", ["iris", "diabetes", "moons"])
def test_a_small_batch_is_overfit_whatever_regularizes(source):
    task, recipe = prepare(
        plain(
            source,
            network__dropout=Dropout(rate=0.5),
            network__norm=BatchNorm(),
            penalties=(L2(strength=1.0),),
        )
    )
    fit = overfit_small_batch(recipe, task)
    assert fit.examples == 16 and [a.lr for a in fit.attempts] == [0.1]
    assert fit.attempts[0].steps < 300 and recipe_findings(small_batch=fit) == []


def test_what_cannot_learn_is_found():
    task, recipe = prepare(plain("iris", optimizer=SGD(lr=1e-7)))
    fit = overfit_small_batch(recipe, task, steps=100)
    assert fit.max_steps == 100 and len(fit.attempts) == 7
    (found,) = recipe_findings(small_batch=fit)
    assert (found.code, found.severity) == ("RVN-C03", "warning")
    task, recipe = prepare(plain("moons", network__hidden=()))  # linear, and the moons are not
    task.train_examples.targets[:] = (torch.arange(task.train.count) % 2).float()[:, None]
    (found,) = recipe_findings(small_batch=overfit_small_batch(recipe, task, steps=100))
    assert (found.cause, found.where) == ("architecture-too-small", "network")


def test_another_rate_that_would_learn_is_named():
    task, recipe = prepare(plain("digits", optimizer=SGD(lr=0.005)))
    (found,) = recipe_findings(small_batch=overfit_small_batch(recipe, task, steps=160))
    assert (found.severity, found.cause) == ("note", "learning-rate-low")
    assert "only at 10 times the learning rate" in found.title
    assert (
        "at a learning rate of 0.05; at 0.005, 160 steps are not enough" in found.evidence[0].text
    )


@pytest.mark.parametrize(
    ("least", "own", "cause"),
    [
        (0.3, 0.7, "learning-rate-low"),
        (0.7, 0.9, "architecture-too-small"),  # learned less than half
        (0.3, 0.35, "architecture-too-small"),  # the recipe's own rate learns as much
    ],
)
def test_a_rate_far_away_is_named_if_it_alone_learns_half(least, own, cause):
    rates = [(1.0, own), (0.1, 1.0), (10.0, 0.8), (100.0, least)]
    attempts = tuple(
        OverfitAttempt(lr=0.01 * factor, factor=factor, steps=math.inf, least_losses=(loss, 2.0))
        for factor, loss in rates
    )
    fit = SmallBatchFit(
        examples=16, constant_loss=1.0, max_steps=600, lr_path="optimizer.lr", attempts=attempts
    )
    (found,) = recipe_findings(small_batch=fit)
    assert found.cause == cause and found.evidence[0].limit == 0.02


def test_the_least_loss_is_that_of_the_worst_network_and_its_rate_is_given():
    """One network of two that learns the batch is not enough: the number is above its limit."""
    own = OverfitAttempt(lr=1000.0, factor=1.0, steps=math.inf, least_losses=(1.5, math.inf))
    low = OverfitAttempt(lr=1.0, factor=0.001, steps=math.inf, least_losses=(3e-5, 0.4))
    fit = SmallBatchFit(
        examples=16, constant_loss=1.0, max_steps=600, lr_path="optimizer.lr", attempts=(own, low)
    )
    (found,) = recipe_findings(small_batch=fit)
    (evidence,) = found.evidence
    assert found.title == "a small batch is learned only in part, at 0.001 times the rate"
    assert evidence.value == 0.4 and evidence.limit == 0.02
    assert evidence.text.startswith("at a learning rate of 1, the worst of 2 networks; the best")


@pytest.mark.parametrize(("slowest", "found"), [(0.09, 0), (0.11, 1)])
def test_a_network_that_is_a_little_behind_one_that_learned_the_batch_is_no_fault(slowest, found):
    own = OverfitAttempt(lr=0.01, factor=1.0, steps=math.inf, least_losses=(3e-5, slowest))
    fit = SmallBatchFit(
        examples=16, constant_loss=1.0, max_steps=600, lr_path="optimizer.lr", attempts=(own,)
    )
    assert len(recipe_findings(small_batch=fit)) == found


@pytest.mark.parametrize(("factor", "severity"), [(10.0, "note"), (14.0, "warning")])
def test_only_a_rate_that_is_far_off_is_a_warning(factor, severity):
    attempts = tuple(
        OverfitAttempt(lr=0.01 * k, factor=k, steps=steps, least_losses=(0.5,))
        for k, steps in ((1.0, math.inf), (factor, 90.0))
    )
    fit = SmallBatchFit(
        examples=16, constant_loss=1.0, max_steps=600, lr_path="optimizer.lr", attempts=attempts
    )
    (found,) = recipe_findings(small_batch=fit)
    assert (found.severity, found.changes[0].value) == (severity, 0.01 * factor)


def test_equal_inputs_count_once():
    task, recipe = prepare(plain("iris"))
    task.train_examples.numbers[:] = task.train_examples.numbers[:1]
    assert overfit_small_batch(recipe, task) is None


# The first steps


def first_steps(source="iris", **changes):
    """What a recipe's first steps show, and the findings of it."""
    task, recipe = prepare(plain(source, **changes))
    found = measure_first_steps(recipe, task)
    return found, recipe_findings(first_steps=found)


EARLY_DECAY = {"schedule": Exponential(k=5.0), "optimizer": SGD(lr=0.05)}


@pytest.mark.parametrize(
    ("source", "changes", "cause", "path"),
    [
        ("friedman1", {"optimizer__lr": 2.0}, "learning-rate-high", "optimizer.lr"),
        ("wine", {"optimizer__lr": 5.0}, "learning-rate-high", "optimizer.lr"),
        ("iris", {"penalties": (L2(strength=3.0),)}, "over-regularized", "penalties"),
        ("wine", {"optimizer": AdamW(lr=0.01, weight_decay=90.0)}, "over-regularized", None),
        ("iris", {"epochs": 1, "optimizer": AdamW(lr=0.003)}, "too-few-steps", "epochs"),
        ("breast_cancer", {"batch": "all", "epochs": 20, "optimizer__lr": 0.003}, None, "epochs"),
        ("wine", EARLY_DECAY, "schedule", "schedule"),
        ("wine", {"schedule": StepDecay(milestones=(1.0,), gamma=1e-4)}, "schedule", None),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_what_keeps_a_recipe_from_learning_is_named(source, changes, cause, path):
    if cause == "schedule":
        changes = {**changes, "optimizer": SGD(lr=0.01)}
    _, (finding,) = first_steps(source, **changes)
    assert (finding.code, finding.severity) == ("RVN-C16", "warning")
    assert cause in (None, finding.cause) and path in (None, finding.where)
    assert finding.changes and finding.changes[0].path == finding.where


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("iris", {}),
        ("wine", {"penalties": (L2(strength=1e-3),)}),
        ("penguins", {"optimizer": Rprop(), "batch": "all"}),  # 30 steps that are enough
        ("iris", {"optimizer": SGD(lr=1e-4)}),  # so slow that nothing is known after its steps
        ("wine", {"schedule": OneCycle(), "epochs": 100}),
    ],
)
def test_a_recipe_that_learns_or_is_slow_is_not_blamed(source, changes):
    found, findings = first_steps(source, **changes)
    blamed = [f for f in findings if f.cause not in ("too-few-steps", "learning-rate-low")]
    assert blamed == [] and (findings == [] or found.is_whole)


def test_nothing_is_named_where_nothing_can_be_learned():
    task, recipe = prepare(plain("iris", epochs=2))
    generator = torch.Generator().manual_seed(0)
    for part_ in (task.train_examples, task.validation):
        part_.targets[:] = torch.randint(0, 3, part_.targets.shape, generator=generator)
    found = measure_first_steps(recipe, task)
    assert found.needs_changes and recipe_findings(first_steps=found) == []


def test_a_change_must_gain_enough_with_every_network():
    about = {"planned": 1000, "useful": 1000, "constant_loss": 1.0, "steps": 100}
    for after, count in (((0.84, 0.8), 1), ((0.86, 0.5), 0), ((math.inf, 0.1), 0)):
        run = ChangedRun(cause="dropout", changes=(Change("a", 1),), steps=100, losses=after)
        first = FirstSteps(**about, losses=(1.0, math.inf), changed=(run,))
        assert len(recipe_findings(first_steps=first)) == count
    whole = dict(about, steps=1000)
    for after, count in (((0.34, 0.3), 1), ((0.36, 0.3), 0)):
        run = ChangedRun(cause="schedule", changes=(Change("a", 1),), steps=100, losses=after)
        first = FirstSteps(**whole, losses=(0.5, 0.6), changed=(run,))
        assert len(recipe_findings(first_steps=first)) == count


def test_the_first_steps_are_those_of_the_whole_run(monkeypatch):
    """The beginning of a cosine over 300 steps, not a cosine over 8; to the last bit by torch."""
    monkeypatch.setattr(compiled_steps, "LEAST_STEPS", 10**9)
    task, recipe = prepare(plain("iris", schedule=Cosine(), epochs=100, seeds=2))
    whole = train_on([task], [recipe])[0].record.series["validation/loss"]
    ((own, _),) = first_steps_module.run_beginnings([(recipe, 8)], task)
    assert own == tuple(whole.values[list(whole.steps).index(8)].tolist())


@pytest.mark.parametrize("source", ["wine", "diabetes"])
def test_targets_in_another_order_are_an_alarm_and_in_their_own_none(source):
    recipe = plain(source, optimizer=AdamW(lr=0.003), epochs=5)
    task, recipe = prepare(recipe)
    cheap = {"first_steps": measure_first_steps}
    assert "RVN-D14" in check_recipe(recipe, task, cheap).checks.passed
    generator = torch.Generator().manual_seed(1)
    for some in (task.train_examples, task.validation):
        some.targets[:] = some.targets[torch.randperm(some.count, generator=generator)]
    found = {f.code: f for f in check_recipe(recipe, task, cheap).findings}["RVN-D14"]
    assert (found.severity, found.cause, found.changes[0].path) == ("warning", "labels", "data")


# The gradient


@pytest.mark.parametrize("source", ["iris", "diabetes", "moons"])
def test_the_gradient_is_that_of_the_loss(source):
    task, recipe = prepare(
        plain(
            source,
            penalties=(L2(strength=0.1),),
            network__norm=BatchNorm(),
            network__dropout=Dropout(rate=0.3),
            network__activation=Tanh(),
        )
    )
    assert measure_gradient(recipe, task).difference < 1e-6
    task, recipe = prepare(plain(source))
    assert recipe_findings(gradient=measure_gradient(recipe, task)) == []


@part
class Halved:
    """A penalty whose gradient is half of what it should be."""

    strength: float = 1.0

    def value(self, rows, decay_mask):
        return self.strength * (decay_mask * rows.square()).sum(1, keepdim=True)

    def gradient(self, rows, decay_mask, meter):
        return self.strength * decay_mask * rows


def test_a_gradient_that_is_off_is_found():
    task, recipe = prepare(plain(penalties=(Halved(),)))
    error = measure_gradient(recipe, task)
    (found,) = recipe_findings(gradient=error)
    assert error.difference > 0.1 and (found.code, found.severity) == ("RVN-C04", "error")


def _flip_one_entry(grads):
    place = grads.abs().argmax(1, keepdim=True)
    return grads.scatter(1, place, -grads.gather(1, place))


@pytest.mark.parametrize(
    "plant",
    [lambda g: 1.001 * g, _flip_one_entry, lambda g: -g, lambda g: g.abs()],
    ids=["a thousandth too long", "one entry's sign", "its sign", "no signs"],
)
@pytest.mark.parametrize("activation", [ReLU(), Tanh(), Sigmoid()], ids=repr)
def test_a_planted_fault_of_the_gradient_is_found(plant, activation, monkeypatch):
    changes = {"network__activation": activation, "network__initializer": Normal(sd=2.0)}
    task, recipe = prepare(plain("iris", **changes))
    assert measure_gradient(recipe, task).difference < 1e-5
    right = gradient_check.loss_and_gradient

    def wrong(*args):
        at = right(*args)
        return lambda weights: (at(weights)[0], plant(at(weights)[1]))

    monkeypatch.setattr(gradient_check, "loss_and_gradient", wrong)
    assert len(recipe_findings(gradient=measure_gradient(recipe, task))) == 1


STARTS = [None, Normal(sd=1e-3), Normal(sd=1.0), Normal(sd=20.0)]


@pytest.mark.parametrize("activation", activations.ALL, ids=lambda kind: kind.__name__)
def test_the_gradient_of_every_activation_is_right_at_any_size_of_the_weights(activation):
    for start in STARTS:
        changes = {} if start is None else {"network__initializer": start}
        small = {"network__hidden": (8,), "network__activation": activation()}
        task, recipe = prepare(plain("iris", **small, **changes))
        assert measure_gradient(recipe, task).difference < 1e-5, start


@pytest.mark.parametrize("loss", losses.ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("start", STARTS, ids=repr)
def test_the_gradient_of_every_loss_is_right_at_any_size_of_the_weights(loss, start):
    source = {"regression": "diabetes", "classes": "iris", "binary": "moons"}[loss.tasks[0]]
    changes = {} if start is None else {"network__initializer": start}
    task, recipe = prepare(plain(source, network__hidden=(8,), loss=loss(), **changes))
    assert measure_gradient(recipe, task).difference < 1e-5


def test_the_slope_at_a_kink_and_of_a_steep_wave_is_found_with_a_small_step():
    """|w| beside its kink, and a sine of a hundred waves, both far from straight at a step of
    1e-4.
    """

    def at(w):
        return w.abs() + torch.sin(600 * w) / 600, w.sign() + torch.cos(600 * w)

    w = torch.tensor([[1e-7], [0.3]], dtype=torch.float64)
    assert bool((gradient_check.difference_errors(at, w, torch.ones_like(w)) < 1e-5).all())
    off = gradient_check.difference_errors(
        lambda w: (at(w)[0], 1.0003 * at(w)[1]), w, torch.ones_like(w)
    )
    torch.testing.assert_close(off, torch.full_like(w, 3e-4), rtol=0.05, atol=0)


def test_where_rounding_hides_the_slope_nothing_is_said():
    """A loss of 1e12 with a slope of 1e-6: no step shows it in float64."""
    at = lambda w: (1e12 + 1e-6 * w, torch.full_like(w, 3e-6))  # noqa: E731
    w = torch.ones(1, 1, dtype=torch.float64)
    assert gradient_check.difference_errors(at, w, torch.ones_like(w)).isinf().all()
    error = GradientError(difference=None, networks=2, examples=32)
    assert RecipeProfile(gradient=error).has("gradient") is False
    assert recipe_findings(gradient=error) == []


def test_a_gradient_may_be_off_by_a_ten_thousandth():
    for difference, count in ((1.4e-4, 1), (0.8e-4, 0)):
        error = GradientError(difference=difference, networks=2, examples=32)
        assert len(recipe_findings(gradient=error)) == count


# The start, by the probes that any torch program gets


def start_findings(source="iris", **changes):
    """What is found of the start, by code."""
    task, recipe = prepare(plain(source, **changes))
    found, checks = run_rules(START_RULES, profile_recipe_start(recipe, task))
    assert checks.failed == () and "RVN-I13" not in checks.not_measured
    return {f.code: f for f in found}


def test_a_linear_network_multiplies_the_signal_by_what_its_weights_say():
    sd, width = 0.02, 100
    linear = {"network__hidden": (width,) * 6, "network__activation": Identity()}
    task, recipe = prepare(plain("iris", **linear, network__initializer=Normal(sd=sd)))
    start = profile_recipe_start(recipe, task)
    assert start.network.flow.depth == 6
    # five layers of one network: each of a hundred units is 7 % off at one sd, all 16 %
    assert start.network.flow.signal ** (1 / 5) == pytest.approx(sd * math.sqrt(width), rel=0.1)


def test_a_signal_that_fades_or_grows_with_depth_is_found():
    linear = {"network__hidden": (100,) * 6, "network__activation": Identity()}
    faded = start_findings("iris", **linear, network__initializer=Normal(sd=0.01))["RVN-I14"]
    assert (faded.severity, faded.where) == ("warning", "hidden.0")
    assert faded.cause == "initialization" and "vanishing" in faded.suspects
    slower = start_findings("iris", **linear, network__initializer=Normal(sd=0.02))["RVN-I14"]
    assert slower.cause == "vanishing"
    grown = start_findings("iris", **linear, network__initializer=Normal(sd=1.0))["RVN-I14"]
    assert grown.severity == "warning" and "exploding" in (grown.cause, *grown.suspects)


@pytest.mark.parametrize(
    "changes",
    [
        {"network__activation": ReLU(), "network__initializer": He()},
        {"network__activation": Tanh(), "network__initializer": LeCun()},
        {
            "network__activation": Tanh(),
            "network__initializer": Normal(sd=0.01),
            "network__norm": LayerNorm(),
        },
        {
            "network__activation": ReLU(),
            "network__initializer": Normal(sd=0.01),
            "network__norm": BatchNorm(),
        },
    ],
    ids=["He", "LeCun", "layer norm", "batch norm"],
)
def test_a_signal_that_is_kept_up_passes(changes):
    assert start_findings("digits", network__hidden=(64,) * 10, **changes) == {}


def test_units_that_never_fire_are_dead_and_live_ones_are_not():
    dead = start_findings("iris", network__bias=Constant(value=-30.0))
    assert dead["RVN-I15"].cause == dead["RVN-I04"].cause == "dead-units"
    assert (dead["RVN-I04"].severity, dead["RVN-I15"].severity) == ("error", "warning")
    assert dead["RVN-I15"].evidence[0].value == 64  # all of the layer
    assert start_findings("iris") == {}
    assert start_findings("iris", network__dropout=Dropout(rate=0.75)) == {}


@pytest.mark.parametrize("activation", [Tanh(), Sigmoid()])
def test_large_weights_saturate_bounded_units(activation):
    large = {"network__activation": activation, "network__initializer": Normal(sd=20.0)}
    found = start_findings("digits", **large)["RVN-I16"]
    assert found.severity == "warning" and "saturation" in (found.cause, *found.suspects)
    assert start_findings("digits", network__activation=activation) == {}


@pytest.mark.parametrize("activation", [Tanh(), Sigmoid()])
@pytest.mark.parametrize("width", [8, 20, 64, 256, 1024])
def test_saturation_is_found_at_any_width(activation, width):
    """At 30 times the usual weights the slope is E 1 / cosh² x of x ~ N(0, 30²), 2.7 % of the
    steepest, or 5.3 % of a sigmoid's: whatever the width.
    """
    network = {"network__hidden": (width, width), "network__activation": activation}
    sd = 30 / math.sqrt(64)
    found = start_findings("digits", **network, network__initializer=Normal(sd=sd))["RVN-I16"]
    assert (found.severity, found.cause) == ("warning", "initialization")
    assert start_findings("digits", **network, network__initializer=LeCun()) == {}


def test_equal_weights_are_equal_units_and_zeros_do_not_move():
    equal = start_findings(network__initializer=Constant(value=0.3))["RVN-I07"]
    assert (equal.severity, equal.confidence, equal.cause) == ("error", "exact", "initialization")
    zeros = start_findings(network__initializer=Zero())["RVN-I06"]
    assert (zeros.severity, zeros.confidence, zeros.cause) == ("error", "exact", "initialization")
    assert start_findings(network__zero_output=True) == {}
    assert start_findings(network__hidden=()) == {}
    assert start_findings(network__hidden=(), network__initializer=Zero()) == {}


class Mixing(nn.Module):
    """Normalizes over the batch by hand, in evaluation too."""

    def __init__(self, signature):
        super().__init__()
        self.linear = nn.Linear(signature.numbers, signature.outputs)

    def forward(self, x):
        y = self.linear(x)
        return y - y.mean(0)


def test_a_module_that_mixes_examples_is_found():
    mixed = start_findings(network=TorchModule(make=Mixing))["RVN-I01"]
    assert (mixed.severity, mixed.confidence) == ("error", "exact")
    for network in (
        TorchModule(make=lambda s: nn.Linear(s.numbers, s.outputs)),
        dataclasses.replace(catalog.plain().network, norm=BatchNorm()),
    ):
        assert start_findings(network=network) == {}


class Shortcut(nn.Module):
    """Adds a small network to its first input, which may be the target."""

    def __init__(self, signature):
        super().__init__()
        self.linear = nn.Linear(signature.numbers, 1)

    def forward(self, x):
        return x[:, :1] + 0.01 * self.linear(x)


def test_a_first_loss_far_below_that_of_guessing_is_noted():
    recipe = plain("diabetes", network=TorchModule(make=Shortcut))
    task, recipe = prepare(recipe)
    for weight, noted in ((0.9, True), (0.1, False)):
        noise = torch.randn(task.train.count, generator=torch.Generator().manual_seed(0))
        known = task.train_examples.targets[:, 0]
        task.train_examples.numbers[:, 0] = weight * known + math.sqrt(1 - weight**2) * noise
        found = run_rules(START_RULES, profile_recipe_start(recipe, task))[0]
        assert [(f.severity, f.cause) for f in found if f.code == "RVN-I13"] == [
            ("note", "leakage")
        ] * noted


def test_layers_without_a_nonlinearity_are_found_and_what_to_change():
    (found,) = quick_check(*reversed(prepare(plain(network__activation=Identity())))).findings
    assert (found.code, found.severity) == ("RVN-S02", "warning")
    assert (found.cause, found.where) == ("hidden-activation", "network.activation")
    assert found.changes == (Change("network.activation", {"name": "ReLU"}),)


class TwoLinear(nn.Module):
    """Two layers without a nonlinearity between them."""

    def __init__(self, signature):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(signature.numbers, 8), nn.Linear(8, signature.outputs))

    def forward(self, x):
        return self.body(x)


def test_layers_of_a_module_without_a_nonlinearity_are_found_by_their_names():
    recipe = plain(network=TorchModule(make=TwoLinear))
    (found,) = quick_check(*reversed(prepare(recipe))).findings
    assert (found.code, found.where) == (
        "RVN-S02",
        "between module.body.0.body.0.weight and module.body.0.body.1.weight",
    )


def test_a_module_that_breaks_alone_fails_the_check_of_its_layers(monkeypatch):
    def broken(*given):
        raise ArithmeticError

    monkeypatch.setattr(preflight, "read_graph", broken)
    report = check(plain("iris"))
    assert report.findings == () and report.checks.failed == ("RVN-S02",)


RETIRED = {  # a recipe that has the fault of a retired code, and the code that it has now
    "RVN-C01": ("RVN-I13", {"network__initializer": Normal(sd=9.0)}),
    "RVN-C05": ("RVN-I01", {"network": TorchModule(make=Mixing)}),
    "RVN-C06": (
        "RVN-I14",
        {"network__hidden": (100,) * 6, "network__initializer": Normal(sd=0.001)},
    ),
    "RVN-C07": ("RVN-I15", {"network__bias": Constant(value=-30.0)}),
    "RVN-C08": (
        "RVN-I16",
        {"network__activation": Tanh(), "network__initializer": Normal(sd=20.0)},
    ),
    "RVN-C09": ("RVN-S02", {"network__activation": Identity()}),
    "RVN-C10": ("RVN-I07", {"network__initializer": Constant(value=0.3)}),
}


@pytest.mark.parametrize("code", RETIRED)
def test_the_fault_of_a_retired_code_is_found_by_the_code_that_it_has_now(code, capsys):
    new, changes = RETIRED[code]
    task, recipe = prepare(plain("iris", **changes))
    assert new in {f.code for f in quick_check(recipe, task).findings}
    assert RETIRED_CODES[code] == new
    assert run_command(["explain", code]) == 0
    assert capsys.readouterr().out.startswith(f"{code} is now {new}.\n\n{new}  ")


def test_every_retired_code_of_recipes_has_an_example():
    assert set(RETIRED) == {code for code in RETIRED_CODES if code.startswith("RVN-C")}


def test_much_dropout_is_noted():
    noted = start_findings("iris", network__dropout=Dropout(rate=0.98))["RVN-I19"]
    assert (noted.severity, noted.cause) == ("note", "dropout")


def test_the_probed_module_is_the_network_of_the_first_seed_before_its_first_step():
    task, recipe = prepare(plain("penguins", seed=3))
    module = recipe_module(recipe, task).eval()
    some = evenly_spaced(task.train, 20)
    outputs = module(module_inputs(some)).detach()
    losses = recipe.loss.per_example(outputs[None], some.targets[None]).mean()
    task = dataclasses.replace(task, train=some)
    known = starting_losses(recipe, task, 1)[0]
    assert float(losses) == pytest.approx(known, rel=1e-5)


def test_looking_leaves_the_random_numbers_as_they_were():
    recipe = plain("iris", network=TorchModule(make=lambda s: nn.Linear(s.numbers, s.outputs)))
    task, recipe = prepare(recipe)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    quick_check(recipe, task)
    measure_gradient(recipe, task)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_learning_rate_of_an_optimizer_around_another_is_the_inner_one():
    recipe = catalog.plain().vary("optimizer", Lookahead())
    assert lr_path(recipe) == "optimizer.inner.lr"


# All of them


def test_streamed_tables_are_checked_too(tmp_path):
    x = np.random.default_rng(0).normal(size=(4000, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=x.sum(1))
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=500)
    recipe = plain(str(tmp_path / "t.parquet"), data__target=("y",), data__memory="50KB")
    found = check(recipe)
    assert found.findings == () and found.checks.failed == () and "RVN-C03" in found.checks.passed


def test_every_check_has_a_rule_and_quick_ones_are_quick():
    assert set(preflight.RECIPE_CHECKS) == {rule.needs for rule in RECIPE_RULES}
    task, recipe = prepare(plain("iris", penalties=(L2(strength=0.1),)))
    found = quick_check(recipe, task)
    assert {"RVN-C02", "RVN-I13", "RVN-I07", "RVN-D01", "RVN-S02"} <= set(found.checks.passed)
    every = {code for codes in vars(found.checks).values() for code in codes}
    assert not {"RVN-C03", "RVN-C04"} & every


SICK = {
    "RVN-I13": ("initialization", {"network__initializer": Normal(sd=3.0)}),
    "RVN-C03": ("learning-rate-low", {"optimizer": SGD(lr=1e-5)}),
    "RVN-I04": ("dead-units", {"network__bias": Constant(value=-30.0)}),
    "RVN-I06": ("initialization", {"network__initializer": Zero()}),
    "RVN-I07": ("initialization", {"network__initializer": Constant(value=0.1)}),
}


@pytest.mark.parametrize("code", SICK)
def test_a_recipe_broken_on_purpose_has_the_finding_of_its_fault_first(code):
    cause, changes = SICK[code]
    first = check(plain("iris", **changes)).findings[0]
    assert (first.code, first.cause) == (code, cause)
    assert first.changes
    for change in first.changes:  # what is recommended can be done
        assert apply_changes(plain("iris", **changes), [change]) != plain("iris", **changes)


def test_a_check_that_breaks_is_told_and_the_others_count(monkeypatch):
    def broken(recipe, task):
        raise ArithmeticError

    monkeypatch.setitem(preflight.RECIPE_CHECKS, "gradient", broken)
    report = check(plain("iris"))
    assert report.findings == () and report.checks.failed == ("RVN-C04",)
    assert {"RVN-I13", "RVN-C03", "RVN-D01"} <= set(report.checks.passed)


def test_data_that_cannot_be_profiled_fail_and_the_checks_of_the_recipe_count(monkeypatch):
    def broken(*args, **options):
        raise ArithmeticError

    monkeypatch.setattr(preflight, "profile_recipe_data", broken)
    task, recipe = prepare(plain("iris"))
    report = quick_check(recipe, task)
    assert "RVN-D01" in report.checks.failed and "RVN-I13" in report.checks.passed


def test_the_command_says_what_it_found_and_fails_with_1(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(["check", "iris", "--recipe", "plain"]) == 0
    assert "nothing found" in capsys.readouterr().out.splitlines()[-1]
    broken = ["--set", "network.initializer={name='Normal', sd=9.0}", "--set", "optimizer.lr=1e-12"]
    assert run_command(["check", "iris", "--recipe", "plain", *broken, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (
        set(said) == {"schema", "run", "score", "checks", "findings"}
        and said["run"] is said["score"] is None
    )
    assert {"RVN-I13", "RVN-C03"} <= {f["code"] for f in said["findings"]}
    assert Report.from_json(said).to_json() == said
    assert run_command(["check", "iris", "--recipe", "plain", *broken, "--fail-on", "error"]) == 0
    assert run_command(["check", "penguin"]) == 2
    assert "Did you mean 'penguins'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
