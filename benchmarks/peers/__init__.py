"""What is measured: a module `train_NAME` for each peer, imported only in that peer's own process.

A module has `BATCHED` (whether it trains many networks as one program), `PACKAGES` (whose versions
are reported), and

    prepare(case, optimizer, starts, *, epochs, watch) -> go

which does all that comes before training and returns the function whose time is taken. `watch`,
where given, is called after each epoch with a function that returns the weights of all networks; it
stops the clock while it evaluates. Peers that are not `BATCHED` get the weights of one network.
"""

from __future__ import annotations

THREADS = 1  # of every peer
PEERS = {
    "ravine": "ravine",
    "loop": "plain PyTorch loop, DataLoader",
    "hand": "best plain PyTorch loop by hand",
    "sklearn": "scikit-learn MLPClassifier",
    "skorch": "skorch",
    "lightning": "pytorch-lightning",
    "keras": "Keras on torch",
    "jax": "JAX: jit + scan (+ vmap)",
}
