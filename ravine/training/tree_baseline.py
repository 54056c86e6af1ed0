"""Boosted trees beside the networks: what scikit-learn's reach on the same rows.

Letters: N examples, F columns, C outputs.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ravine.data import Examples, RowGroups, Task
from ravine.data.examples import evenly_spaced

TREE_ROUNDS = 100  # scikit-learn's default
MIN_TREE_ROUNDS = 20
MAX_TREES = 300  # of 4 to 15 outputs together: fewer rounds of longer steps
BOOSTED_DISTANCE = 10.0  # rounds times learning rate: the default's
MAX_WORK = 4e8  # rows times columns times trees, about two seconds of one core
MAX_TREE_OUTPUTS = 64
MAX_LEVELS = 250  # of a category; rarer ones count as one
# XGBoost's default; without it steps explode on rare classes: NOTEBOOK 2026-11-27
TREE_PENALTY = 1.0
LEAF_SHARE = 0.1  # of the rows at most in the smallest leaf: the default is 20 rows


def predict_with_trees(task: Task, held_out: Examples) -> tuple[Tensor | None, str]:
    """What gradient boosting predicts for held-out examples, float64 [1, N, C] in encoded units.

    scikit-learn's HistGradientBoosting on one thread, fitted on the training rows and the columns
    as networks get them; categories are categories. Its settings are the defaults but for an L2
    penalty and smaller leaves in tables of less than 200 rows. Of many rows as many are used,
    evenly spaced, as two seconds allow. The second value says how, or why there is none.
    """
    if isinstance(task.train, RowGroups):
        return None, "the training rows are read in pieces"
    if task.signature.image is not None:
        return None, "trees on single pixels are no comparison"
    if task.outputs > MAX_TREE_OUTPUTS:
        return None, f"more than {MAX_TREE_OUTPUTS} outputs take too long"
    trees = task.outputs if task.kind != "binary" else 1
    rounds = max(MIN_TREE_ROUNDS, min(TREE_ROUNDS, MAX_TREES // trees))
    columns = len(task.encoder.features) + len(task.encoder.code_sizes)
    train = evenly_spaced(task.train, max(1000, int(MAX_WORK / (columns * trees * rounds))))
    note = f"HistGradientBoosting, {rounds} rounds"
    if train.count < task.train.count:
        note += f", on {train.count:,} of {task.train.count:,} training rows"
    try:
        return _fit_and_predict(task, train, held_out, rounds), note
    except Exception as error:  # a trained run must not be lost for what stands beside it
        return None, f"they could not be fitted: {error}"


def _fit_and_predict(task: Task, train: Examples, held_out: Examples, rounds: int) -> Tensor:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    x, new = _columns(train), _columns(held_out)
    assert train.targets is not None
    y = train.targets.reshape(train.count, -1).numpy()
    weights = None if train.weights is None else train.weights.numpy()
    settings: dict[str, Any] = {
        "max_iter": rounds,
        "learning_rate": BOOSTED_DISTANCE / rounds,
        "l2_regularization": TREE_PENALTY,
        "min_samples_leaf": max(2, min(20, round(LEAF_SHARE * train.count))),
        "early_stopping": False,
        "random_state": 0,
        "categorical_features": np.arange(x.shape[1]) >= train.numbers.shape[1],
    }
    out = []
    # one thread: two fight with others over a busy machine, 20 times slower in our measurements
    with threadpool_limits(1, user_api="openmp"):
        for column in y.T:
            if task.kind == "regression":
                trees = HistGradientBoostingRegressor(**settings).fit(x, column, weights)
                out.append(trees.predict(new)[:, None])
            elif len(np.unique(column)) < 2:  # a label that is the same in all rows
                out.append(np.full((len(new), 1), column[0]))
            else:
                trees = HistGradientBoostingClassifier(**settings).fit(x, column, weights)
                probabilities = np.zeros((len(new), task.outputs if task.kind == "classes" else 2))
                probabilities[:, trees.classes_.astype(int)] = trees.predict_proba(new)
                out.append(probabilities if task.kind == "classes" else probabilities[:, 1:])
    return torch.from_numpy(np.concatenate(out, 1).astype(np.float64))[None]


def encoded_columns(task: Task, examples: Examples) -> pd.DataFrame:
    """The columns as networks get them, as a table: numbers by their names, then categories."""
    values = _columns(examples)
    features = [str(name) for name in task.encoder.features]
    codes = [f"code {i + 1}" for i in range(values.shape[1] - len(features))]
    return pd.DataFrame(values, columns=[*features, *codes])


def _columns(examples: Examples) -> np.ndarray:
    """Numbers, then codes, [N, F]."""
    numbers = examples.numbers.numpy()
    if examples.codes is None:
        return numbers
    return np.concatenate([numbers, examples.codes.clamp(max=MAX_LEVELS).numpy()], 1)
