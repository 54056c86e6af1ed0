"""The curvature of the loss around the weights, for all networks of a cohort at once.

The losses of P networks are added up before they are differentiated. No loss depends on another
network's weights, so the Hessian of the sum has a block for each network and nothing beside the
blocks: one product with a vector gives all P products, each with its network's own Hessian.

Letters: P networks, W weights of one, H [P, W, W] the Hessians, K steps of Lanczos, θ a Ritz value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ravine.argument_checks import Count, Seed, check_arguments
from ravine.errors import InputError
from ravine.layout import Column, Layout, Rows, Slot, row_dot, row_norm
from ravine.protocols import Batch, ForwardContext, Loss, LossAndGradient
from ravine.rng import stream

Product: TypeAlias = Callable[[Rows], Rows]  # of each network's symmetric matrix with its row
MAX_HESSIAN_WIDTH = 5_000  # weights; a Hessian of so many takes 200 MB a network in float64
# of the largest entry of T: a direction this short is rounding, and Lanczos begins a new one
BREAKDOWN_RATIO = 1e-12


@dataclass(frozen=True)
class Objective:
    """The loss [P, 1] on examples that do not change, as a function of the weights [P, W].

    `losses` takes the weights by the names of `layout` ([P, *shape]) and must not mix networks.

    >>> bowl = Objective.of_rows(lambda rows: 0.5 * (rows**2).sum(1, keepdim=True), width=2)
    >>> bowl.value_and_grad(torch.tensor([[3.0, 4.0]])).losses
    tensor([[12.5000]])
    >>> bowl.at(torch.tensor([[3.0, 4.0]])).product(torch.tensor([[1.0, 0.0]]))
    tensor([[1., 0.]])
    """

    losses: Callable[[Mapping[str, Tensor]], Column]
    layout: Layout

    @classmethod
    def of_rows(cls, function: Callable[[Rows], Tensor], *, width: int) -> Objective:
        """Of a function of the whole row that gives [P] or [P, 1]: a surface, a quadratic."""

        def losses(tensors: Mapping[str, Tensor]) -> Column:
            return function(tensors["point"]).reshape(-1, 1)

        return cls(losses, Layout((Slot(name="point", shape=(width,)),)))

    @classmethod
    def of_program(
        cls,
        program: Any,
        loss: Loss,
        batch: Batch,
        *,
        buffers: Mapping[str, Tensor] | None = None,
        context: ForwardContext | None = None,
        more: Callable[[Rows], Column] | None = None,
    ) -> Objective:
        """Of a network's program: its mean weighted loss over a batch, plus `more(rows)`.

        Without `context` as at test time: no dropout, batch norms use their running statistics
        (`buffers`, copied at each call so that nothing is written to them).
        """
        context = context or ForwardContext(training=False)
        kept = {name: value.clone() for name, value in (buffers or {}).items()}
        assert batch.targets is not None

        def losses(tensors: Mapping[str, Tensor]) -> Column:
            networks = next(iter(tensors.values())).shape[0]
            fresh = {n: v.clone() for n, v in kept.items()} if context.training else kept
            here = replace(context, buffers=fresh, meter=None, layer_outputs=None)
            outputs = program(dict(tensors), batch, here)
            found = losses_of(loss, outputs, batch, networks).mean(1, keepdim=True)
            if more is not None:
                flat = [tensors[slot.name].reshape(networks, -1) for slot in program.layout.slots]
                found = found + more(torch.cat(flat, 1))
            return found

        return cls(losses, program.layout)

    def value(self, rows: Rows) -> Column:
        """The losses, [P, 1]."""
        with torch.no_grad():
            return self.losses(self.layout.views(rows))

    def value_and_grad(self, rows: Rows) -> LossAndGradient:
        """The losses [P, 1] and their gradients [P, W]."""
        leaves = _leaves(self.layout, rows)
        losses = self.losses(leaves)
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        return LossAndGradient(losses.detach(), _flat(found, leaves))

    def at(self, rows: Rows) -> Point:
        """The surroundings of some weights; it keeps the graph, so a product is one pass."""
        return Point(self, rows)

    def hessian(self, rows: Rows) -> Tensor:
        """The Hessians [P, W, W], column by column: W products, and P · W² numbers of memory.

        Raises `InputError` above 5,000 weights.
        """
        networks, width = rows.shape
        if width > MAX_HESSIAN_WIDTH:
            gigabytes = networks * width**2 * rows.element_size() / 1e9
            limit = f"{MAX_HESSIAN_WIDTH} weights are the most"
            why = f"{networks} of them take {gigabytes:.0f} GB, and {limit}"
            do = "use products with vectors"
            raise InputError(f"a Hessian of {width} x {width}", why=why, do=do)
        point = self.at(rows)
        found = rows.new_empty(networks, width, width)
        for i in range(width):
            vector = torch.zeros_like(rows)
            vector[:, i] = 1.0
            found[:, i] = point.product(vector)
        return (found + found.transpose(1, 2)) * 0.5  # rounding makes it not quite symmetric


class Point:
    """Each network's loss, gradient and products of its Hessian with vectors, at fixed weights."""

    def __init__(self, objective: Objective, rows: Rows):
        self.rows = rows
        self._leaves = _leaves(objective.layout, rows)
        losses = objective.losses(self._leaves)
        leaves = list(self._leaves.values())
        found = torch.autograd.grad(losses.sum(), leaves, create_graph=True, allow_unused=True)
        # a gradient is constant where the loss is linear
        graph = {i: g for i, g in enumerate(found) if g is not None and g.requires_grad}
        self._places = list(graph)
        self._graph = list(graph.values())
        self.losses: Column = losses.detach()
        self.grads: Rows = _flat([None if g is None else g.detach() for g in found], self._leaves)
        self._layout = objective.layout

    def product(self, vectors: Rows) -> Rows:
        """H v of each network, [P, W]: one pass back through the gradient (Pearlmutter 1994)."""
        if not self._graph:
            return torch.zeros_like(self.rows)
        views = list(self._layout.views(vectors).values())
        chosen = [views[i] for i in self._places]
        found = torch.autograd.grad(
            self._graph, list(self._leaves.values()), chosen, retain_graph=True, allow_unused=True
        )
        return _flat(found, self._leaves)


