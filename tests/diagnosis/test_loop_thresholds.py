"""Each threshold of the rules of training loops: a history just beyond it and one just short of it.

The numbers are literals: a threshold that changes makes a test fail.
"""

from collections import deque
from dataclasses import replace

import pytest
from usual_snapshot import SNAPSHOT

from ravine.diagnosis.registry import LOOP_RULES
from ravine.diagnosis.training_loop.autograd_graph import Graph, Node
from ravine.diagnosis.training_loop.history import (
    InactiveUnits,
    InputHistory,
    InputReading,
    LearningRates,
    LoopHistory,
    LossHistory,
    ModelHistory,
    ModuleModes,
    NonFiniteEvent,
    ObservedGradient,
    OptimizerSettings,
    OutputReadings,
    PlateauMetrics,
    RepeatedDraws,
    ScaledGradients,
    SchedulerState,
    WatchedParameter,
    WeightOverwrites,
)

GRAPH = Graph((Node("MseLoss", (1,), low=0.0, high=2.0), Node("Sigmoid", (-1,))), {})


def stepped(count, *, steps=100, model=None, **changes):
    """A history with so many snapshots that differ from the usual one."""
    snapshots = [replace(SNAPSHOT, **changes) for _ in range(count)]
    return LoopHistory(snapshots=snapshots, steps=steps, model=model or ModelHistory())


def leftover(count):
    return stepped(count, gradient=ObservedGradient(accumulated_in="w"))


def evaluating(steps):
    modes = ModuleModes(
        mode_dependent=1, in_evaluation=1, was_training=True, evaluation_steps=steps
    )
    return LoopHistory(tape=deque("FLBS"), model=ModelHistory(modes=modes), steps=10)


def clipped(kept, *, count=5, lr=0.1, scale=1.0):
    """The norm of the gradient is 0.001, that of the weights 10."""
    return stepped(
        count,
        settings=OptimizerSettings(kind="SGD", lrs=(lr,)),
        gradient=ObservedGradient(norm_after_backward=1.0, norm_at_step=kept / scale),
        gradient_norms={"w": 1e-3},
        loss_scale=scale,
    )


def parameters(*described, count=1, steps=100, **rates):
    own = tuple(WatchedParameter(name=f"w{i}", shape=(2,), **d) for i, d in enumerate(described))
    history = stepped(count, steps=steps, model=ModelHistory(parameters=own))
    history.rates = LearningRates(**rates)
    return history


IN_NO_OPTIMIZER = {"received_gradient": True}
TRAINED = {"received_gradient": True, "optimizer": 0}
FOREIGN = {"in_model": False, "optimizer": 0}
AT_ZERO = {**TRAINED, "zero_lr": True, "default_initialized": True}


def scheduled(steps):
    scheduler = SchedulerState(kind="StepLR", steps=0, stepped_first=False)
    rates = LearningRates(schedulers=(scheduler,))
    return LoopHistory(snapshots=[SNAPSHOT], rates=rates, steps=steps, ended=True)


def low_rate(steps):
    rates = LearningRates(now=1e-6, highest=1.0, steps_below_thousandth=steps)
    return LoopHistory(snapshots=[SNAPSHOT], rates=rates, steps=60)


def overwritten(**counts):
    return stepped(1, model=ModelHistory(overwrites=WeightOverwrites(**counts)))


def cut(fraction):
    history = overwritten(clamped=2, cut_fraction=fraction)
    history.loss.kind = "NllLoss"
    return history


def discarding(count, passes=3, losses=None, lost_terms=0):
    gradient = ObservedGradient(passes=passes, discarded=passes - 1, lost_terms=lost_terms)
    return stepped(count, gradient=gradient, losses=losses or passes)


def losing(count, others=0):
    lost = [replace(SNAPSHOT, gradient=ObservedGradient(lost=("head.weight",)))] * count
    return LoopHistory(snapshots=[*lost, *[SNAPSHOT] * others], steps=100)


def far_off(size=1.0, end=1600.0, first=1600.0, wide=1.0):
    graph = Graph((Node("MseLoss", (1, -1), averaged=True), Node("Addmm", (-1, -1, -1))), {})
    model = ModelHistory(outputs=OutputReadings(size=size))
    history = LoopHistory(graph=graph, model=model, steps=80, ended=True)
    history.loss.first = [first * wide]
    for _ in range(80):
        history.loss.summary.add(end * wide)
    return history


