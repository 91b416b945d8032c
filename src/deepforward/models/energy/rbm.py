"""Restricted Boltzmann machines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.layers.sampling import bernoulli, draw_key, sample_sigmoid
from deepforward.models.energy.bipartite import Bipartite
from deepforward.models.energy.energy_model import Connection, State, centre
from deepforward.models.energy.units import BinaryUnits, hidden_units, visible_units


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
        return (visible @ self.weight).to(visible.dtype)

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
        means = _product(visible, weight)
        sample_sigmoid(means, self.hidden_units.bias, None, probabilities=means)
        return visible, means

    @torch.no_grad()
    def observe(self, visible: Float[Tensor, "batch visible"], rng: torch.Generator) -> tuple[State, State]:
        """The data phase, and chains that start at the data."""
        if not self.is_binary or visible.dtype == torch.float64:
            return super().observe(visible, rng)
        visible, weight = self._rounded(visible)
        inputs = _product(visible, weight)
        means, drawn = torch.empty_like(inputs), torch.empty_like(inputs)
        sample_sigmoid(inputs, self.hidden_units.bias, draw_key(rng), probabilities=means, samples=drawn)
        return (visible, means), (visible, drawn)

    @torch.no_grad()
    def dream(self, state: State, rng: torch.Generator, steps: int = 1) -> tuple[State, State]:
        """(visible draws with the means of the hidden units, visible and hidden draws) `steps` sweeps later."""
        if not self.is_binary or state[1].dtype == torch.float64:
            return super().dream(state, rng, steps)
        drawn, weight = self._rounded(state[1])
        for step in range(steps):
            visible = _product(drawn, weight.t())
            sample_sigmoid(visible, self.visible_units.bias, draw_key(rng), samples=visible)
            inputs = _product(visible, weight)
            means, drawn = torch.empty_like(inputs), torch.empty_like(inputs)
            wanted = means if step + 1 == steps else None
            sample_sigmoid(inputs, self.hidden_units.bias, draw_key(rng), probabilities=wanted, samples=drawn)
        return (visible, means), (visible, drawn)

    @torch.no_grad()
    def gap_gradients(self, data: State, chains: State) -> Mapping[str, Tensor]:
        """-<v h'> over the data plus that over the chains, both in one product; and the same of v and of h."""
        if self.hidden_units.bias.dtype == torch.float64 or any(
            p.requires_grad for n, p in self.named_parameters() if "precision" in n
        ):
            return super().gap_gradients(data, chains)
        return {
            "weight": _moment_gap(data, chains),
            "visible_units.bias": _mean(chains[0]) - _mean(data[0]),
            "hidden_units.bias": _mean(chains[1]) - _mean(data[1]),
        }

    @torch.no_grad()
    def centred_gradients(self, data: State, chains: State, offsets: State) -> dict[str, Tensor]:
        """`gap_gradients` of the centred parametrisation (see `energy_model.centre`).

        Values are centred before they are multiplied, which costs passes over (rows, units) and not over the weights.
        """
        if not self.is_binary or data[1].dtype == torch.float64:
            gradients = dict(self.gap_gradients(data, chains))
            centre(self.connections, gradients, offsets)
            return gradients
        below, above = (offset.to(data[1].dtype) for offset in offsets)
        weight = _moment_gap((data[0] - below, data[1] - above), (chains[0] - below, chains[1] - above))
        return {
            "weight": weight,
            "visible_units.bias": _mean(chains[0]) - _mean(data[0]) - weight @ offsets[1],
            "hidden_units.bias": _mean(chains[1]) - _mean(data[1]) - offsets[0] @ weight,
        }

    def realise(self, visible: Float[Tensor, "batch units"], how: str, rng: torch.Generator) -> Float[Tensor, "batch units"]:
        """Data made into values that the visible units take, in the precision of the products."""
        if self.is_binary and how == "stochastic":
            return bernoulli(visible, draw_key(rng), dtype=self._product_dtype(visible))
        return super().realise(visible, how, rng)

    def _product_dtype(self, values: Tensor) -> torch.dtype:
        device = values.device.type
        if values.dtype == torch.float64 or not torch.is_autocast_enabled(device):
            return torch.float64 if values.dtype == torch.float64 else torch.float32
        return torch.get_autocast_dtype(device)

    def _rounded(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values and weights in the precision of the products."""
        dtype, weight = self._product_dtype(values), self.weight
        if dtype == weight.dtype:
            return values.to(dtype), weight.detach()
        if self._narrow is None or self._narrow.dtype != dtype:
            narrow = weight.detach().to(dtype)
            if not self._is_fixed:
                return values.to(dtype), narrow
            self._narrow = narrow
        return values.to(dtype), self._narrow


def _moment_gap(data: State, chains: State) -> Tensor:
    """Mean of v h' over the chains minus that over the data, float32, in one product."""
    (visible, hidden), (dreamt, dreaming), rows = data, chains, len(chains[0])
    with torch.autocast(visible.device.type, enabled=False):
        gap = torch.cat((dreamt, visible)).t() @ torch.cat((dreaming, hidden * (-rows / len(hidden))))
    return gap * torch.full((1,), 1 / rows, device=gap.device)  # a vector of float32, so that one pass scales and widens


def _product(a: Tensor, b: Tensor) -> Tensor:
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def _mean(values: Tensor) -> Tensor:
    return values.sum(0, dtype=torch.float32) / len(values)
