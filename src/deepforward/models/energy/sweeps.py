"""Units connected with each other: their agreement, and updates of one after the other, many rows at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def agreement(
    values: Float[Tensor, "rows units"], weight: Float[Tensor, "units units"], bias: Float[Tensor, "..."]
) -> Float[Tensor, " rows"]:
    """b·x + x'W x / 2 of each row, which is minus its energy."""
    return (values * (values @ weight / 2 + bias)).sum(1)


def draw_sweep(
    values: Tensor,
    weight: Tensor,
    bias: Tensor,
    rng: torch.Generator,
    *,
    scale: float | Tensor = 1.0,
    hold: Tensor | None = None,
) -> None:
    """One sweep of Gibbs sampling in place, at fields bias + scale W x; `hold` is added to the noise."""
    uniform = torch.rand(values.shape, generator=rng, device=values.device, dtype=torch.float64)
    noise = uniform.logit().to(values.dtype)  # logistic noise below the field: a unit is 1 with probability sigmoid(field)
    totals = (weight @ values) * scale + bias
    sweep(values, totals, weight, noise if hold is None else noise + hold, scale)


def sweep(
    values: Float[Tensor, "units rows"],
    totals: Float[Tensor, "units rows"],
    weight: Float[Tensor, "units units"],
    noise: Float[Tensor, "units rows"] | None,
    scale: float | Tensor = 1.0,
) -> None:
    """Update one unit after the other in place, all rows at once: 1 above the noise, or the mean where there is none.

    A change of one unit changes all fields by a product of rank 1, so that a sweep costs as much as one product with W.
    """
    alpha, factor = (1.0, scale) if isinstance(scale, Tensor) else (scale, None)
    for unit, total in enumerate(totals):
        new = total.sigmoid() if noise is None else (total > noise[unit]).to(values.dtype)
        change = new - values[unit]
        totals.addr_(weight[unit], change if factor is None else change * factor[0], alpha=alpha)
        values[unit] = new
