"""Ravine trains neural networks with PyTorch: many at once, from a recipe, with an honest score.

    import ravine

    recipe = ravine.named_recipe("default").vary("data.source", "penguins")
    run = ravine.train(recipe)
    print(run.score)

Importing does no work: a name loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravine.catalog import named as named_recipe
    from ravine.catalog import read_recipe
    from ravine.errors import InputError, RavineError
    from ravine.examination.api import doctor, examine
    from ravine.recipe import Recipe
    from ravine.record import Record
    from ravine.reporting.findings_text import findings_text
    from ravine.training.train import Run, open_run, resume, train, train_all
    from ravine.watching.watcher import watch

__version__ = "0.1.0"

_HOMES = {
    "InputError": ("ravine.errors", "InputError"),
    "RavineError": ("ravine.errors", "RavineError"),
    "Recipe": ("ravine.recipe", "Recipe"),
    "Record": ("ravine.record", "Record"),
    "Run": ("ravine.training.train", "Run"),
    "examine": ("ravine.examination.api", "examine"),
    "findings_text": ("ravine.reporting.findings_text", "findings_text"),
    "open_run": ("ravine.training.train", "open_run"),
    "doctor": ("ravine.examination.api", "doctor"),
    "named_recipe": ("ravine.catalog", "named"),
    "read_recipe": ("ravine.catalog", "read_recipe"),
    "resume": ("ravine.training.train", "resume"),
    "train": ("ravine.training.train", "train"),
    "train_all": ("ravine.training.train", "train_all"),
    "watch": ("ravine.watching.watcher", "watch"),
}

__all__ = [
    "InputError",
    "RavineError",
    "Recipe",
    "Record",
    "Run",
    "doctor",
    "examine",
    "findings_text",
    "named_recipe",
    "open_run",
    "read_recipe",
    "resume",
    "train",
    "train_all",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ravine' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
