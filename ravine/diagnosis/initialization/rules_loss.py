"""Losses that want something else than what the model gives, or that are not finite."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.rule import Observation, observe, rule
from ravine.finding import Change, Evidence

MOST_EXAMPLES = 0.75  # share with finite outputs from which on the weights are not the cause
UNREACHABLE_LOSS = 0.1  # of the constant loss
UNREACHABLE_ERROR = 0.5  # of the constant loss: no longer a warning
RARE_ODDS, COMMON_ODDS = 0.5, 1.5  # for each example of the most frequent class, or each zero
LEFT_OUT_WEIGHT = 1e9  # over another class's: that class is ignored on purpose
HEAVY_ODDS = 20.0  # in the best constant answer, of a class that is hardly more frequent
LIGHT_WEIGHT, VERY_LIGHT_WEIGHT = 0.5, 0.1  # of a rare class, and of one that is about as frequent
# of a rare one in any loss: of no focal loss is an alpha below 0.25 the best (Lin et al. 2017)
FIXED_WEIGHT = 0.2


@rule(
    "RVN-I09",
    "error",
    "loss",
    needs="loss",
    also=("output-activation", "labels"),
    explains=("RVN-H05",),
)
def reversed_loss(start: StartProfile) -> Iterator[Observation]:
    form = start.loss.form
    if form.reversed and form.right_loss is not None and form.wrong_loss is not None:
        must = "must be the lower one"
        right = Evidence("loss of right answers", form.right_loss, limit=form.wrong_loss, text=must)
        evidence = Evidence("loss of wrong answers", form.wrong_loss)
        yield observe(right, evidence, Change("loss", "-loss"))
        return
    if start.loss.classes.ignored:
        name = "of the examples, all of target 0, that have no gradient at any outputs"
        yield observe(
            Evidence(name, 100 * start.loss.classes.ignored, "%", limit=0.0),
            Change("loss", "targets of -1 and 1 for a margin, or nn.BCEWithLogitsLoss"),
            title="examples with a target of 0 have no part in the loss",
            suspects=("labels",),
        )
        return
    kind = start.loss.targets.kind
    # of shares, a divergence is linear but for what does not depend on the outputs
    takes_logarithms = form.takes == "log-probabilities" or (kind == "shares" and not form.takes)
    if not takes_logarithms or kind not in ("classes", "tokens", "shares"):
        return
    if form.unbounded and not form.gives:
        name, text = "lowest loss of logits that grow", "it falls in proportion to them"
        gets, severity, confidence = "any numbers", "error", "exact"
        evidence = Evidence(name, -math.inf, limit=0.0, text=text)
    elif form.gives == "probabilities" and kind != "shares":
        name, text = "slope of the loss in the right probability", "the same however wrong it is"
        evidence = Evidence(name, -1.0, text=text)
        gets, severity, confidence = "probabilities", "warning", "high"
    else:
        return
    yield observe(
        evidence,
        Change("loss", "nn.CrossEntropyLoss() on logits"),
        where=form.last_at,
        title=f"the loss takes log-probabilities and gets {gets}",
        suspects=("output-activation",),
        severity=severity,
        confidence=confidence,
    )


@rule(
    "RVN-I10",
    "error",
    "output-activation",
    needs="loss",
    also=("loss", "target-scale"),
    explains=("RVN-H01", "RVN-H02", "RVN-H08", "RVN-L19"),
)
def unfit_output_activation(start: StartProfile) -> Iterator[Observation]:
    form, kind = start.loss.form, start.loss.targets.kind
    left, kept = start.loss.baselines.unreachable, ()
    if left is not None:
        name = "of the loss of the best constant answer remains with the best outputs that the"
        kept = (
            Evidence(f"{name} activation allows", 100 * left, "%", limit=100 * UNREACHABLE_LOSS),
        )
    squashed = form.gives in ("probabilities", "0 to 1")
    if form.takes == "logits" and squashed and kind in ("classes", "tokens", "labels"):
        evidence = Evidence(
            "outputs between 0 and 1 where the loss takes logits", 100.0, "%", limit=0.0
        )
        change = Change("output", "linear")
        yield observe(evidence, *kept, change, where=form.last_at, suspects=("loss",))
    elif start.loss.targets.unlike_shares > 0:
        name = "of the examples have another number of labels than one"
        several = Evidence(name, 100 * start.loss.targets.unlike_shares, "%", limit=0)
        unlabeled = Evidence(
            "have none, which no softmax can say", 100 * start.loss.targets.unlabeled, "%"
        )
        yield observe(
            several,
            unlabeled,
            Change("loss", "nn.BCEWithLogitsLoss()"),
            where=form.last_at,
            title="the loss has a softmax over labels that do not sum to 1",
            cause="loss",
            confidence="high",
            # the items of a basket may well share one softmax: then only their order counts
            severity="warning" if start.loss.targets.unlabeled > 0 else "note",
            suspects=("output-activation",),
        )
    elif left is not None and left > UNREACHABLE_LOSS:
        numbers = kind == "numbers"
        output = "linear" if numbers else "torch.sigmoid, or none and nn.BCEWithLogitsLoss"
        yield observe(
            *kept,
            Change("output", output),
            where=form.last_at,
            title="the best outputs of the last activation miss the targets",
            severity="error" if left > UNREACHABLE_ERROR else "warning",
            confidence="high",
            suspects=("target-scale",) if numbers else ("loss",),
        )


@rule("RVN-I11", "warning", "imbalance", confidence="high", needs="loss", also=("loss",))
def reversed_class_weights(start: StartProfile) -> Iterator[Observation]:
    classes = start.loss.classes
    weights, answer, shares = classes.weights, classes.answer, classes.shares
    if not shares or len(weights) != len(shares) or len(answer) != len(shares):
        return
    labels = start.loss.targets.kind == "labels"
    top = max(range(len(shares)), key=shares.__getitem__)
    # what an example of a class, or a 1, is compared with: the most frequent class, or a 0
    rest = [1 - p if labels else shares[top] for p in shares]
    answer_rest = [1 - a if labels else answer[top] for a in answer]
    odds = [p / q for p, q in zip(shares, rest, strict=True)]
    limits = [light_weight_limit(ratio) for ratio in odds]

    def is_far(i: int, limit: float = VERY_LIGHT_WEIGHT) -> bool:
        """Whether a number in the loss says so; a focal loss lifts rare ones in other ways, too."""
        return classes.fixed and odds[i] <= RARE_ODDS and weights[i] <= limit

    low = [
        i
        for i, ratio in enumerate(odds)
        if (labels or 0 < ratio and 0 < weights[i])
        and weights[i] <= limits[i]
        and (is_far(i, FIXED_WEIGHT) or answer[i] <= limits[i] * ratio * answer_rest[i])
    ]
    if labels and low and 2 * len(low) >= len(weights):
        i, text = low[0], f"label {low[0]}; {len(low)} of {len(weights)} labels"
        weight = Evidence("weight of a 1 over that of a 0", weights[i], limit=limits[i], text=text)
        name, advice = "share of ones", "pos_weight 1, or zeros over ones"
    elif low and not labels:
        i = min(low, key=lambda c: weights[c])
        name = f"weight of an example of class {i} over one of class {top}"
        weight = Evidence(name, weights[i], limit=limits[i])
        name, advice = f"share of class {i}", "weights of 1, or one over the classes' shares"
    else:
        yield from _heavy_class_weights(start, odds, answer_rest)
        return
    frequency = Evidence(name, 100 * shares[i], "%")
    constant = Evidence(f"{name} in the best constant answer", 100 * answer[i], "%")
    found = observe(weight, frequency, constant, Change("loss", advice))
    yield replace(found, severity="error", confidence="exact") if is_far(i) else found


def _heavy_class_weights(
    start: StartProfile, odds: Sequence[float], answer_rest: Sequence[float]
) -> Iterator[Observation]:
    """Weights that reverse the imbalance: the best constant answer is the rare class."""
    classes, labels = start.loss.classes, start.loss.targets.kind == "labels"
    weights, answer = classes.weights, classes.answer
    heavy = [
        i
        for i, ratio in enumerate(odds)
        if 0 < ratio <= COMMON_ODDS
        and weights[i] < LEFT_OUT_WEIGHT
        and weights[i] * ratio >= HEAVY_ODDS
        and answer[i] >= HEAVY_ODDS * answer_rest[i]
    ]
    if not heavy or (labels and 2 * len(heavy) < len(weights)):
        return
    i = max(heavy, key=lambda c: weights[c] * odds[c])
    what, rest = (f"label {i}", "a 0") if labels else (f"class {i}", "the most frequent class")
    example = f"a 1 of {what}" if labels else f"an example of {what}"
    limit, balanced = HEAVY_ODDS / odds[i], f"{1 / odds[i]:.3g} balances the two"
    weight = Evidence(f"weight of {example} over {rest}", weights[i], limit=limit, text=balanced)
    name = f"odds of {what} to {rest} in the best constant answer"
    constant = Evidence(name, weights[i] * odds[i])
    advice = "pos_weight of zeros over ones" if labels else "weights of one over the shares"
    title = "the loss gives a rare class far too much weight"
    yield observe(weight, constant, Change("loss", advice), title=title, suspects=("loss",))


def light_weight_limit(odds: float) -> float:
    """The weight at or below which a class is too light, by its odds to each of the others."""
    return LIGHT_WEIGHT if odds <= RARE_ODDS else VERY_LIGHT_WEIGHT if odds <= COMMON_ODDS else 0.0


@rule(
    "RVN-I12",
    "error",
    "loss",
    needs="first_loss",
    also=("data-degenerate", "initialization", "exploding", "input-scale")
    + ("output-activation", "target-scale", "normalization"),
    explains=("RVN-N01", "RVN-L19", "RVN-L24"),
)
def first_loss_not_finite(start: StartProfile) -> Iterator[Observation]:
    what = start.first_loss.not_finite
    if not what:
        return
    text = f"the {what} are the first that are not finite"
    cause, suspects = "data-degenerate", ()
    change = Change("data", "fill or drop what is not finite")
    found = start.first_loss
    if what == "outputs" and found.finite_rows >= MOST_EXAMPLES:
        text = f"of {100 * (1 - found.finite_rows):.3g} % of the examples alone"
        suspects, change = ("loss",), Change("data", "no constant row, no row that is all masked")
    elif found.finite_when == "standardized inputs":
        text, cause = f"it is finite with {found.finite_when}", "input-scale"
        suspects = ("loss", "output-activation") if what == "loss" else ("exploding",)
        change = Change("input.scale", "standardize")
    elif found.finite_when == "standardized targets":
        text, cause = f"targets of up to {found.target_size:.3g}", "target-scale"
        suspects, change = ("loss",), Change("target.scale", "standardize")
    elif what == "outputs" and not found.finite_when:
        text += ", also with all weights 0"
        suspects, change = ("normalization",), Change("data", "no division by 0, no root of it")
    elif what == "outputs":
        cause, suspects = "initialization", ("exploding", "input-scale")
        change = Change("init", "smaller weights")
    elif what == "loss":
        text = "the outputs are finite"
        cause, suspects = "loss", ("output-activation",)
        finite = "nn.CrossEntropyLoss or nn.BCEWithLogitsLoss on logits, finite for all of them"
        change = Change("loss", finite)
    evidence = Evidence("first loss", start.first_loss.value, text=text)
    where = start.first_loss.not_finite_at
    title = f"the first loss is not finite, from the {what} on"
    yield observe(evidence, change, where=where, title=title, cause=cause, suspects=suspects)


@rule("RVN-I20", "note", "loss-reduction", needs="loss")
def summed_loss(start: StartProfile) -> Iterator[Observation]:
    ratio = start.loss.form.reduction
    if ratio is not None and abs(ratio - 2) < 1e-3 and start.examples > 1:
        name = "loss of a batch repeated twice over its loss"
        yield observe(Evidence(name, ratio, limit=1.0, text="1 for a mean"), Change("loss", "mean"))


@rule("RVN-I21", "note", "loss", confidence="low", needs="loss")
def classes_as_numbers(start: StartProfile) -> Iterator[Observation]:
    if start.loss.targets.class_numbers:
        name = "outputs for several whole-number targets"
        evidence = Evidence(name, 1, text="as if class 2 lay between 1 and 3")
        advice = "nn.CrossEntropyLoss() and one output for each class, if they are classes"
        change = Change("loss", advice)
        yield observe(evidence, change, where=start.loss.form.last_at)


@rule(
    "RVN-I24",
    "error",
    "labels",
    needs="contracts",
    also=("loss", "output-activation", "target-scale", "data-degenerate"),
    explains=("RVN-H05", "RVN-H08", "RVN-I09", "RVN-I12", "RVN-N01"),
)
def broken_contract(start: StartProfile) -> Iterator[Observation]:
    for broken in start.contracts:
        seen = Evidence(broken.what, broken.share, "%", limit=0.0, text=broken.function)
        path = "data" if broken.cause in ("labels", "target-scale", "data-degenerate") else "loss"
        title, cause = f"{broken.function} gets {broken.what}", broken.cause
        suspects = ("loss" if cause != "loss" else "output-activation",)
        change, severity = Change(path, broken.change), broken.severity
        yield observe(seen, change, title=title, cause=cause, severity=severity, suspects=suspects)
