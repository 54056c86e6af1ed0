"""Files are written as a whole or not at all, and named by paths that last."""

import pytest

from ravine.errors import DataError, RunError
from ravine.files import check_readable, lasting_path, write_atomically


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ravine.files.os.replace", refuse)
    with pytest.raises(RunError, match="Free disk space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_missing_is_left_to_its_reader(tmp_path):
    check_readable(tmp_path / "nothing.csv", DataError)
    check_readable(tmp_path, DataError)


def test_a_path_is_relative_only_inside_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lasting_path("a/b.csv", "a") == "b.csv"
    assert lasting_path("a/b.csv") == lasting_path("a/b.csv", "c") == str(tmp_path / "a" / "b.csv")
