"""The network of a recipe as a torch module, and how long a step of it takes."""

import torch
from torch import Tensor

from ravine.data import Examples, Task
from ravine.data.examples import evenly_spaced
from ravine.examination.step_seconds import measure_step
from ravine.networks.as_module import NetworkModule, as_module
from ravine.networks.batched import BatchedNetwork
from ravine.recipe import Recipe
from ravine.training.defaults import batch_size


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
    """How long one network takes for one step, about."""
    few = evenly_spaced(task.train_examples, batch_size(recipe, task))
    module = recipe_module(recipe, task).eval()
    return measure_step(lambda: module(module_inputs(few)))
