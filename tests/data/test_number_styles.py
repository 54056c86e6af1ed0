"""Claims about numbers in text: however they are written, they are read, or the cell is named."""

import math

import numpy as np
import pandas as pd
import pytest
from drift_of_frames import describe_drift

from ravine.data import Data, Encoder, Encoding, Random, load
from ravine.data.column_encoders import Numeric
from ravine.data.column_types import infer_column_types, values_of
from ravine.data.number_styles import number_of, read_as_numbers
from ravine.data.tables import open_blocks
from ravine.errors import DataError

DRAW = np.random.default_rng(0)
NUMBERS = [round(float(x), 2) for x in DRAW.normal(0, 30_000, 60)]


def written(group, decimal, affix="{}"):
    """A function that writes a number as a style does, from Python's own format."""

    def write(x):
        text = f"{x:,.2f}".replace(",", "#").replace(".", decimal).replace("#", group)
        return affix.format(text)

    return write


STYLES = {
    "English": written(",", "."),
    "continental": written(".", ","),
    "space": written(" ", ","),
    "no-break space": written("\u00a0", ","),
    "narrow no-break space": written("\u202f", ","),
    "thin space": written("\u2009", "."),
    "Swiss": written("'", "."),
    "Swiss, curly": written("\u2019", "."),
    "figure space": written("\u2007", ","),
    "Swiss, prime": written("\u2032", "."),
    "Swiss, modifier": written("\u02bc", "."),
    "Swiss, accent": written("\u00b4", "."),
    "Swiss, backtick": written("`", "."),
    "raised point": written(",", "\u00b7"),
    "francs, short": written("'", ".", "Fr. {}"),
    "dollars in brackets": lambda x: f"$({abs(x):,.2f})" if x < 0 else f"${x:,.2f}",
    "text mark of a spreadsheet": written(",", ".", "'{}"),
    "about": written(",", ".", "ca. {}"),
    "tilde": written(",", ".", "~{}"),
    "times ten to the": lambda x: f"{x / 1000:.6f}x10^3",
    "times ten, raised": lambda x: f"{x * 100:.2f} \u00d7 10\u207b\u00b2",
    "footnote": written(",", ".", "{}[1]"),
    "stars": written(",", ".", "{}**"),
    "underscore": written("_", "."),
    "dollars": written(",", ".", "${}"),
    "euros after": written(".", ",", "{} €"),
    "francs": written("'", ".", "CHF {}"),
    "unit": written(",", ".", "{} kg"),
    "unit without a blank": written("", ".", "{}mm²"),
    "percent": written("", ",", "{} %"),
    "minus sign": lambda x: written(",", ".")(x).replace("-", "\u2212"),
    "brackets": lambda x: f"({abs(x):,.2f})" if x < 0 else f"{x:,.2f}",
    "minus after": lambda x: f"{abs(x):,.2f}-" if x < 0 else f"{x:,.2f}",
    "power": lambda x: f"{x:.6E}",
    "continental power": lambda x: f"{x:.6E}".replace(".", ","),
}


@pytest.mark.parametrize("name", STYLES)
def test_numbers_are_read_in_whatever_style_a_column_writes_them(name):
    texts = [STYLES[name](x) for x in NUMBERS]
    found = read_as_numbers(texts, [1] * len(texts))
    assert found is not None and found.odd == ()
    assert [number_of(t, found.style) for t in texts] == pytest.approx(NUMBERS, rel=1e-12)


def test_lakhs_and_multiples_are_read():
    assert number_of("12,34,567") == 1_234_567 and number_of("1,50,000.5") == 150_000.5
    texts = [*("3k", "1.5M", "2B", "900"), *(f"{i}.5k" for i in range(20))]
    found = read_as_numbers(texts, [1] * 24)
    assert [number_of(t, found.style) for t in texts[:4]] == [3e3, 1.5e6, 2e9, 900]
    seats = [f"{1 + i % 30}{'KMB'[i % 3]}" for i in range(60)]
    assert read_as_numbers(seats, [1] * 60) is None


@pytest.mark.parametrize(
    "text",
    ["0,345", "12,34", "1,2,3", "1.2.3", "1,104e+01", "A1", "5-3", "1/2", "", "--5"]
    + ["$(5", "5)", "1.5x103", "3*4", "'12", "~", "ca.", "*", "5[see]", "10x20", "5x"],
)
def test_what_is_no_english_number_is_none(text):
    assert math.isnan(number_of(text))


def test_footnotes_behind_a_few_numbers_leave_no_gaps():
    texts = [f"{i / 7:.4f}{('*', '[3]', '', '', '**')[i % 5]}" for i in range(100)]
    notes: list[str] = []
    used, _ = infer_column_types(pd.DataFrame({"p": texts}), rows=100, notes=notes)
    assert used[0].kind == "number" and notes == []
    found = values_of(pd.Series(texts), used[0])
    assert found.tolist() == [round(i / 7, 4) for i in range(100)]


