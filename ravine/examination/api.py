"""Examine somebody's training code: `examine` takes model, loss, examples and optimizer, and says
what is wrong.

Everything happens on copies: the model, the optimizer and torch's random numbers are left as they
were.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from ravine.examination.torch_report import examined
from ravine.examination.torch_subject import read_case
from ravine.finding import Report
from ravine.watching.watcher import watch


def examine(
    model: nn.Module,
    loss: Any,
    train: Any,
    *,
    optimizer: Any,
    validation: Any = None,
    batch_size: int | None = None,
    epochs: int,
    seed: int = 0,
    trials: bool = True,
) -> Report:
    """What is wrong with a program that trains, with evidence, cause, and what remedies did when
    they were tried.

    `model` is any module, `loss(outputs, targets)` any function to one number, `train` a pair of
    tensors or a DataLoader of such pairs, `optimizer` a torch optimizer on the model's parameters
    or a function from parameters to one. Without `validation` a fifth of the training examples is
    held out (of a loader: nothing).

    The model is checked before it trains; then a copy is trained for the whole budget, watched;
    then remedies are tried in copies that share its start and the order of its examples. Raises
    `InputError` for what cannot be run.

    >>> import torch
    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(1))
    >>> report = examine(network, nn.CrossEntropyLoss(), (x, y), batch_size=20, epochs=5,
    ...                  optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01))
    >>> report.findings[0].cause
    'output-activation'
    """
    case = read_case(
        model,
        loss,
        train,
        optimizer=optimizer,
        validation=validation,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
    )
    return examined(case, watch=partial(watch, quiet=True), trials=trials)
