"""What tuning found: its trials with a text, a figure, and files."""

import html
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ravine.files import write_atomically
from ravine.recipe_files import recipe_text
from ravine.record import RECORD_SCHEMA, finite_json, json_with_digest
from ravine.reporting.plot_style import svg
from ravine.studies.tuned_trials import TunedTrials
from ravine.studies.tuning_figure import tuning_figure
from ravine.studies.tuning_text import tuning_summary

RESULT_FILE = "tuning.json"
NETWORKS_FOLDER = "best"  # of a population: the best member's networks, a finished run
SHOWN_TRIALS = 10


class TuningResult(TunedTrials):
    """What tuning found. `print` it for the best trials, what mattered, and how sure that is."""

    def summary(self, most: int = SHOWN_TRIALS) -> str:
        """The best trials, what mattered, and how sure the best is."""
        return tuning_summary(self, most)

    __str__ = summary

    def figure(self) -> Figure:
        """History, importance, slices and parallel coordinates."""
        return tuning_figure(self)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        best, optimism = self.best, self.optimism()
        trials = [{k: v for k, v in asdict(t).items() if k != "resampled"} for t in self.trials]
        for trial in trials:
            trial["rungs"] = {f"{share:.4g}": score for share, score in trial["rungs"].items()}
            trial["phases"] = [phase._asdict() for phase in trial["phases"]]
        data = {
            "schema": RECORD_SCHEMA,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "failures": self.failures,
            "waiting": self.waiting,
            "cost": self.cost,
            "best": None if best is None else {"number": best.number, "values": dict(best.values)},
            "ties": [trial.number for trial in self.ties],
            "importance": self.importance,
            "expected_best": self.curve().tolist(),
            "optimism": None if optimism is None else list(optimism),
            "schedule": [] if best is None else [phase._asdict() for phase in best.phases],
            "is_schedule_better": self.is_schedule_better,
            "findings": [finding.to_json() for finding in self.findings()],
            "trials": trials,
            "verdict": None if self.verdict is None else self.verdict.to_json(),
        }
        return finite_json(data)

    def frame(self) -> pd.DataFrame:
        """The trials as a table: number, settings, score, loss, outcome and steps."""
        rows = []
        for t in self.trials:
            measured = {
                self.metric: t.score,
                "loss": t.loss,
                "outcome": t.outcome,
                "steps": t.steps,
            }
            lineage = {"lineage": " ".join(str(p.trial) for p in t.phases)} if t.phases else {}
            rows.append({"trial": t.number, **t.values, **measured, **lineage})
        return pd.DataFrame(rows)

    def save(self, folder: str | Path) -> None:
        """Write trials.csv, tuning.json, tuning.svg and best.toml (and the verdict) to a folder; of
        a population best.toml only where a recipe is recommended.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "trials.csv", self.frame().to_csv(index=False).encode())
        write_atomically(folder / RESULT_FILE, json_with_digest(self.to_json()))
        (folder / "best.toml").unlink(missing_ok=True)
        if self.best_recipe is not None:
            text = recipe_text(self.best_recipe, folder)
            write_atomically(folder / "best.toml", text.encode())
        if self.best is not None:
            drawing = svg(self.figure(), title="tuning")
            write_atomically(folder / "tuning.svg", drawing.encode())
        if self.verdict is not None:
            self.verdict.save(folder)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"
