"""Run somebody's code without a trace: random numbers of its own, and errors that are expected."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ravine.diagnosis.initialization.probe import seed_all


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Random numbers (of torch, numpy and Python) from a seed, and afterwards as if none had been
    drawn.
    """
    before = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        seed_all(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
