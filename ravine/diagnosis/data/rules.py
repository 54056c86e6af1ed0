"""Faults of the examples: numbers that are none, copies, leaks, targets of other rows, misleading
splits and orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.baseline_learners import SURE
from ravine.diagnosis.data.profile import BEYOND, Examples
from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.finding import Change, Evidence

FEW = 10  # examples: with fewer, equal ones mean nothing
STEEPER = 30.0  # times as steep, or as flat, as with standardized inputs
WIDER = 30.0  # times the spread of another column
FAR = 5.0  # spreads from 0
LARGE, SMALL = 10.0, 0.03  # spread of targets
KNOWN = 0.05  # share of validation examples
TWICE = 3.0  # times what chance gives
SHIFTED, STRETCHED = 1.0, 2.5  # spreads, times
COLUMNS, FAR_AWAY = 3.0, 10.0  # columns in effect; with fewer the shift must be this many spreads
MOVED = 1.5  # spreads, of one column
SURELY = 8.0  # standard errors
LESS = 0.1  # of the null loss, and 4 of its standard errors: what validation examples must tell
UNSEEN = 0.05  # share of validation targets of classes that training lacks
OUTSIDE = 0.5  # share of validation targets outside the range of training targets
UNEVEN = 0.5  # (exp H - 1) / (K - 1)
SEEN = 0.05  # share of the examples with a label
ONE_CLASS = 0.9  # mean share of the commonest class in a batch
AGAIN = 0.99  # share of target tokens that are the input token at their place
CROWD = 0.5  # share of the examples that are one and the same


@rule("RVN-D01", severity="error", cause="data-degenerate", needs="inputs", explains=("RVN-N01",))
def not_finite(examples: Examples) -> Iterator[Observation]:
    for broken in examples.broken:
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
                    f"of {examples.rows}: {broken.nans} NaN, {broken.infinities} infinite",
                ),
            ),
            changes=(Change("data", "leave these examples out, or fill them in"),),
        )


@rule("RVN-D02", severity="error", cause="data-degenerate", needs="copies", explains=("RVN-D14",))
def all_inputs_equal(examples: Examples) -> Iterator[Observation]:
    copies = examples.copies
    if copies is not None and copies.compared >= FEW and copies.distinct == 1:
        yield Observation(
            evidence=(Evidence("different inputs", 1, "", None, f"of {copies.compared}"),),
            changes=(Change("data", "see how the inputs are read"),),
        )


@rule("RVN-D03", severity="note", confidence="low", cause="data-degenerate", needs="columns")
def constant_columns(examples: Examples) -> Iterator[Observation]:
    spread = examples.inputs
    if (
        spread is not None
        and spread.constant
        and len(spread.constant) < spread.columns
        and examples.rows >= FEW
    ):
        yield Observation(
            where=join_names(spread.constant),
            evidence=(
                Evidence(
                    "columns with one value", len(spread.constant), "", None, f"of {spread.columns}"
                ),
            ),
            changes=(Change("data", "without these columns"),),
        )


@rule("RVN-D04", severity="error", cause="data-degenerate", needs="inputs", explains=("RVN-D14",))
def all_targets_equal(examples: Examples) -> Iterator[Observation]:
    if examples.rows < FEW:
        return
    if examples.kind in ("classes", "binary", "tokens", "next"):
        held = [name for name, count in examples.counts.items() if count > 0]
        if len(held) == 1:
            yield Observation(
                evidence=(Evidence("classes", 1, "", None, f"all targets are {held[0]}"),),
                changes=(Change("data", "see how the targets are read"),),
            )
    elif (
        examples.targets is not None
        and examples.kind != "inputs"
        and examples.targets.constant
        and len(examples.targets.constant) == examples.targets.columns
    ):
        yield Observation(
            evidence=(
                Evidence(
                    "spread of the targets", 0.0, "", None, f"mean {examples.targets.mean:.3g}"
                ),
            ),
            changes=(Change("data", "see how the targets are read"),),
        )


@rule("RVN-D05", severity="note", confidence="low", cause="input-scale", needs="numbers")
def input_scale(examples: Examples) -> Iterator[Observation]:
    spread = examples.inputs
    if spread is None or spread.widest == 0:
        return
    found = []
    if not 1 / STEEPER <= spread.steeper <= STEEPER:
        found.append(
            Evidence(
                "steeper for a first layer than with standardized inputs",
                spread.steeper,
                "times",
                STEEPER if spread.steeper > 1 else 1 / STEEPER,
                f"E[x x^T] has the eigenvalue {spread.steepest:.3g}, {spread.even:.3g} "
                f"standardized",
            )
        )
    varied = sorted(std for std in spread.stds if std >= spread.narrowest)
    narrow = varied[len(varied) // 10]  # of many columns, a few that hardly vary are no matter
    if examples.layout == "table" and spread.widest > WIDER * narrow:
        found.append(
            Evidence(
                "largest spread of a column over the smallest",
                spread.ratio,
                "",
                WIDER,
                f"{spread.widest_name} {spread.widest:.3g}, {spread.narrowest_name} "
                f"{spread.narrowest:.3g}",
            )
        )
    if spread.offset_median > FAR:
        found.append(
            Evidence("distance of a middling column from 0", spread.offset_median, "spreads", FAR)
        )
    if found:
        yield Observation(evidence=tuple(found), changes=(Change("input.scale", "standardize"),))


@rule("RVN-D06", severity="note", confidence="low", cause="target-scale", needs="values")
def target_scale(examples: Examples) -> Iterator[Observation]:
    spread = examples.targets
    if spread is None or spread.widest == 0:
        return
    found = []
    if spread.widest > LARGE or spread.widest < SMALL:
        found.append(
            Evidence(
                "spread of the targets", spread.widest, "", LARGE if spread.widest > 1 else SMALL
            )
        )
    if spread.offset > FAR:
        found.append(Evidence("distance of the targets from 0", spread.offset, "spreads", FAR))
    if found:
        yield Observation(
            evidence=(*found, Evidence("targets from", spread.low), Evidence("to", spread.high)),
            changes=(Change("target.scale", "standardize"),),
        )


@rule("RVN-D07", severity="warning", confidence="exact", cause="leakage", needs="validation")
def known_before(examples: Examples) -> Iterator[Observation]:
    copies = examples.copies
    if copies is None or not copies.validation or copies.overlap < 3:
        return
    if copies.overlap <= TWICE * copies.expected + 4 * math.sqrt(copies.expected):
        return
    share = copies.overlap / copies.validation
    yield Observation(
        where="validation",
        severity="" if share >= KNOWN else "note",
        evidence=(
            Evidence(
                "validation examples that are training examples, too",
                copies.overlap,
                "",
                copies.expected,
                f"{100 * share:.0f} % of {copies.validation}; chance gives about "
                f"{copies.expected:.0f}",
            ),
        ),
        changes=(Change("data", "take copies out before splitting"),),
    )


@rule("RVN-D08", severity="warning", confidence="medium", cause="leakage", needs="columns")
def gives_away(examples: Examples) -> Iterator[Observation]:
    for column in examples.given_away:
        missed, missed_by_rest = 1 - column.alone, 1 - column.rest
        far_behind = missed_by_rest > max(10 * missed, 0.05 * (1 - column.null))
        if missed_by_rest <= 2 * missed:
            continue
        score = "R2" if examples.kind == "number" else "accuracy"
        yield Observation(
            where=column.where,
            severity="" if far_behind and column.rest_informative else "note",
            evidence=(
                Evidence(f"{score} of this column alone", column.alone),
                Evidence(
                    f"{score} of all others together",
                    column.rest,
                    "",
                    None,
                    f"the best constant has {column.null:.3g}",
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
def same_again(examples: Examples) -> Iterator[Observation]:
    if examples.same >= AGAIN and len(examples.counts) > 1:
        yield Observation(
            evidence=(
                Evidence(
                    "targets that are the token at their own place",
                    100 * examples.same,
                    "%",
                    100 * AGAIN,
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
def validation_differs(examples: Examples) -> Iterator[Observation]:
    drift = examples.drift
    if drift is None:
        return
    stretch = max(drift.stretch, 1 / drift.stretch) if drift.stretch > 0 else math.inf
    moved = drift.shift > SHIFTED and drift.median_sure > SURELY / 2
    stretched = stretch > STRETCHED and drift.rows >= 30
    several = drift.columns > COLUMNS or drift.shift > FAR_AWAY or stretch > 2 * STRETCHED
    if moved or stretched:
        yield Observation(
            where="validation",
            severity="" if several else "note",
            confidence="" if several else "medium",
            suspects=("split", "normalization"),
            evidence=(
                Evidence(
                    "the middle of a column lies away by",
                    drift.shift,
                    "spreads",
                    SHIFTED,
                    "median of all columns",
                ),
                Evidence(
                    "spread over that in training",
                    drift.stretch,
                    "",
                    STRETCHED if drift.stretch > 1 else 1 / STRETCHED,
                    "median of all columns",
                ),
            ),
            changes=(Change("data", "mean and spread of the training examples, for both"),),
        )
    elif abs(drift.farthest) > MOVED and drift.sure > SURELY:
        yield Observation(
            where="validation",
            severity="note",
            confidence="medium",
            cause="split",
            title=f"{drift.farthest_name} is otherwise in validation",
            evidence=(Evidence("its middle lies away by", drift.farthest, "spreads", MOVED),),
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
def other_targets(examples: Examples) -> Iterator[Observation]:
    train, new = examples.counts, examples.validation_counts
    total, rows = sum(new.values()), sum(train.values())
    change = (Change("data", "a split with all classes in both parts"),)
    if examples.kind in ("classes", "binary", "tokens", "next") and total and rows:
        unseen = {name: count for name, count in new.items() if count and not train.get(name)}
        count = sum(unseen.values())
        if count:
            yield Observation(
                where="validation",
                severity="" if count >= max(5, UNSEEN * total) else "note",
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
            if share * total / rows >= FEW
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
    elif examples.outside >= OUTSIDE / 5 and examples.targets is not None:
        told = examples.validation_targets
        yield Observation(
            where="validation",
            title="validation targets lie where training has none",
            severity="" if examples.outside >= OUTSIDE else "note",
            suspects=("target-scale",),
            evidence=(
                Evidence(
                    "validation targets outside the training targets' range",
                    100 * examples.outside,
                    "%",
                    100 * OUTSIDE,
                    f"training {examples.targets.low:.3g} to {examples.targets.high:.3g}"
                    + (f", validation {told.low:.3g} to {told.high:.3g}" if told else ""),
                ),
            ),
            changes=(Change("data", "a random split, and one scale for both"),),
        )


@rule("RVN-D12", severity="note", confidence="low", cause="imbalance", needs="inputs")
def uneven(examples: Examples) -> Iterator[Observation]:
    held = {name: count for name, count in examples.counts.items() if count > 0}
    if len(held) < 2:
        return
    rarest = min(held, key=lambda name: held[name])
    if examples.kind == "labels":
        share = held[rarest] / examples.rows
        if share < SEEN:
            yield Observation(
                where=f"label {rarest}",
                evidence=(
                    Evidence(
                        "examples with this label",
                        held[rarest],
                        "",
                        SEEN * examples.rows,
                        f"{100 * share:.2g} %",
                    ),
                ),
                changes=(Change("loss", "pos_weight"),),
            )
    elif examples.evenness < UNEVEN:
        share = held[rarest] / sum(held.values())
        yield Observation(
            where=f"class {rarest}",
            evidence=(
                Evidence(
                    "evenness of the classes, (exp H - 1) / (K - 1)", examples.evenness, "", UNEVEN
                ),
                Evidence(
                    "examples of the rarest class", held[rarest], "", None, f"{100 * share:.2g} %"
                ),
            ),
            changes=(Change("loss", "weights by class"),),
        )


@rule("RVN-D13", severity="warning", confidence="high", cause="shuffling", needs="order")
def sorted_examples(examples: Examples) -> Iterator[Observation]:
    order = examples.order
    if order is None:
        return
    if examples.kind == "number":
        if order.sorted or order.purity > ONE_CLASS > 3 * order.chance:
            yield Observation(
                severity="" if order.sorted else "note",
                evidence=(
                    Evidence(
                        "of the targets' variance is between batches",
                        100 * order.purity,
                        "%",
                        100 * ONE_CLASS,
                        f"{100 * max(order.chance, 0):.0f} % when shuffled",
                    ),
                ),
                changes=(Change("shuffle", True),),
            )
    elif order.purity >= ONE_CLASS and order.chance < ONE_CLASS - 0.15:
        yield Observation(
            evidence=(
                Evidence(
                    "of a batch is one class, on average",
                    100 * order.purity,
                    "%",
                    100 * ONE_CLASS,
                    f"{100 * order.chance:.0f} % when shuffled",
                ),
            ),
            changes=(Change("shuffle", True),),
        )


@rule("RVN-D14", severity="note", confidence="medium", cause="labels", needs="reference")
def no_information(examples: Examples) -> Iterator[Observation]:
    known = examples.reference
    if known is not None and known.informative is False and examples.slipped is None:
        yield Observation(
            evidence=(
                Evidence(
                    "predictions and targets go together by",
                    known.signal,
                    "standard errors",
                    SURE,
                    f"the surest of {join_names(known.tried, 5)}, {known.examples} examples",
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
    needs="reference",
    explains=("RVN-D14",),
)
def only_validation_tells(examples: Examples) -> Iterator[Observation]:
    known, other = examples.reference, examples.validation_reference
    if known is None or other is None or other.signal <= BEYOND or other.examples > known.examples:
        return
    if other.share > LESS and other.gain > 4 * other.gain_error:
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
                    SURE,
                ),
            ),
            changes=(Change("data", "see whether training inputs and targets are paired"),),
        )


@rule(
    "RVN-D15",
    severity="error",
    confidence="high",
    cause="labels",
    needs="reference",
    explains=("RVN-D14",),
)
def of_other_rows(examples: Examples) -> Iterator[Observation]:
    slipped = examples.slipped
    if slipped is not None:
        how = (
            "in the opposite order"
            if not slipped.by
            else f"{abs(slipped.by)} row {'on' if slipped.by > 0 else 'back'}"
        )
        yield Observation(
            title=f"targets belong to other rows: {how}",
            evidence=(
                Evidence(
                    f"score with the targets {how}",
                    slipped.score,
                    "",
                    None,
                    f"{slipped.signal:.0f} standard errors beyond chance",
                ),
                Evidence(
                    "as they are paired",
                    slipped.given,
                    "standard errors",
                    SURE,
                    f"the best constant scores {slipped.null_score:.3g}",
                ),
            ),
            changes=(Change("data", "one order for inputs and targets"),),
        )


@rule("RVN-D16", severity="error", cause="labels", needs="labels")
def no_output(examples: Examples) -> Iterator[Observation]:
    if examples.beyond_classes:
        lowest, highest = min(examples.counts), max(examples.counts)
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
                    examples.beyond_classes,
                    "",
                    0,
                    counted,
                ),
            ),
        )
    elif examples.below_classes:
        yield Observation(
            severity="note",
            confidence="medium",
            evidence=(
                Evidence(
                    "targets below 0",
                    examples.below_classes,
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
    needs="copies",
)
def repeated(examples: Examples) -> Iterator[Observation]:
    copies = examples.copies
    if copies is None or copies.compared < FEW or copies.distinct == 1 or copies.natural:
        return
    if copies.largest > CROWD * copies.compared:
        yield Observation(
            evidence=(
                Evidence(
                    "examples with one and the same input",
                    copies.largest,
                    "",
                    CROWD * copies.compared,
                    f"of {copies.compared}",
                ),
            ),
            changes=(Change("data", "see how the inputs are read"),),
        )
    elif copies.contradicted > max(3, 0.05 * copies.compared):
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
    not_finite,
    all_inputs_equal,
    constant_columns,
    all_targets_equal,
    input_scale,
    target_scale,
    known_before,
    gives_away,
    same_again,
    validation_differs,
    other_targets,
    uneven,
    sorted_examples,
    no_information,
    of_other_rows,
    no_output,
    repeated,
    only_validation_tells,
)
