"""Which pixels count in what a unit sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidModel
from deepforward.instruments.layer_outputs import check_called, run, watching_layers
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import unwrapped

#: Share of the gradient's size that an effective field holds.
HELD = 0.95

#: Random sums of the channels that a gradient is taken of.
_SIGNS = 4


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """How strongly each pixel acts on the unit in the middle of a layer.

    Attributes:
        layer: Name of the layer.
        influence: (height, width) float64, sum 1: size of the gradient of the unit by each pixel, root mean square over
            examples and channels of the layer, summed over channels of the image.
    """

    layer: str
    influence: np.ndarray

    @property
    def area(self) -> int:
        """The least number of pixels that together hold 95% of the influence."""
        falling = np.sort(self.influence, axis=None)[::-1].cumsum()
        return int(np.searchsorted(falling, HELD - 1e-12)) + 1

    @property
    def size(self) -> float:
        """Side in pixels of the square of that area."""
        return float(np.sqrt(self.area))

    @property
    def deviation(self) -> tuple[float, float]:
        """Standard deviation of the influence, in pixels: downwards and to the right."""
        down, right = (_deviation(self.influence.sum(axis)) for axis in (1, 0))
        return down, right


def _deviation(weights: np.ndarray) -> float:
    at = np.arange(len(weights))
    return float(np.sqrt((weights * (at - (weights * at).sum()) ** 2).sum()))


def effective_fields(
    model: nn.Module,
    inputs: Float[Tensor, "batch channel height width"],
    layers: Sequence[str],
    rng: torch.Generator,
) -> Mapping[str, EffectiveField]:
    """The effective receptive field of the unit in the middle of each layer, before its activation, on given images.

    In a network of random weights it is a Gaussian whose width grows with the root of the depth, while the receptive field
    grows with the depth: n layers of equal weights and kernel k have the variance n (k^2 - 1) / 12.

    Args:
        model: Any module that takes images; run in evaluation mode, left as found.
        inputs: Scaled images.
        layers: Names of layers; all units of a layer without places are taken together.
        rng: Draws the signs with which channels are added, so that the mean of squares is that of the single channels.

    Raises:
        UnknownName, InvalidModel: As `receptive_fields`; also if no gradient arrives.

    Source:
        Luo, Li, Urtasun, Zemel 2016, Understanding the effective receptive field in deep convolutional networks.
    """
    model = unwrapped(model)
    squares = {layer: torch.zeros(inputs.shape[1:], dtype=torch.float64) for layer in layers}
    with left_as_found(model), torch.enable_grad(), watching_layers(model, layers, unactivated=True) as seen:
        start = inputs.detach().clone().requires_grad_()
        run(model, start)
        check_called(seen, layers)
        for layer in layers:
            maps = seen[layer] if seen[layer].dim() == 4 else seen[layer].flatten(1)[:, :, None, None]
            units = maps[:, :, (maps.shape[2] - 1) // 2, (maps.shape[3] - 1) // 2]
            for _ in range(_SIGNS):
                signs = (torch.randint(2, units.shape, generator=rng) * 2 - 1).to(units)
                (gradient,) = torch.autograd.grad(units, start, signs, retain_graph=True, allow_unused=True)
                if gradient is not None:
                    squares[layer] += gradient.detach().cpu().double().square().sum(0)
    return {layer: EffectiveField(layer, _influence(layer, square)) for layer, square in squares.items()}


def _influence(layer: str, squares: Tensor) -> np.ndarray:
    size = squares.sqrt().sum(0).numpy()
    if not size.sum() > 0:
        raise InvalidModel(
            f"no gradient of '{layer}' arrives at the image; name a layer that depends on it, or train the model"
        )
    return size / size.sum()
