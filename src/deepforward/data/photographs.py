"""Real photographs: those that come with scikit-image, by name."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from deepforward.data.dataset import Split, Splits
from deepforward.data.spec import Seed, Share
from deepforward.data.splitting import stratified
from deepforward.errors import MissingExtra, UnknownName

#: Photographs in scikit-image's wheel that need no download, most of the public domain or CC0 (see `skimage.data`).
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cat", "cell", "clock", "coffee", "coins", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)


def photograph(name: str) -> UInt8[Tensor, "channel height width"]:
    """A photograph, one channel or three.

    Args:
        name: One of `PHOTOGRAPHS`.

    Raises:
        UnknownName: Another name.
        MissingExtra: scikit-image is not installed.
    """
    if name not in PHOTOGRAPHS:
        raise UnknownName("photograph", name, PHOTOGRAPHS)
    pixels = np.asarray(getattr(skimage("data"), name)())
    return torch.from_numpy(pixels[None].copy() if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def grey_photograph(name: str) -> UInt8[Tensor, "height width"]:
    """A photograph as its luminance (ITU-R 601), rounded; the same values as Pillow's mode L but for one level.

    Args:
        name: One of `PHOTOGRAPHS`.

    Raises:
        UnknownName, MissingExtra: As `photograph`.
    """
    pixels = photograph(name)
    if len(pixels) == 1:
        return pixels[0]
    weights = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("c,chw->hw", weights, pixels.float()).round().clamp(0, 255).to(torch.uint8)


def faces() -> tuple[UInt8[Tensor, "examples 1 25 25"], Int64[Tensor, " examples"]]:
    """200 grey patches of Labeled Faces in the Wild and, for each, 1 if it shows a face (the first hundred) and 0 if not.

    Raises:
        MissingExtra: scikit-image is not installed.

    Source: Huang, Ramesh, Berg, Learned-Miller 2007, Labeled faces in the wild; the subset is scikit-image's `lfw_subset`.
    """
    patches = torch.from_numpy(skimage("data").lfw_subset())
    labels = (torch.arange(len(patches)) < len(patches) // 2).long()
    return (255 * patches[:, None]).round().to(torch.uint8), labels


def labelled_faces(*, test: Share = 0.3, seed: Seed = 0) -> Splits:
    """The patches of `faces` in two classes.

    Args:
        test: Share of each class in the test split.
        seed: Chooses the test split.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    whole = Split(*faces())
    rest, held = stratified(whole.targets, test, torch.Generator().manual_seed(seed))
    return Splits(whole.select(rest), whole.select(held), ("no face", "face"))


def skimage(module: str) -> Any:
    """A module of scikit-image.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    try:
        return importlib.import_module(f"skimage.{module}")
    except ImportError:
        raise MissingExtra("got no scikit-image, which brings the photographs; run pip install 'deepforward[images]'") from None
