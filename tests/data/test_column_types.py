"""Claims about what columns and targets are taken to be, and how they are encoded."""

import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from ravine.data import Data, Encoder, Encoding, Random, load
from ravine.data.column_encoders import Codes, Date, Flag, Numeric, OneHot, covered_cycles
from ravine.data.column_types import infer_column_types
from ravine.data.parsing import dates_or_gaps, numbers_of
from ravine.data.task_type import infer_task_type

N = 60
I = np.arange(N)  # noqa: E741

KINDS = {
    "floats": (I / 7, "number"),
    "whole numbers": (I % 13, "number"),
    "thousands": ([f"{1000 + 37 * (i % 50):,}" for i in I], "number"),
    "money": ([f"${i % 50}.50" for i in I], "number"),
    "percent": ([f"{i % 50}%" for i in I], "number"),
    "continental": ([f"1.{i % 50:03d},5" for i in I], "number"),
    "numbers and question marks": (["?" if i % 5 == 0 else str(i % 31) for i in I], "number"),
    "exact decimals": ([__import__("decimal").Decimal(int(i % 31)) / 4 for i in I], "number"),
    "durations": (pd.to_timedelta(I % 31, unit="h"), "number"),
    "years": (1960 + I, "number"),
    "yes and no": (np.where(I % 3, "Yes", "no"), "boolean"),
    "t and f": (np.where(I % 3, "t", "f"), "boolean"),
    "truth": (I % 3 == 0, "boolean"),
    "truth with gaps": (pd.Series([None if i % 7 == 0 else bool(i % 2) for i in I]), "boolean"),
    "truth beside its name": (
        pd.Series([np.bool_(i % 2) if i % 3 else "True" for i in I]),
        "boolean",
    ),
    "truth beside 0 and 1": (pd.Series([bool(i % 2) if i % 3 else 1 for i in I]), "boolean"),
    "yes and y": (np.array(["yes", "y", "no"])[I % 3], "boolean"),
    "yes and 0": (np.array(["yes", "0"])[I % 2], "category"),
    "0 and 1": (I % 2, "boolean"),
    "0 and 1 with gaps": (np.where(I % 7 == 0, np.nan, I % 2), "boolean"),
    "towns": (np.array(["Aix", "Bonn", "Como"])[I % 3], "category"),
    "categorical numbers": (pd.Categorical(I % 4), "category"),
    "codes with letters": ([f"A{i % 9}" for i in I], "category"),
    "ISO days": ([f"2020-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in I], "date"),
    "days first": ([f"{1 + i % 28:02d}.{1 + i % 12:02d}.2020" for i in I], "date"),
    "American days": ([f"{1 + i % 12}/{1 + i % 28}/2020" for i in I], "date"),
    "moments": (pd.Timestamp("2020-01-01") + pd.to_timedelta(I, unit="h"), "date"),
    "moments with zones": ([f"2020-01-01T{i % 24:02d}:00:00+02:00" for i in I], "date"),
    "Python's days": ([datetime.date(2020, 1, 1) + datetime.timedelta(int(i)) for i in I], "date"),
    "nothing": ([None] * N, "it has no values"),
    "one value": (["x"] * N, "it is 'x' in all training rows"),
    "names": ([f"person {i}" for i in I], "it has another text in every row"),
    "sentences": (
        [f"this is about the number {i // 2 * 2 + (i > 40)}" for i in I],
        "it is free text",
    ),
    "row numbers": (I[::-1] + 1000, "it numbers the rows"),
    "customer_id": (I * 1000 + 7, "it is an identifier"),
    "lists": ([[1, 2]] * 30 + [[3]] * 30, "it holds lists"),
}


@pytest.mark.parametrize("name", KINDS)
def test_columns_are_what_their_values_say(name):
    values, expected = KINDS[name]
    used, dropped = infer_column_types(pd.DataFrame({name: values}), rows=N)
    assert (used[0].kind if used else dropped[0].why[: len(expected)]) == expected
    if used and used[0].kind == "number":
        assert not np.isnan(numbers_of(pd.Series(values), name, used[0].style)).all()
    if used and used[0].kind == "date":
        assert not np.isnan(dates_or_gaps(pd.Series(values), name, used[0].style)).any()


TARGETS = {
    "words": (["a", "b", "c"] * 20, "classes", ("a", "b", "c")),
    "two words": (["yes", "no"] * 30, "binary", ("no", "yes")),
    "truth": ([True, False] * 30, "binary", (False, True)),
    "two numbers": ([2.0, 1.0] * 30, "binary", (1.0, 2.0)),
    "few whole numbers": ([3, 1, 2] * 20, "classes", (1, 2, 3)),
    "many whole numbers": (I * 3, "regression", ()),
    "floats": (I / 7, "regression", ()),
    "money": ([f"${i}.50" for i in I], "regression", ()),
    "lists": ([["red"], ["red", "blue"], []] * 20, "labels", ("blue", "red")),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_task_is_what_the_target_asks_and_classes_keep_their_types(name):
    values, kind, classes = TARGETS[name]
    found = infer_task_type(pd.DataFrame({"y": values}), ("y",), "auto", [])
    assert (found.kind, found.classes) == (kind, classes)
    assert [type(c) for c in found.classes] == [type(c) for c in classes]


def test_several_targets_are_labels_or_numbers():
    frame = pd.DataFrame({"a": I % 2, "b": I % 3 == 0, "c": I / 7, "x": np.sin(I)})
    labels = load(Data(target=("a", "b")), Random(), Encoding(), seed=0, frame=frame)
    assert (
        labels.kind == "labels"
        and labels.train_examples.targets.shape == (42, 2)
        and labels.classes == ("a", "b")
    )
    numbers = load(Data(target=("c", "x")), Random(), Encoding(), seed=0, frame=frame)
    assert numbers.kind == "regression" and numbers.outputs == 2
    given = torch.tensor(frame[["c", "x"]].to_numpy()[numbers.rows["test"]])
    assert torch.allclose(numbers.encoder.target.decode(numbers.test.targets), given, atol=1e-6)


# Encoding


def fitted(values, target=None, **settings):
    """The form of a column, and the function that encodes new values of it."""
    frame = pd.DataFrame(
        {"v": values, "y": np.cos(I) if target is None else target, "other": np.sin(I)}
    )
    split = Random(validation=0.0, test=0.0)
    encoder = load(
        Data(target=("y",)), split, Encoding(smooth_clip=None, **settings), seed=0, frame=frame
    ).encoder
    assert isinstance(encoder, Encoder)

    def encode(new) -> list:
        made = encoder.apply(pd.DataFrame({"v": new, "other": 0.0}))
        wide = made.codes if isinstance(encoder.column_encoders[0], Codes) else made.numbers[:, :-1]
        return wide.tolist()

    return encoder.column_encoders[0], encode


def test_unseen_and_missing_categories_are_zero():
    form, encode = fitted(np.array(["a", "b", "c"])[I % 3])
    assert isinstance(form, OneHot)
    assert encode(["a", "c", "z", None]) == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    form, encode = fitted(np.array(["a", "b"])[I % 2])
    assert encode(["a", "b", "z", None]) == [[-1], [1], [0], [0]]
    form, encode = fitted([f"c{i % 12}" for i in I])
    assert isinstance(form, Codes) and encode(["z", None]) == [[0], [0]] and encode(["c0"]) != [[0]]


def test_gaps_that_training_saw_are_a_level_of_their_own():
    form, encode = fitted([None if i % 4 == 0 else "ab"[i % 2] for i in I])
    assert isinstance(form, OneHot) and form.levels == ("(missing)", "a", "b")
    assert encode([None]) == [[1, 0, 0]]


def test_rare_levels_are_treated_like_unseen_ones():
    form, encode = fitted(["rare"] * 2 + [f"c{i % 11}" for i in I[2:]])
    assert isinstance(form, Codes) and "rare" not in form.levels and encode(["rare"]) == [[0]]


def test_a_category_is_the_same_however_it_is_stored():
    _, encode = fitted(pd.Categorical(I % 3))
    assert (
        encode([0, 1, 2])
        == encode([0.0, 1.0, 2.0])
        == encode(["0", "1", "2"])
        == torch.eye(3).tolist()
    )


def test_booleans_are_minus_and_plus_one():
    form, encode = fitted(np.where(I % 3, "Yes", "no"))
    assert isinstance(form, Flag) and encode(["YES", "no", None, "perhaps"]) == [
        [1],
        [-1],
        [0],
        [0],
    ]


def test_gaps_become_the_median_and_a_column_says_where():
    values = np.where(I % 6 == 0, np.nan, I * 1.5 + 0.25)
    form, encode = fitted(values, scale="none")
    assert isinstance(form, Numeric) and encode([7.0, None]) == [
        [7.0, 0.0],
        [float(np.nanmedian(values)), 1.0],
    ]


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile"])
def test_scalings_equal_scikit_learns(scale):
    from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

    draw = np.random.default_rng(1)
    values, new = draw.lognormal(size=N), draw.lognormal(size=50)
    peer = {
        "standard": StandardScaler(),
        "robust": RobustScaler(),
        "quantile": QuantileTransformer(n_quantiles=N, output_distribution="normal"),
    }[scale]
    expected = peer.fit(values[:, None]).transform(new[:, None])[:, 0]
    _, encode = fitted(values, scale=scale)
    found = np.array(encode(new))[:, 0]
    assert np.allclose(
        found, expected, atol=1e-5
    )  # float32; scikit-learn's ends are ±5.1993, ours ±5.1993


def test_a_mostly_constant_number_is_divided_by_half_its_range_when_robust():
    _, encode = fitted(np.where(I % 10 == 0, 8.0, 2.0), scale="robust")
    assert encode([2.0, 8.0]) == [[0.0], [2.0]]


def test_the_smooth_clip_bounds_what_it_must():
    frame = pd.DataFrame({"v": np.append(np.sin(I[:-1]), 1e9), "y": np.cos(I)})
    task = load(Data(target=("y",)), Random(), Encoding(smooth_clip=3.0), seed=0, frame=frame)
    assert (
        float(task.train_examples.numbers.abs().max()) <= 3.0
        and task.effects["columns clipped"] == 1
    )


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (pd.date_range("1970-01-01", periods=12, freq="YS"), ("week",)),
        (pd.date_range("1970-01-01", periods=12, freq="QS"), ("year", "week")),
        (pd.date_range("2020-01-01 12:00", periods=400), ("year", "week")),
        (pd.date_range("2020-01-06", periods=100, freq="7D"), ("year",)),
        (pd.date_range("2020-01-01", periods=96, freq="h"), ("week", "day")),
    ],
)
def test_a_cycle_in_which_all_dates_have_one_place_is_left_out(dates, expected):
    days = (dates - pd.Timestamp(0)).total_seconds().to_numpy() / 86400
    assert covered_cycles(days) == expected


def test_dates_become_days_and_cycles():
    days = pd.Timestamp("2019-01-01") + pd.to_timedelta(I * 10, unit="D")
    form, encode = fitted(days.strftime("%d.%m.%Y"), scale="none")
    assert isinstance(form, Date) and form.cycles == ("year", "week")
    day, *waves = encode(["01.01.1970"])[0]
    assert day == 0.0 and waves[:2] == [0.0, 1.0] and abs(waves[2] ** 2 + waves[3] ** 2 - 1) < 1e-6


def test_a_hundred_thousand_levels_get_codes_and_the_cap_holds():
    draw = np.random.default_rng(0)
    rows = 150_000
    frame = pd.DataFrame({"v": draw.permutation(rows) % 100_000, "y": draw.normal(size=rows)})
    data = Data(target=("y",), categories=("v",))
    task = load(data, Random(), Encoding(rare=1), seed=0, frame=frame)
    seen = frame["v"].iloc[task.rows["train"]].nunique()
    assert seen > 75_000 and task.encoder.code_sizes == (seen + 1,)
    capped = load(data, Random(), Encoding(rare=1, codes_up_to=1000), seed=0, frame=frame)
    assert capped.encoder.code_sizes == (1001,) and int(capped.train_examples.codes.max()) == 1000


def test_a_very_skewed_target_is_learned_as_its_logarithm_and_comes_back():
    y = np.exp(np.linspace(-8, 8, N))
    frame = pd.DataFrame({"x": np.sin(I), "y": y})
    task = load(Data(target=("y",)), Random(), Encoding(target="log"), seed=0, frame=frame)
    assert task.encoder.target.transform == "log" and task.effects["targets logged"] == 1
    back = task.encoder.target.decode(task.test.targets)[:, 0].numpy()
    assert np.allclose(back, y[task.rows["test"]], rtol=1e-5)  # float32 between


def test_predictions_come_back_as_a_table_with_labels_in_their_types():
    frame = pd.DataFrame({"x": np.sin(I), "y": [7, 9, 11] * 20})
    encoder = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame).encoder
    table = encoder.target.frame(torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]]), index=[5, 6])
    assert table["y"].tolist() == [9, 7] and table.index.tolist() == [5, 6]
    assert list(table.columns) == ["y", "probability of 7", "probability of 9", "probability of 11"]


