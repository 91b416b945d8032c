"""What a trained model says of images that are not in its data: a class, a number, a mask or another image."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from deepforward.data.dataset import Dataset, Split
from deepforward.data.images import decode, describe
from deepforward.engine.assembly import Parts
from deepforward.engine.evaluation import looking
from deepforward.engine.pixels import as_stored, is_image, pixels
from deepforward.errors import InvalidModel, InvalidOption, ShapeError
from deepforward.files import write_whole
from deepforward.report.mask_section import painted

#: Share of a tile that the next one covers too.
_OVERLAP = 0.25
#: Classes of data whose masks are shown as a page, black on white.
PAGE = ("paper", "ink")


def predict(parts: Parts, image: Shaped[Tensor, "channel height width"]) -> Tensor:
    """What the model says of one image, on the CPU.

    Args:
        parts: A trained model.
        image: In the units of its data; of the shape of its examples, or of any height and width where it speaks of pixels.

    Returns:
        By the task of the data: probabilities of the classes (classes,); the value (); the class of each pixel (height, width)
        uint8; or the image (channels, height, width) in the units of the targets.

    Raises:
        ShapeError: The image has another shape.
        InvalidOption: The data of the run are no images.
        InvalidModel: The model gives neither classes nor values.
    """
    check_predicts(parts)
    if image.ndim != 3 or image.shape[0] != parts.data.shape[0]:
        got, channels = tuple(image.shape), parts.data.shape[0]
        raise ShapeError(f"got an image of shape {got}; expected ({channels}, height, width), as the data of the run have")
    task = parts.data.task
    if task in ("classification", "regression"):
        outputs = _outputs(parts, image)
        return outputs.softmax(0) if task == "classification" else outputs[0]
    outputs = tiled(parts, image)
    return outputs.argmax(0).to(torch.uint8) if task == "segmentation" else outputs


def read_image(parts: Parts, path: Path) -> Shaped[Tensor, "channel height width"]:
    """The image of a file as the data of a run would hold it: grey or in colour, on white where transparent.

    It keeps its size where the model speaks of pixels; else it is cropped in the middle and resized to that of the examples.

    Raises:
        CorruptData, DataUnavailable, InvalidData: As `data.images.decode`.
        InvalidOption: The data of the run are no images.
    """
    check_predicts(parts)
    channels, *size = parts.data.shape
    if parts.data.task in ("segmentation", "image-regression"):
        size = list(describe(path)[:2])
    stored = decode(path, *size, is_grey=channels == 1)
    return as_stored(torch.from_numpy(np.array(stored)), parts.data.train.inputs)


def check_predicts(parts: Parts) -> None:
    """Refuse runs whose model says nothing of an image.

    Raises:
        InvalidOption: The data of the run are no images.
        InvalidModel: The model gives neither classes nor values.
    """
    if not is_image(parts.data.shape):
        raise InvalidOption(
            f"got a run on {parts.data.name}, whose examples have shape {parts.data.shape}; predict takes runs on images"
        )
    if parts.objective.output_shape(parts.data) is None:
        raise InvalidModel(
            f"a run of '{parts.recipe.model}' with '{parts.recipe.objective}' gives features, not classes; use embed"
        )


def tiled(parts: Parts, image: Shaped[Tensor, "channel height width"]) -> Float[Tensor, "outputs height width"]:
    """The model's outputs for each pixel of an image of any size, from tiles of the size that it was trained on.

    Tiles overlap by a quarter; where they do, outputs are averaged, one that is nearer to the edge of its tile counting less.
    An image that is smaller than a tile is continued by its edge.
    """
    tile = parts.data.shape[1:]
    height, width = image.shape[1:]
    missing = [max(side - length, 0) for side, length in zip(tile, (height, width), strict=True)]
    whole = F.pad(image[None].float(), (0, missing[1], 0, missing[0]), mode="replicate")[0]
    weights = _ramp(tile[0])[:, None] * _ramp(tile[1])
    total, norm = torch.zeros(()), torch.zeros(whole.shape[1:])
    for y in _starts(whole.shape[1], tile[0]):
        for x in _starts(whole.shape[2], tile[1]):
            place = slice(y, y + tile[0]), slice(x, x + tile[1])
            outputs = _outputs(parts, whole[:, *place])
            if not total.ndim:
                total = torch.zeros(len(outputs), *norm.shape)
            total[:, *place] += weights * outputs
            norm[place] += weights
    return (total / norm)[:, :height, :width]


def output_path(parts: Parts, path: Path, out: Path | None) -> Path:
    """Where the picture for a file goes: beside it or into the folder `out`, named `x.clean.png`, `x.mask.png`, `x.output.png`.

    The three names are for pages, for masks of other classes, and for images.

    Raises:
        InvalidOption: There is a file of that name already.
    """
    kind = "output" if parts.data.task == "image-regression" else "clean" if parts.data.classes == PAGE else "mask"
    found = (out or path.parent) / f"{path.stem}.{kind}.png"
    if found.exists():
        raise InvalidOption(f"{found} exists; remove it, or give another folder as --out")
    return found


def write_picture(path: Path, predicted: Tensor, data: Dataset) -> None:
    """A mask or an image as PNG: pages black on white, masks by an indexed colour for each class, images as they are.

    Raises:
        WriteFailed: The file could not be written.
    """
    stream = io.BytesIO()
    _picture(predicted, data).save(stream, "PNG", optimize=True)
    write_whole(path, stream.getvalue())


def _picture(predicted: Tensor, data: Dataset) -> Image.Image:
    if data.task == "image-regression":
        values = pixels(predicted, like=data.train.targets)
        return Image.fromarray(np.ascontiguousarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0)))
    if data.classes == PAGE:
        return Image.fromarray(predicted.numpy() != PAGE.index("ink"))
    picture = Image.fromarray(predicted.numpy())
    picture.putpalette(painted(np.arange(256)[None]).transpose(1, 2, 0).tobytes())  # the colours of the report
    return picture


def _outputs(parts: Parts, image: Tensor) -> Any:
    """What the model gives for one image, which it is shown as an example of its data would be."""
    example = Split(image[None], torch.zeros(1))
    with looking(parts), parts.arithmetic.autocast():
        return parts.model(parts.batch(example).inputs)[0].float().cpu()


def _starts(length: int, tile: int) -> list[int]:
    """First places of tiles that cover a length, evenly spread."""
    steps = math.ceil((length - tile) / max(math.floor(tile * (1 - _OVERLAP)), 1))
    return [round(i * (length - tile) / steps) for i in range(steps + 1)] if steps else [0]


def _ramp(tile: int) -> Float[Tensor, " tile"]:
    """Weight of each place of a tile: rising over the overlap, then 1, and falling again."""
    place = torch.arange(1, tile + 1, dtype=torch.float32)
    return (torch.minimum(place, tile + 1 - place) / max(tile * _OVERLAP, 1.0)).clamp(max=1.0)
