"""Whether training that was saved, loaded and resumed goes on as if it had not stopped.

What trains stands in `ravine.testing.training_checks`.
"""

from collections.abc import Iterator, Mapping, Sequence
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

    different: Mapping[str, float]  # parameters and buffers at the end, by how much at most
    # what was not as it was saved once it was loaded, both values: "optimizer: exp_avg"
    not_restored: Mapping[str, tuple[object, object]]
    # before each step after the save: of training that was not stopped, and of that resumed
    losses: tuple[Sequence[float], Sequence[float]]

    def has(self, need: str) -> bool | None:
        return True

    @property
    def first_difference(self) -> Evidence:
        """The first loss after the save that is another one; else how many are the same."""
        for step, (whole, resumed) in enumerate(zip(*self.losses, strict=True), 1):
            if repr(whole) != repr(resumed):  # NaN is like NaN
                name = f"first difference of losses, before step {step} after the resume"
                text = f"{resumed:.6g} resumed, {whole:.6g} without the stop"
                return Evidence(name, abs(resumed - whole), text=text)
        return Evidence("losses after the resume that differ", 0, text="weights do")


@rule("RVN-C15", "error", "checkpoint", needs="", also="randomness")
def resumed_differently(resumed: ResumeComparison) -> Iterator[Observation]:
    if not resumed.different:
        return
    largest_first = sorted(resumed.different.items(), key=lambda item: -item[1])
    ends = join_names(f"{name} by {distance:.2g}" for name, distance in largest_first)
    differing = "parameters and buffers that differ at the end"
    at_end = Evidence(differing, len(largest_first), limit=0, text=ends)
    lost: dict[str, list[str]] = {}
    for each, (saved, loaded) in resumed.not_restored.items():
        kind, _, what = each.partition(": ")
        numbers = isinstance(saved, int | float) and isinstance(loaded, int | float)
        text = f"{what} (saved {saved:.6g}, loaded {loaded:.6g})" if numbers else what
        lost.setdefault(kind, []).append(text)
    restored = [
        Evidence(f"values of the {kind} not restored", len(names), text=join_names(names))
        for kind, names in lost.items()
    ]
    seen = (resumed.first_difference, *restored, at_end)
    if lost:
        parts = "; ".join(CHECKPOINT_PARTS[kind] for kind in lost)
        yield observe(*seen, Change("loop", f"save and load {parts}"), where=", ".join(lost))
    else:
        nothing = Evidence("values not restored", 0)
        do = "save what else it reads, as its own torch.Generator, or use_deterministic_algorithms"
        yield observe(*seen, nothing, Change("loop", do), cause="randomness")
