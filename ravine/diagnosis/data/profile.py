"""What is to be known of examples before a network sees them: measured once, kept as plain numbers
for the rules.

Shapes: N examples, F columns, T places in a sequence, K outputs. Nothing is drawn from torch's
generators.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from ravine.diagnosis.baseline_learners import (
    Array,
    Reference,
    evenly,
    measured,
    plain,
    ranks,
    reference,
    tokens,
)

SAMPLE = 4000  # examples for what is costly
HASHED = 200_000_000  # bytes of inputs that are compared for copies
MOST_COLUMNS = 500  # for what is costly
NAMED = 1000  # columns whose figures are kept
IGNORED = -100  # a target that cross_entropy leaves out
NEARLY = (
    0.05  # of the distance between classes: a column that spreads no more within them is their name
)
FAITHFUL = 1e-3  # of a number's variance: a column that leaves no more of it open is the number
BEYOND = 8.0  # standard errors (of which chance takes 1.4): another pairing is beyond doubt
PAIRINGS = (1, -1, 0)  # rows by which targets may have slipped; 0: turned around


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Numbers that are not finite in a column of the inputs or targets."""

    where: str
    nans: int
    infinities: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Where numbers lie. Lists are by column, at most a thousand of them; columns that are constant
    count nowhere else.

    `steepest` is the largest eigenvalue of E[x x^T], which limits the learning rate of a first
    layer (gradient descent on a quadratic needs lr < 2 / eigenvalue); `even` is the same after
    standardizing, `centered` after taking off the means alone. `flattest` is the smallest variance
    of a column.
    """

    columns: int
    low: float
    high: float
    mean: float
    std: float  # of all numbers together
    means: tuple[float, ...] = ()
    stds: tuple[float, ...] = ()
    constant: tuple[str, ...] = ()
    offset: float = 0.0  # largest |mean| / spread of a column
    offset_median: float = 0.0
    widest: float = 0.0  # largest spread of a column
    narrowest: float = 0.0  # smallest
    widest_name: str = ""
    narrowest_name: str = ""
    offset_name: str = ""
    steepest: float = 0.0
    centered: float = 0.0
    even: float = 0.0

    @property
    def flattest(self) -> float:
        return self.narrowest**2

    @property
    def ratio(self) -> float:
        """Of the largest spread of a column to the smallest."""
        return self.widest / self.narrowest if self.narrowest > 0 else math.inf

    @property
    def steeper(self) -> float:
        """How many times steeper a first layer's loss is than with standardized inputs; below 1
        flatter.
        """
        return self.steepest / self.even if self.even > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Examples that occur more than once. `natural`: values are so few that equal rows are to be
    expected.

    `overlap` counts validation examples that are training examples, too, inputs and targets;
    `inputs_overlap` inputs alone. `expected` is how many chance would give if both came from where
    these come from.
    """

    compared: int
    distinct: int
    largest: int  # how often the commonest input occurs
    natural: bool
    contradicted: int  # copies of an input with another target than the first
    validation: int = 0
    overlap: int = 0
    inputs_overlap: int = 0
    expected: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GivenAway:
    """A column that alone is the target. `alone` and `rest` are accuracy or R2, of it and of all
    other columns.
    """

    where: str
    alone: float
    rest: float
    null: float
    rest_informative: bool


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Validation inputs beside training inputs, in units of the training columns' spread. All
    medians are over columns.

    `shift` is the median distance of the middles and `stretch` the median ratio of the spreads
    (quartiles where they differ); `sure` says by how many standard errors the surest column moved.
    """

    shift: float
    stretch: float
    farthest: float
    farthest_name: str
    sure: float
    median_sure: float
    rows: int
    columns: (
        float  # how many there are in effect: all, if none goes with another; 1, if all go together
    )


@dataclass(frozen=True, kw_only=True)
class Order:
    """How alike neighbors are: `purity` is the mean share of the commonest class in a batch (of
    numbers: 1 - variance within batches / variance), `chance` the same after shuffling, `sorted`
    whether targets only ever rise or fall.
    """

    batch: int
    purity: float
    chance: float
    sorted: bool


@dataclass(frozen=True, kw_only=True)
class Slipped:
    """A pairing of inputs with the targets of other rows that is informative where the given one is
    not.
    """

    by: int  # rows; 0: the targets stand in the opposite order
    signal: float
    given: float
    score: float
    null_score: float


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What was measured of examples. `layout` is table, pictures, signals or tokens; `kind` what
    the targets are:

    classes (one of several), binary (two, one output), labels (several yes and no), number,
    numbers, tokens (a class for each place), next (the token that follows), inputs (the inputs
    themselves). `counts` are examples by class.
    """

    rows: int
    shape: tuple[int, ...]
    layout: str
    kind: str
    target_shape: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    shuffled: bool = True
    broken: tuple[Broken, ...] = ()
    inputs: Spread | None = None  # None for tokens
    targets: Spread | None = None  # None for classes
    counts: Mapping[int, int] = field(default_factory=dict)  # of classes; of labels by label
    validation_counts: Mapping[int, int] = field(default_factory=dict)
    validation_rows: int | None = None
    validation_targets: Spread | None = None
    outside: float = 0.0  # share of validation targets outside the range of training targets
    below_classes: int = 0  # targets below 0
    beyond_classes: int = 0  # targets at or above the number of outputs
    copies: Copies | None = None
    given_away: tuple[GivenAway, ...] = ()
    same: float = 0.0  # share of target tokens that are the input token at the same place
    ahead: float = 0.0  # that are the input token one place later
    behind: float = 0.0  # one place earlier
    drift: Drift | None = None
    order: Order | None = None
    reference: Reference | None = None
    slipped: Slipped | None = None
    validation_reference: Reference | None = (
        None  # learned from validation examples, where training ones tell nothing
    )

    def has(self, need: str) -> bool | None:
        """Whether it was measured: "inputs", "columns" (None: no table), "numbers" (the inputs are
        numbers), "values" (the targets are), "classes", "labels" (classes whose number of outputs
        is known), "validation", "order" (None: it does not matter), "sequences" (tokens in and
        out), "reference", "copies"."""
        classes = True if self.kind in ("classes", "binary", "tokens", "next") else None
        return {
            "inputs": True,
            "columns": True if self.layout == "table" and len(self.shape) == 1 else None,
            "numbers": None if self.layout == "tokens" else self.inputs is not None,
            "values": None if self.kind not in ("number", "numbers") else self.targets is not None,
            "classes": classes,
            "labels": None if classes is None else bool(self.outputs) and bool(self.counts),
            "validation": None if self.validation_rows is None else self.validation_rows > 0,
            "order": None if self.shuffled or self.order is None else True,
            "sequences": True
            if self.layout == "tokens" and self.kind in ("tokens", "next")
            else None,
            "reference": None if self.kind == "inputs" else self.reference is not None,
            "copies": self.copies is not None,
        }[need]

    @property
    def evenness(self) -> float:
        """(exp H - 1) / (K - 1) of the classes: 1 if all are as frequent, 0 if there is one."""
        return evenness(self.counts)


