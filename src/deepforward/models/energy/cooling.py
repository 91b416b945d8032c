"""Simulated annealing: how the temperature falls, and the search for states of low energy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import InvalidOption
from deepforward.models.energy.energy_model import State
from deepforward.models.energy.sweeps import agreement, draw_sweep


class LowStates(NamedTuple):
    """Lowest state that each chain has met, the lowest of all first, and its energy (chains,), nats."""

    state: State
    energies: Tensor


@dataclass(frozen=True)
class Cooling:
    """Temperatures that fall geometrically; the model's own is 1.

    Attributes:
        first: Temperature of the first sweep; high against the differences of energy.
        last: Temperature of the last sweep; low against them.
        sweeps: Number of sweeps.

    Raises:
        InvalidOption: Not first >= last > 0, or fewer than two sweeps.

    Source: Kirkpatrick, Gelatt, Vecchi 1983, Optimization by simulated annealing, Science 220.
    """

    first: float = 10.0
    last: float = 0.05
    sweeps: int = 200

    def __post_init__(self) -> None:
        if not (math.inf > self.first >= self.last > 0 and self.sweeps >= 2):
            raise InvalidOption(
                f"cooling got first={self.first}, last={self.last}, sweeps={self.sweeps}; expected first >= last > 0 and at "
                "least 2 sweeps; for example Cooling(10, 0.05, 200)"
            )

    @property
    def temperatures(self) -> list[float]:
        """Temperature of each sweep."""
        return [self.first * (self.last / self.first) ** (k / (self.sweeps - 1)) for k in range(self.sweeps)]


def lowest_met(
    weight: Float[Tensor, "units units"], bias: Float[Tensor, " units"], rng: torch.Generator, cooling: Cooling, chains: int
) -> tuple[Float[Tensor, "chains units"], Float[Tensor, " chains"]]:
    """The lowest state that each chain meets from a random one on, the lowest of all first, and its energy, nats.

    Args:
        weight: W of E = -b·x - x'W x / 2, symmetric and zero on the diagonal.
        bias: b.
        rng: Draws.
        cooling: Temperatures, one sweep of Gibbs sampling of exp(-E / T) at each.
        chains: Independent searches.
    """
    values = torch.randint(2, (len(bias), chains), generator=rng, device=bias.device).to(bias.dtype)
    best, lowest = values.clone(), -agreement(values.t(), weight, bias)
    for temperature in cooling.temperatures:
        draw_sweep(values, weight, bias[:, None] / temperature, rng, scale=1 / temperature)
        energies = -agreement(values.t(), weight, bias)
        better = energies < lowest
        best[:, better], lowest[better] = values[:, better], energies[better]
    lowest, order = lowest.sort(stable=True)
    return best.t()[order], lowest
