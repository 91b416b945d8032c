"""Two layers of units with connections between them only: each is drawn at once given the other."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import TooLarge
from deepforward.models.energy.energy_model import EnergyModel, State
from deepforward.models.energy.enumeration import log_sum_over_states
from deepforward.models.energy.units import BinaryUnits, Units


class Bipartite(EnergyModel):
    """E(v, h) = U(v) - b·v + U(h) - c·h - v·W h, W a matrix or any linear map (`up`, and its transpose `down`).

    The tempered model of inverse temperature beta has W and the hidden biases multiplied by beta, and visible biases
    beta b + (1 - beta) base. At beta = 0 its units are independent and its partition function is known.

    Subclasses define `visible_units`, `hidden_units`, `up` and `down`.
    """

    can_be_centred = True
    visible_units: Units
    hidden_units: Units

    @abstractmethod
    def up(self, visible: Float[Tensor, "rows visible"]) -> Float[Tensor, "rows hidden"]:
        """Input of the hidden units without their bias: v W."""

    @abstractmethod
    def down(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows visible"]:
        """Input of the visible units without their bias: h W'."""

    @property
    def data_units(self) -> Units:
        """The visible units."""
        return self.visible_units

    @property
    def is_flippable(self) -> bool:
        """Whether flipping a visible unit gives another state of the model, so that it has a pseudo-likelihood."""
        return type(self.visible_units) is BinaryUnits

    @torch.no_grad()
    def prepare(self, visible: Float[Tensor, "batch units"]) -> None:
        """Base and, unless they were learnt before, visible biases at the statistics of the data."""
        self.visible_units.fit_base(visible)
        if not self.visible_units.bias.any():
            self.visible_units.bias.copy_(self.visible_units.base)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch hidden"]:
        """Means of the hidden units given the examples: the features."""
        return self.activity(self.visible(inputs))

    def free_energy(
        self,
        visible: Float[Tensor, "rows visible"],
        beta: float | Tensor = 1.0,
        inputs: Float[Tensor, "rows hidden"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """F(v) = U(v) - b·v - log sum over h of exp(c·h - U(h) + v·W h), nats; log p(v) = -F(v) - log Z.

        Args:
            visible: Values.
            beta: Inverse temperature, one number or (rows, 1).
            inputs: What `up` gives, where that is at hand.
        """
        inputs = self.up(visible) if inputs is None else inputs
        return self.visible_units.energy(visible, beta) - self.hidden_units.log_normalizer(beta * inputs, beta)

    def activity(self, visible: Float[Tensor, "rows visible"]) -> Float[Tensor, "rows hidden"]:
        """Means of the hidden units given the visible ones."""
        return self.hidden_units.mean(self.up(visible))

    def log_unnormalised(self, visible: Float[Tensor, "batch visible"], rng: torch.Generator) -> Float[Tensor, " batch"]:
        """-F(v)."""
        return -self.free_energy(visible)

    @torch.no_grad()
    def log_partition(self) -> float:
        """The log of Z by enumeration of the smaller binary layer, nats.

        Raises:
            TooLarge: It has too many units.
        """
        return float(self.log_partition_tensor())

    def log_partition_tensor(self) -> Float[Tensor, ""]:
        """`log_partition` as a number that can be differentiated, float64, nats.

        Raises:
            TooLarge: The smaller binary layer has too many units.
        """
        lower, upper = self.visible_units, self.hidden_units
        layers = [
            (u, other, map_)
            for u, other, map_ in ((upper, lower, self.down), (lower, upper, self.up))
            if type(u) is BinaryUnits
        ]
        if not layers:
            raise TooLarge("got no binary layer to enumerate; expected one; use metrics.likelihood.annealed_log_partition")
        units, other, across = min(layers, key=lambda layer: layer[0].size)

        def log_weight(states: Tensor) -> Tensor:
            return other.log_normalizer(across(states)).double() - units.energy(states).double()

        return log_sum_over_states(log_weight, units.size, units.size * other.size, units.bias)

    def energy(self, state: State) -> Float[Tensor, " rows"]:
        """E(v, h), nats."""
        visible, hidden = state
        pairs = (self.up(visible) * hidden).sum(1)
        return self.visible_units.energy(visible) + self.hidden_units.energy(hidden) - pairs

    @torch.no_grad()
    def clamp(self, visible: Float[Tensor, "batch visible"], rng: torch.Generator) -> State:
        """Data, and the means of the hidden units given them; exact."""
        return visible, self.hidden_units.mean(self.up(visible))

    @torch.no_grad()
    def start(self, count: int, rng: torch.Generator) -> State:
        """Chains of independent units."""
        like = self.visible_units.base
        nothing = like.new_zeros(count, self.visible_units.size), like.new_zeros(count, self.hidden_units.size)
        return self.visible_units.sample(nothing[0], rng, 0.0), self.hidden_units.sample(nothing[1], rng, 0.0)

    @torch.no_grad()
    def begin_at(self, visible: Float[Tensor, "batch visible"], rng: torch.Generator, beta: float | Tensor = 1.0) -> State:
        """Data, and hidden units drawn given them at inverse temperature `beta` (one number, or (rows, 1))."""
        return visible, self.hidden_units.sample(beta * self.up(visible), rng, beta)

    @torch.no_grad()
    def observe(self, visible: Float[Tensor, "batch visible"], rng: torch.Generator) -> tuple[State, State]:
        """The data phase, and chains that start at the data; the input of the hidden units is taken once for both."""
        inputs = self.up(visible)
        return (visible, self.hidden_units.mean(inputs)), (visible, self.hidden_units.sample(inputs, rng))

    @torch.no_grad()
    def dream(self, state: State, rng: torch.Generator, steps: int = 1) -> tuple[State, State]:
        """(`expected`, drawn) states of the chains `steps` sweeps later; the last input is taken once for both."""
        _, hidden = self.advance(state, rng, steps - 1)
        return self.observe(self.visible_units.sample(self.down(hidden), rng), rng)

    @torch.no_grad()
    def advance(self, state: State, rng: torch.Generator, steps: int = 1, beta: float | Tensor = 1.0) -> State:
        """Hidden to visible to hidden, `steps` times."""
        visible, hidden = state
        for _ in range(steps):
            visible = self.visible_units.sample(beta * self.down(hidden), rng, beta)
            hidden = self.hidden_units.sample(beta * self.up(visible), rng, beta)
        return visible, hidden

    @torch.no_grad()
    def expected(self, state: State) -> State:
        """The visible units, and the means of the hidden ones given them."""
        return state[0], self.hidden_units.mean(self.up(state[0]))

    @torch.no_grad()
    def mean_visible(self, state: State) -> Float[Tensor, "rows visible"]:
        """Means of the visible units given the hidden ones."""
        return self.visible_units.mean(self.down(state[1]))

    @torch.no_grad()
    def fill(
        self,
        visible: Float[Tensor, "rows visible"],
        known: Float[Tensor, "rows visible"],
        rng: torch.Generator,
        steps: int = 100,
    ) -> Float[Tensor, "rows visible"]:
        """Draw the unknown visible units given the known ones: Gibbs sampling with these held fast.

        Args:
            visible: Values; those of unknown units are ignored.
            known: 1 where the value is known, 0 where it is missing.
            rng: Draws.
            steps: Sweeps; the last one gives means instead of draws.

        Returns:
            The examples, completed with the means of the unknown units in the last sweep.
        """
        self.check(torch.where(known > 0, visible, self.visible_units.mean(torch.zeros_like(visible))), "known")
        current = torch.where(known > 0, visible, self.visible_units.sample(torch.zeros_like(visible), rng, 0.0))
        for step in range(steps):
            hidden = self.hidden_units.sample(self.up(current), rng)
            inputs = self.down(hidden)
            drawn = self.visible_units.sample(inputs, rng) if step + 1 < steps else self.visible_units.mean(inputs)
            current = torch.where(known > 0, visible, drawn)
        return current

    # What annealed importance sampling and tempering ask of a model.

    def annealing_start(self, count: int, rng: torch.Generator) -> Tensor:
        """Visible units of `count` chains at beta = 0."""
        return self.start(count, rng)[0]

    @torch.no_grad()
    def log_base_partition(self) -> Tensor:
        """The log of Z at beta = 0, nats."""
        units = self.visible_units, self.hidden_units
        return sum((u.log_normalizer(u.base.new_zeros(1, u.size), 0.0)[0].double() for u in units), torch.tensor(0.0).double())

    @torch.no_grad()
    def anneal(self, visible: Tensor, low: float, high: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(log p*_high(v) - log p*_low(v), a draw from a transition that leaves p_high invariant), p* unnormalised.

        Args:
            visible: Present values (chains, visible).
            low: Inverse temperature that they were drawn at.
            high: The next one.
            rng: Draws.
        """
        inputs, units = self.up(visible), self.hidden_units
        raised = high * inputs
        rise = units.log_normalizer(raised, high).double() - units.log_normalizer(low * inputs, low).double()
        bias = visible @ self.visible_units.of_each((high - low) * (self.visible_units.bias - self.visible_units.base))
        hidden = units.sample(raised, rng, high)
        return bias.double() + rise, self.visible_units.sample(self.down(hidden).mul_(high), rng, high)
