"""What `ravine check` asks before training: the probes of any start, and the checks of a recipe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import Examples, ImageEncoder, Task
from ravine.data.column_encoders import Date, Numeric, OneHot
from ravine.data.encoder import Encoder
from ravine.data.examples import affordable_count, evenly_spaced
from ravine.diagnosis.data.measure import profile_data
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.data.rules_targets import no_information
from ravine.diagnosis.initialization.probe import profile_start
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.recipe_rules import (
    LEARNED_GAIN,
    FirstSteps,
    RecipeProfile,
    small_batch_not_overfit,
)
from ravine.diagnosis.registry import DATA_RULES, RECIPE_RULES, START_RULES, SYMPTOM_CODES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves.failure_causes import CONSTANT_LIMIT_TEXT
from ravine.diagnosis.training_loop.autograd_graph import read_graph
from ravine.diagnosis.training_loop.history import LoopHistory, ModelHistory, WatchedParameter
from ravine.diagnosis.training_loop.rules_network import missing_nonlinearity
from ravine.errors import InputError
from ravine.examination.preflight_checks import RECIPE_CHECKS, RecipeCheck
from ravine.examination.recipe_changes import useful_changes
from ravine.examination.recipe_module import module_inputs, recipe_module
from ravine.examination.subject import SubjectProfile
from ravine.finding import Change, Checks, Evidence, Finding
from ravine.networks.activations import Identity
from ravine.recipe import Recipe
from ravine.rng import isolated_rng
from ravine.sentinels import Sentinel
from ravine.training.defaults import batch_size
from ravine.training.determinism import exact_arithmetic

PROFILED_ROWS, PROFILED_NUMBERS = 20_000, 2**23  # of the data, numbers only of images
PROBED_RECIPE_EXAMPLES = 512
GRAPH_EXAMPLES = 4  # of the loss whose graph is read
DATA_CODES = {rule.code for rule in DATA_RULES}


def check_recipe(
    recipe: Recipe, task: Task, recipe_checks: Mapping[str, RecipeCheck] = RECIPE_CHECKS
) -> SubjectProfile:
    """The checks before training; `recipe_checks` are those that need the recipe."""
    start = profile_recipe_start(recipe, task)
    in_start, start_checks = run_rules(START_RULES, start)
    try:
        data = profile_recipe_data(recipe, task)
        in_data, data_checks = run_rules(DATA_RULES, data)
    except InputError:
        raise
    except Exception:  # the checks of the recipe still count
        data = None
        in_data, data_checks = [], Checks(failed=tuple(rule.code for rule in DATA_RULES))
    in_layers, layer_checks = find_linear_layers(recipe, task)
    measured = _measure_settings(recipe, task, recipe_checks)
    rules = [rule for rule in RECIPE_RULES if rule.needs in recipe_checks]
    in_settings, setting_checks = run_rules(rules, measured)
    in_data = blame_targets(in_data, measured)
    found = inherit_causes([*in_data, *in_start, *in_layers, *in_settings])
    return SubjectProfile(
        findings=[replace(f, changes=useful_changes(recipe, f.changes)) for f in found],
        checks=start_checks.merge(data_checks, layer_checks, setting_checks),
        start=start,
        data=data,
    )


def inherit_causes(found: Sequence[Finding]) -> list[Finding]:
    """The findings; a symptom that a fault of the data explains is a note, with that cause."""
    causes = {code: f.cause for f in found if f.code in DATA_CODES for code in f.explains}
    return [
        replace(f, cause=causes[f.code], suspects=(), severity="note")
        if f.code in causes and f.code in SYMPTOM_CODES
        else f
        for f in found
    ]


def blame_targets(found: Sequence[Finding], measured: RecipeProfile) -> list[Finding]:
    """The findings; that no quick learner tells anything of the targets is a warning where the
    network's first steps do not, either. Targets in another order look like this, and so do
    examples in which there is nothing to learn: what was measured does not tell these apart.
    """
    first = measured.first_steps
    if not isinstance(first, FirstSteps) or first.best_gain >= LEARNED_GAIN:
        return list(found)
    name = f"loss of the network on validation examples after {first.steps} steps"
    loss = Evidence(name, min(first.losses), limit=first.constant_loss, text=CONSTANT_LIMIT_TEXT)
    return [
        replace(f, severity="warning", evidence=(*f.evidence, loss))
        if f.code == no_information.code
        else f
        for f in found
    ]


def _measure_settings(
    recipe: Recipe, task: Task, recipe_checks: Mapping[str, RecipeCheck]
) -> RecipeProfile:
    """What checks that need a recipe measure. What one raises is kept; the others count."""
    measured: dict[str, Any] = {}
    for name, measure in recipe_checks.items():
        try:
            measured[name] = measure(recipe, task)
        except InputError:
            raise
        except Exception as error:
            measured[name] = error
    return RecipeProfile(**measured)


def find_linear_layers(recipe: Recipe, task: Task) -> tuple[list[Finding], Checks]:
    """Layers without a nonlinearity between them, in the graph of the loss before the first step.
    Where the recipe's own activation is the identity, that is the place and what to change.
    """
    try:
        history = _first_history(recipe, task)
    except Exception:  # whatever a module raises
        return [], Checks(failed=(missing_nonlinearity.code,))
    found, checks = run_rules([missing_nonlinearity], history)
    found = [replace(f, explains=(small_batch_not_overfit.code,)) for f in found]
    if isinstance(getattr(recipe.network, "activation", None), Identity):
        change = Change("network.activation", {"name": "ReLU"})
        found = [replace(f, where=change.path, changes=(change,)) for f in found]
    return found, checks


def _first_history(recipe: Recipe, task: Task) -> LoopHistory:
    """What a training loop's rules read before the first step: the graph of the loss."""
    module = recipe_module(recipe, task).eval()
    few = evenly_spaced(task.train, GRAPH_EXAMPLES)
    assert few.targets is not None
    with isolated_rng(recipe.seed), torch.enable_grad():
        loss = _module_loss(recipe)(module(module_inputs(few)), few.targets)
    parameters = []
    for name, p in module.named_parameters():
        owner = type(module.get_submodule(name.rpartition(".")[0])).__name__
        parameters.append(WatchedParameter(name=name, shape=tuple(p.shape), owner=owner))
    names = {id(p): name for name, p in module.named_parameters()}
    model = ModelHistory(parameters=tuple(parameters))
    return LoopHistory(graph=read_graph(loss, names), model=model)


