"""The command that lists runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli import output
from ravine.errors import InputError, RunError, shorten

MAX_RUN_DEPTH = 3  # folders below the one that is listed
LISTED_SOURCE_WIDTH = 14


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run's folder at a glance; without a record (`state` is not "finished") there is no score.

    `findings` counts the codes that were found by severity. `when` is in seconds since 1970.
    """

    folder: str
    state: str  # "finished", "begun" or "damaged"
    when: float
    source: str = ""
    metric: str = ""
    score: float | None = None
    low: float | None = None
    high: float | None = None
    constant: float | None = None
    trees: float | None = None
    networks: int = 0
    failures: int = 0
    findings: dict[str, int] | None = None
    higher_is_better: bool = True


def runs_command(
    where: Annotated[str, Parameter(help="A folder; it is searched three folders deep.")] = "runs",
    /,
    *,
    sort: Literal["when", "score", "name"] = "when",
    json: cli.Json = False,
) -> int:
    """List runs: what they learned from, their scores beside the baselines, what was found.

    Parameters
    ----------
    sort
        when (newest first), score (best first, by metric) or name.
    """
    from ravine.files import require_path

    folder = require_path(where, "the folder")
    if not where.strip():
        raise InputError("no folder is named", do="name the folder that holds runs")
    if not folder.is_dir():
        why = "it is a file" if folder.exists() else "it does not exist"
        raise InputError(f"{folder} is no folder", why=why, do="name the folder that holds runs")
    found = [_summarize_run(path) for path in _run_folders(folder, MAX_RUN_DEPTH)]
    keys = {
        "when": lambda run: -run.when,
        "name": lambda run: run.folder,
        "score": lambda run: (run.score is None, run.metric, _rank(run)),
    }
    found.sort(key=keys[sort])
    if json:
        output.print_json({"folder": str(folder), "runs": [asdict(run) for run in found]})
        return 0
    if not found:
        output.echo(f"{folder} holds no runs; ravine train WHAT makes one", file=sys.stderr)
        return 0
    output.echo("\n".join(_table(found, folder)))
    return 0


def _rank(run: ListedRun) -> float:
    score = run.score or 0.0
    return -score if run.higher_is_better else score


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those below it that hold a run."""
    from ravine.files import run_state

    if run_state(folder) != "no run":
        yield folder
    elif depth:
        for below in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _run_folders(below, depth - 1)


def _summarize_run(folder: Path) -> ListedRun:
    from ravine.diagnosis.registry import CURVE_RULES
    from ravine.diagnosis.rule import run_rules
    from ravine.diagnosis.training_curves.series import curves_of_record
    from ravine.files import run_state
    from ravine.finding import Finding
    from ravine.record import read_record

    state = run_state(folder)
    name = "record.json" if state == "finished" else "plan.json"
    when = (folder / name).stat().st_mtime
    if state != "finished":
        return ListedRun(folder=str(folder), state=state, when=when)
    try:
        record = read_record(folder)
    except RunError:
        return ListedRun(folder=str(folder), state="damaged", when=when)
    findings = [Finding.from_json(f) for f in record.findings]
    findings += run_rules(CURVE_RULES, curves_of_record(record))[0]
    counts: dict[str, int] = {}
    for severity in {f.code: f.severity for f in findings}.values():
        counts[severity] = counts.get(severity, 0) + 1
    known = ListedRun(
        folder=str(folder),
        state=state,
        when=when,
        source=Path(str(record.recipe["data"].get("source") or "table")).name,
        networks=len(record.members),
        failures=record.failures,
        findings=counts,
    )
    score = record.score
    if score is None:
        return known
    beside = {name: baseline.values.get(score.metric) for name, baseline in score.baselines.items()}
    return ListedRun(
        **asdict(known)
        | {
            "metric": score.metric,
            "score": score.value,
            "low": score.low,
            "high": score.high,
            "constant": beside.get("constant"),
            "trees": beside.get("trees"),
            "higher_is_better": score.higher_is_better,
        }
    )


def _table(runs: Sequence[ListedRun], folder: Path) -> list[str]:
    """A line for each run, within the width of a terminal."""
    from ravine.record import score_text
    from ravine.reporting.text_table import TERMINAL_WIDTH, aligned_rows

    def number(value: float | None) -> str:
        return "" if value is None else score_text(value)

    rows = [["", "data", "score", "constant", "trees", "found", "when"]]
    for run in runs:
        score = f"{run.metric} {number(run.score)}" if run.score is not None else run.state
        if run.state == "finished" and run.score is None:
            score = "all diverged" if run.failures == run.networks else "no held-out rows"
        counts = [
            f"{count} {severity}{'s' if count > 1 else ''}"
            for severity in ("error", "warning")
            if (count := (run.findings or {}).get(severity))
        ]
        found = "".join(counts[:1])  # of the more severe kind
        date = time.strftime("%m-%d %H:%M", time.localtime(run.when))
        source = shorten(run.source, LISTED_SOURCE_WIDTH)
        beside = [number(run.constant), number(run.trees)]
        name = str(Path(run.folder).relative_to(folder))
        rows.append([name if name != "." else run.folder, source, score, *beside, found, date])
    width = max(len(line) for line in aligned_rows([row[1:] for row in rows]))
    room = max(12, TERMINAL_WIDTH - width - 2)
    return aligned_rows([[shorten(row[0], room), *row[1:]] for row in rows])
