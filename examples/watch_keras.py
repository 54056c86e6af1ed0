"""A callback for Keras with its torch backend: `model.fit(..., callbacks=[WatchCallback()])`.

Run with keras 3.15.1. Keras has optimizers of its own, so no torch optimizer is given: each
reported loss counts as a step, and the checks that need the steps of an optimizer or the graph of
the loss are not measured.
"""

import keras

import ravine


class WatchCallback(keras.callbacks.Callback):
    """Watch the model, which is a torch module; the loss is a number, the mean of the epoch so
    far.
    """

    def on_train_begin(self, logs=None):
        self.watcher = ravine.watch(self.model).start()

    def on_train_batch_end(self, batch, logs=None):
        self.watcher.loss(logs["loss"])

    def on_train_end(self, logs=None):
        self.watcher.stop()
