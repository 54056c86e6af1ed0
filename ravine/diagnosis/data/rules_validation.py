"""Validation examples that are training examples, or unlike them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.baseline_learners import SURE_SIGNAL
from ravine.diagnosis.data.measure import BEYOND_DOUBT
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.data.rules_inputs import MIN_EXAMPLES
from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.finding import Change, Evidence

LEAKED_FRACTION = 0.05  # of the validation examples
MIN_LEAKED = 3  # validation examples
CHANCE_MULTIPLE = 3.0  # times what chance gives
MEDIAN_SHIFT, MEDIAN_STRETCH = 1.0, 2.5  # spreads, times
MIN_STRETCH_ROWS = 30  # validation examples
MIN_EFFECTIVE_COLUMNS = 3.0  # with fewer the shift must be
FAR_SHIFT = 10.0  # spreads
COLUMN_SHIFT = 1.5  # spreads, of one column
SURE_SHIFT = 8.0  # standard errors
MIN_GAIN = 0.1  # of the null loss: what a learner gains from validation examples alone
MIN_GAIN_ERRORS = 4.0  # the same in its standard errors
MIN_UNSEEN = 5  # validation targets of classes that training lacks
UNSEEN_FRACTION = 0.05  # of the validation targets
OUTSIDE_FRACTION = 0.5  # of validation targets: outside the range of training targets
OUTSIDE_NOTE_FRACTION = 0.1


@rule("RVN-D07", severity="warning", confidence="exact", cause="leakage", needs="validation")
def leaked_examples(data: DataProfile) -> Iterator[Observation]:
    copies = data.duplicates
    if copies is None or copies.overlap < MIN_LEAKED:
        return
    if copies.overlap <= CHANCE_MULTIPLE * copies.expected_overlap + 4 * math.sqrt(
        copies.expected_overlap
    ):
        return
    share = copies.overlap / copies.validation_compared
    yield Observation(
        where="validation",
        severity="" if share >= LEAKED_FRACTION else "note",
        evidence=(
            Evidence(
                "validation examples that are training examples, too",
                copies.overlap,
                "",
                copies.expected_overlap,
                f"{100 * share:.0f} % of {copies.validation_compared}; chance gives about "
                f"{copies.expected_overlap:.0f}",
            ),
        ),
        changes=(Change("data", "take copies out before splitting"),),
    )


@rule(
    "RVN-D10",
    severity="warning",
    confidence="high",
    cause="input-scale",
    also=("split", "normalization"),
    needs="validation",
)
def validation_shift(data: DataProfile) -> Iterator[Observation]:
    shift = data.validation.shift if data.validation else None
    if shift is None:
        return
    stretch = (
        max(shift.median_stretch, 1 / shift.median_stretch)
        if shift.median_stretch > 0
        else math.inf
    )
    moved = shift.median_shift > MEDIAN_SHIFT and shift.median_z > SURE_SHIFT / 2
    stretched = stretch > MEDIAN_STRETCH and shift.rows >= MIN_STRETCH_ROWS
    several = (
        shift.effective_columns > MIN_EFFECTIVE_COLUMNS
        or shift.median_shift > FAR_SHIFT
        or stretch > 2 * MEDIAN_STRETCH
    )
    if moved or stretched:
        yield Observation(
            where="validation",
            severity="" if several else "note",
            confidence="" if several else "medium",
            suspects=("split", "normalization"),
            evidence=(
                Evidence(
                    "the middle of a column lies away by",
                    shift.median_shift,
                    "spreads",
                    MEDIAN_SHIFT,
                    "median of all columns",
                ),
                Evidence(
                    "spread over that in training",
                    shift.median_stretch,
                    "",
                    MEDIAN_STRETCH if shift.median_stretch > 1 else 1 / MEDIAN_STRETCH,
                    "median of all columns",
                ),
            ),
            changes=(Change("data", "mean and spread of the training examples, for both"),),
        )
    elif abs(shift.largest_shift) > COLUMN_SHIFT and shift.largest_z > SURE_SHIFT:
        yield Observation(
            where="validation",
            severity="note",
            confidence="medium",
            cause="split",
            title=f"{shift.largest_shift_name} is otherwise in validation",
            evidence=(
                Evidence("its middle lies away by", shift.largest_shift, "spreads", COLUMN_SHIFT),
            ),
            changes=(Change("data", "a random split, unless new data will differ like this"),),
        )


@rule(
    "RVN-D11",
    severity="warning",
    confidence="high",
    cause="split",
    also=("target-scale",),
    needs="validation",
)
def unseen_targets(data: DataProfile) -> Iterator[Observation]:
    train, new = data.classes.train, data.classes.validation
    total, rows = sum(new.values()), sum(train.values())
    change = (Change("data", "a split with all classes in both parts"),)
    if data.kind in ("classes", "binary", "tokens", "next") and total and rows:
        unseen = {name: count for name, count in new.items() if count and not train.get(name)}
        count = sum(unseen.values())
        if count:
            yield Observation(
                where="validation",
                severity="" if count >= max(MIN_UNSEEN, UNSEEN_FRACTION * total) else "note",
                evidence=(
                    Evidence(
                        "validation targets of classes that training lacks",
                        count,
                        "",
                        0,
                        f"of {total}: class {join_names(map(str, unseen))}",
                    ),
                ),
                changes=change,
            )
        due = {
            name: share * total / rows
            for name, share in train.items()
            if share * total / rows >= MIN_EXAMPLES
        }
        if len(due) > 1 and sum(count > 0 for count in new.values()) == 1 and not count:
            yield Observation(
                where="validation",
                title="validation examples are all of one class",
                evidence=(
                    Evidence("classes in validation", 1, "", None, f"training has {len(train)}"),
                ),
                changes=change,
            )
        return
    outside = data.validation.outside_fraction if data.validation else 0.0
    if outside >= OUTSIDE_NOTE_FRACTION and data.targets is not None and data.validation:
        new_targets = data.validation.targets
        yield Observation(
            where="validation",
            title="validation targets lie where training has none",
            severity="" if outside >= OUTSIDE_FRACTION else "note",
            suspects=("target-scale",),
            evidence=(
                Evidence(
                    "validation targets outside the training targets' range",
                    100 * outside,
                    "%",
                    100 * OUTSIDE_FRACTION,
                    f"training {data.targets.low:.3g} to {data.targets.high:.3g}"
                    + (
                        f", validation {new_targets.low:.3g} to {new_targets.high:.3g}"
                        if new_targets
                        else ""
                    ),
                ),
            ),
            changes=(Change("data", "a random split, and one scale for both"),),
        )


@rule(
    "RVN-D18",
    severity="warning",
    confidence="high",
    cause="labels",
    needs="baseline",
    explains=("RVN-D14",),
)
def uninformative_training(data: DataProfile) -> Iterator[Observation]:
    known = data.baseline
    other = data.validation.baseline if data.validation else None
    if (
        known is None
        or other is None
        or other.signal <= BEYOND_DOUBT
        or other.examples > known.examples
    ):
        return
    if other.gained_share > MIN_GAIN and other.gain > MIN_GAIN_ERRORS * other.gain_error:
        yield Observation(
            evidence=(
                Evidence(
                    "score of a learner on validation examples alone",
                    other.score,
                    "",
                    None,
                    f"{other.signal:.0f} standard errors beyond chance; the best constant has "
                    f"{other.null_score:.3g}",
                ),
                Evidence(
                    "predictions and targets in training go together by",
                    known.signal,
                    "standard errors",
                    SURE_SIGNAL,
                ),
            ),
            changes=(Change("data", "see whether training inputs and targets are paired"),),
        )
