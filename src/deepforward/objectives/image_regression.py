"""Training signal of networks that give an image for an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.data.dataset import Batch
from deepforward.errors import InvalidOption, ShapeError
from deepforward.metrics.image_quality import peak_signal_to_noise
from deepforward.objectives.objective import Objective, Signal


class ImageSquaredError(Objective):
    """Mean over the batch, channels and pixels of (model(x) - t)^2 for target images t; the metric is the PSNR in dB.

    Args:
        peak: Range of the targets, for the PSNR: 1 for images in [0, 1].

    Raises:
        InvalidOption: `peak` is not above 0.
    """

    metric: ClassVar[str] = "psnr"
    maximize: ClassVar[bool] = True

    def __init__(self, peak: float = 1.0) -> None:
        super().__init__()
        if peak <= 0:
            raise InvalidOption(f"image-squared-error got peak={peak:g}; expected the range of the targets, a number above 0")
        self.peak = peak

    def errors(
        self, outputs: Float[Tensor, "batch channel height width"], targets: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, " batch"]:
        """Squared error of each example, averaged over its channels and pixels."""
        if outputs.shape != targets.shape:
            raise ShapeError(
                f"model gives outputs of shape {tuple(outputs.shape)}; expected images like the targets, {tuple(targets.shape)}"
            )
        return (outputs - targets.to(outputs.dtype)).square().flatten(1).mean(1)

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for the whole model."""
        yield Signal(self.errors(model(batch.inputs).float(), batch.targets).mean())

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Summed squared error and summed PSNR of the images."""
        outputs = model(batch.inputs).float()
        errors = self.errors(outputs, batch.targets)
        return {"loss": errors.sum(), "psnr": peak_signal_to_noise(outputs, batch.targets, self.peak).sum()}

    def num_outputs(self, num_classes: int, input_shape: tuple[int, ...]) -> int:
        """A channel for each of the input's."""
        return input_shape[0]
