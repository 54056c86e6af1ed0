"""A plain PyTorch loop, watched. This one forgets `optimizer.zero_grad()`.

Run: python examples/watch_plain_loop.py
"""

import torch
from torch import nn

import ravine


def main() -> None:
    """Train a small network on a synthetic task, with a fault that is found at the second step."""
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    y = (x[:, 0] > x[:, 1]).long()
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ravine.watch(model, optimizer) as watcher:  # the first line that watching needs
        for _ in range(5):
            for inputs, targets in zip(x.split(32), y.split(32), strict=True):
                loss = nn.functional.cross_entropy(model(inputs), targets)
                watcher.loss(loss)  # the second one
                loss.backward()
                optimizer.step()


if __name__ == "__main__":
    main()
