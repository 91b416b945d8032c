"""Arrays -> PNG images inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from deepforward.errors import ShapeError
from deepforward.report.blocks import Images

#: Bytes of raw pixels that one grid may hold, so that many large photographs do not swell the page.
PIXEL_BUDGET = 300_000
MAX_IMAGES = 100
MAX_SIDE = 192

#: Pixels: of the longer side of an image in a montage at least, and between two images.
_LEAST_SIDE, _GAP = 32, 2


def data_uris(grid: Images) -> Iterator[tuple[str, tuple[int, int]]]:
    """The first `MAX_IMAGES` of a grid as PNG data URIs with their size (width, height) in pixels, shrunk to `PIXEL_BUDGET`."""
    shown = grid.pixels[:MAX_IMAGES]
    if not len(shown):
        return
    images = [Image.fromarray(picture) for picture in _pictures(_bytes(shown, grid.contrast))]
    bands, (width, height) = len(images[0].getbands()), images[0].size
    scale = min(1.0, MAX_SIDE / max(width, height), (PIXEL_BUDGET / (len(images) * bands * width * height)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    for image in images:
        stream = io.BytesIO()
        (image if scale == 1.0 else image.resize(size, Image.Resampling.BOX)).save(stream, "PNG", optimize=True)
        yield f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}", size


def montage(pixels: np.ndarray, columns: int) -> bytes:
    """Images beside and below each other as one PNG, at least 32 pixels wide each, two pixels of grey between them.

    Args:
        pixels: (images, channels, height, width) uint8, one or three channels.
        columns: Images in a row.

    Raises:
        ShapeError: Another shape, no image, or no column.
    """
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.size or columns < 1:
        raise ShapeError(
            f"got images of shape {pixels.shape} in {columns} columns; expected (images, 1 or 3, height, width), at least one"
        )
    scale = -(-_LEAST_SIDE // max(pixels.shape[2:]))
    large = pixels.repeat(scale, 2).repeat(scale, 3)
    count, channels, height, width = large.shape
    rows, step_y, step_x = -(-count // columns), height + _GAP, width + _GAP
    columns = min(columns, count)
    sheet = np.full((channels, rows * step_y - _GAP, columns * step_x - _GAP), 128, np.uint8)
    for i, image in enumerate(large):
        top, left = i // columns * step_y, i % columns * step_x
        sheet[:, top : top + height, left : left + width] = image
    stream = io.BytesIO()
    Image.fromarray(next(_pictures(sheet[None]))).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _pictures(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """(images, channels, height, width) -> pictures (height, width) or (height, width, 3)."""
    channels = pixels.shape[1]
    for image in pixels:
        if channels == 3:
            yield np.ascontiguousarray(image.transpose(1, 2, 0))
        else:
            yield np.ascontiguousarray(np.concatenate(list(image), axis=1))


def _bytes(pixels: np.ndarray, contrast: str) -> np.ndarray:
    """Stretch to 0..255; what is not finite becomes black."""
    if pixels.dtype == np.uint8:
        return pixels
    values = pixels.astype(np.float64)
    finite = np.isfinite(values)
    axes = (1, 2, 3) if contrast == "each" else None
    low = np.min(values, axis=axes, keepdims=True, where=finite, initial=np.inf)
    high = np.max(values, axis=axes, keepdims=True, where=finite, initial=-np.inf)
    span = np.where(high > low, high - low, 1.0)
    with np.errstate(invalid="ignore"):
        stretched = (values - low) / span
    return np.round(255 * np.where(finite, stretched, 0.0)).clip(0, 255).astype(np.uint8)
