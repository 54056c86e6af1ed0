"""Tuning: spaces, samplers, halving against a plain count, trials that are ordinary runs, studies
that are killed and shared, the command.
"""

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from scipy.stats import qmc

from ravine import catalog
from ravine.cli import run_command
from ravine.data import Random
from ravine.diagnosis.tuning_rules import TunedSetting, TuningView, find_edges
from ravine.errors import InputError, Interrupted, RavineError, RecipeError, RunError
from ravine.recipe_files import read_recipe
from ravine.studies import study_storage
from ravine.studies.samplers import Halving, divide_among_brackets
from ravine.studies.spaces import auto_space, checked_space, read_space, read_spaces
from ravine.studies.study_storage import note_storage
from ravine.studies.tune import resume_tuning, tune
from ravine.studies.tuned_trials import TunedTrial, expected_best
from ravine.studies.tuning import TuningResult
from ravine.training.defaults import load_tasks, resolve
from ravine.training.rungs import Standing, train_in_rungs
from ravine.training.train import train

PLAIN = catalog.plain().vary("data.source", "iris").vary("epochs", 4)
CHOICES = CategoricalDistribution
LR_SPACE = {"optimizer.lr": "log:1e-3..0.5"}


@pytest.mark.parametrize("higher", [True, False])
def test_the_expected_best_of_k_is_the_mean_over_all_subsets(higher):
    scores = np.random.default_rng(3).normal(size=7)
    best = max if higher else min
    for k, found in enumerate(expected_best(scores, higher_is_better=higher), 1):
        expected = np.mean([best(chosen) for chosen in itertools.combinations(scores, k)])
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_expected_best_is_unbiased_where_the_plug_in_estimate_is_not():
    # the best of k of uniform numbers is k / (k + 1) on average; F^k of the sample (Dodge et al.)
    # falls short
    samples, k = np.random.default_rng(0).random((4000, 10)), 5
    ours = np.mean([expected_best(s)[k - 1] for s in samples])
    ordered, i = np.sort(samples, 1), np.arange(1, 11)
    plug_in = (ordered * ((i / 10) ** k - ((i - 1) / 10) ** k)).sum(1).mean()
    assert ours == pytest.approx(k / (k + 1), abs=0.005) and plug_in < k / (k + 1) - 0.02


def test_failed_trials_count_as_the_worst_and_many_do_not_overflow():
    assert expected_best([0.5, math.nan, 0.9]).tolist() == expected_best([0.5, 0.5, 0.9]).tolist()
    many = expected_best(np.linspace(0, 1, 3000))
    assert (
        np.isfinite(many).all()
        and (np.diff(many) > -1e-12).all()
        and many[-1] == pytest.approx(1.0)
    )


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("optimizer.lr=log:1e-4..1e-1", FloatDistribution(1e-4, 1e-1, log=True)),
        ("optimizer.lr = 0..0.5", FloatDistribution(0.0, 0.5)),
        ("optimizer.momentum=0..1", FloatDistribution(0.0, 1.0)),
        ("optimizer.lr=log:1e-4..1e-1/7", CHOICES(np.geomspace(1e-4, 1e-1, 7).tolist())),
        ("epochs=10..50", IntDistribution(10, 50)),
        ("batch=8..64/3", CHOICES([8, 36, 64])),
        ("batch=[16, 64]", CHOICES([16, 64])),
        ("network.hidden=[[8], [16, 16]]", CHOICES(["[8]", "[16, 16]"])),
        ('network.activation=["Tanh", "SiLU"]', CHOICES(["Tanh", "SiLU"])),
    ],
)
def test_spaces_are_read_as_written(text, space):
    path, _, given = (x.strip() for x in text.partition("="))
    assert read_space(given, PLAIN, path) == space


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer.lr", "PATH=SPACE"),
        ("=1..2", "PATH=SPACE"),
        ("optimizer.lr=", "PATH=SPACE"),
        ("optimizer.learning_rate=0..1", "Did you mean 'lr'"),
        ("optimizer.lr=fast", "is not a space"),
        ("optimizer.lr=0.1", "is not a space"),
        ("optimizer.lr=1..0.1", "below the upper"),
        ("optimizer.lr=a..b", "not a space"),
        ("optimizer.lr=log:0..1", "above 0"),
        ("optimizer.lr=0..1/1", "both ends"),
        ("batch=[16,", "not TOML"),
        ("batch=[]", "empty"),
        ("network.dropout.rate=0..0.5", "no settings of its own"),
        ("optimizer.lr=0..inf", "below"),
        ("optimizer.lr=nan..1", "below"),
        ("optimizer.lr=1e-4...1e-1", "three dots"),
        ("optimizer.lr=log:1e-4...1e-1", "three dots"),
        ("optimizer.momentum=0...5/3", "three dots: a range has two"),
        ("batch=16....64", "three dots"),
    ],
)
def test_spaces_that_are_none_are_refused(text, words):
    with pytest.raises(RecipeError, match=words):
        read_spaces([text], PLAIN)


