"""Loops that report no loss: their weights are read, and what was not measured is said."""

import io
import math

import pytest
import torch
from torch import nn

import ravine


def train(lr, *, steps=12, watched=True, mask=None, break_last=False, report=None):
    """A watcher of a loop, and what was printed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    if mask is not None:
        model.mask = nn.Parameter(torch.full((3,), mask))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", printed)
        with ravine.watch(model, optimizer if watched else ()) as watcher:
            for i in range(steps):
                x = torch.randn(32, 4)
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
                if break_last and i == steps - 1:
                    loss = loss * math.nan
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if report is not None and i % 5 == 0:
                    watcher.loss(report(loss))
    assert watcher.report().checks.failed == ()
    return watcher, printed.getvalue()


@pytest.mark.parametrize("watched", [True, False])
def test_weights_that_are_nan_are_an_alarm_though_no_loss_is_reported(watched):
    watcher, printed = train(100.0, watched=watched)
    (found,) = [f for f in watcher.findings() if f.severity == "error"]
    assert (found.code, found.where) == ("RVN-N01", "0.weight")
    assert "1 error" in printed.splitlines()[-1]
    assert "inf" not in printed.replace("finite", "") and "nan" not in printed
    if watched:
        assert found.cause == "learning-rate-high" and found.since == 2


@pytest.mark.parametrize("report", [None, torch.Tensor.item])
def test_weights_that_the_last_step_breaks_are_an_alarm(report):
    watcher, _ = train(0.01, steps=100, break_last=True, report=report)
    (found,) = watcher.findings()
    assert (found.code, found.severity, found.since) == ("RVN-N01", "error", None)
    assert found.title == "the weight is no longer finite"


@pytest.mark.parametrize("mask", [None, -math.inf])
def test_the_end_says_what_was_not_measured_without_a_loss(mask):
    watcher, printed = train(0.01, mask=mask)
    left_out = "what reads the loss or its graph: none was reported with watcher.loss"
    assert watcher.findings() == () and watcher.report().left_out == (left_out,)
    assert "RVN-H01" in watcher.report().checks.not_measured
    assert printed.startswith(f"left out: {left_out}\n")
    assert "nothing found in" in printed.splitlines()[-1]
    assert train(0.01, report=torch.Tensor.item)[0].report().left_out == ()
