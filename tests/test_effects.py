"""The meter: what techniques report, averaged for each network by itself."""

import math

import pytest
import torch

from ravine.effects import Effect, Meter


def test_reports_of_every_shape_and_type_are_averaged():
    meter = Meter(3)
    meter.add("clip", torch.tensor([1.0, 0.0, 0.0]))
    meter.add("clip", torch.tensor([[1.0], [1.0], [0.0]], requires_grad=True))
    meter.add("clip", torch.tensor([True, False, False]))
    meter.add("clip", 1)
    assert meter.means()["clip"].tolist() == [1.0, 0.5, 0.25]
    assert meter.means()["clip"].dtype == torch.float64 and not meter.means()["clip"].requires_grad


def test_a_report_is_kept_as_it_was():
    meter, value = Meter(2), torch.ones(2, dtype=torch.float64)
    meter.add("clip", value)
    value.zero_()
    assert meter.means()["clip"].tolist() == [1.0, 1.0]
    meter.add("clip", 0.0)
    assert meter.means()["clip"].tolist() == [0.5, 0.5]


def test_a_report_for_another_number_of_networks_is_refused():
    with pytest.raises(RuntimeError):
        Meter(3).add("clip", torch.ones(2))


def test_a_nan_stays_with_its_network():
    meter = Meter(2)
    meter.add("clip", torch.tensor([math.nan, 1.0]))
    meter.add("clip", 0.0)
    means = meter.means()["clip"]
    assert means[0].isnan() and means[1] == 0.5


def test_what_never_reports_has_no_mean():
    assert Meter(2).means() == {}


def test_networks_that_leave_take_their_numbers_along():
    meter = Meter(3)
    meter.add("clip", torch.tensor([1.0, 2.0, 3.0]))
    kept = meter.rows_of(torch.tensor([2, 0]))
    kept.add("clip", torch.tensor([5.0, 1.0]))
    assert kept.networks == 2 and kept.means()["clip"].tolist() == [4.0, 1.0]
    assert meter.means()["clip"].tolist() == [1.0, 2.0, 3.0]


def test_an_effect_says_its_name_and_meaning():
    assert Effect("clip", "share of steps")._asdict() == {
        "name": "clip",
        "meaning": "share of steps",
    }