def read_examples(
    inputs: Tensor,
    targets: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    names: Sequence[str] = (),
    shuffled: bool = True,
    batch: int = 32,
    outputs: tuple[int, ...] = (),
    seed: int = 0,
) -> Examples:
    """Measure examples: inputs [N, F], [N, T, F], pictures [N, C, H, W] or tokens [N, T], and their
    targets.

    `names` are of the columns; `shuffled` says whether training draws a new order; `outputs` is the
    shape of what the model says of one example, () if unknown. What is costly is measured on at
    most 4,000 examples, spread evenly.

    >>> import torch
    >>> x = torch.arange(12.0).reshape(6, 2)
    >>> found = read_examples(x, torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> found.kind, found.layout, dict(found.counts), round(found.inputs.offset, 2)
    ('classes', 'table', {0: 3, 1: 3}, 1.76)
    """
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(
            f"{len(inputs)} inputs and {len(targets)} targets; give one target for each input"
        )
    x, y = plain(inputs), plain(targets)
    layout, kind = layout_of(x), kind_of(x, y, outputs)
    at = named(names, x.shape[1:], layout)
    chosen = evenly(len(x), SAMPLE)
    found = Examples(
        rows=len(x),
        shape=x.shape[1:],
        layout=layout,
        kind=kind,
        target_shape=y.shape[1:],
        outputs=outputs,
        shuffled=shuffled,
        broken=(*broken(x, at), *broken(y, {}, of="target")),
        inputs=None if layout == "tokens" else spread(x[chosen], at, by_channel=x.ndim > 2),
        targets=spread(y, {}) if kind in ("number", "numbers", "inputs", "labels") else None,
        counts=counted(y, kind),
        copies=copied(x, y, validation),
    )
    found = _classes_told(found, y)
    if validation is not None and len(validation[0]):
        found = _with_validation(
            found, x[chosen], y, plain(validation[0]), plain(validation[1]), at
        )
    if layout == "tokens" and y.shape == x.shape and y.dtype.kind in "iu":
        found = replace(
            found,
            same=float((y == x).mean()),
            ahead=_equal(y[:, :-1], x[:, 1:]),
            behind=_equal(y[:, 1:], x[:, :-1]),
        )
    if not shuffled and 2 * batch <= len(x):
        found = replace(found, order=ordered(y, kind, batch, seed))
    found = _with_reference(found, inputs, targets, x, y, at, seed)
    return _beside_validation(found, validation, seed)


