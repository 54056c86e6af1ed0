"""The doctor's examination is fair: scripts that start, answers from the vocabulary, a scorer that
counts.
"""

import hashlib
from dataclasses import replace

import pytest
import torch

from benchmarks.diagnosis import score
from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.score import (
    Diagnosis,
    Proportion,
    is_within,
    offers_remedy,
    run_doctor,
    score_findings,
    table_rows,
)
from benchmarks.diagnosis.training_script import (
    CAUSES,
    REMEDY_PATHS,
    Scorer,
    TrainingScript,
    TrainingSetup,
    micro_f1,
    r2,
)
from benchmarks.diagnosis.verify import (
    Log,
    TrainingResult,
    further_gain,
    train,
    train_script,
    training_verdict,
    verdict,
)

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
    assert {p.family for p in sick} == {"table", "image", "sequence", "loop"}
    assert {p.task for p in sick} >= {"classification", "regression", "multi-label"}
    assert {p.network for p in sick} >= {"mlp", "cnn", "recurrent", "attention"}


def test_names_are_unique_and_every_sick_form_has_a_healthy_one():
    assert len(NAMES) == len(ALL)
    assert [p.name for p in ALL if p.sick and p.partner not in NAMES] == []


def test_a_script_knows_the_file_it_stands_in():
    """Also where a form is the group's function with other arguments."""
    files = {script.name: script.file for script in ALL}
    assert files["gas-meter/seconds-since-1970"] == files["gas-meter/healthy"]
    assert sum(file.startswith("posted_") for file in files.values()) == 273
    assert sum(file.startswith("later_") for file in files.values()) == 175


def test_no_pattern_has_more_than_four_sick_forms():
    groups = [p.group for p in ALL if p.sick]
    assert max(groups.count(g) for g in groups) <= 4


def test_answers_are_from_the_vocabulary():
    for p in ALL:
        assert p.causes <= CAUSES - {"healthy"}, p.name
        assert p.remedy is None or p.remedy[0] in REMEDY_PATHS, p.name
        assert (p.steps is not None) == (p.kind == "loop"), p.name
        assert (p.unmoved is not None) == (p.proof == "unmoved") or not p.sick, p.name


def test_the_halves_are_about_equal_and_keep_relatives_together():
    for wanted in (True, False):
        halves = [p.half for p in ALL if p.sick == wanted]
        assert 0.4 <= halves.count("tune") / len(halves) <= 0.6
    for name in NAMES:
        assert len({p.half for p in ALL if p.group == name.split("/")[0]}) == 1


def sampled(script):
    """One script in eight, always the same ones; the others are started by `-m slow`."""
    return hashlib.sha256(script.name.encode()).digest()[0] % 8 == 0


SAMPLED_OR_SLOW = [
    pytest.param(p, id=p.name, marks=() if sampled(p) else pytest.mark.slow) for p in ALL
]


@pytest.mark.filterwarnings("ignore:Using a target size")  # the fault of some
@pytest.mark.parametrize("script", SAMPLED_OR_SLOW)
def test_a_program_starts(script):
    if script.kind == "loop":
        with pytest.raises(Enough):
            script.run(0, Impatient().watch)
        return
    setup = script.build(0)
    log = Log()
    train(setup, 0, log, steps=1)
    assert len(log.losses) == 1 and setup.steps >= 1
    places = {name for name, _ in setup.model.named_modules()} | {
        n for n, _ in setup.model.named_parameters()
    }
    columns = {str(i) for i in range(30)} if script.family == "table" else set()
    assert script.where is None or script.where in places | columns | {"validation"}, script.where


def test_a_program_is_the_same_again_for_the_same_seed():
    script = next(p for p in ALL if p.name == "wine/healthy")
    first, second = (script.build(3).model.state_dict() for _ in range(2))
    other = script.build(4).model.state_dict()
    assert all(bool((first[k] == second[k]).all()) for k in first)
    assert any(bool((first[k] != other[k]).any()) for k in first)


