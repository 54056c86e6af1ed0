"""Losses that want something else than what the model gives, or that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.rule import Observation, rule
from ravine.finding import Change, Evidence

UNREACHABLE_LOSS = 0.1  # of the null loss
UNREACHABLE_ERROR = 0.5  # of the null loss: no longer a warning
RARE_ODDS, COMMON_ODDS = 0.5, 1.5  # for each example of the most frequent class, or each zero
LIGHT_WEIGHT, VERY_LIGHT_WEIGHT = 0.5, 0.1  # of a rare class, and of one that is about as frequent


@rule(
    "RVN-I09",
    severity="error",
    cause="loss",
    also=("output-activation",),
    needs="loss",
    explains=("RVN-H05",),
    picture="losses",
)
def reversed_loss(start: StartProfile) -> Iterator[Observation]:
    form = start.loss.form
    if form.reversed and form.right_loss is not None and form.wrong_loss is not None:
        yield Observation(
            evidence=(
                Evidence(
                    "loss of right answers",
                    form.right_loss,
                    "",
                    form.wrong_loss,
                    "must be the lower one",
                ),
                Evidence("loss of wrong answers", form.wrong_loss),
            ),
            changes=(Change("loss", "the other sign"),),
        )
    elif form.takes == "log-probabilities" and start.loss.targets.kind in ("classes", "tokens"):
        if form.unbounded and not form.gives:
            yield Observation(
                where=form.last_at,
                title="the loss takes log-probabilities and gets any numbers",
                suspects=("output-activation",),
                evidence=(
                    Evidence(
                        "lowest loss of logits that grow",
                        -math.inf,
                        "",
                        0.0,
                        "it falls in proportion to them",
                    ),
                ),
                changes=(Change("loss", "cross_entropy on logits"),),
            )
        elif form.gives == "probabilities":
            yield Observation(
                where=form.last_at,
                title="the loss takes log-probabilities and gets probabilities",
                severity="warning",
                confidence="high",
                suspects=("output-activation",),
                evidence=(
                    Evidence(
                        "slope of the loss in the right probability",
                        -1.0,
                        "",
                        None,
                        "the same however wrong it is",
                    ),
                ),
                changes=(Change("loss", "cross_entropy on logits"),),
            )


@rule(
    "RVN-I10",
    severity="error",
    cause="output-activation",
    also=("loss", "target-scale"),
    needs="loss",
    explains=("RVN-H01", "RVN-H02", "RVN-H08"),
    picture="losses",
)
def unfit_output_activation(start: StartProfile) -> Iterator[Observation]:
    form, kind, left = (
        start.loss.form,
        start.loss.targets.kind,
        start.loss.baselines.unreachable,
    )
    kept = (
        ()
        if left is None
        else (
            Evidence(
                "of the loss of a constant answer stays with the best outputs",
                100 * left,
                "%",
                100 * UNREACHABLE_LOSS,
            ),
        )
    )
    squashed = form.gives in ("probabilities", "0 to 1")
    if form.takes == "logits" and squashed and kind in ("classes", "tokens", "labels"):
        yield Observation(
            where=form.last_at,
            suspects=("loss",),
            evidence=(
                Evidence("outputs between 0 and 1 where the loss takes logits", 100.0, "%", 0.0),
                *kept,
            ),
            changes=(Change("output", "linear"),),
        )
    elif left is not None and left > UNREACHABLE_LOSS:
        numbers = kind == "numbers"
        yield Observation(
            where=form.last_at,
            title="the best outputs of the last activation miss the targets",
            severity="error" if left > UNREACHABLE_ERROR else "warning",
            confidence="high",
            suspects=("target-scale",) if numbers else ("loss",),
            evidence=kept,
            changes=(
                Change(
                    "output", "linear" if numbers else "sigmoid, or linear and a loss with logits"
                ),
            ),
        )


@rule(
    "RVN-I11",
    severity="warning",
    confidence="high",
    cause="imbalance",
    also=("loss",),
    needs="loss",
)
def reversed_class_weights(start: StartProfile) -> Iterator[Observation]:
    classes = start.loss.classes
    weights, answer, shares = classes.weights, classes.answer, classes.shares
    if not shares or len(weights) != len(shares) or len(answer) != len(shares):
        return
    if start.loss.targets.kind == "labels":
        low = [
            i
            for i, (p, w, a) in enumerate(zip(shares, weights, answer, strict=True))
            if w <= light_weight_limit(p / (1 - p))
            and a / (1 - a) <= light_weight_limit(p / (1 - p)) * p / (1 - p)
        ]
        if low and 2 * len(low) >= len(weights):
            i = low[0]
            yield Observation(
                evidence=(
                    Evidence(
                        "weight of a 1 over that of a 0",
                        weights[i],
                        "",
                        light_weight_limit(shares[i] / (1 - shares[i])),
                        f"label {i}; {len(low)} of {len(weights)} labels",
                    ),
                    Evidence("share of ones", 100 * shares[i], "%"),
                    Evidence("the best constant answer says", 100 * answer[i], "%"),
                ),
                changes=(Change("loss", "pos_weight 1, or zeros over ones"),),
            )
        return
    top = max(range(len(shares)), key=shares.__getitem__)
    odds = [p / shares[top] for p in shares]
    low = [
        i
        for i, p in enumerate(odds)
        if p > 0
        and 0 < weights[i] <= light_weight_limit(p)
        and answer[i] / answer[top] <= light_weight_limit(p) * p
    ]
    if low:
        i = min(low, key=lambda c: weights[c])
        yield Observation(
            evidence=(
                Evidence(
                    f"weight of an example of class {i} over one of class {top}",
                    weights[i],
                    "",
                    light_weight_limit(odds[i]),
                ),
                Evidence(f"share of class {i}", 100 * shares[i], "%"),
                Evidence("the best constant answer gives it", 100 * answer[i], "%"),
            ),
            changes=(Change("loss", "weights of 1, or one over the classes' shares"),),
        )


def light_weight_limit(odds: float) -> float:
    """The weight of a class at or below which it is too light, by how often it comes for each one
    of the others.
    """
    return LIGHT_WEIGHT if odds <= RARE_ODDS else VERY_LIGHT_WEIGHT if odds <= COMMON_ODDS else 0.0


@rule(
    "RVN-I12",
    severity="error",
    cause="loss",
    also=("data-degenerate", "initialization", "exploding", "input-scale", "output-activation"),
    needs="first_loss",
    explains=("RVN-N01",),
)
def first_loss_not_finite(start: StartProfile) -> Iterator[Observation]:
    what = start.first_loss.not_finite
    if what not in ("inputs", "targets", "outputs", "loss"):
        return
    cause = {
        "inputs": "data-degenerate",
        "targets": "data-degenerate",
        "outputs": "initialization",
        "loss": "loss",
    }
    also = {"outputs": ("exploding", "input-scale"), "loss": ("output-activation",)}
    remedy = {
        "inputs": Change("data", "fill or drop what is not finite"),
        "outputs": Change("init", "smaller weights"),
        "targets": Change("data", "fill or drop what is not finite"),
        "loss": Change("loss", "one that is defined for these outputs, as with logits"),
    }
    yield Observation(
        where=start.first_loss.not_finite_at,
        title=f"the first loss is not finite, from the {what} on",
        cause=cause[what],
        suspects=also.get(what, ()),
        changes=(remedy[what],),
        evidence=(
            Evidence(
                "first loss",
                start.first_loss.value,
                "",
                None,
                f"the {what} are the first that are not finite"
                if what != "loss"
                else "the outputs are finite",
            ),
        ),
    )


@rule("RVN-I20", severity="note", cause="loss-reduction", needs="loss")
def summed_loss(start: StartProfile) -> Iterator[Observation]:
    reduction = start.loss.form.reduction
    if reduction is not None and abs(reduction - 2) < 1e-3 and start.examples > 1:
        yield Observation(
            evidence=(
                Evidence(
                    "loss of a batch taken twice over its loss",
                    reduction,
                    "",
                    1.0,
                    "a mean has 1",
                ),
            ),
            changes=(Change("loss", "mean"),),
        )


@rule("RVN-I21", severity="note", confidence="low", cause="loss", needs="loss")
def classes_as_numbers(start: StartProfile) -> Iterator[Observation]:
    if start.loss.targets.class_numbers:
        yield Observation(
            where=start.loss.form.last_at,
            evidence=(
                Evidence(
                    "outputs for several whole-number targets",
                    1,
                    "",
                    None,
                    "as if class 2 lay between 1 and 3",
                ),
            ),
            changes=(
                Change("loss", "cross_entropy with an output for each class, if they are classes"),
            ),
        )
