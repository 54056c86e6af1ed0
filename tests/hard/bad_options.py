"""Every option and argument of every command with words of the wrong kind."""

import contextlib
import functools
import inspect
import io
import os
import shutil
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bad_values import Kind, bad_message

from ravine.cli import run_command
from ravine.cli.app import COMMAND_FUNCTIONS
from ravine.cli.options import RecipeOptions

WORDS: Mapping[str, str] = {
    "empty text": "",
    "a blank": " ",
    "a word": "words",
    "a long word": "x" * 5_000,
    "256 letters": "x" * 256,
    "control characters": "a\x1b[2Jb",
    "a line break": "a\nb",
    "a NUL": "a\0b",
    "not UTF-8": "a\udcffb",
    "an option": "--words",
    "zero": "0",
    "minus one": "-1",
    "half": "0.5",
    "nan": "nan",
    "infinity": "inf",
    "huge": "1e300",
    "2**63 - 1": str(2**63 - 1),
    "10**30": str(10**30),
    "5,000 digits": "9" * 5_000,
    "a list": "[1, 2]",
    "a table": '{name = "Adam"}',
    "an assignment": "epochs=words",
    "a deep path": "a." * 2_000 + "a=1",
    "deep brackets": "epochs=" + "[" * 2_000 + "]" * 2_000,
    "many digits": "epochs=" + "9" * 5_000,
    "many units": "network.hidden=[1000000000]",
    "many epochs": f"epochs={2**63 - 1}",
    "a missing file": "nowhere/t.csv",
    "a folder": "folder",
    "a FIFO": "fifo.csv",
    "a device": "/dev/zero",
    "no table": "noise.csv",
    "an empty file": "empty.csv",
    "a recipe nested deep": "deep.toml",
    "a recipe of nothing": "empty.toml",
    "no recipe": "noise.toml",
    "a link in a circle": "circle.csv",
}
TARGET = ("good.csv", "--target", "y")
QUICK = ("--set", "epochs=1")
# a right command line: places first, then options that the harness may give another value
RIGHT: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "train": (TARGET[:1], {"--target": "y", "--set": "epochs=1", "--seeds": "1", "--workers": "1"}),
    "predict": (("run", "good.csv"), {}),
    "show": (("run",), {}),
    "recipes": ((), {}),
    "verify-resume": (TARGET[:1], {"--target": "y", "--set": "epochs=1", "--kills": "1"}),
    "check": (TARGET[:1], {"--target": "y", "--set": "epochs=1"}),
    "doctor": (TARGET[:1], {"--target": "y", "--set": "epochs=1", "--no-trials": ""}),
    "explain": (("L01",), {}),
    "range": (
        TARGET[:1],
        {"--target": "y", "--set": "epochs=1", "--rates": "3", "--seeds": "1", "--steps": "10"},
    ),
    "tune": (
        TARGET[:1],
        {"--target": "y", "--set": "epochs=1", "--space": "optimizer.lr=[0.1]", "--budget": "1"},
    ),
    "ensemble": (
        TARGET[:1],
        {"--target": "y", "--set": "epochs=4", "--members": "2", "--repeats": "2"},
    ),
    "augment": (("digits",), {"--recipe": "image", "-o": "sheet.png", "--force": ""}),
    "gallery": ((), {}),
}
ENDINGS = {"predict": ".csv", "range": ".svg", "augment": ".png"}
NAMES = tuple("a blank,a word,control characters,a line break,zero,half,nan,infinity".split(","))
NAMES += ("huge", "2**63 - 1", "10**30", "a list", "a table", "an assignment", "many units")
NAMES += ("many epochs",)
FILES = (*NAMES, "not UTF-8", "an option", "minus one", "a folder", "a FIFO", "no table")
FILES += ("an empty file", "a recipe nested deep", "a recipe of nothing", "no recipe")
FILES += ("a link in a circle",)
# what is right all the same, by command and option (* for all)
MEANINGFUL: dict[tuple[str, str], tuple[str, ...]] = {
    ("train", "--out"): (*NAMES, "an option", "minus one", "a missing file", "a folder"),
    ("*", "--seed"): ("zero", "2**63 - 1"),
    ("train", "--workers"): ("2**63 - 1",),
    ("range", "--low"): ("half",),
    ("range", "--high"): ("half", "2**63 - 1", "10**30"),
    ("explain", "name"): ("empty text",),
    ("augment", "what"): ("empty text",),
}
for name in ENDINGS:
    MEANINGFUL |= {(name, "--out"): FILES}
