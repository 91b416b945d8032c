"""Greedy training: the stages by which a stack of layers is trained from the bottom up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def greedy_stages(
    layers: int,
    *,
    epochs: int,
    learning_rate: float = 0.05,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    binarize: str = "stochastic",
    ais_chains: int = 0,
    ais_temperatures: int = 5000,
) -> tuple[dict[str, Any], ...]:
    """One mapping of recipe fields for each layer, each training this layer alone on the means of the ones below it.

    Args:
        layers: Number of layers.
        epochs: Passes over the training split, each.
        learning_rate: First rate, which falls to 0.
        momentum: Share of a step that the next one repeats.
        weight_decay: Penalty of the weights.
        binarize: How data become values of the lowest units; the means that upper layers see are always drawn from.
        ais_chains: Chains that measure the likelihood of the whole when the last layer is trained; 0: none.
        ais_temperatures: Temperatures that they pass.

    Returns:
        What `engine.Recipe.pretraining` takes, from the lowest layer up.
    """
    options: list[dict[str, Any]] = [{"layer": layer, "ais_chains": 0} for layer in range(layers)]
    if ais_chains:
        options[-1] |= {"ais_chains": ais_chains, "ais_temperatures": ais_temperatures}
    options[0] |= {"binarize": binarize}
    return tuple(
        descent(
            "layerwise-contrastive-divergence",
            chosen,
            epochs=epochs,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
        )
        for chosen in options
    )


def descent(
    objective: str,
    options: Mapping[str, Any],
    *,
    epochs: int,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> dict[str, Any]:
    """The recipe fields of a stage of plain gradient descent at a rate that falls to 0, whatever the recipe itself does.

    Args:
        objective: Name of its objective.
        options: Those of the objective.
        epochs: Passes over the training split.
        learning_rate: First rate.
        momentum: Share of a step that the next one repeats.
        weight_decay: Penalty of the weights.
    """
    return {
        "objective": objective,
        "objective_options": dict(options),
        "epochs": epochs,
        "optimizer": "sgd",
        "optimizer_options": {"momentum": momentum} if momentum else {},
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "schedule": "linear",
        "schedule_options": {},
        "averaging": 0.999,
        "clip": None,
        "patience": None,
    }
