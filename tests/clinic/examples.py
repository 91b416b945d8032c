"""Readings and evidence made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deepforward.clinic import Evidence
from deepforward.instruments import Readings

NAN = float("nan")


def readings(
    gradients: Sequence[float],
    kinds: Sequence[str] | None = None,
    steps: Sequence[int] = (0, 1, 2),
    born: bool = True,
    **others: Sequence[float],
) -> Readings:
    """Layers named a#0, b#0, ... whose statistics are the same at all steps.

    Unless `born`, those beside the gradient are 0 at the first step.
    """
    count = len(gradients)
    values = {"gradient_rms": np.tile(np.array(gradients, dtype=np.float64), (len(steps), 1))}
    for name, numbers in others.items():
        values[name] = np.tile(np.array(numbers, dtype=np.float64), (len(steps), 1))
        if not born:
            values[name][0] = np.where(np.isfinite(values[name][0]), 0.0, NAN)
    return Readings(
        layers=tuple(f"{chr(ord('a') + i)}#0" for i in range(count)),
        kinds=tuple(kinds or ["Linear"] * count),
        steps=tuple(steps),
        values=values,
    )


def history(*losses: float) -> list[Mapping[str, float]]:
    return [{"epoch": i, "train/loss": loss} for i, loss in enumerate(losses, start=1)]


def stuck(**fields: object) -> Evidence:
    """A run that has learnt nothing."""
    return Evidence(history=history(2.303, 2.3028, 2.3026), chance=2.302585, **fields)


def geometric(decades_per_layer: float, layers: int) -> list[float]:
    """Gradients that change by a constant factor per layer towards the input, 1 at the last."""
    return [10.0 ** (decades_per_layer * (layers - 1 - i)) for i in range(layers)]
