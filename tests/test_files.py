"""Files are written as a whole or not at all, and named by paths that last."""

import os

import pytest

from ravine.errors import DataError, InputError, RunError
from ravine.files import check_readable, lasting_path, require_path, write_atomically


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


def test_a_path_is_relative_near_the_folder_and_names_the_same_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "b.csv").touch()
    assert lasting_path("a/b.csv", "a") == "b.csv"
    assert lasting_path("a/b.csv") == str(tmp_path / "a" / "b.csv")
    assert lasting_path("b.csv", "c/d/e") == str(tmp_path / "b.csv")
    assert lasting_path("b.csv", "c/d") == "../../b.csv"
    # from a link .. leads to where the folder is, as the system reads it
    assert lasting_path("b.csv", "runs") == "../../b.csv"
    assert (tmp_path / "runs" / "../../b.csv").exists()
    assert lasting_path("b.csv", "runs/a") == str(tmp_path / "b.csv")


def test_a_users_own_part_file_and_what_a_link_names_are_left_alone(tmp_path):
    victim, own = tmp_path / "victim", tmp_path / "q.csv.part"
    victim.write_text("precious")
    own.write_text("mine")
    (tmp_path / "r.csv.part").symlink_to(victim)
    (tmp_path / "link.csv").symlink_to(victim)
    for name in ("q.csv", "r.csv", "link.csv"):
        write_atomically(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new" and not (tmp_path / name).is_symlink()
    assert victim.read_text() == "precious" and own.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 6


def test_names_that_are_taken_are_never_opened(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".ravine-0").symlink_to(victim)
    monkeypatch.setattr("ravine.files.secrets.token_hex", lambda _: "0")  # a name that was guessed
    with pytest.raises(RunError, match="new.csv cannot be written"):
        write_atomically(tmp_path / "new.csv", b"new")
    assert victim.read_text() == "precious" and (tmp_path / ".ravine-0").is_symlink()


def test_a_message_names_the_file_that_was_meant_and_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("ravine.files.os.fsync", lambda _: os.write(os.open("/dev/full", 1), b"x"))
    with pytest.raises(RunError, match="out.csv cannot be written.*Free disk space, then try") as e:
        write_atomically(tmp_path / "out.csv", b"new")
    assert ".ravine" not in str(e.value) and not list(tmp_path.iterdir())
    (tmp_path / "plan.json").touch()
    with pytest.raises(RunError, match="--resume"):
        write_atomically(tmp_path / "checkpoint", b"new")


def test_a_pipe_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/tty"):
        with pytest.raises(DataError, match="is not a file|may not be read"):
            check_readable(path)


@pytest.mark.parametrize("given", [None, 3, b"run", "a\0b", "x" * 300, "x/" * 3000])
def test_what_can_be_no_path_is_refused(given):
    with pytest.raises(InputError, match="the run's folder"):
        require_path(given, "the run's folder")
