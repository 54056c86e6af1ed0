"""Every rule finds the fault of its sick loop, none fires on a healthy one, and watching changes no
number.
"""

import contextlib
import copy
import io
import itertools
import json
import math
import pickle
import tracemalloc

import pytest
import torch
import torch.nn.functional as F
import torch.optim.optimizer as torch_optimizer
from healthy_loops import HEALTHY, all_examples, averaged, frozen_backbone, game, plain
from sick_loops import (
    SICK,
    all_ignored,
    always_overflows,
    backward_last,
    clipped_before_unscaling,
    constant_row,
    dead_layer,
    drawn_anew,
    eval_left_on,
    group_at_zero,
    head_left_out,
    infinite_class_weight,
    loss_made_anew,
    nan_in_data,
    no_activation,
    no_zero_grad,
    nothing_to_attend_to,
    plain_list,
    rate_too_high,
    root_of_zero,
    same_batch,
    set_back,
    softmax_twice,
    wiped,
)
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LRScheduler, StepLR
from training_loops import STEPS, batches, classes, mlp, sgd, teach

import ravine
from ravine.diagnosis.registry import LOOP_RULES
from ravine.errors import InputError
from ravine.finding import Report
from ravine.watching.step_hooks import StepHooks


class NoWatcher:
    """In place of a watcher: does nothing."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def loss(self, value):
        return value


class RecordingWatch:
    """`ravine.watch` with settings; keeps the watchers that it made."""

    def __init__(self, **settings):
        self.settings, self.watchers = settings, []

    def __call__(self, *args, **settings):
        self.watchers.append(ravine.watch(*args, **{"quiet": True, **self.settings, **settings}))
        return self.watchers[-1]


def loop_name(loop):
    return getattr(loop, "__name__", None)


def run(loop, watch, seed=0):
    torch.manual_seed(seed)
    return loop(watch)


@pytest.mark.parametrize(("loop", "code"), SICK)
def test_every_rule_fires_on_its_sick_loop(loop, code):
    watch = RecordingWatch()
    run(loop, watch)
    report = watch.watchers[0].report()
    first = report.findings[0]
    assert code in (first.code, *first.explains), [(f.code, f.title) for f in report.findings]
    assert report.checks.failed == ()


def test_every_rule_has_a_sick_loop():
    assert {code for _, code in SICK} == {rule.code for rule in LOOP_RULES}


def assert_no_alarm(watch):
    """Nothing above a note was found, and no check failed."""
    for watcher in watch.watchers:
        report = watcher.report()
        assert [
            (f.code, f.where, f.evidence) for f in report.findings if f.severity != "note"
        ] == []
        assert report.checks.failed == ()
        assert len(report.checks.passed) > 10


@pytest.mark.parametrize("loop", HEALTHY, ids=loop_name)
def test_healthy_loops_train_the_same_and_get_no_alarm(loop):
    watch = RecordingWatch(every=10)  # many inspected steps: more occasions for a false alarm
    watched = run(loop, watch)
    state = torch.get_rng_state()
    assert_no_alarm(watch)
    alone = run(loop, NoWatcher)
    assert torch.equal(state, torch.get_rng_state())
    assert len(watched) == len(alone) > 0
    assert all(torch.equal(a, b) for a, b in zip(watched, alone, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("loop", HEALTHY, ids=loop_name)
def test_no_rule_fires_on_healthy_loops_with_other_seeds(loop):
    for seed in (1, 2, 3):
        watch = RecordingWatch(every=10)
        run(loop, watch, seed)
        assert_no_alarm(watch)


def test_no_hook_stays_behind():
    model = mlp()
    step, train = LRScheduler.step, nn.Module.train
    optimizer = sgd(model)
    # after torch, which changes the first when an optimizer is made
    seeds = torch.manual_seed, torch.random.manual_seed, torch.random.set_rng_state
    teach(RecordingWatch(), model, optimizer, steps=3, after=lambda _: model.eval())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters())
    assert not torch_optimizer._global_optimizer_pre_hooks
    assert not torch_optimizer._global_optimizer_post_hooks
    assert nn.utils.clip_grad_norm_.__closure__[0].cell_contents is clip_grad_norm_.__wrapped__
    assert StepLR.step is LRScheduler.step is step and nn.Module.train is train
    assert (torch.manual_seed, torch.random.manual_seed, torch.random.set_rng_state) == seeds


def test_only_the_first_pass_of_an_evaluation_is_read():
    model = mlp()
    hooks, watch, module = [], RecordingWatch(), torch.nn.modules.module

    def evaluate(i):
        if i >= 10:  # in steps that are not inspected, the model has no hook
            model.eval()
            hooks.append(len(module._global_forward_pre_hooks))
            assert not model._forward_pre_hooks  # with one, it could not be scripted
            model(torch.full((32, 8), 2.0))
            hooks.append(len(module._global_forward_pre_hooks))
            model(torch.zeros(32, 8))
            model.train()

    teach(watch, model, sgd(model), steps=14, after=evaluate)
    assert hooks == 4 * [1, 0]
    assert [r.mean for r in watch.watchers[0].history.evaluations] == 4 * [2.0]


def test_frozen_parameters_are_noted():
    watch = RecordingWatch()
    run(frozen_backbone, watch)
    (finding,) = watch.watchers[0].findings()
    assert (finding.code, finding.severity, finding.where) == (
        "RVN-L08",
        "note",
        "0.weight, 0.bias",
    )


@pytest.mark.parametrize(
    ("loop", "latest"),
    [
        (no_zero_grad, 4),
        (wiped, 3),
        (backward_last, 4),
        (plain_list, 1),
        (loss_made_anew, 1),
        (softmax_twice, 1),
        (eval_left_on, 12),
    ],
)
def test_faults_are_found_within_a_few_steps(loop, latest):
    class Stop(Exception):
        pass

    class StoppingWatch(RecordingWatch):
        def __call__(self, *args, **settings):
            watcher = super().__call__(*args, **settings)
            report = watcher.loss

            def loss(value):
                if watcher.history.steps > latest:
                    raise Stop
                return report(value)

            watcher.loss = loss
            return watcher

    watch = StoppingWatch()
    with contextlib.suppress(Stop):
        run(loop, watch)
    assert watch.watchers[0].findings()


@pytest.mark.parametrize(
    ("loop", "cause", "where"),
    [
        (rate_too_high, "learning-rate-high", None),
        (nan_in_data, "data-degenerate", None),
        (root_of_zero, "loss", None),
        (all_ignored, "data-degenerate", None),
        (constant_row, "data-degenerate", None),
        (lambda watch: constant_row(watch, float_loss=True), "data-degenerate", None),
        (nothing_to_attend_to, "data-degenerate", None),
        (infinite_class_weight, "data-degenerate", None),
        (no_activation, "hidden-activation", "between 0.weight and 1.weight"),
        (plain_list, "parameters-not-in-optimizer", "layers.0.weight"),
        (dead_layer, "dead-units", "2.weight"),
        (head_left_out, "parameters-not-in-optimizer", "4."),
        (softmax_twice, "output-activation", "1"),
        (set_back, "initialization", "0.weight"),
        (group_at_zero, "learning-rate-low", "0.weight"),
        (always_overflows, "precision", None),
    ],
)
def test_cause_and_place_are_named(loop, cause, where):
    watch = RecordingWatch()
    run(loop, watch)
    first = watch.watchers[0].findings()[0]
    assert first.cause == cause and (where or "") in first.where
    assert cause == "learning-rate-high" or "lr" not in [c.path for c in first.changes] or where


def test_a_finding_is_printed_once_and_again_in_the_report(monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr("sys.stderr", printed)
    run(no_zero_grad, lambda *a: ravine.watch(*a))
    lines = printed.getvalue().splitlines()
    assert sum(line.startswith("ravine: ") for line in lines) == 1 and "RVN-L01" in lines[0]
    assert max(map(len, lines)) <= 80 and "1 error" in lines[-1]


def test_a_healthy_loop_gets_one_line(monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr("sys.stderr", printed)
    run(plain, lambda *a: ravine.watch(*a))
    assert len(printed.getvalue().splitlines()) == 1 and "nothing found in" in printed.getvalue()


def test_the_report_comes_back_from_json():
    watch = RecordingWatch()
    run(rate_too_high, watch)
    report = watch.watchers[0].report()
    assert (
        Report.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))).to_json()
        == report.to_json()
    )


def test_an_error_in_a_hook_does_not_stop_the_loop(monkeypatch):
    monkeypatch.setattr(StepHooks, "_record", lambda *_: 1 / 0)
    watch = RecordingWatch()
    assert run(plain, watch)
    assert "ZeroDivisionError" in watch.watchers[0].report().checks.failed[0]


def findings_of(loop, code):
    watch = RecordingWatch()
    run(loop, watch)
    return [f for f in watch.watchers[0].findings() if f.code == code]


def test_restored_weights_are_no_finding_and_clamped_ones_a_note():
    assert findings_of(averaged, "RVN-L20") == []
    (cut,) = findings_of(game, "RVN-L20")
    assert cut.severity == "note" and "range" in cut.title and not cut.changes
    (anew,) = findings_of(drawn_anew, "RVN-L20")
    assert anew.severity == "warning" and anew.evidence[1].value == 10  # steps apart


def test_a_repeated_batch_is_a_fault_only_if_it_comes_from_a_larger_table():
    (bad,), (whole,) = findings_of(same_batch, "RVN-L22"), findings_of(all_examples, "RVN-L22")
    assert (bad.severity, whole.severity) == ("warning", "note")
    assert [e.value for e in bad.evidence[1:]] == [32, 256] and not whole.changes


def test_clipping_before_unscaling_is_told_from_clipping_too_much():
    (found,) = findings_of(clipped_before_unscaling, "RVN-L17")
    assert found.suspects == ("precision",) and "unscale_" in found.changes[0].value


def test_gradients_from_before_the_loop_are_not_those_of_earlier_steps():
    model = mlp()
    optimizer = sgd(model)
    x, y = classes()
    F.cross_entropy(model(x), y).backward()
    watch = RecordingWatch()
    with watch(model, optimizer) as watched:
        for a, b in batches(x, y, STEPS):
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert watch.watchers[0].findings() == ()


def test_a_loss_at_its_minimum_is_not_reported_as_rounding():
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = sgd(model, 0.5)
    x = torch.randn(8, 2)
    y = x @ torch.tensor([[0.3], [0.7]]) + 0.1 + torch.randn(8, 1)
    with ravine.watch(model, optimizer, quiet=True, every=10) as watched:
        for _ in range(1200):
            optimizer.zero_grad()
            watched.loss(F.mse_loss(model(x), y)).backward()
            optimizer.step()
    assert (
        watched.history.snapshots[-1].unchanged_fraction == 1.0
    )  # the weights stand still, their gradient is not quite 0
    assert [f.code for f in watched.findings() if f.severity != "note"] == []


def watched_steps(steps, at=(), *, fault=lambda model, loss: loss, reports=1):
    """A watcher after each of some steps, with a fault in some of them."""
    torch.manual_seed(0)
    model = mlp()
    optimizer = sgd(model)
    with ravine.watch(model, optimizer, quiet=True) as watched:
        for i, (a, b) in enumerate(batches(*classes(), steps)):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(a), b)
            for _ in range(reports):
                watched.loss(fault(model, loss) if i in at else loss)
            loss.backward()
            optimizer.step()
            yield watched


@pytest.mark.parametrize("at", [143, 149, 150, 155])
def test_a_loss_that_is_nan_between_inspected_steps_is_found_at_once(at):
    watch = watched_steps(at + 1, (at,), fault=lambda model, loss: loss * math.nan)
    *_, watched = itertools.islice(watch, at + 1)
    assert [f.code for f in watched.findings()] == ["RVN-N01"]
    assert watched.history.nonfinite.step == at


def test_weights_that_are_written_between_inspected_steps_are_found():
    def draw(model, loss):
        nn.init.normal_(model[0].weight)
        return loss

    *_, watched = watched_steps(170, (141, 149, 150), fault=draw)
    overwrites = watched.history.model.overwrites
    # the first one only shows that something writes them
    assert (overwrites.unrelated, overwrites.first_step, overwrites.interval) == (2, 149, 1)
    assert "RVN-L20" in [f.code for f in watched.findings()]


def test_every_step_and_loss_between_inspected_steps_is_counted():
    for steps, watched in enumerate(watched_steps(190, reports=3), 1):
        assert watched.history.steps == watched._steps.monitors[0].steps == steps
        assert watched.report() and watched.history.loss.summary.count == 3 * steps
        # the losses are tested as soon as there are 64, 128, ... of them
        assert watched._rules.next_losses > 3 * steps
        assert watched.history.events.replace("B", "")[-4:] == "LLLS"


def test_a_rate_that_is_set_to_0_between_inspected_steps_is_read_at_once():
    for step, watched in enumerate(watched_steps(170)):
        if step == 140:
            watched._steps.monitors[0].optimizer.param_groups[0]["lr"] = 0.0
    assert watched.history.rates.last_fall == 142
    assert watched.history.rates.steps_at_zero == 29


def test_a_rate_that_a_tensor_holds_is_read_within_ten_steps():
    for step, watched in enumerate(watched_steps(170)):
        group = watched._steps.monitors[0].optimizer.param_groups[0]
        if step == 20:
            group["lr"] = torch.tensor(float(group["lr"]))
        if step == 140:
            group["lr"].zero_()
    assert watched.history.rates.last_fall == 150
    assert watched.history.rates.steps_at_zero == 21


def test_losses_that_come_from_an_accelerator_are_not_read_one_by_one():
    """Stands in for an accelerator: a loss that says that it is not on the CPU."""

    class Elsewhere(torch.Tensor):
        is_cpu = False

    watched = ravine.watch(nn.Linear(2, 1), quiet=True)
    for _ in range(30):
        watched.loss(torch.tensor(1.0).as_subclass(Elsewhere))
    assert watched._losses.quiet_losses() == 0
    watched.loss(torch.tensor(1.0))
    assert watched._losses.quiet_losses() > 0


def test_an_error_between_inspected_steps_ends_the_watch_with_all_that_was_seen():
    seen = []
    with pytest.raises(ZeroDivisionError):
        for watched in watched_steps(170, (143,), fault=lambda model, loss: 1 / 0):
            seen.append(watched)
    history = seen[-1].history
    assert history.ended and history.steps == 143 and history.loss.summary.count == 143
    assert seen[-1].report().checks.failed == ()


def test_watching_takes_constant_memory():
    model = nn.Linear(2, 1)
    optimizer = sgd(model, 1e-3)
    x = torch.randn(4, 2)
    with ravine.watch(model, optimizer, quiet=True, every=10) as watched:
        taken = []
        tracemalloc.start()
        for i in range(1500):
            if i in (750, 1499):
                taken.append(tracemalloc.get_traced_memory()[0])
            optimizer.zero_grad()
            watched.loss(model(x).square().mean()).backward()
            optimizer.step()
        tracemalloc.stop()
    assert len(watched.history.tape) <= 400 and len(watched.history.snapshots) <= 80
    # bytes in 750 steps; 150 of them are inspected, a snapshot takes 1,500 bytes
    assert taken[1] - taken[0] < 50_000


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # torch's own, when its compiler is imported
@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("how", ["whole", "part", "in place"])
def test_compiled_models_train_the_same_and_checks_of_their_inside_are_not_measured(backend, how):
    def loop(watch, forget=False):
        torch._dynamo.reset()
        inner = nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3)
        )
        model = torch.compile(inner, backend=backend) if how == "whole" else inner
        if how == "part":
            inner[0] = torch.compile(inner[0], backend=backend)
        if how == "in place":
            inner.compile(backend=backend)
        optimizer = sgd(inner)
        with watch(model, optimizer) as watched:
            for a, b in batches(*classes(), STEPS):
                if not forget:
                    optimizer.zero_grad()
                watched.loss(F.cross_entropy(model(a), b)).backward()
                optimizer.step()
        return [*inner.parameters(), *inner.buffers()]

    watch = RecordingWatch()
    watched, alone = run(loop, watch), run(loop, NoWatcher)
    assert all(torch.equal(a, b) for a, b in zip(watched, alone, strict=True))
    report = watch.watchers[0].report()
    assert report.findings == () and report.checks.failed == ()
    assert {"RVN-H01", "RVN-S02"} <= set(report.checks.not_measured)
    run(lambda w: loop(w, forget=True), watch)
    assert [f.code for f in watch.watchers[1].findings()] == ["RVN-L01"]


def test_without_a_torch_optimizer_each_loss_is_a_step():
    torch.manual_seed(0)
    model = mlp()
    with ravine.watch(model, quiet=True) as watched:
        for a, b in batches(*classes(), STEPS):
            model.zero_grad()
            value = F.cross_entropy(nn.functional.softmax(model(a), dim=1), b)
            value.backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.05 * p.grad
            watched.loss(value)
    assert [f.code for f in watched.findings()] == ["RVN-H01"]
    assert watched.report().checks.failed == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, ()), "torch.nn.Module"),
        ((nn.Linear(1, 1), 3), "Optimizer"),
        ((nn.Linear(1, 1), [3]), "Optimizer"),
    ],
)
def test_arguments_that_cannot_be_watched_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        ravine.watch(*arguments)
    with pytest.raises(InputError, match="every"):
        ravine.watch(nn.Linear(1, 1), every=2)
    for scheduler in (3, [StepLR], object()):
        with pytest.raises(InputError, match=r"scheduler is a \w+: it has no step"):
            ravine.watch(nn.Linear(1, 1), scheduler=scheduler)


class Falling:
    """A scheduler of one's own: the rate of each step is a part of that before."""

    __slots__ = ("factor", "optimizer")

    def __init__(self, optimizer, factor):
        self.optimizer, self.factor = optimizer, factor

    def step(self):
        for group in self.optimizer.param_groups:
            group["lr"] *= self.factor


