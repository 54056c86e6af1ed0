"""A callback for the Hugging Face Trainer: `Trainer(..., callbacks=[Watch()])`. Run with
transformers 5.23.0.
"""

import transformers

import ravine


class Watch(transformers.TrainerCallback):
    """Watch the model's optimizer; a model that is given labels returns its loss."""

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **rest):
        bare = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        self.watched = ravine.watch(model, bare).start()
        self.hook = model.register_forward_hook(self.tell)

    def tell(self, module, given, made):
        if (
            module.training and made.loss is not None
        ):  # with label smoothing the trainer works it out
            self.watched.loss(made.loss)

    def on_train_end(self, args, state, control, **rest):
        self.hook.remove()
        self.watched.stop()
