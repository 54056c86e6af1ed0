"""A callback for Lightning: `Trainer(callbacks=[WatchCallback()])`. Run with lightning 2.6.6."""

import lightning

import ravine


class WatchCallback(lightning.Callback):
    """Watch the optimizers of a LightningModule; the loss is reported before each backward pass."""

    def on_train_start(self, trainer, pl_module):
        self.watcher = ravine.watch(pl_module, trainer.optimizers).start()

    def on_before_backward(self, trainer, pl_module, loss):
        self.watcher.loss(loss)

    def on_train_end(self, trainer, pl_module):
        self.watcher.stop()
