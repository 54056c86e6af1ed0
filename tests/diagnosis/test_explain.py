"""What `ravine explain` says: complete, and true where that can be checked."""

import ast
import copy
import inspect
import json
import re
import sys
import textwrap
import tomllib
from importlib import resources

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from ravine.causes import CAUSES
from ravine.diagnosis.explain import (
    cause_page,
    find_topic,
    list_rules,
    rule_page,
    rule_to_json,
    rules_naming,
)
from ravine.diagnosis.explanation import PAGE_SECTIONS, parse_explanation
from ravine.diagnosis.registry import ALL_CHECKS, ALL_RULES, RULES_BY_FAMILY, SYMPTOM_CODES
from ravine.diagnosis.rule import Rule
from ravine.errors import InputError
from ravine.finding import SEVERITY_LEVELS
from ravine.old_names import RETIRED_CODES
from ravine.recipe_files import recipe_from
from ravine_gallery import experiment_names

PAGES = resources.files("ravine.diagnosis").joinpath("explanations")
each_check = pytest.mark.parametrize("rule", ALL_CHECKS, ids=lambda r: f"{r.code}-{r.needs}")
each_rule = pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.code)


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
        "torch": torch,
        "nn": nn,
        "F": F,
        "copy": copy,
        "CosineAnnealingLR": CosineAnnealingLR,
        "LambdaLR": LambdaLR,
        "StepLR": StepLR,
        "ReduceLROnPlateau": ReduceLROnPlateau,
        "DataLoader": DataLoader,
        "TensorDataset": TensorDataset,
        "x": x,
        "y": y,
        "x_valid": x,
        "y_valid": y,
        "body": body,
        "head": head,
        "model": model,
        "net": net,
        "optimizer": optimizer,
        "scheduler": StepLR(optimizer, 10),
        "criterion": F.cross_entropy,
        "batches": [(x, y)],
        "epochs": 2,
        "self": nn.Module(),
        "validate": lambda m: 0.5,
        "output": net(x).squeeze(1),
        "loss": F.cross_entropy(model(x), y),
    }

    def train_step(a, b):
        there["optimizer"].zero_grad()
        F.cross_entropy(model(a), b).backward()
        there["optimizer"].step()

    return there | {"train_step": train_step, "train_epoch": lambda m: train_step(x, y)}


