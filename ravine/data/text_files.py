"""The bytes and the text of a file, plain or gzip: read as a stream, within the memory there is."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from ravine.errors import DataError
from ravine.files import check_readable
from ravine.memory import available_memory

BLOCK_BYTES = 2**20
MAX_LINE = 2**28  # characters of a line
# a table unpacks to some 5 to 20 times its size, one of zeros alone to at most 1,032
BOMB_RATIO, BOMB_BYTES = 500, 2**26
TEXT_COPIES = 4  # what a text takes as a table, in sizes of the text
ZERO_LED = re.compile(r'(?:^|[\s,;|"])0\d')  # what may be a code, such as 01234


@dataclass(frozen=True)
class TextFile:
    """A file of text and what one pass over it found: its encoding, its size unpacked."""

    path: Path
    encoding: str
    size: int  # bytes
    has_codes: bool  # digits led by a zero stand somewhere

    def open(self) -> TextIO:
        """The text from its start. Damage in gzip data raises `DataError` while reading."""
        binary = cast(BinaryIO, io.BufferedReader(_Unpacked(self.path), BLOCK_BYTES))
        errors = "replace" if self.encoding == "cp1252" else "strict"
        return io.TextIOWrapper(binary, self.encoding, errors, newline="")

    def check_memory(self, do: str) -> None:
        """Raise `DataError` where the text as a table takes more memory than there is."""
        require_memory(TEXT_COPIES * self.size, self.path, do)


def require_memory(needed: float, path: Path, do: str) -> None:
    """Raise `DataError` where a table takes `needed` bytes and the system has less."""
    there = available_memory()
    if needed > there:
        why = f"as a table it takes about {needed / 1e9:.1f} GB, and {there / 1e9:.1f} GB are free"
        raise DataError(f"{path} is larger than memory", why=why, do=do)


def file_kind(path: Path) -> str:
    """The suffix that says what a file is, `.gz` left out.

    >>> file_kind(Path("a/houses.csv.gz"))
    '.csv'
    """
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


@contextmanager
def open_bytes(path: Path) -> Iterator[io.RawIOBase]:
    """The bytes of a file, unpacked where it is gzip. Raises `DataError` for what is damaged."""
    check_readable(path)
    try:
        with _Unpacked(path) as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{path} cannot be read", why=error.strerror or str(error)) from None


def refuse_bomb(path: Path, packed: int, unpacked: int) -> None:
    """Raise `DataError` where so many packed bytes of a file unpack to far more than tables do."""
    if unpacked > max(BOMB_BYTES, BOMB_RATIO * packed):
        why = f"its first {packed:,} bytes are {unpacked:,} unpacked"
        do = "unpack the file, if you trust it"
        raise DataError(f"{path} unpacks to too much", why=why, do=do)


class _Unpacked(io.RawIOBase):
    """A file's bytes, of gzip what they unpack to: not damaged, and no bomb (`DataError`)."""

    def __init__(self, path: Path):
        self.path = path
        self.file = open(path, "rb")
        packed = self.file.peek(2)[:2] == b"\x1f\x8b" or path.suffix.lower() == ".gz"
        self.source = gzip.GzipFile(fileobj=self.file) if packed else self.file
        self.packed = packed
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self.source.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            if not self.packed:
                raise
            what, do = f"{self.path} cannot be unpacked", "copy or download it again"
            raise DataError(what, why=f"its gzip data are damaged ({error})", do=do) from None
        self.size += len(block)
        if self.packed:
            refuse_bomb(self.path, self.file.tell(), self.size)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self.file.close()
        super().close()


def scan_text(path: Path, notes: list[str]) -> TextFile:
    """Read a file of text once: its encoding, UTF-8, UTF-16 or else Latin-1, and its size.

    What is unusual is appended to `notes`. Raises `DataError` for what is empty, or is not text.
    """
    with open_bytes(path) as stream:
        head = io.BufferedReader(stream).read(4096)
    try:
        found = _scan(path, _encoding_of(head, path))
    except UnicodeDecodeError:
        found = _scan(path, "cp1252")
    if found is None:
        what = f"{path} is empty"
        raise DataError(what, why="there is no table in it", do="export the table again")
    if found.encoding.startswith("utf-16"):
        notes.append(f"{path.name} is in UTF-16.")
    if found.encoding == "cp1252":
        what = f"{path.name} is not UTF-8; it was read as Latin-1 (Windows-1252)"
        notes.append(f"{what}: check names with accents.")
    return found


def _encoding_of(head: bytes, path: Path) -> str:
    """UTF-16 by its mark or by zeros in every other byte, else UTF-8. Binary data are refused."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros = head.count(0)
    if zeros and zeros >= 0.3 * len(head) and zeros < 0.7 * len(head):
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    if sum(b < 9 or 13 < b < 32 for b in head) > 0.005 * len(head):
        do = "name a CSV, Parquet or JSON lines file"
        raise DataError(f"{path} is not text", why="it holds binary data", do=do)
    return "utf-8-sig"


def _scan(path: Path, encoding: str) -> TextFile | None:
    """What a pass over the text finds; None where it is empty."""
    errors = "replace" if encoding == "cp1252" else "strict"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    empty = True
    codes = False
    line = size = 0
    end = ""
    with open_bytes(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            size += len(block)
            text = decoder.decode(block)
            empty = empty and not text.strip()
            codes = codes or ("0" in text and ZERO_LED.search(end + text) is not None)
            line = line + len(text) if (at := text.rfind("\n")) < 0 else len(text) - at
            if line > MAX_LINE:
                what = f"{path} has a line of more than {MAX_LINE:,} characters"
                raise DataError(what, why="a row is a line", do="export the table again")
            end = text[-2:]
    decoder.decode(b"", final=True)
    return None if empty else TextFile(path, encoding, size, codes)
