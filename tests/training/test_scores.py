"""The score of a run beside a constant answer's and trees'; metrics for imbalanced targets."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, balanced_accuracy_score, r2_score

from ravine import catalog
from ravine.cli import run_command
from ravine.data import Data, Images
from ravine.finding import Report
from ravine.record import read_record, read_score
from ravine.studies.tune import tune
from ravine.training import tree_baseline
from ravine.training.defaults import prepare
from ravine.training.model import Model
from ravine.training.train import train

DRAW = np.random.default_rng(2)
X = DRAW.normal(size=(300, 3))
RARE = pd.DataFrame(X, columns=list("abc")).assign(
    level=DRAW.choice(list("uvwxyzABCDEF"), 300),
    buys=np.where(X[:, 0] + DRAW.normal(size=300) > 2, "yes", "no"),
)
SEVERAL = pd.DataFrame(X, columns=list("abc")).assign(
    near=X[:, 0] + 0.1 * X[:, 1], far=DRAW.normal(size=300)
)


def recipe(*targets, **changes):
    made = dataclasses.replace(catalog.plain(), data=Data(target=targets), epochs=4)
    for path, value in changes.items():
        made = made.vary(path.replace("__", "."), value)
    return made


@pytest.fixture(scope="module")
def rare():
    return train(recipe("buys", optimizer__lr=0.01), RARE, workers=1)


def held_out(made, frame):
    """The test rows of a run, in their order."""
    task, _ = prepare(made, frame)
    return frame.iloc[task.rows["test"]]


def test_imbalanced_classes_lead_with_balanced_accuracy(rare):
    score, truth = rare.score, held_out(recipe("buys"), RARE)["buys"]
    predicted = rare.predict(held_out(recipe("buys"), RARE))
    assert score.metric == "balanced_accuracy" == rare.recipe.metric
    assert score.value == pytest.approx(balanced_accuracy_score(truth, predicted["buys"]))
    expected = average_precision_score(truth == "yes", predicted["probability of yes"])
    assert score.others["average_precision"] == pytest.approx(expected)
    assert score.baselines["constant"].values["balanced_accuracy"] == 0.5
    share = (truth == "no").mean()
    assert score.baselines["constant"].values["accuracy"] == pytest.approx(share)


def test_one_answer_for_all_is_a_finding_of_the_run(rare, tmp_path, capsys):
    assert rare.score.only_answer == "no" and rare.score.answers["yes"][0] == 0
    RARE.to_csv(tmp_path / "t.csv", index=False)
    given = ["train", str(tmp_path / "t.csv"), "--target", "buys", "--recipe", "plain", "--quiet"]
    short = ["--set", "epochs=4", "--set", "optimizer.lr=0.01", "-o", str(tmp_path / "run")]
    run_command([*given, *short])
    shown = capsys.readouterr().out
    assert "every row is answered 'no'" in shown and "RVN-T15" in shown
    assert "boosted trees" in shown
    run_command(["show", str(tmp_path / "run"), "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert "RVN-T15" in [f["code"] for f in shown["findings"]]
    assert shown["score"]["baselines"]["trees"]["values"]["auc"] > 0.4
    again = read_record(tmp_path / "run").score
    assert again.only_answer == "no" and again.baselines["trees"].values["accuracy"] > 0.5
    report = Report(run=None, score=again, findings=())
    assert Report.from_json(report.to_json()).score == again


def test_a_recipe_chooses_the_metric_that_leads_and_that_stops():
    stop = catalog.realmlp_td_s().stop
    run = train(recipe("buys", metric="log_loss", stop=stop), RARE, workers=1, baseline=False)
    assert run.score.metric == "log_loss" and not run.score.higher_is_better
    values = run.record.series["validation/log_loss"].values[:, 0]
    best = run.record.members[0].best_step
    steps = run.record.series["validation/log_loss"].steps
    assert best == steps[np.flatnonzero(values == values.min())[-1]]


def test_balanced_classes_keep_the_accuracy():
    even = RARE.assign(buys=np.where(X[:, 0] > 0, "yes", "no"))
    assert prepare(recipe("buys"), even)[1].metric == "accuracy"


def test_trees_are_scikit_learns_on_the_same_rows_and_columns(rare):
    task, _ = prepare(recipe("buys"), RARE)
    made = task.train_examples
    x = np.concatenate([made.numbers.numpy(), made.codes.numpy()], 1)
    new = np.concatenate([task.test.numbers.numpy(), task.test.codes.numpy()], 1)
    trees = HistGradientBoostingClassifier(
        l2_regularization=1.0, early_stopping=False, random_state=0, categorical_features=[3]
    ).fit(x, made.targets[:, 0].numpy())
    expected = balanced_accuracy_score(task.test.targets[:, 0].numpy(), trees.predict(new))
    found = rare.score.baselines["trees"]
    assert found.values["balanced_accuracy"] == pytest.approx(expected)
    assert found.note == "HistGradientBoosting, 100 rounds"


def test_what_stands_beside_the_networks_does_not_change_them():
    made = recipe("buys")
    beside, alone = (train(made, RARE, workers=1, baseline=asked) for asked in (True, False))
    assert torch.equal(beside.model.weights, alone.model.weights)
    assert beside.score.value == alone.score.value
    assert alone.score.baselines["trees"].values == {}


def test_several_targets_are_scored_one_by_one():
    made = recipe("near", "far")
    run = train(made, SEVERAL, workers=1)
    rows = held_out(made, SEVERAL)
    predicted = run.predict(rows)
    for name in ("near", "far"):
        found = run.score.targets[name]
        assert found["network"]["r2"] == pytest.approx(r2_score(rows[name], predicted[name]))
        assert found["constant"]["r2"] == pytest.approx(0, abs=0.1)
    assert run.score.targets["near"]["trees"]["r2"] > 0.8 > run.score.targets["far"]["trees"]["r2"]
    means = np.mean([run.score.targets[name]["network"]["r2"] for name in ("near", "far")])
    assert run.score.value == pytest.approx(means)


def test_labels_are_scored_one_by_one_and_constant_ones_do_no_harm():
    table = RARE.drop(columns="buys").assign(p=(X[:, 0] > 0) * 1, q=(X[:, 1] > 1.5) * 1)
    run = train(recipe("p", "q", data__task="labels"), table, workers=1)
    assert set(run.score.targets) == {"p", "q"}
    assert run.score.targets["p"]["trees"]["accuracy"] > 0.8


@pytest.mark.parametrize("count", [2, 7])
def test_many_classes_get_fewer_rounds(count):
    table = RARE.assign(
        buys=np.digitize(X[:, 0], np.quantile(X[:, 0], np.arange(1, count) / count))
    )
    made = recipe("buys", data__task="classes")
    task, _ = prepare(made, table)
    predicted, note = tree_baseline.predict_with_trees(task, task.test)
    assert predicted.shape == (1, task.test.count, count)
    torch.testing.assert_close(predicted.sum(2), torch.ones(1, task.test.count).double())
    assert note == f"HistGradientBoosting, {100 if count < 4 else 300 // 7} rounds"


def test_large_tables_are_sampled_and_say_so(monkeypatch):
    monkeypatch.setattr(tree_baseline, "MAX_WORK", 0)
    table = pd.DataFrame({"a": DRAW.normal(size=2000)}).assign(y=lambda t: 2 * t["a"])
    task, _ = prepare(recipe("y"), table)
    _, note = tree_baseline.predict_with_trees(task, task.test)
    assert note.endswith("on 1,000 of 1,400 training rows")


def test_trees_stay_trees_with_many_classes_of_which_one_is_rare():
    """Without a penalty the steps of 50 rounds explode: log loss 7, worse than a constant."""
    kind = np.where(
        X[:, 0] > 0.4, "a", np.where(X[:, 1] > 0.3, "b", np.where(X[:, 2] > 0, "c", "d"))
    )
    kind[:2], kind[2:5] = "e", "f"
    task, _ = prepare(recipe("kind"), RARE.drop(columns="buys").assign(kind=kind))
    predicted, _ = tree_baseline.predict_with_trees(task, task.test)
    truth = task.test.targets.reshape(-1).long()
    assert -predicted[0, torch.arange(len(truth)), truth].clamp(min=1e-12).log().mean() < 0.5


def test_trees_that_cannot_be_fitted_lose_no_run(monkeypatch):
    def fail(*given):
        raise MemoryError("no room")

    monkeypatch.setattr(tree_baseline, "_fit_and_predict", fail)
    score = train(recipe("buys"), RARE, workers=1).score
    assert score.baselines["trees"].note == "they could not be fitted: no room"


def test_images_say_why_there_are_no_trees():
    pixels = DRAW.integers(0, 255, (40, 1, 8, 8)).astype(np.uint8)
    made = dataclasses.replace(catalog.image(), data=Images(), epochs=1, seeds=1)
    run = train(made.vary("network.channels", (4,)), (pixels, np.arange(40) % 2), workers=1)
    assert run.score.baselines["trees"].note == "trees on single pixels are no comparison"


def test_the_test_split_is_predicted_once(monkeypatch):
    calls = []
    predict = Model.member_predictions

    def count(model, examples):
        calls.append(examples.count)
        return predict(model, examples)

    monkeypatch.setattr(Model, "member_predictions", count)
    task, _ = prepare(recipe("buys"), RARE)
    train(recipe("buys"), RARE, workers=1)
    assert calls == [task.test.count]
    calls.clear()
    space = {"optimizer.lr": "log:1e-3..0.1"}
    tune(recipe("buys", split__test=0.3), space, trials=3, frame=RARE, confirm=0)
    assert calls and 90 not in calls  # trials are chosen without the test split


def test_a_score_of_before_has_its_constant_baseline():
    plain = {"metric": "r2", "value": 0.5, "low": 0.4, "high": 0.6, "confidence": 0.95}
    plain |= {"higher_is_better": True, "split": "test", "examples": 9}
    assert read_score({**plain, "constant_baseline": -0.1}).constant_baseline == -0.1
    assert read_score({**plain, "constant_baseline": None}).constant_baseline is None
    assert read_score(plain).baselines == {}
