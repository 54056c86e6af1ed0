"""The tables of the later scripts: real ones from files that scikit-learn and matplotlib bring
along, and made ones of a kind that people ask about.

Always the same rows; parts as in `data.py`.
"""

from __future__ import annotations

import csv

import matplotlib.image
import numpy as np
import torch
from matplotlib import colors
from sklearn import datasets

from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.posted_data import MATPLOTLIB

FIRMS = ("IBM", "AAPL", "MSFT", "XRX", "ADBE")


def months() -> Split:
    """388 months, 1990 to 2022: the returns of five firms (-0.6 to 0.5); that of an index of 500
    firms (-0.17 to 0.13) [N, 1].
    """
    with open(MATPLOTLIB / "sample_data" / "Stocks.csv", encoding="utf-8") as file:
        file.readline()
        rows = [r for r in csv.DictReader(file) if r["IBM"] and r["Date"].endswith("-01")]
    prices = np.array([[float(r[name]) for name in (*FIRMS, "^GSPC")] for r in rows])
    returns = prices[1:] / prices[:-1] - 1
    return split(returns[:, :5], returns[:, 5:])


def flowers(shuffled: bool = True) -> Split:
    """150 flowers, four measurements in cm; the species. In the order of the file, all flowers of
    one species come before the next; the scorer's are always drawn from all.
    """
    x, y = (np.asarray(part) for part in datasets.load_iris(return_X_y=True))
    drawn = split(x, y)
    if shuffled:
        return drawn
    held = np.random.default_rng(7).permutation(len(x))[120:]  # the scorer's rows of `split`
    rest = np.setdiff1d(np.arange(len(x)), held)
    x, y = torch.from_numpy(x[rest]).float(), torch.from_numpy(y[rest]).long()
    return drawn._replace(x=x[:80], y=y[:80], vx=x[80:], vy=y[80:])


def crabs(rows: int = 900) -> Split:
    """Crabs: length and width in cm, weight, meat, gut and shell in g (up to 1500), sex 0 to 2; the
    rings of the shell, whole numbers of 3 to 25 [N, 1].
    """
    rng = np.random.default_rng(31)
    age = np.clip(rng.gamma(6, 1.7, rows), 2.5, 26)
    sex = rng.integers(0, 3, rows)
    length = 70 * (1 - np.exp(-age / 5)) * np.exp(rng.normal(0, 0.05, rows)) + 4
    width = length * np.exp(rng.normal(-0.23, 0.03, rows))
    weight = 0.0042 * length**3 * np.exp(rng.normal(0, 0.06, rows)) * (1 + 0.1 * (sex == 1))
    meat, gut = weight * rng.normal(0.4, 0.03, rows), weight * np.exp(rng.normal(-1.6, 0.1, rows))
    shell = weight * (0.17 + 0.005 * age) * np.exp(rng.normal(0, 0.12, rows))
    x = np.stack([length, width, weight, meat, gut, shell, sex], 1)
    return split(x, np.rint(age + rng.normal(0, 0.4, rows))[:, None])


def customers(rows: int = 900, streets: int = 320) -> tuple[Split, Split]:
    """What customers spend: age, visits, size of the household, days since the last visit, two
    answers of a survey; the logarithm of the money, and as a split of its own the code of the
    street where they live, of which there are more than most have customers.
    """
    rng = np.random.default_rng(32)
    street = rng.integers(0, streets, rows)
    age, visits = rng.uniform(18, 80, rows), rng.poisson(4, rows)
    size, days = rng.integers(1, 6, rows), rng.exponential(40, rows)
    answers = rng.normal(size=(rows, 2))
    money = 0.35 * np.sqrt(visits) + 0.22 * size - days / 90 + 0.9 * np.sin(age / 12)
    money += 0.3 * answers[:, 0] * answers[:, 1] + rng.normal(0, 0.6, rows)
    x = np.concatenate([np.stack([age, visits, size, days], 1), answers], 1)
    return split(x, money[:, None]), split(x, street)


