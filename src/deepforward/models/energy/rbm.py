"""Restricted Boltzmann machines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.layers.sampling import bernoulli, draw_key
from deepforward.models.energy.bipartite import Bipartite
from deepforward.models.energy.energy_model import Connection, State
from deepforward.models.energy.products import bits_product, fire, moment_gradients, narrowed, product, product_dtype, sigmoid
from deepforward.models.energy.unit_kinds import hidden_units, visible_units
from deepforward.models.energy.units import BinaryUnits, GaussianUnits


class RBM(Bipartite):
    """A restricted Boltzmann machine: E(v, h) = U(v) - b·v + U(h) - c·h - v·W h.

    For binary units U = 0 and p(h_j = 1 | v) = sigmoid(c_j + (v W)_j). Products of a training step under autocast are rounded
    to bf16; parameters, probabilities and draws are not.

    Args:
        input_shape: Shape of one example; flattened.
        hidden: Number of hidden units.
        visible: Kind of visible units: `binary` (data in [0, 1]), `gaussian` (standardised data), `softmax` (one-hot groups).
        hidden_kind: `binary` or `relu`.
        categories: Units in a group of softmax visible units.
        learn_precision: Whether the precision of gaussian units is learnt.
        weight_scale: Standard deviation of the first weights.

    Raises:
        InvalidOption: A number out of range.
        UnknownName: An unknown kind of units.

    Source:
        Smolensky 1986, Information processing in dynamical systems: harmony theory; Hinton 2002, Training products of experts
        by minimizing contrastive divergence; Hinton 2012, A practical guide to training restricted Boltzmann machines.
    """

    connections: tuple[Connection, ...] = (Connection("weight", "visible_units.bias", "hidden_units.bias"),)

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        hidden: int = 500,
        visible: str = "binary",
        hidden_kind: str = "binary",
        categories: int = 0,
        learn_precision: bool = False,
        weight_scale: float = 0.01,
    ) -> None:
        super().__init__()
        if not weight_scale >= 0:
            raise InvalidOption(f"rbm got weight_scale={weight_scale}; expected a number of at least 0")
        self.input_shape = tuple(input_shape)
        size = math.prod(input_shape)
        self.visible_units = visible_units(visible, size, categories=categories, learn_precision=learn_precision)
        self.hidden_units = hidden_units(hidden_kind, hidden)
        self.weight = nn.Parameter(torch.randn(size, hidden) * weight_scale)
        self._is_fixed, self._narrow = False, cast(Tensor | None, None)

    def up(self, visible: Float[Tensor, "rows visible"]) -> Float[Tensor, "rows hidden"]:
        """The product v W."""
        if torch.is_grad_enabled() or product_dtype(visible) != torch.float32 or visible.dtype != torch.float32:
            return (visible @ self.weight).to(visible.dtype)
        return bits_product(visible, self.weight.detach())

    def down(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows visible"]:
        """The product h W'."""
        return (hidden @ self.weight.t()).to(hidden.dtype)

    @property
    def is_binary(self) -> bool:
        """Whether both layers are binary, for which the training step is written by hand."""
        return type(self.visible_units) is BinaryUnits and type(self.hidden_units) is BinaryUnits

    @property
    def bf16_products(self) -> bool:
        """Zeros and ones are exact in bf16, other values are not."""
        return self.is_binary

    # The training step by hand. A product is taken once where the generic methods take it for means and draws apart, and its
    # rounding is that of autocast; probabilities are computed and drawn from in fp32 (`layers.sampling`).

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """A block in which the weights stay, so that their narrow copy is made once."""
        self._is_fixed = True
        try:
            yield
        finally:
            self._is_fixed, self._narrow = False, None

    @torch.no_grad()
    def clamp(self, visible: Float[Tensor, "batch visible"], rng: torch.Generator) -> State:
        """Data, and the means of the hidden units given them; exact."""
        if not self.is_binary or visible.dtype == torch.float64:
            return super().clamp(visible, rng)
        visible, weight = self._rounded(visible)
        return visible, sigmoid(bits_product(visible, weight), self.hidden_units.bias, visible.dtype)

    @torch.no_grad()
    def observe(self, visible: Float[Tensor, "batch visible"], rng: torch.Generator) -> tuple[State, State]:
        """The data phase, and chains that start at the data."""
        if not self.is_binary or visible.dtype == torch.float64:
            return super().observe(visible, rng)
        visible, weight = self._rounded(visible)
        inputs = bits_product(visible, weight)
        drawn, means = fire(inputs, self.hidden_units.bias, rng, means=True, dtype=visible.dtype)
        return (visible, means), (visible, drawn)

    @torch.no_grad()
    def dream(self, state: State, rng: torch.Generator, steps: int = 1) -> tuple[State, State]:
        """(visible draws with the means of the hidden units, visible and hidden draws) `steps` sweeps later."""
        if not self.is_binary or state[1].dtype == torch.float64:
            return super().dream(state, rng, steps)
        drawn, weight = self._rounded(state[1])
        for step in range(steps):
            visible = fire(product(drawn, weight.t()), self.visible_units.bias, rng)[0]
            inputs, is_last = bits_product(visible, weight), step + 1 == steps
            drawn, means = fire(inputs, self.hidden_units.bias, rng, means=is_last, dtype=visible.dtype)
        return (visible, means), (visible, drawn)

    @torch.no_grad()
    def gap_gradients(self, data: State, chains: State, offsets: State | None = None) -> dict[str, Tensor]:
        """Gradient of `gap`: moments over the chains minus those over the data, of centred values if there are offsets."""
        if isinstance(self.visible_units, GaussianUnits) and self.visible_units.log_precision.requires_grad:
            return super().gap_gradients(data, chains, offsets)
        if self.is_binary:
            return moment_gradients(self.connections, data, chains, offsets)
        with torch.autocast(data[0].device.type, enabled=False):  # real values lose digits in bf16
            return moment_gradients(self.connections, data, chains, offsets)

    def realise(self, visible: Float[Tensor, "batch units"], how: str, rng: torch.Generator) -> Float[Tensor, "batch units"]:
        """Data made into values that the visible units take, in the precision of the products."""
        if self.is_binary and how == "stochastic":
            return bernoulli(visible, draw_key(rng), dtype=product_dtype(visible))
        return super().realise(visible, how, rng)

    def _rounded(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values and weights in the precision of the products."""
        dtype, weight = product_dtype(values), self.weight
        if dtype == weight.dtype:
            return values.to(dtype), weight.detach()
        narrow = self._narrow if self._narrow is not None and self._narrow.dtype == dtype else narrowed(weight, dtype)
        self._narrow = narrow if self._is_fixed else None
        return values.to(dtype), narrow
