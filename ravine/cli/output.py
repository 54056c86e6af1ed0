"""What commands print and write: JSON objects, marked text, live lines, files."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ravine.errors import InputError, printable
from ravine.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ravine.finding import Report

FIGURE_ENDINGS = (".svg", ".png", ".pdf")


def print_json(fields: Mapping[str, Any]) -> None:
    """Print one object of the versioned form; numbers that are not finite become null."""
    from ravine.record import RECORD_SCHEMA, finite_json

    print(json.dumps(finite_json({"schema": RECORD_SCHEMA, **fields})))


def echo(text: str, *, file: TextIO | None = None) -> None:
    """Print a text that may hold names from elsewhere, each line as `printable` has it."""
    print("\n".join(map(printable, text.split("\n"))), file=file or sys.stdout, flush=True)


def print_result(result: Any, *, as_json: bool) -> None:
    """Print the result of a study as an object, or its summary."""
    if as_json:
        print_json(result.to_json())
    else:
        echo(result.summary())


def print_report(report: Report, *, as_json: bool, fail_on: str) -> int:
    """Print a report; the exit code says whether it has findings at or above a severity."""
    from ravine.finding import SEVERITY_LEVELS
    from ravine.reporting.findings_text import findings_text

    if as_json:
        print_json(report.to_json())
    else:
        print(findings_text(report, **text_style(sys.stdout)))
    failing = SEVERITY_LEVELS[: SEVERITY_LEVELS.index(fail_on) + 1]
    return 1 if any(f.severity in failing for f in report.findings) else 0


def text_style(stream: TextIO) -> dict[str, bool]:
    """How to mark findings on a stream: in color on a terminal that has it, in ASCII if it must."""
    dumb = os.environ.get("TERM") == "dumb"
    color = stream.isatty() and not dumb and not os.environ.get("NO_COLOR")
    return {"color": color, "plain": dumb or "utf" not in (stream.encoding or "").lower()}


@contextmanager
def live_line(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that prints progress on stderr: one live line on a terminal, else many."""
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def say(line: str) -> None:
        if not quiet:
            line = printable(line)
            text, end = (f"\r\x1b[2K{line}", "") if live else (line, "\n")
            print(text, end=end, file=sys.stderr, flush=True)

    try:
        yield say
    finally:
        if live and not quiet:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def check_writable(out: Path | None, *, force: bool, endings: tuple[str, ...], what: str) -> None:
    """Raise `InputError` unless a result (`what`) can be written to `out`, if that is given."""
    if out is None:
        return
    if out.suffix.lower() not in endings:
        known = f"{', '.join(endings[:-1])} or {endings[-1]}" if endings[1:] else endings[0]
        do = f"write {out.parent / (out.stem or what)}{endings[0]}"
        raise InputError(f"{out} has no known ending", why=f"{what} are {known}", do=do)
    if out.exists() and not force:
        why, do = "existing files are kept", "name another file, or add --force"
        raise InputError(f"{out} already exists", why=why, do=do)
    if not out.parent.is_dir():
        why = f"the {what} are written there"
        raise InputError(f"{out.parent} is not a folder", why=why, do="create it first")


def write_figure(figure: Figure, out: Path) -> None:
    """Write a figure in the format that its file's ending says."""
    from ravine.reporting.plot_style import svg

    if out.suffix.lower() == ".svg":
        write_atomically(out, svg(figure, title=printable(out.stem)).encode())
        return
    buffer = io.BytesIO()
    figure.savefig(buffer, format=out.suffix.lower()[1:], dpi=150)
    write_atomically(out, buffer.getvalue())
