"""Faults of the training loop itself: gradients, the order of things, modes, schedules, what the optimizer holds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.diagnosis.story import Look, Story, Weight
from ravine.finding import Change, Evidence

SURE = 2  # looks in a row that must agree
SETTLED = 7  # steps after which every optimizer of the usual loops has stepped
LONG = 20  # steps after which a parameter without a gradient counts as unused
ZERO_LR = 10  # steps in a row; a warm-up from 0 and a schedule's last step have fewer
CLIPPED = 0.01  # of the gradient's length
MOVES = 1e-4  # of the weights' length in one step: less, and a thousand steps move them by a tenth at most
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
    if len(found) < story.optimizers or any(not empty(k) or k.arrived is not None for looks in found for k in looks):
        return []
    return [looks[0] for looks in found[:1]]


def zero_grad_missing(story: Story) -> Iterator[Seen]:
    for looks in last(story):
        if all(look.stale for look in looks):
            look = looks[-1]
            yield Seen(where=look.stale, since=looks[0].step, evidence=(
                Evidence("of the gradient", round(100 * look.kept, 1), "%", 0.0, "is from earlier steps, bit for bit"),
            ), changes=(Change("loop", "optimizer.zero_grad() before loss.backward()"),))  # fmt: skip


def step_without_gradient(story: Story) -> Iterator[Seen]:
    if story.cut or re.search(r"N+LS", story.tape) or (story.graph is not None and not story.graph.weights - {"?"}):
        return  # the graph was cut: its own findings say so
    for look in without_gradient(story):
        yield Seen(since=look.step, evidence=(Evidence("steps in a row without any gradient", SURE, "", 0),),
                   suspects=("detached-graph", "parameters-not-in-optimizer"),
                   changes=(Change("loop", "loss.backward() before optimizer.step()"),))  # fmt: skip


def wiped(story: Story) -> Iterator[Seen]:
    for looks in last(story):
        gone = all(look.arrived and not look.at_step and empty(look) for look in looks)
        if gone and re.search(r"B[LSs]*S[s]*$", story.tape):
            look = looks[-1]
            yield Seen(since=looks[0].step, evidence=(
                Evidence("gradient norm after backward", look.arrived), Evidence("at the step", look.at_step or 0.0),
            ), changes=(Change("loop", "zero_grad before backward, or after step"),))  # fmt: skip


def backward_after_step(story: Story) -> Iterator[Seen]:
    if re.search(r"(?:F+L?Ss*B+L?){3}", story.tape):
        yield Seen(since=0, evidence=(Evidence("times in a row", 3, "", None, "forward, step, then backward"),),
                   changes=(Change("loop", "loss.backward() before optimizer.step()"),))  # fmt: skip


def not_in_optimizer(story: Story) -> Iterator[Seen]:
    missing = [w for w in story.weights
               if w.trainable and w.in_model and w.registered and w.optimizer is None and w.reached]  # fmt: skip
    held = [i for i, w in enumerate(story.weights) if w.in_model and w.optimizer is not None]
    if not missing or story.steps < SETTLED or not story.looks:
        return
    before_all = not held or story.weights.index(missing[-1]) < held[0]
    random = any(w.fresh for w in missing)
    deliberate = bool(held) and before_all and not random
    yield Seen(where=listed(w.name for w in missing), severity="note" if deliberate else "error", evidence=(
        Evidence("parameters with gradients that no optimizer holds", len(missing), "", 0,
                 "still as initialized at random" if random else ""),
        Evidence("numbers in them", sum(math.prod(w.shape) for w in missing)),
    ), changes=(Change("optimizer", "build it from all of model.parameters()"),))  # fmt: skip


def stale_optimizer(story: Story) -> Iterator[Seen]:
    if len(story.looks) < SURE:
        return
    strange = [w for w in story.weights if not w.in_model and w.optimizer not in (None, -1)]
    unreached = [w for w in strange if not w.reached]
    loose = [w for w in story.weights if w.in_model and w.trainable and w.optimizer is None]
    if unreached and loose:
        yield Seen(where=listed(w.name for w in loose), since=0, evidence=(
            Evidence("parameters in the optimizer that are not the model's and get no gradient", len(unreached), "", 0),
            Evidence("parameters of the model in no optimizer", len(loose), "", 0),
        ), changes=(Change("optimizer", "build it after the model is complete"),))  # fmt: skip


def unregistered(story: Story) -> Iterator[Seen]:
    hidden = [w for w in story.weights if not w.registered and w.trainable and w.optimizer is None
              and w.name in story.reached]  # fmt: skip
    if hidden:
        yield Seen(where=listed(w.name for w in hidden), since=0, evidence=(
            Evidence("parameters in a plain list or dict", len(hidden), "", 0,
                     "model.parameters() does not give them"),
        ), changes=(Change("model", "nn.ModuleList, nn.ModuleDict or nn.ParameterList"),))  # fmt: skip


def frozen(story: Story) -> Iterator[Seen]:
    still = [w for w in story.weights if w.in_model and not w.trainable]
    if still and story.looks:
        random = [w for w in still if w.fresh]
        yield Seen(where=listed(w.name for w in still), evidence=(
            Evidence("parameters with requires_grad False", len(still), "", None,
                     f"of {sum(w.in_model for w in story.weights)}"),
            Evidence("of them still as initialized at random", len(random)),
        ))  # fmt: skip


def never_reached(story: Story) -> Iterator[Seen]:
    if story.steps < LONG or not any(w.reached for w in story.weights):
        return
    unused = [w for w in story.weights if w.in_model and w.trainable and not w.reached and w.name not in story.reached
              and w.optimizer is not None]  # fmt: skip
    called = [w for w in unused if w.called and w.fresh]
    if unused:
        where: list[Weight] = called or unused
        yield Seen(where=listed(w.name for w in where), severity="warning" if called else "note", evidence=(
            Evidence("parameters without a gradient so far", len(unused), "", 0, f"in {story.steps} steps"),
            Evidence("of them in modules that did run, as initialized at random", len(called)),
        ), changes=(Change("model", "no detach() or no_grad() between these layers and the loss"),))  # fmt: skip


def detached(story: Story) -> Iterator[Seen]:
    mend = (Change("loop", "loss.backward() on the loss as computed: no item(), data, detach(), new tensor"),)
    if story.cut == "leaf":
        yield Seen(
            since=0, evidence=(Evidence("operations behind the loss", 0, "", None, "it is a leaf"),), changes=mend
        )
    elif (story.cut or (story.graph is not None and not story.graph.weights - {"?"})) and without_gradient(story):
        if not re.search(r"N+LS", story.tape):
            yield Seen(since=0, evidence=(Evidence("parameters that the loss depends on", 0, "", 1),), changes=mend)


def no_graph(story: Story) -> Iterator[Seen]:
    if re.search(r"(?:N+LSs*){2}", story.tape):
        yield Seen(since=0, evidence=(
            Evidence("steps in a row after a forward pass without a graph", 2, "", 0, "no_grad or inference_mode"),
        ), changes=(Change("loop", "no torch.no_grad() around the forward pass"),))  # fmt: skip


def evaluation_mode(story: Story) -> Iterator[Seen]:
    modes = story.modes
    if modes.steps >= SURE and modes.in_evaluation:
        yield Seen(where=listed(modes.names), since=max(0, story.steps - modes.steps),
                   severity="error" if modes.was_training else "warning", evidence=(
            Evidence("steps in a row in evaluation mode", modes.steps, "", 0,
                     "after steps in training mode" if modes.was_training else "training mode was never on"),
            Evidence("dropout and batch norm modules", modes.in_evaluation),
        ), changes=(Change("loop", "model.train() before training goes on"),))  # fmt: skip


def validation_in_training_mode(story: Story) -> Iterator[Seen]:
    bursts = re.findall(r"S[LBsFE]*(N{2,})", story.tape)
    single = re.findall(r"(?:F+L?B+L?Ss*){4,}N(?=F)", story.tape)
    if story.modes.sensitive and (bursts or len(single) >= 2):
        count = len(bursts[0]) if bursts else 1
        yield Seen(where=listed(story.modes.names), evidence=(
            Evidence("forward passes without a graph, in training mode", count, "", 0, "between steps"),
            Evidence("dropout and batch norm modules", story.modes.sensitive),
        ), changes=(Change("loop", "model.eval() before validation, model.train() after"),))  # fmt: skip


def schedule_first(story: Story) -> Iterator[Seen]:
    for schedule in story.schedules:
        if schedule.before:
            yield Seen(where=schedule.kind, since=0, evidence=(
                Evidence("schedule steps before the first optimizer step", 1, "", 0, "its first value is skipped"),
            ), changes=(Change("loop", "optimizer.step() before scheduler.step()"),))  # fmt: skip


def schedule_idle(story: Story) -> Iterator[Seen]:
    for schedule in story.schedules:
        if story.ended and schedule.steps == 0 and story.steps >= LONG:
            yield Seen(where=schedule.kind, evidence=(
                Evidence("schedule steps", 0, "", 1, f"in {story.steps} optimizer steps"),
            ), changes=(Change("loop", "scheduler.step() once an epoch, or once a step"),))  # fmt: skip


def schedule_over(story: Story) -> Iterator[Seen]:
    mend = (Change("loop", "step it once an epoch, or give its length in steps"),)
    for schedule in story.schedules:
        if schedule.length is not None and schedule.steps > schedule.length + 1:
            yield Seen(where=schedule.kind, title="the schedule ran past its end", evidence=(
                Evidence("schedule steps", schedule.steps, "", schedule.length, "the rate rises again after its end"),
                Evidence("optimizer steps", story.steps),
            ), changes=mend)  # fmt: skip
            return
    if story.lr_low >= max(SHORT, story.steps / 2):
        yield Seen(since=story.steps - story.lr_low, evidence=(
            Evidence("steps at less than 1/1000 of the highest learning rate", story.lr_low, "", story.steps / 2),
            Evidence("learning rate", story.lr, "", None, f"was {story.highest_lr:.3g}"),
        ), changes=mend)  # fmt: skip


def clipped_away(story: Story) -> Iterator[Seen]:
    for looks in last(story, 5):
        if not all(k.arrived and k.at_step and k.at_step < CLIPPED * k.arrived for k in looks):
            continue
        lengths = [math.sqrt(sum(n * n for n in k.norms.values())) for k in looks]
        if max(lengths) > 1.001 * min(lengths):  # a gradient cut to a length has that length at every step
            continue
        look, length = looks[-1], lengths[-1]
        entries = sum(math.prod(w.shape) for w in story.weights if w.optimizer == look.optimizer)
        if look.kind == "SGD":
            moves = max(look.lrs) * length / (1 - min(look.momentum, 0.999)) / max(look.weights, 1e-30)
            tiny = moves < MOVES
            shown = Evidence("step over weights", moves, "", MOVES)
        else:
            each = length / math.sqrt(max(entries, 1))
            tiny = each < 10 * look.eps
            shown = Evidence("gradient of one number", each, "", 10 * look.eps, "against the optimizer's eps")
        if tiny:
            yield Seen(since=looks[0].step, evidence=(
                Evidence("of the gradient is left", 100 * (look.at_step or 0) / (look.arrived or 1), "%",
                         100 * CLIPPED),
                Evidence("length after clipping", length), shown,
            ), changes=(Change("clip", "1.0, or none"),))  # fmt: skip


def zero_rate(story: Story) -> Iterator[Seen]:
    if story.lr_zero >= ZERO_LR:
        yield Seen(since=story.steps - story.lr_zero, cause="schedule" if story.highest_lr > 0 else "learning-rate-low",
                   evidence=(Evidence("steps in a row at a learning rate of 0", story.lr_zero, "", ZERO_LR),),
                   changes=(Change("lr", "above 0"),))  # fmt: skip


def rounded_away(story: Story) -> Iterator[Seen]:
    for place in range(story.optimizers):
        looks = [look for look in story.looks if look.optimizer == place]
        if len(looks) < 3 or max(looks[-1].lrs) > max(looks[0].lrs) or max(looks[-1].lrs) == 0:
            continue  # a warm-up is under way, or the rate is 0, which has its own finding
        if all(k.unchanged is not None and k.unchanged > STUCK for k in looks):
            yield Seen(since=looks[0].step, suspects=("precision",), evidence=(
                Evidence("of the numbers did not change in a step", 100 * (looks[-1].unchanged or 0), "%", 100 * STUCK,
                         "though their gradient is not 0"),
                Evidence("learning rate", max(looks[-1].lrs)),
            ), changes=(Change("lr", "10 times higher, or more"),))  # fmt: skip


def not_finite(story: Story) -> Iterator[Seen]:
    b = story.broken
    if b is None:
        return
    evidence = [Evidence(f"{b.what} not finite", None, "", None, f"first at step {b.step}")]
    grew = b.highest > 10 * max(abs(b.first), 1e-12)
    cause, confidence, suspects, change = "exploding", "medium", ("learning-rate-high", "input-scale"), ()
    if b.inputs:
        cause, confidence, suspects = "data-degenerate", "exact", ()
        change = (Change("data", "without NaN and infinities"),)
        evidence.append(Evidence("inputs of the model not finite", None))
    elif b.what == "gradient" and not grew:
        cause, suspects = "loss", ("exploding", "learning-rate-high")
        evidence.append(Evidence("loss", b.last, "", None, "still finite: a root, logarithm or quotient at 0"))
    elif b.step > 0:
        cause, confidence = "learning-rate-high", "high" if grew else "medium"
        suspects = ("exploding", "input-scale", "optimizer-numerics")
        change = (Change("lr", b.lr / 10),)
        evidence += [Evidence("highest loss before", b.highest, "", None, f"the first was {b.first:.3g}"),
                     Evidence("learning rate", b.lr)]  # fmt: skip
    yield Seen(where=b.where, since=b.step, cause=cause, confidence=confidence, suspects=suspects, changes=change,
               evidence=tuple(evidence), title=f"{b.what}: no longer finite")  # fmt: skip


def still(story: Story) -> Iterator[Seen]:
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
    if first[0] != 0 or cause != "dead-units":  # a loss of 0 with a gradient of 0 is a task that is done
        yield Seen(since=0, cause=cause, confidence="medium", evidence=(
            Evidence("losses in a row that are equal, bit for bit", len(first), "", 1, f"all {first[0]:.6g}"),
        ))  # fmt: skip


ALL = (
    Rule(code="RVN-L01", title="gradients of earlier steps are still in the gradient", cause="zero-grad",
         severity="error", find=zero_grad_missing, needs="looks", explains=("RVN-N01",),
         because="zero_grad is not called between a step and the next backward pass, so backward adds to old gradients",
         misses="a zero_grad that clears some of an optimizer's parameters and not the smallest ones"),
    Rule(code="RVN-L02", title="the optimizer steps without a gradient", cause="step-order", severity="error",
         find=step_without_gradient, needs="looks", explains=("RVN-N02",),
         because="backward is never called, or on something that does not depend on the parameters",
         misses="an optimizer beside others that do get gradients"),
    Rule(code="RVN-L03", title="gradients are cleared between backward and step", cause="zero-grad", severity="error",
         find=wiped, needs="looks", explains=("RVN-N02", "RVN-L02"),
         because="zero_grad stands after loss.backward() and before optimizer.step()",
         misses="gradients cleared in some steps only"),
    Rule(code="RVN-L04", title="backward comes after the step", cause="step-order", severity="error",
         find=backward_after_step, needs="forward", explains=("RVN-L02", "RVN-L03", "RVN-N02"),
         because="optimizer.step() stands before loss.backward(): it uses the last batch's gradient, or none",
         misses="models that are not called as a whole (their parts are)"),
    Rule(code="RVN-L05", title="parameters that get gradients are in no optimizer", cause="parameters-not-in-optimizer",
         severity="error", find=not_in_optimizer, needs="looks",
         because="the optimizer was built from a part of the parameters, or before a part was added",
         misses="optimizers that first step after the seventh step of the watched one"),
    Rule(code="RVN-L06", title="the optimizer holds parameters that are no longer the model's",
         cause="parameters-not-in-optimizer", severity="error", find=stale_optimizer, needs="looks",
         explains=("RVN-L05", "RVN-L02"),
         because="a layer or the whole model was replaced after the optimizer was built",
         misses="replaced parameters that still get a gradient from elsewhere"),
    Rule(code="RVN-L07", title="layers in a plain list are not the model's", cause="parameters-not-in-optimizer",
         severity="error", find=unregistered, needs="graph",
         because="layers or parameters stand in a Python list or dict, which model.parameters() does not search",
         misses="lists inside other objects"),
    Rule(code="RVN-L08", title="some parameters are frozen", cause="frozen-parameters", severity="note", find=frozen,
         needs="looks", because="requires_grad is False; said once, since it may be meant",
         misses="whether it is meant"),
    Rule(code="RVN-L09", title="parameters never got a gradient", cause="detached-graph", severity="warning",
         find=never_reached, needs="looks",
         because="detach(), no_grad() or .data stands between a layer and the loss, or its output is not used",
         misses="the first 20 steps; layers whose weights do not look like torch's default start are noted only"),
    Rule(code="RVN-L10", title="the loss does not depend on the parameters", cause="detached-graph", severity="error",
         find=detached, needs="looks", explains=("RVN-L02", "RVN-N02", "RVN-L09"),
         because="the loss was made anew from numbers (item, numpy, torch.tensor) or from detached outputs",
         misses="a loss that is told as a number while gradients do arrive"),
    Rule(code="RVN-L11", title="the forward pass records no graph", cause="detached-graph", severity="error",
         find=no_graph, needs="forward", explains=("RVN-L02", "RVN-L10", "RVN-N02", "RVN-L13"),
         because="torch.no_grad() or inference_mode() is on around the forward pass", misses="parts of the model"),
    Rule(code="RVN-L12", title="training goes on in evaluation mode", cause="train-eval-mode", severity="error",
         find=evaluation_mode, needs="forward",
         because="model.eval() was called for validation and model.train() was not called after it",
         misses="models without dropout and batch norm, where the mode changes nothing; frozen normalization"),
    Rule(code="RVN-L13", title="validation runs in training mode", cause="train-eval-mode", severity="warning",
         confidence="high", find=validation_in_training_mode, needs="forward",
         because="model.eval() is not called before validation: dropout stays on, batch norm learns from it",
         misses="validation that records a graph; one batch of validation every few steps"),
    Rule(code="RVN-L14", title="the schedule is stepped before the optimizer", cause="schedule", severity="warning",
         find=schedule_first, needs="schedule", because="scheduler.step() stands before optimizer.step()",
         misses="schedules that are no torch LRScheduler"),
    Rule(code="RVN-L15", title="the schedule is never stepped", cause="schedule", severity="warning",
         find=schedule_idle, needs="schedule", because="scheduler.step() is not called",
         misses="everything until the loop ends"),
    Rule(code="RVN-L16", title="the learning rate has run out", cause="schedule", severity="warning",
         find=schedule_over, needs="looks", explains=("RVN-L18", "RVN-L19"),
         because="a schedule meant for epochs is stepped at every batch, or its length is too small",
         misses="schedules that are too fast but end above a thousandth of the first rate"),
    Rule(code="RVN-L17", title="clipping leaves next to nothing of the gradient", cause="gradient-clipping",
         severity="error", find=clipped_away, needs="looks",
         because="the limit of clip_grad_norm_ is far below the gradient's length",
         misses="clipping by value; adaptive optimizers whose steps do not depend on the gradient's length"),
    Rule(code="RVN-L18", title="the learning rate is 0", cause="learning-rate-low", severity="error", find=zero_rate,
         needs="looks", explains=("RVN-N02",), because="the optimizer or its schedule says 0",
         misses="single parameter groups at 0, which may be meant"),
    Rule(code="RVN-L19", title="steps are lost in rounding", cause="learning-rate-low", severity="error",
         find=rounded_away, needs="looks", explains=("RVN-N02",),
         because="the step is smaller than the spacing of the weights' numbers, so the sum rounds to the old weight",
         misses="steps that are lost later on only; layers beyond the first eight; warm-ups, while the rate rises"),
    Rule(code="RVN-N01", title="numbers are no longer finite", cause="learning-rate-high", severity="error",
         find=not_finite, needs="looks", confidence="medium",
         because="steps too long, a derivative that is not finite, or data that are not",
         misses="weights that stop being finite while loss and gradients do not, until the next look"),
    Rule(code="RVN-N02", title="the loss does not move at all", cause="detached-graph", severity="error", find=still,
         needs="looks", confidence="medium", because="nothing that the loss depends on changes",
         misses="losses told as rounded numbers look the same"),
)  # fmt: skip
