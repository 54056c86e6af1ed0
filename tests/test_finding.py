"""Findings: a contract in JSON that comes back as it went, an order, and few guesses."""

import json
from dataclasses import replace

import pytest

from ravine.examination.torch_settings import CURES_BY_CAUSE, STRENGTHS_BY_CAUSE
from ravine.finding import CAUSES, Change, Checks, Evidence, Finding, Report, Trial, arrange
from ravine.record import Score
from ravine.reporting.findings_text import (
    PROGRAM_CHANGES,
    closing,
    finding_line,
    finding_text,
    findings_text,
)


def finding(code, severity="warning", confidence="high", cause="learning-rate-high", **rest):
    return Finding(
        code=code,
        title=f"title of {code}",
        severity=severity,
        confidence=confidence,
        cause=cause,
        **rest,
    )


FULL = Report(
    run="runs/a-1",
    score=Score(
        metric="accuracy",
        value=0.9,
        low=0.8,
        high=0.95,
        confidence=0.95,
        higher_is_better=True,
        split="test",
        examples=40,
        members=(0.9, 0.91),
        others={"loss": 0.3},
    ),
    checks=Checks(
        passed=("P1", "P2"), not_applicable=("A1",), not_measured=("M1",), failed=("F1",)
    ),
    findings=(
        finding(
            "X1",
            severity="error",
            where="layers.2",
            since=40,
            evidence=(
                Evidence("gradient norm", 1e9, limit=1e3, text="at the last layer"),
                Evidence("loss", None),
            ),
            suspects=("exploding", "input-scale"),
            changes=(Change("optimizer.lr", 0.01), Change("clip", [1, "a"])),
            trial=Trial(
                verdict="helped",
                steps=200,
                seeds=3,
                before=2.3,
                after=0.1,
                difference=-2.2,
                interval=(-2.4, -2.0),
            ),
            explains=("X2",),
        ),
        finding("X2", severity="note", trial=Trial(verdict="not tried", why="one network only")),
    ),
)


def test_a_report_comes_back_from_json_as_it_went():
    text = json.dumps(FULL.to_json(), allow_nan=False)
    assert Report.from_json(json.loads(text)) == FULL
    assert Report.from_json(Report().to_json()) == Report()


def test_the_contract_has_these_names():
    data = FULL.to_json()
    assert list(data) == ["schema", "run", "score", "checks", "findings"]
    assert set(data["checks"]) == {"passed", "not_applicable", "not_measured", "failed"}
    assert set(data["findings"][0]) == {
        "code",
        "title",
        "severity",
        "confidence",
        "where",
        "since",
        "evidence",
        "cause",
        "suspects",
        "changes",
        "trial",
        "explains",
    }
    assert set(data["findings"][0]["evidence"][0]) == {"name", "value", "unit", "limit", "text"}
    assert set(data["findings"][0]["trial"]) >= {
        "steps",
        "seeds",
        "before",
        "after",
        "difference",
        "interval",
        "verdict",
    }
    assert len(CAUSES) == len(set(CAUSES)) == 48


def test_a_number_that_is_not_finite_is_null():
    data = Report(findings=(finding("A", evidence=(Evidence("loss", float("nan")),)),)).to_json()
    assert data["findings"][0]["evidence"][0]["value"] is None


@pytest.mark.parametrize(
    "wrong", [{"severity": "bad"}, {"confidence": "sure"}, {"cause": "bugs"}, {"suspects": ("x",)}]
)
def test_only_words_of_the_vocabulary_are_taken(wrong):
    with pytest.raises(ValueError, match="is one of"):
        replace(FULL.findings[0], **wrong)


def test_the_most_important_comes_first():
    order = [
        finding("E1", severity="error", confidence="exact"),
        finding("E2", severity="error", confidence="medium", trial=Trial(verdict="helped")),
        finding("E3", severity="error", confidence="high", since=1),
        finding("E4", severity="error", confidence="high", since=2),
        finding("W1", severity="warning", confidence="exact"),
        finding("N1", severity="note", confidence="exact"),
    ]
    assert list(arrange(reversed(order))) == order


