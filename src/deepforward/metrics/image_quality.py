"""How near an image is to another, pixel by pixel."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def peak_signal_to_noise(
    images: Float[Tensor, "batch *shape"], references: Float[Tensor, "batch *shape"], peak: float = 1.0
) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio of each image, 10 log10(peak^2 / mean (x - r)^2), in dB; infinite where they are equal.

    Args:
        images: What is judged.
        references: What it should be.
        peak: Range of the values: 1 for images in [0, 1], 255 for bytes.

    Source: Gonzalez and Woods, Digital image processing, 4th edition 2018, section 8.1; equal to skimage.metrics.
    """
    return 10 * (peak**2 / (images - references).square().flatten(1).mean(1)).log10()