def trial(number, score, loss=0.1, outcome="finished", **others):
    values = others.pop("values", {"optimizer.lr": 0.1})
    return TunedTrial(
        number=number, values=values, score=score, loss=loss, outcome=outcome, **others
    )


def tuning(*trials, **others):
    given = {
        "recipe": PLAIN,
        "space": checked_space(LR_SPACE, PLAIN),
        "metric": "accuracy",
        "higher_is_better": True,
        "rows": 30,
        "sampler": "random",
        "pruner": "none",
    }
    return TuningResult(trials=trials, **{**given, **others})


def table_of(found):
    """All that a study knows of its trials."""
    return [
        (t.number, dict(t.values), t.score, t.loss, t.outcome, t.steps, dict(t.rungs))
        for t in found.trials
    ]


def test_trials_are_the_runs_that_train_gives():
    space = {"optimizer.lr": [1e-4, 0.1], "network.hidden": [[8], [16, 4]]}
    found = tune(PLAIN, space, sampler="grid", seeds=2, confirm=0)
    assert len(found.trials) == 4 and found.failures == 0
    assert len({tuple(t.values.values()) for t in found.trials}) == 4
    for one in found.trials:
        run = train(found.recipe_of(one).vary("seeds", 2))
        scores = [m.validation["accuracy"] for m in run.record.members]
        assert list(one.scores) == scores and one.score == pytest.approx(np.mean(scores))
        assert one.steps == one.budget == sum(m.steps for m in run.record.members)
    assert found.best.values["optimizer.lr"] == 0.1
    assert found.best_recipe.seeds == PLAIN.seeds
    assert found.curve()[-1] == found.best.score and str(found) == found.summary()


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "gp", "cmaes"])
def test_each_sampler_draws_within_the_space_and_the_same_again(sampler):
    space = {"optimizer.lr": "log:1e-3..1", "optimizer.momentum": "0..0.9", "batch": [16, 64]}
    found = tune(PLAIN, space, trials=14, sampler=sampler, confirm=0)
    for one in found.trials:
        assert 1e-3 <= one.values["optimizer.lr"] <= 1
        assert 0 <= one.values["optimizer.momentum"] <= 0.9 and one.values["batch"] in (16, 64)
    assert len({t.values["optimizer.lr"] for t in found.trials}) == 14
    again = tune(PLAIN, space, trials=14, sampler=sampler, confirm=0)
    assert table_of(again) == table_of(found)
    other = tune(PLAIN, space, trials=14, sampler=sampler, seed=1, confirm=0)
    assert table_of(other) != table_of(found)


def test_quasi_random_points_fill_a_square_more_evenly():
    space = {"optimizer.lr": "0..1", "optimizer.momentum": "0..0.999"}
    spread = {}
    for sampler in ("qmc", "random"):
        found = tune(PLAIN.vary("epochs", 1), space, trials=33, sampler=sampler, confirm=0)
        points = np.array([list(t.values.values()) for t in found.trials[1:]])
        spread[sampler] = qmc.discrepancy(points)
    assert spread["qmc"] < 0.25 * spread["random"]


