"""Claims about splits."""

import numpy as np
import pandas as pd
import pytest

from ravine.data import ALL_SPLITS, ByTime, Data, Encoding, Given, Grouped, Random, Stratified, load
from ravine.data.encoder import Encoder
from ravine.data.splits import SPLIT_NAMES, hash_places
from ravine.data.task_type import TaskType
from ravine.serialization import from_plain, to_plain

N = 200
FRAME = pd.DataFrame(
    {
        "x": np.sin(np.arange(N)),
        "y": ["often"] * 150 + ["seldom"] * 40 + ["rare"] * 10,
        "group": np.arange(N) % 23,
        "day": pd.date_range("2020-01-01", periods=N)[::-1].strftime("%Y-%m-%d"),
        "part": np.array(["train", "Val", "test", "train"])[np.arange(N) % 4],
    }
)
ASKED = TaskType("classes", ("y",), ("often", "rare", "seldom"))
EXAMPLES = {
    Random: Random(),
    Stratified: Stratified(),
    Grouped: Grouped(column="group"),
    ByTime: ByTime(column="day"),
    Given: Given(column="part"),
}


def drawn(split, seed=0, said=None):
    return split.rows(FRAME, ASKED, seed, [] if said is None else said)


@pytest.mark.parametrize("cls", ALL_SPLITS)
def test_every_split_uses_each_row_once_and_is_the_same_for_the_same_seed(cls):
    one, other = drawn(EXAMPLES[cls]), drawn(EXAMPLES[cls])
    rows = np.concatenate([getattr(one, name) for name in SPLIT_NAMES])
    assert sorted(rows.tolist()) == list(range(N))
    assert all(np.array_equal(getattr(one, n), getattr(other, n)) for n in SPLIT_NAMES)
    assert all(len(getattr(one, n)) > 0 for n in SPLIT_NAMES)


@pytest.mark.parametrize("cls", ALL_SPLITS)
def test_every_split_can_be_written_in_a_recipe(cls):
    assert from_plain(cls, to_plain(EXAMPLES[cls]), {}) == EXAMPLES[cls]


@pytest.mark.parametrize("cls", [Random, Stratified, Grouped])
def test_another_seed_gives_another_split(cls):
    assert not np.array_equal(drawn(EXAMPLES[cls]).test, drawn(EXAMPLES[cls], seed=1).test)


def test_stratified_keeps_proportions_and_every_class_in_every_split():
    rows = drawn(Stratified())
    for name in SPLIT_NAMES:
        share = FRAME["y"].iloc[getattr(rows, name)].value_counts(normalize=True)
        assert abs(share["often"] - 0.75) < 0.02 and share["rare"] > 0.03


def test_groups_stay_together():
    rows = drawn(Grouped(column="group"))
    groups = [set(FRAME["group"].iloc[getattr(rows, name)]) for name in SPLIT_NAMES]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert abs(len(rows.test) / N - 0.15) < 0.05


def test_the_future_is_not_learned_from_and_moments_stay_together():
    rows = drawn(ByTime(column="day"))
    train, validation, test = (FRAME["day"].iloc[getattr(rows, name)] for name in SPLIT_NAMES)
    assert train.max() < validation.min() <= validation.max() < test.min()
    same = pd.DataFrame({"when": np.repeat(np.arange(20), 10), "y": "a"})
    parts = ByTime(column="when").rows(same, ASKED, 0, [])
    moments = [set(same["when"].iloc[getattr(parts, name)]) for name in SPLIT_NAMES]
    assert not (moments[0] & moments[1] or moments[1] & moments[2])


def test_given_splits_are_taken_and_a_lacking_validation_split_is_drawn():
    assert set(drawn(Given(column="part")).test % 4) == {2}
    said: list[str] = []
    rows = drawn(Given(test_rows=tuple(range(50))), said=said)
    assert rows.test.tolist() == list(range(50)) and len(rows.validation) == round(0.15 * 150)
    assert "No row was given to validation" in said[0]
    assert drawn(Given(train_rows=(1, 2, 3, 4, 5), test_rows=(9,))).train.max() <= 5


