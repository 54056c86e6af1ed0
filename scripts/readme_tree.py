"""Write the tree at the end of README.md: one line for each file, from the file's docstring.

Run `python scripts/readme_tree.py` after adding a file or changing the first sentence of its
docstring; `tests/test_docs.py` fails until then.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README_PATH = ROOT / "README.md"
HEADING = "## The tree\n"
NAME_WIDTH = 30
LINE_WIDTH = 128
OTHER_FOLDERS = {  # folders whose files are not listed one by one
    "ravine_gallery/": "the claims of the lectures, each put to the test: one file an experiment",
    "tests/": "laid out as the package is; contracts/ holds every part to its promises",
    "benchmarks/": "speed and diagnosis beside other libraries, with the commands",
    "docs/": "one page for each thing to do; techniques.md lists every technique",
    "examples/": "complete programs",
    "scripts/": "set up, check, and what writes generated text",
}


def summarize(source: str, width: int) -> str:
    """The first sentence of a module's docstring, cut at the last colon, semicolon or comma that
    lets it fit.

    >>> summarize('"Losses: how far outputs are from targets, per example. More."', 45)
    'Losses: how far outputs are from targets'
    """
    docstring = ast.get_docstring(ast.parse(source)) or ""
    sentence = re.split(
        r"(?<!et al)(?<![ (][A-Z])\.(?: |$)", " ".join(docstring.split("\n\n")[0].split())
    )[0]
    while len(sentence) > width:
        cut = max(sentence.rfind(mark) for mark in (":", ";", ",", " ("))
        if cut < 0:
            raise ValueError(f"too long for one line of the tree: {sentence}")
        sentence = sentence[:cut]
    return sentence.rstrip(" :;,.")


def tree_lines(folder: Path, depth: int = 0) -> Iterator[str]:
    """The lines of a package: its own, its files, then its folders."""

    def line(name: str, path: Path) -> str:
        start = f"{'  ' * depth}{name}".ljust(NAME_WIDTH)
        return f"{start} {summarize(path.read_text('utf-8'), LINE_WIDTH - len(start) - 1)}"

    yield line(f"{folder.name}/", folder / "__init__.py")
    depth += 1
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield line(path.name, path)
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").exists():
            yield from tree_lines(path, depth)


def readme_tree() -> str:
    """The section of README.md that lists every file."""
    others = [f"{name.ljust(NAME_WIDTH)} {text}" for name, text in OTHER_FOLDERS.items()]
    return "\n".join([HEADING, "```text", *tree_lines(ROOT / "ravine"), *others, "```", ""])


if __name__ == "__main__":
    text = README_PATH.read_text("utf-8").partition(HEADING)[0]
    README_PATH.write_text(text + readme_tree(), "utf-8")