def test_columns_that_say_the_same_are_used_once():
    town = np.array(["Aix", "Bonn", "Como"])[I % 3]
    frame = pd.DataFrame(
        {"a": np.sin(I), "b": np.sin(I), "town": town, "code": [t[0] for t in town], "y": np.cos(I)}
    )
    task = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame)
    assert isinstance(task.encoder, Encoder) and task.encoder.columns == ("a", "town")
    assert (
        "b is not used: it repeats a." in task.notes
        and "code is not used: it repeats town." in task.notes
    )


def test_features_of_few_values_are_told_from_measured_ones():
    rng = np.random.default_rng(0)
    number = rng.normal(size=60)
    frame = pd.DataFrame(
        {
            "size": np.where(number > 1, np.nan, number),
            "color": ["red", "blue", "green"] * 20,
            "sold": ["yes", "no"] * 30,
            "y": number,
        }
    )
    encoder = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame).encoder
    flagged = [encoder.features[i] for i in encoder.flags]
    assert flagged == [n for n in encoder.features if n != "size"]
    values = encoder.apply(frame).numbers[:, list(encoder.flags)]
    assert values.unique(dim=0).numel() < values.numel() and all(
        len(v.unique()) <= 3 for v in values.T
    )


def test_the_words_of_a_text_are_learned_where_asked_for():
    draw = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(30)])
    picked = draw.integers(0, 30, (400, 4))
    titles = [" ".join(words[row]) for row in picked]
    frame = pd.DataFrame({"title": titles, "y": (picked == 3).sum(1) - (picked == 7).sum(1) + 0.1})
    data = Data(target=("y",), task="regression", texts=("title",))
    task = load(data, Random(), Encoding(text_features=1024), seed=0, frame=frame)
    assert isinstance(task.encoder, Encoder) and task.train_examples.numbers.shape[1] == 1024
    x, y = task.train_examples.numbers, task.train_examples.targets
    assert torch.allclose(x.norm(dim=1), torch.full((len(x),), 32.0), atol=1e-4)
    assert task.test is not None and task.test.targets is not None
    learner = Ridge().fit(x, y)
    assert learner.score(task.test.numbers, task.test.targets) > 0.9
    again = Encoder.from_plain(task.encoder.to_plain())
    assert again == task.encoder
    gap, new = again.apply(pd.DataFrame({"title": [None, "never seen"]})).numbers
    assert not gap.any() and new.any()
    left_out = load(
        Data(target=("y",), task="regression"),
        Random(),
        Encoding(),
        seed=0,
        frame=frame.assign(other=draw.normal(size=400)),
    )
    assert any("data.texts = ['title'] uses its words" in note for note in left_out.notes)


@pytest.mark.parametrize(
    "levels, counts",
    [
        (["bad", "Bad", "BAD", "ok", "Ok", "OK", "good", "Good", "GOOD"], "9 levels, 3 without"),
        (["New York", "New  York", "Rome", "Oslo"], "4 levels, 3 without"),
        ([f"town {i}" for i in range(20)] + ["Town 7"], "21 levels, 20 without"),
        (["gut", "schlecht", "Gut"], "3 levels, 2 without"),
    ],
)
def test_levels_that_differ_only_in_case_or_blanks_are_said_and_stay_apart(levels, counts):
    rows = np.random.default_rng(0).permutation(levels * 20)
    frame = pd.DataFrame({"v": rows, "x": np.arange(len(rows)) % 7 / 3, "y": rows[::-1]})
    task = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame)
    said = [n for n in task.notes if "differ only in case or blanks" in n]
    assert [n[:2] for n in said] == ["y ", "v "] and all(counts in n for n in said)
    assert len(task.classes) == len(levels)
    names = {level: f"level {i}" for i, level in enumerate(levels)}
    clean = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame.replace(names))
    assert not any("differ only" in n for n in clean.notes)
