"""Direct, by rows and columns, or by Fourier transforms? Promised: 17x17 by rows and columns 8 times faster than directly.

One image of 512x512, zero borders, "same", one thread. Direct is what every library has: torch's conv2d of one channel (patches
copied side by side, and a product of matrices), scipy.signal.convolve2d and scipy.ndimage.convolve. Our own direct way, a pass
for each entry of the kernel, is a peer as well: against it the rows and columns gain what the multiplications say. Ours by
rows and columns is timed with the decomposition of the kernel, each call; scipy.ndimage.convolve1d, along both axes, is given
the line. What is chosen is held against the best of our ways, and 2048x2048 pixels in blocks against the whole at once. CPU
time, since others may use the machine. Last come the constants of `layers/convolution_cost.py`, to be written there.
Usage: python benchmarks/convolution.py [--quick] [--json FILE]
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import scipy.ndimage
import scipy.signal
import torch
from comparison import Row, arguments, compare, in_turn, publish, stated
from torch import Tensor
from torch.nn import functional as F

from deepforward.layers import convolution
from deepforward.layers.convolution import choose_method, convolve
from deepforward.layers.convolution_cost import convolution_costs
from deepforward.layers.separable import separate

SIDE, RADII = 512, (1, 2, 4, 8, 16, 32)
WAYS = ("direct", "separable", "fft")
#: Radius beyond which a direct convolution by others takes seconds.
LARGEST_DIRECT = 8


def seconds(action: Callable[[], object], least: float = 0.004) -> float:
    """CPU time of one call, a mean over as many as last `least` seconds."""
    count, start = 0, time.process_time()
    while True:
        action()
        count += 1
        if (taken := time.process_time() - start) >= least:
            return taken / count


def gaussian(radius: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """One dimension, and the kernel, of rank one."""
    x = torch.arange(-radius, radius + 1, dtype=dtype)
    line = torch.exp(-2 * (x / radius) ** 2)
    line /= line.sum()
    return line, torch.outer(line, line)


def scatter(radius: int, dtype: torch.dtype) -> Tensor:
    """A kernel of full rank."""
    return torch.randn(2 * radius + 1, 2 * radius + 1, dtype=dtype, generator=torch.Generator().manual_seed(radius))


def peers(image: Tensor, line: Tensor, kernel: Tensor) -> dict[str, Callable[[], object]]:
    """The same convolution by others."""
    radius, array, f = len(line) // 2, image.numpy(), kernel.numpy()
    edge = {"mode": "constant", "cval": 0.0}

    def along_axes() -> object:
        return scipy.ndimage.convolve1d(scipy.ndimage.convolve1d(array, line.numpy(), 1, **edge), line.numpy(), 0, **edge)

    found: dict[str, Callable[[], object]] = {
        "scipy.ndimage.convolve1d": along_axes,
        "scipy.signal.fftconvolve": lambda: scipy.signal.fftconvolve(array, f, mode="same"),
    }
    if radius <= LARGEST_DIRECT:
        found |= {
            "torch conv2d": lambda: F.conv2d(image[None, None], kernel.flip(0, 1)[None, None], padding=radius),
            "scipy.signal.convolve2d": lambda: scipy.signal.convolve2d(array, f, mode="same"),
            "scipy.ndimage.convolve": lambda: scipy.ndimage.convolve(array, f, **edge),
        }
    return found


def timed(action: Callable[[], object]) -> Callable[[], float]:
    """A measurement of `in_turn`."""
    return lambda: seconds(action)


def by_size(dtype: torch.dtype, radii: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Ours by rows and columns against every direct way, and the automatic choice against the best of ours."""
    image = torch.rand(SIDE, SIDE, dtype=dtype, generator=torch.Generator().manual_seed(0))
    kind = str(dtype).removeprefix("torch.")
    for radius in radii:
        line, kernel = gaussian(radius, dtype)
        name = f"{2 * radius + 1}x{2 * radius + 1} {kind}"
        ours = {way: lambda way=way, kernel=kernel: convolve(image, kernel, method=way) for way in (*WAYS, "auto")}
        others = peers(image, line, kernel)
        for other, action in others.items():
            difference = float((torch.as_tensor(np.asarray(action())).reshape(SIDE, SIDE) - ours["auto"]()).abs().max())
            assert difference < 1e3 * torch.finfo(dtype).eps, f"{other} differs by {difference}"
        gc.collect()
        taken = in_turn({key: timed(action) for key, action in (ours | others).items()}, rounds)
        taken = {key: [1e3 * value for value in values] for key, values in taken.items()}
        yield compare(f"{name}, rows and columns", taken["separable"], taken["direct"], "our direct", "ms")
        yield compare(f"{name}, FFT", taken["fft"], taken["direct"], "our direct", "ms")
        for other in others:
            own, title = ("fft", "FFT") if other == "scipy.signal.fftconvolve" else ("separable", "rows and columns")
            yield compare(f"{name}, {title}", taken[own], taken[other], other, "ms")
        best = min(WAYS, key=lambda way: median(taken[way]))
        yield compare(f"{name}, {choose_method(image, kernel)} chosen", taken["auto"], taken[best], f"our {best}, best", "ms")
        yield full_rank(image, radius, name, rounds)