def sensors(rows: int = 1200) -> Split:
    """A pump: counts of particles of three sizes (many zero, up to 3000), pressure in Pa (1e5),
    flow in l/s, temperature; does it fail within the week (float)?
    """
    rng = np.random.default_rng(33)
    wear = rng.gamma(1.2, 1.0, rows)
    counts = [rng.poisson(wear**p * k) for p, k in ((3.0, 6.0), (2.5, 2.0), (2.0, 0.7))]
    pressure = 1.2e5 - 6e3 * wear + rng.normal(0, 4e3, rows)
    flow, heat = 30 - 1.5 * wear + rng.normal(0, 2, rows), rng.normal(55, 6, rows)
    odds = 3.2 * (np.log1p(wear) - 0.75) + 0.09 * (heat - 55)
    fails = rng.random(rows) < 1 / (1 + np.exp(-2.5 * odds))
    return split(np.stack([*counts, pressure, flow, heat], 1).astype(float), fails.astype(float))


def loans(rows: int = 2500) -> Split:
    """Loans: income and amount in euros, months, age, years in the job, past delays, owns a home;
    were they paid back too late (int, one in twelve)?
    """
    rng = np.random.default_rng(34)
    income, amount = np.exp(rng.normal(10.3, 0.5, rows)), np.exp(rng.normal(9.2, 0.8, rows))
    term, age = rng.choice([12, 24, 36, 60, 84], rows), rng.uniform(20, 70, rows)
    job, delays, home = rng.gamma(1.5, 4, rows), rng.poisson(0.5, rows), rng.random(rows) < 0.4
    odds = 1.5 * np.log(amount / income) + 0.9 * delays - job / 8 - 0.8 * home - term / 60 + 0.4
    late = rng.random(rows) < 1 / (1 + np.exp(-1.6 * odds))
    x = np.stack([income, amount, term, age, job, delays, home], 1).astype(float)
    return split(x, late.astype(int))


def photo_points(step: int = 9) -> Split:
    """4300 places of a portrait: row and column in pixels (0 to 600); red, green and blue, 0 to 255
    [N, 3].
    """
    photo = matplotlib.image.imread(MATPLOTLIB / "sample_data" / "grace_hopper.jpg")
    small = np.asarray(photo)[::step, ::step].astype(float)
    rows, columns = np.meshgrid(
        np.arange(small.shape[0]) * step, np.arange(small.shape[1]) * step, indexing="ij"
    )
    return split(np.stack([rows.ravel(), columns.ravel()], 1).astype(float), small.reshape(-1, 3))


def winds(rows: int = 1200) -> Split:
    """A station in a valley: pressure differences in Pa to four neighbors, hour, cloud; where the
    wind comes from, in degrees (0 to 360, mostly near north) [N, 1].
    """
    rng = np.random.default_rng(35)
    slope = rng.normal(size=(rows, 2)) * 40 + [70, 0]
    hour, cloud = rng.integers(0, 24, rows), rng.random(rows)
    turned = 0.5 * np.sin(hour / 24 * 2 * np.pi) * (1 - cloud)
    angle = np.arctan2(slope[:, 1], slope[:, 0]) + turned + rng.normal(0, 0.12, rows)
    near = slope @ np.array([[1, 0, -1, 0], [0, 1, 0, -1]]) + rng.normal(0, 4, (rows, 4))
    x = np.concatenate([near, np.sin(hour / 24 * 2 * np.pi)[:, None], cloud[:, None]], 1)
    return split(x, (np.degrees(angle) % 360)[:, None])


def bikes(rows: int = 1200) -> Split:
    """Hours of a bicycle rental: sine and cosine of the hour, weekend, temperature, rain, wind; the
    bicycles that were lent (0 to 60) [N, 1].
    """
    rng = np.random.default_rng(36)
    hour, weekend = rng.integers(0, 24, rows), rng.random(rows) < 2 / 7
    warm, rain, wind = rng.normal(14, 8, rows), rng.random(rows) < 0.25, rng.gamma(2, 3, rows)
    rush = np.exp(-((hour - 8) ** 2) / 3) + np.exp(-((hour - 17) ** 2) / 6)
    day = np.exp(-((hour - 14) ** 2) / 18)
    rate = 0.6 + np.where(weekend, 1.8 * day, 1.2 * day + 1.6 * rush) + 0.05 * warm
    rate = np.exp(rate - 0.9 * rain - 0.03 * wind)
    turn = hour / 24 * 2 * np.pi
    x = np.stack([np.sin(turn), np.cos(turn), weekend, warm, rain, wind], 1)
    return split(x.astype(float), rng.poisson(rate).astype(float)[:, None])


