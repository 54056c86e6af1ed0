"""A recipe, or a run of one, as a subject of the engine. Its trials train as cohorts.

Letters: M networks, N examples, C outputs.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ravine import metrics
from ravine.data import Examples, RowGroups
from ravine.data.examples import evenly_spaced
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves.rules import ALL as CURVE_RULES
from ravine.diagnosis.training_curves.series import TrainingCurves, curves_of_record
from ravine.diagnosis.trials.outcome import TRIAL_SEEDS, Outcome, TrialResults
from ravine.errors import InputError, RavineError
from ravine.examination.preflight import (
    check_recipe,
    rate_path,
)
from ravine.examination.recipe_changes import (
    HE_START,
    ZERO_BIAS,
    SetSetting,
    apply_changes,
    useful_changes,
)
from ravine.examination.scores import scaled_score
from ravine.examination.subject import (
    CannotTryError,
    Facts,
    Observed,
    Say,
    SeedRun,
    Strength,
    TrialBudget,
)
from ravine.examination.trials import mean_outcome
from ravine.finding import MANUAL_CHANGES, Change, Evidence, Finding
from ravine.networks.activations import Identity
from ravine.networks.initializers import Glorot, He, LeCun, Orthogonal, TorchDefault
from ravine.networks.mlp import Mlp
from ravine.part import field_types, is_number, is_part
from ravine.recipe import Recipe
from ravine.recipe_files import recipe_from
from ravine.record import Record, Score, read_json
from ravine.schedules import Constant, Cosine, WarmUp
from ravine.serialization import get
from ravine.training.defaults import batch_size, load_task, resolve, training_plan
from ravine.training.evaluation import constant_loss
from ravine.training.run import Run
from ravine.training.run_folder import planned_recipe
from ravine.training.train import open_run, train_on

LOWER_RATES, HIGHER_RATES = (0.1, 0.01, 0.001), (3.0, 10.0, 100.0, 1000.0)
LONGER_TIMES = (3, 10, 30)  # the epochs
MAX_LONGER_STEPS = 1500  # of a longer run that is tried
MIN_DROPOUT = 0.4  # that may be too much
MAX_SHRINKAGE = 3.0  # weight decay · rate · steps: e^-3 of a weight that nothing holds is left
MIN_SMOOTHING = 0.4  # of labels
SMALL_WIDTH = 32  # units of the widest layer
WIDE_LAYERS = [256, 256]
FEW_EPOCH_STEPS, MANY_EXAMPLES = 4, 64  # steps of so many examples that are few
WIDTH_AWARE = (He, Glorot, LeCun, Orthogonal, TorchDefault)  # initializers that mind the width
START_CAUSES = ("initialization", "dead-units", "saturation", "vanishing", "exploding")

SCREENING_SEEDS, SCREENING_STEPS, MIN_SCREENING_STEPS = 2, 300, 40
MAX_TRIAL_STEPS = 1500  # of a trial that counts, and of the recipe where there is no run of it
TRIAL_SECONDS = 60.0  # for all trials together, about
TRIAL_NETWORKS = 60  # trained for a trial's steps, about
PACED_STEPS = 8  # by which the time of one is measured
EVALUATED_EXAMPLES = 4000
MAX_LOSS_RATIO = 2.0  # times the constant's loss: or a few bad runs would hide the rest


@dataclass
class RecipeSubject:
    """A resolved recipe with its task, and a run of it if there is one."""

    recipe: Recipe
    task: Any
    own_run: Run | None = None
    folder: str | None = None
    frame: Any = None
    bench: Bench | None = None  # once it was observed for trials

    @property
    def name(self) -> str | None:
        return self.folder

    @property
    def score(self) -> Score | None:
        return None if self.own_run is None else self.own_run.score

    @property
    def budget(self) -> TrialBudget:
        assert self.bench is not None
        return self.bench.budget

    def limit_threads(self) -> AbstractContextManager[None]:
        """Training sets its own."""
        return contextlib.nullcontext()

    # What it is

    def observe(self, *, trials: bool, say: Say) -> Observed:
        """Check recipe and data, train it where there is no run of it and trials are wanted, and
        read the run's curves.
        """
        recipe, task = self.recipe, self.task
        say("checking recipe and data")
        made = check_recipe(recipe, task)
        found, checks = made.findings, made.checks
        run = self.own_run
        if trials:
            self.bench = bench_of(recipe, task, run, self.frame, say=say)
            run = run or (self.bench.run if self.bench.whole else None)
        if run is not None:
            in_curves, went = run_rules(CURVE_RULES, curves_with_constant(run.record, recipe, task))
            in_curves = [replace(f, changes=useful_changes(recipe, f.changes)) for f in in_curves]
            found, checks = [*found, *in_curves], checks.and_(went)
        runs = () if self.bench is None else tuple(self.bench.evaluate(self.bench.run))
        return Observed(
            findings=found,
            checks=checks,
            start=made.start,
            data=made.data,
            runs=runs,
            results=None if self.bench is None else self._own_results(runs),
        )

    def _own_results(self, runs: Sequence[SeedRun]) -> TrialResults:
        assert self.bench is not None
        bench, null = self.bench, self.bench.null
        base: Outcome = mean_outcome("healthy", runs[:SCREENING_SEEDS])
        as_tried = bench.shortened_with((), bench.budget.steps)
        steps = training_plan(as_tried, bench.task).steps
        return TrialResults(base=base, null_loss=null, start_loss=null, steps=steps)

    # What can be changed

    def strengths(self, cause: str) -> tuple[Strength, ...]:
        changes = self._changes(cause)
        useful = (useful_changes(self.recipe, strength) for strength in changes)
        return tuple(tuple(SetSetting(c) for c in strength) for strength in useful if strength)

    def cures(self, finding: Finding) -> tuple[Strength, ...]:
        asked = self.treatments_for(finding.changes)
        others = (s for s in self.strengths(finding.cause) if s != asked)
        return (*((asked,) if asked else ()), *others)

    def treatments_for(self, changes: Sequence[Change]) -> Strength:
        useful = useful_changes(self.recipe, changes)
        return tuple(SetSetting(c) for c in useful if c.path not in MANUAL_CHANGES)

    def _changes(self, cause: str) -> Iterable[tuple[Change, ...]]:
        """What may be changed for a cause, from weak to strong."""
        recipe, network = self.recipe, self.recipe.network
        if cause in ("learning-rate-low", "learning-rate-high"):
            return self._rates(cause)
        if cause == "too-few-steps":
            return self._longer()
        if cause == "batch-size":
            return ((Change("batch", self._smaller_batch()),),)
        if cause == "over-regularized":
            return self._unregularized()
        if cause == "schedule":
            return tuple((Change("schedule", {"name": name}),) for name in ("Cosine", "Constant"))
        if cause in START_CAUSES:
            bias = (ZERO_BIAS,) if hasattr(network, "bias") else ()
            fitted = getattr(network, "parametrization", "standard") == "standard"
            return ((HE_START, *bias),) if hasattr(network, "initializer") and fitted else ()
        if cause == "dropout":
            names = ("dropout", "spatial_dropout")
            drops = [n for n in names if getattr(network, n, None) is not None]
            return (tuple(Change(f"network.{n}", None) for n in drops),)
        simple = {
            "input-scale": Change("encoding.scale", "standard"),
            "target-scale": Change("encoding.target", "standard"),
            "imbalance": Change("class_weights", "balanced"),
            "hidden-activation": Change("network.activation", {"name": "ReLU"}),
            "architecture-too-small": Change("network.hidden", WIDE_LAYERS),
            "gradient-clipping": Change("clip", None),
        }
        unused = cause == "gradient-clipping" and recipe.clip is None
        return () if unused or cause not in simple else ((simple[cause],),)

    def _rates(self, cause: str) -> Iterator[tuple[Change, ...]]:
        """Multiples of the learning rate; and the optimizer's usual rate, if it is further off."""
        path = rate_path(self.recipe)
        lr = float(get(self.recipe, path))
        usual = float(type(get(self.recipe, path.rpartition(".")[0]))().lr)
        lower = cause == "learning-rate-high"
        rates = [float(f"{lr * k:.6g}") for k in (LOWER_RATES if lower else HIGHER_RATES)]
        if (lower and usual < min(rates)) or (not lower and usual > max(rates)):
            rates.append(usual)
        for rate in rates:
            yield (Change(path, rate),)

    def _longer(self) -> Iterator[tuple[Change, ...]]:
        steps, epochs = training_plan(self.recipe, self.task).steps, self.recipe.epochs
        assert epochs is not None  # resolved
        for times in LONGER_TIMES:
            if times * steps <= MAX_LONGER_STEPS:
                yield (Change("epochs", times * epochs),)

    def _smaller_batch(self) -> int:
        count = self.task.train.count
        return min(256, max(16, 2 ** round(math.log2(max(1, count / 30)))))

    def _unregularized(self) -> Iterator[tuple[Change, ...]]:
        for path, value in settings_of(self.recipe.optimizer, "optimizer"):
            if path.endswith(".weight_decay") and value > 0:
                yield (Change(path, 0.0),)
        if self.recipe.penalties:
            yield (Change("penalties", []),)
        if float(getattr(self.recipe.loss, "label_smoothing", 0.0)) >= MIN_SMOOTHING:
            yield (Change("loss.label_smoothing", 0.0),)

    def facts(self, cause: str, observed: Observed) -> Facts | None:
        """What the recipe's settings say for a cause."""
        look = {
            "learning-rate-low": self._rate_place,
            "learning-rate-high": self._rate_place,
            "too-few-steps": self._epochs_place,
            "batch-size": self._few_steps,
            "dropout": self._dropout,
            "over-regularized": self._regularization,
            "hidden-activation": self._identity,
            "initialization": self._unfitted_start,
            "architecture-too-small": self._narrow,
            "schedule": self._other_schedule,
            "gradient-clipping": self._clip,
        }.get(cause)
        facts = None if look is None else look()
        asking = [f for f in observed.findings if f.cause == cause and f.confidence != "low"]
        if facts is not None and not facts.evidence and asking:
            return replace(facts, evidence=asking[0].evidence[:1])
        return facts

    def _rate_place(self) -> Facts:
        return Facts((), rate_path(self.recipe))

    def _epochs_place(self) -> Facts:
        return Facts((), "epochs")

    def _few_steps(self) -> Facts | None:
        per_epoch = training_plan(self.recipe, self.task).per_epoch
        if per_epoch > FEW_EPOCH_STEPS or self.task.train.count < MANY_EXAMPLES:
            return None
        name = "steps in a pass over the examples"
        return Facts((Evidence(name, per_epoch, "", FEW_EPOCH_STEPS),), "batch", ("too-few-steps",))

    def _dropout(self) -> Facts | None:
        network = self.recipe.network
        names = ("dropout", "spatial_dropout")
        rates = {n: float(getattr(getattr(network, n, None), "rate", 0.0)) for n in names}
        name = max(rates, key=lambda n: rates[n])
        if rates[name] <= 0:
            return None
        evidence = Evidence("dropout rate", rates[name], "", MIN_DROPOUT)
        return Facts(
            (evidence,) if rates[name] >= MIN_DROPOUT else (),
            f"network.{name}",
            ("over-regularized",),
        )

    def _regularization(self) -> Facts | None:
        recipe = self.recipe
        for path, value in settings_of(recipe.optimizer, "optimizer"):
            if path.endswith(".weight_decay") and value > 0:
                steps = training_plan(recipe, self.task).steps
                shrinkage = value * float(recipe.optimizer.lr) * steps
                if shrinkage > MAX_SHRINKAGE:
                    left = f"e^-{shrinkage:.3g} is left of a weight that nothing holds"
                    return Facts((Evidence("weight decay", value, text=left),), path)
        if recipe.penalties:
            names = ", ".join(map(repr, recipe.penalties))
            return Facts((Evidence("penalties", len(recipe.penalties), text=names),), "penalties")
        smoothing = float(getattr(recipe.loss, "label_smoothing", 0.0))
        if smoothing >= MIN_SMOOTHING:
            evidence = Evidence("label smoothing", smoothing, "", MIN_SMOOTHING)
            return Facts((evidence,), "loss.label_smoothing")
        return Facts(())

    def _identity(self) -> Facts | None:
        activation = getattr(self.recipe.network, "activation", None)
        if activation is None:
            return None
        linear = isinstance(activation, Identity)
        evidence = Evidence("activation between the layers", None, text="Identity")
        return Facts((evidence,) if linear else (), "network.activation")

    def _unfitted_start(self) -> Facts | None:
        initializer = getattr(self.recipe.network, "initializer", None)
        if initializer is None or isinstance(initializer, WIDTH_AWARE):
            return Facts((), "network.initializer")
        name = "initializer that does not depend on the width"
        return Facts((Evidence(name, None, text=repr(initializer)),), "network.initializer")

    def _narrow(self) -> Facts | None:
        network = self.recipe.network
        width = max(network.hidden, default=0) if isinstance(network, Mlp) else 0
        if not 0 < width < SMALL_WIDTH:
            return None
        evidence = Evidence("units of the widest hidden layer", width, "", SMALL_WIDTH)
        return Facts((evidence,), "network.hidden")

    def _other_schedule(self) -> Facts | None:
        usual = isinstance(self.recipe.schedule, (Cosine, WarmUp, Constant))
        return None if usual else Facts((), "schedule", ("learning-rate-low",))

    def _clip(self) -> Facts | None:
        return None if self.recipe.clip is None else Facts((), "clip", ("learning-rate-low",))

    # How it runs

    def run(
        self,
        strengths: Sequence[Strength],
        *,
        seeds: range,
        steps: int | None,
        evaluate_at: Sequence[int] = (),
        loss_in_doubt: bool = False,
    ) -> list[list[SeedRun] | CannotTryError]:
        """As one cohort wherever networks are of one shape. Losses and scores are on one scale
        whatever the loss, so none is ever in doubt.
        """
        if len(seeds) == 0:
            return [[] for _ in strengths]
        assert self.bench is not None
        bench, found, recipes = self.bench, {}, {}
        for place, strength in enumerate(strengths):
            changes = [treatment.change for treatment in strength]
            try:
                recipes[place] = bench.shortened_with(changes, steps)
            except RavineError as error:
                found[place] = CannotTryError(str(error))
        own_seed = bench.recipe.seed
        wanted = [
            recipe.vary("seeds", len(seeds)).vary("seed", own_seed + seeds.start)
            for recipe in recipes.values()
        ]
        tasks = [bench.task_for(recipe) for recipe in recipes.values()]
        runs = train_on(tasks, wanted)
        for place, run, task in zip(recipes, runs, tasks, strict=True):
            found[place] = bench.evaluate(run, task)[: len(seeds)]
        return [found[place] for place in range(len(strengths))]

    def try_otherwise(self, results: TrialResults) -> TrialResults:
        return results


