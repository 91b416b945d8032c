"""Restricted Boltzmann machines whose weights are shared over an image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from deepforward.errors import InvalidOption, UnknownName
from deepforward.layers.shapes import expect_image
from deepforward.models.energy.bipartite import Bipartite
from deepforward.models.energy.energy_model import State
from deepforward.models.energy.grouped_units import PooledUnits
from deepforward.models.energy.units import BinaryUnits, GaussianUnits, Units

#: Kinds of visible units.
VISIBLE = ("binary", "gaussian")


class ConvolutionalRBM(Bipartite):
    """A restricted Boltzmann machine of images: E(v, h) = U(v) - sum_c b_c v_c - sum_k c_k h_k - sum_k h_k · (W_k * v).

    W_k * v is the correlation of all channels with the kernel of map k where it lies wholly within the image, so that a map has
    (height - kernel + 1) x (width - kernel + 1) units. Each map has one bias, and so has each channel. The gradient of a
    kernel is a sum over its positions, so that larger images want a lower rate.

    Centring takes the mean of each channel from the visible units, and nothing from the hidden ones: a hidden offset would need
    a visible bias W' l, which at the border, where fewer hidden units reach, differs from that within, while biases are shared.

    Args:
        input_shape: (channels, height, width).
        maps: Number of maps of hidden units.
        kernel: Side of a kernel, odd or even.
        pool: 0 or 1: hidden units are independent. From 2: side of the square blocks of hidden units of which at most one is 1
            (probabilistic max pooling); it divides the sides of the maps.
        visible: `binary` (data in [0, 1]) or `gaussian` (standardised data).
        weight_scale: Standard deviation of the first weights.

    Raises:
        ShapeError: The examples are no images, or smaller than the kernel.
        InvalidOption: A number out of range, or maps that `pool` does not divide.
        UnknownName: An unknown kind of units.

    Source:
        Lee, Grosse, Ranganath, Ng 2009, Convolutional deep belief networks for scalable unsupervised learning of hierarchical
        representations, ICML.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        maps: int = 24,
        kernel: int = 5,
        pool: int = 0,
        visible: str = "binary",
        weight_scale: float = 0.01,
    ) -> None:
        super().__init__()
        for name, value, least in (("maps", maps, 1), ("kernel", kernel, 1), ("pool", pool, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidOption(f"convolutional-rbm got {name}={value!r}; expected a whole number of at least {least}")
        if not weight_scale >= 0:
            raise InvalidOption(f"convolutional-rbm got weight_scale={weight_scale}; expected a number of at least 0")
        if visible not in VISIBLE:
            raise UnknownName("kind of visible units", visible, VISIBLE)
        channels, height, width = expect_image("convolutional-rbm", input_shape, smallest=kernel)
        self.input_shape, self.kernel = tuple(input_shape), kernel
        self.map_shape = maps, height - kernel + 1, width - kernel + 1
        size, positions = channels * height * width, height * width
        self.visible_units: Units = (
            BinaryUnits(size, positions) if visible == "binary" else GaussianUnits(size, positions=positions)
        )
        self.hidden_units = _hidden_units(self.map_shape, pool)
        self.weight = nn.Parameter(torch.randn(maps, channels, kernel, kernel) * weight_scale)

    def up(self, visible: Float[Tensor, "rows visible"]) -> Float[Tensor, "rows hidden"]:
        """The correlation W * v, by map."""
        return F.conv2d(self._image(visible), self.weight).flatten(1).to(visible.dtype)

    def down(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows visible"]:
        """The transpose of `up`: each hidden unit that is 1 adds its kernel where it lies."""
        return F.conv_transpose2d(self._map(hidden), self.weight).flatten(1).to(hidden.dtype)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
        """Means of the hidden units given the examples, or of the blocks of pooled ones: the features."""
        means = self.activity(self.visible(inputs))
        return self.hidden_units.pooled(means) if isinstance(self.hidden_units, PooledUnits) else means

    @torch.no_grad()
    def gap_gradients(self, data: State, chains: State, offsets: State | None = None) -> dict[str, Tensor]:
        """-<v * h> over the data plus that over the chains, both in one product; and the same of v and of h."""
        rows, share = len(chains[0]), -len(chains[0]) / len(data[0])
        seen = torch.cat((chains[0], data[0]))
        driven = torch.cat((chains[1], data[1] * share))
        with torch.autocast(seen.device.type, enabled=False):
            weight = conv2d_weight(self._image(seen), self.weight.shape, self._map(driven))
        gradients = {
            "weight": weight / rows,
            "visible_units.bias": self.visible_units.shared(chains[0].mean(0) - data[0].mean(0)),
            "hidden_units.bias": self.hidden_units.shared(chains[1].mean(0) - data[1].mean(0)),
        }
        if offsets is not None:
            self.recentre(gradients, offsets)
        return gradients

    @torch.no_grad()
    def recentre(self, gradients: dict[str, Tensor], offsets: State) -> None:
        """Replace gradients by the steps of the parametrisation E = U(v) - sum_k h_k · W_k * (v - m) - b·(v - m) - c·h.

        m is the mean of each channel. With raw gradients G of W and k of c: W moves by D = G - k m', b as it did, c_k by k_k
        less the sum of D_k m over the kernel.

        Args:
            gradients: By parameter name; changed in place.
            offsets: Mean of the visible units; those of hidden units are not used.
        """
        mean = offsets[0].reshape(self.input_shape).mean((1, 2))
        step = gradients["weight"] - gradients["hidden_units.bias"][:, None, None, None] * mean[:, None, None]
        gradients["weight"] = step
        with torch.autocast(mean.device.type, enabled=False):
            gradients["hidden_units.bias"] = gradients["hidden_units.bias"] - step.sum((2, 3)) @ mean

    def _image(self, visible: Tensor) -> Tensor:
        return visible.reshape(len(visible), *self.input_shape)

    def _map(self, hidden: Tensor) -> Tensor:
        return hidden.reshape(len(hidden), *self.map_shape)


def _hidden_units(shape: tuple[int, int, int], pool: int) -> BinaryUnits | PooledUnits:
    maps, height, width = shape
    return PooledUnits(shape, pool) if pool > 1 else BinaryUnits(maps * height * width, height * width)
