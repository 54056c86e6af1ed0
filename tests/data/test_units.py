"""Claims about units, currencies and % beside numbers: converted where certain, else said."""

import numpy as np
import pandas as pd
import pytest
from columns_of_texts import read

from ravine.data import Data, Encoding, Random, load
from ravine.data.column_types import infer_column_types
from ravine.data.units import KNOWN_UNITS, QUANTITY_UNITS, canonical_unit, conversion

AMOUNTS = np.round(np.random.default_rng(0).uniform(1, 60, 120), 1)


# what a second unit is of the first, from the definitions of the units
MIXED = {
    "kg and g": ("{} kg", "{} g", 1000),
    "kg and lb": ("{} kg", "{} lbs", 1 / 0.45359237),
    "km and m": ("{} km", "{} m", 1000),
    "cm and inches": ("{} cm", "{} inches", 1 / 2.54),
    "h and min": ("{} h", "{} min", 60),
    "hours and minutes": ("{} hours", "{} minutes", 60),
    "days and hours": ("{} days", "{} hrs", 24),
    "years and months": ("{} years", "{} months", 12),
    "MB and GB": ("{}MB", "{}GB", 1e-3),
    "l and ml": ("{} l", "{} ml", 1000),
    "MHz and GHz": ("{} MHz", "{} GHz", 1e-3),
    "km/h and mph": ("{} km/h", "{} mph", 1 / 1.609344),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("every", [2, 7])
def test_units_of_one_quantity_are_converted_and_said(name, every):
    own, other, factor = MIXED[name]
    texts = [
        other.format(x * factor) if i % every == 1 else own.format(x) for i, x in enumerate(AMOUNTS)
    ]
    found, (said,) = read(texts)
    ratio = found / AMOUNTS
    assert np.allclose(ratio, ratio[0], rtol=1e-9) and not np.isnan(found).any()
    assert said.startswith("v has several units (") and "in one way" in said


def test_temperatures_have_other_zeros():
    texts = [f"{x * 1.8 + 32:.6f} °F" if i % 3 else f"{x:.6f} °C" for i, x in enumerate(AMOUNTS)]
    assert np.allclose(read(texts)[0], AMOUNTS * 1.8 + 32, atol=1e-5)
    assert conversion("K", "°C") == (1.0, -273.15)


def test_percent_beside_fractions_is_a_hundredth_of_it_and_said():
    texts = [f"{x}%" if i % 2 else f"{x / 100:.4f}" for i, x in enumerate(AMOUNTS)]
    found, (said,) = read(texts)
    assert np.allclose(found, AMOUNTS / 100, atol=1e-9) and "with and without %" in said
    same, (said,) = read([f"{x}%" if i % 2 else f"{x}" for i, x in enumerate(AMOUNTS)])
    assert np.array_equal(same, AMOUNTS) and "taken to be in %" in said
    assert read([f"{x}%" if i % 9 else "0" for i, x in enumerate(AMOUNTS)])[1] == []


def test_several_currencies_are_said():
    found, (said,) = read([f"{'$' if i % 3 else '€'}{x}" for i, x in enumerate(AMOUNTS)])
    assert np.array_equal(found, AMOUNTS) and said.startswith("v has several currencies (€")
    for one in (("$", ""), ("$", "USD "), ("€ ", "EUR ")):
        assert read([f"{one[i % 2]}{x}" for i, x in enumerate(AMOUNTS)])[1] == []


@pytest.mark.parametrize("unit", ["A", "K", "AB", " AB"])
def test_whole_numbers_with_capital_letters_may_be_names_and_are_said(unit):
    found, (said,) = read([f"{1 + i % 29}{unit}" for i in range(120)])
    assert found[1] == 2 and "If they are names, set data.categories." in said


@pytest.mark.parametrize("unit", [" kg", "kWh", " doors", " €", "%", " V", "mm²", " m/s"])
def test_of_one_unit_nothing_is_said(unit):
    found, notes = read([f"{1 + i % 29}{unit}" for i in range(120)])
    assert found[1] == 2 and notes == []


def test_a_target_with_two_units_is_converted_and_said():
    texts = [f"{x * 1000:.0f} g" if i % 4 == 0 else f"{x} kg" for i, x in enumerate(AMOUNTS)]
    frame = pd.DataFrame({"x": AMOUNTS, "y": texts})
    task = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame)
    assert any(note.startswith("y has several units") for note in task.notes)
    y = task.encoder.target.decode(task.train_examples.targets)[:, 0].numpy()
    assert np.allclose(y, AMOUNTS[task.rows["train"]], atol=1e-4)


def test_names_of_units_lead_to_known_ones():
    for names, unit in (("Kgs kilos KG", "kg"), ("hrs hours hour", "h"), ("mins minutes", "min")):
        assert {canonical_unit(name) for name in names.split()} == {unit}
    assert all(canonical_unit(unit) == unit for unit in KNOWN_UNITS)
    assert all(factor > 0 for units in QUANTITY_UNITS for factor in units.values())


@pytest.mark.parametrize("letters", ["b", "ab", "B", "abc", "ax", "AB"])
@pytest.mark.parametrize("blank", ["", " "])
def test_letters_behind_house_numbers_are_no_units(letters, blank):
    houses = [str(1 + i % 9) for i in range(240)]
    houses = [
        f"{h}{blank}{letters[i // 4 % len(letters)]}" if i % 4 == 0 else h
        for i, h in enumerate(houses)
    ]
    notes: list[str] = []
    used, _ = infer_column_types(pd.DataFrame({"v": houses}), rows=240, notes=notes)
    assert used[0].kind == "category" and notes == []


@pytest.mark.parametrize("unit", ["m", "g", "l", "h", "s", "V"])
def test_known_units_of_one_letter_and_rare_slips_leave_numbers(unit):
    some = [f"{i % 40}{unit if i % 3 else ''}" for i in range(240)]
    slips = [f"{i % 40}{'q' if i == 77 else ''}" for i in range(240)]
    for texts in (some, slips, [f"{i % 40}x" for i in range(240)]):
        assert infer_column_types(pd.DataFrame({"v": texts}), rows=240)[0][0].kind == "number"
