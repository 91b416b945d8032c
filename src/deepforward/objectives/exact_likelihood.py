"""Maximum likelihood of an energy-based model whose states can be counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import InvalidModel, TooLarge
from deepforward.objectives.energy_likelihood import mean_log_unnormalised
from deepforward.objectives.objective import Objective, Signal


class ExactLikelihood(Objective):
    """-log p(v) = F(v) + log Z, averaged over the batch, nats an example, with log Z by enumeration of the states.

    Nothing is sampled: the gradient is that of the log-likelihood itself. It takes a model of few units, such as a Boltzmann
    machine of 20, or an RBM with a layer of 20.

    Args:
        binarize: `stochastic`, `threshold` or `none`: how data in [0, 1] become values of the visible units.

    Source: Ackley, Hinton, Sejnowski 1985, A learning algorithm for Boltzmann machines, eq. 5, with exact averages.
    """

    def __init__(self, binarize: str = "stochastic") -> None:
        super().__init__()
        self.binarize = binarize

    def output_shape(self, data: Dataset) -> tuple[int, ...] | None:
        """The model's own number of features."""
        return None

    @torch.no_grad()
    def prepare(self, model: nn.Module, inputs: Tensor, rng: torch.Generator) -> None:
        """Visible biases at the statistics of the data.

        Raises:
            InvalidModel: The model has no energy, or only a bound of the likelihood.
            InvalidData: Values that the visible units cannot take.
            TooLarge: The states are too many to count.
        """
        energy = _countable(model)
        visible = energy.visible(inputs)
        energy.check(visible)
        energy.realise(visible[:1], self.binarize, rng)  # an unknown name is refused here and not in the first step
        energy.prepare(visible)
        try:
            energy.log_partition()
        except TooLarge as error:
            said = str(error).partition(";")[0]
            raise TooLarge(f"{said}; for exact-likelihood expected few enough to count; use contrastive-divergence") from error

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for the whole model."""
        yield Signal(self._losses(model, batch, rng).mean())

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Summed -log p(v), nats."""
        return {"loss": self._losses(model, batch, rng).sum()}

    def _losses(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Float[Tensor, " batch"]:
        """-log p(v) of each example, float64, nats."""
        energy = _countable(model)
        # F(v) and log Z are large and nearly cancel, so that nothing is rounded to the format of autocast.
        with torch.autocast(batch.inputs.device.type, enabled=False):
            visible = energy.realise(energy.visible(batch.inputs), self.binarize, rng)
            return energy.log_partition_tensor() - energy.log_unnormalised(visible, rng).double()

    @torch.no_grad()
    def conclude(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, float]:
        """Exact log Z, and the log-likelihood of each split, nats an example; the names are those of contrastive divergence."""
        energy = _countable(model)
        found = {"log_partition": energy.log_partition()}
        for split, inputs in splits.items():
            unnormalised = mean_log_unnormalised(energy, inputs, self.binarize, rng)
            found[f"{split}/log_likelihood"] = unnormalised - found["log_partition"]
        return found


def _countable(model: nn.Module) -> Any:
    if not hasattr(model, "log_partition_tensor") or getattr(model, "is_bound", False):
        raise InvalidModel(
            f"exact-likelihood got {type(model).__name__}; expected a model whose -F(v) and log Z are exact, for example a "
            "small boltzmann-machine or rbm; use contrastive-divergence"
        )
    return model
