"""The lectures' claims, each tested on data: one file for each experiment.

An experiment is a module with one function that is decorated with `@experiment`;
`EXPERIMENT_MODULES` lists them. Its name is that of the module, with hyphens. A module is imported
when it is asked for.
"""

from __future__ import annotations

import importlib

from ravine.argument_checks import check_arguments
from ravine.errors import InputError, nearest
from ravine_gallery.experiment import Experiment, ExperimentOutcome

EXPERIMENT_MODULES: tuple[str, ...] = (
    "centering",
    "scaling_table",
    "splits",
    "augmentation",
    "minibatch_surfaces",
    "gradient_paths",
    "rates_and_batches",
    "ravine_steps",
    "averaged_sgd",
    "momentum",
    "nesterov",
    "adagrad_rmsprop",
    "adam_bias",
    "optimizer_race",
    "newton",
    "schedules",
    "zero_init",
    "deep_tanh",
    "he_multiplier",
    "activations",
    "losses",
    "batch_norm_drift",
    "mixture_boundaries",
    "dropout_expectation",
    "l1_zeros",
    "early_stopping",
    "ensembles",
    "learning_curves",
    "transfer",
    "initial_loss",
    "range_test",
    "random_against_grid",
    "snapshots",
    "swa",
    "loss_slices",
)

__all__ = [
    "EXPERIMENT_MODULES",
    "Experiment",
    "ExperimentOutcome",
    "experiment_names",
    "find_experiment",
]


def experiment_names() -> tuple[str, ...]:
    """The names of all experiments, in the order of the page."""
    return tuple(module.replace("_", "-") for module in EXPERIMENT_MODULES)


def find_experiment(name: str) -> Experiment:
    """The experiment of that name. Raises `InputError` with the nearest name."""
    check_arguments(find_experiment, locals())
    module = name.replace("-", "_")
    if module not in EXPERIMENT_MODULES:
        why = nearest(name, experiment_names())
        raise InputError(f"no experiment {name!r}", why=why, do="run ravine gallery for the list")
    contents = vars(importlib.import_module(f"ravine_gallery.{module}")).values()
    return next(each for each in contents if isinstance(each, Experiment))
