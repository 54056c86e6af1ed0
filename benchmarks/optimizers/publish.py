"""From what was measured to docs/optimizers.md: the results file, the tables, the figures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from benchmarks.optimizers.document import (
    REFERENCE_OPTIMIZER,
    fill_blocks,
    percent,
    verdict_sentences,
)
from benchmarks.optimizers.figures import all_figures
from benchmarks.optimizers.summary import (
    Known,
    budgets_of,
    entries_everywhere,
    gaps_at,
    mean_gap,
    network_part,
    with_shown_names,
)
from ravine.errors import InputError
from ravine.files import write_atomically
from ravine.record import finite_json
from ravine.reporting.plot_style import svg
from ravine.reporting.text_table import aligned_rows, hanging_text
from ravine.training.results import surroundings

ROOT_FOLDER = Path(__file__).resolve().parents[2]
RESULTS_FILE = Path(__file__).with_name("results.json")
DOCUMENT_FILE = ROOT_FOLDER / "docs" / "optimizers.md"
FIGURE_FOLDER = ROOT_FOLDER / "docs" / "optimizers"
FIGURE_TITLES = {
    "profiles": "Share of problems on which an optimizer is at most so far behind the best",
    "gaps": "Each optimizer's gap on each problem",
    "draws": "What the best of k draws reaches",
}
PAINTED_FIGURES = ("gaps",)  # hundreds of numbers: smaller as pixels
LEAST_PROBLEMS = 5  # with networks: an interval over fewer says nothing
PIXELS_PER_INCH, PALETTE_COLORS = 130, 48


def publish(known: Known) -> list[Path]:
    """Write the results file, the blocks of the document, and its figures; returns their paths."""
    data = {"surroundings": surroundings(), "problems": known}
    text = json.dumps(finite_json(data), separators=(",", ":"))
    files: dict[Path, bytes] = {RESULTS_FILE: text.encode() + b"\n"}
    document = fill_blocks(DOCUMENT_FILE.read_text("utf-8"), known)
    files[DOCUMENT_FILE] = document.encode()
    for name, drawing in all_figures(known).items():
        path, painted = figure_file(name), name in PAINTED_FIGURES
        files[path] = palette_png(drawing) if painted else _svg_bytes(drawing, name)
    FIGURE_FOLDER.mkdir(exist_ok=True)
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def figure_file(name: str) -> Path:
    """Where a figure of the document is."""
    return FIGURE_FOLDER / f"{name}.{'png' if name in PAINTED_FIGURES else 'svg'}"


def palette_png(drawing: Figure) -> bytes:
    """A figure as PNG with few colors, a third of the usual size."""
    buffer, smaller = io.BytesIO(), io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
    image = Image.open(buffer).convert("RGB").quantize(PALETTE_COLORS)
    image.save(smaller, format="PNG", optimize=True)
    return smaller.getvalue()


def _svg_bytes(drawing: Figure, name: str) -> bytes:
    text = svg(drawing, title=FIGURE_TITLES[name])
    width, height = drawing.get_size_inches()
    # a page that shows it as an image needs its size
    text = text.replace("<svg", f'<svg width="{96 * width:.0f}" height="{96 * height:.0f}"', 1)
    return text.encode()


def read_results(path: Path = RESULTS_FILE) -> Mapping[str, Any]:
    """What is known of each problem, from the results file. Raises `InputError` without one."""
    try:
        return json.loads(path.read_text("utf-8"))["problems"]
    except (OSError, ValueError, KeyError):
        do = "run python -m benchmarks.optimizers --publish"
        raise InputError(f"{path} cannot be read", why="it is missing or damaged", do=do) from None


def screen_text(known: Known) -> str:
    """What was measured, for a terminal: mean gaps, and the verdict where Adam is there, and enough
    problems with networks.
    """
    known = with_shown_names(known)
    names = entries_everywhere(known)
    if not names:
        return "No optimizer was measured on all of these problems: they have none in common."
    budgets = budgets_of(known)
    gaps = {k: mean_gap(table) for k, table in gaps_at(known, names, budgets).items()}
    rows = [["", *("defaults" if k == 1 else f"best of {k}" for k in budgets)]]
    for name in gaps[budgets[-1]].sort_values(kind="stable").index:
        rows.append([str(name), *(f"{percent(gaps[k][name])} %" for k in budgets)])
    problems = ", ".join(known)
    title = f"How far each is behind the best, of that one's gain; means over {problems}:"
    text = "\n".join([hanging_text("", title), *aligned_rows(rows)])
    if len(network_part(known)) < LEAST_PROBLEMS or REFERENCE_OPTIMIZER not in names:
        return text
    texts = (t.replace("**", "").replace(" %", "\u00a0%") for t in verdict_sentences(known))
    wrapped = [hanging_text("", one) for one in texts]
    return "\n\n".join([text, *wrapped]).replace("\u00a0", " ")
