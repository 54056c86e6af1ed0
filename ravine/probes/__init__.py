"""What can be measured at fixed weights: the loss's curvature, the gradient's noise."""

from ravine.probes.curvature import Estimate as Estimate
from ravine.probes.curvature import Objective as Objective
from ravine.probes.curvature import Point as Point
from ravine.probes.curvature import Ritz as Ritz
from ravine.probes.curvature import classify_points as classify_points
from ravine.probes.curvature import condition as condition
from ravine.probes.curvature import density as density
from ravine.probes.curvature import ends as ends
from ravine.probes.curvature import lanczos as lanczos
from ravine.probes.curvature import ritz as ritz
from ravine.probes.curvature import trace as trace
from ravine.probes.noise import GradientNoise as GradientNoise
from ravine.probes.noise import NoiseAverage as NoiseAverage
from ravine.probes.noise import gradient_noise as gradient_noise
from ravine.probes.noise import per_example_gradients as per_example_gradients
from ravine.probes.noise import squared_gradient_norms as squared_gradient_norms
from ravine.probes.noise import two_batches as two_batches
