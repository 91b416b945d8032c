"""What the dilated convolutions of a model touch of what they are fed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from deepforward.instruments.examination import Examination
from deepforward.instruments.left_as_found import left_as_found
from deepforward.layers.dilated_stages import DilatedStage, differentiable, dilated_stages


class DilationCoverage(Examination[tuple[DilatedStage, ...]]):
    """Share of the receptive field that each stage of dilated convolutions touches, exactly, from the graph of one pass.

    A model without dilated convolutions, or whose graph does not show (checkpointed, compiled), has no stages.

    Source:
        Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell 2018, Understanding convolution for semantic segmentation, section 3.2.
    """

    def _measure(
        self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]
    ) -> tuple[DilatedStage, ...]:
        """Measure on the first batch."""
        with left_as_found(model), differentiable(model):
            return dilated_stages(loss(model, batches[0]), model)
