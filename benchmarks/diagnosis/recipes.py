"""Sick and healthy recipes, and what `check` and `doctor` say of them.

    python -m benchmarks.diagnosis.recipes verify            # is each fault real? three seeds
    python -m benchmarks.diagnosis.recipes check             # a table of what is found
    python -m benchmarks.diagnosis.recipes doctor --only digits/

A sick recipe is a healthy one with one fault (`fault`): without it, it is its own fixed twin. An
alarm is a finding of severity warning or error; a cause is right if it is one of `causes`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ravine.catalog import named_recipe
from ravine.data.datasets import load_bundled
from ravine.examination.api import check, doctor
from ravine.finding import Report
from ravine.recipe import Recipe
from ravine.recipe_files import with_values
from ravine.reporting.findings_text import findings_text
from ravine.training.train import train

Settings = Mapping[str, Any]
WORSE = 0.03  # of the score, by which a sick recipe is behind its twin with every seed


@dataclass(frozen=True)
class RecipeCase:
    """A named recipe with settings, on a bundled set or a made table; and one fault."""

    name: str
    base: str
    settings: Settings = field(default_factory=dict)
    fault: Settings = field(default_factory=dict)
    causes: frozenset[str] = frozenset()  # of which one is to be named; none: healthy
    table: Callable[[], pd.DataFrame] | None = None
    sick_table: Callable[[], pd.DataFrame] | None = None

    def recipe(self, *, fixed: bool = False) -> Recipe:
        source = {"data.target": ["y"]} if self.table else {"data.source": self.name.split("/")[0]}
        fault = {} if fixed else self.fault
        return with_values(named_recipe(self.base), {**source, **self.settings, **fault})

    def frame(self, *, fixed: bool = False) -> pd.DataFrame | None:
        make = self.table if fixed or self.sick_table is None else self.sick_table
        return None if make is None else make()


# Tables


def friedman(rows: int, *, noise: float = 1.0, useless: int = 5, seed: int = 1) -> pd.DataFrame:
    """Friedman's first problem with so many useless columns."""
    rng = np.random.default_rng(seed)
    x = rng.random((rows, 5 + useless))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3]
    y = y + 5 * x[:, 4] + noise * rng.standard_normal(rows)
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]).assign(y=y)


def groups(rows: int, *, spread: float = 1.0, seed: int = 2) -> pd.DataFrame:
    """Three overlapping classes in six columns."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    centers = np.random.default_rng(9).normal(size=(3, 6))
    x = centers[y] + spread * rng.normal(size=(rows, 6))
    names = np.array(["a", "b", "c"])
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(6)]).assign(y=names[y])


def bundled(name: str) -> pd.DataFrame:
    frame, target = load_bundled(name)
    return frame.rename(columns={target: "y"})


def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its targets in another order."""
    y = frame["y"].sample(frac=1.0, random_state=3).to_numpy()
    return frame.assign(y=y)


# Recipes

NO_STOP = {"stop": None}
LARGE = {"name": "Normal", "sd": 2.0}


def sick(name: str, base: str, fault: Settings, *causes: str, **about: Any) -> RecipeCase:
    return RecipeCase(name, base, fault=fault, causes=frozenset(causes), **about)


ADAM = {"optimizer": {"name": "Adam", "lr": 0.003}}
TANH = {"network.activation": {"name": "Tanh"}, "network.initializer": {"name": "Glorot"}}
SIGMOID = {"network.activation": {"name": "Sigmoid"}, "network.initializer": {"name": "Glorot"}}
STARTS = ("initialization", "saturation", "vanishing")
RATES = ("learning-rate-high", "exploding")
SHORT = ("too-few-steps", "learning-rate-low")
LATE = {"split.validation": 0.15, "split.test": 0.15}

