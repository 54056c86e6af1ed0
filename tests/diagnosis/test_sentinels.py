"""Values that stand for a gap are named with their column; ordinary columns are left alone."""

import numpy as np
import pandas as pd
import pytest
import torch

from ravine.catalog import named_recipe
from ravine.diagnosis.data.measure import profile_data
from ravine.diagnosis.registry import DATA_RULES
from ravine.diagnosis.rule import run_rules
from ravine.examination.preflight import check_recipe, inherit_causes
from ravine.finding import Finding
from ravine.sentinels import find_sentinels, find_signal_sentinels
from ravine.training.defaults import prepare

DRAW = np.random.default_rng(11)
ROWS = 400
NORMAL = DRAW.normal(300, 8, ROWS)
TENTH = np.arange(ROWS) % 10 == 3
HEALTHY = {
    "area of a pool": np.where(DRAW.random(ROWS) < 0.97, 0, DRAW.uniform(400, 800, ROWS)),
    "capital gains": np.where(DRAW.random(ROWS) < 0.9, 0, np.exp(DRAW.normal(8, 1, ROWS))),
    "counts": DRAW.poisson(3, ROWS),
    "amounts, many 0": np.where(DRAW.random(ROWS) < 0.3, 0, DRAW.uniform(100, 600, ROWS)),
    "cut at the top": np.minimum(np.exp(DRAW.normal(3, 1, ROWS)), 60),
    "two groups": np.where(DRAW.random(ROWS) < 0.5, DRAW.normal(0, 1, ROWS), NORMAL),
    "heavy tails": DRAW.standard_cauchy(ROWS),
    "ranks": np.arange(ROWS),
    "few values": np.where(TENTH, 1000, DRAW.integers(0, 3, ROWS)),
    "one far row": np.where(np.arange(ROWS) == 7, -9999, NORMAL),
    "constant": np.ones(ROWS),
    "gaps alone": np.full(ROWS, np.nan),
}


@pytest.mark.parametrize("value", [-9999, 999, -1, 99999, 0])
@pytest.mark.parametrize("others", [NORMAL, NORMAL.round()], ids=["floats", "whole"])
def test_a_code_for_a_gap_is_found_with_its_rows(value, others):
    x = np.stack([NORMAL, np.where(TENTH, value, others)], 1)
    (code,) = find_sentinels(x, "column {}".format)
    assert (code.where, code.value, code.rows) == ("column 1", value, TENTH.sum())


@pytest.mark.parametrize("value", [-1, -5])
def test_the_only_negative_value_may_be_nearer(value):
    others = np.abs(DRAW.normal(15, 3, ROWS))
    assert [c.value for c in find_sentinels(np.where(TENTH, value, others)[:, None], str)] == [
        value
    ]
    wide = np.where(TENTH, value, np.abs(DRAW.normal(0, 30, ROWS)))
    assert find_sentinels(wide[:, None], str) == ()


def test_codes_at_both_ends_are_found():
    column = np.where(TENTH, -9999.0, np.where(np.arange(ROWS) % 10 == 4, 9999.0, NORMAL))
    assert [c.value for c in find_sentinels(column[:, None], str)] == [-9999.0, 9999.0]


@pytest.mark.parametrize("name", HEALTHY)
def test_an_ordinary_column_has_none(name):
    assert find_sentinels(HEALTHY[name][:, None], str) == ()


@pytest.mark.parametrize("value", [-9999.0, 99999.0, 0.0])
def test_the_column_is_named_as_the_table_has_it_and_accounts_for_the_rest(value):
    a, b = DRAW.normal(10, 0.3, 240).round(2) + 10, DRAW.integers(0, 5, 240)
    table = pd.DataFrame({"temp": a, "b": b, "y": 2 * a + b})
    table.loc[::10, "temp"] = value
    task, recipe = prepare(named_recipe("default").vary("data.target", ("y",)), table)
    found = {f.code: f for f in check_recipe(recipe, task, {}).findings}
    finding = found["RVN-D19"]
    assert (finding.where, finding.cause) == ("temp", "data-degenerate")
    assert finding.title == f"{value:g} stands for a gap in temp"
    assert "RVN-D17" not in found  # copies only by the value


