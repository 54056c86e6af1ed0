"""What can be measured at fixed weights: the loss's curvature, the gradient's noise."""

from ravine.probes.curvature import (
    Estimate,
    Objective,
    Point,
    Ritz,
    classify_points,
    condition,
    density,
    ends,
    lanczos,
    ritz,
    trace,
)
from ravine.probes.noise import (
    GradientNoise,
    NoiseAverage,
    gradient_noise,
    per_example_gradients,
    squared_gradient_norms,
    two_batches,
)

__all__ = [
    "Estimate",
    "GradientNoise",
    "NoiseAverage",
    "Objective",
    "Point",
    "Ritz",
    "condition",
    "density",
    "ends",
    "gradient_noise",
    "classify_points",
    "lanczos",
    "per_example_gradients",
    "ritz",
    "squared_gradient_norms",
    "trace",
    "two_batches",
]
