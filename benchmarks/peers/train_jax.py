"""JAX as the limit: an epoch is one compiled scan over steps, many networks a vmap inside it;
updates by optax.

Compiling happens in `prepare`, once for each shape. The orders of examples are drawn by numpy (a
permutation inside the compiled program is slower on a CPU). Letters: P networks, S steps of an
epoch, B examples.
"""

from __future__ import annotations

from functools import lru_cache

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import numpy as np
import optax  # pyright: ignore[reportMissingImports]

from benchmarks.cases import MOMENTUM, RATES, Case, Go, Watch, Weights

BATCHED, PACKAGES = True, ("jax", "optax")


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    data, networks = case.data(), len(starts)
    rng = np.random.default_rng(0)
    update, epoch = _program(optimizer, networks > 1)
    shape = (case.per_epoch, networks, case.batch) if networks > 1 else (case.per_epoch, case.batch)
    layers = [
        (np.stack([s[i][0] for s in starts]), np.stack([s[i][1] for s in starts]))
        for i in range(len(starts[0]))
    ]
    weights = jax.tree.map(
        jnp.asarray, layers if networks > 1 else jax.tree.map(lambda a: a[0], layers)
    )
    state = (jax.vmap(update.init) if networks > 1 else update.init)(weights)
    inputs, classes = jnp.asarray(data.inputs), jnp.asarray(data.classes.astype(np.int32))

    compiled = _compiled(epoch, weights, state, inputs, classes, np.zeros(shape, np.int32))

    def orders() -> np.ndarray:
        """[S, P, B], or [S, B] of a single network."""
        drawn = np.stack([rng.permutation(case.examples).astype(np.int32) for _ in range(networks)])
        shaped = drawn.reshape(networks, case.per_epoch, case.batch).swapaxes(0, 1)
        return np.ascontiguousarray(shaped) if networks > 1 else shaped[:, 0]

    def go() -> None:
        nonlocal weights, state
        for _ in range(epochs):
            weights, state = compiled(weights, state, inputs, classes, orders())
            if watch is not None:
                jax.block_until_ready(weights)
                watch(lambda held=weights: _apart(held, networks))
        jax.block_until_ready(weights)

    return go


@lru_cache
def _program(optimizer: str, many: bool):
    update = optax.sgd(RATES["sgd"], MOMENTUM) if optimizer == "sgd" else optax.adam(RATES["adam"])

    def loss(weights, x, y):
        for w, b in weights[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = weights[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).mean()

    def step(weights, state, inputs, classes, index):
        grads = jax.grad(loss)(weights, inputs[index], classes[index])
        change, state = update.update(grads, state)
        return optax.apply_updates(weights, change), state

    one = jax.vmap(step, in_axes=(0, 0, None, None, 0)) if many else step

    def epoch(weights, state, inputs, classes, orders):
        def body(held, index):
            weights, state = held
            return one(weights, state, inputs, classes, index), None

        return jax.lax.scan(body, (weights, state), orders)[0]

    return update, jax.jit(epoch, donate_argnums=(0, 1))


_KNOWN = {}  # compiled programs by what they were compiled for


def _compiled(epoch, *args):
    key = (epoch, *((a.shape, a.dtype.name) for a in jax.tree.leaves(args)))
    if key not in _KNOWN:
        _KNOWN[key] = epoch.lower(*args).compile()
    return _KNOWN[key]


def _apart(weights, networks: int) -> list[Weights]:
    arrays = [(np.asarray(w), np.asarray(b)) for w, b in weights]
    return (
        [[(w[i], b[i]) for w, b in arrays] for i in range(networks)] if networks > 1 else [arrays]
    )
