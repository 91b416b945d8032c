"""Runs a model without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Lets the model be run forward and backward; afterwards modes, buffers, gradients and random numbers are as before.

    Inside, the parameters start without gradients. Of the random generators, torch's global ones are restored: on CPU and on
    the CUDA devices of the model. Parameters are not copied: do not move them inside.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    copies = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
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
            for module, before in buffers:
                module._buffers.clear()
                module._buffers.update(before)
            for buffer, copy in copies:
                # What is expanded cannot be written to, nor has it been.
                if buffer.layout is not torch.strided or not torch.equal(buffer, copy):
                    buffer.copy_(copy)
        for parameter, gradient in gradients:
            parameter.grad = gradient
