"""Claims about classes of few rows: nothing stops, what is done is said, and advice works."""

import numpy as np
import pandas as pd
import pytest

from ravine.data import Data, Encoding, Random, Stratified, load
from ravine.errors import DataError

FRAME = pd.DataFrame(
    {
        "a": np.random.default_rng(0).normal(size=100),
        "y": [*["Oak", "Elm"] * 47, "Yew", "Ash", "Fir", "Box", "Box", "Box"],
    }
)


def loaded(split=Stratified, **settings):
    return load(Data(target=("y",), **settings), split(), Encoding(), seed=0, frame=FRAME)


def test_classes_of_one_row_are_left_out_and_said():
    task = loaded()
    assert task.classes == ("Box", "Elm", "Oak")
    rows = np.concatenate(list(task.rows.values()))
    assert sorted(rows) == [i for i in range(100) if FRAME["y"][i] in task.classes]
    assert task.notes[0] == (
        "3 classes of y have fewer than 2 rows: 3 rows are left out ('Yew', 'Ash', 'Fir'); "
        "data.min_class_rows = 1 keeps them."
    )


def test_rare_classes_may_be_joined_or_kept():
    joined = loaded(rare_classes="join", min_class_rows=4)
    assert joined.classes == ("(other)", "Elm", "Oak")
    assert sum(map(len, joined.rows.values())) == 100
    kept = loaded(min_class_rows=1)
    assert len(kept.classes) == 6
    train = set(FRAME["y"].iloc[kept.rows["train"]])
    assert {"Yew", "Ash", "Fir", "Box"} <= train


def test_the_advice_for_a_class_outside_of_training_works():
    frame = FRAME.iloc[:99]  # two rows of Box
    for seed in range(60):
        data, split = Data(target=("y",)), Random()
        try:
            load(data, split, Encoding(), seed=seed, frame=frame)
        except DataError as error:
            assert "data.min_class_rows = 3 to leave it out" in str(error)
            data = Data(target=("y",), min_class_rows=3)
            assert load(data, split, Encoding(), seed=seed, frame=frame).classes == ("Elm", "Oak")
            return
    raise AssertionError("no seed puts both rows of the class outside of training")


def test_a_test_file_is_judged_on_the_classes_that_were_learned(tmp_path):
    FRAME.to_csv(tmp_path / "test.csv", index=False)
    known = FRAME[FRAME["y"].isin(["Oak", "Elm"])]
    data = Data(target=("y",), test=str(tmp_path / "test.csv"))
    task = load(data, Stratified(), Encoding(), seed=0, frame=known)
    assert task.classes == ("Elm", "Oak") and len(task.rows["test"]) == 94
    assert "4 classes of y have fewer than 2 rows: 6 rows are left out" in task.notes[0]


@pytest.mark.parametrize("task", ["regression", "labels"])
def test_numbers_and_labels_have_no_rare_classes(task):
    frame = FRAME.assign(y=np.arange(100) % 2 if task == "labels" else np.arange(100) / 7)
    found = load(Data(target=("y",), task=task), Random(), Encoding(), seed=0, frame=frame)
    assert sum(map(len, found.rows.values())) == 100
