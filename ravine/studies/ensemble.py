"""Ensembles: independent members, snapshots, averaged weights, soups, greedy selection.

An ensemble is a model like any other: its members' predictions (probabilities, or means) are
averaged, it predicts and scores, and `as_run` writes a run's folder of it. Letters: M members, N
examples, C outputs, R repeats.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine import metrics
from ravine.argument_checks import Count, check_arguments
from ravine.data import Examples, TableLike, Task
from ravine.errors import InputError, RecipeError, value_text
from ravine.files import require_path
from ravine.metrics import Metric, resampled_values
from ravine.optimizers import Ema, Swa
from ravine.optimizers.averaging import Snapshots
from ravine.part import group_key
from ravine.recipe import Recipe
from ravine.record import Member, Record
from ravine.reporting.text_table import aligned_rows
from ravine.schedules import SGDR, Constant
from ravine.serialization import to_plain
from ravine.statistics import Interval, t_interval
from ravine.training.batches import first_epoch
from ravine.training.batchnorm_stats import recompute_statistics
from ravine.training.defaults import batch_size, prepare, training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.intervals import calibrate_intervals
from ravine.training.jobs import assign_members
from ravine.training.model import Model
from ravine.training.results import describe_task, surroundings
from ravine.training.run import Run
from ravine.training.run_folder import new_folder, write_plan, write_run
from ravine.training.scores import score_model
from ravine.training.train import train_on

COMPARISON_RESAMPLES = 400  # of the test examples and the repeats


def join_models(models: Sequence[Model]) -> Model:
    """All members of several models, whose recipes differ in numbers and seeds alone, as one.

    Raises `RecipeError` where the networks differ in structure or learned different tasks.
    """
    check_arguments(join_models, locals())
    if not models:
        raise RecipeError("an ensemble of nothing", do="give at least one model")
    first = models[0]
    for model in models[1:]:
        same_network = group_key(model.recipe.network) == group_key(first.recipe.network)
        if not same_network or model.signature != first.signature:
            why = "an ensemble keeps its members' weights in one matrix"
            do = "join models that differ in numbers and seeds alone"
            raise RecipeError("the models' networks differ", why=why, do=do)
        if model.encoder.to_plain() != first.encoder.to_plain():
            what, why = "the models' encodings differ", "they learned from different training rows"
            raise RecipeError(what, why=why, do="train them on one split: the same split_seed")
    buffers = {n: torch.cat([m.buffers[n] for m in models]) for n in first.buffers}
    return replace(first, weights=torch.cat([m.weights for m in models]), buffers=buffers)


def soup(model: Model, task: Task, members: Sequence[int] | None = None) -> Model:
    """One network with the mean of the members' weights: a uniform soup (Wortsman et al. 2022).

    It costs one network to predict. It is good where the members lie in one basin: snapshots of one
    late run, runs that were fine-tuned from the same weights. Networks from different seeds do not.
    Batch-norm statistics are computed anew on the training split.
    """
    check_arguments(soup, locals())
    count = len(model.weights)
    places = range(count) if members is None else members
    if not places or not all(0 <= place < count for place in places):
        why = f"they are places of the model's {count} members, one at least"
        raise InputError(f"members are {value_text(members)}", why=why)
    chosen = torch.tensor(list(places))
    weights = model.weights[chosen].double().mean(0, keepdim=True).to(model.weights.dtype)
    recipe = model.recipe.vary("batch", min(512, batch_size(model.recipe, task) * 4))
    job = assign_members([0], recipe, task, device="cpu").job
    buffers = {name: value[:1] for name, value in model.buffers.items()}
    with exact_arithmetic():
        buffers = recompute_statistics(job, weights, buffers, batches=first_epoch(task, job))
    return replace(model, weights=weights, buffers=buffers)


def greedy_soup(model: Model, task: Task) -> Model:
    """A soup of those members that help on the validation split (Wortsman et al. 2022, recipe 1).

    From the best member on, in the order of their own scores, a member stays in if the soup is no
    worse with it.
    """
    check_arguments(greedy_soup, locals())
    metric = selection_metric(task)
    examples = _validation_examples(task)

    def gains(candidate: Model) -> Tensor:
        return _gains(metric, candidate.member_predictions(examples), examples.targets)

    kept: list[int] = []
    best = -math.inf
    found = None
    for member in gains(model).argsort(descending=True, stable=True).tolist():
        candidate = soup(model, task, [*kept, member])
        gain = float(gains(candidate)[0])
        if found is None or gain >= best:
            kept = [*kept, member]
            best = gain
            found = candidate
    assert found is not None  # a model has members
    return found


def select_members(model: Model, task: Task, *, size: Count = 20) -> Model:
    """The members that make the best ensemble on the validation split, chosen greedily.

    (Caruana et al. 2004.) A member may be chosen more than once: then it counts more.
    """
    check_arguments(select_members, locals())
    examples = _validation_examples(task)
    assert examples.targets is not None
    predictions = model.member_predictions(examples)
    metric = selection_metric(task)
    index = torch.tensor(greedy_selection(predictions, examples.targets, metric, size=size))
    buffers = {name: value[index] for name, value in model.buffers.items()}
    return replace(model, weights=model.weights[index], buffers=buffers)


def greedy_selection(
    predictions: Tensor, targets: Tensor, metric: Metric, *, size: int
) -> list[int]:
    """Which members [M, N, C] to average, with repeats: each step adds the one that helps most.

    Of all the steps' ensembles, at most `size` large, the best is returned, the smallest of equals.

    >>> each = torch.tensor([[[0.9], [0.6]], [[0.2], [0.1]], [[0.5], [0.5]]])
    >>> greedy_selection(each, torch.tensor([1, 0]), metrics.LOG_LOSS, size=5)
    [0, 0, 1, 0]
    """
    total = torch.zeros_like(predictions[0])
    chosen: list[int] = []
    gains: list[float] = []
    for step in range(size):
        scores = _gains(metric, (total + predictions) / (step + 1), targets)
        member = int(scores.argmax())
        chosen.append(member)
        gains.append(float(scores[member]))
        total = total + predictions[member]
    return chosen[: 1 + gains.index(max(gains))]


def as_run(
    model: Model, task: Task, *, out: str | Path | None = None, notes: Sequence[str] = ()
) -> Run:
    """A run of an ensemble: its record with the test score, and with `out` its folder."""
    check_arguments(as_run, locals())
    count = len(model.weights)
    recipe = model.recipe.vary("seeds", count)
    model = replace(model, recipe=recipe)
    score, values = score_model(model, task)
    steps = training_plan(recipe, task).steps
    tests = values or [{}] * count
    record = Record(
        recipe=to_plain(recipe),
        task=describe_task(task, model),
        members=tuple(
            Member(seed=seed, outcome="finished", steps=steps, best_step=steps, test=test)
            for seed, test in enumerate(tests, recipe.seed)
        ),
        series={},
        events=(),
        effects=(),
        notes=tuple(notes),
        surroundings=surroundings(),
        score=score,
        intervals=calibrate_intervals(model, task),
    )
    if out is None:
        return Run(record, model)
    folder = require_path(out, "out")
    with new_folder(folder):
        write_plan(folder, recipe, task, [list(range(count))], device="cpu")
        write_run(record, model, folder)
    return Run(record, model, folder)


def selection_metric(task: Task) -> Metric:
    """What members are chosen by: the log loss (finer than accuracy), of numbers R²."""
    return metrics.main_metric(task.kind) if task.kind == "regression" else metrics.LOG_LOSS


def _validation_examples(task: Task) -> Examples:
    if task.validation is None:
        what, do = "the task has no validation split", "set split.validation above 0"
        raise RecipeError(what, why="members are chosen by it", do=do)
    return task.validation


def _gains(metric: Metric, predictions: Tensor, targets: Tensor | None) -> Tensor:
    """The metric of each of P predictions, more is better; −∞ where it is NaN."""
    assert targets is not None
    values = metric.of(predictions, targets)
    values = values if metric.higher_is_better else -values
    return torch.where(values.isnan(), -math.inf, values)


# ways to spend a budget
ONE_NETWORK = "one network"
SNAPSHOT_ENSEMBLE = "snapshots of one run"
SWA = "averaged weights (SWA)"
EMA = "averaged weights (EMA)"
SHORT_MEMBERS = "short members"
INDEPENDENT_MEMBERS = "independent members"
LONGER_NETWORK = "one network, longer"
ENSEMBLE_WAYS = (SNAPSHOT_ENSEMBLE, SHORT_MEMBERS, INDEPENDENT_MEMBERS)
LARGE_BUDGETS = (INDEPENDENT_MEMBERS, LONGER_NETWORK)
ALL_WAYS = (ONE_NETWORK, SNAPSHOT_ENSEMBLE, SWA, EMA, SHORT_MEMBERS, *LARGE_BUDGETS)


@dataclass(frozen=True)
class BudgetResult:
    """One way to spend a budget (times the recipe's epochs), and its scores.

    `score` and `loss` are means over repeats with Student's intervals. `better` is the difference
    of scores to the single run of the same budget, `lower` that of losses (positive: better); both
    paired over repeats and test examples, with bootstrap intervals; None for the single runs
    themselves.
    """

    name: str
    networks: int
    budget: float
    score: Interval
    loss: Interval
    better: Interval | None
    lower: Interval | None


@dataclass(frozen=True)
class EnsembleComparison:
    """Ensembles beside the single runs of equal budget; `runs` are the first repeat's."""

    lines: tuple[BudgetResult, ...]
    metric: str
    loss: str
    repeats: int
    runs: Mapping[str, Run] = field(repr=False)

    def __getitem__(self, name: str) -> BudgetResult:
        return next(line for line in self.lines if line.name == name)

    def summary(self) -> str:
        """Budgets, scores and losses, and how far each loss is below the single run's."""
        rows = [["", "networks", "budget", self.metric, self.loss]]
        below = []
        for line in self.lines:
            numbers = [f"{x:.4g}" for x in (line.score.value, line.loss.value)]
            rows.append([line.name, str(line.networks), f"{line.budget:g}", *numbers])
            if line.lower is not None:
                below.append([f"  {line.name}", "{:+.3g} [{:+.3g}, {:+.3g}]".format(*line.lower)])
        means = f"means of {self.repeats} repeats"
        title = f"{self.loss} below that of one network of the same budget, with 95 % intervals"
        spread = "over repeats and test examples:"
        return "\n".join([*aligned_rows(rows), means, "", title, spread, *aligned_rows(below)])

    __str__ = summary

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        lines = [dataclasses.asdict(line) for line in self.lines]
        return {"metric": self.metric, "loss": self.loss, "repeats": self.repeats, "lines": lines}


def compare_ensembles(
    recipe: Recipe, frame: TableLike | None = None, *, members: Count = 4, repeats: Count = 4
) -> EnsembleComparison:
    """Compare ways to spend the recipe's epochs, and `members` times as many.

    For one budget: one network; snapshots at the ends of `members` cosine cycles (SGDR) of one run;
    SWA and EMA at a constant rate; `members` short runs. For `members` budgets: that many
    independent networks, and one network that trains that much longer. Early stopping is left out,
    or budgets would differ; the rest is the recipe's. All are judged on the same test examples.
    Raises `RecipeError` where budgets cannot be split, and without a test split.

    >>> from ravine.catalog import named_recipe
    >>> recipe = named_recipe("plain").vary("data.source", "iris").vary("epochs", 4)
    >>> found = compare_ensembles(recipe, members=2, repeats=2)
    >>> [line.budget for line in found.lines]
    [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    """
    check_arguments(compare_ensembles, locals())
    for name, value in (("members", members), ("repeats", repeats)):
        if value < 2:
            why = "a comparison with intervals needs at least 2"
            raise RecipeError(f"{name} is {value}", why=why, do="use 2 or more")
    task, resolved = prepare(recipe, frame)
    assert isinstance(resolved.epochs, int)
    if resolved.epochs < 2 * members:
        what, do = f"{resolved.epochs} epochs for {members} members", f"set epochs to {2 * members}"
        raise RecipeError(what, why="each needs two at least", do=f"{do} or more")
    if task.test is None:
        what, why = "the recipe keeps no test split", "ensembles are compared on it"
        raise RecipeError(what, why=why, do="set split.test above 0")
    ways = _ways(resolved, members)
    seeds = [resolved.seed + r * members for r in range(repeats)]
    recipes = [way.vary("seed", seed) for way in ways.values() for seed in seeds]
    every = train_on([task] * len(recipes), recipes)
    runs = {name: every[i * repeats : (i + 1) * repeats] for i, name in enumerate(ways)}
    each = {name: [_test_predictions(run, task) for run in group] for name, group in runs.items()}
    # the mean over networks, [R, 1, N, C]; of the single runs one by one, [R, M, N, C]
    means = {n: torch.stack([p.mean(0) for p in group])[:, None] for n, group in each.items()}
    means[ONE_NETWORK] = torch.stack(each[INDEPENDENT_MEMBERS])
    lines, metric, loss = _compare(means, task, members=members, repeats=repeats)
    first = {name: group[0] for name, group in runs.items()}
    return EnsembleComparison(tuple(lines), metric.name, loss.name, repeats, first)


def _ways(recipe: Recipe, members: int) -> dict[str, Recipe]:
    """The recipe of each way to spend the budget; single runs are independent members."""
    assert isinstance(recipe.epochs, int)
    base = replace(recipe, stop=None, average=None, snapshots=None, seeds=1)
    cycles = SGDR(epochs=recipe.epochs / members, times=1.0)
    flat = base.vary("schedule", Constant())
    return {
        INDEPENDENT_MEMBERS: base.vary("seeds", members),
        SNAPSHOT_ENSEMBLE: replace(base, schedule=cycles, snapshots=Snapshots()),
        SWA: flat.vary("average", Swa(start_at=0.5)),
        EMA: flat.vary("average", Ema(decay=0.99)),
        SHORT_MEMBERS: replace(base, epochs=recipe.epochs // members, seeds=members),
        LONGER_NETWORK: base.vary("epochs", recipe.epochs * members),
    }


def _test_predictions(run: Run, task: Task) -> Tensor:
    if run.model is None or run.record.failures:
        do = "use a smaller optimizer.lr: ravine range finds one"
        raise RecipeError("networks diverged", why="a comparison needs all of them", do=do)
    assert task.test is not None
    return task.encoder.target.decode(run.model.member_predictions(task.test))


def _compare(
    means: Mapping[str, Tensor], task: Task, *, members: int, repeats: int
) -> tuple[list[BudgetResult], Metric, Metric]:
    """Scores of every way, and paired differences, on the same resamples for all."""
    assert task.test is not None and task.test.targets is not None
    truth = task.encoder.target.decode(task.test.targets)
    metric = metrics.main_metric(task.kind)
    loss = metrics.RMSE if task.kind == "regression" else metrics.LOG_LOSS
    draw = np.random.default_rng(0)
    # the first as they are, then resamples, and which repeats
    places = draw.integers(0, repeats, (COMPARISON_RESAMPLES, repeats))
    places = np.concatenate([np.arange(repeats)[None], places])

    def resample(m: Metric, predictions: Tensor) -> np.ndarray:
        """The metric in each resample and repeat, [1 + COMPARISON_RESAMPLES, R]."""
        each = predictions.flatten(0, 1)
        drawn = resampled_values(m, each, truth, resamples=COMPARISON_RESAMPLES)
        values = torch.cat([m.of(each, truth)[None], drawn])
        return values.view(len(values), repeats, -1).mean(2).numpy()

    values = {m.name: {n: resample(m, p) for n, p in means.items()} for m in {metric, loss}}

    def difference(m: Metric, name: str, single: str) -> Interval | None:
        """How much better than the single run, in the metric's own unit."""
        if name == single:
            return None
        sign = 1 if m.higher_is_better else -1
        apart = (values[m.name][name] - values[m.name][single]) * sign
        by_resample = np.take_along_axis(apart, places, 1).mean(1)
        low, high = np.quantile(by_resample[1:], (0.025, 0.975))
        return Interval(float(by_resample[0]), float(low), float(high))

    lines = []
    for name in ALL_WAYS:
        large = name in LARGE_BUDGETS
        single = LONGER_NETWORK if large else ONE_NETWORK
        networks = members if name in ENSEMBLE_WAYS else 1
        score, lost = (t_interval(values[m.name][name][0]) for m in (metric, loss))
        better, lower = (difference(m, name, single) for m in (metric, loss))
        budget = float(members) if large else 1.0
        lines.append(BudgetResult(name, networks, budget, score, lost, better, lower))
    return lines, metric, loss
