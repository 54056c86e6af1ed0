"""Populations: who goes on from whom, state that is copied whole, kills, what is confirmed."""

import pytest

import ravine
from ravine import catalog
from ravine.errors import InputError
from ravine.networks.batched import BatchedNetwork
from ravine.part import stack
from ravine.training.batches import training_batches
from ravine.training.cohort import start_cohort
from ravine.training.defaults import prepare, resolve
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.jobs import assign_members
from ravine.training.loop import train_cohort

PLAIN = catalog.plain().vary("data.source", "iris").vary("epochs", 30)


def train_by_hand(recipe, schedule):
    """The weights of a network whose settings are changed in a plain loop: at the first evaluation
    at or after each share.
    """
    task, resolved = prepare(recipe)
    recipes = {share: resolve(one, task) for share, one in schedule.items()}
    job = assign_members([0], recipes.pop(0.0), task, device="cpu").job
    steps = job.plan.steps
    with exact_arithmetic():
        cohort = start_cohort(job)
        batches = training_batches(task, cohort)
        evaluate = Evaluator.of_task(task, job)

        def is_change(cohort):
            return (
                bool(recipes) and evaluate.due(cohort.step) and cohort.step >= min(recipes) * steps
            )

        while cohort.ids and cohort.step < steps:
            train_cohort(cohort, batches, evaluate, pause=is_change)
            if cohort.ids and recipes:
                cohort.parts = stack([recipes.pop(min(recipes))])
                cohort.network = BatchedNetwork(cohort.parts.network, job.signature)
                cohort._refresh()
    return cohort.ended.tensors["weights"], cohort.log.series


def test_schedules_of_settings_are_compared():
    fast, slow = PLAIN, PLAIN.vary("optimizer.lr", 1e-3)
    verdict = ravine.compare(
        {"fast": fast, "falls": fast, "slow": slow}, seeds=2, changes={"falls": {0.5: slow}}
    )
    _, series = train_by_hand(fast.vary("seed", 1), {0.0: fast.vary("seed", 1), 0.5: slow})
    assert verdict["falls"].validation[1] == series["validation/accuracy"][-1][1][0]
    for changes in (
        {"none": {0.5: slow}},
        {"fast": {1.5: slow}},
        {"fast": {0.5: slow.vary("batch", 8)}},
    ):
        with pytest.raises(InputError, match="cannot be made"):
            ravine.compare({"fast": fast, "slow": slow}, seeds=2, changes=changes)
