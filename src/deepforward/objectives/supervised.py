"""Training signals of supervised learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import ShapeError
from deepforward.objectives.objective import Objective, Signal


class CrossEntropy(Objective):
    """Negative log-likelihood of the right class under softmax(model(x)), in nats, averaged over the batch.

    Args:
        label_smoothing: Share of the target mass spread evenly over all classes, in [0, 1) (Szegedy et al. 2016).
    """

    metric: ClassVar[str] = "accuracy"
    maximize: ClassVar[bool] = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for the whole model, with the batch's accuracy."""
        logits = model(batch.inputs)
        loss = F.cross_entropy(logits.float(), batch.targets, label_smoothing=self.label_smoothing)
        yield Signal(loss, log={"accuracy": hits(logits.detach(), batch.targets) / len(batch.targets)})

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Summed cross-entropy (nats, without smoothing) and number of examples classified right."""
        logits = model(batch.inputs).float()
        loss = F.cross_entropy(logits, batch.targets, reduction="sum")
        return {"loss": loss, "accuracy": hits(logits, batch.targets)}


class SquaredErrorOneHot(Objective):
    """Mean over the batch and the outputs of (model(x) - t)^2, t being `high` for the right class and `low` for the others.

    Source: LeCun et al. 1989 (targets -1 and +1 on tanh outputs).
    """

    metric: ClassVar[str] = "accuracy"
    maximize: ClassVar[bool] = True

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def errors(self, outputs: Float[Tensor, "batch classes"], targets: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Squared error of each example, averaged over its outputs."""
        wanted = torch.full_like(outputs, self.low).scatter_(1, targets[:, None], self.high)
        return (outputs - wanted).square().mean(1)

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for the whole model, with the batch's accuracy."""
        outputs = model(batch.inputs).float()
        accuracy = hits(outputs.detach(), batch.targets) / len(batch.targets)
        yield Signal(self.errors(outputs, batch.targets).mean(), log={"accuracy": accuracy})

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Summed squared error and number of examples whose largest output is the right class."""
        outputs = model(batch.inputs).float()
        return {"loss": self.errors(outputs, batch.targets).sum(), "accuracy": hits(outputs, batch.targets)}


class SquaredError(Objective):
    """Mean over the batch, and over the pixels of an image, of (model(x) - t)^2: regression to one value or to an image."""

    def errors(self, outputs: Float[Tensor, "batch ..."], targets: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
        """Squared error of each example."""
        wanted = targets[:, None] if targets.ndim == 1 else targets
        if outputs.shape != wanted.shape:
            got, expected = tuple(outputs.shape), tuple(wanted.shape)
            raise ShapeError(f"model gives outputs of shape {got}; regression expects {expected}")
        return (outputs - wanted.to(outputs.dtype)).square().flatten(1).mean(1)

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for the whole model."""
        yield Signal(self.errors(model(batch.inputs).float(), batch.targets).mean())

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Summed squared error."""
        return {"loss": self.errors(model(batch.inputs).float(), batch.targets).sum()}

    def output_shape(self, data: Dataset) -> tuple[int, ...]:
        """One value, or an image as the targets are."""
        return tuple(data.train.targets.shape[1:]) or (1,)


def hits(outputs: Float[Tensor, "batch classes"], targets: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Number of examples whose largest output is the target class; an output that is not finite is a miss."""
    right = (outputs.argmax(1) == targets) & outputs.isfinite().all(1)
    return right.sum().float()
