"""Weights that something else than the optimizer overwrites."""

from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.finding import Change, Evidence

MIN_OVERWRITES = 2
# times in a row that the same weights were loaded: a patient loop that goes back to its best
# weights does so less often
MIN_RELOADS = 10


@rule(
    "RVN-L20",
    "error",
    "initialization",
    confidence="high",
    needs="steps",
    also=("step-order", "optimizer"),
)
def overwritten_weights(history: LoopHistory) -> Iterator[Observation]:
    overwrites = history.model.overwrites
    others = overwrites.other + overwrites.repeated + overwrites.clamped
    title, severity, confidence = "", "", ""
    changes = (Change("loop", "no load_state_dict and no initialization within the loop"),)
    if overwrites.to_start >= MIN_OVERWRITES:
        name = "times that the weights were reset to their start, bit for bit"
        times = Evidence(name, overwrites.to_start, limit=0)
    elif overwrites.unrelated >= MIN_OVERWRITES:
        name = "times that the weights were replaced by unrelated numbers"
        times = Evidence(name, overwrites.unrelated, limit=0)
        title, severity = "the weights are initialized again between steps", "warning"
    elif overwrites.repeated >= MIN_RELOADS:
        name = "times in a row that the same weights were loaded, bit for bit"
        times = Evidence(name, overwrites.repeated, limit=MIN_RELOADS)
        title, severity = "the same weights are loaded again and again", "warning"
        confidence, changes = "medium", ()
    elif others >= MIN_OVERWRITES:
        times = Evidence("times that the weights were not as the optimizer left them", others)
        title, severity = "something else than the optimizer writes the weights", "note"
        if overwrites.clamped > overwrites.other + overwrites.repeated:
            title = "the weights are clamped to a range between steps"
        changes = ()
    else:
        return
    yield observe(
        times,
        Evidence("steps from the first time to the last", overwrites.interval),
        *changes,
        where=overwrites.where,
        since=overwrites.first_step,
        title=title,
        severity=severity,
        confidence=confidence,
    )
