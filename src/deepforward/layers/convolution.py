"""Convolution of images with a kernel, as image processing defines it: directly, by rows and columns, or by FFT."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.layers.convolution_cost import Way, convolution_costs, fast_size
from deepforward.layers.separable import Separation, separate

Size = Literal["same", "valid", "full"]
Border = Literal["zero", "reflect"]

#: Bytes of the result that are computed at a time. They stay in the cache from pass to pass, as the tiles of Podlozhnyuk stay
#: in the shared memory of a GPU: rows and columns of 17x17 over 2048x2048 pixels take 0.6 of the time. What is smaller, such as
#: 512x512, gains nothing by tiles and is one block; narrower ones only shorten the inner loops. A block reads an apron of
#: kernel height - 1 rows.
BLOCK_BYTES = 2**21


def convolve(
    image: Float[Tensor, "*batch height width"],
    kernel: Float[Tensor, "kernel_height kernel_width"],
    *,
    size: Size = "same",
    border: Border = "zero",
    method: Way | Literal["auto"] = "auto",
) -> Float[Tensor, "*batch result_height result_width"]:
    """(f * g)(i, j) = sum_{k,l=-n}^{n} f(k, l) g(i - k, j - l) with kernel f and image g, for every image and channel.

    Torch's `conv2d` computes the correlation, with g(i + k, j + l); see `correlate`. The upper limit of both sums is +n and the
    kernel is turned by 180 degrees, erratum E13 of the lecture.

    Args:
        image: float32 or float64; all leading axes are planes that are convolved alike.
        kernel: Converted to the type and device of the image; its rank is that within its own precision. Its centre is at
            ((height - 1) // 2, (width - 1) // 2), as in scipy.
        size: "same" as the image, "valid" where the kernel lies within it, "full" wherever they overlap.
        border: What lies outside: zeros, or the image mirrored about the centres of its outermost pixels ("valid" sees
            neither).
        method: "direct" (2r+1)^2 multiplications a pixel; "separable" 2 (2r+1) for each term of the kernel (`separate`);
            "fft"; "auto" is the cheapest by `choose_method`. Gradients reach the image by all of them, and the kernel by all
            but "separable".

    Raises:
        ShapeError: The kernel is larger than the image where "valid" is asked for, the image is too small to be mirrored, or
            one of them is empty.
        InvalidData: The image is neither float32 nor float64.
        InvalidOption: No such size, border or method, or "separable" with a kernel that needs a gradient.

    Source:
        Podlozhnyuk 2007, Image convolution with CUDA.
    """
    _check(image, kernel, size, border, method)
    kernel = _precise(kernel, image)
    padded = _pad(image.reshape(-1, *image.shape[-2:]), kernel.shape, size, border)
    separation = None
    if method == "auto":
        method, separation = _cheapest(padded, kernel)
    if method == "separable":
        result = _by_rows_and_columns(padded, separation or separate(kernel))
    else:
        result = (_direct if method == "direct" else _by_fft)(padded, kernel)
    return result.reshape(*image.shape[:-2], *result.shape[-2:])


def correlate(
    image: Float[Tensor, "*batch height width"],
    kernel: Float[Tensor, "kernel_height kernel_width"],
    *,
    size: Size = "same",
    border: Border = "zero",
    method: Way | Literal["auto"] = "auto",
) -> Float[Tensor, "*batch result_height result_width"]:
    """sum_{k,l} f(k, l) g(i + k, j + l), which torch calls convolution: `convolve` with the kernel turned by 180 degrees.

    Arguments and errors are those of `convolve`.
    """
    return convolve(image, kernel.flip(0, 1), size=size, border=border, method=method)


def choose_method(
    image: Float[Tensor, "*batch height width"],
    kernel: Float[Tensor, "kernel_height kernel_width"],
    *,
    size: Size = "same",
) -> Way:
    """The way that `convolve` takes by itself: the one of fewest estimated seconds (`convolution_costs`).

    Args:
        image: As for `convolve`.
        kernel: As for `convolve`.
        size: As for `convolve`.

    Raises:
        ShapeError, InvalidData, InvalidOption: As `convolve`.
    """
    _check(image, kernel, size, "zero", "auto")
    padded = _pad(image.reshape(-1, *image.shape[-2:]), kernel.shape, size, "zero")
    return _cheapest(padded, _precise(kernel, image))[0]


def _check(image: Tensor, kernel: Tensor, size: str, border: str, method: str) -> None:
    choices = {
        "size": (size, ("same", "valid", "full")),
        "border": (border, ("zero", "reflect")),
        "method": (method, ("auto", "direct", "separable", "fft")),
    }
    for name, (got, known) in choices.items():
        if got not in known:
            raise InvalidOption(f"got {name} '{got}'; expected one of {', '.join(known)}")
    if image.dtype not in (torch.float32, torch.float64):
        raise InvalidData(f"got an image of {image.dtype}; expected float32 or float64; convert it, e.g. by image.float()")
    shapes = f"an image of shape {tuple(image.shape)} and a kernel of shape {tuple(kernel.shape)}"
    if image.ndim < 2 or kernel.ndim != 2 or 0 in (*image.shape, *kernel.shape):
        raise ShapeError(f"got {shapes}; expected (..., height, width) and (height, width), none of them 0")
    if size == "valid" and (kernel.shape[0] > image.shape[-2] or kernel.shape[1] > image.shape[-1]):
        raise ShapeError(f"got {shapes}; expected an image no smaller than the kernel where size is 'valid'; use 'same'")
    if border == "reflect" and size != "valid":
        reach = [(n - 1) if size == "full" else n // 2 for n in kernel.shape]
        if reach[0] >= image.shape[-2] or reach[1] >= image.shape[-1]:
            raise ShapeError(f"got {shapes}; expected more than {reach[0]}x{reach[1]} pixels to mirror; use border='zero'")
    if method == "separable" and kernel.requires_grad:
        raise InvalidOption("got method 'separable' and a kernel that needs a gradient; expected 'direct' or 'fft'")


def _precise(kernel: Tensor, image: Tensor) -> Tensor:
    """The kernel where the image is; float32 is kept, since taken for exact its rounding would look like full rank."""
    return kernel.to(image.device) if kernel.dtype == torch.float32 else kernel.to(image)


def _pad(planes: Tensor, kernel: torch.Size, size: Size, border: Border) -> Tensor:
    """The image with its surroundings, of which the "valid" convolution is the one asked for."""
    around = {
        "same": [(n // 2, (n - 1) // 2) for n in kernel],
        "valid": [(0, 0), (0, 0)],
        "full": [(n - 1, n - 1) for n in kernel],
    }
    vertical, horizontal = around[size]
    pads = (*horizontal, *vertical)
    return F.pad(planes, pads, mode="constant" if border == "zero" else "reflect") if any(pads) else planes


def _cheapest(padded: Tensor, kernel: Tensor) -> tuple[Way, Separation | None]:
    """The way of fewest seconds, and the decomposition if one was made: only where a single term would win by it."""
    (planes, height, width), (tall, wide) = padded.shape, kernel.shape

    def cheapest(rank: int) -> Way:
        size = (height - tall + 1, width - wide + 1)
        costs = convolution_costs((tall, wide), size, rank=rank, planes=planes, dtype=padded.dtype)
        if kernel.requires_grad:
            del costs["separable"]
        return min(costs, key=lambda way: costs[way].seconds)

    if cheapest(1) != "separable":
        return cheapest(1), None
    separation = separate(kernel)
    return cheapest(separation.rank), separation


def _direct(padded: Tensor, kernel: Tensor) -> Tensor:
    """A pass for each entry, which on a CPU is several times faster than conv2d of one channel and copies no patches."""
    turned = kernel.flip(0, 1).to(padded)
    recorded = torch.is_grad_enabled() and (padded.requires_grad or kernel.requires_grad)
    if recorded or padded.device.type != "cpu":
        return F.conv2d(padded[:, None], turned[None, None])[:, 0]
    (planes, height, width), (tall, wide) = padded.shape, kernel.shape
    result = padded.new_empty(planes, height - tall + 1, width - wide + 1)
    entries = [(k, j, entry) for k, row in enumerate(turned.tolist()) for j, entry in enumerate(row)]
    for some, rows in _blocks(result):
        block = result[some, rows]
        for k, j, entry in entries:
            shifted = padded[some, rows.start + k : rows.start + k + block.shape[1], j : j + block.shape[2]]
            if k == j == 0:
                torch.mul(shifted, entry, out=block)
            else:
                block.add_(shifted, alpha=entry)
    return result


def _blocks(result: Tensor) -> Iterator[tuple[slice, slice]]:
    """Planes and rows of blocks of about `BLOCK_BYTES`."""
    planes, height, width = result.shape
    row = width * result.element_size()
    count, rows = max(BLOCK_BYTES // (height * row), 1), min(max(BLOCK_BYTES // row, 1), height)
    for plane in range(0, planes, count):
        for top in range(0, height, rows):
            yield slice(plane, plane + count), slice(top, top + rows)


def _by_rows_and_columns(padded: Tensor, separation: Separation) -> Tensor:
    columns, rows = separation
    terms = (_direct(_direct(padded, row[None]), column[:, None]) for column, row in zip(columns, rows, strict=True))
    return reduce(torch.add, terms)


def _by_fft(padded: Tensor, kernel: Tensor) -> Tensor:
    """The transforms are as long as the image with its surroundings: what wraps around lies outside the valid part."""
    (_, height, width), (tall, wide) = padded.shape, kernel.shape
    size = fast_size((height, width))
    product = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernel.to(padded), s=size)
    return torch.fft.irfft2(product, s=size)[:, tall - 1 : height, wide - 1 : width]
