"""A run's record as text for a terminal of 80 columns: what was inferred from the data, how the
networks trained, the score beside that of the best constant prediction, and the next command.
"""

import math
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ravine.errors import printable
from ravine.finding import Finding
from ravine.record import Record, Score, score_text
from ravine.reporting.findings_text import count_of, finding_line
from ravine.reporting.text_table import TERMINAL_WIDTH, aligned_rows

LABEL_WIDTH = 12  # of the labels on the left
# the settings that change what is inferred from the data
TABLE_SETTINGS = (
    *(f"data.{name}" for name in ("task", "drop", "categories", "numbers", "texts", "decimal")),
    *("data.date_order", "data.min_class_rows", "split", "encoding.target"),
)
IMAGE_SETTINGS = ("data.size", "data.fit", "data.channels", "split")
METRICS_IN_UNITS = ("rmse", "mae")  # of the target: of several no mean is taken
MAX_TARGETS = 10  # of several, with a line each
NAME_WIDTH = 30  # of targets
UNBROKEN_SPACE = "\u00a0"  # lines are not broken there


def summary(
    record: Record,
    *,
    folder: str = "",
    findings: Sequence[Finding] = (),
    color: bool = False,
    plain: bool = False,
    data: bool = True,
) -> str:
    """The result of a finished run. `folder` is where it was written; with `data` what was inferred
    from the data is part of it.

    A technique is listed only where it had no effect; the record holds the effects of all. `color`
    and `plain` (ASCII marks) say how findings are marked.
    """
    events = (e for e in record.events if e.member is None and not e.kind.startswith("RVN-"))
    blocks = {
        "data": _wrap(record.notes if data else ()),
        "network": _wrap([_network(record)]),
        "training": _wrap(_training(record)),
        "no effect": _wrap(
            f"{e.name} ({e.meaning}: 0)"
            for e in record.idle()
            if e.name != "early stopping"  # nothing to stop is no fault
        ),
        "events": _wrap(e.text for e in events),
        "score": _score(record),
        "findings": [
            finding_line(f, width=TERMINAL_WIDTH - LABEL_WIDTH, color=color, plain=plain)
            for f in findings
        ],
        "run": [printable(folder)] if folder else [],
        "next": [printable(line) for line in _next_commands(record, folder, findings) if folder],
    }
    return _join_blocks(blocks)


def data_summary(notes: Sequence[str], *, of_images: bool) -> str:
    """What was inferred from the data, and how to change it: told before training."""
    settings = IMAGE_SETTINGS if of_images else TABLE_SETTINGS
    change = f"--set KEY=VALUE, where KEY is one of {', '.join(settings)}"
    return _join_blocks({"data": _wrap(notes), "change it": _wrap([change])})


