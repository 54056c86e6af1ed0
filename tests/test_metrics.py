"""Metrics: scikit-learn's numbers, for many networks at once; intervals against closed forms and
their coverage.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as reference

from ravine.errors import RecipeError
from ravine.metrics import (
    ALL,
    AVERAGE_PRECISION,
    METRICS_BY_TASK,
    ROC_AUC,
    confidence_interval,
    constant_prediction,
    main_metric,
    metric_named,
    resampled_values,
    suited_metric,
)

NETWORKS, EXAMPLES = 4, 211


def example(kind, *, seed=0, examples=EXAMPLES):
    """Predictions [P, N, C] with ties, targets, weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(examples, generator=generator) + 0.1
    if kind == "regression":
        targets = torch.randn(examples, 2, generator=generator) * 3 + 100
        return targets + torch.randn(NETWORKS, examples, 2, generator=generator), targets, weights
    if kind == "classes":
        targets = torch.randint(4, (examples,), generator=generator)
        logits = torch.randn(NETWORKS, examples, 5, generator=generator).round(
            decimals=1
        )  # class 4 never occurs
        return (
            torch.softmax(logits + 2 * torch.nn.functional.one_hot(targets, 5), -1),
            targets,
            weights,
        )
    columns = 1 if kind == "binary" else 3
    targets = torch.randint(2, (examples, columns), generator=generator).float()
    logits = torch.randn(NETWORKS, examples, columns, generator=generator).round(decimals=1)
    return torch.sigmoid(logits + targets), targets, weights


def sklearn_value(kind, name, p, y, w):
    """The metric of one network as scikit-learn has it."""
    p, y, w = p.double().numpy(), y.double().numpy(), w.double().numpy()
    if kind == "regression":
        function = {
            "r2": reference.r2_score,
            "rmse": reference.root_mean_squared_error,
            "mae": reference.mean_absolute_error,
        }[name]
        return function(y, p, sample_weight=w)
    if kind == "labels":
        return {
            "label_accuracy": lambda: np.average(((p > 0.5) == y).mean(1), weights=w),
            "label_f1": lambda: reference.f1_score(y, p > 0.5, average="macro", sample_weight=w),
            "auc": lambda: reference.roc_auc_score(y, p, average="macro", sample_weight=w),
            "average_precision": lambda: reference.average_precision_score(y, p, sample_weight=w),
            "log_loss": lambda: np.mean(
                [reference.log_loss(y[:, k], p[:, k], sample_weight=w) for k in range(3)]
            ),
            "brier": lambda: np.mean(
                [reference.brier_score_loss(y[:, k], p[:, k], sample_weight=w) for k in range(3)]
            ),
        }[name]()
    y = y.reshape(-1)
    chosen = p[:, 0] > 0.5 if kind == "binary" else p.argmax(1)
    full = np.concatenate([1 - p, p], 1) if kind == "binary" else p
    one_hot = np.eye(full.shape[1])[y.astype(int)]
    areas = [
        reference.roc_auc_score(one_hot[:, k], full[:, k], sample_weight=w)
        for k in range(full.shape[1])
        if one_hot[:, k].any()
    ]
    precisions = [
        reference.average_precision_score(one_hot[:, k], full[:, k], sample_weight=w)
        for k in range(1 if kind == "binary" else 0, full.shape[1])
        if one_hot[:, k].any()
    ]
    return {
        "average_precision": lambda: np.mean(precisions),
        "accuracy": lambda: reference.accuracy_score(y, chosen, sample_weight=w),
        "error": lambda: 1 - reference.accuracy_score(y, chosen, sample_weight=w),
        "balanced_accuracy": lambda: reference.balanced_accuracy_score(y, chosen, sample_weight=w),
        "f1": lambda: reference.f1_score(y, chosen, sample_weight=w),
        "macro_f1": lambda: reference.f1_score(y, chosen, average="macro", sample_weight=w),
        "log_loss": lambda: reference.log_loss(
            y, full, labels=range(full.shape[1]), sample_weight=w
        ),
        "brier": lambda: np.average(
            ((full - one_hot) ** 2).sum(1) / (2 if kind == "binary" else 1), weights=w
        ),
        "auc": lambda: np.mean(areas),
    }[name]()


