"""All rules for a loop that is watched, in the order in which they are read."""

from __future__ import annotations

from ravine.diagnosis import between, heads, loops, structure, trends
from ravine.diagnosis.rule import Rule

ALL: tuple[Rule, ...] = (*loops.ALL, *between.ALL, *heads.ALL, *structure.ALL, *trends.ALL)
