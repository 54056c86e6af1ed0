"""Files that are no tables, or unpack to more than there is, are refused at once."""

import gzip
import os
import resource
import time
from pathlib import Path

import pytest

from ravine import memory
from ravine.cli import run_command
from ravine.data import read_table, text_files
from ravine.errors import DataError


@pytest.mark.parametrize("block", [b"\n" * 2**20, b"1,2\n" * 2**18, b" " * 2**20])
def test_a_gzip_file_that_unpacks_to_far_more_is_refused_early(block, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "BOMB_BYTES", 2**22)
    member = gzip.compress(8 * block)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"a,y\n") + 2000 * member)
    began = time.process_time()
    with pytest.raises(DataError, match="unpacks to too much"):
        read_table(tmp_path / "bomb.csv.gz")
    assert time.process_time() - began < 1  # of 16 GB


def test_tables_larger_than_memory_are_refused_with_a_way_out(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 1000)
    monkeypatch.setattr(text_files, "available_memory", lambda: 10_000)
    with pytest.raises(DataError, match="larger than memory.*Parquet"):
        read_table(tmp_path / "t.csv")


def test_the_memory_that_is_free_is_known():
    assert 10**8 < memory.available_memory() < 10**14


@pytest.mark.parametrize(("limit", "left"), [("8000", [3500]), ("max", []), (None, [])])
def test_files_in_the_cache_of_a_container_do_not_count_as_used(tmp_path, limit, left):
    (tmp_path / "memory.current").write_text("7000\n")
    (tmp_path / "memory.stat").write_text("anon 4500\ninactive_file 2000\nactive_file 500\n")
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert memory._left_in_container(tmp_path) == left


def test_what_ulimit_leaves_is_all_the_memory_there_is(monkeypatch):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 5 * 10**7, resource.RLIM_INFINITY))
    assert 0 <= text_files.available_memory() <= 5 * 10**7


@pytest.mark.parametrize("command", ["train", "check", "predict"])
def test_pipes_and_devices_are_refused_at_once(command, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "pipe.toml")
    names = ["/dev/zero", str(tmp_path / "pipe.csv")]
    names += [str(tmp_path / "pipe.toml")] if command != "predict" else []
    for name in names:
        if command == "predict":
            with pytest.raises(DataError, match="pipe or a device"):
                read_table(name)
        else:
            assert run_command([command, name, "--target", "y"]) == 2
            assert "pipe or a device" in capsys.readouterr().err
