"""Attacks: what a stranger may hand over, and the command that meets it.

Each row is a function that builds the attack in the folder that is worked in, where `run` is a
finished run on `t.csv` (columns a, b, city, y; classes no, yes), `unfinished` one that was stopped,
and `../outside` what must stay as it is. It returns the command lines.
"""

import gzip
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.exe\r\x08"
QUICK = ("--seeds", "1", "--set", "epochs=1", "--set", "batch=32", "--no-baseline")
Commands = list[tuple[str, ...]]
TERMINAL: dict[str, Callable[[], Commands]] = {}
CELLS: dict[str, Callable[[], Commands]] = {}
PATHS: dict[str, Callable[[], Commands]] = {}
DECODERS: dict[str, Callable[[], Commands]] = {}


def row(table: dict[str, Callable[[], Commands]]):
    def enter(function: Callable[[], Commands]):
        table[function.__name__.replace("_", " ")] = function
        return function

    return enter


def train(what: str, *more: str) -> tuple[str, ...]:
    return ("train", what, "--target", "y", *QUICK, "-o", "new", *more)


def frame(**columns) -> pd.DataFrame:
    """Sixty rows of a table that can be learned, with more columns."""
    x = np.arange(60)
    return pd.DataFrame(
        {"a": x % 7, "b": x % 5 + 0.5, **columns, "y": np.where(x % 3, "no", "yes")}
    )


def change_json(path: str, change: Callable[[dict], object]) -> None:
    """Change a file of plain data; as an earlier version wrote it, without digests."""
    plain = json.loads(Path(path).read_text())
    change(plain)
    Path(path).write_text(json.dumps({k: v for k, v in plain.items() if k[:6] != "digest"}))


def without_digests(run: str = "run") -> None:
    for name in ("record.json", "plan.json"):
        change_json(f"{run}/{name}", lambda plain: None)


