"""The graph behind a loss, read: names, shapes, which weight feeds what."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.training_loop.autograd_graph import read_graph
from ravine.diagnosis.training_loop.parameter_names import hidden_parameters
from ravine.diagnosis.training_loop.tensor_stats import (
    count_duplicate_rows,
    has_default_initialization,
)
from ravine.watching.module_hooks import inactive_units


def read(model, loss):
    return read_graph(loss, {id(p): n for n, p in model.named_parameters()})


def test_a_loss_without_a_graph_has_none():
    assert read_graph(torch.tensor(1.0), {}) is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4)])
def test_weights_are_named_with_and_without_bias_and_in_sequences(bias, shape):
    model = nn.Sequential(nn.Linear(4, 6, bias=bias), nn.ReLU(), nn.Linear(6, 2, bias=bias))
    graph = read(model, model(torch.randn(shape)).square().mean())
    assert graph.parameters == set(dict(model.named_parameters()))
    assert [graph.weight_of(i) for i in graph.affine_places()] == ["2.weight", "0.weight"]
    assert graph.rectified_weights == {"0.weight": "0.weight"}


def test_a_batch_norm_between_a_layer_and_its_rectifier_is_the_gate():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU6(), nn.Conv2d(3, 2, 3), nn.Hardtanh()
    )
    graph = read(model, model(torch.randn(2, 1, 6, 6)).mean())
    assert graph.rectified_weights == {
        "0.weight": "1.weight"
    }  # a hardtanh goes below 0: it leaves no unit dark


def test_the_head_ends_at_the_last_layers():
    model = nn.Sequential(nn.Linear(4, 6), nn.Softmax(dim=1), nn.Linear(6, 2), nn.Sigmoid())
    graph = read(model, F.binary_cross_entropy(model(torch.randn(5, 4)), torch.rand(5, 2)))
    names = [graph.nodes[i].name for i in graph.head]
    assert names == ["BinaryCrossEntropy", "Sigmoid", "Addmm"]
    assert graph.last_weight(0) == "2.weight"


@pytest.mark.parametrize("dim", [1, -1, 0])
def test_the_dimension_of_a_softmax_is_signed(dim):
    model = nn.Linear(4, 3)
    graph = read(model, model(torch.randn(5, 4)).softmax(dim).square().mean())
    (node,) = [n for n in graph.nodes if n.name == "Softmax"]
    assert node.dim == dim and node.shape == (5, 3)


def test_the_share_of_a_target_that_cannot_be_met():
    model = nn.Linear(4, 1)
    target = torch.tensor([[-1.0], [0.0], [1.0], [2.0]])
    out = model(torch.randn(4, 4))
    lost = read(model, F.mse_loss(out.sigmoid(), target)).unreachable
    assert list(lost.values()) == [
        pytest.approx(2 / 5)
    ]  # (-1 - 0)^2 + (2 - 1)^2 of 1.5^2 + .5^2 + .5^2 + 1.5^2
    assert read(model, F.mse_loss(out, target)).unreachable == {}


def test_a_freed_graph_can_still_be_read():
    model = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    loss = F.mse_loss(model(torch.randn(5, 4)), torch.zeros(5, 3))
    loss.backward()
    assert read(model, loss).source_name(1) == "Softmax"


def test_equal_rows_are_counted():
    assert (
        count_duplicate_rows(torch.zeros(4, 3, 2, 2)) == 4
        and count_duplicate_rows(torch.randn(4, 30)) == 0
    )
    same = torch.randn(5, 30)
    same[3] = same[0]
    assert count_duplicate_rows(same) == 2
    same[3, 20] += 1  # equal in the first eight only
    assert count_duplicate_rows(same) == 0


def test_inactive_units_of_convolutions_and_sequences():
    made = torch.ones(2, 3, 4, 4)
    made[:, 1] = -1
    assert (
        inactive_units(made, last=False)[0].tolist() == [False, True, False]
        and inactive_units(made, last=False)[1] == 2
    )
    units, rows = inactive_units(made.movedim(1, -1), last=True)
    assert units.tolist() == [False, True, False] and rows == 32


def test_a_trained_layer_does_not_look_default_initialized():
    torch.manual_seed(0)
    for layer in (
        nn.Linear(20, 30),
        nn.Linear(2, 16),  # 32 numbers are the fewest
        nn.Conv2d(4, 8, 3),
        nn.Embedding(20, 8),
        nn.GRU(8, 16),
        nn.LSTM(8, 16),
    ):
        weights = [p for p in layer.parameters() if p.dim() > 1]
        assert all(has_default_initialization(p, layer) for p in weights)
        assert not any(has_default_initialization(p * 1.5, layer) for p in weights)
    small = nn.Linear(3, 16)
    assert not has_default_initialization(small.weight * 0.8, small)  # none is near the bound
    layer = nn.Linear(20, 30)
    assert not has_default_initialization(nn.init.kaiming_normal_(layer.weight), layer)


def test_registered_lists_hide_nothing():
    model = nn.Module()
    model.known = nn.ModuleList([nn.Linear(2, 2)])
    model.again = [model.known[0]]
    model.by_name = {"a": nn.Linear(2, 2, bias=False), "b": 3}
    assert list(hidden_parameters(model)) == ["by_name.a.weight"]


def test_the_terms_of_a_loss_have_their_factors():
    a, b, c = (torch.ones((), requires_grad=True).square() for _ in range(3))
    loss = torch.add(2 * a, 3 * (b - c) / 4, alpha=0.5)
    graph = read(nn.Module(), loss)
    assert sorted(factor for _, factor in graph.terms()) == [-0.375, 0.375, 2.0]


def test_a_number_that_is_added_to_itself_again_and_again_takes_no_time():
    value = torch.ones((), requires_grad=True).square()
    for _ in range(60):  # 2^60 terms
        value = value + value
    assert len(list(read(nn.Module(), value).terms())) <= 1000


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (lambda joined: joined[:, :2], {"a"}),
        (lambda joined: joined[:, 2:], {"b"}),
        (lambda joined: joined[:, 2:7], {"b"}),
        (lambda joined: joined[:, -5:], {"b"}),
        (lambda joined: joined[:, 1:3], {"a", "b"}),
        (lambda joined: joined[:, 3:], {"a", "b"}),
        (lambda joined: joined[:2], {"a", "b"}),
        (lambda joined: joined[:2, :2], {"a", "b"}),
    ],
)
def test_a_slice_of_joined_outputs_is_the_output_that_it_cuts(cut, expected):
    """Autograd agrees: the gradient by what is not cut is 0."""
    a, b = torch.ones(3, 2, requires_grad=True), torch.ones(3, 5, requires_grad=True)
    total = cut(torch.cat([a * 2, b * 3], 1)).sum()
    graph = read_graph(total, {id(a): "a", id(b): "b"})
    assert graph is not None and graph.parameters == expected
    total.backward()
    reached = {n for n, t in (("a", a), ("b", b)) if t.grad is not None and bool(t.grad.any())}
    assert reached <= expected