# Profiles


def profile_recipe_data(recipe: Recipe, task: Task) -> DataProfile:
    """What is to be known of a task's examples as networks get them, columns by name."""
    count = affordable_count(task.signature, PROFILED_ROWS, PROFILED_NUMBERS)
    train = evenly_spaced(task.train, count)
    validation, scale = None, None
    if train.codes is not None:
        codes = train.codes.float()
        scale = codes.mean(0), codes.std(0, correction=0).clamp_min(1e-6)
    assert train.targets is not None
    if task.validation is not None and task.validation.targets is not None:
        some = evenly_spaced(task.validation, count)
        assert some.targets is not None
        validation = _network_inputs(task, some, scale), some.targets
    names, sources, target_names = (), (), task.encoder.target.labels
    if isinstance(task.encoder, Encoder):
        names = (*task.encoder.features, *task.encoder.code_names)
        sources = task.encoder.sources
    return profile_data(
        _network_inputs(task, train, scale),
        train.targets,
        validation=validation,
        names=names,
        sources=sources,
        target_names=target_names,
        sentinels=_input_sentinels(task.encoder),
        known_rows=partial(_rows_of_known_levels, task.encoder, scale),
        batch=batch_size(recipe, task),
        outputs=(task.outputs,),
        seed=recipe.seed,
    )


def _input_sentinels(encoder: Encoder | ImageEncoder) -> list[Sentinel] | None:
    """The values of the table that stand for gaps, with their places among the inputs."""
    if not isinstance(encoder, Encoder):
        return None
    measured = [c for c in encoder.column_encoders if isinstance(c, (Numeric, Date))]
    places = {c.name: (encoder.features.index(c.name), c.scaling) for c in measured}
    found = []
    for sentinel in encoder.sentinels:
        if sentinel.where in places:
            place, scaling = places[sentinel.where]
            value = scaling(np.array([sentinel.value])).astype(np.float32)[0]
            sentinel = replace(sentinel, place=place, input_value=float(value))
        found.append(sentinel)
    return found


def _rows_of_known_levels(
    encoder: Encoder | ImageEncoder, scale: tuple[Tensor, Tensor] | None, x: np.ndarray
) -> np.ndarray:
    """Whether each row of the inputs [N, F + K] has only levels that were learned, bool [N]: levels
    that were not are all encoded alike, though the rows of the table differ.
    """
    known = np.ones(len(x), bool)
    if not isinstance(encoder, Encoder):
        return known
    for column in encoder.column_encoders:
        if isinstance(column, OneHot):
            first = encoder.features.index(column.names[0])
            known &= (x[:, first : first + len(column.names)] != 0).any(1)
    if scale is not None:
        unknown = (torch.zeros_like(scale[0]) - scale[0]) / scale[1]  # code 0, as an input
        known &= (x[:, len(encoder.features) :] != unknown.numpy()).all(1)
    return known


def _network_inputs(task: Task, some: Examples, scale: tuple[Tensor, Tensor] | None) -> Tensor:
    """Images standardized as networks see them; of rows the numbers, then codes on one scale."""
    image = task.signature.image
    if image is not None:
        mean, sd = (torch.tensor(values)[:, None, None] for values in image[3:])
        return (some.numbers.float() / 255 - mean) / sd
    if some.codes is None or scale is None:
        return some.numbers
    return torch.cat([some.numbers, (some.codes.float() - scale[0]) / scale[1]], 1)


def profile_recipe_start(recipe: Recipe, task: Task) -> StartProfile:
    """Network and loss of the first seed before the first step, as of any torch program."""
    count = affordable_count(task.signature, PROBED_RECIPE_EXAMPLES)
    examples = evenly_spaced(task.train, count)
    assert examples.targets is not None
    with exact_arithmetic():
        return profile_start(
            recipe_module(recipe, task),
            _module_loss(recipe),
            module_inputs(examples),
            examples.targets,
            seed=recipe.seed,
        )


def _module_loss(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean loss of a module's outputs [N, C]."""
    loss = recipe.loss
    assert loss is not None  # resolved
    return lambda outputs, targets: loss.per_example(outputs[None], targets[None]).mean()