def test_diverged_trials_are_counted_and_never_best():
    space = {"optimizer.lr": [0.05, 1e20]}
    found = tune(PLAIN, space, sampler="grid", confirm=0)
    assert found.failures == 1 and found.best.values == {"optimizer.lr": 0.05}
    assert "1 diverged" in found.summary()
    none = tune(PLAIN, {"optimizer.lr": [1e20, 1e21]}, sampler="grid")
    assert none.best is None and none.verdict is None and none.ties == ()
    assert "No trial ended well" in none.summary() and none.to_json()["best"] is None


def test_values_that_cannot_be_had_fail_alone():
    # a network for images, which a table has none of, and other rows in the validation split
    found = tune(PLAIN, {"network": ["Mlp", "Conv"]}, confirm=0)
    assert [t.outcome for t in found.rank_trials()] == ["finished", "impossible"]
    assert found.failures == 1 and found.rank_trials()[1].why
    sources = tune(PLAIN, {"data.source": ["iris", "wine"]}, confirm=0)
    ended = {t.values["data.source"]: t for t in sources.trials}
    assert ended["iris"].is_finished and "other rows" in ended["wine"].why
    none = tune(PLAIN, {"network": ["Conv"]})
    assert none.best is None and "None of these recipes can be made" in none.summary()


def test_of_equal_trials_the_one_of_least_loss_is_best_and_the_tie_is_said():
    rows = np.random.default_rng(0)
    shared = rows.normal(0.9, 0.02, 256)
    tried = (
        trial(0, 0.9, 0.4, resampled=tuple(shared)),
        trial(1, 0.9, 0.3, resampled=tuple(shared + rows.normal(0, 0.01, 256))),
        trial(2, 0.8, 0.1, resampled=tuple(shared - 0.1 + rows.normal(0, 0.01, 256))),
        trial(3, math.nan, math.nan, outcome="diverged"),
    )
    found = tuning(*tried)
    assert [t.number for t in found.rank_trials()] == [1, 0, 2, 3]
    # trial 2 is as uncertain as the others, but in the same samples it is always behind
    assert [t.number for t in found.ties] == [0] and "a tie" in found.summary()
    assert found.to_json()["ties"] == [0] and found.to_json()["best"]["number"] == 1
    assert "ahead of all others" in tuning(*tried[1:]).summary()
    lower = tuning(*tried[:3], metric="log_loss", higher_is_better=False)
    assert lower.best.number == 2


@pytest.mark.parametrize(
    ("trials", "staying"), [(54, [27, 18, 10]), (10, [5, 3, 2]), (2, [1, 1, 1])]
)
def test_halving_lets_the_best_go_on_at_each_rung(trials, staying):
    halving = Halving("halving", trials, higher_is_better=False)
    assert halving.shares == pytest.approx([1 / 27, 1 / 9, 1 / 3])
    scores = np.random.default_rng(0).permutation(trials).astype(float)
    for share, count in zip(halving.shares, staying, strict=True):
        halving(share, [Standing((s,), s) for s in scores])
        left = sorted(scores[i] for i in range(trials) if i not in halving.left)
        assert left == list(range(count))


def test_a_network_that_diverged_leaves_first_and_hyperband_gives_time():
    halving = Halving("halving", 3, higher_is_better=True)
    known = [Standing((math.nan,), math.nan), Standing((0.1,), 9.0), Standing((0.1,), 8.0)]
    assert list(halving(1 / 27, known)) == [1, 0]
    brackets = divide_among_brackets(49, 4)
    assert [brackets.count(b) for b in range(4)] == [27, 12, 6, 4]  # Li et al., eta = 3
    hyperband = Halving("hyperband", 49, higher_is_better=True)
    assert hyperband.shares == pytest.approx([1 / 27, 1 / 9, 1 / 3])
    staying = [(9, 12, 6, 4), (3, 4, 6, 4), (1, 1, 2, 4)]  # in each bracket
    for share, counts in zip(hyperband.shares, staying, strict=True):
        hyperband(share, [Standing((float(i),), 0.0) for i in range(49)])
        left = [brackets[i] for i in range(49) if i not in hyperband.left]
        assert tuple(left.count(b) for b in range(4)) == counts


