"""Every part by name, recipe files, and the named recipes to start from.

A recipe file is TOML. It starts from a named recipe (`base`, the default if it names none) and
changes what it says:

    base = "default"
    epochs = 40
    [data]
    source = "houses.csv"
    target = ["price"]
    [optimizer]
    name = "AdamW"
    lr = 0.002
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import tomli_w

from ravine import (
    augment,
    data,
    early_stopping,
    finetuning,
    losses,
    optimizers,
    penalties,
    schedules,
)
from ravine.errors import RecipeError, folded, may_read, nearest, shortened
from ravine.networks import activations, conv, initializers, mlp, pretrained, torch_module
from ravine.part import is_part
from ravine.protocols import (
    Activation,
    Augmentation,
    Average,
    Clip,
    Drop,
    Encoding,
    Initializer,
    Keep,
    Loss,
    Network,
    Norm,
    NumberEmbedding,
    Optimizer,
    Penalty,
    Pool,
    Schedule,
    Source,
    Split,
    Stop,
    Tuning,
)
from ravine.recipe import Recipe
from ravine.serialization import from_plain, to_plain

CHOICES: Mapping[Any, Sequence[type]] = {
    Activation: activations.ALL,
    Augmentation: augment.ALL,
    Average: optimizers.AVERAGES,
    Clip: optimizers.CLIPS,
    Drop: (mlp.Dropout, mlp.ClassicDropout, mlp.SpatialDropout),
    Encoding: (data.Encoding,),
    Initializer: initializers.ALL,
    Loss: (*losses.ALL, losses.ByTask),
    Network: (
        mlp.Mlp,
        conv.Conv,
        conv.ResNet,
        torch_module.Module,
        pretrained.Pretrained,
        pretrained.Continued,
    ),
    Norm: (mlp.BatchNorm, mlp.LayerNorm),
    NumberEmbedding: (mlp.Periodic, mlp.PiecewiseLinear),
    Optimizer: optimizers.ALL,
    Penalty: penalties.ALL,
    Pool: (conv.MaxPool, conv.AveragePool),
    Schedule: schedules.ALL,
    Source: (data.Data, data.Images),
    Split: data.SPLITS,
    Keep: (early_stopping.Snapshots,),
    Stop: (early_stopping.EarlyStopping,),
    Tuning: finetuning.ALL,
}


# Named recipes


def default() -> Recipe:
    """A network for tables: good on most before anything is tuned (the measurements are in
    NOTEBOOK.md).
    """
    return Recipe(
        data=data.Data(),
        split=data.Stratified(),
        encoding=data.Encoding(),
        network=mlp.Mlp(
            hidden=(256, 256),
            activation=activations.SiLU(),
            dropout=mlp.Dropout(rate=0.1),
            numbers=mlp.Periodic(),
        ),
        optimizer=optimizers.AdamW(lr=0.002, weight_decay=0.01),
        schedule=schedules.WarmUp(epochs=1.0, then=schedules.Cosine()),
        stop=early_stopping.EarlyStopping(patience=20),
    )


def realmlp_td_s() -> Recipe:
    """RealMLP-TD-S (Holzmüller, Grinsztajn & Steinwart, NeurIPS 2024): robust scaling, NTK layers,
    a scaling layer, Adam with β₂ = 0.95 on the schedule "coslog4", 256 epochs, the last best epoch.
    """
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
    """Nothing but gradient descent with momentum on a small network: a start for studying one thing
    at a time.
    """
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
    """A small convolutional network for small pictures: three stages, batch norm, one cycle of the
    learning rate.

    Batch and epochs fit how many pictures there are; the measurements are in NOTEBOOK.md. Pictures
    are best trained a network per core: batching saves nothing there.
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


NAMED = {f.__name__: f for f in (default, realmlp_td_s, plain, image)}


