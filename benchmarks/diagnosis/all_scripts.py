"""All scripts, in one list."""

from benchmarks.diagnosis import healthy, images, loops, sequences, tables
from benchmarks.diagnosis.training_script import TrainingScript

ALL: tuple[TrainingScript, ...] = (
    *tables.SCRIPTS,
    *images.SCRIPTS,
    *sequences.SCRIPTS,
    *loops.SCRIPTS,
    *healthy.SCRIPTS,
)
