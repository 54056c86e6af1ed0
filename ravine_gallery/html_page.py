"""One page of all experiments: claim, verdict, outcome, pictures, and the command to repeat each.

The page is one file: pictures are inline SVG, nothing is fetched, nothing needs JavaScript.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any, Self

import jinja2

from ravine.reporting.plot_style import svg
from ravine_gallery.experiment import Experiment, ExperimentOutcome

VERDICT_GLYPHS = {"held": "✓", "partly": "◐", "not held": "✗", "failed": "!"}
VERDICT_WORDS = {
    "held": "The claim held",
    "partly": "It held in part",
    "not held": "It did not hold",
    "failed": "It failed",
}


@dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """An experiment that was run: its outcome and pictures (SVG by title), or the error."""

    experiment: Experiment
    quick: bool
    seconds: float
    outcome: ExperimentOutcome | None = None
    error: str = ""
    pictures: dict[str, str] = field(default_factory=dict)
    versions: str = field(default_factory=lambda: describe_versions())

    @property
    def verdict(self) -> str:
        """held, partly, not held, or failed."""
        if self.outcome is None:
            return "failed"
        return {True: "held", False: "not held", None: "partly"}[self.outcome.held]

    def to_json(self) -> dict[str, Any]:
        """Plain data; numbers that are not finite become None."""
        each, numbers = self.experiment, self.outcome.numbers if self.outcome else {}
        return {
            "name": each.name,
            "title": each.title,
            "rows": list(each.rows),
            "claim": each.claim,
            "verdict": self.verdict,
            "said": self.outcome.said if self.outcome else "",
            "error": self.error,
            "numbers": {k: float(v) if math.isfinite(v) else None for k, v in numbers.items()},
            "quick": self.quick,
            "seconds": round(self.seconds, 2),
            "made with": self.versions,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any], *, pictures: dict[str, str]) -> Self:
        """A result as it was written. Raises `KeyError`, `TypeError` or `ValueError` for others."""
        numbers = {k: math.nan if v is None else float(v) for k, v in plain["numbers"].items()}
        outcome = None
        if plain["verdict"] != "failed":
            held = {"held": True, "not held": False, "partly": None}[plain["verdict"]]
            outcome = ExperimentOutcome(held=held, said=plain["said"], numbers=numbers)
        texts = {name: plain[name] for name in ("name", "title", "claim")}
        seconds = float(plain["seconds"])
        rows = tuple(plain["rows"])
        return cls(
            experiment=Experiment(**texts, rows=rows, seconds=seconds, run=_run_elsewhere),
            quick=plain["quick"],
            seconds=seconds,
            outcome=outcome,
            error=plain["error"],
            pictures=pictures,
            versions=plain.get("made with", ""),
        )


def _run_elsewhere(quick: bool) -> ExperimentOutcome:
    """In place of the function of an experiment that was read from a file."""
    raise NotImplementedError


def picture_title(picture: str) -> str:
    """The title of a picture that `draw_pictures` made; empty for others.

    >>> picture_title('<svg role="img"><title>A &amp; B</title></svg>')
    'A & B'
    """
    found = re.match(r'<svg[^>]* role="img"><title>(.*?)</title>', picture, re.DOTALL)
    return unescape(found[1]) if found else ""


def draw_pictures(experiment: Experiment, outcome: ExperimentOutcome) -> dict[str, str]:
    """The outcome's pictures as SVG by title, with ids that are unique among all experiments."""
    return {
        title: svg(picture, title=title, prefix=f"{experiment.name}-{i}-")
        for i, (title, picture) in enumerate(outcome.figures.items(), 1)
    }


def render_page(results: Sequence[ExperimentResult]) -> str:
    """The page as HTML text."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = Path(__file__).with_name("page.html").read_text("utf-8")
    environment.filters |= {"number": format_number, "width": picture_width}
    return environment.from_string(template).render(
        results=results,
        counts={verdict: sum(r.verdict == verdict for r in results) for verdict in VERDICT_GLYPHS},
        glyphs=VERDICT_GLYPHS,
        words=VERDICT_WORDS,
        quick=any(r.quick for r in results),
        versions="; ".join(dict.fromkeys(r.versions for r in results if r.versions)),
        seconds=sum(r.seconds for r in results),
    )


def describe_versions() -> str:
    """The versions that the numbers were made with."""
    import matplotlib
    import numpy
    import torch

    return (
        f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, "
        f"NumPy {numpy.__version__}, matplotlib {matplotlib.__version__}"
    )


def format_number(value: float) -> str:
    """A number with four digits.

    >>> [format_number(v) for v in (3.0, 0.123456, 1.5e-12, float("nan"))]
    ['3', '0.1235', '1.5e-12', 'none']
    """
    return f"{value:.4g}" if math.isfinite(value) else "none"


def picture_width(picture: str) -> int:
    """The width in pixels at which a picture has its own size: 4 pixels for 3 points.

    >>> picture_width('<svg viewBox="0 0 460.8 288">')
    614
    """
    found = re.search(r'viewBox="0 0 ([\d.]+)', picture)
    return round(float(found[1]) * 4 / 3) if found else 640
