"""Inputs that are not finite, constant, copied or badly scaled, and columns that are the target."""

from collections.abc import Iterator
from dataclasses import replace

from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.finding import Change, Evidence

MIN_EXAMPLES = 10  # with fewer, equal ones mean nothing
STEEPNESS_RATIO = 30.0  # times as steep, or as flat, as with standardized inputs
COLUMN_SPREAD_RATIO = 30.0  # times the spread of another column
FAR_OFFSET = 5.0  # spreads from 0
FAR_SENTINEL = 30.0  # spreads of the others
IDENTICAL_FRACTION = 0.5  # of the examples: one and the same
MIN_CONTRADICTED = 3  # copies of an input with other targets
COPIES_MULTIPLE = 2.0  # times what chance gives
NOISE_VARIANCE = 0.002  # of a number's: more that a column misses may be its noise
CONTRADICTED_FRACTION = 0.05  # of the examples


@rule("RVN-D01", "error", "data-degenerate", needs="inputs", explains=("RVN-N01",))
def not_finite_numbers(data: DataProfile) -> Iterator[Observation]:
    for broken in data.not_finite:
        counts = f"of {data.rows}: {broken.nans} NaN, {broken.infinities} infinite"
        evidence = Evidence("examples with NaN or infinity", broken.rows, limit=0, text=counts)
        change = Change("data", "leave these examples out, or fill them in")
        seen = observe(evidence, change, where=broken.where)
        # one of several numbers: a mask in the loss may leave them out
        in_doubt = broken.where.startswith("target ")
        yield replace(seen, severity="note", confidence="medium") if in_doubt else seen


@rule("RVN-D02", "error", "data-degenerate", needs="duplicates", explains=("RVN-D14",))
def equal_inputs(data: DataProfile) -> Iterator[Observation]:
    copies = data.duplicates
    if copies is not None and copies.compared >= MIN_EXAMPLES and copies.distinct == 1:
        change = Change("data", "check how the inputs are read")
        yield observe(Evidence("different inputs", 1, text=f"of {copies.compared}"), change)


@rule("RVN-D03", "note", "data-degenerate", confidence="low", needs="columns")
def constant_columns(data: DataProfile) -> Iterator[Observation]:
    inputs = data.inputs
    if inputs is None or data.rows < MIN_EXAMPLES:
        return
    count = len(inputs.constant_columns)
    if 0 < count < inputs.columns:
        evidence = Evidence("columns with one value", count, text=f"of {inputs.columns}")
        change = Change("data", "without these columns")
        yield observe(evidence, change, where=join_names(inputs.constant_columns))


