"""Records: what one run did, as plain data in memory and plain files on disk.

Letters: T times at which a series has values, M members (networks) of the run.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ravine.errors import RecipeError, RunError, first_line, memory_error
from ravine.files import check_readable, run_state
from ravine.old_names import current_code

RECORD_SCHEMA = 1  # raised when a file of a run's folder changes its meaning


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network of a run and how it ended: finished, stopped (early), diverged or interrupted.

    `validation` and `test` hold values by name ("loss", "accuracy", ...), of the kept weights.
    """

    seed: int
    outcome: str
    steps: int
    best_step: int
    validation: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """Values over a run: `steps` [T], and `values` [T, M] with NaN after a member has left."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened at a step: to a member (its index in `members`), or to the run (None)."""

    step: int
    kind: str
    text: str
    member: int | None = None


@dataclass(frozen=True)
class Baseline:
    """What another learner reaches on the same rows, by metric; how it was fitted, or why not."""

    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def score_text(value: float) -> str:
    """A score with four decimals, or four significant digits from 10 on.

    >>> score_text(0.91237), score_text(-1e-9), score_text(-259296.1288), score_text(-3584615.0)
    ('0.9124', '0.0000', '-259,300', '-3.585e+06')
    """
    return f"{value:z.4f}" if not abs(value) >= 10 else f"{float(f'{value:.4g}'):,g}"


@dataclass(frozen=True, kw_only=True)
class Score:
    """The model's score on a split: a metric with its confidence interval, and the members' scores.

    `baselines` are what the best constant prediction ("constant": the mean of the training targets
    or the shares of the classes) and boosted trees ("trees") reach in all metrics. `targets` has
    those of each of several targets, by target, learner ("network" is the model) and metric.
    `answers` counts, for each class, the rows for which it is predicted and those that have it.
    """

    metric: str
    value: float
    low: float
    high: float
    confidence: float
    higher_is_better: bool
    split: str
    examples: int
    members: tuple[float, ...] = ()
    others: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    answers: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        value, low, high = map(score_text, (self.value, self.low, self.high))
        interval = f"{self.confidence:.0%} interval {low} to {high}"
        return f"{self.metric} {value} on {self.examples:,} {self.split} rows, {interval}"

    @property
    def constant_baseline(self) -> float | None:
        """The score of the best constant prediction; None where it is unknown."""
        known = self.baselines.get("constant")
        return None if known is None else known.values.get(self.metric)

    @property
    def only_answer(self) -> str | None:
        """The class that is predicted for every row; None where there are several answers."""
        given = [name for name, (predicted, _) in self.answers.items() if predicted]
        return given[0] if len(given) == 1 and len(self.answers) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """The score as JSON-ready data, which `read_score` reads back."""
        return finite_json(asdict(self) | {"constant_baseline": self.constant_baseline})


