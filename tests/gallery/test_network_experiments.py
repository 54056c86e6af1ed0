"""The experiments on networks: numbers of quick runs with a closed form, or that a claim pins."""

import math

import numpy as np
import pytest
import torch

from ravine.data.synthetic import mixture
from ravine.networks.layer_parts import Dropout
from ravine.networks.mlp import Mlp
from ravine.optimizers import Momentum
from ravine.penalties import L2
from ravine_gallery import (
    dropout_expectation,
    ensembles,
    learning_curves,
    loss_slices,
    mixture_boundaries,
    network_experiments,
    scaling_table,
    zero_init,
)

# What they share


def test_bayes_error_by_integral_is_the_closed_form_of_two_components():
    two = network_experiments.TwoClasses(mixture(2, spread=0.7))
    assert two.error() == pytest.approx(mixture(2, spread=0.7).error(), abs=2e-5)  # cells of 0.02


def test_bayes_error_of_the_curved_mixture_is_what_drawn_labels_give():
    problem = network_experiments.curved_classes()
    points, classes = problem.draw(20_000, 3)
    wrong = ((problem.probability(points) > 0.5) != classes).mean()
    assert wrong == pytest.approx(problem.error(), abs=4 * math.sqrt(0.1 * 0.9 / 20_000))
    bayes = problem.probability(points)[None] > 0.5
    assert problem.error_of(bayes, points)[0] == pytest.approx(problem.error(), abs=0.004)
    assert problem.error_of(~bayes, points)[0] == pytest.approx(1 - problem.error(), abs=0.004)


def test_the_density_of_the_mixture_sums_to_one():
    problem = network_experiments.curved_classes()
    density = problem.density(network_experiments.square_grid(6.0, 301))
    assert density.sum() * (12 / 300) ** 2 == pytest.approx(1, abs=1e-6)


# Starts


def test_zero_and_constant_starts_leave_one_unit(numbers):
    found = numbers("zero-init")
    assert found["distinct units, zero"] == found["distinct units, constant 0.5"] == 1
    assert found["distinct units, random (He)"] == 16
    assert found["largest change of a weight, zero"] == 0
    assert found["largest change of a weight, constant 0.5"] > 0.1  # it learns, but as one unit


def test_units_differ_if_any_of_their_weights_does():
    units = torch.ones(3, 4)
    assert zero_init.distinct_units(units) == 1
    units[1, 3] += 0.01
    assert zero_init.distinct_units(units) == 2
    assert zero_init.distinct_units(torch.zeros(3, 4)) == 1


def test_tanh_layers_collapse_as_linear_layers_would_and_saturate(numbers):
    found = numbers("deep-tanh")
    assert found["sd of layer 7, σ = 0.01"] == pytest.approx(
        found["collapse predicted"], rel=0.15
    )  # tanh takes some
    assert found["collapse predicted"] == pytest.approx(0.32**7)
    assert found["saturated, σ = 1"] > 0.8
    assert found["LeCun, small inputs, ratio"] == pytest.approx(1, abs=0.06)
    assert found["sd of layer 7, gain 1.59"] == pytest.approx(
        1 / 1.5925, rel=0.05
    )  # E[tanh² z] = 1 / gain²


def test_a_multiple_of_hes_variance_multiplies_the_signal_at_each_layer(numbers):
    for m in (0.25, 0.5, 1, 2, 4):
        assert numbers("he-multiplier")[f"growth per layer, mult {m:g}"] == pytest.approx(
            m, rel=0.1
        )


def test_batch_norm_starts_at_mean_0_and_sd_1_and_drifts_less(numbers):
    found = numbers("batch-norm-drift")
    assert found["sd at start, batch norm"] == pytest.approx(
        1, abs=0.01
    )  # units that are nearly constant have less
    assert found["mean at start, batch norm"] < 1e-5
    assert found["sd drift, batch norm"] < 0.5 * found["sd drift, plain (He's start)"]
    assert found["mean drift, batch norm"] < 0.5 * found["mean drift, plain (He's start)"]


# Activations and losses


