"""Examples -> pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether examples of this shape can be shown as grey or coloured images (channels, height, width)."""
    return len(shape) == 3 and shape[0] in (1, 3)


def pixels(images: Tensor, like: Tensor | None = None) -> np.ndarray:
    """Images as uint8, the range of the data spread over black to white.

    Args:
        images: (..., channels, height, width), in the units of the data.
        like: Data whose range is spread; that of `images` by default. What lies outside becomes black or white.
    """
    like = images if like is None else like
    is_photograph = _is_photograph(like)
    if is_photograph and images.dtype == torch.uint8:
        return images.cpu().numpy()
    values = images.float().cpu()
    low, high = (0.0, 255.0) if is_photograph else (float(like.min()), float(like.max()))
    return (((values - low) / max(high - low, 1e-12)).clamp(0, 1) * 255).to(torch.uint8).numpy()


def as_stored(images: Tensor, like: Tensor) -> Tensor:
    """Pictures of 256 grey levels in the units of the data `like`: the inverse of `pixels`.

    Args:
        images: (..., channels, height, width) uint8.
        like: Data as they are stored.
    """
    if _is_photograph(like):
        return images
    low, high = float(like.min()), float(like.max())
    return low + images.float() / 255 * (high - low)


def _is_photograph(data: Tensor) -> bool:
    """Whether black is 0 and white 255, whatever occurs."""
    return data.dtype == torch.uint8 and int(data.max()) > 32
