"""Targets that slip from some row on are found with the row; series, sorted rows and drift are not
taken for it.
"""

from collections.abc import Callable

import pytest
import torch
from sklearn import datasets
from torch import Tensor

from ravine.diagnosis.data.measure import profile_data
from ravine.diagnosis.data.profile import ShiftedTargets, TurnedTargets
from ravine.diagnosis.registry import DATA_RULES
from ravine.diagnosis.rule import run_rules

ROWS = 600


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers() -> tuple[Tensor, Tensor]:
    x = torch.randn(ROWS, 5, generator=generator())
    noise = 0.4 * torch.randn(ROWS, generator=generator(1))
    return x, x[:, 0] + torch.sin(2 * x[:, 1]) + noise


def classes() -> tuple[Tensor, Tensor]:
    x, y = (torch.tensor(each) for each in datasets.load_digits(return_X_y=True))
    order = torch.randperm(len(y), generator=generator())[:ROWS]
    return x[order].float(), y[order]


def yes_or_no() -> tuple[Tensor, Tensor]:
    x, y = numbers()
    return x, (y > 0.5).float()[:, None]


def slip_of(x: Tensor, y: Tensor) -> ShiftedTargets | None:
    found = profile_data(x, y).shifted_targets
    assert not isinstance(found, TurnedTargets)
    return found


@pytest.mark.parametrize("examples", [numbers, classes, yes_or_no])
@pytest.mark.parametrize(("dropped", "by"), [([200], 1), ([300, 301, 302], 3), ([400], 1)])
def test_rows_dropped_of_the_inputs_alone(examples, dropped, by):
    x, y = examples()
    assert slip_of(x, y) is None
    kept = [i for i in range(ROWS) if i not in dropped]
    found = slip_of(x[kept], y[: len(kept)])
    assert found is not None and found.rows == by and found.first_row is not None
    assert abs(found.first_row - dropped[0]) < 80


@pytest.mark.parametrize("examples", [numbers, classes, yes_or_no])
def test_rows_dropped_of_the_targets_alone(examples):
    x, y = examples()
    kept = [i for i in range(ROWS) if i not in (250, 251)]
    found = slip_of(x[: len(kept)], y[kept])
    assert found is not None and found.rows == -2


def walk(seed: int = 3) -> Tensor:
    steps = torch.randn(ROWS + 8, generator=generator(seed))
    value = torch.zeros(ROWS + 8)
    for i in range(1, ROWS + 8):
        value[i] = 0.9 * value[i - 1] + steps[i]
    return value


def forecast(ahead: int = 1) -> tuple[Tensor, Tensor]:
    """The last four values of a series, and one to come."""
    value = walk()
    return value.unfold(0, 4, 1)[:ROWS], value[3 + ahead :][:ROWS]


def sorted_rows() -> tuple[Tensor, Tensor]:
    x, y = classes()
    order = y.argsort(stable=True)
    return x[order], y[order]


def drift() -> tuple[Tensor, Tensor]:
    """What counts changes half way, and with it how much is known."""
    x, y = numbers()
    late = torch.arange(ROWS) > 300
    return x, torch.where(late, 0.3 * x[:, 2] + torch.randn(ROWS, generator=generator(4)), y)


def unlabeled_end() -> tuple[Tensor, Tensor]:
    """The last third of the answers were guessed."""
    x, y = numbers()
    y[400:] = y[400:][torch.randperm(200, generator=generator(5))]
    return x, y


def slow_sensor() -> tuple[Tensor, Tensor]:
    """The target follows the input by some rows, less and less."""
    value = walk(6)[:ROWS]
    return torch.stack([value, walk(7)[:ROWS]], 1), value.roll(2) + 0.1 * value


def copies() -> tuple[Tensor, Tensor]:
    x, y = numbers()
    return x[:300].repeat_interleave(2, 0), y[:300].repeat_interleave(2, 0)


HEALTHY: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "forecast of one row": forecast,
    "forecast of four rows": lambda: forecast(4),
    "sorted rows": sorted_rows,
    "drift": drift,
    "a part without information": unlabeled_end,
    "a sensor that lags": slow_sensor,
    "seasons": lambda: (
        torch.stack([walk(8)[:ROWS], torch.arange(ROWS) % 12.0], 1),
        torch.sin(torch.arange(ROWS) / 12 * 6.283) + 0.3 * walk(8)[:ROWS],
    ),
    "copies in pairs": copies,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_rows_in_an_order_are_not_taken_for_it(name):
    assert slip_of(*HEALTHY[name]()) is None


def test_the_finding_says_from_which_row_on():
    x, y = numbers()
    found = run_rules(DATA_RULES, profile_data(torch.cat([x[:200], x[201:]]), y[:-1]))[0]
    (finding,) = (f for f in found if f.severity == "error")
    assert (finding.code, finding.cause) == ("RVN-D15", "labels")
    assert finding.title.startswith("targets belong to other rows: 1 row on, from row ")
