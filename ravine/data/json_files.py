"""Tables in JSON: an object on each line, an array of objects, or an object of columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ravine.data.csv_dialect import Dialect
from ravine.data.frames import check_density, check_table, frame_of_rows
from ravine.data.text_files import TextFile
from ravine.errors import DataError, first_line, wrap_errors

JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
JSON_SUFFIXES = (".json", *JSON_LINES_SUFFIXES)
JSON_BLOCK_ROWS = 20_000


@dataclass(frozen=True)
class JsonTable:
    """A table in a file of JSON: one value, or an object on each line."""

    text: TextFile
    dialect = Dialect()

    def frame(self) -> pd.DataFrame:
        """The whole table."""
        self.text.check_memory("give fewer rows, or convert it to Parquet")
        return check_table(pd.concat(self._frames()), str(self.text.path))

    def survey(self) -> Iterator[tuple[pd.DataFrame, dict[str, str]]]:
        """Blocks; there are no numbers whose digits matter."""
        for frame in self._frames():
            yield frame, {}

    def blocks(
        self, kinds: Mapping[str, str], columns: Sequence[str] | None
    ) -> Iterator[pd.DataFrame]:
        """The table in blocks, all columns or some; types are those of the values, not `kinds`."""
        for frame in self._frames():
            frame = check_table(frame, str(self.text.path))
            yield frame if columns is None else frame.reindex(columns=list(columns))

    def _frames(self) -> Iterator[pd.DataFrame]:
        one = is_one_value(self.text)
        yield from [read_json_value(self.text)] if one else read_json_lines(self.text)


def is_one_value(text: TextFile) -> bool:
    """Whether a file is one array or object over several lines, rather than an object on each."""
    with text.open() as file:
        lines = (line.strip() for line in file)
        first = next((line for line in lines if line), "")
        second = next((line for line in lines if line), "")
    return first.startswith("[") or not second or not first.endswith("}")


def read_json_value(text: TextFile) -> pd.DataFrame:
    """The table in a file that holds one JSON value. Raises `DataError`."""
    text.check_memory("write an object on each line, which is read in blocks")
    with text.open() as file:
        value = _parse(file.read(), str(text.path), str(text.path))
    do = 'write [{"column": value, ...}, ...]'
    with wrap_errors(DataError, f"{text.path} is no table", do):
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            return frame_of_rows(value)
        if isinstance(value, dict) and value:
            if set(value) >= {"columns", "data"}:  # "split" of pandas
                return pd.DataFrame(value["data"], columns=value["columns"])
            lists = all(isinstance(v, (list, dict)) for v in value.values())
            return pd.DataFrame(value).reset_index(drop=True) if lists else frame_of_rows([value])
    why = "the value that begins in line 1 is not an object, nor an array of objects"
    raise DataError(f"{text.path} is no table", why=why, do=do)


def read_json_lines(text: TextFile) -> Iterator[pd.DataFrame]:
    """The table of a file with an object on each line, in blocks. Raises `DataError`."""
    rows: list[dict[str, Any]] = []
    names: set[str] = set()  # of the rows that are held
    at = given = 0
    with text.open() as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            rows.append(_parse_row(line, number, text.path))
            names.update(rows[-1])
            given += len(rows[-1])
            check_density(len(names), len(rows), given)  # before they fill the memory
            if len(rows) == JSON_BLOCK_ROWS:
                yield frame_of_rows(rows).set_axis(range(at, at + len(rows)))
                at += len(rows)
                rows = []
                names = set()
                given = 0
    if rows:
        yield frame_of_rows(rows).set_axis(range(at, at + len(rows)))


def _parse_row(line: str, number: int, path: Path) -> dict[str, Any]:
    row = _parse(line, f"line {number} of {path.name}", f"{path}:{number}")
    if not isinstance(row, Mapping):
        what = f"line {number} of {path.name} is not an object"
        do = 'write {"column": value, ...} on each line'
        raise DataError(what, why="a row has named columns", do=do, where=f"{path}:{number}")
    return dict(row)


def _parse(text: str, what: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        why, do = "it is nested too deep", "write an object of plain values for each row"
    except ValueError as error:  # not JSON, or a number of more than 4,300 digits
        why, do = getattr(error, "msg", first_line(error)), "write one object on each line"
    raise DataError(f"{what} is not JSON", why=why, do=do, where=where)