SICK = (
    sick("wine/rate of 5", "plain", {"optimizer.lr": 5.0}, *RATES),
    sick("friedman1/rate of 2", "plain", {"optimizer.lr": 2.0}, *RATES),
    sick("digits/L2 of 3", "plain", {"penalties": [{"name": "L2", "strength": 3.0}]},
         "over-regularized", "learning-rate-high"),
    sick("diabetes/L2 of 3", "plain", {"penalties": [{"name": "L2", "strength": 3.0}]},
         "over-regularized", settings=ADAM),
    sick("iris/one epoch", "plain", {"epochs": 1}, *SHORT, settings=ADAM),
    sick("digits/one epoch", "plain", {"epochs": 1}, *SHORT,
         settings={"optimizer": {"name": "SGD", "lr": 0.05}}),
    sick("digits/decay over at once", "plain", {"schedule": {"name": "Exponential", "k": 5.0}},
         "schedule", "learning-rate-low", settings={"optimizer": {"name": "SGD", "lr": 0.05}}),
    sick("friedman1/milestone of one epoch", "plain",
         {"schedule": {"name": "StepDecay", "milestones": [1.0], "gamma": 1e-4}},
         "schedule", "learning-rate-low", settings={"optimizer": {"name": "SGD", "lr": 0.02}}),
    sick("breast_cancer/whole batch", "plain", {"batch": "all", "epochs": 20}, *SHORT,
         "batch-size", settings={"optimizer": {"name": "SGD", "lr": 0.02}}),
    sick("digits/whole batch", "default", {"batch": "all", "epochs": 20}, *SHORT, "batch-size"),
    sick("digits/saturated 64", "plain", {"network.initializer": LARGE}, *STARTS,
         settings={**TANH, "network.hidden": [64, 64]}),
    sick("digits/saturated 256", "plain", {"network.initializer": LARGE}, *STARTS,
         settings={**TANH, "network.hidden": [256, 256]}),
    sick("friedman1/saturated sigmoids", "plain", {"network.initializer": {**LARGE, "sd": 5.0}},
         *STARTS, settings={**SIGMOID, "network.hidden": [256, 256], **ADAM}),
    sick("made/few rows", "default", {"network.hidden": [256, 256], "network.dropout": None,
         "epochs": 300, **NO_STOP}, "overfitting", table=lambda: friedman(90, noise=4, useless=20),
         settings={"seeds": 1}),
    sick("made/few rows of classes", "plain", {"network.hidden": [256, 256], "epochs": 300},
         "overfitting", table=lambda: groups(120, spread=2.0), settings={"epochs": 8, **ADAM}),
    sick("made/shuffled digits", "default", {}, "labels", table=lambda: bundled("digits"),
         sick_table=lambda: shuffled(bundled("digits"))),
    sick("made/shuffled diabetes", "plain", {}, "labels", table=lambda: bundled("diabetes"),
         sick_table=lambda: shuffled(bundled("diabetes")), settings=ADAM),
    sick("made/shuffled wine", "default", {}, "labels", table=lambda: bundled("wine"),
         sick_table=lambda: shuffled(bundled("wine"))),
    sick("circles/linear", "plain", {"network.hidden": []}, "architecture-too-small",
         "hidden-activation"),
    sick("digits/rate of 1e-5", "plain", {"optimizer.lr": 1e-5}, *SHORT, settings=ADAM),
    sick("penguins/dropout", "plain", {"network.dropout": {"name": "Dropout", "rate": 0.98}},
         "dropout", "over-regularized", settings=ADAM),
    sick("friedman1/clip", "plain", {"clip": {"name": "ClipNorm", "limit": 1e-4}},
         "gradient-clipping", "learning-rate-low"),
    sick("digits/decay of 50", "default", {"optimizer.weight_decay": 50.0}, "over-regularized"),
    sick("wine/raw columns", "plain", {"encoding.scale": "none", "encoding.smooth_clip": None},
         "input-scale", *RATES),
    sick("friedman1/one unit", "plain", {"network.hidden": [1]}, "architecture-too-small",
         settings=ADAM),
    sick("digits/faint", "plain", {"network.initializer": {"name": "Normal", "sd": 0.005}},
         *STARTS, settings={"network.hidden": [64] * 6, **ADAM}),
)  # fmt: off

