"""Generated pictures of shapes, with the shape that each pixel belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from deepforward.data.dataset import Split, Splits
from deepforward.data.spec import Count, Range, Seed, Share
from deepforward.data.splitting import stratified

#: Whether points (x, y) are inside, for shapes about as large as a disc of radius 1.
_INSIDE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": lambda x, y: x.square() + y.square() <= 1,
    "square": lambda x, y: torch.maximum(x.abs(), y.abs()) <= 0.9,
    "triangle": lambda x, y: (y >= -0.7) & (math.sqrt(3) * x.abs() + y <= 1.4),
    "ring": lambda x, y: (x.square() + y.square() <= 1) & (x.square() + y.square() >= 0.55),
    "cross": lambda x, y: (torch.maximum(x.abs(), y.abs()) <= 1) & (torch.minimum(x.abs(), y.abs()) <= 0.3),
}

#: Probability that an image has a first, second, ... shape.
_CHANCES = (1.0, 2 / 3, 2 / 3, 2 / 3)

#: Images that are drawn at once.
_CHUNK = 1024


class _Placed(NamedTuple):
    """One shape of each image: its kind, place, size, turn and brightness, and whether there is one."""

    kind: Tensor
    row: Tensor
    column: Tensor
    radius: Tensor
    turn: Tensor
    brightness: Tensor
    present: Tensor


def shapes(
    *,
    n: Count = 1000,
    size: Annotated[int, Range(8, 1024)] = 32,
    noise: Annotated[float, Range(0)] = 0.1,
    classes: Annotated[int, Range(2, 1 + len(_INSIDE))] = 5,
    test: Share = 0.2,
    seed: Seed = 0,
) -> Splits:
    """Grey images (1, size, size) uint8 of one to four shapes of any turn, brighter or darker than their ground, with masks.

    A shape's radius lies between an eighth and a quarter of the image's side. Later shapes cover earlier ones. The class of a
    pixel is the kind of the shape in front, 0 where there is none.

    Args:
        n: Number of images in both splits together.
        size: Height and width in pixels.
        noise: Standard deviation of the Gaussian noise of each pixel, black to white being 1; a shape and its ground differ by
            0.2 to 0.4.
        classes: The ground and so many kinds less one of disc, square, triangle, ring, cross.
        test: Share of the images in the test split.
        seed: Fixes images and split.
    """
    rng = torch.Generator().manual_seed(seed)
    ground = 0.4 + 0.2 * torch.rand(n, generator=rng)
    placed = [_place(ground, size, classes, chance, rng) for chance in _CHANCES]
    parts = [_draw(ground[some], [_Placed(*(field[some] for field in one)) for one in placed], size) for some in _chunks(n)]
    levels, masks = (torch.cat(part) for part in zip(*parts, strict=True))
    for some in _chunks(n):
        levels[some] += noise * torch.randn(levels[some].shape, generator=rng)
    images = (255 * levels).round_().clamp_(0, 255).to(torch.uint8).unsqueeze(1)
    whole = Split(images, masks)
    rest, held = stratified(torch.zeros(n, dtype=torch.int64), test, rng)  # which shapes an image holds does not matter
    return Splits(whole.select(rest), whole.select(held), ("ground", *list(_INSIDE)[: classes - 1]))


def _chunks(n: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, n, _CHUNK)]


def _place(ground: Tensor, size: int, classes: int, chance: float, rng: torch.Generator) -> _Placed:
    """One shape for each image, which is there with probability `chance`."""
    n = len(ground)
    kind = torch.randint(1, classes, (n,), generator=rng)
    row, column, spread, turn, contrast, sign, luck = torch.rand(7, n, generator=rng)
    radius = size * (1 + spread) / 8
    brightness = ground + (0.2 + 0.2 * contrast) * torch.where(sign < 0.5, -1.0, 1.0)
    return _Placed(kind, size * row, size * column, radius, 2 * math.pi * turn, brightness, luck < chance)


def _draw(ground: Tensor, placed: list[_Placed], size: int) -> tuple[Tensor, Tensor]:
    """Brightness (images, size, size) without noise, and class of each pixel."""
    levels = ground[:, None, None].repeat(1, size, size)
    masks = torch.zeros(levels.shape, dtype=torch.uint8)
    centres = torch.arange(size) + 0.5
    for one in placed:
        across, down = ((centres - place[:, None]) / one.radius[:, None] for place in (one.column, one.row))
        cosine, sine = one.turn.cos()[:, None, None], one.turn.sin()[:, None, None]
        x = cosine * across[:, None, :] + sine * down[:, :, None]
        y = cosine * down[:, :, None] - sine * across[:, None, :]
        for number, inside in enumerate(_INSIDE.values(), start=1):
            mine = (one.present & (one.kind == number)).nonzero()[:, 0]
            covered = torch.zeros_like(masks, dtype=torch.bool)
            covered[mine] = inside(x[mine], y[mine])
            masks[covered] = number
            levels = torch.where(covered, one.brightness[:, None, None], levels)
    return levels, masks