@dataclass(frozen=True)
class Bench:
    """What trials of a recipe need: the recipe (resolved) on a task that is small enough, its run,
    and the loss of the best constant answer.
    """

    recipe: Recipe
    task: Any
    frame: Any
    run: Run
    whole: bool  # the run is as long as the recipe says, and on all its examples
    null: float
    budget: TrialBudget

    def shortened_with(self, changes: Sequence[Change], steps: int | None) -> Recipe:
        """The recipe with changes, as it is tried: a run that is meant to be longer stays so."""
        recipe = resolve(apply_changes(self.recipe, changes), self.task)
        if recipe.epochs != self.recipe.epochs or steps is None:
            return recipe
        return shortened(recipe, self.task, steps)

    def task_for(self, recipe: Recipe) -> Any:
        """The task of a changed recipe, which is loaded again where it encodes its examples
        differently.
        """
        if recipe.encoding == self.recipe.encoding:
            return self.task
        return cut_task(load_task(recipe, self.frame), recipe)

    def evaluate(self, run: Run, task: Any = None) -> list[SeedRun]:
        """The loss (1 − R² or the log loss) and the score of each network of a run, on examples
        that it did not learn from where there are some.
        """
        alive = [m.outcome != "diverged" for m in run.record.members]
        if run.model is None:
            return [SeedRun(math.nan, None) for _ in alive]
        task = self.task if task is None else task
        held = evaluated_examples(task)
        assert held.targets is not None
        # of a run with snapshots the last weights of each
        predictions = run.model.member_predictions(held)[-sum(alive) :]
        losses = loss_of(task.kind, predictions, held.targets)
        values = zip(
            losses.clamp(max=MAX_LOSS_RATIO * self.null).tolist(),
            [scaled_score(p, held.targets) for p in predictions],
            strict=True,
        )
        return [SeedRun(*next(values)) if ok else SeedRun(math.nan, None) for ok in alive]


