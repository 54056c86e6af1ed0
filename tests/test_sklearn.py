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
from sklearn.utils.estimator_checks import parametrize_with_checks

from ravine.sklearn import NetworkClassifier, NetworkRegressor

QUICK = dict(epochs=25, seeds=2)
BATCHES = ("rows repeated and rows weighted are shuffled into other minibatches, so the two fits agree in expectation, "
           "not to 1e-7")  # fmt: skip


@parametrize_with_checks(
    [NetworkClassifier(**QUICK), NetworkRegressor(epochs=60, seeds=2)],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": BATCHES},
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def mixed(count=200):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({
        "size": generator.standard_normal(count),
        "kind": generator.choice(["oak", "ash", "elm"], count),
        "seen": pd.date_range("2024-01-01", periods=count, freq="D"),
        "ready": generator.choice([True, False], count),
    })  # fmt: skip
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
        NetworkClassifier(**QUICK), {"settings": [{"optimizer.lr": 1e-9}, {"optimizer.lr": 0.01}]}, cv=2
    )
    assert search.fit(X, y).best_params_["settings"] == {"optimizer.lr": 0.01}
    assert cross_val_score(make_pipeline(StandardScaler(), NetworkClassifier(**QUICK)), X, y, cv=2).mean() > 0.9


def test_the_same_random_state_gives_the_same_network_and_none_another():
    X, y = load_diabetes(return_X_y=True)
    first, again = (NetworkRegressor(**QUICK, random_state=3).fit(X, y).predict(X) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, NetworkRegressor(**QUICK, random_state=4).fit(X, y).predict(X))
    free = [NetworkRegressor(**QUICK, random_state=None).fit(X, y).predict(X) for _ in range(2)]
    assert not np.array_equal(*free)


def test_weights_count():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((200, 1))
    y = np.where(np.arange(200) % 2, 5.0, -5.0)
    heavy = NetworkRegressor(epochs=30, seeds=2).fit(X, y, sample_weight=np.where(y > 0, 9.0, 1.0)).predict(X).mean()
    assert heavy == pytest.approx(4.0, abs=1.0), "the weighted mean of the target"


def test_clones_and_pickles_predict_the_same():
    X, y = load_iris(return_X_y=True)
    model = NetworkClassifier(**QUICK, settings={"network.hidden": (8,)}).fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X))
    assert clone(model).get_params() == model.get_params()


def test_mistakes_are_told():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="Did you mean 'lr'"):
        NetworkClassifier(settings={"optimizer.learning_rate": 0.1}).fit(X, y)
    with pytest.raises(ValueError, match="no recipe is named"):
        NetworkClassifier(recipe="fancy").fit(X, y)
    with pytest.raises(ValueError, match="diverged"):
        NetworkClassifier(**QUICK, settings={"optimizer.lr": 1e30}).fit(X, y).predict(X)
