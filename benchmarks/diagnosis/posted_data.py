"""The tables of the posted scripts, in their own units: real ones from files that scikit-learn,
matplotlib and this package bring along, and made ones with the skew of real ones.

Always the same rows; parts as in `data.py`.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import matplotlib
import numpy as np
import sklearn.datasets
from matplotlib import colors
from sklearn import datasets

from benchmarks.diagnosis.data import Split, split

OPENML = Path(sklearn.datasets.__file__).parent / "tests" / "data" / "openml"
MATPLOTLIB = Path(matplotlib.get_data_path())
PENGUINS = Path(__file__).parents[2] / "ravine" / "data" / "sets" / "penguins.csv"
COLOR_NAMES = ("green", "blue", "pink", "purple", "brown", "yellow", "red", "orange")
ANIMALS = ("mammal", "bird", "fish", "invertebrate", "insect", "reptile", "amphibian")


def rows_of(file: str) -> list[list[str]]:
    """The rows of an ARFF file that comes with scikit-learn's tests."""
    with gzip.open(OPENML / file, "rt", encoding="utf-8") as lines:
        kept = [line.strip() for line in lines if line.strip() and line[0] not in "%@"]
    return [
        [cell.strip().strip("'\"") for cell in row]
        for row in csv.reader(kept, quotechar='"', skipinitialspace=True)
    ]


def number(text: str) -> float:
    return float("nan") if text == "?" else float(text)


def passengers(filled: bool = True) -> Split:
    """1309 passengers of the Titanic: class, woman, age in years, siblings and spouses, parents and
    children, fare in pounds (0 to 512), port 0 to 2; did she or he live (float)? A fifth of the
    ages are missing: NaN, or the median if `filled`.
    """
    ports = {"C": 0.0, "Q": 1.0, "S": 2.0, "?": 2.0}
    rows = rows_of("id_40945/data-v1-dl-16826755.arff.gz")
    x = np.array(
        [
            [number(r[0]), r[3] == "female", *(number(r[i]) for i in (4, 5, 6, 8)), ports[r[10]]]
            for r in rows
        ]
    )
    x[np.isnan(x[:, 5]), 5] = np.nanmedian(x[:, 5])
    if filled:
        x[np.isnan(x[:, 2]), 2] = np.nanmedian(x[:, 2])
    return split(x, np.array([float(r[1]) for r in rows]))


def processors() -> Split:
    """209 computers of the eighties: cycle time in ns (17 to 1500), least and most memory in KB (64
    to 64000), cache in KB, least and most channels; the relative performance (6 to 1150) [N, 1].
    """
    rows = np.array([r[1:] for r in rows_of("id_561/data-v1-dl-52739.arff.gz")], float)
    return split(rows[:, :6], rows[:, 6:])


def glass() -> Split:
    """163 pieces of window glass: refractive index (1.51 to 1.53), weight percent of eight oxides;
    made by the float process or not (float)?
    """
    rows = np.array(rows_of("id_40675/data-v1-dl-4965250.arff.gz"), float)
    return split(rows[:, :9], rows[:, 9])


def animals() -> Split:
    """101 animals: 15 flags and the number of legs; one of seven classes."""
    rows = rows_of("id_62/data-v1-dl-52352.arff.gz")
    flags = {"true": 1.0, "false": 0.0}
    x = [[flags[c] if c in flags else float(c) for c in r[1:-1]] for r in rows]
    return split(np.array(x), np.array([ANIMALS.index(r[-1]) for r in rows]), seed=1)


def endgames() -> Split:
    """3196 positions of king and rook against king and pawn: 36 codes, int64 of 0 to 2; does white
    win (float)?
    """
    rows = rows_of("id_3/data-v1-dl-3.arff.gz")
    columns = [
        np.unique(column, return_inverse=True)[1]
        for column in zip(*(r[:-1] for r in rows), strict=True)
    ]
    return split(np.stack(columns, 1), np.array([float(r[-1] == "won") for r in rows]))


def penguins() -> Split:
    """333 penguins: bill length and depth, flipper length in mm, body mass in g (2700 to 6300),
    male, species 0 to 2, island 0 to 2. All of it is in the inputs; the target is the species.
    """
    with open(PENGUINS, encoding="utf-8") as file:
        birds = [b for b in csv.DictReader(file) if b["sex"] in ("male", "female")]
    names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    species = np.unique([b["species"] for b in birds], return_inverse=True)[1]
    island = np.unique([b["island"] for b in birds], return_inverse=True)[1]
    x = np.array([[*(float(b[n]) for n in names), b["sex"] == "male"] for b in birds])
    return split(np.concatenate([x, species[:, None], island[:, None]], 1), species)


