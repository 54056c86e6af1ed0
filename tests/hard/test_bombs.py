"""Files that would fill the memory or never end are refused: in seconds, in 1 GB, in our words.

`python -m pytest -m slow -n 0 tests/hard/test_bombs.py`
"""

import gzip
import os
import resource
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow
MOST_BYTES, MOST_SECONDS = 1e9, 60
RUN = """
import sys
import time
from ravine.cli import run_command
code = run_command(sys.argv[1:])
print(time.process_time(), open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
sys.exit(code)
"""


def gzip_bomb(path, block):
    """10 MB that unpack to 10 GB: one member again and again."""
    member = gzip.compress(block * (2**26 // len(block)), 9)
    with open(path, "wb") as file:
        file.write(gzip.compress(b"a,y\n"))
        for _ in range(160):
            file.write(member)


def json_of_keys(path, keys, rows):
    """Rows of which each has keys of its own."""
    with open(path, "w") as file:
        for i in range(rows):
            names = ",".join(f'"k{i}_{j}":{j}' for j in range(keys))
            file.write(f'{{"y":{i % 2},{names}}}\n')


def workbook(path, sheet, strings="", repeat=1):
    """The least workbook that a reader takes, with the XML of its sheet."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    related = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/"
    shared = f'<Relationship Id="r2" Type="{related}/sharedStrings" Target="sharedStrings.xml"/>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml."
    part = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}sharedStrings+xml"/>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}content-types">'
            '<Default Extension="rels" ContentType='
            '"application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}sheet.main+xml"/>'
            f"{part if strings else ''}"
            f'<Override PartName="/xl/worksheets/s.xml" ContentType="{kind}worksheet+xml"/>'
            "</Types>",
        )
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}relationships"><Relationship Id="r1" '
            f'Type="{related}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        file.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{related}"><sheets>'
            '<sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        )
        file.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}relationships">'
            f'<Relationship Id="r1" Type="{related}/worksheet" Target="worksheets/s.xml"/>'
            f"{shared if strings else ''}</Relationships>",
        )
        if strings:
            file.writestr("xl/sharedStrings.xml", strings)
        with file.open("xl/worksheets/s.xml", "w", force_zip64=True) as xml:
            xml.write(f'<worksheet xmlns="{main}"><sheetData>'.encode())
            for _ in range(repeat):
                xml.write(sheet.encode())
            xml.write(b"</sheetData></worksheet>")


def cell(place, value, kind="n"):
    return f'<c r="{place}" t="{kind}"><v>{value}</v></c>'


HEAD = f"<row r='1'>{cell('A1', 1)}{cell('B1', 2)}</row>"
LAUGHS = "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' if i else '<!ENTITY l0 "lol">' for i in range(10)
)


def make_files(folder: Path):
    """The bombs, by name."""
    gzip_bomb(folder / "numbers.csv.gz", b"1,2\n")
    gzip_bomb(folder / "lines.csv.gz", b"\n")
    gzip_bomb(folder / "one_line.csv.gz", b"1")
    gzip_bomb(folder / "objects.jsonl.gz", b'{"a":1}\n')
    gzip_bomb(folder / "spaces.json.gz", b" ")
    json_of_keys(folder / "keys.jsonl", 1, 3000)
    json_of_keys(folder / "many_keys.jsonl", 3000, 3000)
    json_of_keys(folder / "keys_in_blocks.jsonl", 1, 100_000)
    (folder / "nested.json").write_text("[" * 10_000_000)
    os.mkfifo(folder / "pipe.csv")
    os.mkfifo(folder / "pipe.parquet")
    os.mkfifo(folder / "pipe.xlsx")
    (folder / "link.csv").symlink_to("/dev/zero")
    (folder / "loop.csv").symlink_to("loop.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.csv"))
    (folder / "wide.csv").write_text(",".join(["a"] * 3_000_000) + "\n")
    with open(folder / "quote.csv", "w") as file:
        file.write('a,y\n1,"' + "x\n" * 100_000_000)
    with open(folder / "sparse.csv", "wb") as file:
        file.truncate(2**36)
    far = f"<row r='1048576'>{cell('XFD1048576', 1)}</row>"
    workbook(folder / "far.xlsx", HEAD + far)
    workbook(folder / "zip.xlsx", " " * 2**20, repeat=1000)
    text = f"<!DOCTYPE sst [{LAUGHS}]><sst><si><t>&l9;</t></si></sst>"
    workbook(folder / "laughs.xlsx", f"<row r='1'>{cell('A1', 0, 's')}</row>{HEAD}", text)
    table = pa.table({"a": np.zeros(1000), "y": np.zeros(1000)})
    pq.write_table(table, folder / "rows.parquet")
    claim_rows(folder / "rows.parquet", 1000, 2**40)
    pq.write_table(table, folder / "footer.parquet")
    content = (folder / "footer.parquet").read_bytes()
    length = struct.pack("<I", 2**31)
    (folder / "footer.parquet").write_bytes(content[:-8] + length + b"PAR1")


def claim_rows(path, rows, claimed):
    """Have the metadata of a Parquet file claim other rows than it has."""
    content = path.read_bytes()
    (size,) = struct.unpack("<I", content[-8:-4])
    footer = content[-8 - size : -8].replace(varint(2 * rows), varint(2 * claimed))
    tail = footer + struct.pack("<I", len(footer)) + b"PAR1"
    path.write_bytes(content[: -8 - size] + tail)


def varint(number):
    parts = []
    while number >= 128:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


NAMES = (
    *("numbers.csv.gz", "lines.csv.gz", "one_line.csv.gz", "objects.jsonl.gz", "spaces.json.gz"),
    *("keys.jsonl", "many_keys.jsonl", "keys_in_blocks.jsonl", "nested.json"),
    *("pipe.csv", "pipe.parquet", "pipe.xlsx", "link.csv", "loop.csv", "socket.csv", "/dev/zero"),
    *("wide.csv", "quote.csv", "sparse.csv", "far.xlsx", "zip.xlsx", "laughs.xlsx"),
    *("rows.parquet", "footer.parquet"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    make_files(folder)
    (folder / "t.csv").write_text("a,y\n" + "".join(f"{1.5 * i},{i / 7:.3f}\n" for i in range(200)))
    code, said, _, _ = run("train", folder / "t.csv", "--target", "y", "-o", folder / "run")
    assert code == 0, said
    return folder


def run(*arguments):
    """Exit code, what was said, seconds of a processor, and the greatest memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=10 * MOST_SECONDS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2**33, 2**33)),
    )
    *_, seconds, peak = "0", "0", *done.stdout.split()
    return done.returncode, done.stderr, float(seconds), 1024 * int(peak)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["train", "predict"])
def test_bombs_are_refused_in_seconds_and_in_bounded_memory(name, command, folder, tmp_path):
    if name.endswith(".xlsx") and not name.startswith("pipe"):
        pytest.importorskip("openpyxl")
    path = folder / name
    if command == "train":
        arguments = ("train", path, "--target", "y", "-o", tmp_path / "run")
    else:
        arguments = ("predict", folder / "run", path, "-o", tmp_path / "out.csv")
    code, said, seconds, peak = run(*arguments)
    print(f"{command} {name}: {code}, {seconds:.1f} s, {peak / 1e9:.2f} GB: {said.strip()[:150]}")
    assert code == 2 and "Traceback" not in said
    assert seconds < MOST_SECONDS and peak < MOST_BYTES
    assert not list(tmp_path.iterdir())
