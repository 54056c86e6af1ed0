"""Claims about dates in text: however they are written, they are days since 1970."""

import datetime
from email.utils import format_datetime

import numpy as np
import pandas as pd
import pytest

from ravine.data import Data, Drift, Encoder, Encoding, Random, load
from ravine.data.column_encoders import Date
from ravine.data.column_types import ColumnHints, infer_column_types, values_of
from ravine.data.date_styles import days_of_texts, read_as_dates
from ravine.errors import DataError

FIRST = datetime.datetime(2020, 1, 3, 17, 5)
MOMENTS = [FIRST + datetime.timedelta(days=9 * i, minutes=7 * i) for i in range(80)]
EPOCH = datetime.datetime(1970, 1, 1)
STYLES = (
    *("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y"),
    *("%d-%b-%Y", "%B %d, %Y", "%Y.%m.%d", "%Y%m%d", "%b %Y", "%m/%Y", "%d-%b-%y"),
    *("%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%m/%d/%y %I:%M:%S %p", "%Y-%m-%dT%H:%M:%SZ"),
    *("%a %b %d %H:%M:%S %Y", "%d %B %Y %H:%M", "%d.%m.%Y, %H:%M", "%Y-%m-%d %H:%M:%S,%f"),
    *("%y-%m-%d", "%y/%m/%d", "%y.%m.%d %H:%M", "%m.%Y", "%b-%y", "%B %y", "%Y%m", "%Y%m%d%H%M"),
    *(
        "%A, %B %d, %Y",
        "%d/%b/%Y:%H:%M:%S +0000",
        "%I:%M:%S %p",
        "%d. %m. %Y",
        "%Y. %m. %d.",
        "%Y%m%d%H%M%S",
    ),
)


def load_dates(texts, target):
    """The task of a table with one column of dates, and its encoder."""
    frame = pd.DataFrame({"d": texts, "y": target})
    data = Data(target=("y",), task="regression")
    task = load(data, Random(), Encoding(), seed=0, frame=frame)
    assert isinstance(task.encoder, Encoder)
    (column,) = task.encoder.column_encoders
    assert isinstance(column, Date)
    return task, column


@pytest.mark.parametrize(
    ("learned", "new"),
    [
        ("%Y-%m-%d", "%d.%m.%Y"),
        ("%Y-%m-%d", "%m/%d/%Y"),
        ("%m/%d/%Y", "%d/%m/%Y"),
        ("%d.%m.%Y", "%d-%b-%y"),
        ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S"),
        ("%Y-%m-%d %H:%M", "%Y-%m-%d"),
        ("%d/%m/%Y", "%Y-%m-%dT%H:%M:%SZ"),
        ("%m/%d/%Y", "%m/%d/%y 00:00"),
        ("%Y%m%d", "%B %d, %Y"),
        ("%b %Y", "%m/%Y"),
    ],
)
def test_new_dates_in_another_format_are_read_and_said_once(learned, new):
    target = np.arange(80.0)
    moments = [moment.replace(day=1 + i % 28) for i, moment in enumerate(MOMENTS)]
    task, column = load_dates([moment.strftime(learned) for moment in moments], target)
    texts = [moment.strftime(new) for moment in moments[:40]]
    expected = [(datetime.datetime.strptime(t, new) - EPOCH).total_seconds() / 86400 for t in texts]
    assert column.read(pd.Series(texts)) == pytest.approx(expected, abs=1e-9)
    drift = Drift(task.encoder)
    for at in (0, 20):
        drift.add(pd.DataFrame({"d": texts[at : at + 20]}))
    assert len(drift.describe()) == 1 and repr(texts[0]) in drift.describe()[0]


@pytest.mark.parametrize(
    ("learned", "new"),
    [
        ("%Y-%m-%d", ["02/03/2015", "05/11/2015"]),
        ("%d.%m.%Y", ["02/03/2015"]),
        ("%Y-%m-%d", ["12/27/2015", "27/12/2015"]),
        ("%Y-%m-%d", ["2015", "2016"]),
        ("%Y-%m-%d", ["14:30", "15:30"]),
        ("%Y-%m-%d", ["Dec 2015", "Jan 2016"]),
        ("%Y-%m-%d", ["27.12.2015", "soon"]),
    ],
)
def test_new_dates_that_are_ambiguous_or_none_are_refused(learned, new):
    _, column = load_dates([moment.strftime(learned) for moment in MOMENTS], np.arange(80.0))
    with pytest.raises(DataError, match="must be a date like"):
        column.read(pd.Series(new))


