"""Mean field of a deep Boltzmann machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.models.energy.energy_model import State
from deepforward.models.energy.neighbours import received
from deepforward.models.energy.products import product, sigmoid
from deepforward.models.energy.units import BinaryUnits


class LayeredMeanField(NamedTuple):
    """Data and means of all hidden layers, and the largest change of a mean in the last sweep."""

    state: State
    residual: float


def mean_field(
    visible: Float[Tensor, "batch units"],
    layers: Sequence[BinaryUnits],
    weights: Sequence[Tensor],
    steps: int,
    tolerance: float,
) -> LayeredMeanField:
    """Means of independent hidden units that fit the posterior of all layers best.

    The means approach the fixed point of m(k) = sigmoid(c(k) + m(k-1) W(k) + m(k+1) W(k+1)'). A sweep sets first the odd
    layers, then the even ones, so that none worsens the bound. It begins with a pass up that doubles what comes from below.

    Args:
        visible: Data.
        layers: Units from the visible ones up.
        weights: Weights between neighbouring layers, in the format of the products.
        steps: Most sweeps.
        tolerance: Change at which to stop.
    """
    last = len(weights)
    visible = visible.to(weights[0].dtype)
    given = product(visible, weights[0])  # data stand still, and so does what the first hidden layer receives from them
    state = [visible, sigmoid(2 * given, layers[1].bias)]
    for k in range(2, last + 1):
        inputs = product(state[k - 1], weights[k - 1])
        state.append(sigmoid(inputs if k == last else 2 * inputs, layers[k].bias))
    residual = math.inf
    for _ in range(steps):
        before = state[1:]
        for k in (*range(1, last + 1, 2), *range(2, last + 1, 2)):
            state[k] = sigmoid(received(state, k, weights, given), layers[k].bias)
        with torch.no_grad():
            residual = max(float((new - old).abs().max()) for new, old in zip(state[1:], before, strict=True))
        if residual <= tolerance:
            break
    return LayeredMeanField(tuple(state), residual)
