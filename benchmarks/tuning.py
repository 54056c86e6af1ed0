"""What tuning costs beside the tools that drive a plain loop, whether halving finds the same
winner, what a population gains, and how often a comparison of a recipe with itself names a winner.

Run: python -m benchmarks.tuning [--only search|halving|population|null] [--trials 256]
    [--studies 20]

search: 256 random trials (rate, momentum, weight decay) of a network 20-64-3 on 10,000 rows, ten
epochs: by `ravine.tune`, its folder and its statistics counted in, and by Optuna (and Ray Tune
where it is installed) driving a plain loop of PyTorch with the same values: the validation accuracy
after each epoch, in one process as it comes, and in two processes of one thread each.

halving: studies of 54 trials on digits with other splits and draws; is the winner of successive
halving the one of training all to their end, and at which share of the steps?

population: studies of 16 members on a quadratic, with steps of one size, the rate, which has to
fall (Lion, 1,000 full batches): how often is the winner of population-based training better than
the best constant rate of the same 16, by each of some factors of exploration?

null: 200 comparisons of a recipe with itself, unpaired on other seeds, and paired with other starts
at the same splits and orders: how often is one called better?
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.datasets import make_classification
from torch import nn
from torch.optim import SGD

import ravine
from ravine.protocols import Signature
from ravine.recipe import Recipe
from ravine.recipe_files import with_settings
from ravine.statistics import wilson_interval
from ravine.studies import population
from ravine.training.defaults import prepare

PROCESSES = 2
SPACE = {
    "optimizer.lr": "log:1e-3..1",
    "optimizer.momentum": "0..0.95",
    "optimizer.weight_decay": "log:1e-6..1e-2",
}
BATCH, EPOCHS, HIDDEN = 128, 10, 64
NULL_SEEDS = 8
SAMPLERS = ("random", "pbt")  # these draw the same values


def table() -> pd.DataFrame:
    x, y = make_classification(
        10_000, 20, n_informative=10, n_classes=3, flip_y=0.05, random_state=0
    )
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(20)]).assign(y=[f"c{k}" for k in y])


def recipe_for_table() -> Recipe:
    recipe = ravine.named_recipe("plain").vary("data.target", ("y",))
    recipe = recipe.vary("network.hidden", (HIDDEN,)).vary("batch", BATCH)
    return recipe.vary("epochs", EPOCHS)


class PlainLoop:
    """One trial as in a tutorial: the validation accuracy after the last epoch."""

    def __init__(self) -> None:
        task, _ = prepare(recipe_for_table(), table())
        assert task.validation is not None
        self.data = []
        for examples in (task.train_examples, task.validation):
            assert examples.targets is not None
            self.data.append((examples.numbers.float(), examples.targets))

    def __call__(self, values: Mapping[str, float], seed: int = 0) -> float:
        torch.manual_seed(seed)
        (x, y), (x_new, y_new) = self.data
        model = nn.Sequential(nn.Linear(20, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 3))
        lr, momentum, decay = (values[path] for path in SPACE)
        optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
        accuracy = 0.0
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
            with torch.no_grad():
                accuracy = float((model(x_new).argmax(1) == y_new).float().mean())
        return accuracy


def drive_optuna(url: str, values: list[dict[str, float]], processes: int) -> None:
    """What each of the processes does: Optuna's own loop over its share of the trials."""
    if processes > 1:
        torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run = PlainLoop()
    study = optuna.load_study(study_name="plain", storage=url)
    ranges = {"optimizer.lr": (1e-3, 1, True), "optimizer.momentum": (0, 0.95, False)}
    ranges["optimizer.weight_decay"] = (1e-6, 1e-2, True)

    def objective(trial: optuna.Trial) -> float:
        drawn = {p: trial.suggest_float(p, a, b, log=log) for p, (a, b, log) in ranges.items()}
        return run(drawn)

    for given in values:
        study.enqueue_trial(given)
    study.optimize(objective, n_trials=len(values))


def measure_search(trials: int) -> None:
    frame, workers = table(), PROCESSES
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        found = ravine.tune(
            recipe_for_table(),
            SPACE,
            frame,
            trials=trials,
            sampler="random",
            confirm=0,
            out=Path(place) / "study",
            workers=workers,
        )
        ours = time.perf_counter() - began
        values = [dict(trial.values) for trial in found.trials]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        known = []
        assert found.best is not None
        print(f"{trials} trials: ravine.tune {ours:.1f} s, best {found.best.score:.4f}")
        for name, processes in (("as it comes", 1), ("two processes", PROCESSES)):
            url = f"sqlite:///{place}/plain-{processes}.db"
            optuna.create_study(storage=url, study_name="plain", direction="maximize")
            parts = [(url, values[i::processes], processes) for i in range(processes)]
            began = time.perf_counter()
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                pool.starmap(drive_optuna, parts)
            theirs = time.perf_counter() - began
            known = optuna.load_study(study_name="plain", storage=url).get_trials()
            best = max(t.value for t in known if t.value is not None)
            print(f"Optuna and a plain loop, {name}: {theirs:.1f} s, best {best:.4f}", end=": ")
            print(f"ratio {theirs / ours:.1f}", flush=True)
    assert len(known) == trials == len(found.trials)
    seconds = drive_ray(values)
    if seconds is None:
        print("Ray Tune is not installed")
    else:
        print(f"Ray Tune and the plain loop {seconds:.1f} s: ratio {seconds / ours:.1f}")


