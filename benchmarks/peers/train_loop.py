"""The plain PyTorch loop of the tutorials: DataLoader over a TensorDataset, optimizer from
torch.optim as it comes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cases import MOMENTUM, RATES, Case, Go, Watch, Weights

BATCHED, PACKAGES = False, ("torch",)


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    model = sequential(starts[0])
    update = make_optimizer(optimizer, model.parameters())
    batches = loader(case)
    loss_of = nn.CrossEntropyLoss()

    def go() -> None:
        for _ in range(epochs):
            for x, y in batches:
                update.zero_grad()
                loss_of(model(x), y).backward()
                update.step()
            if watch is not None:
                watch(lambda: [weights_of(model)])

    return go


def sequential(start: Weights) -> nn.Sequential:
    """Linear layers with ReLU between them, starting at the given weights."""
    layers: list[nn.Module] = []
    for w, b in start:
        layer = nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def make_optimizer(name: str, parameters, **settings) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=RATES[name], momentum=MOMENTUM, **settings)
    return torch.optim.Adam(parameters, lr=RATES[name], **settings)


def loader(case: Case) -> DataLoader:
    data = case.data()
    examples = TensorDataset(torch.from_numpy(data.inputs), torch.from_numpy(data.classes))
    return DataLoader(examples, batch_size=case.batch, shuffle=True)


def weights_of(model: nn.Module) -> Weights:
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return [(m.weight.detach().numpy().T.copy(), m.bias.detach().numpy().copy()) for m in linear]
