"""Populations: who goes on from whom, state that is copied whole, kills, what is confirmed."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import ravine
from ravine import catalog, protocols
from ravine.catalog import PARTS_BY_ROLE
from ravine.cli import run_command
from ravine.errors import InputError, RavineError
from ravine.networks.batched import BatchedNetwork
from ravine.optimizers.averaging import Snapshots
from ravine.part import field_types, is_number, stack
from ravine.recipe_files import read_recipe, with_settings
from ravine.studies.population import (
    Phase,
    Population,
    can_change,
    exchange_shares,
    exchange_step,
    explore,
)
from ravine.studies.spaces import checked_space
from ravine.studies.tune import resume_tuning, tune
from ravine.training import jobs, rungs
from ravine.training.batches import training_batches
from ravine.training.cohort import start_cohort
from ravine.training.defaults import prepare, resolve, training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.jobs import assign_members
from ravine.training.loop import train_cohort
from ravine.training.rungs import Standing
from ravine.training.train import open_run, train

PLAIN = catalog.plain().vary("data.source", "iris").vary("epochs", 30)
RICH = with_settings(
    catalog.default(),
    *("data.source=iris", "seeds=1", "epochs=9", "batch=8", "average=Ema", "average.decay=0.9"),
    "network.hidden=[16]",
    "network.norm=BatchNorm",
)
OTHER_START = PLAIN.vary("network.initializer.gain", 2.0)
SPACE = {"optimizer.lr": "log:1e-3..0.5", "optimizer.momentum": "0..0.95"}
RICH_SPACE = {"optimizer.lr": "log:1e-4..0.1", "network.dropout.rate": "0..0.5"}


def table_of(found):
    return [
        (t.number, dict(t.values), t.score, t.loss, t.outcome, t.steps, t.rungs, t.phases)
        for t in found.trials
    ]


def member(score, loss=0.1, is_training=True):
    return Standing((score,), loss, score, is_training)


def population(count, higher=True, **others):
    given = {
        "phases": [(Phase(0.0, 10 + i, {"lr": 0.1}),) for i in range(count)],
        "space": {"lr": FloatDistribution(1e-3, 1.0, log=True)},
        "make": lambda values: values,
        "shares": (0.1, 0.2),
        "seed": 0,
        "higher_is_better": higher,
    }
    return Population(**{**given, **others})


@pytest.mark.parametrize("higher", [True, False])
def test_the_lowest_fifth_goes_on_from_the_best_fifth(higher):
    scores = np.random.default_rng(1).permutation(20).astype(float)
    ranked = np.argsort(-scores if higher else scores)
    sources = set()
    for seed in range(20):
        one = population(20, higher, seed=seed)
        moves = one(0.1, [member(s) for s in scores])
        assert set(moves) == set(ranked[-4:])
        sources |= {source for source, _ in moves.values()}
        for i, (source, values) in moves.items():
            assert values["lr"] in (0.05, 0.2)
            assert one.phases[i] == (
                Phase(0.0, 10 + source, {"lr": 0.1}),
                Phase(0.1, 10 + i, values),
            )
        again = population(20, higher, seed=seed)
        assert again(0.1, [member(s) for s in scores]) == moves
    assert sources == set(ranked[:4])


def test_who_diverged_is_replaced_first_and_who_has_stopped_is_no_source():
    known = [member(math.nan, math.nan), member(0.9), member(0.8), member(0.1), member(0.95)]
    moves = population(5)(0.1, known)
    assert moves.keys() == {0} and moves[0][0] == 4  # a fifth is one: the worst that lives stays
    known[4] = member(0.95, is_training=False)
    assert population(5)(0.1, known)[0][0] == 1
    known[1] = member(math.nan, math.nan)
    assert population(5)(0.1, known).keys() == {0, 1}
    gone = [member(math.nan, math.nan)] * 3
    assert population(3)(0.1, gone) == {}
    tied = [member(0.5, loss) for loss in (0.3, 0.1, 0.2)]
    assert {i: source for i, (source, _) in population(3)(0.1, tied).items()} == {0: 1}


def test_values_that_do_not_go_together_are_left():
    def make(values):
        if values["lr"] != 0.1:
            raise RavineError("no")
        return values

    one = population(5, make=make)
    moves = one(0.1, [member(float(i)) for i in range(5)])
    assert moves == {0: (4, {"lr": 0.1})} and one.phases[0][-1].values == {"lr": 0.1}


def test_exploring_stays_in_the_space_and_leaves_zero():
    rng = np.random.default_rng(0)
    space = {
        "log": FloatDistribution(1e-3, 1.0, log=True),
        "linear": FloatDistribution(0.0, 0.5),
        "whole": IntDistribution(1, 9),
        "choice": CategoricalDistribution((1.0, 2.0, 4.0)),
    }
    values = {"log": 0.9, "linear": 0.0, "whole": 5, "choice": 1.0}
    drawn = [explore(values, space, rng) for _ in range(400)]
    assert {d["log"] for d in drawn} == {0.45, 1.0}
    assert {d["linear"] for d in drawn} == {0.0, 0.05} and {d["whole"] for d in drawn} == {4, 6}
    others = sum(d["choice"] != 1.0 for d in drawn) / 400
    assert others == pytest.approx(0.25 * 2 / 3, abs=0.06)  # 3 standard errors
    assert {d["choice"] for d in drawn} == {1.0, 2.0, 4.0}


def test_members_are_replaced_at_other_evaluations_each_time():
    for epochs, batch, shares in ((30, 32, 14), (60, 32, 19), (4, 8, 3), (3, 8, 2), (7, 8, 6)):
        task, recipe = prepare(PLAIN.vary("epochs", epochs).vary("batch", batch))
        found = exchange_shares(recipe, task)
        series = train(recipe).record.series["validation/loss"]
        steps = series.steps
        at = [steps[np.searchsorted(steps, share * steps[-1])] for share in found]
        assert at == [exchange_step(share, training_plan(recipe, task)) for share in found]
        assert len(set(at)) == len(at) == shares and at[-1] < steps[-1]


def test_members_that_are_never_replaced_are_the_runs_that_train_gives():
    found = tune(PLAIN, SPACE, trials=10, sampler="pbt", seeds=2, confirm=0)
    alone = [t for t in found.trials if len(t.phases) == 1]
    assert alone and len(alone) < 10
    for one in alone:
        run = train(found.recipe_of(one).vary("seeds", 2))
        assert list(one.scores) == [m.validation["accuracy"] for m in run.record.members]
        assert one.steps == sum(m.steps for m in run.record.members)
    same = tune(PLAIN, {"optimizer.lr": [0.1]}, trials=6, sampler="pbt", confirm=0)
    (run,) = [train(PLAIN.vary("optimizer.lr", 0.1))]
    for one in same.trials:  # also who was replaced, by its equal
        assert one.score == run.record.members[0].validation["accuracy"]
        assert one.loss == run.record.members[0].validation["loss"]


def train_by_hand(recipe, schedule):
    """The weights of a network whose settings are changed in a plain loop: at the first evaluation
    at or after each share.
    """
    task, resolved = prepare(recipe)
    recipes = {share: resolve(one, task) for share, one in schedule.items()}
    job = assign_members([0], recipes.pop(0.0), task, device="cpu").job
    steps = job.plan.steps
    with exact_arithmetic():
        cohort = start_cohort(job)
        batches = training_batches(task, cohort)
        evaluate = Evaluator.of_task(task, job)

        def is_change(cohort):
            return (
                bool(recipes) and evaluate.due(cohort.step) and cohort.step >= min(recipes) * steps
            )

        while cohort.ids and cohort.step < steps:
            train_cohort(cohort, batches, evaluate, pause=is_change)
            if cohort.ids and recipes:
                cohort.parts = stack([recipes.pop(min(recipes))])
                cohort.network = BatchedNetwork(cohort.parts.network, job.signature)
                cohort._refresh()
    return cohort.ended.tensors["weights"], cohort.log.series


@pytest.mark.parametrize(
    ("recipe", "space"),
    [(PLAIN, SPACE), (RICH, RICH_SPACE), (with_settings(RICH, "stop=none"), RICH_SPACE)],
)
def test_a_lineage_is_its_settings_trained_alone(recipe, space, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "networks_at_once", lambda width, device: 3)  # four jobs
    found = tune(recipe, space, trials=8, sampler="pbt", confirm=0, out=tmp_path / "s")
    best = found.best
    assert best.has_schedule and len(best.phases) >= 2
    weights, series = train_by_hand(recipe, found.schedule_of(best))
    run = open_run(tmp_path / "s" / "best")
    assert torch.equal(run.model.weights, weights)
    at = [event.step for event in run.record.events if event.kind == "settings"]
    assert at[0] == 0 and set(at[1:]) <= {step for step, _ in series["validation/loss"]}
    assert len(set(at)) == len(best.phases)
    known = run.record.series["validation/loss"]
    assert known.values[:, 0].tolist() == [values[0] for _, values in series["validation/loss"]]
    assert run.record.members[0].validation[found.metric] == best.score
    for other in found.trials:
        if other.has_schedule and other.outcome == "finished":
            weights, series = train_by_hand(recipe, found.schedule_of(other))
            assert min(values[0] for _, values in series["validation/loss"]) <= other.loss
            scores = [values[0] for _, values in series[f"validation/{found.metric}"]]
            assert other.score in scores


def test_two_workers_and_other_jobs_give_the_same_population(processes_pay, monkeypatch, tmp_path):
    how = {"trials": 5, "sampler": "pbt", "confirm": 0, "seeds": 2}
    short = PLAIN.vary("epochs", 8).vary("batch", 8)
    one = tune(short, SPACE, workers=1, **how)
    two = tune(short, SPACE, workers=2, **how)
    assert table_of(one) == table_of(two)
    monkeypatch.setattr(jobs, "networks_at_once", lambda width, device: 1)
    assert table_of(tune(short, SPACE, workers=1, out=tmp_path / "s", **how)) == table_of(one)
    other = tune(short, SPACE, workers=1, seed=1, **how)
    assert table_of(other) != table_of(one)


def effects_after_moves(recipes, moves, folder):
    """What techniques did, where networks of recipes move at half of the budget."""
    tasks, resolved = zip(*map(prepare, recipes), strict=True)
    made = {i: (source, resolved[like]) for i, (source, like) in moves.items()}
    folder.mkdir()
    found = rungs.train_in_rungs(tasks, resolved, (0.5,), lambda *_: made, folder=folder)
    records = [one.assemble(task)[0] for one, task in zip(found, tasks, strict=True)]
    return [{one.name: one.values for one in record.effects} for record in records]


@pytest.mark.parametrize(
    "moves",
    [{1: (3, 3)}, {3: (0, 0), 1: (0, 3)}, {0: (3, 3), 3: (0, 1)}, {i: (0, 3) for i in range(4)}],
)
def test_what_techniques_did_moves_from_job_to_job(moves, tmp_path, monkeypatch):
    base = with_settings(catalog.plain().vary("data.source", "iris"), "epochs=40")
    recipes = [base.vary("optimizer.weight_decay", decay) for decay in (0.0, 0.0, 0.0, 0.1)]
    together = effects_after_moves(recipes, moves, tmp_path / "one")
    monkeypatch.setattr(jobs, "networks_at_once", lambda width, device: 2)  # the last two in a job
    assert effects_after_moves(recipes, moves, tmp_path / "two") == together


def test_members_that_diverge_are_replaced():
    space = {"optimizer.lr": [0.05, 1e25]}
    found = tune(PLAIN, space, trials=12, sampler="pbt", confirm=0)
    lost = [t for t in found.trials if t.rungs and math.isnan(min(t.rungs.values()))]
    assert len(lost) >= 3 and found.failures < len(lost)
    assert found.best.values == {"optimizer.lr": 0.05}
    none = tune(PLAIN, {"optimizer.lr": [1e25, 1e26]}, trials=4, sampler="pbt")
    assert none.best is None and none.failures == 4


def test_a_population_that_is_stopped_while_it_moves_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "networks_at_once", lambda width, device: 3)
    how = {"trials": 8, "sampler": "pbt", "confirm": 0, "out": tmp_path / "s"}
    whole = tune(PLAIN, SPACE, **{**how, "out": None})
    write, calls = rungs.move_rows, []

    def die(paths, origins, folder):
        calls.append(folder.name)
        write(paths, origins, folder)  # all but the standings
        raise KeyboardInterrupt

    for until in (1, 6):
        monkeypatch.setattr(
            rungs,
            "move_rows",
            lambda p, o, f, until=until: (die if f.name == f"moves-{until:03d}" else write)(
                p, o, f
            ),
        )
        with pytest.raises(KeyboardInterrupt):
            tune(PLAIN, SPACE, **how)
    monkeypatch.undo()
    monkeypatch.setattr(jobs, "networks_at_once", lambda width, device: 3)
    assert calls == ["moves-001", "moves-006"]
    assert table_of(resume_tuning(tmp_path / "s")) == table_of(whole)
    assert not list((tmp_path / "s").glob("batch-*"))


def test_after_a_kill_past_moves_all_standings_before_are_those_of_then(tmp_path):
    tasks, recipes = zip(
        *(prepare(PLAIN.vary("optimizer.lr", lr)) for lr in (0.3, 1e-3)), strict=True
    )
    seen = []

    def decide(share, standings):
        seen.append((share, standings))
        if [at for at, _ in seen] == [0.25, 0.5, 0.75]:
            raise KeyboardInterrupt
        return {1: (0, recipes[1])} if share == 0.5 else {}

    asked = (tasks, recipes, (0.25, 0.5, 0.75), decide)
    with pytest.raises(KeyboardInterrupt):
        rungs.train_in_rungs(*asked, folder=tmp_path)
    before = seen.copy()
    rungs.train_in_rungs(*asked, folder=tmp_path)
    assert seen[3:] == before and before[0][1][0] != before[0][1][1]
    folders = [folder.name for folder in tmp_path.iterdir() if folder.is_dir()]
    assert folders == ["moves-002"]


PROGRAM = """
import sys
from ravine import catalog
from ravine.studies.tune import tune
recipe = catalog.plain().vary("data.source", "digits").vary("epochs", 9)
space = {"optimizer.lr": "log:1e-3..0.5", "optimizer.momentum": "0..0.95"}
tune(recipe, space, trials=5, sampler="pbt", confirm=0, workers=1, out=sys.argv[1])
"""


def test_a_killed_population_loses_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "s")])
    deadline = time.monotonic() + 120
    while not list((tmp_path / "s").glob("batch-*/moves-004")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    recipe = PLAIN.vary("data.source", "digits").vary("epochs", 9)
    whole = tune(recipe, SPACE, trials=5, sampler="pbt", confirm=0)
    assert table_of(resume_tuning(tmp_path / "s")) == table_of(whole)


def test_where_rates_must_fall_a_population_beats_its_best_constant_rate():
    # a quadratic without noise and steps of one size, the rate: who is fast stays at a distance of
    # some rates from the minimum, who is slow does not come there
    rows = np.random.default_rng(0)
    frame = pd.DataFrame(rows.normal(size=(200, 10)), columns=[f"x{i}" for i in range(10)])
    frame["y"] = frame @ rows.normal(size=10)
    recipe = with_settings(
        catalog.plain().vary("data.target", ("y",)),
        *("network.hidden=[]", "encoding.smooth_clip=none", "optimizer=Lion"),
        *("batch=all", "epochs=480"),
    )
    gains = []
    for seed in range(4):
        how = {"trials": 16, "confirm": 0, "seed": seed}
        space = {"optimizer.lr": "log:1e-4..0.1"}
        constant = tune(recipe, space, frame, sampler="random", **how)
        changing = tune(recipe, space, frame, sampler="pbt", **how)
        first = {t.phases[0].values["optimizer.lr"] for t in changing.trials}
        assert first <= {t.values["optimizer.lr"] for t in constant.trials}
        gains.append(constant.best.loss / changing.best.loss)
    assert sum(gain > 10 for gain in gains) >= 3, gains


def test_the_schedule_is_trained_anew_beside_its_last_values(tmp_path):
    found = tune(
        PLAIN, SPACE, trials=8, sampler="pbt", seeds=2, confirm_seeds=4, out=tmp_path / "s"
    )
    name = f"trial {found.best.number}"
    names = [choice.name for choice in found.verdict.choices]
    assert set(names) == {name, f"last values of {name}", "as it was"}
    assert found.verdict.seeds == (2, 3, 4, 5) and found.verdict.split == "test"
    schedule = {s: one.vary("seed", 4) for s, one in found.schedule_of(found.best).items()}
    _, series = train_by_hand(PLAIN.vary("seed", 4), schedule)
    assert found.verdict[name].validation[2] == series["validation/accuracy"][-1][1][0]
    run = train(found.recipe_of(found.best).vary("seed", 2).vary("seeds", 4))
    values = [m.test["accuracy"] for m in run.record.members]
    assert list(found.verdict[f"last values of {name}"].scores) == values
    plain = json.loads((tmp_path / "s" / "tuning.json").read_text())
    assert [p["values"] for p in plain["schedule"]] == [p.values for p in found.best.phases]
    assert plain["schedule"][0]["share"] == 0
    assert plain["schedule"][-1]["trial"] == found.best.number == plain["best"]["number"]
    text = found.summary()
    assert max(map(len, text.splitlines())) <= 80
    assert f"The settings of {name}" in text and "from 0 %" in text
    assert len(found.figure().axes) == 2


def verdict_of(found, better, worse, outcome="better"):
    """A population's verdict with another outcome of one of its differences."""
    differences = tuple(
        dataclasses.replace(d, better=better, worse=worse, outcome=outcome)
        if {d.better, d.worse} == {better, worse}
        else dataclasses.replace(d, outcome="undecided")
        for d in found.verdict.differences
    )
    return dataclasses.replace(
        found, verdict=dataclasses.replace(found.verdict, differences=differences)
    )


