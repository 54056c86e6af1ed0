"""Targets that are constant, uneven, sorted, of other rows, or without an output."""

from collections.abc import Iterator

from ravine.diagnosis.data.profile import SURE_SIGNAL, DataProfile, ShiftedTargets, TurnedTargets
from ravine.diagnosis.data.rules_inputs import FAR_OFFSET, MIN_EXAMPLES
from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.finding import Change, Evidence

LARGE_TARGETS, SMALL_TARGETS = 10.0, 0.03  # their spread
UNEVEN_CLASSES = 0.5  # (exp H - 1) / (K - 1)
RARE_LABEL = 0.05  # share of the examples with a label
ONE_CLASS_FRACTION = 0.9  # mean share of the commonest class in a batch
SHUFFLED_MARGIN = 0.15  # by which shuffling must lower it
SAME_TOKEN_FRACTION = 0.99  # of target tokens: the input token at their place


@rule("RVN-D04", "error", "data-degenerate", needs="inputs", explains="RVN-D14")
def equal_targets(data: DataProfile) -> Iterator[Observation]:
    if data.rows < MIN_EXAMPLES:
        return
    targets, equal = data.targets, None
    if data.kind in ("classes", "binary", "tokens", "next"):
        present = [name for name, count in data.classes.train.items() if count > 0]
        if len(present) == 1:
            name = data.classes.name_of(present[0])
            equal = Evidence("classes", 1, text=f"all targets are {name}")
    elif targets is not None and data.kind != "inputs":
        if len(targets.constant_columns) == targets.columns:
            equal = Evidence("spread of the targets", 0.0, text=f"mean {targets.mean:.3g}")
    gaps = any(found.where.startswith("target") for found in data.not_finite)
    if equal is not None:  # of targets with gaps the loss may take what is known from elsewhere
        change = Change("data", "check how the targets are read")
        yield observe(equal, change, severity="note" if gaps else "")


@rule("RVN-D06", "note", "target-scale", confidence="low", needs="values")
def target_scale(data: DataProfile) -> Iterator[Observation]:
    targets = data.targets
    if targets is None or targets.spreads.largest == 0:
        return
    spread, found = targets.spreads.largest, []
    if spread > LARGE_TARGETS or spread < SMALL_TARGETS:
        limit = LARGE_TARGETS if spread > 1 else SMALL_TARGETS
        found.append(Evidence("spread of the targets", spread, limit=limit))
    if targets.largest_offset > FAR_OFFSET:
        name = "distance of the targets from 0"
        found.append(Evidence(name, targets.largest_offset, "spreads", limit=FAR_OFFSET))
    if found:
        lowest = Evidence("lowest target", targets.low)
        highest = Evidence("highest target", targets.high)
        yield observe(*found, lowest, highest, Change("target.scale", "standardize"))


@rule("RVN-D09", "warning", "labels", confidence="high", needs="sequences", also="leakage")
def unshifted_tokens(data: DataProfile) -> Iterator[Observation]:
    if data.same_tokens >= SAME_TOKEN_FRACTION and len(data.classes.train) > 1:
        name = "targets that are the token at their own place"
        limit = 100 * SAME_TOKEN_FRACTION
        copying = "a network that copies is right"
        change = Change("data", "inputs tokens[:, :-1], targets tokens[:, 1:]")
        same = Evidence(name, 100 * data.same_tokens, "%", limit=limit, text=copying)
        yield observe(same, change)


@rule("RVN-D12", "note", "imbalance", confidence="low", needs="inputs")
def uneven_classes(data: DataProfile) -> Iterator[Observation]:
    present = {place: count for place, count in data.classes.train.items() if count > 0}
    if len(present) < 2:
        return
    rarest = min(present, key=lambda place: present[place])
    name, evenness = data.classes.name_of(rarest), data.classes.evenness
    count = present[rarest]
    if data.kind == "labels":
        share, limit = count / data.rows, RARE_LABEL * data.rows
        rare = Evidence("examples with this label", count, limit=limit, text=f"{100 * share:.2g} %")
        if share < RARE_LABEL:
            yield observe(rare, Change("loss", "pos_weight"), where=f"label {name}")
    elif evenness < UNEVEN_CLASSES:
        share = f"{100 * count / sum(present.values()):.2g} %"
        even = "evenness of the classes, (exp H - 1) / (K - 1)"
        uneven = Evidence(even, evenness, limit=UNEVEN_CLASSES)
        examples = Evidence("examples of the rarest class", count, text=share)
        yield observe(uneven, examples, Change("loss", "weights by class"), where=f"class {name}")


