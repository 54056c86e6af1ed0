"""Damaged tables, 500 of them: each is read, or refused by one of our errors, in bounded time."""

import gzip
import io
import random
import signal

import numpy as np
import pandas as pd
import pytest

from ravine.data import Data, Encoding, Random, load, open_blocks, read_table
from ravine.errors import RavineError, printable

SECONDS = 20  # for one file, with other work beside
RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "a": RANDOM.normal(size=60).round(3),
        "b": RANDOM.choice(["x", "y", "ä"], 60),
        "c": pd.date_range("2024-01-01", periods=60).strftime("%Y-%m-%d"),
        "d": [f"{i:04d}" for i in range(60)],
        "y": RANDOM.integers(0, 2, 60),
    }
)


def whole_files() -> dict[str, bytes]:
    """A good file of each format."""
    parquet = io.BytesIO()
    TABLE.set_index(pd.Index(range(5, 65), name="i")).to_parquet(parquet, row_group_size=20)
    texts = {
        "comma.csv": TABLE.to_csv(index=False),
        "semicolon.csv": TABLE.to_csv(index=False, sep=";", decimal=","),
        "blanks.dat": TABLE.to_csv(index=False, sep=" "),
        "lines.jsonl": TABLE.to_json(orient="records", lines=True),
        "array.json": TABLE.to_json(orient="records"),
        "columns.json": TABLE.to_json(),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["wide.csv"] = texts["comma.csv"].encode("utf-16")
    files["packed.csv.gz"] = gzip.compress(files["comma.csv"])
    files["packed.jsonl.gz"] = gzip.compress(files["lines.jsonl"])
    return {**files, "table.parquet": parquet.getvalue()}


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to eight damages: bits turned, pieces cut, copied, moved, put in."""
    found = bytearray(data)
    odd = [b'"', b"\0", b",", b";", b"\n", b"\r", b"\t", b"{", b"[", b"\xff\xfe", b"\xed\xa0\x80"]
    odd += [b"1e999", b"9" * 400, b"\\ud800", b"#", b"=1+1", b"'", b"\xef\xbb\xbf"]
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(max(1, len(found)))
        length = chance.choice([1, 3, 20, 200])
        kind = chance.randrange(6)
        if kind == 0:
            found[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del found[at : at + length]
        elif kind == 2:
            found[at:at] = found[at : at + length] * chance.choice([1, 50])
        elif kind == 3:
            found[at:at] = chance.choice(odd) * chance.choice([1, 1, 30])
        elif kind == 4:
            del found[at:]
        elif len(found) > at:
            found[at] ^= 1 << chance.randrange(8)
    return bytes(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", whole_files())
@pytest.mark.parametrize("part", range(5))
def test_damaged_tables_are_read_or_refused(name, part, tmp_path):
    good = whole_files()[name]
    (tmp_path / name).write_bytes(good)
    assert len(read_table(tmp_path / name)) == 60

    def too_long(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    try:
        for seed in range(10 * part, 10 * part + 10):
            (tmp_path / name).write_bytes(damaged(good, random.Random(f"{name} {seed}")))
            signal.alarm(SECONDS)
            try:
                learn_from(tmp_path / name)
            except RavineError as error:
                assert printable(str(error)) == str(error)
            except BaseException as error:
                pytest.fail(f"{name}, seed {seed}: {type(error).__name__}: {error}")
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)


def learn_from(path):
    """Read a file at once and in blocks, which must agree in rows and columns, and encode it."""
    whole = read_table(path)
    table = open_blocks(path, [])
    assert table.rows == len(whole) == sum(map(len, table.read(7)))
    assert list(table.columns) == list(whole)
    target = "y" if "y" in whole else str(whole.columns[-1])
    load(Data(source=str(path), target=(target,)), Random(), Encoding(), seed=0)
