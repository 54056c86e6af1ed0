"""All rules for a loop that is watched, in the order in which they are read."""

from __future__ import annotations

from ravine.diagnosis import heads, loops, structure
from ravine.diagnosis.rule import Rule

ALL: tuple[Rule, ...] = (*loops.ALL, *heads.ALL, *structure.ALL)
