"""What stands beside numbers: currencies, %, units; and what those of one column have in common."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

MULTIPLES_UNIT = "k, M, B"  # what stands for a unit in the style of a column such as 900, 1.5k, 2M
FRACTIONS_UNIT = "%, fraction"  # and of one such as 12 %, 0.12
UNIT_MULTIPLIERS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "Mio": 1e6, "B": 1e9, "bn": 1e9}
FRACTION_MULTIPLIERS = {"": 1.0, "%": 0.01, "‰": 0.001}
# the units of a quantity, each in terms of the first
QUANTITY_UNITS: Sequence[Mapping[str, float]] = (
    {"kg": 1, "g": 1e-3, "mg": 1e-6, "t": 1e3, "lb": 0.45359237, "oz": 0.028349523125},
    {"m": 1, "km": 1e3, "cm": 1e-2, "mm": 1e-3, "in": 0.0254, "ft": 0.3048, "mi": 1609.344},
    {"h": 1, "min": 1 / 60, "m": 1 / 60, "s": 1 / 3600, "ms": 1 / 3.6e6, "d": 24, "week": 168}
    | {"month": 730.5, "year": 8766},
    {"l": 1, "L": 1, "ml": 1e-3, "mL": 1e-3, "cl": 1e-2, "dl": 1e-1, "hl": 100},
    {"MB": 1, "kB": 1e-3, "KB": 1e-3, "GB": 1e3, "TB": 1e6, "PB": 1e9},
    {"MiB": 1, "KiB": 1 / 1024, "GiB": 1024, "TiB": 1024**2},
    {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    {"W": 1, "mW": 1e-3, "kW": 1e3, "MW": 1e6, "GW": 1e9},
    {"Wh": 1, "kWh": 1e3, "MWh": 1e6, "GWh": 1e9},
    {"V": 1, "mV": 1e-3, "kV": 1e3},
    {"A": 1, "mA": 1e-3, "kA": 1e3},
    {"hPa": 1, "mbar": 1, "Pa": 1e-2, "kPa": 10, "bar": 1e3, "psi": 68.94757293168},
    {"m²": 1, "m2": 1, "sqm": 1, "km²": 1e6, "km2": 1e6, "ha": 1e4, "sqft": 0.09290304},
    {"km/h": 1, "kmh": 1, "m/s": 3.6, "mph": 1.609344},
    {"°C": 1, "°F": 5 / 9, "K": 1},
)
ZERO_CELSIUS = {"°F": 32.0, "K": 273.15}  # what 0 °C is
ALIASES_OF_UNITS = (
    "h hr hour, min minute, s sec second, d day, week wk, month mo, year yr, m meter metre, "
    "mi mile, ft foot feet, in inch inche, l liter litre, g gram, kg kilo, t tonne, lb pound, "
    "oz ounce"
)
_UNITS_WITH_ALIASES = [each.split() for each in ALIASES_OF_UNITS.split(",")]
UNIT_ALIASES = {alias: unit for unit, *rest in _UNITS_WITH_ALIASES for alias in rest}
OTHER_UNITS = "CC HP BHP PS RPM MP DPI PPI PPM PPB BTU MPG FPS SF UI BPM".split()  # in capitals
KNOWN_UNITS = frozenset([*OTHER_UNITS, *(unit for units in QUANTITY_UNITS for unit in units)])
# marks of a currency or a share, on which a number depends only beside others of its column
CURRENCY_PATTERN = (
    r"(?:[A-Z]{0,3}[$€£¥₹₽₩₺₫₪]|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK"
    r"|Rs\.?|kr\.?|S?Fr\.|Kč|zł)"
)
IS_MARK = re.compile(rf"[%‰]|{CURRENCY_PATTERN}").fullmatch
CURRENCY_SIGNS = {"USD": "$", "US$": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
CURRENCY_SIGNS |= dict.fromkeys(("INR", "Rs", "Rs."), "₹") | {"kr.": "kr"}


def is_unknown_letter(unit: str) -> bool:
    """Whether a unit is a letter that is none: behind a whole number, as in 12b, part of a name."""
    return len(unit) == 1 and unit.isalpha() and unit not in KNOWN_UNITS | {"k", "M"}


@cache
def canonical_unit(text: str) -> str:
    """One name for each unit, however it is written: kg for Kgs, star for stars, $ for USD."""
    if IS_MARK(text):
        return CURRENCY_SIGNS.get(text, text)
    unit = text.rstrip(".") or text
    if unit in KNOWN_UNITS or unit in UNIT_MULTIPLIERS or len(unit) < 2:
        return unit
    lower = unit.lower()
    for name in (lower, lower.removesuffix("s")):
        if name in KNOWN_UNITS or name in UNIT_ALIASES:
            return UNIT_ALIASES.get(name, name)
    return unit.removesuffix("s") if unit.islower() and len(unit) > 3 else unit


def is_unit(text: str) -> bool:
    """Whether a text is a unit that is known, or a currency, also in brackets.

    >>> is_unit("[Kgs]"), is_unit("EUR"), is_unit("Bonn")
    (True, True, False)
    """
    text = text.strip(" []()")
    return bool(IS_MARK(text)) or canonical_unit(text) in KNOWN_UNITS


@cache
def conversion(unit: str, own: str) -> tuple[float, float] | None:
    """Factor and summand from a unit to a column's own, which "" has; None for another quantity.

    >>> conversion("g", "kg"), conversion("", "kg"), conversion("lb", "m")
    ((0.001, 0.0), (1.0, 0.0), None)
    """
    if unit in ("", own) or (not own and IS_MARK(unit)):
        return 1.0, 0.0
    for units in QUANTITY_UNITS:
        if unit in units and own in units:
            zero = ZERO_CELSIUS.get(unit, 0.0)
            factor = units[unit] / units[own]
            return factor, ZERO_CELSIUS.get(own, 0.0) - factor * zero
    return None


def choose_unit(found: Sequence[tuple[str, float, int]]) -> str:
    """What stands behind the numbers of a column in its style, from each one's unit, its value and
    in how many rows it stands: the unit that most have, nothing for currencies and %.
    """
    units = Counter[str]()
    for unit, _, count in found:
        units[unit] += count
    if units["%"] + units["‰"] and units[""] and units.keys() <= FRACTION_MULTIPLIERS.keys():
        bare = [abs(value) for unit, value, _ in found if not unit]
        shares = [abs(value) for unit, value, _ in found if unit]
        if max(bare) <= 1 and any(value % 1 for value in bare) and np.median(shares) > 1:
            return FRACTIONS_UNIT
    usual = next((unit for unit, _ in units.most_common() if unit), "")
    return "" if IS_MARK(usual) else usual


def describe_units(units: Mapping[str, str], unit: str, *, all_whole: bool) -> list[str]:
    """Doubts about a column's units, each with a text; its own is `unit`, its name goes before."""
    named = [one for one in units if one]
    currencies = [one for one in named if IS_MARK(one) and one not in "%‰"]
    shown = " and ".join(units[one] for one in list(units)[:3])
    wrong = "If that is wrong, write all of them in one way."
    if unit == FRACTIONS_UNIT:
        example = next(text for one, text in units.items() if one)
        return [f"has shares with and without %: {example} is taken as a hundredth of it. {wrong}"]
    if len(currencies) > 1:
        return [f"has several currencies ({shown}): the amounts are taken as they stand. {wrong}"]
    if unit == MULTIPLES_UNIT or (len(units) > 1 and currencies):
        return []
    if len(named) > 1:
        return [f"has several units ({shown}): all are converted to {unit or named[0]}. {wrong}"]
    if len(units) > 1:
        return [f"has numbers with and without {named[0]}: all are taken to be in {named[0]}."]
    is_letter = len(unit) == 1 and f" {unit}" not in shown  # 5 V is clear, 12A may be a seat
    if unit.isupper() and all_whole and (is_letter or unit not in KNOWN_UNITS):
        taken = f"is taken as numbers of the unit {unit} (such as {shown})"
        return [f"{taken}. If they are names, set data.categories."]
    return []
