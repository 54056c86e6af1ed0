"""Every kind of bad table gives one clear message: what was given, why it cannot be used, what to
do.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ravine.data import ByTime, Data, Encoding, Given, Grouped, Random, Task, load, read_table
from ravine.errors import DataError, InputError, RecipeError


def good(rows: int = 60) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": draw.normal(100, 30, rows),
            "town": draw.choice(["Aix", "Bonn", "Como"], rows),
            "price": draw.normal(200, 50, rows),
            "sort": np.where(np.arange(rows) % 2, "old", "new"),
        }
    )


@dataclass(frozen=True)
class Bad:
    """What is wrong, the words that the message must have, and how to bring it about in a
    folder.
    """

    name: str
    words: tuple[str, ...]
    cause: Callable[[Path], object]
    kind: type[InputError] = DataError


def from_file(name: str, content: bytes | str, **settings: object) -> Callable[[Path], object]:
    """Load a file of the given content."""

    def cause(folder: Path) -> object:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load(
            Data(source=str(path), **({"target": ("price",)} | settings)),
            Random(),
            Encoding(),
            seed=0,
        )

    return cause


def from_table(
    change: Callable[[pd.DataFrame], pd.DataFrame],
    split: Callable[[], object] = Random,
    **settings: object,
) -> Callable[[Path], object]:
    """Load the good table after a change."""

    def cause(folder: Path) -> object:
        return load(
            Data(**({"target": ("price",)} | settings)),
            split(),
            Encoding(),
            seed=0,
            frame=change(good()),
        )

    return cause


def predicting(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], object]:
    """Fit on the good table, then encode a changed one."""

    def cause(folder: Path) -> object:
        task = load(
            Data(target=("price",), drop=("sort",)), Random(), Encoding(), seed=0, frame=good()
        )
        return task.encoder.apply(change(good()))

    return cause


def put(column: str, row: int, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The table with one value changed."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object}) if isinstance(value, str) else frame.copy()
        frame.loc[row, column] = value
        return frame

    return change


def damaged_parquet(folder: Path) -> object:
    path = folder / "houses.parquet"
    good().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40] + b"x" * 40)
    return load(Data(source=str(path), target=("price",)), Random(), Encoding(), seed=0)


def missing_file(folder: Path) -> object:
    (folder / "houses.csv").write_text("a,b\n1,2\n")
    return load(Data(source=str(folder / "house.csv"), target=("b",)), Random(), Encoding(), seed=0)


CSV = good().to_csv(index=False)
JSONL = '{"size": 1, "price": 2}\n{"size": 3, "price": 4}\n{"size": 5, "price": \n'

TABLE = (
    Bad("missing file", ("house.csv does not exist", "Did you mean 'houses.csv'?"), missing_file),
    Bad(
        "missing folder",
        ("there is no folder",),
        lambda f: load(
            Data(source=str(f / "no" / "a.csv"), target=("b",)), Random(), Encoding(), seed=0
        ),
    ),
    Bad(
        "a folder without tables",
        ("is a folder", "no Parquet file"),
        lambda f: load(Data(source=str(f), target=("b",)), Random(), Encoding(), seed=0),
    ),
    Bad(
        "nothing given",
        ("no table is given",),
        lambda f: load(Data(), Random(), Encoding(), seed=0),
    ),
    Bad("empty file", ("is empty",), from_file("a.csv", "")),
    Bad("blank file", ("is empty",), from_file("a.csv", "\n \n")),
    Bad(
        "header only",
        ("has no rows", "4 column names"),
        from_file("a.csv", "size,town,price,sort\n"),
    ),
    Bad("no header", ("has no column names",), from_file("a.csv", "1,2,3\n4,5,6\n7,8,9\n")),
    Bad("one row", ("has 1 row with a target",), from_file("a.csv", "size,price\n1,2\n")),
    Bad(
        "too few rows to split",
        ("has 3 rows", "at least 4"),
        from_file("a.csv", "size,price\n1,2.5\n3,4.5\n5,6\n"),
    ),
    Bad(
        "unequal rows",
        ("is no table", "line 3"),
        from_file("a.csv", "a,price\n1,2\n1,2,3,4\n5,6\n"),
    ),
    Bad("binary file", ("is not text", "binary"), from_file("a.csv", bytes(range(256)) * 20)),
    Bad(
        "corrupt gz",
        ("cannot be unpacked",),
        from_file("a.csv.gz", gzip.compress(CSV.encode())[:-30]),
    ),
    Bad("corrupt parquet", ("cannot be read", "damaged"), damaged_parquet),
    Bad(
        "malformed line of JSON",
        ("line 3 of a.jsonl is not JSON", "a.jsonl:3"),
        from_file("a.jsonl", JSONL),
    ),
    Bad(
        "a line of JSON that is no object",
        ("line 1", "not an object"),
        from_file("a.jsonl", "[1, 2]\n"),
    ),
    Bad(
        "duplicate column names",
        ("'size' more than once",),
        from_file("a.csv", "size,size,price\n1,2,3\n4,5,6\n"),
    ),
    Bad(
        "duplicate column names in a frame",
        ("'size' more than once",),
        from_table(lambda d: d.rename(columns={"town": "size"})),
    ),
    Bad(
        "unknown bundled set",
        ("neither a file nor a bundled set", "Did you mean 'digits'?"),
        lambda f: load(Data(source="digit"), Random(), Encoding(), seed=0),
    ),
    Bad("no target", ("no target is given", "--target"), from_table(lambda d: d, target=())),
    Bad(
        "target no column",
        ("'prize'", "Did you mean 'price'?"),
        from_table(lambda d: d, target=("prize",)),
    ),
    Bad(
        "targets in one word",
        ("For several columns write --target price --target size",),
        from_table(lambda d: d, target=("price, size",)),
    ),
    Bad(
        "target missing everywhere",
        ("price is missing in every row",),
        from_table(lambda d: d.assign(price=np.nan)),
    ),
    Bad("target constant", ("price is '7' in every row",), from_table(lambda d: d.assign(price=7))),
    Bad("target infinite", ("price is infinite in row 5",), from_table(put("price", 5, np.inf))),
    Bad(
        "target text for regression",
        ("price is 'much' in row 5", "must be a number"),
        from_table(put("price", 5, "much"), task="regression"),
    ),
    Bad(
        "target another text in every row",
        ("60 different values",),
        from_table(lambda d: d.assign(price=[f"p{i}" for i in range(60)])),
    ),
    Bad("target dropped, too", ("also dropped",), from_table(lambda d: d, drop=("price",))),
    Bad(
        "target a date",
        ("is a date",),
        from_table(lambda d: d.assign(price=pd.date_range("2020", periods=60))),
    ),
    Bad(
        "target of the test file missing",
        ("has no column 'price'",),
        lambda f: (
            (f / "t.csv").write_text("size,prize\n1,2\n"),
            from_table(lambda d: d, test=str(f / "t.csv"))(f),
        ),
    ),
    Bad(
        "three values for binary",
        ("has 3 values", "binary"),
        from_table(lambda d: d, target=("town",), task="binary"),
    ),
    Bad(
        "one class of two rows or more",
        ("only one class of sort has 2 rows or more",),
        from_table(lambda d: d.assign(sort=["rare"] + ["old"] * (len(d) - 1)), target=("sort",)),
    ),
    Bad(
        "class absent from training",
        ("no training row has the class 'old'",),
        from_table(
            lambda d: d.assign(split=np.where(d["sort"] == "old", "test", "train")),
            lambda: Given(column="split"),
            target=("sort",),
        ),
    ),
    Bad(
        "all rows of a class in one group",
        ("no training row has the class",),
        from_table(
            lambda d: d.assign(g=d["sort"]),
            lambda: Grouped(column="g", validation=0.0),
            target=("sort",),
        ),
    ),
    Bad(
        "one class in the test split",
        ("all test rows have the class 'old'",),
        from_table(
            lambda d: d.assign(
                split=np.where((d["sort"] == "old") & (d.index < 40), "test", "train")
            ),
            lambda: Given(column="split"),
            target=("sort",),
        ),
    ),
    Bad(
        "fewer groups than splits",
        ("2 groups",),
        from_table(lambda d: d, lambda: Grouped(column="sort")),
    ),
    Bad(
        "group column missing",
        ("'grup'", "Did you mean 'group'?"),
        from_table(lambda d: d.assign(group=1), lambda: Grouped(column="grup")),
    ),
    Bad(
        "time column no time",
        ("town is no time",),
        from_table(lambda d: d, lambda: ByTime(column="town")),
    ),
    Bad(
        "time column with gaps",
        ("when is missing in row 4",),
        from_table(
            lambda d: d.assign(when=pd.date_range("2020", periods=60).where(np.arange(60) != 4)),
            lambda: ByTime(column="when"),
        ),
    ),
    Bad(
        "one moment only",
        ("too few different moments",),
        from_table(lambda d: d.assign(when=[1.5] * 30 + [2.5] * 30), lambda: ByTime(column="when")),
    ),
    Bad(
        "given split with other words",
        ("'new'", "train, validation or test"),
        from_table(lambda d: d, lambda: Given(column="sort")),
    ),
    Bad(
        "given rows outside",
        ("row 60 is given to test", "0 to 59"),
        from_table(lambda d: d, lambda: Given(test_rows=(60,))),
    ),
    Bad(
        "given row in two splits",
        ("a row in two splits",),
        lambda f: Given(train_rows=(1, 2), test_rows=(2,)),
        RecipeError,
    ),
    Bad("given nothing", ("it has neither",), lambda f: Given(), RecipeError),
    Bad(
        "validation and test take all",
        ("nothing is left",),
        lambda f: Random(validation=0.5, test=0.5),
        RecipeError,
    ),
    Bad("no size of memory", ("'lots'",), lambda f: Data(memory="lots"), RecipeError),
    Bad(
        "a column is both",
        ("'size'", "categories"),
        lambda f: Data(categories=("size",), numbers=("size",)),
        RecipeError,
    ),
    Bad(
        "negative weight",
        ("weight w is -1 in row 7",),
        from_table(lambda d: d.assign(w=np.where(np.arange(60) == 7, -1.0, 1.0)), weight="w"),
    ),
    Bad("weights all 0", ("all weights",), from_table(lambda d: d.assign(w=0.0), weight="w")),
    Bad("weight no column", ("data.weight is 'w'",), from_table(lambda d: d, weight="w")),
    Bad(
        "several targets for classes",
        ("there are 2 targets",),
        from_table(lambda d: d, target=("price", "sort"), task="classes"),
    ),
    Bad(
        "several targets, one text",
        ("town is 'Aix'",),
        from_table(
            lambda d: d.assign(town="Aix").pipe(put("town", 9, "Bonn")), target=("price", "town")
        ),
    ),
    Bad(
        "labels neither 0 nor 1",
        ("label b is '2' in row 9",),
        from_table(
            lambda d: put("b", 9, 2)(d.assign(a=np.arange(60) % 2, b=np.arange(60) % 2)),
            target=("a", "b"),
            task="labels",
        ),
    ),
    Bad(
        "no usable column",
        ("no column is left", "it is 1 in all training rows"),
        from_table(lambda d: d[["price"]].assign(one=1)),
    ),
    Bad("infinite value", ("size is infinite in row 8",), from_table(put("size", 8, np.inf))),
    Bad(
        "nothing but infinite values",
        ("size is infinite in row",),
        from_table(lambda d: d.assign(size=np.inf)),
    ),
    Bad(
        "dropped column unknown",
        ("data.drop is 'twon'", "Did you mean 'town'?"),
        from_table(lambda d: d, drop=("twon",)),
    ),
    Bad(
        "numbers that are none",
        ("town is", "it must be a number"),
        from_table(lambda d: d, numbers=("town",)),
    ),
    Bad(
        "X and y of different length",
        ("X has 3 rows and y has 2",),
        lambda f: load(Data(), Random(), Encoding(), seed=0, frame=(np.zeros((3, 2)), np.zeros(2))),
    ),
    Bad(
        "text among numbers at predict time",
        ("size is 'big' in row 3", "must be a number"),
        predicting(put("size", 3, "big")),
    ),
    Bad(
        "infinity at predict time",
        ("size is infinite in row 3",),
        predicting(put("size", 3, -np.inf)),
    ),
    Bad(
        "column missing at predict time",
        ("no column 'size'", "Did you mean 'Size'?"),
        predicting(lambda d: d.rename(columns={"size": "Size"})),
    ),
)


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_bad_input_gives_one_clear_message(bad, tmp_path):
    with pytest.raises(bad.kind) as caught:
        bad.cause(tmp_path)
    text = str(caught.value)
    for words in bad.words:
        assert words in text
    assert caught.value.why, "it says why"
    assert "\n" not in text and len(text) < 600


def test_the_table_is_fine_before_it_is_spoiled(tmp_path):
    task = from_file("a.csv", CSV)(tmp_path)
    assert isinstance(task, Task) and task.kind == "regression" and task.train.count == 42


def test_rows_without_a_target_are_left_out_and_that_is_said():
    frame = good()
    frame.loc[[3, 5], "price"] = np.nan
    task = load(Data(target=("price",)), Random(), Encoding(), seed=0, frame=frame)
    assert "2 of 60 rows have no price and are left out." in task.notes
    assert not {3, 5} & set(np.concatenate(list(task.rows.values())).tolist())


def test_a_file_that_is_missing_is_not_taken_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "missing").mkdir()
    with pytest.raises(DataError, match="there is no file in this folder. Check"):
        read_table("missing.csv")
    (tmp_path / "misssing.csv").touch()
    with pytest.raises(DataError, match="in this folder there are misssing.csv. Did you mean"):
        read_table("missing.csv")
