"""What is known of depth without training a network: mean field, spectra, recurrences, maps and their basins, smoothness.

Phases and spectra are imported from their modules, since they bring scipy's optimisers, which take a while to import.
"""

from deepforward.theory.basins import Basins, basins, grid, log_growth, newton_map
from deepforward.theory.correlation import propagate_correlation
from deepforward.theory.fixed_points import (
    FixedPoint,
    Stability,
    fixed_point_near,
    fixed_points,
    fixed_points_from,
    iterated,
    stability,
)
from deepforward.theory.linear_recurrence import LinearRecurrence
from deepforward.theory.maps import Cycle, LogisticMap, bifurcation_diagram
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
    largest_stable_rate,
    normalized_step,
    theorem_3_parameters,
    theorem_6_step,
)
from deepforward.theory.smoothness_fit import SmoothnessFit, fit_smoothness

__all__ = [
    "Basins",
    "ClippedGD",
    "Clipping",
    "Criticality",
    "Cycle",
    "FixedPoint",
    "Gradients",
    "LinearRecurrence",
    "LogisticMap",
    "MeanFieldLayer",
    "NormalizedGD",
    "SimplifiedRecurrence",
    "SmoothnessFit",
    "Stability",
    "Trajectory",
    "basins",
    "bifurcation_diagram",
    "clipped_iterations",
    "clipped_step",
    "critical_point",
    "descent_iterations",
    "fit_smoothness",
    "fixed_point_near",
    "fixed_points",
    "fixed_points_from",
    "gains_nearing_one",
    "grid",
    "iterated",
    "kinks",
    "largest_stable_rate",
    "log_growth",
    "moments",
    "newton_map",
    "normalized_step",
    "products_of_slopes",
    "propagate",
    "propagate_correlation",
    "second_moments",
    "stability",
    "theorem_3_parameters",
    "theorem_6_step",
]
