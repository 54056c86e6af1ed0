"""How long a step takes is told from what it calculates."""

import pytest
import torch
from torch import nn

from ravine.examination.step_seconds import measure_step


def of(layer, x):
    return measure_step(lambda: layer(x), tensors=0)


def test_a_step_costs_its_operations_numbers_and_products():
    layer, x = nn.Linear(40, 30), torch.ones(100, 40)
    own = 175e-6 + 2 * 9e-6 + 1.9e-9 * 3000 + 3e-11 * 2 * 100 * 40 * 30
    assert of(layer, x) == pytest.approx(own)  # the weight is turned around, and multiplied
    update = measure_step(lambda: layer(x), tensors=2, numbers=1230) - of(layer, x)
    assert update == pytest.approx(2 * 60e-6 + 1230 * 3e-9)


def test_a_convolution_costs_more_than_its_products():
    layer, x = nn.Conv1d(1, 1, 1), torch.ones(1, 1, 10)
    assert of(layer, x) - of(nn.Linear(1, 1), x.reshape(10, 1)) == pytest.approx(450e-6, rel=0.05)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_cost_by_the_length_of_what_they_read(kind):
    """An LSTM is one operation to torch, the others are hundreds."""
    layer = kind(8, 32, batch_first=True)
    short, long = of(layer, torch.ones(16, 50, 8)), of(layer, torch.ones(16, 200, 8))
    assert long > 2 * short > 0.001
