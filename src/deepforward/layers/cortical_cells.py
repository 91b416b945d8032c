"""Cells of the visual cortex: Gabor receptive fields, simple cells that rectify, complex cells that add squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import InvalidOption, ShapeError

Padding = Literal["same", "valid"]

#: Radius of a receptive field in widths of its Gaussian: 99.5% of its mass lies within the square.
REACH = 3.0


def gabor(
    wavelength: float, orientation: float, phase: float, width: float, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "side side"]:
    """A wave under a Gaussian, exp(-|x|^2 / 2 s^2) / (2 pi s^2) (cos(2 pi x'/lambda - phase) - c), c such that it sums to 0.

    x' = x cos a + y sin a runs across the stripes, x to the right and y downwards. A wave of amplitude one, of the same
    wavelength, orientation and phase, gives 1/2, less the Gaussian's mass beyond the square; uniform light gives 0.

    Args:
        wavelength: Lambda, in pixels, at least 2.
        orientation: a, in radians: the direction across the stripes.
        phase: In radians; 0 is even (a bright line), pi/2 odd (an edge).
        width: Standard deviation s of the Gaussian, in pixels; the side is 2 ceil(3 s) + 1.
        dtype: Of the result; it is computed in float64.

    Raises:
        InvalidOption: A wavelength below 2, which no grid of pixels can show, or a width that is not positive.

    Source:
        Marcelja 1980, Mathematical description of the responses of simple cortical cells; Daugman 1985, JOSA A 2.
    """
    if not wavelength >= 2 or not width > 0:
        raise InvalidOption(f"got wavelength = {wavelength} and width = {width}; expected at least 2 pixels, and above 0")
    reach = math.ceil(REACH * width)
    x = torch.arange(-reach, reach + 1, dtype=torch.float64)
    envelope = torch.exp(-(x[:, None] ** 2 + x**2) / (2 * width**2)) / (2 * math.pi * width**2)
    wave = grating(2 * reach + 1, wavelength, orientation, phase, torch.float64)
    mean = (envelope * wave).sum() / envelope.sum()
    return (envelope * (wave - mean)).to(dtype)


def grating(
    side: int, wavelength: float, orientation: float, phase: float, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "side side"]:
    """The stimulus cos(2 pi x'/lambda - phase), its origin at the middle pixel; arguments are those of `gabor`."""
    x = torch.arange(side, dtype=torch.float64) - side // 2
    across = x * math.cos(orientation) + x[:, None] * math.sin(orientation)
    return torch.cos(2 * math.pi / wavelength * across - phase).to(dtype)


class SimpleCells(nn.Module):
    """At each pixel a cell for each orientation and phase: max(0, receptive field times what lies in it).

    Args:
        orientations: Number of orientations, evenly over half a turn.
        phases: Number of phases, evenly over a turn.
        wavelength: In pixels.
        width: Of the Gaussian, in pixels; half the wavelength if None.
        dtype: Of the receptive fields.

    Raises:
        InvalidOption: No orientation or no phase, or as `gabor`.

    Source:
        Hubel and Wiesel 1962, Receptive fields, binocular interaction and functional architecture in the cat's visual cortex.
    """

    fields: Tensor

    def __init__(
        self,
        orientations: int = 8,
        phases: int = 4,
        wavelength: float = 8.0,
        width: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if min(orientations, phases) < 1:
            raise InvalidOption(f"got {orientations} orientations and {phases} phases; expected at least one of each")
        self.orientations, self.phases, self.wavelength = orientations, phases, wavelength
        bank = [
            gabor(
                wavelength,
                math.pi * a / orientations,
                2 * math.pi * p / phases,
                wavelength / 2 if width is None else width,
                dtype,
            )
            for a in range(orientations)
            for p in range(phases)
        ]
        self.register_buffer("fields", torch.stack(bank)[:, None], persistent=False)

    def linear(
        self, images: Float[Tensor, "batch 1 height width"], padding: Padding = "same"
    ) -> Float[Tensor, "batch orientation phase rows columns"]:
        """Responses before they are rectified.

        Args:
            images: Grey images, in any unit.
            padding: "same" has cells at all pixels, with darkness (0) outside the image; "valid" those whose field is inside.

        Raises:
            ShapeError: The images are not grey, or smaller than a receptive field where padding is "valid".
        """
        side = self.fields.shape[-1]
        if images.ndim != 4 or images.shape[1] != 1:
            raise ShapeError(f"got images of shape {tuple(images.shape)}; expected (batch, 1, height, width); make them grey")
        if padding == "valid" and min(images.shape[2:]) < side:
            raise ShapeError(f"got images of shape {tuple(images.shape)}; expected at least {side}x{side}, a receptive field")
        maps = F.conv2d(images, self.fields, padding=padding)  # a cell correlates: its field is not turned
        return maps.unflatten(1, (self.orientations, self.phases))

    def forward(
        self, images: Float[Tensor, "batch 1 height width"], padding: Padding = "same"
    ) -> Float[Tensor, "batch orientation phase rows columns"]:
        """Firing, which cannot be negative; arguments and errors are those of `linear`."""
        return self.linear(images, padding).relu()

    def extra_repr(self) -> str:
        """Orientations, phases, wavelength."""
        return f"orientations={self.orientations}, phases={self.phases}, wavelength={self.wavelength:g}"


class ComplexCells(nn.Module):
    """At each pixel a cell for each orientation: sqrt(even^2 + odd^2), the energy of two receptive fields a quarter turn apart.

    Each square is the sum of those of two opposite simple cells. The response to a wave does not depend on its phase, so that
    a line of the right orientation excites wherever it lies in the field.

    Args:
        orientations: As for `SimpleCells`.
        wavelength: As for `SimpleCells`.
        width: As for `SimpleCells`.
        dtype: As for `SimpleCells`.

    Source:
        Adelson and Bergen 1985, Spatiotemporal energy models for the perception of motion.
    """

    def __init__(
        self,
        orientations: int = 8,
        wavelength: float = 8.0,
        width: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.simple = SimpleCells(orientations, 4, wavelength, width, dtype)

    def forward(
        self, images: Float[Tensor, "batch 1 height width"], padding: Padding = "same"
    ) -> Float[Tensor, "batch orientation rows columns"]:
        """Square root of the energy, 0 where nothing is seen; arguments and errors are those of `SimpleCells.linear`."""
        return torch.linalg.vector_norm(self.simple(images, padding), dim=2)


def orientation_tuning(
    cells: SimpleCells | ComplexCells, orientations: Sequence[float], phases: int = 16
) -> Float[Tensor, "grating cell"]:
    """Mean response over phases of one cell of each orientation to gratings of its own wavelength that fill its field.

    Args:
        cells: Simple cells are taken at their first phase.
        orientations: Of the gratings, in radians.
        phases: Number of phases, evenly over a turn.
    """
    simple = cells.simple if isinstance(cells, ComplexCells) else cells
    side = simple.fields.shape[-1]
    gratings = [
        grating(side, simple.wavelength, a, 2 * math.pi * p / phases, simple.fields.dtype)
        for a in orientations
        for p in range(phases)
    ]
    with torch.no_grad():
        responses = cells(torch.stack(gratings)[:, None], padding="valid")[..., 0, 0]
    if responses.ndim == 3:
        responses = responses[:, :, 0]
    return responses.view(len(orientations), phases, -1).mean(1)


def tuning_width(wavelength: float, width: float) -> float:
    """Orientation in radians at which a complex cell's response is halved, in either direction from the best one.

    The response falls as exp(-s^2 |k - k_0|^2 / 2), the Fourier transform of the Gaussian, with |k - k_0| = 2 |k| sin(a / 2).
    """
    return 2 * math.asin(min(wavelength * math.sqrt(2 * math.log(2)) / (4 * math.pi * width), 1.0))
