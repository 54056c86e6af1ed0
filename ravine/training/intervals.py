"""Intervals beside predicted numbers: split conformal, on the validation split.

Letters: M members, N examples, C outputs.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from ravine.data import ExamplesLike, Task
from ravine.errors import InputError
from ravine.training.model import Model

INTERVAL_LEVELS = range(50, 100)  # per cent


def calibrate_intervals(model: Model, task: Task) -> dict[str, Any]:
    """How wide intervals must be, as plain data; empty for classes and without validation rows.

    For each target the `offset` β is the median of |y − f| over the n validation rows, and a level
    p has the ⌈(n + 1) p⌉-th least of the ratios |y − f| / (s + β), where f is the members' mean and
    s their standard deviation, in encoded units (Papadopoulos et al. 2008; Lei et al. 2018). Levels
    for which there are too few rows are left out.
    """
    if task.kind != "regression" or task.validation is None:
        return {}
    predictions = model.member_predictions(task.validation).cpu()
    assert task.validation.targets is not None
    missed = (task.validation.targets.double().cpu() - predictions.mean(0)).abs()  # [N, C]
    offset = missed.median(0).values.clamp(min=1e-12)
    ratios = (missed / (predictions.std(0, correction=0) + offset)).sort(0).values
    rows = len(ratios)
    places = {level: math.ceil((rows + 1) * level / 100 - 1e-9) for level in INTERVAL_LEVELS}
    return {
        "rows": rows,
        "offset": offset.tolist(),
        "ratios": {str(p): ratios[at - 1].tolist() for p, at in places.items() if at <= rows},
    }


def predict_with_interval(
    model: Model, calibration: Mapping[str, Any], frame: ExamplesLike, interval: float
) -> pd.DataFrame:
    """Predictions as a table, and for each target `NAME low` and `NAME high`.

    Raises `InputError` for a level that the run cannot give, and for classes.
    """
    why = _why_no_interval(model, calibration, interval)
    if why:
        raise InputError(f"there is no interval of {interval:g}", why=why, do="leave interval out")
    target = model.encoder.target
    members = model.member_predictions(model.encoder.apply(frame)).cpu()
    middle, spread = members.mean(0), members.std(0, correction=0)
    ratio = torch.tensor(calibration["ratios"][str(_level(interval))], dtype=torch.float64)
    half = ratio * (spread + torch.tensor(calibration["offset"], dtype=torch.float64))
    low, high = (target.decode(end).numpy() for end in (middle - half, middle + half))
    predictions = model.prediction_frame(middle, frame)
    columns = {}
    for i, target in enumerate(predictions.columns):
        name = f"{target} interval" if f"{target} low" in predictions else target
        columns |= {f"{name} low": low[:, i], f"{name} high": high[:, i]}
    return pd.concat([predictions, pd.DataFrame(columns, index=predictions.index)], axis=1)


def _why_no_interval(model: Model, calibration: Mapping[str, Any], interval: float) -> str:
    """Why a run gives no interval of a level; nothing where it does."""
    if model.encoder.target.task_type.kind != "regression":
        return "intervals are of numbers; classes have probabilities"
    if not calibration:
        return "the run kept no validation rows, or an earlier version of Ravine wrote it"
    if _level(interval) not in INTERVAL_LEVELS:
        return f"it must be from {INTERVAL_LEVELS[0] / 100:g} to {INTERVAL_LEVELS[-1] / 100:g}"
    if str(_level(interval)) not in calibration["ratios"]:
        return f"{calibration['rows']} validation rows are too few for it"
    return ""


def _level(interval: float) -> int:
    """A level in whole per cent, rounded up."""
    return math.ceil(100 * interval - 1e-9) if math.isfinite(interval) else -1
