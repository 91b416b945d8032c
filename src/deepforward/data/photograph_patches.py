"""Sources of patches of real photographs with what a network is to make of them: clean images, edges, textures' masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Shaped
from scipy.ndimage import gaussian_filter
from torch import Tensor

from deepforward.data.dataset import Split, Splits
from deepforward.data.noise import gaussian_noise
from deepforward.data.photographs import PHOTOGRAPHS, grey_photograph, skimage
from deepforward.data.spec import Count, Range, Seed

#: Photographs of the test splits, which no network sees while it trains.
HELD_OUT = ("camera", "cat", "coins")
_TRAINING = tuple(name for name in PHOTOGRAPHS if name not in HELD_OUT)
#: Photographs of one texture.
TEXTURES = ("brick", "grass", "gravel")

#: Height and width of a patch; the smallest photograph has 172 rows.
Patch = Annotated[int, Range(8, 160)]


def noisy_photographs(
    *,
    sigma: Annotated[float, Range(0, 1)] = 0.1,
    blur: Annotated[float, Range(0, 10)] = 0.0,
    patch: Patch = 40,
    n: Count = 12000,
    seed: Seed = 0,
) -> Splits:
    """Patches (1, patch, patch) of grey photographs in [0, 1], blurred and with Gaussian noise; targets are the clean ones.

    Training patches are drawn anywhere in 14 photographs, turned and mirrored; test patches tile the three of `HELD_OUT`.

    Args:
        sigma: Standard deviation of the noise, on values in [0, 1]; what leaves [0, 1] is cut off.
        blur: Standard deviation of the Gaussian that blurs the whole photograph, pixels; 0 for none.
        patch: Pixels a side.
        n: Training patches.
        seed: Fixes patches and noise.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    rng = torch.Generator().manual_seed(seed)

    def blurred_and_clean(name: str) -> Tensor:
        grey = _grey(name)
        blurred = torch.from_numpy(gaussian_filter(grey[0].numpy(), blur, mode="nearest"))[None] if blur else grey
        return torch.cat((blurred, grey))

    both = (
        draw_patches([blurred_and_clean(name) for name in _TRAINING], patch, n, rng),
        _tiles([blurred_and_clean(name) for name in HELD_OUT], patch),
    )
    train, test = (Split(gaussian_noise(images[:, :1], sigma, rng), images[:, 1:]) for images in both)
    return Splits(train, test, ())


def photograph_edges(
    *, sigma: Annotated[float, Range(0.5, 5)] = 1.0, patch: Patch = 64, n: Count = 6000, seed: Seed = 0
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

    drawn = draw_patches([with_edges(name) for name in _TRAINING], patch, n, torch.Generator().manual_seed(seed))
    tiles = _tiles([with_edges(name) for name in HELD_OUT], patch)
    train, test = (Split(both[:, :1], both[:, 1].to(torch.uint8)) for both in (drawn, tiles))
    return Splits(train, test, ("background", "edge"))


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
    whole = [_grey(name) for name in TEXTURES]
    half = whole[0].shape[2] // 2
    parts = ([image[:, :, :half] for image in whole], n), ([image[:, :, half:] for image in whole], test)
    train, held_out = (_mosaics(images, size, count, places, rng) for images, count in parts)
    return Splits(train, held_out, TEXTURES)


def _mosaics(images: Sequence[Tensor], size: int, count: int, places: int, rng: torch.Generator) -> Split:
    textures = torch.stack([draw_patches([image], size, count, rng)[:, 0] for image in images], 1)
    corners = size * torch.rand(count, places, 2, generator=rng)
    pixel = torch.cartesian_prod(torch.arange(size), torch.arange(size)).float()
    nearest = torch.cdist(pixel.expand(count, -1, -1), corners).argmin(2)
    # The first pieces differ, so that every mosaic has at least two textures.
    first = torch.stack([torch.randperm(len(images), generator=rng) for _ in range(count)])[:, :places]
    others = torch.randint(len(images), (count, max(places - len(images), 0)), generator=rng)
    masks = torch.cat((first, others), 1).gather(1, nearest).reshape(count, size, size)
    return Split(textures.gather(1, masks[:, None]), masks.to(torch.uint8))


def _grey(name: str) -> Tensor:
    return grey_photograph(name)[None].float() / 255


def draw_patches(
    images: Sequence[Shaped[Tensor, "channel _ _"]], size: int, count: int, rng: torch.Generator
) -> Shaped[Tensor, "patch channel size size"]:
    """Square parts of images from anywhere, each image as likely, in one of the eight positions of a square.

    Args:
        images: Of one number of channels, each at least `size` high and wide.
        size: Pixels a side.
        count: Patches.
        rng: Chooses image, place and position.
    """
    chosen = torch.randint(len(images), (count,), generator=rng).tolist()
    places = torch.rand(count, 2, generator=rng, dtype=torch.float64).tolist()
    turns = torch.randint(8, (count,), generator=rng).tolist()
    patches = []
    for number, (down, right), turn in zip(chosen, places, turns, strict=True):
        _, height, width = images[number].shape
        y, x = int(down * (height - size + 1)), int(right * (width - size + 1))
        turned = torch.rot90(images[number][:, y : y + size, x : x + size], turn % 4, (1, 2))
        patches.append(turned.flip(1) if turn >= 4 else turned)
    return torch.stack(patches)


def _tiles(images: Sequence[Tensor], size: int) -> Tensor:
    """Patches side by side; what is left over at the right and below is not used."""
    tiles = (image.unfold(1, size, size).unfold(2, size, size).flatten(1, 2).transpose(0, 1) for image in images)
    return torch.cat(list(tiles)).contiguous()
