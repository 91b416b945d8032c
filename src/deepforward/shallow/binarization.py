"""Ink and paper told apart by thresholds: Otsu's for the whole page, Niblack's and Sauvola's for each pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from deepforward.errors import InvalidOption, MissingExtra


def otsu(page: UInt8[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """Ink is what is at most as light as the one threshold that parts the histogram with the most variance between its parts.

    Args:
        page: Dark ink on light paper.

    Raises:
        MissingExtra: scikit-image is not installed.

    Source: Otsu 1979, A threshold selection method from gray-level histograms, IEEE Trans. Systems, Man, Cybernetics 9.
    """
    values = page.cpu().numpy()
    if values.min() == values.max():
        return torch.zeros_like(page, dtype=torch.bool)
    return torch.from_numpy(values <= _filters().threshold_otsu(values))


def niblack(page: UInt8[Tensor, "height width"], window: int = 61, k: float = 0.8) -> Bool[Tensor, "height width"]:
    """Ink is what is darker than m - k s, the mean and the standard deviation of the window around a pixel.

    Args:
        page: Dark ink on light paper.
        window: Height and width of the window, odd, in pixels; larger than a stroke, smaller than what the light varies over.
        k: How far below the mean; Niblack adds k s, and writes -k here.

    Raises:
        InvalidOption: The window is even.
        MissingExtra: scikit-image is not installed.

    Source: Niblack 1986, An introduction to digital image processing, pp. 115-116.
    """
    return _below(page, _filters().threshold_niblack, window, k=k)


def sauvola(page: UInt8[Tensor, "height width"], window: int = 61, k: float = 0.2) -> Bool[Tensor, "height width"]:
    """Ink is what is darker than m (1 + k (s / 128 - 1)): far below the mean where there is no contrast.

    Args:
        page: Dark ink on light paper.
        window: As in `niblack`.
        k: How far below.

    Raises:
        InvalidOption, MissingExtra: As `niblack`.

    Source: Sauvola, Pietikäinen 2000, Adaptive document image binarization, Pattern Recognition 33.
    """
    return _below(page, _filters().threshold_sauvola, window, k=k, r=128.0)


#: Name -> the ink of a page.
THRESHOLDS: Mapping[str, Callable[..., Tensor]] = {"Otsu": otsu, "Niblack": niblack, "Sauvola": sauvola}


def _below(page: Tensor, threshold: Callable[..., Any], window: int, **options: float) -> Tensor:
    if window < 3 or window % 2 == 0:
        raise InvalidOption(f"got window={window}; expected an odd number of at least 3 pixels")
    values = page.cpu().numpy()
    return torch.from_numpy(values < threshold(values, window_size=window, **options))


def _filters() -> Any:
    try:
        from skimage import filters  # noqa: PLC0415  (an extra)
    except ImportError:
        raise MissingExtra("got no scikit-image, which finds the thresholds; run pip install 'deepforward[images]'") from None
    return filters
