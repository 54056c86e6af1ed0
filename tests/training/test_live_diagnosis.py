"""What a run measures of its own course, and what it says of it while it lasts."""

import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ravine import catalog, losses
from ravine.cli import run_command
from ravine.diagnosis.training_curves.series import INTERIM_FRACTIONS, curves_of_record
from ravine.effects import Meter
from ravine.finding import Finding
from ravine.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    Huber,
    SoftmaxCrossEntropy,
    SquaredError,
)
from ravine.recipe_files import with_settings
from ravine.reporting.progress import ProgressLine
from ravine.training.cohort_state import TrainingLog
from ravine.training.live_diagnosis import is_diagnosis_due
from ravine.training.step_statistics import log_loss_rise
from ravine.training.train import resume, train

SICK = (
    'clip={name="ClipNorm",limit=0.0001}',
    "epochs=30",
    "seeds=2",
    "data.source=iris",
)  # three findings while it lasts


def recipe(*settings, base="plain"):
    made = catalog.named_recipe(base)
    for setting in settings:
        made = with_settings(made, setting)
    return made


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sick") / "run"
    told = []
    return train(recipe(*SICK), out=folder, workers=1, report=told.append), told


# What is measured


@pytest.mark.parametrize(
    "loss",
    [
        SquaredError(),
        AbsoluteError(),
        Huber(delta=0.3),
        BinaryCrossEntropy(label_smoothing=0.1),
        SoftmaxCrossEntropy(),
        SoftmaxCrossEntropy(label_smoothing=0.2),
    ],
    ids=repr,
)
def test_no_other_constant_is_better(loss):
    """Against gradient descent from where it stands: nothing is left to gain."""
    make = torch.Generator().manual_seed(0)
    classes = isinstance(loss, SoftmaxCrossEntropy)
    draws = torch.randn(80, 3, generator=make, dtype=torch.float64)
    targets = (
        draws.argmax(1)
        if classes
        else (draws > 0).double()
        if isinstance(loss, BinaryCrossEntropy)
        else draws
    )
    shares = torch.rand(80, generator=make, dtype=torch.float64)
    shares = shares / shares.sum()

    def mean(answer):
        expanded = None if classes else targets[None]
        each = loss.per_example(
            answer[:, None].expand(-1, 80, -1), targets[None] if expanded is None else expanded
        )
        return (each * shares).sum()

    found = loss.best_constant(targets, shares, 3)
    free = found.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([free], lr=0.1, max_iter=200)

    def closure():
        optimizer.zero_grad()
        value = mean(free)
        value.backward()
        return value

    optimizer.step(closure)
    assert found.shape == (1, 3)
    assert float(mean(found)) <= float(mean(free).detach()) + 1e-9
    assert float(mean(found)) < float(mean(torch.zeros(1, 3, dtype=torch.float64)))


def test_every_loss_knows_its_constant():
    assert all(callable(loss.best_constant) for loss in losses.ALL)


def test_a_rise_is_paired_with_the_lowest_look():
    logged = {}
    cohort = SimpleNamespace(
        state=SimpleNamespace(lowest={}),
        add_point=lambda name, value: logged.setdefault(name, []).append(value),
    )
    looks = torch.rand(4, 2, 50, generator=torch.Generator().manual_seed(1)).double()
    looks[1] -= 0.5  # the lowest
    for each in looks:
        log_loss_rise(cohort, each, each.mean(1))
    for at, name in ((2, "of the third look"), (3, "of the fourth")):
        apart = (looks[at] - looks[1]).numpy()
        np.testing.assert_allclose(logged["rise/validation/loss"][at], apart.mean(1), err_msg=name)
        error = apart.std(1, ddof=1) / math.sqrt(50)
        np.testing.assert_allclose(logged["error/rise/validation/loss"][at], error, err_msg=name)
    error = looks[0].numpy().std(1, ddof=1) / math.sqrt(50)
    np.testing.assert_allclose(logged["error/validation/loss"][0], error)


def test_layers_make_up_the_whole_update(sick):
    """One layer without biases: its way is that of all weights."""
    series = sick[0].record.series
    limit, kept = 1e-4, series["clip/kept"].values
    np.testing.assert_allclose(series["gradient/norm"].values, limit, rtol=1e-5)
    assert (kept < 0.02).all() and (kept > 0).all()
    names = [n for n in series if n.startswith("update/ratio/")]
    assert sorted(names) == ["update/ratio/hidden.0.weight", "update/ratio/output.weight"]
    whole = series["update/ratio"].values * series["weights/norm"].values
    assert (series["weights/norm"].values > 1).all()
    # momentum 0.9 and lr 0.1: no step is longer than limit · lr / (1 − momentum)
    assert (whole <= limit * 0.1 / (1 - 0.9) * (1 + 1e-4)).all()


def test_layers_that_a_recipe_freezes_are_not_watched():
    run = train(
        recipe("data.source=iris", "epochs=2", 'tuning=[{name="Freeze",layers=["hidden.0"]}]'),
        workers=1,
    )
    assert [n for n in run.record.series if n.startswith("update/ratio/")] == [
        "update/ratio/output.weight"
    ]


