"""Deep belief networks: directed sigmoid layers below a restricted Boltzmann machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.layers.sampling import bernoulli, draw_key
from deepforward.models.energy.bernoulli import entropy_given, log_probability, log_probability_of_all
from deepforward.models.energy.energy_model import State
from deepforward.models.energy.enumeration import all_states
from deepforward.models.energy.greedy import greedy_stages
from deepforward.models.energy.products import fire, mean, moment, product, product_dtype, sigmoid
from deepforward.models.energy.rbm import RBM
from deepforward.models.energy.recognition import Recognition
from deepforward.models.energy.stack import layer_sizes, machines

_HIDDEN = (500, 500)
#: Options of fine-tuning that its stages have, too.
_SHARED = ("binarize", "ais_chains", "ais_temperatures")
#: Hidden units between data and top machine up to which the bound is summed over all their states.
_ENUMERATED = 10


class DeepBeliefNetwork(nn.Module):
    """A deep belief network: p(v, h1, ..., hL) = p(v | h1) ... p(h(L-2) | h(L-1)) p_top(h(L-1), hL).

    The top two layers are a restricted Boltzmann machine; below it p(h(k)_i = 1 | h(k+1)) = sigmoid(b_i + (W h(k+1))_i).
    Inference is by a factorial pass of recognition upwards, q(h(k+1)_j = 1 | h(k)) = sigmoid(r_j + (h(k) R)_j). Greedy training
    makes each layer a machine of its own (`stack`), with R = W and r its hidden biases; fine-tuning gives recognition weights
    of their own (`untie`).

    Args:
        input_shape: Shape of one example, values in [0, 1]; flattened.
        hidden: Units of each hidden layer from the lowest up.
        weight_scale: Standard deviation of the first weights.
        bound_samples: Passes of recognition that `log_unnormalised` averages for each example.

    Raises:
        InvalidOption: No hidden layer, or a number out of range.

    Source:
        Hinton, Osindero, Teh 2006, A fast learning algorithm for deep belief nets, Neural Computation 18; the bound and its
        estimate: Salakhutdinov and Murray 2008, On the quantitative analysis of deep belief networks.
    """

    is_bound = True
    tied: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        hidden: Sequence[int] = _HIDDEN,
        weight_scale: float = 0.01,
        bound_samples: int = 10,
    ) -> None:
        super().__init__()
        if bound_samples < 1:
            raise InvalidOption(f"deep belief network got bound_samples={bound_samples}; expected at least 1")
        self.input_shape = tuple(input_shape)
        self.bound_samples = bound_samples
        self.stack = machines("deep belief network", input_shape, hidden, weight_scale)
        self.recognition = nn.ModuleList(Recognition(machine) for machine in self.lower)
        self.register_buffer("tied", torch.tensor(True))

    @property
    def top(self) -> RBM:
        """The restricted Boltzmann machine at the top."""
        return self._machines[-1]

    @property
    def lower(self) -> list[RBM]:
        """The machines below it, whose weights are those of the directed layers."""
        return self._machines[:-1]

    @property
    def bf16_products(self) -> bool:
        """Zeros and ones are exact in bf16."""
        return True

    # Data.

    def visible(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch units"]:
        """Examples flattened to visible units."""
        return self._bottom.visible(inputs)

    def check(self, visible: Float[Tensor, "batch units"], what: str = "data") -> None:
        """Refuse values outside [0, 1]."""
        self._bottom.check(visible, what)

    def realise(self, visible: Float[Tensor, "batch units"], how: str, rng: torch.Generator) -> Float[Tensor, "batch units"]:
        """Data made into zeros and ones (see `Units.realised`)."""
        return self._bottom.realise(visible, how, rng)

    def per_unit(self, state: State) -> State:
        """The state itself: all values are those of single units."""
        return state

    @torch.no_grad()
    def prepare(self, visible: Float[Tensor, "batch units"]) -> None:
        """Biases of the visible units, unless learnt before, and the tempering base of each layer at its statistics."""
        self._bottom.prepare(visible)
        for machine, above in pairwise(self._machines):
            visible = machine.activity(visible)
            above.visible_units.fit_base(visible)

    # Recognition and generation.

    def begin_layer(self, layer: int) -> None:
        """Make ready for the greedy training of a machine of `stack`: recognition follows what is trained."""
        self.tie()

    def tie(self) -> None:
        """Make the recognition weights those of the stack again."""
        self.tied.fill_(True)

    def untie(self) -> None:
        """Give recognition weights of its own to each directed layer, which begin as those of the stack; once."""
        if self.tied:
            for machine, recognition in zip(self.lower, self.recognition, strict=True):
                cast(Recognition, recognition).copy_from(machine)
            self.tied.fill_(False)

    def mirror(self, layer: int) -> None:
        """Make a layer the one below it upside down, W = W(below)' with its biases exchanged: the bound stays as it was.

        Raises:
            InvalidOption: It has not the same sizes upside down.
        """
        if not 0 < layer < len(self.stack):
            raise InvalidOption(f"mirror got layer {layer}; expected 1 to {len(self.stack) - 1}")
        below, above = self._machines[layer - 1], self._machines[layer]
        if below.weight.t().shape != above.weight.shape:
            raise InvalidOption(
                f"layer {layer} has weights {tuple(above.weight.shape)}; expected those of layer {layer - 1} upside down, "
                f"{tuple(below.weight.t().shape)}; choose hidden sizes that repeat"
            )
        with torch.no_grad():
            above.weight.copy_(below.weight.t())
            above.visible_units.bias.copy_(below.hidden_units.bias)
            above.hidden_units.bias.copy_(below.visible_units.bias)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch hidden"]:
        """Means of the top hidden units given the examples: the features."""
        return self.up(self.visible(inputs))

    def up(self, visible: Float[Tensor, "rows visible"]) -> Float[Tensor, "rows hidden"]:
        """Means of the top hidden units, each layer given the means of the one below."""
        return self._means(visible)[-1]

    @torch.no_grad()
    def clamp(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Data, and the means of all hidden layers, each given the means of the one below."""
        return self._means(visible)

    @torch.no_grad()
    def recognise(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Draws (v, h1, ..., h(L-1)) of recognition, from data up to the visible units of the top machine."""
        state = [visible.to(product_dtype(visible))]
        for number in range(len(self.lower)):
            weight, bias = self._recognition(number)
            state.append(fire(product(state[-1], weight.detach().to(state[-1].dtype)), bias, rng)[0])
        return tuple(state)

    @torch.no_grad()
    def generate(self, values: Float[Tensor, "rows units"], rng: torch.Generator, means: bool = False) -> State:
        """Draws (v, h1, ..., h(L-1)) of one ancestral pass down from visible units of the top machine.

        Args:
            values: Visible units of the top machine, h(L-1).
            rng: Draws.
            means: Leave the visible units of the network, v, at their means.
        """
        state = [values.to(product_dtype(values))]
        for number, machine in reversed(list(enumerate(self.lower))):
            inputs = product(state[0], machine.weight.detach().t().to(state[0].dtype))
            bias = machine.visible_units.bias
            state.insert(0, sigmoid(inputs, bias) if means and number == 0 else fire(inputs, bias, rng)[0])
        return tuple(state)

    # Sampling, as of any energy-based model: a state is (v, h1, ..., hL).

    @torch.no_grad()
    def start(self, count: int, rng: torch.Generator) -> State:
        """`count` chains of independent units at the top, and a pass down from them."""
        return self._descended(self.top.start(count, rng), rng)

    @torch.no_grad()
    def advance(self, state: State, rng: torch.Generator, steps: int = 1) -> State:
        """`steps` sweeps of Gibbs sampling in the top machine, then one pass down."""
        return self._descended(self.top.advance((state[-2], state[-1]), rng, steps), rng)

    @torch.no_grad()
    def mean_visible(self, state: State) -> Float[Tensor, "rows units"]:
        """Means of the visible units given the first hidden layer."""
        return self._bottom.visible_units.mean(self._bottom.down(state[1].to(self._bottom.weight.dtype)))

    def sample(self, count: int, rng: torch.Generator, steps: int = 1000) -> Float[Tensor, "count units"]:
        """`count` draws of the visible units after `steps` sweeps in the top machine."""
        return self.advance(self.start(count, rng), rng, steps)[0]

    # Likelihood; log Z is that of the top machine, since directed layers are normalised.

    def log_unnormalised(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> Float[Tensor, " batch"]:
        """An unbiased estimate of a lower bound of log p(v) + log Z, nats.

        E_q[log p(v | h1) + ... + log p*_top(h(L-1))] + entropy of q. Where at most 10 units lie between data and top machine,
        it is the bound itself.
        """
        if sum(machine.hidden_units.size for machine in self.lower) <= _ENUMERATED:
            return self.exact_bound(visible)
        values = visible.repeat(self.bound_samples, 1)
        bound = visible.new_zeros(len(values))
        for number, machine in enumerate(self.lower):
            weight, bias = self._recognition(number)
            inputs = values @ weight + bias
            above = bernoulli(inputs.sigmoid(), draw_key(rng))
            bound = bound + entropy_given(inputs) + log_probability(values, machine.down(above) + machine.visible_units.bias)
            values = above
        bound = bound - self.top.free_energy(values)
        return bound.reshape(self.bound_samples, -1).mean(0)

    def exact_bound(self, visible: Float[Tensor, "batch units"]) -> Float[Tensor, " batch"]:
        """The bound of log p(v) + log Z, summed over all states of the units between data and top machine, nats.

        Raises:
            TooLarge: There are too many of them.
        """
        if not self.lower:
            return -self.top.free_energy(visible)
        parts = [(q.exp() * (p - q)).sum(1) for p, q in self._enumerated(visible)]
        return torch.stack(parts).sum(0)

    @torch.no_grad()
    def exact_log_probability(self, visible: Float[Tensor, "batch units"]) -> Float[Tensor, " batch"]:
        """Log p(v), by enumeration, nats.

        Raises:
            TooLarge: There are too many states.
        """
        if not self.lower:
            return -self.top.free_energy(visible) - self.top.log_partition()
        parts = [p.double().logsumexp(1) for p, _ in self._enumerated(visible)]
        return torch.stack(parts).logsumexp(0) - self.top.log_partition()

    def log_partition(self) -> float:
        """Log Z of the top machine by enumeration, nats.

        Raises:
            TooLarge: There are too many states.
        """
        return self.top.log_partition()

    def annealing_start(self, count: int, rng: torch.Generator) -> Tensor:
        """Visible units of the top machine for `count` chains at beta = 0."""
        return self.top.annealing_start(count, rng)

    def log_base_partition(self) -> Tensor:
        """Log Z of the top machine at beta = 0, nats."""
        return self.top.log_base_partition()

    def anneal(self, values: Tensor, low: float, high: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(log p*_high - log p*_low, a draw that leaves p_high invariant) of the top machine (see `Bipartite.anneal`)."""
        return self.top.anneal(values, low, high, rng)

    # Gradients of fine-tuning.

    @torch.no_grad()
    def wake_gradients(self, state: State) -> Mapping[str, Tensor]:
        """Gradient of -log p(v | h1) - ... - log p(h(L-2) | h(L-1)), averaged over the rows, by parameter name.

        Args:
            state: (v, h1, ..., h(L-1)), what `recognise` gave.
        """
        gradients = {}
        for number, (machine, (below, above)) in enumerate(zip(self.lower, pairwise(state), strict=True)):
            inputs = product(above, machine.weight.detach().t().to(above.dtype))
            error = sigmoid(inputs, machine.visible_units.bias) - below
            gradients[f"stack.{number}.weight"] = moment(error, above)
            gradients[f"stack.{number}.visible_units.bias"] = mean(error)
        return gradients

    @torch.no_grad()
    def sleep_gradients(self, state: State) -> Mapping[str, Tensor]:
        """Gradient of -log q(h1 | v) - ... - log q(h(L-1) | h(L-2)), averaged over the rows, by parameter name.

        Args:
            state: (v, h1, ..., h(L-1)), what `generate` gave.
        """
        gradients = {}
        for number, (below, above) in enumerate(pairwise(state)):
            own = cast(Recognition, self.recognition[number])
            error = sigmoid(product(below, own.weight.detach().to(below.dtype)), own.bias) - above
            gradients[f"recognition.{number}.weight"] = moment(below, error)
            gradients[f"recognition.{number}.bias"] = mean(error)
        return gradients

    def top_gradients(self, data: State, chains: State) -> Mapping[str, Tensor]:
        """Gradient of the gap of energy in the top machine (`EnergyModel.gap_gradients`), by parameter name."""
        return {f"stack.{len(self.lower)}.{name}": g for name, g in self.top.gap_gradients(data, chains).items()}

    # What the methods above share.

    @property
    def _machines(self) -> list[RBM]:
        return cast(list[RBM], list(self.stack))

    @property
    def _bottom(self) -> RBM:
        return self._machines[0]

    def _recognition(self, number: int) -> tuple[Tensor, Tensor]:
        """Weights and biases by which layer `number` + 1 is recognised."""
        if self.tied:
            machine = self._machines[number]
            return machine.weight, machine.hidden_units.bias
        own = cast(Recognition, self.recognition[number])
        return own.weight, own.bias

    def _means(self, visible: Tensor) -> State:
        state = [visible.to(self._bottom.weight.dtype)]
        for number in range(len(self.lower)):
            weight, bias = self._recognition(number)
            state.append(((state[-1] @ weight).to(state[-1].dtype) + bias).sigmoid())
        return *state, self.top.activity(state[-1])

    def _descended(self, pair: State, rng: torch.Generator) -> State:
        return *self.generate(pair[0], rng), pair[1]

    def _enumerated(self, visible: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(log p*(v, h1, ..., h(L-1)), log q of these h given v), each (batch, states), for all states in chunks."""
        sizes = [machine.hidden_units.size for machine in self.lower]
        for states in all_states(sum(sizes), math.prod(sizes), visible):
            layers = states.split(sizes, 1)
            weight, bias = self._recognition(0)
            log_q = log_probability_of_all(layers[0], visible @ weight + bias)
            outputs = self._bottom.down(layers[0]) + self._bottom.visible_units.bias
            log_p = log_probability_of_all(visible, outputs).t() - self.top.free_energy(layers[-1])
            for number, (below, above) in enumerate(pairwise(layers), start=1):
                machine = self.lower[number]
                weight, bias = self._recognition(number)
                log_q = log_q + log_probability(above, below @ weight + bias)
                log_p = log_p + log_probability(below, machine.down(above) + machine.visible_units.bias)
            yield log_p, log_q


def pretraining(recipe: Any) -> tuple[dict[str, Any], ...]:
    """Greedy training of one layer after another by contrastive divergence, as long each as the fine-tuning that follows.

    Args:
        recipe: A complete recipe of a deep belief network.

    Raises:
        InvalidOption: `hidden` is not one or more sizes of layers.
    """
    layers = len(layer_sizes("deep belief network", recipe.model_options.get("hidden", _HIDDEN), least=1))
    shared = {name: recipe.objective_options[name] for name in _SHARED if name in recipe.objective_options}
    return greedy_stages(layers, epochs=recipe.epochs, **({"ais_chains": 100} | shared))
