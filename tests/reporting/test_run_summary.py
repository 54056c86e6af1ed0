"""The summary of a run: what it shows, and that it fits a terminal."""

import dataclasses
import math
import re

import pytest

from ravine import catalog, optimizers, train
from ravine.data import Data
from ravine.finding import Finding
from ravine.record import Baseline
from ravine.reporting.run_summary import summary
from ravine.serialization import to_plain


def iris(**changes):
    recipe = dataclasses.replace(catalog.plain(), data=Data(source="iris"), epochs=6, **changes)
    return train(recipe, workers=1).record


@pytest.fixture(scope="module")
def record():
    return iris(seeds=2, clip=catalog.default().clip)


def lines(record, **settings):
    text = summary(record, **settings)
    assert max(map(len, text.splitlines())) <= 80
    return text.splitlines()


def block(text, label):
    """The lines beside a label."""
    at = next((i for i, line in enumerate(text) if line.startswith(f"{label:12}")), None)
    if at is None:
        return []
    after = next((i for i in range(at + 1, len(text)) if text[i][:12].strip()), len(text))
    return [line[12:] for line in text[at:after]]


def test_it_says_what_was_inferred_and_how_it_trained(record):
    text = lines(record)
    assert block(text, "data") == [
        "Target target: classification, 3 classes (a column of text).",
        "Input columns: 4 numeric.",
        "Split: 102 training, 24 validation and 24 test rows (Stratified).",
    ]
    assert block(text, "network") == ["Mlp 4-64, 515 weights, ensemble of 2"]
    settings, ended, best, seconds = block(text, "training")
    assert settings == "Momentum with lr 0.1, Constant, batch size 32"
    assert ended == "2 of 2 networks trained for all 6 epochs"
    assert best.startswith("best weights from epoch") and seconds.endswith(" s")


def test_what_a_constant_and_trees_reach_stands_beside_the_score(record):
    score, others, networks, *table = block(lines(record), "score")
    assert score.startswith("accuracy 0.") and " on 24 test rows, 95% interval 0." in score
    # iris: three classes of equal size
    trees = record.score.baselines["trees"].values["accuracy"]
    assert others == f"best constant prediction 0.3333, boosted trees {trees:.4f}"
    assert networks.startswith("single networks 0.")
    assert table[0].split() == ["networks", "constant", "trees"]
    rows = {name: numbers for name, *numbers in map(str.split, table[1:])}
    assert set(rows) == set(record.score.others)
    assert rows["accuracy"][1] == "0.3333" and rows["balanced_accuracy"][1] == "0.3333"


def test_why_there_are_no_trees_is_said(record):
    none = {**record.score.baselines, "trees": Baseline(note="not asked for")}
    score = dataclasses.replace(record.score, baselines=none)
    _, others, _, header, *_ = block(lines(dataclasses.replace(record, score=score)), "score")
    assert others == "best constant prediction 0.3333; no boosted trees: not asked for"
    assert header.split() == ["networks", "constant"]


def test_a_mean_that_does_worse_than_its_members_says_so(record):
    better = dataclasses.replace(record.score, value=0.9, members=(0.95, 0.97))
    text = block(lines(dataclasses.replace(record, score=better)), "score")
    assert text[3] == "their mean, which is the model, does worse on these rows, by 0.06"
    equal = dataclasses.replace(record.score, value=0.96, members=(0.95, 0.97))
    text = lines(dataclasses.replace(record, score=equal))
    assert not any("does worse" in line for line in text)


def test_one_answer_for_every_row_comes_before_its_score(record):
    answers = {"setosa": (24, 8), "versicolor": (0, 8), "virginica": (0, 8)}
    score = dataclasses.replace(record.score, answers=answers)
    first, second, *_ = block(lines(dataclasses.replace(record, score=score)), "score")
    assert first == "every row is answered 'setosa':" and second.startswith("accuracy")