def named_colors() -> Split:
    """532 colors that people named: red, green and blue from 0 to 255; which of eight names?"""
    named = [
        (colors.to_rgb(value), name.removeprefix("xkcd:").split()[-1])
        for name, value in sorted(colors.get_named_colors_mapping().items())
        if name.startswith("xkcd:")
    ]
    chosen = [(rgb, name) for rgb, name in named if name in COLOR_NAMES]
    x = np.array([rgb for rgb, _ in chosen]) * 255
    return split(x, np.array([COLOR_NAMES.index(name) for _, name in chosen]))


def glyphs() -> Split:
    """2736 letters and signs of twelve fonts: left, low, right and high edge in thousandths of the
    font size (-200 to 1000), bold, slanted; the width they take (200 to 1000) [N, 1].
    """
    names = ("ptmr8a", "ptmb8a", "ptmri8a", "ptmbi8a", "phvr8a", "phvb8a", "phvro8a", "phvbo8a")
    names += ("pplr8a", "pplb8a", "pplri8a", "pplbi8a")
    x, y = [], []
    for name in names:
        text = (MATPLOTLIB / "fonts" / "afm" / f"{name}.afm").read_text("latin-1")
        for line in text.splitlines():
            if line.startswith("C "):
                box, width = line.split("; B ")[1].split()[:4], line.split("WX ")[1].split()[0]
                x.append([*map(float, box), name[3] == "b", name[-3] in "io"])
                y.append([float(width)])
    return split(np.array(x), np.array(y))


def hills() -> Split:
    """1419 places on a ridge in Tennessee: degrees north and east (36.4 to 36.7, -84.4 to -84.1);
    the elevation in m (236 to 1076) [N, 1].
    """
    grid = np.load(MATPLOTLIB / "sample_data" / "jacksboro_fault_dem.npz")
    height = grid["elevation"][::9, ::11].astype(float)
    north = np.linspace(grid["ymax"], grid["ymin"], height.shape[0])
    east = np.linspace(grid["xmin"], grid["xmax"], height.shape[1])
    places = np.stack(np.meshgrid(north, east, indexing="ij"), 2)
    return split(places.reshape(-1, 2), height.reshape(-1, 1))


def coast() -> Split:
    """1220 places around Vancouver Island: degrees north and east of it; land (1) or sea (0)?"""
    grid = np.load(MATPLOTLIB / "sample_data" / "topobathy.npz")
    height = grid["topo"][::3, ::3]
    places = np.stack(np.meshgrid(grid["latitude"][::3], grid["longitude"][::3], indexing="ij"), 2)
    places = (places - [49.0, 236.0]).reshape(-1, 2)
    return split(places, (height > 0).astype(int).ravel())


def shares() -> Split:
    """1042 days of a share, 2004 to 2008: open, highest, lowest and close in dollars (95 to 750) of
    this day, the highest and lowest of four days before; volume in shares (up to 4e7) [N, 1].
    """
    days = np.load(MATPLOTLIB / "sample_data" / "goog.npz")["price_data"]
    price = np.stack([days[n] for n in ("open", "high", "low", "close")], 1)
    spread = (days["high"] - days["low"]).astype(float)
    before = np.stack([spread[5 - k : len(days) - k] for k in range(1, 5)], 1)
    volume = days["volume"].astype(float)
    x = np.concatenate([price[5:], before, volume[4:-1, None]], 1)
    return split(x, volume[5:, None])


def patients() -> Split:
    """442 patients as they were measured: age in years, sex 1 or 2, body mass index, blood
    pressure, six blood values of 1.3 to 300; the progress of diabetes, 25 to 346 [N, 1].
    """
    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    return split(x, np.asarray(y)[:, None])


def tumor_areas() -> Split:
    """569 tumors: 22 measurements from 0.001 to 40, of sizes only the error of the radius (radius
    and perimeter all but are the target); the area, 140 to 2500 [N, 1].
    """
    x = np.asarray(datasets.load_breast_cancer(return_X_y=True)[0])
    sizes = (0, 2, 3, 10, 12, 13, 20, 22, 23)
    kept = [i for i in range(30) if i not in sizes] + [10]
    return split(x[:, kept], x[:, 3:4])


def tasted_wines(classes: bool = False) -> Split:
    """178 wines, twelve measurements of 0.1 to 160; the proline in mg/l, 278 to 1680 [N, 1]."""
    x, y = datasets.load_wine(return_X_y=True)
    x, y = np.asarray(x), np.asarray(y)
    return split(x, y) if classes else split(x[:, :12], x[:, 12:])


def pixels() -> Split:
    """1797 digits as rows of 64 numbers from 0 to 16; the digit."""
    return split(*datasets.load_digits(return_X_y=True))


