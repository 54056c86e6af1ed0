"""What a finding means, for a reader: the page of a code, the list of all codes, and the codes that name a cause."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ravine.diagnosis.rule import Rule
from ravine.errors import InputError, folded
from ravine.finding import CAUSES

WIDTH = 80
FAMILIES: Mapping[str, str] = {  # the letter of a code, in the order of the list
    "L": "the training loop",
    "N": "numbers",
    "H": "between output and loss",
    "S": "the network's structure",
    "D": "the data",
    "I": "the start",
    "C": "checks before training",
    "T": "the course of training",
    "X": "what trying a change showed",
}
COLORS = {"error": "31", "warning": "33", "note": "36", "+": "32", "-": "31"}
RESET, BOLD = "\x1b[0m", "\x1b[1m"

MEANINGS: Mapping[str, str] = {
    "learning-rate-high": "Steps are too long: the loss swings, grows or ends in NaN, or units die.",
    "learning-rate-low": "Steps are too short to get anywhere in the steps planned, or are lost in rounding.",
    "too-few-steps": "The loss is still falling when training ends.",
    "schedule": "The learning rate's course does not fit the run: too fast, too slow, never stepped, out of order.",
    "batch-size": "The gradient is too noisy for the rate, or too few steps are made of the examples.",
    "optimizer": "The optimizer does not fit the task, or is used with settings meant for another one.",
    "optimizer-numerics": "A constant of the optimizer (eps, a beta) is out of proportion to the gradients.",
    "hidden-activation": "An activation between layers is missing, misplaced, or keeps gradients from passing.",
    "output-activation": "The last activation does not fit the loss or the targets' range.",
    "loss": "The loss function does not fit the task, its inputs, or has no derivative where it is used.",
    "loss-reduction": "A sum stands where a mean is meant, or the reverse: the rate then depends on the batch.",
    "shape-pairing": "Output and target are broadcast, so examples are compared with those of others.",
    "initialization": "The weights start equal, too large or too small.",
    "input-scale": "Features are far from 0 or of very different sizes.",
    "target-scale": "Targets are far from 0 or far from size 1, for a network that starts near both.",
    "data-degenerate": "Examples have NaN, infinities, constants or copies, or too little in them to learn from.",
    "labels": "Targets are wrong, out of range, in another order than the inputs, or of another kind.",
    "leakage": "The score rests on what will not be known: the target in a feature, one example in two splits.",
    "imbalance": "Some classes are so rare that the network does well by leaving them out.",
    "split": "Training, validation and test examples are not of one kind, or a split is too small.",
    "shuffling": "Examples come in an order that means something, so batches are not alike.",
    "augmentation": "Changes made to examples destroy what tells classes apart, or reach validation too.",
    "dead-units": "Rectified units are 0 for every example and can no longer learn.",
    "saturation": "Units of a bounded activation sit at its bounds, where the gradient is next to 0.",
    "vanishing": "Gradients shrink from layer to layer, so the first layers hardly learn.",
    "exploding": "Signals or gradients grow from layer to layer, or from step to step.",
    "architecture-too-small": "The network cannot express the task, even on the training examples.",
    "architecture-too-deep": "The network is deeper than its gradients reach.",
    "overfitting": "Training examples are learned by heart; others get worse.",
    "over-regularized": "Weight decay or another penalty outweighs the loss.",
    "dropout": "Dropout takes away too much, or stands where it does harm.",
    "normalization": "Batch, layer or group norm is missing, misplaced, or has too few examples for its statistics.",
    "train-eval-mode": "model.train() and model.eval() are not where they should be.",
    "frozen-parameters": "Parameters have requires_grad False.",
    "parameters-not-in-optimizer": "Parameters that want to learn are in no optimizer, or are not the model's.",
    "zero-grad": "Gradients are not cleared, or are cleared at the wrong place.",
    "step-order": "Forward, backward and step come in the wrong order, or one of them does not come.",
    "detached-graph": "Something between parameters and loss cuts the graph, so no gradient passes.",
    "gradient-clipping": "Gradients are clipped to next to nothing, or not clipped where they must be.",
    "precision": "The number format is too coarse or its range too small.",
    "metric": "The number that is watched does not measure what is wanted.",
    "randomness": "Random streams repeat, or differ where they should not.",
    "replicas": "Copies of a model that should agree do not.",
    "causality": "An output depends on inputs that come after it.",
    "seed-fragile": "The result depends on the seed: some runs fail, others do not.",
    "healthy": "Nothing is wrong.",
}


def known_as(name: str, rules: Sequence[Rule]) -> Rule | str:
    """The rule of a code, or the cause, that a reader may write in any case and without `RVN-`.

    Raises `InputError` with the nearest one for any other name.
    """
    codes = {rule.code: rule for rule in rules}
    match = re.fullmatch(r"(?:RVN-?)?([A-Z])-?0*(\d+)", name.strip().upper())
    code = f"RVN-{match[1]}{int(match[2]):02d}" if match else ""
    if code in codes:
        return codes[code]
    causes = {folded(cause): cause for cause in CAUSES}
    if folded(name.strip()) in causes:
        return causes[folded(name.strip())]
    near = _nearest(name.strip(), code, codes)
    about = codes[near].title if near in codes else MEANINGS[near]
    raise InputError(f"no code {name!r}", why=f"the nearest is {near} ({about.rstrip('.')})",
                     do=f"write ravine explain {near}, or ravine explain for all of them")  # fmt: skip


def naming(cause: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules that may name a cause: as theirs, instead of theirs, or as a suspect beside it."""
    rules = tuple(rules)
    return (*(r for r in rules if r.cause == cause), *(r for r in rules if r.cause != cause and cause in r.also))


