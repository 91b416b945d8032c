"""What a model makes of the pixels of its images: masks side by side, overlap by class, pixels confused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from deepforward.report.blocks import Block, Heading, Images, Table
from deepforward.report.figures import confusion_matrix
from deepforward.report.figures.regions import COLOURS
from deepforward.report.run_record import RunRecord

#: How bright the colours are of the first seven classes, the next seven, ...; then they come again.
_SHADES = (1.0, 0.55, 0.3)
#: Class index, and colour, of pixels without a class.
_NONE, _GREY = 255, (128, 128, 128)
#: Classes that the legend shows, and pixels of a side of its fields.
_LEGEND, _FIELD = 21, 12


def painted(masks: np.ndarray) -> np.ndarray:
    """A colour for each class, told apart by the colour-blind where there are no more than seven; grey where there is none.

    Args:
        masks: (..., height, width) class indices, 255 where there is none.

    Returns:
        (..., 3, height, width) uint8.
    """
    shaded = np.concatenate([np.array(list(COLOURS.values())) * shade for shade in _SHADES])
    palette = np.resize(shaded, (_NONE + 1, 3))
    palette[_NONE] = _GREY
    return np.moveaxis(palette.round().astype(np.uint8)[masks], -1, -3)


def mask_section(record: RunRecord) -> Iterator[Block]:
    """Test images with true and predicted masks, intersection over union of each class, and which pixels are confused."""
    masks = record.masks
    if masks is None or not len(masks.images):
        return
    names = list(record.classes)
    yield Heading("Masks")
    images = masks.images if masks.images.shape[1] == 3 else masks.images.repeat(3, axis=1)
    yield Images(
        np.concatenate([images, painted(masks.true), painted(masks.predicted)]),
        caption="Test images, the class of each pixel, and the class given"
        + ("; grey: not asked." if (masks.true == _NONE).any() else "."),
        columns=len(images),
        rows=("image", "true", "predicted"),
    )
    shown = np.arange(min(len(names), _LEGEND), dtype=np.uint8)
    fields = painted(np.broadcast_to(shown[:, None, None], (len(shown), _FIELD, _FIELD)))
    yield Images(fields, names[: len(shown)], "Colours of the classes.", half=True)
    yield _overlap(masks.confusion, names)
    yield confusion_matrix(
        masks.confusion,
        names,
        "Pixels of the test images; the stronger the colour, the larger the share of the true class.",
        unit="pixels",
    )


def _overlap(confusion: np.ndarray, names: Sequence[str]) -> Table:
    """Intersection over union, and the shares behind it; a class that neither occurs nor is given has none."""
    counts = confusion.astype(np.float64)
    hits, true, given = counts.diagonal(), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        columns = (hits / (true + given - hits), hits / true, hits / given, true / true.sum())
    shares = ["IoU", "found", "right", "of all pixels"]
    rows = [[name, *values] for name, *values in zip(names, *(column.tolist() for column in columns), strict=True)]
    rows.append(["mean", float(np.nanmean(columns[0])), None, None, None])
    return Table(
        ["class", *shares],
        rows,
        {"IoU": ".3f", "found": ".1%", "right": ".1%", "of all pixels": ".1%"},
        "Pixels of the test images. IoU: those of the class that were given it, of all that are of the class or were given it. "
        "Found: of those of the class. Right: of those given it.",
    )
