"""Planted illnesses: one for each rule, with a cure proved on it and a placebo proved not to be one; and healthy recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepforward.clinic import planted
from deepforward.engine import Recipe

#: Networks in plain torch that can be given an illness.
STACK, DILATED = (f"{Path(planted.__file__)}:{name}" for name in ("stack", "dilated"))


@dataclass(frozen=True)
class Illness:
    """A recipe that is ill in one known way.

    Attributes:
        recipe: What to train; seconds on one core.
        why: What is wrong with it, by construction.
        cure: A prescription that cures it.
        placebo: A prescription that does not.
        needs_twin: Whether the rule compares with the shallower twin.
        seeds: Seeds of the pairs of runs that a trial needs: more where untreated runs differ much from seed to seed, and none
            that the recipe was tuned on.
    """

    recipe: Recipe
    why: str
    cure: str
    placebo: str
    needs_twin: bool = False
    seeds: Sequence[int] = range(3)


def _digits(model: str = "perceptron", *, learning_rate: float = 0.05, batch_size: int = 128, **options: Any) -> Recipe:
    narrow = {"width": 32} if model == "perceptron" else {}
    return Recipe(
        model=model,
        model_options=narrow | options,
        data="digits",
        epochs=4,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )


def _shapes(**options: Any) -> Recipe:
    """Discs in noise, which a pixel alone does not tell from their ground."""
    return Recipe(
        model=DILATED,
        model_options=options,
        data="shapes?n=200&classes=2&size=24&noise=0.25",
        objective="pixel-cross-entropy",
        epochs=6,
        batch_size=16,
        learning_rate=0.1,
        precision="fp32",
    )


def _machine(data: str = "digits", *, hidden: int = 12, epochs: int = 20, **fields: Any) -> Recipe:
    """A restricted Boltzmann machine of so few hidden units that its likelihood is exact; fp32, so that machines agree."""
    usual: dict[str, Any] = {
        "validation": 0.2,
        "batch_size": 100,
        "learning_rate": 2.0,
        "schedule": "constant",
        "averaging": 0.99,
        "precision": "fp32",
    }
    options = {"hidden": hidden, **fields.pop("model_options", {})}
    chains = {"persistent": False, **fields.pop("objective_options", {})}
    return Recipe(model="rbm", model_options=options, data=data, epochs=epochs, objective_options=chains, **usual | fields)


#: Rule -> illness.
ILLNESSES: Mapping[str, Illness] = {
    "not-finite": Illness(
        _digits(depth=3, learning_rate=1000.0, batch_size=32),
        "a learning rate at which the first steps overflow",
        cure="learning-rate",
        placebo="critical-initialization",
    ),
    "unscaled-inputs": Illness(
        _digits(depth=3, initialization="he", learning_rate=0.2).replace(scaling="none"),
        "raw pixels from 0 to 16, whose mean square of 60 makes the first layer's steps as many times too long",
        cure="standardise-data",
        placebo="residual-connections",
    ),
    "dead-units": Illness(
        _digits(STACK, dead=2, learning_rate=0.3),
        "a layer of rectifiers whose bias never lets them fire",
        cure="batch-normalization",
        placebo="learning-rate",
    ),
    "saturation": Illness(
        _digits(STACK, depth=4, activation="tanh", weight_variance=400.0),
        "weights twenty times as large as tanh bears, which push it to its ends",
        cure="critical-initialization",
        placebo="gradient-clipping",
    ),
    "vanishing": Illness(
        _digits(depth=16),
        "PyTorch's default initialisation, which shrinks the gradient of a rectifier network 2.4 times per layer",
        cure="residual-connections",
        placebo="learning-rate",
    ),
    "exploding": Illness(
        _digits(depth=30, width=16, normalization="batch"),
        "batch normalisation without skips, which makes the gradient grow 1.2 times per layer",
        cure="residual-connections",
        placebo="gradient-clipping",
    ),
    "rank-collapse": Illness(
        _digits(depth=32, width=64, initialization="he", learning_rate=0.02),
        "a deep plain network whose gradient is as strong at its first layer as at its last, but carries no information",
        cure="residual-connections",
        placebo="gradient-clipping",
        seeds=range(5),
    ),
    "long-steps": Illness(
        _digits(depth=4, activation="tanh", learning_rate=2.0),
        "steps so long that they push tanh to its ends",
        cure="learning-rate",
        placebo="critical-initialization",
    ),
    "degradation": Illness(
        _digits(depth=16, normalization="batch"),
        "plain layers, normalised, whose gradient is within bounds and which learn less than four of them",
        cure="residual-connections",
        placebo="gradient-clipping",
        needs_twin=True,
    ),
    "gridding": Illness(
        _shapes(rates=(4, 4, 4)),
        "rates of 4 in all layers, which touch 49 of the 625 pixels of their field, so that noise is averaged over few",
        cure="hybrid-dilation",
        placebo="residual-connections",
    ),
    "no-progress": Illness(
        _digits(depth=3, learning_rate=1e-5, batch_size=32),
        "a learning rate 5000 times too small",
        cure="learning-rate",
        placebo="batch-normalization",
    ),
    "stuck-chains": Illness(
        _machine(
            "bars-and-stripes?n=600",
            epochs=40,
            batch_size=20,
            averaging=0.0,
            objective_options={"persistent": True},
        ),
        "thirty patterns far from each other, learnt so fast that chains cannot leave the one they are in",
        cure="slower-learning",
        placebo="sparsity-target",
    ),
    "idle-units": Illness(
        _machine(learning_rate=5.0, validation=0.3, objective_options={"centre": False}),
        "a gradient that is not centred: it first moves the hidden biases, so far that no unit is ever on again",
        cure="centring",
        placebo="fewer-hidden-units",
    ),
    "overfitting": Illness(
        _machine("bars-and-stripes?n=600&noise=0.06", hidden=16, epochs=80, batch_size=10, learning_rate=4.0, validation=0.8),
        "ninety noisy examples gone through eighty times at a high rate, until their noise is known by heart",
        cure="weight-decay",
        placebo="sparsity-target",
        seeds=range(6, 9),
    ),
    "unstable-learning": Illness(
        _machine(learning_rate=20.0, validation=0.3, objective_options={"persistent": True}),
        "steps so long that all chains run after each change of the weights together",
        cure="slower-learning",
        placebo="fewer-hidden-units",
    ),
    "dead-filters": Illness(
        _digits(
            STACK,
            learning_rate=0.1,
            batch_size=64,
            kind="convolutional",
            depth=2,
            width=8,
            dead=2,
            dead_share=0.875,
            weight_variance=2.0,
        ),
        "a convolutional layer seven of whose eight filters have a bias that never lets them answer",
        cure="batch-normalization",
        placebo="weight-decay",
    ),
    "small-receptive-field": Illness(
        Recipe(
            model=STACK,
            model_options={"kind": "convolutional", "depth": 3, "width": 12, "cells": 1, "weight_variance": 2.0},
            data="bar-pairs?n=500",
            epochs=8,
            batch_size=25,
            learning_rate=0.1,
        ),
        "three layers that see 7 pixels at once before all is averaged, and pairs of bars 7 or 11 apart",
        cure="growing-dilation",
        placebo="batch-normalization",
    ),
}

#: Name -> recipe on which every rule must be silent.
HEALTHY: Mapping[str, Recipe] = {
    "shallow": _digits(depth=3, batch_size=32),
    "sigmoid": _digits(depth=1, activation="sigmoid", learning_rate=0.2),
    "normalised": _digits(depth=6, normalization="batch"),
    "residual": _digits(depth=21, residual=2, normalization="batch"),
    "critical": _digits(depth=20, activation="tanh", initialization="critical", batch_size=64),
    "convolutional": Recipe(model="lenet5", data="digits", epochs=2),
    "hybrid-dilation": _shapes(rates=(1, 3, 8)),
    "rings": _digits(depth=3, batch_size=32).replace(data="rings", epochs=15),
    "contrastive-divergence": _machine(validation=0.1),
    "persistent-chains": _machine(validation=0.1, objective_options={"persistent": True}),
    "gaussian": _machine(validation=0.1, learning_rate=0.1, scaling="standardise", model_options={"visible": "gaussian"}),
}
