"""Generated sources: two patterns in the plane, parity of bits, bars and stripes, pairs of bars."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from deepforward.data.dataset import Split, Splits
from deepforward.data.spec import Count, Range, Seed, Share
from deepforward.data.splitting import stratified

Noise = Annotated[float, Range(0)]


def rings(
    *,
    n: Annotated[int, Range(8, 10**8)] = 1000,
    noise: Noise = 0.05,
    classes: Annotated[int, Range(2, 1000)] = 2,
    test: Share = 0.25,
    seed: Seed = 0,
) -> Splits:
    """Points on concentric circles, ring k of K having radius (k + 1) / K: separable, but by no straight line.

    Args:
        n: Number of examples in both splits together.
        noise: Standard deviation of the Gaussian noise on both coordinates.
        classes: Number of rings.
        test: Share of each class in the test split.
        seed: Fixes points and split.
    """
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    angle = 2 * math.pi * torch.rand(n, generator=rng)
    points = _noisy(angle, (labels + 1) / classes, noise, rng)
    return _part(points, labels, tuple(map(str, range(classes))), test, rng)


def spirals(
    *,
    n: Annotated[int, Range(8, 10**8)] = 1000,
    noise: Noise = 0.02,
    classes: Annotated[int, Range(2, 1000)] = 2,
    test: Share = 0.25,
    seed: Seed = 0,
) -> Splits:
    """Points on interleaved Archimedean spirals of one and a half turns, from the origin to radius 1.

    Arguments are those of `rings`.

    Source: Lang, Witbrock, "Learning to tell two spirals apart", 1988 (the task; they use three turns).
    """
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    radius = torch.rand(n, generator=rng).sqrt()
    angle = 3 * math.pi * radius + 2 * math.pi * labels / classes
    points = _noisy(angle, radius, noise, rng)
    return _part(points, labels, tuple(map(str, range(classes))), test, rng)


def _noisy(angle: Tensor, radius: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    points = radius.unsqueeze(1) * torch.stack((angle.cos(), angle.sin()), dim=1)
    return points + noise * torch.randn(points.shape, generator=rng)


def parity(*, bits: Annotated[int, Range(3, 20)] = 8, test: Share = 0.25, seed: Seed = 0) -> Splits:
    """All 2^bits strings over {-1, 1}; the class says whether the number of ones is odd, so that every bit decides.

    Args:
        bits: Length of a string.
        test: Share of each class in the test split.
        seed: Chooses the test split.

    Source: Bengio, "Learning deep architectures for AI", 2009, section 2.
    """
    ones = _binary(bits)
    return _part(2.0 * ones - 1, ones.sum(1) % 2, ("even", "odd"), test, torch.Generator().manual_seed(seed))


def bars_and_stripes(
    *,
    size: Annotated[int, Range(2, 12)] = 4,
    n: Count | None = None,
    noise: Annotated[float, Range(0, 0.5)] = 0.0,
    test: Share = 0.25,
    seed: Seed = 0,
) -> Splits:
    """Images (1, size, size) uint8 of 0 and 1 whose columns (bars) or rows (stripes) are constant.

    There are 2^(size + 1) - 2 different ones, the two uniform ones being both: all zeros count as bars, all ones as stripes.

    Args:
        size: Height and width in pixels.
        n: Number of examples to draw from them with replacement; by default each occurs once.
        noise: Probability with which each pixel is flipped.
        test: Share of each class in the test split.
        seed: Fixes draws, flips and split.

    Source: MacKay, "Information theory, inference, and learning algorithms", 2003, section 43.2.
    """
    rng = torch.Generator().manual_seed(seed)
    lines = _binary(size)
    bars = lines[:-1].unsqueeze(1).expand(-1, size, -1)
    stripes = lines[1:].unsqueeze(2).expand(-1, -1, size)
    images = torch.cat((bars, stripes)).unsqueeze(1).to(torch.uint8)
    labels = torch.arange(2).repeat_interleave(len(bars))
    if n is not None:
        drawn = torch.randint(len(images), (n,), generator=rng)
        images, labels = images[drawn], labels[drawn]
    flips = torch.rand(images.shape, generator=rng) < noise
    return _part(images ^ flips, labels, ("bars", "stripes"), test, rng)


#: Columns from the first bar of a pair to the second, by class, and pixels between a pair and the border.
_DISTANCES, _MARGIN = (7, 11), 3


def bar_pairs(
    *,
    size: Annotated[int, Range(18, 64)] = 20,
    n: Annotated[int, Range(8, 10**6)] = 1000,
    noise: Noise = 0.1,
    test: Share = 0.25,
    seed: Seed = 0,
) -> Splits:
    """Images (1, size, size) of two equal upright bars, the class saying whether they are 7 or 11 columns apart.

    Whoever sees fewer than 8 columns at once sees one bar or none, and as many of either in both classes.

    Args:
        size: Height and width in pixels.
        n: Number of examples in both splits together.
        noise: Standard deviation of the Gaussian noise; bars are 1 on 0.
        test: Share of each class in the test split.
        seed: Fixes places, lengths, noise and split.
    """
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    distance = torch.tensor(_DISTANCES)[labels]
    length = torch.randint(4, 8, (n,), generator=rng)
    left, top = (
        _MARGIN + (torch.rand(n, generator=rng) * (size - 2 * _MARGIN - extent)).long() for extent in (distance, length)
    )
    at = torch.arange(size)
    rows = (at >= top[:, None]) & (at < (top + length)[:, None])
    columns = (at == left[:, None]) | (at == (left + distance)[:, None])
    images = (rows[:, :, None] & columns[:, None, :]).float()[:, None]
    images += noise * torch.randn(images.shape, generator=rng)
    return _part(images, labels, ("near", "far"), test, rng)


def _binary(bits: int) -> Tensor:
    """All strings of that many zeros and ones, counted up."""
    return torch.arange(2**bits).unsqueeze(1) >> torch.arange(bits) & 1


def _part(inputs: Tensor, labels: Tensor, classes: tuple[str, ...], test: float, rng: torch.Generator) -> Splits:
    whole = Split(inputs, labels)
    rest, held = stratified(labels, test, rng)
    return Splits(whole.select(rest), whole.select(held), classes)
