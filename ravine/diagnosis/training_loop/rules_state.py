"""Faults between the steps of a loop: who else writes weights, gradients and states, and what the inputs are."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.diagnosis.training_loop.history import Look, Story
from ravine.finding import Change, Evidence

UNDONE = 2  # times that the weights went back to their start
AGAIN = 10  # times in a row that the same weights were loaded: more than a patient loop does to go on from its best
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


def written(story: Story) -> Iterator[Seen]:
    w = story.written
    apart = Evidence("steps between the last two times", w.apart)
    mend = (Change("loop", "no load_state_dict and no initialization within the loop"),)
    if w.start >= UNDONE:
        yield Seen(where=w.where, since=w.first, evidence=(
            Evidence("times that the weights were set back to their start, bit for bit", w.start, "", 0), apart,
        ), changes=mend)  # fmt: skip
    elif w.anew >= UNDONE:
        yield Seen(where=w.where, since=w.first, title="the weights are drawn anew between steps", severity="warning",
                   changes=mend, evidence=(
            Evidence("times that the weights were replaced by unrelated numbers", w.anew, "", 0), apart,
        ))  # fmt: skip
    elif w.again >= AGAIN:
        yield Seen(where=w.where, since=w.first, title="the same weights are loaded again and again",
                   severity="warning", confidence="medium", evidence=(
            Evidence("times in a row that the weights loaded were the same, bit for bit", w.again, "", AGAIN), apart,
        ))  # fmt: skip
    elif w.other + w.again + w.cut >= UNDONE:
        cut = w.cut > w.other + w.again
        title = "the weights are cut to a range between steps" if cut else "something else writes the weights"
        yield Seen(where=w.where, since=w.first, title=title, severity="note", evidence=(
            Evidence("times that the weights were not as the optimizer left them", w.other + w.again + w.cut), apart,
        ))  # fmt: skip


def thrown_away(story: Story) -> Iterator[Seen]:
    if not story.alone:
        return  # a backward pass for another optimizer's sake leaves gradients that are rightly cleared
    for looks in of_each(story):
        found = [k for k in looks if k.thrown and k.thrown == k.passes - 1 and k.told >= k.passes]
        some = found[-1] if found else None
        if some is None or len(found) < THROWN:
            continue
        divided = some.scale is not None and abs(some.scale * some.passes - 1) < 1e-3
        if some.passes >= PASSES or divided:
            change = Change("loop", "zero_grad once for each step, and a step for each backward pass or for all")
            yield Seen(since=found[0].step, changes=(change,), evidence=(
                Evidence("backward passes to a step", some.passes, "", None, "the last one's gradient alone is used"),
                Evidence("of their gradients are cleared", some.thrown, "", 0, "the weights standing still"),
            ))  # fmt: skip


def summed(story: Story) -> Iterator[Seen]:
    for looks in of_each(story):
        some = [k for k in looks if k.passes > 1 and not k.thrown and k.told == k.passes and k.scale == 1.0]
        if story.alone and story.kind and len(some) >= THROWN:
            yield Seen(since=some[0].step, evidence=(
                Evidence("gradients that are added for a step", some[-1].passes, "", 1, "each of a batch's mean loss"),
            ))  # fmt: skip


def same_batch(story: Story) -> Iterator[Seen]:
    given = story.inputs
    if given.same < max(SAME, given.looks):
        return
    evidence = [Evidence("looks, all at the same inputs", given.looks, "", None, f"in {story.steps} steps"),
                Evidence("examples in them", given.rows)]  # fmt: skip
    if given.larger > 0:
        evidence.append(Evidence("examples in the table that they are taken from", given.larger))
        yield Seen(since=given.first, severity="warning", suspects=("randomness", "overfitting"),
                   evidence=tuple(evidence), changes=(Change("loop", "the next batch for each step"),))  # fmt: skip
    else:
        yield Seen(since=given.first, evidence=tuple(evidence))


def stale_state(story: Story) -> Iterator[Seen]:
    for looks in of_each(story):
        some = [k for k in looks[-3:] if k.second is not None and k.beside > 0]
        if len(some) == 3 and all((k.second or 0) > OLD * max(looks[-1].beside, 100 * k.eps) for k in some):
            look = some[-1]
            yield Seen(since=some[0].step, suspects=("optimizer-numerics", "learning-rate-low"), evidence=(
                Evidence("root of the optimizer's second moments", look.second), Evidence(
                    "largest gradient seen, root mean square", look.beside, "", (look.second or 0) / OLD),
            ), changes=(Change("loop", "a new optimizer, or the state that belongs to these weights"),))  # fmt: skip


def cut_off(story: Story) -> Iterator[Seen]:
    for cut in story.cuts:
        alone = cut.used == 1
        yield Seen(where=cut.where, since=0, severity="" if alone else "note", evidence=(
            Evidence("calls on its own output", cut.cut, "", 0, "all of them detached"),
            Evidence("calls that the loss depends on", cut.used, "", cut.cut + 1),
        ), changes=(Change("model", "no detach() on the state within a sequence"),) if alone else ())  # fmt: skip


def drifting(story: Story) -> Iterator[Seen]:
    spreads = [(step, s) for step, s in story.inputs.spreads if s > 0]
    if len(spreads) < FIRST_LOOKS or not all(math.isfinite(s) for _, s in spreads):
        return
    for sign in (1, -1):
        logs = [sign * math.log(s) for _, s in spreads]
        falls = sum(b < a - 0.05 for a, b in zip(logs, logs[1:], strict=False))
        rises = sum(b > a + 0.5 for a, b in zip(logs, logs[1:], strict=False))
        if logs[0] - logs[-1] > math.log(DRIFT) and logs[-1] < min(logs[:-2]) and falls >= 3 and not rises:
            since = next(step for (step, _), v in zip(spreads, logs, strict=True) if logs[0] - v > math.log(2))
            yield Seen(since=since, evidence=(
                Evidence("standard deviation of the inputs at first", spreads[0][1]),
                Evidence("now", spreads[-1][1], "", None, "one way at every look"),
            ), changes=(Change("data", "scaled once, before the loop, into a new tensor"),))  # fmt: skip


def scaled(story: Story) -> Iterator[Seen]:
    given = story.inputs
    if len(given.spreads) < SAME or not given.spread > 0:
        return
    spread = sorted(s for _, s in given.spreads)[len(given.spreads) // 2]
    if math.isfinite(spread) and (spread > WIDE or 0 < spread < NARROW):
        yield Seen(evidence=(
            Evidence("standard deviation of the inputs", spread, "", WIDE if spread > WIDE else NARROW),
            Evidence("their mean", given.mean),
        ))  # fmt: skip


def uphill(story: Story) -> Iterator[Seen]:
    looks = [k for looks in of_each(story) for k in looks[-1:]]
    if not story.alone or not looks or story.graph is None or "?" in story.graph.weights:
        return
    known = story.flipped or story.kind
    held = {w.name for w in story.weights if w.optimizer == 0 and w.in_model}  # not inputs that someone makes worse
    if known and story.graph.weights <= held and looks[0].maximize != story.flipped:
        first, now = story.losses[:1], story.told.stretches(4)
        yield Seen(since=0, cause="loss" if story.flipped else "optimizer",
                   title="the loss has the wrong sign" if story.flipped else "the optimizer makes the loss larger",
                   suspects=("optimizer",) if story.flipped else ("loss",), evidence=(
            Evidence("optimizer's maximize", float(looks[0].maximize)),
            Evidence("loss at first", first[0] if first else None),
            Evidence("lately", now[-1] if now else None),
        ), changes=(Change("loop", "the loss without its minus") if story.flipped
                    else Change("optimizer", "maximize=False"),))  # fmt: skip


def skipped(story: Story) -> Iterator[Seen]:
    lost, seen = story.lost
    if seen >= LOST and lost > seen / 2:
        yield Seen(evidence=(
            Evidence("of the last scaled gradients not finite", round(100 * lost / seen, 1), "%", 50.0,
                     "their steps are skipped"),
        ), changes=(Change("loop", "bfloat16 in place of float16, or float32 where numbers grow large"),))  # fmt: skip


def group_at_zero(story: Story) -> Iterator[Seen]:
    if not story.looks or story.steps < STILL or story.highest_lr == 0 or story.lr == 0:
        return
    still = [w for w in story.weights if w.still and w.in_model and w.trainable and w.reached]
    random = [w for w in still if w.fresh]
    if random:
        yield Seen(where=listed(w.name for w in still), since=0, suspects=("frozen-parameters", "schedule"), evidence=(
            Evidence("parameters with gradients in a group at a learning rate of 0", len(still), "", 0),
            Evidence("matrices of them still as initialized at random", len(random), "", 0),
        ), changes=(Change("optimizer", "a learning rate above 0 for every group"),))  # fmt: skip


ALL = (
    Rule(code="RVN-L20", title="training is undone: the weights are set back", cause="initialization", severity="error",
         confidence="high", find=written, needs="steps", also=("step-order", "optimizer"),
         because="a saved state is loaded, or layers are initialized, inside the loop",
         misses="writes through .data into weights that stay where they are, but at looked-at steps",
         means="Between two steps somebody other than the optimizer wrote the weights, and what was learned since the "
               "last time is lost. Averages that are put in for validation and taken out again, weights cut to a "
               "range and masks do not count; weights that are merely moved are noted.",
         detected="Version counters and places in memory of two parameters tell of every write between steps; the "
                  "numbers are then compared with what the step had left: bit for bit with the start, and, for "
                  "numbers drawn anew, by a correlation within 4 standard errors of 0.",
         remedy="Load or initialize once, before the loop. To go on from the best weights, keep a copy that is "
                "renewed.",
         patch="  start = copy.deepcopy(model.state_dict())\n"
               "+ model.load_state_dict(start)\n"
               "  for epoch in range(epochs):\n"
               "-     model.load_state_dict(start)\n"
               "      train_epoch(model)",
         references=("PyTorch 2.13 documentation: torch.nn.Module.load_state_dict",)),
    Rule(code="RVN-L21", title="gradients are cleared between the backward passes of one step", cause="zero-grad",
         severity="error", find=thrown_away, needs="steps", also=("step-order",),
         because="zero_grad is called after every backward pass, the optimizer steps after several",
         misses="losses that are not told; two passes to a step without a division by two",
         means="Several batches are worked out for one step, but only the last one's gradient is used: the others "
               "are computed and thrown away.",
         detected="At three looked-at steps, several losses are told and as many gradients arrive; when the optimizer "
                  "steps, its gradient is bit for bit the last one alone, though the weights did not move between.",
         remedy="To add gradients up, clear them once for each step. To step at every batch, call step there.",
         patch="  for i, (x, y) in enumerate(batches):\n"
               "      (criterion(model(x), y) / 4).backward()\n"
               "-     optimizer.zero_grad()\n"
               "      if i % 4 == 3:\n"
               "          optimizer.step()\n"
               "+         optimizer.zero_grad()",
         references=("PyTorch 2.13 documentation: torch.optim.Optimizer.zero_grad",)),
    Rule(code="RVN-L22", title="every step sees the same inputs", cause="shuffling", severity="note", find=same_batch,
         confidence="medium", needs="inputs", also=("randomness", "overfitting"),
         because="the batch is drawn before the loop, or the loader starts anew at every step",
         misses="tables that are not torch tensors; batches to which noise is added; inputs that are kept on purpose",
         means="The model's first input has the same numbers at every look. Training on all examples at once does "
               "that and is noted only; where the inputs are taken anew, at every step, from a table in memory with "
               "at least four times as many rows, one batch is learned by heart and the rest is never seen.",
         detected="Excerpts of the input are compared bit for bit at 12 looks or more. Then the tensors in memory are "
                  "searched: for one that is just this batch and is kept from look to look (nothing is wrong), and "
                  "for a larger one that has its rows.",
         remedy="Draw the next batch in every step.",
         patch="- x, y = next(iter(batches))\n"
               "- for step in range(100):\n"
               "+ for x, y in batches:\n"
               "      train_step(x, y)",
         references=("PyTorch 2.13 documentation: torch.utils.data.DataLoader",)),
    Rule(code="RVN-L23", title="gradients of several batches are added, not averaged", cause="loss-reduction",
         severity="note", find=summed, needs="steps", also=("learning-rate-high",),
         because="each loss is a mean, and is not divided by the number of backward passes to a step",
         misses="losses that are not torch's own",
         means="The gradient is as many times longer as there are passes: the same as a higher learning rate for "
               "plain descent, next to nothing for Adam. It may be meant.",
         detected="At three looked-at steps several losses are told and as many gradients arrive; each told loss is "
                  "a mean and gets a gradient of 1 from backward.",
         remedy="Divide each loss by the number of passes, so that the learning rate means the same.",
         patch="  passes = len(batches)\n"
               "  for x, y in batches:\n"
               "      loss = criterion(model(x), y)\n"
               "-     loss.backward()\n"
               "+     (loss / passes).backward()\n"
               "  optimizer.step()",
         references=("PyTorch 2.13 documentation: torch.Tensor.backward",
                     "Goyal and others 2017: Accurate, large minibatch SGD: training ImageNet in 1 hour, arXiv "
                     "1706.02677")),
    Rule(code="RVN-L24", title="the optimizer's memory is of far larger gradients", cause="optimizer",
         severity="warning", confidence="high", find=stale_state, needs="steps",
         also=("optimizer-numerics", "learning-rate-low"),
         because="a state was loaded that belongs to other weights or another loss, or was written by hand",
         misses="optimizers that do not keep a running mean of squares; memories of too small gradients",
         means="Adam and its kin divide by the root of a running mean of squared gradients. If that remembers "
               "gradients far beyond any that come now, steps are a small fraction of the learning rate until it "
               "forgets, which takes thousands of steps.",
         detected="At three looks in a row the root of the second moments of some numbers is 100 times the largest "
                  "root mean square of their gradient at any look.",
         remedy="Start with a new optimizer where weights, loss or data have changed.",
         patch="- optimizer.load_state_dict(old)\n"
               "+ optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)",
         references=("Kingma, Ba 2015: Adam: A method for stochastic optimization, ICLR",)),
    Rule(code="RVN-L25", title="a recurrent state is detached at every step of the sequence", cause="detached-graph",
         severity="warning", confidence="high", find=cut_off, needs="graph",
         because="detach(), .data or numpy stands between one call of the cell and the next",
         misses="states that are changed between the calls; losses told after backward",
         means="The gradient does not go back in time: the cell learns from its last step only, and cannot learn to "
               "keep anything for later. Cutting between pieces of a long sequence is usual, and is not meant here.",
         detected="In the first steps, a module is called on what it gave before, three times or more within one "
                  "graph; every time its own output comes back without a gradient, and the loss depends on a single "
                  "one of the calls.",
         remedy="Detach the state between batches or pieces, not within.",
         patch="  cell, state = nn.RNNCell(1, 4), torch.zeros(len(x), 4)\n"
               "  for t in range(8):\n"
               "-     state = cell(x[:, t : t + 1], state.detach())\n"
               "+     state = cell(x[:, t : t + 1], state)",
         references=("Werbos 1990: Backpropagation through time: what it does and how to do it, Proceedings of the "
                     "IEEE 78",)),
    Rule(code="RVN-L26", title="the inputs change their scale while training", cause="input-scale", severity="warning",
         confidence="high", find=drifting, needs="inputs",
         because="a table is normalized again in every epoch, in place",
         misses="a change of less than 30 times; models that are not called as a whole",
         means="What the first layers learned for one scale is wrong for the next; in the end the inputs are all "
               "but 0, or too large.",
         detected="The standard deviation of the first input goes one way from look to look, in three steps or more, "
                  "and by 30 times in all.",
         remedy="Normalize once, before the loop, into a new tensor.",
         patch="+ x = (x - x.mean(0)) / x.std(0)\n"
               "  for epoch in range(epochs):\n"
               "-     x -= x.mean(0)\n"
               "-     x /= x.std(0)\n"
               "      train_epoch(model)",
         references=("LeCun, Bottou, Orr, Müller 1998: Efficient BackProp, in Neural Networks: Tricks of the "
                     "Trade, Springer",),
         picture="scaling-table"),
    Rule(code="RVN-L27", title="the inputs are on an unusual scale", cause="input-scale", severity="note", find=scaled,
         confidence="low", needs="inputs",
         because="inputs are not normalized, or twice", misses="single features; inputs that are no floats",
         means="Usual initializations and learning rates suit inputs with a spread about 1. Behind a normalization "
               "layer the scale does not matter.",
         detected="The median over looks of the first input's standard deviation is above 30 or below 0.03.",
         remedy="Standardize by the training examples' mean and standard deviation.",
         patch="+ mean, sd = x.mean(0), x.std(0)  # of the training examples\n"
               "+ x, x_valid = (x - mean) / sd, (x_valid - mean) / sd\n"
               "  loss = criterion(model(x), y)",
         references=("LeCun, Bottou, Orr, Müller 1998: Efficient BackProp, in Neural Networks: Tricks of the Trade, "
                     "Springer",),
         picture="scaling-table"),
    Rule(code="RVN-L28", title="the loss is made larger", cause="optimizer", severity="error", confidence="high",
         find=uphill, needs="graph", also=("loss",), explains=("RVN-N01", "RVN-T21", "RVN-T22"),
         because="the optimizer has maximize=True, or the loss a minus",
         misses="losses of one's own; loops with several optimizers, where it may be meant",
         means="A loss that is to be small is made large: the model learns to answer wrong.",
         detected="A loss of torch's own stands at the root of the graph, alone or behind a minus, and the optimizer's "
                  "maximize does not fit; it holds every parameter that the loss depends on, so that this is no game "
                  "of two.",
         remedy="Minimize the loss as it is.",
         patch="- optimizer = torch.optim.Adam(model.parameters(), maximize=True)\n"
               "+ optimizer = torch.optim.Adam(model.parameters())",
         references=("PyTorch 2.13 documentation: torch.optim.Adam",)),
    Rule(code="RVN-L29", title="most steps are skipped for numbers that are not finite", cause="precision",
         severity="error", find=skipped, needs="scaler", explains=("RVN-N02",),
         because="gradients overflow in float16 whatever the scale, or a NaN is in them already",
         misses="less than 20 backward passes with a scaled loss at looked-at steps",
         means="A gradient scaler leaves out the steps whose gradients overflowed and lowers its scale. A few at the "
               "start are usual; more than half of them means that lowering does not help.",
         detected="Of the last 20 to 40 gradients of scaled losses, at looked-at steps, more than half were not "
                  "finite when they arrived.",
         remedy="Use bfloat16, which has the range of float32, or keep the layers that overflow in float32.",
         patch="- with torch.autocast(x.device.type, dtype=torch.float16):\n"
               "+ with torch.autocast(x.device.type, dtype=torch.bfloat16):\n"
               "      loss = criterion(model(x), y)",
         references=("Micikevicius and others 2018: Mixed precision training, ICLR",)),
    Rule(code="RVN-L30", title="a group of fresh parameters has a learning rate of 0", cause="learning-rate-low",
         severity="error", confidence="high", find=group_at_zero, needs="steps", also=("frozen-parameters", "schedule"),
         because="a parameter group has a rate, or a factor of its schedule, of 0",
         misses="groups whose weights do not look like torch's default start; rates that rise after ten steps",
         means="These parameters get gradients and are stepped, but do not move: they stay as they were drawn, while "
               "the others learn.",
         detected="At every look so far, ten steps or more, the group's rate was 0 and others' was not; weight "
                  "matrices in it are still distributed as torch initializes them.",
         remedy="Give the group a rate, or freeze it on purpose by requires_grad False.",
         patch='- groups = [{"params": body.parameters(), "lr": 0.0}]\n'
               '+ groups = [{"params": body.parameters(), "lr": 0.01}]\n'
               '  groups += [{"params": head.parameters()}]\n'
               '  optimizer = torch.optim.SGD(groups, lr=0.05)',
         references=("PyTorch 2.13 documentation: torch.optim.Optimizer.add_param_group",)),
)  # fmt: skip
