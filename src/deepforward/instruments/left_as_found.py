"""Runs a model without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def left_as_found(model: nn.Module, *, moves: bool = False) -> Iterator[None]:
    """Lets the model be run forward and backward; afterwards modes, buffers, gradients and random numbers are as before.

    Inside, the parameters start without gradients. Of the random generators, torch's global ones are restored: on CPU and on
    the CUDA devices of the model.

    Args:
        model: The model.
        moves: Whether parameters are moved in place inside, and so are copied before and put back.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    values = [(parameter, parameter.detach().clone()) for parameter, _ in gradients] if moves else []
    devices = sorted({parameter.device.index for parameter, _ in gradients if parameter.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices):
            for parameter, _ in gradients:
                parameter.grad = None
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer.copy_(before)
            for parameter, value in values:
                parameter.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