def layout_of(x: Array) -> str:
    if tokens(x) and x.shape[1] > 1:
        return "tokens"
    return {0: "table", 1: "table", 2: "table", 3: "signals"}.get(x.ndim, "pictures")


def kind_of(x: Array, y: Array, outputs: tuple[int, ...] = ()) -> str:
    """What targets are, by their type, shape and values; see `Examples`."""
    one = y.ndim == 1 or y.shape[1:] == (1,)
    if y.shape == x.shape and y.ndim > 1 and y.dtype.kind == "f" and _alike(x, y):
        return "inputs"
    if y.dtype.kind in "iub":
        if one:
            return "binary" if outputs in ((1,),) and len(np.unique(y)) <= 2 else "classes"
        if y.ndim == 2 and y.shape[1:] == x.shape[1:2] and tokens(x):
            return "next" if y.shape[1] > 2 and _follows(x, y) else "tokens"
        binary = y.ndim == 2 and y.min() >= 0 and y.max() <= 1
        return ("classes" if (y.sum(1) == 1).all() else "labels") if binary else "tokens"
    values = np.unique(y[evenly(len(y), SAMPLE)])
    two = len(values) == 2 and tuple(values) in ((0.0, 1.0), (-1.0, 1.0))
    if one:
        return "binary" if two else "number"
    if two and values[0] == 0 and y.ndim == 2:
        return "classes" if (y.sum(1) == 1).all() else "labels"
    return "numbers"


def named(names: Sequence[str], shape: tuple[int, ...], layout: str) -> Mapping[int, str]:
    """Names of columns by place, as far as they are known."""
    return dict(enumerate(names)) if layout == "table" and shape == (len(names),) else {}


def name_of(at: Mapping[int, str], place: int, of: str = "column") -> str:
    return at.get(place, f"{of} {place}")


def broken(x: Array, at: Mapping[int, str], of: str = "column") -> tuple[Broken, ...]:
    """The columns of numbers that are not finite; pictures and signals count as one column."""
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return ()
    nan: Array = np.isnan(x.reshape(len(x), -1))
    infinite: Array = np.isinf(x.reshape(len(x), -1))
    if x.ndim > 2:
        nan, infinite = np.asarray(nan.any(1))[:, None], np.asarray(infinite.any(1))[:, None]
    places = np.nonzero((nan | infinite).any(axis=0))[0]
    whole = "" if nan.shape[1] > 1 or at else "inputs" if of == "column" else of
    return tuple(
        Broken(
            where=whole or name_of(at, int(p), of),
            nans=int(nan[:, p].sum()),
            infinities=int(infinite[:, p].sum()),
            rows=int((nan | infinite)[:, p].sum()),
        )
        for p in places
    )


