"""Ravine trains neural networks with PyTorch: many at once, from a recipe, with an honest score.

    import ravine

    recipe = ravine.named_recipe("default").vary("data.source", "penguins")
    run = ravine.train(recipe)
    print(run.score)

Importing does no work: a name loads what it needs when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

HOME_MODULES = {
    "InputError": "ravine.errors",
    "RavineError": "ravine.errors",
    "Recipe": "ravine.recipe",
    "Record": "ravine.record",
    "Run": "ravine.training.run",
    "TuningResult": "ravine.studies.tuning",
    "Verdict": "ravine.studies.verdict",
    "compare": "ravine.studies.compare",
    "compare_tasks": "ravine.studies.compare_tasks",
    "compare_runs": "ravine.studies.compare_runs",
    "doctor": "ravine.examination.api",
    "examine": "ravine.examination.api",
    "findings_text": "ravine.reporting.findings_text",
    "named_recipe": "ravine.catalog",
    "open_run": "ravine.training.train",
    "read_recipe": "ravine.recipe_files",
    "resume": "ravine.training.train",
    "train": "ravine.training.train",
    "resume_tuning": "ravine.studies.tune",
    "train_all": "ravine.training.train",
    "tune": "ravine.studies.tune",
    "variance_sources": "ravine.studies.variance_sources",
    "watch": "ravine.watching.watcher",
}
# type checkers cannot follow the table: scripts/public_stub.py writes it to __init__.pyi
__all__ = sorted(HOME_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in HOME_MODULES:
        raise AttributeError(f"module 'ravine' has no attribute {name!r}")
    return getattr(importlib.import_module(HOME_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
