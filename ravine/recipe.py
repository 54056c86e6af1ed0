"""Recipes: everything that determines a run, and nothing else. Devices and folders are arguments.

`catalog.py` lists the parts that a recipe can consist of, and the named recipes to start from.
"""

from typing import Literal, Self

from ravine import protocols
from ravine.errors import RecipeError
from ravine.part import field_types, part, setting
from ravine.serialization import vary

LR_FACTOR = 30.0  # how far below and above a recipe's own rate others are tried


@part
class Recipe:
    """The data, the network, and how it is trained.

    `loss`, `metric`, `batch` and `epochs` may be None: then they are chosen from the data, and the
    run's folder records the choice. `metric` is the one that leads the score. `batch = "all"` is
    gradient descent on the whole training split. `seeds` networks are trained, with seeds `seed`,
    `seed + 1`, ...; the model is their mean.
    """

    data: protocols.Source
    split: protocols.Split
    encoding: protocols.ColumnEncoding
    network: protocols.Network
    optimizer: protocols.Optimizer
    schedule: protocols.Schedule
    loss: protocols.Loss | None = None
    metric: str | None = None
    penalties: tuple[protocols.Penalty, ...] = ()
    augment: tuple[protocols.Augmentation, ...] = ()
    tuning: tuple[protocols.Tuning, ...] = ()
    clip: protocols.Clip | None = None
    average: protocols.Average | None = None
    stop: protocols.StopRule | None = None
    snapshots: protocols.SnapshotRule | None = None
    class_weights: Literal["none", "balanced"] = "none"
    batch: int | Literal["all"] | None = setting(default=None, ge=1)
    epochs: int | None = setting(default=None, ge=1, le=1_000_000_000)
    seeds: int = setting(default=8, ge=1, le=10_000)
    seed: int = setting(default=0, ge=0)
    split_seed: int = setting(default=0, ge=0)
    precision: Literal["float32", "float64"] = "float32"

    def check(self) -> None:
        if self.stop is not None and self.split.validation == 0:
            what = "the recipe stops early but keeps no validation split"
            do = 'set split.validation above 0, or stop = "none"'
            raise RecipeError(what, why="early stopping judges by the validation split", do=do)
        if self.clip is not None and isinstance(self.optimizer, protocols.SearchOptimizer):
            what = f"the recipe clips gradients for {type(self.optimizer).__name__}"
            why = "it compares the loss with its gradient, and a clipped one belongs to no loss"
            raise RecipeError(what, why=why, do='set clip = "none"')
        if hasattr(self.average, "lr"):
            what = f"the recipe's average is {type(self.average).__name__}"
            raise RecipeError(what, why="that is an optimizer", do='set average = "Ema"')
        if self.snapshots is not None and (self.stop is not None or self.average is not None):
            other = "stop" if self.stop is not None else "average"
            what = f"the recipe keeps snapshots and has {other} set"
            why = "the model is the mean of what weights predict at the ends of all cycles"
            raise RecipeError(what, why=why, do=f'set {other} = "none"')

    def vary(self, path: str, value: object) -> Self:
        """A copy with one setting changed: `recipe.vary("optimizer.lr", 0.1)`."""
        return vary(self, path, value)


def lr_path(recipe: Recipe) -> str:
    """The path of the learning rate: in the optimizer, or in the one inside it.

    >>> from ravine.catalog import named_recipe
    >>> lr_path(named_recipe("plain"))
    'optimizer.lr'
    """
    part, path = recipe.optimizer, "optimizer"
    while "lr" not in field_types(type(part)):
        part, path = part.inner, f"{path}.inner"  # type: ignore[attr-defined]
    return f"{path}.lr"
