"""One pass over the gradients, shared by clipping and the probe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.instruments.instrument import as_real, norm_dtype


class GradientNorms(NamedTuple):
    """L2 norms of gradients, on their device: `each` parallel to `parameters` (those that have a gradient), and `total`."""

    parameters: tuple[nn.Parameter, ...]
    each: tuple[Float[Tensor, ""], ...]
    total: Float[Tensor, ""]


def gradient_norms(parameters: Iterable[nn.Parameter], *, precise: bool = False) -> GradientNorms:
    """Norm of every parameter's gradient and of all together, in one fused call and without waiting for the device.

    Args:
        parameters: Parameters; those without a gradient are left out.
        precise: Sum squares in float64. In float32 the norm of a gradient below about 1e-22 is zero; clipping does not care, a
            diagnosis of vanishing gradients does. Costs about three times as much on a CPU.

    Returns:
        The norms; `total` is 0 if no parameter has a gradient.
    """
    owners = tuple(parameter for parameter in parameters if parameter.grad is not None)
    if not owners:
        return GradientNorms((), (), torch.zeros(()))
    gradients = [_dense(parameter.grad) for parameter in owners if parameter.grad is not None]
    dtype = norm_dtype(gradients[0]) if precise else torch.promote_types(gradients[0].dtype, torch.float32)
    each = torch._foreach_norm(gradients, 2, dtype)
    device = each[0].device
    total = torch.linalg.vector_norm(torch.stack([norm.to(device) for norm in each]))
    return GradientNorms(owners, tuple(each), total)


def _dense(gradient: Tensor) -> Tensor:
    return as_real(gradient.coalesce().values() if gradient.is_sparse else gradient)
