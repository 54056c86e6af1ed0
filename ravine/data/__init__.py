"""Tables and pictures and what to learn from them: reading, splitting, encoding, and sets larger
than memory.
"""

from collections.abc import Mapping
from typing import Any

from ravine.data.datasets import BUNDLED
from ravine.data.drift import unlike
from ravine.data.encoder import Encoder, Encoding
from ravine.data.examples import Examples
from ravine.data.image_sources import holds_pictures
from ravine.data.images import Images, PictureEncoder
from ravine.data.prediction_file import rounded, told_apart
from ravine.data.source import Data
from ravine.data.splits import ByTime, Given, Grouped, Random, Stratified
from ravine.data.streaming import RowGroups
from ravine.data.tables import read_table
from ravine.data.task import Task, load

ALL_SOURCES = (Data, Images)
ALL_ENCODINGS = (Encoding,)
SPLITS = (Stratified, Random, Grouped, ByTime, Given)

__all__ = [
    "ALL_ENCODINGS",
    "ALL_SOURCES",
    "BUNDLED",
    "SPLITS",
    "ByTime",
    "Data",
    "Encoder",
    "Encoding",
    "Examples",
    "Given",
    "Grouped",
    "Images",
    "PictureEncoder",
    "Random",
    "RowGroups",
    "Stratified",
    "Task",
    "encoder_from_plain",
    "holds_pictures",
    "load",
    "read_table",
    "rounded",
    "told_apart",
    "unlike",
]


def encoder_from_plain(plain: Mapping[str, Any]) -> Encoder | PictureEncoder:
    """The encoder that plain data describe, of a table or of pictures."""
    return PictureEncoder.from_plain(plain) if "pictures" in plain else Encoder.from_plain(plain)