def test_a_test_file_is_the_test_split(tmp_path):
    FRAME.iloc[:150].to_csv(tmp_path / "train.csv", index=False)
    FRAME.iloc[150:].to_csv(tmp_path / "test.csv", index=False)
    data = Data(source=str(tmp_path / "train.csv"), target=("x",), test=str(tmp_path / "test.csv"))
    task = load(data, Random(), Encoding(), seed=0)
    assert task.rows["test"].tolist() == list(range(150, 200)) and task.train.count == 150 - round(
        0.15 * 150
    )


def test_hashed_places_have_the_right_shares_and_do_not_follow_the_order():
    place = hash_places(np.arange(100_000), 0.1, 0.2, seed=5)
    assert (
        abs((place == 2).mean() - 0.2) < 0.005 and abs((place == 1).mean() - 0.1) < 0.004
    )  # 4 standard deviations
    both = ((place[:-1] == 2) & (place[1:] == 2)).mean()
    assert abs(both - 0.04) < 0.004


def test_weights_come_along():
    frame = FRAME.assign(w=np.arange(N) / 10 + 1)
    task = load(Data(target=("x",), weight="w"), Random(), Encoding(), seed=0, frame=frame)
    assert isinstance(task.encoder, Encoder) and "w" not in task.encoder.columns
    assert np.allclose(task.train_examples.weights.numpy(), frame["w"].iloc[task.rows["train"]])


@pytest.mark.parametrize("name", ["id", "patient_id", "playerID", "person", "image id"])
def test_rows_of_one_identifier_in_several_splits_are_told_with_what_keeps_them(name):
    draw = np.random.default_rng(3)
    table = pd.DataFrame({name: draw.integers(0, 80, 300) + 7, "x": draw.normal(size=300)})
    table["team_id"] = draw.integers(0, 30, 300)  # fewer groups
    table["y"] = draw.normal(size=300)
    data = Data(target=("y",))

    def lines(split):
        task = load(data, split, Encoding(), seed=0, frame=table)
        return [note for note in task.notes if "several splits" in note], task

    (line,), _ = lines(Stratified())
    assert line.startswith(f"{name} has {table[name].nunique()} values in 300 rows")
    assert "split=Grouped" in line and f"split.column={name}" in line
    none, task = lines(Grouped(column=name))
    assert none == []
    groups = [set(table[name].iloc[places]) for places in task.rows.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", np.arange(300) * 5 % 301),  # another in each row
        ("order_id", np.arange(300) % 280),  # few repeat
        ("store_id", np.arange(300) % 9),  # few kinds
        ("paid", np.arange(300) % 80),  # no identifier
        ("y_id", np.arange(300) % 80),  # the target
    ],
)
def test_nothing_is_said_of_other_columns(name, values):
    draw = np.random.default_rng(3)
    table = pd.DataFrame({name: values, "x": draw.normal(size=300), "y": draw.normal(size=300)})
    target = name if name == "y_id" else "y"
    task = load(Data(target=(target,)), Random(), Encoding(), seed=0, frame=table)
    assert not any("several splits" in note for note in task.notes)


@pytest.mark.parametrize(
    ("levels", "tested"),
    [(["1.9", "1.10", "1.11", "1.1"], ["1.10", "1.11"]), (["3.0", "3", "x"], ["3.0", "3"])],
)
def test_a_test_file_has_the_levels_that_it_writes(levels, tested, tmp_path):
    for name, codes in (("train.csv", levels), ("test.csv", tested)):
        rows = pd.DataFrame({"code": codes * 20, "a": np.arange(20.0 * len(codes))})
        rows.assign(y=rows["a"] / 7).to_csv(tmp_path / name, index=False)
    data = Data(source=str(tmp_path / "train.csv"), target=("y",), test=str(tmp_path / "test.csv"))
    task = load(data, Random(), Encoding(), seed=0)
    assert isinstance(task.encoder, Encoder) and task.test is not None
    names = [f"code = {level}" for level in tested]
    expected = [[float(name == f) for f in task.encoder.features[:-1]] for name in names * 20]
    assert task.test.numbers[:, :-1].tolist() == expected
