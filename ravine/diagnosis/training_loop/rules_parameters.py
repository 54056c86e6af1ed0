"""Parameters that do not train: in no optimizer, not registered, frozen, without a gradient."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.finding import Change, Evidence

OPTIMIZER_CHECK_STEPS = 7  # after which every optimizer of the usual loops has stepped
MIN_SNAPSHOTS = 2
FROZEN_STEPS = 200  # after which layers that are frozen are not thawed soon
EARLY_FREEZE = 0.1  # of the steps: a freeze so early is taken for a mistake
TWIN_STEPS, TWIN_SNAPSHOTS = 2, 5
UNUSED_STEPS = 20  # after which a parameter without a gradient counts as unused
_list_of = partial(re.compile(r"(?<![^.])\d+(?![^.])").sub, "*", count=1)  # a parameter stands in


@rule(
    "RVN-L05",
    "error",
    "parameters-not-in-optimizer",
    needs=f"steps {OPTIMIZER_CHECK_STEPS}",
    explains="RVN-L02",
)
def parameters_in_no_optimizer(history: LoopHistory) -> Iterator[Observation]:
    own = [p for p in history.model.parameters if p.in_model]
    missing = [p for p in own if p.trainable and p.registered and p.optimizer is None]
    missing = [p for p in missing if p.received_gradient]
    optimized = [p for p in own if p.optimizer is not None]
    if not missing or history.steps < OPTIMIZER_CHECK_STEPS or not history.snapshots:
        return
    is_backbone = bool(optimized) and own.index(missing[-1]) < own.index(optimized[0])
    untrained = any(p.default_initialized for p in missing)
    state = "some still as initialized" if untrained else ""
    name = "parameters with gradients that are in no optimizer"
    count = Evidence(name, len(missing), limit=0, text=state)
    numbers = Evidence("numbers in these parameters", sum(math.prod(p.shape) for p in missing))
    change = Change("optimizer", "torch.optim.SGD(model.parameters(), ...): with all parameters")
    severity = "error"
    if is_backbone and not untrained:  # may be meant, unless others were frozen to train these
        severity = "note" if all(p.trainable for p in own) else "warning"
    where = join_names(p.name for p in missing)
    yield observe(count, numbers, change, where=where, severity=severity)


@rule(
    "RVN-L06",
    "error",
    "parameters-not-in-optimizer",
    needs=f"snapshots {MIN_SNAPSHOTS}",
    explains="RVN-L05, RVN-L02, RVN-L01",
)
def outdated_optimizer(history: LoopHistory) -> Iterator[Observation]:
    parameters = history.model.parameters
    foreign = [p for p in parameters if not p.in_model and p.optimizer not in (None, -1)]
    unused = [p for p in foreign if not p.received_gradient]
    missing = [p for p in parameters if p.in_model and p.trainable and p.optimizer is None]
    if unused and missing:
        name = "parameters in the optimizer that are not the model's and get no gradient"
        left_out = Evidence("parameters of the model in no optimizer", len(missing), limit=0)
        evidence = Evidence(name, len(unused), limit=0)
        change = Change("optimizer", "create the optimizer after the last change of the model")
        where = join_names(p.name for p in missing)
        yield observe(evidence, left_out, change, where=where, since=0)


@rule("RVN-L07", "error", "parameters-not-in-optimizer", needs="steps")
def unregistered_parameters(history: LoopHistory) -> Iterator[Observation]:
    hidden = [p for p in history.model.parameters if not p.registered and p.trainable]
    hidden = [p for p in hidden if p.optimizer is None]
    hidden = [p for p in hidden if p.received_gradient or p.name in history.loss.parameters]
    if hidden:
        effect = "model.parameters() leaves them out"
        count = Evidence("parameters that are not registered", len(hidden), limit=0, text=effect)
        change = Change("model", "nn.ModuleList or nn.ModuleDict; for tensors nn.Parameter")
        severity = "note" if all(p.is_input for p in hidden) else ""  # points of an equation
        where = join_names(p.name for p in hidden)
        yield observe(count, change, where=where, since=0, severity=severity)


@rule("RVN-L08", "error", "frozen-parameters", confidence="high", needs="snapshots")
def frozen_parameters(history: LoopHistory) -> Iterator[Observation]:
    own = [p for p in history.model.parameters if p.in_model]
    frozen = [p for p in own if not p.trainable]
    if not frozen or not history.snapshots:
        return
    trains = any(p.trainable and p.optimizer is not None for p in own)
    untrained = [p for p in frozen if p.default_initialized and not p.received_gradient]
    random = [p for p in untrained if trains and p.module_ran]
    stopped = [p.name for p in frozen if p.optimizer is not None and p.received_gradient]
    if not history.ended and (stopped or (random and history.steps < FROZEN_STEPS)):
        return  # they may be thawed yet
    count = Evidence("parameters with requires_grad=False", len(frozen), text=f"of {len(own)}")
    trained = [s.step for s in history.snapshots if any(map(s.gradient_norms.get, stopped))]
    early = bool(trained) and trained[-1] <= EARLY_FREEZE * history.steps
    if random:
        as_initialized = Evidence("of these, matrices still as initialized", len(random), limit=0)
        change = Change("model", "requires_grad_(True), or load the weights before freezing")
        title, where = "layers are frozen at their random start", join_names(p.name for p in random)
        yield observe(count, as_initialized, change, where=where, title=title)
    if early:
        last = Evidence("last step seen in which they trained", trained[-1])
        change = Change("loop", "requires_grad_(True) after the code that froze them")
        title, where = "layers that trained at first are frozen", join_names(stopped)
        seen = observe(count, last, change, where=where, since=trained[-1], title=title)
        yield replace(seen, severity="warning")
    if not random and not early:
        where = join_names(p.name for p in frozen)
        yield observe(count, where=where, severity="note", confidence="exact")


def _unused_siblings(history: LoopHistory, unused: list[str]) -> list[str]:
    """Those that the loss leaves out while it reads an alike entry of their list in their place."""
    kinds = {p.name: (_list_of(p.name), p.shape) for p in history.model.parameters}
    used = Counter[tuple[str, tuple[int, ...]] | None]()
    for name, count in history.graph.uses.items() if history.graph is not None else ():
        used[kinds.get(name)] = max(used[kinds.get(name)], count)
    counted = Counter(kinds[name] for name in unused)
    return [name for name in unused if used[kinds[name]] > counted[kinds[name]]]


def _has_twin_gradients(history: LoopHistory, names: list[str]) -> bool:
    """Whether a loss uses parameters twice, and each of their gradients is 0, bit for bit."""
    graph, norms = history.graph, [s.gradient_norms for s in history.snapshots]
    if graph is None or not names or len(norms) < TWIN_SNAPSHOTS:
        return False
    uses = graph.uses
    return all(uses.get(n, 0) > 1 and all(step.get(n) == 0 for step in norms) for n in names)


@rule(
    "RVN-L09",
    "warning",
    "detached-graph",
    needs=f"snapshots, updates {UNUSED_STEPS}",
    also="data-degenerate, labels, loss",
)
def parameters_without_gradient(history: LoopHistory) -> Iterator[Observation]:
    parameters = history.model.parameters
    if history.steps < UNUSED_STEPS or not any(p.received_gradient for p in parameters):
        return
    optimized = [p for p in parameters if p.in_model and p.trainable and p.optimizer is not None]
    for path in sorted(history.model.twin_calls, key=len):
        own = [p.name for p in optimized if p.name.startswith(path and f"{path}.")]
        if history.model.twin_calls[path] >= TWIN_STEPS and _has_twin_gradients(history, own):
            zero = Evidence("gradient of its parameters", 0.0, text="that of both calls cancels")
            title = "a network is compared with itself: it is called twice on the same inputs"
            change = Change("loop", "the other example of each pair for the second call")
            cause, rest = "data-degenerate", ("labels", "loss")
            yield observe(zero, change, where=path, title=title, cause=cause, suspects=rest)
            return
    rounded = history.graph.rounded_parameters if history.graph is not None else frozenset[str]()
    rounded = [p.name for p in optimized if p.name in rounded]
    rounded = [n for n in rounded if not any(s.gradient_norms.get(n) for s in history.snapshots)]
    if rounded and any(s.has_gradient for s in history.snapshots):
        name, why = "parameters whose gradient is 0", "rounding has no slope"
        title = "parameters reach the loss only through rounding"
        change = Change("model", "x + (x.round() - x).detach(): the gradient as without rounding")
        count, where = Evidence(name, len(rounded), limit=0, text=why), join_names(rounded)
        yield observe(count, change, where=where, title=title)
        return
    unused = [p for p in optimized if not p.received_gradient]
    unused = [p for p in unused if p.name not in history.loss.parameters]
    cut_off = [p for p in unused if p.module_ran and p.default_initialized]
    if unused:
        steps = f"in {history.steps} steps"
        count = Evidence("parameters without a gradient so far", len(unused), limit=0, text=steps)
        ran = Evidence("of these, as initialized and in modules that ran", len(cut_off))
        change = Change("model", "no detach() or no_grad() between these layers and the loss")
        siblings = _unused_siblings(history, [p.name for p in unused])
        if siblings and not cut_off:
            name = "parameters that another entry of their list stands in for"
            title = "an entry of a list of layers is used in place of others"
            change = Change("model", "each entry of the list once")
            count = Evidence(name, len(siblings), limit=0, text=steps)
            yield observe(count, change, where=join_names(siblings), title=title)
            return
        severity = "warning" if cut_off else "note"
        where = join_names(p.name for p in cut_off or unused)
        yield observe(count, ran, change, where=where, severity=severity)


@rule("RVN-L43", "error", "checkpoint", needs="updates", also="overfitting")
def state_without_copy(history: LoopHistory) -> Iterator[Observation]:
    kept = history.model.kept_state
    if kept is not None:
        what = "loaded, which changes nothing" if kept.is_loaded else "its tensors are the weights"
        steps = Evidence("steps since the state was taken", kept.steps, limit=0, text=what)
        since, copied = history.steps - kept.steps, "copy.deepcopy(model.state_dict())"
        change, where, suspects = Change("loop", copied), kept.variable, ("overfitting",)
        found = observe(steps, change, where=where, since=since, suspects=suspects)
        if not kept.is_loaded:
            severity, confidence = ("warning", "high") if kept.is_named else ("note", "medium")
            found = replace(found, severity=severity, confidence=confidence)
        if found.severity == "note":  # which recommends nothing
            found = replace(found, evidence=(steps, Evidence("what keeps it", None, text=copied)))
        yield found
