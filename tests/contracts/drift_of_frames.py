"""What is said of new rows that are given at once, as `predict` says it of a file's blocks."""

from ravine.data import Drift
from ravine.data.frames import table_from


def describe_drift(encoder, frame):
    drift = Drift(encoder)
    drift.add(table_from(frame)[0])
    return drift.describe()
