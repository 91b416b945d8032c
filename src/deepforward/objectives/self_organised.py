"""Training signal of a read-out on a network that has organised itself without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepforward.errors import InvalidModel
from deepforward.objectives.supervised import CrossEntropy


class SelfOrganisedReadOut(CrossEntropy):
    """Cross-entropy of a classifier whose lower layers learn once, before the first step, from the examples without labels.

    The model offers `self_organise(inputs, rng)`, which sets its weights that no gradient moves.

    Args:
        label_smoothing: See `CrossEntropy`.
    """

    def prepare(self, model: nn.Module, inputs: Tensor, rng: torch.Generator) -> None:
        """Let the model organise itself by training examples; a run that is resumed then takes its weights from the checkpoint.

        Raises:
            InvalidModel: The model does not organise itself.
        """
        organise = getattr(model, "self_organise", None)
        if not callable(organise):
            raise InvalidModel(
                f"self-organised read-out got {type(model).__name__}; expected a model that organises itself, for example "
                "neocognitron"
            )
        organise(inputs, rng)