PAIRS = [(kind, metric.name) for kind, metrics in METRICS_BY_TASK.items() for metric in metrics]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_equals_scikit_learn(kind, name, weighted):
    predictions, targets, weights = example(kind)
    predictions = predictions.double()
    if kind == "classes":
        predictions = predictions / predictions.sum(
            -1, keepdim=True
        )  # to the last bit, or scikit-learn warns
    found = metric_named(name).of(predictions, targets, weights if weighted else None)
    used = weights if weighted else torch.ones_like(weights)
    expected = [sklearn_value(kind, name, p, targets, used) for p in predictions]
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("kind", "name"), PAIRS)
@pytest.mark.parametrize("examples", [1, 3, 17, 211])
def test_a_network_gets_the_same_bits_alone_and_in_a_cohort(kind, name, examples):
    predictions, targets, weights = example(kind, examples=examples)
    for used in (None, weights):
        together = metric_named(name).of(predictions, targets, used)
        for i in range(NETWORKS):
            alone = metric_named(name).of(predictions[i : i + 1], targets, used)
            assert torch.equal(alone.nan_to_num(7.0), together[i : i + 1].nan_to_num(7.0))


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_network_that_predicts_nan_scores_nan_and_no_other_does(kind, name):
    predictions, targets, _ = example(kind)
    healthy = metric_named(name).of(predictions, targets)
    predictions[1, 5, 0] = math.nan
    sick = metric_named(name).of(predictions, targets)
    assert sick[1].isnan() and torch.equal(sick[[0, 2, 3]], healthy[[0, 2, 3]])


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_better_predictions_score_better(kind, name):
    predictions, targets, _ = example(kind)
    metric = metric_named(name)
    perfect = (
        targets.float() if kind != "classes" else torch.nn.functional.one_hot(targets, 5).float()
    )
    score = float(metric.of(perfect[None], targets)[0])
    assert (
        (score > metric.of(predictions, targets)).all()
        if metric.higher_is_better
        else (score < metric.of(predictions, targets)).all()
    )


def test_edges():
    one = torch.tensor([[[0.7], [0.2]]])
    assert metric_named("auc").of(one, torch.ones(2)).isnan().all()  # one kind only: no pairs
    assert metric_named("auc").of(
        torch.full((1, 4, 1), 0.5), torch.tensor([1.0, 0, 1, 0])
    ).tolist() == [0.5]  # all tied
    constant = torch.full((5, 1), 3.0)
    assert metric_named("r2").of(torch.stack([constant, constant + 1]), constant).tolist() == [
        1.0,
        0.0,
    ]
    sure_and_wrong = torch.tensor([[[0.0], [1.0]]])
    assert float(
        metric_named("log_loss").of(sure_and_wrong, torch.tensor([1.0, 0.0]))
    ) == pytest.approx(-math.log(2**-23))
    two = torch.cat([1 - one, one], 2)
    for name in ("accuracy", "auc", "log_loss", "f1"):  # one probability or two: the same
        assert float(metric_named(name).of(one, torch.tensor([1, 0]))) == pytest.approx(
            float(metric_named(name).of(two, torch.tensor([1, 0]))), rel=1e-6
        )


def test_the_table():
    assert [main_metric(k).name for k in ("binary", "classes", "labels", "regression")] == [
        "accuracy",
        "accuracy",
        "label_accuracy",
        "r2",
    ]
    assert {m for kind in METRICS_BY_TASK for m in METRICS_BY_TASK[kind]} == set(ALL)
    with pytest.raises(RecipeError, match="Did you mean 'accuracy'"):
        metric_named("acuracy")


