"""Optimizers that use curvature: L-BFGS with a line search, damped Newton, saddle-free Newton.

They evaluate the loss of a step more than once (`protocols.SearchOptimizer`). Curvature from few
examples is noise: use them with `batch = "all"`. Weights with rate factor 0 are frozen; other
factors have no meaning here, where the curvature sets the step along each weight. Letters: P
networks, W weights of one, M stored pairs, g gradient, H [P, W, W] Hessians, λ damping, α the rate.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ravine.effects import Effect
from ravine.errors import RecipeError
from ravine.layout import Column, Rows, row_dot, row_norm
from ravine.optimizers.line_search import strong_wolfe
from ravine.part import Number, match, part, setting
from ravine.protocols import SearchObjective, State, StepContext, UpdateResult

FLAT_GRADIENT = 1e-7  # max |g| below which a network has arrived, as in torch
MIN_CURVATURE = 1e-10  # least yᵀs of a pair that is remembered, as in torch
MIN_DESCENT = 1e-9  # least −gᵀd along which a step is searched, as in torch


@part
class Lbfgs:
    """Quasi-Newton steps from the last M changes of weights and gradient (Liu & Nocedal 1989).

        s = w − w_before      y = g − g_before
        d = −H⁻¹ g by the two-loop recursion, first H⁻¹ = (yᵀs / yᵀy) I
        w ← w + t d,          t by a line search with the strong Wolfe conditions that begins with α

    One iteration a step (`max_iter=1` of torch.optim.LBFGS with "strong_wolfe", whose path it
    takes). The first step begins with α min(1, 1 / Σ|g|). A pair with yᵀs of at most 1e-10 is left
    out, so that d is a descent direction. Where max |g| ≤ 1e-7 a network stops. The state has 2 M
    rows for each network.
    """

    stands_for: ClassVar[str] = "Optimizer"
    acts: ClassVar[tuple[Effect, ...]] = (
        Effect("step length", "mean accepted t along the direction, 1 being the quasi-Newton step"),
        Effect("line search", "mean evaluations of loss and gradient in a step, beside the first"),
    )
    lr: Number = setting(default=1.0, ge=0)
    history: int = setting(default=10, ge=1, le=100)
    tries: int = setting(default=25, ge=1)

    def check_memory(self, width: int) -> None:
        """Any width is fine: the memory is 2 M rows."""

    def start(self, rows: Rows) -> State:
        networks, width = rows.shape
        return {
            "last": torch.zeros_like(rows),
            "moved": torch.zeros_like(rows),
            "steps": rows.new_zeros(networks, self.history, width),
            "changes": rows.new_zeros(networks, self.history, width),
            "scale": torch.ones_like(rows[:, :1]),
            "made": torch.zeros_like(rows[:, :1]),
        }

    def search(
        self, rows: Rows, objective: SearchObjective, state: State, context: StepContext
    ) -> UpdateResult:
        losses, grads = objective.first
        grads = _zero_frozen(grads, context)
        first = state["made"] == 0
        steps, changes, scale = _update_pairs(state, grads, ~first)
        direction = torch.where(first, -grads, -two_loops(grads, steps, changes, scale))
        rate = torch.zeros_like(losses) + match(self.lr * context.factor, rows)
        shortened = rate * (1 / grads.abs().sum(1, keepdim=True)).clamp_max(1.0)
        begin = torch.where(first, shortened, rate)
        fine = losses.isfinite() & grads.isfinite().all(1, keepdim=True)
        steep = grads.abs().amax(1, keepdim=True) > FLAT_GRADIENT
        moves = steep & (-row_dot(grads, direction) >= MIN_DESCENT) & (begin > 0)
        wanted, tries = fine & moves, self.tries
        found = strong_wolfe(objective, rows, direction, first=begin, wanted=wanted, tries=tries)
        moved = torch.where(found.t > 0, found.t * direction, 0.0)
        if context.meter is not None:
            for effect, value in zip(self.acts, (found.t, found.evaluations), strict=True):
                context.meter.add(effect.name, value)
        made = state["made"] + (fine & steep).to(rows)
        new = {"moved": moved, "steps": steps, "changes": changes, "scale": scale, "made": made}
        new["last"] = grads.clone()  # the loop writes the next gradients over these
        return torch.where(fine, rows + moved, torch.nan), new


def _update_pairs(state: State, grads: Rows, wanted: Tensor) -> tuple[Tensor, Tensor, Column]:
    """The pairs [P, M, W], newest last, with the last step's where it curves, and H⁻¹'s scale."""
    change = grads - state["last"]
    moved = state["moved"]
    curved = row_dot(change, moved)
    keep = wanted & (curved > MIN_CURVATURE)
    steps = torch.cat([state["steps"][:, 1:], moved[:, None]], 1)
    steps = torch.where(keep[..., None], steps, state["steps"])
    changes = torch.cat([state["changes"][:, 1:], change[:, None]], 1)
    changes = torch.where(keep[..., None], changes, state["changes"])
    return steps, changes, torch.where(keep, curved / row_dot(change, change), state["scale"])


def two_loops(grads: Rows, steps: Tensor, changes: Tensor, scale: Column) -> Rows:
    """H⁻¹ g from pairs s, y (Nocedal & Wright 2006, algorithm 7.4); pairs of zeros are empty."""
    curved = [row_dot(steps[:, i], changes[:, i]) for i in range(steps.shape[1])]
    inverse = [torch.where(c > 0, 1 / c, 0.0) for c in curved]
    q = grads
    shares = []
    for i in reversed(range(steps.shape[1])):
        shares.append(inverse[i] * row_dot(steps[:, i], q))
        q = q - shares[-1] * changes[:, i]
    r = q * scale
    for i in range(steps.shape[1]):
        r = r + steps[:, i] * (shares.pop() - inverse[i] * row_dot(changes[:, i], r))
    return r


@part
class _WholeHessian:
    """The base of Newton's methods, which need all W² second derivatives of every network."""

    acts: ClassVar[Effect]
    stands_for: ClassVar[str] = "Optimizer"
    lr: Number = setting(default=1.0, ge=0)
    damping: Number = setting(default=1.0, ge=0)
    limit: int = setting(default=1000, ge=1)

    def check_memory(self, width: int) -> None:
        if width > self.limit:
            what = f"{type(self).__name__} on networks of {width} weights"
            size = f"one Hessian takes {8 * width**2 / 1e6:,.0f} MB in float64"
            copies = "each network keeps about four of them"
            products = f"needs {width} Hessian-vector products"
            why = f"{size}; {copies} and {products}; the limit is {self.limit} weights"
            do = "use Lbfgs, make the network smaller, or raise optimizer.limit"
            raise RecipeError(what, why=why, do=do)

    def start(self, rows: Rows) -> State:
        return {}

    def search(
        self, rows: Rows, objective: SearchObjective, state: State, context: StepContext
    ) -> UpdateResult:
        grads = _zero_frozen(objective.first.grads, context).double()
        hessian = objective.hessian(rows).double()
        identity = torch.eye(rows.shape[1], dtype=torch.float64, device=rows.device)
        multipliers = context.lr_multipliers
        if multipliers is not None:  # frozen weights get rows and columns of the identity
            free = multipliers.to(rows.device)[0] != 0
            hessian = torch.where(free[:, None] & free[None], hessian, identity)
        step, effect = self.solve(grads, hessian, identity)
        if context.meter is not None:
            context.meter.add(self.acts.name, effect)
        step = match(self.lr * context.factor, step) * _zero_frozen(step, context)
        return rows - step.to(rows), state

    def solve(self, grads: Rows, hessian: Tensor, identity: Tensor) -> tuple[Rows, Tensor]:
        """The step from the gradient and the Hessian in float64, and the effect."""
        raise NotImplementedError


