"""What comes from elsewhere is shown and never obeyed: names, records, pictures."""

import json
import re
import stat
import sys

import numpy as np
import pandas as pd
import pytest

from ravine.catalog import plain
from ravine.cli import run_command
from ravine.data.image_file import UnreadableImage, read_header
from ravine.errors import Interrupted, printable
from ravine.finding import Evidence, Finding
from ravine.reporting.findings_text import finding_line, finding_text
from ravine.training.train import train

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.exe\r"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
QUICK = ["--set", "epochs=1", "--seeds", "1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_harmless(capfd, *words):
    said = capfd.readouterr()
    for text in (said.out, said.err):
        assert CONTROL.findall(text) == []
    for word in words:
        assert word in said.out + said.err


def table(name):
    x = np.arange(80) % 13
    classes = np.where(x % 2, f"yes{HOSTILE}", f"no{HOSTILE}")
    return pd.DataFrame({name: x * 1.5, "same": f"one{HOSTILE}", "other": x % 5, "y": classes})


def test_names_and_classes_never_reach_the_terminal_as_they_are(here, capfd):
    name = f"a{HOSTILE}"
    table(name).to_json("t.jsonl", orient="records", lines=True)
    assert run_command(["train", "t.jsonl", "--target", "y", "--out", "run", *QUICK]) == 0
    assert_harmless(capfd, r"yes\x1b[2J", r"one\x1b[2J")
    assert run_command(["show", "run"]) == 0
    assert_harmless(capfd, r"\x1b[2J")
    run_command(["check", "t.jsonl", "--target", "y"])
    assert_harmless(capfd)
    assert run_command(["train", "t.jsonl", "--target", f"z{HOSTILE}", *QUICK]) == 2
    assert_harmless(capfd, r"\x1b[2J")
    assert run_command(["predict", "run", f"no{HOSTILE}.csv"]) == 2
    assert_harmless(capfd, r"\x1b[2J")


def test_a_strangers_record_is_shown_and_not_obeyed(here, capfd):
    assert run_command(["train", "iris", "--out", "run", *QUICK, "--quiet"]) == 0
    capfd.readouterr()
    path = here / "run" / "record.json"
    record = json.loads(path.read_text())
    record["said"] = [f"said{HOSTILE}"]
    record["events"] = [{"step": 0, "kind": "odd", "member": None, "text": f"event{HOSTILE}"}]
    record.pop("digest", None)
    path.write_text(json.dumps(record))
    assert run_command(["show", "run"]) == 0
    assert_harmless(capfd, r"said\x1b[2J", r"event\x1b[2J")


def test_findings_of_a_strangers_record_are_checked(here, capfd):
    assert run_command(["train", "iris", "--out", "run", *QUICK, "--quiet"]) == 0
    shown = {"code": "RVN-D01", "title": "title", "cause": "labels"}
    good = Finding(**shown, severity="error", confidence="exact").to_json()
    record = json.loads((here / "run/record.json").read_text())
    del record["digest"]
    changes = [{"severity": "fatal"}, {"evidence": 3}, {"where": [HOSTILE]}]
    bad = ["D01", {}, {"code": "RVN-D01"}, *(good | change for change in changes)]
    for finding in (good, *bad):
        (here / "run/record.json").write_text(json.dumps(record | {"findings": [finding]}))
        capfd.readouterr()
        assert run_command(["show", "run"]) == (0 if finding is good else 2), finding
        assert_harmless(capfd)


def test_the_versions_of_a_strangers_plan_are_shown_and_not_obeyed(here, capfd):
    (here / "stop now").touch()
    recipe = plain().vary("data.source", "iris").vary("epochs", 1)
    with pytest.raises(Interrupted):
        train(recipe, out="run", workers=1, stop=here / "stop now")
    plan = json.loads((here / "run/plan.json").read_text())
    del plan["digest"]
    (here / "run/plan.json").write_text(json.dumps(plan | {"versions": {"torch": HOSTILE}}))
    capfd.readouterr()
    assert run_command(["train", "--resume", "run", "--quiet"]) == 0
    assert_harmless(capfd, r"torch \x1b[2J")


def test_findings_are_shown_and_not_obeyed():
    finding = Finding(
        code="RVN-D01",
        title=f"title{HOSTILE}",
        severity="error",
        confidence="exact",
        cause="labels",
        where=f"where{HOSTILE}",
        evidence=(Evidence("name", 1.0, text=f"text{HOSTILE}"),),
    )
    for text in (finding_line(finding), finding_text(finding)):
        assert CONTROL.findall(text) == []


@pytest.mark.parametrize("text", ["plain", "Straße 5 €", "名前", "a\u00a0b", "💧"])
def test_ordinary_text_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize("head", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n", b"8BPS"])
def test_a_picture_is_only_what_the_documentation_names(tmp_path, monkeypatch, head):
    (tmp_path / "odd.png").write_bytes(head + bytes(200))
    called = tmp_path / "called"
    program = tmp_path / "gs"
    program.write_text(f"#!{sys.executable}\nopen({str(called)!r}, 'w')\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(read_header(str(tmp_path / "odd.png")), UnreadableImage)
    assert not called.exists()