@dataclass(frozen=True, kw_only=True)
class EffectReport:
    """What a technique reported: one number for each member, 0 if and only if it did nothing."""

    name: str
    meaning: str
    values: tuple[float, ...]

    @property
    def has_acted(self) -> bool:
        """Whether the technique did anything to any member."""
        # NaN counts: a diverged network's techniques did act
        return any(v != 0 for v in self.values)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one run did. `recipe` and `surroundings` are plain data, `notes` say what was inferred.

    `findings` are those of the checks before the first step, as plain data (`Finding.to_json`).
    `intervals` say how wide those of predicted numbers are (`training/intervals.py`).
    """

    recipe: Mapping[str, Any]
    task: Mapping[str, Any]
    members: tuple[Member, ...]
    series: Mapping[str, Series]
    events: tuple[Event, ...]
    effects: tuple[EffectReport, ...]
    notes: tuple[str, ...]
    surroundings: Mapping[str, Any]
    score: Score | None = None
    seconds: float = 0.0
    findings: tuple[Mapping[str, Any], ...] = ()
    intervals: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line: what is in it is in `to_json`."""
        networks = f"{len(self.members)} networks, {self.failures} diverged"
        return f"Record({self.score or 'no score'}; {networks}; {self.seconds:.1f} s)"

    @property
    def failures(self) -> int:
        """How many members diverged."""
        return sum(m.outcome == "diverged" for m in self.members)

    def idle(self) -> list[EffectReport]:
        """The techniques that were enabled and did nothing."""
        return [e for e in self.effects if not e.has_acted]

    def to_json(self) -> dict[str, Any]:
        """The record without its series, as JSON-ready data; numbers not finite become None."""
        unchanged = ("recipe", "task", "surroundings", "seconds", "findings", "intervals")
        data = {name: getattr(self, name) for name in unchanged}
        data["said"] = self.notes  # the key of all versions so far
        data |= {name: [asdict(x) for x in getattr(self, name)] for name in ("members", "events")}
        data["effects"] = [asdict(e) | {"acted": e.has_acted} for e in self.effects]
        data["score"] = None if self.score is None else self.score.to_json()
        return finite_json({"schema": RECORD_SCHEMA, **data})