def families(rules: Iterable[Rule]) -> Iterator[tuple[str, list[Rule]]]:
    """Rules by family: its name, and its rules in the order of their codes."""
    rules = sorted(rules, key=lambda rule: rule.code)
    for letter, family in FAMILIES.items():
        if found := [rule for rule in rules if rule.code[4] == letter]:
            yield family, found


def plain(rule: Rule) -> dict[str, Any]:
    """A rule as JSON-ready data: all that it says, without the function that looks."""
    return {f.name: getattr(rule, f.name) for f in fields(rule) if f.name not in ("find", "needs")}


def page(rule: Rule, rules: Iterable[Rule], *, width: int = WIDTH, color: bool = False) -> str:
    """The page of a rule for a terminal; `rules` give the titles of the codes that it mentions."""
    titles = {r.code: r.title for r in rules}
    sure = "exact" if rule.confidence == "exact" else f"confidence {rule.confidence}"
    causes = f"cause {rule.cause}" + (f", or {', '.join(rule.also)}" if rule.also else "")
    blocks = [
        "\n".join([*_heading(rule, width, color), *_wrapped(f"{rule.severity}, {sure}; {causes}", width)]),
        _section("What it means", _wrapped(rule.means, width), color),
        _section("Why it happens", _wrapped(as_sentence(rule.because), width), color),
        _section("How it is detected", _wrapped(rule.detected, width), color),
        _section("What it misses", _wrapped(as_sentence(rule.misses), width), color),
        _section("What to do", [*_wrapped(rule.remedy, width), "", *_patch(rule.patch, color)], color),
    ]
    if rule.explains:
        lines = [line for code in rule.explains for line in _wrapped(f"{code} {titles.get(code, '')}".rstrip(), width)]
        blocks.append(_section("What it accounts for", lines, color))
    if rule.picture:
        blocks.append(_section("Picture", [f"  ravine explain {rule.code} --picture {rule.picture}.svg",
                                           f"  ravine gallery {rule.picture} -o shown"], color))  # fmt: skip
    if rule.references:
        lines = [line for text in rule.references for line in _wrapped(text, width, first="- ")]
        blocks.append(_section("References", lines, color))
    return "\n\n".join(blocks)


def listing(rules: Iterable[Rule], *, width: int = WIDTH, color: bool = False) -> str:
    """All codes with their titles, by family."""
    blocks = []
    for family, found in families(rules):
        lines = [f"  {rule.code}  {textwrap.shorten(rule.title, width - 11, placeholder=' ...')}" for rule in found]
        blocks.append(_section(f"{found[0].code[:5]}.. {family}", lines, color))
    blocks.append("ravine explain CODE says what one of them means, and what to do.")
    return "\n\n".join(blocks)


def cause_page(cause: str, rules: Iterable[Rule], *, width: int = WIDTH, color: bool = False) -> str:
    """A cause: what it means, and the codes that may name it."""
    named = naming(cause, rules)
    lines = [line for rule in named for line in _wrapped(f"{rule.code}  {rule.title}", width, hang=9)]
    found = _section("Named by", lines or ["  no check yet"], color)
    return "\n\n".join([_section(cause, _wrapped(MEANINGS[cause], width), color), found])


def _nearest(name: str, code: str, codes: Mapping[str, Rule]) -> str:
    """The code of the same family whose number is nearest, the title that has the word, or the likest name."""
    if code:
        family = [c for c in codes if c[4] == code[4]]
        if family:
            return min(family, key=lambda c: abs(int(c[5:]) - int(code[5:])))
    else:
        word = re.escape(name.lower())
        titled = [c for c, rule in codes.items() if name and re.search(rf"\b{word}", rule.title.lower())]
        if titled:
            return titled[0]
    by_folded = {folded(known): known for known in (*codes, *CAUSES)}
    return by_folded[difflib.get_close_matches(folded(code or name), by_folded, n=1, cutoff=0.0)[0]]


def _heading(rule: Rule, width: int, color: bool) -> list[str]:
    lines = textwrap.wrap(rule.title, width - len(rule.code) - 2)
    code = f"\x1b[{COLORS[rule.severity]}m{BOLD}{rule.code}{RESET}" if color else rule.code
    return [f"{code}  {lines[0]}", *(f"{'':{len(rule.code) + 2}}{line}" for line in lines[1:])]


def _section(title: str, lines: Iterable[str], color: bool) -> str:
    return "\n".join([f"{BOLD}{title}{RESET}" if color else title, *lines])


def _wrapped(text: str, width: int, *, first: str = "", hang: int = 0) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=f"  {first}", subsequent_indent="  " + " " * (hang or len(first)),
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def _patch(patch: str, color: bool) -> Iterator[str]:
    for line in patch.splitlines():
        yield f"    \x1b[{COLORS[line[0]]}m{line}{RESET}" if color and line[0] in "+-" else f"    {line}"


def as_sentence(text: str) -> str:
    """A clause as a sentence; a name of code at its beginning stays as it is written.

    >>> as_sentence("a list"), as_sentence("model.eval() was called"), as_sentence("zero_grad is missing")
    ('A list.', 'model.eval() was called.', 'zero_grad is missing.')
    """
    first = text.split(" ")[0]
    return (text if re.search(r"[_.(=\d\[]", first) else text[:1].upper() + text[1:]) + "."