def spread(x: Array, at: Mapping[int, str], *, by_channel: bool = False) -> Spread | None:
    """Where numbers lie; None if none is finite. Numbers that are not finite are left out."""
    flat = x.reshape(len(x), -1)
    flat = flat[:, evenly(flat.shape[1], NAMED)].astype(float)
    flat = np.where(np.isfinite(flat), flat, np.nan)
    if np.isnan(flat).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any number
        means, stds = np.nanmean(flat, 0), np.nanstd(flat, 0)
        low, high = float(np.nanmin(flat)), float(np.nanmax(flat))
        mean, std = float(np.nanmean(flat)), float(np.nanstd(flat))
    means, stds = np.nan_to_num(means), np.nan_to_num(stds)
    varied = stds > 1e-7 * np.maximum(np.abs(means), 1e-30)
    constant = tuple(name_of(at, int(p)) for p in np.nonzero(~varied)[0]) if not by_channel else ()
    found = Spread(
        columns=len(means),
        low=low,
        high=high,
        mean=mean,
        std=std,
        means=tuple(means.tolist()),
        stds=tuple(stds.tolist()),
        constant=constant,
    )
    if not varied.any():
        return found
    places, m, s = np.nonzero(varied)[0], means[varied], stds[varied]
    offsets = np.abs(m) / s
    few = evenly(len(places), MOST_COLUMNS)
    part = np.where(np.isnan(flat), means, flat)[:, places[few]]
    centered = part - m[few]
    standard = centered / s[few]
    return replace(
        found,
        offset=float(offsets.max()),
        offset_median=float(np.median(offsets)),
        widest=float(s.max()),
        narrowest=float(s.min()),
        widest_name=name_of(at, int(places[s.argmax()])),
        narrowest_name=name_of(at, int(places[s.argmin()])),
        offset_name=name_of(at, int(places[offsets.argmax()])),
        steepest=_largest(part),
        centered=_largest(centered),
        even=_largest(standard),
    )


def _largest(part: Array) -> float:
    """The largest eigenvalue of E[x x^T]."""
    return float(np.linalg.eigvalsh(part.T @ part / len(part))[-1])


