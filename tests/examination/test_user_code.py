"""What somebody's code raises becomes one kind of error."""

import pytest

from ravine.errors import InputError
from ravine.examination.user_code import UserCodeError, run_user_code


def test_whatever_is_raised_is_named_in_one_line_and_kept_as_the_cause():
    def break_off():
        raise KeyError("x" * 1000)

    with pytest.raises(UserCodeError, match="^KeyError: 'x") as raised:
        run_user_code(break_off)
    assert len(str(raised.value)) == 300 and isinstance(raised.value.__cause__, KeyError)
    assert run_user_code(lambda: 3) == 3


def test_an_error_that_already_says_what_to_do_passes():
    def refuse():
        raise InputError("no examples", why="the inputs are empty", do="give some")

    with pytest.raises(InputError, match="no examples"):
        run_user_code(refuse)