def _join_blocks(blocks: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(
        f"{label if i == 0 else '':{LABEL_WIDTH}}{line}"
        for label, lines in blocks.items()
        for i, line in enumerate(lines)
    )


def _wrap(lines: Iterable[str]) -> list[str]:
    """Lines wrapped beside their label, not at `UNBROKEN_SPACE`; paths stay whole."""
    wrap = textwrap.TextWrapper(
        TERMINAL_WIDTH - LABEL_WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
        subsequent_indent="  ",
    )
    texts = (printable(line) for line in lines)
    return [part.replace(UNBROKEN_SPACE, " ") for line in texts for part in wrap.wrap(line)]


def _network(record: Record) -> str:
    network, task = record.recipe["network"], record.task
    hidden = network.get("hidden", ())
    if hidden:
        parts = [f"{network['name']} {'-'.join(map(str, [task['features'], *hidden]))}"]
    else:
        linear = "linear " if network["name"] == "Mlp" else ""
        parts = [f"{linear}{network['name']}", count_of(task["features"], "input")]
    if task["code_sizes"]:
        parts.append(count_of(len(task["code_sizes"]), "embedded column"))
    if task["weights"]:
        parts.append(f"{task['weights']:,} weights")
    if len(record.members) > 1:
        parts.append(f"ensemble of {len(record.members)}")
    return ", ".join(parts)


def _training(record: Record) -> Iterator[str]:
    recipe, members = record.recipe, record.members
    yield (
        f"{_optimizer(recipe['optimizer'])}, {_schedule(recipe['schedule'])}, "
        f"batch{UNBROKEN_SPACE}size{UNBROKEN_SPACE}{recipe['batch']}"
    )
    of_all = f" of {len(members)} networks" if len(members) > 1 else ""
    epochs = recipe["epochs"]
    for outcome, verb in (
        ("finished", f"trained for all {count_of(epochs, 'epoch')}"),
        ("stopped", "stopped early after {} of {:,} epochs"),
        ("diverged", "diverged after {} of {:,} epochs: not in the model"),
        ("interrupted", "interrupted after {} of {:,} epochs"),
    ):
        ended = [m for m in members if m.outcome == outcome]
        if ended:
            text = verb.format(_epoch_range(record, [m.steps for m in ended]), epochs)
            yield f"{len(ended)}{of_all} {text}" if of_all else text
    kept = [m.best_step for m in members if m.outcome != "diverged"]
    if kept:
        yield f"best weights from epoch {_epoch_range(record, kept)}"
    yield f"took {record.seconds:.1f}{UNBROKEN_SPACE}s"


def _epoch_range(record: Record, steps: Sequence[int]) -> str:
    """The epochs in which steps were made: one number, or the first and the last."""
    count, batch = record.task["examples"]["train"], record.recipe["batch"]
    per_epoch = 1 if batch == "all" else -(-count // batch)
    low, high = (-(-n // per_epoch) for n in (min(steps), max(steps)))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _optimizer(optimizer: Mapping[str, Any]) -> str:
    """The name of an optimizer and its learning rate, or the optimizer that it is put around."""
    inner = optimizer.get("inner")
    if isinstance(inner, Mapping):
        return f"{optimizer['name']} around {_optimizer(inner)}"
    return f"{optimizer['name']} with{UNBROKEN_SPACE}lr{UNBROKEN_SPACE}{optimizer['lr']:g}"


def _schedule(schedule: Mapping[str, Any]) -> str:
    """The name of a schedule, and of the one that follows it."""
    after = schedule.get("then")
    follows = f" then {_schedule(after)}" if isinstance(after, Mapping) else ""
    return f"{schedule['name']}{follows}"


def _score(record: Record) -> list[str]:
    """The main score with its interval, and what a constant answer and trees reach."""
    score = record.score
    if score is None:
        diverged = record.failures == len(record.members)
        return ["none: every network diverged" if diverged else "none: no rows were kept for it"]
    rows = "images" if _is_of_images(record) else "rows"
    answer = score.only_answer
    lines = [] if answer is None else [f"every row is answered {answer!r}:"]
    lines.append(
        f"{score.metric} {score_text(score.value)} on {score.examples:,} {score.split} {rows}, "
        f"{score.confidence:.0%} interval {score_text(score.low)} to {score_text(score.high)}"
    )
    if score.constant_baseline is not None:
        lines.append(f"best constant prediction {score_text(score.constant_baseline)}")
    trees = score.baselines.get("trees")
    if trees is not None and trees.values:
        lines[-1] += f", boosted trees {score_text(trees.values[score.metric])}"
    elif trees is not None:
        lines[-1] += f"; no boosted trees: {trees.note}"
    lines += _members(score)
    return [*_wrap(lines), *aligned_rows(_all_metrics(score)), *_by_target(score)]


def _members(score: Score) -> Iterator[str]:
    if len(score.members) < 2:
        return
    low, high = min(score.members), max(score.members)
    mean = statistics.fmean(score.members)
    shown = f"{score_text(mean)} on average, {score_text(low)} to {score_text(high)}"
    yield f"single networks {shown}"
    worse = mean - score.value if score.higher_is_better else score.value - mean
    if worse > 0:
        yield f"their mean, which is the model, does worse on these rows, by {worse:.2g}"


def _all_metrics(score: Score) -> list[list[str]]:
    """A row for each metric: the networks', and those of the baselines that are known."""
    known = {name: b.values for name, b in score.baselines.items() if b.values}
    table = [["", "networks", *known]]
    for name, value in score.others.items():
        if score.targets and name in METRICS_IN_UNITS:
            continue
        beside = (_number(values.get(name, math.nan)) for values in known.values())
        table.append([name, _number(value), *beside])
    return table


def _by_target(score: Score) -> list[str]:
    """A line for each of several targets, by the metric that all of them have and in its units."""
    if not score.targets:
        return []
    first = next(iter(score.targets.values()))
    metric = score.metric if score.metric in first["network"] else next(iter(first["network"]))
    shown = [metric, *(name for name in METRICS_IN_UNITS[:1] if name in first["network"])]
    table = []
    for one in dict.fromkeys(shown):
        table.append([f"{one} of", "networks", *list(first)[1:]])
        for target, values in list(score.targets.items())[:MAX_TARGETS]:
            name = textwrap.shorten(printable(target), NAME_WIDTH, placeholder=" …")
            table.append([name, *(_number(each[one]) for each in values.values())])
    more = len(score.targets) - MAX_TARGETS
    return [*aligned_rows(table), *([f"and {more} more: --json"] if more > 0 else [])]


def _next_commands(record: Record, folder: str, findings: Sequence[Finding]) -> Iterator[str]:
    if any(f.severity != "note" for f in findings):
        yield f"ravine doctor {folder}"
    if record.score:
        new = "new/" if _is_of_images(record) else "new.csv"
        yield f"ravine predict {folder} {new} -o out.csv"


def _is_of_images(record: Record) -> bool:
    return record.recipe["data"]["name"] == "Images"


def _number(value: float) -> str:
    return score_text(value) if abs(value) >= 1000 else f"{value:.4g}"