def named_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises `RecipeError` with the nearest one."""
    found = {folded(n): n for n in NAMED}.get(folded(name))
    if found is None:
        raise RecipeError(f"no recipe is named {name!r}", why=nearest(name, NAMED))
    return NAMED[found]()


# Recipe files


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a TOML file. Raises `RecipeError` with the file's line where something in it is
    wrong.

    Relative paths in it, of data and of weights, are relative to the file's folder and to no other.
    """
    path = Path(path)
    may_read(path, RecipeError)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise RecipeError(
            f"{path} does not exist", do="name a recipe file, a table or a bundled set"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read", why=str(error)) from None
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not TOML", why=str(error)) from None
    try:
        recipe = recipe_from(given)
    except RecipeError as error:
        line = line_of(text, getattr(error, "path", ""))
        error.where = f"{path}:{line}" if line else str(path)
        raise
    for place, file in _files(recipe):
        beside = path.parent / file
        if (
            beside.exists() or "." in file or "/" in file or os.sep in file
        ):  # else the name of a bundled set
            recipe = recipe.vary(place, str(beside))
    return recipe


def placed(recipe: Recipe, folder: str | Path | None = None) -> Recipe:
    """The recipe with the paths that it names made absolute; those inside `folder` relative to
    it.
    """
    for place, file in _files(recipe):
        whole = Path(os.path.abspath(file))
        if Path(file).exists():
            here = None if folder is None else Path(os.path.abspath(folder))
            inside = here is not None and here in whole.parents
            shown = whole.relative_to(here) if here is not None and inside else whole
            recipe = recipe.vary(place, str(shown))
    return recipe


def _files(recipe: Recipe) -> list[tuple[str, str]]:
    """The settings of a recipe that name files or folders: their paths in it, and what they say."""
    found = [(f"data.{name}", getattr(recipe.data, name, None)) for name in ("source", "test")]
    place, network = "network", recipe.network
    while network is not None:
        found.append((f"{place}.weights", getattr(network, "weights", None)))
        place, network = f"{place}.network", getattr(network, "network", None)
    return [(place, file) for place, file in found if file and file != pretrained.RANDOM]


def recipe_from(given: Mapping[str, Any]) -> Recipe:
    """The recipe that plain data describe: a named recipe (`base`) and what is changed in it."""
    given = dict(given)
    given.pop("schema", None)
    base = given.pop("base", "default")
    if not isinstance(base, str):
        raise RecipeError(
            f"base is {base!r}", why="it must be the name of a recipe: " + nearest("", NAMED)
        )
    return changed(named_recipe(base), given)


def changed(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """A copy of a recipe with what nested plain data say changed; a part of another name starts
    from its defaults.
    """
    return from_plain(Recipe, _merged(recipe, given), CHOICES)


def with_setting(recipe: Recipe, assignment: str) -> Recipe:
    """A copy with `path=value` changed, the value written as in TOML; quotes around words may be
    left out.

    >>> with_setting(plain(), "optimizer.lr=0.5").optimizer.lr
    0.5
    """
    return with_settings(recipe, (assignment,))


def with_settings(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A copy with each `path=value` changed, one after another; a part's name and its settings are
    taken together.

    >>> with_settings(plain(), ["split=ByTime", "split.column=sold"]).split
    ByTime(column='sold', validation=0.15, test=0.15)
    """
    for where, names, value in _together([_assigned(a) for a in assignments]):
        try:
            recipe = changed(
                recipe,
                {names[0]: _told(getattr(recipe, names[0], None), names[1:], value, names[:1])},
            )
        except RecipeError as error:
            error.where = where
            raise
    return recipe


Assigned: TypeAlias = tuple[
    str, list[str], Any
]  # as it was written, the names of its path, its value


def _assigned(assignment: str) -> Assigned:
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise RecipeError(
            f"--set {assignment}", why="it must be PATH=VALUE", do="write --set optimizer.lr=0.01"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return f"--set {shortened(assignment)}", path.strip().split("."), value


def _together(given: Sequence[Assigned]) -> list[Assigned]:
    """Assignments of a part's settings joined with an earlier one of its name: alone the name may
    not do.
    """
    joined: list[Assigned] = []
    for where, names, value in given:
        for i in reversed(range(len(joined))):
            before, above, word = joined[i]
            below = names[len(above) :]
            named = (
                word
                if isinstance(word, dict)
                else _Anew(name=word)
                if isinstance(word, str)
                else None
            )
            if (
                named is not None
                and names[: len(above)] == above
                and below
                and not below[0].isdecimal()
            ):
                joined[i] = (f"{before} {where}", above, _put(named, below, value))
                break
        else:
            joined.append((where, names, value))
    return joined


class _Anew(dict):
    """A part's plain data that start from its defaults, as its name alone does, even where it is
    the recipe's part.
    """


def _put(named: dict[str, Any], names: Sequence[str], value: Any) -> dict[str, Any]:
    """A part's plain data with the setting at a path below it."""
    old = named.get(names[0])
    inner = old if isinstance(old, dict) else {} if old is None else {"name": old}
    return type(named)({**named, names[0]: _put(inner, names[1:], value) if names[1:] else value})


def _told(old: Any, names: Sequence[str], value: Any, path: Sequence[str]) -> Any:
    """Plain data that change a setting's value at a path below it; of a tuple all entries are told
    together.
    """
    if not names:
        return value
    name, rest = names[0], names[1:]
    if not (isinstance(old, tuple) and name.isdecimal()):
        return {
            name: _told(
                getattr(old, name, None) if is_part(old) else None, rest, value, [*path, name]
            )
        }
    if int(name) >= len(old):
        why = f"its places are 0 to {len(old) - 1}" if old else "there is nothing in it"
        raise RecipeError(
            f"no setting '{'.'.join([*path, name])}'",
            why=why,
            do=f"set {'.'.join(path)} as a whole",
        )
    entries = [v if is_part(v) else to_plain(v) for v in old]
    entries[int(name)] = _overlaid(
        old[int(name)], _told(old[int(name)], rest, value, [*path, name])
    )
    return entries


def recipe_text(recipe: Recipe, folder: str | Path | None = None) -> str:
    """The recipe as a TOML file, every setting written out; as a file in `folder`, it names what it
    named here.
    """
    recipe = recipe if folder is None else placed(recipe, folder)
    return tomli_w.dumps({"base": "plain", **_with_none(recipe)})


def _with_none(value: Any) -> Any:
    """Plain data in which a setting that is None, and so cannot be written in TOML, is the word
    none.
    """
    if is_part(value):
        settings = {f.name: _with_none(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return settings if isinstance(value, Recipe) else {"name": type(value).__name__, **settings}
    if isinstance(value, tuple):
        return [_with_none(v) for v in value]
    return "none" if value is None else to_plain(value)


def _merged(recipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data of a part's settings, overlaid by what is given for the same part."""
    settings = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
    for name, value in given.items():
        settings[name] = _overlaid(settings.get(name), value)
    return settings


def _overlaid(old: Any, value: Any) -> Any:
    """What is given for a setting, with the settings of the part that it had where it is the same
    part.
    """
    if not (isinstance(value, Mapping) and is_part(old) and _same_part(old, value)) or isinstance(
        value, _Anew
    ):
        return value
    return {"name": type(old).__name__} | _merged(
        old, {k: v for k, v in value.items() if k != "name"}
    )


def _same_part(old: Any, given: Mapping[str, Any]) -> bool:
    name = given.get("name")
    return name is None or (isinstance(name, str) and folded(name) == folded(type(old).__name__))


def line_of(text: str, path: str) -> int:
    """The line (from 1) of a TOML text in which the setting at a path stands, or its nearest table;
    0 if none does.

    >>> line_of('epochs = 3\\n[optimizer]\\nlr = -1\\n', "optimizer.lr")
    3
    """
    wanted, table, best, depth = [n for n in path.split(".") if n], [], 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line)
        key = re.match(r"\s*([\w\-.\"']+)\s*=", line)
        if header:
            table = [n.strip(" \"'") for n in header[1].split(".")]
        names = (
            table
            if header
            else [*table, *(n.strip("\"'") for n in key[1].split("."))]
            if key
            else []
        )
        if names and names == wanted[: len(names)] and len(names) > depth:
            best, depth = number, len(names)
    return best
