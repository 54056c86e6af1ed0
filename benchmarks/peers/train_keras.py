"""Keras on the torch backend: a Sequential model of Dense layers and `fit`, without metrics and
printing.
"""

from __future__ import annotations

import keras  # pyright: ignore[reportMissingImports]
import numpy as np

from benchmarks.cases import MOMENTUM, RATES, Case, Go, Watch, Weights

BATCHED, PACKAGES = False, ("keras", "torch")


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    data = case.data()
    hidden = [keras.layers.Dense(units, activation="relu") for units in case.sizes[1:-1]]
    model = keras.Sequential(
        [keras.Input((case.sizes[0],)), *hidden, keras.layers.Dense(case.sizes[-1])]
    )
    model.set_weights([array for layer in starts[0] for array in layer])
    kind = (
        keras.optimizers.SGD(RATES["sgd"], MOMENTUM)
        if optimizer == "sgd"
        else keras.optimizers.Adam(RATES["adam"])
    )
    model.compile(kind, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def weights() -> list[Weights]:
        flat = [np.array(array) for array in model.get_weights()]
        return [list(zip(flat[::2], flat[1::2], strict=True))]

    on_end = None if watch is None else lambda epoch, logs: watch(weights)
    callbacks = on_end and [keras.callbacks.LambdaCallback(on_epoch_end=on_end)]
    return lambda: model.fit(
        data.inputs,
        data.classes,
        batch_size=case.batch,
        epochs=epochs,
        shuffle=True,
        verbose=0,
        callbacks=callbacks,
    )
