"""The estimators pass scikit-learn's own checks, and work in its pipelines and searches."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)

from ravine.sklearn import NetworkClassifier, NetworkRegressor

QUICK = dict(epochs=8, seeds=2)
# One step sees every example, and nothing is drawn or measured but the start: here a weight is a
# number of repetitions.
WHOLE = {
    "batch": "all",
    "network.dropout": None,
    "encoding.scale": "none",
    "encoding.target": "none",
    "precision": "float64",
}
NOT_REPETITIONS = (
    "rows repeated and rows weighted fall into other minibatches, draw other dropout masks and "
    "give "
    "other means to scale by; without these three the check passes, see the next test"
)


@parametrize_with_checks(
    [NetworkClassifier(**QUICK), NetworkRegressor(**QUICK)],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": NOT_REPETITIONS
    },
)
def test_scikit_learns_own_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # or the check of array API input is skipped
    with np.errstate(
        divide="raise", over="raise", invalid="raise"
    ):  # also where a check ignores warnings
        check(estimator)


@pytest.mark.parametrize("kind", [NetworkClassifier, NetworkRegressor])
def test_a_weight_is_a_number_of_repetitions(kind):
    check_sample_weight_equivalence_on_dense_data(kind.__name__, kind(**QUICK, settings=WHOLE))


def test_only_the_ratios_of_weights_matter():
    X, y = load_diabetes(return_X_y=True)
    weights = np.arange(1.0, len(y) + 1)
    once, more = (
        NetworkRegressor(**QUICK).fit(X, y, sample_weight=w).predict(X)
        for w in (weights, 1024 * weights)
    )
    np.testing.assert_array_equal(once, more)


def test_a_class_that_weighs_nothing_is_no_class():
    X, y = load_iris(return_X_y=True)
    model = NetworkClassifier(epochs=40, seeds=2).fit(X, y, sample_weight=y != 1)
    assert model.classes_.tolist() == [0, 2] and model.predict_proba(X).shape == (150, 2)
    assert (model.predict(X) == y)[y != 1].all()


def mixed(count=200):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": generator.standard_normal(count),
            "kind": generator.choice(["oak", "ash", "elm"], count),
            "seen": pd.date_range("2024-01-01", periods=count, freq="D"),
            "ready": generator.choice([True, False], count),
        }
    )
    frame.loc[::7, "size"] = np.nan
    frame.loc[::11, "kind"] = None
    return frame, np.where((frame["kind"] == "oak") ^ frame["ready"], "yes", "no")


def test_mixed_frames_with_gaps_categories_and_dates():
    frame, y = mixed()
    model = NetworkClassifier(epochs=40, seeds=2).fit(frame, y)
    assert model.classes_.tolist() == ["no", "yes"] and model.score(frame, y) > 0.9
    assert model.predict_proba(frame).sum(1) == pytest.approx(1.0)
    new = frame.head(3).assign(kind="baobab")
    assert np.isfinite(model.predict_proba(new)).all(), "a category never seen is no error"


def test_probabilities_are_in_the_order_of_the_classes():
    X, y = load_iris(return_X_y=True)
    names = np.array(["z", "m", "a"])[y]
    model = NetworkClassifier(epochs=40, seeds=2).fit(X, names)
    assert model.classes_.tolist() == ["a", "m", "z"]
    assert (model.classes_[model.predict_proba(X).argmax(1)] == names).mean() > 0.9


def test_searches_pipelines_and_cross_validation():
    X, y = load_wine(return_X_y=True)
    search = GridSearchCV(
        NetworkClassifier(**QUICK),
        {"settings": [{"optimizer.lr": 1e-9}, {"optimizer.lr": 0.01}]},
        cv=2,
    )
    assert search.fit(X, y).best_params_["settings"] == {"optimizer.lr": 0.01}
    assert (
        cross_val_score(
            make_pipeline(StandardScaler(), NetworkClassifier(**QUICK)), X, y, cv=2
        ).mean()
        > 0.9
    )


def test_the_same_random_state_gives_the_same_network_and_none_another():
    X, y = (values[::4] for values in load_diabetes(return_X_y=True))
    first, again = (
        NetworkRegressor(**QUICK, random_state=3).fit(X, y).predict(X) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, NetworkRegressor(**QUICK, random_state=4).fit(X, y).predict(X))
    free = [NetworkRegressor(**QUICK, random_state=None).fit(X, y).predict(X) for _ in range(2)]
    assert not np.array_equal(*free)


def test_weights_count():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((200, 1))
    y = np.where(np.arange(200) % 2, 5.0, -5.0)
    heavy = (
        NetworkRegressor(epochs=30, seeds=2)
        .fit(X, y, sample_weight=np.where(y > 0, 9.0, 1.0))
        .predict(X)
        .mean()
    )
    assert heavy == pytest.approx(4.0, abs=1.0), "the weighted mean of the target"


def test_clones_and_pickles_predict_the_same():
    X, y = load_iris(return_X_y=True)
    model = NetworkClassifier(**QUICK, settings={"network.hidden": (8,)}).fit(X, y)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X)
    )
    copied = clone(model)
    assert isinstance(copied, NetworkClassifier) and copied.get_params() == model.get_params()


def test_numbers_are_learned_from_even_if_they_number_the_rows():
    X = np.arange(100)[:, None]
    assert NetworkRegressor(epochs=200, seeds=2).fit(X, 2 * X[:, 0]).score(X, 2 * X[:, 0]) > 0.95
    months = pd.DataFrame({"month": np.arange(120) % 12})
    model = NetworkRegressor(**QUICK, settings={"data.categories": ("month",)}).fit(
        months, np.arange(120.0)
    )
    assert model.run_.model.encoder.features == ()
    assert model.run_.model.encoder.code_sizes == (13,), (
        "one code a month, and one for what was never seen"
    )


def test_none_as_random_state_draws_from_numpys_global_one():
    X, y = load_iris(return_X_y=True)
    models = []
    for _ in range(2):
        np.random.seed(5)
        models.append(NetworkClassifier(epochs=2, seeds=1, random_state=None).fit(X, y))
    np.testing.assert_array_equal(*(m.predict_proba(X) for m in models))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"settings": {"optimizer.learning_rate": 0.1}}, ValueError, "Did you mean 'lr'"),
        (
            {"settings": {"optimizer": "adamv"}},
            ValueError,
            r"settings\['optimizer'\]: optimizer has no 'adamv'",
        ),
        (
            {"settings": {"optimizer.lr": -1}},
            ValueError,
            r"settings\['optimizer.lr'\]: AdamW.lr is -1",
        ),
        ({"recipe": "fancy"}, ValueError, "no recipe is named"),
        ({"recipe": 3}, TypeError, "recipe is 3"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"validation": 2}, ValueError, "validation is 2"),
    ],
)
def test_mistakes_in_parameters_are_told(changes, kind, message):
    with pytest.raises(kind, match=message) as caught:
        NetworkClassifier(**changes).fit(*load_iris(return_X_y=True))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "message"), [(-1.0, "Negative"), (np.nan, "NaN"), (0.0, "zero for every")]
)
def test_weights_that_cannot_be_used_are_told(weight, message):
    X, y = load_iris(return_X_y=True)
    weights = np.full(150, weight) if weight == 0 else np.where(np.arange(150) == 7, weight, 1.0)
    with pytest.raises(ValueError, match=message):
        NetworkClassifier().fit(X, y, sample_weight=weights)


def test_divergence_is_told():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="diverged"):
        NetworkClassifier(**QUICK, settings={"optimizer.lr": 1e30}).fit(X, y).predict(X)
