"""The Hopfield network: patterns of -1 and +1 stored in symmetric weights, recalled by going downhill in energy.

E(s) = -1/2 s'W s - b's. A unit that turns to the sign of its field h = W s + b changes the energy by -|Delta s| |h|, so that
recall, one unit after the other, ends in a local minimum; storage makes the patterns such minima.

Source: Hopfield 1982, "Neural networks and physical systems with emergent collective computational abilities", PNAS 79;
Personnaz, Guyon, Dreyfus 1985, "Information storage and retrieval in spin-glass like neural networks", J. Physique Lett. 46,
for the pseudo-inverse; Goles, Fogelman, Pellegrin 1985, "Decreasing energy functions as a tool for studying threshold
networks", Discrete Applied Mathematics 12, for synchronous recall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from deepforward.errors import InvalidData, InvalidOption, ShapeError, UnknownName

RULES = ("hebb", "pseudo-inverse")
MODES = ("asynchronous", "synchronous")


@dataclass(frozen=True, eq=False)
class Recall:
    """Where recall ended, for each state of the batch.

    Attributes:
        states: Final states, of -1 and +1.
        period: 1: a fixed point. 2: synchronous recall goes to and fro between this state and another for ever. 0: neither
            within the sweeps allowed.
        sweeps: Sweeps until the fixed point or the first state of the cycle was reached; the sweeps allowed where period is 0.
    """

    states: Float[Tensor, "*batch units"]
    period: Int[Tensor, "*batch"]
    sweeps: Int[Tensor, "*batch"]

    @property
    def converged(self) -> Bool[Tensor, "*batch"]:
        """Whether the state is a fixed point."""
        return self.period == 1


class Hopfield(nn.Module):
    """A network of binary units, each connected to all others.

    Weights, bias and what is stored are buffers in float64, so that `state_dict` keeps them.

    Attributes:
        weights: (units, units), symmetric, zero diagonal.
        bias: (units,) outer field b.
        num_patterns: Patterns stored.

    Args:
        num_units: Number of units N, 1 or more.
        bias: (units,) outer field b; zero if None.

    Raises:
        InvalidOption: `num_units` is below 1.
        ShapeError: `bias` has not one number for each unit.
        InvalidData: `bias` is not finite.
    """

    weights: Tensor
    bias: Tensor
    num_patterns: Tensor
    additive: Tensor

    def __init__(self, num_units: int, bias: Num[Tensor, "*shape"] | None = None) -> None:
        super().__init__()
        if num_units < 1:
            raise InvalidOption(f"got num_units = {num_units}; expected 1 or more; choose the width of the patterns")
        self.num_units = num_units
        self.register_buffer("weights", torch.zeros(num_units, num_units, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(num_units, dtype=torch.float64))
        self.register_buffer("num_patterns", torch.tensor(0))
        self.register_buffer("additive", torch.tensor(True))  # the weights are a sum over patterns
        if bias is not None:
            if bias.shape != self.bias.shape:
                raise ShapeError(
                    f"got bias of shape {tuple(bias.shape)}; expected ({num_units},), one number a unit; reshape it"
                )
            if not bool(bias.isfinite().all()):
                raise InvalidData("got a bias that is not finite; expected finite numbers; repair it")
            self.bias.copy_(bias)

    def store(self, patterns: Num[Tensor, "*shape"], rule: str = "hebb") -> None:
        """Store patterns, in place of all that was stored.

        `hebb`: W = X X' / N, X with a pattern in each column. `pseudo-inverse`: W = X X^+, the projection on the span of the
        patterns, which recalls correlated patterns and up to N of them. The diagonal is then set to zero.

        Args:
            patterns: (patterns, units) of -1 and +1.
            rule: `hebb` or `pseudo-inverse`.

        Raises:
            UnknownName: No such rule.
            ShapeError: Not (patterns, units).
            InvalidData: No pattern, a value other than -1 and +1, or, for the pseudo-inverse, patterns that span all states:
                the projection is then the identity, and every state a memory.
        """
        if rule not in RULES:
            raise UnknownName("storage rule", rule, RULES)
        patterns = self._expect_patterns(patterns)
        weights = patterns.T @ patterns / self.num_units if rule == "hebb" else _projection(patterns)
        self.weights.copy_((weights + weights.T) / 2).fill_diagonal_(0)
        self.num_patterns.fill_(len(patterns))
        self.additive.fill_(rule == "hebb")

    def add(self, patterns: Num[Tensor, "*shape"]) -> None:
        """Store further patterns by Hebb's rule: W grows by X X' / N, off the diagonal.

        Args:
            patterns: (patterns, units) of -1 and +1.

        Raises:
            InvalidOption: What is stored was stored by the pseudo-inverse, which is no sum over patterns.
            ShapeError, InvalidData: As `store`.
        """
        if not bool(self.additive):
            raise InvalidOption("got patterns to add to a pseudo-inverse; expected Hebb's rule; store all patterns together")
        patterns = self._expect_patterns(patterns)
        self.weights.add_(patterns.T @ patterns / self.num_units).fill_diagonal_(0)
        self.num_patterns.add_(len(patterns))

    def fields(self, states: Num[Tensor, "*batch_units"]) -> Float[Tensor, "*batch_units"]:
        """The field W s + b of each unit."""
        return self._expect_states(states) @ self.weights + self.bias

    def energy(self, states: Num[Tensor, "*batch_units"]) -> Float[Tensor, "*batch"]:
        """E(s) = -1/2 s'W s - b's of each state."""
        spins = self._expect_states(states)
        return -(spins * (spins @ self.weights / 2 + self.bias)).sum(-1)

    def update(self, states: Num[Tensor, "*batch_units"], unit: int) -> Float[Tensor, "*batch_units"]:
        """One step of asynchronous recall: `unit` takes the sign of its field, or stays where the field is zero.

        `recall` does the same to all units, without computing W s anew each time.

        Raises:
            InvalidOption: No such unit.
        """
        if not 0 <= unit < self.num_units:
            raise InvalidOption(f"got unit {unit}; expected 0 to {self.num_units - 1}; choose one of them")
        spins = self._expect_states(states).clone()
        field = spins @ self.weights[unit] + self.bias[unit]
        spins[..., unit] = _turned(spins[..., unit], field, self._rounding())
        return spins

    def unstable_share(self, patterns: Num[Tensor, "*shape"]) -> Float[Tensor, " patterns"]:
        """Share of the bits of each pattern, in [0, 1], that would turn: 0 for a pattern that is a fixed point.

        A field of zero turns nothing.
        """
        patterns = self._expect_patterns(patterns)
        return (patterns * self.fields(patterns) < -self._rounding()).to(self.weights.dtype).mean(1)

    def forward(self, states: Num[Tensor, "*batch_units"]) -> Float[Tensor, "*batch_units"]:
        """The states that asynchronous recall ends in, its units taken in their own order, so that nothing is random."""
        return self.recall(states).states

    @torch.no_grad()
    def recall(
        self,
        states: Num[Tensor, "*batch_units"],
        rng: torch.Generator | None = None,
        *,
        mode: str = "asynchronous",
        max_sweeps: int = 100,
    ) -> Recall:
        """Let units turn to the sign of their fields until none does; a field of zero turns nothing.

        Asynchronous recall updates one unit after the other. The energy falls with every unit that turns, so it ends in a fixed
        point. Synchronous recall updates all units at once, and ends in a fixed point or goes to and fro between two states.

        Args:
            states: (..., units) of -1 and +1.
            rng: Draws the order of the units in each sweep, one order for all states; 0, 1, 2, ... if None. Synchronous recall
                draws nothing.
            mode: `asynchronous` or `synchronous`.
            max_sweeps: Most sweeps, 1 or more.

        Raises:
            InvalidOption: `max_sweeps` is below 1.
            UnknownName: No such mode.
            ShapeError: The states have another width.
            InvalidData: Nothing is stored, or a value other than -1 and +1.
        """
        if mode not in MODES:
            raise UnknownName("mode of recall", mode, MODES)
        if max_sweeps < 1:
            raise InvalidOption(f"got max_sweeps = {max_sweeps}; expected 1 or more; choose another number")
        if not int(self.num_patterns):
            raise InvalidData("got a network that has stored nothing; expected patterns to recall; call store() first")
        spins = self._expect_states(states)
        columns = spins.reshape(-1, self.num_units).T.contiguous()  # units in rows: an update touches one row
        if mode == "asynchronous":
            period, sweeps = self._asynchronous(columns, rng, max_sweeps)
        else:
            period, sweeps = self._synchronous(columns, max_sweeps)
        batch = spins.shape[:-1]
        return Recall(columns.T.reshape(spins.shape), period.reshape(batch), sweeps.reshape(batch))

    def _asynchronous(self, spins: Tensor, rng: torch.Generator | None, max_sweeps: int) -> tuple[Tensor, Tensor]:
        """Bring the (units, batch) spins to rest in place; period and sweeps of each.

        The fields are kept up to date: a unit that turns changes them by its column of the weights.
        """
        period = torch.zeros(spins.shape[1], dtype=torch.int64, device=spins.device)
        sweeps, moving = torch.full_like(period, max_sweeps), torch.arange(spins.shape[1], device=spins.device)
        now, fields, rounding = spins.clone(), self.weights @ spins + self.bias[:, None], self._rounding()
        for sweep in range(max_sweeps):
            before = now.clone()
            for unit in self._order(rng):
                turned = _turned(now[unit], fields[unit], rounding)
                fields.addr_(self.weights[unit], turned - now[unit])
                now[unit] = turned
            spins[:, moving] = now
            moved = (now != before).any(0)
            period[moving[~moved]], sweeps[moving[~moved]] = 1, sweep
            moving, now, fields = moving[moved], now[:, moved], fields[:, moved]
            if not len(moving):
                break
        return period, sweeps

    def _synchronous(self, spins: Tensor, max_sweeps: int) -> tuple[Tensor, Tensor]:
        """Update all (units, batch) spins together, in place, until they repeat those of one or two sweeps ago."""
        period = torch.zeros(spins.shape[1], dtype=torch.int64, device=spins.device)
        sweeps, rounding = torch.full_like(period, max_sweeps), self._rounding()
        before = torch.zeros_like(spins)  # equals no state
        for sweep in range(max_sweeps):
            turned = _turned(spins, self.weights @ spins + self.bias[:, None], rounding)
            running = period == 0
            fixed, to_and_fro = running & (turned == spins).all(0), running & (turned == before).all(0)
            period[fixed], sweeps[fixed] = 1, sweep
            period[to_and_fro], sweeps[to_and_fro] = 2, sweep - 1
            goes_on = period == 0
            if not bool(goes_on.any()):
                break
            before, spins[:, goes_on] = spins.clone(), turned[:, goes_on]
        return period, sweeps

    def _order(self, rng: torch.Generator | None) -> list[int]:
        if rng is None:
            return list(range(self.num_units))
        return torch.randperm(self.num_units, generator=rng, device=rng.device).tolist()

    def _rounding(self) -> float:
        """What a field of zero may come to by rounding, which must turn no unit: recall might go on for ever."""
        largest = float((self.weights.abs().sum(1) + self.bias.abs()).max())
        return 4 * torch.finfo(self.weights.dtype).eps * math.sqrt(self.num_units) * largest

    def _expect_states(self, states: Tensor) -> Tensor:
        """`states` in the type of the weights."""
        if states.shape[-1:] != (self.num_units,):
            got = f"states of shape {tuple(states.shape)}"
            raise ShapeError(f"got {got}; expected (..., {self.num_units}), one value a unit; reshape them or build anew")
        wrong = states.abs() != 1  # true of NaN
        if bool(wrong.any()):
            got = f"{states[wrong][0].item()} at {tuple(wrong.nonzero()[0].tolist())}"
            raise InvalidData(f"got {got}; expected states of -1 and +1; map other values to these, 0/1 by 2 x - 1")
        return states.to(self.weights)

    def _expect_patterns(self, patterns: Tensor) -> Tensor:
        if patterns.ndim != 2:
            got = f"patterns of shape {tuple(patterns.shape)}"
            raise ShapeError(f"got {got}; expected (patterns, {self.num_units}); give one pattern a row")
        if not len(patterns):
            raise InvalidData("got no patterns; expected one or more; give some")
        return self._expect_states(patterns)


def overlap(a: Num[Tensor, "*batch units"], b: Num[Tensor, "*batch units"]) -> Float[Tensor, "*batch"]:
    """Overlap a'b / N in [-1, 1] of states of -1 and +1: 1 if equal, 0 on average if unrelated.

    It is 1 - 2 d, d the share of bits that differ.
    """
    return (a * b).double().mean(-1)


def _turned(spins: Tensor, fields: Tensor, rounding: float) -> Tensor:
    return torch.where(fields.abs() > rounding, fields.sign(), spins)


def _projection(patterns: Tensor) -> Tensor:
    """X X^+ for patterns in rows, by their singular vectors; patterns that depend on others add nothing."""
    _, values, directions = torch.linalg.svd(patterns, full_matrices=False)
    directions = directions[values > values[0] * max(patterns.shape) * torch.finfo(patterns.dtype).eps]
    if len(directions) == patterns.shape[1]:
        raise InvalidData(
            f"got patterns that span all {len(directions)} dimensions; expected fewer for the pseudo-inverse, "
            "whose every state would be a memory; store less than one independent pattern a unit"
        )
    return directions.T @ directions
