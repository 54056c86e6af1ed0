"""Findings as text: what is wrong, evidence, cause, remedy, and what trying it did."""

import json
import textwrap
from collections.abc import Iterator

from ravine.argument_checks import check_arguments
from ravine.errors import printable
from ravine.finding import SEVERITY_LEVELS, Change, Evidence, Finding, Report, Trial
from ravine.reporting.text_table import TERMINAL_WIDTH

LABEL_INDENT = 3  # columns before a label
LABEL_COLUMNS = 10  # columns of a label: evidence, explains, cause, change, tried, see
SEVERITY_SYMBOLS = {"error": "\u2716", "warning": "\u25b2", "note": "\u25cf"}
PLAIN_SYMBOLS = {"error": "x", "warning": "!", "note": "-"}
SEVERITY_COLORS = {"error": "31", "warning": "33", "note": "36"}
# What to write in a program, by a change as `--json` gives it
PROGRAM_CHANGES = {
    "activation: leaky_relu": "nn.LeakyReLU() between the layers",
    "activation: relu": "nn.ReLU() between the layers",
    "activation: tanh": "nn.Tanh() between the layers",
    "init: biases of 0": "nn.init.zeros_(layer.bias)",
    "init: default": "nn.init.kaiming_normal_(layer.weight), biases of 0",
    "init: unit variance": "new weights, those of linear and convolutional layers divided by the "
    "standard deviation of the layer's output on a batch, one layer after another",
    "input.scale: standardize": "inputs (x - mean) / std, by feature or channel, mean and std of "
    "the training examples",
    "loss: balanced": "draw classes equally often: torch.utils.data.WeightedRandomSampler",
    "loss: squared error": "nn.MSELoss(), with outputs in the targets' shape",
    "loss: binary cross entropy": "nn.BCEWithLogitsLoss() on logits, no sigmoid before it",
    "loss: cross entropy": "nn.CrossEntropyLoss() on logits, no softmax before it",
    "loss: cross entropy, one output for each class": "nn.CrossEntropyLoss(), and a last layer "
    "with one output for each class",
    "loss: mean": 'the mean over the batch: reduction="mean"',
    "loss: paired": "output and target of one shape before the loss: output.squeeze(1) for "
    "[N, 1] and [N], else output.reshape(target.shape)",
    "loss: pos_weight": "nn.BCEWithLogitsLoss(pos_weight=zeros / ones)",
    "loss: weights by class": "nn.CrossEntropyLoss(weight=...), rare classes with more weight",
    "normalization: none of each example": "no nn.InstanceNorm, or layers that do not divide by "
    "the spread of an example",
    "normalization: usual": "momentum=0.1, eps=1e-5 in batch and instance normalization",
    "optimizer: adam": "torch.optim.Adam(model.parameters(), lr=0.001)",
    "optimizer: adam 0.01": "torch.optim.Adam(model.parameters(), lr=0.01)",
    "optimizer: all parameters": "from model.parameters(), all weights nn.Parameter, none frozen",
    "output: linear": "return what the last layer gives, without an activation",
    "output: sigmoid": "torch.sigmoid(...) in place of the activation at the output",
    "shuffle: true": "DataLoader(..., shuffle=True)",
    "target.scale: standardize": "targets (y - mean) / std, mean and std of the training targets",
}
RESET_STYLE, BOLD_STYLE = "\x1b[0m", "\x1b[1m"


def findings_text(
    report: Report, *, width: int = TERMINAL_WIDTH, color: bool = False, plain: bool = False
) -> str:
    """A report as text: findings, a line on the checks, and a last line that can be read alone.

    `plain` uses ASCII marks only. A note that another finding explains is a line of that finding.
    """
    check_arguments(findings_text, locals())
    explained = {code for f in report.findings for code in f.explains}
    whole = [f for f in report.findings if f.code not in explained or f.severity != "note"]
    blocks = [finding_text(f, report, width=width, color=color, plain=plain) for f in whole]
    last = [*(f"left out: {part}" for part in report.left_out), _checks(report, plain)]
    return "\n\n".join([*blocks, "\n".join([*map(printable, last), closing(report)])])


