"""A cohort: networks that train together as one program, and all that changes while they do.

Everything that changes is a tensor with a row for each network, so that networks can leave
(`keep`), and all of it can be written to a checkpoint and read back. Letters: P networks now in the
cohort, N at its start, W weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ravine.effects import Meter
from ravine.layout import Row, Rows
from ravine.networks.batched import BatchedNetwork
from ravine.networks.manual_backprop import ManualBackprop
from ravine.part import rows_of, stack, with_shared_scalars
from ravine.protocols import Plan, ReactiveSchedule, Signature, State
from ravine.recipe import Recipe
from ravine.training.lr_multipliers import Tuned


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a cohort is to do: N networks of one program (equal but for Numbers and seeds) on one
    task.
    """

    recipes: tuple[Recipe, ...]  # one for each network; loss, batch and epochs resolved
    seeds: tuple[int, ...]
    signature: Signature
    plan: Plan
    batch: int  # examples in a full batch
    device: str = "cpu"


@dataclass
class Cohort:
    """The networks that are training now, a row each, and what is left of those that have ended.

    `ended` holds a row for each of the job's N networks: the weights and buffers that were kept,
    the steps made, and the step of the best weights; `outcomes` and `effects` the same as plain
    data.
    """

    job: Job
    parts: Recipe  # the recipes stacked: Numbers are columns
    program: BatchedNetwork
    ids: list[int]  # which network of the job each row is
    step: int
    weights: Rows
    buffers: dict[str, Tensor]
    optimizer: State
    average: State
    schedule: State
    best: dict[str, Tensor]  # "weights", "value" [P], "step" [P], "buffer/NAME"
    losses: dict[
        str, Tensor
    ]  # "sum" float64 [P, 1]: of the training losses since the last evaluation
    loss_count: int
    meter: Meter
    ended: dict[str, Tensor]
    outcomes: list[str]
    effects: list[dict[str, float]]
    series: dict[str, list[tuple[int, list[float]]]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    lowest: dict[str, Tensor] = field(
        default_factory=dict
    )  # validation loss so far: "value" [P], "each" [P, N]

    def __post_init__(self) -> None:
        self._refresh()

    @property
    def held(self) -> dict[str, dict[str, Tensor]]:
        """All tensors with a row for each network in the cohort, but for the weights: by group and
        name.
        """
        groups = ("buffers", "optimizer", "average", "schedule", "best", "losses", "lowest")
        return {name: getattr(self, name) for name in groups}

    def _refresh(self) -> None:
        """Make anew what follows from the state: leaves for autograd, the matrix of gradients,
        masks.
        """
        layout, weights = self.program.layout, self.weights
        self.seeds = [self.job.seeds[i] for i in self.ids]
        tuning = self.parts.tuning
        self.tuned = Tuned(tuning, layout, self.job.plan, like=weights) if tuning else None
        moving = {s.name for s in layout.slots} if self.tuned is None else self.tuned.moving
        self.leaves = {
            n: v.detach().requires_grad_(n in moving) for n, v in layout.views(weights).items()
        }
        self.leaf_list = [leaf for n, leaf in self.leaves.items() if n in moving]
        self.grads = torch.zeros_like(weights)
        self.grad_views = layout.views(self.grads)
        self.grad_list = [view for n, view in self.grad_views.items() if n in moving]
        self.loss = with_shared_scalars(self.parts.loss)
        self.by_hand = None
        if ManualBackprop.applies(self.program, self.loss):
            self.by_hand = ManualBackprop(self.program, self.loss)  # type: ignore[arg-type]
        if self.by_hand is not None:
            self.leaves = layout.views(weights)
        self.decays: Row = layout.decays(dtype=weights.dtype).to(weights.device)
        lr = layout.lr(dtype=weights.dtype)
        self.lr_row: Row | None = None if lr is None else lr.to(weights.device)

    def log(self, name: str, values: Tensor) -> None:
        """Add a point to a series: a value for each network that is in the cohort, NaN for the
        others.
        """
        full = [math.nan] * len(self.job.seeds)
        for i, value in zip(self.ids, values.detach().double().flatten().tolist(), strict=True):
            full[i] = value
        self.series.setdefault(name, []).append((self.step, full))

    def end(self, leaving: Mapping[int, str]) -> None:
        """Let the networks of some rows leave the batch, each with its outcome; the others go on
        unchanged.
        """
        means = self.meter.means()
        for row, outcome in leaving.items():
            i = self.ids[row]
            self.outcomes[i] = outcome
            self.effects[i] = {name: float(mean[row]) for name, mean in means.items()}
            self.ended["weights"][i] = self.best["weights"][row]
            self.ended["steps"][i] = self.step
            self.ended["best_step"][i] = self.best["step"][row]
            for name in self.buffers:
                self.ended[f"buffer/{name}"][i] = self.best[f"buffer/{name}"][row]
        stay = torch.tensor(
            [row for row in range(len(self.ids)) if row not in leaving], dtype=torch.int64
        )
        self.ids = [self.ids[row] for row in stay.tolist()]
        if self.ids:
            self._keep(stay)

    def _keep(self, stay: Tensor) -> None:
        self.parts = rows_of(self.parts, stay)
        self.program = BatchedNetwork(self.parts.network, self.job.signature)
        self.meter = self.meter.rows_of(stay)
        index = stay.to(self.weights.device)
        self.weights = self.weights.index_select(0, index)
        for held in self.held.values():
            for name, value in held.items():
                held[name] = value.index_select(0, index.to(value.device))
        self._refresh()


def start(job: Job) -> Cohort:
    """The cohort of a job before its first step."""
    parts = stack(job.recipes)
    program = BatchedNetwork(parts.network, job.signature)
    dtype = getattr(torch, parts.precision)
    weights, buffers = program.start(job.seeds)
    weights = weights.to(job.device, dtype)
    buffers = {name: value.to(job.device, dtype) for name, value in buffers.items()}
    count = len(job.seeds)
    meter = Meter(count)
    meter.add("initializer", drawn(program, weights))
    meter.add("pretrained", share_taken(program))
    kept = {"weights": weights.clone()} | {
        f"buffer/{name}": value.clone() for name, value in buffers.items()
    }
    return Cohort(
        job=job,
        parts=parts,
        program=program,
        ids=list(range(count)),
        step=0,
        weights=weights,
        buffers=buffers,
        optimizer=parts.optimizer.start(weights),
        average={} if parts.average is None else parts.average.start(weights),
        schedule=parts.schedule.start(count)
        if isinstance(parts.schedule, ReactiveSchedule)
        else {},
        best=kept
        | {
            "value": torch.full((count,), math.inf, dtype=torch.float64),
            "step": torch.zeros(count, dtype=torch.int64),
        },
        losses=no_losses(count, job.device),
        loss_count=0,
        meter=meter,
        ended={name: value.clone() for name, value in kept.items()}
        | {
            "steps": torch.zeros(count, dtype=torch.int64),
            "best_step": torch.zeros(count, dtype=torch.int64),
        },
        outcomes=[""] * count,
        effects=[{} for _ in range(count)],
    )


def drawn(program: BatchedNetwork, weights: Rows) -> Tensor:
    """The standard deviation of each network's starting weights (no biases, no scales), [P]: 0 if
    all are equal.
    """
    chosen = weights[:, program.layout.decays(dtype=torch.float64)[0].to(weights.device) > 0]
    return chosen.double().std(1, correction=0) if chosen.shape[1] else torch.zeros(len(weights))


def share_taken(program: BatchedNetwork) -> float:
    """Which share of a network's starting weights was learned before."""
    beside = program.buffers
    return sum(
        value.numel() for n, value in program.load_weights().items() if n not in beside
    ) / max(program.layout.width, 1)


def no_losses(count: int, device: str | torch.device) -> dict[str, Tensor]:
    """The sum of the training losses, before any."""
    return {"sum": torch.zeros(count, 1, dtype=torch.float64, device=device)}


def networks_at_once(width: int, *, device: str) -> int:
    """How many networks of `width` weights share a batch: as many as keep weights, gradients and
    state in the cache.

    Past that, a larger cohort is no faster on a CPU (about 32 MB of last-level cache for four
    matrices); an accelerator takes what fits its memory.
    """
    if device != "cpu":
        return max(1, min(4096, 2**31 // (4 * width)))
    return max(2, min(64, 2**25 // (4 * 4 * width)))
