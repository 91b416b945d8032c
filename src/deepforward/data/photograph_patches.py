"""Sources of patches of real photographs with what a network is to make of them: clean images, edges, textures' masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import torch
from torch import Tensor

from deepforward.data.dataset import Split, Splits
from deepforward.data.noise import gaussian_noise
from deepforward.data.photographs import PHOTOGRAPHS, grey_photograph, skimage
from deepforward.data.spec import Count, Range, Seed

#: Photographs of the test splits, which no network sees while it trains.
HELD_OUT = ("camera", "cat", "coins")
#: Photographs of one texture.
TEXTURES = ("brick", "grass", "gravel")

#: Height and width of a patch; the smallest photograph has 172 rows.
Patch = Annotated[int, Range(8, 160)]


def noisy_photographs(
    *, sigma: Annotated[float, Range(0, 1)] = 0.1, patch: Patch = 40, n: Count = 4800, seed: Seed = 0
) -> Splits:
    """Patches (1, patch, patch) of grey photographs in [0, 1] with Gaussian noise, cut off at 0 and 1; targets are the clean ones.

    Training patches are drawn anywhere in 14 photographs, turned and mirrored; test patches tile the three of `HELD_OUT`.

    Args:
        sigma: Standard deviation of the noise, on values in [0, 1].
        patch: Pixels a side.
        n: Training patches.
        seed: Fixes patches and noise.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    rng = torch.Generator().manual_seed(seed)
    clean = (_drawn(_stacks(_training(), _grey), patch, n, rng), _tiled(_stacks(HELD_OUT, _grey), patch))
    train, test = (Split(gaussian_noise(images, sigma, rng), images) for images in clean)
    return Splits(train, test, ())


def photograph_edges(
    *, sigma: Annotated[float, Range(0.5, 5)] = 1.0, patch: Patch = 64, n: Count = 2400, seed: Seed = 0
) -> Splits:
    """Patches (1, patch, patch) of grey photographs in [0, 1]; a pixel's class is whether Canny's detector finds an edge there.

    Patches are drawn as by `noisy_photographs`; edges are those of the whole photograph.

    Args:
        sigma: Blur of Canny's detector, pixels.
        patch: Pixels a side.
        n: Training patches.
        seed: Fixes the patches.

    Raises:
        MissingExtra: scikit-image is not installed.

    Source: Canny 1986, A computational approach to edge detection, IEEE TPAMI 8.
    """
    canny = skimage("feature").canny

    def with_edges(name: str) -> Tensor:
        grey = _grey(name)
        return torch.cat((grey, torch.from_numpy(canny(grey[0].double().numpy(), sigma=sigma))[None].float()))

    drawn = _drawn(_stacks(_training(), with_edges), patch, n, torch.Generator().manual_seed(seed))
    splits = (Split(both[:, :1], both[:, 1].to(torch.uint8)) for both in (drawn, _tiled(_stacks(HELD_OUT, with_edges), patch)))
    return Splits(*splits, ("background", "edge"))


def texture_mosaics(
    *, size: Patch = 64, n: Count = 1200, test: Count = 100, places: Annotated[int, Range(2, 20)] = 4, seed: Seed = 0
) -> Splits:
    """Mosaics (1, size, size) of photographs of brick, grass and gravel in [0, 1]; a pixel's class is its texture.

    Pieces are the Voronoi cells of random places, each with a random texture from a random part of its photograph: of the left
    half for training, of the right half for test.

    Args:
        size: Pixels a side.
        n: Training mosaics.
        test: Test mosaics.
        places: Pieces of a mosaic.
        seed: Fixes the mosaics.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    rng = torch.Generator().manual_seed(seed)
    whole = _stacks(TEXTURES, _grey)
    half = whole[0].shape[2] // 2
    parts = ([image[:, :, :half] for image in whole], n), ([image[:, :, half:] for image in whole], test)
    return Splits(*(_mosaics(images, size, count, places, rng) for images, count in parts), TEXTURES)


def _mosaics(images: Sequence[Tensor], size: int, count: int, places: int, rng: torch.Generator) -> Split:
    textures = torch.stack([_drawn([image], size, count, rng)[:, 0] for image in images], 1)
    corners = size * torch.rand(count, places, 2, generator=rng)
    pixel = torch.cartesian_prod(torch.arange(size), torch.arange(size)).float()
    nearest = torch.cdist(pixel.expand(count, -1, -1), corners).argmin(2)
    # The first pieces differ, so that every mosaic has at least two textures.
    first = torch.stack([torch.randperm(len(images), generator=rng) for _ in range(count)])[:, :places]
    others = torch.randint(len(images), (count, max(places - len(images), 0)), generator=rng)
    masks = torch.cat((first, others), 1).gather(1, nearest).reshape(count, size, size)
    return Split(textures.gather(1, masks[:, None]), masks.to(torch.uint8))


def _training() -> tuple[str, ...]:
    return tuple(name for name in PHOTOGRAPHS if name not in HELD_OUT)


def _grey(name: str) -> Tensor:
    return grey_photograph(name)[None].float() / 255


def _stacks(names: Sequence[str], of: Callable[[str], Tensor]) -> list[Tensor]:
    """What belongs to each photograph, (channels, height, width)."""
    return [of(name) for name in names]


def _drawn(stacks: Sequence[Tensor], patch: int, count: int, rng: torch.Generator) -> Tensor:
    """Patches (count, channels, patch, patch) from anywhere, each photograph as likely, in one of the eight positions of a square."""
    return torch.stack(list(_draws(stacks, patch, count, rng)))


def _draws(stacks: Sequence[Tensor], patch: int, count: int, rng: torch.Generator) -> Iterator[Tensor]:
    chosen = torch.randint(len(stacks), (count,), generator=rng).tolist()
    places = torch.rand(count, 2, generator=rng, dtype=torch.float64).tolist()
    turns = torch.randint(8, (count,), generator=rng).tolist()
    for number, (down, right), turn in zip(chosen, places, turns, strict=True):
        _, height, width = stacks[number].shape
        y, x = int(down * (height - patch + 1)), int(right * (width - patch + 1))
        piece = torch.rot90(stacks[number][:, y : y + patch, x : x + patch], turn % 4, (1, 2))
        yield piece.flip(1) if turn >= 4 else piece


def _tiled(stacks: Sequence[Tensor], patch: int) -> Tensor:
    """Patches side by side, (patches, channels, patch, patch); what is left over at the right and below is not used."""
    return torch.cat(
        [
            stack.unfold(1, patch, patch).unfold(2, patch, patch).flatten(1, 2).transpose(0, 1).reshape(-1, len(stack), patch, patch)
            for stack in stacks
        ]
    )
