"""Greedy training: the stages by which a stack of layers is trained from the bottom up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LEARNING_RATE = 0.05


def greedy_stages(
    layers: int, *, epochs: int, learning_rate: float = _LEARNING_RATE, ais_chains: int = 0, **options: Any
) -> tuple[dict[str, Any], ...]:
    """One mapping of recipe fields for each layer, each training this layer alone on the means of the ones below it.

    Args:
        layers: Number of layers.
        epochs: Passes over the training split, each.
        learning_rate: First rate, which falls to 0.
        ais_chains: Chains that measure the likelihood of the whole when the last layer is trained; 0: none.
        options: More options of the objective `layerwise-contrastive-divergence`.
    """
    fields: Mapping[str, Any] = {
        "objective": "layerwise-contrastive-divergence",
        "epochs": epochs,
        "optimizer": "sgd",
        "optimizer_options": {},
        "learning_rate": learning_rate,
        "weight_decay": 0.0,
        "schedule": "linear",
        "schedule_options": {},
        "averaging": 0.999,
        "clip": None,
        "patience": None,
    }
    return tuple(
        {**fields, "objective_options": {"layer": layer, "ais_chains": ais_chains if layer + 1 == layers else 0, **options}}
        for layer in range(layers)
    )
