"""Fine-tuning of deep belief networks: recognition trains generation, and generation recognition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import InvalidModel
from deepforward.objectives import energy_portrait
from deepforward.objectives.energy import idle_shares
from deepforward.objectives.energy_likelihood import log_likelihoods
from deepforward.objectives.objective import Objective, Signal, expect_whole_numbers
from deepforward.objectives.surrogate import follow

#: Examples that are remembered to watch a run by.
_REFERENCE = 500


class UpDown(Objective):
    """The up-down algorithm, a contrastive form of wake-sleep.

    Wake: recognition draws h1, ..., h(L-1) from the data, and the generative weights follow the gradient of
    -log p(v | h1) - ... - log p(h(L-2) | h(L-1)). The top machine follows contrastive divergence from there. Sleep: the last
    states of its chains are passed down to a dream, and the recognition weights follow the gradient of -log q(h(k+1) | h(k))
    on it. The value of the loss means nothing.

    Args:
        steps: Gibbs sweeps of the top machine (3 to 10 in the source).
        binarize: `stochastic`, `threshold` or `none`: how data in [0, 1] become values of the visible units. With `none` the
            visible units of a dream stay at their means, too, as in the source.
        ais_chains: Chains of annealed importance sampling at the end of a run; 0 leaves the bound of the likelihood out.
        ais_temperatures: Temperatures of it.

    Raises:
        InvalidOption: A number out of range.

    Source: Hinton, Osindero, Teh 2006, A fast learning algorithm for deep belief nets, Neural Computation 18, appendix B.
    """

    descends: ClassVar[bool] = False
    metric: ClassVar[str] = "log_likelihood_bound"
    maximize: ClassVar[bool] = True
    reference: Tensor

    def __init__(
        self, steps: int = 3, binarize: str = "stochastic", *, ais_chains: int = 100, ais_temperatures: int = 5000
    ) -> None:
        super().__init__()
        expect_whole_numbers("up-down", 1, steps=steps)
        expect_whole_numbers("up-down", 0, ais_chains=ais_chains)
        expect_whole_numbers("up-down", 2, ais_temperatures=ais_temperatures)
        self.steps, self.binarize = steps, binarize
        self.ais_chains, self.ais_temperatures = ais_chains, ais_temperatures
        self.register_buffer("reference", torch.zeros(0))

    def output_shape(self, data: Dataset) -> tuple[int, ...] | None:
        """The model's own number of features."""
        return None

    @torch.no_grad()
    def prepare(self, model: nn.Module, inputs: Tensor, rng: torch.Generator) -> None:
        """Biases at the statistics of the data, and recognition weights of their own.

        Raises:
            InvalidModel: The model has no recognition weights.
            InvalidData: Values that the visible units cannot take.
        """
        network = _network(model)
        visible = network.visible(inputs)
        network.check(visible)
        network.prepare(visible)
        network.untie()
        self.reference = network.realise(visible[:_REFERENCE], self.binarize, rng)

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for generative weights, recognition weights and top machine together."""
        network = _network(model)
        wake = network.recognise(network.realise(network.visible(batch.inputs), self.binarize, rng), rng)
        with network.top.fixed():
            data, begun = network.top.observe(wake[-1], rng)
            dreamt, drawn = network.top.dream(begun, rng, self.steps)
        sleep = network.generate(drawn[0], rng, means=self.binarize == "none")
        gradients = {
            **network.wake_gradients(wake),
            **network.top_gradients(data, dreamt),
            **network.sleep_gradients(sleep),
        }
        yield Signal(follow(model, gradients))

    @torch.no_grad()
    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Sum of the squared error, a visible unit, of the means given the means of the first hidden layer."""
        network = _network(model)
        with torch.autocast(batch.inputs.device.type, enabled=False):
            visible = network.realise(network.visible(batch.inputs), self.binarize, rng)
            error = network.mean_visible(network.clamp(visible, rng)) - visible
        return {"reconstruction": error.square().mean(1).sum()}

    @torch.no_grad()
    def observe(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, float]:
        """Shares of the top hidden units that are dead (mean below 0.01) or always on (above 0.99) over training examples."""
        return idle_shares(_network(model).clamp(self.reference, rng)[-1].mean(0))

    def conclude(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, float]:
        """Lower bound of the log-likelihood of each split, nats an example, with log Z of the top machine."""
        chains, temperatures = self.ais_chains, self.ais_temperatures
        return log_likelihoods(_network(model), splits, self.binarize, rng, chains=chains, temperatures=temperatures)

    def snapshot(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, Tensor]:
        """`samples`: means of the visible units of 40 dreams."""
        return {"samples": energy_portrait.dreams(_network(model), (), rng)}

    def portrait(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, Tensor]:
        """Samples, chains, reconstructions, hidden units and weights (`energy_portrait.portrait`)."""
        return dict(energy_portrait.portrait(_network(model), splits, self.binarize, rng))


def _network(model: nn.Module) -> Any:
    if not hasattr(model, "wake_gradients"):
        raise InvalidModel(
            f"up-down got {type(model).__name__}; expected a model that recognises and generates, such as deep-belief-network"
        )
    return model
