"""Gradients that are cleared between two backward passes, and ones that are cleared on purpose."""

import pytest
import torch
from torch import nn

import ravine


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh())
        self.one, self.other = nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, x):
        h = self.body(x)
        return self.one(h).square().mean(), (self.other(h) - 1).square().mean()


def found(step, *, late=False):
    """What is found where `step(one, other, optimizer, model)` makes the gradients of a step."""
    torch.manual_seed(0)
    model = TwoHeads()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for _ in range(8):
            one, other = model(torch.randn(16, 6))
            optimizer.zero_grad()
            if not late:
                watcher.loss(one + other)
            step(one, other, optimizer, model)
            optimizer.step()
            if late:
                watcher.loss(one + other)
    assert not watcher.report().checks.failed
    return {f.code: f.where for f in watcher.findings() if f.severity == "error"}


def zeroed(one, other, optimizer, model):
    one.backward(retain_graph=True)
    optimizer.zero_grad()
    other.backward()


def set_to_zero(one, other, optimizer, model):
    other.backward(retain_graph=True)
    optimizer.zero_grad(set_to_none=False)
    one.backward()


def of_the_model(one, other, optimizer, model):
    one.backward(retain_graph=True)
    model.zero_grad()
    other.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("step", "head"), [(zeroed, "one"), (set_to_zero, "other"), (of_the_model, "one")]
)
def test_a_head_whose_gradient_is_cleared_is_found(step, head, late):
    assert found(step, late=late) == {"RVN-L21": f"{head}.weight, {head}.bias"}


def both(one, other, optimizer, model):
    one.backward(retain_graph=True)
    other.backward()


def first_head_frozen(one, other, optimizer, model):
    """The gradients of a head are removed, as the last layer's in the first epochs of DINO."""
    (one + other).backward()
    model.one.zero_grad()


def sharpness(one, other, optimizer, model):
    (one + other).backward()
    optimizer.zero_grad()
    torch.stack(model(torch.randn(16, 6))).sum().backward()


def merged(one, other, optimizer, model):
    one.backward(retain_graph=True)
    kept = [p.grad for p in model.parameters()]
    optimizer.zero_grad()
    other.backward()
    for p, grad in zip(model.parameters(), kept, strict=True):
        p.grad = grad if p.grad is None else p.grad if grad is None else p.grad + grad


def only_one(one, other, optimizer, model):
    other.backward()


turn = iter(range(100))


def in_turn(one, other, optimizer, model):
    zeroed(*((one, other) if next(turn) % 2 else (other, one)), optimizer, model)


@pytest.mark.parametrize("step", [both, first_head_frozen, sharpness, merged, only_one, in_turn])
def test_gradients_that_are_used_or_removed_on_purpose_are_left_alone(step):
    assert "RVN-L21" not in found(step, late=True)
