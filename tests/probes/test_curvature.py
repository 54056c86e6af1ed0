"""Curvature against full Hessians by torch, eigenvalues by numpy, closed forms, and curvlinops if
it is installed.
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from ravine import catalog, losses, optimizers
from ravine.data import Data
from ravine.errors import InputError
from ravine.networks import activations, layer_parts, mlp
from ravine.networks.batched import BatchedNetwork
from ravine.optimizers.stability import stability_edge
from ravine.penalties import L2
from ravine.probes.curvature import (
    MAX_HESSIAN_WIDTH,
    Objective,
    classify_points,
    condition,
    density,
    ends,
    gaussian,
    lanczos,
    ritz,
    trace,
)
from ravine.protocols import Batch, ForwardContext, Signature, StepContext
from ravine.studies.curvature import curvature_of, probe_run, sharpness
from ravine.training.train import train
from ravine_gallery.surfaces import ALL as SURFACES

P = 4


def network(hidden=(5,), *, outputs=3, examples=20, activation=None, **more):
    """A program, its batch, and rows of P networks in float64."""
    part = mlp.Mlp(hidden=hidden, activation=activation or activations.Tanh(), **more)
    program = BatchedNetwork(part, Signature(4, (), outputs))
    generator = torch.Generator().manual_seed(1)
    batch = Batch(
        torch.randn(1, examples, 4, generator=generator, dtype=torch.float64),
        None,
        torch.randint(outputs, (1, examples), generator=generator),
    )
    rows, buffers = program.start(range(P))
    return program, batch, rows.double(), {name: value.double() for name, value in buffers.items()}


def case(**more):
    program, batch, rows, buffers = network(**more)
    return Objective.of_program(program, losses.SoftmaxCrossEntropy(), batch, buffers=buffers), rows


def by_torch(objective, rows, i) -> torch.Tensor:
    """One network's Hessian by torch.autograd.functional."""

    def value(w):
        others = rows.detach()
        return objective.losses(
            objective.layout.views(torch.cat([others[:i], w[None], others[i + 1 :]]))
        )[i, 0]

    hessian = torch.autograd.functional.hessian(value, rows[i])
    assert isinstance(hessian, torch.Tensor)
    return hessian


def quadratic(eigenvalues):
    """Networks with Hessians of known eigenvalues [P, W] in turned coordinates, at their stationary
    point.
    """
    count, width = eigenvalues.shape
    generator = torch.Generator().manual_seed(5)
    q = torch.linalg.qr(torch.randn(count, width, width, generator=generator, dtype=torch.float64))[
        0
    ]
    h = (q * eigenvalues[:, None]) @ q.transpose(1, 2)
    objective = Objective.of_rows(
        lambda w: 0.5 * (w * (h[: len(w)] @ w[..., None])[..., 0]).sum(1), width=width
    )
    return objective, torch.zeros(count, width, dtype=torch.float64), h


CASES = {
    "tanh": {},
    "relu": {"activation": activations.ReLU()},
    "batch norm": {"norm": layer_parts.BatchNorm()},
    "linear": {"hidden": ()},
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_products_and_hessians_are_torchs(name):
    objective, rows = case(**CASES[name])
    point, hessian, v = objective.at(rows), objective.hessian(rows), gaussian(rows, 7)
    for i in range(P):
        expected = by_torch(objective, rows, i)
        torch.testing.assert_close(hessian[i], expected)
        torch.testing.assert_close(point.product(v)[i], expected @ v[i])
    torch.testing.assert_close(point.grads, objective.value_and_grad(rows).grads)
    torch.testing.assert_close(point.losses, objective.value(rows))


def test_products_are_those_of_finite_differences():
    objective, rows = case()
    v, h = gaussian(rows, 3), 1e-5
    differences = (
        objective.value_and_grad(rows + h * v).grads - objective.value_and_grad(rows - h * v).grads
    )
    torch.testing.assert_close(
        objective.at(rows).product(v), differences / (2 * h), rtol=1e-6, atol=1e-8
    )


def test_a_linear_loss_has_no_curvature():
    objective = Objective.of_rows(lambda w: w.sum(1), width=3)
    assert torch.equal(objective.at(torch.ones(2, 3)).product(torch.ones(2, 3)), torch.zeros(2, 3))


def test_the_hessian_of_a_linear_neuron_is_covariance_plus_the_mean_squared():
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(1, 500, 4, generator=generator, dtype=torch.float64)
        * torch.tensor([1.0, 3.0, 0.5, 2.0])
        + 5
    )
    program = BatchedNetwork(mlp.Mlp(hidden=()), Signature(4, (), 1))
    batch = Batch(x, None, torch.randn(1, 500, 1, generator=generator, dtype=torch.float64))
    objective = Objective.of_program(program, losses.SquaredError(), batch)
    hessian = objective.hessian(program.start([0])[0].double())[0]
    mean = x[0].mean(0)
    sigma = torch.from_numpy(np.cov(x[0].numpy().T, bias=True))
    torch.testing.assert_close(hessian[:4, :4], sigma + torch.outer(mean, mean))
    torch.testing.assert_close(hessian[4], torch.cat([mean, torch.ones(1)]).double())  # the bias


