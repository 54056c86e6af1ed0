"""Claims about the way from a source to a task."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from ravine.data import (
    BUNDLED_SETS,
    Data,
    Encoder,
    Encoding,
    Random,
    Stratified,
    TaskType,
    load,
    task_of_rows,
)
from ravine.data.splits import SPLIT_NAMES
from ravine.data.targets import Target


def table(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """A table with a column of every kind, gaps in some."""
    draw = np.random.default_rng(seed)
    size = draw.normal(100, 30, rows)
    frame = pd.DataFrame(
        {
            "number": draw.permutation(rows),
            "size": np.where(draw.random(rows) < 0.1, np.nan, size),
            "cost": [f"${x:,.2f}" for x in draw.lognormal(8, 1, rows)],
            "garden": draw.choice(["yes", "no"], rows),
            "town": draw.choice(list("abcdef"), rows),
            "street": draw.choice([f"street {i}" for i in range(40)], rows),
            "sold": pd.Timestamp("2020-01-01")
            + pd.to_timedelta(draw.integers(0, 900, rows), unit="D"),
            "country": "here",
        }
    )
    return frame.assign(size2=frame["size"], price=np.exp(size / 10 + draw.normal(0, 0.1, rows)))


@pytest.mark.parametrize("name", BUNDLED_SETS)
def test_every_bundled_set_loads_and_all_its_numbers_are_finite(name):
    task = load(Data(source=name), Stratified(), Encoding(), seed=0)
    for split in SPLIT_NAMES:
        examples = getattr(task, split)
        assert torch.isfinite(examples.numbers).all() and examples.numbers.dtype == torch.float32
        assert examples.numbers.shape[1] == len(task.encoder.features)
        assert len(task.rows[split]) == examples.count
    shapes = {"classes": (), "binary": (1,), "regression": (1,)}
    assert task.train_examples.targets.shape[1:] == shapes[task.kind]
    assert task.train_examples.targets.dtype == (
        torch.int64 if task.kind == "classes" else torch.float32
    )


def test_a_table_of_every_kind_is_understood():
    task = load(Data(target=("price",)), Random(), Encoding(rare=1), seed=0, frame=table())
    assert task.kind == "regression" and task.outputs == 1
    assert isinstance(task.encoder, Encoder)
    assert task.encoder.columns == ("size", "cost", "garden", "town", "street", "sold")
    assert task.encoder.code_names == ("street",) and task.train_examples.codes.shape == (280, 1)
    assert task.encoder.code_sizes[0] == 1 + table()["street"].iloc[task.rows["train"]].nunique()
    assert {"size is missing", "town = a", "sold sine of year"} <= set(task.encoder.features)
    text = " ".join(task.notes)
    for words in (
        "number is not used: it numbers the rows",
        "country is not used",
        "size2 is not used: it repeats size",
        "logarithm of price",
        "Numbers written as text: cost",
    ):
        assert words in text
    assert task.effects["gaps filled"] == table()["size"].iloc[task.rows["train"]].isna().sum()


def test_training_columns_are_centered_and_scaled():
    task = load(
        Data(target=("price",), drop=("size",)),
        Random(),
        Encoding(smooth_clip=None),
        seed=0,
        frame=table(),
    )
    at = task.encoder.features.index("cost")
    column = task.train_examples.numbers[:, at].double()
    assert (
        abs(float(column.mean())) < 1e-6 and abs(float(column.std(correction=0)) - 1) < 1e-6
    )  # float32 rounding
    assert abs(float(task.train_examples.targets.mean())) < 1e-6


def test_no_statistic_of_the_other_splits_leaks():
    frame = table()
    before = load(Data(target=("price",)), Random(), Encoding(), seed=0, frame=frame)
    held = np.concatenate([before.rows["validation"], before.rows["test"]])
    changed = frame.copy()
    changed.loc[held, "size"] = 1e6
    changed.loc[held, "cost"] = "7"
    changed.loc[held, ["town", "street"]] = "elsewhere"
    changed.loc[held, "sold"] = pd.Timestamp("1950-05-05 12:30")
    changed.loc[held, "price"] *= 1000
    after = load(Data(target=("price",)), Random(), Encoding(), seed=0, frame=changed)
    assert json.dumps(before.encoder.to_plain()) == json.dumps(after.encoder.to_plain())
    for one, other in zip(before.train_examples.fields, after.train_examples.fields, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile", "none"])
def test_an_encoder_survives_json_exactly(scale):
    frame = table()
    task = load(
        Data(target=("price",)),
        Random(),
        Encoding(scale=scale, smooth_clip=3.0),
        seed=0,
        frame=frame,
    )
    again = Encoder.from_plain(json.loads(json.dumps(task.encoder.to_plain())))
    assert again == task.encoder
    for one, other in zip(task.encoder.apply(frame).fields, again.apply(frame).fields, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_equal_tasks_have_equal_fingerprints_and_seeds_change_the_split():
    one, other, third = (
        load(Data(source="iris"), Stratified(), Encoding(), seed=s) for s in (1, 1, 2)
    )
    assert one.fingerprint == other.fingerprint != third.fingerprint


def test_a_file_wins_over_a_bundled_set_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "iris").write_text("a,b\n" + "\n".join(f"{i / 7},{i * i / 3}" for i in range(30)))
    monkeypatch.chdir(tmp_path)
    task = load(Data(source="iris", target=("b",)), Random(), Encoding(), seed=0)
    assert task.kind == "regression" and task.encoder.features == ("a",)


@pytest.mark.parametrize(
    ("no", "yes"), [("No", "Yes"), ("f", "t"), ("off", "ON"), (False, True), (0, 1), ("0", "1")]
)
def test_labels_are_predicted_in_the_words_of_their_columns(no, yes):
    flags = np.arange(60) % 3 == 0
    values = [yes if flag else no for flag in flags]
    table = pd.DataFrame({"x": np.arange(60) / 7, "a": values, "b": (~flags).astype(int)})
    task = load(Data(target=("a", "b")), Stratified(), Encoding(), seed=0, frame=table)
    target = Target.from_plain(json.loads(json.dumps(task.encoder.target.to_plain())))
    assert target == task.encoder.target
    answers = target.frame(torch.from_numpy(np.stack([flags, ~flags], 1) * 1.0))
    assert answers["b"].tolist() == table["b"].tolist() and answers["b"].dtype == np.int64
    assert list(map(str, answers["a"])) == list(map(str, values))
    numbers = table.assign(a=flags.astype(int))
    same = load(Data(target=("a", "b")), Stratified(), Encoding(), seed=0, frame=numbers)
    assert same.fingerprint == task.fingerprint  # what is learned is the same


def test_the_commonest_spelling_of_a_label_is_predicted():
    values = ["YES", "yes", "No", "yes", "no", "no"] * 10
    table = pd.DataFrame({"x": np.arange(60) / 7, "a": values, "b": values[::-1]})
    task = load(Data(target=("a", "b")), Stratified(), Encoding(), seed=0, frame=table)
    assert task.encoder.target.task_type.words == (("no", "yes"), ("no", "yes"))
    assert any("('no' or 'yes')" in note for note in task.notes)


@pytest.mark.parametrize("sign", [",", "."])
def test_rows_with_known_targets_have_one_decimal_sign_as_loaded_tables_have(sign):
    certain = [f"{i}.5".replace(".", sign) for i in range(60)]
    doubtful = [f"{1 + i % 9}{sign}{100 + 7 * i}" for i in range(60)]
    frame = pd.DataFrame({"a": certain, "b": doubtful, "y": np.arange(60.0) / 7})
    data = Data(target=("y",))
    parts = (data, Random(), Encoding())
    kind = TaskType("regression", ("y",), styles=("",))
    task = task_of_rows(frame, kind, *parts, seed=0)
    seen = load(*parts, seed=0, frame=frame).train_examples.numbers
    assert torch.equal(task.train_examples.numbers, seen)
    b = [1 + i % 9 + (100 + 7 * i) / 1000 for i in range(60)]
    assert isinstance(task.encoder, Encoder)
    scaling = task.encoder.column_encoders[1].scaling  # type: ignore[union-attr]
    assert scaling.seen[0] >= min(b) and scaling.seen[1] <= max(b)
