"""For every optimizer and each of its forms: another implementation, run on one network alone.

A reference is made from (part, first weights [W], layout) and called with (gradient [W], schedule's
factor).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ravine import optimizers as o
from ravine.part import field_types, is_number


def settings(cls: type, network: int, variant: str) -> dict[str, Any]:
    """Settings that differ between networks in every Number."""
    spread = {
        "lr": 0.02 * (1 + network / 3),
        "momentum": 0.5 + 0.05 * network,
        "dampening": 0.1 * network if variant == "dampened" else 0.0,
        "weight_decay": 0.01 * network,
        "beta": 0.9 + 0.01 * network,
        "beta1": 0.8 + 0.02 * network,
        "beta2": 0.95 + 0.007 * network,
        "rho": 0.8 + 0.02 * network,
        "eps": 10.0 ** (-3 - network),
        "initial": 0.1 * network,
        "lr_decay": 0.01 * network,
        "momentum_decay": 0.004 * (1 + network),
        "shrink": 0.4 + 0.02 * network,
        "growth": 1.1 + 0.02 * network,
        "lambd": 0.01 * network,
        "power": 0.6 + 0.05 * network,
        "t0": 2.0 * network,
        "alpha": 0.3 + 0.1 * network,
    }
    own = {name: spread[name] for name, hint in field_types(cls).items() if is_number(hint)}
    if cls is o.Adadelta:
        own["lr"] = 1 + network / 7
    if cls is o.Lookahead:
        own["inner"] = o.Momentum(**settings(o.Momentum, network, "plain"))
    return own | FORMS.get((cls, variant), {})


FORMS: dict[tuple[type, str], dict[str, Any]] = {
    (o.Momentum, "inside"): {"form": "inside"},
    (o.Nesterov, "inside"): {"form": "inside"},
    (o.Nesterov, "lookahead"): {"form": "lookahead"},
    (o.Adagrad, "inside"): {"eps_at": "inside"},
    (o.RMSprop, "no momentum"): {"momentum": 0.0},
    (o.RMSprop, "centered"): {"centered": True},
    (o.RMSprop, "inside"): {"eps_at": "inside"},
    (o.Adam, "amsgrad"): {"amsgrad": True},
    (o.Adam, "inside"): {"eps_at": "inside"},
    (o.Adam, "hat"): {"eps_at": "hat"},
    (o.Adam, "uncorrected"): {"bias_correction": False},
    (o.AdamW, "fixed"): {"decay": "fixed"},
    (o.TorchOptimizer, "momentum"): {
        "optimizer": "SGD",
        "settings": {"momentum": 0.9, "nesterov": True},
    },
    (o.TorchOptimizer, "nadam"): {"optimizer": "NAdam"},
}

Reference = Callable[[Any, Tensor, Any], Callable[[Tensor, float], Tensor]]


def torch_twin(name: str, translate: Callable[[Any], dict[str, Any]]) -> Reference:
    """torch.optim's class of that name with a part's settings."""

    def make(part: Any, row: Tensor, layout: Any) -> Callable[[Tensor, float], Tensor]:
        optimizer = getattr(torch.optim, name)([row], lr=part.lr, foreach=False, **translate(part))

        def step(grad: Tensor, factor: float) -> Tensor:
            optimizer.param_groups[0]["lr"] = part.lr * factor
            row.grad = grad
            optimizer.step()
            return row.clone()

        return step

    return make


def written(
    rule: Callable[[Any, Tensor, Tensor, dict[str, Any], float, int, Any], Tensor],
) -> Reference:
    """A rule written once more, for one network: (part, w, g, memory, α, t, layout) -> w."""

    def make(part: Any, row: Tensor, layout: Any) -> Callable[[Tensor, float], Tensor]:
        memory: dict[str, Any] = {"row": row, "t": 0}

        def step(grad: Tensor, factor: float) -> Tensor:
            memory["t"] += 1
            memory["factor"] = factor
            memory["row"] = rule(
                part, memory["row"], grad, memory, part.lr * factor, memory["t"], layout
            )
            return memory["row"].clone()

        return step

    return make


def momentum_inside(part, w, g, memory, lr, t, layout):
    g = g + part.weight_decay * w
    memory["v"] = part.momentum * memory.get("v", 0) - lr * g
    return w + memory["v"]


def nesterov_ahead(part, y, g, memory, lr, t, layout):
    """Sutskever's rule on θ and v themselves; returns the point at which the next gradient is
    taken.
    """
    theta = memory.get("theta", y)
    memory["v"] = part.momentum * memory.get("v", 0) - lr * (g + part.weight_decay * y)
    memory["theta"] = theta + memory["v"]
    return memory["theta"] + part.momentum * memory["v"]


def adagrad_inside(part, w, g, memory, lr, t, layout):
    g = g + part.weight_decay * w
    memory["s"] = memory.get("s", part.initial) + g**2
    return w - lr / (1 + (t - 1) * part.lr_decay) * g * (memory["s"] + part.eps) ** -0.5


def rmsprop_inside(part, w, g, memory, lr, t, layout):
    g = g + part.weight_decay * w
    memory["s"] = memory.get("s", 0) * part.beta + (1 - part.beta) * g**2
    memory["b"] = memory.get("b", 0) * part.momentum + g / (memory["s"] + part.eps) ** 0.5
    return w - lr * memory["b"]


def adam_form(part, w, g, memory, lr, t, layout):
    g = g + part.weight_decay * w
    m = memory["m"] = part.beta1 * memory.get("m", 0) + (1 - part.beta1) * g
    v = memory["v"] = part.beta2 * memory.get("v", 0) + (1 - part.beta2) * g**2
    if not part.bias_correction:
        return w - lr * m / (v.sqrt() + part.eps)
    if part.eps_at == "hat":
        return w - lr * math.sqrt(1 - part.beta2**t) / (1 - part.beta1**t) * m / (
            v.sqrt() + part.eps
        )
    return w - lr * (m / (1 - part.beta1**t)) / (v / (1 - part.beta2**t) + part.eps).sqrt()


def adamw_fixed(part, w, g, memory, lr, t, layout):
    m = memory["m"] = part.beta1 * memory.get("m", 0) + (1 - part.beta1) * g
    v = memory["v"] = part.beta2 * memory.get("v", 0) + (1 - part.beta2) * g**2
    step = (m / (1 - part.beta1**t)) / ((v / (1 - part.beta2**t)).sqrt() + part.eps)
    return w - memory["factor"] * part.weight_decay * w - lr * step


def lion(part, w, g, memory, lr, t, layout):
    m = memory.get("m", torch.zeros_like(w))
    direction = torch.sign(torch.lerp(g, m, part.beta1))
    memory["m"] = torch.lerp(g, m, part.beta2)
    return w * (1 - lr * part.weight_decay) - lr * direction


def schedule_free(part, y, g, memory, lr, t, layout):
    """x is not kept but won back from y and z, as in the authors' code."""
    adam = isinstance(part, o.ScheduleFreeAdamW)
    beta = part.beta1 if adam else part.beta
    z = memory.get("z", y)
    x = (y - (1 - beta) * z) / beta
    direction, size = g, lr
    if adam:
        v = memory["v"] = part.beta2 * memory.get("v", 0) + (1 - part.beta2) * g**2
        direction = g / ((v / (1 - part.beta2**t)).sqrt() + part.eps)
    memory["z"] = z - size * direction - size * part.weight_decay * y
    memory["sum"] = memory.get("sum", 0.0) + lr**2
    x = x + lr**2 / memory["sum"] * (memory["z"] - x)
    return (1 - beta) * memory["z"] + beta * x