def unequal(ratio, count=8, factor=1.0):
    """A cross entropy, times a factor, beside a squared error, both of what one layer gives."""
    parts = (Node("Mul", (3, -1), factor=factor), Node("MseLoss", (5, -1), averaged=True))
    heads = (Node("Mean", (4,)), Node("Addmm", (-1, 6, 7)), Node("Addmm", (-1, 6, 8)))
    body = (Node("Addmm", (-1, -1, 9)),)
    leaves = tuple(Node("AccumulateGrad", parameter=name) for name in ("a", "b", "body"))
    history = far_off(size=1e6)
    norms = {"a": ratio, "b": 1.0, "body": 1.0}
    history.snapshots = [replace(SNAPSHOT, gradient_norms=norms) for _ in range(count)]
    history.graph = Graph((Node("Add", (1, 2)), *parts, *heads, *body, *leaves), {})
    return history


def summed(count):
    history = stepped(count, gradient=ObservedGradient(passes=2), losses=2, loss_scale=1.0)
    history.loss.kind = "MseLoss"
    return history


def stale(count, moment=1.0):
    return stepped(count, second_moment=moment, largest_gradient=0.01)


def lost_states(count):
    return LoopHistory(model=ModelHistory(lost_states=count), steps=4)


def outweighed(count, eps, moment=0.09, rate=1e-3):
    settings = OptimizerSettings(kind="Adam", lrs=(rate * eps,), eps=eps)
    return stepped(count, second_moment=moment, settings=settings)


def unfit(kind, betas=(), lr=0.1):
    settings = OptimizerSettings(kind=kind, betas=betas, lrs=(lr,))
    return stepped(1, settings=settings)


def repeated(steps, *, in_pass=True, kind=""):
    model = ModelHistory(repeated_draws={"cpu": RepeatedDraws(steps=steps, in_pass=in_pass)})
    loss = LossHistory(kind=kind)
    return LoopHistory(tape=deque("FLBS"), model=model, loss=loss)


def told(**counts):
    outputs = OutputReadings(readings=sum(counts.values()), **counts)
    model = ModelHistory(outputs=outputs)
    return LoopHistory(tape=deque("FLBS"), model=model, graph=GRAPH, steps=8)


def inputs(**recorded):
    return LoopHistory(inputs=InputHistory(**{"count": 1, **recorded}), steps=100)


def drifting(count, factor):
    stds = (factor ** (-i / (count - 1)) for i in range(count))
    return inputs(readings=tuple(InputReading(i, 0.0, std, std) for i, std in enumerate(stds)))


def scaled_by(std, count=12):
    return inputs(readings=(InputReading(0, 0.0, std, std),) * count)


def classes_of(batches):
    loss = LossHistory(class_counts=list(enumerate(batches)))
    return LoopHistory(loss=loss, steps=len(batches))


