"""The numbers of one step, on their way from the device to the record."""

from __future__ import annotations

import torch
from torch import Tensor

from deepforward.instruments.instrument import Scalar


class Sample:
    """Collects 0-dimensional tensors while a step runs, and reads them all at once when nobody waits for them any more.

    Attributes:
        step: The training step.
        open: Whether the step is still running; a backward pass that comes late finds it closed.
        order: Keys of the layer calls so far, in the order of the forward pass.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.open = True
        self.order: list[str] = []
        self._calls: dict[str, int] = {}
        self._layers: dict[tuple[str, str], Scalar] = {}
        self._parameters: dict[tuple[str, int], Scalar] = {}
        self._stacked: Tensor | None = None
        self._ready: torch.Event | None = None

    def __bool__(self) -> bool:
        return bool(self._layers or self._parameters)

    def forget_layers(self) -> None:
        """Start over: the model is called again within the step (gradient accumulation), and the last call is what counts."""
        self.order.clear()
        self._calls.clear()
        self._layers.clear()

    def key(self, name: str) -> str:
        """Key `name#call` of the next call of a module."""
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        self.order.append(f"{name}#{call}")
        return self.order[-1]

    def put_layer(self, statistic: str, key: str, scalar: Scalar) -> None:
        """Take a number of a layer call."""
        self._layers[statistic, key] = scalar

    def put_parameter(self, statistic: str, index: int, scalar: Scalar) -> None:
        """Take a number of the parameter with this index."""
        self._parameters[statistic, index] = scalar

    def parameters_with(self, statistic: str) -> set[int]:
        """Indices of the parameters for which the statistic was already taken."""
        return {index for name, index in self._parameters if name == statistic}

    def close(self) -> None:
        """End the step: stack all numbers and start their way to the host without waiting for them."""
        self.open = False
        tensors = [scalar.value for scalar in (*self._layers.values(), *self._parameters.values())]
        if not tensors:
            return
        if len({tensor.device for tensor in tensors}) > 1:
            tensors = [tensor.cpu() for tensor in tensors]
        stacked = torch.stack(tensors)
        # Only CUDA has an event here that tells when the numbers have arrived; elsewhere the copy waits for them.
        self._stacked = stacked.to("cpu", non_blocking=stacked.is_cuda)
        if stacked.is_cuda:
            self._ready = torch.Event(stacked.device)
            self._ready.record()

    def read(self) -> tuple[dict[tuple[str, str], float], dict[tuple[str, int], float]]:
        """Numbers by (statistic, layer key) and by (statistic, parameter index)."""
        if self._ready is not None:
            self._ready.synchronize()
        numbers = iter([] if self._stacked is None else self._stacked.tolist())
        layers = {place: scalar.factor * next(numbers) for place, scalar in self._layers.items()}
        return layers, {place: scalar.factor * next(numbers) for place, scalar in self._parameters.items()}