def drive_ray(values: list[dict[str, float]]) -> float | None:
    """The seconds that Ray Tune takes for the same trials; None where it is not installed."""
    try:
        from ray import init, shutdown, tune  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None

    def objective(config: dict) -> None:
        torch.set_num_threads(1)
        tune.report({"accuracy": PlainLoop()(config["values"])})

    init(num_cpus=PROCESSES, include_dashboard=False, logging_level="error")
    try:
        began = time.perf_counter()
        space = {"values": tune.grid_search(values)}
        tune.Tuner(objective, param_space=space, run_config=tune.RunConfig(verbose=0)).fit()
        return time.perf_counter() - began
    finally:
        shutdown()


def measure_halving(studies: int, first: int) -> None:
    settings = ("network.hidden=[32]", "epochs=27", "batch=32")
    base = with_settings(ravine.named_recipe("plain").vary("data.source", "digits"), *settings)
    same, near, costs = 0, 0, []
    for k in range(first, first + studies):
        recipe = base.vary("split_seed", k)
        given = {"trials": 54, "sampler": "random", "seed": k, "confirm": 0}
        space = {"optimizer.lr": "log:1e-4..1", "optimizer.momentum": "0..0.95"}
        whole = ravine.tune(recipe, space, **given)
        halved = ravine.tune(recipe, space, pruner="halving", **given)
        assert whole.best is not None and halved.best is not None
        is_same = whole.best.number == halved.best.number
        tied = {whole.best.number, *(trial.number for trial in whole.ties)}
        same, near = same + is_same, near + (halved.best.number in tied)
        costs.append(halved.cost)
        print(
            f"study {k}: {whole.best.score:.4f} of {whole.best.number}, halved "
            f"{halved.best.score:.4f} of {halved.best.number}, {halved.cost:.2f} of the steps",
            flush=True,
        )
    print(f"the same winner in {same} of {studies}, it or one tied with it in {near}", end="; ")
    print(f"{np.mean(costs):.2f} of the steps")


def measure_population(studies: int, first: int) -> None:
    rows = np.random.default_rng(0)
    frame = pd.DataFrame(rows.normal(size=(200, 10)), columns=[f"x{i}" for i in range(10)])
    frame["y"] = frame @ rows.normal(size=10)
    settings = ("network.hidden=[]", "encoding.smooth_clip=none", "optimizer=Lion")
    recipe = ravine.named_recipe("plain").vary("data.target", ("y",))
    recipe = with_settings(recipe, *settings, "batch=all", "epochs=1000")
    for factors in ((0.8, 1.25), (0.625, 1.6), (0.5, 2.0)):
        population.EXPLORE_FACTORS = factors
        gains = []
        for k in range(first, first + studies):
            given: dict[str, Any] = {"trials": 16, "seed": k, "confirm": 0, "workers": 1}
            space = {"optimizer.lr": "log:1e-4..1e-1"}
            best = [ravine.tune(recipe, space, frame, sampler=s, **given).best for s in SAMPLERS]
            losses = [trial.loss for trial in best if trial is not None]
            gains.append(losses[0] / losses[1])
        print(
            f"times {factors[0]} or {factors[1]}: better in {sum(g > 1 for g in gains)} of "
            f"{studies}, its loss in the median lower by {np.median(gains):.3g} times",
            flush=True,
        )


def measure_null(comparisons: int) -> None:
    settings = ("network.hidden=[16]", "epochs=3", f"seeds={NULL_SEEDS}")
    base = with_settings(ravine.named_recipe("plain").vary("data.source", "digits"), *settings)
    for name, compare in (("other seeds", compare_unpaired), ("other starts", compare_starts)):
        better = 0
        for k in range(comparisons):
            verdict = compare(base.vary("split_seed", k).vary("seed", 1000 * k))
            better += any(d.outcome == "better" for d in verdict.differences)
        low, high = wilson_interval(better / comparisons, comparisons)
        print(
            f"a recipe against itself with {name}: called better in {better} of {comparisons} "
            f"({100 * better / comparisons:.1f} % [{100 * low:.1f}, {100 * high:.1f}])",
            flush=True,
        )


def compare_unpaired(recipe: Recipe) -> ravine.Verdict:
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in ("one", "other")]
        for folder, more in zip(folders, (0, NULL_SEEDS), strict=True):
            one = recipe.vary("seed", recipe.seed + more)
            ravine.train(one, out=folder, baseline=False, workers=1)
        return ravine.compare_runs(folders)


def compare_starts(recipe: Recipe) -> ravine.Verdict:
    """Two builders of one network, of which the second draws a number before its weights."""

    def build(signature: Signature) -> nn.Module:
        inputs, outputs = signature.numbers, signature.outputs
        return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))

    def build_later(signature: Signature) -> nn.Module:
        torch.rand(1)
        return build(signature)

    choices = {"one": build, "other": build_later}
    return ravine.compare(choices, base=recipe, seeds=NULL_SEEDS, trees=False, workers=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("search", "halving", "population", "null"))
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first study's seed")
    parser.add_argument("--comparisons", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only in (None, "search"):
        measure_search(options.trials)
    if options.only in (None, "halving"):
        measure_halving(options.studies, options.first)
    if options.only in (None, "population"):
        measure_population(options.studies, options.first)
    if options.only in (None, "null"):
        measure_null(options.comparisons)


if __name__ == "__main__":
    main()
