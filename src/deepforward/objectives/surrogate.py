"""A loss whose gradient is given, so that the engine follows what was computed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def follow(model: nn.Module, gradients: Mapping[str, Tensor], value: Tensor | None = None) -> Tensor:
    """A scalar whose backward pass gives `gradients` to the parameters of `model`.

    Args:
        model: Owner of the parameters.
        gradients: Gradient by parameter name; other parameters receive none.
        value: Value of the scalar; default: sum of theta·gradient, which is the loss itself if that is linear in theta.
    """
    parameters = [model.get_parameter(name) for name in gradients]
    if value is None:
        products = [
            torch.vdot(p.detach().flatten(), g.flatten().to(p.dtype))
            for p, g in zip(parameters, gradients.values(), strict=True)
        ]
        value = torch.stack(products).sum()
    return _Follow.apply(value, *gradients.values(), *parameters)  # type: ignore[no-untyped-call]


class _Follow(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *tensors: Tensor) -> Tensor:
        half = len(tensors) // 2
        ctx.save_for_backward(*tensors[:half])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        # On a CPU the factor can be looked at for nothing, and it is 1 unless a scaler multiplied the loss.
        unscaled = gradient.device.type == "cpu" and gradient.item() == 1.0
        return None, *[None] * len(given), *(given if unscaled else (g * gradient for g in given))
