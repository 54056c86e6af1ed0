"""All scripts, in one list."""

from benchmarks.diagnosis import (
    healthy,
    images,
    loops,
    posted_healthy,
    posted_inputs,
    posted_loops,
    posted_pictures,
    posted_sequences,
    posted_steps,
    sequences,
    tables,
)
from benchmarks.diagnosis.training_script import TrainingScript

ALL: tuple[TrainingScript, ...] = (
    *tables.SCRIPTS,
    *images.SCRIPTS,
    *sequences.SCRIPTS,
    *loops.SCRIPTS,
    *healthy.SCRIPTS,
    *posted_sequences.SCRIPTS,
    *posted_pictures.SCRIPTS,
    *posted_inputs.SCRIPTS,
    *posted_loops.SCRIPTS,
    *posted_steps.SCRIPTS,
    *posted_healthy.SCRIPTS,
)