def test_a_recipe_is_recommended_only_where_no_schedule_is_shown_to_matter(tmp_path):
    found = tune(PLAIN, SPACE, trials=8, sampler="pbt", confirm_seeds=2, out=tmp_path / "s")
    name = f"trial {found.best.number}"
    last = f"last values of {name}"
    tied = verdict_of(found, last, name, "undecided")
    assert tied.recommendation == last and tied.is_schedule_better is False
    assert tied.best_recipe == tied.recipe_of(tied.best)
    shown = verdict_of(found, name, last)
    assert shown.recommendation == name and shown.best_recipe is None
    shown.save(tmp_path / "s")
    assert not (tmp_path / "s" / "best.toml").exists()
    assert "no recipe holds" in shown.summary()
    worse = verdict_of(found, last, name)
    assert worse.recommendation == last and worse.is_schedule_better is False
    worse.save(tmp_path / "s")
    assert (
        read_recipe(tmp_path / "s" / "best.toml").optimizer.lr == found.best.values["optimizer.lr"]
    )
    alone = tune(PLAIN, SPACE, trials=8, sampler="pbt", confirm=0)
    assert alone.recommendation == name and alone.best_recipe is None
    assert "Only fresh seeds" in alone.summary()


@pytest.mark.parametrize(
    ("recipe", "space", "is_possible"),
    [
        ("optimizer=Adagrad", {"optimizer.lr": "0.1..1"}, True),
        ("optimizer=Adagrad", {"optimizer.initial": "0.1..1"}, False),
        ("optimizer=Rprop", {"optimizer.lr": "0.1..1"}, False),
        ("optimizer=Rprop", {"optimizer.growth": "1.1..1.4"}, True),
        ("optimizer=Lookahead", {"optimizer.inner.lr": "0.1..1"}, True),
        ("network.initializer=Normal", {"network.initializer.sd": "0.1..1"}, False),
        (
            "network.initializer=He",
            {"network.initializer": [{"name": "He", "gain": g} for g in (1.0, 2.0)]},
            False,
        ),
    ],
)
def test_what_is_read_at_the_start_only_cannot_change(recipe, space, is_possible):
    changed = with_settings(PLAIN, recipe)
    ((path, distribution),) = checked_space(space, changed).items()
    assert can_change(changed, path, distribution) == is_possible


