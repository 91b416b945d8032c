"""One image at a time: from a file of any size and mode to uint8 pixels, and resizing whole tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from deepforward.errors import CorruptData, DataUnavailable, DeepforwardError, InvalidData

_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"}
_EXIF_ORIENTATION, _TRANSPOSED = 0x0112, range(5, 9)


def describe(path: Path) -> tuple[int, int, bool]:
    """Height, width and whether it is grey, from the head of the file, as it is to be seen (EXIF orientation applied).

    Raises:
        CorruptData: The file is no image.
        DataUnavailable: The system does not let it be read.
    """
    with opened(path) as image:
        width, height = image.size
        # Pillow has turned the size of a TIFF already; PNG reads all pixels in search of EXIF that its head does not hold.
        is_stored = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        if is_stored and image.getexif().get(_EXIF_ORIENTATION) in _TRANSPOSED:
            width, height = height, width
        return height, width, image.mode in _GREY


def decode(path: Path, height: int, width: int, *, is_grey: bool) -> UInt8[np.ndarray, "channel height width"]:
    """The pixels, upright, on white where transparent, cropped in the middle to the aspect ratio asked for, and resized.

    Sixteen bits become the upper eight. Of an animation the first frame counts.

    Raises:
        CorruptData: The file does not decode.
        DataUnavailable: The system does not let it be read.
        InvalidData: It has 32 bits a pixel, whose range is anybody's guess.
    """
    with opened(path) as image:
        mode, side = "L" if is_grey else "RGB", 2 * max(height, width)
        image.draft(mode, (side, side))
        flat = _on_white(_eight_bits(ImageOps.exif_transpose(image), path)).convert(mode)
        if flat.size != (width, height):
            flat = ImageOps.fit(flat, (width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(flat)
    return pixels[None] if is_grey else pixels.transpose(2, 0, 1)


def resize(images: Shaped[Tensor, "examples channel rows columns"], size: int) -> Shaped[Tensor, "examples channel size size"]:
    """Square images by antialiased bilinear interpolation; uint8 stays uint8, rounded."""
    if images.ndim != 4:
        raise InvalidData(f"got examples of shape {tuple(images.shape[1:])}, expected images to resize; drop the option size")
    parts = []
    for start in range(0, len(images), 4096):
        chunk = images[start : start + 4096].float()
        values = functional.interpolate(chunk, (size, size), mode="bilinear", antialias=True)
        parts.append(values.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else values)
    return torch.cat(parts)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file, open while the context is; what is wrong with it is said in a line that names it.

    Raises:
        CorruptData: The file is no image, or does not decode.
        DataUnavailable: The system does not let it be read.
    """
    try:
        # A stream, because Pillow maps a file that it opens by name and then confuses height and width of a turned TIFF.
        with path.open("rb") as stream, Image.open(stream) as image:
            yield image
    except DeepforwardError:
        raise
    except UnidentifiedImageError:
        raise CorruptData(f"{path}: got a file that is no image, expected PNG, JPEG or the like; repair or remove it") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # from the system: Pillow sets no number
            raise DataUnavailable(f"{path}: cannot be read ({error.strerror}); make it readable or remove it") from None
        raise CorruptData(f"{path}: does not decode as an image ({error}); repair or remove it") from None


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InvalidData(f"{path}: got 32 bits a pixel (mode {image.mode}), expected 8 or 16; convert it")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
