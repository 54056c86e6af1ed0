"""pytorch-lightning's Trainer with logger, checkpoints, summary and progress bar off."""

from __future__ import annotations

import logging
import warnings

import pytorch_lightning as pl  # pyright: ignore[reportMissingImports]
import torch
from torch.nn.functional import cross_entropy

from benchmarks.cases import Case, Go, Watch, Weights
from benchmarks.peers.train_loop import loader, make_optimizer, sequential, weights_of

BATCHED, PACKAGES = False, ("pytorch-lightning", "torch")


class Classifier(pl.LightningModule):
    def __init__(self, start: Weights, optimizer: str):
        super().__init__()
        self.model, self.kind = sequential(start), optimizer

    def training_step(self, batch, _):
        x, y = batch
        return cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.kind, self.parameters())


class Watched(pl.Callback):
    def __init__(self, watch: Watch):
        self.watch = watch

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.watch(lambda: [weights_of(pl_module)])


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    model, batches = Classifier(starts[0], optimizer), loader(case)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=None if watch is None else [Watched(watch)],
    )
    return lambda: trainer.fit(model, batches)
