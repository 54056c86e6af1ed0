"""Compiled steps: the same as torch's to rounding, and the same bits in any company."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine
from ravine.data import Task
from ravine.recipe import Recipe
from ravine.recipe_files import with_settings
from ravine.training import compiled_steps
from ravine.training.batches import training_batches
from ravine.training.checkpoint import load_checkpoint, save_checkpoint
from ravine.training.cohort import Cohort, start_cohort
from ravine.training.compiled_steps import CompiledSteps
from ravine.training.defaults import prepare
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.jobs import assign_jobs
from ravine.training.loop import train_cohort

kernels: Any = pytest.importorskip("ravine.training.compiled_kernels")

OPTIMIZERS: dict[str, tuple[list[str], Any]] = {
    "SGD": (
        ["optimizer=SGD", "optimizer.lr=0.1", "optimizer.weight_decay=0.01"],
        lambda p: torch.optim.SGD(p, lr=0.1),
    ),
    "Momentum": (
        ["optimizer=Momentum", "optimizer.lr=0.05", "optimizer.dampening=0.1"],
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.1),
    ),
    "Nesterov": (
        ["optimizer=Nesterov", "optimizer.lr=0.05"],
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    ),
    "Adam": (
        ["optimizer=Adam", "optimizer.lr=0.01", "optimizer.beta1=0.8", "optimizer.eps=1e-6"],
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.999), eps=1e-6),
    ),
    "AdamW": (
        ["optimizer=AdamW", "optimizer.lr=0.01", "optimizer.weight_decay=0.1"],
        lambda p: torch.optim.AdamW(p, lr=0.01),
    ),
}


@pytest.fixture(autouse=True)
def _short_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_steps, "LEAST_STEPS", 1)


def plain(*settings: str, source: str = "iris", epochs: int = 8) -> tuple[Task, Recipe]:
    recipe = ravine.named_recipe("plain").vary("data.source", source).vary("epochs", epochs)
    return prepare(with_settings(recipe.vary("batch", 16), *settings))


def rule_of(optimizer: Any) -> int:
    return getattr(kernels, compiled_steps.RULE_NAMES.get(type(optimizer), "SGD_RULE"))


def updated(
    rows: np.ndarray,
    sizes: tuple[int, ...],
    data: tuple[np.ndarray, np.ndarray],
    *,
    steps: int = 1,
    activation: int = kernels.RELU_ACTIVATION,
    optimizer: Any = None,
    loss: int = kernels.SOFTMAX_LOSS,
) -> float:
    """Make steps on the whole data in place, and give the sum of the losses."""
    x, y = data
    names = ("momentum", "dampening", "beta1", "beta2", "eps")
    settings = [float(getattr(optimizer, name, 0.0)) for name in names]
    moments = [np.zeros(rows.shape, "f4") for _ in range(2)]
    none, ones, losses = np.zeros((1, 0), "f4"), np.ones((1, steps)), np.zeros(1)
    is_class = loss == kernels.SOFTMAX_LOSS
    classes, targets = (y, none[:0]) if is_class else (np.zeros(0, int), y)
    order, ends = np.tile(np.arange(len(x)), steps)[None], len(x) * np.arange(1, steps + 1)
    hidden = [activation] * (len(sizes) - 2)
    kernels.train_networks(
        *(rows, *moments, losses, x, classes, targets, none[0], order, ends),
        *(np.array(sizes), np.array([*hidden, 0]), loss),
        *(rule_of(optimizer), False),
        *(ones * getattr(optimizer, "lr", 1.0), 0 * ones, np.array([[*settings, 0.0]])),
        *(np.ones(rows.shape[1], "f4"), 0, np.empty(kernels.floats_needed(sizes, len(x)), "f4")),
    )
    return losses[0]


def trained(task: Task, recipes: list[Recipe], *, threads: int) -> Cohort:
    [assignment] = assign_jobs(recipes, [task] * len(recipes), device="cpu", workers=1)
    with exact_arithmetic():
        cohort = start_cohort(assignment.job)
        batches = training_batches(task, cohort)
        evaluate = Evaluator.of_task(task, assignment.job)
        if threads:
            assert CompiledSteps.of(cohort, batches, threads=threads) is not None
        train_cohort(cohort, batches, evaluate, pause=lambda _: False, threads=threads)
    return cohort


def test_shapes_agree_with_autograd() -> None:
    """Networks of odd sizes and batches, one step of gradient descent in float32 and float64."""
    random = np.random.default_rng(0)
    for _ in range(60):
        depth = random.integers(1, 4)
        sizes = tuple(int(n) for n in random.integers(1, 71, depth + 1))
        count = int(random.integers(1, 71))
        x = random.normal(size=(count, sizes[0])).astype("f4")
        y = random.integers(0, sizes[-1], count)
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        weights = [random.normal(size=(n, m)) / n**0.5 for n, m in pairs]
        biases = [random.normal(size=m) for _, m in pairs]
        row = np.concatenate(
            [v.ravel() for pair in zip(weights, biases, strict=True) for v in pair]
        )
        rows = row[None].astype("f4")
        value = updated(rows, sizes, (x, y))
        leaf = torch.tensor(row, requires_grad=True)
        h, at = torch.tensor(x, dtype=torch.float64), 0
        for i, (n, m) in enumerate(pairs):
            w = leaf[at : at + n * m].view(n, m)
            h = h @ w + leaf[at + n * m : at + n * m + m]
            h = h.relu() if i < depth - 1 else h
            at += n * m + m
        loss = F.cross_entropy(h, torch.tensor(y))
        loss.backward()
        assert leaf.grad is not None
        wanted = leaf.detach() - leaf.grad
        assert np.abs(rows[0] - wanted.numpy()).max() < 2e-5, (sizes, count)
        assert value == pytest.approx(loss.item(), rel=1e-5, abs=1e-6), (sizes, count)


@pytest.mark.parametrize("loss", [kernels.SQUARED_LOSS, kernels.BINARY_LOSS])
def test_losses_of_several_outputs_agree_with_autograd(loss: int) -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(9, 4)).astype("f4"), random.uniform(size=(9, 3)).astype("f4")
    row = random.normal(size=4 * 3 + 3).astype("f4")
    leaf = torch.tensor(row, dtype=torch.float64, requires_grad=True)
    z = torch.tensor(x).double() @ leaf[:12].view(4, 3) + leaf[12:]
    wanted = torch.tensor(y).double()
    each = 0.5 * (z - wanted) ** 2
    if loss == kernels.BINARY_LOSS:
        each = F.binary_cross_entropy_with_logits(z, wanted, reduction="none")
    value = each.sum(1).mean()
    value.backward()
    rows = row[None].copy()
    assert updated(rows, (4, 3), (x, y), loss=loss) == pytest.approx(value.item(), rel=1e-6)
    assert leaf.grad is not None
    assert np.abs(rows[0] - (leaf.detach() - leaf.grad).numpy()).max() < 2e-6


def test_the_gradient_of_rare_labels_does_not_vanish() -> None:
    """σ(x) of logits far below 0, as the step that a weight takes from 0."""
    for x in np.arange(-40.0, 41.0):
        rows = np.array([[0.0, x]], "f4")
        data = (np.full((1, 1), 1e-3, "f4"), np.zeros((1, 1), "f4"))
        updated(rows, (1, 1), data, loss=kernels.BINARY_LOSS)
        wanted = -1e-3 / (1 + np.exp(-np.float64(np.float32(x))))
        assert rows[0, 0] == pytest.approx(wanted, rel=2e-6), x


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("activation", ["ReLU", "Tanh"])
@pytest.mark.parametrize("source", ["iris", "diabetes", "breast_cancer"])
def test_agrees_with_torch(name: str, activation: str, source: str) -> None:
    """The ways give the same curves, for classes, numbers and two classes."""
    settings = [*OPTIMIZERS[name][0], f"network.activation={activation}"]
    if source != "diabetes":
        settings += ["loss=ByTask", "loss.label_smoothing=0.1"]
    task, recipe = plain(*settings, source=source, epochs=3)
    by_kernels, by_torch = (trained(task, [recipe], threads=n) for n in (1, 0))
    apart = by_kernels.ended.tensors["weights"] - by_torch.ended.tensors["weights"]
    assert apart.abs().max() < 1e-4
    assert by_kernels.log.series.keys() == by_torch.log.series.keys()
    for series, points in by_torch.log.series.items():
        found = np.array([value for _, value in by_kernels.log.series[series]])
        wanted = np.array([value for _, value in points])
        assert np.allclose(found, wanted, rtol=1e-3, atol=1e-4), series


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_agrees_with_torch_optim(name: str) -> None:
    """Twenty steps on full batches, beside torch.optim."""
    settings, make = OPTIMIZERS[name]
    settings = [s for s in settings if name == "AdamW" or "weight_decay" not in s]
    if name == "AdamW":
        settings[-1] = "optimizer.weight_decay=0"
    rule = with_settings(ravine.named_recipe("plain"), *settings).optimizer
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 21), nn.Tanh(), nn.Linear(21, 4))
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    parts = [p.detach() for layer in linear for p in (layer.weight.T, layer.bias)]
    rows = torch.cat([p.reshape(-1) for p in parts])[None].clone()
    x, y = torch.randn(50, 6), torch.randint(0, 4, (50,))
    groups = [
        {"params": [layer.weight for layer in linear]},
        {"params": [layer.bias for layer in linear]},
    ]
    optimizer = make(groups)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    given = (x.numpy(), y.numpy())
    updated(
        rows.numpy(),
        (6, 21, 4),
        given,
        steps=20,
        activation=kernels.TANH_ACTIVATION,
        optimizer=rule,
    )
    parts = [p.detach() for layer in linear for p in (layer.weight.T, layer.bias)]
    wanted = torch.cat([p.reshape(-1) for p in parts])
    assert (rows[0] - wanted).abs().max() < 2e-5


def test_weighted_examples_agree_with_torch() -> None:
    task, recipe = plain("class_weights=balanced", source="wine")
    by_kernels, by_torch = (trained(task, [recipe], threads=n) for n in (1, 0))
    apart = by_kernels.ended.tensors["weights"] - by_torch.ended.tensors["weights"]
    assert apart.abs().max() < 1e-4


def test_alone_equals_together_in_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_steps, "OPERATIONS_PER_THREAD", 1.0)
    task, recipe = plain("optimizer=Adam", source="wine")
    recipes = [
        replace(recipe, seeds=3),
        replace(recipe, seed=7).vary("optimizer.lr", 0.02),
        replace(recipe, seed=8).vary("optimizer.weight_decay", 0.1),
    ]
    together = trained(task, recipes, threads=1).ended.tensors["weights"]
    assert torch.equal(trained(task, recipes, threads=3).ended.tensors["weights"], together)
    alone = [replace(recipe, seed=s) for s in range(3)] + recipes[1:]
    for row, one in enumerate(alone):
        assert torch.equal(
            trained(task, [one], threads=2).ended.tensors["weights"][0], together[row]
        )


@pytest.mark.parametrize(
    "settings",
    [
        ["schedule=Cosine"],
        ["schedule=ReduceOnPlateau", "schedule.patience=1"],
        ["optimizer=AdamW", "optimizer.decay=fixed", "optimizer.weight_decay=0.01"],
    ],
    ids=str,
)
def test_schedules_and_fixed_decay_agree_with_torch(settings: list[str]) -> None:
    task, recipe = plain(*settings, source="wine")
    recipes = [recipe, recipe.vary("optimizer.lr", 0.003)]
    by_kernels, by_torch = (trained(task, recipes, threads=n) for n in (1, 0))
    apart = by_kernels.ended.tensors["weights"] - by_torch.ended.tensors["weights"]
    assert apart.abs().max() < 1e-4


def test_resumed_equals_never_stopped(tmp_path: Path) -> None:
    task, recipe = plain("optimizer=Adam", source="wine")
    whole = trained(task, [recipe], threads=1).ended.tensors["weights"]
    [assignment] = assign_jobs([recipe], [task], device="cpu", workers=1)
    with exact_arithmetic():
        cohort, stops = start_cohort(assignment.job), 0
        while cohort.ids:
            batches = training_batches(task, cohort)
            evaluate = Evaluator.of_task(task, assignment.job)
            train_cohort(cohort, batches, evaluate, pause=lambda _: True, threads=1)
            if cohort.ids:
                save_checkpoint(cohort, tmp_path / "c.safetensors")
                cohort = load_checkpoint(tmp_path / "c.safetensors", assignment.job)
                stops += 1
    assert stops > 5 and torch.equal(cohort.ended.tensors["weights"], whole)


def test_what_a_thread_raises_is_raised() -> None:
    def work(first: int, last: int) -> None:
        if first:
            raise MemoryError(f"networks {first} to {last}")

    with pytest.raises(MemoryError, match="networks 2 to 4"):
        compiled_steps._run_in_threads(work, 4, 2)


def test_networks_that_leave_change_no_other() -> None:
    """One diverges and leaves the cohort; the other's numbers are those that it has alone."""
    task, recipe = plain("optimizer=SGD", source="diabetes")
    good, bad = recipe.vary("optimizer.lr", 0.01), recipe.vary("optimizer.lr", 1e6)
    cohort = trained(task, [good, bad], threads=1)
    assert cohort.ended.outcomes == ["finished", "diverged"]
    alone = trained(task, [good], threads=1)
    weights = cohort.ended.tensors["weights"][0]
    assert torch.equal(alone.ended.tensors["weights"][0], weights)


