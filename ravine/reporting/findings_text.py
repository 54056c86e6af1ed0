"""Findings as text for a terminal: what is wrong, the evidence, the cause, the remedy and what
trying it did.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from ravine.finding import SEVERITY_LEVELS, Change, Evidence, Finding, Report, Trial

WIDTH = 80
INDENT = 3  # columns before a label
LABEL = 10  # columns of a label: evidence, explains, cause, change, tried, see
MARKS = {"error": "\u2716", "warning": "\u25b2", "note": "\u25cf"}
PLAIN_MARKS = {"error": "x", "warning": "!", "note": "-"}
COLORS = {"error": "31", "warning": "33", "note": "36"}
RESET, BOLD = "\x1b[0m", "\x1b[1m"


def findings_text(
    report: Report, *, width: int = WIDTH, color: bool = False, plain: bool = False
) -> str:
    """A report as text: its findings, a line on the checks, and a closing line that can be read
    alone.

    `plain` uses ASCII marks only. A note that another finding explains is told there, in a line.
    """
    explained = {code for f in report.findings for code in f.explains}
    whole = [f for f in report.findings if f.code not in explained or f.severity != "note"]
    blocks = [finding_text(f, report, width=width, color=color, plain=plain) for f in whole]
    return "\n\n".join([*blocks, "\n".join([_checks(report, plain), closing(report)])])


def finding_text(
    finding: Finding,
    report: Report | None = None,
    *,
    width: int = WIDTH,
    color: bool = False,
    plain: bool = False,
) -> str:
    """One finding; with its report, the symptoms that it explains are given by title."""
    titles = {f.code: f.title for f in report.findings} if report else {}
    lines = [heading(finding, width=width, color=color, plain=plain)]
    for label, text in _parts(finding, titles):
        wrap = textwrap.TextWrapper(
            width - INDENT - LABEL, break_long_words=False, break_on_hyphens=False
        )
        for i, line in enumerate(wrap.wrap(text)):
            lines.append(f"{'':{INDENT}}{label if i == 0 else '':{LABEL}}{line}")
    return "\n".join(lines)


def heading(
    finding: Finding, *, width: int = WIDTH, color: bool = False, plain: bool = False
) -> str:
    """The first line of a finding: mark, code, title, and on the right how sure it is."""
    mark = (PLAIN_MARKS if plain else MARKS)[finding.severity]
    sure = "exact" if finding.confidence == "exact" else f"confidence {finding.confidence}"
    start = f"{mark} {finding.code}  "
    lines = textwrap.wrap(finding.title, width - len(start) - len(sure) - 2) or [""]
    first = f"{start}{lines[0]}".ljust(width - len(sure)) + sure
    rest = [f"{'':{len(start)}}{line}" for line in lines[1:]]
    if color:
        first = first.replace(
            start, f"\x1b[{COLORS[finding.severity]}m{mark} {BOLD}{finding.code}{RESET}  ", 1
        )
    return "\n".join([first, *rest])


def finding_line(
    finding: Finding, *, width: int = WIDTH, plain: bool = False, color: bool = False
) -> str:
    """One line for the moment at which it is found."""
    mark = (PLAIN_MARKS if plain else MARKS)[finding.severity]
    step = "" if finding.since is None else f"step {finding.since}: "
    where = f" ({finding.where})" if finding.where else ""
    start = f"{mark} {finding.code}"
    rest = textwrap.shorten(
        f"{step}{finding.title}{where}", width - len(start) - 2, placeholder=" …"
    )
    if color:
        start = f"\x1b[{COLORS[finding.severity]}m{mark} {BOLD}{finding.code}{RESET}"
    return f"{start}  {rest}"


def preflight_line(report: Report, *, seconds: float, width: int = WIDTH) -> str:
    """One line on the checks before training: how many pass, what was found, and how long they
    took.
    """
    passed, total = len(report.checks.passed), _made(report)
    found = {s: sum(f.severity == s for f in report.findings) for s in SEVERITY_LEVELS}
    said = [f"{passed} pass", *(_counted(n, s) for s, n in found.items() if n)]
    if report.checks.failed:
        said.append(f"{len(report.checks.failed)} failed to run")
    text = f"{'preflight':12}{_counted(total, 'check')}: {', '.join(said)}"
    return f"{text:{width - 8}}{seconds:6.1f} s"


def closing(report: Report) -> str:
    """The last line: how many of each severity, in how many checks."""
    counts = {s: sum(f.severity == s for f in report.findings) for s in SEVERITY_LEVELS}
    said = [_counted(n, s) for s, n in counts.items() if n]
    return f"{', '.join(said) or 'nothing found'} in {_counted(_made(report), 'check')}"


def _made(report: Report) -> int:
    """How many checks were made."""
    return (
        len({f.code for f in report.findings})
        + len(report.checks.passed)
        + len(report.checks.failed)
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def _checks(report: Report, plain: bool) -> str:
    tick, dash = ("+", "-") if plain else ("\u2713", "\u2013")
    checks = report.checks
    said = [
        f"{tick} {len(checks.passed)} passed",
        f"{dash} {len(checks.not_applicable)} not applicable",
        f"? {len(checks.not_measured)} not measured",
        f"! {len(checks.failed)} failed to run",
    ]
    counts = (1, len(checks.not_applicable), len(checks.not_measured), len(checks.failed))
    return "   ".join(text for text, count in zip(said, counts, strict=True) if count)


def _parts(finding: Finding, titles: dict[str, str]) -> Iterator[tuple[str, str]]:
    if finding.where:
        yield "where", finding.where
    if finding.since is not None:
        yield "since", f"step {finding.since:,}"
    for i, evidence in enumerate(finding.evidence):
        yield ("evidence" if i == 0 else ""), _evidence(evidence)
    for code in finding.explains:
        yield "explains", f"{code} {titles.get(code, '')}".rstrip()
    others = f"; or {', '.join(finding.suspects)}" if finding.suspects else ""
    yield "cause", finding.cause + others
    for i, change in enumerate(finding.changes):
        yield ("change" if i == 0 else ""), _change(change)
    if finding.trial is not None:
        yield "tried", _trial(finding.trial)


def _evidence(evidence: Evidence) -> str:
    number = "" if evidence.value is None else _number(evidence.value)
    unit = (
        f"{'' if evidence.unit == '%' else ' '}{evidence.unit}" if evidence.unit and number else ""
    )
    limit = "" if evidence.limit is None else f" (limit {_number(evidence.limit)})"
    value = f"{number}{unit}{limit}".strip()
    return f"{evidence.name}: {'; '.join(filter(None, (value, evidence.text)))}".rstrip(": ")


def _change(change: Change) -> str:
    value = change.value if isinstance(change.value, str) else json.dumps(change.value)
    return f"{change.path}: {value}"


def _trial(trial: Trial) -> str:
    if trial.verdict == "not tried":
        return f"not tried: {trial.why}" if trial.why else "not tried"
    text = f"{trial.verdict}; {trial.steps} steps x {trial.seeds} seeds"
    if trial.before is not None and trial.after is not None:
        text += f": {_number(trial.before)} -> {_number(trial.after)}"
    if trial.difference is not None and trial.interval is not None:
        low, high = trial.interval
        text += f"; difference {_number(trial.difference)} [{_number(low)}, {_number(high)}]"
    return text


def _number(value: float) -> str:
    return (
        f"{value:,.0f}" if abs(value) >= 1000 and abs(value) < 1e7 or value == 0 else f"{value:.3g}"
    )
