"""Filters learnt for convolutional sparse coding: by conjugate gradients given the maps, in turn with the maps given them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.grad import conv2d_weight

from deepforward.errors import InvalidOption
from deepforward.layers.sparse_coding import sparse_code
from deepforward.layers.synthesis import Filters, synthesis


def unit_norm(filters: Filters) -> Filters:
    """Each filter divided by its Euclidean norm over all channels; one of zeros stays."""
    norms = filters.flatten(1).norm(dim=1).clamp(min=torch.finfo(filters.dtype).tiny)
    return filters / norms[:, None, None, None]


@torch.no_grad()
def fit_filters(
    maps: Float[Tensor, "batch map rows columns"],
    images: Float[Tensor, "batch channel height width"],
    filters: Filters,
    steps: int = 10,
) -> Filters:
    """Filters with less squared error sum |sum_k z_k * f_k - y|^2 than the given ones, by conjugate gradients.

    The error is quadratic in f, with a matrix Z'Z that is never formed: a step is one synthesis and one correlation of images
    with maps. As many steps as f has numbers reach the least squares solution. Filters whose map is zero stay.

    Args:
        maps: z.
        images: y.
        filters: Where to begin.
        steps: Steps of conjugate gradients.

    Returns:
        Filters, not of unit norm.

    Source:
        Hestenes and Stiefel 1952, Methods of conjugate gradients for solving linear systems (least squares form, section 10);
        Zeiler et al. 2010, Deconvolutional networks, CVPR, section 3.2.
    """
    padding = (filters.shape[2] - 1, filters.shape[3] - 1)

    def found(residual: Tensor) -> Tensor:
        return conv2d_weight(residual, list(filters.shape), maps, padding=padding)

    residual = images - synthesis(filters)(maps)
    downhill = direction = found(residual)
    square = downhill.square().sum()
    for _ in range(steps):
        change = synthesis(direction)(maps)
        bend = change.square().sum()
        if not bend > 0:  # nothing is left to gain
            break
        length = square / bend
        filters, residual = filters + length * direction, residual - length * change
        downhill = found(residual)
        before, square = square, downhill.square().sum()
        direction = downhill + square / before * direction
    return filters


@torch.no_grad()
def learn_filters(
    images: Float[Tensor, "batch channel height width"],
    filters: Filters,
    weight: float,
    *,
    rounds: int = 20,
    steps: int = 20,
    filter_steps: int = 2,
    watch: Callable[[int, float], None] | None = None,
) -> Filters:
    """Filters of unit norm by alternation: maps by FISTA given the filters, filters by conjugate gradients given the maps.

    Args:
        images: y, all of which are kept in mind at once.
        filters: Where to begin.
        weight: lambda of `sparse_code`.
        rounds: Turns.
        steps: Steps of FISTA a turn, from the maps of the turn before.
        filter_steps: Steps of conjugate gradients a turn.
        watch: Called after each inference with the number of the turn, from 1, and the mean objective of an image.

    Raises:
        InvalidOption: A number out of range.

    Source: Zeiler, Krishnan, Taylor, Fergus 2010, Deconvolutional networks, CVPR, section 3.
    """
    if rounds < 1:
        raise InvalidOption(f"got rounds={rounds}; expected at least 1")
    filters, maps = unit_norm(filters), None
    for turn in range(1, rounds + 1):
        code = sparse_code(images, filters, weight, steps=steps, tolerance=0, start=maps)
        maps = code.maps
        if watch is not None:
            watch(turn, float(code.objective[-1].mean()))
        filters = unit_norm(fit_filters(maps, images, filters, filter_steps))
    return filters
