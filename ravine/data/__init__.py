"""Tables and pictures and what to learn from them: reading, splitting, encoding, and sets larger than memory."""

from collections.abc import Mapping
from typing import Any

from ravine.data.answers import rounded, told_apart
from ravine.data.bundled import BUNDLED
from ravine.data.encode import Encoder, Encoding
from ravine.data.examples import Examples
from ravine.data.images import Images, PictureEncoder
from ravine.data.listing import holds_pictures
from ravine.data.read import read_table
from ravine.data.source import Data
from ravine.data.splits import ByTime, Given, Grouped, Random, Stratified
from ravine.data.stream import RowGroups
from ravine.data.task import Task, load
from ravine.data.unlike import unlike

SPLITS = (Stratified, Random, Grouped, ByTime, Given)

__all__ = ["BUNDLED", "SPLITS", "ByTime", "Data", "Encoder", "Encoding", "Examples", "Given", "Grouped", "Images",
           "PictureEncoder", "Random", "RowGroups", "Stratified", "Task", "encoder_from_plain", "holds_pictures",
           "load", "read_table", "rounded", "told_apart", "unlike"]  # fmt: skip


def encoder_from_plain(plain: Mapping[str, Any]) -> Encoder | PictureEncoder:
    """The encoder that plain data describe, of a table or of pictures."""
    return PictureEncoder.from_plain(plain) if "pictures" in plain else Encoder.from_plain(plain)
