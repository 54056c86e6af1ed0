"""skorch's NeuralNetClassifier with its default callbacks, without a validation split and without
printing.
"""

from __future__ import annotations

import torch
from skorch import NeuralNetClassifier  # pyright: ignore[reportMissingImports]
from skorch.callbacks import Callback  # pyright: ignore[reportMissingImports]

from benchmarks.cases import MOMENTUM, RATES, Case, Go, Watch, Weights
from benchmarks.peers.train_loop import sequential, weights_of

BATCHED, PACKAGES = False, ("skorch", "torch")


class Watched(Callback):
    def __init__(self, watch: Watch):
        self.watch = watch

    def on_epoch_end(self, net, **_) -> None:
        self.watch(lambda: [weights_of(net.module_)])


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    data = case.data()
    settings = {"optimizer__momentum": MOMENTUM} if optimizer == "sgd" else {}
    net = NeuralNetClassifier(
        sequential(starts[0]),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=epochs,
        batch_size=case.batch,
        optimizer=torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam,
        lr=RATES[optimizer],
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks__print_log=None,
        callbacks=None if watch is None else [Watched(watch)],
        **settings,
    ).initialize()
    return lambda: net.partial_fit(data.inputs, data.classes)
