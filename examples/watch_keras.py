"""A callback for Keras with its torch backend: `model.fit(..., callbacks=[Watch()])`. Run with
keras 3.15.1.

Keras has optimizers of its own, so no torch optimizer is given: each loss that is told counts as a
step, and the checks that need the optimizer's steps or the loss's graph are reported as not
measured.
"""

import keras

import ravine


class Watch(keras.callbacks.Callback):
    """Watch the model, which is a torch module; the loss comes as a number, the mean over the epoch
    so far.
    """

    def on_train_begin(self, logs=None):
        self.watched = ravine.watch(self.model).start()

    def on_train_batch_end(self, batch, logs=None):
        self.watched.loss(logs["loss"])

    def on_train_end(self, logs=None):
        self.watched.stop()
