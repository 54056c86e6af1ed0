"""Comparing choices over several tasks: a verdict on each, and what these say together."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ravine.argument_checks import check_arguments
from ravine.errors import InputError, shorten
from ravine.paired import holm, least_seeds, sign_flip_p
from ravine.recipe import Recipe
from ravine.record import RECORD_SCHEMA, finite_json, score_text
from ravine.reporting.text_table import aligned_rows, hanging_text
from ravine.studies.compare import compare
from ravine.studies.contestants import Choice
from ravine.studies.score_differences import SIGNIFICANCE_LEVEL
from ravine.studies.tuned_rate import CHOICE_WIDTH
from ravine.studies.verdict import REFERENCE_NAMES, Verdict
from ravine.training.defaults import load_tasks

PROFILE_GAPS = {"best": 0.0, "1 %": 0.01, "5 %": 0.05, "20 %": 0.2}


@dataclass(frozen=True)
class TaskVerdicts:
    """The verdicts on the same choices by task."""

    verdicts: Mapping[str, Verdict]

    @property
    def best(self) -> str | None:
        """The choice with the best mean rank; None where all failed on each task."""
        return str(self.profile().index[0]) if np.isfinite(self.gaps()).any(axis=None) else None

    def gaps(self) -> pd.DataFrame:
        """How far each choice (a column) is behind the best one of each task, as a share of what
        that one gains over the constant answer; infinite where it failed in half of the seeds.
        """
        found = {}
        for task, verdict in self.verdicts.items():
            sign = 1.0 if verdict.higher_is_better else -1.0
            scores = {c.name: math.nan if c.has_failed else c.score.value for c in verdict.choices}
            scores = sign * pd.Series(scores)
            gain = scores.iloc[0] - sign * verdict.references[REFERENCE_NAMES["constant"]]
            behind = scores.iloc[0] - scores
            found[task] = (behind / max(gain, 0.0)).mask(behind == 0, 0.0).fillna(math.inf)
        return pd.DataFrame(found).T.round(9)  # equal scores tie

    def profile(self) -> pd.DataFrame:
        """A row for each choice, the best first: the share of tasks on which it is at most so far
        behind the best (Dolan & Moré 2002), its mean rank, on how many tasks the first is better,
        ties counted half, and the p of Wilcoxon's signed ranks of that, corrected for all pairs.
        """
        gaps = self.gaps()
        found = pd.DataFrame({name: (gaps <= gap).mean() for name, gap in PROFILE_GAPS.items()})
        found["mean rank"] = gaps.rank(axis=1).mean()
        found = found.sort_values("mean rank", kind="stable")
        first = found.index[0]
        pairs = itertools.combinations(found.index, 2)  # the first is one of them by luck
        ahead = {(better, worse): gaps[worse] - gaps[better] for better, worse in pairs}
        ahead = pd.DataFrame(ahead).fillna(0.0)  # where both failed they are equal
        signed = ahead.abs().rank() * np.sign(ahead)
        corrected = holm([sign_flip_p(signed[pair]) for pair in signed])
        found["worse on"] = ((ahead > 0) + 0.5 * (ahead == 0)).sum()[first]
        return found.assign(p=pd.Series(corrected, ahead.columns)[first])

    def summary(self) -> str:
        """The scores and the conclusion on each task, and a table over all of them."""
        lines = []
        for task, verdict in self.verdicts.items():
            scores = ", ".join(f"{c.name} {score_text(c.score.value)}" for c in verdict.choices)
            text = f"{verdict.metric} of {scores}. {verdict.conclusion()[0]}"
            lines.append(hanging_text(f"{shorten(task, CHOICE_WIDTH)}: ", text))
        profile, count = self.profile(), len(lines)
        rows = [["", *profile.columns]]
        for name, *shares, rank, losses, p in profile.itertuples():
            texts = [f"{share:.0%}".replace("%", " %") for share in shares]
            worse = ["", ""] if math.isnan(p) else [f"{losses:g} of {count}", f"{p:.2g}"]
            rows.append([shorten(str(name), CHOICE_WIDTH - 4), *texts, f"{rank:.3g}", *worse])
        text = (
            f"The share of {count} tasks on which a choice is the best, or behind it by so much of "
            f"its gain over the constant answer; on how many it is worse than {profile.index[0]}."
        )
        least = least_seeds(SIGNIFICANCE_LEVEL / math.comb(len(profile), 2))
        text += f" No p can be small: that takes {least} tasks." if count < least else ""
        return "\n".join([*lines, "", *aligned_rows(rows), "", hanging_text("", text)])

    __str__ = summary

    def to_json(self) -> dict[str, Any]:
        """The verdicts and the table over tasks as JSON-ready data."""
        tables = {"profile": self.profile().to_dict("index"), "gaps": self.gaps().to_dict("index")}
        tasks = {task: verdict.to_json() for task, verdict in self.verdicts.items()}
        return finite_json({"schema": RECORD_SCHEMA, "best": self.best, "tasks": tasks, **tables})

    def save(self, folder: str | Path) -> None:
        """Write each verdict to a folder of its task's name, which `open_verdict` reads."""
        for task, verdict in self.verdicts.items():
            verdict.save(Path(folder) / re.sub(r"\W+", "_", task))


def compare_tasks(
    tasks: Mapping[str, Any] | Sequence[str], choices: Mapping[str, Choice], **settings: Any
) -> TaskVerdicts:
    """Compare choices on each of several tasks, and over all of them.

    `tasks` are bundled sets or files, or by name these or `data` parts of recipes: they take the
    place of the data in the choices' recipes. `settings` are those of `compare`. Data that cannot
    be read are an `InputError` before any training.

    >>> import ravine
    >>> recipe = ravine.named_recipe("plain").vary("epochs", 5)
    >>> choices = {"fast": recipe, "slow": recipe.vary("optimizer.lr", 1e-4)}
    >>> compare_tasks(["iris", "wine"], choices, seeds=4, trees=False).best
    'fast'
    """
    check_arguments(compare_tasks, {"tasks": tasks, "choices": choices})
    sources = tasks if isinstance(tasks, Mapping) else {Path(one).stem: one for one in tasks}
    if len(sources) < max(2, len(tasks)):
        what = f"tasks has {len(tasks)} sources with {len(sources)} names"
        raise InputError(what, why="two at least are compared", do="use ravine.compare for one")
    varied: dict[str, dict[str, Choice]] = {}
    for task, source in sources.items():
        path = "data.source" if isinstance(source, str) else "data"
        own = {n: c.vary(path, source) if isinstance(c, Recipe) else c for n, c in choices.items()}
        load_tasks([choice for choice in own.values() if isinstance(choice, Recipe)])
        varied[task] = own
    return TaskVerdicts({task: compare(own, **settings) for task, own in varied.items()})
