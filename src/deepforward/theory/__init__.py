"""What is known of depth without training a network: recurrences, iterated maps, and the smoothness behind clipping."""

from deepforward.theory.maps import Cycle, LogisticMap
from deepforward.theory.recurrence import Gradients, SimplifiedRecurrence, gains_nearing_one, products_of_slopes
from deepforward.theory.smoothness import (
    ClippedGD,
    Clipping,
    NormalizedGD,
    clipped_iterations,
    clipped_step,
    descent_iterations,
    largest_stable_rate,
    normalized_step,
    theorem_3_parameters,
    theorem_6_step,
)
from deepforward.theory.smoothness_fit import SmoothnessFit, fit_smoothness

__all__ = [
    "ClippedGD",
    "Clipping",
    "Cycle",
    "Gradients",
    "LogisticMap",
    "NormalizedGD",
    "SimplifiedRecurrence",
    "SmoothnessFit",
    "clipped_iterations",
    "clipped_step",
    "descent_iterations",
    "fit_smoothness",
    "gains_nearing_one",
    "largest_stable_rate",
    "normalized_step",
    "products_of_slopes",
    "theorem_3_parameters",
    "theorem_6_step",
]
