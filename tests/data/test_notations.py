"""Claims about durations, quarters, seasons and others that write numbers in ways of their own."""

import datetime

import numpy as np
import pandas as pd
import pytest
from columns_of_texts import read

from ravine.data.column_types import infer_column_types
from ravine.data.date_styles import days_of_texts

DRAW = np.random.default_rng(0)
SECONDS = DRAW.integers(200, 200_000, 120)
DAYS = [datetime.date(2015, 1, 5) + datetime.timedelta(int(i)) for i in DRAW.integers(0, 3000, 120)]


def clock(seconds, short=False):
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{minute}:{second:02d}" if short and not hour else f"{hour}:{minute:02d}:{second:02d}"


DURATIONS = {
    "hours, minutes, seconds": clock,
    "as a race has them": lambda s: clock(s, short=True),
    "in parts of a second": lambda s: f"{int(s) // 60}:{int(s) % 60:02d}.0",
    "of pandas": lambda s: str(pd.Timedelta(int(s), "s")),
    "of Python": lambda s: str(datetime.timedelta(seconds=int(s))),
    "in words": lambda s: f"{int(s) // 3600} h {int(s) // 60 % 60} min {int(s) % 60} s",
    "in short words": lambda s: f"{int(s) // 3600}h{int(s) // 60 % 60:02d}m{int(s) % 60:02d}s",
    "ISO 8601": lambda s: pd.Timedelta(int(s), "s").isoformat(),
}


@pytest.mark.parametrize("name", DURATIONS)
def test_durations_are_read_in_hours(name):
    found, _ = read([DURATIONS[name](s) for s in SECONDS])
    assert np.allclose(found * 3600, SECONDS, atol=1e-6)


def test_what_is_odd_among_durations_is_no_example_of_them():
    _, (said,) = read(["did not finish", *(f"{30 + s % 20}:{s % 60:02d}" for s in SECONDS)])
    assert "did not finish" not in said and "nan" not in said


def test_durations_of_two_parts_are_said():
    found, (said,) = read([f"{s // 60 % 60}:{s % 60:02d}" for s in SECONDS])
    assert np.allclose(found * 3600, SECONDS % 3600) and "minutes and seconds" in said
    found, _ = read([f"{s // 3600}:{s // 60 % 60:02d}" for s in SECONDS * 3])
    assert np.allclose(found, SECONDS * 3 // 60 / 60)  # more than 59 hours


@pytest.mark.parametrize(
    "style",
    ["{y}Q{q}", "{y}-Q{q}", "Q{q} {y}", "Q{q}/{y}", "{y}-W{w:02d}", "{y}W{w:02d}", "W{w} {y}"],
)
def test_quarters_and_weeks_are_in_order(style):
    texts = []
    for day in DAYS:
        year, week, _ = day.isocalendar()
        year = year if "{w" in style else day.year
        texts.append(style.format(y=year, q=(day.month + 2) // 3, w=week))
    (column,), _ = infer_column_types(pd.DataFrame({"v": texts}), rows=len(texts), notes=[])
    found = days_of_texts(texts, column.style)
    order = np.argsort([day.toordinal() for day in DAYS])
    assert (np.diff(found[order]) >= 0).all() and len(set(found)) == len(set(texts))


@pytest.mark.parametrize("style", ["{}-{:02d}", "{}/{:02d}", "{}–{:02d}"])
def test_seasons_are_no_months(style):
    texts = [style.format(2001 + i % 11, 2 + i % 11) for i in range(120)]
    found, (said,) = read(texts)
    assert found[:3].tolist() == [2001, 2002, 2003] and "v has seasons: " in said
    months = [f"{2001 + i % 11}-{1 + i % 12:02d}" for i in range(120)]
    assert infer_column_types(pd.DataFrame({"v": months}), rows=120)[0][0].kind == "date"


def test_ordinals_feet_and_degrees_are_numbers():
    ordinals = ["1st", "2nd", "3rd", *(f"{i}th" for i in range(4, 20)), "21st"]
    assert read(ordinals * 6)[0][:20].tolist() == [*range(1, 20), 21]
    classes = pd.DataFrame({"v": ["1st", "2nd", "3rd"] * 30})
    assert infer_column_types(classes, rows=90)[0][0].kind == "category"
    assert read(["5'11\"", "6'0\"", "5'6\""] * 30)[0][:3].tolist() == [5 + 11 / 12, 6, 5.5]
    assert read(["52.5N", "33.25S", "10.0N"] * 30)[0][:3].tolist() == [52.5, -33.25, 10]


@pytest.mark.parametrize(
    "texts", [["3:1", "2:0", "10:2"], ["2004-12", "2001-44"], ["5'60", "5'70"]]
)
def test_what_only_looks_like_them_is_a_category(texts):
    assert infer_column_types(pd.DataFrame({"v": texts * 30}), rows=90)[0][0].kind == "category"
