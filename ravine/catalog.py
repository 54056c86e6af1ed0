"""The parts that may stand in each place of a recipe, and the named recipes to start from."""

from collections.abc import Mapping, Sequence
from typing import Any

from ravine import (
    augment,
    data,
    early_stopping,
    finetuning,
    losses,
    networks,
    optimizers,
    penalties,
    protocols,
    schedules,
)
from ravine.argument_checks import check_arguments
from ravine.errors import RecipeError, fold_name, nearest
from ravine.networks import activations, conv, initializers, layer_parts, mlp
from ravine.recipe import Recipe

PARTS_BY_ROLE: Mapping[Any, Sequence[type]] = {
    protocols.Activation: activations.ALL,
    protocols.Augmentation: augment.ALL,
    protocols.Average: optimizers.ALL_AVERAGES,
    protocols.Clip: optimizers.ALL_CLIPS,
    protocols.Drop: layer_parts.ALL_DROPOUTS,
    protocols.ColumnEncoding: data.ALL_ENCODINGS,
    protocols.Initializer: initializers.ALL,
    protocols.Loss: (*losses.ALL, losses.ByTask),
    protocols.Network: networks.ALL,
    protocols.Norm: layer_parts.ALL_NORMS,
    protocols.NumberEmbedding: layer_parts.ALL_NUMBER_EMBEDDINGS,
    protocols.Optimizer: optimizers.ALL,
    protocols.Penalty: penalties.ALL,
    protocols.Pool: conv.ALL_POOLS,
    protocols.Schedule: schedules.ALL,
    protocols.Source: data.ALL_SOURCES,
    protocols.Split: data.ALL_SPLITS,
    protocols.SnapshotRule: optimizers.ALL_SNAPSHOTS,
    protocols.StopRule: early_stopping.ALL,
    protocols.Tuning: finetuning.ALL,
}


def default() -> Recipe:
    """A network for tables, good on most of them untuned (measurements in NOTEBOOK.md)."""
    return Recipe(
        data=data.Data(),
        split=data.Stratified(),
        encoding=data.Encoding(),
        network=mlp.Mlp(
            hidden=(256, 256),
            activation=activations.SiLU(),
            dropout=layer_parts.Dropout(rate=0.1),
            numbers=layer_parts.Periodic(),
        ),
        optimizer=optimizers.AdamW(lr=0.002, weight_decay=0.01),
        schedule=schedules.WarmUp(epochs=1.0, then=schedules.Cosine()),
        stop=early_stopping.EarlyStopping(patience=20),
    )


def realmlp_td_s() -> Recipe:
    """RealMLP-TD-S, the best epoch of 256 (Holzmüller, Grinsztajn & Steinwart, NeurIPS 2024)."""
    return Recipe(
        data=data.Data(),
        split=data.Stratified(),
        encoding=data.Encoding(scale="robust", smooth_clip=3.0),
        network=mlp.Mlp(
            hidden=(256, 256, 256),
            activation=activations.SELU(),
            initializer=initializers.Normal(sd=1.0),
            bias=initializers.Normal(sd=1.0),
            parametrization="ntk",
            scale_inputs=True,
            zero_output=True,
            bias_lr=0.1,
        ),
        optimizer=optimizers.Adam(lr=0.04, beta1=0.9, beta2=0.95),
        schedule=schedules.Coslog4(),
        # which loss, is decided once the task is known
        loss=losses.ByTask(label_smoothing=0.1),  # type: ignore
        stop=early_stopping.EarlyStopping(patience=256, on="score", ties="last"),
        batch=256,
        epochs=256,
        seeds=1,
    )


def plain() -> Recipe:
    """Gradient descent with momentum on a small network, to study one thing at a time."""
    return Recipe(
        data=data.Data(),
        split=data.Stratified(),
        encoding=data.Encoding(),
        network=mlp.Mlp(hidden=(64,)),
        optimizer=optimizers.Momentum(lr=0.1, momentum=0.9),
        schedule=schedules.Constant(),
        epochs=30,
        batch=32,
        seeds=1,
    )


def image() -> Recipe:
    """A small convolutional network for small images: three stages, batch norm, one cycle.

    Batch and epochs are chosen by the number of images; the measurements are in NOTEBOOK.md. Images
    are best trained one network per core: batching networks saves no time there.
    """
    return Recipe(
        data=data.Images(),
        split=data.Stratified(validation=0.1),
        encoding=data.Encoding(),
        network=conv.Conv(channels=(32, 64, 128), hidden=(), dropout=None),
        optimizer=optimizers.AdamW(lr=0.004, weight_decay=0.05),
        schedule=schedules.OneCycle(),
        # which loss, is decided once the task is known
        loss=losses.ByTask(label_smoothing=0.05),  # type: ignore
        stop=None,
        seeds=2,
    )


NAMED_RECIPES = {f.__name__: f for f in (default, realmlp_td_s, plain, image)}


def named_recipe(name: str) -> Recipe:
    """The recipe with a name. Raises `RecipeError` with the nearest name."""
    check_arguments(named_recipe, locals())
    found = {fold_name(n): n for n in NAMED_RECIPES}.get(fold_name(name))
    if found is None:
        raise RecipeError(f"no recipe is named {name!r}", why=nearest(name, NAMED_RECIPES))
    return NAMED_RECIPES[found]()
