"""The arguments of training beside the recipe's own settings, checked before any work."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from ravine.errors import InputError, shorten, value_text
from ravine.ranks import Ranks
from ravine.recipe import Recipe
from ravine.training.clusters import connect, is_cluster_address


def require_recipe(given: object) -> Recipe:
    """The recipe that was given. Raises `InputError` for anything else, with how to make one."""
    if isinstance(given, Recipe):
        return given
    source = shorten(str(given)) if isinstance(given, (str, Path)) else "penguins"
    do = f'give ravine.named_recipe("default").vary("data.source", "{source}")'
    do = f'give ravine.read_recipe("{source}")' if source.endswith(".toml") else do
    raise InputError(f"the recipe is {value_text(given)}", why="it must be a ravine.Recipe", do=do)


def require_recipes(given: object) -> list[Recipe]:
    """The recipes that were given. Raises `InputError` for a single one, or anything else."""
    if isinstance(given, (Recipe, str, bytes, Mapping)) or not isinstance(given, Iterable):
        what = "one recipe" if isinstance(given, Recipe) else value_text(given)
        why = "it takes a list of recipes"
        raise InputError(f"train_all got {what}", why=why, do="write train_all([recipe])")
    return [require_recipe(one) for one in given]


def require_device(given: object) -> str:
    """The name of a device that this machine has, such as cuda:0; `InputError` for others."""
    name = str(given) if isinstance(given, (str, torch.device)) else value_text(given)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu"] + (["cuda"] if count else []) + [f"cuda:{i}" for i in range(count)]
    if name not in known:
        why = f"this machine has {', '.join(known)}"
        raise InputError(f"device is {name!r}", why=why, do=f'use "{"cuda" if count else "cpu"}"')
    return name


def require_workers(given: object, ranks: Ranks | None = None) -> int | str:
    """How many processes may work, or the address of a cluster: as asked, or one per core.

    Raises `InputError` for anything else, where the cluster cannot be reached, and where each of
    several ranks would start workers of its own.
    """
    if ranks is not None and given not in (None, 1):
        why = "torchrun has started all processes, and they train the same networks"
        raise InputError(f"workers is {value_text(given)}", why=why, do="leave workers out")
    if given is None:
        return 1 if ranks is not None else os.cpu_count() or 1
    if isinstance(given, str) and is_cluster_address(given):
        connect(given)
        return given
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        what, why = f"workers is {value_text(given)}", "it is a number of processes, at least 1"
        do = "use 1, or leave it out for one per core; ray, ray://HOST:PORT, dask and "
        raise InputError(what, why=why, do=f"{do}tcp://HOST:PORT name a cluster")
    return given