def counted(y: Array, kind: str) -> dict[int, int]:
    """Examples by class, of labels by label; one-hot targets are counted as classes. Targets to be
    ignored are not.
    """
    if kind == "labels" or (kind == "classes" and y.ndim == 2 and y.shape[1] > 1):
        return dict(enumerate(int(count) for count in (y > 0.5).sum(0)))
    if kind not in ("classes", "binary", "tokens", "next"):
        return {}
    values, counts = np.unique(y[y != IGNORED], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def evenness(counts: Mapping[int, int]) -> float:
    """(exp H - 1) / (K - 1) over the classes that occur; 1 if all are as frequent, 0 with one
    class.

    >>> evenness({0: 50, 1: 50}), round(evenness({0: 99, 1: 1}), 3)
    (1.0, 0.058)
    """
    share = np.array([count for count in counts.values() if count > 0], float)
    if len(share) < 2:
        return 0.0
    share /= share.sum()
    return float(np.round((math.exp(-(share * np.log(share)).sum()) - 1) / (len(share) - 1), 12))


def copied(x: Array, y: Array, validation: tuple[Tensor, Tensor] | None) -> Copies | None:
    """Examples that occur more than once, by their bytes."""
    most = max(100, HASHED // max(1, x[0].nbytes))
    kept = evenly(len(x), most)
    rows, answers = _bytes(x[kept]), _bytes(y[kept])
    first: dict[bytes, bytes] = {}
    counts: dict[bytes, int] = {}
    contradicted = 0
    for row, answer in zip(rows, answers, strict=True):
        contradicted += first.setdefault(row, answer) != answer
        counts[row] = counts.get(row, 0) + 1
    natural = not measured(x[evenly(len(x), SAMPLE)].reshape(min(len(x), SAMPLE), -1))
    found = Copies(
        compared=len(rows),
        distinct=len(counts),
        largest=max(counts.values()),
        natural=natural,
        contradicted=contradicted,
    )
    if validation is None or not len(validation[0]):
        return found
    vx, vy = plain(validation[0]), plain(validation[1])
    if vx.shape[1:] != x.shape[1:] or vx.dtype != x.dtype:
        return found
    some = evenly(len(vx), most)
    new, new_answers = _bytes(vx[some]), _bytes(vy[some])
    known = set(zip(rows, answers, strict=True))
    overlap = sum(pair in known for pair in zip(new, new_answers, strict=True))
    expected = 0.0
    if natural:  # any training row is as likely to be among the others as a new one is
        twins = sum(count for count in counts.values() if count > 1) / len(rows)
        among = {row: new.count(row) for row in set(new)} if len(set(new)) < 50 else _tally(new)
        pairs = sum(count * (count - 1) for count in among.values()) / max(
            1, len(new) * (len(new) - 1)
        )
        expected = len(new) * max(twins, 1 - (1 - pairs) ** len(rows))
    return replace(
        found,
        validation=len(new),
        overlap=overlap,
        inputs_overlap=sum(row in counts for row in new),
        expected=float(expected),
    )


def _tally(rows: Sequence[bytes]) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for row in rows:
        counts[row] = counts.get(row, 0) + 1
    return counts


def _bytes(x: Array) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(x).reshape(len(x), -1)]


def ordered(y: Array, kind: str, batch: int, seed: int) -> Order | None:
    """How alike the targets of a batch are when examples come as they stand; None for targets by
    place or label.
    """
    answers = _single(y, kind)
    batch = max(2, batch)
    if answers is None or len(y) < 20:
        return None
    shuffled = np.random.default_rng(seed).permutation(answers)
    steps = np.diff(answers)
    return Order(
        batch=batch,
        purity=_purity(answers, batch, kind),
        chance=_purity(shuffled, batch, kind),
        sorted=bool((steps >= 0).all() or (steps <= 0).all()) and bool((steps != 0).any()),
    )


def _single(y: Array, kind: str) -> Array | None:
    """One number for each example: its class or value."""
    if kind == "classes" and y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(1)
    if kind in ("classes", "binary", "number") and y.size == len(y):
        return y.reshape(-1)
    return None


def _purity(answers: Array, batch: int, kind: str) -> float:
    batches = [answers[i : i + batch] for i in range(0, len(answers) - batch + 1, batch)]
    if kind == "number":
        whole = float(np.nanvar(answers))
        return (
            1 - float(np.mean([np.nanvar(each) for each in batches])) / whole if whole > 0 else 0.0
        )
    return float(
        np.mean([np.unique(each, return_counts=True)[1].max() / batch for each in batches])
    )


def drifted(x: Array, new: Array, at: Mapping[int, str]) -> Drift | None:
    """Columns of validation inputs beside those of training; None with under 20 rows or other
    columns.
    """
    if x.shape[1:] != new.shape[1:] or len(new) < 20 or len(x) < 20 or x.dtype.kind not in "fiub":
        return None
    new = new[evenly(len(new), SAMPLE)]
    places = evenly(int(np.prod(x.shape[1:], dtype=int)), MOST_COLUMNS)
    a, b = (each.reshape(len(each), -1)[:, places].astype(float) for each in (x, new))
    a, b = a[np.isfinite(a).all(1)], b[np.isfinite(b).all(1)]
    if len(a) < 20 or len(b) < 20:
        return None
    spreads, new_spreads = _quartiles(a), _quartiles(b)
    plain_a, plain_b = a.std(0), b.std(0)
    use = (spreads > 0) & (new_spreads > 0)
    spreads, new_spreads = np.where(use, spreads, plain_a), np.where(use, new_spreads, plain_b)
    varied = spreads > 1e-7 * np.maximum(np.abs(a).max(0), 1e-30)
    if not varied.any():
        return None
    middles, new_middles = (np.where(use, np.median(each, 0), each.mean(0)) for each in (a, b))
    shifts = ((new_middles - middles) / np.where(varied, spreads, 1))[varied]
    stretches = (new_spreads / np.where(varied, spreads, 1))[varied]
    error = np.sqrt(plain_a[varied] ** 2 / len(a) + plain_b[varied] ** 2 / len(b))
    z = np.abs(a.mean(0) - b.mean(0))[varied] / np.maximum(error, 1e-30)
    far = int(np.abs(shifts).argmax())
    return Drift(
        shift=float(np.median(np.abs(shifts))),
        stretch=float(np.median(stretches)),
        farthest=float(shifts[far]),
        farthest_name=name_of(at, int(places[np.nonzero(varied)[0][far]])),
        sure=float(z.max()),
        median_sure=float(np.median(z)),
        rows=len(b),
        columns=_in_effect(a[:, varied & (plain_a > 0)]),
    )


def _in_effect(x: Array) -> float:
    """(sum of eigenvalues)^2 / sum of their squares, of the columns' correlations."""
    standard = (x - x.mean(0)) / x.std(0)
    correlations = standard.T @ standard / len(x)
    return (
        float(np.trace(correlations) ** 2 / (correlations**2).sum()) if correlations.size else 0.0
    )


def _quartiles(x: Array) -> Array:
    """The distance of the quartiles, in units in which a normal's is its SD."""
    low, high = np.quantile(x, (0.25, 0.75), axis=0)
    return (high - low) / 1.349


def given_away(
    x: Array, y: Array, kind: str, at: Mapping[int, str], seed: int
) -> tuple[GivenAway, ...]:
    """Columns that alone are the target: a number that the column is but for a scale (or a monotone
    function), or two classes and more that it keeps apart by far more than it spreads within
    them."""
    answers = _single(y, kind)
    if (
        answers is None
        or x.ndim != 2
        or not 3 <= x.shape[1]
        or len(x) < 50
        or x.dtype.kind not in "fiub"
    ):
        return ()
    flat, answers = x.astype(float), answers.astype(float)
    known = np.isfinite(flat).all(1) & np.isfinite(answers)
    flat, answers = flat[known], answers[known]
    if len(flat) < 50 or not answers.std() > 0:
        return ()
    alone = _number_alone(flat, answers) if kind == "number" else _class_alone(flat, answers)
    places = np.nonzero(alone > 0)[0]
    if not len(places) or len(places) > flat.shape[1] // 2:  # most columns tell: a toy, no leak
        return ()
    rest = np.delete(flat, places, 1)
    other = _answered(rest, answers, "number" if kind == "number" else "classes", seed)
    if other is None:
        return ()
    return tuple(
        GivenAway(
            where=name_of(at, int(p)),
            alone=float(alone[p]),
            rest=other.score,
            null=other.null_score,
            rest_informative=bool(other.informative),
        )
        for p in places
    )


def _number_alone(x: Array, y: Array) -> Array:
    """R2 of a straight line through each column, of values or of ranks; 0 where it leaves more than
    a thousandth.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        straight, monotone = _correlated(x, y), _correlated(ranks(x), ranks(y[:, None])[:, 0])
    best = np.maximum(np.nan_to_num(straight) ** 2, np.nan_to_num(monotone) ** 2)
    return np.where(best >= 1 - FAITHFUL, best, 0.0)


def _correlated(x: Array, y: Array) -> Array:
    x, y = x - x.mean(0), y - y.mean()
    return (x * y[:, None]).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum())


def _class_alone(x: Array, y: Array) -> Array:
    """Accuracy by the nearest class mean of each column; 0 where the column spreads more than a
    twentieth of the distance between classes within them, or errs more than once in 200."""
    names = np.unique(y)
    if len(names) > 50:
        return np.zeros(x.shape[1])
    middles = np.stack([x[y == name].mean(0) for name in names])  # [K, F]
    within = np.stack(
        [np.median(np.abs(x[y == name] - middles[k]), 0) for k, name in enumerate(names)]
    ).max(0)
    apart = np.diff(np.sort(middles, 0), axis=0).min(0)
    right = np.zeros(x.shape[1])
    for place in np.nonzero((within <= NEARLY * apart) & (apart > 0))[0]:
        nearest = np.abs(x[:, place, None] - middles[None, :, place]).argmin(1)
        right[place] = (names[nearest] == y).mean()
    return np.where(right >= 0.995, right, 0.0)


def _answered(x: Array, y: Array, kind: str, seed: int, most: int = 800) -> Reference | None:
    return reference(Tensor(x), Tensor(y), kind, seed=seed, most=most) if x.size else None


def slipped(
    inputs: Tensor, targets: Tensor, kind: str, given: Reference, seed: int
) -> Slipped | None:
    """The pairing with other rows' targets that is surest, if it is beyond doubt; asked where the
    given one is not.
    """
    best: Slipped | None = None
    for by in PAIRINGS:
        if by:
            x, y = (inputs[:-by], targets[by:]) if by > 0 else (inputs[-by:], targets[:by])
        else:
            x, y = inputs, targets.flip(0)
        found = reference(x, y, kind, seed=seed, most=400, learners=("linear", "trees"))
        if found is not None and found.signal > max(BEYOND, best.signal if best else 0.0):
            best = Slipped(
                by=by,
                signal=found.signal,
                given=given.signal,
                score=found.score,
                null_score=found.null_score,
            )
    return best


def _classes_told(found: Examples, y: Array) -> Examples:
    """How many targets have no output, where outputs are as many as classes may be."""
    if (
        found.kind not in ("classes", "tokens", "next")
        or y.dtype.kind not in "iu"
        or not found.outputs
    ):
        return found
    if found.kind == "classes" and y.ndim > 1 and y.shape[1] > 1:
        return found
    places = (
        found.kind != "classes" and len(found.outputs) > 1
    )  # outputs [T, K] of one example, or [K, T]
    classes = list(found.outputs)[-1 if places else 0]
    if classes < 2 or (places and found.outputs[:1] != found.target_shape[:1]):
        return found
    told = y[y != IGNORED]
    return replace(
        found, below_classes=int((told < 0).sum()), beyond_classes=int((told >= classes).sum())
    )


def _with_validation(
    found: Examples, x: Array, y: Array, vx: Array, vy: Array, at: Mapping[int, str]
) -> Examples:
    found = replace(found, validation_rows=len(vx), validation_counts=counted(vy, found.kind))
    if found.layout != "tokens":
        found = replace(found, drift=drifted(x, vx, at))
    if found.kind in ("number", "numbers") and vy.shape[1:] == y.shape[1:]:
        lows, highs = np.nanmin(y, 0), np.nanmax(y, 0)
        room = 0.1 * (highs - lows)
        outside = float(((vy < lows - room) | (vy > highs + room)).mean())
        found = replace(found, validation_targets=spread(vy, {}), outside=outside)
    return found


def _with_reference(
    found: Examples,
    inputs: Tensor,
    targets: Tensor,
    x: Array,
    y: Array,
    at: Mapping[int, str],
    seed: int,
) -> Examples:
    if found.layout == "table" and x.ndim == 2:
        chosen = evenly(len(x), SAMPLE)
        found = replace(found, given_away=given_away(x[chosen], y[chosen], found.kind, at, seed))
    kind = "tokens" if found.kind == "next" else found.kind
    best = reference(inputs, targets, kind, seed=seed)
    if best is None:
        return found
    found = replace(found, reference=best)
    return (
        replace(found, slipped=slipped(inputs, targets, kind, best, seed))
        if best.informative is False
        else found
    )


def _beside_validation(
    found: Examples, validation: tuple[Tensor, Tensor] | None, seed: int
) -> Examples:
    """Whether validation examples tell what training examples do not."""
    known = found.reference
    if (
        validation is None
        or known is None
        or known.informative is not False
        or found.slipped is not None
    ):
        return found
    kind = "tokens" if found.kind == "next" else found.kind
    return replace(
        found,
        validation_reference=reference(*validation, kind, seed=seed, most=min(known.examples, 600)),
    )


def _alike(x: Array, y: Array) -> bool:
    """Whether targets are the inputs, but for a scale or for some places."""
    a, b = (
        each[evenly(len(each), 500)].reshape(min(len(each), 500), -1).astype(float)
        for each in (x, y)
    )
    if a.shape[1] < 2 or a.std() == 0:
        return False
    if float((a == b)[a != 0].mean()) > 0.5:
        return True
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    return len(a) > 1 and a.std() > 0 and b.std() > 0 and float(np.corrcoef(a, b)[0, 1]) > 0.999


def _equal(a: Array, b: Array) -> float:
    return float((a == b).mean()) if a.size else 0.0


def _follows(x: Array, y: Array) -> bool:
    """Whether targets are the inputs, one place later (but for those that are ignored)."""
    known = y[:, :-1] != IGNORED
    return bool(known.any()) and float((y[:, :-1] == x[:, 1:])[known].mean()) > 0.95
