"""Convolutional sparse coding: the few filters, and their places, that an image is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from deepforward.errors import InvalidOption, ShapeError, UnknownName
from deepforward.layers.synthesis import Filters, correlate, operator_norm, synthesis

#: How maps are inferred.
METHODS = ("fista", "ista")

#: Steps between two looks at the duality gap, which costs half a step.
_LOOK = 10
#: Rises of the objective by so many units of rounding are none: stopping at them would leave the gap at their root.
_ROUNDING = 16
#: Keeps the step finite where all filters are zero.
_LEAST = 1e-30


@dataclass(frozen=True)
class SparseCode:
    """Maps inferred from images.

    Attributes:
        maps: z.
        fit: The images that they stand for, `synthesise(maps, filters)`.
        objective: weight / 2 |fit - y|^2 + |z|_1 of each image at the start and after each step.
        gap: Upper bound of how far the last objective is above the least possible one.
        steps: Steps taken.
    """

    maps: Float[Tensor, "batch map rows columns"]
    fit: Float[Tensor, "batch channel height width"]
    objective: Float[Tensor, "moments batch"]
    gap: Float[Tensor, " batch"]
    steps: int


def soft_threshold(values: Float[Tensor, "*shape"], threshold: float) -> Float[Tensor, "*shape"]:
    """sign(v) max(|v| - threshold, 0), the value u that minimises (u - v)^2 / 2 + threshold |u|."""
    return F.softshrink(values, threshold)


def sparse_code(
    images: Float[Tensor, "batch channel height width"],
    filters: Filters,
    weight: float,
    *,
    method: str = "fista",
    steps: int = 200,
    tolerance: float = 1e-4,
    start: Float[Tensor, "batch map rows columns"] | None = None,
    restart: bool = True,
) -> SparseCode:
    """The maps that minimise weight / 2 |sum_k z_k * f_k - y|^2 + |z|_1, for each image alone.

    ISTA goes down the gradient of the first term by 1 / L and thresholds: z <- S(z - R'(Rz - y) / |R|^2, 1 / L) with
    L = weight |R|^2, |R| from the filters' spectra (`operator_norm`); its objective never rises. FISTA takes that step from a
    point ahead, z + (t - 1) / t' (z - z before), t' = (1 + sqrt(1 + 4 t^2)) / 2, and after k steps is at most
    2 L |z0 - z*|^2 / (k + 1)^2 above the least objective. With `restart`, a step that would raise the objective of an image is
    not taken, and its momentum begins anew (t = 1), so that the objective of FISTA never rises either.

    Args:
        images: y.
        filters: f; with unit norm, weight and sparsity mean the same for each.
        weight: lambda above 0: the larger, the closer the fit and the fuller the maps.
        method: One of `METHODS`.
        steps: Most steps.
        tolerance: Stop as soon as the duality gap of every image is at most this share of its objective at z = 0, looked at
            every ten steps; 0 takes all steps.
        start: First maps; zeros by default.
        restart: Whether FISTA forgets its momentum where the objective would rise.

    Returns:
        Maps, fit, objectives and duality gap. All is differentiable unless gradients are off.

    Raises:
        UnknownName: No such method.
        InvalidOption: A number out of range.
        ShapeError: Filters of other channels than the images, or maps that do not fit.

    Source:
        Daubechies, Defrise, De Mol 2004 (ISTA); Beck and Teboulle 2009, A fast iterative shrinkage-thresholding algorithm for
        linear inverse problems, SIAM J. Imaging Sciences 2, theorem 4.4; O'Donoghue and Candès 2015, Adaptive restart for
        accelerated gradient schemes; Zeiler et al. 2010, Deconvolutional networks, CVPR, eq. 2 (the objective).
    """
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if not 0 < weight < math.inf or steps < 1 or not tolerance >= 0:
        raise InvalidOption(f"got weight={weight}, steps={steps}, tolerance={tolerance}; expected above 0, at least 1 and 0")
    problem = _Problem(images, filters, weight, synthesis(filters))
    now = ahead = problem.first(start)
    t = images.new_ones(len(images), 1, 1, 1)
    objectives, step = [now.objective], 0
    for step in range(1, steps + 1):
        new = problem.step(ahead)
        if method == "ista":
            now = ahead = new
        else:
            if restart:
                new, t = _restarted(now, new, t)
            next_t = (1 + (1 + 4 * t.square()).sqrt()) / 2
            now, ahead, t = new, _beyond(now, new, (t - 1) / next_t), next_t
        objectives.append(now.objective)
        if tolerance and step % _LOOK == 0 and problem.is_solved(now, tolerance):
            break
    gap = duality_gap(now.maps, now.fit, images, filters, weight)
    return SparseCode(now.maps, now.fit, torch.stack(objectives), gap, step)


def objective(
    maps: Float[Tensor, "batch map rows columns"],
    fit: Float[Tensor, "batch channel height width"],
    images: Float[Tensor, "batch channel height width"],
    weight: float,
) -> Float[Tensor, " batch"]:
    """Objective of each image, weight / 2 |fit - y|^2 + |z|_1.

    Args:
        maps: z.
        fit: `synthesise(maps, filters)`.
        images: y.
        weight: lambda.
    """
    return weight / 2 * (fit - images).square().sum((1, 2, 3)) + maps.abs().sum((1, 2, 3))


def duality_gap(
    maps: Float[Tensor, "batch map rows columns"],
    fit: Float[Tensor, "batch channel height width"],
    images: Float[Tensor, "batch channel height width"],
    filters: Filters,
    weight: float,
) -> Float[Tensor, " batch"]:
    """How far the objective of each image is above a value that no maps can fall below: 0 exactly at the solution.

    For any u with |R'u| <= 1 everywhere, u'y - |u|^2 / (2 weight) is such a value. Here u is the multiple of the residual
    y - fit that makes it largest.

    Args:
        maps: z.
        fit: `synthesise(maps, filters)`.
        images: y.
        filters: f.
        weight: lambda.
    """
    residual = images - fit
    norm, along = residual.square().sum((1, 2, 3)), (residual * images).sum((1, 2, 3))
    most = 1 / correlate(residual, filters).abs().amax((1, 2, 3)).clamp(min=torch.finfo(images.dtype).tiny)
    scale = (weight * along / norm.clamp(min=torch.finfo(images.dtype).tiny)).clamp(-most, most)
    return objective(maps, fit, images, weight) - (scale * along - scale.square() * norm / (2 * weight))


class _Iterate(NamedTuple):
    maps: Tensor
    fit: Tensor
    objective: Tensor


class _Problem:
    """Images to be explained by filters."""

    def __init__(self, images: Tensor, filters: Tensor, weight: float, synthesised: Callable[[Tensor], Tensor]) -> None:
        if images.shape[1] != filters.shape[1]:
            raise ShapeError(f"got images of {images.shape[1]} channels and filters of {filters.shape[1]}; expected as many")
        self.images, self.filters, self.weight, self.synthesised = images, filters, weight, synthesised
        sides = zip(images.shape[2:], filters.shape[2:], strict=True)
        self.map_shape = (len(filters), *(side + extent - 1 for side, extent in sides))
        norm = float(operator_norm(filters, *self.map_shape[1:]))
        self.threshold = 1 / max(weight * norm**2, _LEAST)

    def first(self, start: Tensor | None) -> _Iterate:
        if start is None:
            start = self.images.new_zeros(len(self.images), *self.map_shape)
        if start.shape != (len(self.images), *self.map_shape):
            raise ShapeError(f"got first maps of shape {tuple(start.shape[1:])}; expected {self.map_shape}, or none")
        return self._at(start)

    def step(self, point: _Iterate) -> _Iterate:
        downhill = correlate(self.images - point.fit, self.filters)
        return self._at(soft_threshold(torch.add(point.maps, downhill, alpha=self.threshold * self.weight), self.threshold))

    def is_solved(self, now: _Iterate, tolerance: float) -> bool:
        gap = duality_gap(now.maps, now.fit, self.images, self.filters, self.weight)
        return bool((gap <= tolerance * self.weight / 2 * self.images.square().sum((1, 2, 3))).all())

    def _at(self, maps: Tensor) -> _Iterate:
        fit = self.synthesised(maps)
        return _Iterate(maps, fit, objective(maps, fit, self.images, self.weight))


def _restarted(old: _Iterate, new: _Iterate, t: Tensor) -> tuple[_Iterate, Tensor]:
    """The new iterate and t; of images whose objective rose the old one, and 1."""
    rises = new.objective > old.objective * (1 + _ROUNDING * torch.finfo(new.objective.dtype).eps)
    if not rises.any():
        return new, t
    image = rises.view(-1, 1, 1, 1)
    kept = _Iterate(
        torch.where(image, old.maps, new.maps),
        torch.where(image, old.fit, new.fit),
        torch.where(rises, old.objective, new.objective),
    )
    return kept, torch.where(image, torch.ones_like(t), t)


def _beyond(old: _Iterate, new: _Iterate, share: Tensor) -> _Iterate:
    """The point ahead: beyond the new iterate by a share of the way from the old; its fit follows, since it is linear."""
    return _Iterate(new.maps + share * (new.maps - old.maps), new.fit + share * (new.fit - old.fit), new.objective)