def full_rank(image: Tensor, radius: int, name: str, rounds: int) -> Row:
    """The automatic choice for a kernel that is not separable, against the best of direct and FFT."""
    kernel = scatter(radius, image.dtype)
    ways = {way: timed(lambda way=way: convolve(image, kernel, method=way)) for way in ("direct", "fft", "auto")}
    taken = {key: [1e3 * value for value in values] for key, values in in_turn(ways, rounds).items()}
    best = min(("direct", "fft"), key=lambda way: median(taken[way]))
    title = f"{name} of full rank, {choose_method(image, kernel)} chosen"
    return compare(title, taken["auto"], taken[best], f"our {best}, best", "ms")


def by_blocks(dtype: torch.dtype, rounds: int) -> Row:
    """Large images in blocks that stay in the cache, against the whole at once."""
    image, (_, kernel) = torch.rand(2048, 2048, dtype=dtype), gaussian(8, dtype)
    usual = convolution.BLOCK_BYTES

    def measure(block: int) -> float:
        convolution.BLOCK_BYTES = block
        try:
            return 1e3 * seconds(lambda: convolve(image, kernel, method="separable"))
        finally:
            convolution.BLOCK_BYTES = usual

    taken = in_turn({"blocks": lambda: measure(usual), "whole": lambda: measure(2**40)}, rounds)
    kind = str(dtype).removeprefix("torch.")
    return compare(f"17x17 {kind}, 2048x2048 in blocks", taken["blocks"], taken["whole"], "the whole at once", "ms")


def constants(dtype: torch.dtype, rounds: int) -> Iterator[Row]:
    """Nanoseconds of `Speed`, from two sizes of the image and, for passes, two of the kernel."""
    kernels, sides, kind = (
        {side: scatter(side // 2, dtype) for side in (3, 9, 17)},
        (32, 512),
        str(dtype).removeprefix("torch."),
    )

    def nanoseconds(action: Callable[[], object]) -> float:
        return 1e9 * median(in_turn({"": timed(action)}, rounds)[""])

    def taken(way: str, kernel: int, side: int) -> float:
        image = torch.rand(side, side, dtype=dtype)
        return nanoseconds(lambda: convolve(image, kernels[kernel], method=way))

    direct = {(k, side): taken("direct", k, side) for k in (3, 9) for side in sides}
    small, large = ((direct[9, side] - direct[3, side]) / 72 for side in sides)
    tap = (large - small) / (512**2 - 32**2)
    counted = [convolution_costs((9, 9), (n, n), dtype=dtype)["fft"].multiplications * n * n for n in sides]
    brief, long = (taken("fft", 9, side) for side in sides)
    transform = (long - brief) / (counted[1] - counted[0])
    found = {
        "tap": tap,
        "fresh": (direct[3, 512] - 9 * large) / 512**2,
        "transform": transform,
        "pass_start": small - tap * 32**2,
        "decomposition": nanoseconds(lambda: separate(kernels[17])),
        "transform_start": brief - transform * counted[0],
    }
    for name, value in found.items():
        yield stated(f"{kind}: {name}", value, None, "", "ns", reason="layers/convolution_cost.py")


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    radii, rounds = ((1, 8), 3) if options.quick else (RADII, 9)
    kinds = (torch.float32, torch.float64)
    rows = [row for dtype in kinds for row in by_size(dtype, radii, rounds)]
    rows += [by_blocks(dtype, rounds) for dtype in kinds]
    rows += [row for dtype in kinds for row in constants(dtype, rounds)]
    publish("Convolution of 512x512 pixels", rows, options.json)


if __name__ == "__main__":
    main()
