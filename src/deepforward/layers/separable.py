"""Kernels as sums of products of a column and a row, by singular value decomposition."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import InvalidOption


class Separation(NamedTuple):
    """The kernel is the sum over terms of outer(column, row); one term says that it is separable.

    Attributes:
        columns: (terms, kernel height).
        rows: (terms, kernel width).
    """

    columns: Float[Tensor, "term kernel_height"]
    rows: Float[Tensor, "term kernel_width"]

    @property
    def rank(self) -> int:
        """Number of terms."""
        return len(self.columns)

    def kernel(self) -> Float[Tensor, "kernel_height kernel_width"]:
        """The sum of the terms."""
        return self.columns.T @ self.rows


def separate(kernel: Float[Tensor, "kernel_height kernel_width"], tolerance: float | None = None) -> Separation:
    """As few terms as give the kernel within `tolerance` in the spectral norm: K = sum_t s_t u_t v_t'.

    The columns are s_t^(1/2) u_t and the rows s_t^(1/2) v_t; they are computed in float64, detached, and of the kernel's type.

    Args:
        kernel: Its entries.
        tolerance: Largest singular value that is left out, relative to the largest one, in [0, 1). By default that is what the
            rounding of the entries makes of zero: the type's epsilon times the longer side.

    Returns:
        At least one term, be the kernel zero.

    Raises:
        InvalidOption: `tolerance` is outside [0, 1).

    Source:
        Eckart and Young 1936, The approximation of one matrix by another of lower rank; Treitel and Shanks 1971, The design
        of multistage separable planar filters.
    """
    if tolerance is None:
        tolerance = torch.finfo(kernel.dtype).eps * max(kernel.shape)
    if not 0 <= tolerance < 1:
        raise InvalidOption(f"got tolerance = {tolerance}; expected a share of the largest singular value in [0, 1)")
    u, s, vh = torch.linalg.svd(kernel.detach().double(), full_matrices=False)
    terms = max(int((s > tolerance * s[0]).sum()), 1)
    root = s[:terms, None].sqrt()
    return Separation((root * u.T[:terms]).to(kernel.dtype), (root * vh[:terms]).to(kernel.dtype))


def is_separable(kernel: Float[Tensor, "kernel_height kernel_width"]) -> bool:
    """Whether the kernel is the outer product of a column and a row (rank one, or zero) but for rounding."""
    return separate(kernel).rank == 1
