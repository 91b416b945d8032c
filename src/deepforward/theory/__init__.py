"""What is known of depth without training a network: mean field, spectra, recurrences, iterated maps, smoothness.

Phases and spectra are imported from their modules, since they bring scipy's optimisers, which take a while to import.
"""

from deepforward.theory.correlation import propagate_correlation
from deepforward.theory.maps import Cycle, LogisticMap
from deepforward.theory.mean_field import (
    Criticality,
    MeanFieldLayer,
    Trajectory,
    critical_point,
    moments,
    propagate,
    second_moments,
)
from deepforward.theory.quadrature import kinks
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
    "Criticality",
    "Cycle",
    "Gradients",
    "LogisticMap",
    "MeanFieldLayer",
    "NormalizedGD",
    "SimplifiedRecurrence",
    "Trajectory",
    "clipped_iterations",
    "clipped_step",
    "critical_point",
    "descent_iterations",
    "gains_nearing_one",
    "kinks",
    "moments",
    "normalized_step",
    "products_of_slopes",
    "propagate",
    "propagate_correlation",
    "second_moments",
    "theorem_3_parameters",
    "theorem_6_step",
]