def losses_of(loss: Loss, outputs: Tensor, batch: Batch, networks: int) -> Tensor:
    """The loss of each example, weighted as the batch says, [P, B]."""
    assert batch.targets is not None
    each = loss.per_example(outputs, batch.targets.expand(networks, *batch.targets.shape[1:]))
    if batch.mixed_targets is not None and batch.mixed_share is not None:
        others = batch.mixed_targets.expand(networks, *batch.mixed_targets.shape[1:])
        each = each + batch.mixed_share * (loss.per_example(outputs, others) - each)
    return each if batch.weights is None else each * batch.weights


def _leaves(layout: Layout, rows: Rows) -> dict[str, Tensor]:
    # separate leaves: the gradient of a slice of one flat leaf is written into a row of zeros
    return {name: view.detach().requires_grad_() for name, view in layout.views(rows).items()}


def _flat(found: Sequence[Tensor | None], leaves: Mapping[str, Tensor]) -> Rows:
    pairs = zip(found, leaves.values(), strict=True)
    parts = [torch.zeros_like(x) if g is None else g for g, x in pairs]
    return torch.cat([p.reshape(p.shape[0], -1) for p in parts], 1)


class Tridiagonal(NamedTuple):
    """What Lanczos found: Qᵀ H Q = T, with `diagonal` [P, K] and `beside` [P, K − 1] next to it.

    `left` [P, 1] is the length of what H Q leaves outside of Q's columns (`basis` [P, K, W]).
    """

    diagonal: Tensor
    beside: Tensor
    left: Column
    basis: Tensor


class Ritz(NamedTuple):
    """Approximate eigenvalues of each network, ascending [P, K], with error bounds.

    `errors` [P, K]: within this distance of θ the matrix has an eigenvalue. `weights` [P, K]: each
    one's share of the starting vector, squared; they add up to 1. Eigenvalues may lie outside the
    Ritz values: the true ends can only be farther out, never farther in.
    """

    values: Tensor
    errors: Tensor
    weights: Tensor

    @property
    def smallest(self) -> Column:
        return self.values[:, :1]

    @property
    def largest(self) -> Column:
        return self.values[:, -1:]


