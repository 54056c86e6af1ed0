"""The doctor's examination is fair: programs that start, answers from the vocabulary, a scorer that
counts.
"""

import pytest
import torch

from benchmarks.doctor import score
from benchmarks.doctor.program import CAUSES, PATHS, Judge, Program, Setup, explained, found
from benchmarks.doctor.programs import ALL
from benchmarks.doctor.score import Share, Visit, judged, names, offered, table, visits
from benchmarks.doctor.verify import Log, Ran, train, verdict

NAMES = {p.name for p in ALL}


class Enough(Exception):
    """Ends a loop after its first losses."""


class Impatient(Log):
    def loss(self, value):
        super().loss(value)
        if len(self.losses) == 2:
            raise Enough


def test_there_are_enough_programs_of_each_kind():
    sick = [p for p in ALL if p.sick]
    assert len(sick) >= 80 and len(ALL) - len(sick) >= 60
    assert {p.family for p in sick} == {"table", "picture", "sequence", "loop"}
    assert {p.task for p in sick} >= {"classification", "regression", "multi-label"}
    assert {p.network for p in sick} >= {"mlp", "cnn", "recurrent", "attention"}


def test_names_are_unique_and_every_sick_form_has_a_healthy_one():
    assert len(NAMES) == len(ALL)
    assert [p.name for p in ALL if p.sick and p.partner not in NAMES] == []


def test_no_pattern_has_more_than_four_sick_forms():
    groups = [p.group for p in ALL if p.sick]
    assert max(groups.count(g) for g in groups) <= 4


def test_answers_are_from_the_vocabulary():
    for p in ALL:
        assert p.causes <= CAUSES - {"healthy"}, p.name
        assert p.remedy is None or p.remedy[0] in PATHS, p.name
        assert (p.steps is not None) == (p.kind == "loop"), p.name
        assert (p.unmoved is not None) == (p.proof == "unmoved") or not p.sick, p.name


def test_the_halves_are_about_equal_and_keep_relatives_together():
    for wanted in (True, False):
        halves = [p.half for p in ALL if p.sick == wanted]
        assert 0.4 <= halves.count("tune") / len(halves) <= 0.6
    for name in NAMES:
        assert len({p.half for p in ALL if p.group == name.split("/")[0]}) == 1


@pytest.mark.parametrize("program", ALL, ids=lambda p: p.name)
def test_a_program_starts(program):
    if program.kind == "loop":
        with pytest.raises(Enough):
            program.run(0, Impatient().watch)
        return
    setup = program.build(0)
    log = Log()
    train(setup, 0, log, steps=1)
    assert len(log.losses) == 1 and setup.steps >= 1
    places = {name for name, _ in setup.model.named_modules()} | {
        n for n, _ in setup.model.named_parameters()
    }
    columns = {str(i) for i in range(30)} if program.family == "table" else set()
    assert program.where is None or program.where in places | columns | {"validation"}, (
        program.where
    )


def test_a_program_is_the_same_again_for_the_same_seed():
    program = next(p for p in ALL if p.name == "wine/healthy")
    first, second = (program.build(3).model.state_dict() for _ in range(2))
    other = program.build(4).model.state_dict()
    assert all(bool((first[k] == second[k]).all()) for k in first)
    assert any(bool((first[k] != other[k]).any()) for k in first)


def test_judges_by_hand():
    y = torch.tensor([[1.0], [3.0]])
    judge = explained(y, y)
    assert judge(torch.nn.Identity()) == 1.0
    assert judge(torch.nn.Flatten(0)) == 1.0  # outputs of shape [N] are read as [N, 1]
    assert explained(y, y, scale=-100.0)(torch.nn.Identity()) == -1.0  # never counted lower
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert found(labels, labels).chance == pytest.approx(2 * 3 / (4 + 3))
    broken = Judge(y, y, lambda out, y: 1.0, 0.0, worst=-1.0)
    assert broken(torch.nn.Threshold(5.0, float("nan"))) == -1.0


# The scorer


def program(name, causes="", where=None, exact=False):
    y = torch.zeros(10, 1)

    def code():
        model = torch.nn.Linear(1, 1)
        return Setup(
            model=model,
            loss=torch.nn.MSELoss(),
            train=(y, y),
            optimizer=torch.optim.SGD(model.parameters()),
            batch_size=1,
            epochs=10,
            judge=explained(y, y),
        )

    return Program(
        name=name,
        family="table",
        task="regression",
        network="linear",
        code=code,
        causes=frozenset(causes.split()),
        where=where,
        exact=exact,
    )


SICK = program("a/sick", "labels leakage", where="head", exact=True)
WELL = program("b/healthy")


def finding(cause, severity="warning", **more):
    return {"cause": cause, "severity": severity, "since": None, "where": None, **more}


