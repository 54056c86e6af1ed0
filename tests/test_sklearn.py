"""The estimators pass scikit-learn's own checks, and work in its pipelines and searches."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)

from ravine.catalog import named_recipe
from ravine.schedules import SGDR
from ravine.serialization import get
from ravine.sklearn import NetworkClassifier, NetworkRegressor
from ravine.sklearn.parameters import with_changes_by_path

QUICK = dict(epochs=8, seeds=2, hidden=32, lr=0.01)
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
    table = pa.table(frame)
    of_arrow = NetworkClassifier(epochs=1, seeds=1).fit(table, y).predict_proba(table)
    of_pandas = NetworkClassifier(epochs=1, seeds=1).fit(frame, y).predict_proba(frame)
    np.testing.assert_array_equal(of_arrow, of_pandas)
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
    grid = {"lr": [1e-9, 0.01], "hidden": [16]}
    search = GridSearchCV(NetworkClassifier(**QUICK), grid, cv=2, error_score="raise")
    assert search.fit(X, y).best_params_["lr"] == 0.01
    assert search.best_estimator_.run_.recipe.network.hidden == (16,)
    pipeline = make_pipeline(StandardScaler(), NetworkClassifier(**QUICK))
    assert cross_val_score(pipeline, X, y, cv=2).mean() > 0.9


def test_flat_parameters_are_settings_of_the_recipe():
    X, y = load_iris(return_X_y=True)
    flat = dict(lr=0.01, hidden=8, dropout=0.3, weight_decay=0.1, batch=32, epochs=2)
    paths = {
        "optimizer.lr": 0.01,
        "network.hidden": (8,),
        "network.dropout.rate": 0.3,
        "optimizer.weight_decay": 0.1,
        "batch": 32,
        "epochs": 2,
    }
    by_path = NetworkClassifier(seeds=1, settings=paths).fit(X, y)
    as_numpy = {name: np.asarray(value)[()] for name, value in flat.items()}
    for given in (flat, as_numpy, flat | {"hidden": [8]}):
        model = NetworkClassifier(seeds=1, **given).fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), by_path.predict_proba(X))
    without = NetworkClassifier(seeds=1, epochs=1, dropout=0).fit(X, y)
    assert get(without.run_.recipe, "network.dropout") is None


def test_a_batch_of_more_than_there_are_is_all_of_them():
    X, y = load_iris(return_X_y=True)
    with pytest.warns(UserWarning, match=r"batch is 500 and 1\d\d examples are trained on") as said:
        model = NetworkClassifier(**QUICK, batch=500).fit(X, y)
        NetworkRegressor(**QUICK, batch=500).partial_fit(X, X[:, 0])
    assert [warning.filename for warning in said] == [__file__, __file__]
    whole = NetworkClassifier(**QUICK, batch="all").fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize(
    "names",
    [
        ["ravine target", "ravine weight"],
        ["target", "target_", "target__", "weight"],
        [" target", "\ufefftarget_", "weight ", "weight_"],
        ["mine", "mine_"],
    ],
)
def test_columns_of_any_name_are_learned_from(names):
    X = np.random.default_rng(0).standard_normal((60, len(names)))
    y, weights = pd.Series(X.sum(1), name="mine"), np.arange(1.0, 61)
    quick = dict(epochs=3, seeds=1, hidden=8)
    named, plain = (
        NetworkRegressor(**quick).fit(frame, y, sample_weight=weights).predict(frame)
        for frame in (pd.DataFrame(X, columns=names), X)
    )
    np.testing.assert_array_equal(named, plain)


def test_several_targets_are_each_in_their_own_units():
    X = np.random.default_rng(0).standard_normal((200, 2))
    y = pd.DataFrame({"sum": 1e6 + 1e3 * X.sum(1), "product": 1e-3 * X.prod(1)})
    model = NetworkRegressor(epochs=30, seeds=1, lr=0.01).fit(X, y)
    found = np.asarray(model.predict(X))
    assert model.run_.record.task["target"] == ["sum", "product"] and found.shape == (200, 2)
    left = ((found - y) ** 2).mean() / y.var()
    assert left.max() < 0.15 and model.score(X, y) == pytest.approx(1 - left.mean(), abs=0.01)
    with pytest.warns(DataConversionWarning):
        one = NetworkRegressor(epochs=1, seeds=1).fit(X, y[["sum"]])
    assert np.asarray(one.predict(X)).shape == (200,)


def test_labels_are_as_in_scikit_learns_mlp():
    X, species = load_iris(return_X_y=True)
    quick = dict(epochs=15, seeds=1, hidden=32, lr=0.01)
    y = np.c_[species == 0, X[:, 0] > 5.5, species < 9].astype(int)  # the last is 1 everywhere
    model = NetworkClassifier(**quick).fit(X, y)
    with warnings.catch_warnings(action="ignore"):
        peer = MLPClassifier(max_iter=5).fit(X, y)
    found, shares = model.predict(X), model.predict_proba(X)
    assert found.dtype == np.asarray(peer.predict(X)).dtype
    assert shares.shape == np.asarray(peer.predict_proba(X)).shape
    assert model.classes_.tolist() == peer.classes_.tolist() and model.score(X, y) > 0.85
    np.testing.assert_array_equal(found, shares > 0.5)
    assert (shares[:, 2] > 0.9).all()
    again = NetworkClassifier(**quick).fit(X, csr_array(y))
    np.testing.assert_array_equal(again.predict_proba(X), shares)


def test_passes_one_after_another_are_one_fit_bit_for_bit():
    X, y = load_diabetes(return_X_y=True)
    quick = dict(recipe="plain", hidden=8, batch=32, seeds=2, validation=0.0)
    whole = NetworkRegressor(**quick, epochs=3).fit(X, y)
    passes = NetworkRegressor(**quick)
    for _ in range(3):
        passes = pickle.loads(pickle.dumps(passes)).partial_fit(X, y)
    np.testing.assert_array_equal(passes.predict(X), whole.predict(X))
    assert passes.n_iter_ == whole.n_iter_ == 3 * 14


def test_passes_over_parts_that_lack_classes_learn_all():
    X, y = load_iris(return_X_y=True)
    two = np.flatnonzero(y > 0)
    parts = np.array_split(np.random.default_rng(0).permutation(150), 4)
    model = NetworkClassifier(seeds=1, lr=0.01)
    for rows in [two[::4], *3 * parts, [7], two]:
        model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
    assert model.score(X, y) > 0.9
    assert model.predict_proba(X).shape == (150, 3)


def test_a_warm_start_goes_on_from_the_weights_and_the_encoding():
    X, y = load_diabetes(return_X_y=True)
    model = NetworkRegressor(**QUICK, warm_start=True).fit(X[:300], y[:300])
    before, encoder = model.predict(X), model.run_.model.encoder
    model.set_params(lr=0.0).fit(X[300:], y[300:])
    np.testing.assert_array_equal(model.predict(X), before)
    assert model.run_.model.encoder == encoder
    more = NetworkRegressor(epochs=1, seeds=1, warm_start=True)
    scores = [more.fit(X, y).score(X, y) for _ in range(3)]
    assert scores[0] < scores[1] < scores[2]


def _fitted(**parameters):
    return NetworkClassifier(**QUICK, **parameters).fit(*load_iris(return_X_y=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, y: NetworkClassifier().partial_fit(X, y), "classes must be passed on the first"),
        (lambda X, y: _fitted().partial_fit(X, y, classes=[0, 1]), "not the same as on last call"),
        (lambda X, y: _fitted().partial_fit(X, y + 1), r"classes not in .* \[3\]"),
        (lambda X, y: _fitted().partial_fit(X, np.c_[y == 0, y == 1] * 1), r"2 targets \(labels\)"),
        (
            lambda X, y: _fitted(warm_start=True).fit(X[:100], y[:100]),
            "same classes as in the last",
        ),
        (
            lambda X, y: _fitted(warm_start=True).set_params(hidden=5).fit(X, y),
            "does not fit weights",
        ),
        (lambda X, y: NetworkClassifier().fit(X, np.c_[y, y]), "Multioutput target data is not"),
        (lambda X, y: NetworkClassifier().fit(X, pd.array(["a", None] * 75)), "contains NaN"),
        (lambda X, y: NetworkClassifier().fit(X, np.array(["a", 1] * 75, object)), "Mix of label"),
        (lambda X, y: NetworkRegressor().fit(X, ["a"] * 150), "not compatible with .*strings"),
        (lambda X, y: NetworkRegressor().fit(X, pd.Series(["a"] * 150)), "not compatible with"),
        (lambda X, y: NetworkRegressor().fit(X, pd.date_range("2024", periods=150)), "datetime64"),
        (lambda X, y: NetworkRegressor().fit(X, np.c_[y, y * 0]), r"y\[:, 1\] is 0 in every row"),
        (lambda X, y: NetworkRegressor().fit(pd.DataFrame(), y), r"0 sample\(s\)"),
        (lambda X, y: NetworkRegressor().fit(X * np.nan, y), "no column is left to learn from"),
    ],
)
def test_mistakes_in_the_data_are_one_message(call, message):
    with pytest.raises(ValueError, match=message):
        call(*load_iris(return_X_y=True))


def test_sparse_features_are_refused_in_scikit_learns_words():
    with pytest.raises(TypeError, match=r"dense data is required. Use '.toarray\(\)'"):
        NetworkClassifier().fit(csr_array(np.eye(50)), np.arange(50) % 2)


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


def test_pickles_of_before_a_parameter_have_its_default():
    X, y = load_iris(return_X_y=True)
    model = NetworkClassifier(epochs=1, seeds=1).fit(X, y)
    before = model.predict_proba(X)
    state = {k: v for k, v in vars(model).items() if k not in ("lr", "warm_start", "_end")}
    old = NetworkClassifier.__new__(NetworkClassifier)
    old.__setstate__(state)
    np.testing.assert_array_equal(old.predict_proba(X), before)
    assert old.get_params() == model.get_params()
    old.partial_fit(X, y)


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
        ({"settings": {"data.target": ("a",)}}, ValueError, "the data are X and y"),
        ({"settings": ["a"]}, ValueError, "must map paths to values"),
        ({"lr": -1}, ValueError, "lr: AdamW.lr is -1"),
        ({"hidden": "x"}, ValueError, "hidden: Mlp.hidden is 'x'"),
        ({"hidden": (8, 0)}, ValueError, "hidden: .* at least 1"),
        ({"dropout": 1}, ValueError, "dropout: Dropout.rate is 1"),
        ({"batch": 0}, ValueError, "batch: Recipe.batch is 0"),
        ({"weight_decay": "x"}, ValueError, "weight_decay: AdamW.weight_decay is 'x'"),
        ({"warm_start": "x"}, ValueError, "warm_start is 'x'"),
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
        NetworkClassifier(**QUICK | {"lr": 1e30}).fit(X, y).predict(X)


def test_settings_are_taken_together_in_any_order():
    paths = {"snapshots": "Snapshots", "stop": "none", "schedule.epochs": 2.0, "schedule": "SGDR"}
    recipe = named_recipe("default")
    for order in (paths, dict(reversed(paths.items()))):
        made = with_changes_by_path(recipe, order)
        assert made.schedule == SGDR(epochs=2.0) and made.snapshots and made.stop is None
