"""Likelihood of models that are known up to their partition function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import InvalidOption, TooLarge

#: Where Salakhutdinov and Murray put their 14,500 temperatures: share of them, and inverse temperature that it ends at.
_LADDER = ((500 / 14500, 0.5), (4000 / 14500, 0.9), (1.0 - 4500 / 14500, 1.0))

#: Two-sided 95% quantile of the standard normal.
_Z = 1.959964


@runtime_checkable
class Annealable(Protocol):
    """A model with a family p_beta from one whose partition function is known (0) to its own (1)."""

    def annealing_start(self, count: int, rng: torch.Generator) -> Tensor:
        """Exact draws at beta = 0 of what `anneal` moves."""

    def log_base_partition(self) -> Tensor:
        """The log of Z at beta = 0, nats."""

    def anneal(self, values: Tensor, low: float, high: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(log p*_high(values) - log p*_low(values), a draw from a transition that leaves p_high invariant)."""


@dataclass(frozen=True)
class Annealed:
    """An estimate of log Z.

    Attributes:
        log_partition: log Z, nats.
        low, high: 95% interval of log Z from the spread of the weights (normal for the mean weight, then logged).
        chains: Number of chains.
        temperatures: Number of temperatures.
        effective: Effective number of chains, 1 / sum of squared normalised weights; near 1 the interval means little.
    """

    log_partition: float
    low: float
    high: float
    chains: int
    temperatures: int
    effective: float


def ladder(temperatures: int) -> list[float]:
    """Inverse temperatures from 0 to 1, dense where the distribution changes fast, in the proportions of the source.

    Source: Salakhutdinov and Murray 2008, section 4.2: of 14,500, 500 up to 0.5, 4,000 up to 0.9, the others up to 1.
    """
    if temperatures < 2:
        raise InvalidOption(f"got {temperatures} temperatures; expected at least 2, for example 10000")
    betas, start, left = [0.0], 0.0, temperatures - 1
    for number, (share, end) in enumerate(_LADDER):
        count = left if number == len(_LADDER) - 1 else min(left, round(share * (temperatures - 1)))
        betas += [start + (end - start) * (i + 1) / count for i in range(count)]
        start, left = (end if count else start), left - count
    return betas


def annealed_log_partition(
    model: Annealable,
    rng: torch.Generator,
    *,
    chains: int = 100,
    temperatures: int = 14500,
    progress: Callable[[float], None] = lambda share: None,
) -> Annealed:
    """Estimate log Z by annealed importance sampling; exp of it is Z on average, so that the estimate itself tends to be low.

    Args:
        model: The model.
        rng: Draws.
        chains: Number of independent weights.
        temperatures: Number of inverse temperatures; the error falls with it.
        progress: Called now and then with the share done.

    Raises:
        InvalidOption: No chains, or fewer than two temperatures.

    Source: Neal 2001, Annealed importance sampling; Salakhutdinov and Murray 2008, On the quantitative analysis of deep belief
        networks.
    """
    if chains < 1:
        raise InvalidOption(f"annealed importance sampling got {chains} chains; expected at least 1, for example 100")
    values = model.annealing_start(chains, rng)
    logs = _anneal(model, values, ladder(temperatures), rng, progress)
    return _summary(logs + model.log_base_partition(), temperatures, sign=1.0)


