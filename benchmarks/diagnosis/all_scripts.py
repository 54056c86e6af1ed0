"""All scripts, in one list."""

from benchmarks.diagnosis import (
    healthy,
    images,
    loops,
    posted_habits,
    posted_healthy,
    posted_inputs,
    posted_loops,
    posted_losses,
    posted_pictures,
    posted_sequences,
    posted_steps,
    posted_tables,
    posted_tables_odd,
    posted_units,
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
    *posted_tables.SCRIPTS,
    *posted_losses.SCRIPTS,
    *posted_units.SCRIPTS,
    *posted_habits.SCRIPTS,
    *posted_tables_odd.SCRIPTS,
    *posted_sequences.SCRIPTS,
    *posted_pictures.SCRIPTS,
    *posted_inputs.SCRIPTS,
    *posted_loops.SCRIPTS,
    *posted_steps.SCRIPTS,
    *posted_healthy.SCRIPTS,
)