def branches(rows: int = 1200) -> Split:
    """The angle of a joint for a place of the hand: two answers, elbow up or down, both right. The
    place [N, 2] in cm, the angle in degrees (-110 to 110) [N, 1].
    """
    rng = np.random.default_rng(37)
    where, side = rng.uniform(-1, 1, (rows, 2)), np.where(rng.random(rows) < 0.5, 1.0, -1.0)
    bend = 60 + 30 * where[:, 0] + 12 * np.sin(3 * where[:, 1])
    return split(where * 50, (side * bend + rng.normal(0, 4, rows))[:, None])


def shops(rows: int = 3000, stores: int = 40, items: int = 60) -> Split:
    """Codes of a store, an item and a weekday [N, 3] int64; the logarithm of what was sold."""
    rng = np.random.default_rng(38)
    size, liked = rng.normal(0, 0.8, stores), rng.normal(0, 0.9, items)
    week = np.array([0, -0.1, 0, 0.1, 0.5, 0.9, -1.2])
    kind, love = rng.normal(size=(stores, 2)), rng.normal(size=(items, 2))
    s, i, d = (rng.integers(0, n, rows) for n in (stores, items, 7))
    sold = 2 + size[s] + liked[i] + week[d] + 0.6 * (kind[s] * love[i]).sum(1)
    return split(np.stack([s, i, d], 1), sold + rng.normal(0, 0.25, rows))


def queries(rows: int = 360, offers: int = 8) -> Split:
    """Searches for a hotel, eight offers each [N, 8, 5]: price in euros, stars, distance in m,
    rating, photographs; how well each was liked [N, 8].
    """
    rng = np.random.default_rng(39)
    shape = (rows, offers)
    price, stars = np.exp(rng.normal(4.6, 0.5, shape)), rng.integers(1, 6, shape)
    far, rating = rng.exponential(2500, shape), rng.normal(7.8, 0.9, shape)
    photos = rng.poisson(12, shape)
    liked = stars * 0.5 - np.log(price) * 1.4 - np.sqrt(far) / 40 + 0.5 * rating
    liked = liked + 0.01 * photos + rng.normal(0, 0.3, shape)
    return split(np.stack([price, stars, far, rating, photos], 2).astype(float), liked)


def color_pairs(pairs: int = 2400) -> Split:
    """Pairs of colors that people named: red, green and blue of both [N, 6] from 0 to 1; do they
    have the same name, of five (1) or not (-1)? Half do.
    """
    rng, names = np.random.default_rng(40), ("green", "blue", "pink", "brown", "yellow")
    named = [
        (colors.to_rgb(value), name.removeprefix("xkcd:").split()[-1])
        for name, value in sorted(colors.get_named_colors_mapping().items())
        if name.startswith("xkcd:")
    ]
    chosen = [(rgb, names.index(name)) for rgb, name in named if name in names]
    x, y = np.array([rgb for rgb, _ in chosen]), np.array([k for _, k in chosen])
    a = rng.integers(0, len(x), pairs)
    b = np.array([rng.choice(np.flatnonzero((y == y[i]) == (n % 2 == 0))) for n, i in enumerate(a)])
    return split(np.concatenate([x[a], x[b]], 1), np.where(y[a] == y[b], 1.0, -1.0))


def lightness() -> Split:
    """949 colors that people named: red, green and blue from 0 to 1; saturation and lightness in
    percent [N, 2].
    """
    named = sorted(colors.get_named_colors_mapping().items())
    x = np.array([colors.to_rgb(value) for name, value in named if name.startswith("xkcd:")])
    high, low = x.max(1), x.min(1)
    light = (high + low) / 2
    return split(x, np.stack([(high - low) / np.maximum(high, 1e-3), light], 1) * 100)