def finding_text(
    finding: Finding,
    report: Report | None = None,
    *,
    width: int = TERMINAL_WIDTH,
    color: bool = False,
    plain: bool = False,
) -> str:
    """One finding; with its report, the symptoms that it explains are given by title.

    The first line has mark, code, title, and on the right the confidence.
    """
    mark, columns = _mark(finding, color=color, plain=plain)
    sure = "exact" if finding.confidence == "exact" else f"confidence {finding.confidence}"
    first, *rest = textwrap.wrap(printable(finding.title), width - columns - len(sure) - 2) or [""]
    lines = [f"{mark}{first:{width - columns - len(sure)}}{sure}"]
    lines += [f"{'':{columns}}{line}" for line in rest]
    wrap = textwrap.TextWrapper(
        width - LABEL_INDENT - LABEL_COLUMNS, break_long_words=False, break_on_hyphens=False
    )
    titles = {f.code: f.title for f in report.findings} if report else {}
    told = report.findings if report else ()
    first = next((f for f in told if f.trial == finding.trial), finding)  # a trial is told once
    made = finding.trial is not None and finding.trial.verdict != "not tried"
    same = first if made and first != finding and first.severity != "note" else None
    for label, text in _parts(finding, titles, same):
        for i, line in enumerate(wrap.wrap(printable(text))):
            shown = label if i == 0 else ""
            lines.append(f"{'':{LABEL_INDENT}}{shown:{LABEL_COLUMNS}}{line}")
    return "\n".join(lines)


def finding_line(
    finding: Finding, *, width: int = TERMINAL_WIDTH, plain: bool = False, color: bool = False
) -> str:
    """One line for the moment at which it is found."""
    mark, columns = _mark(finding, color=color, plain=plain)
    step = "" if finding.since is None else f"step {finding.since}: "
    where = f" ({_place(finding)})" if finding.where else ""
    text = f"{step}{finding.title}{where}"
    return mark + textwrap.shorten(printable(text), width - columns, placeholder=" …")


def _place(finding: Finding) -> str:
    """Where a finding is: a name that is a number, such as of a module in nn.Sequential, quoted."""
    return f"'{finding.where}'" if finding.where.isdecimal() else finding.where


def _mark(finding: Finding, *, color: bool, plain: bool) -> tuple[str, int]:
    """Mark and code of a finding and two spaces, and how many columns they take."""
    mark = (PLAIN_SYMBOLS if plain else SEVERITY_SYMBOLS)[finding.severity]
    text = f"{mark} {finding.code}  "
    if not color:
        return text, len(text)
    start = f"\x1b[{SEVERITY_COLORS[finding.severity]}m"
    return f"{start}{mark} {BOLD_STYLE}{finding.code}{RESET_STYLE}  ", len(text)


def preflight_line(report: Report, *, seconds: float) -> str:
    """One line on the checks before training: how many pass, what was found, seconds."""
    checks = report.checks
    counts = [f"{len(checks.passed)} pass", *_severity_counts(report)]
    if checks.failed:
        counts.append(f"{len(checks.failed)} failed to run")
    text = f"{'preflight':12}{_count_checks(report)}: {', '.join(counts)}"
    return f"{text:{TERMINAL_WIDTH - 8}}{seconds:6.1f} s"


def closing(report: Report) -> str:
    """The last line: how many of each severity, in how many checks."""
    found = ", ".join(_severity_counts(report)) or "nothing found"
    return f"{found} in {_count_checks(report)}"


