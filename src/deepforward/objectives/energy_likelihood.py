"""How likely an energy-based model makes its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepforward.metrics.likelihood import best_log_partition

#: Examples that are pushed through the model at once.
_CHUNK = 1000


@torch.no_grad()
def log_likelihoods(
    energy: Any, splits: Mapping[str, Tensor], binarize: str, rng: torch.Generator, *, chains: int, temperatures: int
) -> dict[str, float]:
    """Mean log p(v) of each split or a lower bound of it (`.../log_likelihood_bound`), nats an example, and log Z.

    Both come with the ends of the interval of log Z, where that is estimated by annealing.

    Args:
        energy: A model known up to its partition function.
        splits: Scaled examples by name.
        binarize: How data become values of the visible units.
        rng: Draws.
        chains: Chains of annealed importance sampling, where no layer is small enough to enumerate; 0: nothing is measured.
        temperatures: Temperatures of it.
    """
    if not chains:
        return {}
    log_z = best_log_partition(energy, rng, chains=chains, temperatures=temperatures)
    found = {"log_partition": log_z.log_partition, "log_partition_low": log_z.low, "log_partition_high": log_z.high}
    for split, inputs in splits.items():
        name = f"{split}/log_likelihood{'_bound' if energy.is_bound else ''}"
        unnormalised = mean_log_unnormalised(energy, inputs, binarize, rng)
        found[name] = unnormalised - log_z.log_partition
        found |= {f"{name}_low": unnormalised - log_z.high, f"{name}_high": unnormalised - log_z.low}
    return found


@torch.no_grad()
def mean_log_unnormalised(energy: Any, inputs: Tensor, binarize: str, rng: torch.Generator) -> float:
    """Mean over examples of log p(v) + log Z, or of a lower bound of it, nats."""
    visible = energy.realise(energy.visible(inputs), binarize, rng)
    sums = [energy.log_unnormalised(chunk, rng).sum(dtype=torch.float64) for chunk in visible.split(_CHUNK)]
    return float(torch.stack(sums).sum()) / len(visible)
