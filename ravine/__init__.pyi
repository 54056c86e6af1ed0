# Written by scripts/public_stub.py from the table in __init__.py.
from ravine.catalog import named_recipe
from ravine.errors import InputError, RavineError
from ravine.examination.api import doctor, examine
from ravine.recipe import Recipe
from ravine.recipe_files import read_recipe
from ravine.record import Record
from ravine.reporting.findings_text import findings_text
from ravine.studies.compare import compare
from ravine.studies.compare_runs import compare_runs
from ravine.studies.compare_tasks import compare_tasks
from ravine.studies.tune import resume_tuning, tune
from ravine.studies.tuning import TuningResult
from ravine.studies.variance_sources import variance_sources
from ravine.studies.verdict import Verdict
from ravine.training.run import Run
from ravine.training.train import open_run, resume, train, train_all
from ravine.watching.watcher import watch

__version__: str
HOME_MODULES: dict[str, str]
__all__ = [
    "InputError",
    "RavineError",
    "Recipe",
    "Record",
    "Run",
    "TuningResult",
    "Verdict",
    "compare",
    "compare_runs",
    "compare_tasks",
    "doctor",
    "examine",
    "findings_text",
    "named_recipe",
    "open_run",
    "read_recipe",
    "resume",
    "resume_tuning",
    "train",
    "train_all",
    "tune",
    "variance_sources",
    "watch",
]
