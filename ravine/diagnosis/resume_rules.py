"""Whether training that was saved, loaded and resumed goes on as if it had not stopped.

What trains stands in `ravine.testing.training_checks`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.finding import Change, Evidence

# what to save and load, by the object that was not restored
CHECKPOINT_PARTS: Mapping[str, str] = {
    "model": "model.state_dict(), with all that training changes as parameters or buffers",
    "optimizer": "optimizer.state_dict()",
    "scheduler": "scheduler.state_dict()",
    "random numbers": "torch.get_rng_state(), and that of each other generator in use",
}


@dataclass(frozen=True, kw_only=True)
class ResumeComparison:
    """Training that was resumed, beside training that was not stopped."""

    different: tuple[str, ...]  # parameters and buffers at the end
    # what was not as it was saved once it was loaded: "optimizer: exp_avg of parameter 0"
    not_restored: tuple[str, ...]
    steps: int  # before the save, and as many after it

    def has(self, need: str) -> bool | None:
        return True


@rule("RVN-C15", "error", "checkpoint", needs="", also=("randomness",))
def resumed_differently(resumed: ResumeComparison) -> Iterator[Observation]:
    if not resumed.different:
        return
    lost = resumed.not_restored
    after = f"{resumed.steps} steps after the resume: {join_names(resumed.different)}"
    name = "parameters and buffers that are not the same bit for bit"
    evidence = Evidence(name, len(resumed.different), limit=0, text=after)
    if lost:
        kinds = list(dict.fromkeys(each.partition(":")[0] for each in lost))
        restored = Evidence("not restored by the checkpoint", len(lost), text=join_names(lost))
        parts = "; ".join(CHECKPOINT_PARTS[kind] for kind in kinds)
        change = Change("loop", f"save and load {parts}")
        yield observe(evidence, restored, change, where=", ".join(kinds))
    else:
        text = "model, optimizer, scheduler and random numbers are: something else changes"
        restored = Evidence("not restored by the checkpoint", 0, text=text)
        change = Change("loop", "torch.use_deterministic_algorithms(True); no other state")
        yield observe(evidence, restored, change, cause="randomness")