def muon(part, w, g, memory, lr, t, layout):
    """By singular values: Newton–Schulz maps each by itself. AdamW for the bias."""
    out = w * (1 - lr * part.weight_decay)
    b = memory["b"] = part.momentum * memory.get("b", 0) + (1 - part.momentum) * g
    ahead = part.momentum * b + (1 - part.momentum) * g
    m = memory["m"] = part.beta1 * memory.get("m", 0) + (1 - part.beta1) * g
    v = memory["v"] = part.beta2 * memory.get("v", 0) + (1 - part.beta2) * g**2
    step = (m / (1 - part.beta1**t)) / ((v / (1 - part.beta2**t)).sqrt() + part.eps)
    for slot in layout.slots:
        low, high = layout.spans[slot.name]
        if slot.role == "weight":
            left, s, right = torch.linalg.svd(ahead[low:high].view(slot.shape), full_matrices=False)
            s = s / s.square().sum().sqrt()
            for _ in range(part.steps):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            step[low:high] = 0.2 * max(slot.shape) ** 0.5 * (left @ torch.diag(s) @ right).flatten()
    return out - lr * step


def rprop(part, w, g, memory, lr, t, layout):
    """Riedmiller's table, weight by weight."""
    size = memory.setdefault("size", [part.lr] * len(w))
    last = memory.setdefault("last", [0.0] * len(w))
    new = w.clone()
    for i, slope in enumerate(g.tolist()):
        if slope * last[i] > 0:
            size[i] = min(size[i] * part.growth, part.largest)
        elif slope * last[i] < 0:
            size[i], slope = max(size[i] * part.shrink, part.smallest), 0.0
        new[i] -= math.copysign(size[i], slope) * memory["factor"] if slope else 0.0
        last[i] = slope
    return new


