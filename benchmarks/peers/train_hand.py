"""The best plain loop by hand: tensors in memory, an epoch gathered at once, no modules, fused
optimizer.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, linear, relu

from benchmarks.cases import Case, Go, Watch, Weights
from benchmarks.peers.train_loop import make_optimizer

BATCHED, PACKAGES = False, ("torch",)


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    layers = [
        (torch.from_numpy(w.T.copy()).requires_grad_(), torch.from_numpy(b.copy()).requires_grad_())
        for w, b in starts[0]
    ]
    update = make_optimizer(optimizer, [p for layer in layers for p in layer], fused=True)
    data = case.data()
    inputs, classes = torch.from_numpy(data.inputs), torch.from_numpy(data.classes)
    *hidden, (w_out, b_out) = layers

    def go() -> None:
        for _ in range(epochs):
            order = torch.randperm(len(inputs))
            xs, ys = (
                inputs.index_select(0, order).split(case.batch),
                classes.index_select(0, order).split(case.batch),
            )
            for x, y in zip(xs, ys, strict=True):
                for w, b in hidden:
                    x = relu(linear(x, w, b))
                update.zero_grad()
                cross_entropy(linear(x, w_out, b_out), y).backward()
                update.step()
            if watch is not None:
                watch(
                    lambda: [
                        [
                            (w.detach().numpy().T.copy(), b.detach().numpy().copy())
                            for w, b in layers
                        ]
                    ]
                )

    return go
