"""Changes of whole batches on their device, by which a few examples stand for many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from deepforward.data.dataset import Batch
from deepforward.data.spec import Pixels, Range, arguments, parse
from deepforward.errors import InvalidOption, UnknownName


class Augmentation:
    """Changes made to each batch of images in turn; false where there are none.

    | specification | what happens to each example, drawn anew |
    | --- | --- |
    | `flip?probability=0.5` | mirrored left to right |
    | `shift?pixels=2&border=edge` | moved by up to so many pixels along both axes; what comes in repeats the edge, mirrors the image (`reflect`), or is 0 (`zero`) |
    | `crop?share=0.8` | a part of it, both sides of which are scaled by one factor in [share, 1], at a random place, resized to the whole |
    | `cutout?size=8` | a square of so many pixels a side with its centre anywhere is set to 0, the mean of standardised data |

    Where the targets are masks or images they move along; masks take the class of the nearest pixel, and cutout leaves targets as
    they are.

    Args:
        specs: The changes, in order.
        shape: Shape of one example.

    Raises:
        UnknownName: No such change, or no such option.
        InvalidOption: An option has a value it cannot have, or the examples are no images.

    Source: DeVries and Taylor 2017, Improved regularization of convolutional neural networks with cutout; Szegedy et al. 2015,
        Going deeper with convolutions (crops), here without a change of the aspect ratio.
    """  # noqa: E501  (a row of the table)

    def __init__(self, specs: Sequence[str], shape: tuple[int, ...]) -> None:
        self._changes = [_read(spec) for spec in specs]
        if specs and len(shape) != 3:
            raise InvalidOption(f"augmentation: got examples of shape {shape}, expected images (channels, height, width)")

    def __bool__(self) -> bool:
        return bool(self._changes)

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """A changed copy of a batch of images (batch, channels, height, width); `rng` must be on their device."""
        for change in self._changes:
            batch = change(batch, rng)
        return batch


def _read(spec: str) -> Callable[[Batch, torch.Generator], Batch]:
    name, path, options = parse(spec)
    if name not in AUGMENTATIONS or path is not None:
        raise UnknownName("augmentation", spec, AUGMENTATIONS)
    change = AUGMENTATIONS[name]
    return partial(change, **arguments(f"augmentation {name}", change, options))


def flip(batch: Batch, rng: torch.Generator, *, probability: Annotated[float, Range(0, 1)] = 0.5) -> Batch:
    """Mirror some of the examples, and their targets, left to right."""
    chosen = torch.rand(len(batch.inputs), generator=rng, device=batch.inputs.device) < probability

    def mirrored(values: Shaped[Tensor, "batch ... width"]) -> Tensor:
        return torch.where(chosen.reshape(-1, *[1] * (values.ndim - 1)), values.flip(-1), values)

    return _moved(batch, mirrored, mirrored)


def shift(
    batch: Batch, rng: torch.Generator, *, pixels: Pixels = 2, border: Literal["edge", "reflect", "zero"] = "edge"
) -> Batch:
    """Move each example, and its target, by whole numbers of pixels drawn evenly from [-pixels, pixels] along both axes."""
    height, width = batch.inputs.shape[2:]
    if border == "reflect" and pixels >= min(height, width):
        raise InvalidOption(f"shift: got pixels={pixels} for images of {height} x {width}, expected fewer to mirror that far")
    size = (len(batch.inputs),)
    down, right = (torch.randint(2 * pixels + 1, size, generator=rng, device=batch.inputs.device) for _ in range(2))
    mode = {"edge": "replicate", "reflect": "reflect", "zero": "constant"}[border]
    examples = torch.arange(len(batch.inputs), device=batch.inputs.device)

    def window(values: Float[Tensor, "batch channel height width"]) -> Tensor:
        padded = F.pad(values, (pixels,) * 4, mode=mode)
        return padded.unfold(2, height, 1).unfold(3, width, 1)[examples, :, down, right]

    def window_of_mask(mask: Int[Tensor, "batch height width"]) -> Tensor:
        return window(mask[:, None].float())[:, 0].to(
            mask.dtype
        )  # class indices are exact in float32; padding is not for int64

    return _moved(batch, window, window_of_mask)


def crop(batch: Batch, rng: torch.Generator, *, share: Annotated[float, Range(0.01, 1)] = 0.8) -> Batch:
    """Enlarge a part of each example, and of its target, to the whole."""
    count, device = len(batch.inputs), batch.inputs.device
    scale = share + (1 - share) * torch.rand(count, generator=rng, device=device)
    centre = (1 - scale)[:, None] * (2 * torch.rand(count, 2, generator=rng, device=device) - 1)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = centre

    def resized(values: Float[Tensor, "batch channel height width"], mode: str = "bilinear") -> Tensor:
        grid = F.affine_grid(theta.to(values.dtype), list(values.shape), align_corners=False)
        return F.grid_sample(values, grid, mode, padding_mode="border", align_corners=False)

    def resized_mask(mask: Int[Tensor, "batch height width"]) -> Tensor:
        return resized(mask[:, None].float(), "nearest")[:, 0].to(mask.dtype)

    return _moved(batch, resized, resized_mask)


def cutout(batch: Batch, rng: torch.Generator, *, size: Pixels = 8) -> Batch:
    """Set a square of each example to 0, at its edge perhaps only a part of one."""
    count, _, height, width = batch.inputs.shape
    device = batch.inputs.device

    def covered(length: int) -> Tensor:
        first = torch.randint(length, (count, 1), generator=rng, device=device) - size // 2
        place = torch.arange(length, device=device)
        return (place >= first) & (place < first + size)

    square = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return Batch(batch.inputs.masked_fill(square, 0.0), batch.targets)


#: Name of a change -> function(batch, rng, **options).
AUGMENTATIONS: Mapping[str, Callable[..., Batch]] = {"flip": flip, "shift": shift, "crop": crop, "cutout": cutout}


def _moved(batch: Batch, image: Callable[[Tensor], Tensor], mask: Callable[[Tensor], Tensor]) -> Batch:
    """Inputs moved, and targets if they have pixels: masks by `mask`, images by `image`."""
    targets = batch.targets
    move: Callable[[Tensor], Tensor] | None = {3: mask, 4: image}.get(targets.ndim)
    return Batch(image(batch.inputs), targets if move is None else move(targets))
