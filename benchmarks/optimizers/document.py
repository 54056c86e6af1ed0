"""The numbers of docs/optimizers.md: each of its blocks as Markdown, written from the results."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmarks.optimizers.claims import claim_rows, default_against_tuned
from benchmarks.optimizers.protocol import FIRST_TEST_SEED
from benchmarks.optimizers.spaces import SCHEDULED_OPTIMIZERS, SPACES
from benchmarks.optimizers.summary import (
    CLOSE_GAP,
    Known,
    budgets_of,
    choice_of,
    entries_everywhere,
    function_part,
    gaps_at,
    gaps_of,
    mean_gap,
    network_part,
    rank_intervals,
    sensitivities,
    tally_against,
    tally_pairs,
    with_shown_names,
)
from ravine.statistics import Interval, bootstrap_interval

REFERENCE_OPTIMIZER = "Adam"  # chosen beforehand: the lectures recommend it
BLOCK_PATTERN = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FAILED_MARK = "failed"
DOCUMENT_WIDTH = 120


def fill_blocks(text: str, known: Known) -> str:
    """The document with its blocks written anew; what stands between them is left as it is."""

    shown = with_shown_names(known)

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}{ALL_BLOCKS[found[2]](shown)}\n{found[3]}"

    return BLOCK_PATTERN.sub(fill, text)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is on the left, the others on the right.

    >>> print(markdown_table(["a", "b"], [["x", "1"]]))
    | a | b |
    |---|--:|
    | x | 1 |
    """
    lines = [list(head), ["---", *["--:"] * (len(head) - 1)], *map(list, rows)]
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    texts[1] = "|" + "|".join(lines[1]) + "|"
    return "\n".join(texts)


def percent(share: float) -> str:
    """A share in percent, two digits below 10 %.

    >>> percent(0.0345), percent(0.345), percent(0.0)
    ('3.5', '34', '0')
    """
    if not math.isfinite(share):
        return FAILED_MARK
    return f"{100 * share:.0f}" if share == 0 or share >= 0.0995 else f"{100 * share:.1f}"


def score_cell(kept: Mapping, column: tuple[str, int]) -> str:
    """The mean score of an entry, and of how many seeds it failed."""
    choice = choice_of(kept, column)
    if choice.has_failed:
        return f"{FAILED_MARK} ({choice.failures} of {len(choice.scores)})"
    text = f"{choice.score.value:.3g}".replace("-", "−")
    return f"{text} ({choice.failures} {FAILED_MARK})" if choice.failures else text


def problem_block(known: Known) -> str:
    """The problems, what a constant answer scores, and who is first with all draws."""
    rows, most = [], budgets_of(known)[-1]
    for name, kept in known.items():
        names = [n for n in kept["entries"] if " + " not in n]
        gaps = gaps_of({name: kept}, {n: (n, most) for n in names}).iloc[0]
        first = [str(n) for n in gaps.index[gaps == 0]]
        shown = ", ".join(first[:2]) + (f" and {len(first) - 2} more" if len(first) > 2 else "")
        near = f"{int((gaps <= CLOSE_GAP).sum())} of {len(names)}"
        base = f"{kept['test_constant']:.3g}".replace("-", "−")
        best = score_cell(kept, (first[0], most))
        about = kept["about"] if kept["has_networks"] else kept["about"].rpartition(", ")[2]
        rows.append([name, about, kept["metric"], base, best, shown, near])
    head = ["problem", "", "score", "constant", "best", "by", "within 5 %"]
    return markdown_table(head, rows)


def ranking_block(known: Known) -> str:
    """Each optimizer on the problems with networks, at each budget."""
    part, budgets = network_part(known), budgets_of(known)
    names = entries_everywhere(part)
    gaps = gaps_at(part, names, budgets)
    ranks = rank_intervals(gaps[budgets[-1]])
    most = budgets[-1]
    tallies = tally_against(part, names, REFERENCE_OPTIMIZER, most)
    rows = []
    for name in map(str, mean_gap(gaps[most]).sort_values(kind="stable").index):
        cells = [percent(mean_gap(gaps[k])[name]) for k in budgets]
        cells.append(f"{int((gaps[most][name] <= CLOSE_GAP).sum())}")
        cells.append(interval_text(ranks[name]))
        if name == REFERENCE_OPTIMIZER:
            cells += ["", ""]
        else:
            apart = difference_interval(gaps[most], name, REFERENCE_OPTIMIZER)
            cells += [interval_text(Interval(*(100 * x for x in apart))), str(tallies[name])]
        rows.append([name, *cells])
    head = ["", "gap, %: defaults", *[f"{k} draws" for k in budgets[1:]], "within 5 %", "rank"]
    head += [f"gap less {REFERENCE_OPTIMIZER}'s", f"against {REFERENCE_OPTIMIZER}"]
    return markdown_table(head, rows)