def test_a_budget_is_the_number_of_steps():
    assert SICK.budget() == 100


def test_a_right_answer_counts_everywhere():
    v = judged(SICK, 0, [finding("labels", where="head.weight", since=10)], 100)
    assert (v.alarm, v.early, v.first, v.second, v.precision, v.where) == (
        True,
        True,
        True,
        True,
        1.0,
        True,
    )


def test_the_second_cause_counts_only_among_the_first_two():
    v = judged(SICK, 0, [finding("loss"), finding("leakage", since=50)], 100)
    assert (v.first, v.second, v.precision, v.where) == (False, True, 0.5, False)
    third = judged(
        SICK, 0, [finding("loss"), finding("loss"), finding("dropout"), finding("labels")], 100
    )
    assert (third.second, third.precision) == (False, pytest.approx(1 / 3))


def test_suspects_come_after_all_causes():
    v = judged(SICK, 0, [finding("loss", suspects=["labels"])], 100)
    assert (v.first, v.second, v.precision) == (False, True, 0.0)
    v = judged(SICK, 0, [finding("loss", suspects=["labels"]), finding("dropout")], 100)
    assert v.second is False


def test_notes_are_no_alarms_and_late_ones_are_not_early():
    v = judged(SICK, 0, [finding("labels", severity="note")], 100)
    assert (v.alarm, v.first, v.precision) == (False, False, 0.0)
    v = judged(SICK, 0, [finding("labels", since=11)], 100)
    assert (v.alarm, v.early) == (True, False)


def test_a_remedy_counts_as_offered_unless_a_trial_found_it_useless():
    change = [{"path": "lr", "value": 0.1}]
    assert offered([finding("labels", "note", changes=change)])
    assert offered([finding("labels", changes=change, trial={"verdict": "helped"})])
    assert not offered([finding("labels", changes=change, trial={"verdict": "no effect"})])
    assert not offered([finding("labels")])


def test_places():
    assert names("layers.2.weight", "layers.2") and not names("layers.21", "layers.2")


def test_the_table_by_hand():
    """Of two seeds: one right answer and one exception on the sick program; silence and an
    exception on the healthy.
    """

    def doctor(program, seed):
        if seed == 1:
            raise ValueError("lost")
        return [finding("labels", where="head")] if program.sick else []

    seen = visits(doctor, [SICK, WELL], [0, 1])
    rows = table(seen)
    assert [v.failure for v in seen] == [None, "ValueError: lost"] * 2
    assert rows["failures"] == Share(0.5, 2)
    assert rows["false alarms on healthy programs"] == Share(0.5, 1)
    for row in (
        "sick programs found",
        "found within the first 10 %",
        "right cause first",
        "mean precision",
    ):
        assert rows[row] == Share(0.5, 1)
    assert rows["right module or column"] == rows["exact classes: found"] == Share(0.5, 1)
    assert list(rows)[0] == "failures"
    assert score.misses(seen)[0].endswith("failed: ValueError: lost")


def test_a_cause_outside_the_vocabulary_is_a_failure():
    assert (
        judged(SICK, 0, [finding("gremlins")], 100).failure
        == "causes that are not in the vocabulary: gremlins"
    )


def test_baselines_know_nothing():
    seen = visits(score.always_alarm, [SICK, WELL], [0])
    rows = table(seen)
    assert rows["false alarms on healthy programs"].mean == rows["sick programs found"].mean == 1.0
    assert rows["right cause first"].mean == rows["mean precision"].mean == 0.0


def test_the_constant_answer_is_the_best_one():
    said = [f["cause"] for f in score.constant_answer(ALL[0], 0)]
    assert said == score.best_constants(ALL)[:2]


def test_intervals_against_published_numbers():
    """Wilson's interval of 81 in 263 is 0.2553 to 0.3662 (Newcombe 1998, table I, method 3)."""
    low, high = Share(81 / 263, 263).interval()
    assert (low, high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert Share(0.0, 0).interval() == (0.0, 1.0)


def test_the_verdict_on_programs_asks_for_every_seed():
    def ran(score):
        return Ran(score, 0.3, None, 0.0, 1.0, 0.5, 10, 0.1, False)

    well = [ran(0.9), ran(0.9)]
    assert verdict(SICK, [ran(0.5), ran(0.8)], well) == "ok"
    assert verdict(SICK, [ran(0.5), ran(0.9)], well).startswith("harmless")
    assert verdict(SICK, [ran(0.88), ran(0.88)], well).startswith("harmless")
    assert verdict(WELL, [ran(0.31), ran(0.3)], None).startswith("does not learn")
    assert verdict(WELL, well, None) == "ok"
    assert Visit(SICK, 0, None, False, False).causes == ()
