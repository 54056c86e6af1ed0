"""The table by which a doctor is judged, beside doctors that know nothing.

A doctor is a function from a program and a seed to findings, as `--json` writes them: dicts with
`severity`, `cause`, `where`, `since`, `suspects`, `changes`, `trial`; most important first. It may
look at `program.build(seed)`, or at `program.run(seed, watch)` under its own watch, and at nothing
else of the program. What counts:

- An *alarm* is a finding of severity warning or error. A program is found when there is one.
- *Early*: the first alarm came before training (`since` is None) or within the first tenth of the
  budget.
- *Causes* are those of the alarms in their order, each once; then the suspects. The first, and the
  first two, are held against the set of acceptable causes. Precision is over the causes of the
  alarms alone; naming none counts 0.
- *Where* is right when an alarm with an acceptable cause names the module, a parameter in it, or
  the column.
- A remedy is *offered* when a finding of any severity has changes that no trial has found useless.
- An exception is a failure: it stands first, and counts as an alarm on a healthy program and as
  nothing on a sick one.

All doctors see the same programs and seeds. Shares come with Wilson's interval over programs: a
program counts with its mean over the seeds, since its seeds are no independent witnesses.
"""

from __future__ import annotations

import argparse
import importlib
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from benchmarks.doctor.program import CAUSES, Program
from benchmarks.doctor.programs import ALL

Finding: TypeAlias = Mapping[str, Any]
Doctor: TypeAlias = Callable[[Program, int], Sequence[Finding]]

EARLY = 0.1  # share of the budget
USELESS = frozenset({"no effect", "worse"})


@dataclass(frozen=True)
class Share:
    """A mean over programs, each between 0 and 1, with Wilson's 95 % interval."""

    mean: float
    programs: int

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n); all of [0, 1] without
        programs.

        >>> tuple(round(v, 3) for v in Share(0.5, 10).interval())
        (0.237, 0.763)
        """
        p, n = self.mean, self.programs
        if n == 0:
            return 0.0, 1.0
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(
            1.0, (middle + half) / (1 + z * z / n)
        )

    def __str__(self) -> str:
        low, high = self.interval()
        return (
            f"{100 * self.mean:5.1f} % [{100 * low:.0f}, {100 * high:.0f}] of {self.programs}"
            if self.programs
            else "-"
        )


def alarms(findings: Iterable[Finding]) -> list[Finding]:
    return [f for f in findings if f.get("severity") in ("error", "warning")]


def named(findings: Iterable[Finding]) -> list[str]:
    """The causes of the alarms, most important first, each once."""
    return list(
        dict.fromkeys(
            f["cause"] for f in alarms(findings) if f.get("cause") not in (None, "healthy")
        )
    )


def ranked(findings: Sequence[Finding]) -> list[str]:
    """The causes of the alarms, then their suspects."""
    suspects = [
        s["cause"] if isinstance(s, Mapping) else s
        for f in alarms(findings)
        for s in f.get("suspects") or ()
    ]
    return list(dict.fromkeys([*named(findings), *suspects]))


def early(findings: Iterable[Finding], budget: int) -> bool:
    """Was there an alarm before training or in the first tenth of the budget (at least in the first
    step)?
    """
    limit = max(1.0, EARLY * budget)
    return any(f.get("since") is None or f["since"] <= limit for f in alarms(findings))


def names(said: Any, where: str) -> bool:
    """Does the place that was said lie in the right one? A parameter lies in its module; a column
    is itself.

    >>> (names("head.weight", "head"), names("header", "head"), names("column 3", "3"),
    ...  names(None, "head"))
    (True, False, True, False)
    """
    if said is None:
        return False
    said = str(said).removeprefix("column ").removeprefix("model.")
    return said == where or said.startswith(where + ".")


def offered(findings: Iterable[Finding]) -> bool:
    """Is there a change to make that no trial has found useless?"""
    return any(
        f.get("changes") and (f.get("trial") or {}).get("verdict") not in USELESS for f in findings
    )


@dataclass(frozen=True)
class Visit:
    """What one doctor did with one program and seed. None where a question does not apply."""

    program: Program
    seed: int
    failure: str | None
    alarm: bool
    offered: bool
    early: bool | None = None
    first: bool | None = None
    second: bool | None = None
    precision: float | None = None
    where: bool | None = None
    causes: tuple[str, ...] = ()


def judged(program: Program, seed: int, findings: Sequence[Finding], budget: int) -> Visit:
    """The findings held against the program's answers."""
    causes, order = named(findings), ranked(findings)
    unknown = {c for c in order if c not in CAUSES}
    if unknown:
        return failed(
            program, seed, f"causes that are not in the vocabulary: {', '.join(sorted(unknown))}"
        )
    alarm, offers = bool(alarms(findings)), offered(findings)
    if not program.sick:
        return Visit(program, seed, None, alarm, offers, causes=tuple(causes))
    right = program.causes
    return Visit(
        program,
        seed,
        None,
        alarm,
        offers,
        early=early(findings, budget),
        first=bool(order) and order[0] in right,
        second=any(c in right for c in order[:2]),
        precision=sum(c in right for c in causes) / len(causes) if causes else 0.0,
        where=None
        if program.where is None
        else any(
            f.get("cause") in right and names(f.get("where"), program.where)
            for f in alarms(findings)
        ),
        causes=tuple(order),
    )


def failed(program: Program, seed: int, what: str) -> Visit:
    if not program.sick:
        return Visit(program, seed, what, True, False)
    where = None if program.where is None else False
    return Visit(program, seed, what, False, False, False, False, False, 0.0, where)


