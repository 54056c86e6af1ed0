"""`ravine predict` takes no more memory for many rows, and each row has the bits it has alone.

`python -m pytest -m slow -n 0 tests/hard/test_predict_memory.py`
"""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ravine import named_recipe, train

pytestmark = pytest.mark.slow
ROWS, COPIES = 2003, 250  # 500,750 rows, cut elsewhere than in blocks of any usual size
MOST_BYTES = 0.8e9
# prints the greatest memory that the process had, in kB
PREDICT = """
import sys
from ravine.cli import run_command
code = run_command(sys.argv[1:])
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
sys.exit(code)
"""


@pytest.fixture(scope="module")
def rows():
    """A table of eleven columns."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 7)).round(4)
    columns = {f"x{i}": x[:, i] for i in range(7)}
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, ROWS), "D")
    columns |= {"day": days.strftime("%d.%m.%Y"), "city": random.choice(["Ulm", "Bonn", ""], ROWS)}
    columns |= {"price": [f"{v:,.2f} EUR" for v in random.uniform(900, 9000, ROWS)]}
    columns |= {"kind": random.choice([f"k{i}" for i in range(40)], ROWS)}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def run(rows, tmp_path_factory):
    """The folder of a run that has learned from the rows."""
    folder = tmp_path_factory.mktemp("memory") / "run"
    recipe = named_recipe("default").vary("data.target", ("y",)).vary("epochs", 1)
    train(recipe.vary("seeds", 2), rows.assign(y=rows["x0"] + 0.1), out=folder, workers=1)
    return folder


@pytest.mark.parametrize("interval", [(), ("--interval", "0.9")], ids=["", "interval"])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_half_a_million_rows_fit_in_little_memory_with_equal_bits(
    ending, interval, run, rows, tmp_path
):
    small, large = tmp_path / f"small{ending}", tmp_path / f"large{ending}"
    write_copies(rows, small, 1)
    write_copies(rows, large, COPIES)
    one, _ = predict(run, small, tmp_path / "one.csv", interval)
    many, peak = predict(run, large, tmp_path / "many.csv", interval)
    print(f"{ending} {interval}: {peak / 1e9:.2f} GB")
    assert len(many) == COPIES * len(one) == COPIES * ROWS
    assert many["row"].tolist() == list(range(COPIES * ROWS))
    assert one.columns[1:].tolist() == (["y", "y low", "y high"] if interval else ["y"])
    for name in one.columns[1:]:
        assert (many[name].to_numpy().reshape(COPIES, ROWS) == one[name].to_numpy()).all(), name
    assert peak <= MOST_BYTES


def write_copies(rows, path, copies):
    """The rows so many times one below the other."""
    if path.suffix == ".parquet":
        table = pa.Table.from_pandas(rows, preserve_index=False)
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(copies):
                writer.write_table(table)
        return
    is_csv = path.suffix == ".csv"
    text = rows.to_csv(index=False) if is_csv else rows.to_json(orient="records", lines=True)
    header, body = text.split("\n", 1) if is_csv else ("", text)
    with open(path, "w") as file:
        file.write(header + "\n" * is_csv)
        for _ in range(copies):
            file.write(body)


def predict(run, path, out, interval):
    """The predictions as they are written, and the greatest memory in bytes."""
    command = ["predict", str(run), str(path), "-o", str(out), *interval]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, *command], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out, dtype=str).astype({"row": int})
    return table, 1024 * int(done.stdout.split()[-1])