@rule("RVN-D05", "note", "input-scale", confidence="low", needs="numbers")
def input_scale(data: DataProfile) -> Iterator[Observation]:
    inputs = data.inputs
    if inputs is None or inputs.spreads.largest == 0:
        return
    spreads, steepness, found = inputs.spreads, inputs.steepness, []
    if not 1 / STEEPNESS_RATIO <= steepness.ratio <= STEEPNESS_RATIO:
        name = "steeper for a first layer than with standardized inputs"
        limit = STEEPNESS_RATIO if steepness.ratio > 1 else 1 / STEEPNESS_RATIO
        text = f"E[x x^T] has the eigenvalue {steepness.raw:.3g}, "
        text += f"{steepness.standardized:.3g} standardized"
        found.append(Evidence(name, steepness.ratio, "times", limit=limit, text=text))
    varied = sorted(std for std in inputs.column_stds if std >= spreads.smallest)
    narrow = varied[len(varied) // 10]  # of many columns, a few that hardly vary are no matter
    if data.layout == "table" and spreads.largest > COLUMN_SPREAD_RATIO * narrow:
        name = "largest spread of a column over the smallest"
        text = f"{spreads.largest_name} {spreads.largest:.3g}, "
        text += f"{spreads.smallest_name} {spreads.smallest:.3g}"
        found.append(Evidence(name, spreads.ratio, limit=COLUMN_SPREAD_RATIO, text=text))
    if inputs.median_offset > FAR_OFFSET:
        name = "distance of the median column's mean from 0"
        found.append(Evidence(name, inputs.median_offset, "spreads", limit=FAR_OFFSET))
    if found:
        yield observe(*found, Change("input.scale", "standardize"))


@rule(
    "RVN-D19",
    "warning",
    "data-degenerate",
    confidence="medium",
    needs="numbers",
    explains=("RVN-C03", "RVN-D05", "RVN-L27", "RVN-T02"),
)
def sentinels(data: DataProfile) -> Iterator[Observation]:
    of_targets = () if data.targets is None else data.targets.sentinels
    for sentinel in (*(() if data.inputs is None else data.inputs.sentinels), *of_targets):
        value = f"{sentinel.value:.6g}"
        share = f"{100 * sentinel.fraction:.3g} %"
        nearest = Evidence(
            "distance of the nearest other value",
            sentinel.distance,
            "spreads of the others",
            limit=sentinel.limit,
        )
        change = Change("data", f"leave {value} empty in {sentinel.where}: it stands for a gap")
        title = f"{value} stands for a gap in {sentinel.where}"
        evidence = Evidence(f"examples with the value {value}", sentinel.rows, text=share)
        # those who write a number for a gap write a whole one; others may be where a scale ends,
        # unless they were scaled together with the rest, which is then far away
        written = float(sentinel.value).is_integer() or sentinel.distance > FAR_SENTINEL
        # a loss may leave out what is not known of its targets
        severity = "" if written and sentinel not in of_targets else "note"
        place = sentinel.where
        yield observe(evidence, nearest, change, where=place, title=title, severity=severity)


@rule("RVN-D08", "warning", "leakage", confidence="medium", needs="columns")
def leaking_columns(data: DataProfile) -> Iterator[Observation]:
    for column in data.leaking_columns:
        score = "R2" if data.kind in ("number", "numbers") else "accuracy"
        score += f" for {column.target}" if column.target else ""
        missed, missed_by_rest = 1 - column.score, 1 - column.rest_score
        far_behind = missed_by_rest > max(10 * missed, 0.05 * (1 - column.constant_score))
        if missed_by_rest <= 2 * missed:
            continue
        name = f"{score} of all others together"
        text = f"the best constant has {column.constant_score:.3g}"
        dropped = join_names((column.where, *column.backed_by))
        known = "it is" if not column.backed_by else "they are"
        without = f"without {dropped}, if {known} not known when predicting"
        alone = Evidence(f"{score} of this column alone", column.score)
        rest = Evidence(name, column.rest_score, text=text)
        # what a good instrument measures follows the target but for its noise
        noisy = score.startswith("R2") and missed > NOISE_VARIANCE
        sure = far_behind and column.rest_informative and not noisy
        severity = "" if sure else "note"
        yield observe(alone, rest, Change("data", without), where=column.where, severity=severity)


@rule(
    "RVN-D17", "note", "data-degenerate", confidence="medium", needs="duplicates", also=("labels",)
)
def repeated_inputs(data: DataProfile) -> Iterator[Observation]:
    copies = data.duplicates
    if copies is None or copies.compared < MIN_EXAMPLES or copies.distinct == 1 or copies.natural:
        return
    limit = IDENTICAL_FRACTION * copies.compared
    repeated = max(0, copies.compared - copies.distinct)
    by_chance = repeated < COPIES_MULTIPLE * copies.expected_copies
    of = f"of {copies.compared}"
    if copies.most_frequent > limit:
        name = "examples with one and the same input"
        change = Change("data", "check how the inputs are read")
        yield observe(Evidence(name, copies.most_frequent, limit=limit, text=of), change)
    elif not by_chance and copies.contradicted > max(
        MIN_CONTRADICTED, CONTRADICTED_FRACTION * copies.compared
    ):
        name = "copies with another target than the first"
        evidence = Evidence(name, copies.contradicted, limit=0, text=of)
        change = Change("data", "check how the targets are read")
        title = "copies of an input have other targets"
        yield observe(evidence, change, cause="labels", title=title)


@rule(
    "RVN-D21",
    "error",
    "shape-pairing",
    confidence="high",
    needs="numbers",
    also=("data-degenerate",),
)
def reshaped_inputs(data: DataProfile) -> Iterator[Observation]:
    found = data.inputs.reshaped if data.inputs else None
    if found is None:
        return
    channels, *places = found.shape
    sure = f"{found.signal:.0f} standard errors nearer than all others"
    what = "rows" if len(places) > 1 else "places"
    name = f"mean squared difference of numbers {channels} {what} apart, over the variance"
    before = Evidence(name, found.before, limit=found.own, text=sure)
    own = Evidence(f"of neighboring {what}", found.own)
    order = "0, 3, 1, 2" if len(places) > 1 else "0, 2, 1"
    change = Change("data", f"x.permute({order}), not reshape, to put the channels first")
    yield observe(before, own, change, suspects=("data-degenerate",))
