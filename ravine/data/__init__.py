"""Tables and what to learn from them: reading, splitting, encoding, and tables larger than memory."""

from ravine.data.bundled import BUNDLED
from ravine.data.encode import Encoder, Encoding
from ravine.data.examples import Examples
from ravine.data.read import read_table
from ravine.data.source import Data
from ravine.data.splits import ByTime, Given, Grouped, Random, Stratified
from ravine.data.stream import RowGroups
from ravine.data.task import Task, load

SPLITS = (Stratified, Random, Grouped, ByTime, Given)

__all__ = ["BUNDLED", "SPLITS", "ByTime", "Data", "Encoder", "Encoding", "Examples", "Given", "Grouped", "Random",
           "RowGroups", "Stratified", "Task", "load", "read_table"]  # fmt: skip
