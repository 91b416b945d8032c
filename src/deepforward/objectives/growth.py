"""Growing a network by what it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.data.dataset import Batch
from deepforward.errors import InvalidModel
from deepforward.objectives.objective import Objective, Signal
from deepforward.objectives.supervised import hits


class Growth(Objective):
    """Each batch is judged by what others have taught, and then learnt: the network grows.

    The gradient only tells how sure the network may be: cross-entropy of the logits that the nodes give which were not grown
    for the very image (those respond with exactly 1), in nats, averaged over the batch. A first pass over the data grows; a
    second one repairs what later images have upset, and grows nothing where nothing was.

    Source: Weng, Ahuja, Huang 1997, Learning recognition and segmentation using the Cresceptron, IJCV 25.
    """

    metric: ClassVar[str] = "accuracy"
    maximize: ClassVar[bool] = True

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal, after which the batch is learnt.

        Raises:
            InvalidModel: The model does not grow.
        """
        network = _growing(model)
        responses = network.responses(batch.inputs).flatten(2).amax(2)
        logits = network.logits(responses.masked_fill(responses >= 1, 0))
        share = hits(logits.detach(), batch.targets) / len(batch.targets)
        yield Signal(F.cross_entropy(logits, batch.targets), log={"accuracy": share})
        network.learn(batch.inputs, batch.targets)

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Summed cross-entropy (nats) and number of images recognised as what they are."""
        logits = model(batch.inputs).float()
        return {"loss": F.cross_entropy(logits, batch.targets, reduction="sum"), "accuracy": hits(logits, batch.targets)}

    def observe(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, float]:
        """Planes of each level, and nodes of the top."""
        *planes, nodes = _growing(model).planes
        return {f"planes/level{n}": float(count) for n, count in enumerate(planes, 1)} | {"planes/top": float(nodes)}


def _growing(model: nn.Module) -> Any:
    """The model, if it has what growing needs.

    Raises:
        InvalidModel: It has not.
    """
    if not all(hasattr(model, name) for name in ("learn", "responses", "logits", "planes")):
        raise InvalidModel(f"objective 'growth' got a {type(model).__name__}, which does not grow; use the model cresceptron")
    return model