def lanczos(product: Product, start: Rows, *, steps: int) -> Tridiagonal:
    """The Lanczos process with full re-orthogonalization (Golub & Van Loan, ch. 10).

        r = H q_k − α_k q_k − β_{k−1} q_{k−1}    α_k = q_kᵀ H q_k    β_k = |r|     q_{k+1} = r / β_k

    r is made orthogonal to all q before it, twice: without that, rounding brings found eigenvalues
    back as copies. Where a network's r is nothing but rounding (its q span an invariant subspace),
    its next q is a fixed direction made orthogonal, and its β is 0. At most W steps; after W steps
    the Ritz values are the eigenvalues.
    """
    networks, width = start.shape
    steps = min(steps, width)
    basis = start.new_zeros(networks, steps, width)
    diagonal, beside = start.new_zeros(networks, steps), start.new_zeros(networks, steps)
    q = start / row_norm(start)
    size = torch.zeros_like(q[:, :1])
    for k in range(steps):
        basis[:, k] = q
        r = product(q)
        diagonal[:, k] = row_dot(q, r)[:, 0]
        r = _orthogonal(r, basis[:, : k + 1])
        left = row_norm(r)
        size = torch.maximum(size, torch.maximum(diagonal[:, k : k + 1].abs(), left))
        broken = left <= BREAKDOWN_RATIO * size
        fresh = _orthogonal(gaussian(start, k + 1, 1), basis[:, : k + 1])
        beside[:, k] = torch.where(broken, 0.0, left)[:, 0]
        fresh = fresh / row_norm(fresh).clamp_min(1e-30)
        q = torch.where(broken, fresh, r / torch.where(broken, 1.0, left))
    rest = torch.zeros_like(size) if steps == width else beside[:, -1:]
    return Tridiagonal(diagonal, beside[:, :-1], rest, basis)


def ritz(found: Tridiagonal) -> Ritz:
    """Eigenvalues of T, with error bounds |β_K · (last entry of the eigenvector)|.

    A floor of rounding is added to the bounds: W^½ · eps · max |θ|. Weights are the eigenvectors'
    (first entry)². Rows that are not finite give NaN.
    """
    width = found.basis.shape[2]
    beside = found.beside.double()
    t = torch.diag_embed(found.diagonal.double())
    t = t + torch.diag_embed(beside, offset=1) + torch.diag_embed(beside, offset=-1)
    values, vectors = eigh(t)
    eps = torch.finfo(found.diagonal.dtype).eps
    floor = math.sqrt(width) * eps * values.abs().amax(1, keepdim=True)
    errors = (found.left.double() * vectors[:, -1]).abs() + floor
    return Ritz(values, errors, vectors[:, 0].square())


