"""Faults between the steps of a loop: who else writes weights, gradients and states, and what the
inputs are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.diagnosis.training_loop.history import Look, Story
from ravine.finding import Change, Evidence

UNDONE = 2  # times that the weights went back to their start
# times in a row that the same weights were loaded: more than a patient loop does to go on from its
# best
AGAIN = 10
THROWN = 3  # looks at which gradients were cleared between backward passes
PASSES = 3  # backward passes to a step, where no division shows that they belong together
SAME = 12  # looks at the same inputs
STILL = 10  # steps at a rate of 0
OLD = 100.0  # times the gradient that the optimizer's second moments may be at most
DRIFT = 30.0  # times by which inputs may grow or shrink while training
WIDE, NARROW = 30.0, 0.03  # spreads of inputs beyond which it is worth a note
FIRST_LOOKS = 6
LOST = 20  # backward passes


def of_each(story: Story) -> Iterator[list[Look]]:
    """The looks at each optimizer."""
    for place in range(story.optimizers):
        yield [look for look in story.looks if look.optimizer == place]


@rule(
    "RVN-L20",
    severity="error",
    confidence="high",
    cause="initialization",
    also=("step-order", "optimizer"),
    needs="steps",
)
def written(story: Story) -> Iterator[Observation]:
    w = story.written
    apart = Evidence("steps between the last two times", w.apart)
    mend = (Change("loop", "no load_state_dict and no initialization within the loop"),)
    if w.to_start >= UNDONE:
        yield Observation(
            where=w.where,
            since=w.first,
            evidence=(
                Evidence(
                    "times that the weights were set back to their start, bit for bit",
                    w.to_start,
                    "",
                    0,
                ),
                apart,
            ),
            changes=mend,
        )
    elif w.unrelated >= UNDONE:
        yield Observation(
            where=w.where,
            since=w.first,
            title="the weights are drawn anew between steps",
            severity="warning",
            changes=mend,
            evidence=(
                Evidence(
                    "times that the weights were replaced by unrelated numbers", w.unrelated, "", 0
                ),
                apart,
            ),
        )
    elif w.repeated >= AGAIN:
        yield Observation(
            where=w.where,
            since=w.first,
            title="the same weights are loaded again and again",
            severity="warning",
            confidence="medium",
            evidence=(
                Evidence(
                    "times in a row that the weights loaded were the same, bit for bit",
                    w.repeated,
                    "",
                    AGAIN,
                ),
                apart,
            ),
        )
    elif w.other + w.repeated + w.clamped >= UNDONE:
        cut = w.clamped > w.other + w.repeated
        title = (
            "the weights are cut to a range between steps"
            if cut
            else "something else writes the weights"
        )
        yield Observation(
            where=w.where,
            since=w.first,
            title=title,
            severity="note",
            evidence=(
                Evidence(
                    "times that the weights were not as the optimizer left them",
                    w.other + w.repeated + w.clamped,
                ),
                apart,
            ),
        )


@rule("RVN-L21", severity="error", cause="zero-grad", also=("step-order",), needs="steps")
def thrown_away(story: Story) -> Iterator[Observation]:
    if not story.alone:
        # a backward pass for another optimizer's sake leaves gradients that are rightly cleared
        return
    for looks in of_each(story):
        found = [k for k in looks if k.thrown and k.thrown == k.passes - 1 and k.told >= k.passes]
        some = found[-1] if found else None
        if some is None or len(found) < THROWN:
            continue
        divided = some.scale is not None and abs(some.scale * some.passes - 1) < 1e-3
        if some.passes >= PASSES or divided:
            change = Change(
                "loop", "zero_grad once for each step, and a step for each backward pass or for all"
            )
            yield Observation(
                since=found[0].step,
                changes=(change,),
                evidence=(
                    Evidence(
                        "backward passes to a step",
                        some.passes,
                        "",
                        None,
                        "the last one's gradient alone is used",
                    ),
                    Evidence(
                        "of their gradients are cleared",
                        some.thrown,
                        "",
                        0,
                        "the weights standing still",
                    ),
                ),
            )


@rule(
    "RVN-L23", severity="note", cause="loss-reduction", also=("learning-rate-high",), needs="steps"
)
def summed(story: Story) -> Iterator[Observation]:
    for looks in of_each(story):
        some = [
            k
            for k in looks
            if k.passes > 1 and not k.thrown and k.told == k.passes and k.scale == 1.0
        ]
        if story.alone and story.kind and len(some) >= THROWN:
            yield Observation(
                since=some[0].step,
                evidence=(
                    Evidence(
                        "gradients that are added for a step",
                        some[-1].passes,
                        "",
                        1,
                        "each of a batch's mean loss",
                    ),
                ),
            )


@rule(
    "RVN-L22",
    severity="note",
    confidence="medium",
    cause="shuffling",
    also=("randomness", "overfitting"),
    needs="inputs",
)
def same_batch(story: Story) -> Iterator[Observation]:
    given = story.inputs
    if given.same < max(SAME, given.looks):
        return
    evidence = [
        Evidence("looks, all at the same inputs", given.looks, "", None, f"in {story.steps} steps"),
        Evidence("examples in them", given.rows),
    ]
    if given.larger > 0:
        evidence.append(Evidence("examples in the table that they are taken from", given.larger))
        yield Observation(
            since=given.first,
            severity="warning",
            suspects=("randomness", "overfitting"),
            evidence=tuple(evidence),
            changes=(Change("loop", "the next batch for each step"),),
        )
    else:
        yield Observation(since=given.first, evidence=tuple(evidence))


@rule(
    "RVN-L24",
    severity="warning",
    confidence="high",
    cause="optimizer",
    also=("optimizer-numerics", "learning-rate-low"),
    needs="steps",
)
def stale_state(story: Story) -> Iterator[Observation]:
    for looks in of_each(story):
        some = [k for k in looks[-3:] if k.second is not None and k.beside > 0]
        if len(some) == 3 and all(
            (k.second or 0) > OLD * max(looks[-1].beside, 100 * k.eps) for k in some
        ):
            look = some[-1]
            yield Observation(
                since=some[0].step,
                suspects=("optimizer-numerics", "learning-rate-low"),
                evidence=(
                    Evidence("root of the optimizer's second moments", look.second),
                    Evidence(
                        "largest gradient seen, root mean square",
                        look.beside,
                        "",
                        (look.second or 0) / OLD,
                    ),
                ),
                changes=(
                    Change("loop", "a new optimizer, or the state that belongs to these weights"),
                ),
            )


@rule("RVN-L25", severity="warning", confidence="high", cause="detached-graph", needs="graph")
def cut_off(story: Story) -> Iterator[Observation]:
    for cut in story.cuts:
        alone = cut.used == 1
        yield Observation(
            where=cut.where,
            since=0,
            severity="" if alone else "note",
            evidence=(
                Evidence("calls on its own output", cut.cut, "", 0, "all of them detached"),
                Evidence("calls that the loss depends on", cut.used, "", cut.cut + 1),
            ),
            changes=(Change("model", "no detach() on the state within a sequence"),)
            if alone
            else (),
        )


@rule(
    "RVN-L26",
    severity="warning",
    confidence="high",
    cause="input-scale",
    needs="inputs",
    picture="scaling-table",
)
def drifting(story: Story) -> Iterator[Observation]:
    spreads = [(step, s) for step, s in story.inputs.spreads if s > 0]
    if len(spreads) < FIRST_LOOKS or not all(math.isfinite(s) for _, s in spreads):
        return
    for sign in (1, -1):
        logs = [sign * math.log(s) for _, s in spreads]
        falls = sum(b < a - 0.05 for a, b in zip(logs, logs[1:], strict=False))
        rises = sum(b > a + 0.5 for a, b in zip(logs, logs[1:], strict=False))
        if (
            logs[0] - logs[-1] > math.log(DRIFT)
            and logs[-1] < min(logs[:-2])
            and falls >= 3
            and not rises
        ):
            since = next(
                step
                for (step, _), v in zip(spreads, logs, strict=True)
                if logs[0] - v > math.log(2)
            )
            yield Observation(
                since=since,
                evidence=(
                    Evidence("standard deviation of the inputs at first", spreads[0][1]),
                    Evidence("now", spreads[-1][1], "", None, "one way at every look"),
                ),
                changes=(Change("data", "scaled once, before the loop, into a new tensor"),),
            )


@rule(
    "RVN-L27",
    severity="note",
    confidence="low",
    cause="input-scale",
    needs="inputs",
    picture="scaling-table",
)
def scaled(story: Story) -> Iterator[Observation]:
    given = story.inputs
    if len(given.spreads) < SAME or not given.spread > 0:
        return
    spread = sorted(s for _, s in given.spreads)[len(given.spreads) // 2]
    if math.isfinite(spread) and (spread > WIDE or 0 < spread < NARROW):
        yield Observation(
            evidence=(
                Evidence(
                    "standard deviation of the inputs",
                    spread,
                    "",
                    WIDE if spread > WIDE else NARROW,
                ),
                Evidence("their mean", given.mean),
            )
        )


@rule(
    "RVN-L28",
    severity="error",
    confidence="high",
    cause="optimizer",
    also=("loss",),
    needs="graph",
    explains=("RVN-N01", "RVN-T21", "RVN-T22"),
)
def uphill(story: Story) -> Iterator[Observation]:
    looks = [k for looks in of_each(story) for k in looks[-1:]]
    if not story.alone or not looks or story.graph is None or "?" in story.graph.weights:
        return
    known = story.flipped or story.kind
    held = {
        w.name for w in story.weights if w.optimizer == 0 and w.in_model
    }  # not inputs that someone makes worse
    if known and story.graph.weights <= held and looks[0].maximize != story.flipped:
        first, now = story.losses[:1], story.told.stretches(4)
        yield Observation(
            since=0,
            cause="loss" if story.flipped else "optimizer",
            title="the loss has the wrong sign"
            if story.flipped
            else "the optimizer makes the loss larger",
            suspects=("optimizer",) if story.flipped else ("loss",),
            evidence=(
                Evidence("optimizer's maximize", float(looks[0].maximize)),
                Evidence("loss at first", first[0] if first else None),
                Evidence("lately", now[-1] if now else None),
            ),
            changes=(
                Change("loop", "the loss without its minus")
                if story.flipped
                else Change("optimizer", "maximize=False"),
            ),
        )


@rule("RVN-L29", severity="error", cause="precision", needs="scaler", explains=("RVN-N02",))
def skipped(story: Story) -> Iterator[Observation]:
    lost, seen = story.lost
    if seen >= LOST and lost > seen / 2:
        yield Observation(
            evidence=(
                Evidence(
                    "of the last scaled gradients not finite",
                    round(100 * lost / seen, 1),
                    "%",
                    50.0,
                    "their steps are skipped",
                ),
            ),
            changes=(
                Change("loop", "bfloat16 in place of float16, or float32 where numbers grow large"),
            ),
        )


@rule(
    "RVN-L30",
    severity="error",
    confidence="high",
    cause="learning-rate-low",
    also=("frozen-parameters", "schedule"),
    needs="steps",
)
def group_at_zero(story: Story) -> Iterator[Observation]:
    if not story.looks or story.steps < STILL or story.highest_lr == 0 or story.lr == 0:
        return
    still = [w for w in story.weights if w.still and w.in_model and w.trainable and w.reached]
    random = [w for w in still if w.fresh]
    if random:
        yield Observation(
            where=join_names(w.name for w in still),
            since=0,
            suspects=("frozen-parameters", "schedule"),
            evidence=(
                Evidence(
                    "parameters with gradients in a group at a learning rate of 0",
                    len(still),
                    "",
                    0,
                ),
                Evidence("matrices of them still as initialized at random", len(random), "", 0),
            ),
            changes=(Change("optimizer", "a learning rate above 0 for every group"),),
        )


ALL = (
    written,
    thrown_away,
    same_batch,
    summed,
    stale_state,
    cut_off,
    drifting,
    scaled,
    uphill,
    skipped,
    group_at_zero,
)
