"""The text of a code, read from its Markdown file in `explanations/`, where alone it is written.

A file has a heading `# CODE: title`, a line `Picture: EXPERIMENT` where the gallery shows the
fault, and the sections of `PAGE_SECTIONS`; in "What to do" stands the change as a diff. `{NAME}`
and `{NAME:format}` are thresholds: constants of the module in which the rule stands. The page of a
code with checks in two modules names the module as well:
`{training_loop.rules_loss_curve.NAME:format}`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, resources
from typing import Any

PAGE_SECTIONS = {
    "What it means": "means",
    "Why it happens": "because",
    "How it is detected": "detected",
    "What it misses": "misses",
    "What to do": "remedy",
    "References": "references",
}
THRESHOLD_PATTERN = re.compile(r"\{(?:([a-z_.]+)\.)?([A-Z][A-Z0-9_]*)(?::([^{}]*))?\}")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What `ravine explain` prints of a code; lines of `patch` go ("- "), come ("+ ") or stay."""

    picture: str  # the experiment of the gallery that shows the fault, "" if none does
    title: str
    means: str
    because: str
    detected: str
    misses: str
    remedy: str
    patch: str
    references: tuple[str, ...]


def read_explanation(code: str, thresholds: Mapping[str, Any]) -> Explanation:
    """The explanation of a code, with its thresholds filled in."""
    page = resources.files("ravine.diagnosis").joinpath("explanations", f"{code}.md")
    return parse_explanation(page.read_text("utf-8"), thresholds)


def parse_explanation(text: str, thresholds: Mapping[str, Any]) -> Explanation:
    """The explanation that a file holds. Raises `ValueError` for a missing or unknown section.

    >>> page = "# RVN-A01: a title\\n" + "\\n".join(f"## {s}\\nOver {{LIMIT:.0%}}.\\n" for s
    ...                                             in PAGE_SECTIONS)
    >>> found = parse_explanation(page + "- A book", {"LIMIT": 0.5})
    >>> found.title, found.means, found.references
    ('a title', 'Over 50%.', ('A book',))
    """
    heading, *sections = re.split(r"^## ", text, flags=re.M)
    written = {name.strip(): body for name, _, body in (s.partition("\n") for s in sections)}
    if set(written) != set(PAGE_SECTIONS):
        known = ", ".join(PAGE_SECTIONS)
        raise ValueError(f"the sections are {', '.join(written)}; they must be {known}")
    remedy, _, rest = written["What to do"].partition("```diff\n")
    patch, _, after = rest.partition("```")
    written["What to do"] = remedy + after
    references = tuple(re.findall(r"^- (.*)$", written.pop("References"), re.M))
    filled = {name: _fill(_join_lines(body), thresholds) for name, body in written.items()}
    texts = {PAGE_SECTIONS[name]: text for name, text in filled.items()}
    heading, _, picture = heading.partition("\nPicture:")
    return Explanation(
        picture=picture.strip(),
        title=heading.partition(":")[2].strip(),
        patch=patch.rstrip("\n"),
        references=references,
        **texts,
    )


def _join_lines(body: str) -> str:
    """The paragraphs of a section, a line each, with an empty line between."""
    paragraphs = (" ".join(text.split()) for text in body.split("\n\n"))
    return "\n\n".join(filter(None, paragraphs))


def _fill(text: str, thresholds: Mapping[str, Any]) -> str:
    """The text with its thresholds as numbers. Raises `KeyError` for an unknown one."""

    def number(match: re.Match[str]) -> str:
        module, name, spec = match.groups()
        path = module if module and module.startswith("ravine.") else f"ravine.diagnosis.{module}"
        named = vars(import_module(path)) if module else thresholds
        return format(named[name], spec or "")

    return THRESHOLD_PATTERN.sub(number, text)
