"""Wrong input at the command line: one message with what, why and what to do; exit code 2; nothing
left behind.
"""

import errno
import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ravine.cli import run_command

GOOD = (
    "a,b,y\n" + "\n".join(f"{i % 7},{i % 5}.5,{'yes' if i % 3 else 'no'}" for i in range(60)) + "\n"
)
QUICK = ["--set", "epochs=1", "--seeds", "1", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good.csv").write_text(GOOD)
    return tmp_path


def write(name, text):
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def table(name, change):
    frame = pd.read_csv("good.csv")
    change(frame)
    frame.to_csv(name, index=False)
    return name


def recipe(text):
    return write(
        "r.toml", f'epochs = 1\nseeds = 1\n{text}\n[data]\nsource = "good.csv"\ntarget = ["y"]\n'
    )


def column(name, values):
    def change(frame):
        frame[name] = values(frame) if callable(values) else values

    return change


def some(values, every):
    return lambda frame: [values if i % every == 0 else v for i, v in enumerate(frame["a"])]


# what is written, the arguments, words of the message
CASES = {
    "no input": (None, [], "nothing to train on"),
    "missing file": (None, ["god.csv"], "good.csv"),
    "unknown set": (None, ["penguin"], "Did you mean 'penguins'"),
    "a folder": (lambda: Path("d").mkdir(), ["d"], "d"),
    "empty file": (lambda: write("t.csv", ""), ["t.csv", "--target", "y"], "empty"),
    "header only": (lambda: write("t.csv", "a,b,y\n"), ["t.csv", "--target", "y"], "row"),
    "one row": (lambda: write("t.csv", "a,b,y\n1,2,3\n"), ["t.csv", "--target", "y"], "row"),
    "no target named": (None, ["good.csv"], "target"),
    "target is no column": (None, ["good.csv", "--target", "why"], "Did you mean 'y'"),
    "target constant": (lambda: table("t.csv", column("y", "no")), ["t.csv", "--target", "y"], "y"),
    "target all missing": (
        lambda: table("t.csv", column("y", np.nan)),
        ["t.csv", "--target", "y"],
        "y",
    ),
    "a class missing from training": (
        lambda: table(
            "t.csv",
            lambda f: (
                f.update({"y": [f"class {i % 3}" for i in range(len(f))]})
                or column("g", lambda f: f["y"] + " group")(f)
            ),
        ),
        ["t.csv", "--target", "y", "--set", 'split={name="Grouped", column="g"}'],
        "no training row has the class",
    ),
    "infinite values": (
        lambda: table("t.csv", column("a", some(np.inf, 9))),
        ["t.csv", "--target", "y"],
        "a",
    ),
    "duplicate columns": (
        lambda: write("t.csv", GOOD.replace("a,b,y", "a,a,y")),
        ["t.csv", "--target", "y"],
        "a",
    ),
    "no table at all": (
        lambda: write("t.csv", bytes(range(256)) * 40),
        ["t.csv", "--target", "y"],
        "t.csv",
    ),
    "corrupt gz": (
        lambda: write("t.csv.gz", gzip.compress(GOOD.encode())[:40]),
        ["t.csv.gz", "--target", "y"],
        "gz",
    ),
    "corrupt parquet": (
        lambda: write("t.parquet", b"PAR1nonsense"),
        ["t.parquet", "--target", "y"],
        "parquet",
    ),
    "malformed json lines": (
        lambda: write("t.jsonl", '{"a": 1}\n{"a": \n'),
        ["t.jsonl", "--target", "a"],
        "2",
    ),
    "unknown setting": (
        lambda: recipe("stpes = 3"),
        ["r.toml"],
        "r.toml:3: Recipe has no setting 'stpes'",
    ),
    "unknown setting of a part": (
        lambda: recipe('optimizer = {name = "Adam", learning_rate = 1}'),
        ["r.toml"],
        "r.toml:3: Adam has no setting 'learning_rate'",
    ),
    "unknown part": (lambda: recipe('schedule = "Cosin"'), ["r.toml"], "Did you mean 'Cosine'"),
    "unknown base": (lambda: recipe('base = "defualt"'), ["r.toml"], "Did you mean 'default'"),
    "out of range": (
        lambda: recipe('optimizer = {name = "Adam", lr = -1}'),
        ["r.toml"],
        "r.toml:3: Adam.lr is -1",
    ),
    "wrong type": (
        lambda: recipe('batch = "many"'),
        ["r.toml"],
        "r.toml:3: Recipe.batch is 'many'",
    ),
    "a word for a number": (
        lambda: recipe('optimizer = {name = "Adam", lr = "0.1"}'),
        ["r.toml"],
        "Adam.lr is '0.1'",
    ),
    "contradiction: ntk": (
        lambda: recipe("network = {name = 'Mlp', parametrization = 'ntk'}"),
        ["r.toml"],
        "unit variance",
    ),
    "contradiction: stop without validation": (
        None,
        ["good.csv", "--target", "y", "--set", "split.validation=0.0"],
        "no validation split",
    ),
    "too large splits": (None, ["good.csv", "--target", "y", "--set", "split.test=0.9"], "test"),
    "classes to balance where there are none": (
        None,
        ["good.csv", "--target", "b", "--set", "class_weights=balanced"],
        "the task is regression",
    ),
    "a place that is no number": (
        None,
        ["good.csv", "--target", "y", "--set", "penalties.²=1"],
        "--set penalties",
    ),
    "a place where none is": (
        None,
        ["good.csv", "--target", "y", "--set", "penalties.0=L2"],
        "--set penalties.0",
    ),
    "not toml": (lambda: write("r.toml", "epochs = = 3"), ["r.toml"], "is not TOML"),
    "missing recipe": (None, ["r.toml"], "r.toml does not exist"),
    "batch larger than the data": (
        None,
        ["good.csv", "--target", "y", "--set", "batch=5000"],
        "training examples",
    ),
    "loss that does not fit": (
        None,
        ["good.csv", "--target", "y", "--set", "loss=Huber"],
        "the task is binary",
    ),
    "unknown recipe": (
        None,
        ["good.csv", "--target", "y", "--recipe", "fancy"],
        "no recipe is named 'fancy'",
    ),
    "--set without a value": (None, ["good.csv", "--target", "y", "--set", "epochs"], "PATH=VALUE"),
    "--set of nothing": (
        None,
        ["good.csv", "--target", "y", "--set", "optimizer.lrr=1"],
        "Did you mean 'lr'",
    ),
    "no seeds": (None, ["good.csv", "--target", "y", "--seeds", "0"], "at least 1"),
    "a negative seed": (None, ["good.csv", "--target", "y", "--seed", "-1"], "at least 0"),
    "unknown device": (None, ["good.csv", "--target", "y", "--device", "tpu"], "device is 'tpu'"),
    "memory nonsense": (None, ["good.csv", "--target", "y", "--memory", "lots"], "lots"),
    "unknown option": (None, ["good.csv", "--tarjet", "y"], "--target"),
    "resume nothing": (None, ["--resume", "nowhere"], "nowhere"),
    "resume with more": (None, ["good.csv", "--resume", "nowhere"], "--resume goes on"),
    "folder in use": (
        lambda: (Path("used").mkdir(), write("used/mine.txt", "keep")),
        ["good.csv", "--target", "y", "--out", "used"],
        "used is not empty",
    ),
    "folder is a file": (
        None,
        ["good.csv", "--target", "y", "--out", "good.csv"],
        "good.csv is a file",
    ),
    "folder cannot be made": (
        None,
        ["good.csv", "--target", "y", "--out", "/proc/run"],
        "cannot be written",
    ),
}


def tree(folder):
    return {
        p.relative_to(folder): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_is_told_and_leaves_nothing(name, here, capfd):
    make, arguments, words = CASES[name]
    if make is not None:
        make()
    before = tree(here)
    quick = [] if "--resume" in arguments or "--seeds" in arguments else QUICK
    assert run_command(["train", *arguments, *quick]) == 2
    said = capfd.readouterr()
    assert words in said.err.replace("\n", " ") and "Traceback" not in said.err and said.out == ""
    assert len(said.err.strip()) > 20
    assert tree(here) == before


def test_with_json_the_complaint_is_an_object(here, capfd):
    assert run_command(["train", "good.csv", "--target", "why", "--json"]) == 2
    said = json.loads(capfd.readouterr().out)
    assert (
        said["schema"] == 1
        and "why" in said["error"]["what"]
        and "Did you mean 'y'" in said["error"]["why"]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "good.csv").write_text(GOOD)
    out = ["--out", str(folder / "run")]
    assert run_command(["train", str(folder / "good.csv"), "--target", "y", *out, *QUICK]) == 0
    return folder / "run"


@pytest.fixture
def finished(here, trained):
    return shutil.copytree(trained, here / "run")


PREDICT = {
    "missing column": ("a\n1\n", "no column 'b'"),
    "text among numbers": ("a,b\n1,2\nx,3\n", "a"),
    "infinite": ("a,b\n1,inf\n", "b"),
    "empty": ("", "empty"),
}


@pytest.mark.parametrize("name", PREDICT)
def test_wrong_rows_to_predict(name, finished, capfd):
    text, words = PREDICT[name]
    write("new.csv", text)
    assert run_command(["predict", "run", "new.csv", "-o", "out.csv"]) == 2
    said = capfd.readouterr()
    assert words in said.err and "Traceback" not in said.err and not Path("out.csv").exists()


def test_predictions_are_never_written_over_unasked(finished, capfd):
    write("out.csv", "mine")
    assert run_command(["predict", "run", "good.csv", "-o", "out.csv"]) == 2
    assert Path("out.csv").read_text() == "mine"
    assert run_command(["predict", "run", "good.csv", "-o", "out.txt"]) == 2
    assert run_command(["predict", "run", "good.csv", "-o", "nowhere/out.csv"]) == 2
    assert run_command(["predict", "run", "good.csv", "-o", "out.csv", "--force"]) == 0
    assert len(pd.read_csv("out.csv")) == 60


def drop_keys(path, key):
    """A JSON file in which every object lost its value of a key."""
    text = json.loads(
        path.read_text(), object_hook=lambda plain: {k: v for k, v in plain.items() if k != key}
    )
    path.write_text(json.dumps(text))


def drop_digests(run):
    """Make a run one of an earlier version, which kept no digests."""
    for name in ("record.json", "plan.json"):
        plain = json.loads((run / name).read_text())
        plain = {k: v for k, v in plain.items() if k not in ("digest", "digests")}
        (run / name).write_text(json.dumps(plain))


def change_plan(path, change):
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))


