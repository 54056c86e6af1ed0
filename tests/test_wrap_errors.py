"""What somebody's code raises becomes one kind of error."""

import pytest

from ravine.errors import InputError, typed_message, wrap_errors


def test_whatever_is_raised_is_named_in_one_line_and_kept_as_the_cause():
    with pytest.raises(InputError, match="it breaks off: KeyError: 'x") as raised:
        with wrap_errors(InputError, "it breaks off", "mend it", why=typed_message):
            raise KeyError("x" * 1000)
    assert len(str(raised.value)) < 360 and isinstance(raised.value.__cause__, KeyError)
    with wrap_errors(InputError, "it breaks off", "mend it", why=typed_message):
        assert len("nothing is raised") == 17


def test_an_error_that_already_says_what_to_do_passes():
    with pytest.raises(InputError, match="no examples"):
        with wrap_errors(InputError, "it breaks off", "mend it", why=typed_message):
            raise InputError("no examples", why="the inputs are empty", do="give some")


def test_a_want_of_memory_is_not_called_damage():
    with pytest.raises(InputError, match="not enough memory") as caught:
        with wrap_errors(InputError, "t.parquet cannot be read", "write or copy it again"):
            raise MemoryError
    assert "copy it again" not in str(caught.value)