def interval_text(found: Interval) -> str:
    """A number and its interval in brackets, in one digit after the point.

    >>> interval_text(Interval(-2.0, -3.04, 1.0))
    '−2.0 [−3.0, 1.0]'
    """
    value, low, high = (f"{number:.1f}".replace("-", "−") for number in found)
    return f"{value} [{low}, {high}]"


def sensitivity_block(known: Known) -> str:
    """How wide good settings are, and how many draws fail."""
    part = network_part(known)
    names = entries_everywhere(part)
    table = sensitivities(part, names).sort_values("near", ascending=False, kind="stable")
    rows = [
        [str(name), f"{100 * near:.0f}", f"{decades:.1f}", percent(failed)]
        for name, near, decades, failed in table.itertuples()
    ]
    return markdown_table(["", "near the best, %", "decades", "diverged, %"], rows)


def function_block(known: Known) -> str:
    """The scores on the functions, with defaults and with all draws."""
    part = function_part(known)
    names = entries_everywhere(part)
    first, last = budgets_of(known)[0], budgets_of(known)[-1]
    gaps = gaps_at(part, names, [first, last])[last]
    rows = []
    for name in mean_gap(gaps).sort_values(kind="stable").index:
        cells = [
            f"{score_cell(kept, (name, first))} → {score_cell(kept, (name, last))}"
            for kept in part.values()
        ]
        rows.append([str(name), *cells])
    return markdown_table(["", *part], rows)


def schedule_block(known: Known) -> str:
    """Each schedule against a constant rate, at the middle budget."""
    counts = {n: sum(" + " in e for e in kept["entries"]) for n, kept in known.items()}
    part = {n: known[n] for n, count in counts.items() if count == max(counts.values())}
    budget = budgets_of(known)[1]
    labels = [n.split(" + ")[1] for n in entries_everywhere(part, schedules=True)]
    labels = list(dict.fromkeys(labels))
    columns, head = {}, [""]
    for name in SCHEDULED_OPTIMIZERS:
        everything = [name, *(f"{name} + {label}" for label in labels)]
        gaps = gaps_of(part, {n: (n, budget) for n in everything})
        columns[name] = mean_gap(gaps)
        head += [f"{name}: gap, %", "against Constant"]
    rows = []
    for label in ["", *labels]:
        cells = [label or "Constant"]
        for name in SCHEDULED_OPTIMIZERS:
            entry = f"{name} + {label}" if label else name
            tally = tally_pairs(part, (entry, budget), (name, budget)) if label else ""
            cells += [percent(columns[name][entry]), str(tally)]
        rows.append(cells)
    rows[1:] = sorted(rows[1:], key=lambda cells: float(cells[1]) + float(cells[3]))
    text = wrap_prose(f"Measured on {', '.join(part)}.")
    return f"{text}\n\n{markdown_table(head, rows)}"


def claim_block(known: Known) -> str:
    """The lectures' claims, on how many problems each was shown to hold, and what that means."""
    head = ["claim", "networks, defaults", "networks, tuned", "functions, tuned"]
    head += ["with defaults (p)", "tuned (p)"]
    return markdown_table(head, claim_rows(known))


def luck_block(known: Known) -> str:
    """How often one rule with other draws was told apart from itself."""
    part, most = function_part(known), budgets_of(known)[-1]
    tally = tally_pairs(part, ("AdamW", most), ("Adam", most))
    shown = tally.better + tally.worse
    return wrap_prose(
        f"On the functions Adam and AdamW are one and the same rule. With the best of {most} draws "
        f"each, ten seeds told them apart on {shown} of {tally.problems}: what is shown there is "
        "which draws were luckier."
    )


def space_block(known: Known) -> str:
    """The settings that are drawn, and their ranges."""
    rows = [
        [name, "; ".join(f"`{path}` {values}" for path, values in space.items())]
        for name, space in SPACES.items()
    ]
    return markdown_table(["optimizer", "drawn"], rows).replace("|--:|", "|---|")