def test_one_network_s_nan_leaves_the_others_alone():
    objective, rows = case()
    sick = rows.clone()
    sick[1, 3] = torch.nan
    others = [0, 2, 3]
    healthy, found = ends(objective.at(rows), steps=12), ends(objective.at(sick), steps=12)
    for a, b in zip(healthy, found, strict=True):
        assert torch.equal(a[others], b[others])
    assert found.values[1].isnan().all()
    assert classify_points(objective.at(sick).grads, found)[1] == "cannot tell"
    assert torch.equal(
        trace(objective.at(sick)).value[others], trace(objective.at(rows)).value[others]
    )


# Lanczos


def test_all_steps_give_all_eigenvalues():
    objective, rows = case()
    found = ends(objective.at(rows), steps=1000)
    for i in range(P):
        expected = np.linalg.eigvalsh(by_torch(objective, rows, i).numpy())
        np.testing.assert_allclose(found.values[i].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("steps", [5, 10, 20, 30])
def test_every_ritz_value_has_an_eigenvalue_within_its_bound(steps):
    objective, rows = case(hidden=(7, 6))
    found = ends(objective.at(rows), steps=steps)
    for i in range(P):
        exact = np.linalg.eigvalsh(by_torch(objective, rows, i).numpy())
        distance = np.abs(found.values[i].numpy()[:, None] - exact[None]).min(1)
        assert (distance <= found.errors[i].numpy()).all()
        assert found.values[i, 0] >= exact[0] - 1e-12 and found.values[i, -1] <= exact[-1] + 1e-12


def test_thirty_steps_give_both_ends():
    objective, rows = case(hidden=(7, 6))
    found = ends(objective.at(rows), steps=30)
    for i in range(P):
        exact = np.linalg.eigvalsh(by_torch(objective, rows, i).numpy())
        assert abs(found.largest[i].item() - exact[-1]) < 1e-6 * exact[-1]
        assert abs(found.smallest[i].item() - exact[0]) < 1e-3 * exact[-1]
        assert found.errors[i, -1] < 1e-4


def test_the_basis_stays_orthogonal_over_many_steps():
    values = torch.logspace(-8, 2, 60, dtype=torch.float64)[None]
    objective, rows, h = quadratic(values)
    found = lanczos(objective.at(rows).product, gaussian(rows, 0), steps=60)
    q = found.basis[0]
    torch.testing.assert_close(q @ q.T, torch.eye(60, dtype=torch.float64), atol=1e-10, rtol=0)
    np.testing.assert_allclose(ritz(found).values[0].numpy(), values[0].numpy(), atol=1e-11)


def test_few_different_eigenvalues_are_all_found_with_their_copies():
    """The Krylov space is exhausted after two steps; new directions find the copies."""
    values = torch.tensor([[1.0] * 5 + [3.0] * 3, [2.0] * 8], dtype=torch.float64)
    objective, rows, _ = quadratic(values)
    found = ends(objective.at(rows), steps=8)
    torch.testing.assert_close(found.values, values)
    assert found.errors.max() < 1e-10


def test_alone_and_together_ends_are_the_same():
    objective, rows = case()
    together = ends(objective.at(rows), steps=10)
    for i in range(P):
        torch.testing.assert_close(
            ends(objective.at(rows[i : i + 1]), steps=10).values[0], together.values[i]
        )


# Numbers


def test_condition_numbers_are_numpys_and_zeros_do_not_count():
    objective, rows, h = quadratic(
        torch.tensor([[0.5, 1.0, 20.0], [-4.0, 1.0, 2.0]], dtype=torch.float64)
    )
    values = ends(objective.at(rows), steps=3).values
    expected = [[np.linalg.cond(h[i].numpy())] for i in range(2)]
    np.testing.assert_allclose(condition(values).numpy(), expected)
    assert condition(torch.tensor([[0.0, 1e-9, 1.0, 8.0]])).item() == 8.0
    assert condition(torch.zeros(1, 3)).isnan().all()


def test_the_trace_is_within_its_error_and_exact_for_a_diagonal():
    objective, rows = case(hidden=(7, 6))
    found = trace(objective.at(rows), draws=200)
    exact = torch.stack([by_torch(objective, rows, i).trace() for i in range(P)])[:, None]
    assert ((found.value - exact).abs() < 4 * found.error).all()
    diagonal = Objective.of_rows(lambda w: 0.5 * (torch.arange(1, 5) * w**2).sum(1), width=4)
    once = trace(diagonal.at(torch.zeros(2, 4)), draws=1)
    assert once.value.tolist() == [[10.0], [10.0]] and once.error.isnan().all()


def test_the_standard_error_of_the_trace_is_honest():
    objective, rows = case()
    exact = by_torch(objective, rows, 0).trace()
    point = objective.at(rows[:1])
    shares = [
        ((t.value - exact) / t.error).item()
        for t in (trace(point, draws=20, seed=s) for s in range(60))
    ]
    assert 0.7 < np.std(shares) < 1.4  # seeds are fixed; 1 is expected


def test_the_density_is_that_of_the_eigenvalues():
    values = torch.cat([torch.linspace(-1, 0, 10), torch.linspace(4, 6, 30)])[None].double()
    objective, rows, _ = quadratic(values)
    grid = torch.linspace(-4, 9, 400, dtype=torch.float64)
    found = density(objective.at(rows), grid, width=0.4, steps=20, draws=60)[0]
    exact = torch.exp(-0.5 * ((grid[:, None] - values) / 0.4) ** 2).mean(1) / (
        0.4 * (2 * torch.pi) ** 0.5
    )
    assert torch.trapezoid(found, grid).item() == pytest.approx(1, abs=1e-6)
    assert torch.trapezoid((found - exact).abs(), grid) < 0.1


# Verdicts


def test_the_kinds_of_points_are_told_apart():
    values = torch.tensor(
        [[1.0, 2.0, 3.0], [-0.1, 2.0, 3.0], [-3.0, -2.0, -1.0], [0.0, 1.0, 2.0]]
    ).double()
    objective, rows, _ = quadratic(values)
    point = objective.at(rows)
    found = ends(point, steps=3)
    assert classify_points(point.grads, found) == ["minimum", "saddle", "maximum", "cannot tell"]
    away = objective.at(rows + 1)
    assert classify_points(away.grads, ends(away, steps=3)) == ["not stationary"] * 4


def test_surfaces_have_minima_and_saddles_where_they_are_known_to_be():
    for surface in SURFACES:
        at = torch.tensor(surface.minima or ((0.0, 0.0),), dtype=torch.float64)
        point = Objective.of_rows(surface.value, width=2).at(at)
        expected = "minimum" if surface.minima else "saddle"
        assert classify_points(point.grads, ends(point), flat=1e-6) == [expected] * len(at), (
            surface.name
        )


def test_a_network_of_zeros_stands_at_a_saddle():
    """Both layers 0 and balanced targets: no gradient, and a direction down once both move
    together.
    """
    program = BatchedNetwork(
        mlp.Mlp(hidden=(3,), activation=activations.Tanh()), Signature(1, (), 1)
    )
    x = torch.tensor([[[-1.0], [1.0]]], dtype=torch.float64)
    objective = Objective.of_program(program, losses.SquaredError(), Batch(x, None, x))
    point = objective.at(torch.zeros(1, program.layout.width, dtype=torch.float64))
    assert classify_points(point.grads, ends(point)) == ["saddle"]


# Edges of stability


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD(lr=0.1),
        optimizers.SGD(lr=0.1, weight_decay=1.5),
        optimizers.Momentum(lr=0.1, momentum=0.7),
        optimizers.Momentum(lr=0.1, momentum=0.7, dampening=0.7),
        optimizers.Momentum(lr=0.1, momentum=0.7, form="inside"),
        optimizers.Nesterov(lr=0.1, momentum=0.7),
        optimizers.Nesterov(lr=0.1, momentum=0.7, form="inside"),
    ],
    ids=repr,
)
def test_steps_grow_just_above_the_edge_and_shrink_just_below(optimizer):
    now = StepContext(1, 1.0, torch.ones(1, 1, dtype=torch.float64), None)
    one = torch.ones(1, 1, dtype=torch.float64)
    found = stability_edge(optimizer, one, now)
    curvature = found.threshold - found.coupled
    for share, grows in ((0.98, False), (1.02, True)):
        rows, state = one, optimizer.start(one)
        for step in range(1, 600):
            rows, state = optimizer.update(
                rows, share * curvature * rows, state, now._replace(step=step)
            )
        assert (rows.abs().item() > 1) == grows


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.Adam(lr=0.1, beta1=0.6, beta2=0.0, eps=0.5),
        optimizers.Adam(lr=0.1, beta1=0.6, beta2=0.0, eps=0.5, eps_at="inside"),
        optimizers.AdamW(lr=0.1, beta1=0.6, beta2=0.0, eps=0.5, weight_decay=2.0),
        optimizers.AdamW(lr=0.1, beta1=0.6, beta2=0.0, eps=0.5, weight_decay=0.2, decay="fixed"),
        optimizers.RMSprop(lr=0.1, beta=0.0, eps=0.5, momentum=0.5),
    ],
    ids=repr,
)
def test_adaptive_rules_have_the_edge_of_their_scaled_curvature(optimizer):
    """At tiny weights v is nothing beside eps, so the scale is eps alone and the rule linear."""
    tiny = torch.full((1, 1), 1e-12, dtype=torch.float64)
    now = StepContext(60, 1.0, torch.ones_like(tiny), None)
    found = stability_edge(
        optimizer, tiny, now, {**optimizer.start(tiny), "square": torch.zeros_like(tiny)}
    )
    unit = found.product(lambda v: v)(torch.ones_like(tiny)) - found.decoupled
    if isinstance(
        optimizer, optimizers.AdamW
    ):  # decay is not averaged with the gradient: the formula is an estimate
        curvature, shares = (found.threshold - found.decoupled) / unit, ((0.9, False), (1.3, True))
    else:
        curvature, shares = found.threshold / unit, ((0.98, False), (1.02, True))
    for share, grows in shares:
        rows, state = tiny, optimizer.start(tiny)
        for step in range(60, 460):
            rows, state = optimizer.update(
                rows, share * curvature * rows, state, now._replace(step=step)
            )
        assert (rows.abs().item() > 1e-12) == grows


