"""The training signal of telling ink from paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from deepforward.data.checks import IGNORED
from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import InvalidOption
from deepforward.metrics.binarization import drd, f_measure, psnr
from deepforward.objectives.dense import PixelCrossEntropy

_MEASURES = {"f_measure": f_measure, "psnr": psnr, "drd": drd}


class Binarization(PixelCrossEntropy):
    """Cross-entropy of each pixel, scored by the measures of the DIBCO contests: the mean over pages of each page's own.

    The second class is ink. Pixels whose target is 255 are taken for paper that was found.
    """

    metric: ClassVar[str] = "f_measure"

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """What `PixelCrossEntropy` sums, and the F-measure (percent), PSNR (dB) and DRD of each page, summed."""
        logits = self._logits(model, batch)
        return {**self._sums(logits, batch.targets), **self._measures(logits, batch.targets)}

    def summarise(self, sums: Mapping[str, Tensor], examples: int) -> Mapping[str, float]:
        """Cross-entropy a pixel (nats), the measures averaged over the pages, and those of `PixelCrossEntropy`."""
        of_pages = {name: float(sums[name]) / examples for name in _MEASURES}
        of_pixels = super().summarise(sums, examples)
        return {"loss": of_pixels["loss"], **of_pages, **of_pixels}

    def output_shape(self, data: Dataset) -> tuple[int, ...]:
        """A logit for paper and one for ink at each pixel.

        Raises:
            InvalidOption: The data have another number of classes.
        """
        if len(data.classes) != 2:
            raise InvalidOption(
                f"objective 'binarization' tells ink from paper, but {data.name} has {len(data.classes)} classes; "
                "use pixel-cross-entropy"
            )
        return super().output_shape(data)

    def _measures(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        known = targets != IGNORED
        found, truth = ((ink & known).cpu() for ink in (logits.argmax(1) == 1, targets == 1))
        return {
            name: torch.tensor([measure(*pages) for pages in zip(found, truth, strict=True)], dtype=torch.float64).sum()
            for name, measure in _MEASURES.items()
        }