def test_a_group_of_thousands_never_begins_with_zero_so_that_the_comma_is_decimal():
    texts = [f"0,{i}" for i in range(100, 160)] + ["1,234"]
    found = read_as_numbers(texts, [1] * len(texts))
    assert found.style == "1.234,5" and number_of("1,234", found.style) == 1.234


@pytest.mark.parametrize("dash", ["-", "--", "\u2013", "\u2014"])
@pytest.mark.parametrize("affix", ["{}", "{} €", "kr {}", "CHF {}", "Fr. {}"])
@pytest.mark.parametrize("group, decimal", [(".", ","), ("'", "."), (" ", ",")])
def test_a_dash_in_place_of_cents_is_no_minus(group, decimal, affix, dash):
    def whole(x):
        return written(group, decimal)(x).replace(f"{decimal}00", f"{decimal}{dash}")

    numbers = [round(abs(x), 2 * (i % 3 > 0)) for i, x in enumerate(NUMBERS)]
    texts = [affix.format(whole(x)) for x in numbers]
    for some in (slice(None), slice(None, None, 3)):  # with cents in other rows, and without any
        found = read_as_numbers(texts[some], [1] * len(texts[some]))
        assert found is not None and found.odd == () and found.doubts == ()
        assert [number_of(t, found.style) for t in texts[some]] == numbers[some]
    style = f"1{group}234{decimal}5"
    assert number_of(f"12{decimal}50-", style) == -12.5 and number_of("12-", style) == -12
    assert number_of(f"-12{decimal}{dash}", style) == -12
    assert math.isnan(number_of(f"{decimal}{dash}", style))


def test_prices_without_cents_are_positive_in_inputs_targets_and_new_files(tmp_path):
    prices = [x if i % 3 else round(x) for i, x in enumerate(map(abs, NUMBERS))]
    texts = [f"{x:.2f}".replace(".", ",").replace(",00", ",-") for x in prices]
    path = tmp_path / "prices.csv"
    path.write_text("v;y\n" + "".join(f"{t};{t}\n" for t in texts))
    task = load(Data(source=str(path), target=("y",)), Random(), Encoding(), seed=0)
    encoder = task.encoder
    assert isinstance(encoder, Encoder)
    path.write_text("v;y\n7,-;7,-\n7;7\n")
    (table,) = open_blocks(str(path), [], encoder.known_columns).read(9)
    assert encoder.target.encode(table).tolist() == encoder.target.encode(table)[[1, 1]].tolist()
    assert only_column(task).read(table["v"]).tolist() == [7, 7]


def exchange(text):
    return text.translate(str.maketrans(".,", ",."))


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("every", [2, 4, 30])
@pytest.mark.parametrize("affix", ["{}", "{} kg", "${}"])
def test_two_decimal_signs_in_a_column_are_each_read_and_are_said(digits, every, affix):
    numbers = [round(float(x), digits) for x in DRAW.uniform(0, 30, 240)]
    texts = [affix.format(x) for x in numbers]
    for some in (texts, [exchange(t) for t in texts]):
        some = [exchange(t) if i % every == 0 else t for i, t in enumerate(some)]
        notes: list[str] = []
        (column,), _ = infer_column_types(pd.DataFrame({"v": some}), rows=240, notes=notes)
        assert values_of(pd.Series(some), column).tolist() == numbers
        assert len(notes) == 1 and "v has two decimal signs, as in " in notes[0]
        task = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame_of(some))
        assert task.kind == "regression"


def frame_of(texts):
    return pd.DataFrame({"x": np.arange(len(texts)) % 7, "y": texts})


def test_groups_of_thousands_are_no_second_decimal_sign():
    texts = [f"{x:,.1f}" for x in DRAW.uniform(200, 9000, 240)]
    for odd in ("12,5", "1.234,5", "9,5"):
        found = read_as_numbers([*texts, "2,345", odd], [1] * 242)
        assert found is not None and found.odd == (odd,) and found.style == "1,234.5"
    whole = [f"{x:,.0f}" for x in DRAW.uniform(200, 9000, 240)]
    found = read_as_numbers([*whole, "12.5"], [1] * 241)
    assert found is not None and found.odd == () and found.style == "1,234.5"


def test_units_of_different_quantities_are_no_numbers():
    texts = [f"{i} {'kg' if i % 2 else 'km'}" for i in range(60)]
    assert read_as_numbers(texts, [1] * 60) is None
    assert math.isnan(number_of("5 km", "1,234.5 kg")) and number_of("5", "1,234.5 kg") == 5