def visits(doctor: Doctor, programs: Iterable[Program], seeds: Sequence[int]) -> list[Visit]:
    """Show every program to the doctor, with every seed."""
    seen = []
    for program in programs:
        budget = program.budget()
        for seed in seeds:
            try:
                seen.append(judged(program, seed, doctor(program, seed), budget))
            except Exception:  # a doctor that fails is counted, and the next patient is seen
                seen.append(
                    failed(program, seed, traceback.format_exc(limit=-1).strip().splitlines()[-1])
                )
    return seen


def share(seen: Iterable[Visit], what: Callable[[Visit], bool | float | None]) -> Share:
    """Mean over programs of the mean over their seeds; visits where the question does not apply are
    left out.
    """
    by_program: dict[str, list[float]] = {}
    for visit in seen:
        if (value := what(visit)) is not None:
            by_program.setdefault(visit.program.name, []).append(float(value))
    means = [sum(values) / len(values) for values in by_program.values()]
    return Share(sum(means) / len(means) if means else 0.0, len(means))


def table(seen: Sequence[Visit]) -> dict[str, Share]:
    """The rows of the table, in their order; failures first."""
    healthy, ill = [v for v in seen if not v.program.sick], [v for v in seen if v.program.sick]
    exact = [v for v in ill if v.program.exact]
    return {
        "failures": share(seen, lambda v: v.failure is not None),
        "false alarms on healthy programs": share(healthy, lambda v: v.alarm),
        "sick programs found": share(ill, lambda v: v.alarm),
        "found within the first 10 %": share(ill, lambda v: v.early),
        "right cause first": share(ill, lambda v: v.first),
        "right cause among the first two": share(ill, lambda v: v.second),
        "mean precision": share(ill, lambda v: v.precision),
        "right module or column": share(ill, lambda v: v.where),
        "remedies offered for healthy programs": share(healthy, lambda v: v.offered),
        "exact classes: found": share(exact, lambda v: v.alarm),
        "exact classes: right cause first": share(exact, lambda v: v.first),
    }


def always_alarm(program: Program, seed: int) -> list[Finding]:
    """Says that something is wrong, without looking and without saying what."""
    return [{"severity": "warning", "cause": None, "where": None, "since": None}]


def constant_answer(program: Program, seed: int) -> list[Finding]:
    """Always the same two causes: those that would be right most often."""
    return [
        {"severity": "warning", "cause": cause, "where": None, "since": None}
        for cause in ("output-activation", "learning-rate-low")
    ]


BASELINES: dict[str, Doctor] = {"always alarm": always_alarm, "constant answer": constant_answer}


def best_constants(programs: Iterable[Program]) -> list[str]:
    """The causes in the order in which a doctor who always says the same should say them: greedily,
    the cause that is acceptable for most sick programs, then the one for most of those that are
    left."""
    left = [p.causes for p in programs if p.sick]
    order: list[str] = []
    while left and (best := max(sorted(CAUSES), key=lambda c: sum(c in causes for causes in left))):
        order.append(best)
        left = [causes for causes in left if best not in causes]
    return order


def gain_reached(before: float, treated: float, reference: float) -> bool:
    """Did a treatment reach 90 % of what the reference remedy gains? Scores of the judge, higher is
    better.

    >>> gain_reached(0.2, 0.85, 0.9), gain_reached(0.2, 0.8, 0.9)
    (True, False)
    """
    return treated - before >= 0.9 * (reference - before)


def text(tables: Mapping[str, Mapping[str, Share]]) -> str:
    """The tables of several doctors, side by side."""
    rows = list(next(iter(tables.values())))
    lines = [f"{'':38s}" + "".join(f"{doctor:>28s}" for doctor in tables)]
    lines += [f"{row:38s}" + "".join(f"{t[row]!s:>28s}" for t in tables.values()) for row in rows]
    return "\n".join(lines)


def misses(seen: Iterable[Visit]) -> list[str]:
    """A line for each program that the doctor got wrong, failures first."""
    lines = []
    for v in sorted(seen, key=lambda v: v.failure is None):
        program = f"{v.program.name} (seed {v.seed})"
        said = ", ".join(v.causes) or "nothing"
        if v.failure:
            lines.append(f"{program}: failed: {v.failure}")
        elif not v.program.sick and v.alarm:
            lines.append(f"{program}: false alarm: {said}")
        elif v.program.sick and not v.first:
            lines.append(f"{program}: said {said}; is {', '.join(sorted(v.program.causes))}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "doctor", nargs="?", help="module:function; without one, only the baselines"
    )
    parser.add_argument("--half", choices=("tune", "report", "both"), default="both")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="programs whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    doctors = dict(BASELINES)
    if options.doctor:
        module, _, function = options.doctor.partition(":")
        doctors = {options.doctor: getattr(importlib.import_module(module), function), **doctors}
    for half in ("tune", "report") if options.half == "both" else (options.half,):
        programs = [p for p in ALL if p.half == half and options.only in p.name]
        seen = {
            name: visits(doctor, programs, range(options.seeds)) for name, doctor in doctors.items()
        }
        ill = sum(p.sick for p in programs)
        print(
            f"\n{half}: {ill} sick and {len(programs) - ill} healthy programs, {options.seeds} "
            f"seeds each"
        )
        print(text({name: table(v) for name, v in seen.items()}))
        if options.doctor:
            print("\n".join(["", *misses(seen[options.doctor])]))


if __name__ == "__main__":
    main()
