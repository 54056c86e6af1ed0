"""Ensembles (E1 to E3): independent members, snapshots of one run, averaged weights, soups, greedy
selection.

An ensemble is a model like any other: its members' predictions (probabilities, or means) are
averaged, it predicts and scores, and `as_run` writes a run's folder of it. Letters: M members, N
examples, C outputs, R repeats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine import metrics
from ravine.errors import RecipeError
from ravine.metrics import Metric
from ravine.optimizers import Ema, Swa
from ravine.optimizers.averaging import Snapshots
from ravine.part import group_key, stack
from ravine.recipe import Recipe
from ravine.record import Member, Record
from ravine.schedules import SGDR, Constant
from ravine.serialization import to_plain
from ravine.statistics import Interval, t_interval
from ravine.training.batches import first_epoch
from ravine.training.batchnorm_stats import recompute_statistics
from ravine.training.cohort import Job
from ravine.training.defaults import batch_size, prepare, training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.model import Model
from ravine.training.results import describe_task, score_model, surroundings
from ravine.training.run import Run
from ravine.training.run_folder import new_folder, write_plan, write_run
from ravine.training.train import train_on

RESAMPLES = 400  # of the test examples and the repeats

# Models of models


def joined(models: Sequence[Model]) -> Model:
    """All members of several models as one ensemble (E1). Their recipes may differ in numbers and
    seeds only.

    Raises `RecipeError` where the networks are not of one program or learned different tasks.
    """
    if not models:
        raise RecipeError("an ensemble of nothing", do="give at least one model")
    first = models[0]
    for model in models[1:]:
        if (
            group_key(model.recipe.network) != group_key(first.recipe.network)
            or model.signature != first.signature
        ):
            raise RecipeError(
                "the models' networks differ",
                why="an ensemble keeps its members' weights in one matrix",
                do="join models that differ in numbers and seeds alone",
            )
        if model.encoder.to_plain() != first.encoder.to_plain():
            raise RecipeError(
                "the models' encodings differ",
                why="they learned from different training rows",
                do="train them on one split: the same split_seed",
            )
    weights = torch.cat([m.weights for m in models])
    return _of(
        first, weights, {n: torch.cat([m.buffers[n] for m in models]) for n in first.buffers}
    )


def soup(model: Model, task: Any, members: Sequence[int] | None = None) -> Model:
    """One network whose weights are the mean of the members' (a uniform soup, Wortsman et al.
    2022).

    It costs one network to predict. It is good where the members lie in one basin: snapshots of one
    late run, runs that were fine-tuned from the same weights. Networks from different seeds do not.
    Batch-norm statistics are worked out anew on the training split.
    """
    chosen = torch.arange(len(model.weights)) if members is None else torch.tensor(list(members))
    weights = model.weights[chosen].double().mean(0, keepdim=True).to(model.weights.dtype)
    return _with_statistics(_of(model, weights, {n: v[:1] for n, v in model.buffers.items()}), task)


def greedy_soup(model: Model, task: Any) -> Model:
    """A soup of those members that help on the validation split (Wortsman et al. 2022, recipe 1).

    From the best member on, in the order of their own scores, a member stays in if the soup is no
    worse with it.
    """
    metric, examples = judge(task), _validation(task)
    truth = examples.targets
    scores = _signed(metric, model.member_predictions(examples), truth)
    order = scores.argsort(descending=True, stable=True).tolist()
    kept, best = [order[0]], -math.inf
    made = soup(model, task, kept)
    best = float(_signed(metric, made.member_predictions(examples), truth)[0])
    for member in order[1:]:
        tried = soup(model, task, [*kept, member])
        score = float(_signed(metric, tried.member_predictions(examples), truth)[0])
        if score >= best:
            kept, best, made = [*kept, member], score, tried
    return made


def selected(model: Model, task: Any, *, size: int = 20) -> Model:
    """The members that make the best ensemble on the validation split, chosen greedily (Caruana et
    al. 2004).

    A member may be chosen more than once: then it counts more.
    """
    examples = _validation(task)
    chosen = greedy_selection(
        model.member_predictions(examples), examples.targets, judge(task), size=size
    )
    index = torch.tensor(chosen)
    return _of(model, model.weights[index], {n: v[index] for n, v in model.buffers.items()})


def greedy_selection(
    predictions: Tensor, targets: Tensor, metric: Metric, *, size: int
) -> list[int]:
    """Which members [M, N, C] to average, with repeats: each step adds the one after which the mean
    is best.

    Of all the steps' ensembles, at most `size` large, the best is returned, the smallest of equals.

    >>> each = torch.tensor([[[0.9], [0.6]], [[0.2], [0.1]], [[0.5], [0.5]]])
    >>> greedy_selection(each, torch.tensor([1, 0]), metrics.LOG_LOSS, size=5)
    [0, 0, 1, 0]
    """
    total, chosen, best, length = torch.zeros_like(predictions[0]), [], -math.inf, 1
    for step in range(size):
        scores = _signed(metric, (total + predictions) / (step + 1), targets)
        member = int(scores.argmax())
        chosen.append(member)
        total = total + predictions[member]
        if float(scores[member]) > best:
            best, length = float(scores[member]), step + 1
    return chosen[:length]


def as_run(
    model: Model, task: Any, *, out: str | Path | None = None, said: Sequence[str] = ()
) -> Run:
    """A run of an ensemble: its record with the score on the test split, and with `out` the folder
    of a run.
    """
    count = len(model.weights)
    recipe = model.recipe.vary("seeds", count)
    model = dataclasses.replace(model, recipe=recipe)
    score, values = score_model(model, task)
    steps = training_plan(recipe, task).steps
    members = tuple(
        Member(
            seed=recipe.seed + i,
            outcome="finished",
            steps=steps,
            best_step=steps,
            test=values[i] if values else {},
        )
        for i in range(count)
    )
    record = Record(
        recipe=to_plain(recipe),
        task=describe_task(task, model),
        members=members,
        series={},
        events=(),
        effects=(),
        notes=tuple(said),
        surroundings=surroundings(),
        score=score,
    )
    folder = None if out is None else new_folder(Path(out))
    if folder is not None:
        write_plan(folder, recipe, task, [list(range(count))], device="cpu")
        write_run(record, model, folder)
    return Run(record, model, folder)


def judge(task: Any) -> Metric:
    """What members are chosen by: the log loss where there are classes or labels (finer than
    accuracy), else R².
    """
    return metrics.main_metric(task.kind) if task.kind == "regression" else metrics.LOG_LOSS


def _of(model: Model, weights: Tensor, buffers: dict[str, Tensor]) -> Model:
    return dataclasses.replace(model, weights=weights, buffers=buffers)


def _with_statistics(model: Model, task: Any) -> Model:
    recipe = model.recipe.vary("batch", min(512, batch_size(model.recipe, task) * 4))
    job = Job(
        recipes=(recipe,),
        seeds=(recipe.seed,),
        signature=model.signature,
        plan=training_plan(recipe, task),
        batch=batch_size(recipe, task),
    )
    with exact_arithmetic():
        buffers = recompute_statistics(
            stack([recipe]).network,
            model.signature,
            model.weights,
            model.buffers,
            first_epoch(task, job),
            seeds=job.seeds,
            batch=job.batch,
        )
    return _of(model, model.weights, buffers)


def _validation(task: Any) -> Any:
    if task.validation is None:
        raise RecipeError(
            "the task keeps no validation split",
            why="members are chosen by it",
            do="set split.validation above 0",
        )
    return task.validation


def _signed(metric: Metric, predictions: Tensor, targets: Tensor) -> Tensor:
    """The metric of each of P predictions, more is better; −∞ where it is NaN."""
    values = metric.of(predictions, targets)
    values = values if metric.higher_is_better else -values
    return torch.where(values.isnan(), -math.inf, values)


# Comparing


@dataclass(frozen=True)
class Line:
    """One way to spend a budget: how many networks, how many epochs in all (of the recipe's), and
    what came out.

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
class Comparison:
    """Ensembles beside their members and the single run of equal budget; `runs` are the first
    repeat's, by name.
    """

    lines: tuple[Line, ...]
    metric: str
    loss: str
    repeats: int
    runs: Mapping[str, Run]

    def __getitem__(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)

    def in_words(self) -> str:
        """A table: budget, score, loss, and the difference to the single run of the same budget."""
        head = [
            "",
            "networks",
            "budget",
            self.metric,
            self.loss,
            f"{self.loss} below the single run's",
        ]
        rows = [head]
        for line in self.lines:
            lower = "" if line.lower is None else _shown(line.lower)
            rows.append(
                [
                    line.name,
                    str(line.networks),
                    f"{line.budget:g}",
                    f"{line.score.value:.4g}",
                    f"{line.loss.value:.4g}",
                    lower,
                ]
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        table = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join(
            [
                *table,
                f"means of {self.repeats} repeats; 95 % intervals over repeats and test examples",
            ]
        )

    def plain(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        return {
            "metric": self.metric,
            "loss": self.loss,
            "repeats": self.repeats,
            "lines": [dataclasses.asdict(line) for line in self.lines],
        }


SINGLE, SNAPSHOTS, SWA, EMA = (
    "one network",
    "snapshots of one run",
    "averaged weights (SWA)",
    "averaged weights (EMA)",
)
SHORT, FULL, LONG = "short members", "independent members", "one network, longer"


def compare_ensembles(
    recipe: Recipe, frame: Any = None, *, members: int = 4, repeats: int = 4
) -> Comparison:
    """Spend the recipe's epochs in several ways, and `members` times as many, and compare what each
    way gives.

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
    for name, value in (("members", members), ("repeats", repeats)):
        if value < 2:
            raise RecipeError(
                f"{name} is {value}",
                why="a comparison with intervals needs at least 2",
                do="use 2 or more",
            )
    task, resolved = prepare(recipe, frame)
    assert isinstance(resolved.epochs, int)
    if resolved.epochs < 2 * members:
        raise RecipeError(
            f"{resolved.epochs} epochs for {members} members",
            why="each needs two at least",
            do=f"set epochs to {2 * members} or more",
        )
    if task.test is None:
        raise RecipeError(
            "the recipe keeps no test split",
            why="ensembles are compared on it",
            do="set split.test above 0",
        )
    ways = _ways(resolved, members)
    recipes = [
        way.vary("seed", resolved.seed + r * members)
        for way in ways.values()
        for r in range(repeats)
    ]
    runs = train_on([task] * len(recipes), recipes)
    grouped = {
        name: runs[i * repeats : (i + 1) * repeats]
        for i, name in enumerate([FULL, *list(ways)[1:]])
    }
    each = {name: [_predicted(run, task) for run in group] for name, group in grouped.items()}
    means = {
        name: torch.stack([p.mean(0) for p in group])[:, None] for name, group in each.items()
    }  # [R, 1, N, C]
    means[SINGLE] = torch.stack(each[FULL])  # its members, one by one: [R, M, N, C]
    return _compared(
        means,
        task,
        resolved,
        members=members,
        repeats=repeats,
        runs={name: group[0] for name, group in grouped.items()},
    )


def _ways(recipe: Recipe, members: int) -> dict[str, Recipe]:
    """The recipe of each way to spend the budget; the first gives the single runs and the
    independent ensemble.
    """
    assert isinstance(recipe.epochs, int)
    base = dataclasses.replace(recipe, stop=None, average=None, snapshots=None, seeds=1)
    cycle = recipe.epochs / members
    flat = base.vary("schedule", Constant())
    return {
        SINGLE: base.vary("seeds", members),
        SNAPSHOTS: dataclasses.replace(
            base, schedule=SGDR(epochs=cycle, times=1.0), snapshots=Snapshots()
        ),
        SWA: flat.vary("average", Swa(start_at=0.5)),
        EMA: flat.vary("average", Ema(decay=0.99)),
        SHORT: dataclasses.replace(base, epochs=recipe.epochs // members, seeds=members),
        LONG: base.vary("epochs", recipe.epochs * members),
    }


def _predicted(run: Run, task: Any) -> Tensor:
    if run.model is None or run.record.failures:
        raise RecipeError(
            "networks diverged",
            why="a comparison never averages over a hole",
            do="use a smaller optimizer.lr: ravine range finds one",
        )
    return task.encoder.target.decode(run.model.member_predictions(task.test))


def _compared(
    means: Mapping[str, Tensor],
    task: Any,
    recipe: Recipe,
    *,
    members: int,
    repeats: int,
    runs: Mapping[str, Run],
) -> Comparison:
    """Scores of every way, and paired differences: the same resamples of examples and repeats for
    all.
    """
    truth = task.encoder.target.decode(task.test.targets)
    metric, loss = (
        metrics.main_metric(task.kind),
        metrics.RMSE if task.kind == "regression" else metrics.LOG_LOSS,
    )
    draw = np.random.default_rng(0)
    count = len(truth)
    examples = [
        None,
        *torch.from_numpy(draw.multinomial(count, np.full(count, 1 / count), RESAMPLES)).double(),
    ]
    chosen = np.concatenate(
        [np.arange(repeats)[None], draw.integers(0, repeats, (RESAMPLES, repeats))]
    )
    found: dict[
        str, dict[str, np.ndarray]
    ] = {}  # by metric and way: [1 + RESAMPLES, R], the first as it is
    for m in dict.fromkeys((metric, loss)):
        found[m.name] = {}
        for name, p in means.items():
            values = [
                m.of(p.flatten(0, 1), truth, w).view(repeats, -1).mean(1).numpy() for w in examples
            ]
            found[m.name][name] = np.stack(values)

    def difference(m: Metric, name: str, single: str) -> Interval:
        """How much better than the single run, in the metric's own unit."""
        apart = (found[m.name][name] - found[m.name][single]) * (1 if m.higher_is_better else -1)
        drawn = np.take_along_axis(apart, chosen, 1).mean(1)
        low, high = np.quantile(drawn[1:], (0.025, 0.975))
        return Interval(float(drawn[0]), float(low), float(high))

    lines = []
    networks = {SINGLE: 1, SNAPSHOTS: members, SHORT: members, FULL: members}
    for name in (SINGLE, SNAPSHOTS, SWA, EMA, SHORT, FULL, LONG):
        dear = name in (FULL, LONG)
        single = LONG if dear else SINGLE
        same = name == single
        lines.append(
            Line(
                name,
                networks.get(name, 1),
                float(members) if dear else 1.0,
                t_interval(found[metric.name][name][0]),
                t_interval(found[loss.name][name][0]),
                None if same else difference(metric, name, single),
                None if same else difference(loss, name, single),
            )
        )
    return Comparison(tuple(lines), metric.name, loss.name, repeats, runs)


def _shown(found: Interval) -> str:
    return f"{found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"
