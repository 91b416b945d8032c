"""The contract of an instrument: what it reduces from a tensor that passes by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Scalar(NamedTuple):
    """A 0-dimensional tensor still on its device; the number it stands for is `factor * value`."""

    value: Tensor
    factor: float = 1.0


#: Reduces a detached tensor (rows first) to one number, without synchronising with the device.
Reduction = Callable[[Tensor], Scalar]


class Instrument:
    """Says which numbers to take from a training step; the `Probe` takes them.

    Instruments that name the same statistic share it: it is reduced once. An instrument keeps no tensor and never waits for the
    device. Subclasses define what they need of the three sources below.
    """

    #: Statistics of the parameters to take: any of `parameter_gradient_norm`, `update_ratio`.
    of_parameters: ClassVar[frozenset[str]] = frozenset()

    def of_output(self, module: nn.Module) -> Mapping[str, Reduction]:
        """Statistic name -> reduction of the output of each call of `module`; asked once per module."""
        return {}

    def of_gradient(self, module: nn.Module) -> Mapping[str, Reduction]:
        """Statistic name -> reduction of the loss gradient with respect to that output; asked once per module."""
        return {}

    def origin(self, layers: Mapping[str, Mapping[str, float]]) -> Mapping[str, object] | None:
        """Where a non-finite number arose, given one sampled step as layer -> statistic -> number, in forward order."""
        return None


def norm_dtype(tensor: Tensor) -> torch.dtype:
    """The type in which a norm is summed: squares of a vanished gradient (1e-24) are zero in float32."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def as_real(tensor: Tensor) -> Tensor:
    """The tensor, or if it is complex its real and imaginary parts along a new last axis: a complex number counts as two."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def rms(tensor: Tensor) -> Scalar:
    """Root mean square over all elements; NaN or infinite if and only if an element of a 32-bit or narrower tensor is."""
    return Scalar(torch.linalg.vector_norm(tensor, dtype=norm_dtype(tensor)), max(tensor.numel(), 1) ** -0.5)


def batch_dims(tensor: Tensor) -> tuple[int, ...]:
    """All dimensions but that of the units: channels (dimension 1), or for sequences (batch, step, feature) the last."""
    units = tensor.dim() - 1 if tensor.dim() <= 3 else 1
    return tuple(dim for dim in range(tensor.dim()) if dim != units)