def record_files(record: Record, digests: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The files of a record by name: series.csv and record.json, to be written in this order.

    `digests` are those of the run's other files, by name.
    """
    series = _series_csv(record).encode()
    digests = {**(digests or {}), "series.csv": digest_of(series)}
    fields = {**record.to_json(), "digests": digests}
    return {"series.csv": series, "record.json": json_with_digest(fields)}


def read_record(folder: Path) -> Record:
    """Read the record in a run's folder. Raises `RunError` if it is missing, damaged or too new.

    It is damaged, too, where another file of the folder does not have the digest in the record.
    """
    path = folder / "record.json"
    data = read_json(path)
    with check_contents(path):
        digests = dict(data.get("digests", {}))  # earlier runs have none
        for name, digest in digests.items():
            check_digest(folder / Path(name).name, digest)
        return _record_from(data, folder)


def _record_from(data: Mapping[str, Any], folder: Path) -> Record:
    score = None if data["score"] is None else read_score(data["score"])
    return Record(
        recipe=data["recipe"],
        task=data["task"],
        members=tuple(Member(**with_nan(m)) for m in data["members"]),
        series=_read_series(folder / "series.csv", len(data["members"])),
        events=tuple(Event(**e | {"kind": current_code(e["kind"])}) for e in data["events"]),
        effects=tuple(
            EffectReport(name=e["name"], meaning=e["meaning"], values=with_nan(e["values"]))
            for e in data["effects"]
        ),
        notes=tuple(data["said"]),
        surroundings=data["surroundings"],
        score=score,
        seconds=data["seconds"],
        findings=tuple(data.get("findings", ())),
        intervals=data.get("intervals", {}),
    )


def read_score(data: Mapping[str, Any]) -> Score:
    """The score that plain data hold, also those of versions that had fewer baselines."""
    fields = {name: value for name, value in data.items() if name != "constant_baseline"}
    known = data.get("constant_baseline")
    before = {} if known is None else {"constant": {"values": {data["metric"]: known}}}
    baselines = data.get("baselines", before)
    read = {name: Baseline(**with_nan(each)) for name, each in baselines.items()}
    return Score(**{**with_nan(fields), "baselines": read})


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run's folder; check its schema and digest. Raises `RunError`."""
    check_readable(path, RunError)
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        begun = run_state(path.parent) == "begun"
        what = f"{path.parent} is not a {'finished ' if begun else ''}run"
        do = "name the folder that `ravine train` printed"
        do = f"finish it with `ravine train --resume {path.parent}`" if begun else do
        raise RunError(what, why=f"it has no {path.name}", do=do) from None
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable_file(path, error) from None
    check_schema(data.get("schema") if isinstance(data, dict) else None, path)
    digest = data.pop("digest", None)  # earlier files have none
    if digest not in (None, digest_of(json.dumps(data).encode())):
        raise damaged_file(path, "its contents do not match its digest")
    return data


def json_with_digest(fields: Mapping[str, Any]) -> bytes:
    """Plain data as a JSON file that ends in a digest of what stands before."""
    plain = json.loads(json.dumps(fields))  # as it is read back
    return json.dumps({**plain, "digest": digest_of(json.dumps(plain).encode())}, indent=1).encode()


def digest_of(data: bytes) -> str:
    """A digest of 128 bits, in hexadecimal: BLAKE2b (RFC 7693)."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def check_digest(path: Path, digest: str) -> None:
    """Raise `RunError` where a file exists and has another digest."""
    check_readable(path, RunError)
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return  # missing: its reader knows what to say of that
    if found != digest:
        raise damaged_file(path, "its contents do not match the digest in record.json")


@contextmanager
def check_contents(path: Path) -> Iterator[None]:
    """Whatever is wrong with the contents of a file of a run's folder is a `RunError`."""
    try:
        yield
    except (RunError, RecipeError):
        raise
    except OSError as error:
        raise unreadable_file(path, error) from None
    except MemoryError as error:
        raise memory_error(RunError, f"{path} cannot be read") from error
    except Exception as error:  # what stands in a stranger's file can be wrong in any way
        raise damaged_file(path, first_line(error)) from error


def damaged_file(path: Path, why: str) -> RunError:
    """What to say of a file of a run's folder that was changed, or not written to the end."""
    do = "restore the file from a copy, or train again"
    return RunError(f"{path} is damaged", why=why, do=do)


def unreadable_file(path: Path, error: Exception) -> RunError:
    """What to say of a file of a run's folder that cannot be read."""
    return RunError(f"{path} cannot be read", why=str(error), do="train again, or restore the file")


def check_schema(schema: Any, path: Path) -> None:
    """Raise `RunError` unless this version reads a file's schema."""
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 0:
        raise damaged_file(path, "it has no schema number")
    if schema > RECORD_SCHEMA:
        why = f"this version of Ravine reads up to {RECORD_SCHEMA}"
        raise RunError(f"{path} has schema {schema}", why=why, do="install a newer Ravine")


def _series_csv(record: Record) -> str:
    """Columns: series, step, then a column for each member, by its seed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["series", "step", *(f"seed {m.seed}" for m in record.members)])
    for name, series in record.series.items():
        for step, values in zip(series.steps.tolist(), series.values.tolist(), strict=True):
            writer.writerow([name, step, *("" if math.isnan(v) else repr(v) for v in values)])
    return out.getvalue()


def _read_series(path: Path, members: int) -> dict[str, Series]:
    check_readable(path, RunError)
    with check_contents(path):
        text = path.read_text("utf-8")
        if not text.endswith("\n"):
            raise ValueError("its last line is not complete")
        header, *rows = csv.reader(io.StringIO(text))
        is_whole = all(len(row) == 2 + members for row in (header, *rows))
        if not is_whole or header[:2] != ["series", "step"]:
            raise ValueError(f"its columns must be series, step and {members} of seeds")
        table = pd.DataFrame(rows, columns=header).replace("", "nan")
        series = {}
        for name, part in table.groupby("series", sort=False):
            series[str(name)] = Series(part["step"].to_numpy(int), part.iloc[:, 2:].to_numpy(float))
        return series


def with_nan(plain: Any) -> Any:
    """Plain data with NaN in place of None, and tuples in place of lists."""
    if isinstance(plain, Mapping):
        return {k: with_nan(v) for k, v in plain.items()}
    if isinstance(plain, list):
        return tuple(with_nan(v) for v in plain)
    return math.nan if plain is None else plain


def finite_json(value: Any) -> Any:
    """Plain data with None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: finite_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_json(v) for v in value]
    return value