def count_of(number: int, noun: str) -> str:
    """A number and its noun: 1 check, 2 checks."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _severity_counts(report: Report) -> list[str]:
    counts = {s: sum(f.severity == s for f in report.findings) for s in SEVERITY_LEVELS}
    return [count_of(n, severity) for severity, n in counts.items() if n]


def _count_checks(report: Report) -> str:
    """How many checks ran."""
    checks = report.checks
    codes = {f.code for f in report.findings}
    return count_of(len(codes) + len(checks.passed) + len(checks.failed), "check")


def _checks(report: Report, plain: bool) -> str:
    tick, dash = ("+", "-") if plain else ("\u2713", "\u2013")
    checks = report.checks
    parts = [f"{tick} {len(checks.passed)} passed"]
    for mark, codes, text in (
        (dash, checks.not_applicable, "not applicable"),
        ("?", checks.not_measured, "not measured"),
        ("!", checks.failed, "failed to run"),
    ):
        if codes:
            parts.append(f"{mark} {len(codes)} {text}")
    return "   ".join(parts)


def _parts(
    finding: Finding, titles: dict[str, str], same_trial: Finding | None
) -> Iterator[tuple[str, str]]:
    if finding.where:
        yield "where", _place(finding)
    if finding.since is not None:
        yield "since", f"step {finding.since:,}"
    for i, evidence in enumerate(finding.evidence):
        yield ("evidence" if i == 0 else ""), _evidence(evidence)
    for code in finding.explains:
        yield "explains", f"{code} {titles.get(code, '')}".rstrip()
    others = f"; or {', '.join(finding.suspects)}" if finding.suspects else ""
    yield "cause", finding.cause + others
    if same_trial is not None and finding.changes == same_trial.changes != ():
        yield "change", f"as for {same_trial.code}"
    else:
        for i, change in enumerate(finding.changes):
            yield ("change" if i == 0 else ""), _change(change)
    if not finding.changes and finding.severity != "note" and finding.advice:
        yield "do", finding.advice
    if finding.trial is not None:
        short = same_trial and f"{finding.trial.verdict}: see {same_trial.code}"
        yield "tried", short or _trial(finding.trial)


def _evidence(evidence: Evidence) -> str:
    """Name, value in its unit, limit and text; a name with "of" follows its value, as in "90% of
    the units are dropped".
    """
    value = "" if evidence.value is None else _with_unit(evidence.value, evidence.unit)
    per_cent = "%" if evidence.unit == "%" else ""
    limit = "" if evidence.limit is None else f"limit {_with_unit(evidence.limit, per_cent)}"
    if value and evidence.name.startswith("of "):
        remarks = "; ".join(filter(None, (limit, evidence.text)))
        return f"{value} {evidence.name}" + (f" ({remarks})" if remarks else "")
    number = f"{value} ({limit})" if value and limit else value or limit
    return f"{evidence.name}: {'; '.join(filter(None, (number, evidence.text)))}".rstrip(": ")


def _with_unit(value: float, unit: str) -> str:
    return f"{_number(value)}{'' if unit == '%' else ' '}{unit}".rstrip()


def _change(change: Change) -> str:
    value = change.value if isinstance(change.value, str) else json.dumps(change.value)
    if change.path == "lr" and value.startswith("x"):
        return f"lr: {value[1:]} times the present one"
    text = PROGRAM_CHANGES.get(f"{change.path}: {value}", value)
    return f"{change.path}: {text}"


def _trial(trial: Trial) -> str:
    if trial.verdict == "not tried":
        return f"no: {trial.why}" if trial.why else "no"
    # a few seeds show no small effect, so none is ruled out
    verdict = "no sure effect" if trial.verdict == "no effect" else trial.verdict
    parts = [f"{verdict}; {count_of(trial.steps, 'step')} x {count_of(trial.seeds, 'seed')}"]
    if trial.before is not None and trial.after is not None:
        parts[0] += f": {_number(trial.before)} -> {_number(trial.after)}"
    if trial.difference is not None and trial.interval is not None:
        low, high = map(_number, trial.interval)
        interval = "" if low == high else f" [{low}, {high}]"
        parts.append(f"difference {_number(trial.difference)}{interval}")
    return "; ".join(filter(None, (*parts, trial.why)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == 0 or 1000 <= abs(value) < 1e7 else f"{value:.3g}"
