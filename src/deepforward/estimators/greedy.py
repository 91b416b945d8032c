"""Stages of training by which stacks are built from the bottom up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deepforward.estimators.arrays import python_number


def layerwise(layers: int, options: Mapping[str, Any], epochs: int) -> list[dict[str, Any]]:
    """Fields of the recipe for each layer, which is trained alone on the means of the layers below.

    Args:
        layers: Number of layers.
        options: Those of contrastive divergence.
        epochs: Passes over the data for each.
    """
    objective = "layerwise-contrastive-divergence"
    return [{"objective": objective, "objective_options": {"layer": n, **options}, "epochs": epochs} for n in range(layers)]


def sizes(hidden: Iterable[Any] | Any) -> Any:
    """Sizes of hidden layers as plain numbers; what is no sequence is left for the model to refuse."""
    return [python_number(size) for size in hidden] if isinstance(hidden, Iterable) else python_number(hidden)
