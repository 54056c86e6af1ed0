"""The score of a doctor (a tool that diagnoses training), beside two baselines that know nothing.

A doctor is a function from a script and a seed to findings, as `--json` writes them: dicts with
`severity`, `cause`, `where`, `since`, `suspects`, `changes`, `trial`; most important first. It may
look at `script.build(seed)`, or at `script.run(seed, watch)` under its own watch, and at nothing
else of the script. What counts:

- An *alarm* is a finding of severity warning or error. A script is found when there is one.
- *Early*: the first alarm came before training (`since` is None) or within the first tenth of the
  budget.
- *Causes* are those of the alarms in their order, each once; then the suspects. The first, and the
  first two, are compared with the set of acceptable causes. Precision is over the causes of the
  alarms alone; naming none counts 0.
- *Where* is right when an alarm with an acceptable cause names the module, a parameter in it, or
  the column.
- A remedy is *offered* when a finding of any severity has changes that no trial has found useless.
- An exception is a failure: it stands first, and counts as an alarm on a healthy script and as
  nothing on a sick one.

All doctors see the same scripts and seeds. Shares come with Wilson's interval over scripts: a
script counts with its mean over the seeds, since its seeds are not independent.
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

from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.training_script import CAUSES, TrainingScript

Finding: TypeAlias = Mapping[str, Any]
Doctor: TypeAlias = Callable[[TrainingScript, int], Sequence[Finding]]

EARLY_FRACTION = 0.1  # share of the budget
USELESS_VERDICTS = frozenset({"no effect", "worse"})


@dataclass(frozen=True)
class Proportion:
    """A mean over scripts, each between 0 and 1, with Wilson's 95 % interval."""

    mean: float
    scripts: int

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n); all of [0, 1] without
        scripts.

        >>> tuple(round(v, 3) for v in Proportion(0.5, 10).interval())
        (0.237, 0.763)
        """
        p, n = self.mean, self.scripts
        if n == 0:
            return 0.0, 1.0
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(
            1.0, (middle + half) / (1 + z * z / n)
        )

    def __str__(self) -> str:
        low, high = self.interval()
        return (
            f"{100 * self.mean:5.1f} % [{100 * low:.0f}, {100 * high:.0f}] of {self.scripts}"
            if self.scripts
            else "-"
        )


def alarms(findings: Iterable[Finding]) -> list[Finding]:
    return [f for f in findings if f.get("severity") in ("error", "warning")]


def named_causes(findings: Iterable[Finding]) -> list[str]:
    """The causes of the alarms, most important first, each once."""
    return list(
        dict.fromkeys(
            f["cause"] for f in alarms(findings) if f.get("cause") not in (None, "healthy")
        )
    )


def ranked_causes(findings: Sequence[Finding]) -> list[str]:
    """The causes of the alarms, then their suspects."""
    suspects = [
        s["cause"] if isinstance(s, Mapping) else s
        for f in alarms(findings)
        for s in f.get("suspects") or ()
    ]
    return list(dict.fromkeys([*named_causes(findings), *suspects]))


def is_early(findings: Iterable[Finding], budget: int) -> bool:
    """Was there an alarm before training or in the first tenth of the budget (at least in the first
    step)?
    """
    limit = max(1.0, EARLY_FRACTION * budget)
    return any(f.get("since") is None or f["since"] <= limit for f in alarms(findings))


def is_within(place: Any, where: str) -> bool:
    """Whether a reported place lies in the right one: a parameter in its module; a column is
    itself.

    >>> is_within("head.weight", "head"), is_within("header", "head"), is_within("column 3", "3")
    (True, False, True)
    """
    if place is None:
        return False
    place = str(place).removeprefix("column ").removeprefix("model.")
    return place == where or place.startswith(where + ".")


def offers_remedy(findings: Iterable[Finding]) -> bool:
    """Is there a change to make that no trial has found useless?"""
    return any(
        f.get("changes") and (f.get("trial") or {}).get("verdict") not in USELESS_VERDICTS
        for f in findings
    )


@dataclass(frozen=True)
class Diagnosis:
    """The score of one doctor on one script and seed. None where a question does not apply."""

    script: TrainingScript
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


def score_findings(
    script: TrainingScript, seed: int, findings: Sequence[Finding], budget: int
) -> Diagnosis:
    """The findings, compared with the causes of the script."""
    causes, order = named_causes(findings), ranked_causes(findings)
    unknown = {c for c in order if c not in CAUSES}
    if unknown:
        return failed_diagnosis(
            script, seed, f"causes that are not in the vocabulary: {', '.join(sorted(unknown))}"
        )
    alarm, offers = bool(alarms(findings)), offers_remedy(findings)
    if not script.sick:
        return Diagnosis(script, seed, None, alarm, offers, causes=tuple(causes))
    right = script.causes
    return Diagnosis(
        script,
        seed,
        None,
        alarm,
        offers,
        early=is_early(findings, budget),
        first=bool(order) and order[0] in right,
        second=any(c in right for c in order[:2]),
        precision=sum(c in right for c in causes) / len(causes) if causes else 0.0,
        where=None
        if script.where is None
        else any(
            f.get("cause") in right and is_within(f.get("where"), script.where)
            for f in alarms(findings)
        ),
        causes=tuple(order),
    )


def failed_diagnosis(script: TrainingScript, seed: int, what: str) -> Diagnosis:
    if not script.sick:
        return Diagnosis(script, seed, what, True, False)
    where = None if script.where is None else False
    return Diagnosis(script, seed, what, False, False, False, False, False, 0.0, where)


def run_doctor(
    doctor: Doctor, scripts: Iterable[TrainingScript], seeds: Sequence[int]
) -> list[Diagnosis]:
    """The score of a doctor on every script with every seed."""
    diagnoses = []
    for script in scripts:
        budget = script.budget()
        for seed in seeds:
            try:
                diagnoses.append(score_findings(script, seed, doctor(script, seed), budget))
            except Exception:  # counts as a failure, and the next script follows
                diagnoses.append(
                    failed_diagnosis(
                        script, seed, traceback.format_exc(limit=-1).strip().splitlines()[-1]
                    )
                )
    return diagnoses


def mean_over_scripts(
    diagnoses: Iterable[Diagnosis], what: Callable[[Diagnosis], bool | float | None]
) -> Proportion:
    """Mean over scripts of the mean over their seeds; those for which the question does not apply
    are left out.
    """
    by_program: dict[str, list[float]] = {}
    for diagnosis in diagnoses:
        if (value := what(diagnosis)) is not None:
            by_program.setdefault(diagnosis.script.name, []).append(float(value))
    means = [sum(values) / len(values) for values in by_program.values()]
    return Proportion(sum(means) / len(means) if means else 0.0, len(means))


def table_rows(diagnoses: Sequence[Diagnosis]) -> dict[str, Proportion]:
    """The rows of the table, in their order; failures first."""
    healthy, ill = (
        [v for v in diagnoses if not v.script.sick],
        [v for v in diagnoses if v.script.sick],
    )
    exact = [v for v in ill if v.script.exact]
    return {
        "failures": mean_over_scripts(diagnoses, lambda v: v.failure is not None),
        "false alarms on healthy scripts": mean_over_scripts(healthy, lambda v: v.alarm),
        "sick scripts found": mean_over_scripts(ill, lambda v: v.alarm),
        "found within the first 10 %": mean_over_scripts(ill, lambda v: v.early),
        "right cause first": mean_over_scripts(ill, lambda v: v.first),
        "right cause among the first two": mean_over_scripts(ill, lambda v: v.second),
        "mean precision": mean_over_scripts(ill, lambda v: v.precision),
        "right module or column": mean_over_scripts(ill, lambda v: v.where),
        "remedies offered for healthy scripts": mean_over_scripts(healthy, lambda v: v.offered),
        "exact classes: found": mean_over_scripts(exact, lambda v: v.alarm),
        "exact classes: right cause first": mean_over_scripts(exact, lambda v: v.first),
    }


def always_alarm(script: TrainingScript, seed: int) -> list[Finding]:
    """Says that something is wrong, without looking and without saying what."""
    return [{"severity": "warning", "cause": None, "where": None, "since": None}]


def constant_answer(script: TrainingScript, seed: int) -> list[Finding]:
    """Always the same two causes: those that would be right most often."""
    return [
        {"severity": "warning", "cause": cause, "where": None, "since": None}
        for cause in best_constants(ALL)[:2]
    ]


BASELINES: dict[str, Doctor] = {"always alarm": always_alarm, "constant answer": constant_answer}


def best_constants(scripts: Iterable[TrainingScript]) -> list[str]:
    """The causes in the order in which a constant doctor should name them: greedily,
    the cause that is acceptable for most sick scripts, then the one for most of those that are
    left."""
    left = [p.causes for p in scripts if p.sick]
    order: list[str] = []
    while left and (best := max(sorted(CAUSES), key=lambda c: sum(c in causes for causes in left))):
        order.append(best)
        left = [causes for causes in left if best not in causes]
    return order


def reaches_gain(before: float, treated: float, reference: float) -> bool:
    """Did a treatment reach 90 % of what the reference remedy gains? Higher scores are
    better.

    >>> reaches_gain(0.2, 0.85, 0.9), reaches_gain(0.2, 0.8, 0.9)
    (True, False)
    """
    return treated - before >= 0.9 * (reference - before)


def format_tables(tables: Mapping[str, Mapping[str, Proportion]]) -> str:
    """The tables of several doctors, side by side."""
    rows = list(next(iter(tables.values())))
    lines = [f"{'':38s}" + "".join(f"{doctor:>28s}" for doctor in tables)]
    lines += [f"{row:38s}" + "".join(f"{t[row]!s:>28s}" for t in tables.values()) for row in rows]
    return "\n".join(lines)


def describe_misses(diagnoses: Iterable[Diagnosis]) -> list[str]:
    """A line for each script that the doctor got wrong, failures first."""
    lines = []
    for v in sorted(diagnoses, key=lambda v: v.failure is None):
        script = f"{v.script.name} (seed {v.seed})"
        found = ", ".join(v.causes) or "nothing"
        if v.failure:
            lines.append(f"{script}: failed: {v.failure}")
        elif not v.script.sick and v.alarm:
            lines.append(f"{script}: false alarm: {found}")
        elif v.script.sick and not v.first:
            lines.append(f"{script}: found {found}; is {', '.join(sorted(v.script.causes))}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "doctor", nargs="?", help="module:function; without one, only the baselines"
    )
    parser.add_argument("--half", choices=("tune", "report", "both"), default="both")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="scripts whose name contains this")
    parser.add_argument("--files", default="", help="those of files whose name begins with this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    doctors = dict(BASELINES)
    if options.doctor:
        module, _, function = options.doctor.partition(":")
        doctors = {options.doctor: getattr(importlib.import_module(module), function), **doctors}
    for half in ("tune", "report") if options.half == "both" else (options.half,):
        some = [p for p in ALL if p.half == half and p.file.startswith(options.files)]
        scripts = [p for p in some if options.only in p.name]
        diagnoses = {
            name: run_doctor(doctor, scripts, range(options.seeds))
            for name, doctor in doctors.items()
        }
        ill = sum(p.sick for p in scripts)
        print(
            f"\n{half}: {ill} sick and {len(scripts) - ill} healthy scripts, {options.seeds} "
            f"seeds each"
        )
        print(format_tables({name: table_rows(v) for name, v in diagnoses.items()}))
        if options.doctor:
            print("\n".join(["", *describe_misses(diagnoses[options.doctor])]))


if __name__ == "__main__":
    main()