def test_symptoms_stand_after_the_cause_that_explains_them():
    symptom = finding("S", severity="error", confidence="exact", cause="exploding", explains=("C",))
    cause = finding("C", severity="error", confidence="exact", since=0, explains=("S", "absent"))
    other = finding("O", severity="note")
    found = arrange([symptom, other, cause])
    assert [f.code for f in found] == ["C", "O", "S"]
    assert found[0].explains == ("S",)


def test_at_most_two_unconfirmed_causes_are_named():
    causes = {
        "A": "learning-rate-high",
        "B": "input-scale",
        "C": "initialization",
        "D": "input-scale",
    }
    guesses = [
        finding(c, cause=causes[c], confidence="medium", since=i) for i, c in enumerate(causes)
    ]
    sure = finding("Z", severity="note", confidence="exact", cause="zero-grad")
    found = arrange([*guesses, sure])
    assert [f.code for f in found] == ["A", "B", "D", "Z"]
    assert found[1].suspects == ("initialization",)


def test_a_note_stands_before_no_alarm_that_it_explains():
    note = finding(code="RVN-A", severity="note", explains=("RVN-B", "RVN-C"))
    alarm, other = finding(code="RVN-B", severity="warning"), finding(code="RVN-C", severity="note")
    assert [f.code for f in arrange([other, note, alarm])] == ["RVN-B", "RVN-A", "RVN-C"]


def test_a_note_of_a_code_that_has_an_alarm_is_left_out():
    """A note on the whole says nothing more; one on another column does, and on another cause."""
    alarm, note = finding("A", cause="target-scale"), finding("A", "note", cause="target-scale")
    assert arrange([note, alarm]) == (alarm,)
    column = replace(note, where="column 3")
    other = replace(note, cause="labels")
    assert len(arrange([column, alarm, other])) == 3
    assert arrange([note]) == (note,)


def test_what_is_left_out_is_not_explained():
    guesses = [
        finding("A", cause="optimizer", confidence="medium", explains=("C",)),
        finding("B", cause="batch-size", confidence="medium", since=1),
        finding("C", cause="initialization", confidence="low"),
    ]
    found = arrange(guesses)
    assert [f.code for f in found] == ["B", "A"] and found[1].explains == ()


def test_what_has_a_cause_that_is_named_already_stays():
    """It adds no guess, and would be a suspect of something else."""
    helped = finding("X", cause="initialization", trial=Trial(verdict="helped"))
    guesses = [finding(c, severity="note", cause=c) for c in ("imbalance", "input-scale", "loss")]
    more = finding("Y", severity="note", cause="initialization", confidence="low")
    found = arrange([helped, *guesses, more])
    assert [f.code for f in found] == ["X", "imbalance", "input-scale", "Y"]
    assert found[2].suspects == ("loss",)


def test_text_fits_80_columns_and_says_everything():
    text = findings_text(FULL)
    assert max(map(len, text.splitlines())) <= 80
    for said in (
        "X1",
        "title of X1",
        "layers.2",
        "step 40",
        "gradient norm: 1e+09 (limit 1,000); at the last layer",
        "X2 title of X2",
        "learning-rate-high; or exploding, input-scale",
        "optimizer.lr: 0.01",
        "helped; 200 steps x 3 seeds: 2.3 -> 0.1",
        "[-2.4, -2]",
    ):
        assert said in " ".join(text.split())
    assert "X2  title" not in text  # a note that is explained is told by what explains it
    alone = findings_text(Report(findings=(FULL.findings[1],)))
    assert "tried no: one network only" in " ".join(alone.split())
    assert text.splitlines()[-1] == closing(FULL) == "1 error, 1 note in 5 checks"
    assert closing(Report(checks=Checks(passed=("A",)))) == "nothing found in 1 check"


def evidence_line(*values, **about):
    text = finding_text(finding("X", evidence=(Evidence(*values, **about),)))
    return " ".join(text.partition("evidence")[2].partition("cause")[0].split())


def test_evidence_reads_as_a_sentence_with_unit_and_limit():
    dropped = evidence_line("of the units are dropped", 90.0, "%", limit=80.0, text="layers.1")
    assert dropped == "90% of the units are dropped (limit 80%; layers.1)"
    assert evidence_line("of a batch is one class", 90.0, "%") == "90% of a batch is one class"
    assert evidence_line("rows", 3.0, "spreads", limit=2.0) == "rows: 3 spreads (limit 2)"
    assert evidence_line("order", None, text="the same") == "order: the same"


