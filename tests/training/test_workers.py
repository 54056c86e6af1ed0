"""How many processes train: decided by the steps that were made, with a clock that tests set."""

from types import SimpleNamespace

import pytest

from ravine.training.job_control import JobControl
from ravine.training.workers import MEASURED_SECONDS, START_SECONDS, Crew, Pace

STEPS = 100


class Clock:
    """A clock that goes when it is told to."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


def cohort_at(step):
    return SimpleNamespace(step=step, job=SimpleNamespace(plan=SimpleNamespace(steps=STEPS)))


def train_alone(monkeypatch, seconds, *, estimates=None, workers=1, until=1.0):
    """Train jobs of so many seconds in one process, to a share of their steps; the jobs that waited
    when others began.
    """
    monkeypatch.setattr(Crew, "_run_worker", lambda crew: None)
    crew = Crew([], [], [until * one for one in estimates or seconds], workers)
    control = JobControl(until=until)
    monkeypatch.setattr(JobControl, "__call__", lambda control, cohort: False)
    crew.waiting = list(range(len(seconds)))[::-1]
    crew.pace.clock = clock = Clock()
    began = []
    while (job := crew.take()) is not None:
        for step in range(1, round(until * STEPS) + 1):
            clock.seconds += seconds[job] / STEPS
            before = len(crew.threads)
            assert not crew.pause(job, control, cohort_at(step))
            began += [len(crew.waiting)] * (len(crew.threads) - before)
    return began


def test_many_small_jobs_reach_other_processes_once_they_are_measured(monkeypatch):
    (waiting,) = train_alone(monkeypatch, [0.3] * 64)
    assert waiting >= 62
    # an estimate five times too low, or too high, changes nothing: its ratios count
    assert train_alone(monkeypatch, [0.3] * 64, estimates=[0.06] * 64) == [waiting]
    assert train_alone(monkeypatch, [0.3] * 64, estimates=[1.5] * 64) == [waiting]


def test_two_long_jobs_are_shared(monkeypatch):
    assert train_alone(monkeypatch, [20.0, 20.0]) == [1]
    # for now they are to train a tenth, which is over before another process has started
    assert train_alone(monkeypatch, [20.0, 20.0], until=0.1) == []


@pytest.mark.parametrize(
    "seconds",
    [[0.05] * 64, [60.0], [60.0, 1.0], [2.0, 2.0]],
    ids=["many, all short", "one alone", "a short one beside it", "two short ones"],
)
def test_no_process_is_started_that_takes_longer_to_start_than_it_saves(monkeypatch, seconds):
    assert sum(seconds[1:]) <= 2 * START_SECONDS
    assert train_alone(monkeypatch, seconds, workers=8) == []


def test_as_many_processes_are_started_as_the_work_pays_for(monkeypatch):
    assert len(train_alone(monkeypatch, [0.4] * 64, workers=8)) == int(0.4 * 64 / 6)
    assert len(train_alone(monkeypatch, [40.0] * 3, workers=8)) == 2  # jobs for two
    assert len(train_alone(monkeypatch, [4.0] * 64, workers=8)) == 8


def test_what_is_made_once_in_a_process_does_not_count():
    clock = Clock()
    pace = Pace([1.0, 1.0], clock)
    clock.seconds = 100.0  # until the first step has ended
    assert pace.shareable(0, 0.1, [1]) == 0.0
    clock.seconds += MEASURED_SECONDS / 2
    assert pace.shareable(0, 0.2, [1]) == 0.0  # too little is known
    clock.seconds += MEASURED_SECONDS / 2
    # a job takes MEASURED_SECONDS / 0.2: 0.7 of the first are left, and as much can be shared of
    # the other
    assert pace.shareable(0, 0.3, [1]) == pytest.approx(1.7 * MEASURED_SECONDS / 0.2)


def test_a_job_that_goes_on_from_its_checkpoint_is_measured_by_the_steps_that_are_made():
    clock = Clock()
    pace = Pace([1.0, 1.0], clock)
    pace.shareable(0, 0.9, [1])
    clock.seconds += 1.0
    assert pace.shareable(0, 0.95, [1]) == pytest.approx(20 * 1.05)
