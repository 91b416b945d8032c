"""What a model that ignores its input can reach: the level from which progress is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def chance_level(objective: str, options: Mapping[str, Any], targets: Tensor) -> float | None:
    """Training loss of the best constant output.

    - `cross-entropy`: entropy of the class frequencies, -sum p log p, nats.
    - `squared-error`: variance of the targets.
    - `mse-one-hot`: (high - low)^2 times the mean of p (1 - p).

    Args:
        objective: Name of the objective's card.
        options: Its keyword arguments.
        targets: Targets of the training split.

    Returns:
        The level, or None for an objective whose chance level is not known.
    """
    if objective == "squared-error":
        return float(targets.double().var(correction=0))
    if objective not in ("cross-entropy", "mse-one-hot"):
        return None
    p = torch.bincount(targets.long()).double() / len(targets)
    if objective == "cross-entropy":
        return float(torch.special.entr(p).sum())
    span = options.get("high", 1.0) - options.get("low", -1.0)
    return float(span**2 * (p * (1 - p)).mean())