def tried_line(**about):
    text = finding_text(finding("X", trial=Trial(**about)))
    return " ".join(text.partition("tried")[2].split())


def test_a_trial_says_what_its_numbers_are_and_which_runs_failed():
    numbers = {"before": 0.974, "after": 0.08, "difference": -0.25, "interval": (-0.25, -0.25)}
    why = "means of the loss; the same in all 5 seeds"
    told = tried_line(verdict="helped", steps=160, seeds=5, why=why, **numbers)
    assert told == f"helped; 160 steps x 5 seeds: 0.974 -> 0.08; difference -0.25; {why}"
    failed = "5 of 5 runs failed without the change, 0 of 5 with it"
    told = tried_line(verdict="helped", steps=1, seeds=5, why=failed)
    assert told == f"helped; 1 step x 5 seeds; {failed}"


def test_a_trial_and_its_changes_are_told_once():
    trial = Trial(verdict="helped", steps=160, seeds=5, why="medians of the loss")
    both = {"changes": (Change("lr", "x10"), Change("batch", 32)), "trial": trial}
    first, second = finding("X", **both), finding("Y", cause="optimizer", **both)
    note = finding("Z", cause="optimizer", severity="note", trial=trial)
    text = " ".join(findings_text(Report(findings=(first, second, note))).split())
    assert text.count("medians of the loss") == text.count("batch: 32") == 1
    assert "cause optimizer change as for X tried helped: see X" in text
    assert text.count("tried helped: see X") == 2


def test_a_code_of_several_checks_is_counted_once():
    one = Checks(passed=("A", "B"), not_measured=("C", "D"), not_applicable=("E",))
    other = Checks(passed=("A", "C"), failed=("B",), not_measured=("E", "X"))
    merged = one.merge(other, found=[finding("X")])
    assert merged == Checks(passed=("A", "C"), failed=("B",), not_measured=("D", "E"))


def test_changes_of_a_program_are_what_one_writes_in_it():
    changes = Change("loss", "paired"), Change("lr", "x0.1"), Change("batch", 32)
    text = " ".join(finding_text(finding("X", changes=changes)).split())
    assert "loss: output and target of one shape before the loss: output.squeeze(1)" in text
    assert "lr: 0.1 times the present one" in text and "batch: 32" in text


def test_every_word_that_a_trial_changes_in_a_program_is_explained():
    treatments = [
        t
        for cures in (CURES_BY_CAUSE, STRENGTHS_BY_CAUSE)
        for c in cures.values()
        for strength in c
        for t in strength
    ]
    words = {f"{c.path}: {c.value}" for t in treatments if isinstance((c := t.change).value, str)}
    assert {w for w in words if not w.startswith("lr: x")} <= set(PROGRAM_CHANGES)


def test_plain_text_is_ascii_and_color_only_colors():
    assert findings_text(FULL, plain=True).isascii()
    assert "\x1b[" in findings_text(FULL, color=True) and "\x1b[" not in findings_text(FULL)
    long = replace(FULL.findings[0], title="a title that goes on and on, " * 6)
    assert max(map(len, finding_text(long).splitlines())) <= 80
    assert len(finding_line(long)) <= 80


@pytest.mark.parametrize(("where", "shown"), [("0", "'0'"), ("hidden.0", "hidden.0"), ("", "")])
def test_a_name_that_is_a_number_is_quoted(where, shown):
    line, text = finding_line(finding("X", where=where)), finding_text(finding("X", where=where))
    assert line.endswith(f"title of X ({shown})" if shown else "title of X")
    assert (f"where     {shown}" in text) == bool(shown)


def test_a_report_prints_in_one_line():
    assert repr(Report(checks=Checks(passed=("P1",)))) == "Report(nothing found; 1 checks passed)"
    line = str(FULL)
    assert "2 checks passed, 1 not measured: report.checks.not_measured)" in line
    assert all(f"{f.code} {f.severity}" in line for f in FULL.findings) and len(line) < 200
