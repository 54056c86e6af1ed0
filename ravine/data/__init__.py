"""Tables and images, and what to learn from them: reading, splitting, encoding, streaming."""

from collections.abc import Mapping
from typing import Any

from ravine.data.datasets import BUNDLED_SETS as BUNDLED_SETS
from ravine.data.drift import Drift as Drift
from ravine.data.encoder import Encoder, Encoding
from ravine.data.examples import Examples as Examples
from ravine.data.frames import ExamplesLike as ExamplesLike
from ravine.data.frames import TableLike as TableLike
from ravine.data.frames import table_from as table_from
from ravine.data.image_sources import holds_images as holds_images
from ravine.data.images import ImageEncoder, Images
from ravine.data.prediction_file import file_blocks as file_blocks
from ravine.data.prediction_file import find_identifiers as find_identifiers
from ravine.data.prediction_file import round_floats as round_floats
from ravine.data.prediction_file import with_identifiers as with_identifiers
from ravine.data.source import Data
from ravine.data.splits import ByTime, Given, Grouped, Random, Stratified
from ravine.data.streaming import RowGroups as RowGroups
from ravine.data.tables import open_blocks as open_blocks
from ravine.data.tables import read_table as read_table
from ravine.data.targets import Target as Target
from ravine.data.task import Task as Task
from ravine.data.task import load as load
from ravine.data.task import signature_of as signature_of
from ravine.data.task import task_of_rows as task_of_rows
from ravine.data.task_type import TaskKind as TaskKind
from ravine.data.task_type import TaskType as TaskType
from ravine.old_names import get_key

ALL_SPLITS = (Stratified, Random, Grouped, ByTime, Given)
ALL_SOURCES = (Data, Images)
ALL_ENCODINGS = (Encoding,)


def encoder_from_plain(plain: Mapping[str, Any]) -> Encoder | ImageEncoder:
    """The encoder that plain data describe, of a table or of images."""
    of_images = get_key(plain, "images") is not None
    return ImageEncoder.from_plain(plain) if of_images else Encoder.from_plain(plain)
