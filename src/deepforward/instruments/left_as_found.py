"""Runs a model without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from deepforward.instruments.wrappers import uncompiled


@contextmanager
def left_as_found(model: nn.Module, *, moves: bool = False) -> Iterator[None]:
    """Lets the model be run forward and backward; afterwards modes, buffers, gradients and random numbers are as before.

    Inside, what is compiled runs as it was written, with its hooks, and the parameters start without gradients. Of the random
    generators, torch's global ones are restored: on CPU and on the CUDA devices of the model.

    Args:
        model: The model.
        moves: Whether parameters are moved in place inside, and so are copied before and put back.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    copies = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    values = [(parameter, parameter.detach().clone()) for parameter, _ in gradients] if moves else []
    devices = sorted({parameter.device.index for parameter, _ in gradients if parameter.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices), uncompiled():
            for parameter, _ in gradients:
                parameter.grad = None
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, before in buffers:
                module._buffers.clear()
                module._buffers.update(before)
            for buffer, copy in copies:
                # What is expanded cannot be written to, nor has it been.
                if buffer.layout is not torch.strided or not torch.equal(buffer, copy):
                    buffer.copy_(copy)
            for parameter, value in values:
                parameter.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
