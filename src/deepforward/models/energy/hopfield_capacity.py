"""How many random patterns a Hopfield network with Hebb's rule holds: the theory of many units.

The load alpha = P / N is the number of patterns a unit. Stored bits begin to be unstable at a rate Q(1 / sqrt(alpha)), all of
them stay put with high probability up to N / (2 ln N) patterns, and recall breaks down altogether at alpha = 0.138.

Source: Hopfield 1982, PNAS 79; Amit, Gutfreund, Sompolinsky 1985, "Storing infinite numbers of patterns in a spin-glass model
of neural networks", Phys. Rev. Lett. 55; McEliece, Posner, Rodemich, Venkatesh 1987, "The capacity of the Hopfield associative
memory", IEEE Trans. Information Theory 33.
"""

from __future__ import annotations

import math
from functools import cache

from scipy.optimize import brentq, minimize_scalar

from deepforward.errors import InvalidOption


def unstable_bit_probability(load: float) -> float:
    """Probability Q(1 / sqrt(alpha)) that a bit of a stored pattern is unstable, the tail of a normal variable.

    The field of a bit is its value plus the crosstalk of the other patterns, a sum of (P - 1)(N - 1) fair signs over N, which
    is nearly normal with variance alpha.

    Args:
        load: Patterns a unit, alpha > 0.

    Raises:
        InvalidOption: `load` is not positive.
    """
    return math.erfc(math.sqrt(0.5 / _expect_positive(load))) / 2


def error_free_patterns(num_units: int) -> float:
    """N / (2 ln N): random patterns of which any one is a fixed point with a probability that tends to 1 with N.

    Raises:
        InvalidOption: Fewer than 2 units.
    """
    if num_units < 2:
        raise InvalidOption(f"got num_units = {num_units}; expected 2 or more; choose another number")
    return num_units / (2 * math.log(num_units))


def critical_load() -> float:
    """Load up to which states near the stored patterns exist, 0.1379 patterns a unit."""
    return _load_of(_steepest())


def recalled_overlap(load: float) -> float:
    """Overlap with a stored pattern that recall from it ends with, at zero temperature; 0 above the critical load.

    With y = m / sqrt(2 alpha r), r the noise of the other patterns, the equations of the replica-symmetric theory become
    sqrt(2 alpha) = erf(y) / y - 2 / sqrt(pi) exp(-y^2), and m = erf(y); the largest y is the state near the pattern.

    Args:
        load: Patterns a unit, alpha > 0.

    Raises:
        InvalidOption: `load` is not positive.
    """
    if _expect_positive(load) > critical_load():
        return 0.0
    # erf(y) / y <= 1 / y, so that the solution is below 1 / sqrt(2 alpha).
    return math.erf(brentq(lambda y: _load_of(y) - load, _steepest(), 1 / math.sqrt(2 * load)))


def _load_of(y: float) -> float:
    """The load alpha whose equations y solves."""
    return (math.erf(y) / y - 2 / math.sqrt(math.pi) * math.exp(-y * y)) ** 2 / 2


@cache
def _steepest() -> float:
    """The y of the largest load that has a solution."""
    return float(minimize_scalar(lambda y: -_load_of(y), bounds=(0.5, 3.0), method="bounded", options={"xatol": 1e-12}).x)


def _expect_positive(load: float) -> float:
    if not 0 < load < math.inf:
        raise InvalidOption(f"got load = {load}; expected a finite number above 0, patterns a unit; choose another")
    return load
