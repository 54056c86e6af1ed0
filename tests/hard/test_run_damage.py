"""Damaged folders: one bit or digit changed in a finished run, files changed in any way.

`python -m pytest -m slow -n 0 tests/hard/test_run_damage.py`; damages are drawn from RAVINE_SEED.
"""

import contextlib
import json
import os
import random
import shutil

import numpy as np
import pandas as pd
import pytest

from ravine.cli import run_command

# numbers that a damaged encoder makes overflow are warned of as any others
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
SEED = int(os.environ.get("RAVINE_SEED", "0"))
FILES = ("weights.safetensors", "encoder.json", "plan.json", "series.csv", "record.json")
VALUES = (None, True, -1, 0, 1e308, 10**9, 2**63, "x", "\ud800", [], {}, [[]], {"name": "Mlp"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on numbers, categories, dates and gaps, and its table."""
    folder, draw = tmp_path_factory.mktemp("finished"), np.random.default_rng(0)
    x = draw.normal(size=(120, 2))
    table = pd.DataFrame(x, columns=["a", "b"])
    table["city"] = draw.choice([f"c{i}" for i in range(15)], 120)
    table["day"] = pd.date_range("2021-01-01", periods=120).astype(str)
    table["color"] = draw.choice(["red", "green"], 120)
    table.loc[::9, "a"] = np.nan
    table["y"] = np.where(x.sum(1) > 0, "yes", "no")
    table.to_csv(folder / "t.csv", index=False)
    command = "--target y --seeds 2 --set epochs=3 --no-check --quiet"
    train = ["train", str(folder / "t.csv"), *command.split(), "-o", str(folder / "r")]
    assert run_command(train) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "c") / "r"


def use(run, capfd):
    """The exit codes of opening a run in two ways, and what is said."""
    capfd.readouterr()
    table = str(run.parent / "t.csv")
    codes = [run_command(["show", str(run)]), run_command(["predict", str(run), table])]
    return codes, capfd.readouterr()


@pytest.mark.parametrize("name", FILES)
def test_a_bit_or_digit_changed_is_refused_or_changes_nothing(copy, capfd, name):
    codes, before = use(copy, capfd)
    assert codes == [0, 0]
    whole, draw = (copy / name).read_bytes(), random.Random(f"{SEED}{name}")
    digits = [i for i, byte in enumerate(whole) if chr(byte).isdigit()]
    refused = 0
    for attempt in range(24):
        data = bytearray(whole)
        if attempt % 2 and not name.endswith("safetensors"):
            place = draw.choice(digits)
            data[place] = ord(draw.choice([d for d in "0123456789" if d != chr(data[place])]))
        else:
            place = draw.randrange(len(data))
            data[place] ^= 1 << draw.randrange(8)
        (copy / name).write_bytes(data)
        codes, said = use(copy, capfd)
        if codes == [2, 2]:
            assert said.err.count("error: ") == 2 and name in said.err
            refused += 1
        else:
            assert (codes, said.out) == ([0, 0], before.out), (place, whole[place - 9 : place + 9])
    assert refused >= 20


def change_bytes(data, draw):
    a, b = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    b = min(b, a + draw.choice([1, 8, 200, len(data)]))
    return draw.choice(
        [
            data[:a] + data[b:],
            data[:a],
            b"",
            data[:b] + data[a:],
            data[:a] + draw.randbytes(b - a) + data[b:],
            data[:a] + b"\x00\xff[{" + data[a:],
        ]
    )


def change_json(plain, draw):
    """Plain data in which one value, at any depth, is another or gone."""
    places = []

    def visit(value):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                visit(value[key])

    visit(plain)
    holder, key = draw.choice(places)
    if draw.random() < 0.3:
        del holder[key]
    else:
        holder[key] = draw.choice(VALUES)
    return plain


def without_digests(run):
    """Make a run one of an earlier version, whose files only their readers check."""
    for name in ("record.json", "plan.json"):
        plain = json.loads((run / name).read_text())
        plain = {k: v for k, v in plain.items() if k not in ("digest", "digests")}
        (run / name).write_text(json.dumps(plain))


@pytest.mark.parametrize("attempt", range(260))
def test_a_fuzzed_folder_is_harmless_or_refused(copy, capfd, attempt):
    draw = random.Random(f"{SEED}/{attempt}")
    if attempt % 2:
        without_digests(copy)
    unfinished = attempt % 5 == 0
    if unfinished:
        (copy / "record.json").unlink()
    name = draw.choice(["plan.json", "recipe.toml"] if unfinished else FILES)
    data = (copy / name).read_bytes()
    if name.endswith("json") and draw.random() < 0.6:
        changed = json.dumps(change_json(json.loads(data), draw)).encode()
    else:
        changed = change_bytes(data, draw)
    (copy / name).write_bytes(changed)
    if unfinished:
        codes = [run_command(["train", "--resume", str(copy), "--quiet"])]
        said = capfd.readouterr()
    else:
        codes, said = use(copy, capfd)
    assert set(codes) <= {0, 2, 3} and said.err.count("error: ") == codes.count(2), said.err
    assert "Traceback" not in said.err
    with contextlib.suppress(FileNotFoundError):
        assert not list(copy.glob(".ravine*"))