DAMAGES = [
    (lambda run: (run / "record.json").write_text("{"), "cannot be read"),
    (lambda run: (run / "record.json").write_text("[" * 100_000), "cannot be read"),
    (lambda run: (run / "record.json").write_text("9" * 5_000), "cannot be read"),
    (lambda run: (run / "record.json").write_text('{"schema": 99}'), "Install a newer Ravine"),
    (lambda run: (run / "record.json").unlink(), "--resume"),
    (lambda run: drop_keys(run / "record.json", "members"), "is damaged"),
    (lambda run: (run / "series.csv").write_text("series,step\n1"), "is damaged"),
    (lambda run: (run / "weights.safetensors").write_bytes(b"nonsense"), "is damaged"),
    (lambda run: (run / "weights.safetensors").unlink(), "weights.safetensors"),
    (lambda run: (run / "encoder.json").write_text("{"), "is damaged"),
    (lambda run: (run / "encoder.json").write_text("{}"), "is damaged"),
    (lambda run: (run / "encoder.json").write_text("[3]"), "is damaged"),
    (lambda run: drop_keys(run / "encoder.json", "scaling"), "is damaged"),
    (lambda run: drop_keys(run / "encoder.json", "target"), "is damaged"),
    (lambda run: drop_keys(run / "encoder.json", "encoder"), "is damaged"),
    (lambda run: (run / "plan.json").write_text("[]"), "is damaged"),
    (lambda run: drop_keys(run / "plan.json", "recipe"), "is damaged"),
    (lambda run: drop_keys(run / "plan.json", "signature"), "is damaged"),
    (lambda run: change_plan(run / "plan.json", lambda p: p.update(recipe=3)), "is damaged"),
    (
        lambda run: change_plan(
            run / "plan.json", lambda p: p["signature"].update(numbers=1_000_000_000)
        ),
        "is damaged",
    ),
    (
        lambda run: change_plan(
            run / "plan.json", lambda p: p["recipe"]["network"].update(hidden=[7])
        ),
        "is damaged",
    ),
]


