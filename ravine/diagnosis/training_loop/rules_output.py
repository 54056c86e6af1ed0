"""Faults between output and loss in the graph: activations, shapes, targets out of reach."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from ravine.diagnosis import op_names
from ravine.diagnosis.rule import Observation, ObservationFields, observe, rule
from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.history import LoopHistory, StepSnapshot
from ravine.finding import Change, Evidence

UNREACHABLE_TARGET_FRACTION = 0.05  # of the target's variance
MIN_FAR_INPUTS, FAR_INPUT_FRACTION = 4, 0.4  # of a critic; those that are made are within it
MIN_CLASSES, FLAT_LOSS_FRACTION = 4, 0.9  # of the loss of equal scores: no class can be told
SINGLE_CLASS_READS, SINGLE_CLASS_STEPS = 4, 200  # before the loop ends
SUM_FACTOR = 0.25  # least factor of the sum
MIN_SUMMED_ROWS = 8  # examples
MAX_MEAN_FACTOR = 0.25  # of the number of examples: with more a mean is on a sum's scale
PICK_NODES = frozenset({"Gather", "Index"})  # of one score for each example
MAX_LABEL = 20.0  # whole numbers from -1 up to it may be labels
UNEQUAL_FRACTION = 1e-3  # of the gradient of one head beside another
HEAD_SNAPSHOTS = 8  # inspected steps in which the gradients of two heads are compared
FAR_TARGETS = 20.0  # times the size of all outputs when training ends
LARGE_DISTANCE = 30.0  # from the targets: less may be noise of standardized ones
UNMOVED_FRACTION = 0.9  # of the distance at first
MOSTLY_UNREACHABLE_FRACTION = 0.5  # of the target's variance: an error


def head_operations(history: LoopHistory, *names: str) -> Iterator[tuple[Graph, int]]:
    """The places of operations of these names between the last layers and the loss."""
    graph = history.graph
    if graph is not None:
        yield from ((graph, place) for place in graph.head if graph.nodes[place].name in names)


@rule("RVN-H01", "error", "output-activation", needs="graph")
def activation_before_cross_entropy(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "LogSoftmax"):
        node = graph.nodes[place]
        before = graph.source_name(node.inputs[0])
        classes = node.shape[node.dim or 0] if node.shape else 0
        is_probability = before in op_names.PROBABILITY_NODES
        if classes <= 1 or not (is_probability or before in ("Tanh", "Relu")):
            continue
        name = before.lower()
        title = f"{name} before cross entropy"
        advice = f"no {name} before the loss"
        if is_probability:
            lowest = math.log(1 + (classes - 1) / math.e)
            why = f"for {classes} classes, as outputs are between 0 and 1"
            limit = Evidence("lowest loss that can be reached", lowest, text=why)
            change = Change("output", f"{advice}; nn.CrossEntropyLoss applies log_softmax itself")
            yield _observe_at(graph, place, limit, change, title=title)
        else:
            lowest, why = op_names.NODE_OUTPUT_RANGES[before][0], "logits should not be bounded"
            limit = Evidence("lowest possible logit", lowest, text=why)
            change = Change("output", advice)
            yield _observe_at(graph, place, limit, change, title=title, severity="warning")


@rule("RVN-H02", "error", "output-activation", needs="graph")
def activation_before_logits_loss(history: LoopHistory) -> Iterator[Observation]:
    lowest = "lowest possible probability of one class"
    for graph, place in head_operations(history, "BinaryCrossEntropyWithLogits"):
        before = graph.source_name(graph.nodes[place].inputs[0])
        if before in op_names.NODE_OUTPUT_RANGES:
            name = before.lower()
            evidence = Evidence(lowest, 0.27 if before == "Tanh" else 0.5)
            change = Change("loss", f"BCELoss on probabilities, or logits without {name}")
            title = f"{name} before a loss that takes logits"
            severity = "error" if before in op_names.PROBABILITY_NODES else "warning"
            yield _observe_at(graph, place, evidence, change, title=title, severity=severity)

    for graph, place in head_operations(history, "LogSigmoid"):
        before = graph.source(graph.nodes[place].inputs[0], frozenset({"Neg"}))
        if before >= 0 and graph.nodes[before].name in op_names.PROBABILITY_NODES:
            name = graph.nodes[before].name.lower()
            change = Change("output", f"no {name} before the loss, which applies sigmoid itself")
            title = f"{name} before a loss that takes logits"
            yield _observe_at(graph, before, Evidence(lowest, 0.5), change, title=title)
            return


@rule("RVN-H10", "error", "output-activation", needs="graph", also="loss")
def softmax_for_several_labels(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(
        history, "BinaryCrossEntropy", *op_names.ELEMENTWISE_LOSS_NODES
    ):
        node = graph.nodes[place]
        before = graph.nodes[graph.source(node.inputs[0])]
        units = before.shape[before.dim or 0] if before.shape else 0
        if node.multi_label and units > 1:
            labels = node.name == "BinaryCrossEntropy"
            what = "labels" if labels else "targets"
            why = f"over {units} {what}; those of an example do not sum to 1"
            total = Evidence("sum of the outputs of one example", 1.0, text=why)
            change = Change("output", "sigmoid" if labels else "linear, or sigmoid for labels")
            title = "" if labels else "softmax for targets that do not sum to 1"
            yield _observe_at(graph, graph.source(node.inputs[0]), total, change, title=title)


@rule("RVN-H03", "note", "loss", needs="graph")
def log_softmax_twice(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "LogSoftmax"):
        if graph.source_name(graph.nodes[place].inputs[0]) == "LogSoftmax":
            count = Evidence("log_softmax in a row", 2, limit=1, text="the second changes nothing")
            change = Change("loss", "nll_loss on log_softmax, or cross_entropy on logits")
            yield _observe_at(graph, place, count, change)


@rule("RVN-H04", "error", "output-activation", needs="graph", explains="RVN-N02, RVN-S03, RVN-H01")
def softmax_over_one_unit(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "Softmax", "LogSoftmax"):
        node = graph.nodes[place]
        if not node.shape or node.dim is None or len(node.shape) <= 1:
            continue
        if node.shape[node.dim] == 1:
            effect = "its output is 1 for any input"
            units = Evidence("units of the softmax", 1, limit=2, text=effect)
            change = Change("output", "torch.sigmoid for one output, or one output for each class")
            yield _observe_at(graph, place, units, change)


@rule("RVN-H05", "error", "loss", needs="graph")
def wrong_loss_inputs(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "NllLoss", "BinaryCrossEntropy"):
        scores = graph.source(graph.nodes[place].inputs[0])
        before = graph.nodes[scores].name if scores >= 0 else ""
        inputs = "probabilities" if before in op_names.PROBABILITY_NODES else "logits"
        if graph.is_normalized(scores):
            continue
        title, change = f"nll_loss gets {inputs}, not log-probabilities", "cross_entropy on logits"
        wrong = op_names.LOGIT_NODES | op_names.PROBABILITY_NODES
        if graph.nodes[place].name == "BinaryCrossEntropy":
            title = "binary cross entropy gets logits, not probabilities"
            change, wrong = "binary_cross_entropy_with_logits", op_names.LOGIT_NODES
        if before in wrong:
            evidence = Evidence("operation before the loss", None, text=before.lower())
            yield _observe_at(graph, place, evidence, Change("loss", change), title=title)
    if (picked := _picked_scores(history)) and history.graph is not None:
        title = "a cross entropy written out gets logits, not log-probabilities"
        low = Evidence("lowest loss", None, text="there is none: each score may rise without end")
        change = Change("loss", "cross_entropy on logits")
        yield _observe_at(history.graph, picked, low, change, title=title)


def _picked_scores(history: LoopHistory) -> int:
    """The place of one score of a trained layer for each example, whose mean is to rise and is all
    of the loss; 0: there is none.
    """
    graph, (place, factor) = history.graph, (0, 0.0)
    if graph is not None and history.single_optimizer:
        (place, factor), *others = graph.terms(("Mean", "Sum"))
        place = 0 if others or factor >= 0 else place
    if graph is None or graph.nodes[place].name not in PICK_NODES:
        return 0
    scores = graph.source(graph.nodes[place].inputs[0])
    picked, shape = graph.nodes[place].shape or (), graph.nodes[scores].shape or (0,)
    trained = {p.name for p in history.model.parameters if p.optimizer not in (None, -1)}
    is_last = graph.source_name(scores) in op_names.AFFINE_NODES
    are_one_each = math.prod(picked) * shape[-1] == math.prod(shape)
    return place if is_last and are_one_each and graph.weight_of(scores) in trained else 0


@rule("RVN-H06", "error", "shape-pairing", needs="graph")
def broadcast_loss(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, *op_names.BROADCASTING_NODES):
        node = graph.nodes[place]
        outputs = [i for i in node.inputs if i >= 0]
        if len(outputs) != 1 or not node.shape or not _meets_a_constant(graph, place):
            continue
        if node.name == "Mul" and not (
            0 < math.prod(node.constant) < math.prod(node.shape) and graph.is_averaged(place)
        ):
            continue  # a product of all with all may be meant, unless one mean takes all of it
        output = graph.nodes[outputs[0]].shape or ()
        padded = (1,) * (len(node.shape) - len(output)) + output  # as broadcasting has it
        pairs = list(zip(padded, node.shape, strict=True))
        kept = {wide for narrow, wide in pairs if narrow == wide > 1}
        if not kept.intersection(wide for narrow, wide in pairs if narrow < wide):
            continue
        other = "a factor" if node.name == "Mul" else "a target"
        shapes = f"an output of shape {list(output)} and {other} broadcast to {list(node.shape)}"
        name = "pairs of output and target in the loss"
        count, limit = math.prod(node.shape), math.prod(output)
        evidence = Evidence(name, count, limit=limit, text=shapes)
        wider = "output" if len(output) == len(node.shape) else other.split()[1]
        dim = next((d for d, (narrow, wide) in enumerate(pairs) if narrow < wide), 1)
        yield _observe_at(graph, place, evidence, Change("loss", f"{wider}.squeeze({max(1, dim)})"))
        return


def _meets_a_constant(graph: Graph, place: int) -> bool:
    """Whether an output that was expanded is compared with a target, not with other outputs."""
    if graph.nodes[place].name != "Expand":
        return True
    users = [node for node in graph.nodes if place in node.inputs]
    return all(
        user.name in op_names.BROADCASTING_NODES and sum(i >= 0 for i in user.inputs) == 1
        for user in users
    )


@rule("RVN-H07", "error", "output-activation", needs="graph")
def softmax_over_batch(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "Softmax", "LogSoftmax"):
        node = graph.nodes[place]
        if node.dim not in (0, -2) or node.shape is None or len(node.shape) != 2:
            continue
        rows, columns = node.shape
        before = graph.source_name(node.inputs[0])
        if rows != columns and rows > 1 and before in ("Addmm", "Linear"):
            shape = list(node.shape)
            why = f"outputs have shape {shape}: dim 0 are the examples, dim 1 the classes"
            evidence = Evidence("dim of the softmax", 0, text=why)
            yield _observe_at(graph, place, evidence, Change("output", "softmax(dim=1)"))


@rule("RVN-I22", "error", "shape-pairing", needs="graph", also="loss")
def scattered_classes(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "NllLoss"):
        softmax = graph.source(graph.nodes[place].inputs[0])
        shape = graph.nodes[softmax].shape if softmax >= 0 else None
        if not shape or graph.nodes[softmax].name != "LogSoftmax":
            continue
        found = graph.units_of_classes(softmax)
        if found is None or found[0] != found[1][0].shape[-1] or found[0] < 2:
            continue  # some units are for other things
        units, (unit, *places) = found
        varied = np.diff(np.sort(unit), axis=-1) != 0
        # classes that all are of one unit may be places, where these are as many
        if varied.all() or (not varied.any() and _are_neighbors(places)):
            continue
        name = "units of the last layer that one softmax goes over"
        count = Evidence(name, len(np.unique(unit[-1])), limit=units, text=f"{list(shape)}")
        advice = "transpose or permute, not view or reshape, between the last layer and the loss"
        yield _observe_at(graph, softmax, count, Change("loop", advice), suspects=("loss",))
        return


def _are_neighbors(places: Sequence[NDArray[np.int64]]) -> bool:
    """Whether the places that a softmax goes over follow each other along one dimension."""
    steps = [np.diff(p, axis=-1) for p in places]
    return sum(bool(step.any()) for step in steps) == 1 and all((s <= 1).all() for s in steps)


@rule(
    "RVN-H08",
    "error",
    "output-activation",
    confidence="high",
    needs="graph",
    also="target-scale",
    explains="RVN-T02",
)
def unreachable_target(history: LoopHistory) -> Iterator[Observation]:
    graph, name = history.graph, history.inputs.made_by.lower()
    shares = history.inputs.out_of_range
    far = [share for share in shares if share > UNREACHABLE_TARGET_FRACTION]
    if len(far) >= max(MIN_FAR_INPUTS, FAR_INPUT_FRACTION * len(shares)):
        lost, limit = 100 * min(1.0, median(far)), 100 * UNREACHABLE_TARGET_FRACTION
        missed = Evidence("share of the examples' variance out of range", lost, "%", limit=limit)
        suspects, change = (
            ("target-scale",),
            Change("data", f"examples scaled into the range of {name}"),
        )
        severity = "error" if lost > 100 * MOSTLY_UNREACHABLE_FRACTION else "warning"
        title = f"the {name} of a generator cannot reach the examples"
        yield observe(missed, change, since=0, severity=severity, title=title, suspects=suspects)
        return
    lost_by_place = graph.unreachable.items() if graph is not None else ()
    far = ((place, lost) for place, lost in lost_by_place if lost > UNREACHABLE_TARGET_FRACTION)
    place, lost = next(far, (-1, 0.0))
    if graph is None or place < 0:
        return
    node = graph.nodes[place]
    before = graph.source_name(node.inputs[0])
    if before == "Sub":
        before = next(graph.source_name(i) for i in graph.nodes[node.inputs[0]].inputs if i >= 0)
    name, limit = "share of the target's variance out of range", 100 * UNREACHABLE_TARGET_FRACTION
    bounds = (Evidence("lowest target", node.low), Evidence("highest target", node.high))
    if node.high <= node.low:  # not known
        bounds = ()
    missed = Evidence(name, 100 * lost, "%", limit=limit)
    change = Change("output", f"no {before.lower()} at the output")
    title = f"{before.lower()} cannot reach the targets"
    severity = "error" if lost > MOSTLY_UNREACHABLE_FRACTION else "warning"
    suspects = ("target-scale",)
    yield _observe_at(
        graph, place, missed, *bounds, change, title=title, severity=severity, suspects=suspects
    )


@rule(
    "RVN-D06",
    "warning",
    "target-scale",
    confidence="high",
    needs="graph, losses",
    also="learning-rate-low, too-few-steps, loss, gradient-clipping, loss-reduction",
    explains="RVN-T02",
)
def far_targets(history: LoopHistory) -> Iterator[Observation]:
    graph, means = history.graph, history.loss.summary.stretch_means(4)
    if graph is None or not history.ended:
        return
    if heads := _unequal_heads(graph, history.snapshots):
        large, small, ratio = heads
        name = f"gradient of {small} over that of {large}, at most"
        less = Evidence(name, ratio, limit=UNEQUAL_FRACTION)
        title = "one part of the loss is so large that nothing else is learned"
        suspects = ("loss", "gradient-clipping", "loss-reduction")
        change = Change("target.scale", "standardize")
        yield observe(less, change, where=large, since=0, title=title, suspects=suspects)
        return
    outputs, terms = history.model.outputs, list(graph.terms())
    size, evenness = outputs.size, outputs.evenness
    factors = [f * graph.difference_factor(place) for place, f in terms]
    factor = sum(factors) if sum(map(bool, factors)) == 1 else 0.0
    if not means or not 0 < size < math.inf or not factor > 0:
        return
    last = min(means[-1], median(history.loss.summary.recent))  # a few batches may be far
    distance, first = (math.sqrt(max(0.0, s) / factor) for s in (last, history.loss.first[0]))
    if len(terms) > 1:  # without what else is added
        distance = min(distance, outputs.pull / (2 * factor))
    # the gradient of a squared error is the distance: most targets must be as far, not a few
    is_far = evenness * distance > max(FAR_TARGETS * size, LARGE_DISTANCE)
    if is_far and distance > UNMOVED_FRACTION * first:
        name, limit = "root of the mean squared error at the end", FAR_TARGETS * size
        far = Evidence(name, distance, limit=limit, text=f"{first:.3g} at first")
        small = Evidence("root mean square of the outputs at the end", size)
        change = Change("target.scale", "standardize")
        yield observe(far, small, change, since=0, suspects=("learning-rate-low",))


def _unequal_heads(
    graph: Graph, snapshots: Sequence[StepSnapshot]
) -> tuple[str, str, float] | None:
    """The last weights of a squared error and of another part of the loss, with weights before
    both, which always has next to no gradient beside it, not for a factor; the largest ratio of
    their gradients.
    """
    if len(snapshots) < HEAD_SNAPSHOTS:
        return None
    heads = {graph.last_weight(place): (place, abs(factor)) for place, factor in graph.terms()}
    heads.pop("", None)
    for large in (name for name, (place, _) in heads.items() if graph.difference_factor(place)):
        for small in heads.keys() - {large}:
            pairs = [(s.gradient_norms.get(small), s.gradient_norms.get(large)) for s in snapshots]
            ratio = max(a / b if a and b else math.inf for a, b in pairs)
            alone = ratio * heads[large][1] / max(heads[small][1], 1e-30)
            is_less = max(ratio, alone) < UNEQUAL_FRACTION
            if is_less and graph.share_weights(large, small):
                return large, small, ratio
    return None


@rule("RVN-H11", "error", "output-activation", needs="graph", also="loss")
def flat_softmax(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "LogSoftmax"):
        node = graph.nodes[place]
        scores, factor = graph.scores_of(node.inputs[0])
        classes = node.shape[node.dim or 0] if node.shape else 0
        if scores < 0 or not graph.nodes[scores].cosines or classes < MIN_CLASSES:
            continue
        lowest = math.log1p((classes - 1) * math.exp(-2 * abs(factor)))
        guess = math.log(classes)
        if lowest > FLAT_LOSS_FRACTION * guess:
            bound = f"{abs(factor):.3g}"
            why = f"for {classes} classes, as scores are between -{bound} and {bound}"
            reached = Evidence("lowest loss that can be reached", lowest, text=why)
            equal = Evidence("loss of equal scores", guess)
            change = Change("loss", "cosines divided by 0.07 to 0.2, or times a scale that learns")
            yield _observe_at(graph, place, reached, equal, change, suspects=("loss",))
            return


@rule("RVN-H09", "error", "labels", needs="graph", also="loss, target-scale, imbalance")
def targets_outside_probabilities(history: LoopHistory) -> Iterator[Observation]:
    for graph, place in head_operations(history, "BinaryCrossEntropyWithLogits"):
        low, high = graph.nodes[place].low, graph.nodes[place].high
        if low < 0 or high > 1:
            top = Evidence("highest target", high, limit=1.0, text="the loss has no lower bound")
            seen = Evidence("lowest target", low, limit=0.0), top
            are_labels = low == round(low) >= -1 and high == round(high) <= MAX_LABEL
            if are_labels or low >= 0:
                cause, other = ("labels", "loss") if are_labels else ("target-scale", "labels")
                change = Change("data", "targets from 0 to 1")
            else:
                cause, other = "loss", "target-scale"
                change = Change("loss", "nn.MSELoss(), on outputs without a sigmoid")
            yield observe(*seen, change, since=0, cause=cause, suspects=(other,))
            return
    reads = history.loss.single_class_reads
    if reads < SINGLE_CLASS_READS or not (history.ended or history.steps >= SINGLE_CLASS_STEPS):
        return
    seen = Evidence("inspected losses whose targets all are the same class", reads, limit=0)
    title = "all targets are the same class"
    change = Change("data", "the class of each example, which a sampler draws by its weights")
    yield observe(seen, change, since=0, title=title, suspects=("imbalance",))


@rule(
    "RVN-H12",
    "warning",
    "loss-reduction",
    confidence="high",
    needs="graph",
    also="loss, over-regularized",
)
def sum_beside_a_mean(history: LoopHistory) -> Iterator[Observation]:
    graph = history.graph
    if graph is None:
        return
    means: list[tuple[int, ...]] = []
    sums: list[tuple[int, ...]] = []
    for place, factor in graph.terms():
        node = graph.nodes[place]
        if node.shape != () or not node.inputs or not graph.comes_after(place):
            continue
        inner, own = graph.scores_of(node.inputs[0])
        shape = graph.nodes[node.inputs[0]].shape or () if inner >= 0 else ()
        rows, factor = (*shape, 0)[0], abs(factor)
        # of sums, or of a running one, by example
        while node.name == "Sum" and len(shape) == 1 and graph.nodes[inner].name in ("Add", "Sum"):
            part, more = graph.scores_of(max(graph.nodes[inner].inputs))
            wide = graph.nodes[part].shape if part >= 0 else None
            if not wide or wide[0] != rows:
                break
            inner, shape, own = part, wide, own * more
        if (node.averaged or node.name == "Mean") and factor < MAX_MEAN_FACTOR * rows:
            means.append(shape)
        is_sum = node.summed or (node.name == "Sum" and graph.nodes[inner].name != "Mul")
        enough = len(shape) > 1 and rows >= MIN_SUMMED_ROWS and factor * abs(own) >= SUM_FACTOR
        sums += [shape] if is_sum and enough else []
    pairs = [(one, other) for one in sums for other in means if one[:1] == other[:1]]
    if pairs:
        one, other = pairs[0]
        added = Evidence("numbers that one part of the loss adds up", math.prod(one))
        text = f"{one[0]} examples in both"
        averaged = Evidence("numbers that another averages", math.prod(other), text=text)
        change = Change("loss", "each part summed over an example's numbers, then averaged")
        yield observe(added, averaged, change, since=0, suspects=("loss", "over-regularized"))


def has_single_class(graph: Graph) -> bool:
    """Whether cross entropies take a score for each example and class, and all want one class.
    Scores that are joined, as of a right answer before wrong ones, may all want the first.
    """
    entropies = [n for n in graph.nodes if n.name == "NllLoss" and n.inputs]
    for entropy in entropies:
        softmax = graph.source(entropy.inputs[0])
        node = graph.nodes[softmax] if softmax >= 0 else None
        if node is None or node.name != "LogSoftmax" or entropy.low != entropy.high:
            return False
        scores, _ = graph.scores_of(node.inputs[0])
        if scores < 0 or graph.nodes[scores].name not in op_names.AFFINE_NODES:
            return False
        if not node.shape or len(node.shape) != 2 or min(node.shape) < 2:
            return False
        if sorted(graph.nodes[scores].shape or ()) != sorted(node.shape):
            return False
    return bool(entropies)


def _observe_at(
    graph: Graph, place: int, *seen: Evidence | Change, **about: Unpack[ObservationFields]
) -> Observation:
    """What is wrong from the start with the activation at a place, or with that before a loss. It
    is where its module is; without a module, at the last weight before it.
    """
    node = graph.nodes[place]
    if node.name not in op_names.NODE_OUTPUT_RANGES:
        sources = (graph.source(i, frozenset({"Neg", "Sub"})) for i in node.inputs)
        place = next((source for source in sources if source >= 0), place)
    where = graph.nodes[place].module or graph.last_weight(place)
    return replace(observe(*seen, **about), where=where, since=0)
