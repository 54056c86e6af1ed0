"""Scripts on tables whose loss people wrote by hand: of the wrong sign, the wrong shape, the wrong
mean, or without a value for some batches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from benchmarks.diagnosis import posted_data
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.tables import mlp
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    mean_recall,
    micro_f1,
    r2,
)


def setup(
    d: Split, model: nn.Module, loss: Loss, optimizer: Any, batch: int, epochs: int, scorer: Scorer
) -> TrainingSetup:
    return TrainingSetup(
        model=model,
        loss=loss,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        scorer=scorer,
    )


# Window glass: the share of pairs in the wrong order


def auc(x: Tensor, y: Tensor) -> Scorer:
    """Share of pairs of a yes and a no in which the yes has the higher output; chance 1/2."""

    def score(out: Tensor, y: Tensor) -> float:
        yes, no = out.reshape(-1)[y > 0.5], out.reshape(-1)[y < 0.5]
        return float((yes[:, None] > no[None]).float().mean())

    return Scorer(x, y, score, 0.5)


def wrong_pairs(outputs: Tensor, targets: Tensor) -> Tensor:
    """A smooth share of pairs in the wrong order: 1 / (1 + exp(yes - no))."""
    yes, no = outputs[targets > 0.5], outputs[targets < 0.5]
    if len(yes) == 0 or len(no) == 0:
        return outputs.sum() * 0
    return torch.sigmoid(no[:, None] - yes[None]).mean()


def right_pairs(outputs: Tensor, targets: Tensor) -> Tensor:
    yes, no = outputs[targets > 0.5], outputs[targets < 0.5]
    return torch.sigmoid(yes[:, None] - no[None]).mean()


def mean_over_pairs(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same with a matrix of flags: 0 / 0 for a batch of one kind only."""
    flags = targets[:, None] * (1 - targets)[None]
    return (torch.sigmoid(outputs[None] - outputs[:, None]) * flags).sum() / flags.sum()


def glass(loss: Loss = wrong_pairs, batch: int = 16) -> TrainingSetup:
    d = posted_data.glass().standardized()
    model = nn.Sequential(mlp(9, 20, 1, act=nn.Tanh), nn.Flatten(0))
    optimizer = partial(AdamW, lr=0.05, weight_decay=0.05)
    return setup(d, model, loss, optimizer, batch, 40, auc(d.tx, d.ty))


