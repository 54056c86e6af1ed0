"""Keras with its torch backend, watched: `model.fit(..., callbacks=[KerasCallback()])`.

Run with keras 3.15.1. The learning rate is far too high, and the loss becomes NaN.
"""

import os

import numpy as np

os.environ["KERAS_BACKEND"] = "torch"


def main() -> None:
    """Train a small network on a synthetic task."""
    import keras  # once its backend is chosen

    from ravine.callbacks import KerasCallback

    x = np.random.default_rng(0).normal(size=(256, 8))
    layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.layers.Input((8,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(1e30), loss=loss)
    model.fit(x, x[:, 0] > x[:, 1], batch_size=32, epochs=3, callbacks=[KerasCallback()])


if __name__ == "__main__":
    main()