@pytest.mark.parametrize("workers", [1, 2])
def test_who_stays_in_a_rung_has_the_numbers_of_a_run_alone(workers, tmp_path):
    recipe = PLAIN.vary("epochs", 9).vary("batch", 8)  # so that every epoch is evaluated
    recipes = [recipe.vary("optimizer.lr", 0.02 * (i + 1)) for i in range(6)]
    tasks = load_tasks(recipes)
    resolved = [resolve(r, t) for r, t in zip(recipes, tasks, strict=True)]
    seen = []

    def prune(share, standings):
        seen.append([s.score for s in standings])
        return dict.fromkeys({1 / 9: [0, 4, 5], 1 / 3: [1]}[share])

    found = train_in_rungs(tasks, resolved, (1 / 9, 1 / 3), prune, folder=tmp_path, workers=workers)
    for i, (recipe, one) in enumerate(zip(recipes, found, strict=True)):
        run = train(recipe)
        values = run.record.series["validation/accuracy"]
        assert seen[0][i] == values.values[0, 0]
        assert one.members[0].outcome == ("finished" if i in (2, 3) else "pruned")
        if i in (2, 3):
            assert one.members[0].validation == run.record.members[0].validation
            assert torch.equal(one.model.weights, run.model.weights)
            assert seen[1][i] == values.values[values.steps <= values.steps[-1] // 3, 0].max()
    steps = [one.members[0].steps for one in found]
    assert steps == [run.record.members[0].steps * k // 9 for k in (1, 3, 9, 9, 1, 1)]


def test_halving_costs_its_rungs_and_ends_with_a_finished_winner():
    recipe = PLAIN.vary("epochs", 9).vary("batch", 8)
    found = tune(recipe, LR_SPACE, trials=27, sampler="random", pruner="halving", confirm=0)
    assert found.cost == pytest.approx((27 + 9 * 2 + 5 * 6) / (27 * 9))
    assert sum(t.is_finished for t in found.trials) == 5 and found.best.is_finished
    whole = tune(recipe, LR_SPACE, trials=27, sampler="random", confirm=0)
    same = {t.number: t for t in whole.trials}
    assert all(t.score == same[t.number].score for t in found.trials if t.is_finished)
    assert set(found.importance) == {"optimizer.lr"}  # of the scores at the first rung, by all


def test_the_best_are_confirmed_on_seeds_that_no_trial_had():
    found = tune(PLAIN, LR_SPACE, trials=8, seeds=2, confirm=2, confirm_seeds=4)
    assert found.verdict.seeds == (2, 3, 4, 5) and found.verdict.split == "test"
    names = {f"trial {t.number}" for t in found.rank_trials()[:2]} | {"as it was"}
    assert {choice.name for choice in found.verdict.choices} == names
    searched, fresh = found.optimism() or (0.0, 0.0)
    assert searched == found.best.score
    run = train(found.recipe_of(found.best).vary("seed", 2).vary("seeds", 4))
    assert fresh == pytest.approx(np.mean([m.validation["accuracy"] for m in run.record.members]))
    assert f"Trial {found.best.number} had validation accuracy" in found.summary()


def test_an_automatic_space_fits_every_named_recipe():
    for name in catalog.NAMED_RECIPES:
        space = auto_space(catalog.named_recipe(name))
        assert next(iter(space)) == "optimizer.lr" and len(space) >= 2
        checked_space(space, catalog.named_recipe(name))


def test_random_trials_of_lists_are_all_different():
    space = {"optimizer.lr": [0.1, 0.2, 0.3, 0.4], "optimizer.momentum": [0.0, 0.5, 0.9]}
    found = tune(PLAIN, space, trials=11, sampler="random", confirm=0)
    assert len({tuple(t.values.items()) for t in found.trials}) == 11


def test_noise_seldom_has_its_best_at_an_edge():
    """Scores that do not depend on a setting: chance alone puts the best near one of its ends."""
    rows, said = np.random.default_rng(0), 0
    [path, distribution] = next(iter(checked_space(LR_SPACE, PLAIN).items()))
    setting = TunedSetting(path, distribution_to_json(distribution), math.nan)
    for _ in range(1000):
        values = tuple({path: 10 ** rows.uniform(-3, np.log10(0.5))} for _ in range(20))
        view = TuningView(settings=(setting,), values=values, scores=tuple(range(20)))
        said += bool(list(find_edges(view)))
    assert said <= 16  # 36 would be expected of the places alone


def test_the_edge_of_a_range_and_an_idle_setting_are_findings():
    rows = np.random.default_rng(1)
    tried = []
    for i in range(60):
        lr, idle = 10 ** rows.uniform(-3, np.log10(0.5)), rows.uniform(0, 0.9)
        score = 0.5 + 0.1 * np.log10(lr) + 0.002 * rows.normal()
        values = {"optimizer.lr": lr, "optimizer.momentum": idle}
        tried.append(trial(i, float(score), values=values))
    space = checked_space({**LR_SPACE, "optimizer.momentum": "0..0.9"}, PLAIN)
    found = tuning(*tried, space=space)
    assert found.importance["optimizer.lr"] > 0.95
    codes = {(f.code, f.where) for f in found.findings()}
    assert codes == {("RVN-U01", "optimizer.lr"), ("RVN-U02", "optimizer.momentum")}
    assert "let optimizer.lr also be above 0.5" in found.summary()
    inner = [
        trial(t.number, -abs(math.log10(t.values["optimizer.lr"]) + 1.6), values=t.values)
        for t in tried
    ]
    assert "RVN-U01" not in {f.code for f in tuning(*inner, space=space).findings()}
    assert tuning(*tried[:7], space=space).findings() == ()


def test_many_settings_fit_a_terminal():
    paths = [f"network.a_setting_with_a_long_name_{i}" for i in range(4)]
    values = dict.fromkeys(paths, 0.123456)
    space = {path: FloatDistribution(0.0, 1.0) for path in paths}
    summary = tuning(trial(0, 0.9, values=values), space=space).summary()
    assert max(map(len, summary.splitlines())) <= 80 and summary.count("0.1235") == 4


def test_a_study_in_a_folder_goes_on_where_it_was(tmp_path):
    space = {"optimizer.lr": "log:1e-3..0.5", "batch": [16, 32]}
    settings = {"sampler": "tpe", "confirm": 0}
    whole = tune(PLAIN, space, trials=25, **settings)
    begun = tune(PLAIN, space, trials=20, out=tmp_path / "s", **settings)
    more = resume_tuning(tmp_path / "s", trials=25, confirm=0)
    assert table_of(begun) == table_of(whole)[:20] and table_of(more) == table_of(whole)
    again = tune(PLAIN, space, trials=25, out=tmp_path / "s", **settings)
    assert table_of(again) == table_of(whole)
    kept = json.loads((tmp_path / "s" / "tuning.json").read_text())
    assert len(kept["trials"]) == 25 and (tmp_path / "s" / "tuning.svg").exists()
    assert read_recipe(tmp_path / "s" / "best.toml").batch == again.best.values["batch"]
    with pytest.raises(RavineError, match="other values of space"):
        tune(PLAIN, LR_SPACE, trials=3, out=tmp_path / "s")
    with pytest.raises(RavineError, match="holds no study"):
        resume_tuning(tmp_path)


def test_a_study_is_stopped_by_a_file_and_loses_nothing(tmp_path):
    stop = tmp_path / "stop-now"
    recipe = PLAIN.vary("epochs", 40)

    def each(found):
        stop.touch()

    settings = {"sampler": "tpe", "confirm": 0}
    with pytest.raises(Interrupted):
        tune(recipe, LR_SPACE, trials=20, out=tmp_path / "s", each=each, stop=stop, **settings)
    stop.unlink()
    found = resume_tuning(tmp_path / "s", trials=20, confirm=0)
    assert table_of(found) == table_of(tune(recipe, LR_SPACE, trials=20, **settings))


def test_the_score_is_that_of_training_and_errors_are_in_units_of_the_table():
    rows = np.random.default_rng(0)
    frame = pd.DataFrame(rows.normal(size=(300, 3)), columns=list("abc"))
    frame["y"] = 1000 + 300 * frame.a + rows.normal(0, 60, 300)
    recipe = catalog.plain().vary("data.target", ("y",)).vary("epochs", 9).vary("metric", "mae")
    found = tune(recipe, LR_SPACE, frame, trials=8, pruner="halving", confirm=1, confirm_seeds=4)
    assert 30 < found.best.score < 300 and found.unit > 100
    searched, fresh = found.optimism() or (0.0, 0.0)
    assert searched == found.best.score and 30 < fresh < 300
    assert ("worse by" in found.summary()) == (fresh > searched)
    assert all(10 < score < 3000 for score in found.best.rungs.values())
    assert found.verdict.choices[0].score.value == pytest.approx(fresh, rel=0.8)
    frame["z"] = np.where(np.arange(300) % 30 == 0, "rare", np.where(frame.a > 0, "p", "q"))
    rare = catalog.plain().vary("data.target", ("z",)).vary("epochs", 3)
    of_classes = tune(rare, LR_SPACE, frame.drop(columns="y"), trials=3, confirm=0)
    run = train(of_classes.best_recipe, frame.drop(columns="y"))
    assert of_classes.metric == run.score.metric
    assert of_classes.best.score == run.record.members[0].validation[of_classes.metric]


def test_what_is_recommended_follows_the_verdict():
    space = {"optimizer.lr": "log:1e-9..1e-8"}  # none learns
    found = tune(PLAIN.vary("epochs", 10), space, trials=8, confirm=1, confirm_seeds=8)
    assert found.verdict.best.name == "as it was" == found.recommendation
    assert found.best_recipe.optimizer.lr == PLAIN.optimizer.lr
    assert tune(PLAIN, space, trials=8, confirm=0).recommendation.startswith("trial")


def test_a_space_with_few_combinations_is_tried_whole():
    found = tune(PLAIN, {"batch": [16, 32], "network.hidden": [[4], [8]]}, trials=30, confirm=0)
    assert found.sampler == "grid" and len(found.trials) == 4
    assert len({tuple(t.values.values()) for t in found.trials}) == 4


def test_a_batch_that_was_drawn_in_part_is_drawn_anew(tmp_path, monkeypatch):
    draw = optuna.Study.ask
    counted = []

    def die(self, space):
        counted.append(1)
        if len(counted) == 14:  # in the second batch of ten
            raise KeyboardInterrupt
        return draw(self, space)

    monkeypatch.setattr(optuna.Study, "ask", die)
    with pytest.raises(KeyboardInterrupt):
        tune(PLAIN, LR_SPACE, trials=20, sampler="gp", confirm=0, out=tmp_path / "s")
    monkeypatch.undo()
    found = resume_tuning(tmp_path / "s")
    whole = tune(PLAIN, LR_SPACE, trials=20, sampler="gp", confirm=0)
    assert [t[1:] for t in table_of(found)] == [t[1:] for t in table_of(whole)]


def test_a_study_that_goes_on_keeps_its_budget(tmp_path):
    tune(PLAIN, LR_SPACE, trials=6, sampler="random", confirm=0, out=tmp_path / "s")
    again = resume_tuning(tmp_path / "s")
    assert len(again.trials) == 6 and again.verdict is None
    assert len(resume_tuning(tmp_path / "s", trials=8).trials) == 8


def test_a_stop_is_heard_in_the_confirmation(tmp_path):
    stop = tmp_path / "stop-now"
    recipe = PLAIN.vary("epochs", 200)
    with pytest.raises(Interrupted):
        tune(recipe, LR_SPACE, trials=2, each=lambda found: stop.touch(), stop=stop)


@pytest.mark.parametrize("name", ["a%20b", "ümlaut? #1&x=1", "{braces}"])
def test_a_folder_may_be_called_as_a_url_may_not(tmp_path, name):
    space = {"batch": [16, 32]}
    tune(PLAIN, space, out=tmp_path / name, confirm=0)
    assert (tmp_path / name / "study.db").exists()
    assert len(resume_tuning(tmp_path / name).trials) == 2
    (tmp_path / name / "study.db").write_bytes(b"")
    with pytest.raises(RavineError, match="is damaged"):
        resume_tuning(tmp_path / name)


PROGRAM = """
import sys
from ravine import catalog
from ravine.studies.tune import tune
recipe = catalog.plain().vary("data.source", "iris").vary("epochs", 4)
space, others = {"optimizer.lr": "log:1e-3..0.5"}, eval(sys.argv[1])
tune(recipe, space, trials=30, sampler="tpe", confirm=0, workers=1, **others)
"""


def start(**settings):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, repr(settings)])


