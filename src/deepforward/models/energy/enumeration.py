"""All states of a few binary units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from deepforward.errors import TooLarge

#: Units from which enumeration is refused, and states that are handled at once.
MOST_UNITS, _CHUNK = 24, 2**15

#: Multiply-adds a second, for what a message says; any machine is within a factor ten.
_SPEED = 5e10


def all_states(units: int, work: int = 1, like: Tensor | None = None) -> Iterator[Float[Tensor, "states units"]]:
    """The 2^units states of binary units, in chunks, in the order of binary counting with the first unit the lowest bit.

    Args:
        units: Number of units.
        work: Multiply-adds that each state will cost, for the message.
        like: Tensor whose type and device the states take.

    Raises:
        TooLarge: More than `MOST_UNITS` units.
    """
    if units > MOST_UNITS:
        raise TooLarge(
            f"exact enumeration got {units} binary units, 2^{units} states, about {_duration(work, units)}; expected at most "
            f"{MOST_UNITS}; use annealed importance sampling (metrics.likelihood.annealed_log_partition)"
        )
    dtype, device = (like.dtype, like.device) if like is not None else (torch.float32, None)
    bits = torch.arange(units, device=device)
    for start in range(0, 2**units, _CHUNK):
        numbers = torch.arange(start, min(start + _CHUNK, 2**units), device=device)
        yield ((numbers[:, None] >> bits) & 1).to(dtype)


def log_sum_over_states(
    log_weight: Callable[[Tensor], Tensor], units: int, work: int = 1, like: Tensor | None = None
) -> Float[Tensor, ""]:
    """Log of the sum over all states s of exp(log_weight(s)), float64, nats; differentiable, with one chunk's graph at a time.

    Args:
        log_weight: States (states, units) -> (states,), nats.
        units: Number of binary units.
        work: Multiply-adds of each state, for the message.
        like: Tensor whose type and device the states take.

    Raises:
        TooLarge: More than `MOST_UNITS` units.
    """
    parts = []
    for states in all_states(units, work, like):
        if torch.is_grad_enabled() and 2**units > _CHUNK:  # each chunk is computed again for its gradient, lest all be kept
            values = checkpoint(log_weight, states, use_reentrant=False, preserve_rng_state=False)
        else:
            values = log_weight(states)
        parts.append(values.double().logsumexp(0))
    return torch.stack(parts).logsumexp(0)


def _duration(work: int, units: int) -> str:
    magnitude = math.log10(work) + units * math.log10(2) - math.log10(_SPEED * 3.2e7)
    if magnitude >= 0:
        return f"10^{int(magnitude)} years"
    years = 10**magnitude
    return f"{years * 3.2e7:.0f} seconds" if years * 3.2e7 < 3600 else f"{years * 8800:.0f} hours"