@pytest.mark.parametrize("cls", PARTS_BY_ROLE[protocols.Initializer])
def test_every_number_of_an_initializer_is_read_at_the_start_only(cls):
    numbers = [name for name, hint in field_types(cls).items() if is_number(hint)]
    assert sorted(getattr(cls, "only_at_start", ())) == numbers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": {**SPACE, "batch": [16, 32]}}, "batch cannot change in mid-training"),
        ({"space": {"network.hidden": [[8], [16]], "epochs": "5..9"}}, "network.hidden, epochs"),
        ({"space": {"network.initializer.gain": "0.5..2"}}, "initializer.gain cannot change"),
        ({"minutes": 5.0}, "how many members"),
        ({"trials": 1}, "trials is 1: a population needs at least 2 members"),
        ({"pruner": "halving"}, "Leave pruner out"),
        ({"recipe": PLAIN.vary("snapshots", Snapshots())}, "weights are replaced"),
        ({"recipe": PLAIN.vary("epochs", 1)}, "Train for more epochs"),
    ],
)
def test_studies_that_are_no_population_are_refused(options, words):
    given = {"recipe": PLAIN, "space": SPACE, "sampler": "pbt", **options}
    with pytest.raises(InputError, match=words):
        tune(**given)


def test_a_population_does_not_grow_and_nothing_is_lost(tmp_path):
    how = {"sampler": "pbt", "confirm": 0, "out": tmp_path / "s"}
    found = tune(PLAIN, SPACE, trials=5, **how)
    before = (tmp_path / "s" / "tuning.json").read_bytes()
    with pytest.raises(RavineError, match="has 5 members"):
        resume_tuning(tmp_path / "s", trials=9)
    assert (tmp_path / "s" / "tuning.json").read_bytes() == before
    assert table_of(resume_tuning(tmp_path / "s")) == table_of(found)


