"""Losses: torch's functions in float64, extreme logits, gradients by differences, and independence
of networks.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from ravine.effects import Meter
from ravine.errors import RecipeError
from ravine.losses import (
    ALL,
    AbsoluteError,
    BinaryCrossEntropy,
    Huber,
    SoftmaxCrossEntropy,
    SquaredError,
)

SHAPES = [
    (1, 1),
    (1, 3),
    (7, 13),
    (16, 2),
    (31, 3),
    (33, 10),
    (32, 10),
    (16, 1),
    (9, 1),
    (5, 4),
    (32, 32),
    (3, 100),
]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def example(cls, shape, *, networks=8, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed + math.prod(shape))
    outputs = torch.randn(networks, *shape, generator=generator, dtype=dtype) * 3
    if cls is SoftmaxCrossEntropy:
        return outputs, torch.randint(shape[1], (networks, shape[0]), generator=generator)
    if cls is BinaryCrossEntropy:
        return outputs, torch.randint(2, (networks, *shape), generator=generator).to(dtype)
    return outputs, torch.randn(networks, *shape, generator=generator, dtype=dtype) * 3


def each_and_gradient(loss, outputs, targets):
    outputs = outputs.clone().requires_grad_()
    each = loss.per_example(outputs, targets)
    return each.detach(), torch.autograd.grad(each.mean(1).sum(), outputs)[0]


def reference(loss, outputs, targets):
    if isinstance(loss, SoftmaxCrossEntropy):
        return F.cross_entropy(
            outputs.transpose(1, 2), targets, reduction="none", label_smoothing=loss.label_smoothing
        )
    if isinstance(loss, BinaryCrossEntropy):
        smooth = targets * (1 - loss.label_smoothing) + loss.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, smooth, reduction="none").sum(-1)
    if isinstance(loss, Huber):
        return F.huber_loss(outputs, targets, reduction="none", delta=loss.delta).sum(-1)
    if isinstance(loss, AbsoluteError):
        return F.l1_loss(outputs, targets, reduction="none").sum(-1)
    return F.mse_loss(outputs, targets, reduction="none").sum(-1) / 2


LOSSES = [
    SquaredError(),
    AbsoluteError(),
    Huber(),
    Huber(delta=0.3),
    BinaryCrossEntropy(),
    SoftmaxCrossEntropy(),
    BinaryCrossEntropy(label_smoothing=0.1),
    SoftmaxCrossEntropy(label_smoothing=0.2),
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch_in_float64(loss, shape):
    outputs, targets = example(type(loss), shape, dtype=torch.float64)
    each, gradient = each_and_gradient(loss, outputs, targets)
    leaf = outputs.clone().requires_grad_()
    expected = reference(loss, leaf, targets)
    assert each.shape == (8, shape[0])
    torch.testing.assert_close(each, expected.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected.mean(1).sum(), leaf)[0], rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (32, 10), (16, 2)])
def test_gradients_are_finite_differences(loss, shape):
    outputs, targets = example(type(loss), shape, networks=2, dtype=torch.float64)
    direction = torch.randn(
        outputs.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )
    _, gradient = each_and_gradient(loss, outputs, targets)
    h = 1e-6
    above, below = (
        loss.per_example(outputs + s * h * direction, targets).mean(1).sum() for s in (1, -1)
    )
    assert float((above - below) / (2 * h)) == pytest.approx(
        float((gradient * direction).sum()), rel=1e-6
    )


@pytest.mark.parametrize("shape", [(4, 3), (3, 100)])
def test_second_derivatives_are_those_of_softmax(shape):
    outputs, targets = example(SoftmaxCrossEntropy, shape, networks=1, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(
        lambda x: SoftmaxCrossEntropy().per_example(x, targets)[0, 0], outputs
    )
    p = torch.softmax(outputs[0, 0], -1)
    torch.testing.assert_close(
        hessian[0, 0, :, 0, 0], torch.diag(p) - p[:, None] * p, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 8, 200])
def test_extreme_logits_stay_finite_and_right(dtype, batch):
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype).repeat(batch)[None, :, None]
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=dtype).repeat(batch)[None, :, None]
    each, gradient = each_and_gradient(BinaryCrossEntropy(), logits, targets)
    assert each[0, :4].tolist() == [0, 0, 1e4, 1e4]
    assert (gradient[0, :4, 0] * 4 * batch).round(decimals=4).tolist() == [0, 0, 1, -1]
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype=dtype).repeat(batch, 1)[None]
    each, gradient = each_and_gradient(
        SoftmaxCrossEntropy(), logits, torch.zeros(1, 2 * batch, dtype=torch.int64)
    )
    assert each[0, :2].tolist() == [0, 2e4]
    assert (gradient[0, :2] * 2 * batch).round(decimals=4).tolist() == [[0, 0, 0], [-1, 1, 0]]


def test_at_zero_logits_the_loss_is_chance_and_the_gradient_points_at_the_target():
    zero = torch.zeros(1, 9, 1)
    each, gradient = each_and_gradient(BinaryCrossEntropy(), zero, torch.ones(1, 9, 1))
    torch.testing.assert_close(each, torch.full((1, 9), math.log(2)))
    torch.testing.assert_close(gradient, torch.full((1, 9, 1), -0.5 / 9))
    each, _ = each_and_gradient(
        SoftmaxCrossEntropy(), torch.zeros(1, 9, 7), torch.zeros(1, 9, dtype=torch.int64)
    )
    torch.testing.assert_close(each, torch.full((1, 9), math.log(7)))


def test_predictions():
    x = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(SquaredError().predict(x), x)
    torch.testing.assert_close(
        BinaryCrossEntropy().predict(x), torch.sigmoid(x), rtol=1e-14, atol=0
    )
    torch.testing.assert_close(
        SoftmaxCrossEntropy().predict(x).sum(-1), torch.ones(3, 7, dtype=torch.float64)
    )
    assert BinaryCrossEntropy().predict(torch.tensor([-1e4, 1e4])).tolist() == [0, 1]


def test_smoothing_reports_the_change_of_the_targets():
    meter = Meter(2)
    column = torch.tensor([[0.0], [0.3]], dtype=torch.float64)
    outputs, targets = example(SoftmaxCrossEntropy, (6, 3), networks=2)
    SoftmaxCrossEntropy(label_smoothing=column).per_example(outputs, targets, meter)
    one_hot = F.one_hot(targets, 3).double()
    expected = (one_hot * 0.7 + 0.1 - one_hot)[1].abs().mean()
    assert meter.means()["label smoothing"].tolist() == pytest.approx([0.0, float(expected)])
    meter = Meter(2)
    outputs, targets = example(BinaryCrossEntropy, (6, 1), networks=2)
    BinaryCrossEntropy(label_smoothing=column).per_example(outputs, targets, meter)
    assert meter.means()["label smoothing"].tolist() == pytest.approx([0.0, 0.15])
    silent = Meter(2)
    BinaryCrossEntropy().per_example(outputs, targets, silent)
    assert not silent.means()


def test_settings_out_of_range_are_refused():
    with pytest.raises(RecipeError, match="label_smoothing"):
        SoftmaxCrossEntropy(label_smoothing=1.0)
    with pytest.raises(RecipeError, match="delta"):
        Huber(delta=0.0)


# The battery


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_network_gets_the_same_bits_alone_and_in_a_cohort(cls, shape, smoothing):
    smooths = cls in (BinaryCrossEntropy, SoftmaxCrossEntropy)
    values = [0.0, smoothing, 0.3 * bool(smoothing)] if smooths else [0.5, 1.0, 2.0]
    outputs, targets = example(cls, shape, networks=3)

    def made(value):
        return (
            cls(label_smoothing=value) if smooths else Huber(delta=value) if cls is Huber else cls()
        )

    together = made(torch.tensor(values, dtype=torch.float64).view(-1, 1))
    each, gradient = each_and_gradient(together, outputs, targets)
    predicted = together.predict(outputs)
    for i, value in enumerate(values):
        for alone in (made(value), made(torch.tensor([[value]], dtype=torch.float64))):
            each_alone, gradient_alone = each_and_gradient(
                alone, outputs[i : i + 1], targets[i : i + 1]
            )
            assert torch.equal(each_alone[0], each[i])
            assert torch.equal(gradient_alone[0], gradient[i])
            assert torch.equal(alone.predict(outputs[i : i + 1])[0], predicted[i])


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("shape", [(5, 3), (64, 10)])
def test_a_nan_network_leaves_the_others_alone(cls, shape):
    outputs, targets = example(cls, shape, networks=3)
    sick = outputs.clone()
    sick[1] = math.nan
    each, gradient = each_and_gradient(cls(), outputs, targets)
    each_sick, gradient_sick = each_and_gradient(cls(), sick, targets)
    assert torch.equal(each[[0, 2]], each_sick[[0, 2]]) and torch.equal(
        gradient[[0, 2]], gradient_sick[[0, 2]]
    )
    assert each_sick[1].isnan().all()
