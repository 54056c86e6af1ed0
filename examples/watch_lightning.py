"""Lightning, watched: `Trainer(callbacks=[LightningCallback()])`. Run with pytorch-lightning 2.6.6.

Its network ends in a softmax before the cross entropy, which is found at the first step.
"""

import pytorch_lightning as lightning  # or: import lightning
import torch
from torch import nn

from ravine.callbacks import LightningCallback


class Classifier(lightning.LightningModule):
    """A network with a fault."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2), nn.Softmax(1))

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def main() -> None:
    """Train for three epochs on a synthetic task."""
    x = torch.randn(256, 8)
    examples = torch.utils.data.TensorDataset(x, (x[:, 0] > x[:, 1]).long())
    trainer = lightning.Trainer(max_epochs=3, callbacks=[LightningCallback()], logger=False)
    trainer.fit(Classifier(), torch.utils.data.DataLoader(examples, batch_size=32))


if __name__ == "__main__":
    main()
