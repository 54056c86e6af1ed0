"""Faults of the training loop itself: gradients, the order of things, modes, schedules, what the optimizer holds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.diagnosis.training_loop.history import Look, Story, Weight
from ravine.finding import Change, Evidence

SURE = 2  # looks in a row that must agree
SETTLED = 7  # steps after which every optimizer of the usual loops has stepped
LONG = 20  # steps after which a parameter without a gradient counts as unused
ZERO_LR = 10  # steps in a row; a warm-up from 0 and a schedule's last step have fewer
CLIPPED = 0.01  # of the gradient's length
SCALER = 256.0  # a loss that is multiplied by more is scaled for the sake of few bits
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
    for place in range(story.optimizers):
        looks = [look for look in story.looks if look.optimizer == place and look.stale and look.step > 0]
        if len(looks) >= SURE:  # before the first step there may be gradients of something else
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
        known = not any(math.isnan(look.arrived or 0.0) for look in looks)  # of a sparse gradient no length is
        gone = known and all(look.arrived and not look.at_step and empty(look) for look in looks)
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
              and (w.reached or w.name in story.reached)]  # fmt: skip
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
        if not all(k.arrived and k.at_step and math.isfinite(k.arrived) for k in looks):
            continue
        # what a gradient scaler multiplied the loss by is taken out again before the step: that is not lost
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
            moves = max(look.lrs) * length / (1 - min(look.momentum, 0.999)) / max(look.weights, 1e-30)
            tiny = moves < MOVES
            shown = Evidence("step over weights", moves, "", MOVES)
        else:
            each = length / math.sqrt(max(entries, 1))
            tiny = each < 10 * look.eps
            shown = Evidence("gradient of one number", each, "", 10 * look.eps, "against the optimizer's eps")
        if tiny:
            scaled = abs(look.scale or 1.0) >= SCALER
            yield Seen(since=looks[0].step, suspects=("precision",) if scaled else ("learning-rate-low",), evidence=(
                Evidence("of the gradient is left", 100 * left[-1], "%", 100 * CLIPPED),
                Evidence("length at the step", length, "", None, "always the same" if one_length else ""), shown,
            ), changes=(Change("loop", "scaler.unscale_(optimizer) before clipping") if scaled
                        else Change("clip", "1.0, or none"),))  # fmt: skip


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
    elif b.step == 0 and b.what == "loss" and b.where == "loss":
        cause, confidence, suspects = "loss", "high", ("output-activation", "target-scale")
        evidence.append(Evidence("outputs of the model", None, "", None, "finite: the loss makes the number itself"))
    elif b.what == "gradient" and not grew:
        cause, suspects = "loss", ("exploding", "learning-rate-high")
        evidence.append(Evidence("loss", b.last, "", None, "still finite: a root, logarithm or quotient at 0"))
    elif b.step > 0:
        cause, confidence = "learning-rate-high", "high" if grew else "medium"
        suspects = ("exploding", "input-scale", "optimizer-numerics")
        if any(k.passes > 1 and not k.thrown and k.scale == 1.0 for k in story.looks):
            suspects = ("loss-reduction", *suspects)  # gradients of several batches are added, not averaged
        evidence.append(Evidence("highest loss before", b.highest, "", None, f"the first was {b.first:.3g}"))
        if b.lr > 0:  # known
            change = (Change("lr", b.lr / 10),)
            evidence.append(Evidence("learning rate", b.lr))
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
         misses="a zero_grad that clears some of an optimizer's parameters and not the smallest ones",
         means="The gradient that the optimizer uses is the sum over all batches since the last time it was "
               "cleared, not that of one batch. Plain SGD then behaves as with a momentum of 1: steps grow, old "
               "directions never fade, and the loss first falls, then swings or explodes. Adam hides the growth "
               "and follows an average of the whole past instead.",
         detected="At two looked-at steps after the first, the gradient of one parameter equals, bit for bit, what "
                  "the step before left behind plus the sum of what arrived since. No threshold is involved; "
                  "accumulation over several batches that is cleared after each step does not match.",
         remedy="Clear the gradients once for each step, before backward (or right after the step, for "
                "accumulation over several batches).",
         patch="  for x, y in batches:\n"
               "+     optimizer.zero_grad()\n"
               "      loss = criterion(model(x), y)\n"
               "      loss.backward()\n"
               "      optimizer.step()",
         references=("PyTorch 2.13 documentation: torch.optim.Optimizer.zero_grad",
                     "PyTorch 2.13 documentation: torch.Tensor.backward")),
    Rule(code="RVN-L02", title="the optimizer steps without a gradient", cause="step-order", severity="error",
         find=step_without_gradient, needs="looks", explains=("RVN-N02",),
         because="backward is never called, or on something that does not depend on the parameters",
         misses="an optimizer beside others that do get gradients",
         also=("detached-graph", "parameters-not-in-optimizer"),
         means="The optimizer is stepped, but none of its parameters has a gradient other than 0, so no weight "
               "moves (weight decay and momentum aside). The loss stays where it started but for the noise of the "
               "batches. torch says nothing: a parameter without a gradient is passed over in silence.",
         detected="At two looked-at steps in a row, no parameter of any watched optimizer has a gradient that is "
                  "not 0, and none arrived since the step before. It is not said where the graph itself was cut, "
                  "which RVN-L10 and RVN-L11 name.",
         remedy="Call backward on the loss in every step, before the optimizer's step.",
         patch="  loss = criterion(model(x), y)\n"
               "+ loss.backward()\n"
               "  optimizer.step()",
         references=("PyTorch 2.13 documentation: torch.Tensor.backward",
                     "PyTorch 2.13 documentation: torch.optim.Optimizer.step")),
    Rule(code="RVN-L03", title="gradients are cleared between backward and step", cause="zero-grad", severity="error",
         find=wiped, needs="looks", explains=("RVN-N02", "RVN-L02"),
         because="zero_grad stands after loss.backward() and before optimizer.step()",
         misses="gradients cleared in some steps only",
         means="Backward works out a gradient, and zero_grad throws it away before the optimizer can use it. No "
               "weight moves, at full cost in time.",
         detected="At two looked-at steps in a row, a gradient arrived at the observed parameter and all gradients "
                  "of that optimizer are 0 or absent when it steps; on the tape of events, backward comes before "
                  "the step.",
         remedy="Clear the gradients before backward or after the step, never between them.",
         patch="  loss = criterion(model(x), y)\n"
               "+ optimizer.zero_grad()\n"
               "  loss.backward()\n"
               "- optimizer.zero_grad()\n"
               "  optimizer.step()",
         references=("PyTorch 2.13 documentation: torch.optim.Optimizer.zero_grad",)),
    Rule(code="RVN-L04", title="backward comes after the step", cause="step-order", severity="error",
         find=backward_after_step, needs="forward", explains=("RVN-L02", "RVN-L03", "RVN-N02"),
         because="optimizer.step() stands before loss.backward(): it uses the last batch's gradient, or none",
         misses="models that are not called as a whole (their parts are)",
         means="Each step uses the gradient of the batch before, or none where zero_grad stands first in the loop. "
               "With the gradient of the batch before, training works but lags a step behind and tolerates lower "
               "learning rates only; with none, nothing is learned.",
         detected="Three times in a row the tape of events reads forward, step, backward. No threshold is "
                  "involved.",
         remedy="Order a step as zero_grad, forward, backward, step.",
         patch="  optimizer.zero_grad()\n"
               "  loss = criterion(model(x), y)\n"
               "- optimizer.step()\n"
               "  loss.backward()\n"
               "+ optimizer.step()",
         references=("PyTorch 2.13 documentation: torch.optim.Optimizer.step",)),
    Rule(code="RVN-L05", title="parameters that get gradients are in no optimizer", cause="parameters-not-in-optimizer",
         severity="error", find=not_in_optimizer, needs="steps",
         because="the optimizer was built from a part of the parameters, or before a part was added",
         misses="optimizers that first step after the seventh step of the watched one",
         means="Some parameters take part in the loss and get gradients, but no optimizer holds them, so they stay "
               "as they are. Where they are still as initialized at random, the other layers learn around a random "
               "projection, and the network is worse than it need be. Their gradients also add up in memory "
               "without being cleared by optimizer.zero_grad.",
         detected=f"After {SETTLED} steps, a parameter of the model has had a gradient and belongs to no optimizer "
                  "that was seen stepping. It is a note where all such parameters come before those that learn and "
                  "no longer look random: a trained backbone left out on purpose.",
         remedy="Build the optimizer from all parameters; say requires_grad_(False) of those that are meant to "
                "stay.",
         patch="- optimizer = torch.optim.SGD(model[:2].parameters(), lr=0.05)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.05)",
         references=("PyTorch 2.13 documentation: torch.optim.Optimizer.add_param_group",
                     "PyTorch 2.13 documentation: torch.nn.Module.parameters")),
    Rule(code="RVN-L06", title="the optimizer holds parameters that are no longer the model's",
         cause="parameters-not-in-optimizer", severity="error", find=stale_optimizer, needs="steps",
         explains=("RVN-L05", "RVN-L02", "RVN-L01"),
         because="a layer or the whole model was replaced after the optimizer was built",
         misses="replaced parameters that still get a gradient from elsewhere",
         means="The optimizer moves tensors that the model no longer uses, while those it does use are in no "
               "optimizer. A replaced layer, typically a new head, stays random; where the whole model was copied "
               "or rebuilt, nothing learns at all.",
         detected="From the second looked-at step on, a watched optimizer holds parameters that are not among the "
                  "model's and got no gradient, and parameters of the model that want a gradient are in no "
                  "optimizer. No threshold is involved.",
         remedy="Build the optimizer after the last change to the model.",
         patch="- optimizer = torch.optim.SGD(model.parameters(), lr=0.05)\n"
               "  model[-1] = nn.Linear(32, 3)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.05)",
         references=("PyTorch 2.13 documentation: torch.optim.Optimizer",
                     "PyTorch 2.13 documentation: torch.nn.Module.to")),
    Rule(code="RVN-L07", title="layers in a plain list are not the model's", cause="parameters-not-in-optimizer",
         severity="error", find=unregistered, needs="steps",
         because="layers or parameters stand in a Python list or dict, which model.parameters() does not search",
         misses="lists inside other objects",
         means="Layers in a plain Python list or dict work in the forward pass, but the model does not know them: "
               "they are missing from parameters(), state_dict(), to(device), train() and eval(). They are never "
               "trained and are lost when the model is saved.",
         detected="The graph of the loss reaches parameters that lie in a list, tuple or dict of one of the "
                  "model's modules, are not among model.parameters(), and are in no optimizer. No threshold is "
                  "involved.",
         remedy="Keep layers in nn.ModuleList or nn.ModuleDict, parameters in nn.ParameterList or "
                "nn.ParameterDict.",
         patch="- self.layers = [nn.Linear(32, 32) for _ in range(3)]\n"
               "+ self.layers = nn.ModuleList([nn.Linear(32, 32) for _ in range(3)])",
         references=("PyTorch 2.13 documentation: torch.nn.ModuleList",
                     "PyTorch 2.13 documentation: torch.nn.ModuleDict",
                     "PyTorch 2.13 documentation: torch.nn.ParameterList")),
    Rule(code="RVN-L08", title="some parameters are frozen", cause="frozen-parameters", severity="note", find=frozen,
         needs="looks", because="requires_grad is False; said once, since it may be meant",
         misses="whether it is meant",
         means="These parameters have requires_grad False and cannot learn. That is right for a pretrained body "
               "under a new head, and for adapters. It is a fault where it was left on by mistake, above all if "
               "the frozen weights are still random.",
         detected="A parameter of the model has requires_grad False at the first looked-at steps. How many of them "
                  "still look as torch initializes them by default (bound and variance, within 4 standard errors) "
                  "stands beside it. It is always a note.",
         remedy="If it is not meant, thaw them before building the optimizer; freeze no layer that is still "
                "random.",
         patch="- model.requires_grad_(False)\n"
               "+ model[:-1].requires_grad_(False)  # the body stays, the head learns\n"
               "  trained = [p for p in model.parameters() if p.requires_grad]\n"
               "  optimizer = torch.optim.SGD(trained, lr=0.05)",
         references=("Yosinski, Clune, Bengio, Lipson 2014: How transferable are features in deep neural networks? "
                     "NeurIPS",
                     "PyTorch 2.13 documentation: torch.nn.Module.requires_grad_"),
         picture="transfer"),
    Rule(code="RVN-L09", title="parameters never got a gradient", cause="detached-graph", severity="warning",
         find=never_reached, needs="looks",
         because="detach(), no_grad() or .data stands between a layer and the loss, or its output is not used",
         misses="the first 20 steps; layers whose weights do not look like torch's default start are noted only",
         means="These parameters are held by the optimizer and want to learn, but in no step so far has a gradient "
               "come to them. They stay as they are. Where their layers do run and are still random, the loss is "
               "learned on top of a random projection.",
         detected=f"After {LONG} steps, parameters in an optimizer have had no gradient and are in the graph of no "
                  "loss that was read, while others have. It is a warning where their module ran and they look as "
                  "initialized at random; otherwise (a part that is not used, a trained part) a note.",
         remedy="Let the graph reach these layers: no detach(), .data, no_grad() or numpy between them and the "
                "loss. If they are not needed, take them out.",
         patch="- features = body(x).detach()\n"
               "+ features = body(x)\n"
               "  loss = criterion(head(features), y)",
         references=("PyTorch 2.13 documentation: torch.Tensor.detach", "PyTorch 2.13 documentation: torch.no_grad")),
    Rule(code="RVN-L10", title="the loss does not depend on the parameters", cause="detached-graph", severity="error",
         find=detached, needs="looks", explains=("RVN-L02", "RVN-N02", "RVN-L09"),
         because="the loss was made anew from numbers (item, numpy, torch.tensor) or from detached outputs",
         misses="a loss that is told as a number while gradients do arrive",
         means="The loss that backward is called on was cut from the network: it is a new tensor made from a "
               "number, or made from detached outputs. Backward then has nowhere to go. With requires_grad=True "
               "set on the new tensor, torch raises no error, and nothing is learned.",
         detected="The told loss is a leaf that itself asks for a gradient; or it has no graph, or a graph without "
                  "any of the model's parameters, while no gradient arrives at two looked-at steps in a row. No "
                  "threshold is involved.",
         remedy="Call backward on the tensor that the loss function returned. Use item() or detach() only for what "
                "is printed or stored.",
         patch="- loss = torch.tensor(criterion(model(x), y).item(), requires_grad=True)\n"
               "+ loss = criterion(model(x), y)\n"
               "  loss.backward()\n"
               "  print(loss.item())",
         references=("PyTorch 2.13 documentation: torch.Tensor.detach",
                     "PyTorch 2.13 documentation: torch.Tensor.item",
                     "PyTorch documentation, note \"Autograd mechanics\" (2.13)")),
    Rule(code="RVN-L11", title="the forward pass records no graph", cause="detached-graph", severity="error",
         find=no_graph, needs="forward", explains=("RVN-L02", "RVN-L10", "RVN-N02", "RVN-L13"),
         because="torch.no_grad() or inference_mode() is on around the forward pass", misses="parts of the model",
         means="The forward pass of training runs under no_grad or inference_mode, so nothing is recorded that "
               "backward could follow. The optimizer steps without gradients and no weight moves.",
         detected="Twice in a row, the model ran in training mode while recording was off, a loss was told, and an "
                  "optimizer stepped. No threshold is involved.",
         remedy="Keep torch.no_grad() for validation; leave the training step outside it.",
         patch="- with torch.no_grad():\n"
               "-     output = model(x)\n"
               "+ output = model(x)\n"
               "  loss = criterion(output, y)\n"
               "  loss.backward()",
         references=("PyTorch 2.13 documentation: torch.no_grad", "PyTorch 2.13 documentation: torch.inference_mode")),
    Rule(code="RVN-L12", title="training goes on in evaluation mode", cause="train-eval-mode", severity="error",
         find=evaluation_mode, needs="forward", explains=("RVN-N01",),
         because="model.eval() was called for validation and model.train() was not called after it",
         misses="models without dropout and batch norm, where the mode changes nothing; frozen normalization",
         means="The optimizer steps while dropout and batch norm are in evaluation mode. Dropout then does "
               "nothing, so what it was to prevent, overfitting, comes; batch norm uses its stored statistics, "
               "which no longer follow the weights, and training can become unstable. It usually begins after the "
               "first validation.",
         detected=f"At {SURE} steps in a row or more, modules with dropout or batch norm and with weights that "
                  "learn stand in evaluation mode. It is an error if earlier steps were in training mode, else a "
                  "warning.",
         remedy="Call model.train() at the start of every epoch, not once before the loop.",
         patch="  for epoch in range(epochs):\n"
               "+     model.train()\n"
               "      train_epoch(model)\n"
               "      model.eval()\n"
               "      validate(model)",
         references=("PyTorch 2.13 documentation: torch.nn.Module.train",
                     "PyTorch 2.13 documentation: torch.nn.Module.eval",
                     "Ioffe, Szegedy 2015: Batch normalization, ICML"),
         picture="batch-norm-drift"),
    Rule(code="RVN-L13", title="validation runs in training mode", cause="train-eval-mode", severity="warning",
         confidence="high", find=validation_in_training_mode, needs="forward",
         because="model.eval() is not called before validation: dropout stays on, batch norm learns from it",
         misses="validation that records a graph; one batch of validation every few steps",
         means="Validation runs with dropout on and with batch norm taking statistics from validation batches. The "
               "scores are noisier and usually worse than the network is, they depend on the batch's make-up, and "
               "batch norm's stored statistics are mixed with those of the validation examples: a small leak.",
         detected="Between steps, the model runs in training mode without recording a graph, two or more times in "
                  "a row, or once after each of several runs of steps. It needs modules with dropout or batch "
                  "norm.",
         remedy="Put model.eval() before validation and model.train() after it; no_grad does not do this.",
         patch="+ model.eval()\n"
               "  with torch.no_grad():\n"
               "      score = criterion(model(x_valid), y_valid)\n"
               "+ model.train()",
         references=("PyTorch 2.13 documentation: torch.nn.Module.eval",
                     "Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014: Dropout, JMLR 15"),
         picture="dropout-expectation"),
    Rule(code="RVN-L14", title="the schedule is stepped before the optimizer", cause="schedule", severity="warning",
         find=schedule_first, needs="schedule", because="scheduler.step() stands before optimizer.step()",
         misses="schedules that are no torch LRScheduler",
         means="The schedule moves on before the first update, so its first value is never used and every later "
               "one comes a step early. With one step an epoch over many epochs this matters little; with a "
               "warm-up or a few long stages it does. torch warns of it once.",
         detected="A schedule's counter had moved when its optimizer made its first step. No threshold is "
                  "involved.",
         remedy="Step the optimizer first, then the schedule.",
         patch="  loss.backward()\n"
               "- scheduler.step()\n"
               "  optimizer.step()\n"
               "+ scheduler.step()",
         references=("PyTorch 2.13 documentation: torch.optim.lr_scheduler.LRScheduler",),
         picture="schedules"),
    Rule(code="RVN-L15", title="the schedule is never stepped", cause="schedule", severity="warning",
         find=schedule_idle, needs="schedule", because="scheduler.step() is not called",
         misses="everything until the loop ends",
         means="A schedule was made for the optimizer and never stepped, so the learning rate stays at its first "
               "value. Without the planned decay the loss keeps wandering around a minimum; with a warm-up that "
               "never ends, training crawls.",
         detected=f"When watching ends, after {LONG} optimizer steps or more, a schedule's counter has not moved.",
         remedy="Step it where it is counted: once an epoch if it is written in epochs, once a batch if in steps.",
         patch="  for epoch in range(epochs):\n"
               "      train_epoch(model)\n"
               "+     scheduler.step()",
         references=("PyTorch 2.13 documentation: torch.optim.lr_scheduler.LRScheduler",),
         picture="schedules"),
    Rule(code="RVN-L16", title="the learning rate has run out", cause="schedule", severity="warning",
         find=schedule_over, needs="steps", explains=("RVN-L18", "RVN-L19"),
         because="a schedule meant for epochs is stepped at every batch, or its length is too small",
         misses="schedules that are too fast but end above a thousandth of the first rate",
         means="The learning rate has fallen to next to nothing while training goes on, or a cosine schedule has "
               "run past its end and rises again. The remaining steps change hardly anything: the loss looks "
               "converged but is only stopped. The usual reason is a schedule written in epochs and stepped at "
               "every batch.",
         detected="A cosine schedule was stepped more often than its T_max plus 1; or the rate was below 1/1000 of "
                  f"its highest value for at least {SHORT} steps and half of all steps so far.",
         remedy="Give the schedule's length in the unit in which it is stepped.",
         patch="- scheduler = CosineAnnealingLR(optimizer, T_max=epochs)\n"
               "+ scheduler = CosineAnnealingLR(optimizer, T_max=epochs * len(batches))\n"
               "  for x, y in batches:\n"
               "      train_step(x, y)\n"
               "      scheduler.step()",
         references=("Loshchilov, Hutter 2017: SGDR: Stochastic gradient descent with warm restarts, ICLR",
                     "PyTorch 2.13 documentation: torch.optim.lr_scheduler.CosineAnnealingLR"),
         picture="schedules"),
    Rule(code="RVN-L17", title="clipping leaves next to nothing of the gradient", cause="gradient-clipping",
         severity="error", find=clipped_away, needs="steps",
         because="the limit of clip_grad_norm_ is far below the gradient's length",
         misses="clipping by value; adaptive optimizers whose steps do not depend on the gradient's length",
         also=("precision", "learning-rate-low"),
         means="Every gradient is cut to a length so small that the steps hardly move the weights. Clipping is "
               "meant for rare, far too long gradients; here it acts at every step and takes the place of the "
               "learning rate. The loss falls very slowly or not at all.",
         detected=f"At 5 looked-at steps in a row less than {CLIPPED:.0%} of the gradient's length is left, a loss "
                  "scaler's factor taken out, and that is too little to move: with SGD, lr |g| / (1 - momentum) is "
                  f"below {MOVES:g} of the weights' length; with other optimizers, the root mean square of g is "
                  "below 10 eps. Where the loss's factor is not known, the length must be the same each time.",
         remedy="Set the limit near the usual gradient length (log it for some steps, take its 90 % quantile), "
                "often 0.5 to 5; or do not clip.",
         patch="  loss.backward()\n"
               "- nn.utils.clip_grad_norm_(model.parameters(), 1e-4)\n"
               "+ length = nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
               "  optimizer.step()",
         references=("Pascanu, Mikolov, Bengio 2013: On the difficulty of training recurrent neural networks, ICML",
                     "PyTorch 2.13 documentation: torch.nn.utils.clip_grad_norm_")),
    Rule(code="RVN-L18", title="the learning rate is 0", cause="learning-rate-low", severity="error", find=zero_rate,
         needs="steps", explains=("RVN-N02",), because="the optimizer or its schedule says 0",
         misses="single parameter groups at 0, which may be meant",
         also=("schedule",),
         means="Every learning rate is 0, so steps change nothing. The cause is schedule where the rate was above "
               "0 before, such as a linear decay that is too short or integer division in a formula; else the "
               "optimizer was built with 0.",
         detected=f"At {ZERO_LR} steps in a row or more, all parameter groups have a learning rate of exactly 0. A "
                  "warm-up that starts at 0 and a schedule that ends there have fewer.",
         remedy="Build the optimizer with a rate above 0; print the rates that the schedule gives for the whole "
                "run before training.",
         patch="- decay = lambda step: 1 - step // 100 - 1  # 0 from the start\n"
               "+ decay = lambda step: max(0.01, 1 - step / 1000)\n"
               "  scheduler = LambdaLR(optimizer, decay)",
         references=("PyTorch 2.13 documentation: torch.optim.lr_scheduler.LambdaLR",),
         picture="schedules"),
    Rule(code="RVN-L19", title="steps are lost in rounding", cause="learning-rate-low", severity="error",
         find=rounded_away, needs="steps", explains=("RVN-N02",),
         because="the step is smaller than the spacing of the weights' numbers, so the sum rounds to the old weight",
         misses="steps that are lost later on only; layers beyond the first eight; warm-ups, while the rate rises",
         also=("precision",),
         means="The steps are so small that adding them to the weights gives the old weights again. In float32 a "
               "weight of 0.1 ignores steps below 4e-9, in bfloat16 below 2e-4. Nothing is learned though "
               "gradients are there.",
         detected=f"At every looked-at step, three or more, over {STUCK:.0%} of the sampled numbers with a gradient "
                  "other than 0 are the same before and after. Up to 4096 numbers of 8 parameters each are "
                  "compared. It is not said while the rate rises, nor at a rate of 0.",
         remedy="Raise the learning rate, by factors of 10. With weights in bfloat16 or float16, keep a float32 "
                "copy for the optimizer (autocast does).",
         patch="- optimizer = torch.optim.SGD(model.parameters(), lr=1e-12)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)\n"
               "  optimizer.zero_grad()\n"
               "  with torch.autocast(\"cpu\", dtype=torch.bfloat16):  # keeps the weights\n"
               "      loss = criterion(model(x), y)",
         references=("Goldberg 1991: What every computer scientist should know about floating-point arithmetic, "
                     "ACM Computing Surveys 23",
                     "Micikevicius and others 2018: Mixed precision training, ICLR"),
         picture="range-test"),
    Rule(code="RVN-N01", title="numbers are no longer finite", cause="learning-rate-high", severity="error",
         find=not_finite, needs="looks", confidence="medium",
         because="steps too long, a derivative that is not finite, or data that are not",
         misses="weights that stop being finite while loss and gradients do not, until the next look",
         also=("exploding", "data-degenerate", "loss", "input-scale", "optimizer-numerics", "output-activation",
               "loss-reduction",
               "target-scale"),
         means="The loss, a gradient or a weight became NaN or infinite. From there on every number that depends "
               "on it is lost, and training cannot recover. The finding says where the first such number was seen "
               "and names the cause by what came before it: NaN in the inputs, a gradient that broke while the "
               "loss was still moderate, or a loss that grew from step to step.",
         detected="The first loss, gradient or weight that is not finite. Then, in this order: the model's inputs "
                  "have such a number (cause data-degenerate, exact); the very first loss, of finite outputs, is "
                  "such a number (loss); the gradient broke first and no loss was over 10 times the first one "
                  "(loss); it happened after step 0 (learning-rate-high, surer if the "
                  "loss had grown 10 times); else exploding.",
         remedy="Check the inputs once. If the loss grew first, lower the learning rate by 10 or clip gradients. "
                "If the gradient broke first, look for a root, logarithm or quotient at 0 and keep its argument "
                "away from 0.",
         patch="+ assert torch.isfinite(x).all()\n"
               "- optimizer = torch.optim.SGD(model.parameters(), lr=30.0)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.03)\n"
               "- loss = (output - y).square().sum().sqrt()  # no derivative at 0\n"
               "+ loss = ((output - y).square().sum() + 1e-12).sqrt()",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, sections 4.1 and 8.2.4, MIT Press",
                     "Pascanu, Mikolov, Bengio 2013: On the difficulty of training recurrent neural networks, ICML",
                     "PyTorch 2.13 documentation: torch.autograd.set_detect_anomaly"),
         picture="range-test"),
    Rule(code="RVN-N02", title="the loss does not move at all", cause="detached-graph", severity="error", find=still,
         needs="looks", confidence="medium", because="nothing that the loss depends on changes",
         misses="losses told as rounded numbers look the same",
         also=("dead-units", "learning-rate-low"),
         means="The loss of the first steps is one number, the same in every bit, though batches differ or weights "
               "should. Something stands still: no gradient arrives, steps are too small to change a weight, or "
               "the output no longer depends on the input. It is a symptom; a finding that explains it stands "
               "above it where one was made.",
         detected="The first 8 losses are finite and equal, bit for bit. The cause is dead-units where gradients "
                  f"arrive and are all 0, learning-rate-low where over {STUCK:.0%} of the weights do not change in "
                  "a step, else detached-graph.",
         remedy="Find what stands still: compare the weights before and after a step, then the gradients, then the "
                "outputs of two different inputs.",
         patch="+ before = [p.detach().clone() for p in model.parameters()]\n"
               "  loss.backward()\n"
               "  optimizer.step()\n"
               "+ for (name, p), old in zip(model.named_parameters(), before):\n"
               "+     print(name, p.grad.norm().item(), (p - old).norm().item())",
         references=("Karpathy 2019: A recipe for training neural networks, karpathy.github.io",)),
)  # fmt: skip