def subject_of(
    what: str | Path | Run | Recipe, frame: Any = None, *, module: Any = None
) -> RecipeSubject:
    """The subject that a folder, a run or a recipe stands for. Raises `InputError`."""
    if isinstance(what, Recipe):
        return _of_recipe(what, frame)
    if isinstance(what, Run):
        if what.model is not None:
            recipe = what.model.recipe
        else:
            recipe = recipe_from({"base": "plain", **what.record.recipe})
        return _of_run(what, recipe, frame, what.record.task["fingerprint"])
    folder = Path(what)
    if not (folder / "plan.json").exists():
        raise InputError(
            f"{folder} is not a run",
            why="it has no plan.json",
            do="name the folder that `ravine train` printed, or a recipe file, a table or a "
            "bundled set",
        )
    plan = read_json(folder / "plan.json")
    recipe = planned_recipe(plan, module)
    if not (folder / "record.json").exists():  # unfinished: what it is to become is tried instead
        return replace(_of_recipe(recipe, frame), folder=str(folder))
    return _of_run(open_run(folder, module=module), recipe, frame, plan["fingerprint"])


def _of_recipe(recipe: Recipe, frame: Any) -> RecipeSubject:
    task = load_task(recipe, frame)
    return RecipeSubject(resolve(recipe, task), task, frame=frame)


