"""Ravine itself: a cohort in its training loop, with everything recorded that a run records.

The validation split is left out while steps are timed, as it is for the others. Gradients and
updates are measured at intervals that depend on the length of the run: it is planned for 60 epochs,
the least that a recipe chooses by itself, and left when the asked ones are done.
"""

from __future__ import annotations

import torch

from benchmarks.cases import MOMENTUM, RATES, Case, Go, Watch, Weights
from ravine.data import Data, Encoding, Examples, Stratified
from ravine.losses import SoftmaxCrossEntropy
from ravine.metrics import main_metric
from ravine.networks.mlp import Mlp
from ravine.optimizers import Adam, Momentum
from ravine.protocols import Plan, Signature
from ravine.recipe import Recipe
from ravine.schedules import Constant
from ravine.training.batches import InMemory
from ravine.training.cohort import Cohort, Job, networks_at_once, start_cohort
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.loop import train_cohort

BATCHED, PACKAGES = True, ("torch",)
PLANNED_EPOCHS = 60


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    cohorts = [
        cohort_of(case, optimizer, some, planned_epochs=max(PLANNED_EPOCHS, epochs))
        for some in cut(starts, one=watch is not None)
    ]
    prepared = [(cohort, *source_and_evaluator(case, cohort)) for cohort in cohorts]

    def pause(cohort: Cohort) -> bool:
        if cohort.step % case.per_epoch:
            return False
        if watch is not None:
            watch(lambda: weights_of(cohort))
        return cohort.step == epochs * case.per_epoch

    def go() -> None:
        with exact_arithmetic():
            for cohort, source, evaluate in prepared:
                train_cohort(cohort, source, evaluate, pause=pause, threads=1)

    return go


def cut(starts: list[Weights], *, one: bool) -> list[list[Weights]]:
    """The networks in cohorts of the size that training chooses; all in `one` where they are
    watched.
    """
    width = sum(array.size for layer in starts[0] for array in layer)
    cohorts = 1 if one else -(-len(starts) // networks_at_once(width, device="cpu"))
    size = -(-len(starts) // cohorts)
    return [starts[at : at + size] for at in range(0, len(starts), size)]


def cohort_of(case: Case, optimizer: str, starts: list[Weights], *, planned_epochs: int) -> Cohort:
    """The cohort before its first step, at the given weights."""
    rule = (
        Momentum(lr=RATES["sgd"], momentum=MOMENTUM)
        if optimizer == "sgd"
        else Adam(lr=RATES["adam"])
    )
    recipe = Recipe(
        data=Data(),
        split=Stratified(),
        encoding=Encoding(),
        network=Mlp(hidden=case.sizes[1:-1]),
        optimizer=rule,
        schedule=Constant(),
        loss=SoftmaxCrossEntropy(),
        batch=case.batch,
        epochs=planned_epochs,
        seeds=1,
    )
    job = Job(
        recipes=(recipe,) * len(starts),
        seeds=tuple(range(len(starts))),
        signature=Signature(case.sizes[0], (), case.sizes[-1]),
        plan=Plan(steps=planned_epochs * case.per_epoch, per_epoch=case.per_epoch),
        batch=case.batch,
    )
    cohort = start_cohort(job)
    slots = list(cohort.network.layout.views(cohort.weights).values())
    for i, weights in enumerate(starts):
        arrays = [array for layer in weights for array in layer]
        for slot, array in zip(slots, arrays, strict=True):
            slot[i].copy_(torch.from_numpy(array).view_as(slot[i]))
    return cohort


def source_and_evaluator(case: Case, cohort: Cohort) -> tuple[InMemory, Evaluator]:
    """The training examples, and a judge without a validation split."""
    data = case.data()
    examples = Examples(torch.from_numpy(data.inputs), None, torch.from_numpy(data.classes))
    judge = Evaluator(cohort.job.plan, None, main_metric("classes"))
    return InMemory(examples, cohort.seeds, batch=case.batch), judge


def weights_of(cohort: Cohort) -> list[Weights]:
    arrays = [view.numpy() for view in cohort.network.layout.views(cohort.weights).values()]
    return [
        [
            (w[i].copy(), b[i].reshape(-1).copy())
            for w, b in zip(arrays[::2], arrays[1::2], strict=True)
        ]
        for i in range(len(cohort.ids))
    ]
