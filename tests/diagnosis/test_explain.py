"""What `ravine explain` and the pages say: complete, true where that can be checked, and the same in both places."""

import ast
import copy
import importlib.util
import inspect
import json
import re
import textwrap
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine.catalog import recipe_from
from ravine.diagnosis.explain import FAMILIES, MEANINGS, cause_page, known_as, listing, naming, page, plain
from ravine.diagnosis.registry import ALL
from ravine.errors import InputError
from ravine.finding import CAUSES
from ravine_gallery import names

ROOT = Path(ravine.__file__).parent.parent
each_rule = pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.code)


def script():
    loader = SourceFileLoader("findings_pages", str(ROOT / "scripts" / "findings_pages"))
    spec = importlib.util.spec_from_loader("findings_pages", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def side(patch, sign):
    """A patch's code before (-) or after (+)."""
    return "\n".join(line[2:] for line in patch.splitlines() if line[:2] in ("  ", f"{sign} "))


def loop():
    """What the patches' code speaks of: a small classifier, its data and its loop."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
    body, head = nn.Sequential(nn.Linear(8, 32), nn.ReLU()), nn.Linear(32, 3)
    model, net = nn.Sequential(*body, head), nn.Sequential(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    there = {
        "torch": torch, "nn": nn, "F": F, "copy": copy, "CosineAnnealingLR": CosineAnnealingLR, "LambdaLR": LambdaLR,
        "StepLR": StepLR, "ReduceLROnPlateau": ReduceLROnPlateau, "DataLoader": DataLoader,
        "TensorDataset": TensorDataset, "x": x, "y": y, "x_valid": x, "y_valid": y, "body": body, "head": head,
        "model": model, "net": net, "optimizer": optimizer, "scheduler": StepLR(optimizer, 10),
        "criterion": F.cross_entropy, "batches": [(x, y)], "epochs": 2, "self": nn.Module(),
        "validate": lambda m: 0.5, "output": net(x).squeeze(1), "loss": F.cross_entropy(model(x), y),
    }  # fmt: skip

    def train_step(a, b):
        there["optimizer"].zero_grad()
        F.cross_entropy(model(a), b).backward()
        there["optimizer"].step()

    return there | {"train_step": train_step, "train_epoch": lambda m: train_step(x, y)}


def causes_written(find):
    """The causes in a rule's function: given as cause or suspects, or assigned to names of these."""
    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(getattr(find, "func", find))))):
        if isinstance(node, ast.keyword) and node.arg in ("cause", "suspects"):
            found |= words(node.value)
        elif isinstance(node, ast.Assign):
            targets = {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            found |= words(node.value) if targets & {"cause", "suspects"} else set()
    return found


def words(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} & set(CAUSES)


def test_codes_are_unique():
    assert len({rule.code for rule in ALL}) == len(ALL)
    assert {code for rule in ALL for code in rule.explains} <= {rule.code for rule in ALL}


@each_rule
def test_every_rule_is_explained(rule):
    for text in (rule.because, rule.misses, rule.means, rule.detected, rule.remedy, rule.patch):
        assert text and text == text.strip("\n") and "  " not in text.replace(rule.patch, "")
    for text in (rule.means, rule.detected, rule.remedy):
        assert text[0].isupper() and text.endswith(".")
    assert len(rule.means) >= 60 and len(re.findall(r"[.!?](?= |$)", rule.means)) <= 5
    assert rule.references and rule.code[4] in FAMILIES
    assert rule.picture == "" or rule.picture in names()
    assert set(rule.also) <= set(CAUSES) - {rule.cause}


@each_rule
def test_a_rule_names_every_cause_that_its_code_may_name(rule):
    assert causes_written(rule.find) <= {rule.cause, *rule.also}


def test_the_reader_of_causes_sees_them():
    assert causes_written(next(r for r in ALL if r.code == "RVN-N01").find) >= {"exploding", "loss", "input-scale"}


@each_rule
def test_the_patch_runs_and_differs_from_what_was_before(rule):
    lines = rule.patch.splitlines()
    assert 2 <= len(lines) <= 9 and all(line[:2] in ("  ", "+ ", "- ") for line in lines)
    assert max(map(len, lines)) <= 76
    before, after = side(rule.patch, "-"), side(rule.patch, "+")
    assert before != after
    if after.startswith("["):  # a recipe file
        assert recipe_from(tomllib.loads(before)) != recipe_from(tomllib.loads(after))
        return
    ast.parse(before)
    exec(compile(after, rule.code, "exec"), loop())


@each_rule
def test_references_have_a_year_and_name_what_exists(rule):
    for text in rule.references:
        documented = re.fullmatch(r"PyTorch 2\.\d+ documentation: (torch[\w.]+)", text)
        if documented:
            thing = torch
            for name in documented[1].split(".")[1:]:
                thing = getattr(thing, name)
        else:
            assert re.search(r"\b(19|20)\d\d:|\(2\.\d+\)", text), text


def test_every_cause_has_a_meaning_that_fits_a_line():
    assert tuple(MEANINGS) == CAUSES
    assert all(text.endswith(".") and len(text) <= 100 for text in MEANINGS.values())


@pytest.mark.parametrize("name", ["RVN-L01", "rvn-l01", "L01", "l1", "RVNL01", " L-01 "])
def test_a_code_is_known_however_it_is_written(name):
    assert known_as(name, ALL).code == "RVN-L01"


def test_a_cause_is_known_however_it_is_written():
    assert known_as("Learning_Rate_High", ALL) == "learning-rate-high"


@pytest.mark.parametrize(("name", "near"), [
    ("N99", "RVN-N02"), ("RVN-L0", "RVN-L01"), ("learning-rate-hi", "learning-rate-high"), ("zerograd!", "zero-grad"),
    ("softmax", "RVN-H01"), ("Q01", "RVN-"), ("", "RVN-"),
])  # fmt: skip
def test_another_name_is_an_error_that_says_the_nearest(name, near):
    with pytest.raises(InputError, match="the nearest is") as raised:
        known_as(name, ALL)
    if near != "RVN-":
        assert f"the nearest is {near} (" in str(raised.value)


@each_rule
def test_the_page_fits_a_terminal_and_says_all(rule):
    text = page(rule, ALL)
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    joined = " ".join(text.split())
    for part in (rule.code, rule.title, rule.means, rule.detected, rule.remedy, *rule.references, *rule.also):
        assert " ".join(part.split()) in joined
    assert all(f"    {line}" in text.splitlines() for line in rule.patch.splitlines())
    assert re.sub(r"\x1b\[\d+m", "", page(rule, ALL, color=True)) == text
    assert json.loads(json.dumps(plain(rule)))["code"] == rule.code


def test_the_list_has_every_code_once_and_a_cause_those_that_may_name_it():
    text = listing(ALL)
    assert max(map(len, text.splitlines())) <= 80
    assert sorted(re.findall(r"^  (RVN-\S+)", text, re.M)) == sorted(rule.code for rule in ALL)
    named = naming("learning-rate-high", ALL)
    assert {"RVN-N01", "RVN-S03"} <= {rule.code for rule in named}
    assert re.findall(r"^  (RVN-\S+)", cause_page("learning-rate-high", ALL), re.M) == [r.code for r in named]
    for cause in CAUSES:
        assert max(map(len, cause_page(cause, ALL).splitlines())) <= 80


def test_the_pages_say_what_the_rules_say():
    made = script()
    texts = {"README.md": made.index(), "causes.md": made.causes()} | {
        f"{r.code}.md": made.page(r, "", "") for r in ALL
    }
    there = {path.name: path.read_text("utf-8") for path in made.FOLDER.glob("*.md")}
    assert sorted(there) == sorted(texts)
    wrong = [name for name, text in texts.items() if made.without_report(there[name]).strip() != text.strip()]
    assert wrong == [], "run scripts/findings_pages"


SOME = ("RVN-L01", "RVN-L16", "RVN-N01", "RVN-H06", "RVN-S03", "RVN-C06", "RVN-D01", "RVN-I04", "RVN-T09")


@pytest.mark.parametrize("code", SOME)
def test_a_report_is_what_is_said_now(code):
    made = script()
    (rule,) = (rule for rule in ALL if rule.code == code)
    text = (made.FOLDER / f"{code}.md").read_text("utf-8")
    assert made.gist(made.page(rule, *made.report(rule))) == made.gist(text), "run scripts/findings_pages"


@pytest.mark.slow
def test_all_reports_are_what_is_said_now():
    made = script()
    assert made.stale(made.pages()) == [], "run scripts/findings_pages"


def test_every_report_shows_the_finding_of_its_page():
    pages = list((ROOT / "docs" / "findings").glob("RVN-*.md"))
    reports = {path.stem: re.findall(r"^```text\n(.*?)^```", path.read_text("utf-8"), re.M | re.S) for path in pages}
    shown = {code: blocks[0] for code, blocks in reports.items() if blocks}
    assert len(shown) > 60
    assert [code for code, text in shown.items() if code not in text] == []


def test_a_page_that_says_something_else_is_found(tmp_path, monkeypatch):
    made = script()
    monkeypatch.setattr(made, "FOLDER", tmp_path)
    same = "# A\n```text\nloss 0.12\n   (limit 3)\n```\n"
    (tmp_path / "A.md").write_text(same)
    (tmp_path / "B.md").write_text("left over")
    assert made.stale({"A.md": same.replace("0.12", "1e-5").replace("\n   (", " (")}) == ["B.md"]
    assert made.stale({"A.md": same.replace("loss", "lots"), "B.md": "left over"}) == ["A.md"]
    assert made.stale({"A.md": same, "B.md": "left over", "C.md": ""}) == ["C.md"]