def test_slopes_are_those_of_the_formulas(numbers):
    at_5 = 1 / (1 + math.exp(-5))
    found = numbers("activations")
    assert found["largest slope beyond ±5, sigmoid"] == pytest.approx(at_5 * (1 - at_5), rel=1e-9)
    assert found["largest slope beyond ±5, tanh"] == pytest.approx(1 / math.cosh(5) ** 2, rel=1e-9)
    assert found["largest slope beyond ±5, ReLU"] == 1


def test_gradients_have_one_sign_behind_positive_outputs(numbers):
    found = numbers("activations")
    assert found["one sign, sigmoid"] == found["one sign, ReLU"] == 1
    assert found["one sign, tanh"] < 0.1
    assert (
        found["steps wrong for one weight, sigmoid"] == 1
    )  # both weights move alike, and they should not
    assert found["steps wrong for one weight, tanh"] == pytest.approx(0.5, abs=0.1)


def test_relus_die_at_large_rates(numbers):
    found = numbers("activations")
    assert found["dead, lr 0.1"] < 0.05 < found["dead, lr 10"]


def test_cross_entropy_is_finite_where_the_formula_is_not(numbers):
    found = numbers("losses")
    assert found["stable not finite"] == 0 < found["formula not finite"]
    assert found["stable error"] < 1e-6
    assert found["softmax at ±1e4"] == 20_000  # log Σ e^z − z_y
    p = 1 / (1 + math.exp(8))
    assert found["gradient ratio"] == pytest.approx(1 / (p * (1 - p)))


def test_squared_error_sticks_where_cross_entropy_learns(numbers):
    found = numbers("losses")
    assert found["accuracy, ½ (y − p)², start -8"] == 0.5  # no example has changed sides
    assert found["accuracy, cross entropy, start -8"] > 0.75


# Regularization


def test_dropouts_agree_in_expectation(numbers):
    found = numbers("dropout-expectation")
    assert found["neuron, mean of four masks"] == pytest.approx(found["neuron, scaled"], abs=1e-15)
    # the SD of the mean of 2000 masked values of 2: 2 √(0.3 / 0.7 / 2000) = 0.029, and classic's
    # 0.7 of that
    assert found["inverted off"] < 4 * 0.029 and found["classic off"] < 4 * 0.021
    assert found["mean logit against test network"] < 1e-4
    assert found["gain"] > 0


def test_sub_networks_of_every_mask_are_there_once():
    masks = dropout_expectation.all_masks(3)
    assert len(set(masks)) == 8 and np.mean(masks) == 0.5


def test_the_lectures_network_has_about_200_weights_and_its_settings():
    recipes = mixture_boundaries.regularized_recipes(1)
    assert list(recipes) == ["λ = 0", "λ = 0.0001", "λ = 0.001", "λ = 0.01", "dropout, keep 0.7"]
    for recipe in recipes.values():
        assert isinstance(recipe.network, Mlp) and recipe.network.hidden == (50,)
        assert isinstance(recipe.optimizer, Momentum)
        assert (recipe.optimizer.lr, recipe.optimizer.momentum) == (0.1, 0.9)
    penalty, network = recipes["λ = 0.01"].penalties[0], recipes["dropout, keep 0.7"].network
    # λ‖W‖², as the lecture differentiates it
    assert isinstance(penalty, L2) and penalty.form == "squared"
    assert isinstance(network, Mlp) and isinstance(network.dropout, Dropout)
    assert network.dropout.rate == pytest.approx(0.3)


def test_no_network_beats_bayes(numbers):
    found = numbers("mixture-boundaries")
    assert 0.08 < found["bayes"] < 0.12
    assert all(
        value > found["bayes"] - 0.004 for name, value in found.items() if name.startswith("error")
    )


def test_l1_has_more_zeros_than_l2_and_none_exactly(numbers):
    found = numbers("l1-zeros")
    assert found["zeros, L1"] > 3 * max(found["zeros, L2"], 0.01)
    assert found["exactly zero"] < 0.01


def test_early_stopping_never_takes_more_steps(numbers):
    found = numbers("early-stopping")
    assert 0 < found["steps spent"] <= 1
    assert found["error, stopped early"] > found["bayes"] - 0.004


# Curves and ensembles


