"""A cohort: networks that train together as one batch, and all that changes while they do.

Everything that changes is a tensor with a row for each network, so that networks can leave, and all
of it can be written to a checkpoint and read back. Letters: P networks now, N at first, W weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ravine.effects import Meter
from ravine.layout import Rows
from ravine.networks.batched import BatchedNetwork
from ravine.part import rows_of, stack
from ravine.protocols import Plan, ReactiveSchedule, Signature, State
from ravine.ranks import Ranks
from ravine.recipe import Recipe
from ravine.training.cohort_state import EndedNetworks, TrainingLog, TrainingState, Workspace


@dataclass(frozen=True, kw_only=True)
class InitialState:
    """Where N networks go on from: what they were after `step` steps; without weights, new ones.

    `optimizer` is the optimizer's state then; where it is empty, or another optimizer's, it starts
    anew. A job with a start leaves one: where its networks stand after the last step.
    """

    weights: Rows | None = None
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    optimizer: State = field(default_factory=dict)
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a cohort is to do: train N networks of one shape (equal but for Numbers and seeds)."""

    recipes: tuple[Recipe, ...]  # one for each network; loss, batch and epochs resolved
    seeds: tuple[int, ...]
    signature: Signature
    plan: Plan
    batch: int  # examples in a full batch
    device: str = "cpu"
    start: InitialState | None = None  # None: each network draws its weights
    ranks: Ranks | None = None  # the processes that train it together; None: this one alone