def payments(rows: int = 3000) -> Split:
    """Card payments: amount in cents (median 3000, up to 200000), hour 0 to 23, days since the
    account was opened, payments in the last hour, kind of shop 0 to 9, abroad; 3 % are fraud
    (float).
    """
    rng = np.random.default_rng(21)
    amount = np.exp(rng.normal(8.0, 1.2, rows))
    hour, days = rng.integers(0, 24, rows), rng.gamma(1.5, 400, rows)
    recent, shop = rng.poisson(0.7, rows), rng.integers(0, 10, rows)
    abroad = rng.random(rows) < 0.15
    risk = 1.1 * (np.log(amount) - 8) + 1.6 * (hour < 6) - days / 500 + 0.9 * recent + 2.2 * abroad
    chance = 1 / (1 + np.exp(-2.2 * (risk + 0.8 * (shop == 3) - 4.3)))
    x = np.stack([amount, hour, days, recent, shop, abroad], 1).astype(float)
    return split(x, (rng.random(rows) < chance).astype(float))


def accidents(rows: int = 1600) -> Split:
    """Insured cars: power in kW, worth in euros (2000 to 90000), driver's age, km a year, town; the
    number of claims in five years (float) [N, 1].
    """
    rng = np.random.default_rng(22)
    power, worth = rng.gamma(9, 11, rows) + 30, np.exp(rng.normal(9.6, 0.6, rows))
    age, far, town = rng.uniform(18, 85, rows), rng.gamma(4, 4000, rows), rng.random(rows) < 0.4
    rate = np.exp(-3.1 + 1.6 * np.exp(-(age - 18) / 9) + 0.012 * power + far / 25000 + 0.6 * town)
    x = np.stack([power, worth, age, far, town], 1)
    return split(x, rng.poisson(rate).astype(float)[:, None])


def subscribers(rows: int = 1500) -> Split:
    """Subscribers: monthly price in cents, calls to the hotline, age, share of unused days, paper
    or not; days until they left or until today (1 to 1800) and whether they left (float) [N, 2].
    """
    rng = np.random.default_rng(23)
    price, calls = rng.choice([999.0, 1499.0, 2499.0, 4999.0], rows), rng.poisson(1.2, rows)
    age, unused, paper = rng.uniform(18, 80, rows), rng.beta(2, 4, rows), rng.random(rows) < 0.3
    rate = np.exp(-8.4 + price / 2500 + 0.45 * calls + 2.5 * unused - 0.012 * age)
    days, known = rng.exponential(1 / rate), rng.uniform(200, 1800, rows)
    x = np.stack([price, calls, age, unused, paper], 1)
    return split(x, np.stack([np.minimum(days, known) + 1, days < known], 1).astype(float))


def opinions(rows: int = 2400, people: int = 60, films: int = 80) -> Split:
    """Who rated which film, two codes [N, 2] int64: 1 to 5 stars (float)."""
    rng = np.random.default_rng(24)
    taste, kind = rng.normal(size=(people, 3)), rng.normal(size=(films, 3))
    who, what = rng.integers(0, people, rows), rng.integers(0, films, rows)
    liking = 3.4 + (taste[who] * kind[what]).sum(1) * 0.7 + 0.5 * rng.normal(size=films)[what]
    stars = np.clip(np.rint(liking + rng.normal(0, 0.3, rows)), 1, 5)
    return split(np.stack([who, what], 1), stars)


def letters(rows: int = 900, words: int = 160) -> Split:
    """Letters to a help desk as counts of 160 words, the common ones hundreds of times as frequent
    as the rare; to which of five desks? One in thirty letters is empty.
    """
    rng = np.random.default_rng(25)
    common = 1 / np.arange(1, words + 1)
    topics = common * np.exp(rng.normal(0, 1.3, (5, words)))
    topics /= topics.sum(1, keepdims=True)
    desk, length = rng.integers(0, 5, rows), rng.poisson(np.exp(rng.normal(3.2, 0.6, rows)))
    length[rng.random(rows) < 1 / 30] = 0
    counts = [rng.multinomial(n, topics[k]) for n, k in zip(length, desk, strict=True)]
    return split(np.stack(counts).astype(float), desk)


def boilers(rows: int = 1200) -> Split:
    """Readings of a heating: Unix time in seconds (1.7e9), outside temperature, wind, people at
    home; the gas burned in that hour in liters (400 to 4000) [N, 1].
    """
    rng = np.random.default_rng(26)
    hours = np.sort(rng.integers(0, 24 * 120, rows))
    outside = 4 - 9 * np.cos(hours / 2880 * 2 * np.pi) + rng.normal(0, 3, rows)
    wind, people = rng.gamma(2, 3, rows), rng.integers(0, 6, rows)
    night = np.cos(hours % 24 / 24 * 2 * np.pi)
    gas = 60 * np.maximum(19 - outside, 0) * (1 + wind / 40) + 120 * people
    gas += 900 * hours / 2880 - 200 * night + rng.normal(0, 40, rows)
    x = np.stack([1.7e9 + 3600 * hours, outside, wind, people], 1)
    return split(x.astype(np.float64), np.maximum(gas, 0)[:, None])
