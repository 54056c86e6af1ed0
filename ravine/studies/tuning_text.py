"""What tuning found, as text for a terminal."""

import math
from typing import Any

from ravine.errors import join_first, shorten
from ravine.record import score_text
from ravine.reporting.findings_text import count_of, finding_line
from ravine.reporting.text_table import TERMINAL_WIDTH, aligned_rows, hanging_text
from ravine.studies.tuned_trials import TunedTrial, TunedTrials

VALUE_WIDTH = 16  # of a setting's value, in the table
SCHEDULE_TEXTS = {
    True: "This schedule is better than its last values from the start on; no recipe holds it.",
    False: "This schedule is not shown to be better than its last values from the start on.",
    None: "Only fresh seeds show if this schedule is good, or only these weights were chosen well.",
}


def tuning_summary(found: TunedTrials, most: int) -> str:
    """The best trials, what mattered, what to take and how sure that is."""
    blocks = [_trial_table(found, most)] if found.trials else []
    lines = [_counts(found)]
    if not found.trials:  # others train them
        return _wrap(lines)
    if found.best is None:
        what = "No trial ended well: take smaller learning rates (`ravine range` finds them)."
        if all(trial.outcome == "impossible" for trial in found.trials):
            what = "None of these recipes can be made: take other values."
        reasons = {t.why for t in found.trials if t.why}
        lines += [what, *(f"For example: {why}" for why in sorted(reasons)[:1])]
        return "\n\n".join([*blocks, _wrap(lines)])
    lines.append(_tie_text(found))
    if found.importance:
        shares = [
            f"{path} {share:.0%}".replace("%", " %") for path, share in found.importance.items()
        ]
        lines.append(f"What the score depends on: {join_first(shares, 6)}.")
    blocks.append(_wrap(lines))
    findings = found.findings()
    if findings:
        told = [line for f in findings for line in (finding_line(f), hanging_text("  ", f.advice))]
        blocks.append("\n".join(told))
    if found.best.has_schedule:
        blocks.append(_lineage_text(found))
    if found.verdict is not None:
        seeds = len(found.verdict.seeds)
        blocks.append(f"The best of them on {count_of(seeds, 'fresh seed')}:")
        blocks.append(found.verdict.summary())
        blocks.append(_wrap([_optimism_text(found)]))
    if found.best.has_schedule:
        blocks.append(_wrap([SCHEDULE_TEXTS[found.is_schedule_better]]))
    return "\n\n".join(block for block in blocks if block)


def _lineage_text(found: TunedTrials) -> str:
    """By which settings the best member of a population trained, and in whose place."""
    assert found.best is not None
    lines = [f"The settings of trial {found.best.number}, first in the place of other trials:"]
    for phase in found.best.phases:
        items = phase.values.items()
        text = ", ".join(f"{path.rpartition('.')[2]} {_value_text(v)}" for path, v in items)
        label = f"from {phase.share:.0%}".replace("%", " %").ljust(10)
        lines.append(hanging_text(f"  {label}trial {phase.trial:<4}", text))
    return "\n".join(lines)


def _wrap(lines: list[str]) -> str:
    return "\n".join(hanging_text("", line) for line in lines if line)


def _trial_table(found: TunedTrials, most: int) -> str:
    """A line for each of the best trials; where they are too wide, their settings on a second."""
    paths = list(found.space)
    heads = [path.rpartition(".")[2] for path in paths]
    heads = [
        path if heads.count(head) > 1 else head for path, head in zip(paths, heads, strict=True)
    ]
    measured = ["trial", found.metric, "loss"]
    rows, lines = [[*measured, *heads]], []
    shown = found.rank_trials()[:most]
    for trial in shown:
        values = [_value_text(trial.values[path]) for path in paths]
        row = [str(trial.number), *_scores(trial)]
        rows.append([*row, *values])
        settings = ", ".join(f"{h} {v}" for h, v in zip(heads, values, strict=True))
        lines += [row, settings]
    table = aligned_rows(rows)
    if max(map(len, table)) > TERMINAL_WIDTH:
        numbers = aligned_rows([measured, *lines[::2]])
        table = numbers[:1]
        for number, settings in zip(numbers[1:], lines[1::2], strict=True):
            table += [number, hanging_text("  ", settings)]
    if len(found.trials) > len(shown):
        table.append(f"and {len(found.trials) - len(shown)} more")
    title = (
        f"{found.metric} ({'higher' if found.higher_is_better else 'lower'} is better) on "
        f"{found.rows:,} validation rows, best first"
    )
    return "\n".join([title, "", *table])


def _scores(trial: TunedTrial) -> list[str]:
    if not math.isfinite(trial.score):
        return [trial.outcome, ""]
    text = score_text(trial.score)
    return [text if trial.is_finished else f"{text} (left early)", f"{trial.loss:.4g}"]


def _value_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shorten(str(value), VALUE_WIDTH)


def _counts(found: TunedTrials) -> str:
    """How many trials there were, how they ended, and what they cost."""
    counts = {o: sum(t.outcome == o for t in found.trials) for o in ("diverged", "impossible")}
    parts = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    pruned = sum(trial.outcome == "pruned" for trial in found.trials)
    parts += [f"{pruned} left early"] if pruned else []
    parts += [f"{found.waiting} still train elsewhere"] if found.waiting else []
    text = f"{count_of(len(found.trials), 'trial')} ({found.sampler})"
    text = ", ".join([text, *parts])
    return f"{text}; {found.cost:.0%} of their steps were made." if pruned else f"{text}."


def _tie_text(found: TunedTrials) -> str:
    assert found.best is not None
    number, ties = found.best.number, found.ties
    if len(found.trials) == 1:
        return ""
    if not ties:
        return f"Trial {number} is ahead of all others on these validation rows."
    others = join_first([str(t.number) for t in ties], 6)
    word = "trials" if len(ties) > 1 else "trial"
    return (
        f"Trial {number} is the best, but {count_of(len(ties), 'other trial')} "
        f"({word} {others}) cannot be told from it by these validation rows: a tie."
    )


def _optimism_text(found: TunedTrials) -> str:
    """How much of the best trial's score was luck."""
    assert found.best is not None
    told = found.optimism()
    if told is None:
        return ""
    searched, fresh = told
    count = len(found.trials)
    luck = (searched - fresh) * (1 if found.higher_is_better else -1)
    text = (
        f"Trial {found.best.number} had validation {found.metric} {score_text(searched)} when it "
        f"was chosen and has {score_text(fresh)} on fresh seeds"
    )
    if luck <= 0:
        return f"{text}: the choice among {count} trials did not flatter it."
    return f"{text}, worse by {score_text(luck)} than when it was the best of {count}."
