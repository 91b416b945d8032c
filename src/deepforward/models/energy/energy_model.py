"""What every energy-based model can do, so that one objective trains and one estimator judges them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.layers.shapes import expect_inputs
from deepforward.models.energy.units import Units

#: Values of all layers from the visible one up, each (rows, units).
State = tuple[Tensor, ...]


class Connection(NamedTuple):
    """Names of a weight matrix (lower units, upper units) and of the biases of the two layers it joins."""

    weight: str
    lower_bias: str
    upper_bias: str


class EnergyModel(nn.Module, ABC):
    """A model p(v, h) = exp(-E(v, h)) / Z of visible units v and hidden units h, Z unknown.

    The gradient of the log-likelihood is -dE/dtheta, averaged over p(h | data), minus the same averaged over the model. The
    first average is taken with `clamp`, the second over chains that `start` and `advance` keep.
    """

    #: Pairs of layers joined by a weight matrix, from the lowest up; empty if the model has connections of another form.
    connections: tuple[Connection, ...] = ()
    #: Whether gradients can be turned into those of the centred parametrisation.
    can_be_centred: bool = False
    #: Whether `log_unnormalised` is a lower bound.
    is_bound: bool = False
    input_shape: tuple[int, ...]

    @property
    @abstractmethod
    def data_units(self) -> Units:
        """Units that say what values data may have; a model may keep others of the same kind with them."""

    @property
    def bf16_products(self) -> bool:
        """Whether the products of a training step may round to bf16 where the processor multiplies it in hardware."""
        return False

    @abstractmethod
    def log_unnormalised(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> Float[Tensor, " batch"]:
        """Log p(v) + log Z, or a lower bound of it, nats."""

    @abstractmethod
    def log_partition(self) -> float:
        """Log Z by enumeration, nats.

        Raises:
            TooLarge: There are too many states; the message says how long it would take and names the estimate to use.
        """

    def visible(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch units"]:
        """Examples flattened to visible units.

        Raises:
            ShapeError: They have another shape than the model was built for.
        """
        if inputs.shape[1:] != self.input_shape:
            own = next(name for name, module in self.named_modules() if module is self.data_units)
            expect_inputs(own, inputs, self.input_shape)
        return inputs.flatten(1)

    def check(self, visible: Float[Tensor, "batch units"], what: str = "data") -> None:
        """Refuse values that the visible units cannot take.

        Raises:
            InvalidData: NaN, or for example numbers outside [0, 1] for binary units.
        """
        self.data_units.check(visible, what)

    def realise(self, visible: Float[Tensor, "batch units"], how: str, rng: torch.Generator) -> Float[Tensor, "batch units"]:
        """Data made into values that the visible units take (see `Units.realised`)."""
        return self.data_units.realised(visible, how, rng)

    def per_unit(self, state: State) -> State:
        """Values as of single units, for eyes and for comparison with data, where the model's own are sums over copies.

        Args:
            state: Values of all layers, or of the first ones.
        """
        return state

    @abstractmethod
    def prepare(self, visible: Float[Tensor, "batch units"]) -> None:
        """Before training: visible biases and tempering base at the statistics of the data, so that structure is to learn."""

    @abstractmethod
    def energy(self, state: State) -> Float[Tensor, " rows"]:
        """E of each row, nats.

        What parameters multiply is linear in the values of each layer, those of gaussian visible units under a precision aside;
        so in the gradient means may stand for the values of units that are independent given the rest.
        """

    def fixed(self) -> AbstractContextManager[None]:
        """A block in which the parameters stay as they are, so that what is made of them is made once."""
        return nullcontext()

    @abstractmethod
    def clamp(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Data with the hidden units given them: their means, exact or by mean field, or draws where no means would do.

        Nothing is differentiated.
        """

    def observe(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> tuple[State, State]:
        """(`clamp`, `begin_at`): the data phase, and chains that start at the data."""
        return self.clamp(visible, rng), self.begin_at(visible, rng)

    @abstractmethod
    def start(self, count: int, rng: torch.Generator) -> State:
        """`count` chains from the base model: independent units."""

    @abstractmethod
    def begin_at(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Chains that start at data: hidden units drawn given them."""

    @abstractmethod
    def advance(self, state: State, rng: torch.Generator, steps: int = 1, beta: float | Tensor = 1.0) -> State:
        """Gibbs sampling: `steps` sweeps over all layers at inverse temperature `beta` (one number, or (rows, 1))."""

    @abstractmethod
    def expected(self, state: State) -> State:
        """The state with some layers replaced by their means given the others: the same expectation, less noise."""

    @abstractmethod
    def mean_visible(self, state: State) -> Float[Tensor, "rows units"]:
        """Mean of the visible units given the hidden ones."""

    def dream(self, state: State, rng: torch.Generator, steps: int = 1) -> tuple[State, State]:
        """(`expected`, drawn) states of the chains `steps` sweeps later."""
        drawn = self.advance(state, rng, steps)
        return self.expected(drawn), drawn

    def gap(self, data: State, chains: State) -> Tensor:
        """Mean energy of the data minus that of the chains, nats; minus its gradient is that of the log-likelihood.

        So it is on the average over data given `clamp` and chains that are draws of the model.
        """
        return self.energy(data).mean() - self.energy(chains).mean()

    def gap_gradients(self, data: State, chains: State, offsets: State | None = None) -> dict[str, Tensor]:
        """Gradient of `gap` by parameter name; a subclass may write it by hand.

        Args:
            data: What `clamp` gave.
            chains: States of the chains.
            offsets: Mean of each layer; with them the gradient is that of the centred parametrisation (see `centre`).
        """
        named = {name: p for name, p in self.named_parameters() if p.requires_grad}
        with torch.enable_grad():
            gradients = torch.autograd.grad(self.gap(data, chains), list(named.values()), allow_unused=True)
        found = {name: g for name, g in zip(named, gradients, strict=True) if g is not None}
        if offsets is not None:
            self.recentre(found, offsets)
        return found

    @torch.no_grad()
    def recentre(self, gradients: dict[str, Tensor], offsets: State) -> None:
        """Turn gradients, of whatever quantity, into the steps of the centred parametrisation, in place (see `centre`)."""
        centre(self.connections, gradients, offsets)


def centre(connections: tuple[Connection, ...], gradients: dict[str, Tensor], offsets: Sequence[Tensor]) -> None:
    """Replace gradients by the steps of the centred parametrisation E = -(v - m)·W (h - l) - b·(v - m) - c·(h - l).

    With raw gradients G of W, g of b and k of c: W moves by D = G - g l' - m k', b by g - D l, c by k - D' m.

    Args:
        connections: (weight, lower bias, upper bias) names, one for each pair of neighbouring layers.
        gradients: By parameter name; changed in place.
        offsets: Mean of each layer from the visible one up.

    Source: Melchior, Fischer, Wiskott 2016, How to center deep Boltzmann machines, JMLR 17, algorithm 1.
    """
    raw = dict(gradients)
    for number, (weight, lower, upper) in enumerate(connections):
        below, above = offsets[number], offsets[number + 1]
        with torch.autocast(below.device.type, enabled=False):  # corrections of averages are as exact as these
            step = raw[weight].addr(raw[lower], above, alpha=-1).addr_(below, raw[upper], alpha=-1)
            gradients[weight] = step
            gradients[lower] = gradients[lower] - step @ above
            gradients[upper] = gradients[upper] - below @ step
