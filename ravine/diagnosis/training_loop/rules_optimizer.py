"""Faults of the optimizer: a state of other weights, a loss that is maximized."""

from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, observe, rule
from ravine.diagnosis.training_loop.autograd_graph import UNNAMED_PARAMETER
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.finding import Change, Evidence

STALE_STEPS = 3  # inspected steps in a row
STALE_FACTOR = 100.0  # of the second moments over the largest gradient


@rule(
    "RVN-L24",
    "warning",
    "optimizer",
    confidence="high",
    needs=f"steps, snapshots {STALE_STEPS}",
    also=("optimizer-numerics", "learning-rate-low"),
)
def stale_optimizer_state(history: LoopHistory) -> Iterator[Observation]:
    for index in range(history.optimizers):
        snapshots = history.snapshots_of(index)[-STALE_STEPS:]
        moments = [s.second_moment for s in snapshots if s.largest_gradient > 0]
        moments = [moment for moment in moments if moment is not None]
        if len(moments) < STALE_STEPS:
            continue
        largest = snapshots[-1].largest_gradient
        limits = [STALE_FACTOR * max(largest, 100 * s.settings.eps) for s in snapshots]
        if all(moment > limit for moment, limit in zip(moments, limits, strict=True)):
            name, limit = "largest root mean square of the gradient", moments[-1] / STALE_FACTOR
            moment = Evidence("root of the optimizer's second moments", moments[-1])
            gradient = Evidence(name, largest, limit=limit)
            change = Change("loop", "a new optimizer, or the state that belongs to these weights")
            since, suspects = snapshots[0].step, ("optimizer-numerics", "learning-rate-low")
            yield observe(moment, gradient, change, since=since, suspects=suspects)


@rule(
    "RVN-L28",
    "error",
    "optimizer",
    confidence="high",
    needs="graph",
    also=("loss",),
    explains=("RVN-N01", "RVN-T03", "RVN-T02"),
)
def maximized_loss(history: LoopHistory) -> Iterator[Observation]:
    if not history.single_optimizer or not history.snapshots or history.graph is None:
        return
    maximize = history.snapshots[-1].settings.maximize
    parameters, loss = history.graph.parameters, history.loss
    trained = {p.name for p in history.model.parameters if p.optimizer == 0 and p.in_model}
    if UNNAMED_PARAMETER in parameters or not parameters <= trained:
        return  # perhaps inputs are changed on purpose so that the loss is large
    if not (loss.negated or loss.kind) or maximize == loss.negated:
        return
    cause, suspect, title = "optimizer", "loss", "the optimizer maximizes the loss"
    change = Change("optimizer", "maximize=False")
    if loss.negated:
        cause, suspect, title = "loss", "optimizer", "the loss has the wrong sign"
        change = Change("loop", "the loss without its minus")
    recent = loss.summary.stretch_means(4)
    setting = Evidence("maximize of the optimizer", float(maximize))
    first = Evidence("loss at first", loss.first[0] if loss.first else None)
    last = Evidence("loss of the last steps", recent[-1] if recent else None)
    yield observe(
        setting, first, last, change, since=0, title=title, cause=cause, suspects=(suspect,)
    )
