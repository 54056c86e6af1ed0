"""The network of a recipe as a torch module, and how long a step of it takes."""

from typing import Any

import torch
from torch import Tensor, nn

from ravine.data import Examples, Task
from ravine.data.examples import evenly_spaced
from ravine.networks.as_module import NetworkModule, as_module
from ravine.networks.batched import BatchedNetwork
from ravine.recipe import Recipe
from ravine.training.defaults import batch_size

STEP_SECONDS = 3e-4  # of a network of few weights
PRODUCTS_PER_SECOND = 2.5e9  # of a forward pass; the backward pass takes twice as many


def recipe_module(recipe: Recipe, task: Task) -> NetworkModule:
    """The network of a resolved recipe's first seed before its first step, as a torch module."""
    network = BatchedNetwork(recipe.network, task.signature)
    weights, buffers = network.start([recipe.seed])
    return as_module(network, task.signature, weights, buffers)


def module_inputs(examples: Examples) -> Tensor:
    """Examples as `recipe_module` takes them: images from 0 to 1, or numbers and then codes."""
    if not examples.numbers.is_floating_point():
        return examples.numbers.float() / 255
    if examples.codes is None:
        return examples.numbers
    return torch.cat([examples.numbers, examples.codes.float()], 1)


def step_seconds(task: Task, recipe: Recipe) -> float:
    """How long one network takes for one step, about: by its products of inputs and weights.

    A clock would know better, and trials would be longer on one machine than on another.
    """
    few = evenly_spaced(task.train_examples, batch_size(recipe, task))
    module = recipe_module(recipe, task).eval()
    products = 0.0

    def count(layer: nn.Module, _: Any, output: Any) -> None:
        nonlocal products
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and isinstance(output, Tensor):
            products += output.numel() * weight[0].numel()

    handles = [layer.register_forward_hook(count) for layer in module.modules()]
    with torch.no_grad():
        module(module_inputs(few))
    for handle in handles:
        handle.remove()
    return STEP_SECONDS + products / PRODUCTS_PER_SECOND
