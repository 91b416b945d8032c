"""Low-level image processing: an image in, an image out. Noise removal, sharpening, edges; from scipy and scikit-image."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from deepforward.errors import MissingExtra, UnknownName

Image = Float[Tensor, "height width"]


def denoise(image: Image, method: str, **options: Any) -> Image:
    """An image without (much of) its noise.

    | method | value of a pixel | options |
    | --- | --- | --- |
    | `mean` | mean of its neighbourhood | `size=3` pixels a side |
    | `median` | median of its neighbourhood: removes what is rare, such as salt and pepper | `size=3` |
    | `gaussian` | mean weighted by a Gaussian of the distance | `sigma=1` pixels |
    | `total-variation` | minimum of the squared change plus `weight` times the total variation | `weight=0.1` |
    | `non-local-means` | mean weighted by how like the patches about two pixels are | `h=0.08` (in grey), `patch_size`, ... |

    Args:
        image: Grey values in [0, 1].
        method: A name of the table.
        options: Of the method.

    Raises:
        UnknownName: Another method.
        MissingExtra: scikit-image is not installed.

    Source: Gonzalez and Woods 2018, sections 3.5 and 5.3; Chambolle 2004 (total variation); Buades, Coll, Morel 2005.
    """
    return _applied("way to denoise", _DENOISERS, image, method, options)


def sharpen(image: Image, method: str, **options: Any) -> Image:
    """An image with steeper edges, cut off at 0 and 1.

    `unsharp` adds `amount=1.5` times the difference to a Gaussian blur of `radius=1.5` pixels; `laplacian` subtracts
    `amount=1` times the Laplacian (5-point stencil).

    Args:
        image: Grey values in [0, 1].
        method: `unsharp` or `laplacian`.
        options: Of the method.

    Raises:
        UnknownName, MissingExtra: As `denoise`.

    Source: Gonzalez and Woods 2018, section 3.6.
    """
    return _applied("way to sharpen", _SHARPENERS, image, method, options)


def edges(image: Image, method: str, **options: Any) -> Image | Bool[Tensor, "height width"]:
    """Where an image changes.

    `sobel` is the gradient's norm; `laplacian-of-gaussian` the Laplacian after a blur of `sigma=2` pixels, whose zero crossings
    are edges; `canny` a mask of thin lines: crests of the gradient after a blur of `sigma=1`, kept if they pass
    `high_threshold=0.2`, or `low_threshold=0.1` and hang together with one that does.

    Args:
        image: Grey values in [0, 1].
        method: `sobel`, `laplacian-of-gaussian` or `canny`.
        options: Of the method.

    Raises:
        UnknownName, MissingExtra: As `denoise`.

    Source: Marr and Hildreth 1980; Canny 1986, A computational approach to edge detection, IEEE TPAMI 8.
    """
    return _applied("edge detector", _EDGES, image, method, options)


def skimage(module: str) -> Any:
    """A module of scikit-image.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    try:
        return importlib.import_module(f"skimage.{module}")
    except ImportError:
        raise MissingExtra("got no scikit-image, which processes images; run pip install 'deepforward[images]'") from None


def _applied(kind: str, methods: Mapping[str, Callable[..., np.ndarray]], image: Image, method: str, options: Any) -> Tensor:
    if method not in methods:
        raise UnknownName(kind, method, methods)
    result = methods[method](image.double().numpy(), **options)
    return torch.from_numpy(np.ascontiguousarray(result if result.dtype == bool else result.astype(np.float32)))


def _non_local_means(image: np.ndarray, *, h: float = 0.08, patch_size: int = 5, patch_distance: int = 6) -> np.ndarray:
    means = skimage("restoration").denoise_nl_means
    return means(image, h=h, patch_size=patch_size, patch_distance=patch_distance, fast_mode=True)


_DENOISERS: Mapping[str, Callable[..., np.ndarray]] = {
    "mean": lambda image, size=3: ndimage.uniform_filter(image, size),
    "median": lambda image, size=3: ndimage.median_filter(image, size),
    "gaussian": lambda image, sigma=1.0: ndimage.gaussian_filter(image, sigma, mode="nearest"),
    "total-variation": lambda image, weight=0.1: skimage("restoration").denoise_tv_chambolle(image, weight=weight),
    "non-local-means": _non_local_means,
}

_SHARPENERS: Mapping[str, Callable[..., np.ndarray]] = {
    "unsharp": lambda image, radius=1.5, amount=1.5: skimage("filters").unsharp_mask(image, radius=radius, amount=amount),
    "laplacian": lambda image, amount=1.0: (image - amount * ndimage.laplace(image, mode="nearest")).clip(0, 1),
}

_EDGES: Mapping[str, Callable[..., np.ndarray]] = {
    "sobel": lambda image: skimage("filters").sobel(image),
    "laplacian-of-gaussian": lambda image, sigma=2.0: ndimage.gaussian_laplace(image, sigma, mode="nearest"),
    "canny": lambda image, **options: skimage("feature").canny(image, **options),
}