class Wrapped:
    """One of torch's schedulers in another object, as libraries do it."""

    def __init__(self, optimizer, factor):
        self.inner = StepLR(optimizer, step_size=1, gamma=factor)

    def step(self):
        self.inner.step()


@pytest.mark.parametrize("make", [Falling, Wrapped])
@pytest.mark.parametrize(("factor", "codes"), [(0.99, []), (0.1, ["RVN-L16"]), (0.0, ["RVN-L18"])])
def test_a_scheduler_of_any_class_is_judged_by_the_rates_it_sets(make, factor, codes):
    torch.manual_seed(0)
    model = mlp()
    optimizer = sgd(model)
    scheduler = make(optimizer, factor)
    with ravine.watch(model, optimizer, scheduler=scheduler, quiet=True) as watched:
        for a, b in batches(*classes(), 4 * STEPS):
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()
            scheduler.step()
    found = {f.code for f in watched.findings()}
    assert set(codes) <= found and (codes or not found)
    assert watched.report().checks.failed == ()


def test_a_copy_and_a_file_of_a_watched_model_have_no_working_hooks():
    model = mlp()
    watch, copies = RecordingWatch(), []

    def keep(i):
        model.eval()
        copies.extend((copy.deepcopy(model), pickle.loads(pickle.dumps(model))))  # noqa: S301
        for copied in copies[-2:]:
            copied(torch.ones(32, 8))
            copied(torch.ones(32, 8))
        model(torch.full((32, 8), 2.0))
        model.train()

    teach(watch, model, sgd(model), steps=12, after=keep)
    assert watch.watchers[0].report().checks.failed == ()
    assert {e.mean for e in watch.watchers[0].history.evaluations} == {2.0}