def test_the_table_is_badly_conditioned_and_standardizing_mends_it(numbers):
    found = numbers("scaling-table")
    assert found["condition, as it is"] > 1e9
    assert found["condition, standardized"] < 2
    assert found["left, as it is"] > 0.4 > 0.01 > found["left, standardized"]
    rows = scaling_table.SLIDE_ROWS
    assert rows[0].tolist() == [114.8, 0.00323, 5.1]


def test_centering_takes_the_mean_out_of_the_hessian():
    x, _ = scaling_table.draw_table(50, 0)
    mean = x.mean(0)
    raw, centered = (
        scaling_table.neuron_hessian(scaling_table.transform_table(x, form))[:2, :2]
        for form in ("as it is", "centered")
    )
    np.testing.assert_allclose(raw - np.outer(mean, mean), centered, rtol=1e-9, atol=1e-12)
    shifted = (
        np.random.default_rng(0).standard_normal((50, 2)) + 5
    )  # equal scales: there the mean is what hurts
    conditions = [
        np.linalg.cond(scaling_table.neuron_hessian(scaling_table.transform_table(shifted, form)))
        for form in ("as it is", "centered")
    ]
    assert conditions[0] > 100 > 2 > conditions[1]


def test_a_leak_shows_and_the_encoding_has_none(numbers):
    found = numbers("splits")
    assert found["too good by, choosing features"] > 0.1
    assert found["leaked, splitting patients' rows"] > found["honest, splitting patients' rows"]
    assert found["encoder differs by"] == 0


def test_gradient_descent_always_falls_and_minibatches_do_not(numbers):
    found = numbers("learning-curves")
    assert found["train rises, gradient descent"] == 0
    assert found["train rises, minibatches"] > 0.1
    assert found["loss above its best"] >= 0


def test_the_lowest_point_of_a_noisy_curve_is_that_of_its_running_mean():
    t = np.linspace(0, 1, 400)[:, None]
    noise = np.random.default_rng(0).normal(0, 0.3, (400, 50))
    curves = (t - 0.2) ** 2 * 2 + noise
    found = learning_curves.smooth(curves)
    expected = np.stack([curves[i - 20 : i + 21].mean(0) for i in range(20, 380)])
    np.testing.assert_allclose(found[20:380], expected, atol=1e-12)
    np.testing.assert_allclose(found[0], curves[:21].mean(0), atol=1e-12)
    far, near = (np.abs(t[c.argmin(0), 0] - 0.2).mean() for c in (curves, found))
    assert near < 0.12 < far


def test_an_ensembles_loss_is_never_above_its_members(numbers):
    found = numbers("ensembles")
    assert found["loss never above its members'"] == 1
    assert found["error of 4"] < found["error of 1"]


def test_losses_of_an_ensemble_by_hand():
    chance = torch.tensor([[[0.5, 0.5], [0.1, 0.9]]], dtype=torch.float64)
    loss, error = ensembles.losses_and_errors(chance, torch.tensor([0, 0]))
    assert float(loss[0]) == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)
    assert float(error[0]) == 0.5


def test_a_straight_path_lies_in_one_direction_and_a_random_plane_misses_it():
    line = torch.linspace(0, 1, 20)[:, None] * torch.randn(
        1, 50, generator=torch.Generator().manual_seed(0)
    )
    assert float(loss_slices.principal_plane(line)[1][0]) == pytest.approx(1)
    plane = loss_slices.random_plane(1000, 0)
    torch.testing.assert_close(plane @ plane.T, torch.eye(2), atol=1e-6, rtol=0)


def test_the_plane_of_the_path_holds_it_and_random_directions_do_not(numbers):
    found = numbers("loss-slices")
    assert found["share of two directions"] > 0.9
    assert found["random plane catches"] < 4 * found["random plane should catch"]
    # Antognini & Sohl-Dickstein 2018: a walk's principal shares tend to those of 1/k², from its end
    # of 1/(k − ½)²
    assert found["share for a random walk"] == pytest.approx((1 + 1 / 9) * 8 / math.pi**2, abs=0.03)
    assert found["least on the plane"] <= found["loss at the end"] * 1.05
