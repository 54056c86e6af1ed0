"""One page of all experiments: claim, verdict, outcome, pictures, and the command to repeat each.

The page is one file: pictures are inline SVG, nothing is fetched, nothing needs JavaScript.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from ravine.reporting.plot_style import svg
from ravine_gallery.experiment import Experiment, Outcome

VERDICT_GLYPHS = {"held": "✓", "partly": "◐", "not held": "✗", "failed": "!"}
VERDICT_WORDS = {
    "held": "The claim held",
    "partly": "It held in part",
    "not held": "It did not hold",
    "failed": "It failed",
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """An experiment that was run: its outcome and pictures (SVG by title), or the error."""

    experiment: Experiment
    quick: bool
    seconds: float
    outcome: Outcome | None = None
    error: str = ""
    pictures: dict[str, str] = field(default_factory=dict)

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
        }


def draw_pictures(experiment: Experiment, outcome: Outcome) -> dict[str, str]:
    """The outcome's pictures as SVG by title, with ids that are unique among all experiments."""
    return {
        title: svg(picture, title=title, prefix=f"{experiment.name}-{i}-")
        for i, (title, picture) in enumerate(outcome.figures.items(), 1)
    }


def render_page(results: Sequence[Result]) -> str:
    """The page as HTML text."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": format_number, "width": picture_width}
    return environment.from_string(PAGE_TEMPLATE).render(
        results=results,
        counts={verdict: sum(r.verdict == verdict for r in results) for verdict in VERDICT_GLYPHS},
        glyphs=VERDICT_GLYPHS,
        words=VERDICT_WORDS,
        quick=any(r.quick for r in results),
        versions=describe_versions(),
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


PAGE_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" 
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Ravine: the gallery</title>
<style>
:root { color-scheme: light; --ink: #1c1c1c; --soft: #595959; --line: #dddddd; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 58rem; padding: 1.2rem 1rem 4rem; background: #fff;
  color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .5rem; }
a { color: #005a94; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; background: #f3f3f3;
  padding: .1em .3em;
  border-radius: 3px; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: .9rem; }
.list { list-style: none; margin: 1rem 0 0; padding: 0; columns: 20rem 2; column-gap: 2rem; }
.list li { break-inside: avoid; padding: .12rem 0 .12rem 1.5rem; text-indent: -1.5rem; }
.glyph { display: inline-block; width: 1.5rem; text-indent: 0; font-weight: 700; }
.held { color: #00704f; } .partly { color: #8a5a00; }
.not { color: #b3261e; } .failed { color: #b3261e; }
section { border-top: 1px solid var(--line); margin-top: 2.2rem; padding-top: 1.6rem; }
blockquote { margin: 0 0 .8rem; padding: .1rem 0 .1rem .9rem; border-left: 3px solid var(--line);
  color: #333; }
.verdict { font-weight: 700; }
figure { margin: 1.2rem 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .3rem; }
.picture { overflow-x: auto; }
.picture svg { display: block; width: 100%; max-width: var(--wide);
  min-width: calc(0.7 * var(--wide)); height: auto; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: #005a94; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
td { padding: .15rem 1rem .15rem 0; border-bottom: 1px solid #eee; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; padding-right: 0; }
@media print { .picture svg { min-width: 0; } section { break-inside: avoid-page; } }
</style>
</head>
<body>
<header>
<h1>The lectures' claims, put to the test</h1>
<p>Each experiment states a claim, tests it on data and reports the outcome, whether or not the
claim held.
{{ results | length }} {{ "experiment" if results | length == 1 else "experiments" }}:
{% for verdict, count in counts.items() if count %}
<span class="{{ verdict }}">{{ glyphs[verdict] }} {{ count }} {{ verdict }}</span>
{{- ", " if not loop.last else "." }}
{% endfor %}
</p>
<p class="soft">{{ versions }}; {{ "%.0f" | format(seconds) }} seconds in all.
{% if quick %}<strong>A quick run: too few seeds and steps for numbers to cite.</strong>
{% endif %}</p>
<nav aria-label="Experiments"><ul class="list">
{% for r in results %}
<li><span class="glyph {{ r.verdict }}" aria-hidden="true">{{ glyphs[r.verdict] }}</span
><a href="#{{ r.experiment.name }}">{{ r.experiment.title }}</a></li>
{% endfor %}
</ul></nav>
</header>
<main>
{% for r in results %}
<section id="{{ r.experiment.name }}">
<h2>{{ r.experiment.title }}</h2>
<blockquote>{{ r.experiment.claim }}</blockquote>
{% if r.outcome %}
<p><span class="verdict {{ r.verdict }}">{{ glyphs[r.verdict] }} {{ words[r.verdict] }}.</span>
{{ r.outcome.said }}</p>
{% for title, picture in r.pictures.items() %}
<figure><figcaption>{{ title }}</figcaption>
<div class="picture" style="--wide: {{ picture | width }}px" tabindex="0" role="group"
 aria-label="{{ title }}">
{{ picture | safe }}</div></figure>
{% endfor %}
<details><summary>The numbers</summary><div class="wide"><table>
{% for name, value in r.outcome.numbers.items() %}
<tr><td>{{ name }}</td><td>{{ value | number }}</td></tr>
{% endfor %}
</table></div></details>
{% else %}
<p><span class="verdict failed">! It failed to run.</span> {{ r.error }}</p>
{% endif %}
<p class="soft">{{ r.experiment.rows | join(", ") }} · {{ "%.1f" | format(r.seconds) }} s ·
again: <code>ravine gallery {{ r.experiment.name }}{{ " --quick" if r.quick }} -o gallery</code></p>
</section>
{% endfor %}
</main>
</body>
</html>
"""
