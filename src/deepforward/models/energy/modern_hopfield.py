"""The modern Hopfield network: continuous states, exponentially many patterns, and recall by attention.

One step is xi_new = X softmax(beta X'xi), X with a pattern in each column: attention whose keys and values are the patterns.
It never raises the energy E(xi) = -lse(beta, X'xi) + 1/2 xi'xi + 1/beta log P + 1/2 M^2 >= 0, with P patterns of norm at most
M and lse(beta, z) = 1/beta log sum_i exp(beta z_i).

Source: Ramsauer et al. 2021, "Hopfield networks is all you need", ICLR (arXiv 2008.02217), equations 2, 3 and theorems 1, 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from deepforward.errors import InvalidData, InvalidOption, ShapeError


@dataclass(frozen=True, eq=False)
class ModernRecall:
    """Where recall ended, for each state of the batch.

    Attributes:
        states: Final states.
        converged: Whether the last step moved the state by no more than the tolerance.
        steps: Steps taken.
    """

    states: Float[Tensor, "*batch units"]
    converged: Bool[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]


class ModernHopfield(nn.Module):
    """Associative memory of real patterns.

    The patterns are a buffer, in the type in which they were stored, and `load_state_dict` takes any number of them.

    Attributes:
        patterns: (patterns, units), none at first.

    Args:
        num_units: Length of a pattern.
        beta: Inverse temperature > 0: large recalls single patterns, small their mean.

    Raises:
        InvalidOption: `num_units` is below 1, or `beta` not positive and finite.
    """

    patterns: Tensor

    def __init__(self, num_units: int, beta: float = 1.0) -> None:
        super().__init__()
        if num_units < 1:
            raise InvalidOption(f"got num_units = {num_units}; expected 1 or more; choose the length of the patterns")
        if not 0 < beta < math.inf:
            raise InvalidOption(f"got beta = {beta}; expected a finite number above 0; choose another")
        self.num_units, self.beta = num_units, beta
        self.register_buffer("patterns", torch.empty(0, num_units))

    def store(self, patterns: Float[Tensor, "*shape"]) -> None:
        """Store (patterns, units), in place of all that was stored.

        Raises:
            ShapeError: Not (patterns, units).
            InvalidData: No pattern, or a number that is not finite.
        """
        if patterns.ndim != 2:
            got = f"patterns of shape {tuple(patterns.shape)}"
            raise ShapeError(f"got {got}; expected (patterns, {self.num_units}); give one pattern a row")
        if not len(patterns):
            raise InvalidData("got no patterns; expected one or more; give some")
        self.patterns = self._expect_states(patterns).detach().clone()

    def energy(self, states: Float[Tensor, "*batch_units"]) -> Float[Tensor, "*batch"]:
        """E(xi) = -lse(beta, X'xi) + 1/2 xi'xi + 1/beta log P + 1/2 M^2 of each state, in [0, 2 M^2] where |xi| <= M."""
        self._expect_patterns()
        scores = self.beta * self._expect_states(states) @ self.patterns.T
        largest = self.patterns.square().sum(1).max()
        spread = scores.logsumexp(-1) - math.log(len(self.patterns))
        return states.square().sum(-1) / 2 + largest / 2 - spread / self.beta

    def step(self, states: Float[Tensor, "*batch_units"]) -> Float[Tensor, "*batch_units"]:
        """One step, X softmax(beta X'xi); autograd flows through it."""
        self._expect_patterns()
        return (self.beta * self._expect_states(states) @ self.patterns.T).softmax(-1) @ self.patterns

    def recall(self, states: Float[Tensor, "*batch_units"], *, tolerance: float = 1e-6, max_steps: int = 100) -> ModernRecall:
        """Repeat the step until it moves a state by no more than the tolerance; autograd flows through it.

        Args:
            states: (..., units).
            tolerance: Euclidean length of a step, as a share of the longest pattern, at which a state has converged; >= 0.
            max_steps: Most steps, 1 or more.

        Raises:
            InvalidOption: `tolerance` or `max_steps` out of range.
            ShapeError: The states have another width.
            InvalidData: Nothing is stored, or a number that is not finite.
        """
        if not 0 <= tolerance < math.inf or max_steps < 1:
            got = f"tolerance = {tolerance}, max_steps = {max_steps}"
            raise InvalidOption(f"got {got}; expected a tolerance >= 0 and a step or more; choose other numbers")
        self._expect_patterns()
        small = tolerance * self.patterns.norm(dim=1).max()
        steps = torch.zeros(states.shape[:-1], dtype=torch.int64, device=states.device)
        converged = torch.zeros_like(steps, dtype=torch.bool)
        for _ in range(max_steps):
            moved = self.step(states)
            steps = steps + ~converged
            now = (moved - states).norm(dim=-1) <= small
            # A state that has converged stays as it is, so that its result does not depend on the others of the batch.
            states, converged = torch.where(converged[..., None], states, moved), converged | now
            if bool(converged.all()):
                break
        return ModernRecall(states, converged, steps)

    def forward(self, states: Float[Tensor, "*batch_units"]) -> Float[Tensor, "*batch_units"]:
        """The states that recall ends in."""
        return self.recall(states).states

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}patterns")
        if saved is not None and saved.ndim == 2 and saved.shape[1] == self.num_units:
            self.patterns = self.patterns.new_empty(saved.shape, dtype=saved.dtype)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _expect_patterns(self) -> None:
        if not len(self.patterns):
            raise InvalidData("got a network that has stored nothing; expected patterns to recall; call store() first")

    def _expect_states(self, states: Tensor) -> Tensor:
        if states.shape[-1:] != (self.num_units,):
            got = f"states of shape {tuple(states.shape)}"
            raise ShapeError(f"got {got}; expected (..., {self.num_units}), one number a unit; reshape them or build anew")
        if not bool(states.isfinite().all()):
            at = tuple(states.isfinite().logical_not().nonzero()[0].tolist())
            raise InvalidData(f"got {states[at].item()} at {at}; expected finite numbers; repair it")
        return states
