"""The gradient of one batch's loss, at whatever the parameters are now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepforward.instruments.instrument import as_real, norm_dtype


class BatchGradient:
    """Evaluates loss and gradient again and again on the same batch with the same random draws, so that both ends compare.

    Args:
        model: The model; to be `left_as_found` by the caller.
        parameters: Those whose gradients are wanted.
        batch: What `loss` takes.
        loss: Runs the model on a batch and returns a scalar to differentiate.
    """

    def __init__(
        self, model: nn.Module, parameters: Sequence[Tensor], batch: Any, loss: Callable[[nn.Module, Any], Tensor]
    ) -> None:
        self._model, self._parameters, self._batch, self._loss = model, parameters, batch, loss
        self._devices = sorted({p.device.index for p in parameters if p.is_cuda})
        self._state = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in self._devices]

    def __call__(self) -> tuple[float, list[Tensor]]:
        """Loss, and the gradient of every parameter, zero where it has none."""
        torch.set_rng_state(self._state[0])
        for device, state in zip(self._devices, self._state[1], strict=True):
            torch.cuda.set_rng_state(state, device)
        self._model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            value = self._loss(self._model, self._batch)
            torch.autograd.backward(value)  # not autograd.grad, which reentrant checkpointing refuses
        return float(value.detach()), [_of(parameter) for parameter in self._parameters]


@torch.no_grad()
def norm(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm over all elements of all tensors, its squares summed in double precision."""
    each = torch._foreach_norm([as_real(tensor) for tensor in tensors], 2, norm_dtype(tensors[0]))
    return float(torch.linalg.vector_norm(torch.stack([part.to(each[0].device) for part in each])))


def _of(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros_like(parameter)
    return gradient.detach().to_dense() if gradient.layout is not torch.strided else gradient.detach()