@dataclass
class Cohort:
    """The networks that are training now, a row each, and what is left of those that have ended."""

    job: Job
    parts: Recipe  # the recipes stacked: Numbers are columns
    network: BatchedNetwork
    ids: list[int]  # which network of the job each row is
    step: int
    weights: Rows
    buffers: dict[str, Tensor]
    state: TrainingState
    log: TrainingLog
    ended: EndedNetworks
    seeds: list[int] = field(init=False)  # of each network in the cohort
    workspace: Workspace = field(init=False)

    def __post_init__(self) -> None:
        self._refresh()

    def _refresh(self) -> None:
        """Make anew what follows from the networks that are in the cohort."""
        self.seeds = [self.job.seeds[i] for i in self.ids]
        self.workspace = Workspace.of(self.parts, self.network, self.weights, self.job.plan)

    @property
    def row_tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors with a row for each network, except the weights: by group and name."""
        groups = ("optimizer", "average", "schedule", "best", "losses", "lowest")
        return {"buffers": self.buffers} | {name: getattr(self.state, name) for name in groups}

    def add_point(self, name: str, values: Tensor) -> None:
        """Add a point to a series: a value for each network in the cohort, NaN for the others."""
        full = [math.nan] * len(self.job.seeds)
        for i, value in zip(self.ids, values.detach().double().flatten().tolist(), strict=True):
            full[i] = value
        self.log.series.setdefault(name, []).append((self.step, full))

    def add_event(self, kind: str, text: str, *, member: int | None = None) -> None:
        """Note what happened to a network of the job, or (None) to the run."""
        event = {"step": self.step, "kind": kind, "text": text, "member": member}
        self.log.events.append(event)

    def end(self, leaving: Mapping[int, str]) -> None:
        """Let the networks of some rows leave with their outcomes; the others go on unchanged."""
        means = self.log.meter.means()
        best = self.state.best
        ended = self.ended
        for row, outcome in leaving.items():
            i = self.ids[row]
            ended.outcomes[i] = outcome
            ended.effects[i] = {name: float(mean[row]) for name, mean in means.items()}
            ended.tensors["weights"][i] = best["weights"][row]
            ended.tensors["steps"][i] = self.step
            ended.tensors["best_step"][i] = best["step"][row]
            for name in self.buffers:
                ended.tensors[f"buffer/{name}"][i] = best[f"buffer/{name}"][row]
        staying = [row for row in range(len(self.ids)) if row not in leaving]
        self.ids = [self.ids[row] for row in staying]
        if self.ids:
            self._select_rows(torch.tensor(staying, dtype=torch.int64))

    def _select_rows(self, staying: Tensor) -> None:
        self.parts = rows_of(self.parts, staying)
        self.network = BatchedNetwork(self.parts.network, self.job.signature)
        self.log.meter = self.log.meter.rows_of(staying)
        index = staying.to(self.weights.device)
        self.weights = self.weights.index_select(0, index)
        for group in self.row_tensors.values():
            for name, value in group.items():
                group[name] = value.index_select(0, index.to(value.device))
        self._refresh()


def start_cohort(job: Job) -> Cohort:
    """The cohort of a job before its first step."""
    parts = stack(job.recipes)
    network = BatchedNetwork(parts.network, job.signature)
    dtype = getattr(torch, parts.precision)
    weights, buffers = network.start(job.seeds)
    if job.start is not None and job.start.weights is not None:
        weights = job.start.weights.clone()
        buffers = {name: value.clone() for name, value in job.start.buffers.items()}
    weights = weights.to(job.device, dtype)
    buffers = {name: value.to(job.device, dtype) for name, value in buffers.items()}
    count = len(job.seeds)
    meter = Meter(count)
    meter.add("initializer", starting_spread(network, weights))
    meter.add("pretrained", pretrained_share(network))
    kept = {"weights": weights.clone()}
    kept |= {f"buffer/{name}": value.clone() for name, value in buffers.items()}
    best = {
        "value": torch.full((count,), math.inf, dtype=torch.float64),
        "step": torch.zeros(count, dtype=torch.int64),
    }
    steps = {name: torch.zeros(count, dtype=torch.int64) for name in ("steps", "best_step")}
    schedule = parts.schedule
    ended = {name: value.clone() for name, value in kept.items()} | steps
    state = TrainingState(
        optimizer=_optimizer_state(parts.optimizer.start(weights), job.start),
        average={} if parts.average is None else parts.average.start(weights),
        schedule=schedule.start(count) if isinstance(schedule, ReactiveSchedule) else {},
        best=kept | best,
        losses=zero_losses(count, job.device),
    )
    return Cohort(
        job=job,
        parts=parts,
        network=network,
        ids=list(range(count)),
        step=0 if job.start is None else job.start.step,
        weights=weights,
        buffers=buffers,
        state=state,
        log=TrainingLog(meter),
        ended=EndedNetworks(ended, outcomes=[""] * count, effects=[{} for _ in range(count)]),
    )


def end_of(cohort: Cohort) -> InitialState | None:
    """Where the networks of a job with a start stand after its last step, diverged ones left out.

    None where some ended before the last step.
    """
    outcomes = cohort.ended.outcomes
    if cohort.job.start is None or "finished" not in outcomes or "stopped" in outcomes:
        return None
    state = cohort.state.optimizer
    weights, buffers = cohort.weights, cohort.buffers
    return InitialState(weights=weights, buffers=buffers, optimizer=state, step=cohort.step)


def _optimizer_state(new: State, start: InitialState | None) -> State:
    """The optimizer's state to begin with: the one of the start, if it is of the same kind."""
    left = {} if start is None else start.optimizer
    if {name: v.shape for name, v in left.items()} != {name: v.shape for name, v in new.items()}:
        return new
    return {name: left[name].to(v.device, v.dtype, copy=True) for name, v in new.items()}


def starting_spread(network: BatchedNetwork, weights: Rows) -> Tensor:
    """The standard deviation of each network's starting weights, [P]: 0 if all are equal."""
    chosen = weights[:, network.layout.decay_mask(dtype=torch.float64)[0].to(weights.device) > 0]
    return chosen.double().std(1, correction=0) if chosen.shape[1] else torch.zeros(len(weights))


def pretrained_share(network: BatchedNetwork) -> float:
    """The share of a network's starting weights that is pretrained."""
    loaded = network.load_weights().items()
    count = sum(value.numel() for name, value in loaded if name not in network.buffers)
    return count / max(network.layout.width, 1)


def zero_losses(count: int, device: str | torch.device) -> dict[str, Tensor]:
    """The sum of the training losses, before any."""
    return {"sum": torch.zeros(count, 1, dtype=torch.float64, device=device)}


def networks_at_once(width: int, *, device: str) -> int:
    """How many networks of `width` weights share a batch: as many as the cache holds.

    Past that, a larger cohort is no faster on a CPU (about 32 MB of last-level cache for four
    matrices); an accelerator takes what fits its memory.
    """
    if device != "cpu":
        return max(1, min(4096, 2**31 // (4 * width)))
    return max(2, min(64, 2**25 // (4 * 4 * width)))