def causes_written(find):
    """The causes in a rule's function, and in those of its module that it calls: given as cause or
    suspects, or assigned to names of these.
    """
    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(find)))):
        if isinstance(node, ast.keyword) and node.arg in ("cause", "suspects"):
            found |= words(node.value)
        elif isinstance(node, ast.Assign):
            targets = {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            found |= words(node.value) if targets & {"cause", "suspects"} else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = inspect.unwrap(find).__globals__.get(node.func.id)
            if inspect.isfunction(called) and called.__module__ == find.__module__:
                found |= causes_written(called)
    return found


def words(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} & set(CAUSES)


def test_codes_are_unique():
    assert len({rule.code for rule in ALL_RULES}) == len(ALL_RULES)
    assert {code for rule in ALL_RULES for code in rule.explains} <= {
        rule.code for rule in ALL_RULES
    }


def test_every_code_has_a_page_and_every_page_a_code():
    assert sorted(path.name for path in PAGES.iterdir()) == sorted(
        f"{rule.code}.md" for rule in ALL_RULES
    )


def test_retired_codes_lead_to_rules_and_are_no_rules_themselves():
    codes = {rule.code for rule in ALL_RULES}
    assert set(RETIRED_CODES.values()) <= codes and not set(RETIRED_CODES) & codes


def test_a_code_with_two_checks_names_the_causes_of_both():
    checks = [check for check in ALL_CHECKS if check.code == "RVN-T02"]
    assert [check.needs for check in checks] == ["constant_loss", "baseline 200", "trials"]
    merged = next(rule for rule in ALL_RULES if rule.code == "RVN-T02")
    assert {"dropout", "shuffling"} <= set(merged.also) and merged.severity == "warning"
    shared = {c.code for c in ALL_CHECKS if sum(o.code == c.code for o in ALL_CHECKS) > 1}
    curves = {"RVN-T02", "RVN-T03", "RVN-T04", "RVN-T07", "RVN-T09"}
    assert shared == {"RVN-D06", "RVN-D09", "RVN-I03", "RVN-I22", "RVN-N01", *curves}


def test_a_page_may_name_thresholds_of_two_modules():
    named = "{training_loop.rules_loss_curve.RISEN_FACTOR:g} and {LIMIT:.0%}"
    text = "# RVN-A01: a title\n" + "\n".join(
        f"## {name}\nOver {named}.\n" for name in PAGE_SECTIONS
    )
    assert parse_explanation(text, {"LIMIT": 0.25}).means == "Over 2 and 25%."


@pytest.mark.parametrize("code", RETIRED_CODES)
def test_a_retired_code_leads_to_the_rule_that_took_its_place(code):
    topic = find_topic(code, ALL_RULES)
    assert isinstance(topic, Rule) and topic.code == RETIRED_CODES[code]


def test_symptoms_are_dead_units_numbers_curves_and_what_a_start_shows():
    """They say that something goes wrong, not why: a cause that is found accounts for them."""
    starts = {f"RVN-I{number}" for number in (13, 14, 15, 16)}
    curves = {f"RVN-T{number:02d}" for number in range(2, 16)}
    assert SYMPTOM_CODES == starts | curves | {"RVN-C03", "RVN-S03", "RVN-N01", "RVN-N02"}


@each_check
def test_every_rule_is_explained(rule):
    about = rule.explanation
    for text in (about.means, about.because, about.detected, about.misses, about.remedy):
        assert text[0].isupper() or re.match(r"[\w.()=]+[_.(=]", text)
        assert text.endswith(".") and "  " not in text and not re.search(r"[{}]", text)
    assert len(about.means) >= 60 and len(re.findall(r"[.!?](?= |$)", about.means)) <= 5
    assert about.references and about.title and about.patch
    picture = rule.explanation.picture
    assert picture == "" or picture in experiment_names()
    assert set(rule.also) <= set(CAUSES) - {rule.cause}


def test_thresholds_are_filled_in_and_unknown_ones_raise():
    text = "# RVN-A01: a title\n" + "\n".join(
        f"## {name}\nOver {{LIMIT:.0%}} of {{COUNT}}.\n" for name in PAGE_SECTIONS
    )
    found = parse_explanation(text, {"LIMIT": 0.25, "COUNT": 7})
    assert found.means == "Over 25% of 7."
    with pytest.raises(KeyError):
        parse_explanation(text, {"LIMIT": 0.25})
    with pytest.raises(ValueError, match="the sections are"):
        parse_explanation(
            text.replace("## What it misses", "## What it overlooks"), {"LIMIT": 0.25, "COUNT": 7}
        )


@each_check
def test_a_rule_names_every_cause_that_its_code_may_name(rule):
    assert causes_written(rule.find) <= {rule.cause, *rule.also}


def test_the_reader_of_causes_sees_them():
    assert causes_written(next(r for r in ALL_RULES if r.code == "RVN-N01").find) >= {
        "exploding",
        "loss",
        "input-scale",
    }


@each_rule
def test_the_patch_runs_and_differs_from_what_was_before(rule):
    lines = rule.explanation.patch.splitlines()
    assert 2 <= len(lines) <= 9 and all(line[:2] in ("  ", "+ ", "- ") for line in lines)
    assert max(map(len, lines)) <= 76
    before, after = side(rule.explanation.patch, "-"), side(rule.explanation.patch, "+")
    assert before != after
    if after.startswith("["):  # a recipe file
        assert recipe_from(tomllib.loads(before)) != recipe_from(tomllib.loads(after))
        return
    ast.parse(before)
    exec(compile(after, rule.code, "exec"), loop())


@each_rule
def test_references_have_a_year_and_name_what_exists(rule):
    for text in rule.explanation.references:
        documented = re.fullmatch(r"PyTorch 2\.\d+ documentation: (torch[\w.]+)", text)
        if documented:
            thing = torch
            for name in documented[1].split(".")[1:]:
                thing = getattr(thing, name)
        else:
            assert re.search(r"\b(19|20)\d\d:|\(2\.\d+\)", text), text


def test_every_cause_has_a_meaning_that_fits_a_line():
    assert all(text.endswith(".") and len(text) <= 100 for text in CAUSES.values())


@pytest.mark.parametrize("name", ["RVN-L01", "rvn-l01", "L01", "l1", "RVNL01", " L-01 "])
def test_a_code_is_known_however_it_is_written(name):
    topic = find_topic(name, ALL_RULES)
    assert isinstance(topic, Rule) and topic.code == "RVN-L01"


def test_a_cause_is_known_however_it_is_written():
    assert find_topic("Learning_Rate_High", ALL_RULES) == "learning-rate-high"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("N99", "RVN-N02"),
        ("RVN-L0", "RVN-L01"),
        ("learning-rate-hi", "learning-rate-high"),
        ("zerograd!", "zero-grad"),
        ("softmax", "RVN-H01"),
        ("Q01", "RVN-"),
        ("", ""),
    ],
)
def test_another_name_is_an_error_that_says_the_nearest(name, near):
    with pytest.raises(InputError, match="the nearest is") as raised:
        find_topic(name, ALL_RULES)
    assert f"the nearest is {near}" in str(raised.value)


