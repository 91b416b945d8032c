"""All states of a few binary units."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

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


def _duration(work: int, units: int) -> str:
    digits = len(str(work * 2**units // int(_SPEED * 3.2e7)))
    years = work * 2.0 ** min(units, 900) / (_SPEED * 3.2e7)
    if years >= 1:
        return f"10^{digits - 1} years"
    return f"{years * 3.2e7:.0f} seconds" if years * 3.2e7 < 3600 else f"{years * 8800:.0f} hours"