def reverse_annealed_log_partition(
    model: Annealable,
    samples: Tensor,
    rng: torch.Generator,
    *,
    temperatures: int = 14500,
    progress: Callable[[float], None] = lambda share: None,
) -> Annealed:
    """Estimate log Z by annealing from samples of the model back to the base; it tends to be high where these are exact.

    Together with `annealed_log_partition` it brackets log Z as far as the samples are what they should be.

    Args:
        model: The model.
        samples: Draws from the model, from long chains; one weight each.
        rng: Draws.
        temperatures: Number of inverse temperatures.
        progress: Called now and then with the share done.

    Raises:
        InvalidOption: No samples, or fewer than two temperatures.

    Source: Burda, Grosse, Salakhutdinov 2015, Accurate and conservative estimates of MRF log-likelihood using reverse
        annealing; Grosse, Ghahramani, Adams 2015, Sandwiching the marginal likelihood using bidirectional Monte Carlo.
    """
    if not len(samples):
        raise InvalidOption("reverse annealing got no samples; expected at least 1, for example 100")
    logs = _anneal(model, samples, ladder(temperatures)[::-1], rng, progress)
    return _summary(logs - model.log_base_partition(), temperatures, sign=-1.0)


def _anneal(
    model: Annealable, values: Tensor, betas: Sequence[float], rng: torch.Generator, progress: Callable[[float], None]
) -> Float[Tensor, " chains"]:
    logs = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    with torch.no_grad():
        for i in range(len(betas) - 1):
            ratio, values = model.anneal(values, betas[i], betas[i + 1], rng)
            logs += ratio
            if i % 250 == 0:
                progress(i / len(betas))
    return logs


def _summary(logs: Tensor, temperatures: int, sign: float) -> Annealed:
    """Mean weight, logged, with the interval of a mean; `sign` -1 for weights that estimate 1 / Z."""
    count = len(logs)
    center = float(logs.max())
    weights = (logs - center).exp()
    mean = float(weights.mean())
    spread = _Z * float(weights.std()) / math.sqrt(count) if count > 1 else math.inf
    ends = [math.log(mean + spread), math.log(mean - spread) if mean > spread else -math.inf]
    low, high = sorted(sign * (center + end) for end in ends)
    effective = float(weights.sum() ** 2 / weights.square().sum())
    return Annealed(sign * (center + math.log(mean)), low, high, count, temperatures, effective)


@runtime_checkable
class Flippable(Protocol):
    """A model of binary visible units with a tractable free energy."""

    def free_energy(self, visible: Tensor) -> Tensor:
        """F(v), nats."""


def pseudo_log_likelihood(
    model: Flippable, visible: Float[Tensor, "batch units"], rng: torch.Generator, *, exact: bool = False
) -> Float[Tensor, " batch"]:
    """Sum over the units of log p(v_i | all others), nats an example: a cheap proxy of log p(v) that needs no log Z.

    Args:
        model: A model of binary visible units.
        visible: Zeros and ones.
        rng: Chooses the unit of each example that stands for all of them, where it is not exact.
        exact: Take every unit, at the cost of one free energy each.

    Source: Besag 1975, Statistical analysis of non-lattice data.
    """
    count, units = visible.shape
    base = model.free_energy(visible)

    def flipped(chosen: Tensor) -> Tensor:
        other = visible.clone()
        rows = torch.arange(count, device=visible.device)
        other[rows, chosen] = 1 - other[rows, chosen]
        return torch.nn.functional.logsigmoid(model.free_energy(other) - base)

    if exact:
        return sum((flipped(torch.full((count,), unit, device=visible.device)) for unit in range(units)), base.new_zeros(count))
    return units * flipped(torch.randint(units, (count,), generator=rng, device=visible.device))


@runtime_checkable
class Enumerable(Annealable, Protocol):
    """A model that counts its states where they are few."""

    def log_partition(self) -> float:
        """The log of Z, nats, exactly.

        Raises:
            TooLarge: There are too many states.
        """


def best_log_partition(model: Enumerable, rng: torch.Generator, *, chains: int = 100, temperatures: int = 14500) -> Annealed:
    """The log of Z exactly where a layer is small enough to enumerate (with no interval and no chains), else by annealing."""
    try:
        exact = model.log_partition()
    except TooLarge:
        return annealed_log_partition(model, rng, chains=chains, temperatures=temperatures)
    return Annealed(exact, exact, exact, 0, 0, math.inf)
