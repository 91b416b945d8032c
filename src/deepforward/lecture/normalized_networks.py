"""VGG-like networks that differ in how they normalise, for the claim about batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: Norms other than the standard deviation.
NORMS = ("l1", "l2", "linf")


class Noisy(nn.Module):
    """Batch normalisation, then noise whose mean and variance for each unit are drawn anew at every step.

    Means are from U(-0.5, 0.5) and standard deviations from U(1, 1.25); those of an example lie within about 0.1 of them.

    Source: Santurkar et al. 2018, appendix A.
    """

    def __init__(self, channels: int, rng: torch.Generator) -> None:
        super().__init__()
        self.norm, self.rng = nn.BatchNorm2d(channels), rng

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """The normalised values, scaled and shifted by noise."""
        maps = self.norm(inputs)
        each = (*maps.shape[:2], 1, 1)
        mean, deviation = torch.rand(2, 1, maps.shape[1], 1, 1, generator=self.rng).unbind()
        shift = mean - 0.5 + 0.1 * (2 * torch.rand(each, generator=self.rng) - 1)
        return maps * (1 + 0.25 * deviation + 0.1 * torch.randn(each, generator=self.rng)) + shift


class LpNorm(nn.Module):
    """Centres each channel over the batch and divides by a mean l_p norm instead of the standard deviation."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.norm = norm
        self.weight, self.bias = nn.Parameter(torch.ones(1, channels, 1, 1)), nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """Normalised values, with a gain and a bias for each channel."""
        centred = inputs - inputs.mean((0, 2, 3), keepdim=True)
        if self.norm == "linf":
            scale = centred.abs().amax((0, 2, 3), keepdim=True) + 1e-5
        else:
            p = {"l1": 1.0, "l2": 2.0}[self.norm]
            scale = (centred.abs().pow(p).mean((0, 2, 3), keepdim=True) + 1e-5).pow(1 / p)
        return self.weight * centred / scale + self.bias


def _normalization(name: str, maps: int, rng: torch.Generator) -> nn.Module:
    if name in NORMS:
        return LpNorm(maps, name)
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "none": nn.Identity,
        "batch": nn.BatchNorm2d,
        "noisy": partial(Noisy, rng=rng),
    }
    return kinds[name](maps)


def vgg(shape: tuple[int, ...], normalization: str, channels: int, depth: int, rng: torch.Generator) -> nn.Module:
    """Three stages of 3x3 convolutions and pooling, each with twice as many maps, and an affine output.

    Args:
        shape: (channels, height, width) of the images, 8x8 at least.
        normalization: `none`, `batch`, `noisy`, or one of `NORMS`, after every convolution.
        channels: Maps of the first stage.
        depth: Convolutions of a stage.
        rng: Draws the noise; the weights are drawn from torch's global generator.
    """
    layers: list[nn.Module] = []
    before = shape[0]
    for maps in (channels, 2 * channels, 4 * channels):
        for _ in range(depth):
            layers += [nn.Conv2d(before, maps, 3, padding=1), _normalization(normalization, maps, rng), nn.ReLU()]
            before = maps
        layers.append(nn.MaxPool2d(2))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # without it the bare network does not begin to learn
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * (shape[1] // 8) * (shape[2] // 8), 10))
