"""Units through which no gradient passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deepforward.instruments.instrument import Instrument, Reduction, Scalar, batch_dims

#: Activation -> output values at which its derivative is zero. The nearest class in the MRO counts (ReLU6 is a Hardtanh).
_FLAT: Mapping[type[nn.Module], Callable[[Any], tuple[float, ...]]] = {
    nn.ReLU: lambda module: (0.0,),
    nn.ReLU6: lambda module: (0.0, 6.0),
    nn.Threshold: lambda module: (module.value,),
    nn.Hardtanh: lambda module: (module.min_val, module.max_val),
    nn.Hardsigmoid: lambda module: (0.0, 1.0),
    nn.Hardshrink: lambda module: (0.0,),
    nn.Softshrink: lambda module: (0.0,),
}


class DeadUnits(Instrument):
    """Share of units that pass no gradient for any example of the batch.

    Statistics:
        dead_share: share in [0, 1] of the units (features, or channels over all positions) of a piecewise linear activation
            module whose output lies where the derivative is zero for every example seen: 0 for ReLU, either bound for Hardtanh.

    A unit that is silent on one batch may speak on the next: only what stays dead over the sampled steps is lost.

    Source: Maas, Hannun & Ng 2013.
    """

    def of_output(self, module: nn.Module) -> Mapping[str, Reduction]:
        """`dead_share` for activations whose derivative is exactly zero somewhere; nothing for others."""
        values = next((_FLAT[cls](module) for cls in type(module).__mro__ if cls in _FLAT), None)
        if values is None:
            return {}
        return {"dead_share": _never_positive if isinstance(module, nn.ReLU) else partial(_always_flat, values=values)}


def _never_positive(output: Tensor) -> Scalar:
    # A maximum is several times cheaper than comparing every element, and a ReLU's output is never below zero.
    peaks = output.amax(batch_dims(output))
    return Scalar((peaks == 0).sum(), 1 / max(peaks.numel(), 1))


def _always_flat(output: Tensor, values: tuple[float, ...]) -> Scalar:
    flat = output == values[0]
    for value in values[1:]:
        flat.logical_or_(output == value)
    dead = flat.all(dim=batch_dims(output))
    return Scalar(torch.count_nonzero(dead), 1 / max(dead.numel(), 1))
