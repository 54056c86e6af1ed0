"""Validation examples that are training examples, or unlike them."""

import math
from collections.abc import Iterator
from dataclasses import replace

from ravine.diagnosis.data.profile import BEYOND_DOUBT, SURE_SIGNAL, ClassCounts, DataProfile
from ravine.diagnosis.data.rules_inputs import MIN_EXAMPLES
from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.finding import Change, Evidence
from ravine.statistics import binomial_tail

LEAKED_FRACTION = 0.05  # of the validation examples
MIN_LEAKED = 3  # validation examples
CHANCE_MULTIPLE = 3.0  # times what chance gives
MANY_COPIES = 0.3  # of the training examples: as if drawn with replacement before the split
USUAL_MULTIPLE = 1.5  # times the share of training examples that occur more than once
RANGE_CHANCE = 1e-3  # of as many validation targets out of range where both parts are alike
MEDIAN_SHIFT, MEDIAN_STRETCH = 1.0, 2.5  # spreads, times
MIN_STRETCH_ROWS = 30  # validation examples
MIN_STRETCH_ERRORS = 4.0  # standard errors by which the SDs differ
MIN_EFFECTIVE_COLUMNS = 3.0  # with fewer the shift must be
FAR_SHIFT = 10.0  # spreads
COLUMN_SHIFT = 1.5  # spreads, of one column
SURE_SHIFT = 8.0  # standard errors
MIN_GAIN = 0.1  # of the constant loss: what a learner gains from validation examples alone
MIN_GAIN_ERRORS = 4.0  # the same in its standard errors
MIN_UNSEEN = 5  # validation targets of classes that training lacks
UNSEEN_FRACTION = 0.05  # of the validation targets
MIN_DROP_ERRORS = 6.0  # standard errors by which one column drops more than twice as others do
MIN_LOST_VARIANCE = 0.15  # of the target's variance, explained in training only
OUTSIDE_FRACTION = 0.5  # of validation targets: outside the range of training targets
OUTSIDE_NOTE_FRACTION = 0.1


@rule("RVN-D07", "warning", "leakage", confidence="exact", needs="validation")
def leaked_examples(data: DataProfile) -> Iterator[Observation]:
    copies = data.duplicates
    if copies is None or copies.overlap < MIN_LEAKED:
        return
    chance = copies.expected_overlap
    if copies.overlap <= CHANCE_MULTIPLE * chance + 4 * math.sqrt(chance):
        return
    share = copies.overlap / copies.validation_compared
    name = "validation examples that are also training examples"
    text = f"{100 * share:.2g} % of {copies.validation_compared}; chance gives about {chance:.0f}"
    evidence = Evidence(name, copies.overlap, limit=chance, text=text)
    change = Change("data", "take copies out before splitting")
    # copies that a random split of a table with a few of them puts into both parts
    usual = copies.repeated < MANY_COPIES and share <= USUAL_MULTIPLE * copies.repeated
    severity = "note" if usual or share < LEAKED_FRACTION else ""
    yield observe(evidence, change, where="validation", severity=severity)


@rule(
    "RVN-D10",
    "warning",
    "input-scale",
    confidence="high",
    needs="validation",
    also=("split", "normalization"),
    explains=("RVN-X20", "RVN-X23", "RVN-X24"),
)
def validation_shift(data: DataProfile) -> Iterator[Observation]:
    shift = data.validation.shift if data.validation else None
    if shift is None:
        return
    ratio = shift.median_stretch
    stretch = max(ratio, 1 / ratio) if ratio > 0 else math.inf
    moved = shift.median_shift > MEDIAN_SHIFT and shift.median_z > SURE_SHIFT / 2
    sure = shift.rows >= MIN_STRETCH_ROWS and shift.median_stretch_z > MIN_STRETCH_ERRORS
    stretched = sure and stretch > MEDIAN_STRETCH
    far = shift.median_shift > FAR_SHIFT or stretch > 2 * MEDIAN_STRETCH
    several = far or shift.effective_columns > MIN_EFFECTIVE_COLUMNS
    if moved or stretched:
        name, of = "distance of a column's median from that in training", "median of all columns"
        limit = MEDIAN_STRETCH if ratio > 1 else 1 / MEDIAN_STRETCH
        distance = Evidence(name, shift.median_shift, "spreads", limit=MEDIAN_SHIFT, text=of)
        spread = Evidence("spread over that in training", ratio, limit=limit, text=of)
        change = Change("data", "mean and spread of the training examples, for both")
        suspects = ("split", "normalization")
        seen = observe(distance, spread, change, where="validation", suspects=suspects)
        yield seen if several else replace(seen, severity="note", confidence="medium")
    elif abs(shift.largest_shift) > COLUMN_SHIFT and shift.largest_z > SURE_SHIFT:
        name = "distance of its median from that in training"
        change = Change("data", "a random split, unless new data will differ like this")
        evidence = Evidence(name, shift.largest_shift, "spreads", limit=COLUMN_SHIFT)
        title = f"{shift.largest_shift_name} is distributed differently in validation"
        yield observe(
            evidence,
            change,
            where="validation",
            cause="split",
            title=title,
            severity="note",
            confidence="medium",
        )


