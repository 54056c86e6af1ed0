"""L-BFGS against torch's own, Newton's methods against closed forms, and the claims every optimizer
must meet.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ravine import catalog, losses
from ravine import optimizers as o
from ravine.data import Data
from ravine.effects import Meter
from ravine.errors import RecipeError
from ravine.networks import activations, layer_parts, mlp
from ravine.networks.batched import BatchedNetwork
from ravine.part import field_types, is_number, rows_of, stack
from ravine.penalties import L2
from ravine.probes.curvature import Objective
from ravine.protocols import Batch, SearchOptimizer, StepContext
from ravine.training.defaults import load_task
from ravine.training.train import resume, train, train_all
from ravine_gallery.surfaces import ALL as SURFACES

P, W = 5, 8
SCALE = torch.logspace(-1, 1, W, dtype=torch.float64)


class Fixed:
    """A whole objective as the loop hands it to a search; counts its evaluations."""

    def __init__(self, objective, rows):
        self.objective, self.first, self.asked = objective, objective.value_and_grad(rows), 0

    def value_and_grad(self, rows):
        self.asked += 1
        return self.objective.value_and_grad(rows)

    def hessian(self, rows):
        return self.objective.hessian(rows)


def moment(step, objective, *, factor=1.0, lr=None, meter=None):
    return StepContext(
        step, factor, torch.ones(1, objective.layout.width), objective.layout, lr, meter
    )


def walk(part, objective, rows, steps, *, state=None, first=1):
    """Rows after each step, and the state."""
    state = part.start(rows) if state is None else state
    path = []
    for step in range(first, first + steps):
        rows, state = part.search(rows, Fixed(objective, rows), state, moment(step, objective))
        path.append(rows)
    return path, state


def bumpy(rows):
    """A quadratic with ripples: curved both ways, no network like another."""
    scale = SCALE.to(rows)
    return (
        0.5 * (scale * rows**2).sum(1)
        + (2 * rows).sin().sum(1)
        + 0.3 * (rows[:, :-1] * rows[:, 1:]).sum(1)
    )


BUMPY = Objective.of_rows(bumpy, width=W)
BOWL = Objective.of_rows(lambda rows: 0.5 * (SCALE.to(rows) * (rows - 1) ** 2).sum(1), width=W)


def begin(dtype=torch.float64, networks=P):
    return torch.randn(
        networks, W, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ).to(dtype)


def settings(cls, i):
    spread = {"lr": 1.0 - 0.1 * i, "damping": 0.2 + 0.3 * i}
    return {name: spread[name] for name, hint in field_types(cls).items() if is_number(hint)}


def cohort(cls, **more):
    return stack([cls(**settings(cls, i), **more) for i in range(P)])


# L-BFGS


def torch_path(value, row, *, lr, steps, history=10):
    """What torch.optim.LBFGS does: points, and evaluations in all."""
    w, asked = row.clone().requires_grad_(), [0]
    optimizer = torch.optim.LBFGS(
        [w], lr=lr, max_iter=1, max_eval=10**6, history_size=history, line_search_fn="strong_wolfe"
    )

    def closure():
        asked[0] += 1
        optimizer.zero_grad()
        loss = value(w[None])[0]
        loss.backward()
        return loss

    points = []
    for _ in range(steps):
        optimizer.step(closure)
        points.append(w.detach().clone())
    return torch.stack(points), asked[0]


@pytest.mark.parametrize("surface", [s for s in SURFACES if s.minima], ids=lambda s: s.name)
def test_lbfgs_takes_the_path_of_torch_and_asks_as_often(surface):
    generator = torch.Generator().manual_seed(1)
    rows = torch.tensor([surface.start]) + 0.2 * torch.randn(
        P, 2, generator=generator, dtype=torch.float64
    )
    objective = Objective.of_rows(surface.value, width=2)
    part, asked, path = stack([o.Lbfgs(lr=1.0 - 0.1 * i) for i in range(P)]), torch.zeros(P), []
    state, point = part.start(rows), rows
    for step in range(1, 31):
        meter = Meter(P)
        now = moment(step, objective, meter=meter)
        point, state = part.search(point, Fixed(objective, point), state, now)
        path.append(point)
        asked += 1 + meter.means()["line search"]
    for i in range(P):
        points, evaluations = torch_path(surface.value, rows[i], lr=1.0 - 0.1 * i, steps=30)
        # in flat valleys rounding grows with every step; the counts and the first steps are exact
        torch.testing.assert_close(torch.stack(path)[:15, i], points[:15], rtol=1e-8, atol=1e-8)
        assert abs(surface.value(path[-1])[i] - surface.value(points[-1:])[0]) < 1e-6
        assert int(asked[i]) == evaluations


@pytest.mark.parametrize("history", [1, 3, 20])
def test_lbfgs_takes_the_path_of_torch_where_curvature_has_both_signs(history):
    rows = begin()
    path, _ = walk(stack([o.Lbfgs(history=history)] * P), BUMPY, rows, 12)
    for i in range(P):
        points, _ = torch_path(bumpy, rows[i], lr=1.0, steps=12, history=history)
        torch.testing.assert_close(torch.stack(path)[:, i], points, rtol=1e-6, atol=1e-6)


def test_lbfgs_in_a_run_ends_with_the_weights_of_torch():
    network = mlp.Mlp(hidden=(5,), activation=activations.Tanh())
    recipe = dataclasses.replace(
        catalog.plain(),
        data=Data(source="iris"),
        precision="float64",
        epochs=16,
        seeds=2,
        batch="all",
        optimizer=o.Lbfgs(),
        network=network,
        loss=losses.SoftmaxCrossEntropy(),
    )
    run, task = train(recipe, workers=1), load_task(recipe)
    assert {e.name for e in run.record.effects} >= {"step length", "line search"}
    program = BatchedNetwork(network, task.signature)
    examples = task.train_examples.to("cpu", torch.float64)
    batch = Batch(examples.numbers[None], None, examples.targets[None])
    objective = Objective.of_program(program, losses.SoftmaxCrossEntropy(), batch)
    rows, _ = program.start([0, 1])

    def value(rows):
        return objective.losses(program.layout.views(rows))[:, 0]

    for i in range(2):
        points, _ = torch_path(value, rows[i].double(), lr=1.0, steps=16)
        torch.testing.assert_close(
            run.model.weights[i], points[run.record.members[i].best_step - 1], rtol=1e-5, atol=1e-5
        )


def test_an_explosion_along_the_direction_shortens_the_step():
    def cliff(rows):  # not finite beyond 1
        return torch.where(rows[:, 0] < 1, (rows[:, 0] - 0.9) ** 2, torch.inf) + rows[:, 1] ** 2

    objective = Objective.of_rows(cliff, width=2)
    path, _ = walk(o.Lbfgs(lr=50.0), objective, torch.tensor([[0.0, 0.3]], dtype=torch.float64), 10)
    assert objective.value(path[-1]).item() < 1e-6


# Newton


def test_one_newton_step_solves_a_quadratic():
    for part in (o.Newton(damping=0.0), o.SaddleFreeNewton(damping=0.0)):
        path, _ = walk(part, BOWL, begin(), 1)
        torch.testing.assert_close(path[0], torch.ones(P, W, dtype=torch.float64))


def test_damped_newton_is_its_formula_in_every_network():
    rows = begin()
    part = cohort(o.Newton)
    path, _ = walk(part, BUMPY, rows, 1)
    for i in range(P):
        g = torch.autograd.functional.jacobian(lambda w: bumpy(w[None])[0], rows[i])
        h = torch.autograd.functional.hessian(lambda w: bumpy(w[None])[0], rows[i])
        own = settings(o.Newton, i)
        expected = rows[i] - own["lr"] * torch.inverse(h + own["damping"] * torch.eye(W)) @ g
        torch.testing.assert_close(path[0][i], expected)


def test_a_saddle_attracts_newton_and_repels_the_saddle_free_one():
    saddle = Objective.of_rows(lambda r: r[:, 0] ** 2 - r[:, 1] ** 2, width=2)
    rows = torch.tensor([[2.0, 0.01]], dtype=torch.float64)
    into, _ = walk(o.Newton(damping=0.0), saddle, rows, 1)
    assert into[0].abs().max() < 1e-12
    away, _ = walk(o.SaddleFreeNewton(damping=0.0), saddle, rows, 5)
    torch.testing.assert_close(
        away[-1], torch.tensor([[0.0, 0.32]], dtype=torch.float64)
    )  # y doubles at each step


def test_a_singular_hessian_is_shown_not_raised():
    flat = Objective.of_rows(lambda r: r[:, 0] ** 2 + r[:, 1], width=2)
    path, _ = walk(o.Newton(damping=0.0), flat, torch.ones(2, 2, dtype=torch.float64), 1)
    assert not path[0].isfinite().all()


@pytest.mark.parametrize("cls", [o.Newton, o.SaddleFreeNewton])
def test_too_many_weights_are_refused_with_the_memory_before_any_work(cls, tmp_path):
    recipe = dataclasses.replace(
        catalog.plain(), data=Data(source="iris"), network=mlp.Mlp(hidden=(400,))
    )
    with pytest.raises(RecipeError, match="3203 weights.*82 MB"):
        train(dataclasses.replace(recipe, optimizer=cls()), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Every one of them


@pytest.mark.parametrize("cls", o.SEARCH_OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alone_and_in_a_cohort_the_bits_are_the_same(cls, dtype):
    together, state = walk(cohort(cls), BUMPY, begin(dtype), 12)
    assert together[-1].dtype == dtype
    assert all(value.shape[0] == P for value in state.values())
    for i in (0, 2, 4):
        own = begin(dtype)[i : i + 1].clone()
        for part in (cls(**settings(cls, i)), stack([cls(**settings(cls, i))])):
            assert torch.equal(walk(part, BUMPY, own, 12)[0][-1][0], together[-1][i])


@pytest.mark.parametrize("cls", o.SEARCH_OPTIMIZERS)
def test_a_nan_stays_in_its_network_and_is_not_hidden(cls):
    healthy, _ = walk(cohort(cls), BUMPY, begin(), 6)
    part, rows = cohort(cls), begin()
    path, state = walk(part, BUMPY, rows, 2)
    sick = path[-1].clone()
    sick[2, 3] = torch.nan
    path, _ = walk(part, BUMPY, sick, 4, state=state, first=3)
    others = [0, 1, 3, 4]
    assert torch.equal(path[-1][others], healthy[-1][others])
    assert path[-1][2].isnan().any()


@pytest.mark.parametrize("cls", o.SEARCH_OPTIMIZERS)
def test_networks_may_leave_and_a_kept_state_goes_on(cls):
    part, stay = cohort(cls), torch.tensor([1, 4])
    whole, _ = walk(part, BUMPY, begin(), 10)
    path, state = walk(part, BUMPY, begin(), 4)
    state = {name: value.clone().index_select(0, stay) for name, value in state.items()}
    rest, _ = walk(rows_of(part, stay), BUMPY, path[-1][stay], 6, state=state, first=5)
    assert torch.equal(rest[-1], whole[-1][stay])


@pytest.mark.parametrize("cls", o.SEARCH_OPTIMIZERS)
def test_a_rate_of_zero_changes_nothing_and_frozen_weights_stay(cls):
    part, rows = cls(), begin()
    still, _ = part.search(rows, Fixed(BUMPY, rows), part.start(rows), moment(1, BUMPY, factor=0.0))
    assert torch.equal(still, rows)
    row = torch.ones(1, W)
    row[:, 2:4] = 0.0
    state, moved = part.start(rows), rows
    for step in range(1, 30):
        moved, state = part.search(moved, Fixed(BOWL, moved), state, moment(step, BOWL, lr=row))
    assert torch.equal(moved[:, 2:4], rows[:, 2:4])
    free = [0, 1, 4, 5, 6, 7]
    assert (BOWL.value_and_grad(moved).grads[:, free].abs() < 0.05).all()


@pytest.mark.parametrize("cls", o.SEARCH_OPTIMIZERS)
def test_numbers_reach_the_bottom_of_a_surface(cls):
    surface = next(s for s in SURFACES if s.name == "rosenbrock")
    rows = torch.tensor([surface.start, (0.3, 0.4)], dtype=torch.float64)
    part = cls() if cls is o.Lbfgs else cls(damping=0.01)
    path, _ = walk(part, Objective.of_rows(surface.value, width=2), rows, 60)
    assert surface.value(path[-1]).max() < 1e-6


def small(**changes):
    recipe = dataclasses.replace(
        catalog.plain(), data=Data(source="iris"), network=mlp.Mlp(hidden=(5,)), epochs=2
    )
    return dataclasses.replace(recipe, **{"seeds": 2, "batch": "all", **changes})


@pytest.mark.parametrize("batch", ["all", 32])
@pytest.mark.parametrize("cls", [o.Newton, o.SaddleFreeNewton])
def test_whole_runs_are_the_same_alone_and_together(cls, batch):
    recipes = [
        small(seed=i, batch=batch, epochs=1, optimizer=cls(**settings(cls, i))) for i in range(2)
    ]
    for recipe, run in zip(recipes, train_all(recipes, workers=1), strict=True):
        alone = train_all([recipe.vary("seeds", 1)], workers=1)[0]
        assert alone.record.members[0] == run.record.members[0]
        assert torch.equal(alone.model.weights[0], run.model.weights[0])


class Killed(Exception):
    pass


@pytest.mark.parametrize("cls", [o.Newton, o.SaddleFreeNewton])
def test_newtons_methods_resume(tmp_path, cls):
    def stop(progress):
        if list((tmp_path / "run").glob("checkpoint-*")):
            raise Killed

    recipe = small(optimizer=cls(), batch=53, epochs=6)
    whole = train(recipe, out=tmp_path / "whole", workers=1)
    with pytest.raises(Killed):
        train(recipe, out=tmp_path / "run", workers=1, checkpoint_seconds=0.0, report=stop)
    assert torch.equal(resume(tmp_path / "run", workers=1).model.weights, whole.model.weights)


def test_penalties_dropout_and_batch_norm_are_part_of_what_is_searched():
    network = mlp.Mlp(
        hidden=(5,), norm=layer_parts.BatchNorm(), dropout=layer_parts.Dropout(rate=0.3)
    )
    run = train(small(network=network, optimizer=o.Lbfgs(), epochs=5), workers=1)
    assert not run.record.idle()


def test_a_penalty_is_part_of_what_is_searched():
    penalty, loss = L2(strength=0.1), losses.SoftmaxCrossEntropy()
    recipe = small(
        optimizer=o.Lbfgs(), penalties=(penalty,), network=mlp.Mlp(hidden=()), loss=loss, epochs=24
    )
    run, task = train(recipe.vary("precision", "float64"), workers=1), load_task(recipe)
    program, examples = (
        BatchedNetwork(recipe.network, task.signature),
        task.train_examples.to("cpu", torch.float64),
    )
    batch = Batch(examples.numbers[None], None, examples.targets[None])
    decay_mask = program.layout.decay_mask(dtype=torch.float64)
    objective = Objective.of_program(
        program, loss, batch, more=lambda rows: penalty.value(rows, decay_mask)
    )
    assert (
        objective.value_and_grad(run.model.weights).grads.abs().max() < 1e-3
    )  # convex: one minimum


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(RecipeError, match="clips gradients for Lbfgs"):
        small(optimizer=o.Lbfgs(), clip=o.ClipNorm())
    with pytest.raises(RecipeError, match="Lookahead around Newton"):
        o.Lookahead(inner=o.Newton())
    with pytest.raises(RecipeError, match="Lbfgs as a torch optimizer"):
        o.AsTorch(torch.nn.Linear(1, 1).parameters(), o.Lbfgs())
    for cls in o.SEARCH_OPTIMIZERS:
        assert issubclass(cls, SearchOptimizer)
        with pytest.raises(RecipeError, match="lr"):
            cls(lr=-1.0)
