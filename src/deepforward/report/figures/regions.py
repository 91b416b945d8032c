"""Regions of the plane as a picture: basins of attraction, phases, classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepforward.errors import InvalidOption, ShapeError
from deepforward.report.blocks import Images

#: Name -> colour, told apart by the colour-blind and legible on light and dark pages (after Okabe and Ito 2008).
COLOURS = {
    "blue": (0, 114, 178),
    "orange": (230, 159, 0),
    "green": (0, 158, 115),
    "pink": (204, 121, 167),
    "light blue": (86, 180, 233),
    "red": (213, 94, 0),
    "yellow": (240, 228, 66),
}
_NO_REGION = (128, 128, 128)


def regions(
    labels: np.ndarray, names: Sequence[str], *, depth: np.ndarray | None = None, caption: str = "", half: bool = False
) -> Images:
    """A picture with a colour for each region, named below it.

    Args:
        labels: (height, width) index of the region of each pixel, negative where there is none (grey).
        names: Name of each region, at most seven.
        depth: (height, width) in [0, 1], how far to darken each pixel: contours, steps, uncertainty.
        caption: What to see in it.
        half: Whether half the page's width is enough on a wide screen.

    Raises:
        InvalidOption: There are more names than colours, or a label without a name.
        ShapeError: The arrays are not of one shape (height, width).
    """
    if len(names) > len(COLOURS) or labels.max(initial=-1) >= len(names):
        got = f"{len(names)} names and labels up to {labels.max(initial=-1)}"
        raise InvalidOption(f"got {got}; expected at most {len(COLOURS)} regions with a name each; merge some")
    if labels.ndim != 2 or (depth is not None and depth.shape != labels.shape):
        got = f"labels {labels.shape}" + (f" and depth {depth.shape}" if depth is not None else "")
        raise ShapeError(f"got {got}; expected (height, width)")
    palette = np.array([*list(COLOURS.values())[: len(names)], _NO_REGION], np.float64)
    pixels = palette[np.where(labels < 0, len(names), labels)]
    if depth is not None:
        pixels *= 1 - 0.75 * depth[:, :, None].clip(0, 1)
    key = "; ".join(f"{colour}: {name}" for colour, name in zip(COLOURS, names, strict=False))
    grey = "; grey: none" if (labels < 0).any() else ""
    picture = pixels.round().astype(np.uint8).transpose(2, 0, 1)
    return Images(picture[None], caption=f"{caption} {key[:1].upper()}{key[1:]}{grey}.".strip(), columns=1, half=half)
