"""A table in blocks is the whole table, cut; predicting it so gives the same bits."""

import gzip

import numpy as np
import pandas as pd
import pytest
from drift_of_frames import describe_drift

from ravine import named_recipe, open_run, train
from ravine.cli import run_command
from ravine.data import Drift, csv_files, json_files, open_blocks, parquet_files, read_table
from ravine.data.parsing import texts_of
from ravine.errors import RavineError

RANDOM = np.random.default_rng(0)
ROWS = 47
MIXED = pd.DataFrame(
    {
        "whole": np.arange(ROWS),
        "part_late": [float(i) for i in range(ROWS - 1)] + [0.5],
        "gap_late": [str(i) for i in range(ROWS - 1)] + [""],
        "word_late": [str(i % 7) for i in range(ROWS - 1)] + ["x"],
        "word_early": ["1.50", *(["1.0"] * (ROWS - 2)), "none"],
        "yes": ["True"] * (ROWS - 1) + [""],
        "yes_or_two": ["True"] * (ROWS - 1) + ["2"],
        "code_late": [str(i + 10) for i in range(ROWS - 1)] + ["007"],
        "no_code": [str(i + 10) for i in range(ROWS - 2)] + ["1.0", "007"],
        "empty": [""] * ROWS,
        "empty_early": [""] * 20 + ["2"] * (ROWS - 20),
        "large": ["123456789012345678"] * (ROWS - 1) + [""],
    }
)


def read_at_once(rows, monkeypatch):
    """Have files read in blocks of so many rows."""
    for module, name in (
        (csv_files, "CSV_BLOCK_ROWS"),
        (json_files, "JSON_BLOCK_ROWS"),
        (parquet_files, "PARQUET_BLOCK_ROWS"),
    ):
        monkeypatch.setattr(module, name, rows)


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=len(frame) // 4, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(frame.to_csv(index=False, sep=";").encode()))
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".jsonl"])
@pytest.mark.parametrize("rows", [7, 100])
def test_blocks_hold_what_the_whole_table_holds(ending, rows, tmp_path, monkeypatch):
    read_at_once(5, monkeypatch)
    path = write(MIXED, tmp_path / f"t{ending}")
    whole = read_table(path)
    table = open_blocks(path, [])
    blocks = list(table.read(rows))
    assert table.rows == len(whole) == ROWS and list(table.columns) == list(whole)
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    assert [i for block in blocks for i in block.index] == list(range(ROWS))
    for name in whole:
        texts, codes = texts_of(whole[name])
        at_once = [texts[i] if i >= 0 else None for i in codes]
        found = []
        for block in blocks:
            texts, codes = texts_of(block[name])
            found += [texts[i] if i >= 0 else None for i in codes]
        assert found == at_once, name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has learned y from numbers, categories and a date; its folder."""
    folder = tmp_path_factory.mktemp("blocks") / "run"
    recipe = named_recipe("default").vary("data.target", ("y",)).vary("epochs", 1)
    train(recipe.vary("seeds", 2), rows_like(200), out=folder, workers=1)
    return folder


def rows_like(count, cities=("Ulm", "Bonn", "Rome")):
    x = RANDOM.normal(size=count).round(4)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(count) % 300, "D")
    columns = {"x": x, "city": RANDOM.choice(cities, count), "day": days.strftime("%Y-%m-%d")}
    return pd.DataFrame({**columns, "y": np.where(x > 0, "up", "down")})


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("identified", [True, False])
def test_predictions_in_blocks_are_those_at_once_bit_for_bit(
    run, ending, identified, tmp_path, capsys, monkeypatch
):
    new = rows_like(1500, ("Ulm", "Oslo", "Graz", "")).drop(columns="y")
    new["customer_id"] = [f"{i:05d}" for i in range(1500)] if identified else "same"
    new.loc[5, "x"], new.loc[1400, "x"] = 80.0, 90.0
    path = write(new, tmp_path / f"new{ending}")
    opened = open_run(run)
    at_once = opened.predict(new)
    monkeypatch.setattr("ravine.training.model.MIN_BLOCK_ROWS", 1)
    read_at_once(400, monkeypatch)
    assert opened.model.block_rows < 1200
    with pytest.warns(UserWarning) as warned:
        pd.testing.assert_frame_equal(opened.predict(path), at_once, check_exact=True)
    out = tmp_path / f"out{ending}"
    assert run_command(["predict", str(run), str(path), "-o", str(out)]) == 0
    said = capsys.readouterr().err.splitlines()
    drift = describe_drift(opened.model.encoder, new)
    assert [str(warning.message) for warning in warned] == drift
    assert said == [*drift, f"1,500 predictions in {out}"]
    found = read_table(out)
    assert list(found) == ["customer_id" if identified else "row", *at_once]
    assert found["y"].tolist() == at_once["y"].tolist()
    assert run_command(["predict", str(run), str(path)]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1501
    assert ending != ".csv" or printed == out.read_text()


def test_drift_adds_up_over_blocks(run):
    encoder = open_run(run).model.encoder
    new = rows_like(100, ("Ulm", "Oslo", "Graz")).drop(columns="y")
    new.loc[[3, 90], "x"] = [-50.0, 70.0]
    new.loc[[7, 80], "city"] = None
    new.loc[60, "day"] = "2090-01-01"
    drift = Drift(encoder)
    for at in range(0, 100, 9):
        drift.add(new[at : at + 9])
    assert drift.describe() == describe_drift(encoder, new) and len(drift.describe()) == 3


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_an_error_in_the_last_block_leaves_nothing(run, ending, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ravine.training.model.MIN_BLOCK_ROWS", 1)
    read_at_once(400, monkeypatch)
    new = rows_like(1200).drop(columns="y").astype({"x": object})
    new.loc[1190, "x"] = "not a number"
    path = write(new.astype({"x": str}), tmp_path / f"new{ending}")
    out = tmp_path / f"out{ending}"
    assert run_command(["predict", str(run), str(path), "-o", str(out)]) == 2
    assert "in row 1190" in capsys.readouterr().err
    assert run_command(["predict", str(run), str(path)]) == 2
    assert capsys.readouterr().out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    with pytest.raises(RavineError, match="in row 1190"):
        open_run(run).predict(path)
