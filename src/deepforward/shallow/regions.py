"""Mid-level image processing: an image in, regions and their attributes out; from scipy and scikit-image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from scipy import ndimage
from torch import Tensor

from deepforward.errors import InvalidOption
from deepforward.shallow.image_processing import skimage

#: Attributes of a region's shape that do not depend on where it lies (see `skimage.measure.regionprops`).
SHAPE_ATTRIBUTES = (
    *("area", "eccentricity", "solidity", "extent", "euler_number", "perimeter", "orientation"),
    *("axis_major_length", "axis_minor_length", "moments_hu"),
)


def otsu_threshold(image: UInt8[Tensor, "height width"]) -> int:
    """The grey level that parts an image's pixels in two groups, darker or equal and brighter, of least variance within.

    Raises:
        MissingExtra: scikit-image is not installed.

    Source: Otsu 1979, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9.
    """
    return int(skimage("filters").threshold_otsu(image.numpy()))


def watershed_objects(
    image: UInt8[Tensor, "height width"], background: int, foreground: int, smallest: int = 1
) -> Int64[Tensor, "height width"]:
    """Objects brighter than their surroundings, numbered from 1; 0 is background.

    The Sobel norm is flooded from the pixels below `background` and those above `foreground`; the two floods meet on its
    crests, the outlines. Holes are filled and connected regions numbered.

    Args:
        image: Grey levels.
        background: Pixels darker than this are background for certain.
        foreground: Pixels brighter than this belong to an object for certain.
        smallest: Regions of fewer pixels are dropped.

    Raises:
        InvalidOption: The two levels leave nothing between them.
        MissingExtra: scikit-image is not installed.

    Source: Beucher and Lantuéjoul 1979, Use of watersheds in contour detection; parameters for coins: scikit-image's gallery.
    """
    if background >= foreground:
        raise InvalidOption(f"got background={background} and foreground={foreground}; expected the first to be darker")
    grey = image.numpy()
    markers = np.where(grey < background, 1, np.where(grey > foreground, 2, 0))
    flooded = skimage("segmentation").watershed(skimage("filters").sobel(grey), markers)
    return objects_of(torch.from_numpy(flooded == 2), smallest)


def objects_of(mask: Bool[Tensor, "height width"], smallest: int = 1) -> Int64[Tensor, "height width"]:
    """Connected regions (4 neighbours) of a mask with their holes filled, numbered from 1; 0 is background.

    Args:
        mask: Where objects are.
        smallest: Regions of fewer pixels are dropped.
    """
    labels, _ = ndimage.label(ndimage.binary_fill_holes(mask.numpy()))
    kept = np.bincount(labels.ravel()) >= smallest
    kept[0] = False
    numbers = np.where(kept, kept.cumsum(), 0)
    return torch.from_numpy(numbers[labels].astype(np.int64))


def superpixels(image: Float[Tensor, "height width"], count: int, compactness: float = 0.1) -> Int64[Tensor, "height width"]:
    """About `count` connected regions of like pixels, numbered from 1, by k-means over grey and place (SLIC).

    Args:
        image: Grey values in [0, 1].
        count: Regions wanted.
        compactness: Weight of the place against grey.

    Raises:
        MissingExtra: scikit-image is not installed.

    Source: Achanta et al. 2012, SLIC superpixels compared to state-of-the-art superpixel methods, IEEE TPAMI 34.
    """
    found = skimage("segmentation").slic(image.numpy(), count, compactness, channel_axis=None, start_label=1)
    return torch.from_numpy(found.astype(np.int64))


def attributes(
    labels: Int64[Tensor, "height width"],
    names: Sequence[str] = SHAPE_ATTRIBUTES,
    image: Float[Tensor, "height width *channels"] | None = None,
) -> Float[Tensor, "regions attributes"]:
    """Attributes of every region, a row each in the order of their numbers.

    Args:
        labels: Numbers of the regions; 0 is background.
        names: Properties of `skimage.measure.regionprops`; one of several values gives several columns.
        image: Values for those of intensity, such as `intensity_mean`.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    values = None if image is None else image.numpy()
    table = skimage("measure").regionprops_table(labels.numpy(), values, properties=names)
    return torch.from_numpy(np.stack(list(table.values()), 1).astype(np.float32))