@rule("RVN-D13", "warning", "shuffling", confidence="high", needs="order")
def sorted_examples(data: DataProfile) -> Iterator[Observation]:
    order = data.order
    if order is None:
        return
    if data.kind == "number":
        found = order.is_sorted or order.purity > ONE_CLASS_FRACTION > 3 * order.shuffled_purity
        name = "of the targets' variance is between batches"
    else:
        mixed = order.shuffled_purity < ONE_CLASS_FRACTION - SHUFFLED_MARGIN
        found = mixed and order.purity >= ONE_CLASS_FRACTION
        name = "of a batch is one class, on average"
    if found:
        shuffled = f"{100 * max(order.shuffled_purity, 0):.0f} % when shuffled"
        limit = 100 * ONE_CLASS_FRACTION
        evidence = Evidence(name, 100 * order.purity, "%", limit=limit, text=shuffled)
        severity = "note" if data.kind == "number" and not order.is_sorted else ""
        yield observe(evidence, Change("shuffle", True), severity=severity)


@rule("RVN-D14", "note", "labels", confidence="medium", needs="baseline")
def no_information(data: DataProfile) -> Iterator[Observation]:
    known = data.baseline
    if known is not None and known.informative is False and data.shifted_targets is None:
        name, unit = "association of predictions and targets", "standard errors"
        tried = f"the surest of {join_names(known.losses, 5)}, {known.examples} examples"
        constant = f"the best constant has {known.constant_score:.3g}"
        best_score = Evidence("best score", known.score, text=constant)
        change = Change("data", "check whether inputs and targets are paired")
        signal = Evidence(name, known.signal, unit, limit=SURE_SIGNAL, text=tried)
        yield observe(signal, best_score, change)


@rule(
    "RVN-D15",
    "error",
    "labels",
    confidence="high",
    needs="inputs",
    also="augmentation",
    explains="RVN-D14",
)
def shifted_targets(data: DataProfile) -> Iterator[Observation]:
    shifted = data.shifted_targets
    turned = shifted if isinstance(shifted, TurnedTargets) else None
    if turned is not None and turned.turned_share < 1:
        name = f"targets that fit their inputs only when {turned.turn}"
        share = Evidence(name, 100 * turned.turned_share, "%", limit=0)
        kept = Evidence("targets that fit as they are", 100 * turned.given_share, "%")
        change = Change("data", "each random transform on inputs and targets alike")
        title = f"some targets fit the inputs only when {turned.turn}"
        yield observe(share, kept, change, title=title, suspects=("augmentation",))
    elif turned is not None:
        sure = f"{turned.signal:.0f} standard errors beyond that of the targets as they are"
        score = Evidence(f"R2 of small patches with the targets {turned.turn}", turned.score)
        given = Evidence("R2 with the targets as they are", turned.given_score, text=sure)
        change = Change("data", f"targets {turned.turn}, or the inputs read as they are")
        title = f"targets fit the inputs when {turned.turn}"
        yield observe(score, given, change, title=title)
    elif isinstance(shifted, ShiftedTargets):
        way = "on" if shifted.rows > 0 else "back"
        how = f"{abs(shifted.rows)} row {way}" if shifted.rows else "in the opposite order"
        sure = f"{shifted.signal:.0f} standard errors beyond chance"
        change = Change("data", "one order for inputs and targets")
        if shifted.first_row is not None:
            since = f"from row {shifted.first_row} or so on"
            name = f"correlation of predictions with the targets {how}"
            score = Evidence(f"{name}, {since}", shifted.score, text=sure)
            own = Evidence("correlation with their own there", shifted.constant_score)
            title = f"targets belong to other rows: {how}, {since}"
            yield observe(score, own, change, title=title)
            return
        constant = f"the best constant scores {shifted.constant_score:.3g}"
        name = "association of the predictions with the targets as they are paired"
        unit = "standard errors"
        score = Evidence(f"score with the targets {how}", shifted.score, text=sure)
        paired = Evidence(name, shifted.given_signal, unit, limit=SURE_SIGNAL, text=constant)
        yield observe(score, paired, change, title=f"targets belong to other rows: {how}")


@rule("RVN-D16", "error", "labels", needs="labels")
def missing_outputs(data: DataProfile) -> Iterator[Observation]:
    beyond, below = data.classes.beyond_outputs, data.classes.below_zero
    if beyond:
        lowest, highest = min(data.classes.train), max(data.classes.train)
        text = f"labels go from {lowest} to {highest}"
        change = Change("model", f"{highest + 1} outputs")
        if lowest == 1:
            text, change = f"{text}, not from 0", Change("data", "labels less 1")
        name = "targets without an output of their own"
        yield observe(Evidence(name, beyond, limit=0, text=text), change)
    elif below:
        text = "right only if the loss leaves them out"
        evidence = Evidence("targets below 0", below, limit=0, text=text)
        change = Change("data", "labels from 0")
        yield observe(evidence, change, severity="note", confidence="medium")
