"""Log-probabilities and entropies of independent units of zeros and ones, nats."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def softplus(inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + exp(x)), exact where torch's own threshold of 20 leaves out exp(-20)."""
    return F.softplus(inputs, threshold=40.0)


def entropy(means: Float[Tensor, "rows units"]) -> Float[Tensor, " rows"]:
    """Entropy of units with these means, summed."""
    return (torch.special.entr(means) + torch.special.entr(1 - means)).sum(1)


def entropy_given(inputs: Float[Tensor, "rows units"]) -> Float[Tensor, " rows"]:
    """Entropy of units with these log-odds, summed; means near 1 would lose the digits."""
    return (softplus(inputs) - inputs * inputs.sigmoid()).sum(1)


def log_probability(values: Float[Tensor, "rows units"], inputs: Float[Tensor, "#rows units"]) -> Float[Tensor, " rows"]:
    """Log-probability of values under these log-odds, summed."""
    return (values * inputs - softplus(inputs)).sum(1)


def log_probability_of_all(
    states: Float[Tensor, "states units"], inputs: Float[Tensor, "rows units"]
) -> Float[Tensor, "rows states"]:
    """Log-probability of each state under the log-odds of each row."""
    return inputs @ states.t() - softplus(inputs).sum(1, keepdim=True)
