"""Graphs that are cut: a loss or a forward pass without one, a recurrent state that is detached."""

import re
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.diagnosis.training_loop.rules_gradients import (
    NO_GRAPH_STEP,
    first_step_without_gradient,
)
from ravine.finding import Change, Evidence

# In the letters of `LoopEvent`
NO_GRAPH_STEPS = r"(?:N+LSs*){2}"


@rule(
    "RVN-L10",
    "error",
    "detached-graph",
    needs="snapshots",
    explains=("RVN-L02", "RVN-N02", "RVN-L09"),
)
def detached_loss(history: LoopHistory) -> Iterator[Observation]:
    missing, graph = history.loss.missing_graph, history.graph
    if missing == "leaf":
        evidence = Evidence("operations that led to the loss", 0, text="it is a new tensor")
    elif not missing and (graph is None or not graph.lacks_parameters):
        return
    elif first_step_without_gradient(history) is None or re.search(NO_GRAPH_STEP, history.events):
        return  # RVN-L11 reports the second
    else:
        evidence = Evidence("parameters that the loss depends on", 0, limit=1)
    advice = "loss.backward() on the loss as computed: no item(), data, detach(), new tensor"
    yield observe(evidence, Change("loop", advice), since=0)


@rule(
    "RVN-L11",
    "error",
    "detached-graph",
    needs="forward",
    explains=("RVN-L02", "RVN-L10", "RVN-N02", "RVN-L13"),
)
def training_without_graph(history: LoopHistory) -> Iterator[Observation]:
    if re.search(NO_GRAPH_STEPS, history.events):
        name = "steps in a row after a forward pass without a graph"
        change = Change("loop", "no torch.no_grad() around the forward pass")
        yield observe(Evidence(name, 2, limit=0, text="no_grad or inference_mode"), change, since=0)


@rule("RVN-L25", "warning", "detached-graph", confidence="high", needs="graph")
def detached_recurrent_state(history: LoopHistory) -> Iterator[Observation]:
    change = Change("model", "no detach() on the state within a sequence")
    for state in history.model.detached_states:
        only_last, calls = state.loss_calls == 1, state.detached_calls
        detached = Evidence("calls on its own output", calls, limit=0, text="all of them detached")
        in_loss = Evidence("calls that the loss depends on", state.loss_calls, limit=calls + 1)
        severity, advice = ("", change) if only_last else ("note", None)
        yield observe(detached, in_loss, advice, where=state.where, since=0, severity=severity)
