"""Which examples make a batch."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int64
from torch import Tensor


def batches_per_epoch(examples: int, batch_size: int) -> int:
    """Number of batches, which differ by one example at most.

    A small last batch would wreck the statistics of batch normalisation, and a single example has none at all.
    """
    wanted = math.ceil(examples / batch_size)
    return wanted if batch_size == 1 else max(1, min(wanted, examples // 2))


def draw_batches(examples: int, batch_size: int, rng: torch.Generator) -> tuple[Int64[Tensor, " batch"], ...]:
    """Indices of the batches of one epoch, in an order drawn from `rng`."""
    return torch.randperm(examples, generator=rng).tensor_split(batches_per_epoch(examples, batch_size))