GLASS = group(
    "glass-ranks",
    glass,
    fault(
        "counts-the-right-pairs",
        "loss",
        loss=right_pairs,
        answers={"exact": True, "remedy": ("formula", "wrong pairs")},
    ),
    fault(
        "batches-of-one-kind",
        "loss batch-size data-degenerate",
        loss=mean_over_pairs,
        batch=4,
        answers={"remedy": ("batch", 32)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Who survived: margins


def softplus_margin(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.softplus(-outputs[:, 0] * (2 * targets - 1)).mean()


def backward_margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """The margin without its minus."""
    return F.softplus(outputs[:, 0] * (2 * targets - 1)).mean()


def hinge_of_flags(outputs: Tensor, targets: Tensor) -> Tensor:
    """A hinge for -1 and 1, given 0 and 1: those of 0 teach nothing."""
    return (1 - outputs[:, 0] * targets).clamp(min=0).mean()


def margins(loss: Loss = softplus_margin) -> TrainingSetup:
    d = posted_data.passengers().standardized()
    optimizer = partial(RMSprop, lr=2e-3)
    return setup(d, mlp(7, 20, 1, act=nn.ELU), loss, optimizer, 25, 12, binary_accuracy(d.tx, d.ty))


MARGINS = group(
    "survival-margins",
    margins,
    fault(
        "no-minus",
        "loss labels",
        loss=backward_margin,
        answers={"exact": True, "remedy": ("formula", "minus")},
    ),
    fault(
        "hinge-of-flags",
        "loss labels",
        loss=hinge_of_flags,
        answers={"remedy": ("data", "labels of -1 and 1")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Mass of penguins: three quantiles


def pinball(shares: tuple[float, ...], outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of max(q (y - out), (q - 1) (y - out)) (Koenker and Bassett 1978)."""
    q, rest = torch.tensor(shares), targets - outputs
    return torch.maximum(q * rest, (q - 1) * rest).mean()


def quantile_skill(x: Tensor, y: Tensor) -> Scorer:
    """1 - pinball loss over that of the constant quantiles; chance 0, never below -1."""
    shares = (0.1, 0.5, 0.9)
    constant = float(pinball(shares, y.quantile(torch.tensor(shares)), y))

    def score(out: Tensor, t: Tensor) -> float:
        return max(-1.0, 1 - float(pinball(shares, out, t)) / constant)

    return Scorer(x, y, score, 0.0, -1.0)


def masses(shares: tuple[float, ...] = (0.1, 0.5, 0.9), grams: bool = False) -> TrainingSetup:
    d = posted_data.penguins()
    d = d._replace(y=d.x[:, 3:4], vy=d.vx[:, 3:4], ty=d.tx[:, 3:4])
    kept = [0, 1, 2, 4]
    d = d.inputs(lambda x: torch.cat([x[:, kept], F.one_hot(x[:, 5].long(), 3).float()], 1))
    d = d.standardized()
    d = d if grams else d.targets(lambda y: y / 1000)
    model = mlp(7, 24, 3, act=nn.SiLU)
    loss, scorer = partial(pinball, shares), quantile_skill(d.tx, d.ty)
    return setup(d, model, loss, partial(Adam, lr=0.01), 20, 40, scorer)


MASSES = group(
    "penguin-mass",
    masses,
    fault(
        "shares-swapped",
        "loss",
        shares=(0.9, 0.5, 0.1),
        answers={"remedy": ("formula", "q for 1 - q")},
    ),
    fault(
        "grams",
        "target-scale learning-rate-low too-few-steps",
        grams=True,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Width of letters: an error written by hand


class RobustError(nn.Module):
    """Square near zero, straight from `bend` on; the mean over all elements."""

    def __init__(self, bend: float = 1.0) -> None:
        super().__init__()
        self.bend = bend

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        rest = (outputs - targets).abs()
        bent = torch.where(rest < self.bend, rest**2 / 2, self.bend * (rest - self.bend / 2))
        return bent.mean()


def relative(outputs: Tensor, targets: Tensor) -> Tensor:
    """The error in parts of the output, which can be zero or below."""
    return ((outputs - targets) / outputs).abs().mean()


def widths(
    flat: bool = False, loss: Callable[[], Any] = RobustError, raw: bool = False
) -> TrainingSetup:
    d = posted_data.glyphs()
    d = d if raw else d.standardized().targets(lambda y: y / 250)
    scorer = r2(d.tx, d.ty)
    d = d.targets(lambda y: y[:, 0]) if flat else d
    return setup(d, mlp(6, 32, 1), loss(), partial(SGD, lr=0.05, momentum=0.5), 50, 12, scorer)


WIDTHS = group(
    "letter-widths",
    widths,
    fault(
        "all-with-all",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("target.scale", "[N, 1]")},
    ),
    fault(
        "divided-by-the-output",
        "loss",
        loss=lambda: relative,
        answers={"remedy": ("formula", "divided by the target")},
    ),
    fault(
        "font-units",
        "input-scale target-scale learning-rate-high exploding dead-units",
        loss=nn.MSELoss,
        raw=True,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Progress of diabetes: a mean and a variance


def density(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log of a normal density of the mean and the log of the variance."""
    mean, spread = outputs.split(1, dim=1)
    return (spread + (targets - mean) ** 2 * torch.exp(-spread)).mean() / 2


def density_of_variance(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same of a variance that nothing keeps above zero."""
    mean, variance = outputs.split(1, dim=1)
    spread = variance.sqrt()
    return (spread.log() + ((targets - mean) / spread) ** 2 / 2).mean()


def density_times(outputs: Tensor, targets: Tensor) -> Tensor:
    """With the variance where its inverse belongs."""
    mean, spread = outputs.split(1, dim=1)
    return (-spread + (targets - mean) ** 2 * torch.exp(-spread)).mean() / 2


def mean_r2(x: Tensor, y: Tensor) -> Scorer:
    """R2 of the first output."""
    inner = r2(x, y)
    return Scorer(x, y, lambda out, t: inner.score(out[:, :1], t), 0.0, -1.0)


def progress(loss: Loss = density, raw: bool = False) -> TrainingSetup:
    d = posted_data.patients().standardized()
    d = d if raw else d.targets_standardized()
    model = mlp(10, 16, 2, act=nn.Tanh)
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.1)
    return setup(d, model, loss, optimizer, 16, 25, mean_r2(d.tx, d.ty))


PROGRESS = group(
    "progress-density",
    progress,
    fault(
        "variance-below-zero",
        "loss output-activation optimizer-numerics",
        loss=density_of_variance,
        answers={"remedy": ("formula", "softplus of the variance")},
    ),
    fault("rewards-variance", "loss", loss=density_times, answers={"remedy": ("formula", "plus")}),
    fault(
        "raw-progress",
        "target-scale",
        raw=True,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Wines of which few are labeled: the others have the label -100


def over_labels(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the labeled ones; 0 for a batch without any."""
    mask = (targets >= 0).float()
    each = F.cross_entropy(outputs, targets.clamp(min=0), reduction="none")
    return (each * mask).sum() / mask.sum().clamp(min=1)


def over_flags(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same without the clamp."""
    mask = (targets >= 0).float()
    each = F.cross_entropy(outputs, targets.clamp(min=0), reduction="none")
    return (each * mask).sum() / mask.sum()


def over_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    """Divided by the sum of the class numbers, not by how many there are."""
    mask = (targets >= 0).float()
    each = F.cross_entropy(outputs, targets.clamp(min=0), reduction="none")
    return (each * mask).sum() / (targets * mask).sum()


def few_labels(loss: Loss = over_labels, batch: int = 6) -> TrainingSetup:
    d = posted_data.tasted_wines(classes=True).standardized()
    scorer = accuracy(d.tx, d.ty)
    gaps = torch.rand(len(d.y), generator=torch.Generator().manual_seed(5)) > 0.35
    d = d._replace(y=d.y.masked_fill(gaps, -1))
    model = mlp(13, 12, 3, act=nn.Tanh)
    return setup(d, model, loss, partial(SGD, lr=0.05, momentum=0.5), batch, 12, scorer)


FEW_LABELS = group(
    "few-labels",
    few_labels,
    fault(
        "batches-without-labels",
        "loss batch-size data-degenerate labels",
        loss=over_flags,
        answers={"remedy": ("batch", 32)},
    ),
    fault(
        "divided-by-class-numbers",
        "loss loss-reduction batch-size data-degenerate",
        loss=over_classes,
        answers={"remedy": ("loss", "divided by the number of labels")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Fraud: three in a hundred


def focal(alpha: float, outputs: Tensor, targets: Tensor) -> Tensor:
    """-a (1 - p)^2 log p, a for the rare and 1 - a for the others (Lin et al. 2017)."""
    each = F.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none")
    weight = torch.where(targets > 0.5, alpha, 1 - alpha)
    return (weight * (1 - torch.exp(-each)) ** 2 * each).mean()


def recall(x: Tensor, y: Tensor) -> Scorer:
    inner = mean_recall(x, y.long())
    return Scorer(
        x, y.long(), lambda o, t: inner.score(torch.cat([torch.zeros_like(o), o], 1), t), 0.5
    )


def fraud(
    alpha: float = 0.97, cents: bool = False, lr: float = 0.01, last: Any = None
) -> TrainingSetup:
    d = posted_data.payments()
    if not cents:
        d = d.inputs(lambda x: torch.cat([x[:, :1].log(), x[:, 1:]], 1)).standardized()
    model = mlp(6, 12, 1, act=nn.Mish, last=last() if last else None)
    loss = partial(focal, alpha)
    return setup(d, model, loss, partial(Adam, lr=lr), 64, 8, recall(d.tx, d.ty))


FRAUD = group(
    "payments",
    fraud,
    fault(
        "weights-swapped", "imbalance loss", alpha=0.03, answers={"remedy": ("loss", "weight 0.97")}
    ),
    fault(
        "cents-rate-and-sigmoid",
        "input-scale learning-rate-high output-activation imbalance loss saturation dead-units",
        alpha=0.5,
        cents=True,
        lr=1.0,
        last=nn.Sigmoid,
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Facts about digits: several labels, of which several hold


def facts(d: Split) -> Split:
    """Even, prime, at least five, has a ring, is a square, and one that holds for none."""
    rows = torch.tensor(
        [
            [k % 2 == 0, k in (2, 3, 5, 7), k >= 5, k in (0, 6, 8, 9), k in (0, 1, 4, 9), False]
            for k in range(10)
        ]
    ).float()
    return d.targets(lambda y: rows[y])


def digit_facts(
    last: Callable[[], nn.Module] | None = None, loss: Any = None, all_six: bool = False
) -> TrainingSetup:
    d = facts(posted_data.pixels()).inputs(lambda x: x / 16)
    labels = 6 if all_six else 5
    d = d.targets(lambda y: y[:, :labels])
    if loss is None:
        held = d.y.sum(0)
        loss = nn.BCEWithLogitsLoss(pos_weight=(len(d.y) - held) / held)
    model = mlp(64, 40, labels, last=last() if last else None)
    cut = 0.5 if last else 0.0
    return setup(d, model, loss, partial(Adam, lr=6e-3), 32, 24, micro_f1(d.tx, d.ty, cut))


FACTS = group(
    "digit-labels",
    digit_facts,
    fault(
        "softmax-and-squares",
        "output-activation loss",
        last=partial(nn.Softmax, dim=1),
        loss=nn.MSELoss(),
        answers={"where": "3", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    fault(
        "softmax-and-entropy",
        "output-activation loss",
        last=partial(nn.Softmax, dim=1),
        loss=nn.BCELoss(),
        answers={"where": "3", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    fault(
        "weight-of-a-fact-that-never-holds",
        "loss data-degenerate imbalance",
        all_six=True,
        answers={"exact": True, "remedy": ("loss", "a finite weight")},
    ),
    family="table",
    task="multi-label",
    network="mlp",
)

SCRIPTS = (*GLASS, *MARGINS, *MASSES, *WIDTHS, *PROGRESS, *FEW_LABELS, *FRAUD, *FACTS)
