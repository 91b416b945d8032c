"""What is known of depth without training a network: mean field, spectra, recurrences, iterated maps, smoothness."""

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
from deepforward.theory.phase import CriticalLine, PhasePoint, critical_line, fixed_point, phase_grid, phase_point
from deepforward.theory.quadrature import kinks
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
    "CriticalLine",
    "Criticality",
    "Cycle",
    "Gradients",
    "LogisticMap",
    "MeanFieldLayer",
    "NormalizedGD",
    "PhasePoint",
    "SimplifiedRecurrence",
    "SmoothnessFit",
    "Trajectory",
    "clipped_iterations",
    "clipped_step",
    "critical_line",
    "critical_point",
    "descent_iterations",
    "fit_smoothness",
    "fixed_point",
    "gains_nearing_one",
    "kinks",
    "largest_stable_rate",
    "moments",
    "normalized_step",
    "phase_grid",
    "phase_point",
    "products_of_slopes",
    "propagate",
    "propagate_correlation",
    "second_moments",
    "theorem_3_parameters",
    "theorem_6_step",
]
