"""Targets that are constant, uneven, sorted, of other rows, or without an output."""

from __future__ import annotations

from collections.abc import Iterator

from ravine.diagnosis.baseline_learners import SURE_SIGNAL
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.data.rules_inputs import FAR_OFFSET, MIN_EXAMPLES
from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.finding import Change, Evidence

LARGE_TARGETS, SMALL_TARGETS = 10.0, 0.03  # their spread
UNEVEN_CLASSES = 0.5  # (exp H - 1) / (K - 1)
RARE_LABEL = 0.05  # share of the examples with a label
ONE_CLASS_FRACTION = 0.9  # mean share of the commonest class in a batch
SHUFFLED_MARGIN = 0.15  # by which shuffling must lower it
SAME_TOKEN_FRACTION = 0.99  # of target tokens: the input token at their place


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