@pytest.mark.parametrize("place", ["first class", "last class", "hidden unit"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_stay_visible(place: str, value: float) -> None:
    """A NaN or an infinity among the weights makes the loss one that is not finite."""
    sizes, count = (4, 18, 5), 7
    rows = np.random.default_rng(0).normal(size=(1, 4 * 18 + 18 + 18 * 5 + 5)).astype("f4")
    rows[0, {"first class": -5, "last class": -1, "hidden unit": 72}[place]] = value
    data = (np.ones((count, 4), "f4"), np.full(count, 2))
    assert not np.isfinite(updated(rows, sizes, data))


@pytest.mark.parametrize(
    "setting",
    [
        "clip=ClipNorm",
        "penalties=[{name='L1'}]",
        "average=EMA",
        "precision=float64",
        "network.norm=BatchNorm",
        "network.dropout.rate=0.1",
        "optimizer=RMSprop",
        "optimizer.form=inside",
        "optimizer=Nesterov optimizer.form=lookahead",
        "optimizer=Nesterov optimizer.form=inside",
        "optimizer=Adam optimizer.amsgrad=true",
        "optimizer=Adam optimizer.eps_at=inside",
        "optimizer=Adam optimizer.bias_correction=false",
        "network.bias_lr=2",
        "snapshots=Snapshots",
        "tuning=[{name='Freeze', layers=['hidden.0']}]",
        "network.activation=SiLU",
        "loss=AbsoluteError",
    ],
)
def test_what_is_not_covered_is_made_by_torch(setting: str) -> None:
    settings = setting.split(" ") if setting.startswith("optimizer=") else [setting]
    if not setting.startswith("optimizer="):
        settings.insert(0, "optimizer=Momentum")
    if setting.startswith("network.dropout"):
        settings.insert(0, "network.dropout=Dropout")
    task, recipe = plain(*settings, source="diabetes")
    [assignment] = assign_jobs([recipe], [task], device="cpu", workers=1)
    with exact_arithmetic():
        cohort = start_cohort(assignment.job)
        assert CompiledSteps.of(cohort, training_batches(task, cohort), threads=1) is None


def test_without_kernels_torch_makes_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Numba is missing, training goes on by torch, and the record says so."""
    found = (None, "the kernels are away")
    monkeypatch.setattr(compiled_steps, "_kernels_and_fault", lambda: found)
    task, recipe = plain(source="wine")
    [run] = ravine.train_all([recipe])
    weights = trained(task, [recipe], threads=0).ended.tensors["weights"]
    assert torch.equal(run.model.weights, weights)
    assert run.record.surroundings["steps"] == "torch: the kernels are away"


def test_the_record_says_how_steps_were_made() -> None:
    _, recipe = plain(source="wine")
    [run] = ravine.train_all([recipe])
    assert run.record.surroundings["steps"] == "compiled"