def test_new_texts_are_read_where_training_had_stored_dates():
    _, column = load_dates(pd.Series(MOMENTS), np.arange(80.0))
    assert column.style == "" and column.read(pd.Series(["27.12.2015"])).tolist() == [16796.0]


def test_new_dates_beside_odd_texts_are_read_in_another_format():
    texts = [moment.strftime("%Y-%m-%d") for moment in MOMENTS]
    _, column = load_dates(["tbd" if i % 9 == 0 else t for i, t in enumerate(texts)], range(80))
    new = pd.Series(["27.12.2015", "tbd", "03.02.2016"])
    assert np.array_equal(column.read(new), [16796.0, np.nan, 16834.0], equal_nan=True)
    mostly_own = pd.Series([*texts[:5], "27.12.2015"])
    assert np.isnan(column.read(mostly_own)).tolist() == [False] * 5 + [True]


def check(texts, expected):
    used, _ = infer_column_types(pd.DataFrame({"d": texts}), rows=len(texts))
    assert used[0].kind == "date"
    days = [(moment - EPOCH) / datetime.timedelta(days=1) for moment in expected]
    assert days_of_texts(texts, used[0].style) == pytest.approx(days, abs=1e-9)


@pytest.mark.parametrize("style", STYLES)
def test_dates_are_what_pythons_own_parser_reads(style):
    texts = [moment.strftime(style) for moment in MOMENTS]
    check(texts, [datetime.datetime.strptime(text, style) for text in texts])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{0.year}Q{quarter}", lambda m: m.replace(month=1 + 3 * ((m.month - 1) // 3), day=1)),
        ("Q{quarter} {0.year}", lambda m: m.replace(month=1 + 3 * ((m.month - 1) // 3), day=1)),
        ("{0:%G-W%V}", lambda m: m - datetime.timedelta(days=m.weekday())),
        ("{0.day}. {month} {0.year}", lambda m: m),
        ("{0.day}th of {0:%B} {0.year}", lambda m: m),
    ],
)
def test_quarters_weeks_and_dates_in_words_are_their_first_day(written, expected):
    german = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
    days = [moment.replace(hour=0, minute=0) for moment in MOMENTS]
    texts = [
        written.format(m, quarter=1 + (m.month - 1) // 3, month=german.split()[m.month - 1])
        for m in days
    ]
    check(texts, [expected(m) for m in days])


@pytest.mark.parametrize(
    ("written", "months"),
    [
        ("{0:%d-%m-%Y %H.%M}", ""),
        ("{0:%d.%m.%Y, %H.%M.%S} Uhr", ""),
        ("{0:%d.%m.%Y %H:%M} Uhr", ""),
        ("{0.year}年{0.month}月{0.day}日", ""),
        ("{0.year}년 {0.month}월 {0.day}일", ""),
        ("{0:%d%b%Y}", ""),
        (
            "{0.day} {month} {0.year} r.",
            "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
            "listopada grudnia",
        ),
        (
            "{0.day} {month} {0.year} г.",
            "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        ),
        (
            "{0.day} {month} {0.year}",
            "januari februari mars april maj juni juli augusti september oktober november december",
        ),
    ],
)
def test_dates_of_other_countries_are_read(written, months):
    clock = "%H" in written
    moments = [m if clock else m.replace(hour=0, minute=0) for m in MOMENTS]
    names = months.split() or [""] * 12
    check([written.format(m, month=names[m.month - 1]) for m in moments], moments)


@pytest.mark.parametrize("style", ["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])
def test_24_o_clock_is_the_end_of_its_day(style):
    midnights = [m.replace(hour=0, minute=0) for m in MOMENTS[:40]]
    before = [(m - datetime.timedelta(days=1)).strftime(style) for m in midnights]
    texts = [text.replace("00:00", "24:00", 1) for text in before]
    assert all("24:00" in text for text in texts)
    check([m.strftime(style) for m in MOMENTS[40:]] + texts, MOMENTS[40:] + midnights)


@pytest.mark.parametrize("share", [2, 10])
@pytest.mark.parametrize("clock", ["", " %H:%M"])
def test_dates_of_two_orders_in_a_column_are_said_with_their_rows(share, clock):
    days = [MOMENTS[0] + datetime.timedelta(days=i) for i in range(200)]
    texts = [
        day.strftime(("%m/%d/%Y" if i % share == 1 else "%d/%m/%Y") + clock)
        for i, day in enumerate(days)
    ]
    frame = pd.DataFrame({"d": texts}, index=range(100, 300))
    used, dropped = infer_column_types(frame, rows=200, notes=(notes := []))
    said = "; ".join([*notes, *(column.why for column in dropped)])
    wrong = next(i for i, day in enumerate(days) if i % share == 1 and day.day > 12)
    right = next(i for i, day in enumerate(days) if i % share != 1 and day.day > 12)
    shown = " and ".join(f"{texts[i]} in row {100 + i}" for i in sorted((right, wrong)))
    assert f"dates of two orders: {shown}" in said and bool(used) is (share == 10)


@pytest.mark.parametrize("style", ["%d.%m.%y", "%m/%d/%y", "%y-%m-%d"])
def test_births_of_eighty_years_keep_their_order(style):
    births = [datetime.datetime(1938, 2, 3) + datetime.timedelta(days=301 * i) for i in range(80)]
    check([born.strftime(style) for born in births], births)
    old = [datetime.datetime(1928, 2, 3) + datetime.timedelta(days=99 * i) for i in range(80)]
    check([born.strftime(style) for born in old], old)


def test_one_date_of_a_thousand_decides_on_the_order_of_all():
    days = pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(9000), "D")
    texts = [f"{day:%d/%m/%Y}" for day in days if day.day <= 12] + ["25/12/2024"]
    assert read_as_dates(texts, [1] * len(texts)).style == "%d/%m/%Y"


@pytest.mark.parametrize("order", ["day first", "month first", "year first"])
def test_the_order_can_be_set(order):
    style = {"day first": "%d/%m/%y", "month first": "%m/%d/%y", "year first": "%y/%m/%d"}[order]
    days = [datetime.datetime(2001 + i % 12, 1 + i % 12, 1 + 7 * i % 12) for i in range(60)]
    texts = [day.strftime(style) for day in days]
    used, _ = infer_column_types(
        pd.DataFrame({"d": texts}), rows=60, hints=ColumnHints(date_order=order)
    )
    assert used[0].style == style


def test_numbers_are_days_only_where_all_of_them_are():
    months = np.array([float(f"{1 + i % 12}.{2000 + i // 12}") for i in range(60)])
    used, _ = infer_column_types(pd.DataFrame({"m": months}), rows=60)
    assert days_of_texts(["03.2020", "3.202", "12.2021"], used[0].style).tolist() == (
        [18322, 18322, 18962]
    )
    for numbers in (
        *(range(60), range(44000, 44060), range(20000000, 20600000, 10000)),
        *(np.arange(60) / 10 + 1, 10000 * np.arange(1900, 1960), range(1950, 2010)),
    ):
        used, _ = infer_column_types(pd.DataFrame({"n": numbers}), rows=60)
        assert [column.kind for column in used] in ([], ["number"])


def test_objects_of_dates_beside_texts_are_dates():
    days = [moment.replace(hour=0, minute=0) for moment in MOMENTS]
    for other in ("n.d.", None, "31.12.2020", days[3].date()):
        given = [other if i % 10 == 3 else day.date() for i, day in enumerate(days)]
        used, _ = infer_column_types(pd.DataFrame({"d": given}), rows=80)
        assert used[0].kind == "date"


def test_dates_of_mails_and_mixed_columns_are_read():
    check([format_datetime(moment) for moment in MOMENTS], MOMENTS)
    days = [moment.replace(hour=0, minute=0) for moment in MOMENTS]
    check([m.strftime("%Y-%m-%d" if m.day % 2 else "%d.%m.%Y") for m in MOMENTS], days)
    mixed = [day if i % 2 else m for i, (day, m) in enumerate(zip(days, MOMENTS, strict=True))]
    written = [m.strftime("%d.%m.%Y" if i % 2 else "%d.%m.%Y %H:%M") for i, m in enumerate(mixed)]
    check(written, mixed)


def test_times_of_day_are_hours_and_a_cycle():
    texts = [f"{i % 24:02d}:{7 * i % 60:02d}" for i in range(80)]
    _, column = load_dates(texts, np.arange(80) % 24)
    assert column.cycles == ("day",)
    hours = 24 * (days_of_texts(texts, column.style) % 1)
    assert hours == pytest.approx([i % 24 + 7 * i % 60 / 60 for i in range(80)])


def test_durations_beyond_a_day_are_hours():
    texts = [f"{i}:{i % 60:02d}:{i % 7:02d}" for i in range(0, 160, 2)]
    used, _ = infer_column_types(pd.DataFrame({"t": texts}), rows=80)
    assert used[0].kind == "number"


@pytest.mark.parametrize("mark", ["-", "0000-00-00", "unknown", "to be told", "9999-12-31"])
def test_marks_among_dates_are_gaps(mark):
    texts = [mark if i % 10 == 0 else m.strftime("%Y-%m-%d") for i, m in enumerate(MOMENTS)]
    task, column = load_dates(texts, np.arange(80) / 7)
    assert column.gaps and np.isnan(column.read(pd.Series(texts))).sum() == 8
    said = [n for n in task.notes if n.startswith("d: 8 of 80 cells")]
    assert len(said) == (mark in ("to be told", "9999-12-31"))


@pytest.mark.parametrize("end", ["9999-12-31", "2999-12-31", "0001-01-01"])
def test_an_open_end_is_a_gap_however_it_is_stored(end):
    texts = pd.Series(["2021-03-01", end, None])
    _, column = load_dates([m.strftime("%Y-%m-%d") for m in MOMENTS], range(80))
    for stored in (texts, texts.astype("datetime64[s]"), texts.map(_as_date, na_action="ignore")):
        assert np.isnan(column.read(stored)).tolist() == [False, True, True]


def _as_date(text):
    return datetime.date.fromisoformat(text)


def test_day_and_month_have_one_order_in_a_column():
    texts = [m.strftime("%m/%d/%Y") for m in MOMENTS[:-1]] + ["25/12/2020"]
    found = read_as_dates(texts, [1] * len(texts))
    assert found.style == "%m/%d/%Y" and found.odd == ("25/12/2020",)


def test_codes_with_digits_are_no_dates():
    days = [f"{month}-{day:02d}" for month in ("Jan", "Feb", "Mar") for day in range(1, 29)]
    assert read_as_dates(days, [1] * len(days)) is None
    for texts in (["A1-B2", "C3-D4"] * 40, ["10-20", "20-30"] * 40, ["1.2.3", "1.2.4"] * 40):
        assert infer_column_types(pd.DataFrame({"v": texts}), rows=80)[0][0].kind == "category"


def test_years_of_two_digits_are_said():
    for style in ("%d.%m.%y", "%m/%d/%y"):
        texts = [m.strftime(style) for m in MOMENTS]
        notes = []
        infer_column_types(pd.DataFrame({"d": texts}), rows=80, notes=notes)
        last = MOMENTS[-1]
        said = f"years of two digits: {last.strftime(style)} is taken as {last:%Y-%m-%d}"
        assert said in notes[-1]


def test_results_of_games_are_no_times():
    scores = pd.DataFrame({"v": [f"{i % 5}:{i % 4}" for i in range(80)]})
    assert infer_column_types(scores, rows=80)[0][0].kind == "category"


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(
    ("style", "first", "step"),
    [
        ("%y%m%d", datetime.datetime(1999, 11, 3), 97),
        ("%y%m%d", datetime.datetime(2001, 1, 1), 31),
        ("%d%m%y", datetime.datetime(1999, 11, 3), 97),
        ("%m%d%y", datetime.datetime(2012, 2, 3), 3),
    ],
)
def test_six_digits_are_days_in_a_column_called_so_and_numbers_elsewhere(
    style, first, step, as_text
):
    moments = [first + datetime.timedelta(days=step * i) for i in range(60)]
    written = [m.strftime(style) if as_text else int(m.strftime(style)) for m in moments]
    notes = []
    (column,), _ = infer_column_types(pd.DataFrame({"sale_date": written}), rows=60, notes=notes)
    days = [(moment - EPOCH).days for moment in moments]
    assert column.kind == "date"
    assert values_of(pd.Series(written), column).tolist() == days
    assert "data.numbers = ['sale_date']" in notes[0] and len(notes) == 1
    plain = pd.DataFrame({"amount": [int(number) for number in written]})
    silent = []
    assert infer_column_types(plain, rows=60, notes=silent)[0][0].kind == "number" and not silent


def test_six_digits_of_which_one_is_no_day_are_numbers_also_in_a_column_called_so():
    numbers = [*range(240101, 240130), *range(240201, 240229), 241301]
    table = pd.DataFrame({"date": numbers})
    assert infer_column_types(table, rows=900)[0][0].kind == "number"
    table["date"] = table["date"].replace(241301, 241231)
    assert infer_column_types(table, rows=900)[0][0].kind == "date"


def test_the_order_of_six_digits_is_the_one_that_is_set():
    numbers = [(10 + i % 3) * 10000 + (1 + i % 12) * 100 + 10 + i // 20 for i in range(60)]
    table = pd.DataFrame({"day": numbers})
    for order, style in (("auto", "%y%m%d"), ("day first", "%d%m%y"), ("year first", "%y%m%d")):
        hints, notes = ColumnHints(date_order=order), []
        assert infer_column_types(table, rows=60, hints=hints, notes=notes)[0][0].style == style
        assert "data.date_order" in notes[0]
