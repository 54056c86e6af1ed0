"""Per-example gradients and noise scales against loops over examples, vmap(grad), and gradients of
known noise.
"""

from __future__ import annotations

import pytest
import torch

from ravine import losses
from ravine.errors import InputError
from ravine.networks import activations, initializers, layer_parts, mlp
from ravine.networks.batched import BatchedNetwork
from ravine.probes.curvature import Objective
from ravine.probes.noise import (
    GradientNoise,
    NoiseAverage,
    gradient_noise,
    per_example_gradients,
    squared_gradient_norms,
    two_batches,
)
from ravine.protocols import Batch, Signature

P, B = 3, 70
NETWORKS = {
    "linear layers": (mlp.Mlp(hidden=(7, 5)), (), True),
    "one output, no hidden": (mlp.Mlp(hidden=()), (), True),
    "ntk": (
        mlp.Mlp(hidden=(6,), parametrization="ntk", initializer=initializers.Normal(sd=1.0)),
        (),
        True,
    ),
    "dropout": (
        mlp.Mlp(hidden=(6,), dropout=layer_parts.ClassicDropout(), activation=activations.SELU()),
        (),
        True,
    ),
    "batch norm": (mlp.Mlp(hidden=(6,), norm=layer_parts.BatchNorm()), (), False),
    "layer norm": (mlp.Mlp(hidden=(6,), norm=layer_parts.LayerNorm()), (), False),
    "embeddings": (mlp.Mlp(hidden=(6,), embedding=3), (4, 5), False),
    "scaled inputs": (mlp.Mlp(hidden=(6,), scale_inputs=True, parametric=True), (), False),
}


def case(name, outputs=3):
    part, codes, _ = NETWORKS[name]
    program = BatchedNetwork(part, Signature(4, codes, outputs))
    generator = torch.Generator().manual_seed(2)
    numbers = torch.randn(1, B, 4, generator=generator, dtype=torch.float64)
    given = (
        torch.stack([torch.randint(n, (B,), generator=generator) for n in codes], 1)[None]
        if codes
        else None
    )
    batch = Batch(numbers, given, torch.randint(outputs, (1, B), generator=generator))
    rows, buffers = program.start(range(P))
    noise = torch.randn(rows.shape, generator=generator, dtype=torch.float64)
    return (
        program,
        batch,
        rows.double() + 0.1 * noise,
        {n: b.double() + 0.3 for n, b in buffers.items()},
    )