def _of_run(run: Run, recipe: Recipe, frame: Any, fingerprint: str) -> RecipeSubject:
    task = load_task(recipe, frame)
    if task.fingerprint != fingerprint:
        raise InputError(
            "the data of the run have changed",
            why="what was measured then says nothing of these",
            do="restore the data, or train again",
        )
    folder = None if run.folder is None else str(run.folder)
    return RecipeSubject(recipe, task, run, folder, frame)


def bench_of(recipe: Recipe, task: Any, run: Run | None, frame: Any, *, say: Say) -> Bench:
    """Everything that trials need; the recipe is trained where there is no run of it on these
    examples with enough seeds.
    """
    recipe, small = recipe.vary("seeds", TRIAL_SEEDS), cut_task(task, recipe)
    seconds = seconds_per_step(small, recipe)
    affordable = TRIAL_SECONDS / TRIAL_NETWORKS / seconds
    screening = int(max(MIN_SCREENING_STEPS, min(SCREENING_STEPS, affordable)))
    length = int(max(screening, min(MAX_TRIAL_STEPS, TRIAL_SECONDS / 4 / TRIAL_SEEDS / seconds)))
    whole = small is task
    if run is None or not whole or len(run.record.members) < TRIAL_SEEDS:
        short = shortened(recipe, small, length)
        steps = training_plan(short, small).steps
        say(f"training the recipe as it is: {steps:,} steps, {TRIAL_SEEDS} seeds")
        run, whole = train_on([small], [short])[0], whole and short.epochs == recipe.epochs
    budget = TrialBudget(SCREENING_SEEDS, screening, TRIAL_SEEDS, length)
    return Bench(recipe, small, frame, run, whole, constant_loss_of(small), budget)


