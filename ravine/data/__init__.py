"""Tables and images, and what to learn from them: reading, splitting, encoding, streaming."""

from collections.abc import Mapping
from typing import Any

from ravine.data.datasets import BUNDLED_SETS
from ravine.data.drift import describe_drift
from ravine.data.encoder import Encoder, Encoding
from ravine.data.examples import Examples
from ravine.data.image_sources import holds_images
from ravine.data.images import ImageEncoder, Images
from ravine.data.prediction_file import round_floats, with_identifiers
from ravine.data.source import Data
from ravine.data.splits import ALL as SPLITS
from ravine.data.splits import ByTime, Given, Grouped, Random, Stratified
from ravine.data.streaming import RowGroups
from ravine.data.tables import ExamplesLike, TableLike, read_table
from ravine.data.task import Task, load
from ravine.old_names import get_key

ALL_SOURCES = (Data, Images)
ALL_ENCODINGS = (Encoding,)

__all__ = [
    "ALL_ENCODINGS",
    "ALL_SOURCES",
    "BUNDLED_SETS",
    "SPLITS",
    "ByTime",
    "Data",
    "Encoder",
    "Encoding",
    "Examples",
    "ExamplesLike",
    "Given",
    "Grouped",
    "ImageEncoder",
    "Images",
    "Random",
    "RowGroups",
    "Stratified",
    "TableLike",
    "Task",
    "describe_drift",
    "encoder_from_plain",
    "holds_images",
    "load",
    "read_table",
    "round_floats",
    "with_identifiers",
]


def encoder_from_plain(plain: Mapping[str, Any]) -> Encoder | ImageEncoder:
    """The encoder that plain data describe, of a table or of images."""
    of_images = get_key(plain, "images") is not None
    return ImageEncoder.from_plain(plain) if of_images else Encoder.from_plain(plain)
