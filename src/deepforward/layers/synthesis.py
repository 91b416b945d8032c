"""Images as sums of filters, each placed by a map: the linear operator of convolutional sparse coding, and its adjoint."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from deepforward.errors import ShapeError

Filters = Float[Tensor, "map channel filter_height filter_width"]

#: Outputs that one product of the processor's vector unit makes at once: with fewer channels most of it would be idle.
_OUTPUTS = 16


def synthesise(maps: Float[Tensor, "batch map rows columns"], filters: Filters) -> Float[Tensor, "batch channel height width"]:
    """The image that maps and filters stand for, y_c = sum_k z_k * f_kc, where every filter that is placed covers it wholly.

    A value of map k adds filter k where it lies. Maps reach beyond the image by a filter's size less one, so that each pixel is
    covered by as many filters as any other: height = rows - side + 1.

    Args:
        maps: z.
        filters: f.

    Raises:
        ShapeError: Another number of maps than of filters, or maps smaller than the filters.

    Source: Zeiler, Krishnan, Taylor, Fergus 2010, Deconvolutional networks, CVPR, eq. 1.
    """
    _check(maps, filters)
    return synthesis(filters)(maps)


def correlate(images: Float[Tensor, "batch channel height width"], filters: Filters) -> Float[Tensor, "batch map rows columns"]:
    """How much of each filter is found at each place: the adjoint of `synthesise`, with <z, R'y> = <Rz, y>.

    Args:
        images: y.
        filters: f, with as many channels.
    """
    return F.conv2d(images, filters, padding=(filters.shape[2] - 1, filters.shape[3] - 1))


def synthesis(filters: Filters) -> Callable[[Tensor], Tensor]:
    """`synthesise` with these filters, prepared to be called many times.

    An image of few channels leaves the vector unit idle if its pixels are computed one by one. On a CPU in float32 squares of
    up to 4 x 4 pixels are therefore computed as if they were channels, by filters moved within a larger frame (with one channel
    five times as fast as the transposed convolution, though it has twice the products).
    """
    channels, side, width = filters.shape[1:]
    block = max((b for b in (1, 2, 4) if b * b * channels <= _OUTPUTS), default=1)
    if block == 1 or filters.dtype != torch.float32 or filters.device.type != "cpu":
        return lambda maps: F.conv_transpose2d(maps, filters, padding=(side - 1, width - 1))
    framed = _framed(filters, block)

    def by_blocks(maps: Tensor) -> Tensor:
        height, columns = maps.shape[2] - side + 1, maps.shape[3] - width + 1
        whole = F.pad(maps, (0, -columns % block, 0, -height % block))
        return F.pixel_shuffle(F.conv2d(whole, framed, stride=block), block)[:, :, :height, :columns]

    return by_blocks


def _framed(filters: Tensor, block: int) -> Tensor:
    """Flipped filters at every place of a block: (channels x block x block, maps, side + block - 1, width + block - 1)."""
    maps, channels, side, width = filters.shape
    flipped = filters.flip(2, 3).transpose(0, 1)
    room = block - 1
    places = [F.pad(flipped, (j, room - j, i, room - i)) for i in range(block) for j in range(block)]
    return torch.stack(places, 1).reshape(channels * block * block, maps, side + room, width + room)


def operator_norm(filters: Filters, rows: int, columns: int) -> Float[Tensor, ""]:
    """An upper bound of the norm of `synthesise` on maps of this size, |synthesise(z)| <= norm |z|.

    It is the exact norm where maps and image wrap around, the largest over all frequencies of the largest singular value of the
    filters' spectra (channels x maps); cutting the border off an image makes it no longer.

    Args:
        filters: f.
        rows: Height of the maps.
        columns: Width of the maps.
    """
    spectra = torch.fft.rfft2(filters.detach(), (rows, columns)).permute(2, 3, 1, 0)
    if spectra.shape[2] > spectra.shape[3]:
        spectra = spectra.mH
    if spectra.shape[2] == 1:
        return spectra.abs().square().sum(3).max().sqrt()
    return torch.linalg.eigvalsh(spectra @ spectra.mH).max().clamp(min=0).sqrt()


def _check(maps: Tensor, filters: Tensor) -> None:
    if maps.shape[1] != len(filters) or maps.shape[2] < filters.shape[2] or maps.shape[3] < filters.shape[3]:
        raise ShapeError(
            f"got maps of shape {tuple(maps.shape[1:])} and filters of shape {tuple(filters.shape)}; expected one map for each "
            "filter, none smaller than it"
        )
