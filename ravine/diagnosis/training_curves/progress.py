"""How far the loss of a run fell, whether evenly, and what as many steps again would gain."""

import math

import numpy as np

from ravine.diagnosis.training_curves.series import Curve, TrainingCurves
from ravine.statistics import theil_sen

MIN_FALL = 0.05  # of the constant's loss: a fall is at least that
CLEAR_GAIN = 0.02  # of the constant's loss
FIT_POINTS = 16  # means to which the last third is reduced
MIN_FIT_POINTS = 10  # with fewer there is no interval at this level


def measure_fall(curves: TrainingCurves, lowest: float) -> float:
    """From the best constant's loss, or if unknown or never beaten the first loss, to the lowest.

    At least a twentieth of the constant's loss: where little was learned, little can be lost.

    >>> from ravine.diagnosis.training_curves.series import LossCurves, ReferenceLosses, RunPlan
    >>> losses = LossCurves(validation=Curve(np.arange(1, 4), np.array([9.0, 2.0, 1.0])))
    >>> references = ReferenceLosses(constant_validation_loss=3.0)
    >>> plan = RunPlan(budget=3)
    >>> curves = TrainingCurves(steps=3, plan=plan, losses=losses, references=references)
    >>> measure_fall(curves, 1.0)
    2.0
    """
    constant = curves.monitored_constant_loss
    first = float(curves.losses.monitored_curve.values[0])
    if constant is None:
        return first - lowest
    return max((constant if constant > lowest else first) - lowest, MIN_FALL * abs(constant))


def elapsed_time(curves: TrainingCurves, steps: np.ndarray) -> np.ndarray:
    """The sum of the learning rates up to steps; the steps themselves, where rates are unknown."""
    lr = curves.updates.lr
    if len(lr) < 3 or not lr.values.max() > 0:
        return steps.astype(float)
    sums = np.cumsum(lr.values * np.diff(lr.steps.astype(float), prepend=0.0))
    return np.interp(steps, np.concatenate([[0.0], lr.steps]), np.concatenate([[0.0], sums]))


def falls_evenly(curves: TrainingCurves) -> bool:
    """Whether the last quarter of the time brought over half as much as the first."""
    losses = curves.losses
    curve = losses.monitored_curve if len(losses.monitored_curve) >= 9 else losses.train_blocks
    if len(curve) < 9:
        return False
    time = elapsed_time(curves, curve.steps)
    parts = [
        curve.values[(time >= begin * time[-1]) & (time <= (begin + 0.25) * time[-1])]
        for begin in (0, 0.25, 0.5, 0.75)
    ]
    if not all(len(part) for part in parts):
        return False
    means = [float(part.mean()) for part in parts]
    falling = means[0] > means[1] > means[2] > means[3]
    return falling and means[2] - means[3] > 0.5 * (means[0] - means[1])


def further_gain(curves: TrainingCurves, curve: Curve) -> tuple[float, float]:
    """What as many steps again would gain at least, and what was gained from the first value on.
    Time is `elapsed_time`. Of the last third, the upper end of the slope of log loss (of the loss,
    if not positive) over log time: a straight line there is a power law, which slows down.
    """
    time = elapsed_time(curves, curve.steps)
    late = (time >= time[-1] * 2 / 3) & (time > 0)
    thirds = (time[late] / time[-1] - 2 / 3) * 3
    places = np.minimum((thirds * FIT_POINTS).astype(int), FIT_POINTS - 1)
    if len(np.unique(places)) < 4:
        return 0.0, 1.0
    x = np.array([time[late][places == p].mean() for p in np.unique(places)])
    y = np.array([curve.values[late][places == p].mean() for p in np.unique(places)])
    positive = bool((curve.values > 0).all())
    slope, _, high = theil_sen(np.log(x), np.log(y) if positive else y, curves.critical_z)
    if len(x) < MIN_FIT_POINTS:  # all that can be asked is that each is lower
        high = slope if bool((np.diff(y) < 0).all()) else 0.0
    if not high < 0:
        return 0.0, 1.0
    last = float(y[-1])
    gain = last * (1 - 2**high) if positive else -high * math.log(2)
    first, constant = float(curve.values[0]), curves.monitored_constant_loss
    learned = constant is not None and last <= constant - CLEAR_GAIN * abs(constant)
    return gain, (min(first, constant) if constant is not None and learned else first) - last