@pytest.mark.parametrize("value", [1e10, 1e20, 9.96921e36, -(2.0**31), -9999.0])
@pytest.mark.parametrize("every", [10, 50])
def test_a_column_that_scaling_makes_equal_is_judged_as_it_was(value, every):
    temperature, other = DRAW.normal(10, 3, ROWS), DRAW.normal(size=ROWS)
    table = pd.DataFrame({"temp": temperature, "b": other, "y": 2 * temperature + other})
    table.loc[::every, "temp"] = value
    task, recipe = prepare(named_recipe("plain").vary("data.target", ("y",)), table)
    profile = check_recipe(recipe, task)
    assert "architecture-too-small" not in [f.cause for f in profile.findings]
    (finding,) = (f for f in profile.findings if f.code == "RVN-D19")
    rows, distance = finding.evidence
    spread = np.subtract(*np.quantile(table.temp[table.temp != value], (0.75, 0.25))) / 1.349
    assert (finding.where, rows.value) == ("temp", ROWS // every)
    assert distance.value * spread == pytest.approx(
        np.abs(table.temp[table.temp != value] - value).min()
    )


@pytest.mark.parametrize(("value", "text"), [(-9999.0, False), (1e20, False), (-9999, True)])
def test_a_target_s_code_is_told_with_its_rows(value, text):
    x = DRAW.normal(10, 3, ROWS)
    y = pd.Series(np.where(np.arange(ROWS) % 20 == 7, value, (2 * x).round(2)))
    table = pd.DataFrame({"x": x, "y": y.map("{:,.2f}".format) if text else y})
    task, recipe = prepare(named_recipe("plain").vary("data.target", ("y",)), table)
    (note,) = (note for note in task.notes if "spreads from all others" in note)
    assert note.startswith(f"The target y is {value:.6g} in 20 of 400 rows (7, 27, 47")
    found = check_recipe(recipe, task, {}).findings
    assert [f.where for f in found if f.code == "RVN-D19"] == ["y"]


@pytest.mark.parametrize("name", sorted(HEALTHY.keys() - {"constant", "gaps alone", "one far row"}))
def test_nothing_is_said_of_an_ordinary_target(name):
    table = pd.DataFrame({"x": DRAW.normal(size=ROWS), "y": HEALTHY[name] + 0.5})
    recipe = named_recipe("plain").vary("data.target", ("y",)).vary("data.task", "regression")
    assert not any("spreads from all others" in note for note in prepare(recipe, table)[0].notes)


def test_rows_with_a_code_are_not_compared_as_copies():
    x = torch.tensor(np.stack([np.where(TENTH, -9999, NORMAL), np.arange(ROWS) % 3], 1))
    found = run_rules(DATA_RULES, profile_data(x, torch.tensor(NORMAL)))[0]
    assert [f.code for f in found if f.severity == "warning"] == ["RVN-D19"]
    assert "RVN-D17" not in [f.code for f in found]


def test_a_network_that_cannot_tell_its_inputs_apart_is_not_called_too_small():
    about = {"title": "", "severity": "warning", "confidence": "high"}
    small = Finding(code="RVN-C03", cause="architecture-too-small", suspects=("loss",), **about)
    coded = Finding(code="RVN-D19", cause="data-degenerate", explains=("RVN-C03",), **about)
    first, second = inherit_causes([coded, small])
    assert first == coded
    assert (second.cause, second.severity, second.suspects) == ("data-degenerate", "note", ())
    assert inherit_causes([small]) == [small]


def signals(seed: int = 0) -> np.ndarray:
    """Four channels of their own units and 30 places of 200 examples: [N, T, C]."""
    walks = np.random.default_rng(seed).normal(size=(200, 30, 4)).cumsum(1)
    return walks * np.array([1.0, 30.0, 0.01, 200.0]) + np.array([0.0, 400.0, 1.0, -900.0])


def scattered(x: np.ndarray, share: float = 0.3) -> np.ndarray:
    return np.random.default_rng(5).random(x.shape) < share


@pytest.mark.parametrize("first", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("name", ["in all channels", "in one channel", "scaled with the rest"])
def test_a_gap_in_signals_is_found_in_either_layout(name, first):
    x, value = signals(), -9999.0
    holes = scattered(x)
    holes[:, :, 1:] &= name != "in one channel"
    x[holes] = value
    if name.startswith("scaled"):
        x, value = x / 1234.5 + 0.3, value / 1234.5 + 0.3
    (code,) = find_signal_sentinels(np.moveaxis(x, 1, 2) if first else x)
    assert code.value == pytest.approx(value) and code.rows >= 190


def padded(value: float, *, before: bool = False) -> np.ndarray:
    x = np.abs(signals())
    for row, length in enumerate(np.random.default_rng(6).integers(3, 31, 200)):
        x[row, slice(None, 30 - length) if before else slice(length, None)] = value
    return x


HEALTHY_SIGNALS = {
    "walks": signals,
    "padded with -1": lambda: padded(-1.0),
    "padded with -9999 from the start": lambda: padded(-9999.0, before=True),
    "padded with 0, then standardized": lambda: (padded(0.0) - 400) / np.arange(1.0, 5),
    "sparse counts": lambda: np.where(scattered(signals(), 0.8), 0, np.exp(signals()[..., :1])),
    "a flag among measurements": lambda: np.concatenate(
        [signals(), 500.0 * scattered(signals()[..., :1])], 2
    ),
    "a channel of one value": lambda: np.concatenate([signals(), np.full((200, 30, 1), 7e4)], 2),
    "clipped": lambda: np.clip(signals(), -300, 300),
    "rows of pictures, dark ones most": lambda: (
        np.clip(signals()[..., :1] @ np.ones((1, 9)), 0, 1) / 0.3 - 0.42
    ),
}


@pytest.mark.parametrize("first", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("name", HEALTHY_SIGNALS)
def test_nothing_is_said_of_ordinary_signals(name, first):
    x = HEALTHY_SIGNALS[name]()
    assert find_signal_sentinels(np.moveaxis(x, 1, 2) if first else x) == ()


def test_a_gap_in_signals_is_a_warning_and_in_a_target_of_numbers_a_note():
    x, y = signals(), NORMAL[:200].copy()
    x[scattered(x)], y[::9] = -999, -1
    found = run_rules(DATA_RULES, profile_data(torch.tensor(x), torch.tensor(y)))[0]
    coded = [(f.where, f.severity) for f in found if f.code == "RVN-D19"]
    assert coded == [("inputs", "warning"), ("target", "note")]
