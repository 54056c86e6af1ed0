"""Snapshots: weights at the ends of a schedule's cycles, which become members of the model.

They are kept among what is left of a cohort's networks (`ended`), so they are in every checkpoint
whichever networks leave the batch. Letters: N networks of the job, K snapshots.
"""

from collections.abc import Callable

import torch

from ravine.training.cohort import Cohort

STEPS_AT_ONCE = 4096
# names in checkpoints; "taken" says which places hold a snapshot
WEIGHTS_KEY = "snapshot/weights"
FILLED_KEY = "snapshot/taken"
BUFFER_KEY = "snapshot/buffer/"


def keep_snapshots(cohort: Cohort, pause: Callable[[Cohort], bool]) -> Callable[[Cohort], bool]:
    """A `pause` for the loop that also keeps snapshots, if the recipe asks for them."""
    if cohort.parts.snapshots is None:
        return pause
    steps = snapshot_steps(cohort)
    if FILLED_KEY not in cohort.ended.tensors:
        _allocate_slots(cohort, 1 + max(place for found in steps.values() for _, place in found))

    def keep_and_pause(cohort: Cohort) -> bool:
        for network, place in steps.get(cohort.step, ()):
            if network in cohort.ids:
                row, tensors = cohort.ids.index(network), cohort.ended.tensors
                tensors[WEIGHTS_KEY][network, place] = cohort.weights[row]
                for name, value in cohort.buffers.items():
                    tensors[f"{BUFFER_KEY}{name}"][network, place] = value[row]
                tensors[FILLED_KEY][network, place] = True
        return pause(cohort)

    return keep_and_pause


def report_snapshots(cohort: Cohort) -> None:
    """Note each network's effect: how far its snapshots are from its last, relative to that."""
    if cohort.parts.snapshots is None:
        return
    weights = cohort.ended.tensors[WEIGHTS_KEY].double()
    for i, places in enumerate(cohort.ended.tensors[FILLED_KEY]):
        own = weights[i][places]
        effect = 0.0
        if len(own):
            distance = (own - own[-1:]).norm(dim=1).sum()
            effect = float(distance / max(1, len(own) - 1) / own[-1].norm().clamp_min(1e-30))
        cohort.ended.effects[i]["snapshots"] = effect


def snapshot_steps(cohort: Cohort) -> dict[int, list[tuple[int, int]]]:
    """The networks of the job that keep a snapshot, and its place, by the number of steps made."""
    keep, plan = cohort.parts.snapshots, cohort.job.plan
    assert keep is not None
    blocks = torch.arange(plan.steps, dtype=torch.float64)[None].split(STEPS_AT_ONCE, 1)
    found: dict[int, list[tuple[int, int]]] = {}
    for network, recipe in enumerate(cohort.job.recipes):
        factors = [recipe.schedule.factor(steps, plan).reshape(-1) for steps in blocks]
        ends = torch.nonzero(keep.ends(torch.cat(factors))).flatten().tolist()
        for place, step in enumerate(ends if keep.last is None else ends[-keep.last :]):
            found.setdefault(step + 1, []).append((network, place))
    return found


def _allocate_slots(cohort: Cohort, count: int) -> None:
    """Empty places for each network's snapshots."""
    networks = len(cohort.job.seeds)
    tensors = cohort.ended.tensors
    like = {WEIGHTS_KEY: cohort.weights}
    like |= {f"{BUFFER_KEY}{name}": value for name, value in cohort.buffers.items()}
    for name, value in like.items():
        tensors[name] = value.new_zeros(networks, count, *value.shape[1:])
    tensors[FILLED_KEY] = torch.zeros(networks, count, dtype=torch.bool)
