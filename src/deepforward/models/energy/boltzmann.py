"""Boltzmann machines in which any two units may be connected."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption, ShapeError, TooLarge
from deepforward.layers.sampling import bernoulli, draw_key
from deepforward.models.energy.bernoulli import entropy
from deepforward.models.energy.connectivity import check_connectivity
from deepforward.models.energy.cooling import Cooling, LowStates, lowest_met
from deepforward.models.energy.energy_model import EnergyModel, State
from deepforward.models.energy.enumeration import all_states, log_sum_over_states
from deepforward.models.energy.hidden_posterior import (
    MOST_ENUMERATED,
    MeanField,
    draw_enumerated,
    mean_field,
    settle,
    summed_out,
)
from deepforward.models.energy.products import mean, moment
from deepforward.models.energy.sweeps import agreement, draw_sweep
from deepforward.models.energy.units import BinaryUnits


class BoltzmannMachine(EnergyModel):
    """A Boltzmann machine: E(x) = -b·x - sum over i < j of w_ij x_i x_j, x = (v, h) of zeros and ones.

    In matrix form E = -b·x - x'W x / 2 with W symmetric and zero on the diagonal. (-b·x - x'W x is the same only for a strictly
    upper triangular W.) A unit is 1 given all others with probability sigmoid(b_i + sum over j of w_ij x_j).

    E is linear in each unit, so that means of independent units may stand for their values. Given v, hidden units are summed
    out exactly if they are not connected with each other or are at most 12; otherwise their posterior is sampled for learning,
    and approximated by mean field for a bound of the likelihood.

    The tempered model of inverse temperature beta has W and the hidden biases multiplied by beta, and visible biases
    beta b + (1 - beta) base.

    Args:
        input_shape: Shape of one example; flattened.
        hidden: Number of hidden units.
        connectivity: Whether two units are connected, (units, units), visible ones first; symmetric, False on the diagonal.
            All pairs by default.
        weight_scale: Standard deviation of the first weights.

    Raises:
        InvalidOption: A number out of range, or a connectivity that is not symmetric.
        ShapeError: A connectivity of another shape.

    Source:
        Ackley, Hinton, Sejnowski 1985, A learning algorithm for Boltzmann machines, Cognitive Science 9.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        hidden: int = 0,
        connectivity: Bool[Tensor, "units others"] | None = None,
        weight_scale: float = 0.01,
    ) -> None:
        super().__init__()
        if not weight_scale >= 0:
            raise InvalidOption(f"boltzmann machine got weight_scale={weight_scale}; expected a number of at least 0")
        if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 0:
            raise InvalidOption(f"boltzmann machine got hidden={hidden!r}; expected a whole number of at least 0")
        self.input_shape = tuple(input_shape)
        self.num_visible, self.num_hidden = math.prod(input_shape), hidden
        self.num_units = self.num_visible + hidden
        self.units = BinaryUnits(self.num_units)
        if connectivity is None:
            connectivity = ~torch.eye(self.num_units, dtype=torch.bool)
        check_connectivity(connectivity, self.num_units)
        rows, columns = connectivity.triu().nonzero(as_tuple=True)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.couplings = nn.Parameter(torch.randn(len(rows)) * weight_scale)
        #: Whether hidden units are independent of each other given the visible ones.
        self.hidden_are_independent = not bool(connectivity[self.num_visible :, self.num_visible :].any())
        self.is_bound = not self.is_exact
        self._held: Tensor | None = None

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """A block in which the parameters stay, so that W is made once."""
        with torch.no_grad():
            self._held = self.weight
        try:
            yield
        finally:
            self._held = None

    @property
    def weight(self) -> Float[Tensor, "units units"]:
        """W, symmetric and zero on the diagonal whatever the parameters, which are its entries above the diagonal."""
        if self._held is not None and not torch.is_grad_enabled():
            return self._held
        zeros = self.couplings.new_zeros(self.num_units, self.num_units)
        upper = zeros.index_put((self.rows, self.columns), self.couplings)
        return upper + upper.t()

    @property
    def bias(self) -> Float[Tensor, " units"]:
        """b, visible units first."""
        return self.units.bias

    @property
    def is_exact(self) -> bool:
        """Whether the hidden units can be summed out given the visible ones."""
        return self.hidden_are_independent or self.num_hidden <= MOST_ENUMERATED

    @property
    def data_units(self) -> BinaryUnits:
        """All units, hidden ones too."""
        return self.units

    @torch.no_grad()
    def prepare(self, visible: Float[Tensor, "batch units"]) -> None:
        """Base and, unless they were learnt before, biases at the statistics of the data; those of hidden units stay 0."""
        even = visible.new_full((len(visible), self.num_hidden), 0.5)
        self.units.fit_base(torch.cat((visible, even), 1))
        if not self.bias.any():
            self.bias.copy_(self.units.base)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
        """Means of the hidden units given the examples; where there are none, of each visible unit given all others."""
        visible = self.visible(inputs)
        if not self.num_hidden:
            return (visible @ self.weight + self.bias).sigmoid()
        if self.is_exact:
            return self._posterior(visible)[1]
        means = self.mean_field(visible).means
        inputs, weight = self._hidden_inputs(visible)
        return (inputs + means @ weight).sigmoid()

    # Exactly: enumeration of all units, or of the hidden ones given the visible ones.

    def energy(self, state: State) -> Float[Tensor, " rows"]:
        """E(v, h), nats."""
        return -agreement(torch.cat(state, 1), self.weight, self.bias)

    @torch.no_grad()
    def probabilities(self) -> Float[Tensor, " states"]:
        """Probability of each joint state, float64, in the order of `enumeration.all_states`.

        Raises:
            TooLarge: There are too many units.
        """
        weight, work = self.weight, self.num_units**2
        logs = [agreement(x, weight, self.bias).double() for x in all_states(self.num_units, work, self.bias)]
        return torch.cat(logs).softmax(0)

    @torch.no_grad()
    def log_partition(self) -> float:
        """Exact log Z: enumeration of the visible units, and of the hidden ones where these are connected, nats.

        Raises:
            TooLarge: There are too many of them.
        """
        return float(self.log_partition_tensor())

    def log_partition_tensor(self) -> Float[Tensor, ""]:
        """`log_partition` as a number that can be differentiated, float64, nats.

        Raises:
            TooLarge: There are too many units to enumerate.
        """
        weight, bias, work = self.weight, self.bias, self.num_units**2
        if self.hidden_are_independent:
            return log_sum_over_states(lambda v: self._log_marginal(v, weight), self.num_visible, work, bias)
        return log_sum_over_states(lambda x: agreement(x, weight, bias), self.num_units, work, bias)

    def log_probability(self, visible: Float[Tensor, "batch units"]) -> Float[Tensor, " batch"]:
        """Exact log p(v), the hidden units summed out, float64, nats.

        Raises:
            ShapeError: Another number of units.
            InvalidData: Values outside [0, 1].
            TooLarge: There are too many units to enumerate.
        """
        self._expect(visible)
        if not self.is_exact:
            raise TooLarge(
                f"log_probability got {self.num_hidden} hidden units that are connected with each other; expected at most "
                f"{MOST_ENUMERATED}; use log_unnormalised, a lower bound"
            )
        return self._log_marginal(visible, self.weight).double() - self.log_partition_tensor()

    def log_unnormalised(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> Float[Tensor, " batch"]:
        """-F(v) = log p(v) + log Z, exact where `is_exact`, else the bound of mean field: -E(v, q) + entropy of q, nats."""
        if self.is_exact:
            return self._log_marginal(visible, self.weight)
        means = self.mean_field(visible).means
        return entropy(means) - self.energy((visible, means))

    @torch.no_grad()
    def mean_field(self, visible: Float[Tensor, "batch units"], *, tolerance: float = 1e-8, sweeps: int = 1000) -> MeanField:
        """Means q of independent hidden units that fit p(h | v) best: q_i = sigmoid(c_i + (v W)_i + (q W)_i) for all i.

        Args:
            visible: Visible units.
            tolerance: Residual at which to stop; no less than 4 roundings of the type of the parameters.
            sweeps: Updates of each unit after which to stop in any case.

        Raises:
            ShapeError: Another number of units.
            InvalidData: Values outside [0, 1].

        Source: see `hidden_posterior.mean_field`.
        """
        self._expect(visible)
        return mean_field(*self._hidden_inputs(visible), tolerance, sweeps)

    # Sampling: sweeps over the units in their order.

    @torch.no_grad()
    def clamp(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Data, and the hidden units given them: their exact means where `is_exact`, else a draw after a few sweeps.

        Learning needs the mean of h h', which a product of means lacks. Where hidden units are summed out, `gap` does without
        the second layer. Where they are not, draws are taken, whose correlations become right with the sweeps, while those of
        mean field are zero by construction.
        """
        if self.is_exact:
            return visible, self._posterior(visible)[1]
        return visible, self._draw_hidden(visible, rng)

    @torch.no_grad()
    def start(self, count: int, rng: torch.Generator) -> State:
        """Chains of independent units."""
        return self._split(self.units.sample(self.units.base.new_zeros(count, self.num_units), rng, 0.0))

    @torch.no_grad()
    def begin_at(self, visible: Float[Tensor, "batch units"], rng: torch.Generator) -> State:
        """Data, and hidden units drawn given them: exactly where `is_exact`, else after a few sweeps."""
        return visible, self._draw_hidden(visible, rng)

    @torch.no_grad()
    def advance(self, state: State, rng: torch.Generator, steps: int = 1, beta: float | Tensor = 1.0) -> State:
        """`steps` sweeps over all units, one after the other."""
        values = torch.cat(state, 1).t().contiguous()
        weight, scale = self.weight, beta.t() if isinstance(beta, Tensor) else beta
        bias = self._column_bias(scale)
        for _ in range(steps):
            draw_sweep(values, weight, bias, rng, scale=scale)
        return self._split(values.t())

    @torch.no_grad()
    def expected(self, state: State) -> State:
        """The visible units, and the means of the hidden ones given them where these are summed out."""
        return (state[0], self._posterior(state[0])[1]) if self.is_exact else state

    @torch.no_grad()
    def mean_visible(self, state: State) -> Float[Tensor, "rows units"]:
        """Mean of each visible unit given all other units, visible ones included."""
        seen = self.num_visible
        return (torch.cat(state, 1) @ self.weight[:, :seen] + self.bias[:seen]).sigmoid()

    def gap(self, data: State, chains: State) -> Tensor:
        """Mean of -log p*(v) over the data minus that over the chains, the hidden units summed out where `is_exact`, nats.

        Its gradient is then that of the mean energy, averaged over the exact posterior of the hidden units in both phases.
        """
        if not self.is_exact:
            return super().gap(data, chains)
        weight = self.weight
        return self._log_marginal(chains[0], weight).mean() - self._log_marginal(data[0], weight).mean()

    @torch.no_grad()
    def gap_gradients(self, data: State, chains: State, offsets: State | None = None) -> dict[str, Tensor]:
        """Gradient of `gap`: moments of connected pairs over the chains minus those over the data.

        Means of independent hidden units have the moments of the posterior. Connected ones that are summed out are left to
        autograd, since theirs are not products of means.
        """
        if self.is_exact and not self.hidden_are_independent:
            return super().gap_gradients(data, chains, offsets)
        dreamt, given = torch.cat(chains, 1), torch.cat(data, 1)
        couplings = (moment(dreamt, dreamt) - moment(given, given))[self.rows, self.columns]
        return {"couplings": couplings, "units.bias": mean(dreamt) - mean(given)}

    @torch.no_grad()
    def fill(
        self,
        visible: Float[Tensor, "rows units"],
        known: Float[Tensor, "rows units"],
        rng: torch.Generator,
        steps: int = 100,
    ) -> Float[Tensor, "rows units"]:
        """Draw the unknown visible units given the known ones: Gibbs sampling with these held fast.

        Args:
            visible: Values; zeros and ones where they are known, ignored elsewhere.
            known: 1 where the value is known, 0 where it is missing.
            rng: Draws.
            steps: Sweeps.

        Returns:
            The examples, completed with the means of the unknown units given all others after the last sweep.
        """
        self._expect(torch.where(known > 0, visible, torch.zeros_like(visible)), "known")
        drawn, hidden = self.start(len(visible), rng)
        held = torch.cat((known > 0, torch.zeros_like(hidden, dtype=torch.bool)), 1).t()
        values = torch.cat((torch.where(known > 0, visible, drawn), hidden), 1).t().contiguous()
        # Noise that no field overcomes holds a unit.
        hold = torch.where(held, torch.where(values > 0.5, -math.inf, math.inf), 0.0)
        weight, bias = self.weight, self._column_bias(1.0)
        for _ in range(steps):
            draw_sweep(values, weight, bias, rng, hold=hold)
        return torch.where(known > 0, visible, self.mean_visible(self._split(values.t())))

    @torch.no_grad()
    def annealed_search(self, rng: torch.Generator, cooling: Cooling | None = None, *, chains: int = 10) -> LowStates:
        """States of low energy by simulated annealing: sweeps of Gibbs sampling of exp(-E / T) while T falls.

        Args:
            rng: Draws.
            cooling: Temperatures.
            chains: Independent searches.

        Returns:
            The lowest state that each chain has met.
        """
        states, energies = lowest_met(self.weight, self.bias, rng, cooling or Cooling(), chains)
        return LowStates(self._split(states), energies)

    # What annealed importance sampling asks of a model.

    def annealing_start(self, count: int, rng: torch.Generator) -> Tensor:
        """All units of `count` chains at beta = 0."""
        return torch.cat(self.start(count, rng), 1)

    @torch.no_grad()
    def log_base_partition(self) -> Tensor:
        """Exact log Z at beta = 0, nats."""
        return self.units.log_normalizer(self.units.base.new_zeros(1, self.num_units), 0.0)[0].double()

    @torch.no_grad()
    def anneal(self, values: Tensor, low: float, high: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(log p*_high(x) - log p*_low(x), the units after a sweep that leaves p_high invariant), p* unnormalised.

        Args:
            values: Present values of all units (chains, units); or of the visible ones, to which hidden ones are then drawn.
            low: Inverse temperature that they were drawn at.
            high: The next one.
            rng: Draws.
        """
        if values.shape[1] < self.num_units:
            values = torch.cat((values, self._draw_hidden(values, rng, low)), 1)
        weight = self.weight
        ratio = (high - low) * agreement(values, weight, self.bias - self.units.base).double()
        columns = values.t().contiguous()
        draw_sweep(columns, weight, self._column_bias(high), rng, scale=high)
        return ratio, columns.t()

    def _split(self, values: Tensor) -> State:
        return values[:, : self.num_visible], values[:, self.num_visible :]

    def _expect(self, visible: Tensor, what: str = "data") -> None:
        if visible.ndim != 2 or visible.shape[1] != self.num_visible:
            raise ShapeError(
                f"{what}: got shape {tuple(visible.shape)}; expected (batch, {self.num_visible}); flatten the examples"
            )
        self.check(visible, what)

    def _column_bias(self, scale: float | Tensor) -> Tensor:
        """Biases of the tempered model, (units, 1) or (units, rows)."""
        return scale * self.bias[:, None] + (1.0 - scale) * self.units.base[:, None]

    def _hidden_inputs(self, visible: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the hidden units receive from visible units and bias, (rows, hidden), and the weights among them."""
        weight, seen = self.weight if weight is None else weight, self.num_visible
        return visible @ weight[:seen, seen:] + self.bias[seen:], weight[seen:, seen:]

    def _posterior(self, visible: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log of the sum over the hidden states, (rows,), and means of the hidden units, (rows, hidden); where `is_exact`."""
        return summed_out(*self._hidden_inputs(visible, weight), self.hidden_are_independent)

    def _log_marginal(self, visible: Tensor, weight: Tensor) -> Tensor:
        """-F(v) = log p*(v), where `is_exact`."""
        seen = self.num_visible
        return agreement(visible, weight[:seen, :seen], self.bias[:seen]) + self._posterior(visible, weight)[0]

    def _draw_hidden(self, visible: Tensor, rng: torch.Generator, beta: float = 1.0) -> Tensor:
        """Hidden units given the visible ones in the tempered model: exactly where `is_exact` or beta is 0."""
        inputs, among = self._hidden_inputs(visible)
        inputs, among = beta * inputs + (1 - beta) * self.units.base[self.num_visible :], beta * among
        if self.is_exact and not self.hidden_are_independent:
            return draw_enumerated(inputs, among, rng)
        independent = self.is_exact or beta == 0
        means = inputs.sigmoid() if independent or beta != 1 else self.mean_field(visible, tolerance=1e-3).means
        drawn = bernoulli(means, draw_key(rng))
        return drawn if independent else settle(drawn, inputs, among, rng)