HEALTHY = (
    *(RecipeCase(f"{name}/default", "default")
      for name in ("iris", "wine", "digits", "diabetes", "breast_cancer", "penguins", "friedman1")),
    *(RecipeCase(f"{name}/plain", "plain")
      for name in ("iris", "moons", "digits", "breast_cancer", "spirals")),
    RecipeCase("digits/realmlp", "realmlp_td_s", {"epochs": 20}),
    RecipeCase("friedman1/realmlp", "realmlp_td_s", {"epochs": 40}),
    RecipeCase("digits/tanh 64", "plain", {**TANH, "network.hidden": [64, 64]}),
    RecipeCase("digits/tanh 256", "plain", {**TANH, "network.hidden": [256, 256]}),
    RecipeCase("friedman1/sigmoid 64", "plain", {**SIGMOID, "network.hidden": [64], **ADAM}),
    RecipeCase("digits/L2 of a thousandth", "plain",
               {"penalties": [{"name": "L2", "strength": 1e-3}]}),
    RecipeCase("breast_cancer/whole batch, long", "plain",
               {"batch": "all", "epochs": 300, "optimizer.lr": 0.05}),
    RecipeCase("digits/cosine", "plain", {"schedule": {"name": "Cosine"}, **ADAM}),
    RecipeCase("digits/step decay", "plain", {"schedule": {"name": "StepDecay"}}),
    RecipeCase("friedman1/one cycle", "plain", {"schedule": {"name": "OneCycle"}, **ADAM}),
    RecipeCase("made/one epoch of many rows", "plain", {"epochs": 1, **ADAM},
               table=lambda: friedman(20_000)),
    RecipeCase("made/noisy", "default", table=lambda: friedman(1000, noise=12.0)),
    RecipeCase("made/few validation rows", "plain", {"epochs": 15, **ADAM},
               table=lambda: groups(100, spread=0.8)),
    RecipeCase("made/few rows, stopped", "default", table=lambda: friedman(90, noise=1.0)),
    RecipeCase("iris/softmax regression", "plain", {"network.hidden": [], "epochs": 60}),
    RecipeCase("wine/dropout of a half", "default",
               {"network.dropout": {"name": "Dropout", "rate": 0.5}}),
    RecipeCase("diabetes/SGD", "plain",
               {"optimizer": {"name": "SGD", "lr": 0.02}, "epochs": 40, "network.hidden": [16]}),
    RecipeCase("penguins/rprop", "plain", {"optimizer": {"name": "Rprop"}, "batch": "all"}),
)  # fmt: off


def verify(case: RecipeCase) -> str:
    """The scores of three seeds with the fault and without it."""
    runs = [
        train(case.recipe(fixed=fixed).vary("seeds", 3), case.frame(fixed=fixed), baseline=False)
        for fixed in (False, True)
    ]
    scores = []
    for run in runs:
        score = run.record.score
        scores.append([float("nan")] if score is None else list(score.members))
    return "  ".join(" ".join(f"{v:.3f}" for v in each) for each in scores)


def table_line(case: RecipeCase, report: Report, seconds: float) -> tuple[str, bool, bool, bool]:
    """A line of the table; whether there is an alarm, and a right cause first and among two."""
    alarms = [f for f in report.findings if f.severity != "note"]
    causes = list(dict.fromkeys(f.cause for f in alarms))
    first = bool(causes) and causes[0] in case.causes
    suspects = [*causes, *(s for f in alarms for s in f.suspects)]
    among = bool(set(list(dict.fromkeys(suspects))[:2]) & case.causes)
    found = ", ".join(f"{f.code} {f.cause}" for f in alarms) or "-"
    mark = "right" if first else "two" if among else "wrong" if alarms else ""
    return f"{case.name:36} {seconds:5.1f} s  {mark:6} {found}", bool(alarms), first, among


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("verify", "check", "doctor"))
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--text", action="store_true", help="print the reports, too")
    options = parser.parse_args()
    examine = check if options.what == "check" else doctor
    for title, cases in (("sick", SICK), ("healthy", HEALTHY)):
        counts = np.zeros(3, int)
        chosen = [case for case in cases if options.only in case.name]
        for case in chosen:
            if options.what == "verify":
                print(f"{case.name:36} {verify(case)}", flush=True)
                continue
            began = time.process_time()
            report = examine(case.recipe(), case.frame())
            line, *hits = table_line(case, report, time.process_time() - began)
            counts += np.array(hits)
            print(line, flush=True)
            if options.text:
                print(findings_text(report), flush=True)
        if options.what != "verify":
            alarms, first, among = counts.tolist()
            right = f"; right first {first}, among two {among}" if title == "sick" else ""
            print(f"{title}: an alarm in {alarms} of {len(chosen)}{right}\n", flush=True)


if __name__ == "__main__":
    main()
