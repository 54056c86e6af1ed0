"""Faults of the training loop itself: gradients, the order of things, modes, schedules, what the
optimizer holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.diagnosis.training_loop.history import Look, Story, Weight
from ravine.finding import Change, Evidence

SURE = 2  # looks in a row that must agree
SETTLED = 7  # steps after which every optimizer of the usual loops has stepped
LONG = 20  # steps after which a parameter without a gradient counts as unused
ZERO_LR = 10  # steps in a row; a warm-up from 0 and a schedule's last step have fewer
CLIPPED = 0.01  # of the gradient's length
SCALER = 256.0  # a loss that is multiplied by more is scaled for the sake of few bits
# of the weights' length in one step: less, and a thousand steps move them by a tenth at most
MOVES = 1e-4
STUCK = 0.99  # share of entries
SHORT = 50  # steps


def last(story: Story, count: int = SURE) -> Iterator[list[Look]]:
    """The last looks at each optimizer that has as many."""
    for place in range(story.optimizers):
        looks = [look for look in story.looks if look.optimizer == place][-count:]
        if len(looks) == count:
            yield looks


def empty(look: Look) -> bool:
    return not any(norm != 0 for norm in look.norms.values())


def without_gradient(story: Story) -> list[Look]:
    """The first of the last looks if no watched optimizer had a gradient in any of them."""
    found = list(last(story))
    if len(found) < story.optimizers or any(
        not empty(k) or k.arrived is not None for looks in found for k in looks
    ):
        return []
    return [looks[0] for looks in found[:1]]


@rule("RVN-L01", severity="error", cause="zero-grad", needs="looks", explains=("RVN-N01",))
def zero_grad_missing(story: Story) -> Iterator[Observation]:
    for place in range(story.optimizers):
        looks = [
            look for look in story.looks if look.optimizer == place and look.stale and look.step > 0
        ]
        if len(looks) >= SURE:  # before the first step there may be gradients of something else
            look = looks[-1]
            yield Observation(
                where=look.stale,
                since=looks[0].step,
                evidence=(
                    Evidence(
                        "of the gradient",
                        round(100 * look.kept, 1),
                        "%",
                        0.0,
                        "is from earlier steps, bit for bit",
                    ),
                ),
                changes=(Change("loop", "optimizer.zero_grad() before loss.backward()"),),
            )


@rule(
    "RVN-L02",
    severity="error",
    cause="step-order",
    also=("detached-graph", "parameters-not-in-optimizer"),
    needs="looks",
    explains=("RVN-N02",),
)
def step_without_gradient(story: Story) -> Iterator[Observation]:
    if (
        story.cut
        or re.search(r"N+LS", story.tape)
        or (story.graph is not None and not story.graph.weights - {"?"})
    ):
        return  # the graph was cut: its own findings say so
    for look in without_gradient(story):
        yield Observation(
            since=look.step,
            evidence=(Evidence("steps in a row without any gradient", SURE, "", 0),),
            suspects=("detached-graph", "parameters-not-in-optimizer"),
            changes=(Change("loop", "loss.backward() before optimizer.step()"),),
        )


@rule(
    "RVN-L03", severity="error", cause="zero-grad", needs="looks", explains=("RVN-N02", "RVN-L02")
)
def wiped(story: Story) -> Iterator[Observation]:
    for looks in last(story):
        known = not any(
            math.isnan(look.arrived or 0.0) for look in looks
        )  # of a sparse gradient no length is
        gone = known and all(look.arrived and not look.at_step and empty(look) for look in looks)
        if gone and re.search(r"B[LSs]*S[s]*$", story.tape):
            look = looks[-1]
            yield Observation(
                since=looks[0].step,
                evidence=(
                    Evidence("gradient norm after backward", look.arrived),
                    Evidence("at the step", look.at_step or 0.0),
                ),
                changes=(Change("loop", "zero_grad before backward, or after step"),),
            )


@rule(
    "RVN-L04",
    severity="error",
    cause="step-order",
    needs="forward",
    explains=("RVN-L02", "RVN-L03", "RVN-N02"),
)
def backward_after_step(story: Story) -> Iterator[Observation]:
    if re.search(r"(?:F+L?Ss*B+L?){3}", story.tape):
        yield Observation(
            since=0,
            evidence=(Evidence("times in a row", 3, "", None, "forward, step, then backward"),),
            changes=(Change("loop", "loss.backward() before optimizer.step()"),),
        )


@rule("RVN-L05", severity="error", cause="parameters-not-in-optimizer", needs="steps")
def not_in_optimizer(story: Story) -> Iterator[Observation]:
    missing = [
        w
        for w in story.weights
        if w.trainable and w.in_model and w.registered and w.optimizer is None and w.reached
    ]
    held = [i for i, w in enumerate(story.weights) if w.in_model and w.optimizer is not None]
    if not missing or story.steps < SETTLED or not story.looks:
        return
    before_all = not held or story.weights.index(missing[-1]) < held[0]
    random = any(w.fresh for w in missing)
    deliberate = bool(held) and before_all and not random
    yield Observation(
        where=join_names(w.name for w in missing),
        severity="note" if deliberate else "error",
        evidence=(
            Evidence(
                "parameters with gradients that no optimizer holds",
                len(missing),
                "",
                0,
                "still as initialized at random" if random else "",
            ),
            Evidence("numbers in them", sum(math.prod(w.shape) for w in missing)),
        ),
        changes=(Change("optimizer", "build it from all of model.parameters()"),),
    )


@rule(
    "RVN-L06",
    severity="error",
    cause="parameters-not-in-optimizer",
    needs="steps",
    explains=("RVN-L05", "RVN-L02", "RVN-L01"),
)
def stale_optimizer(story: Story) -> Iterator[Observation]:
    if len(story.looks) < SURE:
        return
    strange = [w for w in story.weights if not w.in_model and w.optimizer not in (None, -1)]
    unreached = [w for w in strange if not w.reached]
    loose = [w for w in story.weights if w.in_model and w.trainable and w.optimizer is None]
    if unreached and loose:
        yield Observation(
            where=join_names(w.name for w in loose),
            since=0,
            evidence=(
                Evidence(
                    "parameters in the optimizer that are not the model's and get no gradient",
                    len(unreached),
                    "",
                    0,
                ),
                Evidence("parameters of the model in no optimizer", len(loose), "", 0),
            ),
            changes=(Change("optimizer", "build it after the model is complete"),),
        )


@rule("RVN-L07", severity="error", cause="parameters-not-in-optimizer", needs="steps")
def unregistered(story: Story) -> Iterator[Observation]:
    hidden = [
        w
        for w in story.weights
        if not w.registered
        and w.trainable
        and w.optimizer is None
        and (w.reached or w.name in story.reached)
    ]
    if hidden:
        yield Observation(
            where=join_names(w.name for w in hidden),
            since=0,
            evidence=(
                Evidence(
                    "parameters in a plain list or dict",
                    len(hidden),
                    "",
                    0,
                    "model.parameters() does not give them",
                ),
            ),
            changes=(Change("model", "nn.ModuleList, nn.ModuleDict or nn.ParameterList"),),
        )


@rule("RVN-L08", severity="note", cause="frozen-parameters", needs="looks", picture="transfer")
def frozen(story: Story) -> Iterator[Observation]:
    still = [w for w in story.weights if w.in_model and not w.trainable]
    if still and story.looks:
        random = [w for w in still if w.fresh]
        yield Observation(
            where=join_names(w.name for w in still),
            evidence=(
                Evidence(
                    "parameters with requires_grad False",
                    len(still),
                    "",
                    None,
                    f"of {sum(w.in_model for w in story.weights)}",
                ),
                Evidence("of them still as initialized at random", len(random)),
            ),
        )


@rule("RVN-L09", severity="warning", cause="detached-graph", needs="looks")
def never_reached(story: Story) -> Iterator[Observation]:
    if story.steps < LONG or not any(w.reached for w in story.weights):
        return
    unused = [
        w
        for w in story.weights
        if w.in_model
        and w.trainable
        and not w.reached
        and w.name not in story.reached
        and w.optimizer is not None
    ]
    called = [w for w in unused if w.called and w.fresh]
    if unused:
        where: list[Weight] = called or unused
        yield Observation(
            where=join_names(w.name for w in where),
            severity="warning" if called else "note",
            evidence=(
                Evidence(
                    "parameters without a gradient so far",
                    len(unused),
                    "",
                    0,
                    f"in {story.steps} steps",
                ),
                Evidence("of them in modules that did run, as initialized at random", len(called)),
            ),
            changes=(
                Change("model", "no detach() or no_grad() between these layers and the loss"),
            ),
        )


@rule(
    "RVN-L10",
    severity="error",
    cause="detached-graph",
    needs="looks",
    explains=("RVN-L02", "RVN-N02", "RVN-L09"),
)
def detached(story: Story) -> Iterator[Observation]:
    mend = (
        Change(
            "loop", "loss.backward() on the loss as computed: no item(), data, detach(), new tensor"
        ),
    )
    if story.cut == "leaf":
        yield Observation(
            since=0,
            evidence=(Evidence("operations behind the loss", 0, "", None, "it is a leaf"),),
            changes=mend,
        )
    elif (
        story.cut or (story.graph is not None and not story.graph.weights - {"?"})
    ) and without_gradient(story):
        if not re.search(r"N+LS", story.tape):
            yield Observation(
                since=0,
                evidence=(Evidence("parameters that the loss depends on", 0, "", 1),),
                changes=mend,
            )


@rule(
    "RVN-L11",
    severity="error",
    cause="detached-graph",
    needs="forward",
    explains=("RVN-L02", "RVN-L10", "RVN-N02", "RVN-L13"),
)
def no_graph(story: Story) -> Iterator[Observation]:
    if re.search(r"(?:N+LSs*){2}", story.tape):
        yield Observation(
            since=0,
            evidence=(
                Evidence(
                    "steps in a row after a forward pass without a graph",
                    2,
                    "",
                    0,
                    "no_grad or inference_mode",
                ),
            ),
            changes=(Change("loop", "no torch.no_grad() around the forward pass"),),
        )


@rule(
    "RVN-L12",
    severity="error",
    cause="train-eval-mode",
    needs="forward",
    explains=("RVN-N01",),
    picture="batch-norm-drift",
)
def evaluation_mode(story: Story) -> Iterator[Observation]:
    modes = story.modes
    if modes.steps >= SURE and modes.in_evaluation:
        yield Observation(
            where=join_names(modes.names),
            since=max(0, story.steps - modes.steps),
            severity="error" if modes.was_training else "warning",
            evidence=(
                Evidence(
                    "steps in a row in evaluation mode",
                    modes.steps,
                    "",
                    0,
                    "after steps in training mode"
                    if modes.was_training
                    else "training mode was never on",
                ),
                Evidence("dropout and batch norm modules", modes.in_evaluation),
            ),
            changes=(Change("loop", "model.train() before training goes on"),),
        )


@rule(
    "RVN-L13",
    severity="warning",
    confidence="high",
    cause="train-eval-mode",
    needs="forward",
    picture="dropout-expectation",
)
def validation_in_training_mode(story: Story) -> Iterator[Observation]:
    bursts = re.findall(r"S[LBsFE]*(N{2,})", story.tape)
    single = re.findall(r"(?:F+L?B+L?Ss*){4,}N(?=F)", story.tape)
    if story.modes.sensitive and (bursts or len(single) >= 2):
        count = len(bursts[0]) if bursts else 1
        yield Observation(
            where=join_names(story.modes.names),
            evidence=(
                Evidence(
                    "forward passes without a graph, in training mode",
                    count,
                    "",
                    0,
                    "between steps",
                ),
                Evidence("dropout and batch norm modules", story.modes.sensitive),
            ),
            changes=(Change("loop", "model.eval() before validation, model.train() after"),),
        )


@rule("RVN-L14", severity="warning", cause="schedule", needs="schedule", picture="schedules")
def schedule_first(story: Story) -> Iterator[Observation]:
    for schedule in story.schedules:
        if schedule.before:
            yield Observation(
                where=schedule.kind,
                since=0,
                evidence=(
                    Evidence(
                        "schedule steps before the first optimizer step",
                        1,
                        "",
                        0,
                        "its first value is skipped",
                    ),
                ),
                changes=(Change("loop", "optimizer.step() before scheduler.step()"),),
            )


@rule("RVN-L15", severity="warning", cause="schedule", needs="schedule", picture="schedules")
def schedule_idle(story: Story) -> Iterator[Observation]:
    for schedule in story.schedules:
        if story.ended and schedule.steps == 0 and story.steps >= LONG:
            yield Observation(
                where=schedule.kind,
                evidence=(
                    Evidence("schedule steps", 0, "", 1, f"in {story.steps} optimizer steps"),
                ),
                changes=(Change("loop", "scheduler.step() once an epoch, or once a step"),),
            )


@rule(
    "RVN-L16",
    severity="warning",
    cause="schedule",
    needs="steps",
    explains=("RVN-L18", "RVN-L19"),
    picture="schedules",
)
def schedule_over(story: Story) -> Iterator[Observation]:
    mend = (Change("loop", "step it once an epoch, or give its length in steps"),)
    for schedule in story.schedules:
        if schedule.length is not None and schedule.steps > schedule.length + 1:
            yield Observation(
                where=schedule.kind,
                title="the schedule ran past its end",
                evidence=(
                    Evidence(
                        "schedule steps",
                        schedule.steps,
                        "",
                        schedule.length,
                        "the rate rises again after its end",
                    ),
                    Evidence("optimizer steps", story.steps),
                ),
                changes=mend,
            )
            return
    if story.lr_low >= max(SHORT, story.steps / 2):
        yield Observation(
            since=story.steps - story.lr_low,
            evidence=(
                Evidence(
                    "steps at less than 1/1000 of the highest learning rate",
                    story.lr_low,
                    "",
                    story.steps / 2,
                ),
                Evidence("learning rate", story.lr, "", None, f"was {story.highest_lr:.3g}"),
            ),
            changes=mend,
        )


@rule(
    "RVN-L17",
    severity="error",
    cause="gradient-clipping",
    also=("precision", "learning-rate-low"),
    needs="steps",
)
def clipped_away(story: Story) -> Iterator[Observation]:
    for looks in last(story, 5):
        if not all(k.arrived and k.at_step and math.isfinite(k.arrived) for k in looks):
            continue
        # what a gradient scaler multiplied the loss by is taken out again before the step: that is
        # not lost
        left = [(k.at_step or 0.0) * abs(k.scale or 1.0) / (k.arrived or 1.0) for k in looks]
        if max(left) >= CLIPPED:
            continue
        lengths = [math.sqrt(sum(n * n for n in k.norms.values())) for k in looks]
        one_length = max(lengths) <= 1.001 * min(lengths)
        if not one_length and any(k.scale is None for k in looks):
            continue  # perhaps a scaler's doing: nobody saw what the loss was multiplied by
        look, length = looks[-1], lengths[-1]
        entries = sum(math.prod(w.shape) for w in story.weights if w.optimizer == look.optimizer)
        if look.kind == "SGD":
            moves = (
                max(look.lrs) * length / (1 - min(look.momentum, 0.999)) / max(look.weights, 1e-30)
            )
            tiny = moves < MOVES
            shown = Evidence("step over weights", moves, "", MOVES)
        else:
            each = length / math.sqrt(max(entries, 1))
            tiny = each < 10 * look.eps
            shown = Evidence(
                "gradient of one number", each, "", 10 * look.eps, "against the optimizer's eps"
            )
        if tiny:
            scaled = abs(look.scale or 1.0) >= SCALER
            yield Observation(
                since=looks[0].step,
                suspects=("precision",) if scaled else ("learning-rate-low",),
                evidence=(
                    Evidence("of the gradient is left", 100 * left[-1], "%", 100 * CLIPPED),
                    Evidence(
                        "length at the step",
                        length,
                        "",
                        None,
                        "always the same" if one_length else "",
                    ),
                    shown,
                ),
                changes=(
                    Change("loop", "scaler.unscale_(optimizer) before clipping")
                    if scaled
                    else Change("clip", "1.0, or none"),
                ),
            )


@rule(
    "RVN-L18",
    severity="error",
    cause="learning-rate-low",
    also=("schedule",),
    needs="steps",
    explains=("RVN-N02",),
    picture="schedules",
)
def zero_rate(story: Story) -> Iterator[Observation]:
    if story.lr_zero >= ZERO_LR:
        yield Observation(
            since=story.steps - story.lr_zero,
            cause="schedule" if story.highest_lr > 0 else "learning-rate-low",
            evidence=(
                Evidence("steps in a row at a learning rate of 0", story.lr_zero, "", ZERO_LR),
            ),
            changes=(Change("lr", "above 0"),),
        )


@rule(
    "RVN-L19",
    severity="error",
    cause="learning-rate-low",
    also=("precision",),
    needs="steps",
    explains=("RVN-N02",),
    picture="range-test",
)
def rounded_away(story: Story) -> Iterator[Observation]:
    for place in range(story.optimizers):
        looks = [look for look in story.looks if look.optimizer == place]
        if len(looks) < 3 or max(looks[-1].lrs) > max(looks[0].lrs) or max(looks[-1].lrs) == 0:
            continue  # a warm-up is under way, or the rate is 0, which has its own finding
        if all(k.unchanged is not None and k.unchanged > STUCK for k in looks):
            yield Observation(
                since=looks[0].step,
                suspects=("precision",),
                evidence=(
                    Evidence(
                        "of the numbers did not change in a step",
                        100 * (looks[-1].unchanged or 0),
                        "%",
                        100 * STUCK,
                        "though their gradient is not 0",
                    ),
                    Evidence("learning rate", max(looks[-1].lrs)),
                ),
                changes=(Change("lr", "10 times higher, or more"),),
            )


@rule(
    "RVN-N01",
    severity="error",
    confidence="medium",
    cause="learning-rate-high",
    also=(
        "exploding",
        "data-degenerate",
        "loss",
        "input-scale",
        "optimizer-numerics",
        "output-activation",
        "loss-reduction",
        "target-scale",
    ),
    needs="looks",
    picture="range-test",
)
def not_finite(story: Story) -> Iterator[Observation]:
    b = story.broken
    if b is None:
        return
    evidence = [Evidence(f"{b.what} not finite", None, "", None, f"first at step {b.step}")]
    grew = b.highest > 10 * max(abs(b.first), 1e-12)
    cause, confidence, suspects, change = (
        "exploding",
        "medium",
        ("learning-rate-high", "input-scale"),
        (),
    )
    if b.inputs:
        cause, confidence, suspects = "data-degenerate", "exact", ()
        change = (Change("data", "without NaN and infinities"),)
        evidence.append(Evidence("inputs of the model not finite", None))
    elif b.step == 0 and b.what == "loss" and b.where == "loss":
        cause, confidence, suspects = "loss", "high", ("output-activation", "target-scale")
        evidence.append(
            Evidence(
                "outputs of the model", None, "", None, "finite: the loss makes the number itself"
            )
        )
    elif b.what == "gradient" and not grew:
        cause, suspects = "loss", ("exploding", "learning-rate-high")
        evidence.append(
            Evidence("loss", b.last, "", None, "still finite: a root, logarithm or quotient at 0")
        )
    elif b.step > 0:
        cause, confidence = "learning-rate-high", "high" if grew else "medium"
        suspects = ("exploding", "input-scale", "optimizer-numerics")
        if any(k.passes > 1 and not k.thrown and k.scale == 1.0 for k in story.looks):
            suspects = (
                "loss-reduction",
                *suspects,
            )  # gradients of several batches are added, not averaged
        evidence.append(
            Evidence("highest loss before", b.highest, "", None, f"the first was {b.first:.3g}")
        )
        if b.lr > 0:  # known
            change = (Change("lr", b.lr / 10),)
            evidence.append(Evidence("learning rate", b.lr))
    yield Observation(
        where=b.where,
        since=b.step,
        cause=cause,
        confidence=confidence,
        suspects=suspects,
        changes=change,
        evidence=tuple(evidence),
        title=f"{b.what}: no longer finite",
    )


@rule(
    "RVN-N02",
    severity="error",
    confidence="medium",
    cause="detached-graph",
    also=("dead-units", "learning-rate-low"),
    needs="looks",
)
def still(story: Story) -> Iterator[Observation]:
    first = story.losses[:8]
    if len(first) < 8 or story.steps < 8 or len(set(first)) > 1 or not math.isfinite(first[0]):
        return
    looks = [looks[-1] for looks in last(story, 1)]
    if all(empty(k) for k in looks):
        cause = "detached-graph" if all(k.arrived is None for k in looks) else "dead-units"
    elif all(k.unchanged is not None and k.unchanged > STUCK or max(k.lrs) == 0 for k in looks):
        cause = "learning-rate-low"
    else:
        cause = "detached-graph"
    if (
        first[0] != 0 or cause != "dead-units"
    ):  # a loss of 0 with a gradient of 0 is a task that is done
        yield Observation(
            since=0,
            cause=cause,
            confidence="medium",
            evidence=(
                Evidence(
                    "losses in a row that are equal, bit for bit",
                    len(first),
                    "",
                    1,
                    f"all {first[0]:.6g}",
                ),
            ),
        )


ALL = (
    zero_grad_missing,
    step_without_gradient,
    wiped,
    backward_after_step,
    not_in_optimizer,
    stale_optimizer,
    unregistered,
    frozen,
    never_reached,
    detached,
    no_graph,
    evaluation_mode,
    validation_in_training_mode,
    schedule_first,
    schedule_idle,
    schedule_over,
    clipped_away,
    zero_rate,
    rounded_away,
    not_finite,
    still,
)