def ends(point: Point, *, steps: Count = 30, seed: Seed = 0) -> Ritz:
    """Ritz values of each network's Hessian: the ends of its spectrum, with error bounds.

    About 10 products give the largest eigenvalue, 20 to 30 both ends; `steps` ≥ W gives all.
    """
    check_arguments(ends, locals())
    return ritz(lanczos(point.product, gaussian(point.rows, seed), steps=steps))


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [P, N], ascending, and eigenvectors [P, N, N] in columns.

    NaN where a matrix is not finite; torch refuses the whole batch for one such matrix.
    """
    fine = matrices.isfinite().all(2).all(1).view(-1, 1, 1)
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    values, vectors = torch.linalg.eigh(torch.where(fine, matrices, identity))
    return torch.where(fine[:, 0], values, torch.nan), torch.where(fine, vectors, torch.nan)


def gaussian(rows: Rows, seed: int, index: int = 0) -> Rows:
    """One direction for all networks, [P, W], from the stream (seed, "probe")."""
    generator = stream(seed, "probe", index)
    drawn = torch.randn(1, rows.shape[1], generator=generator, dtype=torch.float64)
    return drawn.to(rows).expand_as(rows).clone()


def signs(rows: Rows, seed: int, index: int = 0) -> Rows:
    """Entries of −1 and 1, the same for all networks, [P, W]."""
    drawn = torch.randint(2, (1, rows.shape[1]), generator=stream(seed, "signs", index)) * 2 - 1
    return drawn.to(rows).expand_as(rows).clone()


def _orthogonal(r: Rows, basis: Tensor) -> Rows:
    for _ in range(2):
        r = r - torch.einsum("pkw,pk->pw", basis, torch.einsum("pkw,pw->pk", basis, r))
    return r


def condition(values: Tensor, *, above: float = 1e-6) -> Column:
    """The condition number [P, 1]: largest / smallest |eigenvalue| above `above` · the largest.

    Smaller ones count as 0: directions in which the loss is flat (dead units, symmetries) would
    make it infinite. From Ritz values it is a lower bound. NaN where there is no eigenvalue but 0.

    >>> condition(torch.tensor([[1.0, 20.0], [0.0, 2.0]])).flatten().tolist()
    [20.0, 1.0]
    """
    check_arguments(condition, locals())
    size = values.abs()
    largest = size.amax(1, keepdim=True)
    smallest = torch.where(size > above * largest, size, torch.inf).amin(1, keepdim=True)
    return torch.where(largest > 0, largest / smallest, torch.nan)


class Estimate(NamedTuple):
    """A mean over independent draws and its standard error, [P, 1] each."""

    value: Column
    error: Column


def trace(point: Point, *, draws: Count = 32, seed: Seed = 0) -> Estimate:
    """The trace of each Hessian: the mean of vᵀ H v over vectors of random signs (Hutchinson 1990).

    Exact where H is diagonal. One draw has no standard error (NaN).
    """
    check_arguments(trace, locals())
    vectors = (signs(point.rows, seed, i) for i in range(draws))
    found = torch.cat([row_dot(v, point.product(v)) for v in vectors], 1)
    error = found.std(1, keepdim=True) / math.sqrt(draws) if draws > 1 else found * torch.nan
    return Estimate(found.mean(1, keepdim=True), error)


def density(
    point: Point, grid: Tensor, *, width: float, steps: Count = 30, draws: Count = 8, seed: Seed = 0
) -> Tensor:
    """The spectral density [P, G] of each Hessian at the values of `grid` [G].

        φ(x) = mean over draws of Σ_k weight_k N(x; θ_k, width²)

    Stochastic Lanczos quadrature (Ghorbani, Krishnan & Xiao 2019). It integrates to 1; `width` is
    the standard deviation of each eigenvalue's bell.
    """
    check_arguments(density, locals())
    total = torch.zeros(point.rows.shape[0], len(grid), dtype=torch.float64)
    for i in range(draws):
        found = ritz(lanczos(point.product, gaussian(point.rows, seed, 2 + i), steps=steps))
        distance = (grid.double()[None, None] - found.values[..., None]) / width
        bells = torch.exp(-0.5 * distance**2) / (width * math.sqrt(2 * math.pi))
        total += (found.weights[..., None] * bells).sum(1)
    return total / draws


POINT_KINDS = ("minimum", "saddle", "maximum", "not stationary", "cannot tell")


def classify_points(grads: Rows, found: Ritz, *, flat: float = 1e-4) -> list[str]:
    """What kind of point each network stands at: one of `POINT_KINDS`.

        not stationary   |g| > flat
        saddle     the smallest Ritz value is below 0 by more than its error, and the largest is not
        maximum          the largest is below 0 by more than its error
        minimum          the smallest is above 0 by more than its error
        cannot tell      an end is 0 within its error (flat directions, dead units) or not finite

    A negative Ritz value proves a direction that leads down: it is the curvature along one.
    "minimum" relies on Lanczos having come close to the smallest eigenvalue, as with `steps` ≥ W.
    """
    kinds = []
    columns = [row_norm(grads.double()), found.values[:, [0, -1]], found.errors[:, [0, -1]]]
    for g, low, high, low_error, high_error in torch.cat(columns, 1).tolist():
        if not all(map(math.isfinite, (g, low, high, low_error, high_error))):
            kinds.append("cannot tell")
        elif g > flat:
            kinds.append("not stationary")
        elif high < -high_error:
            kinds.append("maximum")
        elif low < -low_error:
            kinds.append("saddle")
        else:
            kinds.append("minimum" if low > low_error else "cannot tell")
    return kinds
