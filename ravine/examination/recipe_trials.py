"""Trials of a recipe: on which task and for how long they train, and how their runs are evaluated.

Letters: M networks, N examples, C outputs.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ravine import metrics
from ravine.data import Examples, RowGroups, TableLike, Task
from ravine.data.examples import evenly_spaced
from ravine.diagnosis.trials.trial_results import TRIAL_SEEDS
from ravine.examination.recipe_changes import apply_changes
from ravine.examination.recipe_module import step_seconds
from ravine.examination.scores import scaled_score
from ravine.examination.subject import Say, SeedRun, TrialBudget
from ravine.finding import Change
from ravine.recipe import Recipe
from ravine.training.defaults import batch_size, load_task, resolve, training_plan
from ravine.training.run import Run
from ravine.training.train import train_on

SCREENING_SEEDS, SCREENING_STEPS, MIN_SCREENING_STEPS = 2, 300, 40
MAX_RECIPE_STEPS = 1500  # of a trial that counts, and of the recipe where there is no run of it
TRIAL_SECONDS = 60.0  # for all trials together, about, on a core that is as fast as is said below
TRIAL_NETWORKS = 60  # trained for a trial's steps, about
MAX_EVALUATED_EXAMPLES = 4000
MAX_LOSS_RATIO = 2.0  # times the constant's loss: or a few bad runs would hide the rest


@dataclass(frozen=True, kw_only=True)
class RecipeTrials:
    """What trials of a recipe need: the recipe (resolved) on a task that is small enough, its run,
    and the loss of the best constant answer.
    """

    recipe: Recipe
    task: Task
    frame: TableLike | None
    run: Run
    whole: bool  # the run is as long as the recipe says, and on all its examples
    constant_loss: float
    budget: TrialBudget

    def shorten_with(self, changes: Sequence[Change], steps: int | None) -> Recipe:
        """The recipe with changes, as it is tried: a run that is meant to be longer stays so."""
        recipe = resolve(apply_changes(self.recipe, changes), self.task)
        if recipe.epochs != self.recipe.epochs or steps is None:
            return recipe
        return shorten_recipe(recipe, self.task, steps)

    def task_for(self, recipe: Recipe) -> Task:
        """The task of a changed recipe, loaded again where examples are encoded differently."""
        if recipe.encoding == self.recipe.encoding:
            return self.task
        return replace(cut_task(load_task(recipe, self.frame), recipe), test=None)

    def evaluate(self, run: Run, task: Task | None = None) -> list[SeedRun]:
        """The loss (1 − R² or log loss) and score of each network, on held-out examples if any."""
        alive = [m.outcome != "diverged" for m in run.record.members]
        if run.model is None:
            return [SeedRun(math.nan, None) for _ in alive]
        task = self.task if task is None else task
        examples = evaluated_examples(task)
        assert examples.targets is not None
        # of a run with snapshots the last weights of each
        predictions = run.model.member_predictions(examples)[-sum(alive) :]
        losses = _losses(task, predictions, examples.targets)
        losses = losses.clamp(max=MAX_LOSS_RATIO * self.constant_loss).tolist()
        scores = (scaled_score(p, examples.targets) for p in predictions)
        recalls: Iterable[float | None] = [None] * len(losses)
        if task.kind in ("binary", "classes"):
            recalls = metrics.BALANCED_ACCURACY.of(predictions, examples.targets).tolist()
        figures = zip(losses, scores, recalls, strict=True)
        runs = (SeedRun(loss, score, recall=recall) for loss, score, recall in figures)
        return [next(runs) if ok else SeedRun(math.nan, None) for ok in alive]


def prepare_trials(
    recipe: Recipe, task: Task, *, run: Run | None = None, frame: TableLike | None = None, say: Say
) -> RecipeTrials:
    """What trials need; trains the recipe where no run on these examples has enough seeds."""
    recipe = recipe.vary("seeds", TRIAL_SEEDS)
    small = cut_task(task, recipe)
    seconds = step_seconds(small, recipe)
    affordable = TRIAL_SECONDS / TRIAL_NETWORKS / seconds
    screening = int(max(MIN_SCREENING_STEPS, min(SCREENING_STEPS, affordable)))
    length = int(max(screening, min(MAX_RECIPE_STEPS, TRIAL_SECONDS / 4 / TRIAL_SEEDS / seconds)))
    whole = small is task
    small = replace(small, test=None)  # trials are compared on the validation split
    if run is None or not whole or len(run.record.members) < TRIAL_SEEDS:
        short = shorten_recipe(recipe, small, length)
        steps = training_plan(short, small).steps
        say(f"training the recipe as it is: {steps:,} steps, {TRIAL_SEEDS} seeds")
        run = train_on([small], [short])[0]
        whole = whole and short.epochs == recipe.epochs
    return RecipeTrials(
        recipe=recipe,
        task=small,
        frame=frame,
        run=run,
        whole=whole,
        constant_loss=constant_loss_of_task(small),
        budget=TrialBudget(SCREENING_SEEDS, screening, TRIAL_SEEDS, length),
    )


def cut_task(task: Task, recipe: Recipe) -> Task:
    """The task with so few training examples that an epoch is no longer than a trial."""
    if isinstance(task.train, RowGroups):
        train = next(iter(task.train.epoch(recipe.seed, 0)))
    else:
        most = max(2, SCREENING_STEPS) * batch_size(recipe, task)
        if recipe.batch == "all" or task.train.count <= 2 * most:
            return task
        train = evenly_spaced(task.train, most)
    return replace(task, train=train, test=None, fingerprint=f"{task.fingerprint} cut")


def shorten_recipe(recipe: Recipe, task: Task, steps: int) -> Recipe:
    """The recipe with so few epochs that it makes about so many steps, if it makes more."""
    per_epoch = -(-task.train.count // batch_size(recipe, task))
    assert recipe.epochs is not None  # resolved
    return recipe.vary("epochs", min(recipe.epochs, max(1, round(steps / per_epoch))))


def evaluated_examples(task: Task) -> Examples:
    """Validation examples; of a task without any, training examples."""
    examples = task.train if task.validation is None else task.validation
    return evenly_spaced(examples, MAX_EVALUATED_EXAMPLES)


def constant_loss_of_task(task: Task) -> float:
    """The loss (1 − R² or the log loss) of the best constant answer to the training examples."""
    held_out = evaluated_examples(task)
    targets = evenly_spaced(task.train, MAX_EVALUATED_EXAMPLES).targets
    assert held_out.targets is not None and targets is not None
    constant = metrics.constant_prediction(targets, task.outputs)
    predictions = constant.expand(1, held_out.count, -1)
    return float(_losses(task, predictions, held_out.targets)[0])


def _losses(task: Task, predictions: Tensor, targets: Tensor) -> Tensor:
    """1 − R² or the log loss of each network, [M], from predictions [M, N, C]."""
    if task.kind == "regression":
        return 1 - metrics.R2.of(predictions, targets)
    return metrics.LOG_LOSS.of(predictions, targets)
