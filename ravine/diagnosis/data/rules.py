"""Faults of the examples: numbers that are not finite, copies, leaks, targets of other rows,
misleading splits and orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.baseline_learners import SURE_SIGNAL
from ravine.diagnosis.data.measure import BEYOND_DOUBT
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.finding import Change, Evidence

MIN_EXAMPLES = 10  # with fewer, equal ones mean nothing
STEEPNESS_RATIO = 30.0  # times as steep, or as flat, as with standardized inputs
SPREAD_RATIO = 30.0  # times the spread of another column
FAR_OFFSET = 5.0  # spreads from 0
LARGE_TARGETS, SMALL_TARGETS = 10.0, 0.03  # their spread
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
UNEVEN_CLASSES = 0.5  # (exp H - 1) / (K - 1)
RARE_LABEL = 0.05  # share of the examples with a label
ONE_CLASS_FRACTION = 0.9  # mean share of the commonest class in a batch
SHUFFLED_MARGIN = 0.15  # by which shuffling must lower it
SAME_TOKEN_FRACTION = 0.99  # of target tokens: the input token at their place
IDENTICAL_FRACTION = 0.5  # of the examples: one and the same
MIN_CONTRADICTED = 3  # copies of an input with other targets
CONTRADICTED_FRACTION = 0.05  # of the examples


@rule("RVN-D01", severity="error", cause="data-degenerate", needs="inputs", explains=("RVN-N01",))
def not_finite_numbers(data: DataProfile) -> Iterator[Observation]:
    for broken in data.not_finite:
        several = broken.where.startswith(
            "target "
        )  # one of several numbers: a mask in the loss may leave them out
        yield Observation(
            where=broken.where,
            severity="note" if several else "",
            confidence="medium" if several else "",
            evidence=(
                Evidence(
                    "examples with NaN or infinity",
                    broken.rows,
                    "",
                    0,
                    f"of {data.rows}: {broken.nans} NaN, {broken.infinities} infinite",
                ),
            ),
            changes=(Change("data", "leave these examples out, or fill them in"),),
        )


@rule(
    "RVN-D02", severity="error", cause="data-degenerate", needs="duplicates", explains=("RVN-D14",)
)
def equal_inputs(data: DataProfile) -> Iterator[Observation]:
    copies = data.duplicates
    if copies is not None and copies.compared >= MIN_EXAMPLES and copies.distinct == 1:
        yield Observation(
            evidence=(Evidence("different inputs", 1, "", None, f"of {copies.compared}"),),
            changes=(Change("data", "see how the inputs are read"),),
        )


@rule("RVN-D03", severity="note", confidence="low", cause="data-degenerate", needs="columns")
def constant_columns(data: DataProfile) -> Iterator[Observation]:
    inputs = data.inputs
    if (
        inputs is not None
        and inputs.constant_columns
        and len(inputs.constant_columns) < inputs.columns
        and data.rows >= MIN_EXAMPLES
    ):
        yield Observation(
            where=join_names(inputs.constant_columns),
            evidence=(
                Evidence(
                    "columns with one value",
                    len(inputs.constant_columns),
                    "",
                    None,
                    f"of {inputs.columns}",
                ),
            ),
            changes=(Change("data", "without these columns"),),
        )


@rule("RVN-D04", severity="error", cause="data-degenerate", needs="inputs", explains=("RVN-D14",))
def equal_targets(data: DataProfile) -> Iterator[Observation]:
    if data.rows < MIN_EXAMPLES:
        return
    if data.kind in ("classes", "binary", "tokens", "next"):
        present = [name for name, count in data.classes.train.items() if count > 0]
        if len(present) == 1:
            yield Observation(
                evidence=(Evidence("classes", 1, "", None, f"all targets are {present[0]}"),),
                changes=(Change("data", "see how the targets are read"),),
            )
    elif (
        data.targets is not None
        and data.kind != "inputs"
        and data.targets.constant_columns
        and len(data.targets.constant_columns) == data.targets.columns
    ):
        yield Observation(
            evidence=(
                Evidence("spread of the targets", 0.0, "", None, f"mean {data.targets.mean:.3g}"),
            ),
            changes=(Change("data", "see how the targets are read"),),
        )


@rule("RVN-D05", severity="note", confidence="low", cause="input-scale", needs="numbers")
def input_scale(data: DataProfile) -> Iterator[Observation]:
    inputs = data.inputs
    if inputs is None or inputs.spreads.largest == 0:
        return
    spreads, steepness, found = inputs.spreads, inputs.steepness, []
    if not 1 / STEEPNESS_RATIO <= steepness.ratio <= STEEPNESS_RATIO:
        found.append(
            Evidence(
                "steeper for a first layer than with standardized inputs",
                steepness.ratio,
                "times",
                STEEPNESS_RATIO if steepness.ratio > 1 else 1 / STEEPNESS_RATIO,
                f"E[x x^T] has the eigenvalue {steepness.raw:.3g}, {steepness.standardized:.3g} "
                f"standardized",
            )
        )
    varied = sorted(std for std in inputs.column_stds if std >= spreads.smallest)
    narrow = varied[len(varied) // 10]  # of many columns, a few that hardly vary are no matter
    if data.layout == "table" and spreads.largest > SPREAD_RATIO * narrow:
        found.append(
            Evidence(
                "largest spread of a column over the smallest",
                spreads.ratio,
                "",
                SPREAD_RATIO,
                f"{spreads.largest_name} {spreads.largest:.3g}, {spreads.smallest_name} "
                f"{spreads.smallest:.3g}",
            )
        )
    if inputs.median_offset > FAR_OFFSET:
        found.append(
            Evidence(
                "distance of a middling column from 0", inputs.median_offset, "spreads", FAR_OFFSET
            )
        )
    if found:
        yield Observation(evidence=tuple(found), changes=(Change("input.scale", "standardize"),))


@rule("RVN-D06", severity="note", confidence="low", cause="target-scale", needs="values")
def target_scale(data: DataProfile) -> Iterator[Observation]:
    targets = data.targets
    if targets is None or targets.spreads.largest == 0:
        return
    spread, found = targets.spreads.largest, []
    if spread > LARGE_TARGETS or spread < SMALL_TARGETS:
        found.append(
            Evidence(
                "spread of the targets",
                spread,
                "",
                LARGE_TARGETS if spread > 1 else SMALL_TARGETS,
            )
        )
    if targets.largest_offset > FAR_OFFSET:
        found.append(
            Evidence(
                "distance of the targets from 0", targets.largest_offset, "spreads", FAR_OFFSET
            )
        )
    if found:
        yield Observation(
            evidence=(*found, Evidence("targets from", targets.low), Evidence("to", targets.high)),
            changes=(Change("target.scale", "standardize"),),
        )


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


@rule("RVN-D08", severity="warning", confidence="medium", cause="leakage", needs="columns")
def leaking_columns(data: DataProfile) -> Iterator[Observation]:
    for column in data.leaking_columns:
        missed, missed_by_rest = 1 - column.score, 1 - column.rest_score
        far_behind = missed_by_rest > max(10 * missed, 0.05 * (1 - column.null_score))
        if missed_by_rest <= 2 * missed:
            continue
        score = "R2" if data.kind == "number" else "accuracy"
        yield Observation(
            where=column.where,
            severity="" if far_behind and column.rest_informative else "note",
            evidence=(
                Evidence(f"{score} of this column alone", column.score),
                Evidence(
                    f"{score} of all others together",
                    column.rest_score,
                    "",
                    None,
                    f"the best constant has {column.null_score:.3g}",
                ),
            ),
            changes=(
                Change("data", f"without {column.where}, if it is not known when predicting"),
            ),
        )


@rule(
    "RVN-D09",
    severity="warning",
    confidence="high",
    cause="labels",
    also=("leakage",),
    needs="sequences",
)
def unshifted_tokens(data: DataProfile) -> Iterator[Observation]:
    if data.same_tokens >= SAME_TOKEN_FRACTION and len(data.classes.train) > 1:
        yield Observation(
            evidence=(
                Evidence(
                    "targets that are the token at their own place",
                    100 * data.same_tokens,
                    "%",
                    100 * SAME_TOKEN_FRACTION,
                    "a network that copies is right",
                ),
            ),
            changes=(Change("data", "inputs tokens[:, :-1], targets tokens[:, 1:]"),),
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


@rule("RVN-D12", severity="note", confidence="low", cause="imbalance", needs="inputs")
def uneven_classes(data: DataProfile) -> Iterator[Observation]:
    present = {name: count for name, count in data.classes.train.items() if count > 0}
    if len(present) < 2:
        return
    rarest = min(present, key=lambda name: present[name])
    if data.kind == "labels":
        share = present[rarest] / data.rows
        if share < RARE_LABEL:
            yield Observation(
                where=f"label {rarest}",
                evidence=(
                    Evidence(
                        "examples with this label",
                        present[rarest],
                        "",
                        RARE_LABEL * data.rows,
                        f"{100 * share:.2g} %",
                    ),
                ),
                changes=(Change("loss", "pos_weight"),),
            )
    elif data.classes.evenness < UNEVEN_CLASSES:
        share = present[rarest] / sum(present.values())
        yield Observation(
            where=f"class {rarest}",
            evidence=(
                Evidence(
                    "evenness of the classes, (exp H - 1) / (K - 1)",
                    data.classes.evenness,
                    "",
                    UNEVEN_CLASSES,
                ),
                Evidence(
                    "examples of the rarest class",
                    present[rarest],
                    "",
                    None,
                    f"{100 * share:.2g} %",
                ),
            ),
            changes=(Change("loss", "weights by class"),),
        )


@rule("RVN-D13", severity="warning", confidence="high", cause="shuffling", needs="order")
def sorted_examples(data: DataProfile) -> Iterator[Observation]:
    order = data.order
    if order is None:
        return
    if data.kind == "number":
        if order.is_sorted or order.purity > ONE_CLASS_FRACTION > 3 * order.shuffled_purity:
            yield Observation(
                severity="" if order.is_sorted else "note",
                evidence=(
                    Evidence(
                        "of the targets' variance is between batches",
                        100 * order.purity,
                        "%",
                        100 * ONE_CLASS_FRACTION,
                        f"{100 * max(order.shuffled_purity, 0):.0f} % when shuffled",
                    ),
                ),
                changes=(Change("shuffle", True),),
            )
    elif (
        order.purity >= ONE_CLASS_FRACTION
        and order.shuffled_purity < ONE_CLASS_FRACTION - SHUFFLED_MARGIN
    ):
        yield Observation(
            evidence=(
                Evidence(
                    "of a batch is one class, on average",
                    100 * order.purity,
                    "%",
                    100 * ONE_CLASS_FRACTION,
                    f"{100 * order.shuffled_purity:.0f} % when shuffled",
                ),
            ),
            changes=(Change("shuffle", True),),
        )


@rule("RVN-D14", severity="note", confidence="medium", cause="labels", needs="baseline")
def no_information(data: DataProfile) -> Iterator[Observation]:
    known = data.baseline
    if known is not None and known.informative is False and data.shifted_targets is None:
        yield Observation(
            evidence=(
                Evidence(
                    "predictions and targets go together by",
                    known.signal,
                    "standard errors",
                    SURE_SIGNAL,
                    f"the surest of {join_names(known.losses, 5)}, {known.examples} examples",
                ),
                Evidence(
                    "best score",
                    known.score,
                    "",
                    None,
                    f"the best constant has {known.null_score:.3g}",
                ),
            ),
            changes=(Change("data", "see whether inputs and targets are paired"),),
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


@rule(
    "RVN-D15",
    severity="error",
    confidence="high",
    cause="labels",
    needs="baseline",
    explains=("RVN-D14",),
)
def shifted_targets(data: DataProfile) -> Iterator[Observation]:
    shifted = data.shifted_targets
    if shifted is not None:
        how = (
            "in the opposite order"
            if not shifted.rows
            else f"{abs(shifted.rows)} row {'on' if shifted.rows > 0 else 'back'}"
        )
        yield Observation(
            title=f"targets belong to other rows: {how}",
            evidence=(
                Evidence(
                    f"score with the targets {how}",
                    shifted.score,
                    "",
                    None,
                    f"{shifted.signal:.0f} standard errors beyond chance",
                ),
                Evidence(
                    "as they are paired",
                    shifted.given_signal,
                    "standard errors",
                    SURE_SIGNAL,
                    f"the best constant scores {shifted.null_score:.3g}",
                ),
            ),
            changes=(Change("data", "one order for inputs and targets"),),
        )


@rule("RVN-D16", severity="error", cause="labels", needs="labels")
def missing_outputs(data: DataProfile) -> Iterator[Observation]:
    if data.classes.beyond_outputs:
        lowest, highest = min(data.classes.train), max(data.classes.train)
        counted = f"labels go from {lowest} to {highest}" + (", not from 0" if lowest == 1 else "")
        change = (
            Change("data", "labels less 1")
            if lowest == 1
            else Change("model", f"{highest + 1} outputs")
        )
        yield Observation(
            changes=(change,),
            evidence=(
                Evidence(
                    "targets without an output of their own",
                    data.classes.beyond_outputs,
                    "",
                    0,
                    counted,
                ),
            ),
        )
    elif data.classes.below_zero:
        yield Observation(
            severity="note",
            confidence="medium",
            evidence=(
                Evidence(
                    "targets below 0",
                    data.classes.below_zero,
                    "",
                    0,
                    "right only if the loss leaves them out",
                ),
            ),
            changes=(Change("data", "labels from 0"),),
        )


@rule(
    "RVN-D17",
    severity="note",
    confidence="medium",
    cause="data-degenerate",
    also=("labels",),
    needs="duplicates",
)
def repeated_inputs(data: DataProfile) -> Iterator[Observation]:
    copies = data.duplicates
    if copies is None or copies.compared < MIN_EXAMPLES or copies.distinct == 1 or copies.natural:
        return
    if copies.most_frequent > IDENTICAL_FRACTION * copies.compared:
        yield Observation(
            evidence=(
                Evidence(
                    "examples with one and the same input",
                    copies.most_frequent,
                    "",
                    IDENTICAL_FRACTION * copies.compared,
                    f"of {copies.compared}",
                ),
            ),
            changes=(Change("data", "see how the inputs are read"),),
        )
    elif copies.contradicted > max(MIN_CONTRADICTED, CONTRADICTED_FRACTION * copies.compared):
        yield Observation(
            cause="labels",
            title="copies of an input have other targets",
            evidence=(
                Evidence(
                    "copies with another target than the first",
                    copies.contradicted,
                    "",
                    0,
                    f"of {copies.compared}",
                ),
            ),
            changes=(Change("data", "see how the targets are read"),),
        )


ALL = (
    not_finite_numbers,
    equal_inputs,
    constant_columns,
    equal_targets,
    input_scale,
    target_scale,
    leaked_examples,
    leaking_columns,
    unshifted_tokens,
    validation_shift,
    unseen_targets,
    uneven_classes,
    sorted_examples,
    no_information,
    shifted_targets,
    missing_outputs,
    repeated_inputs,
    uninformative_training,
)