def severities_in(function, known=()):
    """The severities that stand in a function, and in those of its module that it calls."""
    names = vars(sys.modules[function.__module__])
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)} & set(SEVERITY_LEVELS)
    for node in ast.walk(tree):
        called = names.get(node.id) if isinstance(node, ast.Name) else None
        if inspect.isfunction(called) and called not in (function, *known):
            found |= severities_in(called, (function, *known))
    return found


def severities_shown(rule):
    """Those at the head of the page, before the confidence."""
    head = rule_page(rule, ALL_RULES).partition("\n\n")[0]
    return set(re.findall(r"\b(?:error|warning|note)\b", head.partition(rule.title)[2] or head))


@each_rule
def test_the_page_says_which_severities_its_findings_may_have(rule):
    checks = [check for check in ALL_CHECKS if check.code == rule.code]
    possible = set().union(*({c.severity} | severities_in(c.find) for c in checks))
    assert possible <= severities_shown(rule)


def test_severities_are_read_in_what_a_rule_calls():
    lower = next(rule for rule in ALL_RULES if rule.code == "RVN-X01")
    assert severities_in(lower.find) == {"error", "warning"}
    assert severities_shown(lower) == {"error", "warning"}


@each_rule
def test_the_page_fits_a_terminal_and_says_all(rule):
    text = rule_page(rule, ALL_RULES)
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    joined = " ".join(text.split())
    about = rule.explanation
    for part in (
        rule.code,
        rule.title,
        about.means,
        about.detected,
        about.remedy,
        *about.references,
        *rule.also,
    ):
        assert " ".join(part.split()) in joined
    assert all(f"    {line}" in text.splitlines() for line in rule.explanation.patch.splitlines())
    assert re.sub(r"\x1b\[\d+m", "", rule_page(rule, ALL_RULES, color=True)) == text
    assert json.loads(json.dumps(rule_to_json(rule)))["code"] == rule.code


def test_the_list_has_every_code_once_and_a_cause_those_that_may_name_it():
    text = list_rules(RULES_BY_FAMILY)
    assert max(map(len, text.splitlines())) <= 80
    every = (rule.code for rules in RULES_BY_FAMILY.values() for rule in rules)
    assert re.findall(r"^  (RVN-\S+)", text, re.M) == list(dict.fromkeys(every))
    assert all(len({r.code for r in rules}) == len(rules) for rules in RULES_BY_FAMILY.values())
    named = rules_naming("learning-rate-high", ALL_RULES)
    assert {"RVN-N01", "RVN-S03"} <= {rule.code for rule in named}
    assert re.findall(r"^  (RVN-\S+)", cause_page("learning-rate-high", ALL_RULES), re.M) == [
        r.code for r in named
    ]
    for cause in CAUSES:
        assert max(map(len, cause_page(cause, ALL_RULES).splitlines())) <= 80
