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
    normalized_step,
    theorem_3_parameters,
    theorem_6_step,
)

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
    "Trajectory",
    "clipped_iterations",
    "clipped_step",
    "critical_line",
    "critical_point",
    "descent_iterations",
    "fixed_point",
    "gains_nearing_one",
    "kinks",
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
