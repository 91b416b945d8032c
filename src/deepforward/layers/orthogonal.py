"""Orthogonal weights: of matrices, and of convolutions that are isometries."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import ShapeError
from deepforward.layers.recognition import AFFINE

#: False is Gaussian weights, True orthogonal ones, "delta" those whose convolution is an isometry.
Orthogonal = bool | Literal["delta"]


def orthogonal_matrix(
    rows: int, columns: int, rng: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "rows columns"]:
    """A matrix with orthonormal rows or columns, whichever are fewer, uniform over such matrices.

    Args:
        rows: Height.
        columns: Width.
        rng: Source of the draw, on whose device the matrix is.
        dtype: What it is drawn and factored in.

    Source:
        Mezzadri 2007, How to generate random matrices from the classical compact groups.
    """
    gaussian = torch.empty(max(rows, columns), min(rows, columns), dtype=dtype, device=rng.device).normal_(generator=rng)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()  # without it the factor is not uniform: QR fixes signs in its own way
    return q if rows >= columns else q.T


def orthogonal_(module: nn.Module, rng: torch.Generator, gain: float = 1.0) -> None:
    """Weights, seen as matrices (outputs, fan_in), with orthonormal rows or columns times `gain`, biases zero.

    Each group of a grouped convolution has a matrix of its own.

    Source:
        Saxe, McClelland, Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep linear networks.
    """
    for child in module.modules():
        if isinstance(child, AFFINE):
            fill_(child, gain, rng, True)
            _zero_bias(child)


def delta_orthogonal_(module: nn.Module, rng: torch.Generator, gain: float = 1.0) -> None:
    """Convolutions that keep the norm of what they are given, times `gain`: K[:, :, middle] = gain H with H'H = 1, else zero.

    The convolution is H at each pixel. Of orthogonal matrices (outputs, fan_in) a convolution is no isometry: its singular
    values are those of the kernel's Fourier transforms, which scatter. Linear layers get orthogonal matrices, biases zero.

    Args:
        module: Any module; every Linear and Conv layer in it is changed in place.
        rng: Source of the draws.
        gain: Factor of all singular values.

    Raises:
        ShapeError: A convolution has more inputs than outputs (of a group), so that it must lose some; nothing is drawn then.

    Source:
        Xiao, Bahri, Sohl-Dickstein, Schoenholz, Pennington 2018, Dynamical isometry and a mean field theory of
        convolutional neural networks.
    """
    layers = [(name, child) for name, child in module.named_modules() if isinstance(child, AFFINE)]
    for name, child in layers:
        shaped(child, "delta", name)
    for _, child in layers:
        fill_(child, gain, rng, "delta")
        _zero_bias(child)


def shaped(affine: nn.Module, orthogonal: Orthogonal, name: str = "") -> tuple[int, int, int]:
    """Groups of an affine layer, and outputs and inputs of the matrix that each group is given.

    Args:
        affine: A Linear or Conv layer.
        orthogonal: "delta" for a matrix over channels, True for one over channels and the kernel's positions.
        name: Name for the message.

    Raises:
        ShapeError: A convolution with more inputs than outputs has no delta-orthogonal kernel.
    """
    weight = _weight(affine)
    groups = getattr(affine, "groups", 1)
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    if orthogonal != "delta" or weight.ndim == 2:
        return groups, outputs, weight[0].numel()
    if inputs > outputs:
        where = f"convolution '{name}'" if name else "a convolution"
        raise ShapeError(
            f"delta-orthogonal initialisation got {where} from {inputs} to {outputs} channels; expected at least as many "
            "outputs as inputs, since fewer cannot keep the norm; use orthogonal=true or more channels"
        )
    return groups, outputs, inputs


def fill_(affine: nn.Module, gain: float, rng: torch.Generator, orthogonal: Orthogonal) -> None:
    """Draw the weight of one affine layer, `gain` times orthogonal; its bias stays.

    Args:
        affine: A Linear or Conv layer.
        gain: Factor of the singular values of each group's matrix.
        rng: Source of the draws.
        orthogonal: "delta" leaves a kernel zero but in its middle.

    Raises:
        ShapeError: As for `shaped`.
    """
    weight, (groups, outputs, inputs) = _weight(affine), shaped(affine, orthogonal)
    dtype = weight.dtype if weight.dtype in (torch.float32, torch.float64) else torch.float32  # QR knows no halves
    matrix = gain * torch.cat([orthogonal_matrix(outputs, inputs, rng, dtype) for _ in range(groups)])
    with torch.no_grad():
        if orthogonal == "delta" and weight.ndim > 2:
            tap = weight.zero_()
            for size in weight.shape[:1:-1]:
                tap = tap.select(-1, (size - 1) // 2)  # where padding="same" puts the pixel itself
            tap.copy_(matrix)
        else:
            weight.copy_(matrix.reshape(weight.shape))


def _weight(affine: nn.Module) -> Tensor:
    weight = affine.weight
    assert isinstance(weight, Tensor)
    return weight


def _zero_bias(affine: nn.Module) -> None:
    if isinstance(affine.bias, Tensor):
        with torch.no_grad():
            affine.bias.zero_()
