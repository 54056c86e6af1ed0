"""Parquet: a file or a folder of them, read at once or row group by row group."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from ravine.data.csv_dialect import Dialect
from ravine.data.frames import check_distinct, check_table, with_index
from ravine.data.text_files import file_kind, require_memory
from ravine.errors import DataError, first_line, wrap_errors
from ravine.files import check_readable

PARQUET_SUFFIXES = (".parquet", ".pq")
PARQUET_BLOCK_ROWS = 16_384
BLOCKS_IN_MEMORY = 8  # that there must be room for


def is_parquet(path: Path) -> bool:
    """Whether a path is a Parquet file, or a folder, in which these are read."""
    return path.is_dir() or file_kind(path) in PARQUET_SUFFIXES


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files at a path: itself, or those in a folder, by name."""
    if not path.is_dir():
        return [path]
    inside = (p for p in path.rglob("*") if p.suffix.lower() in PARQUET_SUFFIXES)
    files = sorted(p for p in inside if p.is_file())
    if not files:
        do = "name a table: a CSV, Parquet or JSON lines file"
        raise DataError(f"{path} is a folder", why="there is no Parquet file in it", do=do)
    return files


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file, or a folder of them, as one table."""

    path: Path
    dialect = Dialect()

    def frame(self) -> pd.DataFrame:
        """The whole table. Raises `DataError` for damaged files."""
        size = sum(piece.bytes for piece in row_groups_of(self.path))
        require_memory(size, self.path, "set data.memory (--memory 2GB) to read it in pieces")
        frames = []
        for file in parquet_files(self.path):
            with _explain_damage(file):
                schema = pq.read_schema(file)
                check_distinct(schema.names, file)
                table = pq.read_table(file, read_dictionary=_text_columns(schema))
                frames.append(_as_frame(_decode_texts(table, schema, file)))
        whole = frames[0] if len(frames) == 1 else pd.concat(frames)
        return check_table(whole.reset_index(drop=True), str(self.path))

    def survey(self) -> Iterator[tuple[pd.DataFrame, dict[str, str]]]:
        """Blocks; there are no numbers whose digits matter."""
        for frame in self.blocks({}, None):
            yield frame, {}

    def blocks(
        self, kinds: Mapping[str, str], columns: Sequence[str] | None
    ) -> Iterator[pd.DataFrame]:
        """The table in blocks, all columns or some; types are those of the file, not `kinds`."""
        for piece in row_groups_of(self.path):
            for frame in read_blocks(piece, PARQUET_BLOCK_ROWS):
                yield frame if columns is None else frame.reindex(columns=list(columns))


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file: the number of its first row in the table, rows, bytes as a table."""

    file: str
    group: int
    first: int
    rows: int
    bytes: int


def row_groups_of(path: Path) -> tuple[RowGroup, ...]:
    """The row groups at a path, in order. Raises `DataError` for damaged files."""
    pieces = []
    first = 0
    for file in parquet_files(path):
        with _explain_damage(file):
            metadata = pq.read_metadata(file)
            for i in range(metadata.num_row_groups):
                group = metadata.row_group(i)
                size = 2 * max(group.total_byte_size, group.num_rows * metadata.num_columns * 8)
                pieces.append(RowGroup(str(file), i, first, group.num_rows, size))
                first += group.num_rows
    return tuple(pieces)


def read_blocks(piece: RowGroup, rows: int) -> Iterator[pd.DataFrame]:
    """A row group in blocks of at most `rows` rows, indexed by their numbers in the whole table."""
    at = piece.first
    with _explain_damage(Path(piece.file)), _open_file(piece.file) as file:
        schema = pq.read_schema(piece.file)
        for batch in file.iter_batches(rows, [piece.group], use_threads=False):
            texts = pa.Table.from_batches([batch])
            table = _decode_texts(texts, schema, Path(piece.file), parts=BLOCKS_IN_MEMORY)
            yield check_table(_as_frame(table), piece.file).set_axis(range(at, at + batch.num_rows))
            at += batch.num_rows
            pa.default_memory_pool().release_unused()  # Arrow keeps 20 MB more otherwise
        if at - piece.first != piece.rows:
            raise ValueError(f"{at - piece.first:,} of {piece.rows:,} rows")


def _as_frame(table: pa.Table) -> pd.DataFrame:
    """A table with the columns of its file: an index of pandas is one where it is stored."""
    frame = table.to_pandas()
    stored = [name for name in frame.index.names if name in table.column_names]
    return with_index(frame.rename_axis(index=stored if stored else [None] * frame.index.nlevels))


def _open_file(file: str) -> pq.ParquetFile:
    texts = _text_columns(pq.read_schema(file))
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20, read_dictionary=texts)


def _text_columns(schema: pa.Schema) -> list[str]:
    return [f.name for f in schema if str(f.type).removeprefix("large_") in ("string", "binary")]


def _decode_texts(table: pa.Table, schema: pa.Schema, file: Path, *, parts: int = 1) -> pa.Table:
    """One of `parts` of a table whose texts were read as codes, with texts as in the `schema`.

    A word stored once may be in every row: how long all are together is known before.
    """
    texts = _text_columns(schema)
    pc: Any = compute  # its functions are made when it is imported
    lengths = (
        pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
        for name in texts
        for chunk in table[name].chunks
    )
    require_memory(2 * parts * sum(lengths), file, "leave the columns of long texts out")
    for name in texts:
        column = table[name].cast(schema.field(name).type)
        table = table.set_column(table.column_names.index(name), schema.field(name), column)
    return table


def _explain_damage(file: Path) -> AbstractContextManager[None]:
    """Turn whatever Arrow and pandas raise for a damaged file into `DataError`."""
    check_readable(file)
    return wrap_errors(
        DataError,
        f"{file} cannot be read",
        "write or copy it again",
        why=lambda error: f"its Parquet data are damaged ({first_line(error)})",
    )