def asgd(part, w, g, memory, lr, t, layout):
    eta = lr / (1 + part.lambd * lr * (t - 1)) ** part.power
    return w * (1 - part.lambd * eta) - eta * g


def lookahead(part, w, g, memory, lr, t, layout):
    """Written on torch's SGD."""
    if "inner" not in memory:
        memory["fast"], memory["slow"] = w.clone(), w.clone()
        inner = part.inner
        memory["inner"] = torch.optim.SGD(
            [memory["fast"]], lr=inner.lr, momentum=inner.momentum, weight_decay=inner.weight_decay
        )
    memory["inner"].param_groups[0]["lr"] = lr
    memory["fast"].grad = g
    memory["inner"].step()
    if t % part.every == 0:
        memory["slow"].lerp_(memory["fast"], part.alpha)
        memory["fast"].copy_(memory["slow"])
    return memory["fast"]


def _decay(part: Any) -> dict[str, Any]:
    return {"weight_decay": part.weight_decay}


def _adam(part: Any) -> dict[str, Any]:
    return {"betas": (part.beta1, part.beta2), "eps": part.eps, "weight_decay": part.weight_decay}


def _rmsprop(part: Any) -> dict[str, Any]:
    return {
        "alpha": part.beta,
        "eps": part.eps,
        "momentum": part.momentum,
        "centered": part.centered,
    } | _decay(part)


MOMENTUM = torch_twin(
    "SGD", lambda p: {"momentum": p.momentum, "dampening": p.dampening} | _decay(p)
)
RMSPROP = torch_twin("RMSprop", _rmsprop)

TWINS: dict[type, dict[str, Reference]] = {
    o.SGD: {"plain": torch_twin("SGD", _decay)},
    o.Momentum: {"plain": MOMENTUM, "dampened": MOMENTUM, "inside": written(momentum_inside)},
    o.Nesterov: {
        "plain": torch_twin(
            "SGD", lambda p: {"momentum": p.momentum, "nesterov": True} | _decay(p)
        ),
        "inside": written(nesterov_ahead),
        "lookahead": written(nesterov_ahead),
    },
    o.Adagrad: {
        "plain": torch_twin(
            "Adagrad",
            lambda p: (
                {"eps": p.eps, "lr_decay": p.lr_decay, "initial_accumulator_value": p.initial}
                | _decay(p)
            ),
        ),
        "inside": written(adagrad_inside),
    },
    o.Adadelta: {
        "plain": torch_twin("Adadelta", lambda p: {"rho": p.rho, "eps": p.eps} | _decay(p))
    },
    o.RMSprop: {
        "plain": RMSPROP,
        "no momentum": RMSPROP,
        "centered": RMSPROP,
        "inside": written(rmsprop_inside),
    },
    o.Adam: {
        "plain": torch_twin("Adam", _adam),
        "amsgrad": torch_twin("Adam", lambda p: {"amsgrad": True} | _adam(p)),
        "inside": written(adam_form),
        "hat": written(adam_form),
        "uncorrected": written(adam_form),
    },
    o.AdamW: {"plain": torch_twin("AdamW", _adam), "fixed": written(adamw_fixed)},
    o.NAdam: {
        "plain": torch_twin("NAdam", lambda p: {"momentum_decay": p.momentum_decay} | _adam(p))
    },
    o.RAdam: {"plain": torch_twin("RAdam", _adam)},
    o.Adamax: {"plain": torch_twin("Adamax", _adam)},
    o.Lion: {"plain": written(lion)},
    o.Muon: {"plain": written(muon)},
    o.Rprop: {"plain": written(rprop)},
    o.ASGD: {"plain": written(asgd)},
    o.ScheduleFreeSGD: {"plain": written(schedule_free)},
    o.ScheduleFreeAdamW: {"plain": written(schedule_free)},
    o.Lookahead: {"plain": written(lookahead)},
    o.TorchOptimizer: {
        "plain": torch_twin("Adam", lambda p: {}),
        "momentum": torch_twin("SGD", lambda p: {"momentum": 0.9, "nesterov": True}),
        "nadam": torch_twin("NAdam", lambda p: {}),
    },
}