def test_a_population_that_another_process_trains_is_no_failure():
    found = tune(PLAIN, SPACE, trials=5, sampler="pbt", confirm=0)
    waits = dataclasses.replace(found, trials=(), waiting=5)
    assert waits.summary() == "0 trials (pbt), 5 still train elsewhere."


def test_schedules_of_settings_are_compared():
    fast, slow = PLAIN, PLAIN.vary("optimizer.lr", 1e-3)
    verdict = ravine.compare(
        {"fast": fast, "falls": fast, "slow": slow}, seeds=2, changes={"falls": {0.5: slow}}
    )
    _, series = train_by_hand(fast.vary("seed", 1), {0.0: fast.vary("seed", 1), 0.5: slow})
    assert verdict["falls"].validation[1] == series["validation/accuracy"][-1][1][0]
    with pytest.raises(InputError, match="changes is"):
        ravine.compare({"fast": fast, "slow": slow}, seeds=2, changes={"fast": 3})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"changes": {"none": {0.5: PLAIN}}}, "are fast, slow. Name one of them"),
        ({"changes": {"fast": {0.5: PLAIN}}, "tune_lr": 3}, "Leave tune_lr out"),
        ({"changes": {"fast": {1.5: PLAIN}}}, "'fast' at 1.5: a share of the budget lies between"),
        ({"changes": {"fast": {0: PLAIN}}}, "'fast' at 0: a share"),
        ({"changes": {"fast": {0.5: PLAIN.vary("batch", 8)}}}, "Change only numbers such as"),
        ({"changes": {"fast": {0.5: PLAIN.vary("network.hidden", (3,))}}}, "Change only numbers"),
        ({"changes": {"fast": {0.5: OTHER_START}}}, "Change only numbers"),
    ],
)
def test_changes_that_cannot_be_made_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        ravine.compare(
            {"fast": PLAIN, "slow": PLAIN.vary("optimizer.lr", 1e-3)}, seeds=2, **options
        )


def test_the_command_trains_a_population_and_its_networks_predict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ["tune", "iris", "--recipe", "plain", "--set", "epochs=10", "--quiet", "--out", "s"]
    asked += ["--sampler", "pbt", "--budget", "6", "--confirm", "0"]
    assert run_command(asked) == 0  # the automatic space without the width
    said = capsys.readouterr()
    assert "hidden" not in said.out and "ravine predict s/best" in said.err
    columns = getattr(open_run("s/best").require_model().encoder, "columns", ())
    frame = pd.DataFrame(np.full((2, 4), 3.0), columns=columns)
    frame.to_csv("new.csv", index=False)
    assert run_command(["predict", "s/best", "new.csv"]) == 0
    asked[asked.index("s")] = "t"
    assert run_command([*asked, "--space", "batch=[16,32]"]) == 2
    assert "batch cannot change" in capsys.readouterr().err and not (tmp_path / "t").exists()