def one_by_one(program, loss, rows, batch, buffers):
    """A gradient for each example, by a batch of one."""
    found = []
    for i in range(B):
        one = Batch(
            batch.numbers[:, i : i + 1],
            None if batch.codes is None else batch.codes[:, i : i + 1],
            batch.targets[:, i : i + 1],
        )
        found.append(
            Objective.of_program(program, loss, one, buffers=buffers).value_and_grad(rows).grads
        )
    return torch.stack(found, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_lengths_are_those_of_a_loop_over_examples(name):
    loss = losses.SoftmaxCrossEntropy(label_smoothing=0.1)
    program, batch, rows, buffers = case(name)
    expected = one_by_one(program, loss, rows, batch, buffers)
    torch.testing.assert_close(
        per_example_gradients(program, loss, rows, batch, buffers=buffers), expected
    )
    found = squared_gradient_norms(program, loss, rows, batch, buffers=buffers)
    torch.testing.assert_close(found, expected.square().sum(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_linear_layers_need_no_per_example_gradients(name, monkeypatch):
    asked = []

    def counted(*args, **kwargs):
        asked.append(args)
        return per_example_gradients(*args, **kwargs)

    monkeypatch.setattr("ravine.probes.noise.per_example_gradients", counted)
    program, batch, rows, buffers = case(name)
    squared_gradient_norms(program, losses.SoftmaxCrossEntropy(), rows, batch, buffers=buffers)
    assert bool(asked) != NETWORKS[name][2]


def test_each_network_may_have_its_own_batch_and_regression_targets():
    program = BatchedNetwork(mlp.Mlp(hidden=(5,)), Signature(4, (), 1))
    generator = torch.Generator().manual_seed(4)
    batch = Batch(
        torch.randn(P, B, 4, generator=generator), None, torch.randn(P, B, 1, generator=generator)
    )
    rows, _ = program.start(range(P))
    found = squared_gradient_norms(program, losses.SquaredError(), rows, batch)
    for i in range(P):
        own = Batch(batch.numbers[i : i + 1], None, batch.targets[i : i + 1])
        torch.testing.assert_close(
            squared_gradient_norms(program, losses.SquaredError(), rows[i : i + 1], own)[0],
            found[i],
        )
    torch.testing.assert_close(
        found, per_example_gradients(program, losses.SquaredError(), rows, batch).square().sum(2)
    )


def test_a_nan_network_leaves_the_others_alone():
    program, batch, rows, buffers = case("linear layers")
    sick = rows.clone()
    sick[1] = torch.nan
    loss = losses.SoftmaxCrossEntropy()
    found, healthy = (
        squared_gradient_norms(program, loss, r, batch, buffers=buffers) for r in (sick, rows)
    )
    assert torch.equal(found[[0, 2]], healthy[[0, 2]]) and found[1].isnan().all()
    scales = gradient_noise(
        found, Objective.of_program(program, loss, batch).value_and_grad(sick).grads
    ).scale
    assert scales[[0, 2]].isfinite().all() and scales[1].isnan()


# Noise scale


def test_the_exact_scale_is_that_of_the_covariance():
    loss = losses.SoftmaxCrossEntropy()
    program, batch, rows, buffers = case("linear layers")
    each = per_example_gradients(program, loss, rows, batch, buffers=buffers)
    found = gradient_noise(each.square().sum(2), each.mean(1))
    for i in range(P):
        total = torch.cov(each[i].T).trace()
        torch.testing.assert_close(found.noise[i, 0], total)
        torch.testing.assert_close(found.signal[i, 0], each[i].mean(0).square().sum() - total / B)
    torch.testing.assert_close(found.scale, found.noise / found.signal)


def drawn(batch, generator, networks=2000):
    """Mean gradients of batches of examples whose gradients are G + noise: |G|² = 4, tr Σ = 30,
    scale 7.5.
    """
    spread = torch.tensor([5.0, 2.0, 1.0], dtype=torch.float64)
    mean = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    return (
        mean
        + spread * torch.randn(networks, 3, generator=generator, dtype=torch.float64) / batch**0.5
    )


def test_two_batches_estimate_both_without_bias():
    generator = torch.Generator().manual_seed(0)
    found = two_batches(drawn(2, generator), drawn(50, generator), sizes=(2, 50))
    for values, expected in ((found.signal, 4.0), (found.noise, 30.0)):
        assert abs(values.mean() - expected) < 4 * values.std() / len(values) ** 0.5


def test_averages_of_both_find_the_scale_where_single_ratios_do_not():
    generator, average, single = torch.Generator().manual_seed(1), NoiseAverage.start(8), []
    for _ in range(4000):
        new = two_batches(drawn(4, generator, 8), drawn(32, generator, 8), sizes=(4, 32))
        average = average.after(new, decay=0.999)
        single.append(new.scale)
    torch.testing.assert_close(
        average.scale.mean(), torch.tensor(7.5, dtype=torch.float64), rtol=0.1, atol=0
    )
    assert not abs(torch.stack(single).mean() - 7.5) < 0.75


def test_a_signal_drowned_in_noise_gives_an_infinite_scale():
    assert GradientNoise(torch.tensor([[-1.0]]), torch.tensor([[2.0]])).scale.isinf().all()


def test_too_few_examples_and_swapped_batches_are_refused():
    with pytest.raises(InputError, match="two at least"):
        gradient_noise(torch.ones(1, 1), torch.ones(1, 2))
    with pytest.raises(InputError, match="the smaller one"):
        two_batches(torch.ones(1, 2), torch.ones(1, 2), sizes=(8, 8))