def test_the_constant_of_a_run_is_the_prior_of_its_classes(sick):
    nulls = {s: sick[0].record.series[f"null/{s}/loss"].values for s in ("train", "validation")}
    # iris has three classes of one size, and the splits are stratified
    np.testing.assert_allclose(nulls["train"], math.log(3), rtol=1e-3)
    np.testing.assert_allclose(nulls["validation"], math.log(3), rtol=0.05)


# What is said


def findings(told):
    return [f for progress in told for f in progress.findings]


def test_a_finding_is_told_once_and_is_among_the_events(sick):
    run, told = sick
    codes = [f.code for f in findings(told)]
    assert {"RVN-T02", "RVN-T12"} <= set(codes) and len(codes) == len(set(codes))
    events = [e for e in run.record.events if e.kind.startswith("RVN-")]
    assert [e.kind for e in events] == codes
    for event, finding in zip(events, findings(told), strict=True):
        assert (
            event.member is None
            and event.step >= (finding.since or 0)
            and finding.title in event.text
        )


def test_a_healthy_run_is_told_nothing():
    told = []
    run = train(recipe("data.source=iris", "epochs=30", "seeds=2"), workers=1, report=told.append)
    assert not findings(told) and not [e for e in run.record.events if e.kind.startswith("RVN-")]


class Killed(Exception):
    pass


def test_a_run_that_goes_on_tells_nothing_twice_and_ends_as_one_never_stopped(tmp_path, sick):
    whole, told = sick
    folder, seen = tmp_path / "run", []

    def report(progress):
        seen.append(progress)
        if (
            progress.findings
        ):  # as soon as something was told, and before any checkpoint by the clock
            raise Killed

    with pytest.raises(Killed):
        train(recipe(*SICK), out=folder, workers=1, report=report, checkpoint_seconds=1e9)
    while True:
        try:
            again = resume(folder, workers=1, report=report, checkpoint_seconds=1e9)
            break
        except Killed:
            pass
    assert [f.code for f in findings(seen)] == [f.code for f in findings(told)]
    assert again.record.events == whole.record.events
    for name, series in whole.record.series.items():
        np.testing.assert_array_equal(again.record.series[name].values, series.values)


def test_many_recipes_that_train_together_are_not_judged(sick):
    from ravine.training.train import train_all

    runs = train_all([recipe(*SICK), recipe(*SICK, "optimizer.lr=0.2")], workers=1)
    assert not [e for run in runs for e in run.record.events if e.kind.startswith("RVN-")]


def test_a_run_has_no_more_looks_than_its_budget_of_alarms_has():
    steps = range(7, 1001, 7)
    plan = SimpleNamespace(steps=1001)
    points, seen = [], 0
    for step in steps:
        points.append((step, [0.0]))
        log = TrainingLog(Meter(1), series={"train/loss": points})
        cohort = SimpleNamespace(log=log, step=step, job=SimpleNamespace(plan=plan))
        seen += is_diagnosis_due(cohort)
    assert 10 < seen <= len(INTERIM_FRACTIONS)


def test_live_and_afterwards_agree_on_when_it_was(sick):
    from ravine.diagnosis.registry import CURVE_RULES
    from ravine.diagnosis.rule import run_rules

    run, told = sick
    after = {f.code: f.since for f in run_rules(CURVE_RULES, curves_of_record(run.record))[0]}
    for finding in findings(told):
        assert after[finding.code] == finding.since


# How it is shown


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Pipe(io.StringIO):
    encoding = "ascii"


FOUND = Finding(
    code="RVN-T05",
    title="validation loss rises",
    severity="warning",
    confidence="high",
    cause="overfitting",
    since=460,
)


def at(step, *found):
    return SimpleNamespace(
        step=step,
        steps=1000,
        per_epoch=10,
        training=1,
        networks=1,
        values={"train/loss": 0.5},
        findings=found,
        board=None,
    )


def test_a_finding_stands_above_the_live_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = ProgressLine(stream)
    progress(at(450))
    progress(at(460, FOUND))
    text = stream.getvalue()
    line = "\u25b2 RVN-T05  step 460: validation loss rises\n"
    before = text[: text.index(line)]
    assert (
        before.endswith("\r\x1b[2K") and "epoch 45/100" in before
    )  # the live line was cleared first
    assert len(line) <= 80


def test_a_finding_is_a_plain_line_where_there_is_no_terminal():
    stream = Pipe()
    ProgressLine(stream)(at(460, FOUND))
    assert stream.getvalue().splitlines()[0] == "! RVN-T05  step 460: validation loss rises"
    assert "\x1b" not in stream.getvalue()


def test_the_command_shows_what_was_found(tmp_path, capsys):
    settings = [word for setting in SICK[:3] for word in ("--set", setting)]
    assert (
        run_command(
            [
                "train",
                "iris",
                "--recipe",
                "plain",
                *settings,
                "--out",
                str(tmp_path / "a"),
                "--json",
            ]
        )
        == 0
    )
    out = capsys.readouterr()
    found = json.loads(out.out)["findings"]
    assert found[0]["cause"] == "gradient-clipping" and all(
        set(f) >= {"code", "since", "evidence"} for f in found
    )
    assert out.err.count("RVN-T12") == 1
    assert run_command(["show", str(tmp_path / "a")]) == 0
    assert "RVN-T12" in capsys.readouterr().out