def trials_in(file):
    import sqlite3

    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as known:
            return known.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[
                0
            ]
    except sqlite3.OperationalError:
        return 0


def test_a_killed_study_loses_no_trial_and_counts_none_twice(tmp_path):
    process = start(out=str(tmp_path / "s"), pruner="none")
    deadline = time.monotonic() + 120
    while trials_in(tmp_path / "s" / "study.db") < 11 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    told = trials_in(tmp_path / "s" / "study.db")
    found = resume_tuning(tmp_path / "s", trials=30, confirm=0)
    whole = tune(PLAIN, LR_SPACE, trials=30, sampler="tpe", confirm=0)
    assert 11 <= told <= 30 and table_of(found) == table_of(whole)


def test_what_another_process_drew_too_much_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    settings = {"sampler": "random", "confirm": 0, "storage": url}
    tune(PLAIN, LR_SPACE, trials=6, out=tmp_path / "s", **settings)
    again = tune(PLAIN, LR_SPACE, trials=9, out=tmp_path / "s", **settings)
    assert [t.number for t in again.trials] == list(range(9))
    facts = again.trials  # a batch of three of which one was dropped, and whose process died
    with study_storage.quiet_optuna():
        study = optuna.load_study(study_name="ravine", storage=url)
        claim = {"name": "left", "owner": "gone", "size": 3}
        for state in ("RUNNING", "FAIL", "RUNNING"):
            one = optuna.trial.create_trial(
                state=optuna.trial.TrialState[state],
                params={"optimizer.lr": 0.1},
                distributions=checked_space(LR_SPACE, PLAIN),
                user_attrs={"batch": claim},
            )
            study.add_trial(one)
    found = tune(PLAIN, LR_SPACE, trials=9, **settings)
    assert found.trials[:9] == facts and [t.number for t in found.trials[9:]] == [9, 11]


