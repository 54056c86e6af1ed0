"""Recipes: everything that determines a run, and nothing else. Devices and folders are arguments.

`catalog.py` lists the parts that a recipe can consist of, and the named recipes to start from.
"""

from typing import Literal, Self

from ravine.errors import RecipeError
from ravine.part import field_types, part, setting
from ravine.protocols import (
    Augmentation,
    Average,
    Clip,
    ColumnEncoding,
    Loss,
    Network,
    Optimizer,
    Penalty,
    Schedule,
    SearchOptimizer,
    SnapshotRule,
    Source,
    Split,
    StopRule,
    Tuning,
)
from ravine.serialization import vary


@part
class Recipe:
    """The data, the network, and how it is trained.

    `loss`, `batch` and `epochs` may be None: then they are chosen from the data, and the run's
    folder records the choice. `batch = "all"` is gradient descent on the whole training split.
    `seeds` networks are trained, with seeds `seed`, `seed + 1`, ...; the model is their mean.
    """

    data: Source
    split: Split
    encoding: ColumnEncoding
    network: Network
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss | None = None
    penalties: tuple[Penalty, ...] = ()
    augment: tuple[Augmentation, ...] = ()
    tuning: tuple[Tuning, ...] = ()
    clip: Clip | None = None
    average: Average | None = None
    stop: StopRule | None = None
    snapshots: SnapshotRule | None = None
    class_weights: Literal["none", "balanced"] = "none"
    batch: int | Literal["all"] | None = setting(default=None, ge=1)
    epochs: int | None = setting(default=None, ge=1)
    seeds: int = setting(default=8, ge=1)
    seed: int = setting(default=0, ge=0)
    split_seed: int = setting(default=0, ge=0)
    precision: Literal["float32", "float64"] = "float32"

    def check(self) -> None:
        if self.stop is not None and self.split.validation == 0:
            what = "the recipe stops early but keeps no validation split"
            do = 'set split.validation above 0, or stop = "none"'
            raise RecipeError(what, why="early stopping judges by the validation split", do=do)
        if self.clip is not None and isinstance(self.optimizer, SearchOptimizer):
            raise RecipeError(
                f"the recipe clips gradients for {type(self.optimizer).__name__}",
                why="it compares the loss with the gradient it is given, and a clipped one belongs "
                "to no loss",
                do='set clip = "none"',
            )
        if self.snapshots is not None and (self.stop is not None or self.average is not None):
            other = "stop" if self.stop is not None else "average"
            raise RecipeError(
                f"the recipe keeps snapshots and has {other} set",
                why="the model is the mean of the weights' predictions at the ends of all cycles, "
                "as they were trained",
                do=f'set {other} = "none"',
            )

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
