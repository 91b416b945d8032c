"""Instruments read by passes of their own, outside any training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from deepforward.errors import InvalidModel
from deepforward.instruments.instrument import Instrument
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.readings import Readings
from deepforward.instruments.sampler import Sampler

B = TypeVar("B")


def examine(
    model: nn.Module,
    batches: Iterable[B],
    loss: Callable[[nn.Module, B], Tensor],
    *instruments: Instrument,
) -> Readings:
    """Read instruments on some batches without training: one forward and backward pass each, on all rows.

    The model is run in the mode it is in. Its modes, buffers and gradients and the global random numbers are left as found.

    Args:
        model: Any module; what is compiled in it runs as it was written.
        batches: What `loss` takes; each becomes one step of the readings.
        loss: Runs the model on a batch and returns a scalar to differentiate.
        instruments: What to read; all four of the catalogue if none is given.

    Returns:
        Readings with one step per batch. There is no `update_ratio`, since nothing moves.

    Raises:
        InvalidModel: The model has uninitialised (lazy) parameters or is TorchScript, or the loss does not lead back to it.
    """
    batches = list(batches)
    sampler = Sampler(model, instruments, updated=(), rows=None, capacity=max(2, len(batches)))
    with left_as_found(model):
        for step, batch in enumerate(batches):
            model.zero_grad(set_to_none=True)
            sampler.open(step)
            try:
                torch.autograd.backward(_checked(loss(model, batch)))
                sampler.before_update()
                sampler.close()
            finally:
                sampler.abandon()
    return sampler.readings()


def _checked(loss: object) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
        given = f"a tensor of shape {tuple(loss.shape)} and {loss.dtype}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InvalidModel(f"got {given} as a loss, expected one real number; return the mean of a loss over the batch")
    if not loss.requires_grad:
        raise InvalidModel("got a loss that depends on no parameter that requires a gradient; unfreeze the model")
    return loss
