"""Predictions for the rows of a file, block by block: memory does not grow with the rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ravine import data
from ravine.training.run import Run


@dataclass
class FilePredictions:
    """Iterates over the predictions for a table's rows in blocks, or for images all at once.

    `interval` is that of `Run.predict`. When all are made, `count` is how many, and `notes` say
    what could not be read, or is unlike the training rows.
    """

    run: Run
    source: Path  # a table, a folder of images or an image
    interval: float | None = None
    count: int = 0
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        encoder = self.run.require_model().encoder
        images = isinstance(encoder, data.ImageEncoder)
        for block in self._of_images(encoder) if images else self._of_table(encoder):
            self.count += len(block)
            yield block

    def _of_table(self, encoder: data.Encoder) -> Iterator[pd.DataFrame]:
        table = data.open_blocks(self.source, self.notes, encoder.known_columns)
        drift = data.Drift(encoder)
        identifiers = None
        for rows in table.read(self.run.require_model().block_rows):
            predictions = self.run.predict(rows, interval=self.interval)
            drift.add(rows)
            if identifiers is None:
                identifiers = data.find_identifiers(table, encoder, predictions.columns)
            rounded = data.round_floats(predictions, encoder.target)
            yield data.with_identifiers(rounded, rows, identifiers)
        self.notes += drift.describe()

    def _of_images(self, encoder: data.ImageEncoder) -> Iterator[pd.DataFrame]:
        images = encoder.read(self.source)
        self.notes += images.notes
        predictions = self.run.predict(images, interval=self.interval)
        predictions = data.round_floats(predictions, encoder.target)
        if images.names:
            predictions.insert(0, "file" if "path" in predictions else "path", images.names)
        yield predictions
