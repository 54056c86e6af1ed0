"""`ravine.watch` as a callback of Lightning, of the Hugging Face Trainer and of Keras on torch.

    from ravine.callbacks import LightningCallback

    trainer = lightning.Trainer(callbacks=[LightningCallback()])

The library that a callback is for is imported when the callback is, and not before. Each takes the
settings of `ravine.watch` (`scheduler`, `every`, `quiet`), and has its `report()`.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import torch

from ravine.errors import InputError
from ravine.finding import Report
from ravine.watching.watcher import Watcher, watch


class _WatchingCallback:
    """What the callbacks share: a watcher from the start of training to its end."""

    watcher: Watcher | None = None
    handles: tuple[Any, ...] = ()  # of hooks beside the watcher's
    is_watching = False

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def start(self, model: Any, *optimizers: Any) -> None:
        """Begin to watch; whatever was watched before no longer is."""
        self.stop()
        self.watcher = watch(model, optimizers, **self.settings).start()
        self.is_watching = True

    def stop(self) -> None:
        """End to watch, and print what was found."""
        for handle in self.handles:
            handle.remove()
        if self.watcher is not None and self.is_watching:
            self.watcher.stop()
        self.handles, self.is_watching = (), False

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.stop()

    def report(self) -> Report:
        """What was found in the last training. Raises `InputError` before the first."""
        if self.watcher is None:
            why, do = "training has not begun", "give the callback to the trainer, and train"
            raise InputError("there is no report", why=why, do=do)
        return self.watcher.report()


class _LightningHooks(_WatchingCallback):
    """For Lightning: `Trainer(callbacks=[LightningCallback()])`, of `lightning` as of
    `pytorch_lightning`.

    All optimizers of the module are watched, and each loss that goes into a backward pass.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.start(pl_module, *trainer.optimizers)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        if self.watcher is not None:
            self.watcher.loss(loss)

    def on_exception(self, *_: Any) -> None:
        self.stop()


class _HuggingFaceHooks(_WatchingCallback):
    """For the Hugging Face Trainer: `Trainer(..., callbacks=[HuggingFaceCallback()])`.

    The loss is the one that the model returns. Where the Trainer computes it, as with label
    smoothing or `compute_loss_func`, the checks that read losses are not measured.
    """

    def on_train_begin(self, *_: Any, model: Any, optimizer: Any = None, **__: Any) -> None:
        optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        self.start(model, *([] if optimizer is None else [optimizer]))
        self.handles = (model.register_forward_hook(self.report_loss),)

    def report_loss(self, module: Any, inputs: Any, output: Any) -> None:
        value = output.get("loss") if isinstance(output, Mapping) else None
        if value is None and isinstance(output, tuple) and output:
            value = output[0] if getattr(output[0], "ndim", 1) == 0 else None
        if value is not None and module.training and self.watcher is not None:
            self.watcher.loss(value)


class _KerasHooks(_WatchingCallback):
    """For Keras on its torch backend: `model.fit(..., callbacks=[KerasCallback()])`.

    Keras has optimizers of its own, so each reported loss counts as a step, and it is a number, the
    mean of the epoch so far: the checks that need the steps of an optimizer or the graph of the
    loss are not measured.
    """

    model: Any

    def on_train_begin(self, logs: Any = None) -> None:
        if not isinstance(self.model, torch.nn.Module):
            why, do = "its models are no torch modules", "set KERAS_BACKEND=torch before importing"
            raise InputError("Keras does not run on torch", why=why, do=f"{do} it")
        self.start(self.model)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.watcher is not None and logs and "loss" in logs:
            self.watcher.loss(logs["loss"])


# hooks, the class that a callback of the library derives from, and modules that may have it
CALLBACK_PARTS: Mapping[str, tuple[type, str, tuple[str, ...]]] = {
    "LightningCallback": (_LightningHooks, "Callback", ("lightning", "pytorch_lightning")),
    "HuggingFaceCallback": (_HuggingFaceHooks, "TrainerCallback", ("transformers",)),
    "KerasCallback": (_KerasHooks, "Callback", ("keras.callbacks",)),
}
__all__ = [*CALLBACK_PARTS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A callback by its name, made when it is first asked for. Raises `InputError` where its
    library is missing.
    """
    if name not in CALLBACK_PARTS:
        raise AttributeError(f"module 'ravine.callbacks' has no attribute {name!r}")
    hooks, base, modules = CALLBACK_PARTS[name]
    error: ImportError | None = None
    for module in sorted(modules, key=lambda each: each not in sys.modules):
        try:
            parent = getattr(importlib.import_module(module), base)
        except ImportError as missing:
            error = error or missing
            continue
        about = {"__module__": __name__, "__doc__": hooks.__doc__}
        globals()[name] = type(name, (hooks, parent), about)
        return globals()[name]
    library = modules[-1].partition(".")[0].replace("_", "-")
    what, do = f"{name} needs {library}", f"run pip install {library}"
    raise InputError(what, why=f"it cannot be imported ({error})", do=do) from error