@part
class Newton(_WholeHessian):
    """Damped Newton steps: w ← w − α (H + λ I)⁻¹ g.

    With α = 1 and λ = 0 one step solves a quadratic. The step goes to the nearest stationary point
    of the local quadratic, near a saddle into the saddle. λ shortens steps along flat directions (λ
    → ∞ is gradient descent with the rate α / λ), and only a λ above the most negative curvature
    makes every step a descent. A singular matrix gives no finite step. Solved in float64.
    """

    acts: ClassVar[Effect] = Effect(
        "newton", "1 − cosine of the angle between the step and gradient descent's"
    )

    def solve(self, grads: Rows, hessian: Tensor, identity: Tensor) -> tuple[Rows, Tensor]:
        damped = hessian + match(self.damping, hessian) * identity
        step = torch.linalg.solve_ex(damped, grads[..., None])[0].squeeze(-1)
        cosine = row_dot(step, grads) / (row_norm(step) * row_norm(grads)).clamp_min(1e-30)
        return step, 1 - cosine


@part
class SaddleFreeNewton(_WholeHessian):
    """Newton steps that saddles repel: w ← w − α (|H| + λ I)⁻¹ g (Dauphin et al. 2014).

    |H| = Q |Λ| Qᵀ with H = Q Λ Qᵀ.
    Each eigenvalue is replaced by its absolute value, so that every direction is a descent, with
    longer steps where it is flat. |H| is computed by eigendecomposition in float64 (the paper uses
    a Krylov subspace).
    """

    acts: ClassVar[Effect] = Effect(
        "saddle-free", "mean share of eigenvalues that were negative and were turned"
    )
    damping: Number = setting(default=0.1, ge=0)

    def solve(self, grads: Rows, hessian: Tensor, identity: Tensor) -> tuple[Rows, Tensor]:
        # torch refuses the whole batch for one NaN
        fine = hessian.isfinite().all(2).all(1).view(-1, 1, 1)
        values, vectors = torch.linalg.eigh(torch.where(fine, hessian, identity))
        along = (vectors * grads[..., None]).sum(1)
        step = (vectors * (along / (values.abs() + match(self.damping, values)))[:, None]).sum(2)
        return torch.where(fine[:, 0], step, torch.nan), (values < 0).double().mean(1)


def _zero_frozen(rows: Rows, context: StepContext) -> Rows:
    """Rows with 0 at the frozen weights."""
    multipliers = context.lr_multipliers
    return rows if multipliers is None else torch.where(multipliers.to(rows.device) != 0, rows, 0.0)
