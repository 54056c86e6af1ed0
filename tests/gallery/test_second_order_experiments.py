"""Newton's step and centering: numbers that have a closed form, and what the claims hang on."""

import numpy as np
import pytest
import torch

from ravine.probes.curvature import Objective
from ravine_gallery import centering, newton


def test_gradient_descent_on_the_ravine_takes_the_steps_of_its_formula():
    descent, step, kappa = newton.quadratic_losses()
    assert kappa == pytest.approx(20)
    values = torch.tensor([[1.0, 20.0]], dtype=torch.float64)
    expected = float(
        centering.steps_needed(values)
    )  # where every direction is started alike; 69 steps
    assert abs(int((descent < 1e-6 * descent[0]).nonzero()[0]) - expected) <= 2
    assert step[1] < 1e-25


def test_newton_ends_on_the_saddle_of_the_wells_from_between_their_inflections():
    surface = Objective.of_rows(newton.two_wells, width=2)
    rows = torch.tensor([[0.3, 1.0], [-0.3, -2.0], [1.4, 0.5], [-1.4, 0.5]], dtype=torch.float64)
    ends = {
        name: newton.search_path(rule, surface, rows, 60)[-1]
        for name, rule in newton.NEWTON_RULES.items()
    }
    assert newton.point_kinds(surface, ends["Newton"]) == ["saddle", "saddle", "minimum", "minimum"]
    assert newton.point_kinds(surface, ends["saddle-free Newton"]) == ["minimum"] * 4


def test_centering_the_neuron_of_the_lecture_takes_the_mean_out_of_its_hessian():
    x, y = centering.draw_problems(20, mean=3.0, seed=4)
    at = torch.zeros(20, 2, dtype=torch.float64)
    for i in range(20):
        sigma = np.cov(x[i].numpy().T, bias=True)
        raw = centering.linear_neuron(x, y).hessian(at)[i].numpy()
        np.testing.assert_allclose(raw, sigma + np.outer(x[i].mean(0), x[i].mean(0)), atol=1e-12)
        centered = (
            centering.linear_neuron(centering.transform_inputs(x, "centered"), y)
            .hessian(at)[i]
            .numpy()
        )
        np.testing.assert_allclose(centered, sigma, atol=1e-12)
        whole = (
            centering.linear_neuron(centering.transform_inputs(x, "standardized"), y)
            .hessian(at)[i]
            .numpy()
        )
        np.testing.assert_allclose(whole, np.corrcoef(x[i].numpy().T), atol=1e-12)


def test_standardizing_lowers_the_condition_number_most_and_centering_the_more_the_larger_the_mean(
    numbers,
):
    found = numbers("centering")
    order = [found[f"condition, {form}"] for form in ("as they are", "centered", "standardized")]
    assert order == sorted(order, reverse=True)
    assert found["lowered, |μ| = 1"] < found["lowered, |μ| = 3"] < found["lowered, |μ| = 10"] < 1
