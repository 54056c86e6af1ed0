"""Several changes at once, on a subject whose loss is a formula of what is changed."""

import itertools

import pytest

from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.trials.trial_results import Outcome, TrialResults
from ravine.examination.remedies import Remedy
from ravine.examination.subject import CannotTryError, SeedRun, SubjectProfile, TrialBudget
from ravine.examination.together import confirm_together, fewest, try_together
from ravine.examination.trials import Cure, screen_remedies
from ravine.finding import Change, Checks, Evidence

FACT = (Evidence("a fact", 1.0),)


class Made:
    def __init__(self, path):
        self.change = Change(path, 0)

    def __repr__(self):
        return self.change.path


INPUTS, INIT, RATE, DROPOUT = map(Made, ("input.scale", "init", "lr", "dropout"))


class Formula:
    """A subject whose loss with changes is a function of their paths; 1 is the best constant's."""

    budget = TrialBudget(screening_seeds=1, screening_steps=10, seeds=5, steps=10)

    def __init__(self, loss):
        self.loss, self.asked = loss, []

    def strengths(self, cause):
        return ((RATE,),) if cause == "learning-rate-high" else ()

    def join(self, strengths):
        return tuple(itertools.chain.from_iterable(strengths))

    def run(self, strengths, *, seeds, steps, evaluate_at=(), loss_in_doubt=False):
        self.asked += strengths
        found = []
        for strength in strengths:
            loss = self.loss({made.change.path for made in strength})
            refused = CannotTryError("it cannot be made")
            runs = [SeedRun(loss + s / 1000, None) for s in seeds] if loss is not None else refused
            found.append(runs)
        return found


def examine(loss, remedies):
    subject = Formula(loss)
    base = Outcome(cause="healthy", losses=(loss(set()),), scores=(None,))
    results = TrialResults(base=base, constant_loss=1.0, start_loss=1.0, steps=10)
    runs = (SeedRun(loss(set()), None),)
    profile = SubjectProfile(
        findings=[], checks=Checks(), start=StartProfile(), runs=runs, results=results
    )
    screening = screen_remedies(subject, profile, remedies, say=print)
    return subject, screening.results, screening, runs


FACTS = [Remedy("input-scale", ((INPUTS,),), FACT), Remedy("initialization", ((INIT,),), FACT)]


@pytest.mark.parametrize(
    ("needed", "causes"),
    [
        ({"input.scale", "init"}, ["input-scale", "initialization"]),
        ({"input.scale", "lr"}, ["input-scale", "learning-rate-high"]),
        ({"input.scale", "init", "lr"}, ["input-scale", "initialization", "learning-rate-high"]),
        ({"dropout"}, []),  # for which no fact speaks
    ],
)
def test_what_helps_only_together_is_found_and_nothing_more(needed, causes):
    subject, results, screening, own = examine(lambda made: 0.1 if needed <= made else 9.6, FACTS)
    assert results.best_explanation is None
    cures = try_together(subject, results, FACTS, screening, say=print)
    assert [cure.cause for cure in cures] == causes
    if cures:
        outcome = confirm_together(subject, results, cures, own)
        assert outcome.trial.verdict == "helped" and outcome.trial.seeds == 5
        assert {change.path for change in outcome.changes} == needed


def test_a_rate_that_makes_up_for_a_fault_gives_way_to_it():
    def loss(made):
        return 0.1 if made & {"input.scale"} else 0.2 if "lr" in made else 2.0

    cures = [Cure("learning-rate-high", (RATE,)), Cure("input-scale", (INPUTS,), FACT)]
    subject, results, _, _ = examine(loss, FACTS)
    assert [c.cause for c in fewest(subject, results, cures)] == ["input-scale"]


def test_what_is_certain_stays_though_it_gains_nothing():
    cures = [Cure("input-scale", (INPUTS,)), Cure("dropout", (DROPOUT,), is_certain=True)]
    subject, results, _, _ = examine(lambda made: 0.1 if "input.scale" in made else 2.0, FACTS)
    assert [c.cause for c in fewest(subject, results, cures)] == ["input-scale", "dropout"]


def test_first_stands_what_is_missed_most():
    def loss(made):
        return {0: 2.0, 2: 0.0}.get(len(made), 1.0 if "init" in made else 0.5)

    cures = [Cure("initialization", (INIT,)), Cure("input-scale", (INPUTS,))]
    subject, results, _, _ = examine(loss, FACTS)
    assert [c.cause for c in fewest(subject, results, cures)] == ["input-scale", "initialization"]


def test_nine_tenths_of_the_gain_are_enough():
    losses = {2: 0.0, 1: 0.09}
    cures = [Cure("input-scale", (INPUTS,)), Cure("initialization", (INIT,))]
    subject, results, _, _ = examine(lambda made: losses.get(len(made), 1.0), FACTS)
    assert len(fewest(subject, results, cures)) == 1
    losses[1] = 0.11
    assert len(fewest(subject, results, cures)) == 2


def test_what_cannot_be_made_together_is_not_advised():
    def loss(made):
        return None if len(made) > 1 else 9.6

    subject, results, screening, own = examine(loss, FACTS)
    assert try_together(subject, results, FACTS, screening, say=print) == ()
    assert confirm_together(subject, results, [Cure("x", (INPUTS, INIT))], own) is None