def effort_block(known: Known) -> str:
    """What was run, and what it took."""
    plan = next(iter(known.values()))["plan"]
    entries = sum(len(kept["entries"]) for kept in known.values())
    trained = sum(
        (1 + len(entry["draws"])) * plan["tuning_seeds"] + len(entry["test"]) * plan["test_seeds"]
        for kept in known.values()
        for entry in kept["entries"].values()
    )
    minutes = sum(kept["seconds"] for kept in known.values()) / 60
    return wrap_prose(
        f"{len(known)} problems, {entries} optimizers or pairs of optimizer and schedule on them, "
        f"{trained:,} trainings and descents, {minutes:.0f} minutes of one core. Tuning seeds 0 to "
        f"{plan['tuning_seeds'] - 1}, test seeds {FIRST_TEST_SEED} to "
        f"{FIRST_TEST_SEED + plan['test_seeds'] - 1}."
    )


def difference_interval(gaps: pd.DataFrame, one: str, other: str) -> Interval:
    """How much larger the mean gap of one choice is, with an interval for other problems."""
    clipped = gaps.clip(upper=1.0)
    apart = (clipped[one] - clipped[other]).to_numpy()
    return bootstrap_interval(apart, lambda drawn: drawn.mean(1))


def verdict_block(known: Known) -> str:
    """Which optimizer to take, in words."""
    return "\n".join(wrap_prose(f"- {text}") for text in verdict_sentences(known))


def wrap_prose(text: str) -> str:
    """A paragraph or an item of a list in lines as wide as those of the documents."""
    indent = "  " if text.startswith("- ") else ""
    text = text.replace(" %", "\u00a0%")  # which stays with its number
    text = textwrap.fill(text, DOCUMENT_WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    return text.replace("\u00a0", " ")


def verdict_sentences(known: Known) -> list[str]:
    """With defaults, with all draws, what tuning buys, and what trying many defaults does."""
    part, budgets = network_part(known), budgets_of(known)
    names = entries_everywhere(part)
    gaps = gaps_at(part, names, budgets)
    lines = []
    for budget in (budgets[0], budgets[-1]):
        means = mean_gap(gaps[budget]).sort_values(kind="stable")
        first = str(means.index[0])
        near = [
            f"{n} ({percent(means[n])} %)"
            for n in means.index[1:]
            if difference_interval(gaps[budget], str(n), first).low <= 0
        ]
        when = "With their defaults" if budget == 1 else f"With the best of {budget} draws"
        tied = f"not told apart from it: {', '.join(near)}" if near else "it is ahead of all others"
        place = list(means.index).index(REFERENCE_OPTIMIZER) + 1
        text = (
            f"**{when}** {first} is the least behind the best, by {percent(means[first])} % of "
            f"its gain on average over {len(part)} problems; {tied}. {REFERENCE_OPTIMIZER} is "
            f"number {place} of {len(names)} ({percent(means[REFERENCE_OPTIMIZER])} %)."
        )
        lines.append(text)
    lines.append(_tuning_sentence(gaps, budgets))
    lines.append(default_against_tuned(known, REFERENCE_OPTIMIZER))
    return lines


def _tuning_sentence(gaps: Mapping[int, pd.DataFrame], budgets: Sequence[int]) -> str:
    means = [mean_gap(gaps[k]) for k in budgets]
    medians = [percent(float(np.median(each))) for each in means]
    some, more = budgets[1:]
    return (
        f"**Tuning** lowers the median optimizer's gap from {medians[0]} % with defaults to "
        f"{medians[1]} % with {some} draws and {medians[2]} % with {more}: the choice of the "
        f"optimizer moves the gap from {percent(means[2].min())} to {percent(means[2].max())} % "
        f"when all are tuned, tuning moves Adam's from {percent(means[0]['Adam'])} to "
        f"{percent(means[2]['Adam'])} %."
    )


ALL_BLOCKS: Mapping[str, Callable[[Known], str]] = {
    "verdict": verdict_block,
    "effort": effort_block,
    "problems": problem_block,
    "ranking": ranking_block,
    "sensitivity": sensitivity_block,
    "schedules": schedule_block,
    "functions": function_block,
    "claims": claim_block,
    "luck": luck_block,
    "spaces": space_block,
}
