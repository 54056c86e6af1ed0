"""Files that may not be read, and places that take nothing: one message, and never called damaged.

Tests often run as root, who may read everything: here `open` refuses by itself.
"""

import builtins
import errno
import gzip
import io
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch

from ravine import catalog, open_run, recipe_files, train
from ravine.cli import run_command
from ravine.data.streaming import row_groups_of
from ravine.errors import RecipeError
from ravine.networks.pretrained import read_tensors


@pytest.fixture
def forbid(monkeypatch):
    """Make files unreadable, as chmod 000 does for everyone but root."""
    allowed, forbidden = open, set()

    def refusing(file, *args, **options):
        if isinstance(file, (str, Path)) and Path(file) in forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return allowed(file, *args, **options)

    monkeypatch.setattr(builtins, "open", refusing)
    monkeypatch.setattr(io, "open", refusing)
    return lambda path: forbidden.add(Path(path))


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.jsonl", "t.parquet", "t.toml", "t-idx3-ubyte"]
)
def test_a_file_that_may_not_be_read_is_said_to_be_so(name, tmp_path, forbid, capsys):
    path, table = tmp_path / name, pd.DataFrame({"x": range(40), "y": range(40)})
    if name.endswith("parquet"):
        table.to_parquet(path)
    else:
        text = table.to_csv(index=False).encode()
        path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    forbid(path)
    assert (
        run_command(
            ["train", str(path), "--target", "y", "--quiet", "--out", str(tmp_path / "run")]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert f"error: {path} may not be read: its permissions" in said and "damaged" not in said


def test_streamed_rows_and_weights_that_may_not_be_read_are_not_called_damaged(tmp_path, forbid):
    pd.DataFrame({"x": range(40)}).to_parquet(tmp_path / "t.parquet")
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    for path, read in (
        (tmp_path / "t.parquet", row_groups_of),
        (tmp_path / "w.safetensors", read_tensors),
    ):
        read(path)
        forbid(path)
        with pytest.raises(ValueError, match="may not be read"):
            read(path)


@pytest.mark.parametrize(
    "name", ["record.json", "series.csv", "encoder.json", "weights.safetensors"]
)
def test_a_run_that_may_not_be_read_is_not_called_damaged(name, tmp_path, forbid):
    train(
        catalog.named_recipe("plain").vary("data.source", "iris").vary("epochs", 1),
        out=tmp_path / "run",
    )
    forbid(tmp_path / "run" / name)
    with pytest.raises(ValueError, match=f"{name} may not be read: its permissions"):
        open_run(tmp_path / "run")


def test_a_missing_recipe_still_does_not_exist(tmp_path):
    with pytest.raises(RecipeError, match="does not exist"):
        recipe_files.read_recipe(tmp_path / "r.toml")


def test_a_place_that_takes_no_files_is_named(tmp_path, monkeypatch, capsys):
    def full(self, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "mkdir", full)
    assert run_command(["train", "iris", "--out", str(tmp_path / "run"), "--quiet", "--json"]) == 2
    said = capsys.readouterr()
    assert "No space left on device" in said.err and '"error": {"what"' in said.out
