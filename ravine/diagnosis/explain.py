"""Pages for a reader: what a code means, all codes by family, and the codes that name a cause."""

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from ravine.causes import CAUSES
from ravine.diagnosis.explanation import PAGE_SECTIONS
from ravine.diagnosis.rule import Rule
from ravine.errors import InputError, fold_name
from ravine.old_names import current_code

PAGE_WIDTH = 80
SYMPTOM_SEVERITY = "An examination makes it a note where it finds a cause that accounts for it."
RULE_JSON_KEYS = frozenset(field.name for field in fields(Rule)) - {"needs", "find"}
ANSI_COLORS = {"error": "31", "warning": "33", "note": "36", "+": "32", "-": "31"}
ANSI_RESET, ANSI_BOLD = "\x1b[0m", "\x1b[1m"


def find_topic(name: str, rules: Sequence[Rule]) -> Rule | str:
    """The rule of a code, or the cause, that a reader may write in any case and without `RVN-`. A
    retired code gives the rule that took its place. Raises `InputError` with the nearest one for
    any other name.
    """
    codes = {rule.code: rule for rule in rules}
    code = current_code(normalize_code(name))
    if code in codes:
        return codes[code]
    causes = {fold_name(cause): cause for cause in CAUSES}
    if fold_name(name.strip()) in causes:
        return causes[fold_name(name.strip())]
    near = _nearest(name.strip(), code, codes)
    about = codes[near].title if near in codes else CAUSES[near]
    why = f"the nearest is {near} ({about.rstrip('.')})"
    do = f"write ravine explain {near}, or ravine explain for all of them"
    raise InputError(f"no code {name!r}", why=why, do=do)


def normalize_code(name: str) -> str:
    """A code as it is written in findings, "" for what is none.

    >>> normalize_code("l1"), normalize_code("rvn-L01"), normalize_code("softmax")
    ('RVN-L01', 'RVN-L01', '')
    """
    match = re.fullmatch(r"(?:RVN-?)?([A-Z])-?0*(\d+)", name.strip().upper())
    return f"RVN-{match[1]}{int(match[2]):02d}" if match else ""


def rules_naming(cause: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules that may name a cause: as theirs, instead of theirs, or as a suspect beside it."""
    named = (rule for rule in rules if cause in (rule.cause, *rule.also))
    return tuple(sorted(named, key=lambda rule: rule.cause != cause))


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """A rule and its explanation as JSON-ready data."""
    settings = {name: value for name, value in vars(rule).items() if name in RULE_JSON_KEYS}
    return settings | asdict(rule.explanation)


def rule_page(rule: Rule, rules: Iterable[Rule], *, color: bool = False) -> str:
    """The page of a rule for a terminal; `rules` give the titles of the codes that it mentions."""
    titles = {r.code: r for r in rules}
    about = rule.explanation
    sure = "exact" if rule.confidence == "exact" else f"confidence {rule.confidence}"
    causes = f"cause {rule.cause}" + (f", or {', '.join(rule.also)}" if rule.also else "")
    heading = _heading(rule, color)
    texts = {name: vars(about)[field] for name, field in PAGE_SECTIONS.items()}
    references = texts.pop("References")
    sections = {name: _wrap(text) for name, text in texts.items()}
    if rule.symptom:
        sections["How it is detected"] += ["", *_wrap(SYMPTOM_SEVERITY)]
    sections["What to do"] += ["", *_patch(about.patch, color)]
    symptoms = [f"{code} {titles[code].title}" for code in rule.explains]
    sections["What it accounts for"] = [line for s in symptoms for line in _wrap(s)]
    if about.picture:
        drawing = f"  ravine explain {rule.code} --picture {about.picture}.svg"
        sections["Picture"] = [drawing, f"  ravine gallery {about.picture} -o shown"]
    sections["References"] = [r for text in references for r in _wrap(text, first="- ")]
    text = f"a {rule.severity} {about.detected} {SYMPTOM_SEVERITY if rule.symptom else ''}"
    severities = dict.fromkeys(re.findall(r"\b[Aan]+ (error|warning|note)\b", text))
    blocks = ["\n".join([*heading, *_wrap(f"{' or '.join(severities)}, {sure}; {causes}")])]
    blocks += [_section(name, lines, color) for name, lines in sections.items() if lines]
    return "\n\n".join(blocks)


def list_rules(families: Mapping[str, Sequence[Rule]], *, color: bool = False) -> str:
    """All codes with their titles, each in its first family."""
    blocks = []
    first_family = {r.code: f for f, rules in reversed([*families.items()]) for r in rules}
    for family, rules in families.items():
        shorten = partial(textwrap.shorten, width=PAGE_WIDTH - 11, placeholder=" ...")
        own = (rule for rule in rules if first_family[rule.code] == family)
        lines = [f"  {rule.code}  {shorten(rule.title)}" for rule in own]
        blocks.append(_section(family, lines, color))
    blocks.append("ravine explain CODE says what one of them means, and what to do.")
    return "\n\n".join(blocks)


def cause_page(cause: str, rules: Iterable[Rule], *, color: bool = False) -> str:
    """A cause: what it means, and the codes that may name it."""
    named = rules_naming(cause, rules)
    lines = [line for rule in named for line in _wrap(f"{rule.code}  {rule.title}", hang=9)]
    found = _section("Named by", lines or ["  no check yet"], color)
    return "\n\n".join([_section(cause, _wrap(CAUSES[cause]), color), found])


def _nearest(name: str, code: str, codes: Mapping[str, Rule]) -> str:
    """The nearest code of the same letter, else a title that has the word, or the likest name."""
    alike = [c for c in codes if code and c[4] == code[4]]
    if alike:
        return min(alike, key=lambda c: abs(int(c[5:]) - int(code[5:])))
    word = re.escape(name.lower())
    titled = (c for c, rule in codes.items() if re.search(rf"\b{word}", rule.title.lower()))
    if name and not code and (first := next(titled, "")):
        return first
    by_folded = {fold_name(known): known for known in (*codes, *CAUSES)}
    (closest,) = difflib.get_close_matches(fold_name(code or name), by_folded, n=1, cutoff=0.0)
    return by_folded[closest]


def _heading(rule: Rule, color: bool) -> list[str]:
    lines = textwrap.wrap(rule.title, PAGE_WIDTH - len(rule.code) - 2)
    code = rule.code
    indent = " " * (len(code) + 2)
    if color:
        code = f"\x1b[{ANSI_COLORS[rule.severity]}m{ANSI_BOLD}{code}{ANSI_RESET}"
    return [f"{code}  {lines[0]}", *(f"{indent}{line}" for line in lines[1:])]


def _section(title: str, lines: Iterable[str], color: bool) -> str:
    return "\n".join([f"{ANSI_BOLD}{title}{ANSI_RESET}" if color else title, *lines])


def _wrap(text: str, *, first: str = "", hang: int = 0) -> list[str]:
    """The lines of a text, an empty one between its paragraphs."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += [""] if lines else []
        lines += textwrap.wrap(
            paragraph,
            PAGE_WIDTH,
            initial_indent=f"  {first}",
            break_long_words=False,
            subsequent_indent="  " + " " * (hang or len(first)),
            break_on_hyphens=False,
        )
    return lines


def _patch(patch: str, color: bool) -> Iterator[str]:
    for line in patch.splitlines():
        if color and line[0] in "+-":
            line = f"\x1b[{ANSI_COLORS[line[0]]}m{line}{ANSI_RESET}"
        yield f"    {line}"