@pytest.mark.parametrize("before", [False, True], ids=["now", "without digests"])
@pytest.mark.parametrize(("change", "words"), DAMAGES)
def test_a_damaged_run_is_named(finished, capfd, change, words, before):
    if before:
        drop_digests(finished)
    change(finished)
    assert run_command(["predict", "run", "good.csv"]) == 2
    said = capfd.readouterr()
    assert words in said.err and said.err.count("error") == 1 and "Traceback" not in said.err


def test_a_run_of_before_without_digests_still_opens(finished, capfd):
    drop_digests(finished)
    assert run_command(["predict", "run", "good.csv"]) == 0


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "encoder.json", "plan.json", "series.csv", "record.json"]
)
def test_one_bit_or_digit_is_refused_or_changes_nothing(finished, capfd, name):
    assert run_command(["predict", "run", "good.csv"]) == 0
    before, path = capfd.readouterr().out, finished / name
    whole = path.read_bytes()
    for place in range(len(whole) // 7, len(whole), len(whole) // 4):
        for bit in (0, 5):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            code, said = run_command(["predict", "run", "good.csv"]), capfd.readouterr()
            assert (code, said.out) == (0, before) or said.err.count("error: run/") == 1
            assert code == 2 or name.endswith("json")  # a blank more between its words


def test_what_is_no_run_is_named(here, capfd):
    for wrong in ("nowhere", "good.csv", "."):
        assert run_command(["show", wrong]) == 2
        assert "Traceback" not in capfd.readouterr().err


def test_a_finished_run_is_not_resumed(finished, capfd):
    assert run_command(["train", "--resume", "run"]) == 2
    assert "is finished" in capfd.readouterr().err


def test_changed_data_are_noticed_on_resume(finished, capfd):
    (finished / "record.json").unlink()
    write("good.csv", GOOD.replace("yes", "maybe"))
    assert run_command(["train", "--resume", "run"]) == 2
    assert "have changed" in capfd.readouterr().err


def test_a_full_disk_is_told_and_what_was_written_stays(here, capfd, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = os.replace
    written = []

    def replace(a, b):
        if "series" in str(b):
            full()
        written.append(str(b))
        real(a, b)

    monkeypatch.setattr("ravine.files.os.replace", replace)
    assert run_command(["train", "good.csv", "--target", "y", "--out", "run", *QUICK]) == 2
    said = capfd.readouterr()
    assert "No space left" in said.err and "Free disk space" in said.err
    assert "Traceback" not in said.err
    assert written and all(Path(p).exists() for p in written)
    assert not list(Path("run").glob(".ravine-*")) and not Path("run/record.json").exists()
    monkeypatch.setattr("ravine.files.os.replace", real)
    assert run_command(["train", "--resume", "run"]) == 0


def test_predictions_never_replace_the_table_they_are_for(tmp_path, capsys):
    table = tmp_path / "new.csv"
    table.write_text("x\n1\n")
    assert run_command(["predict", "no-run", str(table), "-o", str(table), "--force"]) == 2
    assert "is the table itself" in capsys.readouterr().err and table.read_text() == "x\n1\n"
