"""A loss whose gradient is given, so that the engine follows what was computed by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def follow(model: nn.Module, gradients: dict[str, Tensor], value: Tensor | None = None) -> Tensor:
    """A scalar whose backward pass gives `gradients` to the parameters of `model`; it can be taken once.

    Args:
        model: Owner of the parameters.
        gradients: Gradient by parameter name, emptied: whoever holds no tensor lets the parameter take it without a copy. Other
            parameters receive none.
        value: Value of the scalar; default: sum of theta·gradient, which is the loss itself if that is linear in theta.
    """
    parameters = [model.get_parameter(name) for name in gradients]
    if value is None:
        pairs = zip(parameters, gradients.values(), strict=True)
        value = torch.stack([torch.vdot(p.detach().flatten(), g.flatten().to(p.dtype)) for p, g in pairs]).sum()
    given = list(gradients.values())
    gradients.clear()
    return _Follow.apply(value, given, *parameters)  # type: ignore[no-untyped-call]


class _Follow(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, given: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.given = given
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given, ctx.given = ctx.given, None
        # On a CPU the factor can be looked at for nothing, and it is 1 unless a scaler multiplied the loss.
        unscaled = gradient.device.type == "cpu" and gradient.item() == 1.0
        return None, None, *(given if unscaled else (g * gradient for g in given))
