"""What somebody's code raises becomes one kind of error."""

import pyarrow as pa
import pytest

from ravine.cli import run_command
from ravine.errors import DataError, InputError, RavineError, typed_message, wrap_errors
from ravine.record import check_contents


def test_whatever_is_raised_is_named_in_one_line_and_kept_as_the_cause():
    with pytest.raises(InputError, match="it breaks off: KeyError: 'x") as raised:
        with wrap_errors(InputError, "it breaks off", "mend it", why=typed_message):
            raise KeyError("x" * 1000)
    assert len(str(raised.value)) < 360 and isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_process_passes(error):
    with pytest.raises(error):
        with wrap_errors(InputError, "it breaks off", "mend it"):
            raise error


@pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc failed")])
def test_a_lack_of_memory_is_not_called_damage(error, tmp_path):
    for guard in (
        wrap_errors(DataError, "it breaks off", "save it again"),
        check_contents(tmp_path),
    ):
        with pytest.raises(RavineError, match="not enough memory. Free some") as raised:
            with guard:
                raise error
        assert "damaged" not in str(raised.value) and "save" not in str(raised.value)


def test_a_command_without_memory_ends_in_one_message(monkeypatch, capsys):
    def lack(*_):
        raise MemoryError("Unable to allocate 5 GiB")

    monkeypatch.setattr("ravine.cli.app._run", lack)
    assert run_command(["train", "iris"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the command broke off: there is not enough memory")


def test_an_error_that_already_says_what_to_do_passes():
    with pytest.raises(InputError, match="no examples"):
        with wrap_errors(InputError, "it breaks off", "mend it", why=typed_message):
            raise InputError("no examples", why="the inputs are empty", do="give some")
