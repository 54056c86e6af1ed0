"""A callback for the Hugging Face Trainer: `Trainer(..., callbacks=[WatchCallback()])`.

Run with transformers 5.23.0.
"""

import transformers

import ravine


class WatchCallback(transformers.TrainerCallback):
    """Watch the optimizer of the Trainer; a model that is given labels returns its loss."""

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        torch_optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        self.watcher = ravine.watch(model, torch_optimizer).start()
        self.hook = model.register_forward_hook(self.report_loss)

    def report_loss(self, module, inputs, output):
        # with label smoothing the Trainer computes the loss itself, and the output has none
        if module.training and output.loss is not None:
            self.watcher.loss(output.loss)

    def on_train_end(self, args, state, control, **kwargs):
        self.hook.remove()
        self.watcher.stop()