for name in (
    "--baseline",
    "--check",
    "--quiet",
    "--json",
    "--fix",
    "--force",
    "--all",
    "--quick",
    "--trials",
):
    MEANINGFUL |= {("*", name): ("zero",)}  # a switch that is off


def prepare() -> None:
    """The files that command lines name, in the folder that is worked in."""
    rows = [f"{i % 7},{i % 5}.5,{'yes' if i % 3 else 'no'}" for i in range(60)]
    Path("good.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    Path("folder").mkdir()
    os.mkfifo("fifo.csv")
    for name in ("noise.csv", "noise.toml"):
        Path(name).write_bytes(bytes(range(256)) * 40)
    for name in ("empty.csv", "empty.toml"):
        Path(name).touch()
    Path("deep.toml").write_text("a = " + "[" * 3_000 + "]" * 3_000)
    os.symlink("circle.csv", "circle.csv")
    assert run_command(["train", *TARGET, *QUICK, "--seeds", "1", "--quiet", "-o", "run"]) == 0


def option_kinds() -> Iterator[Kind]:
    """A command line for each command, option and wrong word."""
    for command in COMMAND_FUNCTIONS:
        for option in options_of(command):
            for what, word in WORDS.items():
                line = command_line(command, option, word)
                allowed = [
                    *MEANINGFUL.get((command, option), ()),
                    *MEANINGFUL.get(("*", option), ()),
                ]
                yield Kind(
                    f"{command} {option} {what}",
                    functools.partial(say, line),
                    functools.partial(is_right, what in allowed),
                )


def options_of(command: str) -> list[str]:
    """The names of all arguments of a command: options with dashes, places without."""
    function, found = COMMAND_FUNCTIONS[command], []
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        if hints[parameter.name] is RecipeOptions:
            found += ["--target", "--set", "--recipe"]
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            found.append(parameter.name)
        else:
            found.append(f"--{parameter.name.strip('_').replace('_', '-')}")
    return found


def command_line(command: str, option: str, word: str) -> list[str]:
    places, right = RIGHT[command]
    names = [n for n in options_of(command) if not n.startswith("-")]
    given = dict(zip(names, places, strict=False))
    rest = {name: value for name, value in right.items()}
    if option in names:
        given[option] = word
        return [command, *given.values(), *flat(rest)]
    if option == "--out":
        rest.pop("-o", None)
        word += "" if command not in ENDINGS or not word else ENDINGS[command]
    if option != "--set":
        rest.pop(option, None)
    return [command, *given.values(), *flat(rest), f"{option}={word}"]


def flat(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (name, value) if word]


def say(line: list[str]) -> tuple[int, str]:
    """The exit code of a command line, and what it says: all of it on stderr, or what is wrong."""
    out, error = io.StringIO(), io.StringIO()
    before = set(Path().iterdir())
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = run_command(line)
    for made in {*Path().iterdir(), *Path("folder").iterdir()} - before:
        remove(made)
    text = error.getvalue()
    if any(sign in out.getvalue() + text for sign in ("\x1b", "\0", "Traceback")):
        raise AssertionError(f"a terminal obeys: {out.getvalue()[-200:]!r} {text[-200:]!r}")
    if code == 2:
        message = text[text.find("error: ") :]
        wrong = bad_message(message) or ("" if text.count("error: ") == 1 else f"no error: {text}")
        if wrong:
            raise AssertionError(wrong)
    return code, text


def remove(made: Path) -> None:
    if made.is_dir():
        shutil.rmtree(made)
    else:
        made.unlink()


def is_right(allowed: bool, found: Any) -> bool:
    return found[0] == 2 or (allowed and found[0] in (0, 1, 3))
