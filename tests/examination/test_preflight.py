"""Checks before training: against closed forms, and against recipes broken on purpose."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from ravine import catalog, recipe_files
from ravine.cli import run_command
from ravine.data import Encoding, Examples
from ravine.diagnosis import recipe_rules
from ravine.examination.preflight import (
    chance_level,
    check,
    closed_form,
    constant_level,
    initial_loss,
    made,
    overfits,
    penalty_raises,
    quick,
    quick_check,
    slow,
)
from ravine.finding import Report
from ravine.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    Huber,
    SoftmaxCrossEntropy,
    SquaredError,
)
from ravine.networks.activations import Identity
from ravine.networks.initializers import Constant, Normal
from ravine.networks.layer_parts import BatchNorm, Dropout
from ravine.optimizers import SGD, AdamW
from ravine.part import part
from ravine.penalties import L1, L2, ElasticNet
from ravine.training.defaults import prepare


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


def test_chance_is_log_c_and_the_best_constant_is_the_entropy():
    counts = [7, 2, 1]
    share = np.array(counts) / 10
    assert chance_level(SoftmaxCrossEntropy(), classes(counts), 3) == pytest.approx(math.log(3))
    assert constant_level(SoftmaxCrossEntropy(), classes(counts), 3) == pytest.approx(
        -(share * np.log(share)).sum()
    )
    one = Examples(torch.zeros(10, 1), targets=torch.tensor([[1.0]] * 3 + [[0.0]] * 7))
    assert chance_level(BinaryCrossEntropy(), one, 1) == pytest.approx(math.log(2))
    assert constant_level(BinaryCrossEntropy(), one, 1) == pytest.approx(
        -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    )


def test_smoothing_is_in_the_best_constant():
    examples, loss = classes([6, 3, 1]), SoftmaxCrossEntropy(label_smoothing=0.2)
    q = 0.8 * np.array([0.6, 0.3, 0.1]) + 0.2 / 3
    assert constant_level(loss, examples, 3) == pytest.approx(-(q * np.log(q)).sum())


def test_numbers_have_half_their_variance_and_the_spread_around_the_median():
    y = torch.tensor([[1.0], [2.0], [4.0], [9.0]])
    examples = Examples(torch.zeros(4, 1), targets=y)
    assert constant_level(SquaredError(), examples, 1) == pytest.approx(
        0.5 * float(y.double().var(correction=0))
    )
    assert constant_level(AbsoluteError(), examples, 1) == pytest.approx(
        float((y - 3).abs().mean())
    )
    assert constant_level(Huber(delta=100.0), examples, 1) == pytest.approx(
        constant_level(SquaredError(), examples, 1)
    )
    assert chance_level(SquaredError(), examples, 1) == pytest.approx(
        0.5 * float(y.square().mean())
    )


@pytest.mark.parametrize(
    ("source", "level"), [("iris", math.log(3)), ("digits", math.log(10)), ("moons", math.log(2))]
)
def test_a_zero_output_layer_starts_at_chance_exactly(source, level):
    task, recipe = prepare(plain(source, network__zero_output=True))
    found = initial_loss(recipe, task)
    assert found.passed and found.values["initial loss"] == pytest.approx(level, rel=1e-6)
    assert found.values["low"] == pytest.approx(found.values["high"], rel=1e-5)


def test_small_outputs_cost_half_their_variance():
    sd = 0.02
    task, recipe = prepare(plain("digits", network__initializer=Normal(sd=sd), network__hidden=()))
    found = initial_loss(recipe, task, networks=64)
    x = task.train.numbers.double()
    expected = 0.5 * sd**2 * float(x.square().sum(1).mean()) * (1 - 1 / 10)
    low, high = (found.values[end] - found.values["chance"] for end in ("low", "high"))
    assert low < expected < high < 2 * expected


@pytest.mark.parametrize("source", ["digits", "diabetes"])
def test_large_weights_and_values_not_finite_are_not_ok(source):
    task, recipe = prepare(plain(source, network__initializer=Normal(sd=3.0)))
    found = initial_loss(recipe, task)
    assert found.passed is False and "start too large" in found.said
    task.train.numbers[0, 0] = torch.nan
    assert initial_loss(recipe, task).passed is False


def test_a_network_that_knows_the_answer_before_the_first_step_is_not_ok():
    x = np.random.default_rng(0).normal(size=200)
    recipe = plain(
        "", data__target=("y",), network__hidden=(), network__initializer=Constant(value=1.0)
    )
    task, recipe = prepare(recipe, pd.DataFrame({"x": x, "y": 3 * x}))
    found = initial_loss(recipe, task)
    assert found.passed is False and "No untrained network" in found.said


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
    found = penalty_raises(recipe, task)
    assert found.passed and found.values["relative difference from the closed form"] < 1e-12
    assert found.values[f"{type(penalty).__name__} 0"] > 0


def test_the_closed_form_is_numpys():
    a, b = (
        np.random.default_rng(0).normal(size=(2, 5, 3)),
        np.random.default_rng(1).normal(size=(2, 4)),
    )
    matrices = [torch.tensor(a).flatten(1), torch.tensor(b)]
    whole = np.concatenate([a.reshape(2, -1), b], 1)
    np.testing.assert_allclose(closed_form(L2(strength=0.1), matrices), 0.1 * (whole**2).sum(1))
    np.testing.assert_allclose(closed_form(L1(strength=0.1), matrices), 0.1 * abs(whole).sum(1))


@part
class Forgetful:
    """A penalty that leaves out one weight, and one that does nothing."""

    strength: float = 0.1
    nothing: bool = False

    def value(self, rows, decays):
        return (
            0 * rows[:, :1]
            if self.nothing
            else self.strength * (decays * rows)[:, 1:].square().sum(1, keepdim=True)
        )

    def gradient(self, rows, decays, meter):
        return 2 * self.strength * decays * rows


def test_a_penalty_that_does_nothing_is_found():
    task, recipe = prepare(plain(penalties=(Forgetful(nothing=True),)))
    assert penalty_raises(recipe, task).passed is False
    task, recipe = prepare(plain(penalties=(L2(strength=0.0),)))
    assert penalty_raises(recipe, task).passed is False


def test_without_a_penalty_the_check_does_not_apply_and_says_where_decay_is():
    task, recipe = prepare(plain(optimizer=AdamW()))
    found = penalty_raises(recipe, task)
    assert found.passed is None and "weight decay" in found.said


@pytest.mark.parametrize("source", ["iris", "diabetes", "moons"])
def test_a_few_examples_are_learned_whatever_regularizes(source):
    task, recipe = prepare(
        plain(
            source,
            network__dropout=Dropout(rate=0.5),
            network__norm=BatchNorm(),
            penalties=(L2(strength=1.0),),
        )
    )
    found = overfits(recipe, task)
    assert found.passed and found.values["examples"] == 16 and found.values["steps at lr 0.1"] < 300


def test_what_cannot_learn_is_not_ok():
    task, recipe = prepare(plain("digits", optimizer=SGD(lr=1e-7)))
    found = overfits(recipe, task, steps=100)
    assert found.passed is False and "not learned in 100 steps" in found.said
    task, recipe = prepare(plain("moons", network__hidden=()))  # linear, and the moons are not
    task.train.targets[:] = (torch.arange(task.train.count) % 2).float()[:, None]
    assert overfits(recipe, task, steps=100).passed is False


def test_another_rate_that_would_learn_is_named():
    task, recipe = prepare(plain("digits", optimizer=SGD(lr=0.005)))
    found = overfits(recipe, task, steps=160)
    assert found.passed and "only at another learning rate: 0.05" in found.said


def test_equal_inputs_count_once():
    task, recipe = prepare(plain("iris"))
    task.train.numbers[:] = task.train.numbers[:1]
    assert overfits(recipe, task).passed is None


def test_streamed_tables_are_checked_too(tmp_path):
    x = np.random.default_rng(0).normal(size=(4000, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=x.sum(1))
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=500)
    recipe = plain(str(tmp_path / "t.parquet"), data__target=("y",), data__memory="50KB")
    found = check(recipe)
    assert found.findings == () and found.checks.failed == () and "RVN-C03" in found.checks.passed


def test_every_rule_has_a_check_and_every_check_a_rule():
    task, recipe = prepare(plain("iris"))
    assert {r.needs for r in recipe_rules.ALL} == set(quick(recipe, task) | slow(recipe, task))
    found = quick_check(recipe, task)
    assert {"RVN-C01", "RVN-C09"} <= set(
        found.checks.passed
    ) and "RVN-C03" not in found.checks.passed


SICK = {
    "RVN-C01": ("initialization", {"network__initializer": Normal(sd=3.0)}),
    "RVN-C03": ("learning-rate-low", {"optimizer": SGD(lr=1e-5)}),
    "RVN-C07": ("dead-units", {"network__bias": Constant(value=-30.0)}),
    "RVN-C09": ("hidden-activation", {"network__activation": Identity()}),
    "RVN-C10": ("initialization", {"network__initializer": Constant(value=0.1)}),
}


@pytest.mark.parametrize("code", SICK)
def test_a_recipe_broken_on_purpose_has_the_finding_of_its_fault_first(code):
    cause, changes = SICK[code]
    first = check(plain("iris", **changes)).findings[0]
    assert (first.code, first.cause) == (code, cause)
    for change in first.changes:  # what is recommended can be done
        assert changed(plain("iris", **changes), change.path, change.value) != plain(
            "iris", **changes
        )


def changed(recipe, path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return recipe_files.with_changes(recipe, value)


def test_too_large_a_first_loss_is_blamed_on_what_makes_it_large():
    dropped = check(
        plain("digits", network__dropout=Dropout(rate=0.98), network__hidden=(256, 256))
    )
    assert [(f.code, f.cause) for f in dropped.findings] == [("RVN-C01", "dropout")]
    unscaled = check(plain("wine", encoding=Encoding(scale="none", smooth_clip=None)))
    assert ("RVN-C01", "input-scale") in [(f.code, f.cause) for f in unscaled.findings]


def test_a_check_that_breaks_is_told_and_the_others_count():
    def broken():
        raise ArithmeticError

    task, recipe = prepare(plain("iris"))
    findings, checks = made(quick(recipe, task) | {"gradient": broken})
    assert findings == [] and checks.failed == ("RVN-C04",) and "RVN-C01" in checks.passed


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
    assert {"RVN-C01", "RVN-C03"} <= {f["code"] for f in said["findings"]}
    assert Report.from_json(said).to_json() == said
    assert run_command(["check", "iris", "--recipe", "plain", *broken, "--fail-on", "error"]) == 0
    assert run_command(["check", "penguin"]) == 2
    assert "Did you mean 'penguins'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