def replace_in(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def use_run(run: str = "run") -> Commands:
    return [("show", run), ("predict", run, "t.csv"), ("doctor", run, "--no-trials")]


# Terminal


@row(TERMINAL)
def names_of_columns() -> Commands:
    frame(**{f"c{HOSTILE}": range(60), f"d{HOSTILE}": "same"}).to_json(
        "h.jsonl", orient="records", lines=True
    )
    return [train("h.jsonl"), ("show", "new"), ("check", "h.jsonl", "--target", "y")]


@row(TERMINAL)
def names_of_classes() -> Commands:
    frame().replace({"yes": f"yes{HOSTILE}"}).to_json("h.jsonl", orient="records", lines=True)
    return [train("h.jsonl"), ("show", "new"), ("predict", "new", "h.jsonl")]


@row(TERMINAL)
def rare_classes_and_odd_cells() -> Commands:
    table = frame(n=[f"x{HOSTILE}", *range(59)])
    table.loc[5, "y"] = f"once{HOSTILE}"
    table.to_json("h.jsonl", orient="records", lines=True)
    return [train("h.jsonl"), ("check", "h.jsonl", "--target", "n")]


@row(TERMINAL)
def text_that_hardly_repeats() -> Commands:
    frame(words=[f"word {i} {HOSTILE}" for i in range(60)]).to_json(
        "h.jsonl", orient="records", lines=True
    )
    return [train("h.jsonl"), ("doctor", "h.jsonl", "--target", "y", "--no-trials")]


@row(TERMINAL)
def names_in_parquet() -> Commands:
    frame(**{f"c{HOSTILE}": range(60)}).to_parquet("h.parquet")
    return [train("h.parquet"), ("show", "new")]


@row(TERMINAL)
def a_tables_name() -> Commands:
    name = f"t{HOSTILE}.csv".replace("/", "")
    frame().to_csv(name, index=False)
    return [train(name), ("show", "new"), ("predict", "new", name), ("check", name + "x")]


@row(TERMINAL)
def a_runs_name() -> Commands:
    os.rename("run", f"run{HOSTILE}")
    return [*use_run(f"run{HOSTILE}"), ("train", "--resume", f"run{HOSTILE}")]


@row(TERMINAL)
def a_target_that_is_not_there() -> Commands:
    return [("train", "t.csv", "--target", f"y{HOSTILE}"), ("check", "t.csv", "--target", HOSTILE)]


@row(TERMINAL)
def a_column_that_new_rows_lack() -> Commands:
    frame(**{f"c{HOSTILE}": range(60)}).to_json("h.jsonl", orient="records", lines=True)
    return [train("h.jsonl"), ("predict", "new", "t.csv")]


@row(TERMINAL)
def levels_and_cells_of_new_rows() -> Commands:
    table = pd.read_csv("t.csv").astype(object)
    table.loc[3, "a"] = table.loc[4, "city"] = HOSTILE
    table.to_json("h.jsonl", orient="records", lines=True)
    return [("predict", "run", "h.jsonl")]


@row(TERMINAL)
def a_record() -> Commands:
    without_digests()
    event = {"step": 0, "kind": "odd", "member": None, "text": f"event{HOSTILE}"}
    change_json(
        "run/record.json",
        lambda r: r.update(notes=[f"note{HOSTILE}"], events=[event], said=[HOSTILE]),
    )
    return use_run()


@row(TERMINAL)
def classes_and_target_of_a_record() -> Commands:
    without_digests()
    change_json(
        "run/record.json", lambda r: r["task"].update(classes=[HOSTILE, "b"], target=[HOSTILE])
    )
    return use_run()


@row(TERMINAL)
def findings_of_a_record() -> Commands:
    finding = {"code": f"RVN-D01{HOSTILE}", "title": HOSTILE, "severity": "error"}
    finding |= {"confidence": "exact", "cause": "labels", "where": HOSTILE, "evidence": []}
    without_digests()
    change_json("run/record.json", lambda r: r.update(findings=[finding]))
    return use_run()


@row(TERMINAL)
def surroundings_and_score_of_a_record() -> Commands:
    def change(record):
        record["surroundings"] = {k: HOSTILE for k in record["surroundings"]}
        record["score"]["metric"] = HOSTILE

    without_digests()
    change_json("run/record.json", change)
    return use_run()


@row(TERMINAL)
def an_encoder() -> Commands:
    without_digests()
    text = json.dumps(HOSTILE)[1:-1]
    replace_in("run/encoder.json", "city", f"city{text}")
    return use_run()


@row(TERMINAL)
def versions_of_a_plan() -> Commands:
    change_json("unfinished/plan.json", lambda p: p.update(versions={"torch": HOSTILE}))
    return [("train", "--resume", "unfinished")]


@row(TERMINAL)
def settings_of_a_recipe() -> Commands:
    text = json.dumps(HOSTILE)[1:-1].replace("\\u009b", "")
    Path("r.toml").write_text(f'"epochs{text}" = 1\n')
    Path("s.toml").write_text(f'base = "x{text}"\n')
    Path("o.toml").write_text(f'optimizer = "Adam{text}"\ndata.source = "t.csv"\n')
    Path("broken.toml").write_text(f"a = {HOSTILE}\n", "utf-8")
    names = ("r", "s", "o", "broken")
    return [("train", f"{name}.toml") for name in names] + [("check", f"{n}.toml") for n in names]


@row(TERMINAL)
def words_of_the_command_line() -> Commands:
    word = HOSTILE
    return [
        (word,),
        ("train", "t.csv", f"--{word}"),
        ("train", "t.csv", "--set", f"{word}=1"),
        ("train", "t.csv", "--set", f"optimizer.lr={word}"),
        ("train", "t.csv", "--recipe", word),
        ("explain", word),
        ("predict", word, word),
        ("gallery", word),
        ("train", "t.csv", "--device", word),
    ]


@row(TERMINAL)
def folders_and_names_of_pictures() -> Commands:
    for name in (f"a{HOSTILE}", "b"):
        os.mkdir(name_of(name))
        for i in range(12):
            Path(name_of(name), f"{i}{HOSTILE}.png").write_bytes(png(8, 8, b"\x80"))
    Path(name_of("b"), f"x{HOSTILE}.png").write_bytes(b"no picture")
    return [("train", "pics", *QUICK, "-o", "new"), ("check", "pics")]


def name_of(folder: str) -> str:
    os.makedirs("pics", exist_ok=True)
    return os.path.join("pics", folder)


@row(TERMINAL)
def a_list_of_pictures() -> Commands:
    table = pd.DataFrame({"path": [f"{i}{HOSTILE}.png" for i in range(20)], "y": list("ab") * 10})
    table.to_csv("list.csv", index=False)
    return [("train", "list.csv", "--recipe", "image", *QUICK), ("train", "list.csv", *QUICK)]


# Cells that a spreadsheet would compute


def formulas(sign: str) -> Callable[[], Commands]:
    def build() -> Commands:
        table = frame(id=[f"{sign}id{i}" for i in range(60)])
        table = table.replace({"yes": f"{sign}cmd|' /C calc'!A0"})
        table.to_csv("h.csv", index=False)
        return [train("h.csv"), ("predict", "new", "h.csv", "-o", "p.csv")]

    return build


CELLS |= {f"cells that begin with {sign!a}": formulas(sign) for sign in ("=", "+", "-", "@", "\t=")}


@row(CELLS)
def a_target_named_as_a_formula() -> Commands:
    frame().rename(columns={"y": "=1+1"}).to_csv("h.csv", index=False)
    command = [word if word != "y" else "=1+1" for word in train("h.csv")]
    return [tuple(command), ("predict", "new", "h.csv", "-o", "p.csv")]


# Paths


def link_from(name: str, *commands: tuple[str, ...]) -> Callable[[], Commands]:
    def build() -> Commands:
        Path(name).unlink(missing_ok=True)
        os.symlink(os.path.abspath("../outside/precious.txt"), name)
        return list(commands)

    return build


RESUME = ("train", "--resume", "unfinished", "--quiet")
PATHS |= {
    f"{name} is a link": link_from(f"unfinished/{name}", RESUME)
    for name in ("record.json", "record.json.part", "encoder.json", "weights.safetensors")
}
PATHS |= {
    f"{name} is a link": link_from(f"unfinished/{name}", RESUME)
    for name in ("series.csv", "checkpoint-0.safetensors", ".ravine.lock", "stop", "recipe.toml")
}
PATHS |= {
    "plan.json is a link": link_from("unfinished/plan.json", RESUME),
    ".ravine-0 is a link": link_from("unfinished/.ravine-0", RESUME),
    "doctor.json is a link": link_from("run/doctor.json", ("doctor", "run", "--no-trials")),
    "predictions are a link": link_from("p.csv", ("predict", "run", "t.csv", "-o", "p.csv")),
    "predictions are a link, forced": link_from(
        "p.csv", ("predict", "run", "t.csv", "-o", "p.csv", "--force")
    ),
    "p.csv.part is a link": link_from("p.csv.part", ("predict", "run", "t.csv", "-o", "p.csv")),
    "the table is a link": link_from("l.csv", train("l.csv")),
    "the new folder is a link to a file": link_from("new", train("t.csv")),
}


@row(PATHS)
def a_new_folder_that_is_a_link_to_a_full_one() -> Commands:
    os.symlink("../outside", "new")
    return [train("t.csv")]


@row(PATHS)
def a_plan_that_names_other_files() -> Commands:
    change_json("unfinished/plan.json", lambda p: p["recipe"]["data"].update(source="/etc/passwd"))
    shutil.copytree("unfinished", "pipe")
    change_json("pipe/plan.json", lambda p: p["recipe"]["data"].update(source="/dev/zero"))
    return [RESUME, ("train", "--resume", "pipe"), ("doctor", "pipe", "--no-trials")]


@row(PATHS)
def a_list_with_paths_elsewhere() -> Commands:
    paths = ["../outside/precious.txt", "/etc/passwd", "/dev/zero", "file:///etc/passwd"] * 5
    pd.DataFrame({"path": paths, "y": list("ab") * 10}).to_csv("list.csv", index=False)
    return [("train", "list.csv", "--recipe", "image", *QUICK)]


@row(PATHS)
def addresses_in_place_of_files() -> Commands:
    Path("r.toml").write_text('data.source = "https://localhost:1/t.csv"\n')
    return [
        train("https://localhost:1/t.csv"),
        train("s3://bucket/t.parquet"),
        ("train", "r.toml"),
        ("predict", "run", "http://localhost:1/t.csv"),
        ("predict", "run", "ftp://localhost/t.parquet"),
    ]


@row(PATHS)
def names_with_dots_and_dashes() -> Commands:
    frame().to_csv("-rf.csv", index=False)
    return [train("./-rf.csv"), ("show", "../outside"), ("show", "-rf"), ("doctor", "../outside")]


@row(PATHS)
def folders_that_are_links_in_a_circle() -> Commands:
    for name in "ab":
        os.makedirs(f"pics/{name}")
        for i in range(12):
            Path(f"pics/{name}/{i}.png").write_bytes(png(8, 8, b"\x80"))
        os.symlink(os.path.abspath("pics"), f"pics/{name}/again")
    return [("train", "pics", *QUICK, "-o", "new")]


# Decoders: bombs, other formats, pipes


def png(
    width: int, height: int, fill: bytes = b"\0", *, depth: int = 8, chunks: bytes = b""
) -> bytes:
    """A gray picture; of a large one a piece is compressed again and again."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    line = b"\0" + fill * -(-width * depth // 8)
    packer, found = zlib.compressobj(9), []
    for _ in range(height):
        found.append(packer.compress(line))
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    data = b"".join(found) + packer.flush()
    pieces = chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces


def pictures(odd: bytes, suffix: str = ".png") -> Commands:
    for name in "ab":
        os.makedirs(f"pics/{name}")
        for i in range(12):
            Path(f"pics/{name}/{i}.png").write_bytes(png(8, 8, b"\x80"))
    Path(f"pics/a/odd{suffix}").write_bytes(odd)
    return [("train", "pics", *QUICK, "-o", "new"), ("check", "pics", "--set", "data.corrupt=skip")]


def picture(name: str, make: Callable[[], bytes], suffix: str = ".png") -> None:
    DECODERS[name] = lambda: pictures(make(), suffix)


def note_chunk() -> bytes:
    data = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(2**28), 9)
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


picture("a picture of 30,000 x 30,000", lambda: png(30_000, 30_000, depth=1))
picture("a picture of 13,000 x 13,000", lambda: png(13_000, 13_000, depth=1))
picture("a picture with a bomb in its text", lambda: png(8, 8, chunks=note_chunk()))
picture("PostScript as a picture", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n")
picture("Photoshop as a picture", lambda: b"8BPS\0\1" + bytes(100))
picture("TIFF as a picture", lambda: b"II*\0\x08\0\0\0" + b"\xff" * 200)
picture("FITS, PDF and others as pictures", lambda: b"SIMPLE  =  T" + bytes(3000), ".jpg")
picture(
    "a GIF with a canvas of 65,535", lambda: b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(40), ".gif"
)


def packed(blocks: int) -> bytes:
    """So many 10 MB of zeros, packed."""
    return gzip.compress(b"1,2,no\n" * 1_500_000, 9) * blocks


@row(DECODERS)
def a_table_of_10_GB_packed() -> Commands:
    Path("h.csv.gz").write_bytes(gzip.compress(b"a,b,y\n") + packed(1000))
    return [train("h.csv.gz"), ("predict", "run", "h.csv.gz")]


@row(DECODERS)
def JSON_lines_of_10_GB_packed() -> Commands:
    line = gzip.compress(b'{"a": 1, "b": 2, "y": "no"}\n' * 400_000, 9)
    Path("h.jsonl.gz").write_bytes(line * 1000)
    return [train("h.jsonl.gz")]


@row(DECODERS)
def images_of_10_GB_packed() -> Commands:
    head = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31 - 1, 28, 28)
    Path("train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head) + packed(1000))
    Path("train-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 2**31 - 1))
    return [("train", "train-images-idx3-ubyte.gz", *QUICK)]


@row(DECODERS)
def Excel_that_unpacks_to_10_GB() -> Commands:
    pytest.importorskip("openpyxl")
    frame().to_excel("h.xlsx", index=False)
    with zipfile.ZipFile("h.xlsx") as book:
        names = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile("h.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        for name, data in names.items():
            if not name.endswith("sheet1.xml"):
                book.writestr(name, data)
        with book.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write(names["xl/worksheets/sheet1.xml"].partition(b"<sheetData>")[0])
            sheet.write(b"<sheetData>")
            for _ in range(300):
                sheet.write(b'<row><c t="n"><v>1</v></c></row>' * 300_000)
    return [train("h.xlsx")]


@row(DECODERS)
def Parquet_that_unpacks_to_much() -> Commands:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = pa.array(np.zeros(10**7))
    table = pa.table({f"c{i}": cells for i in range(80)} | {"y": cells})
    pq.write_table(table, "h.parquet", compression="zstd")  # 6 GB in 2 MB
    return [train("h.parquet"), ("check", "h.parquet", "--target", "y")]


@row(DECODERS)
def a_long_word_in_every_row_of_Parquet() -> Commands:
    import pyarrow as pa
    import pyarrow.parquet as pq

    word = pa.array(["x" * 10**6, "y"])
    words = pa.DictionaryArray.from_arrays(np.arange(20_000) % 50 // 49, word)
    table = pa.table({"word": words, "y": np.arange(20_000.0)})
    pq.write_table(table, "h.parquet", store_schema=False)  # 20 GB in 50 kB
    commands = [train("h.parquet"), ("predict", "run", "h.parquet")]
    return [*commands, ("train", "h.parquet", "--target", "y", "--memory", "50MB")]


@row(DECODERS)
def a_line_of_100_MB() -> Commands:
    Path("h.csv").write_bytes(b"a,y\n" + b"x" * 10**8 + b",1\n" + b"1,2\n" * 50)
    return [train("h.csv")]


@row(DECODERS)
def columns_without_number() -> Commands:
    Path("h.csv").write_text(
        ",".join(f"c{i}" for i in range(200_000)) + ",y\n" + "1," * 200_000 + "no\n"
    )
    return [train("h.csv")]


@row(DECODERS)
def keys_without_number() -> Commands:
    Path("h.jsonl").write_text("".join(f'{{"k{i}": 1, "y": "no"}}\n' for i in range(30_000)))
    return [train("h.jsonl")]


@row(DECODERS)
def JSON_nested_deep() -> Commands:
    Path("h.jsonl").write_text('{"y": ' + "[" * 10**5 + "]" * 10**5 + "}\n")
    Path("h.json").write_text("[" * 10**6)
    Path("n.jsonl").write_text('{"y": ' + "9" * 10**6 + "}\n")
    return [train("h.jsonl"), train("h.json"), train("n.jsonl")]


@row(DECODERS)
def files_of_a_run_nested_deep() -> Commands:
    for name in ("record.json", "plan.json", "encoder.json"):
        shutil.copytree("run", name)
        Path(name, name).write_text('{"a": ' + "[" * 10**5)
    return [("show", "record.json"), ("show", "plan.json"), ("predict", "encoder.json", "t.csv")]


@row(DECODERS)
def a_recipe_nested_deep() -> Commands:
    Path("h.toml").write_text("a = " + "[" * 3_000 + "]" * 3_000)
    Path("k.toml").write_text("a." * 3_000 + "b = 1\n")
    return [("train", "h.toml"), ("train", "k.toml"), ("check", "h.toml")]


@row(DECODERS)
def a_plan_of_many_weights() -> Commands:
    without_digests()
    for name, value in (("numbers", 10**9), ("outputs", 10**9), ("codes", [[10**9, 10**9]])):
        shutil.copytree("run", name)
        change_json(f"{name}/plan.json", lambda p, k=name, v=value: p["signature"].update({k: v}))
    return [("predict", name, "t.csv") for name in ("numbers", "outputs", "codes")]


@row(DECODERS)
def a_recipe_of_many_weights() -> Commands:
    settings = ("network.hidden=[1000000000]", "seeds=9223372036854775807", "seeds=10000000")
    settings += ("epochs=9223372036854775807", "batch=9223372036854775807")
    words = ("t.csv", "--target", "y", "--set")
    trained: Commands = [("train", *words, one, "-o", "new") for one in settings[:3]]
    return trained + [("check", *words, one) for one in settings]


@row(DECODERS)
def weights_that_are_a_pickle() -> Commands:
    class Evil:
        def __reduce__(self):
            return os.system, ("touch ../outside/executed",)

    without_digests()
    evil = pickle.dumps(Evil())
    Path("run/weights.safetensors").write_bytes(evil)
    Path("unfinished/checkpoint-0.safetensors").write_bytes(evil)
    for name in ("h.pkl", "h.npy", "h.csv", "h.parquet"):
        Path(name).write_bytes(evil)
    names = ("h.pkl", "h.npy", "h.csv", "h.parquet")
    return [("predict", "run", "t.csv"), RESUME, *(train(name) for name in names)]


@row(DECODERS)
def weights_with_a_damaged_head() -> Commands:
    without_digests()
    heads = {
        "long": struct.pack("<Q", 2**62) + b"{}",
        "deep": (t := b'{"a":' + b"[" * 10**5) and struct.pack("<Q", len(t)) + t,
        "beyond": head_of({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        "empty": b"",
    }
    for name, data in heads.items():
        shutil.copytree("run", name)
        Path(name, "weights.safetensors").write_bytes(data)
    return [("predict", name, "t.csv") for name in heads]


def head_of(plain: dict) -> bytes:
    text = json.dumps(plain).encode()
    return struct.pack("<Q", len(text)) + text


@row(DECODERS)
def pipes_and_devices() -> Commands:
    for name in ("h.csv", "h.toml", "h.parquet", "h.png", "run/doctor.json"):
        os.mkfifo(name)
    Path("list.csv").write_text("path,y\n" + "h.png,a\nh.png,b\n" * 9)
    places = ("h.csv", "h.parquet", "/dev/zero", "/dev/urandom", "/dev/stdin", "/proc/self/mem")
    return [
        *(train(place) for place in places),
        ("train", "h.toml"),
        ("train", "list.csv", "--recipe", "image", *QUICK),
        ("predict", "run", "h.csv"),
        ("doctor", "run", "--no-trials"),
    ]


def fifo_in(name: str) -> Callable[[], Commands]:
    def build() -> Commands:
        os.unlink(f"run/{name}")
        os.mkfifo(f"run/{name}")
        return use_run()

    return build


for file in ("record.json", "plan.json", "encoder.json", "weights.safetensors", "series.csv"):
    DECODERS[f"{file} is a pipe"] = fifo_in(file)
