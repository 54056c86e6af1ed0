"""Tables and paragraphs of text for a terminal."""

import textwrap
from collections.abc import Sequence

TERMINAL_WIDTH = 80


def hanging_text(label: str, text: str) -> str:
    """A label and text beside it, wrapped between words to the width of a terminal.

    >>> print(hanging_text("run  ", "word " * 17))
    run  word word word word word word word word word word word word word word word
         word word
    """
    wrap = textwrap.TextWrapper(TERMINAL_WIDTH, break_long_words=False, break_on_hyphens=False)
    wrap.initial_indent, wrap.subsequent_indent = label, " " * len(label)
    return wrap.fill(text)


def aligned_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, its columns aligned on the left.

    >>> aligned_rows([["lr", "score"], ["0.01", "0.9"]])
    ['lr    score', '0.01  0.9']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (map(str.ljust, row, widths) for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]