def test_several_targets_have_a_line_each(record):
    each = {"network": {"r2": 0.5}, "constant": {"r2": 0.0}, "trees": {"r2": 0.25}}
    targets = {name: each for name in ("height", "a name of forty letters " * 2, *"abcdefghi")}
    known = {"constant": Baseline({"r2": 0.0})}
    score = dataclasses.replace(record.score, metric="r2", targets=targets, baselines=known)
    text = block(lines(dataclasses.replace(record, score=score)), "score")
    at = next(i for i, line in enumerate(text) if line.startswith("r2 of"))
    assert text[at + 1].split() == ["height", "0.5", "0", "0.25"]
    assert text[-1] == "and 1 more: --json"


def test_several_numbers_have_an_error_in_their_own_units_each_and_none_together(record):
    values = {"r2": 0.5, "rmse": 7.0, "mae": 6.0}
    targets = {"mm": {"network": values}, "g": {"network": values | {"rmse": 900.0}}}
    score = dataclasses.replace(
        record.score, metric="r2", targets=targets, others=values, baselines={}
    )
    text = block(lines(dataclasses.replace(record, score=score)), "score")
    assert [line for line in text if "rmse" in line or "mae" in line] == [
        line for line in text if line.startswith("rmse of")
    ]
    at = next(i for i, line in enumerate(text) if line.startswith("rmse of"))
    assert [line.split() for line in text[at + 1 :]] == [["mm", "7"], ["g", "900"]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-259296.1288, "-259,300"), (-3584615.3, "-3.585e+06"), (-9.87654, "-9.8765")],
)
def test_a_huge_score_has_four_digits(record, value, shown):
    score = dataclasses.replace(
        record.score, metric="r2", value=value, low=2 * value, others={"r2": value}, baselines={}
    )
    text = block(lines(dataclasses.replace(record, score=score)), "score")
    assert f"r2 {shown} on" in text[0] and f"r2 {shown} on" in str(score)
    assert not re.search(r"\d{7}|\d\.\d{5}|\d{2}\.\d{4}", "\n".join(text))


def test_only_techniques_without_effect_are_listed(record):
    assert block(lines(record), "no effect") == []
    idle = dataclasses.replace(record.effects[0], name="clip", values=(0.0, 0.0))
    stop = dataclasses.replace(idle, name="early stopping")  # the budget was over
    text = lines(dataclasses.replace(record, effects=(*record.effects[1:], idle, stop)))
    (line,) = block(text, "no effect")
    assert line.startswith("clip (") and line.endswith(": 0)")


def test_the_next_commands_stand_last(record):
    text = lines(record, folder="runs/a")
    assert block(text, "run") == ["runs/a"]
    assert text[-1] == "next        ravine predict runs/a new.csv -o out.csv"
    bad = Finding(
        code="RVN-T01",
        title="long " * 20,
        severity="error",
        confidence="exact",
        cause="learning-rate-high",
    )
    text = lines(record, folder="runs/a", findings=[bad])
    assert len(block(text, "findings")) == 1
    assert block(text, "next")[0] == "ravine doctor runs/a"
    assert not block(lines(record), "next")


def test_a_diverged_run_says_so():
    diverged = iris(seeds=2, optimizer=optimizers.Momentum(lr=1e9))
    text = lines(diverged, folder="runs/a")
    ended = "2 of 2 networks diverged after 2 of 6 epochs: not in the model"
    assert block(text, "training")[1] == ended
    assert block(text, "score") == ["none: every network diverged"]
    assert not block(text, "next")


def test_a_number_that_could_not_be_computed_is_nan(record):
    score = dataclasses.replace(record.score, others={**record.score.others, "auc": math.nan})
    text = block(lines(dataclasses.replace(record, score=score)), "score")
    assert next(line for line in text if line.startswith("auc")).split()[1] == "nan"


def test_a_record_without_baselines_is_summarized(record):
    before = dataclasses.replace(record.score, baselines={}, answers={})
    text = block(lines(dataclasses.replace(record, score=before)), "score")
    assert "constant" not in " ".join(text)
    assert text[-1].startswith("error") and len(text[-1].split()) == 2


@pytest.mark.parametrize("cls", optimizers.ALL)
def test_every_optimizer_has_its_line_in_the_summary(cls, record):
    if cls is optimizers.TorchOptimizer:
        pytest.skip("is made from Python alone")
    recipe = {**record.recipe, "optimizer": to_plain(cls())}
    assert f"{cls.__name__} " in summary(dataclasses.replace(record, recipe=recipe))
