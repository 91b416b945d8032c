"""Activations driven to where their derivative nearly vanishes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.instruments.instrument import Instrument, Reduction, Scalar

_SELU_SLOPE = 1.0507009873554805 * 1.6732632423543772  # lambda * alpha, the largest derivative of SELU (at 0 from below)

#: Activation -> (module, s) -> (low, high), so that phi'(x) <= s * max phi' if and only if phi(x) <= low or phi(x) >= high.
#: Each follows from phi' written in terms of y = phi(x), given behind it.
_BOUNDS: Mapping[type[nn.Module], Callable[[Any, float], tuple[float, float]]] = {
    nn.Tanh: lambda module, s: (-math.sqrt(1 - s), math.sqrt(1 - s)),  # 1 - y^2
    nn.Sigmoid: lambda module, s: (0.5 - 0.5 * math.sqrt(1 - s), 0.5 + 0.5 * math.sqrt(1 - s)),  # y (1 - y)
    nn.Softsign: lambda module, s: (math.sqrt(s) - 1, 1 - math.sqrt(s)),  # (1 - |y|)^2
    nn.Hardtanh: lambda module, s: (module.min_val, module.max_val),  # 0 at the bounds, else 1
    nn.Hardsigmoid: lambda module, s: (0.0, 1.0),  # 0 at the bounds, else 1/6
    nn.ReLU6: lambda module, s: (-math.inf, 6.0),  # its zeros are sparsity, which DeadUnits watches
    nn.ELU: lambda module, s: (s * max(1.0, module.alpha) - module.alpha, math.inf),  # y + alpha below 0, else 1
    nn.CELU: lambda module, s: (module.alpha * (s - 1), math.inf),  # y / alpha + 1 below 0, else 1
    nn.SELU: lambda module, s: (_SELU_SLOPE * (s - 1), math.inf),  # y + lambda alpha below 0, else lambda
    nn.LogSigmoid: lambda module, s: (-math.inf, math.log1p(-s)),  # 1 - exp(y)
    nn.Softplus: lambda module, s: (-math.log1p(-s) / module.beta, math.inf),  # 1 - exp(-beta y)
}


class Saturation(Instrument):
    """Share of activations at which the derivative is a small share of its largest value.

    Statistics:
        saturated_share: share in [0, 1] of the outputs y = phi(x) (units x examples) of a bounded or one-sided activation
            module with phi'(x) <= share * max phi'. Scale-free: for tanh and share 0.05 it counts |y| >= 0.975.

    Source: Glorot & Bengio 2010, section 3.
    """

    def __init__(self, share: float = 0.05) -> None:
        """Count derivatives of at most `share` (in (0, 1)) of the largest one.

        Raises:
            InvalidOption: `share` is not in (0, 1).
        """
        if not 0 < share < 1:
            raise InvalidOption(f"got share={share}, expected a number between 0 and 1; the usual value is 0.05")
        self.share = share

    def of_output(self, module: nn.Module) -> Mapping[str, Reduction]:
        """`saturated_share` for the activations whose derivative is a function of their output; nothing for others."""
        bounds = next((_BOUNDS[cls](module, self.share) for cls in type(module).__mro__ if cls in _BOUNDS), None)
        return {} if bounds is None else {"saturated_share": partial(_share_outside, low=bounds[0], high=bounds[1])}


def _share_outside(output: Tensor, low: float, high: float) -> Scalar:
    if math.isinf(high):
        outside = output <= low
    elif math.isinf(low):
        outside = output >= high
    else:
        outside = (output - (low + high) / 2).abs_() >= (high - low) / 2
    return Scalar(outside.sum(), 1 / max(output.numel(), 1))
