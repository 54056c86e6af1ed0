"""What is said of a table when it is learned from, and of new rows when they are predicted."""

import json

import numpy as np
import pandas as pd
import pytest
from drift_of_frames import describe_drift

from ravine import catalog, train
from ravine.cli import run_command
from ravine.data import ByTime, Data, Encoder, Encoding, Given, Random, load, read_table

RANDOM = np.random.default_rng(0)


def table(rows=90, **columns):
    x = RANDOM.normal(size=rows)
    return pd.DataFrame({"x": x, **columns, "y": x + RANDOM.normal(size=rows)})


def said_of(frame, split=None, **settings):
    settings = {"target": ("y",), **settings}
    return " ".join(
        load(Data(**settings), split or Random(), Encoding(), seed=0, frame=frame).notes
    )


def encoder_of(frame, split=None, encoding=None, **settings):
    found = load(
        Data(**{"target": ("y",), **settings}),
        split or Random(),
        encoding or Encoding(),
        seed=0,
        frame=frame,
    )
    assert isinstance(found.encoder, Encoder)
    return found.encoder


def forms_of(encoder):
    return {form.name: type(form).__name__ for form in encoder.column_encoders}


# Learning


def test_columns_with_another_task_are_named():
    frame = table(
        w=np.arange(90) + 0.5,
        when=pd.date_range("2020-01-01", periods=90),
        part=["train"] * 80 + ["test"] * 10,
    )
    said = said_of(frame, ByTime(column="when"), weight="w", drop=("part",))
    assert (
        "w weighs the rows and is not an input" in said
        and "when splits the rows and is not an input" in said
    )
    assert "part splits the rows" in said_of(frame, Given(column="part"))
    assert "no input" not in said_of(frame)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "%m/%d/%Y",
            "could have day and month the other way round: 01/01/2020 is taken as 1 January",
        ),
        ("%d-%m-%Y", "could have day and month the other way round"),
        ("%Y-%m-%d", ""),
        ("%d.%m.%Y", ""),  # nobody writes the month first so
    ],
)
def test_dates_that_can_be_read_two_ways_are_said_to_be(written, said):
    short = [*pd.date_range("2020-01-01", periods=12), *pd.date_range("2020-02-01", periods=12)]
    found = said_of(
        table(rows=24, when=[day.strftime(written) for day in short]),
        Random(validation=0.1, test=0.1),
    )
    assert said in found and (bool(said) or "other way round" not in found)


def test_dates_with_a_day_after_the_twelfth_are_certain():
    when = pd.date_range("2020-01-01", periods=90).strftime("%m/%d/%Y")
    assert "other way round" not in said_of(table(when=when))


def test_codes_with_zeros_before_them_stay_text_and_that_is_said(tmp_path):
    zips = [f"{z:05d}" for z in RANDOM.choice([1234, 12340, 2139, 90210], 90)]
    table(zip=zips, n=np.arange(90) % 7).to_csv(tmp_path / "t.csv", index=False)
    read = read_table(tmp_path / "t.csv")
    assert set(read["zip"]) == {"01234", "12340", "02139", "90210"} and read["n"].dtype == np.int64
    assert forms_of(encoder_of(read))["zip"] == "OneHot"
    assert "zip is taken as categories: its numbers begin with zeros ('0" in said_of(read)
    assert forms_of(encoder_of(read, numbers=("zip",)))["zip"] == "Numeric"


@pytest.mark.parametrize("values", ["0.5", "0", "10", "-05", "0x1"])
def test_other_numbers_stay_what_they_were(tmp_path, values):
    (tmp_path / "t.csv").write_text(f"a,b\n{values},01\n12,11\n")
    expected = pd.read_csv(tmp_path / "t.csv")["a"]
    assert read_table(tmp_path / "t.csv")["a"].equals(expected)


def test_a_skewed_positive_target_is_mentioned():
    skewed = table(900).assign(y=lambda t: np.exp(1.0 * t["x"] + RANDOM.normal(size=900)))
    assert 'set encoding.target = "log"' in said_of(skewed)
    for other in (skewed.assign(y=np.log(skewed["y"])), skewed.assign(y=skewed["y"] - 1.0)):
        assert "encoding.target" not in said_of(other)


