"""What a convolution costs by each way of computing it: multiplications, counted, and seconds, estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.fft import next_fast_len

Way = Literal["direct", "separable", "fft"]


@dataclass(frozen=True)
class ConvolutionCost:
    """Cost of one way.

    Attributes:
        multiplications: For each pixel of the result.
        seconds: For all pixels of all planes, on one thread of the machine that the constants were measured on.
    """

    multiplications: float
    seconds: float


@dataclass(frozen=True)
class Speed:
    """Nanoseconds of one floating-point type, measured by `benchmarks/convolution.py`, which prints them anew.

    Attributes:
        tap: A multiplication of a pass, which adds the image, shifted and times one entry of the kernel.
        fresh: A pixel of a result, of which separable kernels have two a term, since its memory is new.
        transform: A multiplication of the Fourier transforms.
        pass_start: What a pass takes before its first multiplication.
        decomposition: The decomposition of a kernel of 17x17.
        transform_start: What the transforms take before their first multiplication.
    """

    tap: float
    fresh: float
    transform: float
    pass_start: float
    decomposition: float
    transform_start: float


#: One thread of an AMD EPYC of 2 cores with 1 MiB of second-level cache each, torch 2.11 with MKL.
SPEED: Mapping[torch.dtype, Speed] = {
    torch.float32: Speed(0.125, 0.7, 0.19, pass_start=5700, decomposition=110_000, transform_start=90_000),
    torch.float64: Speed(0.24, 1.4, 0.30, pass_start=6200, decomposition=100_000, transform_start=90_000),
}


def convolution_costs(
    kernel_size: tuple[int, int],
    result_size: tuple[int, int],
    *,
    rank: int = 1,
    planes: int = 1,
    dtype: torch.dtype = torch.float32,
) -> dict[Way, ConvolutionCost]:
    """Cost of each way to convolve planes with one kernel.

    Direct: one multiplication for each entry of the kernel, (2r+1)^2. Separable: one for each entry of the columns and rows of
    its terms, 2 (2r+1) a term. FFT: N log2 N for each real transform of N numbers (image, kernel, result; a kernel is
    transformed once for all planes) and 2 N for the product of the spectra, N being the pixels of the padded image.

    Args:
        kernel_size: Height and width of the kernel.
        result_size: Height and width of the result, in pixels.
        rank: Terms of the kernel (`separate`).
        planes: Images times channels.
        dtype: float32 or float64.
    """
    (tall, wide), (height, width), speed = kernel_size, result_size, SPEED[dtype]
    pixels = planes * height * width

    def passes(count: int, results: int, before: float = 0.0) -> ConvolutionCost:
        taken = before + results * pixels * speed.fresh + count * (speed.pass_start + pixels * speed.tap)
        return ConvolutionCost(count, 1e-9 * taken)

    padded = math.prod(fast_size((height + tall - 1, width + wide - 1)))
    transforms = (2 * planes + 1) * padded * math.log2(padded) + 2 * planes * padded
    return {
        "direct": passes(tall * wide, results=1),
        "separable": passes(rank * (tall + wide), results=2 * rank, before=speed.decomposition),
        "fft": ConvolutionCost(transforms / pixels, 1e-9 * (speed.transform_start + transforms * speed.transform)),
    }


def fast_size(size: tuple[int, int]) -> tuple[int, int]:
    """The next height and width whose Fourier transforms are fast."""
    height, width = (next_fast_len(n, real=True) for n in size)
    return height, width
