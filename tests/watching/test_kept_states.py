"""States that are kept without a copy, and ones that are copied, saved or read at once."""

import copy
import io

import pytest
import torch
from torch import nn

import ravine


def severity(keep, *, loads=False, name="best_state", last=False):
    """What is found where `keep(model)` is called at steps 5 and 10, and loaded at step 15."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    bound = {}

    def loop():
        best_state = state = None
        with ravine.watch(model, optimizer, quiet=True) as watcher:
            for i in range(20):
                if i in (5, 10) or (last and i == 19):
                    best_state = keep(model)
                if loads and i == 15:
                    model.load_state_dict(best_state)
                    best_state = None
                optimizer.zero_grad()
                watcher.loss(model(torch.randn(8, 4)).square().mean()).backward()
                optimizer.step()
                if name != "best_state":
                    state, best_state = best_state or state, None
        bound.update(best=best_state, state=state)
        return watcher

    watcher = loop()
    assert not watcher.report().checks.failed
    assert not model._state_dict_hooks and not model._load_state_dict_pre_hooks
    return next((f.severity for f in watcher.findings() if f.code == "RVN-L43"), None)


def plain(model):
    return model.state_dict()


def renamed(model):
    return {k: v for k, v in model.state_dict().items()}


def on_the_cpu(model):
    return {k: v.cpu() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("keep", [plain, renamed, on_the_cpu])
def test_a_state_without_a_copy_is_found(keep):
    assert severity(keep) == "warning"
    assert severity(keep, name="state") == "note"
    assert severity(keep, loads=True) == "error"


def with_the_epoch(model):
    return {"epoch": 3, "model": model.state_dict()}


def test_a_state_within_a_checkpoint_is_found():
    assert severity(with_the_epoch) == "warning"


def copied(model):
    return copy.deepcopy(model.state_dict())


def cloned(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def saved(model):
    state = model.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    return state


def averaged(model):
    return {k: 0.5 * v for k, v in model.state_dict().items()}


@pytest.mark.parametrize("keep", [copied, cloned, averaged])
def test_copies_are_left_alone(keep):
    assert severity(keep) is None and severity(keep, loads=True) is None


def test_what_is_saved_in_a_file_is_left_alone():
    assert severity(saved) is None
    assert torch.save.__module__ == "torch.serialization"


def test_a_state_that_is_loaded_at_once_or_written_through_is_left_alone():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    state = model.state_dict()
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        state = model.state_dict()
        for _ in range(12):
            optimizer.zero_grad()
            watcher.loss(model(torch.randn(8, 4)).square().mean()).backward()
            optimizer.step()
            model.load_state_dict(model.state_dict())
            for value in state.values():
                value.mul_(0.999)
            model.load_state_dict(state)
    assert "RVN-L43" not in {f.code for f in watcher.findings()}
