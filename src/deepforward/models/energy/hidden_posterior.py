"""Hidden units of a Boltzmann machine given what they receive: summed out, drawn, or approximated by mean field.

Each function takes the inputs c + v W (rows, hidden) that come from biases and visible units, and the weights (hidden, hidden)
among the hidden units.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.models.energy.bernoulli import softplus
from deepforward.models.energy.enumeration import all_states
from deepforward.models.energy.sweeps import agreement, draw_sweep, sweep

#: Hidden units with connections among them up to which their states are enumerated for each example: 2^12 numbers a row.
MOST_ENUMERATED = 12
#: Sweeps over more hidden units than that, from a draw of their mean field, before they stand for the posterior.
_SETTLING = 10


class MeanField(NamedTuple):
    """Means (rows, hidden) of independent hidden units, and the largest change that another update would make to one."""

    means: Tensor
    residual: float


def summed_out(
    inputs: Float[Tensor, "rows hidden"], weight: Float[Tensor, "hidden hidden"], independent: bool
) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows hidden"]]:
    """Log of the sum over the hidden states, nats, and means of the hidden units.

    Args:
        inputs: What they receive from outside.
        weight: Weights among them.
        independent: Whether all of these are zero; otherwise all states are enumerated.
    """
    if independent:
        return softplus(inputs).sum(1), inputs.sigmoid()
    states, logits = _all_logits(inputs, weight)
    return logits.logsumexp(1), logits.softmax(1) @ states


def draw_enumerated(
    inputs: Float[Tensor, "rows hidden"], weight: Float[Tensor, "hidden hidden"], rng: torch.Generator
) -> Float[Tensor, "rows hidden"]:
    """One of all states for each row, with its exact probability."""
    states, logits = _all_logits(inputs, weight)
    return states[torch.multinomial(logits.double().softmax(1), 1, generator=rng)[:, 0]]


def settle(
    drawn: Float[Tensor, "rows hidden"],
    inputs: Float[Tensor, "rows hidden"],
    weight: Float[Tensor, "hidden hidden"],
    rng: torch.Generator,
) -> Float[Tensor, "rows hidden"]:
    """Draws of independent units after the few sweeps by which they come to stand for the posterior."""
    values = drawn.t().contiguous()
    for _ in range(_SETTLING):
        draw_sweep(values, weight, inputs.t(), rng)
    return values.t()


def mean_field(
    inputs: Float[Tensor, "rows hidden"], weight: Float[Tensor, "hidden hidden"], tolerance: float, sweeps: int
) -> MeanField:
    """Means q of independent units that fit the posterior best: q_i = sigmoid(inputs_i + (q W)_i) for all i.

    One unit is updated after the other, each to the best value given the others, so that the bound of log p(v) rises until
    the means stand still; updates of all at once need not converge.

    Args:
        inputs: What the hidden units receive from outside.
        weight: Weights among them.
        tolerance: Residual at which to stop; no less than 4 roundings of the type of the inputs.
        sweeps: Updates of each unit after which to stop in any case.

    Source: Peterson and Anderson 1987, A mean field theory learning algorithm for neural networks, Complex Systems 1.
    """
    inputs = inputs.t().contiguous()
    means, stop, left = inputs.sigmoid(), max(tolerance, 4 * torch.finfo(inputs.dtype).eps), sweeps
    while True:
        totals = torch.addmm(inputs, weight, means)
        residual = float((totals.sigmoid() - means).abs().amax()) if means.numel() else 0.0
        if residual <= stop or left == 0:
            return MeanField(means.t(), residual)
        sweep(means, totals, weight, None)
        left -= 1


def _all_logits(inputs: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """All states of the hidden units, and minus their energy given the visible ones, (rows, states)."""
    states = torch.cat(list(all_states(inputs.shape[1], like=inputs)))
    return states, inputs @ states.t() + agreement(states, weight, weight.new_zeros(()))
