"""Effect proofs: every technique reports a number that shows whether it acted.

A part that is a technique has `acts = Effect("clip", "share of sampled steps in which the gradient
was cut")` and reports that number for each network to the meter wherever it acts. The number is 0
if and only if the technique did nothing. A part that is enabled but never reports counts as one
that did nothing, so a technique that is wired in wrongly, or not at all, is noticed.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Effect(NamedTuple):
    """The name under which a technique reports, and what its number means (with its unit)."""

    name: str
    meaning: str


class Meter:
    """Collects what techniques report for each of P networks, and averages it over the reports.

    >>> meter = Meter(2)
    >>> meter.add("clip", torch.tensor([[1.0], [0.0]]))
    >>> meter.add("clip", torch.tensor([[0.0], [0.0]]))
    >>> meter.means()["clip"].tolist()
    [0.5, 0.0]
    """

    def __init__(self, networks: int):
        self.networks = networks
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor | float, below: Tensor | None = None) -> None:
        """Report a value for each network: [P], [P, 1], or one number for all.

        With `below` it is value / below, both of them means over the examples of a batch.
        """
        if below is not None:
            value = value / below.clamp_min(1e-30)
        value = torch.as_tensor(value, dtype=torch.float64).detach()
        value = value.reshape(-1).cpu().expand(self.networks)
        self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, Tensor]:
        """The average of each number over its reports, float64 [P]."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def rows_of(self, keep: Tensor) -> "Meter":
        """The meter of the networks that remain in the batch: `keep` are their indices [K]."""
        keep = keep.cpu()  # the sums are, wherever the networks train
        kept = Meter(len(keep))
        kept.sums = {name: total[keep] for name, total in self.sums.items()}
        kept.counts = dict(self.counts)
        return kept


class PartMeter(Meter):
    """Keeps what is reported on a part of a batch, until it is averaged over the whole batch."""

    def __init__(self, networks: int):
        super().__init__(networks)
        self.reports: list[tuple[str, Tensor]] = []  # names, and [2, P]: value and below

    def add(self, name: str, value: Tensor | float, below: Tensor | None = None) -> None:
        value = torch.as_tensor(value)
        pair = (value, torch.ones_like(value) if below is None else below)
        own = [one.detach().reshape(-1).expand(self.networks) for one in pair]
        self.reports.append((name, torch.stack(own)))
