"""Claims about toy problems and test surfaces."""

import numpy as np
import pytest
import torch

from ravine.data import synthetic
from ravine_gallery import surfaces


@pytest.mark.parametrize("surface", surfaces.ALL, ids=lambda s: s.name)
def test_minima_are_where_they_are_said_to_be(surface):
    points = torch.tensor(surface.minima or ((0.0, 0.0),), dtype=torch.float64, requires_grad=True)
    values = surface(points)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert float(gradient.abs().max()) < 1e-8
    left, right, bottom, top = surface.window
    grid = torch.cartesian_prod(
        torch.linspace(left, right, 60), torch.linspace(bottom, top, 60)
    ).double()
    values = values.detach()
    if surface.minima:
        assert torch.allclose(values, values[:1], atol=1e-12) and float(values[0]) == pytest.approx(
            surface.minimum
        )
        assert float(surface(grid).min()) >= surface.minimum
    else:
        assert float(surface(grid).min()) < float(values[0]) < float(surface(grid).max())


def test_the_best_classifier_of_a_mixture_errs_as_often_as_said():
    mixture = synthetic.mixture()
    points, classes = mixture.draw(200_000, seed=0)
    probabilities = mixture.probabilities(points)
    assert np.allclose(probabilities.sum(1), 1)
    error = (probabilities.argmax(1) != classes).mean()
    assert abs(error - mixture.error()) < 0.0025  # four standard deviations of 200,000 draws


@pytest.mark.parametrize("draw", [synthetic.moons, synthetic.circles, synthetic.spirals])
def test_drawn_points_repeat_with_their_seed_and_are_balanced(draw):
    points, classes = draw(500, 3)
    assert points.shape == (500, 2) and np.bincount(classes).tolist() == [250, 250]
    assert np.array_equal(points, draw(500, 3)[0]) and not np.array_equal(points, draw(500, 4)[0])


def test_noiseless_toys_lie_on_their_curves():
    circles, classes = synthetic.circles(100, 0, noise=0.0)
    assert np.allclose(np.linalg.norm(circles, axis=1), 1 - 0.5 * classes)
    moons, classes = synthetic.moons(100, 0, noise=0.0)
    assert np.allclose(np.linalg.norm(moons - np.array([[0, 0], [1, 0.5]])[classes], axis=1), 1)
