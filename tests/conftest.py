"""What all tests share: one thread, exact arithmetic, random tests that can be repeated."""

import gc
import os

# Before torch is imported: MKL and OpenMP read these once, at their first use (why:
# `ravine/training/determinism.py`).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from ravine.training import jobs, workers  # noqa: E402

# Times vary on shared machines, so no deadline; `print_blob` prints what repeats a failure.
settings.register_profile("quick", max_examples=50, deadline=None, print_blob=True, database=None)
settings.load_profile("quick")


def pytest_collection_finish():
    """Leave what was imported and collected out of every later garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture
def processes_pay(monkeypatch):
    """However short a run is, other processes are started for the jobs that wait."""
    monkeypatch.setattr(jobs, "SPLIT_SECONDS", -1.0)
    monkeypatch.setattr(workers, "START_SECONDS", 1e-9)
    monkeypatch.setattr(workers, "MEASURED_SECONDS", 0.0)