def test_three_digits_after_each_comma_are_said_to_be_in_doubt():
    doubtful = [f"{1 + i % 7},{100 + i}" for i in range(60)]
    notes = []
    infer_column_types(pd.DataFrame({"v": doubtful}), rows=60, notes=notes)
    assert len(notes) == 1 and "v could have decimal commas: 1,100 is taken as 1100" in notes[0]
    for clear in ("1,234,567", "950"):
        assert read_as_numbers([*doubtful, clear], [1] * 61).doubts == ()
    frame = pd.DataFrame({"v": doubtful, "y": doubtful[::-1]})
    data = Data(target=("y",), decimal=",")
    task = load(data, Random(), Encoding(), seed=0, frame=frame)
    assert only_column(task).style == "1.234,5" and task.encoder.target.task_type.styles == (
        "1.234,5",
    )
    assert not any("could have" in note for note in task.notes)


def only_column(task):
    assert isinstance(task.encoder, Encoder)
    (column,) = task.encoder.column_encoders
    assert isinstance(column, Numeric)
    return column


def table(mark, every=20, rows=200):
    v = np.round(DRAW.normal(10, 3, rows), 3)
    texts = [mark[i % len(mark)] if i % every == 0 else str(x) for i, x in enumerate(v)]
    return pd.DataFrame({"v": texts, "y": 2 * v})


@pytest.mark.parametrize("mark", [("n.d.",), ("<0.05", ">100"), ("#DIV/0!",), ("see note 3",)])
def test_a_few_odd_cells_among_numbers_are_gaps_and_are_named(mark):
    task = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=table(mark))
    assert only_column(task).gaps
    said = [n for n in task.notes if n.startswith("v: 10 of 200 cells hold no number")]
    assert len(said) == (mark[0] != "#DIV/0!")  # which is known to be a gap
    assert all(repr(mark[0]) + " in row 0" in note for note in said)


def test_texts_that_are_not_few_are_categories():
    sizes = pd.DataFrame({"v": ["36", "38", "40", "S"] * 50})
    tickets = pd.DataFrame({"v": [f"A/{i % 9}" if i % 3 == 0 else str(i % 90) for i in range(200)]})
    for frame in (sizes, tickets):
        assert infer_column_types(frame, rows=200)[0][0].kind == "category"


def test_one_mark_for_a_gap_may_stand_in_up_to_half_of_the_rows():
    v = ["never" if i % 5 < 2 else str(i / 7) for i in range(200)]
    assert infer_column_types(pd.DataFrame({"v": v}), rows=200)[0][0].kind == "number"


def test_new_rows_may_hold_odd_cells_where_training_did_and_only_there():
    frame = table(("n.d.",))
    odd = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame).encoder
    clean = frame[frame["v"] != "n.d."]
    even = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=clean).encoder
    new = pd.DataFrame({"v": ["10.0", "pending", None]})
    numbers = odd.apply(new).numbers
    assert numbers[1].tolist() == numbers[2].tolist() and numbers[:, 1].tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="v is 'pending' in row 1: it must be a number"):
        even.apply(new)
    assert any("v in 1 of 3 rows ('pending')" in note for note in describe_drift(odd, new))


def test_odd_cells_outside_the_training_split_are_gaps_too():
    frame = table(("n.d.",), every=1000)  # in row 0 alone
    for seed in range(6):
        task = load(Data(target=("y",)), Random(), Encoding(), seed=seed, frame=frame)
        assert only_column(task).odd_texts == ("n.d.",)


@pytest.mark.parametrize("task", ["auto", "regression"])
def test_an_odd_cell_in_a_target_is_named(task):
    frame = pd.DataFrame({"x": np.arange(60) % 7, "y": [f"{i / 3:.3f}" for i in range(60)]})
    frame.loc[17, "y"] = "n.d."
    with pytest.raises(DataError, match="the target y is 'n.d.' in row 17: it must be a number"):
        load(Data(target=("y",), task=task), Random(), Encoding(), seed=0, frame=frame)


def test_encoders_without_marks_are_written_as_before():
    frame = table(("1",))
    encoder = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame).encoder
    assert "odd_texts" not in encoder.to_plain()["columns"][0]
    odd = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=table(("n.d.",))).encoder
    assert type(odd).from_plain(odd.to_plain()) == odd


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_text_that_hardly_repeats_is_left_out_and_said(repeats):
    titles = [f"The film number {i // repeats}" for i in range(200)]
    titles[0] = titles[1]
    used, dropped = infer_column_types(pd.DataFrame({"title": titles}), rows=200)
    assert not used and dropped[0].why.startswith(("it is free text", "it has 1"))
