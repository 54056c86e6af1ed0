"""All programs, in one list."""

from benchmarks.doctor import healthy, loops, pictures, sequences, tables
from benchmarks.doctor.program import Program

ALL: tuple[Program, ...] = (
    *tables.PROGRAMS,
    *pictures.PROGRAMS,
    *sequences.PROGRAMS,
    *loops.PROGRAMS,
    *healthy.PROGRAMS,
)