def test_rules_whose_edge_is_not_known_have_none():
    rows = torch.ones(1, 2)
    now = StepContext(1, 1.0, torch.ones(1, 2), None)
    assert stability_edge(optimizers.Lion(), rows, now) is None
    assert stability_edge(optimizers.Adam(), rows, now) is None  # without its state
    assert stability_edge(optimizers.SGD(lr=0.0), rows, now).threshold.isinf().all()


# Runs


@pytest.fixture(scope="module")
def run():
    recipe = dataclasses.replace(
        catalog.plain(),
        data=Data(source="iris"),
        network=mlp.Mlp(hidden=(4,)),
        epochs=4,
        seeds=2,
        penalties=(L2(strength=0.01),),
        optimizer=optimizers.SGD(lr=0.2),
    )
    return train(recipe, workers=1)


def test_a_run_gives_its_objective(run):
    of = probe_run(run, split="train", examples=10_000)
    value = probe_run(run, examples=10_000).objective.value(of.rows)
    outputs = of.network(of.network.layout.views(of.rows), of.batch, ForwardContext(training=False))
    each = of.loss.per_example(outputs, of.batch.targets.expand(2, -1)).mean(1, keepdim=True)
    decay_mask = of.network.layout.decay_mask(dtype=torch.float64)
    torch.testing.assert_close(
        value, each + 0.01 * (decay_mask * of.rows).square().sum(1, keepdim=True)
    )