def cut_task(task: Any, recipe: Recipe) -> Any:
    """The task with so few training examples that a pass over them is no longer than a trial; most
    stay as they are.
    """
    if isinstance(task.train, RowGroups):
        train = next(iter(task.train.epoch(recipe.seed, 0)))
    else:
        most = max(2, SCREENING_STEPS) * batch_size(recipe, task)
        if recipe.batch == "all" or task.train.count <= 2 * most:
            return task
        train = task.train.take(torch.linspace(0, task.train.count - 1, most).round().long())
    return replace(task, train=train, test=None, fingerprint=f"{task.fingerprint} cut")


def seconds_per_step(task: Any, recipe: Recipe) -> float:
    """How long one network takes for one step, by a few of them."""
    count = min(task.train.count, PACED_STEPS * batch_size(recipe, task))
    few = task.train.take(torch.arange(count))
    short = shortened(recipe, replace(task, train=few, validation=None, test=None), PACED_STEPS)
    began = time.perf_counter()
    train_on([replace(task, train=few, test=None)], [short], workers=1)
    return (time.perf_counter() - began) / (TRIAL_SEEDS * PACED_STEPS)


def shortened(recipe: Recipe, task: Any, steps: int) -> Recipe:
    """The recipe with so few epochs that it makes about so many steps, if it makes more."""
    per_epoch = -(-task.train.count // batch_size(recipe, task))
    assert recipe.epochs is not None  # resolved
    return recipe.vary("epochs", min(recipe.epochs, max(1, round(steps / per_epoch))))


def evaluated_examples(task: Any) -> Examples:
    """Validation examples; of a task without any, training examples."""
    if task.validation is None:
        return evenly_spaced(task.train, EVALUATED_EXAMPLES)
    return evenly_spaced(task.validation, EVALUATED_EXAMPLES)


def loss_of(kind: str, predictions: Tensor, targets: Tensor) -> Tensor:
    """1 − R² or the log loss of each network, [M]."""
    if kind == "regression":
        return 1 - metrics.R2.of(predictions, targets)
    return metrics.LOG_LOSS.of(predictions, targets)


def constant_loss_of(task: Any) -> float:
    """The same of the best constant prediction, fitted on training examples: class shares, or
    means.
    """
    held, targets = evaluated_examples(task), evenly_spaced(task.train, EVALUATED_EXAMPLES).targets
    assert held.targets is not None and targets is not None
    constant = metrics.constant_prediction(targets, task.outputs)
    return float(loss_of(task.kind, constant.expand(1, held.count, -1), held.targets)[0])


def curves_with_constant(record: Record, recipe: Recipe, task: Any) -> TrainingCurves:
    """The curves of a run, beside what the best constant answer would have lost."""
    curves = curves_of_record(record)
    if task.validation is None or isinstance(task.train, RowGroups):
        return curves
    loss: Any = recipe.loss
    references = replace(
        curves.references,
        null_train=constant_loss(loss, task.train, task.outputs),
        null_validation=constant_loss(loss, task.validation, task.outputs),
    )
    return replace(curves, references=references)


def settings_of(part: Any, path: str) -> Iterator[tuple[str, float]]:
    """The numbers among a part's settings, and among those of the parts in it, by path."""
    for name, hint in field_types(type(part)).items():
        value = getattr(part, name)
        if is_part(value):
            yield from settings_of(value, f"{path}.{name}")
        elif is_number(hint):
            yield f"{path}.{name}", float(value)
