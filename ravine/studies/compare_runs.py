"""Comparing runs that exist already, by the scores in their records."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ravine.argument_checks import check_arguments
from ravine.errors import InputError
from ravine.files import require_path
from ravine.record import Record, Score, read_record
from ravine.studies.score_differences import NO_INTERVAL, compare_scores
from ravine.studies.verdict import REFERENCE_NAMES, ChoiceResult, Verdict

LEAST_PAIRS = 2


def compare_runs(folders: Sequence[str | Path], *, margin: float | None = None) -> Verdict:
    """Compare finished runs, network by network.

    Runs on the same encoded data with seeds in common are paired by these seeds. Others are
    compared as independent samples (`Verdict.paired` is False), and a note says so. Only the scores
    are read, not the data: intervals are for other seeds, on these rows. Raises `RunError` for a
    folder that is no finished run, `InputError` for runs that are scored differently.
    """
    check_arguments(compare_runs, locals())
    records = {str(folder): read_record(require_path(folder, "folder")) for folder in folders}
    if len(records) < 2:
        what, do = "there is one run", "name two folders at least"
        raise InputError(what, why="nothing stands beside it", do=do)
    first = _check_same_scores(records)
    of_runs = [{m.seed for m in record.members} for record in records.values()]
    common = sorted(set.intersection(*of_runs))
    same_data = len({record.task["fingerprint"] for record in records.values()}) == 1
    paired = same_data and len(common) >= LEAST_PAIRS
    notes = ["Intervals are for other seeds, on these rows: the data are not read again."]
    if not paired:
        why = "they learned from other rows, so none is called better"
        why = "they have fewer than two seeds in common" if same_data else why
        notes.append(f"The runs are not paired: {why}. Train them anew by ravine compare.")
    score = first.score
    assert score is not None
    results = []
    for name, record in records.items():
        scores = {m.seed: m.test.get(score.metric, math.nan) for m in record.members}
        seeds = tuple(common if paired else sorted(scores))
        chosen = tuple(scores[seed] for seed in seeds)
        result = ChoiceResult(name=name, kind="run", seeds=seeds, scores=chosen, score=NO_INTERVAL)
        results.append(result)
    ordered, differences = compare_scores(
        results,
        [None] * len(results),
        higher_is_better=score.higher_is_better,
        margin=margin,
        paired=paired,
    )
    if not same_data:  # what rows a score is of may differ by more than what was trained
        differences = tuple(replace(d, outcome="undecided") for d in differences)
    return Verdict(
        metric=score.metric,
        higher_is_better=score.higher_is_better,
        split=score.split,
        rows=score.examples,
        choices=ordered,
        differences=differences,
        margin=margin,
        paired=paired,
        references=_references(score),
        notes=tuple(notes),
    )


def _references(score: Score) -> dict[str, float]:
    """The scores of boosted trees and of the best constant answer, where the run has them."""
    known = {label: score.baselines.get(name) for name, label in REFERENCE_NAMES.items()}
    return {n: b.values[score.metric] for n, b in known.items() if b and score.metric in b.values}


def _check_same_scores(records: dict[str, Record]) -> Record:
    """The first record. Raises `InputError` where another has no such score."""
    (name, first), *others = records.items()
    for other, record in ((name, first), *others):
        if record.score is None:
            why = "every network diverged, or no split was held out"
            raise InputError(f"{other} has no score", why=why, do="leave it out")
    assert first.score is not None
    for other, record in others:
        assert record.score is not None
        for what in ("metric", "split"):
            one, two = getattr(first.score, what), getattr(record.score, what)
            if one != two:
                text = f"{name} is scored by {one}, {other} by {two}"
                raise InputError(text, do="compare runs that are scored alike")
    return first
