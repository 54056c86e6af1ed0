"""What is recorded of a forward pass, and what is left alone."""

import pytest
import torch
from torch import nn

from ravine.diagnosis.initialization.forward_trace import trace_forward


class Then(nn.Module):
    """A module, and a function of its output."""

    def __init__(self, body, function):
        super().__init__()
        self.body, self.function = body, function

    def forward(self, x):
        return self.function(self.body(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda out: out.float(),  # the same tensor again: it did not come from itself
        lambda out: out.contiguous().to(torch.float32),
        lambda out: out[:, :1].squeeze(1).view(-1),
        lambda out: out,
    ],
)
def test_the_call_that_made_the_output_is_found_behind_views(function):
    trace = trace_forward(Then(nn.Linear(3, 2), function), torch.ones(4, 3))
    assert trace.output_call is not None and trace.output_call.name == "linear"


def test_a_call_follows_the_one_whose_very_output_it_takes():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    first, second, relu, last = trace_forward(model, torch.ones(5, 3)).functions
    assert second.follows(first) and relu.follows(second) and last.follows(relu)
    assert not last.follows(second) and not first.follows(second)


def test_the_source_of_a_sum_of_two_layers_is_neither():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x):
            return torch.relu(torch.relu(self.one(x)) + self.two(x))

    calls = trace_forward(Branches(), torch.ones(5, 3)).functions
    sources = [call.source and call.source.where for call in calls if call.name == "relu"]
    assert sources == ["one", None]


def test_modules_are_recorded_with_copies_that_later_steps_do_not_change():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    trace = trace_forward(model, torch.randn(5, 3), copy_modules=True)
    assert [(call.where, call.module_class) for call in trace.modules] == [
        ("0", "Linear"),
        ("1", "ReLU"),
        ("", "Sequential"),
    ]
    assert bool((trace.modules[0].outputs[0] < 0).any())  # before the rectifier wrote into it
    assert trace_forward(model, torch.randn(5, 3)).modules == []


def test_the_same_seed_gives_the_same_random_numbers():
    model = nn.Dropout(0.5).train()
    one, other = (trace_forward(model, torch.ones(99), seed=3).output for _ in range(2))
    assert torch.equal(one, other)


def test_hooks_are_taken_away_also_where_the_model_raises():
    model = Then(nn.Linear(3, 2), lambda out: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trace_forward(model, torch.ones(4, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_output_that_is_no_tensor_is_said():
    trace = trace_forward(Then(nn.Linear(3, 2), lambda out: (out, out)), torch.ones(4, 3))
    with pytest.raises(TypeError, match="the model returns a tuple, not a tensor"):
        _ = trace.output
