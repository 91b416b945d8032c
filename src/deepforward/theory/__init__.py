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
    normalized_step,
    theorem_3_parameters,
    theorem_6_step,
)

__all__ = [
    "ClippedGD",
    "Clipping",
    "Cycle",
    "Gradients",
    "LogisticMap",
    "NormalizedGD",
    "SimplifiedRecurrence",
    "clipped_iterations",
    "clipped_step",
    "descent_iterations",
    "gains_nearing_one",
    "normalized_step",
    "products_of_slopes",
    "theorem_3_parameters",
    "theorem_6_step",
]