def test_a_storage_out_of_reach_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="cannot be reached"):
        tune(PLAIN, LR_SPACE, out=tmp_path / "s", storage="no url")
    assert not (tmp_path / "s").exists()


def test_a_study_in_a_database_is_gone_on_with_by_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = {"trials": 6, "sampler": "random", "confirm": 0, "name": "one"}
    url = f"sqlite:///{tmp_path}/trials.db"
    begun = tune(PLAIN, LR_SPACE, out="study", storage=url, **given)
    tune(PLAIN.vary("epochs", 3), LR_SPACE, storage=url, **given | {"name": "other"})
    found = resume_tuning("study", trials=9)
    assert len(found.trials) == 9
    assert found.trials[:6] == begun.trials
    known = json.loads((tmp_path / "study/storage.json").read_text())
    assert (known["storage"], known["name"]) == (url, "one")
    secret = "postgresql://me:secret@localhost/none"
    note_storage(tmp_path / "study", secret, "one")
    assert "secret" not in (tmp_path / "study/storage.json").read_text()
    with pytest.raises(RunError, match="its password is not kept"):
        resume_tuning("study")


def test_two_processes_share_a_study(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    both = [start(storage=url) for _ in range(2)]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    found = tune(PLAIN, LR_SPACE, trials=30, sampler="tpe", confirm=0, storage=url)
    assert len({t.number for t in found.trials}) == 30 == len(found.trials) and found.waiting == 0
    assert len({t.values["optimizer.lr"] for t in found.trials}) == 30  # none was drawn twice


@pytest.fixture
def postgres(tmp_path):
    """The URL of an empty database on a server of its own."""
    pytest.importorskip("psycopg2", reason="the driver psycopg2 is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path()]
    if not (programs[-1] / "initdb").exists():
        pytest.skip("there is no PostgreSQL server here")
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # a socket's path is short
        as_user = []
        if os.geteuid() == 0:  # which the server refuses to run as
            shutil.chown(place, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]

        def call(program, *arguments):
            command = [*as_user, str(programs[-1] / program), *arguments]
            subprocess.run(command, check=True, capture_output=True, timeout=120, cwd="/")

        data = f"{place}/data"
        call("initdb", "-D", data, "-A", "trust", "-U", "me")
        options = f"-c listen_addresses='' -c unix_socket_directories={place}"
        call("pg_ctl", "-D", data, "-l", f"{place}/log", "-w", "-o", options, "start")
        try:
            call("createdb", "-h", place, "-U", "me", "studies")
            yield f"postgresql+psycopg2://me@/studies?host={place}"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_two_processes_share_a_server_and_a_killed_one_is_replaced(postgres, monkeypatch):
    both = [start(storage=postgres) for _ in range(2)]
    storage = optuna.storages.RDBStorage(postgres)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # until both are at work
        known = storage.get_all_studies()
        trials = storage.get_all_trials(known[0]._study_id) if known else []
        if len({t.user_attrs["batch"]["owner"] for t in trials if "batch" in t.user_attrs}) == 2:
            break
        time.sleep(0.02)
    both[0].kill()
    both[0].wait()
    assert both[1].wait(timeout=240) == 0
    monkeypatch.setattr(study_storage, "SECONDS_OF_PATIENCE", 1.0)
    time.sleep(1.5)
    found = tune(PLAIN, LR_SPACE, trials=30, sampler="tpe", confirm=0, storage=postgres)
    ended = [t.number for t in storage.get_all_trials(known[0]._study_id) if t.state.name != "FAIL"]
    # none was lost, none has two results: what failed was drawn in part, or too much, and dropped
    assert [t.number for t in found.trials] == ended and len(ended) == 30 and found.waiting == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": {}}, "nothing to tune"),
        ({"sampler": "gird"}, "Did you mean"),
        ({"trials": 0}, "at least 1"),
        ({"sampler": "grid"}, "no count"),
        ({"minutes": 0.0}, "above 0"),
        ({"space": 3}, "space"),
        ({"space": {"optimizer.lr": 0.1}}, "a distribution of Optuna"),
        ({"space": {"optimizer.rate": "0..1"}}, "no setting 'rate'"),
        ({"space": {"seed": "0..1"}}, "cannot be tuned"),
        ({"space": {"optimizer.lr": [-1.0, 0.1]}}, "lr"),
        ({"recipe": PLAIN.vary("split", Random(validation=0.0))}, "no validation split"),
        ({"storage": "postgresql://me:secret@127.0.0.1:1/none"}, "me:...@127.0.0.1:1/none cannot"),
        ({"storage": "no url"}, "cannot be reached"),
    ],
)
def test_studies_that_are_none_are_refused_before_training(options, words):
    options = {"recipe": PLAIN, "space": {"optimizer.lr": "0..1"}, **options}
    with pytest.raises(InputError, match=words):
        tune(**options)