# Predicting


@pytest.fixture(scope="module")
def learned():
    city = np.tile(["Ulm", "Bonn", "Köln"], 40)
    street = np.repeat([f"s{i}" for i in range(15)], 8)  # not drawn: a rare one is not learned
    frame = table(
        120,
        city=city,
        street=street,
        day=pd.date_range("2020-01-01", periods=120).astype(str).to_list(),
        flag=np.repeat(["yes", "no"], 60),
    )
    frame["x"] = np.linspace(10.0, 20.0, 120)
    return encoder_of(frame, Random(validation=0, test=0), Encoding(one_hot_up_to=5)), frame


def test_rows_like_the_learned_ones_are_not_remarked_on(learned):
    encoder, frame = learned
    assert describe_drift(encoder, frame) == []
    near = frame.assign(
        x=frame["x"] + 4, day="2020-06-01"
    )  # some are outside, by less than its width
    assert describe_drift(encoder, near) == []


@pytest.mark.parametrize("spread", [1.0, 1000.0])
def test_numbers_in_another_unit_are_said_where_they_are_below_all_learned(spread):
    encoder = encoder_of(frame := table(x=500 + spread * RANDOM.random(90)))
    kilos = frame.assign(x=frame["x"] / 1000)
    few = kilos.head(6).assign(x=[0.6, None, 0.9, 0.7, None, None])
    for new, rows in ((kilos, "90 of 90"), (few, "3 of 6")):
        notes = describe_drift(encoder, new)
        assert any(f"x in {rows} rows (" in note and "learned 5" in note for note in notes)
    assert describe_drift(encoder, kilos.head(2)) == [] or spread == 1.0
    assert describe_drift(encoder, frame) == []


def test_what_is_unlike_is_said_with_counts(learned):
    encoder, frame = learned
    new = frame.head(6).assign(
        x=[9999.0, -5.0, 15.0, np.nan, 12.0, 13.0],
        city=["Bern", "Ulm", "Ulm", "Ulm", "Rom", "Bonn"],
        street=["s99", "s1", "s2", None, "s3", "s4"],
        flag=["yes", "maybe", "no", "no", "no", "no"],
        day=["2031-05-01", *["2020-02-01"] * 5],
    )
    unknown, far, filled = describe_drift(encoder, new)
    for part in (
        "city in 2 of 6 rows ('Bern' and 1 more)",
        "street in 1 of 6 rows ('s99')",
        "flag in 1 of 6 rows",
    ):
        assert part in unknown
    assert "x in 2 of 6 rows (as far as 9,999; learned 10 to 20)" in far
    assert "day in 1 of 6 rows (as far as 2031-05-01; learned 2020-01-01 to 2020-04-29)" in far
    assert "x in 1" in filled and "street in 1" in filled and "of 6 rows" in filled


def test_gaps_that_training_had_are_no_surprise(learned):
    frame = learned[1].assign(
        x=learned[1]["x"].where(np.arange(120) % 10 > 0), city=learned[1]["city"]
    )
    encoder = encoder_of(frame, Random(validation=0, test=0))
    assert describe_drift(encoder, frame) == []
    again = Encoder.from_plain(json.loads(json.dumps(encoder.to_plain())))
    assert again == encoder and describe_drift(again, frame.assign(x=1e6)) != []


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile", "none"])
def test_numbers_far_outside_are_found_however_they_are_scaled(scale):
    encoder = encoder_of(table(), encoding=Encoding(scale=scale))
    assert "x in 90 of 90 rows" in describe_drift(encoder, table().assign(x=-50.0))[0]


def test_the_command_says_it_once_on_stderr(tmp_path, capsys):
    frame = table(city=RANDOM.choice(["Ulm", "Bonn", "Köln"], 90))
    train(
        catalog.named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 1),
        frame,
        out=tmp_path / "run",
    )
    frame.assign(city="Bern").to_csv(tmp_path / "new.csv")
    assert run_command(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv")]) == 0
    out, err = capsys.readouterr()
    assert (
        err == "Values that were not learned, taken as unknown: city in 90 of 90 rows ('Bern').\n"
    )
    assert len(out.splitlines()) == 91
