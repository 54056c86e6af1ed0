"""What can go wrong, drawn as a tree; every message says what, why, and what to do.

    RavineError
    ├── InputError           something the user gave is wrong            exit code 2
    │   ├── RecipeError      a recipe file, a setting, a combination of settings
    │   ├── DataError        a table, a column, a folder of examples
    │   └── RunError         a run folder: missing, damaged, written by a newer version
    └── Interrupted          stopped by the user, checkpoint written     exit code 130

A run that diverges is not an error: it is an event in its record.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

# control, separators of lines, signs that turn the direction of writing, halves of pairs
CONTROL_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

MAX_WORD = 160  # letters of a word in a message: of a longer one the middle is left out
MAX_LISTED = 360  # letters of a list of names in a message
LONG_WORD = re.compile(rf"\S{{{MAX_WORD + 1},}}")
# of these a value can be shown; others by their class
SHOWN_TYPES = (str, bytes, int, float, complex, list, tuple, dict, set, PurePath, type(None))


class RavineError(Exception):
    """Anything Ravine raises on purpose."""

    exit_code = 1


class InputError(RavineError, ValueError):
    """Something the user gave is wrong.

    `what` was given, `why` it cannot be used, what to `do` about it (an imperative), and `where` it
    is (`recipe.toml:12`).

    >>> print(InputError("lr is -1", why="a learning rate is at least 0", do="use 0.1",
    ...                  where="r.toml:3"))
    r.toml:3: lr is -1: a learning rate is at least 0. Use 0.1.
    """

    exit_code = 2

    def __init__(self, what: str, *, why: str = "", do: str = "", where: str = ""):
        super().__init__(what)
        self.what, self.why, self.do, self.where = what, why, do, where

    def __str__(self) -> str:
        text = f"{self.where}: " if self.where else ""
        text += self.what + (f": {self.why}" if self.why else "")
        if self.do:
            stop = "" if text.endswith((".", "?")) else "."
            text = f"{text}{stop} {self.do[0].upper()}{self.do[1:]}."
        return LONG_WORD.sub(lambda found: shorten(found[0], MAX_WORD), printable(text))

    # keyword-only arguments, and attributes added since, come back from a worker process
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what,), self.__dict__


class RecipeError(InputError):
    """A recipe file, a setting or a combination of settings is wrong."""

    path: str  # of the setting in the recipe, set where plain data are read


class DataError(InputError):
    """A table, a column or a folder of examples is wrong."""


class RunError(InputError):
    """A run folder is missing, damaged, or written by a newer version."""


class Interrupted(RavineError):
    """Stopped by the user; what was done so far is in the run's checkpoint."""

    exit_code = 130


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choices, and the one that was probably meant: by its letters, its like, its initials.

    >>> nearest("wieght", ["bias", "weight"])
    "there are bias, weight. Did you mean 'weight'?"
    >>> nearest("learning_rate", ["lr", "momentum"])
    "there are lr, momentum. Did you mean 'lr'?"
    """
    choices = sorted(choices)
    lists = [join_first(choices, most) for most in (30, 10, 3, 1)]
    listed = next((names for names in lists if len(names) <= MAX_LISTED), lists[-1])
    by_folded = {fold_name(c): c for c in choices}
    wanted = fold_name(name)
    close = difflib.get_close_matches(wanted, by_folded, n=5, cutoff=0.5)
    # of those with equally few mistakes the first, which is the most similar
    close = sorted(close, key=lambda c: _mistakes(wanted, c))[:1]
    close = close or [c for c in by_folded if wanted and c and (wanted in c or c in wanted)][:1]
    initials = "".join(word[0] for word in re.split(r"[\W_]+", name.lower()) if word)
    close = close or [c for c in by_folded if c == initials]
    guess = f" Did you mean {by_folded[close[0]]!r}?" if close else ""
    return (f"there are {listed}." if choices else "there are none.") + guess


def _mistakes(given: str, meant: str) -> int:
    """How many letters too many, too few, replaced or exchanged separate two words (Damerau 1964).

    >>> _mistakes("adma", "adam"), _mistakes("adma", "adamax")
    (1, 2)
    """
    before: list[int] = []
    above = list(range(len(meant) + 1))
    for i, letter in enumerate(given):
        row = [i + 1]
        for j, other in enumerate(meant):
            row.append(min(above[j + 1] + 1, row[j] + 1, above[j] + (letter != other)))
            if i and j and letter == meant[j - 1] and given[i - 1] == other:
                row[-1] = min(row[-1], before[j - 1] + 1)
        before, above = above, row
    return above[-1]


def join_first(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are.

    >>> join_first("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def printable(text: str) -> str:
    r"""A text that a terminal shows and does not obey: control characters, signs that turn the
    direction of writing, and halves of surrogate pairs are written out.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return CONTROL_CHARACTERS.sub(lambda found: ascii(found[0])[1:-1], text)


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says, as it is printed, else its type."""
    text = str(error).strip()
    return printable(text.splitlines()[0]) if text else type(error).__name__


def typed_message(error: BaseException) -> str:
    """What an error in a user's code says, after its type: at most 300 letters."""
    return f"{type(error).__name__}: {error}"[:300]


@contextmanager
def wrap_errors(
    kind: type[InputError], what: str, do: str = "", *, why: Callable[[Exception], str] = first_line
) -> Iterator[None]:
    """Raise an error of a kind for what foreign code raises inside; Ravine's own errors pass.

    A want of memory says so: nothing need be wrong with what was given.
    """
    try:
        yield
    except RavineError:
        raise
    except MemoryError as error:
        raise memory_error(kind, what) from error
    except Exception as error:
        raise kind(what, why=why(error), do=do) from error


def memory_error(kind: type[InputError], what: str) -> InputError:
    """What to say where memory is lacking: nothing need be wrong with what was given."""
    return kind(what, why="there is not enough memory", do="free some, or use less")


def value_text(value: object, most: int = 60) -> str:
    """A value as messages show it, in at most `most` letters; an object by its class.

    >>> value_text("x"), value_text([1, 2]), value_text(object()), value_text(dict)
    ("'x'", '[1, 2]', 'an object', 'the class dict')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    text = f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    if isinstance(value, SHOWN_TYPES) or dataclasses.is_dataclass(value):
        try:
            long = repr(str(value) if isinstance(value, PurePath) else value)
            text = text if " at 0x" in long or "\n" in long else long
        except (ValueError, RecursionError):  # a number of thousands of digits; nested too deep
            pass
    return shorten(text, most)


def shorten(text: str, most: int = 60) -> str:
    """A text of at most `most` characters; of a longer one the middle is left out.

    >>> shorten("abcdefghijklmnopqrst", 15)
    'abcdefg ... rst'
    """
    tail = (most - 5) // 3
    return text if len(text) <= most else f"{text[: most - 5 - tail]} ... {text[-tail:]}"


def fold_name(name: str) -> str:
    """A name without the differences that do not count: case, hyphens, underscores."""
    return name.lower().replace("_", "").replace("-", "")
