"""Stacks of dilated convolutions: which pixels they touch, the rule of hybrid dilated convolution, rates without holes.

A convolution of K taps and rate r touches the offsets {0, r, ..., (K - 1) r} along each axis, and a stack of them the sums of
one offset from each layer. With rates that have a common factor most pixels inside the receptive field are never such a sum:
gridding. Whether the kernel is flipped (true convolution) or not (the correlation that torch computes, erratum E13) makes no
difference to what is touched.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepforward.errors import GriddingWarning, InvalidOption

#: Layers of one group of hybrid rates, as in Wang et al.: each group covers its field by itself.
_GROUP = 3


@dataclass(frozen=True)
class RateCheck:
    """What is to be said of the rates of a stack of dilated convolutions.

    Attributes:
        rates: Dilation of each layer, the first one first.
        kernel: Taps K of each layer along an axis.
        field: Side of the receptive field in pixels, 1 + (K - 1) sum r.
        distances: M_1, ..., M_n of the rule.
        factor: Greatest common divisor of the rates.
        coverage: Share of the pixels of the receptive field that the stack touches, in (0, 1].
    """

    rates: tuple[int, ...]
    kernel: int
    field: int
    distances: tuple[int, ...]
    factor: int
    coverage: float

    @property
    def complies(self) -> bool:
        """Whether the rates obey the rule: M_2 <= K, and no common factor.

        The rule takes for granted that the first rate is 1. Of a stack that begins otherwise it can be wrong: (2, 3) has
        M_2 = 3 and no common factor and touches 81 of 121 pixels. `leaves_holes` is what counts.
        """
        return (len(self.rates) < 2 or self.distances[1] <= self.kernel) and self.factor == 1

    @property
    def leaves_holes(self) -> bool:
        """Whether some pixel within the receptive field is never touched."""
        return self.coverage < 1.0

    @property
    def says(self) -> str:
        """One sentence with the numbers."""
        rates = ", ".join(map(str, self.rates))
        reasons = [f"M_2 = {self.distances[1]} > K = {self.kernel}"] if self._too_far else []
        reasons += [f"common factor {self.factor}"] if self.factor > 1 else []
        why = f" ({', '.join(reasons)})" if reasons else ""
        return f"rates ({rates}) touch {self.coverage:.1%} of their field of {self.field} x {self.field} pixels{why}"

    @property
    def _too_far(self) -> bool:
        return len(self.rates) > 1 and self.distances[1] > self.kernel


def touched(rates: Sequence[int], kernel: int = 3) -> np.ndarray:
    """Which offsets along one axis a stack touches; in two dimensions it touches the outer product with itself.

    Args:
        rates: Dilation of each layer, at least 1.
        kernel: Taps of each layer along the axis.

    Returns:
        Booleans (field,) from the first offset of the receptive field to its last.

    Raises:
        InvalidOption: No rates, or a rate or kernel below 1.
    """
    if not rates or min(rates) < 1 or kernel < 1:
        raise InvalidOption(f"got rates {tuple(rates)} and kernel {kernel}, expected whole numbers of at least 1; change them")
    paths = np.ones(1, dtype=bool)
    for rate in rates:
        reached = np.zeros(len(paths) + (kernel - 1) * rate, dtype=bool)
        for tap in range(kernel):
            reached[tap * rate : tap * rate + len(paths)] |= paths
        paths = reached
    return paths


def coverage(rates: Sequence[int], kernel: int = 3) -> float:
    """Share of the square receptive field that a stack of dilated convolutions touches, in (0, 1], by enumeration.

    Args:
        rates: Dilation of each layer.
        kernel: Taps of each layer along an axis.

    Raises:
        InvalidOption: No rates, or a rate or kernel below 1.
    """
    offsets = touched(rates, kernel)
    return int(offsets.sum()) ** 2 / len(offsets) ** 2


def check_rates(rates: Sequence[int], kernel: int = 3) -> RateCheck:
    """Hold rates against the rule of hybrid dilated convolution, and measure what they touch.

    The rule, with M_n = r_n:

        M_i = max(M_{i+1} - 2 r_i, M_{i+1} - 2 (M_{i+1} - r_i), r_i),    M_2 <= K and gcd(r_1, ..., r_n) = 1

    M_i is the largest distance between pixels that layers i to n touch. The second condition is needed: (2, 2, 2) has M_2 = 2.

    Args:
        rates: Dilation of each layer, the first one first.
        kernel: Taps of each layer along an axis.

    Raises:
        InvalidOption: No rates, or a rate or kernel below 1.

    Source:
        Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell 2018, Understanding convolution for semantic segmentation, equation 2.
    """
    share = coverage(rates, kernel)
    distances = [rates[-1]]
    for rate in reversed(rates[:-1]):
        behind = distances[0]
        distances.insert(0, max(behind - 2 * rate, behind - 2 * (behind - rate), rate))
    field = 1 + (kernel - 1) * sum(rates)
    return RateCheck(tuple(rates), kernel, field, tuple(distances), math.gcd(*rates), share)


def hybrid_rates(rates: Sequence[int], kernel: int = 3) -> tuple[int, ...]:
    """Rates of as many layers and, where that can be, of the same sum, which leave no holes: (2, 2, 2) becomes (1, 2, 3).

    Layers are taken in groups of three (the last of three to five). Layers that touch w_i pixels in a row, all of them, may be
    followed by one of any rate up to w_i: w_1 = 1, w_{i+1} = w_i + (K - 1) r_i. What is taken from a layer is given to others.

    Args:
        rates: Dilation of each layer.
        kernel: Taps of each layer along an axis, at least 2.

    Raises:
        InvalidOption: No rates, or a rate below 1 or kernel below 2.

    Source:
        Wang et al. 2018, section 3.2 (groups of rising rates).
    """
    if kernel < 2:
        raise InvalidOption(f"got kernel {kernel}, expected at least 2: one tap touches one pixel; leave its rate alone")
    if not coverage(rates, kernel) < 1.0:
        return tuple(rates)
    starts = range(0, max(len(rates) - _GROUP + 1, 1), _GROUP)
    ends = [*starts[1:], len(rates)]
    return tuple(rate for start, end in zip(starts, ends, strict=True) for rate in _group(rates[start:end], kernel))


def _group(rates: Sequence[int], kernel: int) -> list[int]:
    given = [1] * len(rates)
    for position, rate in enumerate(rates):
        given[position] = min(rate, _widths(given, kernel)[position])
    for _ in range(sum(rates) - sum(given)):
        below = [i for i, width in enumerate(_widths(given, kernel)) if given[i] < width]
        if not below:
            break
        given[min(below, key=lambda i: given[i])] += 1
    return sorted(given)


def _widths(rates: Sequence[int], kernel: int) -> list[int]:
    """How many pixels in a row the layers before each one touch, if none leaves a hole."""
    return [1 + (kernel - 1) * sum(rates[:position]) for position in range(len(rates))]


def warn_of_gridding(owner: str, rates: Sequence[int], kernel: int = 3) -> None:
    """Warn if the rates leave holes, and offer some that do not.

    Args:
        owner: What is being built with them, for the message.
        rates: Dilation of each layer.
        kernel: Taps of each layer along an axis.

    Warns:
        GriddingWarning: Some pixel of the receptive field is never touched.
    """
    found = check_rates(rates, kernel)
    if found.leaves_holes:
        better = ", ".join(map(str, hybrid_rates(rates, kernel)))
        warnings.warn(f"{owner}: {found.says}; use ({better}), which leaves no hole", GriddingWarning, stacklevel=3)
