"""How many functions of ours a reader steps through from `examine` to the user's model, and how
often it is called.
"""

import copy
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

import ravine
from ravine.examination.api import examine

PACKAGE = Path(ravine.__file__).parent


class RecordingNetwork(nn.Module):
    """Notes the functions of the package that are running at each forward pass, outermost first."""

    def __init__(self, passes, inputs=4, units=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, 2))
        self.passes = passes

    def __deepcopy__(self, memo):
        network = RecordingNetwork(self.passes)  # copies note in the same list
        network.layers = copy.deepcopy(self.layers, memo)
        return network

    def forward(self, x):
        frames = traceback.extract_stack()[:-1]
        self.passes.append([f.name for f in frames if PACKAGE in Path(f.filename).parents])
        return self.layers(x)


@pytest.mark.parametrize("lr", [0.01, 1e-5], ids=["without trials", "with trials"])
def test_from_examine_to_the_model_are_eight_functions(lr):
    torch.manual_seed(0)
    x, passes = torch.randn(200, 4), []
    examine(
        RecordingNetwork(passes),
        nn.CrossEntropyLoss(),
        (x, (x[:, 0] > 0).long()),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=lr),
        batch_size=20,
        epochs=5,
    )
    watched = ["examine", "examine_subject", "profile", "train_program"]
    assert watched in passes
    assert any("screen_remedies" in frames for frames in passes) == (lr < 0.01)
    assert max(len(frames) for frames in passes) <= 8


@pytest.mark.parametrize(
    ("examples", "batch_size", "most"),
    [(100, 20, 131), (300, 30, 231)],  # the engine before this one made 317 and 467
)
def test_a_healthy_program_of_three_epochs_costs_few_forward_passes(examples, batch_size, most):
    torch.manual_seed(0)
    x, passes = torch.randn(examples, 5), []
    report = examine(
        RecordingNetwork(passes, inputs=5, units=16),
        nn.CrossEntropyLoss(),
        (x, (x[:, 0] > x[:, 1]).long()),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1),
        batch_size=batch_size,
        epochs=3,
    )
    assert report.findings == ()
    assert len(passes) <= most