def test_the_command_prints_a_table_and_writes_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ["tune", "iris", "--recipe", "plain", "--set", "epochs=3", "--quiet", "--confirm", "0"]
    asked += ["--space", "optimizer.lr=log:1e-3..1e-1"]
    assert run_command([*asked, "--budget", "3", "--out", "s"]) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "3 trials" in said
    best = read_recipe("s/best.toml")
    assert f"{best.optimizer.lr:.4g}" in said.splitlines()[3] and best.epochs == 3
    assert run_command(["tune", "--resume", "s", "--budget", "5", "--confirm", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1 and len(found["trials"]) == 5 and len(found["expected_best"]) == 5
    assert run_command([*asked, "--sampler", "grid"]) == 2 and "/5" in capsys.readouterr().err
    assert run_command([*asked, "--sampler", "tpee"]) == 2 and "'tpe'" in capsys.readouterr().err
    assert run_command([*asked, "--budget", "soon"]) == 2 and "10m" in capsys.readouterr().err
    assert run_command([*asked, "--space", "optimizer.lr=0..1"]) == 2
    assert "has a space already" in capsys.readouterr().err
    assert run_command(["search", "iris", "--trials", "3"]) == 2
    said = capsys.readouterr().err
    assert "ravine search is now ravine tune" in said and "no command" not in said
    all_fail = ["--set", "optimizer.lr=1e20", "--space", "batch=[16,32]", "--sampler", "grid"]
    assert run_command([*asked[:-2], *all_fail, "--out", "t"]) == 3
    assert "No trial ended well" in capsys.readouterr().out and not Path("t/best.toml").exists()
