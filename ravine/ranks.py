"""Ranks: processes that train the same networks, each on its part of every batch (torchrun).

All ranks hold the same weights and make the same updates; what they share are sums over a batch.
Letters: R ranks, P networks, B examples of a batch, W weights.
"""

import atexit
import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ravine.effects import Meter, PartMeter
from ravine.errors import InputError, RunError, first_line

REPLY_SECONDS = 600.0  # for which a rank waits for the others
FOLDER_KEY, MESSAGE_KEY = "ravine/folder", "ravine/message"

Item = TypeVar("Item")
Found = TypeVar("Found")


def rank_and_count() -> tuple[int, int]:
    """This process's rank and how many there are, as torchrun says; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def is_reporter() -> bool:
    """Whether this process reports an error: of several ranks the first that asks, once joined."""
    if rank_and_count()[1] == 1 or not dist.is_initialized():
        return rank_and_count()[0] == 0
    with contextlib.suppress(RuntimeError):  # whoever kept the store has ended
        return _store().add(MESSAGE_KEY, 1) == 1
    return True


@functools.cache
def join_ranks() -> "Ranks | None":
    """Join the other ranks that torchrun started; None in a process that it did not.

    One process group for the life of the process: gloo for the CPU, NCCL for GPUs, or the one that
    the program made before. Raises `InputError` where the ranks do not find each other.
    """
    rank, count = rank_and_count()
    if count == 1:
        return None
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a lost rank is an error to catch
        try:
            dist.init_process_group(backend, timeout=timedelta(seconds=REPLY_SECONDS))
        except (RuntimeError, ValueError) as error:
            what, do = f"rank {rank} of {count} does not reach the others", "start all by torchrun"
            raise InputError(what, why=first_line(error), do=do) from None
        atexit.register(dist.destroy_process_group)
    return Ranks(rank, count)


def is_first(ranks: "Ranks | None") -> bool:
    """Whether this process writes and reports: the first of several ranks, or one of its own."""
    return ranks is None or ranks.rank == 0


def run_in_turns(
    run: Callable[[Sequence[Item]], Iterable[Found]], items: Sequence[Item], ranks: "Ranks | None"
) -> Iterable[Found]:
    """What `run` finds for each item, in their order: rank r runs it on items r, r + R, ...

    >>> run_in_turns(lambda own: [2 * one for one in own], [1, 2, 3], None)
    [2, 4, 6]
    """
    if ranks is None:
        return run(items)
    each = ranks.gather(list(run(items[ranks.rank :: ranks.count])))
    return [each[i % ranks.count][i // ranks.count] for i in range(len(items))]


@dataclass
class Ranks:
    """All ranks, seen from one. What sums or gathers must be called by all of them."""

    rank: int
    count: int
    asks: Callable[[], bool] | None = None  # whether this rank is to stop; None before training
    buffer: Tensor = field(default_factory=lambda: torch.empty(0))  # what a step's all-reduce sums

    def start(self, folder: Path | None, asks: Callable[[], bool]) -> None:
        """Begin a run: `asks` says whether this rank is to stop; messages name the folder."""
        self.asks, self.buffer = asks, torch.empty(0)
        if self.rank == 0:
            _store().set(FOLDER_KEY, str(folder or ""))

    @property
    def stops(self) -> bool:
        """Whether a rank was to stop when the last step was made; all have the same answer."""
        return bool(self.buffer[-1:].any())

    def request_stop(self) -> bool:
        """Ask all to stop after the step at hand; False if there is no training yet to stop."""
        begun = self.asks is not None
        self.asks = (lambda: True) if begun else None
        return begun

    def device(self, name: str) -> str:
        """The device of this rank: each has a GPU of its own."""
        if not name.startswith("cuda"):
            return name
        local, known = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
        if local >= known:
            what, do = f"there is no GPU {local}", f"start torchrun with --nproc-per-node {known}"
            raise InputError(what, why="each process has one of its own", do=do)
        torch.cuda.set_device(local)
        return f"cuda:{local}"

    def part(self, count: int) -> "BatchPart":
        """This rank's part of so many examples: equal parts, up to one example."""
        ends = [count * rank // self.count for rank in range(self.count + 1)]
        counts = tuple(b - a for a, b in zip(ends, ends[1:], strict=False))
        return BatchPart(self, ends[self.rank], counts)

    def sum_(self, values: Tensor) -> Tensor:
        """Sum over the ranks, in place. Raises `RunError` where one of them has ended."""
        with self._replies():
            dist.all_reduce(values)
        return values

    def gather(self, own: Found) -> list[Found]:
        """An object of each rank."""
        found: list[Any] = [None] * self.count
        with self._replies():
            dist.all_gather_object(found, own)
        return found

    def check_same(self, **own: object) -> None:
        """Raise `InputError` where ranks have other values of something that all must have."""
        texts = {name: repr(value) for name, value in own.items()}
        for rank, others in enumerate(self.gather(texts)):
            if different := [name for name in texts if texts[name] != others[name]]:
                what, why = f"ranks {self.rank} and {rank} differ", f"each has other {different[0]}"
                raise InputError(what, why=why, do="give all the same data, recipe and folder")

    @contextlib.contextmanager
    def _replies(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            folder = ""
            with contextlib.suppress(RuntimeError):
                if _store().check([FOLDER_KEY]):
                    folder = _store().get(FOLDER_KEY).decode()
            what = f"rank {self.rank} of {self.count} has lost another, which ended or hangs"
            why = first_line(error).split("] ", 1)[-1].split(". ")[0]
            do = f"go on with: ravine train --resume {folder}" if folder else "start all again"
            raise RunError(what, why=why, do=do) from None


@dataclass(frozen=True)
class BatchPart:
    """What one rank has of a batch: `counts` examples each, its own from the place `first` on."""

    ranks: Ranks
    first: int
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Examples of the whole batch."""
        return sum(self.counts)

    @property
    def share(self) -> float:
        """The share of the batch's examples that is here; 0 for one that stands for none."""
        return self.counts[self.ranks.rank] / self.total

    def average_step(
        self, grads: Tensor, losses: Tensor, reports: PartMeter | None, meter: Meter | None
    ) -> tuple[Tensor, Tensor]:
        """Gradients [P, W] and losses [P, 1] of a step, averaged over the whole batch.

        One all-reduce, with what was reported on the parts, which then goes to `meter`, and with
        each rank's word whether it is to stop. The next step overwrites what is returned.
        """
        kept = [] if reports is None else reports.reports
        own, ranks = [grads, losses, *(pair for _, pair in kept)], self.ranks
        sizes = [values.numel() for values in own]
        if ranks.buffer.numel() != sum(sizes) + 1:
            ranks.buffer = grads.new_empty(sum(sizes) + 1)
        *places, flag = ranks.buffer.split([*sizes, 1])
        for place, values in zip(places, own, strict=True):
            torch.mul(values.reshape(-1).to(place), self.share, out=place)
        flag.fill_(float(ranks.asks is not None and ranks.asks()))
        ranks.sum_(ranks.buffer)
        found = [place.view_as(values) for place, values in zip(places, own, strict=True)]
        if meter is not None:
            for (name, _), (value, below) in zip(kept, found[2:], strict=True):
                meter.add(name, value, below)
        return found[0], found[1]

    def average(self, values: Tensor) -> Tensor:
        """A mean over the examples here, as a mean over the whole batch."""
        return self.ranks.sum_(values * self.share)

    def pool_moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (1/B) of the whole batch from those here; differentiable, twice too.

        m = Σ s m_r and v = Σ s (v_r + (m_r − m)²) over ranks with shares s (Chan et al. 1979).
        """
        own, rank = torch.stack([mean, variance]), self.ranks.rank
        parts = [own if r == rank else torch.zeros_like(own) for r in range(len(self.counts))]
        means, variances = _SumOverRanks.apply(torch.stack(parts), self).unbind(1)
        shares = own.new_tensor(self.counts).view(-1, *[1] * mean.dim()) / self.total
        mean = (shares * means).sum(0)
        return mean, (shares * (variances + (means - mean).square())).sum(0)


class _SumOverRanks(torch.autograd.Function):
    """S x = Σ x_r and its adjoint (S* g)_r = Σ s_q g_q / s_r, where rank r's loss counts by s_r."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, part: BatchPart, adjoint: bool = False) -> Tensor:
        ctx.part, ctx.adjoint = part, adjoint
        if not adjoint:
            return part.ranks.sum_(values.clone())
        return part.average(values) / (part.share or 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _SumOverRanks.apply(grads[0], ctx.part, not ctx.adjoint), None, None


def _store() -> Any:
    """Where ranks leave each other words; kept by torchrun, whichever rank ends."""
    return dist.distributed_c10d._get_default_store()