@rule("RVN-D11", "warning", "split", confidence="high", needs="validation", also=("target-scale",))
def unseen_targets(data: DataProfile) -> Iterator[Observation]:
    if data.kind in ("classes", "binary", "tokens", "next"):
        yield from _unseen_classes(data.classes)
        return
    train, validation = data.targets, data.validation
    if train is None or validation is None or validation.outside_fraction < OUTSIDE_NOTE_FRACTION:
        return
    # of examples alike the least and the greatest are in either part by chance
    count, beyond = round(validation.outside_fraction * validation.rows), 2 / (data.rows + 1)
    if binomial_tail(count, validation.rows, beyond) > RANGE_CHANCE:
        return
    new, outside = validation.targets, validation.outside_fraction
    name = "validation targets outside the training targets' range"
    ranges = f"training {train.low:.3g} to {train.high:.3g}"
    if new is not None:
        ranges += f", validation {new.low:.3g} to {new.high:.3g}"
    yield observe(
        Evidence(name, 100 * outside, "%", limit=100 * OUTSIDE_FRACTION, text=ranges),
        Change("data", "a random split, and one scale for both"),
        where="validation",
        title="validation targets lie where training has none",
        severity="" if outside >= OUTSIDE_FRACTION else "note",
        suspects=("target-scale",),
    )


def _unseen_classes(classes: ClassCounts) -> Iterator[Observation]:
    """Classes that training lacks; or one class alone where several are expected."""
    train, new = classes.train, classes.validation
    total, rows = sum(new.values()), sum(train.values())
    if not total or not rows:
        return
    change = Change("data", "a split with all classes in both parts")
    unseen = {place: count for place, count in new.items() if count and not train.get(place)}
    count = sum(unseen.values())
    expected = [share * total / rows for share in train.values()]
    if count:
        name = "validation targets of classes that training lacks"
        which = f"of {total}: class {join_names(map(classes.name_of, unseen))}"
        evidence = Evidence(name, count, limit=0, text=which)
        severity = "" if count >= max(MIN_UNSEEN, UNSEEN_FRACTION * total) else "note"
        yield observe(evidence, change, where="validation", severity=severity)
    elif sum(n >= MIN_EXAMPLES for n in expected) > 1 and sum(n > 0 for n in new.values()) == 1:
        evidence = Evidence("classes in validation", 1, text=f"training has {len(train)}")
        title = "validation examples are all of one class"
        yield observe(evidence, change, where="validation", title=title)


@rule("RVN-D18", "warning", "labels", confidence="high", needs="baseline", explains=("RVN-D14",))
def uninformative_training(data: DataProfile) -> Iterator[Observation]:
    known = data.baseline
    other = data.validation.baseline if data.validation else None
    if known is None or other is None or other.examples > known.examples:
        return
    gained = other.gained_share > MIN_GAIN and other.gain > MIN_GAIN_ERRORS * other.gain_error
    if gained and other.signal > BEYOND_DOUBT:
        name = "score of a learner on validation examples alone"
        sure = f"{other.signal:.0f} standard errors beyond chance"
        constant = f"the best constant has {other.constant_score:.3g}"
        own, unit = "association of predictions and targets in training", "standard errors"
        own_score = Evidence(name, other.score, text=f"{sure}; {constant}")
        change = Change("data", "check whether training inputs and targets are paired")
        yield observe(own_score, Evidence(own, known.signal, unit, limit=SURE_SIGNAL), change)


@rule(
    "RVN-D20",
    "warning",
    "leakage",
    confidence="high",
    needs="validation",
    also=("split", "overfitting"),
    explains=("RVN-X20", "RVN-X24"),
)
def training_only_correlation(data: DataProfile) -> Iterator[Observation]:
    found = data.validation.correlation_drop if data.validation else None
    if found is None or found.z - 2 * max(found.median_z, 0.0) < MIN_DROP_ERRORS:
        return
    lost = found.correlation**2 - found.validation_correlation**2
    if lost < MIN_LOST_VARIANCE:
        return
    name = "variance of the target that the column explains in training"
    before = Evidence(name, 100 * found.correlation**2, "%")
    after = Evidence("in validation", 100 * found.validation_correlation**2, "%")
    name, others = "drop of its correlation", f"median of other columns {found.median_z:.1f}"
    drop = Evidence(name, found.z, "standard errors", limit=MIN_DROP_ERRORS, text=others)
    change = Change("data", "compute the column without the target of its own row")
    yield observe(before, after, drop, change, where=found.where, suspects=("overfitting", "split"))