def test_the_curvature_of_a_run_is_that_of_its_hessian(run):
    found, of = curvature_of(run, steps=100), probe_run(run)
    exact = torch.linalg.eigvalsh(of.objective.hessian(of.rows))
    torch.testing.assert_close(found.largest.value, exact[:, -1:])
    torch.testing.assert_close(found.smallest.value, exact[:, :1])
    torch.testing.assert_close(found.condition, condition(exact))
    torch.testing.assert_close(found.sharpness, exact[:, -1:] * 0.2 / 2)
    assert found.verdicts == ["not stationary"] * 2 and (found.noise.scale > 0).all()
    by_now = sharpness(of.objective, of.rows, optimizers.SGD(lr=0.2), of.context, steps=100)
    torch.testing.assert_close(found.sharpness, by_now)


def test_bad_questions_are_answered_in_words(run):
    with pytest.raises(InputError, match="there are test, train, validation"):
        probe_run(run, split="training")
    with pytest.raises(InputError, match="at least 1"):
        probe_run(run, examples=0)
    with pytest.raises(InputError, match="no model"):
        probe_run(dataclasses.replace(run, model=None))
    wide = Objective.of_rows(lambda w: w.square().sum(1), width=MAX_HESSIAN_WIDTH + 1)
    with pytest.raises(InputError, match="products with vectors"):
        wide.hessian(torch.zeros(1, MAX_HESSIAN_WIDTH + 1))