def test_judges_by_hand():
    y = torch.tensor([[1.0], [3.0]])
    scorer = r2(y, y)
    assert scorer(torch.nn.Identity()) == 1.0
    assert scorer(torch.nn.Flatten(0)) == 1.0  # outputs of shape [N] are read as [N, 1]
    assert r2(y, y, scale=-100.0)(torch.nn.Identity()) == -1.0  # never counted lower
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert micro_f1(labels, labels).chance == pytest.approx(2 * 3 / (4 + 3))
    broken = Scorer(y, y, lambda out, y: 1.0, 0.0, worst=-1.0)
    assert broken(torch.nn.Threshold(5.0, float("nan"))) == -1.0


# The scorer


def script(name, causes="", where=None, exact=False):
    y = torch.zeros(10, 1)

    def code():
        model = torch.nn.Linear(1, 1)
        return TrainingSetup(
            model=model,
            loss=torch.nn.MSELoss(),
            train=(y, y),
            optimizer=torch.optim.SGD(model.parameters()),
            batch_size=1,
            epochs=10,
            scorer=r2(y, y),
        )

    return TrainingScript(
        name=name,
        family="table",
        task="regression",
        network="linear",
        code=code,
        causes=frozenset(causes.split()),
        where=where,
        exact=exact,
    )


SICK = script("a/sick", "labels leakage", where="head", exact=True)
WELL = script("b/healthy")


def finding(cause, severity="warning", **more):
    return {"cause": cause, "severity": severity, "since": None, "where": None, **more}


def test_a_budget_is_the_number_of_steps():
    assert SICK.budget() == 100


def test_a_right_answer_counts_everywhere():
    v = score_findings(SICK, 0, [finding("labels", where="head.weight", since=10)], 100)
    assert (v.alarm, v.early, v.first, v.second, v.precision, v.where) == (
        True,
        True,
        True,
        True,
        1.0,
        True,
    )


def test_the_second_cause_counts_only_among_the_first_two():
    v = score_findings(SICK, 0, [finding("loss"), finding("leakage", since=50)], 100)
    assert (v.first, v.second, v.precision, v.where) == (False, True, 0.5, False)
    third = score_findings(
        SICK, 0, [finding("loss"), finding("loss"), finding("dropout"), finding("labels")], 100
    )
    assert (third.second, third.precision) == (False, pytest.approx(1 / 3))


def test_suspects_come_after_all_causes():
    v = score_findings(SICK, 0, [finding("loss", suspects=["labels"])], 100)
    assert (v.first, v.second, v.precision) == (False, True, 0.0)
    v = score_findings(SICK, 0, [finding("loss", suspects=["labels"]), finding("dropout")], 100)
    assert v.second is False


def test_notes_are_no_alarms_and_late_ones_are_not_early():
    v = score_findings(SICK, 0, [finding("labels", severity="note")], 100)
    assert (v.alarm, v.first, v.precision) == (False, False, 0.0)
    v = score_findings(SICK, 0, [finding("labels", since=11)], 100)
    assert (v.alarm, v.early) == (True, False)


def test_a_remedy_counts_as_offered_unless_a_trial_found_it_useless():
    change = [{"path": "lr", "value": 0.1}]
    assert offers_remedy([finding("labels", "note", changes=change)])
    assert offers_remedy([finding("labels", changes=change, trial={"verdict": "helped"})])
    assert not offers_remedy([finding("labels", changes=change, trial={"verdict": "no effect"})])
    assert not offers_remedy([finding("labels")])


def test_places():
    assert is_within("layers.2.weight", "layers.2") and not is_within("layers.21", "layers.2")


def test_the_table_by_hand():
    """Of two seeds: one right answer and one exception on the sick script; silence and an
    exception on the healthy.
    """

    def doctor(script, seed):
        if seed == 1:
            raise ValueError("lost")
        return [finding("labels", where="head")] if script.sick else []

    diagnoses = run_doctor(doctor, [SICK, WELL], [0, 1])
    rows = table_rows(diagnoses)
    assert [v.failure for v in diagnoses] == [None, "ValueError: lost"] * 2
    assert rows["failures"] == Proportion(0.5, 2)
    assert rows["false alarms on healthy scripts"] == Proportion(0.5, 1)
    for row in (
        "sick scripts found",
        "found within the first 10 %",
        "right cause first",
        "mean precision",
    ):
        assert rows[row] == Proportion(0.5, 1)
    assert rows["right module or column"] == rows["exact classes: found"] == Proportion(0.5, 1)
    assert list(rows)[0] == "failures"
    assert score.describe_misses(diagnoses)[0].endswith("failed: ValueError: lost")


