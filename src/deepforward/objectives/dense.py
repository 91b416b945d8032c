"""Training signals of dense prediction: a class for each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.data.checks import IGNORED
from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import ShapeError
from deepforward.metrics.segmentation import confusion_of, mean_iou
from deepforward.objectives.objective import Objective, Signal


class PixelCrossEntropy(Objective):
    """Negative log-likelihood of the right class of each pixel under softmax(model(x)), in nats, averaged over the pixels.

    Pixels whose target is 255 are neither learnt nor scored. Of two classes it is binary cross-entropy on the difference of the
    two logits.

    Source: Long, Shelhamer, Darrell 2015, Fully convolutional networks for semantic segmentation.
    """

    metric: ClassVar[str] = "mean_iou"
    maximize: ClassVar[bool] = True

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for the whole model, with the share of the batch's pixels that are right."""
        logits = self._logits(model, batch)
        # A batch may consist of ignored pixels: then there is nothing to learn, and no mean.
        count = (batch.targets != IGNORED).sum().clamp(min=1)
        right = (logits.detach().argmax(1) == batch.targets).sum()
        yield Signal(self._total(logits, batch.targets) / count, log={"pixel_accuracy": right / count})

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Summed cross-entropy, number of pixels, and the confusion matrix of the pixels."""
        return self._sums(self._logits(model, batch), batch.targets)

    def summarise(self, sums: Mapping[str, Tensor], examples: int) -> Mapping[str, float]:
        """Cross-entropy a pixel (nats), share of pixels that are right, and mean intersection over union of the classes."""
        confusion, pixels = sums["confusion"], float(sums["pixels"])
        right = float(confusion.diagonal().sum())
        iou = mean_iou(confusion.round().long())
        return {"loss": float(sums["loss"]) / pixels, "mean_iou": iou, "pixel_accuracy": right / pixels}

    def output_shape(self, data: Dataset) -> tuple[int, ...]:
        """A logit for each class and pixel."""
        return (len(data.classes), *data.shape[1:])

    def _logits(self, model: nn.Module, batch: Batch) -> Float[Tensor, "batch classes height width"]:
        logits = model(batch.inputs).float()
        if logits.ndim != 4 or logits[:, 0].shape != batch.targets.shape:
            got, masks = tuple(logits.shape), tuple(batch.targets.shape)
            raise ShapeError(f"model gives outputs of shape {got}; expected a logit for each class and pixel of masks {masks}")
        return logits

    def _sums(
        self, logits: Float[Tensor, "batch classes height width"], targets: Int[Tensor, "batch height width"]
    ) -> dict[str, Tensor]:
        confusion = confusion_of(logits.argmax(1), targets, logits.shape[1])
        return {"loss": self._total(logits, targets), "pixels": (targets != IGNORED).sum(), "confusion": confusion}

    def _total(self, logits: Float[Tensor, "batch classes height width"], targets: Int[Tensor, "batch height width"]) -> Tensor:
        return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
