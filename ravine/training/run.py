"""The noun `Run`: what training gives back."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ravine.data import Drift, Encoder, ExamplesLike, open_blocks
from ravine.errors import RunError
from ravine.files import require_path
from ravine.recipe import Recipe
from ravine.recipe_files import recipe_from, with_paths_from
from ravine.record import Record, Score
from ravine.training.intervals import predict_with_interval
from ravine.training.model import Model


@dataclass(frozen=True)
class Run:
    """The record of a training run, its model, and the folder that both were written to."""

    record: Record
    model: Model | None  # None where every member diverged
    folder: Path | None = None

    def __repr__(self) -> str:
        """One line: the score, and where the run is."""
        folder = "" if self.folder is None else f"; {self.folder}"
        return f"Run({self.record!r}, {self.model!r}{folder})"

    @property
    def score(self) -> Score | None:
        """The score of the record; None where every member diverged, or no split was held out."""
        return self.record.score

    @property
    def recipe(self) -> Recipe:
        """What was trained, with everything that the data decided."""
        if self.model is not None:
            return self.model.recipe
        recipe = recipe_from({"base": "plain", **self.record.recipe})
        return recipe if self.folder is None else with_paths_from(recipe, self.folder.resolve())

    def require_model(self) -> Model:
        """The model. Raises `RunError` where every network diverged."""
        if self.model is None:
            do = "train with a smaller optimizer.lr"
            raise RunError("the run has no model", why="every network diverged", do=do)
        return self.model

    def predict(self, frame: ExamplesLike, *, interval: float | None = None) -> pd.DataFrame:
        """Predictions for new rows: the target, and for classes the probability of each.

        For numbers `interval` (0.5 to 0.99) adds columns `NAME low` and `NAME high`, between which
        that share of the true values of new rows lies, if these are drawn as the validation rows
        were.

        `frame` is a DataFrame, a mapping of columns, an array, or a file of them, which is read in
        blocks (what is in doubt there, or unlike the training rows, is warned of); for images also
        a folder or a list of paths. Raises `RunError` where every network diverged, `InputError`
        for an interval that the run cannot give.
        """
        model = self.require_model()
        if isinstance(frame, (str, Path)) and isinstance(model.encoder, Encoder):
            notes: list[str] = []
            table = open_blocks(require_path(frame, "frame"), notes, model.encoder.known_columns)
            drift = Drift(model.encoder)
            blocks: list[pd.DataFrame] = []
            for rows in table.read(model.block_rows):
                blocks.append(self.predict(rows, interval=interval))
                drift.add(rows)
            for note in (*notes, *drift.describe()):
                warnings.warn(note, stacklevel=2)
            return pd.concat(blocks)
        if interval is None:
            return model.predict(frame)
        return predict_with_interval(model, self.record.intervals, frame, interval)