def test_a_cause_outside_the_vocabulary_is_a_failure():
    assert (
        score_findings(SICK, 0, [finding("gremlins")], 100).failure
        == "causes that are not in the vocabulary: gremlins"
    )


def test_baselines_know_nothing():
    diagnoses = run_doctor(score.always_alarm, [SICK, WELL], [0])
    rows = table_rows(diagnoses)
    assert rows["false alarms on healthy scripts"].mean == rows["sick scripts found"].mean == 1.0
    assert rows["right cause first"].mean == rows["mean precision"].mean == 0.0


def test_the_constant_answer_is_the_best_one():
    scripts = [
        script(f"{i}/sick", causes)
        for i, causes in enumerate(["loss", "loss labels", "labels", ""])
    ]
    assert score.best_constants([*scripts, script("5/sick", "loss split")]) == ["loss", "labels"]
    named = [f["cause"] for f in score.constant_answer(ALL[0], 0)]
    right = [sum(cause in p.causes for p in ALL) for cause in CAUSES]
    assert sum(named[0] in p.causes for p in ALL) == max(right)
    assert len(set(named)) == 2


def test_intervals_against_published_numbers():
    """Wilson's interval of 81 in 263 is 0.2553 to 0.3662 (Newcombe 1998, table I, method 3)."""
    low, high = Proportion(81 / 263, 263).interval()
    assert (low, high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert Proportion(0.0, 0).interval() == (0.0, 1.0)


def test_the_verdict_on_programs_asks_for_every_seed():
    def result(score):
        return TrainingResult(score, 0.3, None, 0.0, 1.0, 0.5, 10, 0.1, False)

    well = [result(0.9), result(0.9)]
    assert verdict(SICK, [result(0.5), result(0.8)], well) == "ok"
    assert verdict(SICK, [result(0.5), result(0.9)], well).startswith("harmless")
    assert verdict(SICK, [result(0.88), result(0.88)], well).startswith("harmless")
    assert verdict(WELL, [result(0.31), result(0.3)], None).startswith("does not learn")
    assert verdict(WELL, well, None) == "ok"
    assert Diagnosis(SICK, 0, None, False, False).causes == ()


def test_the_gain_of_other_training_is_the_larger_of_score_and_loss():
    def result(score, fall):
        return TrainingResult(score, 0.5, None, 0.0, 1.0, 0.5, 10, 0.1, False, fall)

    assert further_gain(result(0.7, 0.4), result(0.8, 0.4)) == pytest.approx(0.2)
    assert further_gain(result(0.7, 0.4), result(0.7, 0.5)) == pytest.approx(0.25)
    assert further_gain(result(0.7, None), result(0.6, 0.5)) == pytest.approx(-0.2)
    assert further_gain(result(0.7, 0.4), result(0.7, float("nan"))) == 0.0


def test_a_setup_that_gains_by_ten_times_its_rate_is_no_healthy_one():
    """A line with slope 3, a tenth of the way there in its budget; at ten times the rate it is."""
    x = torch.linspace(-1, 1, 64)[:, None]

    def code(lr):
        model = torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(model.weight)
        return TrainingSetup(
            model=model,
            loss=torch.nn.MSELoss(),
            train=(x, 3 * x),
            validation=(x, 3 * x),
            optimizer=torch.optim.SGD(model.parameters(), lr=lr),
            batch_size=16,
            epochs=5,
            scorer=r2(x, 3 * x),
        )

    def found(lr):
        healthy = replace(WELL, code=lambda: code(lr))
        return training_verdict(healthy, [train_script(healthy, seed) for seed in range(2)])

    assert found(0.01).startswith("learning-rate-low")
    assert found(0.3) == "ok"