def runs_of_classes(count, length=2, mixed=0):
    """Batches of ten examples, so many of them of another class than the rest."""
    return classes_of([{i // length: 10 - mixed, i // length + 50: mixed} for i in range(count)])


# 1.3 % of the random orders of these batches are as much in order
IN_CHANCE_ORDER = classes_of([{ord(letter): 10} for letter in "abbcddddd"])


def evaluated_at(mean, spread, count=2, readings=8, ended=False):
    """Training inputs are in -1 to 1, about 0."""
    training = tuple(InputReading(i, 0.0, 1.0) for i in range(readings))
    evaluations = [InputReading(20 * i, mean, spread) for i in range(1, count + 1)]
    recorded = InputHistory(count=1, readings=training)
    return LoopHistory(
        inputs=recorded,
        evaluations=evaluations,
        loss=LossHistory(kind="NllLoss"),
        steps=100,
        ended=ended,
    )


def changing(factor, *, order=(0, 1, 2, 3), shift=0.0, at_first=4, in_place=0):
    """At the end of a loop, readings of its first steps and pairs of later ones."""
    steps = [*range(at_first), *(10 * i + j for i in range(1, len(order)) for j in range(2))]
    parts = [order[0 if s < 10 else s // 10] / (len(order) - 1) for s in steps]
    readings = tuple(
        InputReading(s, shift * p, factor**p) for s, p in zip(steps, parts, strict=True)
    )
    inputs = InputHistory(count=1, readings=readings, in_place=in_place)
    loss = LossHistory(kind="MseLoss")
    return LoopHistory(inputs=inputs, loss=loss, steps=100, ended=True)


def before_the_end(factor, runs):
    return replace(changing(factor, order=range(runs)), ended=False)


RISING, FALLING = (1.0, 2.0, 3.0, 4.0), (4.0, 3.0, 2.0, 1.0)


def plateau(mode, losses, given):
    metrics = PlateauMetrics(mode, tuple(zip(given, losses, strict=True)))
    return LoopHistory(snapshots=[SNAPSHOT], rates=LearningRates(plateaus=(metrics,)), steps=100)


def shares_of(count, error=0.0):
    right = [int(count * part) for part in (0.3137, 0.5311, 0.7127, 0.8839)]
    signs = (1, -1, -1, 1)
    return plateau(
        "min", FALLING, [n / count + error * s for n, s in zip(right, signs, strict=True)]
    )


def skipping(nonfinite):
    return LoopHistory(scaled_gradients=ScaledGradients(count=100, nonfinite=nonfinite))


def unreachable(fraction):
    return LoopHistory(graph=replace(GRAPH, unreachable={0: fraction}))


def made_inputs(fraction, far=4, near=6):
    shares = (fraction,) * far + (0.0,) * near
    return replace(unreachable(0.0), inputs=InputHistory(made_by="Tanh", out_of_range=shares))


def equal_units(count, step=3):
    return stepped(1, step=step, duplicate_rows={"w": (count, 10)})


def inactive(count, *, examples=128, at_first=90):
    units = InactiveUnits(count=count, units=100, examples=examples, at_first=at_first)
    history = stepped(1, inactive={"w": units})
    history.graph = GRAPH
    return history


def nonfinite(highest):
    event = NonFiniteEvent(step=9, what="loss", first_loss=1.0, highest_loss=highest)
    return LoopHistory(nonfinite=event, snapshots=[SNAPSHOT], steps=9)


def equal_losses(count):
    return LoopHistory(snapshots=[SNAPSHOT], loss=LossHistory(first=[1.0] * count), steps=20)


def reported(values, *, first=1.0, kind="NllLoss", baseline=None, distance=1.0, low_steps=0):
    """A loop that ended, with all its losses."""
    loss = LossHistory(first=[first], kind=kind, baseline=baseline)
    for value in values:
        loss.summary.add(value)
    return LoopHistory(
        steps=len(values),
        ended=True,
        loss=loss,
        model=ModelHistory(relative_distance=distance),
        rates=LearningRates(now=5e-3, highest=1.0, steps_below_hundredth=low_steps),
    )


def rising(factor, percent=25, kind="NllLoss"):
    """The last losses are so much higher."""
    late = 256 * percent // 100
    return reported([1.0] * (256 - late) + [factor] * late, kind=kind)


def exploded(distance=101.0, height=101.0, low=186):
    """The mean is as high from the start, as single losses are higher still."""
    return reported([1.0, 150.0] * (low // 2) + [height] * 64, kind="", distance=distance)


def seldom(steps=5, *, passes=10, last=0.6, level=9.0):
    """Each step but the last lowers the loss by 1."""
    means = [level - i for i in range(steps - 1)] + [level - steps + 2 - last]
    history = reported([mean for mean in means for _ in range(20)])
    gradient = ObservedGradient(norm_after_backward=1.0, passes=passes)
    history.snapshots, history.steps = [replace(SNAPSHOT, gradient=gradient)], steps
    return history


def at_chance(level, *, count=256, distance=1.0, lowest=1.0):
    values = [level] * count
    values[64:80] = [min(lowest, level)] * 16
    return reported(values, baseline=1.0, distance=distance)


def outlying(typical):
    """One loss of four is so large that their mean is 1."""
    return reported(([typical] * 3 + [4 - 3 * typical]) * 64, baseline=1.0)


def ended_schedule(fall=0.0, *, first=5.0, low_steps=201):
    """300 losses, of which the last 100 are lower than the 100 before."""
    values = [1.0 + fall] * 200 + [1.0] * 100
    return reported(values, first=first, low_steps=low_steps)


def spiky(height, *, length=4, spikes=2, spread=0.0):
    values = [1.0 + spread * (37 * i % 256 / 128 - 1) for i in range(256)]
    for i in range(spikes):
        values[50 * (i + 1) : 50 * (i + 1) + length] = [height] * length
    return reported(values)


def found(history):
    rules = [rule for rule in LOOP_RULES if history.has(rule.needs)]
    return {f.code: f for rule in rules for f in rule.findings(history)}


@pytest.mark.parametrize(
    ("code", "severity", "beyond", "short_of"),
    [
        ("RVN-L01", "error", leftover(2), leftover(1)),
        ("RVN-L12", "error", evaluating(2), evaluating(1)),
        ("RVN-L17", "error", clipped(0.0099), clipped(0.0101)),
        ("RVN-L17", "error", clipped(1e-3, count=5), clipped(1e-3, count=4)),
        ("RVN-L17", "error", clipped(1e-3, lr=0.99), clipped(1e-3, lr=1.01)),
        (
            "RVN-L19",
            "error",
            stepped(3, unchanged_fraction=0.991),
            stepped(3, unchanged_fraction=0.989),
        ),
        ("RVN-N02", "error", equal_losses(8), equal_losses(7)),
        (
            "RVN-L05",
            "error",
            parameters(IN_NO_OPTIMIZER, steps=7),
            parameters(IN_NO_OPTIMIZER, steps=6),
        ),
        ("RVN-L06", "error", parameters(FOREIGN, {}, count=2), parameters(FOREIGN, {}, count=1)),
        (
            "RVN-L09",
            "note",
            parameters(TRAINED, {"optimizer": 0}, steps=20),
            parameters(TRAINED, {"optimizer": 0}, steps=19),
        ),
        ("RVN-L15", "warning", scheduled(20), scheduled(19)),
        ("RVN-L16", "warning", low_rate(50), low_rate(49)),
        ("RVN-L20", "error", overwritten(to_start=2), overwritten(to_start=1)),
        ("RVN-L20", "warning", overwritten(unrelated=2), overwritten(unrelated=1)),
        ("RVN-L20", "note", overwritten(clamped=2), overwritten(clamped=1)),
        ("RVN-L20", "warning", overwritten(repeated=10), overwritten(repeated=9)),
        ("RVN-L20", "warning", cut(0.51), cut(0.49)),
        ("RVN-D06", "warning", far_off(size=1.99), far_off(size=2.01)),
        ("RVN-D06", "warning", far_off(wide=0.57), far_off(wide=0.56)),
        ("RVN-D06", "warning", far_off(end=1300.0), far_off(end=1290.0)),
        ("RVN-D06", "warning", unequal(0.99e-3), unequal(1.01e-3)),
        ("RVN-D06", "warning", unequal(1e-4), unequal(1e-4, count=7)),
        ("RVN-D06", "warning", unequal(1e-4, factor=0.101), unequal(1e-4, factor=0.099)),
        ("RVN-L21", "error", losing(3), losing(2)),
        ("RVN-L21", "error", losing(10, others=10), losing(10, others=11)),
        ("RVN-L21", "error", discarding(3), discarding(2)),
        ("RVN-L21", "error", discarding(3, passes=3), discarding(3, passes=2)),
        ("RVN-L21", "error", discarding(3, 2, losses=1, lost_terms=1), discarding(3, losses=1)),
        ("RVN-L23", "note", summed(3), summed(2)),
        ("RVN-L34", "warning", seldom(4), seldom(3)),
        ("RVN-L34", "warning", seldom(20, level=50.0), seldom(21, level=50.0)),
        ("RVN-L34", "warning", seldom(passes=8), seldom(passes=7)),
        ("RVN-L34", "warning", seldom(last=0.51), seldom(last=0.49)),
        ("RVN-L34", "warning", seldom(last=1.0, level=8.1), seldom(last=1.0, level=7.9)),
        ("RVN-L41", "warning", repeated(4), repeated(3)),
        (
            "RVN-L41",
            "warning",
            repeated(4, in_pass=False, kind="MseLoss"),
            repeated(4, in_pass=False),
        ),
        ("RVN-L22", "note", inputs(count=12, identical=12), inputs(count=11, identical=11)),
        (
            "RVN-L30",
            "error",
            parameters(AT_ZERO, steps=10, now=0.1, highest=0.1),
            parameters(AT_ZERO, steps=9, now=0.1, highest=0.1),
        ),
        ("RVN-L24", "warning", stale(3, 2.0), stale(2, 2.0)),
        ("RVN-L24", "warning", stale(3, 1.01), stale(3, 0.99)),
        ("RVN-L38", "warning", lost_states(3), lost_states(2)),
        ("RVN-L39", "warning", outweighed(6, 1.0), outweighed(5, 1.0)),
        ("RVN-L39", "warning", outweighed(6, 0.91), outweighed(6, 0.89)),
        ("RVN-L39", "warning", outweighed(6, 0.0011, 1e-5), outweighed(6, 0.0009, 1e-5)),
        ("RVN-L39", "warning", outweighed(6, 1.0, rate=0.09), outweighed(6, 1.0, rate=0.11)),
        ("RVN-L40", "warning", unfit("Adam", (0.951, 0.9)), unfit("Adam", (0.948, 0.9))),
        ("RVN-L40", "warning", unfit("Adadelta", lr=0.01), unfit("Adadelta", lr=0.011)),
        ("RVN-L26", "warning", drifting(6, 30.5), drifting(6, 29.5)),
        ("RVN-L26", "warning", drifting(6, 100.0), drifting(5, 100.0)),
        ("RVN-L27", "note", scaled_by(30.1), scaled_by(29.9)),
        ("RVN-L27", "note", scaled_by(0.0299), scaled_by(0.0301)),
        ("RVN-L27", "note", scaled_by(100.0, 12), scaled_by(100.0, 11)),
        ("RVN-L35", "warning", runs_of_classes(20), runs_of_classes(20, length=1)),
        ("RVN-L35", "warning", runs_of_classes(8), IN_CHANCE_ORDER),
        ("RVN-L35", "warning", runs_of_classes(20, mixed=2), runs_of_classes(20, mixed=4)),
        ("RVN-L36", "warning", evaluated_at(0.0, 5.1), evaluated_at(0.0, 4.9)),
        ("RVN-L36", "warning", evaluated_at(0.0, 1 / 5.1), evaluated_at(0.0, 1 / 4.9)),
        ("RVN-L36", "warning", evaluated_at(5.1, 1.0), evaluated_at(4.9, 1.0)),
        ("RVN-L36", "warning", evaluated_at(0.51, 1.51), evaluated_at(0.51, 1.49)),
        ("RVN-L36", "warning", evaluated_at(0.51, 1.51), evaluated_at(0.49, 1.51)),
        ("RVN-L36", "warning", evaluated_at(9.0, 1.0), evaluated_at(9.0, 1.0, count=1)),
        (
            "RVN-L36",
            "warning",
            evaluated_at(9.0, 1.0, count=1, ended=True),
            evaluated_at(9.0, 1.0, readings=7),
        ),
        ("RVN-L37", "warning", changing(2.01), changing(1.99)),
        ("RVN-L37", "warning", changing(1 / 2.01), changing(1 / 1.99)),
        ("RVN-L37", "warning", changing(1.51, in_place=1), changing(1.49, in_place=1)),
        ("RVN-L37", "warning", changing(4.0), changing(4.0, at_first=3)),
        ("RVN-L37", "warning", changing(4.0), changing(4.0, order=(0, 2, 1, 3))),
        ("RVN-L37", "warning", changing(4.0), changing(4.0, order=(0, 1, 2), at_first=6)),
        ("RVN-L37", "warning", before_the_end(4.0, 8), before_the_end(4.0, 7)),
        ("RVN-L37", "note", changing(1.0, shift=1.01), changing(1.0, shift=0.99)),
        ("RVN-L16", "warning", plateau("max", RISING, RISING), plateau("max", [1] * 3, [1] * 3)),
        ("RVN-L16", "warning", plateau("max", RISING, RISING), plateau("min", RISING, RISING)),
        (
            "RVN-L16",
            "warning",
            plateau("max", RISING, [1 + 0.9e-6, *RISING[1:]]),
            plateau("max", RISING, [1 + 1.1e-6, *RISING[1:]]),
        ),
        (
            "RVN-L16",
            "warning",
            plateau("max", FALLING, [4.0, 2.5, 2.4, 0.5]),
            plateau("max", FALLING, [4.0, 1.5, 3.0, 0.5]),
        ),
        (
            "RVN-L16",
            "warning",
            plateau("min", FALLING, [0.1, 0.4, 0.5, 0.8]),
            plateau("min", FALLING, [0.1, 0.6, 0.3, 0.8]),
        ),
        ("RVN-L16", "warning", shares_of(9973), shares_of(10007)),
        ("RVN-L16", "warning", shares_of(1000, error=1.1e-7), shares_of(1000, error=1.3e-7)),
        ("RVN-L29", "error", skipping(51), skipping(49)),
        ("RVN-D09", "error", told(own=2), told(own=1)),
        ("RVN-I03", "error", told(next=2), told(next=1)),
        ("RVN-H08", "warning", unreachable(0.051), unreachable(0.049)),
        ("RVN-H08", "error", unreachable(0.51), unreachable(0.49)),
        ("RVN-H08", "warning", made_inputs(0.051), made_inputs(0.049)),
        ("RVN-H08", "error", made_inputs(0.51), made_inputs(0.49)),
        ("RVN-H08", "error", made_inputs(1.0), made_inputs(1.0, far=3, near=0)),
        ("RVN-H08", "error", made_inputs(1.0, far=41, near=59), made_inputs(1.0, far=39, near=61)),
        ("RVN-S01", "error", equal_units(5), equal_units(4)),
        ("RVN-S01", "error", equal_units(10, step=3), equal_units(10, step=2)),
        ("RVN-S03", "warning", inactive(90), inactive(89)),
        ("RVN-S03", "warning", inactive(95, examples=128), inactive(95, examples=127)),
        ("RVN-T03", "warning", rising(2.01), rising(1.99)),
        ("RVN-T03", "warning", rising(101.0, kind="MseLoss"), rising(99.0, kind="MseLoss")),
        ("RVN-T03", "warning", rising(5.0, percent=25), rising(5.0, percent=20)),
        ("RVN-T03", "warning", exploded(101.0), exploded(99.0)),
        ("RVN-T03", "warning", exploded(height=101.0), exploded(height=99.0)),
        ("RVN-T02", "warning", at_chance(1.0, count=200), at_chance(1.0, count=199)),
        ("RVN-T02", "warning", at_chance(0.981), at_chance(0.979)),
        ("RVN-T02", "warning", outlying(0.101), outlying(0.099)),
        ("RVN-T09", "warning", ended_schedule(0.076), ended_schedule(0.079)),
        ("RVN-T09", "warning", ended_schedule(low_steps=201), ended_schedule(low_steps=199)),
        ("RVN-T09", "warning", ended_schedule(first=9.9), ended_schedule(first=10.1)),
        ("RVN-T04", "note", spiky(3.01), spiky(2.99)),
        ("RVN-T04", "note", spiky(4.12, spread=0.2), spiky(4.1, spread=0.2)),
        ("RVN-T04", "note", spiky(9.0, spikes=2), spiky(9.0, spikes=1)),
        ("RVN-T04", "note", spiky(9.0, length=4), spiky(9.0, length=3)),
    ],
)
def test_thresholds(code, severity, beyond, short_of):
    findings = [found(history).get(code) for history in (beyond, short_of)]
    severities = [finding and finding.severity for finding in findings]
    assert severities[0] == severity and severities[1] != severity


@pytest.mark.parametrize(
    ("code", "cause", "beyond", "short_of"),
    [
        ("RVN-S03", "learning-rate-high", inactive(95, at_first=44), inactive(95, at_first=46)),
        ("RVN-T02", "learning-rate-high", at_chance(1.21), at_chance(1.19)),
        ("RVN-T02", "learning-rate-high", at_chance(1.0, lowest=0.79), at_chance(1.0, lowest=0.81)),
        (
            "RVN-T02",
            "learning-rate-high",
            at_chance(1.0, distance=1.51),
            at_chance(1.0, distance=1.49),
        ),
        (
            "RVN-T02",
            "learning-rate-low",
            at_chance(1.0, distance=0.0499),
            at_chance(1.0, distance=0.0501),
        ),
    ],
)
def test_thresholds_of_causes(code, cause, beyond, short_of):
    causes = [found(history)[code].cause for history in (beyond, short_of)]
    assert causes[0] == cause and causes[1] != cause


def test_threshold_of_a_loss_that_grew_before_it_was_not_finite():
    confidences = [found(nonfinite(highest))["RVN-N01"].confidence for highest in (10.1, 9.9)]
    assert confidences == ["high", "medium"]


def test_threshold_of_the_factor_of_a_gradient_scaler():
    suspects = [found(clipped(1e-3, scale=scale))["RVN-L17"].suspects for scale in (256, 255)]
    assert suspects == [("precision",), ("learning-rate-low",)]


def test_thresholds_of_what_must_be_recorded():
    assert [reported([1.0] * count).has("losses") for count in (64, 63)] == [True, False]
    assert [runs_of_classes(count).has("classes") for count in (8, 7)] == [True, False]
    gradients = [ScaledGradients(count=count) for count in (20, 19)]
    assert [LoopHistory(scaled_gradients=g).has("scaler") for g in gradients] == [True, False]
