"""Activations that saturate for the signal but not for the gradient: noise where a hard nonlinearity is flat."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: E|xi| of a standard normal xi, what noise comes to on average.
MEAN_NOISE = math.sqrt(2 / math.pi)


class NoisyActivation(nn.Module):
    """A hard activation with noise that grows with the distance from its linear part.

        phi(x, xi) = alpha h(x) + (1 - alpha) u(x) + d(x) sigma(x) |xi|,    xi ~ N(0, 1),

    where u is the linearisation of the hard h at 0, D = h - u, sigma = c (sigmoid(p D) - 1/2)^2 and d = -sgn(x) sgn(1 - alpha).
    Where h is linear, phi = h without noise; where h is flat, phi has a slope. Evaluated, |xi| is its mean sqrt(2/pi).

    Noise is drawn from torch's global generator, as dropout's is: a run seeds it, and saves its state to go on from.

    Args:
        alpha: Weight of h; above 1 phi turns back beyond the kink and noise drives it outwards, below 1 the other way round.
        p: Where noise sets in, the value at the start of a parameter that is learnt.
        c: Scale of the noise, whose standard deviation stays below c/4. A buffer, saved with the weights; see `anneal_noise_`.

    Attributes:
        slope, low, high: u(x) = slope x + (low + high)/2 and h(x) = u(x) within the bounds.

    Source:
        Gulcehre, Moczulski, Denil, Bengio 2016, Noisy activation functions.
    """

    slope: ClassVar[float]
    low: ClassVar[float]
    high: ClassVar[float]

    p: nn.Parameter
    c: Tensor

    def __init__(self, alpha: float = 0.9, p: float = 1.0, c: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.p = nn.Parameter(torch.tensor(p))
        self.register_buffer("c", torch.tensor(c))

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """phi(x, xi), with noise of its own for each element while training."""
        return self.given(inputs, torch.randn_like(inputs).abs() if self.training else MEAN_NOISE)

    def given(self, inputs: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"] | float) -> Float[Tensor, "*shape"]:
        """phi(x, xi) for a given |xi|."""
        linear = self.slope * inputs + (self.low + self.high) / 2
        hard = linear.clamp(self.low, self.high)
        excess = hard - linear
        scale = self.c * (torch.sigmoid(self.p * excess) - 0.5).square()
        # alpha h + (1 - alpha) u written as h + (alpha - 1) D, which is h to the bit where D = 0
        return hard + (self.alpha - 1) * excess + self._direction(inputs) * scale * noise

    def derivative(self, inputs: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"] | float) -> Float[Tensor, "*shape"]:
        """D phi / dx for a given |xi|: h' + ((alpha - 1) + d |xi| 2 c p (s - 1/2) s (1 - s)) D', with s = sigmoid(p D).

        D' is 0 where h is linear, and -slope where it is flat.
        """
        linear = self.slope * inputs + (self.low + self.high) / 2
        inside = (linear >= self.low) & (linear <= self.high)
        s = torch.sigmoid(self.p * (linear.clamp(self.low, self.high) - linear))
        widening = 2 * self.c * self.p * (s - 0.5) * s * (1 - s)
        flat = -self.slope * ((self.alpha - 1) + self._direction(inputs) * noise * widening)
        return torch.where(inside, self.slope, flat)

    def _direction(self, inputs: Tensor) -> Tensor:
        outwards = (self.alpha > 1) - (self.alpha < 1)
        return outwards * inputs.detach().sign()

    def extra_repr(self) -> str:
        """The weight of the hard activation."""
        return f"alpha={self.alpha:.4g}"


class NoisyHardTanh(NoisyActivation):
    """Noisy version of h(x) = clamp(x, -1, 1)."""

    slope, low, high = 1.0, -1.0, 1.0


class NoisyHardSigmoid(NoisyActivation):
    """Noisy version of h(x) = clamp(x/4 + 1/2, 0, 1), the tangent of the sigmoid (torch's own hard sigmoid has slope 1/6)."""

    slope, low, high = 0.25, 0.0, 1.0


def anneal_noise_(module: nn.Module, c: float) -> None:
    """Set the scale c of all noise in a module, to be lowered as training goes on.

    Args:
        module: Any module; without noisy activations nothing happens.
        c: The new scale; 0 leaves phi without noise.
    """
    for child in module.modules():
        if isinstance(child, NoisyActivation):
            child.c.fill_(c)
