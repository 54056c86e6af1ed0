"""Every rule there is, of all families: what `ravine explain` and the pages of docs/findings tell."""

from __future__ import annotations

from ravine.diagnosis import beforehand, courses, data, start, tried, varied, watched
from ravine.diagnosis.rule import Rule

ALL: tuple[Rule, ...] = (*watched.ALL, *data.ALL, *start.ALL, *beforehand.ALL, *courses.ALL, *tried.ALL, *varied.ALL)
