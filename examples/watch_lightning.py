"""A callback for Lightning: `Trainer(callbacks=[Watch()])`. Run with lightning 2.6.6."""

import lightning

import ravine


class Watch(lightning.Callback):
    """Watch the module's optimizers; the loss is seen before each backward pass."""

    def on_train_start(self, trainer, pl_module):
        self.watched = ravine.watch(pl_module, trainer.optimizers).start()

    def on_before_backward(self, trainer, pl_module, loss):
        self.watched.loss(loss)

    def on_train_end(self, trainer, pl_module):
        self.watched.stop()
