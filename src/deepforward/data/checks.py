"""What numbers and labels must be, said once; `place` is where a message says that they stand."""

from __future__ import annotations

import torch
from torch import Tensor

from deepforward.errors import InvalidData

#: Class index of pixels that are neither learnt nor scored.
IGNORED = 255


def check_finite(place: str, values: Tensor) -> None:
    """Refuse NaN and infinities, naming the first one's example and position."""
    if not values.is_floating_point() or bool(values.isfinite().all()):
        return
    example, *position = values.isfinite().logical_not().nonzero()[0].tolist()
    where = f"example {example}" + (f", position {tuple(position)}" if position else "")
    got = float(values[(example, *position)])
    raise InvalidData(f"{place}: got {got} at {where}, expected finite numbers; remove or repair that example")


def check_labels(place: str, labels: Tensor, classes: tuple[str, ...]) -> None:
    """Refuse labels that are not int64 indices of `classes`."""
    if labels.dtype != torch.int64 or labels.ndim != 1:
        got = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise InvalidData(f"{place}: got {got}, expected one int64 class index an example")
    wrong = ((labels < 0) | (labels >= len(classes))).nonzero()
    if len(wrong):
        example = int(wrong[0])
        expected = f"0 to {len(classes) - 1}"
        raise InvalidData(
            f"{place}: got label {int(labels[example])} at example {example}, expected {expected}; correct the label"
        )


def check_masks(place: str, masks: Tensor, classes: tuple[str, ...], size: tuple[int, ...]) -> None:
    """Refuse masks that are not uint8 indices of `classes`, or `IGNORED`, for images of `size` (height, width)."""
    if masks.dtype != torch.uint8 or tuple(masks.shape[1:]) != size:
        got = f"{masks.dtype} of shape {tuple(masks.shape)}"
        raise InvalidData(
            f"{place}: got {got}, expected one uint8 class index for each pixel of images of {' x '.join(map(str, size))}"
        )
    is_wrong = (masks >= len(classes)) & (masks != IGNORED)
    if bool(is_wrong.any()):
        example, row, column = is_wrong.nonzero()[0].tolist()
        got = f"index {int(masks[example, row, column])} at example {example}, row {row}, column {column}"
        raise InvalidData(f"{place}: got {got}, expected 0 to {len(classes) - 1}, or {IGNORED} to ignore; correct the mask")
    if bool((masks == IGNORED).all()):
        raise InvalidData(f"{place}: got nothing but {IGNORED} (ignored), expected some pixels with a class")
