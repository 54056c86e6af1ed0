"""Claims about texts of digits that are names: they stay apart, and it is said."""

import numpy as np
import pandas as pd
import pytest

from ravine.data import Data, Encoder, Encoding, Random, load
from ravine.data.codes import find_code
from ravine.data.column_encoders import Codes, OneHot
from ravine.data.column_types import infer_column_types
from ravine.data.tables import open_blocks

CODES = {
    "zeros before them": ["01234", "10115", "80331"],
    "E between digits": ["1E1", "2E3", "9E5", "3e7"],
    "E among hex": ["12e4", "4711", "9823", "a3f1"],
    "18 digits": ["123456789012345678", "123456789012345679", "123456789012345681"],
    "versions": ["1.9", "1.10", "1.11", "2.0"],
    "NACE": ["01.10", "01.1", "10.10", "01.11"],
    "Dewey": ["005.1", "510.2", "005.10"],
    "chapters": ["01", "01.1", "12.2", "12"],
    "versions once more": ["3.8", "3.9", "3.10", "3.12"],
}
NUMBERS = {
    "scientific": ["1e-3", "2.5e4", "3e+5"],
    "powers of ten": ["1e3", "1e4", "1e5"],
    "money": ["1.50", "2.10", "0.99"],
    "decimals with zeros": ["1.5", "1.05", "2.10"],
    "whole and not": ["1", "2.5", "3.10"],
    "shares": ["0.5", "0.10", "0.05", "0"],
    "one price twice": ["1.5", "1.50", "0.99"],
    "below zero, of one width": ["-01.50", "00.25", "02.00"],
    "15 digits": ["123456789012345", "123456789012346"],
}


@pytest.mark.parametrize("name", CODES)
def test_codes_are_categories_and_said(name):
    notes: list[str] = []
    frame = pd.DataFrame({"v": CODES[name] * 30})
    assert infer_column_types(frame, rows=120, notes=notes)[0][0].kind == "category"
    assert len(notes) == 1 and "set data.numbers = ['v']" in notes[0]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_none(name):
    assert find_code(NUMBERS[name]) == ("", "")


def test_measurements_of_one_width_and_times_of_day_are_numbers():
    rng = np.random.default_rng(0)
    padded = [f"{x:06.2f}" for x in rng.uniform(0, 200, 120)]
    minutes = [f"{h:02d}.30" for h in rng.integers(0, 24, 120)]
    frame = pd.DataFrame({"level": padded, "start time": minutes})
    used, dropped = infer_column_types(frame, rows=120)
    assert [u.kind for u in used] == ["number", "number"] and dropped == []


@pytest.mark.parametrize("dtype", [np.int64, object, str])
def test_whole_numbers_beyond_float64_stay_apart(dtype):
    v = np.array([10**17 + i % 3 for i in range(120)]).astype(dtype)
    used, _ = infer_column_types(pd.DataFrame({"account": v}), rows=120)
    assert used[0].kind == "category"
    distinct = np.array([10**17 + i for i in range(120)]).astype(dtype)
    assert infer_column_types(pd.DataFrame({"account": distinct}), rows=120)[1]
    moments = np.array([10**18 + 10**9 * (i % 30) for i in range(120)]).astype(dtype)
    assert infer_column_types(pd.DataFrame({"time": moments}), rows=120)[0][0].kind == "number"


@pytest.mark.parametrize("name", CODES)
def test_codes_survive_a_file_and_are_known_in_a_new_one(name, tmp_path):
    codes = CODES[name] * 30
    y = np.arange(len(codes)) % len(CODES[name]) + 0.5 * np.sin(np.arange(len(codes)))
    frame = pd.DataFrame({"v": codes, "x": np.cos(np.arange(len(codes))), "y": y})
    path = tmp_path / "codes.csv"
    frame.to_csv(path, index=False)
    encoder = load(Data(source=str(path), target=("y",)), Random(), Encoding(), seed=0).encoder
    assert isinstance(encoder, Encoder)
    (column,) = [c for c in encoder.column_encoders if c.name == "v"]
    assert isinstance(column, OneHot | Codes) and set(column.levels) == set(CODES[name])
    new = tmp_path / "new.csv"
    for code in CODES[name]:
        new.write_text(f"v,x\n{code},0.5\n")
        (block,) = open_blocks(new, [], encoder.known_columns).read(100)
        assert block["v"].tolist() == [code]
