"""Healthy loops as people write them: ordinary ones, and some that look odd."""

from __future__ import annotations

from benchmarks.diagnosis.training_script import TrainingScript

SCRIPTS: tuple[TrainingScript, ...] = ()
