"""What lectures and papers say of optimizers, each put to the test on all problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.optimizers.summary import (
    Known,
    Tally,
    best_default,
    budgets_of,
    difference_of,
    entries_everywhere,
    function_part,
    gaps_of,
    mean_gap,
    network_part,
    tally_pairs,
    verdicts_of,
)
from ravine.paired import holm
from ravine.studies.score_differences import SIGNIFICANCE_LEVEL


class PairClaim(NamedTuple):
    """That one entry is better than another."""

    text: str
    better: str
    worse: str


PAIR_CLAIMS = (
    PairClaim("momentum beats gradient descent", "Momentum", "SGD"),
    PairClaim("Nesterov's momentum beats Polyak's", "Nesterov", "Momentum"),
    PairClaim("RMSprop beats Adagrad, whose steps shrink for ever", "RMSprop", "Adagrad"),
    PairClaim("Adam beats RMSprop", "Adam", "RMSprop"),
    PairClaim("Adam beats momentum", "Adam", "Momentum"),
    PairClaim("AdamW beats Adam", "AdamW", "Adam"),
    PairClaim("Lion beats AdamW", "Lion", "AdamW"),
    PairClaim("Muon beats AdamW", "Muon", "AdamW"),
    PairClaim("schedule-free AdamW beats AdamW", "ScheduleFreeAdamW", "AdamW"),
    PairClaim("Lookahead beats the momentum inside it", "Lookahead", "Momentum"),
    PairClaim(
        "a rate that decays beats a constant one (momentum)", "Momentum + Cosine", "Momentum"
    ),
    PairClaim("the same with AdamW", "AdamW + Cosine", "AdamW"),
    PairClaim("L-BFGS beats Adam", "Lbfgs", "Adam"),
    PairClaim("Newton's method beats Adam", "Newton", "Adam"),
    PairClaim("the saddle-free one beats Newton's", "SaddleFreeNewton", "Newton"),
)


def claim_rows(known: Known) -> list[list[str]]:
    """For each claim, on how many problems it was shown to hold, is undecided, or the opposite was
    shown; then, for the defaults and for tuned settings, what a test over all problems says.
    """
    budgets = budgets_of(known)
    some, most = budgets[1:]
    networks, functions = network_part(known), function_part(known)
    tuned = [some if " + " in claim.better else most for claim in PAIR_CLAIMS]
    answers = _answers(known, [budgets[0]] * len(PAIR_CLAIMS)), _answers(known, tuned)
    rows = []
    for place, (claim, budget) in enumerate(zip(PAIR_CLAIMS, tuned, strict=True)):
        parts = (networks, budgets[0]), (networks, budget), (functions, budget)
        tallies = [_tally_known(part, claim, k) for part, k in parts]
        cells = ["" if tally is None else str(tally) for tally in tallies]
        rows.append([claim.text, *cells, *(each[place] for each in answers)])
    return rows


def _answers(known: Known, budgets: Sequence[int]) -> list[str]:
    """Whether each claim held, by the p value of Wilcoxon's signed ranks over problems, corrected
    for the claims about optimizers, or for those about schedules (Holm).
    """
    tests = [_test_over_problems(known, c, k) for c, k in zip(PAIR_CLAIMS, budgets, strict=True)]
    corrected = np.ones(len(tests))
    for scheduled in (False, True):
        places = [i for i, c in enumerate(PAIR_CLAIMS) if (" + " in c.better) == scheduled]
        corrected[places] = holm([tests[i].p for i in places])
    answers = []
    for claim, test, p in zip(PAIR_CLAIMS, tests, corrected, strict=True):
        words = "held" if test.better == claim.better else "the opposite"
        words = words if p <= SIGNIFICANCE_LEVEL else "not shown"
        answers.append(f"{words} ({p:.2g})" if test.problems else "not measured")
    return answers


class ProblemTest(NamedTuple):
    """Which of two entries has the better mean rank over problems, and the p of signed ranks."""

    better: str
    p: float
    problems: int


def _test_over_problems(known: Known, claim: PairClaim, budget: int) -> ProblemTest:
    both = _problems_with(known, claim)
    if not both:
        return ProblemTest(claim.better, 1.0, 0)
    columns = {name: (name, budget) for name in (claim.better, claim.worse)}
    profile = verdicts_of(both, columns).profile()
    return ProblemTest(str(profile.index[0]), float(profile["p"].iloc[1]), len(both))


def _tally_known(part: Known, claim: PairClaim, budget: int) -> Tally | None:
    """The tally over those problems on which both were measured; None where there is none."""
    both = _problems_with(part, claim)
    return tally_pairs(both, (claim.better, budget), (claim.worse, budget)) if both else None


def _problems_with(part: Known, claim: PairClaim) -> Known:
    wanted = {claim.better, claim.worse}
    return {name: kept for name, kept in part.items() if wanted <= set(kept["entries"])}


def default_against_tuned(known: Known, reference: str) -> str:
    """Schmidt et al.'s finding: trying the defaults of many is about as good as tuning one."""
    part, budgets = network_part(known), budgets_of(known)
    names = entries_everywhere(part)
    pairs, columns = [], {}
    for name, kept in part.items():
        chosen = (best_default(kept, names), 1)
        pairs.append(difference_of(kept, chosen, (reference, budgets[1])))
        here = {
            "defaults": chosen,
            "tuned": (reference, budgets[1]),
            "more": (reference, budgets[2]),
        }
        rest = {f"{n} @ {k}": (n, k) for n in names for k in budgets}
        columns[name] = gaps_of({name: kept}, here | rest).iloc[0]
    corrected = holm([one.p for one in pairs])
    shown = [
        one.better
        for one, p in zip(pairs, corrected, strict=True)
        if p <= SIGNIFICANCE_LEVEL and not one.interval.low <= 0
    ]
    gaps = mean_gap(pd.DataFrame(columns).T)
    return (
        f"**Trying the defaults of all {len(names)}** and keeping the best by the validation "
        f"split ends {100 * gaps['defaults']:.1f} % behind; {reference} alone with {budgets[1]} "
        f"draws ends {100 * gaps['tuned']:.1f} % behind, with {budgets[2]} draws "
        f"{100 * gaps['more']:.1f} %. The defaults were better on {shown.count('one')} of "
        f"{len(part)} problems, {reference} with {budgets[1]} draws on {shown.count('other')}."
    )