# Intervals


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_an_interval_holds_the_score_and_is_the_same_again(kind, name):
    predictions, targets, _ = example(kind)
    low, high = confidence_interval(name, predictions[0], targets)
    assert low < float(metric_named(name).of(predictions[:1], targets)) < high
    assert confidence_interval(name, predictions[0], targets) == (low, high)
    narrow = confidence_interval(name, predictions[0], targets, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_the_standard_error_of_an_area_is_delongs():
    predictions, targets, _ = example("binary")
    up, down = (
        predictions[0, targets[:, 0] == 1, 0].numpy(),
        predictions[0, targets[:, 0] == 0, 0].numpy(),
    )
    wins = (up[:, None] > down) + 0.5 * (up[:, None] == down)
    area = wins.mean()
    error = math.sqrt(wins.mean(1).var(ddof=1) / len(up) + wins.mean(0).var(ddof=1) / len(down))
    logit, half = math.log(area / (1 - area)), stats.norm.ppf(0.975) * error / (area * (1 - area))
    expected = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
    assert confidence_interval("auc", predictions[0], targets) == pytest.approx(expected, rel=1e-9)


def test_a_perfect_area_is_not_certain():
    low, high = confidence_interval(
        "auc", torch.tensor([[0.1], [0.2], [0.8], [0.9]]), torch.tensor([0.0, 0, 1, 1])
    )
    assert low < 0.5 and high == 1


@pytest.mark.parametrize("examples", [200, 9000])
def test_the_bootstrap_is_as_wide_as_the_normal_theory(examples):
    generator = torch.Generator().manual_seed(1)
    targets = torch.zeros(examples, 1)
    predictions = torch.randn(examples, 1, generator=generator).abs()
    low, high = confidence_interval("mae", predictions, targets)
    half = 1.96 * float(predictions.std()) / math.sqrt(examples)
    assert (high - low) / 2 == pytest.approx(
        half, rel=0.08
    )  # 2,000 resamples: a quantile is known to some 3 %
    assert (high + low) / 2 == pytest.approx(float(predictions.mean()), abs=0.2 * half)


def test_all_networks_are_scored_on_the_same_resamples():
    """The difference of two networks varies as that of scikit-learn's scores on shared samples."""
    generator = torch.Generator().manual_seed(3)
    truth = torch.rand(300, generator=generator) < 0.4
    predictions = (truth * 0.5 + torch.rand(2, 300, generator=generator))[..., None] / 1.5
    values = resampled_values(ROC_AUC, predictions, truth.long())
    alone = resampled_values(ROC_AUC, predictions[1:], truth.long())
    assert values.shape == (2000, 2)
    torch.testing.assert_close(values[:, 1:], alone)
    draw, differences = np.random.default_rng(4), []
    for _ in range(600):
        rows = draw.integers(0, 300, 300)
        a, b = (reference.roc_auc_score(truth[rows], p[rows, 0]) for p in predictions)
        differences.append(a - b)
    ours = (values[:, 0] - values[:, 1]).numpy()
    assert ours.std() == pytest.approx(np.std(differences), rel=0.1)
    assert ours.mean() == pytest.approx(np.mean(differences), abs=0.003)


def test_intervals_cover_as_often_as_they_say():
    generator, held = torch.Generator().manual_seed(2), 0
    for _ in range(100):
        targets = torch.randn(120, 1, generator=generator)
        predictions = targets + torch.randn(120, 1, generator=generator) * 0.5
        low, high = confidence_interval("r2", predictions, targets)
        held += low < 0.75 < high
    assert (
        86 <= held <= 100
    )  # of 95 expected; a percentile interval of 120 examples is a little narrow


def test_nothing_to_go_by_gives_no_interval():
    low, high = confidence_interval("auc", torch.tensor([[0.1], [0.2]]), torch.ones(2))
    assert math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize("kind", ["classes", "binary", "regression", "labels"])
def test_the_constant_prediction_is_that_of_scikit_learns_dummies(kind):
    from sklearn.dummy import DummyClassifier, DummyRegressor

    g = torch.Generator().manual_seed(0)
    if kind == "regression":
        y = torch.randn(50, 2, generator=g)
        expected = DummyRegressor().fit(np.zeros((50, 1)), y).predict([[0]])
    else:
        shape = {"classes": (50,), "binary": (50, 1), "labels": (50, 3)}[kind]
        y = torch.randint(0, 4 if kind == "classes" else 2, shape, generator=g)
        dummy = DummyClassifier(strategy="prior").fit(np.zeros((50, 1)), y.squeeze(-1))
        expected = dummy.predict_proba([[0]])
        if kind == "binary":
            expected = expected[:, 1:]
        if kind == "labels":
            expected = [[p[0, 1] for p in expected]]
        y = y if kind == "classes" else y.float()
    outputs = {"classes": 4, "binary": 1, "regression": 2, "labels": 3}[kind]
    found = constant_prediction(y, outputs)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)  # means of float32


def test_imbalanced_targets_lead_with_another_metric():
    for share, name in ((0.80, "accuracy"), (0.81, "balanced_accuracy")):
        rare = round(100 * (1 - share))
        targets = torch.tensor([0] * (100 - rare) + [1] * rare)
        assert suited_metric("classes", targets).name == name
        assert suited_metric("binary", targets[:, None].float()).name == name
        assert suited_metric("binary", 1 - targets[:, None].float()).name == name
    three = torch.tensor([0] * 90 + [1] * 5 + [2] * 5)
    assert suited_metric("classes", three).name == "balanced_accuracy"
    labels = torch.zeros(100, 3)
    labels[:10] = 1
    assert suited_metric("labels", labels).name == "average_precision"
    labels[:50] = 1
    assert suited_metric("labels", labels).name == "label_accuracy"
    assert suited_metric("regression", torch.zeros(9, 1)).name == "r2"


def test_a_metric_of_another_task_is_refused():
    assert main_metric("binary", "log_loss").name == "log_loss"
    with pytest.raises(RecipeError, match="the task is regression, for which there are r2, rmse"):
        main_metric("regression", "accuracy")


def test_the_interval_of_the_average_precision_covers_it():
    """The average precision of many rows lies in 95 % intervals of few about as often."""
    generator = torch.Generator().manual_seed(4)

    def draw(rows):
        y = (torch.rand(rows, generator=generator) < 0.3).double()
        return torch.sigmoid(torch.randn(rows, 1, generator=generator).double() + y[:, None]), y

    p, y = draw(200_000)
    true = float(AVERAGE_PRECISION.of(p[None], y))
    ends = [confidence_interval("average_precision", *draw(300)) for _ in range(200)]
    covered = sum(low < true < high for low, high in ends)
    assert 180 <= covered <= 200  # 190 expected


def test_f1_of_answers_that_are_all_no_is_0():
    no = torch.full((1, 10, 1), 0.2)
    targets = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert float(metric_named("f1").of(no, targets)) == 0
    assert float(metric_named("f1").of(no, torch.zeros(10))) == 0  # the class is in neither


def test_a_recipe_of_an_earlier_version_may_name_f1_for_several_classes():
    assert main_metric("classes", "f1").name == "macro_f1"
    assert main_metric("binary", "f1").name == "f1"
    with pytest.raises(RecipeError, match="macro_f1"):
        main_metric("binary", "macro_f1")