@pytest.mark.parametrize(
    ("targets", "cause"),
    [
        (lambda z: z.sign(), "labels"),  # -1 and 1
        (lambda z: (z > 0) + 1.0, "labels"),  # 1 and 2
        (lambda z: (z * 40 + 120).clamp(0, 255).round(), "target-scale"),  # pixels
        (lambda z: z, "loss"),  # standardized numbers
    ],
)
def test_targets_of_a_binary_loss_outside_0_to_1_are_named_for_what_they_are(targets, cause):
    torch.manual_seed(0)
    x = torch.randn(60, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with ravine.watch(model, optimizer, quiet=True) as watched:
        for _ in range(3):
            y = targets(x[:, :1] - x[:, 1:2])
            loss = watched.loss(F.binary_cross_entropy_with_logits(model(x), y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = {f.code: f for f in watched.findings()}
    assert found["RVN-H09"].cause == cause


@pytest.mark.parametrize(
    ("loss", "cause"),
    [
        (lambda out, y: ((1 - y) * out - torch.exp(-out)).mean(), "loss"),
        (lambda out, y: -((out - y) ** 4).mean(), "loss"),
        (lambda out, y: (out.exp() * (y - 1)).sum(), "loss"),
        (lambda out, y: ((out - y) ** 4).mean(), "learning-rate-high"),
    ],
)
def test_a_loss_that_falls_until_it_is_not_finite_has_no_least_value(loss, cause):
    torch.manual_seed(0)
    x = torch.randn(60, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with ravine.watch(model, optimizer, quiet=True) as watched:
        for _ in range(60):
            value = watched.loss(loss(model(x), (x[:, :1] > 0).float()))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    found = {f.code: f for f in watched.findings()}
    assert found["RVN-N01"].cause == cause


@pytest.mark.parametrize(("batch", "found"), [(64, False), (32, True)])
def test_rprop_fits_all_examples_at_once_in_whatever_order(batch, found):
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Rprop(model.parameters())
    with ravine.watch(model, optimizer, quiet=True) as watched:
        for _ in range(12):
            rows = torch.randperm(64)[:batch]
            loss = watched.loss(F.mse_loss(model(x[rows]), x[rows, :1]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert ("RVN-L40" in {f.code for f in watched.findings()}) is found


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.LazyLinear(8), nn.ReLU()), nn.Linear(4, 8, device="meta")]
)
def test_weights_that_are_not_made_yet_are_refused(model):
    with pytest.raises(InputError, match="has no numbers yet"):
        ravine.watch(model)


def test_batch_norm_that_is_made_at_its_first_pass_is_watched():
    model = nn.Sequential(nn.Linear(8, 8), nn.LazyBatchNorm1d(affine=False), nn.Linear(8, 3))
    with ravine.watch(model, quiet=True) as watcher:
        watcher.loss(F.cross_entropy(model(torch.randn(16, 8)), torch.arange(16) % 3))
