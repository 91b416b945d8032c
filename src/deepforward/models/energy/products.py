"""Products of a training step, rounded where autocast asks for it, and averages, which are not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.layers.bit_products import Bits, MomentGap, moment_gap, padded, worthwhile
from deepforward.layers.sampling import draw_key, sample_sigmoid
from deepforward.models.energy.energy_model import Connection, State


def product_dtype(values: Tensor) -> torch.dtype:
    """The format of products with `values`: float64 if they are, that of autocast inside it, else float32."""
    device = values.device.type
    if values.dtype == torch.float64:
        return torch.float64
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def product(a: Tensor, b: Tensor) -> Tensor:
    """A b in the format that both have, whatever autocast says."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def bits_product(bits: Float[Tensor, "rows columns"], b: Float[Tensor, "columns width"]) -> Float[Tensor, "rows width"]:
    """`product` of zeros and ones with a matrix that `narrowed` made: by adding rows of it where most are zeros."""
    places = Bits.of(bits) if bits.dtype == b.dtype else None
    return product(bits, b) if places is None else places.product(b)


def narrowed(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights in the format of products, laid out for `bits_product` where this machine gains by it."""
    weight = weight.detach()
    return padded(weight) if dtype == torch.bfloat16 and weight.device.type == "cpu" and worthwhile() else weight.to(dtype)


def mean(values: Float[Tensor, "rows units"]) -> Float[Tensor, " units"]:
    """Mean over the rows, at least in float32."""
    return values.sum(0, dtype=_wide(values)) / len(values)


def moment(lower: Float[Tensor, "rows lower"], upper: Float[Tensor, "rows upper"]) -> Float[Tensor, "lower upper"]:
    """Mean over the rows of the products of lower and upper values, at least in float32."""
    return product(lower.t(), upper.to(lower.dtype)).to(_wide(lower)).div_(len(lower))


def moment_gradients(
    connections: Sequence[Connection], data: State, chains: State, offsets: State | None = None
) -> dict[str, Tensor]:
    """Gradient of mean energy of the data minus that of the chains, by parameter name, where E = -sum v·W h - sum b·v.

    Args:
        connections: Names of weights and biases, one for each pair of neighbouring layers from the lowest up.
        data: Values of the layers.
        chains: The same of the chains.
        offsets: Mean of each layer; with them the gradient is that of the centred parametrisation (`energy_model.centre`).
    """
    gradients: dict[str, Tensor] = {}
    for k, (weight, lower, upper) in enumerate(connections):
        pair = slice(k, k + 2)
        gap = gap_of_moments(data[pair], chains[pair], None if offsets is None else offsets[pair])
        gradients[weight] = gap.weight
        gradients[lower] = gradients.get(lower, gap.lower) - gap.lower_turn
        gradients[upper] = gap.upper - gap.upper_turn
    return gradients


def gap_of_moments(data: State, chains: State, offsets: State | None = None) -> MomentGap:
    """Moments of the chains minus those of the data, each (lower values, upper values); with offsets, of the centred values.

    Values are centred before they are multiplied, which costs passes over (rows, units) and not over the weights.
    """
    (lower, upper), (dreamt, dreaming), rows = data, chains, len(chains[0])
    kind, wide = product_dtype(dreamt), _wide(dreamt)
    stacked = torch.cat((dreamt.to(kind), lower.to(kind)))
    places = Bits.of(stacked) if kind == torch.bfloat16 else None
    about = [values.new_zeros(values.shape[1], dtype=wide) for values in chains] if offsets is None else offsets
    below, above = (offset.to(wide) for offset in about)
    if places is not None:
        return moment_gap(places, upper.to(kind), dreaming.to(kind), (below.contiguous(), above.contiguous()))
    means = mean(dreamt) - mean(lower), mean(dreaming) - mean(upper)
    if offsets is not None:
        upper, dreaming = (values - above.to(values.dtype) for values in (upper, dreaming))
        stacked = stacked - below.to(kind)
    gap = product(stacked.t(), torch.cat((dreaming.to(kind), upper.to(kind) * (-rows / len(upper)))))
    weight = gap * torch.full((1,), 1 / rows, dtype=wide, device=gap.device)  # a vector, so that one pass also widens
    if offsets is None:
        return MomentGap(weight, *means, *(torch.zeros_like(values) for values in means))
    return MomentGap(weight, *means, product(weight, above), product(below, weight))


def fire(
    inputs: Float[Tensor, "rows units"],
    bias: Float[Tensor, " units"],
    rng: torch.Generator,
    *,
    means: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "rows units"], Float[Tensor, "rows units"]]:
    """(draws, means) of binary units with these inputs; unless means are asked for, draws stand for them.

    Args:
        inputs: What the units receive.
        bias: Added to every row.
        rng: Draws.
        means: Whether to compute the means too.
        dtype: Of both; that of the inputs by default.
    """
    drawn = torch.empty_like(inputs, dtype=dtype)
    probabilities = torch.empty_like(inputs, dtype=dtype) if means else None
    sample_sigmoid(inputs, bias.detach(), draw_key(rng), probabilities=probabilities, samples=drawn)
    return drawn, drawn if probabilities is None else probabilities


def sigmoid(
    inputs: Float[Tensor, "rows units"], bias: Float[Tensor, " units"], dtype: torch.dtype | None = None
) -> Float[Tensor, "rows units"]:
    """Means of binary units with these inputs, in `dtype` (theirs by default); differentiable where gradients are taken."""
    if torch.is_grad_enabled():
        return (inputs + bias).sigmoid().to(dtype or inputs.dtype)
    means = torch.empty_like(inputs, dtype=dtype)
    sample_sigmoid(inputs, bias, None, probabilities=means)
    return means


def _wide(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32
