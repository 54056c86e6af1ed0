"""Every public function, each of its parameters with values of the wrong kind."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from bad_values import VALUES, Kind, conforms
from torch import nn

import ravine
import ravine_gallery
from ravine.examination.api import check
from ravine.probes import condition, density, ends, trace
from ravine.recipe_files import recipe_text, with_settings, with_values
from ravine.serialization import get, vary
from ravine.studies.contact_sheet import contact_sheet
from ravine.studies.curvature import curvature_of, probe_run
from ravine.studies.ensemble import (
    as_run,
    compare_ensembles,
    greedy_soup,
    join_models,
    select_members,
    soup,
)
from ravine.studies.feature_extraction import feature_table, features, transfer
from ravine.studies.lr_range_test import range_test
from ravine.studies.spaces import read_space, read_spaces
from ravine.studies.tune import tune
from ravine.training.defaults import load_task
from ravine_gallery.run_all import run_experiments

# parameters of any type: what may be given of the wrong values
ANY: Mapping[str, tuple[str, ...]] = {
    "frame": ("none",),
    "validation": ("none",),
    "module": ("none", "a class", "a function"),
    "what": ("a word", "a missing file", "control characters"),  # that were trained into
    "source": ("none",),
    "path": (),
    "cache": ("none", "a word", "a missing file", "control characters", "empty text"),
    "out": ("none", "a word", "a missing file", "control characters"),
    "stop": ("none", "a word", "a missing file", "control characters", "empty text"),
    "new": ("none", "three"),
    "value": ("none", "three"),
    "folder": ("none", "a word", "a missing file", "control characters", "empty text"),
}
USERS_OWN = ("report", "check", "say", "loss", "optimizer")  # functions that may do anything
Calls = Mapping[str, tuple[Callable[..., Any], dict[str, Any]]]


@functools.cache
def calls() -> Calls:
    """Every public function with arguments that are right and quick."""
    recipe = with_settings(ravine.named_recipe("plain"), "data.source=iris", "epochs=2", "batch=64")
    run = ravine.train(recipe, out="run")
    task = load_task(recipe)
    model, x = nn.Linear(4, 3), torch.zeros(20, 4)
    report = check(recipe)
    point = (probe := probe_run(run)).objective.at(probe.rows)
    images = torch.zeros(4, 3, 16, 16)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    space = {"optimizer.lr": [0.1, 0.2]}
    digits = with_settings(ravine.named_recipe("image"), "data.source=digits", "epochs=1")
    module = dict(module=None)
    study = dict(recipe=recipe, frame=None)
    training = dict(frame=None, device="cpu", workers=1, report=None)
    return {
        "named_recipe": (ravine.named_recipe, dict(name="plain")),
        "read_recipe": (ravine.read_recipe, dict(path="r.toml")),
        "train": (
            ravine.train,
            dict(
                recipe=recipe, out=None, check=None, checkpoint_seconds=1.0, stop=None, **training
            ),
        ),
        "train_all": (ravine.train_all, dict(recipes=[recipe], **training)),
        "resume": (ravine.resume, dict(folder="run", frame=None, **module, workers=1, report=None)),
        "open_run": (ravine.open_run, dict(folder="run", **module)),
        "doctor": (ravine.doctor, dict(what="run", frame=None, trials=False, **module)),
        "check": (check, study),
        "examine": (
            ravine.examine,
            dict(
                model=model,
                loss=nn.CrossEntropyLoss(),
                train=(x, torch.arange(20) % 3),
                optimizer=functools.partial(torch.optim.SGD, lr=0.1),
                validation=None,
                batch_size=10,
                epochs=2,
                seed=0,
                trials=False,
            ),
        ),
        "watch": (
            ravine.watch,
            dict(
                model=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
                scheduler=None,
                every=100,
                quiet=True,
            ),
        ),
        "findings_text": (
            ravine.findings_text,
            dict(report=report, width=80, color=False, plain=False),
        ),
        "Recipe.vary": (recipe.vary, dict(path="epochs", value=3)),
        "Run.predict": (run.predict, dict(frame=x)),
        "tune": (
            tune,
            dict(
                **study,
                space=space,
                trials=1,
                sampler="grid",
                pruner="none",
                seeds=1,
                seed=0,
                confirm=0,
                confirm_seeds=2,
            ),
        ),
        "read_space": (read_space, dict(text="1..2", recipe=recipe, path="epochs")),
        "read_spaces": (read_spaces, dict(texts=["epochs=1..2"], recipe=recipe)),
        "range_test": (range_test, dict(**study, low=0.01, high=1.0, rates=3, seeds=1, steps=10)),
        "compare_ensembles": (
            compare_ensembles,
            dict(recipe=recipe.vary("epochs", 4), frame=None, members=2, repeats=2),
        ),
        "join_models": (join_models, dict(models=[run.model])),
        "soup": (soup, dict(model=run.model, task=task, members=[0])),
        "greedy_soup": (greedy_soup, dict(model=run.model, task=task)),
        "select_members": (select_members, dict(model=run.model, task=task, size=1)),
        "as_run": (as_run, dict(model=run.model, task=task, out=None)),
        "probe_run": (probe_run, dict(run=run, split="train", examples=10, frame=None)),
        "curvature_of": (
            curvature_of,
            dict(run=run, split="train", examples=10, steps=5, flat=1e-4, frame=None),
        ),
        "ends": (ends, dict(point=point, steps=3, seed=0)),
        "trace": (trace, dict(point=point, draws=2, seed=0)),
        "density": (
            density,
            dict(point=point, grid=torch.ones(2), width=0.1, steps=3, draws=2, seed=0),
        ),
        "condition": (condition, dict(values=torch.ones(1, 3), above=1e-6)),
        "features": (
            features,
            dict(network=body, images=images, layer="1", cache=None, batch=2, device="cpu"),
        ),
        "feature_table": (feature_table, dict(values=torch.ones(2, 3))),
        "transfer": (
            transfer,
            dict(
                recipe=digits,
                source=(images, [0, 1, 0, 1]),
                network="efficientnet-lite0",
                mode="features",
                tuning=(),
                layer=None,
                cache=None,
            ),
        ),
        "contact_sheet": (contact_sheet, dict(recipe=digits, frame=None)),
        "with_settings": (with_settings, dict(recipe=recipe)),
        "with_values": (with_values, dict(recipe=recipe, values={"epochs": 3})),
        "recipe_text": (recipe_text, dict(recipe=recipe, folder=None)),
        "vary": (vary, dict(value=recipe, path="epochs", new=3)),
        "get": (get, dict(value=recipe, path="epochs")),
        "find_experiment": (ravine_gallery.find_experiment, dict(name="momentum")),
        "run_experiments": (run_experiments, dict(names=(), folder=None, quick=True, say=print)),
    }


def argument_kinds() -> Iterator[Kind]:
    """A call for each function, parameter and wrong value."""
    Path("r.toml").write_text('data.source = "iris"\n')
    for name, (function, right) in calls().items():
        hints = typing.get_type_hints(function)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in right:
                continue
            for what, value in VALUES.items():
                call = functools.partial(call_with, function, right | {parameter.name: value})
                allowed = what in ANY.get(parameter.name, ()) or (
                    parameter.name not in ANY
                    and hints.get(parameter.name, Any) is not Any
                    and conforms(value, hints[parameter.name])
                )
                if parameter.name in USERS_OWN and callable(value):
                    continue
                named = f"{name}({parameter.name} = {what})"
                yield Kind(named, call, functools.partial(is_allowed, allowed))


def is_allowed(allowed: bool, _: Any) -> bool:
    return allowed


def call_with(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    names = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.POSITIONAL_ONLY
    ]
    placed = [arguments[n] for n in names if n in arguments]
    found = function(*placed, **{n: v for n, v in arguments.items() if n not in names})
    if isinstance(found, ravine.watching.watcher.Watcher):  # type: ignore
        with found:
            pass
    return found
