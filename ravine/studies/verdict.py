"""Verdicts: which of several choices is better, and how sure that is.

Letters: C choices, S seeds, B bootstrap samples of the rows.
"""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from ravine.errors import shorten
from ravine.files import require_path, write_atomically
from ravine.record import (
    RECORD_SCHEMA,
    check_contents,
    finite_json,
    json_with_digest,
    read_json,
    score_text,
    with_nan,
)
from ravine.reporting.findings_text import count_of
from ravine.reporting.text_table import TERMINAL_WIDTH, aligned_rows, hanging_text
from ravine.statistics import Interval
from ravine.studies.target_times import TargetTimes, times_text
from ravine.studies.tuned_rate import CHOICE_WIDTH, RateResult, TunedRate, rates_text

VERDICT_FILE = "verdict.json"
QUICKER_FACTOR = 1.5  # times as long for the next: less is noise
MANY_SEEDS = 1000  # more are not counted
REFERENCE_NAMES = {"trees": "boosted trees", "constant": "constant answer"}

Outcome: TypeAlias = Literal["better", "equivalent", "undecided"]


@dataclass(frozen=True, kw_only=True)
class ChoiceResult:
    """How one of the choices did.

    `scores` has one for each of `seeds`, NaN where that network failed (it diverged). `score` is
    the mean of the others, with an interval for other seeds and other rows. `settings` are those in
    which the choices differ, by path, `seconds` the time to train one network alone, on one core,
    `validation` the score of each seed on the validation split, where a network has one, `times`
    when they first reached the verdict's target.
    """

    name: str
    kind: str  # "recipe", "estimator" or "run"
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    score: Interval
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = math.nan
    validation: tuple[float, ...] = ()
    tuned_rate: TunedRate | None = None
    times: TargetTimes | None = None

    @property
    def failures(self) -> int:
        """For how many seeds the choice failed."""
        return sum(map(math.isnan, self.scores))

    @property
    def has_failed(self) -> bool:
        """Whether it failed for half of the seeds or more."""
        return 2 * self.failures >= len(self.scores)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better one choice is than another, seed by seed.

    `interval` is the mean difference over seeds for which neither failed, positive where `better`
    is better, with an interval for other seeds and (not of finished runs) other rows. `p` is that
    of the sign-flip test (of signed ranks where a network failed: a failure is worse than any
    score), `corrected_p` after Holm over all differences of the verdict. `probability` is that of a
    seed for which `better` is better. The outcome is "better" where `corrected_p` is at most 0.05
    and the interval does not hold 0, and "equivalent" where the interval lies within the verdict's
    margin.
    """

    better: str
    worse: str
    interval: Interval
    p: float
    probability: Interval
    seeds_needed: float
    corrected_p: float = math.nan
    outcome: Outcome = "undecided"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Choices, best first, their scores, and all differences between two of them.

    `target` is the score of their `times`. `references` are scores that stand beside them: of the
    best constant answer, of boosted trees; `leads` say how far the best choice is ahead of these.
    """

    metric: str
    higher_is_better: bool
    split: str
    rows: int
    choices: tuple[ChoiceResult, ...]
    differences: tuple[Difference, ...]
    margin: float | None = None
    target: float | None = None
    paired: bool = True
    references: Mapping[str, float] = field(default_factory=dict)
    leads: Mapping[str, Interval] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> ChoiceResult:
        return next(choice for choice in self.choices if choice.name == name)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all choices; none where these are not paired."""
        return self.choices[0].seeds if self.paired else ()

    @property
    def best(self) -> ChoiceResult | None:
        """The choice with the best mean score; None where every choice failed."""
        first = self.choices[0]
        return None if first.has_failed else first

    def from_best(self) -> list[Difference]:
        """The differences between the best choice and each other one, in the order of these."""
        leader = self.choices[0].name
        found = {d.worse: d for d in self.differences if d.better == leader}
        return [found[choice.name] for choice in self.choices[1:]]

    def summary(self) -> str:
        """The verdict as text for a terminal."""
        tables = [_score_table(self), *_difference_table(self)]
        tuned = {choice.name: choice.tuned_rate for choice in self.choices if choice.tuned_rate}
        tables += [rates_text(tuned)] if tuned else []
        times = {choice.name: choice.times for choice in self.choices if choice.times}
        tables += [times_text(times, f"{self.metric} {self.target:g}")] if times else []
        texts = (*_failures(self), *self.conclusion(), *_leads_text(self), *self.notes)
        sentences = [hanging_text("", text) for text in texts]
        return "\n\n".join([*tables, "\n".join(sentences)])

    __str__ = summary

    def conclusion(self) -> tuple[str, str]:
        """Two texts: which choice to take, and how sure that is."""
        best = self.best
        if best is None:
            failed = sum(choice.failures for choice in self.choices)
            all_failed = failed == sum(len(choice.scores) for choice in self.choices)
            why = "every network" if all_failed else "each failed in at least half of its seeds"
            what = f"Take none of them: {why}{' diverged' if all_failed else ''}."
            return what, "Train with smaller learning rates: `ravine range` finds one."
        found = [d for d in self.from_best() if not self[d.worse].has_failed]
        open_ones = [d for d in found if d.outcome != "better"]
        if not found:
            count = f"{best.failures} of {len(best.scores)}" if best.failures else "none"
            return f"Take {best.name}: all others failed.", f"It failed in {count} of its seeds."
        if not open_ones:
            others = "each of the others" if len(found) > 1 else found[0].worse
            return f"Take {best.name}: it is better than {others}.", _certainty(found[0], self)
        return _tie(found, open_ones, self), _open_question(open_ones, self)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON-ready data."""
        data = dataclasses.asdict(self)
        for choice, plain in zip(self.choices, data["choices"], strict=True):
            plain["failures"] = choice.failures
            plain["score"] = choice.score._asdict()
            if choice.tuned_rate is not None:
                plain["tuned_rate"]["decades"] = choice.tuned_rate.decades
        for difference, plain in zip(self.differences, data["differences"], strict=True):
            plain["interval"] = difference.interval._asdict()
            plain["probability"] = difference.probability._asdict()
        data["leads"] = {name: lead._asdict() for name, lead in self.leads.items()}
        data["seeds"] = list(self.seeds)
        data["best"] = None if self.best is None else self.best.name
        return finite_json({"schema": RECORD_SCHEMA, **data})

    def save(self, folder: str | Path) -> None:
        """Write the verdict to a folder: verdict.json, and the scores as scores.csv."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "scores.csv", self.scores_frame().to_csv(index=False).encode())
        write_atomically(folder / VERDICT_FILE, json_with_digest(self.to_json()))

    def scores_frame(self) -> pd.DataFrame:
        """The scores as a table, a row for each choice and seed; NaN where a network failed."""
        rows = [
            (choice.name, seed, score)
            for choice in self.choices
            for seed, score in zip(choice.seeds, choice.scores, strict=True)
        ]
        return pd.DataFrame(rows, columns=["choice", "seed", self.metric])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


def _score_table(verdict: Verdict) -> str:
    """What was measured, and a line for each choice and reference."""
    seeds = f"{count_of(len(verdict.seeds), 'seed')}, paired" if verdict.paired else "not paired"
    direction = "higher" if verdict.higher_is_better else "lower"
    title = (
        f"{verdict.metric} ({direction} is better) on {verdict.rows:,} {verdict.split} rows, "
        f"{seeds}"
    )
    rows = [["", "failed", verdict.metric, "95 % interval", "seconds"]]
    for choice in verdict.choices:
        failed = f"{choice.failures} of {len(choice.scores)}" if choice.failures else "0"
        seconds = "" if math.isnan(choice.seconds) else f"{choice.seconds:.3g}"
        value, low, high = (_score(x) for x in choice.score)
        interval = f"{low} to {high}" if low else ""
        name = shorten(choice.name, CHOICE_WIDTH)
        rows.append([name, failed, value or "none", interval, seconds])
    rows += [[name, "", _score(value), "", ""] for name, value in verdict.references.items()]
    return "\n".join([title, "", *aligned_rows(rows)])


def _difference_table(verdict: Verdict) -> list[str]:
    """How far the best choice is ahead of each other one that did not fail; [] with none."""
    rows = [["", "by", "95 % interval", "wins", "p", "seeds needed"]]
    seeds = len(verdict.seeds)
    for d in verdict.from_best() if verdict.best is not None else []:
        if verdict[d.worse].has_failed:
            continue
        value, low, high = (_score(x, sign=True) for x in d.interval)
        interval = f"{low} to {high}" if low else ""
        needed = f"{d.seeds_needed:,.0f}" if d.seeds_needed <= MANY_SEEDS else ""
        if MANY_SEEDS < d.seeds_needed < math.inf:
            needed = f"over {MANY_SEEDS:,}"
        needed = "" if d.outcome == "better" else needed
        share = d.probability.value
        wins = f"{share * seeds:g}/{seeds}" if seeds else f"{100 * share:.0f} %"
        p = _p_text(d.corrected_p).removeprefix("= ")
        rows.append([shorten(d.worse, CHOICE_WIDTH), value, interval, wins, p, needed])
    table = aligned_rows(rows)
    if max(map(len, table)) > TERMINAL_WIDTH:
        table = aligned_rows([row[:-1] for row in rows])
    title = f"How far {verdict.choices[0].name} is ahead of the others:"
    comparisons = len(verdict.differences)
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    are_runs = any(choice.kind == "run" for choice in verdict.choices)  # rows are not known
    over = "seeds" if are_runs else f"seeds and {verdict.split} rows"
    note = hanging_text("", f"Intervals are over {over}; p is over seeds alone{corrected}.")
    return ["\n".join([title, *table, note])] if len(rows) > 1 else []


def _p_text(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"


def _score(value: float, *, sign: bool = False) -> str:
    if math.isnan(value):
        return ""
    text = score_text(value)
    return text if text.startswith("-") or not sign else f"+{text}"


def _failures(verdict: Verdict) -> list[str]:
    """Which choices failed, and how often."""
    return [
        f"{choice.name} failed in {choice.failures} of {len(choice.scores)} seeds: it diverged."
        for choice in verdict.choices
        if choice.failures
    ]


def _certainty(closest: Difference, verdict: Verdict) -> str:
    """How sure it is that the best choice is better than the one after it."""
    value, low, high = (_score(x) for x in closest.interval)
    text = (
        f"It is ahead of {closest.worse} by {value} (95 % interval {low} to {high}; "
        f"p {_p_text(closest.corrected_p)}"
    )
    count = len(verdict.differences)
    return f"{text}, corrected for {count} comparisons)." if count > 1 else f"{text})."


def _tie(found: Sequence[Difference], open_ones: Sequence[Difference], verdict: Verdict) -> str:
    """What to take where the best choice is not shown to be better than others."""
    best = verdict.choices[0].name
    names = [best, *(d.worse for d in open_ones)]
    comma = "; " if any("," in choice.name for choice in verdict.choices) else ", "
    listed = f"{comma.join(names[:-1])} and {names[-1]}"
    timed = sorted((verdict[name].seconds, name) for name in names)
    advice = ""
    if timed[0][0] * QUICKER_FACTOR < timed[1][0]:  # NaN is no time
        advice = f"; {timed[0][1]} is the quickest to train"
    worse = [d.worse for d in found if d.outcome == "better"]
    first = f"{best} is better than {comma.join(worse)}. " if worse else ""
    if all(d.outcome == "equivalent" for d in open_ones):
        return f"{first}{listed} are equal to within {verdict.margin:g}{advice}."
    return f"{first}No difference is shown between {listed}{advice}."


def _open_question(open_ones: Sequence[Difference], verdict: Verdict) -> str:
    """What would tell the best choices apart."""
    undecided = [d for d in open_ones if d.outcome == "undecided"]
    if not undecided:
        _, low, high = (_score(x, sign=True) for x in open_ones[0].interval)
        return f"The difference of the first two lies between {low} and {high} (95 %)."
    best = verdict.choices[0]
    if verdict.paired and all(verdict[d.worse].scores == best.scores for d in open_ones):
        return f"Their scores are the same in all {len(verdict.seeds)} seeds."
    hardest = max(undecided, key=lambda d: d.seeds_needed)  # NaN only where all are
    needed = hardest.seeds_needed
    if needed == math.inf:
        return "These seeds and rows do not tell them apart."
    if needed > MANY_SEEDS:
        return f"Not even {MANY_SEEDS:,} seeds would tell them apart."
    if math.isnan(needed):
        return "These seeds do not tell them apart."
    if needed <= len(verdict.seeds):
        more = f"more {verdict.split} rows or some more seeds"
        return f"To tell them apart, {more} would be needed."
    text = f"About {needed:,.0f} seeds would tell {hardest.worse} from {best.name}"
    return f"{text}, if the difference is as large as it seems."


def _leads_text(verdict: Verdict) -> list[str]:
    """Whether the best choice is better than the references, where that must be said."""
    texts = []
    for name, lead in verdict.leads.items():
        if math.isnan(lead.low):
            continue
        best, value = verdict.choices[0].name, _score(abs(lead.value))
        is_constant = name == REFERENCE_NAMES["constant"]
        other = f"the {name}" if is_constant else name
        low, high = (_score(x, sign=True) for x in lead[1:])
        interval = f"(95 % interval of its lead: {low} to {high})"
        if lead.high < 0:
            texts.append(f"{best} is behind {other} by {value} {interval}.")
        elif lead.low <= 0:
            texts.append(f"{best} is not shown to be better than {other} {interval}.")
        elif not is_constant:
            texts.append(f"{best} is ahead of {other} by {value} {interval}.")
    return texts


def open_verdict(folder: str | Path) -> Verdict:
    """A verdict from the folder that `Verdict.save` wrote; `RunError` where it is damaged."""
    path = require_path(folder, "folder") / VERDICT_FILE
    data = read_json(path)
    with check_contents(path):
        choices = tuple(_choice_from(plain) for plain in data["choices"])
        differences = tuple(_difference_from(plain) for plain in data["differences"])
        plain = _fields_of(Verdict, data)
        leads = {name: Interval(**with_nan(lead)) for name, lead in data.get("leads", {}).items()}
        plain |= {
            "leads": leads,
            "notes": tuple(data["notes"]),
            "choices": choices,
            "differences": differences,
        }
        return Verdict(**plain)


def _choice_from(plain: Mapping[str, Any]) -> ChoiceResult:
    fields = with_nan(_fields_of(ChoiceResult, plain))
    fields |= {"settings": plain["settings"], "score": Interval(**fields["score"])}
    times = plain.get("times")
    fields |= {"tuned_rate": None, "times": TargetTimes(**with_nan(times)) if times else None}
    if tuned := plain.get("tuned_rate"):
        read = with_nan(_fields_of(TunedRate, tuned))
        tried = tuple(RateResult(**one) for one in read["tried"])
        fields["tuned_rate"] = TunedRate(**read | {"tried": tried})
    return ChoiceResult(**fields)


def _difference_from(plain: Mapping[str, Any]) -> Difference:
    fields = with_nan(_fields_of(Difference, plain))
    fields |= {name: Interval(**fields[name]) for name in ("interval", "probability")}
    if plain["seeds_needed"] is None:
        fields["seeds_needed"] = math.inf
    return Difference(**fields)


def _fields_of(kind: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Those of plain data that are fields of a class: earlier versions had fewer."""
    return {f.name: plain[f.name] for f in dataclasses.fields(kind) if f.name in plain}
