"""The command line as its users meet it."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from ravine.cli import run_command
from ravine.cli.streams import has_no_reader
from ravine.training.verify_resume import ResumeProof

QUICK = ["--set", "epochs=3", "--seeds", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "ravine", *arguments], capture_output=True, text=True, **options
    )


def test_a_bundled_set_trains_and_says_what_it_did(here, capfd):
    assert run_command(["train", "penguins", *QUICK]) == 0
    said = capfd.readouterr()
    (folder,) = (here / "runs").iterdir()
    assert folder.name.startswith("penguins-")
    assert said.err.startswith("data        Target species: classification, 3 classes")
    assert "--set KEY=VALUE, where KEY is one of data.task, data.drop," in said.err
    assert said.err.index("Input columns: 5 numeric") < said.err.index("epoch 1/3")
    for words in ("ensemble of 2", "95% interval", f"ravine predict runs/{folder.name}"):
        assert words in said.out
    assert "epoch 3/3" in said.err and "epoch 3/3" not in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert run_command(["show", f"runs/{folder.name}"]) == 0
    shown = capfd.readouterr().out
    assert shown.endswith(said.out) and shown.startswith("data        Target species:")


def test_the_next_command_works(here, capfd):
    frame = pd.DataFrame(
        {"x": [i % 13 for i in range(80)], "y": [2.0 * (i % 13) + i % 3 for i in range(80)]}
    )
    frame.to_csv("t.csv", index=False)
    assert run_command(["train", "t.csv", "--target", "y", "--out", "run", *QUICK, "--quiet"]) == 0
    assert capfd.readouterr().err == ""
    for out in ("o.csv", "o.parquet", "o.jsonl"):
        assert run_command(["predict", "run", "t.csv", "-o", out]) == 0
    assert (
        list(pd.read_csv("o.csv").columns) == ["row", "y"]
        and len(pd.read_parquet("o.parquet")) == 80
    )
    capfd.readouterr()
    assert run_command(["predict", "run", "t.csv"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 81


def test_json_is_one_object_of_a_known_form(here, capfd):
    assert run_command(["train", "iris", "--json", "--out", "run", *QUICK]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["schema"] == 1 and said["run"] == "run" and said["findings"] == []
    assert {"metric", "value", "low", "high", "members"} <= set(said["score"])
    assert len(said["members"]) == 2 and said["task"]["kind"] == "classes"
    assert run_command(["show", "run", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == said


LEAKY = pd.DataFrame(
    {"x": [(7 * i) % 31 / 3 for i in range(240)], "z": [(i * i) % 17 / 2 for i in range(240)]}
)
LEAKY = LEAKY.assign(y=LEAKY.x + LEAKY.z % 3, tax=0.2 * (LEAKY.x + LEAKY.z % 3) + 1)


def test_training_begins_with_checks_that_are_told_kept_and_stop_nothing(here, capfd):
    LEAKY.to_csv("t.csv", index=False)
    train = ["train", "t.csv", "--target", "y", *QUICK]
    assert run_command([*train, "--out", "run", "--json"]) == 0
    said = capfd.readouterr()
    assert "preflight" in said.err and "RVN-D08" in said.err
    assert ("RVN-D08", "leakage") in [
        (f["code"], f["cause"]) for f in json.loads(said.out)["findings"]
    ]
    assert run_command(["show", "run"]) == 0
    assert "RVN-D08" in capfd.readouterr().out
    assert run_command([*train, "--out", "unchecked", "--no-check", "--json"]) == 0
    said = capfd.readouterr()
    assert "preflight" not in said.err and "RVN-D08" not in said.out
    weights = (Path(folder, "weights.safetensors").read_bytes() for folder in ("run", "unchecked"))
    assert len(set(weights)) == 1  # checking changes nothing
    assert run_command([*train, "--out", "quiet", "--quiet"]) == 0
    assert capfd.readouterr().err == ""


def test_a_resumed_run_keeps_what_was_found_before_it_began(here, capfd):
    LEAKY.to_csv("t.csv", index=False)
    assert run_command(["train", "t.csv", "--target", "y", *QUICK, "--out", "run", "--quiet"]) == 0
    whole = json.loads(Path("run/record.json").read_text())
    for file in ("record.json", "weights.safetensors", "series.csv", "encoder.json"):
        Path("run", file).unlink()  # as if it had been interrupted before its first checkpoint
    assert run_command(["train", "--resume", "run", "--quiet"]) == 0
    again = json.loads(Path("run/record.json").read_text())
    assert again["findings"] == whole["findings"] != []
    assert again["score"] == whole["score"]


def test_the_doctor_mends_a_run_shows_the_difference_and_the_mended_recipe_trains(here, capfd):
    sick = ["--recipe", "plain", "--set", "optimizer.lr=1e-6", "--out", "run", "--quiet"]
    assert run_command(["train", "iris", *sick]) == 0
    capfd.readouterr()
    assert run_command(["doctor", "run", "--fix", "--quiet"]) == 1
    said = capfd.readouterr()
    lines = said.out.splitlines()
    assert (
        "learning-rate-low" in said.out
        and "- optimizer.lr = 1e-06" in lines
        and any(x.startswith("+ optimizer.lr = ") for x in lines)
    )
    assert max(map(len, lines)) <= 80
    kept = json.loads(Path("run/doctor.json").read_text())
    assert kept["run"] == "run" and kept["findings"][0]["trial"]["verdict"] == "helped"
    assert run_command(["train", "run-fixed.toml", "--quiet", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["score"]["value"] > kept["score"]["value"]
    assert run_command(["doctor", "run", "--fix"]) == 2  # existing files are kept
    assert "already exists" in capfd.readouterr().err


def test_the_doctor_leaves_a_healthy_recipe_as_it_is(here, capfd):
    assert run_command(["doctor", "iris", "--recipe", "plain", "--fix", "--json", "--quiet"]) == 0
    said = capfd.readouterr()
    assert [f for f in json.loads(said.out)["findings"] if f["severity"] != "note"] == []
    assert "nothing is written" in said.err and list(here.iterdir()) == []


@pytest.mark.parametrize(
    "asked", ["run -o x.toml", "run --fix --no-trials", "run --set epochs=3", "nowhere.toml"]
)
def test_what_the_doctor_cannot_do_is_said(here, capfd, asked):
    Path("run").mkdir()
    Path("run/plan.json").write_text("{}")
    assert run_command(["doctor", *asked.split()]) == 2
    assert capfd.readouterr().err.startswith("error: ")


def test_a_recipe_file_trains(here, capfd):
    Path("r.toml").write_text('base = "plain"\nepochs = 2\n[data]\nsource = "iris"\n')
    assert run_command(["train", "r.toml", "--seed", "5", "--seeds", "3", "--out", "run"]) == 0
    assert "ensemble of 3" in capfd.readouterr().out
    assert [m["seed"] for m in json.loads(Path("run/record.json").read_text())["members"]] == [
        5,
        6,
        7,
    ]


def test_a_printed_recipe_is_one_that_trains(here, capfd):
    assert run_command(["recipes", "plain"]) == 0
    Path("r.toml").write_text(capfd.readouterr().out)
    assert run_command(["train", "r.toml", "--set", "data.source=iris", *QUICK]) == 0
    assert run_command(["recipes"]) == 0
    listed = capfd.readouterr().out
    assert "realmlp_td_s" in listed and max(map(len, listed.splitlines())) <= 80


def test_divergence_is_told_and_has_its_exit_code(here, capfd):
    assert run_command(["train", "iris", "--set", "optimizer.lr=1e30", *QUICK]) == 3
    assert "2 of 2 networks diverged" in capfd.readouterr().out


def test_ctrl_c_saves_and_the_run_goes_on(here):
    train = "train iris --out run --seeds 2 --no-check --set epochs=100000 --set stop=none"
    process = subprocess.Popen(
        [sys.executable, "-m", "ravine", *train.split()],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while process.poll() is None and not Path("run/plan.json").exists():
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ravine train --resume run" in said and "Traceback" not in said
    assert list(Path("run").glob("checkpoint-*"))
    plan = json.loads(Path("run/plan.json").read_text())
    del plan["digest"]
    plan["recipe"]["epochs"] = 1  # so that what is left is nothing
    Path("run/plan.json").write_text(json.dumps(plan))
    assert run_command(["train", "--resume", "run"]) == 2  # recipe.toml says otherwise
    text = Path("run/recipe.toml").read_text()
    Path("run/recipe.toml").write_text(text.replace("epochs = 100000", "epochs = 1"))
    assert run_command(["train", "--resume", "run", "--no-baseline"]) == 0
    assert Path("run/record.json").exists()


def test_a_reader_that_leaves_early_is_no_error(here):
    piped = f"{sys.executable} -m ravine recipes default | head -1"
    done = subprocess.run(piped, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("base") and done.stderr == ""


def test_help_names_the_commands_and_versions_are_plain(capfd):
    assert run_command([]) == 0
    said = capfd.readouterr().out
    for name in ("train", "predict", "show", "recipes", "verify-resume"):
        assert name in said


@pytest.mark.slow
def test_verify_resume_proves_a_recipe(here):
    done = command("verify-resume", "digits", "--set", "epochs=20", "--seeds", "2", "--kills", "2")
    assert done.returncode == 0 and "the same bit for bit" in done.stdout


def test_verify_resume_prints_its_proof_as_an_object(monkeypatch, capfd):
    proof = ResumeProof(kills=2, wanted=3, different=("score",))
    monkeypatch.setattr("ravine.training.verify_resume.prove_resume", lambda *_, **__: proof)
    assert run_command(["verify-resume", "iris", "--json"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert found == {"schema": 1, "same": False, "kills": 2, "wanted": 3, "different": ["score"]}


def test_unexpected_errors_keep_their_traceback(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("ravine.cli.options.recipe_for", broken)
    with pytest.raises(ZeroDivisionError):
        run_command(["train", "iris"])


def test_explain_prints_the_page_the_list_and_a_cause(capfd):
    assert run_command(["explain", "l01"]) == 0
    page = capfd.readouterr().out
    assert (
        page.startswith("RVN-L01  gradients of earlier steps") and "optimizer.zero_grad()" in page
    )
    assert max(map(len, page.splitlines())) <= 80 and "\x1b" not in page
    assert run_command(["explain"]) == 0 and "\n  RVN-S03  most units" in capfd.readouterr().out
    assert run_command(["explain", "zero-grad"]) == 0
    assert "\n  RVN-L01  " in capfd.readouterr().out
    for words, key in (
        (["explain", "L01"], "means"),
        (["explain", "zero-grad"], "codes"),
        (["explain"], "families"),
    ):
        assert run_command([*words, "--json"]) == 0
        said = json.loads(capfd.readouterr().out)
        assert said["schema"] == 1 and said[key]


def test_explain_says_the_nearest_code(capfd):
    assert run_command(["explain", "N77", "--json"]) == 2
    said = capfd.readouterr()
    assert "the nearest is RVN-N02" in said.err and "RVN-N02" in json.loads(said.out)["error"]["do"]


def test_explain_draws_the_picture_where_there_is_one(here, capfd):
    assert run_command(["explain", "L15", "--picture", "l15.svg"]) == 0
    assert (here / "l15.svg").read_text("utf-8").rstrip().endswith("</svg>")
    assert "schedules" in capfd.readouterr().err
    assert run_command(["explain", "L15", "--picture", "l15.svg"]) == 2  # existing files are kept
    assert run_command(["explain", "L01", "--picture", "l01.svg"]) == 2
    assert run_command(["explain", "--picture", "all.svg"]) == 2
    assert [path.name for path in here.iterdir()] == ["l15.svg"]


def test_a_closed_terminal_is_a_closed_pipe_and_a_full_disk_is_not():
    master, slave = pty.openpty()
    os.close(master)
    for handle, gone in ((slave, True), (os.open("/dev/full", os.O_WRONLY), False)):
        with open(handle, "w") as stream, pytest.raises(OSError) as raised:
            os.write(handle, b"x")
        with open("/dev/full", "w") as stream:  # a device, as a terminal is
            assert has_no_reader(stream, raised.value) is gone
