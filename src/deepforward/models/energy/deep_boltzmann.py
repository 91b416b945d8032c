"""Deep Boltzmann machines: undirected layers, each connected to its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.layers.sampling import bernoulli, draw_key
from deepforward.models.energy import layered_enumeration
from deepforward.models.energy.bernoulli import entropy
from deepforward.models.energy.copies import CopiedRBM
from deepforward.models.energy.energy_model import Connection, EnergyModel, State
from deepforward.models.energy.greedy import greedy_stages
from deepforward.models.energy.layered_mean_field import LayeredMeanField, mean_field
from deepforward.models.energy.neighbours import by_layer, even_layers, odd_layers, received
from deepforward.models.energy.products import fire, moment_gradients, product_dtype
from deepforward.models.energy.stack import layer_sizes
from deepforward.models.energy.units import BinaryUnits

_HIDDEN = (500, 1000)
#: Sweeps and tolerance of the mean field that `log_unnormalised` is computed from; training may stop earlier.
_BOUND_SWEEPS, _BOUND_TOLERANCE = 100, 1e-5


class DeepBoltzmannMachine(EnergyModel):
    """A deep Boltzmann machine: E(v, h1, ..., hL) = -v·W1 h1 - h1·W2 h2 - ... - b·v - c1·h1 - ..., all units binary.

    Even layers (v, h2, ...) are independent of each other given the odd ones (h1, h3, ...), and the other way round, so that
    Gibbs sampling alternates between the two sides. The posterior has no closed form; a mean field approximates it, and gives a
    lower bound of log p(v). Products of a training step under autocast are rounded to bf16.

    The tempered model of inverse temperature beta has its weights multiplied by beta, and biases beta b + (1 - beta) base.

    Args:
        input_shape: Shape of one example, values in [0, 1]; flattened.
        hidden: Units of each hidden layer from the lowest up, at least two layers.
        mean_field_steps: Most sweeps of the mean field in training.
        mean_field_tolerance: Change of a mean at which it stops before.
        weight_scale: Standard deviation of the first weights.

    Raises:
        InvalidOption: Fewer than two hidden layers, or a number out of range.

    Source:
        Salakhutdinov and Hinton 2009, Deep Boltzmann machines, AISTATS.
    """

    can_be_centred, is_bound = True, True
    greedy_layer: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        hidden: Sequence[int] = _HIDDEN,
        mean_field_steps: int = 5,
        mean_field_tolerance: float = 1e-3,
        weight_scale: float = 0.01,
    ) -> None:
        super().__init__()
        if mean_field_steps < 1 or not mean_field_tolerance >= 0 or not weight_scale >= 0:
            raise InvalidOption(
                f"deep Boltzmann machine got mean_field_steps={mean_field_steps}, mean_field_tolerance={mean_field_tolerance}, "
                f"weight_scale={weight_scale}; expected at least 1, 0 and 0"
            )
        self.input_shape = tuple(input_shape)
        self.mean_field_steps, self.mean_field_tolerance = mean_field_steps, mean_field_tolerance
        sizes = (math.prod(input_shape), *layer_sizes("deep Boltzmann machine", hidden, least=2))
        self.layers = nn.ModuleList(BinaryUnits(size) for size in sizes)
        self.weights = nn.ParameterList(torch.randn(below, above) * weight_scale for below, above in pairwise(sizes))
        self.connections = tuple(
            Connection(f"weights.{k}", f"layers.{k}.bias", f"layers.{k + 1}.bias") for k in range(len(sizes) - 1)
        )
        # Of greedy training: the layer that is trained, -1 if none, and what biases the layers below had as seen from below.
        self.register_buffer("greedy_layer", torch.tensor(-1))
        for k in range(1, len(sizes) - 1):
            self.register_buffer(f"from_below{k}", torch.zeros(sizes[k]))

    @property
    def bf16_products(self) -> bool:
        """Zeros and ones are exact in bf16."""
        return True

    # Greedy training.

    @property
    def stack(self) -> list[CopiedRBM]:
        """The machines by which the layers are trained one after another, on the parameters of this one.

        What a unit of an inner layer will receive from two sides, it here receives from one, twice: a layer is copied in the
        machine whose other layer has one more neighbour. So the weights of each machine are right in the whole.
        """
        units, last = self._units, len(self.weights) - 1
        machines = [
            CopiedRBM(weight, units[k], units[k + 1], (2 if k < last else 1, 2 if k > 0 else 1))
            for k, weight in enumerate(self.weights)
        ]
        for k, machine in enumerate(machines[: max(int(self.greedy_layer), 0)]):
            machine.hidden_units.bias = nn.Parameter(self.get_buffer(f"from_below{k + 1}"), requires_grad=False)
        return machines

    @torch.no_grad()
    def begin_layer(self, layer: int) -> None:
        """Make ready for the greedy training of a machine of `stack`.

        An inner layer has two biases then: as hidden units of the machine below, which stays as it is from now on, and as
        visible units of this one.
        """
        if layer > 0 and int(self.greedy_layer) != layer:
            self.get_buffer(f"from_below{layer}").copy_(self._units[layer].bias)
        self.greedy_layer.fill_(layer)

    @torch.no_grad()
    def compose(self) -> None:
        """End greedy training: the bias of an inner layer becomes the mean of its two.

        Its log-odds given both neighbours are then the mean of what the two machines say, each of which took the part of its
        own neighbour for both.
        """
        for k in range(1, min(int(self.greedy_layer) + 1, len(self.weights))):
            self._units[k].bias.lerp_(self.get_buffer(f"from_below{k}"), 0.5)
        self.greedy_layer.fill_(-1)

    # Data.

    @property
    def data_units(self) -> BinaryUnits:
        """The lowest layer."""
        return self._units[0]

    @torch.no_grad()
    def prepare(self, visible: Float[Tensor, "batch units"]) -> None:
        """Base and, unless they were learnt before, visible biases at the statistics of the data; greedy training ends here."""
        self.compose()
        self._units[0].fit_base(visible)
        if not self._units[0].bias.any():
            self._units[0].bias.copy_(self._units[0].base)

    # The posterior.

    def mean_field(
        self, visible: Float[Tensor, "batch units"], steps: int | None = None, tolerance: float | None = None
    ) -> LayeredMeanField:
        """Means of independent hidden units that fit the posterior of all layers best (see `layered_mean_field`).

        Args:
            visible: Data.
            steps: Most sweeps; default: those of the model.
            tolerance: Change at which to stop; default: that of the model.
        """
        steps = self.mean_field_steps if steps is None else steps
        tolerance = self.mean_field_tolerance if tolerance is None else tolerance
        return mean_field(visible, self._units, self._weights(visible), steps, tolerance)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch hidden"]:
        """Mean field of the top hidden layer given the examples: the features."""
        return self.mean_field(self.visible(inputs)).state[-1].to(inputs.dtype)

    @torch.no_grad()
    def clamp(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Data, and the mean field of the hidden units given them."""
        return self.mean_field(visible).state

    @torch.no_grad()
    def begin_at(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Data, and hidden units drawn from the mean field given them."""
        return self.observe(visible, rng)[1]

    @torch.no_grad()
    def observe(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> tuple[State, State]:
        """The mean field, and chains drawn from it."""
        data = self.mean_field(visible).state
        return data, (data[0], *(bernoulli(means, draw_key(rng)) for means in data[1:]))

    # Chains.

    def energy(self, state: State) -> Float[Tensor, " rows"]:
        """E(v, h1, ..., hL), nats."""
        own = sum((units.energy(values) for units, values in zip(self._units, state, strict=True)), state[0].new_zeros(()))
        pairs = zip(self.weights, pairwise(state), strict=True)
        return own - sum(((below @ weight * above).sum(1) for weight, (below, above) in pairs), state[0].new_zeros(()))

    @torch.no_grad()
    def start(self, count: int, rng: torch.Generator) -> State:
        """Chains of independent units."""
        return tuple(units.sample(units.base.new_zeros(count, units.size), rng, 0.0) for units in self._units)

    @torch.no_grad()
    def advance(self, state: State, rng: torch.Generator, steps: int = 1, beta: float | Tensor = 1.0) -> State:
        """Odd layers given the even ones, then even ones given these, `steps` times."""
        weights = list(self.weights)
        values = [layer.to(weights[0].dtype) for layer in state]
        for _ in range(steps):
            for k in (*self._odd, *self._even):
                values[k] = self._units[k].sample(beta * received(values, k, weights), rng, beta)
        return tuple(values)

    @torch.no_grad()
    def expected(self, state: State) -> State:
        """Odd layers as they are, even ones at their means given these."""
        weights = list(self.weights)
        even = {k: self._units[k].mean(received(state, k, weights)) for k in self._even}
        return tuple(even.get(k, values) for k, values in enumerate(state))

    @torch.no_grad()
    def dream(self, state: State, rng: torch.Generator, steps: int = 1) -> tuple[State, State]:
        """(`expected`, drawn) states of the chains `steps` sweeps later; a product is taken once for both."""
        weights = self._weights(state[0])
        values = [layer.to(weights[0].dtype) for layer in state]
        expected = list(values)
        for step in range(steps):
            for k in (*self._odd, *self._even):
                is_last = step + 1 == steps and k % 2 == 0
                inputs = received(values, k, weights)
                values[k], expected[k] = fire(inputs, self._units[k].bias, rng, means=is_last)
        return tuple(expected), tuple(values)

    @torch.no_grad()
    def mean_visible(self, state: State) -> Float[Tensor, "rows units"]:
        """Means of the visible units given the first hidden layer."""
        return self._units[0].mean(state[1].to(self.weights[0].dtype) @ self.weights[0].t())

    @torch.no_grad()
    def gap_gradients(self, data: State, chains: State, offsets: State | None = None) -> dict[str, Tensor]:
        """Gradient of `gap`: moments of neighbouring layers over the chains minus those over the data, centred if asked."""
        return moment_gradients(self.connections, data, chains, offsets)

    # Likelihood.

    def log_unnormalised(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> Float[Tensor, " batch"]:
        """A lower bound of log p(v) + log Z, by the mean field, nats: -E of the means plus their entropy."""
        return self.bound(self.mean_field(visible, _BOUND_SWEEPS, _BOUND_TOLERANCE).state)

    def bound(self, state: State) -> Float[Tensor, " batch"]:
        """The bound of log p(v) + log Z that means of independent hidden units give, nats.

        Args:
            state: Data, and means in [0, 1] of all hidden layers.
        """
        return entropy(torch.cat(state[1:], 1)) - self.energy(state)

    @torch.no_grad()
    def exact_log_probability(self, visible: Float[Tensor, "batch units"]) -> Float[Tensor, " batch"]:
        """Log p(v), by enumeration of the odd layers, nats.

        Raises:
            TooLarge: There are too many states.
        """
        return layered_enumeration.log_unnormalised(visible, self._units, list(self.weights)) - self.log_partition()

    @torch.no_grad()
    def log_partition(self) -> float:
        """Log Z by enumeration of the odd or the even layers, whichever have fewer units, nats.

        Raises:
            TooLarge: They have too many.
        """
        return layered_enumeration.log_partition(self._units, list(self.weights))

    # Annealed importance sampling moves the odd layers, side by side in one tensor; the even ones are summed out.

    @torch.no_grad()
    def annealing_start(self, count: int, rng: torch.Generator) -> Float[Tensor, "count odd"]:
        """Odd layers of `count` chains at beta = 0."""
        return torch.cat(self.start(count, rng)[1::2], 1)

    @torch.no_grad()
    def log_base_partition(self) -> Tensor:
        """Log Z at beta = 0, nats."""
        logs = [units.log_normalizer(units.base.new_zeros(1, units.size), 0.0)[0].double() for units in self._units]
        return torch.stack(logs).sum()

    @torch.no_grad()
    def anneal(self, values: Tensor, low: float, high: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(log p*_high - log p*_low of the odd layers, a draw from a transition that leaves p_high invariant), p* unnormalised.

        Args:
            values: Present odd layers (chains, units).
            low: Inverse temperature that they were drawn at.
            high: The next one.
            rng: Draws.
        """
        weights, layers = list(self.weights), self._split(values, self._odd)
        ratio = values.new_zeros(len(values), dtype=torch.float64)
        for k in self._odd:
            slope = (high - low) * (self._units[k].bias - self._units[k].base)
            ratio += (layers[k] * slope).sum(1, dtype=torch.float64)
        for k in self._even:
            inputs, units = received(layers, k, weights), self._units[k]
            ratio += units.log_normalizer(high * inputs, high).double() - units.log_normalizer(low * inputs, low).double()
            layers[k] = units.sample(high * inputs, rng, high)
        drawn = [self._units[k].sample(high * received(layers, k, weights), rng, high) for k in self._odd]
        return ratio, torch.cat(drawn, 1)

    # What the methods above share.

    @property
    def _units(self) -> list[BinaryUnits]:
        return list(self.layers)  # type: ignore[arg-type]

    @property
    def _even(self) -> range:
        return even_layers(self._units)

    @property
    def _odd(self) -> range:
        return odd_layers(self._units)

    def _weights(self, like: Tensor) -> list[Tensor]:
        """Weights in the format of the products of a training step."""
        if torch.is_grad_enabled():
            return list(self.weights)
        return [weight.detach().to(product_dtype(like)) for weight in self.weights]

    def _split(self, values: Tensor, side: Sequence[int]) -> dict[int, Tensor]:
        return by_layer(values, self._units, side)


def pretraining(recipe: Any) -> tuple[dict[str, Any], ...]:
    """Nothing where joint training is centred; else greedy training of one layer after another, with copies of inner ones.

    A machine of many layers that learns from small weights in raw coordinates ends with dead upper layers, for which
    Salakhutdinov and Hinton begin it with the weights of greedy stages. Centred, it does not, and goes further without them: on
    MNIST the bound after 3 epochs was -94 nats without and -107 at best with them.

    Args:
        recipe: A complete recipe of a deep Boltzmann machine.

    Raises:
        InvalidOption: `hidden` is not two or more sizes of layers.

    Source:
        Montavon and Müller 2012, Deep Boltzmann machines and the centering trick; Salakhutdinov and Hinton 2009, Deep Boltzmann
        machines, AISTATS.
    """
    layers = len(layer_sizes("deep Boltzmann machine", recipe.model_options.get("hidden", _HIDDEN), least=2))
    if recipe.objective_options.get("centre", True):
        return ()
    return greedy_stages(layers, epochs=recipe.epochs, binarize=recipe.objective_options.get("binarize", "stochastic"))
