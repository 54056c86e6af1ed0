"""Tables of text for a terminal."""

from collections.abc import Sequence


def aligned_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, its columns aligned on the left.

    >>> aligned_rows([["lr", "score"], ["0.01", "0.9"]])
    ['lr    score', '0.01  0.9']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (map(str.ljust, row, widths) for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]