# Curvlinops


def test_hessians_products_and_traces_agree_with_curvlinops():
    """Needs curvlinops-for-pytorch; pip's way of installing it brings more than is wanted: use
    --no-deps.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports use what torch no longer recommends
        curvlinops = pytest.importorskip("curvlinops", exc_type=ImportError)
    program, batch, rows, _ = network(hidden=(6, 5))
    objective = Objective.of_program(program, losses.SoftmaxCrossEntropy(), batch)
    point, v = objective.at(rows), gaussian(rows, 2)
    for i in range(P):
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 6),
            torch.nn.Tanh(),
            torch.nn.Linear(6, 5),
            torch.nn.Tanh(),
            torch.nn.Linear(5, 3),
        ).double()
        views = iter(program.layout.views(rows).values())
        with torch.no_grad():
            for layer in list(model)[::2]:
                layer.weight.copy_(next(views)[i].T)
                layer.bias.copy_(next(views)[i, 0])
        data = [(batch.numbers[0], batch.targets[0])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            operator = curvlinops.HessianLinearOperator(
                model,
                torch.nn.CrossEntropyLoss(),
                [p for p in model.parameters() if p.requires_grad],
                data,
            )
            theirs = operator @ torch.eye(rows.shape[1], dtype=torch.float64)
            product = operator @ _as_theirs(program.layout, v)[i]
        order = _as_theirs(program.layout, torch.arange(rows.shape[1])[None].double())[0].long()
        torch.testing.assert_close(objective.hessian(rows)[i][order][:, order], theirs)
        torch.testing.assert_close(_as_theirs(program.layout, point.product(v))[i], product)
        values = np.linalg.eigvalsh(theirs.numpy())
        np.testing.assert_allclose(ends(point, steps=200).values[i].numpy(), values, atol=1e-10)


def _as_theirs(layout, rows):
    """Rows in the order of torch's parameters, whose matrices are [out, in]."""
    parts = [
        view.transpose(1, 2) if name.endswith("weight") else view
        for name, view in layout.views(rows).items()
    ]
    return torch.cat([p.reshape(len(rows), -1) for p in parts], 1)
