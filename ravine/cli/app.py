"""The list of commands, how they are run, and the messages for mistakes.

stdout is the result, stderr the progress; `--json` prints one object of a versioned form. Exit
codes: 0 fine, 1 a check that failed, 2 wrong input, 3 every network diverged or an experiment
failed, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
"""

import inspect
import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence

import cyclopts

from ravine.cli import study, train
from ravine.cli.compare import compare_command
from ravine.cli.diagnose import check_command, doctor_command, explain_command
from ravine.cli.options import nearest_setting, option_value
from ravine.cli.output import print_json
from ravine.cli.runs import runs_command
from ravine.cli.signals import Stopped
from ravine.cli.streams import drop_output, has_no_reader
from ravine.cli.tune import tune_command
from ravine.errors import InputError, Interrupted, RavineError, memory_error, nearest, printable
from ravine.old_names import RENAMED_COMMANDS

COMMAND_FUNCTIONS: Mapping[str, Callable[..., int]] = {
    "train": train.train_command,
    "predict": train.predict_command,
    "show": train.show_command,
    "runs": runs_command,
    "recipes": train.recipes_command,
    "verify-resume": train.verify_resume_command,
    "check": check_command,
    "doctor": doctor_command,
    "explain": explain_command,
    "compare": compare_command,
    "range": study.range_command,
    "tune": tune_command,
    "ensemble": study.ensemble_command,
    "augment": study.augment_command,
    "gallery": study.gallery_command,
}


app = cyclopts.App(
    name="ravine",
    help="Trains neural networks with PyTorch, many at once, with honest scores.",
    version_flags=[],
)
for name, function in COMMAND_FUNCTIONS.items():
    app.command(function, name=name)


def run_command(arguments: list[str]) -> int:
    """Run a command; return its exit code."""
    as_json = "--json" in arguments
    if arguments and arguments[0] in RENAMED_COMMANDS:
        new = RENAMED_COMMANDS[arguments[0]]
        print(f"note: ravine {arguments[0]} is now ravine {new}", file=sys.stderr)
        arguments = [new, *arguments[1:]]
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except cyclopts.CycloptsError as error:
        if speaks():
            print_error(unknown_arguments(error, arguments), as_json=as_json)
        return 2
    except RavineError as error:
        if speaks(of_all=isinstance(error, Interrupted)):
            print_error(error, as_json=as_json)
        return error.exit_code
    except (KeyboardInterrupt, Stopped) as error:
        if speaks():
            print("interrupted", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)
    except MemoryError:
        print_error(memory_error(InputError, "the command broke off"), as_json=as_json)
        return InputError.exit_code
    except OSError as error:
        if error.errno is None:
            raise
        if has_no_reader(sys.stdout, error):
            drop_output(sys.stdout)
            return 0
        # what the operating system refuses is no fault of the program: permission, space, a name
        if error.filename is None:
            drop_output(sys.stdout)
        what = f"{error.filename} cannot be used" if error.filename else "output cannot be written"
        why = error.strerror or "the system refuses"
        do = "check its permissions and the free space, or name another place"
        print_error(InputError(what, why=why, do=do), as_json=as_json and bool(error.filename))
        return InputError.exit_code


def _run(arguments: list[str]) -> int:
    if any("\0" in argument for argument in arguments):
        raise InputError("an argument holds a NUL", why="no name can", do="leave it out")
    command = next(iter(arguments), "")
    if command != "train" and "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        why = "several processes share only the training of one recipe (ravine train)"
        do = "start it by itself: --workers trains in several processes, or on a cluster"
        raise InputError(f"ravine {command} does not run under torchrun", why=why, do=do)
    if not arguments:
        app.help_print([])
        return 0
    code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return code if isinstance(code, int) else 0


def speaks(*, of_all: bool = False) -> bool:
    """Whether this process says why it ends: of several ranks one, the first where all end so."""
    if "RANK" not in os.environ:
        return True
    from ravine.ranks import is_reporter, rank_and_count

    return rank_and_count()[0] == 0 if of_all else is_reporter()


def unknown_arguments(error: cyclopts.CycloptsError, arguments: Sequence[str]) -> InputError:
    """The error for arguments that no command takes, with the option or setting that was meant."""
    command = next((a for a in arguments if not a.startswith("-")), "")
    if command not in COMMAND_FUNCTIONS:
        why = nearest(command, COMMAND_FUNCTIONS)
        what = f"ravine has no command {command!r}" if command else "no command is named"
        return InputError(what, why=why)
    what, do = str(error).strip(), f"see ravine {command} --help"
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return InputError(f"{' '.join(error.unused_tokens or ())}: one argument too many", do=do)
    option = re.match(r"Unknown option: (-[-\w.]*\w)", what)
    if option and "options" in inspect.signature(COMMAND_FUNCTIONS[command]).parameters:
        path = nearest_setting(option[1].lstrip("-"))
        if path:
            why = f"{path} is a setting of the recipe"
            do = f"write --set {path}={option_value(option[1], arguments)}"
            return InputError(f"{command} has no option {option[1]}", why=why, do=do)
    return InputError(what.rstrip("."), do="" if "Did you mean" in what else do)


def print_error(error: RavineError, *, as_json: bool) -> None:
    """Print an error on stderr, and as an object on stdout where JSON is wanted."""
    text = str(error) if isinstance(error, Interrupted) else f"error: {error}"
    text = "\n".join(map(printable, text.split("\n")))
    if sys.stderr.isatty():
        width = min(shutil.get_terminal_size().columns, 80)
        text = textwrap.fill(
            text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    print(text, file=sys.stderr)
    if as_json:
        fields = {name: getattr(error, name, "") for name in ("what", "why", "do", "where")}
        print_json({"error": {**fields, "what": fields["what"] or str(error)}})
