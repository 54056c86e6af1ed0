"""States that are kept without a copy, and ones that are copied, saved or read at once."""

import copy
import gc
import io
import weakref

import pytest
import torch
from torch import nn

import ravine
from ravine.finding import Evidence


def severity(keep, **settings):
    return getattr(found(keep, **settings), "severity", None)


def found(
    keep, *, loads=False, name="best_state", last=False, frozen=False, into=lambda model: model
):
    """What is found where `keep(model)` is called at steps 5 and 10, and loaded at step 15."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model[0].requires_grad_(not frozen)
    bound = {}

    def loop():
        best_state = state = None
        with ravine.watch(model, optimizer, quiet=True) as watcher:
            for i in range(20):
                if i in (5, 10) or (last and i == 19):
                    best_state = keep(model)
                if loads and i == 15:
                    into(model).load_state_dict(best_state)
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
    for module in model.modules():
        assert not module._state_dict_hooks and not module._load_state_dict_pre_hooks
    return next((f for f in watcher.findings() if f.code == "RVN-L43"), None)


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


def of_the_body(model):
    return model[0].state_dict()


def test_a_state_of_an_inner_module_is_found_where_it_trains():
    assert severity(of_the_body) == "warning"
    assert severity(of_the_body, loads=True, into=lambda model: model[0]) == "error"
    assert severity(of_the_body, frozen=True) is None
    assert severity(lambda model: copy.deepcopy(of_the_body(model))) is None


def test_a_note_says_what_keeps_a_state():
    seen = Evidence("what keeps it", None, text="copy.deepcopy(model.state_dict())")
    assert found(plain, name="state").evidence[1] == seen


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


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_models_and_copies_are_no_trouble():
    scripted = torch.jit.script(nn.Linear(4, 1))
    optimizer = torch.optim.SGD(scripted.parameters(), lr=0.01)
    with ravine.watch(scripted, optimizer, quiet=True) as watcher:
        for _ in range(3):
            optimizer.zero_grad()
            watcher.loss(scripted(torch.randn(8, 4)).square().mean()).backward()
            optimizer.step()
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ravine.watch(model, optimizer, quiet=True):
        twin = copy.deepcopy(model)
    twin.load_state_dict(twin.state_dict())


def test_the_caller_can_free_its_variables_after_watching():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    large = torch.zeros(10)
    reference = weakref.ref(large)
    with ravine.watch(model, optimizer, quiet=True):
        pass
    large = None
    gc.collect()
    assert reference() is None


def test_a_save_of_something_else_does_not_hide_what_is_loaded():
    def keep(model):
        torch.save({}, io.BytesIO())
        return model.state_dict()

    assert severity(keep, loads=True) == "error"
