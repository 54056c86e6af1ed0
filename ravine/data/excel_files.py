"""Excel files (.xlsx, .ods): the first sheet with a table, as text that is read like CSV."""

import csv
import datetime
import functools
import importlib.util
import io
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO
from xml.etree import ElementTree

import pandas as pd

from ravine.data import text_files
from ravine.errors import DataError, join_first, wrap_errors

# the module that reads each
EXCEL_READERS = {".xlsx": "openpyxl", ".xlsm": "openpyxl", ".ods": "odf"}
READER_PACKAGES = {"odf": "odfpy"}
OPEN_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
OTHER_SUFFIXES = (".xls", ".xlsb", ".numbers")
BYTES_PER_XML_BYTE = 10  # of a sheet in memory
MAX_SHEET_CELLS = 50_000_000  # 47 columns of as many rows as a sheet may have
CELL_PLACE = re.compile(rb' r(?:ef)?="(?:[A-Z]+\d+:)?([A-Z]{1,3})(\d{1,7})"')


@dataclass(frozen=True)
class HeldText(text_files.TextFile):
    """A text in memory that is read like a file."""

    content: str

    def open(self) -> TextIO:
        return io.StringIO(self.content, newline="")


def is_excel(path: Path) -> bool:
    """Whether a path names a spreadsheet."""
    return text_files.file_kind(path) in (*EXCEL_READERS, *OTHER_SUFFIXES)


def excel_as_csv(path: Path, notes: list[str]) -> text_files.TextFile:
    """The first sheet with at least two rows, as comma-separated text. Raises `DataError`."""
    module = EXCEL_READERS.get(text_files.file_kind(path))
    what, do = f"{path} is a spreadsheet", "save it as CSV"
    if module is None:
        raise DataError(what, why="only .xlsx and .ods are read", do=do)
    if importlib.util.find_spec(module) is None:
        do = f"pip install {READER_PACKAGES.get(module, module)}, or {do}"
        raise DataError(what, why=f"{module} is not installed", do=do)
    # what its reader raises for a damaged file may be anything
    do = "open and save it again, or save it as CSV"
    with wrap_errors(DataError, f"{path} cannot be read", do), warnings.catch_warnings():
        with zipfile.ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
            text_files.refuse_bomb(path, path.stat().st_size, size)
            text_files.require_memory(BYTES_PER_XML_BYTE * size, path, "save it as CSV")
            _refuse_far_cells(packed, path)
        warnings.simplefilter("ignore")  # of styles and of extensions to the format
        sheets = pd.read_excel(path, None, header=None, dtype=object, keep_default_na=False)
    filled = [name for name, sheet in sheets.items() if min(sheet.shape) > 0 and len(sheet) > 1]
    if not filled:
        raise DataError(f"{path} is empty", why="no sheet has a table", do="export the table again")
    if len(sheets) > 1:
        others = join_first([str(name) for name in sheets if name != filled[0]])
        notes.append(f"{path.name} has several sheets: {filled[0]} is read, {others} not.")
    buffer = io.StringIO(newline="")
    rows = sheets[filled[0]].itertuples(index=False)
    csv.writer(buffer).writerows(map(_cell, row) for row in rows)
    content = buffer.getvalue()
    codes = text_files.ZERO_LED.search(content) is not None
    return HeldText(path, "utf-8", len(content), codes, content)


def _refuse_far_cells(packed: zipfile.ZipFile, path: Path) -> None:
    """Raise `DataError` where a far last cell would have a reader fill in all empty ones before."""
    for part in packed.namelist():
        with packed.open(part) as file:
            if "worksheets/" in part:
                row, column = _last_cell(file)
            elif part == "content.xml":
                row, column = _last_open_document_cell(file)
            else:
                continue
        if row * column > MAX_SHEET_CELLS:
            what = f"{path} has a sheet of {row:,} rows and {column:,} columns"
            do = "delete the empty rows and columns beyond the table, or save it as CSV"
            raise DataError(what, why=f"more than {MAX_SHEET_CELLS:,} cells are not read", do=do)


def _last_cell(sheet: IO[bytes]) -> tuple[int, int]:
    """The last row and the last column of an Excel sheet, by the names of its cells."""
    row, columns, end = 0, set(), b""
    while block := sheet.read(text_files.BLOCK_BYTES):
        places = CELL_PLACE.findall(end + block)
        row = max([row, *(int(number) for _, number in places)])
        columns.update(letters for letters, _ in places)
        end = block[-50:]
    last = max(columns, key=lambda letters: (len(letters), letters), default=b"")
    return row, functools.reduce(lambda width, letter: 26 * width + letter - 64, last, 0)


def _last_open_document_cell(content: IO[bytes]) -> tuple[int, int]:
    """The largest sheet's last filled row and column, by how often rows and cells repeat."""
    largest = rows = last_row = last_column = 0
    found = 0, 0
    for _, element in ElementTree.iterparse(content):
        if element.tag == f"{OPEN_TABLE}table":
            if last_row * last_column > largest:
                largest, found = last_row * last_column, (last_row, last_column)
            rows = last_row = last_column = 0
        elif element.tag == f"{OPEN_TABLE}table-row":
            column = last = 0
            for cell in element:
                column += int(cell.get(f"{OPEN_TABLE}number-columns-repeated", 1))
                last = column if len(cell) or len(cell.attrib) > 2 else last
            rows += int(element.get(f"{OPEN_TABLE}number-rows-repeated", 1))
            last_row = rows if last else last_row
            last_column = max(last_column, last)
            element.clear()
    return found


def _cell(value: Any) -> Any:
    """A cell as text; a date without its time where that is midnight."""
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    return value
