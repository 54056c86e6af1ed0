"""Where a CSV file's header, columns and numbers are, also in files of reports and instruments."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from ravine import open_run, train
from ravine.catalog import named_recipe
from ravine.data import Data, Encoder, Encoding, Random, load, read_table
from ravine.data.column_encoders import Numeric
from ravine.data.csv_dialect import Dialect, KnownColumns
from ravine.data.number_styles import number_of
from ravine.errors import DataError

ROWS = [(1.5, "x", 3), (2.25, "y", 4), (-3.0, "z", 5)]
EXPECTED = {"a": [1.5, 2.25, -3.0], "name": ["x", "y", "z"], "y": [3, 4, 5]}


def written(header, rows=ROWS, sep=",", end="", first=""):
    body = [sep.join(map(str, row)) + end for row in rows]
    return first + "\n".join([header, *body]) + "\n"


def read(tmp_path, text, name="t.csv", said=None, expected=None):
    (tmp_path / name).write_text(text)
    return read_table(tmp_path / name, said, expected).to_dict("list")


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ends", [1, 3])
def test_rows_that_end_in_separators_keep_their_names(sep, ends, tmp_path):
    said: list[str] = []
    header = sep.join(EXPECTED)
    found = read(tmp_path, written(header, sep=sep, end=sep * ends), said=said)
    assert found == EXPECTED and any("end in separators" in s for s in said)
    assert read(tmp_path, written(header, sep=sep)) == EXPECTED


def test_some_rows_that_end_in_separators_keep_their_names(tmp_path):
    text = "a,name,y\n1.5,x,3,\n2.25,y,4\n-3,z,5,,\n"
    assert read(tmp_path, text) == EXPECTED


def test_fields_without_a_name_are_refused_and_names_of_rows_are_not(tmp_path):
    with pytest.raises(DataError, match="more fields in line 3"):
        read(tmp_path, "a,b\n1,2,\n3,4,odd\n5,6,\n")
    with pytest.raises(DataError, match="more fields"):  # R's names of rows are distinct
        read(tmp_path, "a,b\nu,1,2\nu,3,4\n")
    late = "a,b\n" + "1,2,\n" * 400 + "1,2,3\n"
    with pytest.raises(DataError, match="more fields in line 402"):
        read(tmp_path, late)
    assert read(tmp_path, "a,b\nu,1,2\nv,3,4\n") == {"row": ["u", "v"], "a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(
    "above",
    [
        "# sensor 7, site B\n# exported 2024\n",
        "#\n",
        "Report,2024-01-01\nSite B\n\n",
        "Report\n",
        "Report of the day, as it is\n\n\n",
        "Report,,\n,,\n",
        "Station 7,12\n",  # as wide as a header of rows with names
        "\n\n",
        "# of a sensor, A, B\n" * 40,
        "# of a sensor\n#\n" * 400,
    ],
)
def test_lines_above_the_header_are_left_out(above, tmp_path):
    said: list[str] = []
    assert read(tmp_path, written("a,name,y", first=above), said=said) == EXPECTED
    assert any("The header of t.csv is line" in s for s in said)


@pytest.mark.parametrize(
    ("head", "sep"),
    [
        ("#a,name,y", ","),
        ("# a,name,y", ","),
        ("# a;name;y", ";"),
        ("# a name y", " "),
        ("#a\tname\ty", "\t"),
        ("# of 7 May\n## x, y\n#a,name,y", ","),
        ("# rows\n" * 50 + "# a name y", " "),
    ],
)
def test_a_comment_sign_may_stand_before_the_names(head, sep, tmp_path):
    text = written(sep.join("a name y".split()), sep=sep).split("\n", 1)[1]
    assert read(tmp_path, f"{head}\n{text}") == EXPECTED
    known = KnownColumns(Dialect(), ("#a", "y"))
    path = tmp_path / "of earlier versions.csv"
    path.write_text("#a,name,y\n1,2,3\n")
    assert list(read_table(path, [], known)) == ["#a", "name", "y"]


def test_the_header_stays_the_first_line_where_it_may_be(tmp_path):
    assert list(read(tmp_path, "#id,a\n1,2\n3,4\n")) == ["id", "a"]
    assert list(read(tmp_path, "#name,town\nAnn,Rome\nBob,Oslo\n")) == ["name", "town"]
    for names in (["#", "a"], ["#rooms", "#baths"], ["# of rooms", "a"]):
        assert list(read(tmp_path, f"{names[0]},{names[1]}\n1,2\n3,4\n")) == names
    assert list(read(tmp_path, ",a\n0,2\n1,4\n")) == ["Unnamed: 0", "a"]
    assert list(read(tmp_path, "a,b,c\nAnn,Rome,Italy\nBob,Oslo,Norway\n")) == ["a", "b", "c"]
    assert list(read(tmp_path, "a,,c\n1,2,3\n4,5,6\n")) == ["a", "Unnamed: 1", "c"]
    assert list(read(tmp_path, "a,b\nAnn,NA,5\nBob,1,6\nEve,2,7\n")) == ["row", "a", "b"]


@pytest.mark.parametrize("gap", ["   ", "  ", " "])
def test_columns_separated_by_blanks(gap, tmp_path):
    said: list[str] = []
    text = "".join(f"  {line}  \n" for line in written("a name y", sep=" ").splitlines())
    assert read(tmp_path, text.replace(" ", gap), "t.dat", said) == EXPECTED
    assert "Columns of t.dat are separated by blanks." in said
    assert read(tmp_path, 'a b\n"x y" 2\n"z" 3\n') == {"a": ["x y", "z"], "b": [2, 3]}


def test_blanks_cannot_mark_a_gap(tmp_path):
    with pytest.raises(DataError, match="2 fields in line 3.*blanks, and there are 3"):
        read(tmp_path, "a b c\n1 2 3\n4   6\n7 8 9\n" + "1 2 3\n" * 400)


def test_cells_and_lines_may_be_long(tmp_path):
    article = "word " * 60_000
    assert read(tmp_path, f'a,b\n1,"{article}"\n2,x\n')["b"][0] == article
    wide = [f"{i:0400d}" for i in range(400)]
    found = read(tmp_path, written(",".join(["gene", *wide]), rows=[range(401)] * 2))
    assert list(found) == ["gene", *wide] and found[wide[6]] == [7, 7]


# Decimal signs


def comma(values, digits=3):
    return [f"{v:.{digits}f}".replace(".", ",") for v in values]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0,345", "1,250", "2,500"], [0.345, 1.25, 2.5]),
        (["1234,567", "1,250"], [1234.567, 1.25]),
        (["12,34", "1,250"], [12.34, 1.25]),
        (["1.234,567", "2,500"], ["1.234,567", "2,500"]),  # text of a known style
        ([",5", "1,250"], [0.5, 1.25]),
        (["1,5e-3", "1,250"], [0.0015, 1.25]),
        (["1,250", "2,500"], ["1,250", "2,500"]),
        (["1.250", "2.500"], [1.25, 2.5]),
        (["1,234,567", "2,500"], ["1,234,567", "2,500"]),
        (["0.5", "1.250"], [0.5, 1.25]),
    ],
)
def test_decimal_signs_follow_from_what_is_certain(cells, values, tmp_path):
    said: list[str] = []
    body = "".join(f"{cell};x\n" for cell in cells)
    assert read(tmp_path, f"a;b\n{body}", said=said)["a"] == values
    # of commas the column says it, which stays text
    assert any("two ways: 1.250" in s for s in said) == (cells == ["1.250", "2.500"])


def test_what_is_certain_is_looked_for_in_the_whole_file(tmp_path):
    cells = comma(np.full(30_000, 1.25)) + ["0,500"]
    found = read(tmp_path, "a;b\n" + "".join(f"{cell};1\n" for cell in cells))["a"]
    assert found[0] == 1.25 and found[-1] == 0.5


def test_the_decimal_sign_can_be_set(tmp_path):
    (tmp_path / "t.csv").write_text(
        "a;y\n" + "".join(f"{c};{i % 2}\n" for i, c in enumerate(comma(np.arange(1, 61) + 0.5)))
    )
    for sign, center in ((",", 31.0), ("auto", 31000.0)):
        data = Data(source=str(tmp_path / "t.csv"), target=("y",), decimal=sign)
        encoder = load(data, Random(), Encoding(), seed=0).encoder
        assert isinstance(encoder, Encoder)
        assert isinstance(encoder.column_encoders[0], Numeric)
        assert abs(encoder.column_encoders[0].scaling.center / center - 1) < 0.2
        assert encoder.dialect == Dialect(";", "," if sign == "," else ".")
        assert Encoder.from_plain(json.loads(json.dumps(encoder.to_plain()))) == encoder


@pytest.mark.parametrize("odd", ["", "n.d."])
def test_points_are_groups_in_a_table_of_decimal_commas(odd, tmp_path):
    x = np.arange(1000, 1060) * 7
    grouped = [f"{n:,}".replace(",", ".") for n in x]
    lines = [f"{g};{y}" for g, y in zip([*grouped, odd], comma(np.arange(61) / 4, 2), strict=True)]
    (tmp_path / "t.csv").write_text("a;y\n" + "\n".join(lines) + "\n")
    data = Data(source=str(tmp_path / "t.csv"), target=("y",), numbers=("a",))
    encoder = load(data, Random(), Encoding(), seed=0).encoder
    assert isinstance(encoder, Encoder) and isinstance(encoder.column_encoders[0], Numeric)
    assert encoder.column_encoders[0].scaling.center == pytest.approx(7200, rel=0.05)
    (tmp_path / "new.csv").write_text(f"a\n7.210\n{odd}\n950\n")
    new = read_table(tmp_path / "new.csv", None, encoder.known_columns)
    read = encoder.column_encoders[0].read(new["a"])
    assert [v for v in read if not np.isnan(v)] == [7210, 950]


def test_where_a_file_does_not_say_the_run_does(tmp_path):
    run = KnownColumns(Dialect(";", ","), ("a", "b"), texts=("b",), numbers={"a": ()})
    text = "a;b\n9,874;1.234\n2,500;5\n"
    assert read(tmp_path, text, expected=run) == {"a": [9.874, 2.5], "b": ["1.234", "5"]}
    assert read(tmp_path, "a;b\n1.234,5;1\n987,5;1\n", expected=run)["a"] == [1234.5, 987.5]
    said: list[str] = []
    assert read(tmp_path, "a;b\n9.87;1\n", said=said, expected=run)["a"] == [9.87]
    assert said == ["Numbers in t.csv have decimal points."]


def test_a_comma_in_quotes_is_the_sign_of_the_run_in_a_file_of_commas(tmp_path):
    run = KnownColumns(Dialect(";", ","), ("a", "b"), numbers={"a": (1, 10), "b": (0, 5)})
    quoted = 'a,b\n"9,874",1.5\n"2,500",2\n'
    assert read(tmp_path, quoted, expected=run) == {"a": [9.874, 2.5], "b": [1.5, 2]}
    assert read(tmp_path, 'a,b\n"9,8",1\n', expected=run)["a"] == [9.8]
    assert read(tmp_path, "a,b\n9.874,1\n", expected=run)["a"] == [9.874]
    assert read(tmp_path, 'a,b\n"1,009.5",1\n"2,500",1\n', expected=run)["a"] == [1009.5, 2500]


@pytest.mark.parametrize(
    "text, learned, value",
    [
        ("20.345", (105, 790_000), 20345),
        ("20.345", (1, 99), 20.345),
        ("20,345", (105, 790_000), 20345),
        ("20,345", (1, 99), 20.345),
        ("1.200", (1000, 2000), 1200),
        ("9.874", (1.1, 9.82), 9.874),
        ("20.345", (), 20.345),
    ],
)
@pytest.mark.parametrize("decimal", [".", ","])
def test_a_sign_in_doubt_is_the_one_with_which_numbers_are_as_those_of_the_run(
    text, learned, value, decimal, tmp_path
):
    if not learned:  # by a version that did not keep the range
        value = float(text) * (1 if decimal == "." else 1000)
    run = KnownColumns(Dialect(",", decimal), ("a", "b"), numbers={"a": learned})
    (found,) = read(tmp_path, f"a;b\n{text};1\n", expected=run)["a"]
    assert number_of(str(found)) == value


def test_a_sign_that_the_range_leaves_open_is_said(tmp_path):
    run = KnownColumns(columns=("a", "b"), numbers={"a": (0, 90_000)})
    said: list[str] = []
    assert read(tmp_path, "a;b\n20.345;1\n", said=said, expected=run)["a"] == [20.345]
    assert [s for s in said if "20.345 is taken as 20.345, as in the training file" in s] == said
    assert len(said) == 1
    read(tmp_path, "a;b\n20.34;1\n", said=said, expected=run)
    read(tmp_path, "a,b\n20.345,1\n", said=said, expected=run)
    assert len(said) == 1


def test_groups_of_thousands_in_another_dialect_are_as_the_run_learned_them(tmp_path):
    x = np.random.default_rng(0).integers(200, 900_000, 200)
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f'"{n:,}",{i / 4}\n' for i, n in enumerate(x)))
    encoder = load(Data(source=str(path), target=("y",)), Random(), Encoding(), seed=0).encoder
    assert isinstance(encoder, Encoder) and isinstance(encoder.column_encoders[0], Numeric)
    for new in ("a;b\n20.345;1\n", "a\tb\n20.345\t1\n", "a;b\n20345;1\n", 'a,b\n"20,345",1\n'):
        path.write_text(new)
        table = read_table(path, [], encoder.known_columns)
        assert encoder.column_encoders[0].read(table["a"]).tolist() == [20345]


def test_the_separator_is_the_one_that_finds_the_columns_of_the_run(tmp_path):
    run = KnownColumns(columns=("a", "b"))
    text = "note;x|y|z,a,b\nu;v|w|q,1,2\n"
    assert read(tmp_path, text, expected=run)["b"] == [2]
    assert read(tmp_path, "x,1\ny\na;b\n1;2\n", expected=run) == {"a": [1], "b": [2]}


def test_a_new_file_is_read_as_the_training_file_was(tmp_path):
    x = np.random.default_rng(0).uniform(1, 20, 120)
    lines = [f"{a};{y}" for a, y in zip(comma(x), comma(2 * x, 2), strict=True)]
    (tmp_path / "t.csv").write_text("a;y\n" + "\n".join(lines) + "\n")
    recipe = named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 2)
    run = train(recipe.vary("data.source", str(tmp_path / "t.csv")), out=tmp_path / "run")
    (tmp_path / "new.csv").write_text("a\n" + "\n".join(comma(x[:3])) + "\n")
    expected = run.predict(pd.DataFrame({"a": x[:3].round(3)}))
    found = open_run(tmp_path / "run").predict(tmp_path / "new.csv")
    pd.testing.assert_frame_equal(found, expected)


def test_the_file_of_the_training_is_read_as_it_was_trained(tmp_path):
    """Its target has decimal commas for certain, its inputs have either sign."""
    rows = [f"{70 + i % 9},{100 + i};{1 + i % 7}.{281 + i};{20 + i},5" for i in range(60)]
    rows[3] = "71,103;3.28;23,5"
    path = tmp_path / "t.csv"
    path.write_text("w;t;y\n" + "\n".join(rows) + "\n")
    task = load(Data(source=str(path), target=("y",)), Random(), Encoding(), seed=0)
    assert isinstance(task.encoder, Encoder)
    again = read_table(path, [], task.encoder.known_columns)
    train = task.encoder.apply(again.iloc[task.rows["train"]])
    assert train.numbers.equal(task.train_examples.numbers)


def german_run(tmp_path):
    path = tmp_path / "german.csv"
    rows = [f"{5 + i % 9},{100 + 7 * i};{i},5" for i in range(60)]
    path.write_text("w;y\n" + "\n".join(rows) + "\n")
    encoder = load(Data(source=str(path), target=("y",)), Random(), Encoding(), seed=0).encoder
    assert isinstance(encoder, Encoder) and encoder.dialect.decimal == ","
    return encoder


@pytest.mark.parametrize("cells", [["7.487", "3.865"], ['"7.487"', "3.865"], ["7.487", "n.d."]])
def test_a_number_without_quotes_has_no_comma_where_commas_separate(cells, tmp_path):
    encoder, new = german_run(tmp_path), tmp_path / "new.csv"
    encoder = dataclasses.replace(
        encoder,
        column_encoders=tuple(
            dataclasses.replace(c, odd_texts=("n.d.",)) for c in encoder.column_encoders
        ),
    )
    new.write_text("w,other\n" + "".join(f"{cell},1\n" for cell in cells))
    frame = read_table(new, None, encoder.known_columns)
    (column,) = encoder.column_encoders
    assert encoder.read_column(column, frame["w"])[0] == 7.487


def test_texts_of_a_frame_have_the_sign_of_the_run(tmp_path):
    encoder = german_run(tmp_path)
    (column,) = encoder.column_encoders
    texts, numbers = pd.DataFrame({"w": ["7,487", "11,04"]}), pd.DataFrame({"w": [7.487, 11.04]})
    assert encoder.read_column(column, texts["w"]).tolist() == [7.487, 11.04]
    assert encoder.apply(texts).numbers.equal(encoder.apply(numbers).numbers)


@pytest.mark.parametrize("of_file", [False, True])
def test_one_column_that_is_certain_says_the_sign_of_a_table_of_texts(of_file, tmp_path):
    frame = pd.DataFrame(
        {
            "doubtful": [f"{1 + i % 7},{100 + i}" for i in range(60)],
            "certain": [f"0,{100 + i}" for i in range(60)],
            "plain": [1.5 + i for i in range(60)],
            "y": [i * 0.5 for i in range(60)],
        }
    )
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    data = Data(source=str(path) if of_file else "", target=("y",))
    task = load(data, Random(), Encoding(), seed=0, frame=None if of_file else frame)
    assert not any("could have" in note for note in task.notes)
    assert isinstance(task.encoder, Encoder)
    columns = [c for c in task.encoder.column_encoders if isinstance(c, Numeric)]
    high = {c.name: c.scaling.seen[1] for c in columns}
    assert high["doubtful"] < 8 and high["certain"] < 1 and high["plain"] > 50
