"""What is known of depth without training: recurrences, iterated maps, fixed points, basins, smoothness behind clipping."""

from deepforward.theory.basins import Basins, basins, grid, log_growth, newton_map
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
    "Basins",
    "ClippedGD",
    "Clipping",
    "Cycle",
    "FixedPoint",
    "Gradients",
    "LinearRecurrence",
    "LogisticMap",
    "NormalizedGD",
    "SimplifiedRecurrence",
    "Stability",
    "basins",
    "bifurcation_diagram",
    "clipped_iterations",
    "clipped_step",
    "descent_iterations",
    "fixed_point_near",
    "fixed_points",
    "fixed_points_from",
    "gains_nearing_one",
    "grid",
    "iterated",
    "log_growth",
    "newton_map",
    "normalized_step",
    "products_of_slopes",
    "stability",
    "theorem_3_parameters",
    "theorem_6_step",
]
