"""Layers that are copied with their weights: how the machines of a deep Boltzmann machine are trained one by one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.models.energy.bernoulli import softplus
from deepforward.models.energy.bipartite import Bipartite
from deepforward.models.energy.energy_model import Connection, State
from deepforward.models.energy.products import moment_gradients
from deepforward.models.energy.units import BinaryUnits, Units


class CopiedUnits(BinaryUnits):
    """Sums s of `copies` binary units that share their input and their bias.

    U(s) = -log binomial(copies, s), the number of ways to reach s, so p(s | x) is binomial with probability sigmoid(x + b).
    Data are sums too, of as many equal values.

    Args:
        units: One copy, whose bias is shared.
        copies: Number of copies.
    """

    def __init__(self, units: BinaryUnits, copies: int) -> None:
        super().__init__(units.size)
        self.copies, self.binary = copies, copies == 1
        self.bias, self.base = units.bias, units.base

    def potential(self, values: Float[Tensor, "rows units"]) -> Float[Tensor, " rows"]:
        """Minus log binomial(copies, s), summed over the units."""
        n = values.new_tensor(float(self.copies))
        return (torch.lgamma(values + 1) + torch.lgamma(n - values + 1) - torch.lgamma(n + 1)).sum(1)

    def log_normalizer(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """Sum of copies x log(1 + exp(x + b))."""
        return self.copies * softplus(inputs + self.bias_at(beta)).sum(1)

    def mean(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, "rows units"]:
        """Copies x sigmoid(x + b)."""
        return self.copies * (inputs + self.bias_at(beta)).sigmoid()

    def sample(
        self, inputs: Float[Tensor, "rows units"], rng: torch.Generator, beta: float | Tensor = 1.0
    ) -> Float[Tensor, "rows units"]:
        """The sum of one draw of each copy."""
        return torch.stack([super(CopiedUnits, self).sample(inputs, rng, beta) for _ in range(self.copies)]).sum(0)

    def realised(self, data: Float[Tensor, "rows units"], how: str, rng: torch.Generator) -> Float[Tensor, "rows units"]:
        """Sums of zeros and ones that all copies show alike."""
        return self.copies * super().realised(data / self.copies, how, rng)

    def fit_base(self, data: Float[Tensor, "rows units"]) -> None:
        """As of one copy."""
        super().fit_base(data / self.copies)

    def check(self, data: Tensor, what: str) -> None:
        """Refuse what is not `copies` times a number from 0 to 1; the message speaks of one copy."""
        super().check(data / self.copies, what)


class CopiedRBM(Bipartite):
    """A restricted Boltzmann machine with copies of its layers, all pairs of copies joined by the same weights.

    In the sums s of the visible and t of the hidden copies E = -b·s - c·t - s·W t, so a hidden unit sees all visible copies,
    p(h | s) = sigmoid(c + s W), and the other way round. An example is shown by all visible copies alike; what is given back to
    the outside, by `forward` and `per_unit`, is as of one copy.

    Args:
        weight: W (visible, hidden), shared with whoever owns it.
        lower: One copy of the visible units, shared.
        upper: One copy of the hidden units, shared.
        copies: Number of visible and of hidden copies.
    """

    connections: tuple[Connection, ...] = (Connection("weight", "visible_units.bias", "hidden_units.bias"),)

    def __init__(self, weight: nn.Parameter, lower: BinaryUnits, upper: BinaryUnits, copies: tuple[int, int]) -> None:
        super().__init__()
        self.input_shape = (lower.size,)
        self.copies = copies
        self.weight = weight
        self.visible_units: Units = CopiedUnits(lower, copies[0])
        self.hidden_units: Units = CopiedUnits(upper, copies[1])

    def up(self, visible: Float[Tensor, "rows visible"]) -> Float[Tensor, "rows hidden"]:
        """Input s W of each hidden copy."""
        return (visible @ self.weight).to(visible.dtype)

    def down(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows visible"]:
        """Input t W' of each visible copy."""
        return (hidden @ self.weight.t()).to(hidden.dtype)

    def visible(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch units"]:
        """Examples flattened, and summed over the copies, which all show them."""
        return self.copies[0] * super().visible(inputs.flatten(1))

    def per_unit(self, state: State) -> State:
        """Values divided by the number of copies that they are sums over."""
        return tuple(values / copies for values, copies in zip(state, self.copies, strict=False))

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch hidden"]:
        """Means of one copy of the hidden units given the examples: the data of the machine above."""
        return self.activity(self.visible(inputs)) / self.copies[1]

    @torch.no_grad()
    def gap_gradients(self, data: State, chains: State, offsets: State | None = None) -> dict[str, Tensor]:
        """Gradient of `gap`: moments of the sums over the chains minus those over the data, centred if there are offsets."""
        return moment_gradients(self.connections, data, chains, offsets)
