"""Counting what a model learns."""

from __future__ import annotations

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Number of trainable scalars of a module; a parameter shared by several layers counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
