"""Claim: convolution is a double sum, which separable kernels do by rows and columns, and so are its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from deepforward.layers.convolution import convolve
from deepforward.layers.convolution_cost import Way, convolution_costs
from deepforward.layers.convolution_gradients import SmallNetwork
from deepforward.layers.separable import separate
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines

RADII = (1, 4, 8)
WAYS: tuple[Way, ...] = ("direct", "separable", "fft")
#: Budget -> side of the image in pixels.
SIDES = {"smoke": 20, "full": 64}
#: Sides of the kernels, and the size of the image, of the picture of costs.
KERNELS, PICTURED = (3, 5, 7, 9, 13, 17, 25, 33, 49, 65), (512, 512)


class DiscreteConvolution(Claim):
    """The double sum, number by number, against the three ways; multiplications; a small network's gradients by hand.

    The table has one row a number: `quantity`, `at` (a radius, and a way) and `value`.
    """

    says: ClassVar[str] = (
        "The discrete convolution of an image g with a kernel f is (f * g)(i, j) = sum over k and l from -n to n of "
        "f(k, l) g(i - k, j - l). A separable kernel needs 2 (2r + 1) multiplications a pixel instead of (2r + 1)^2 "
        "(Podlozhnyuk 2007). In a convolutional network, the gradient of the kernels is the valid correlation of the input "
        "with delta, and that of the input the full convolution of delta with the kernels (Zhang 2016)."
    )
    correction: ClassVar[str] = (
        "E13: the upper limit of both sums is +n; and what torch computes under the name of convolution is the correlation, "
        "with g(i + k, j + l), which is the convolution with the kernel turned by 180 degrees."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Images of 20x20 (smoke) or 64x64 pixels (full) with separable kernels of radius 1, 4 and 8, all in float64."""
        side = SIDES[budget]
        image = torch.randn(side, side, generator=rng, dtype=torch.float64)
        rows = []
        for radius in RADII:
            progress(f"radius {radius}")
            column, row = torch.randn(2, 2 * radius + 1, generator=rng, dtype=torch.float64) / math.sqrt(2 * radius + 1)
            kernel = torch.outer(column, row)
            rows += _of_radius(radius, kernel, image)
        progress("gradients")
        return from_rows([*rows, number("gradients by hand", 0, _gradient_error(rng))])

    def check(self, table: Table) -> list[Check]:
        """All ways are the double sum, as many multiplications as promised, torch's correlation, gradients."""
        counts, terms = numbers(table, "multiplications"), numbers(table, "terms")
        differences, torchs = numbers(table, "difference"), numbers(table, "torch")
        identity, counting = "identity, float64", "Podlozhnyuk 2007: (2r+1)^2 and 2 (2r+1)"
        wanted = {(way, r): n * n if way == "direct" else 2 * n for r in RADII for n in [2 * r + 1] for way in WAYS[:2]}

        def most(of: dict[Any, float], name: str) -> float:
            return max(of[f"{name}, {radius}"] for radius in RADII)

        return [
            *(
                Check(f"{way}: largest difference from the double sum", most(differences, way), 0, 1e-12, "", identity)
                for way in WAYS
            ),
            *(
                Check(f"{way}, radius {radius}: multiplications", counts[f"{way}, {radius}"], n, n, "a pixel", counting)
                for (way, radius), n in wanted.items()
            ),
            Check("terms of a product of a column and a row", max(terms.values()), 1, 1, "", "its rank"),
            Check("torch's conv2d, kernel turned", most(torchs, "turned"), 0, 1e-12, "", f"E13; {identity}"),
            Check(
                "torch's conv2d, kernel as it is",
                min(torchs[f"as it is, {radius}"] for radius in RADII),
                0.1,
                math.inf,
                "",
                "E13: it correlates",
            ),
            Check("gradients by hand against autograd", numbers(table, "gradients by hand")[0], 0, 1e-12, "relative", identity),
        ]

    def draw(self, table: Table) -> list[Block]:
        """What each way costs by the kernel's size, and the multiplications."""
        counts = numbers(table, "multiplications")
        costs = [convolution_costs((n, n), PICTURED) for n in KERNELS]
        pixels = math.prod(PICTURED)
        title = {"direct": "direct", "separable": "rows and columns", "fft": "FFT"}
        return [
            lines(
                KERNELS,
                {title[way]: [1e9 * each[way].seconds / pixels for each in costs] for way in WAYS},
                x_title="side of the kernel, pixels",
                y_title="estimated ns a pixel",
                log_x=True,
                log_y=True,
                caption="512x512 pixels in float32, one thread, by the constants of `layers/convolution_cost.py`: the lowest "
                "line is the way that is taken; kernels of full rank have no rows and columns.",
            ),
            Cells(
                ["radius", "direct", "rows and columns", "ratio"],
                [
                    [radius, direct, separable, direct / separable]
                    for radius in RADII
                    for direct, separable in [(counts[f"direct, {radius}"], counts[f"separable, {radius}"])]
                ],
                {"ratio": ".2f"},
                "Multiplications a pixel.",
            ),
        ]

    def refutation(self) -> Table:
        """Ways that differ, counts of something else, a torch that convolves, and wrong gradients."""
        rows = []
        for radius in RADII:
            rows += [number("difference", f"{way}, {radius}", 0.1) for way in WAYS]
            rows += [number("multiplications", f"{way}, {radius}", 1) for way in WAYS]
            rows += [number("torch", f"turned, {radius}", 1.0), number("torch", f"as it is, {radius}", 0.0)]
        return from_rows([*rows, number("terms", 1, 2), number("gradients by hand", 0, 0.1)])


def _of_radius(radius: int, kernel: Tensor, image: Tensor) -> list[dict[str, Any]]:
    true = _double_sum(kernel, image)
    costs = convolution_costs((2 * radius + 1,) * 2, PICTURED)
    rows = []
    for way in WAYS:
        difference = float((convolve(image, kernel, method=way) - true).abs().max())
        rows += [number("difference", f"{way}, {radius}", difference)]
        rows += [number("multiplications", f"{way}, {radius}", costs[way].multiplications)]
    rows.append(number("terms", radius, separate(kernel).rank))
    for name, given in (("turned", kernel.flip(0, 1)), ("as it is", kernel)):
        found = F.conv2d(image[None, None], given[None, None], padding=radius)[0, 0]
        rows.append(number("torch", f"{name}, {radius}", float((found - true).abs().max())))
    return rows


def _double_sum(kernel: Tensor, image: Tensor) -> Tensor:
    """Equation (1) with zeros outside the image, number by number."""
    n, (height, width) = len(kernel) // 2, image.shape
    f, g = kernel.tolist(), image.tolist()

    def value(i: int, j: int) -> float:
        return sum(
            f[n + k][n + m] * g[i - k][j - m]
            for k in range(-n, n + 1)
            for m in range(-n, n + 1)
            if 0 <= i - k < height and 0 <= j - m < width
        )

    return torch.tensor([[value(i, j) for j in range(width)] for i in range(height)], dtype=torch.float64)


def _gradient_error(rng: torch.Generator) -> float:
    """Largest error of the gradients of a network of two stages, relative to the largest entry that autograd finds."""

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64) / math.sqrt(math.prod(shape[1:]))

    images, labels = random(4, 1, 16, 16), torch.randint(3, (4,), generator=rng)
    weights, biases = [random(3, 1, 5, 5), random(4, 3, 3, 3), random(3, 16)], [random(3), random(4), random(3)]
    _, found = SmallNetwork(weights[:2], biases[:2], weights[2], biases[2]).gradients(images, labels)
    x, leaves = images, [parameter.requires_grad_() for parameter in (*weights, *biases)]
    for weight, bias in zip(weights[:2], biases[:2], strict=True):
        x = F.avg_pool2d(F.conv2d(x, weight, bias).sigmoid(), 2)
    outputs = F.linear(x.flatten(1), weights[2], biases[2]).sigmoid()
    loss = F.mse_loss(outputs, F.one_hot(labels, 3).double(), reduction="sum") / 8  # half the square, a mean of 4 examples
    true = torch.autograd.grad(loss, leaves)
    own = [layer.weight for layer in found] + [layer.bias for layer in found]
    worst = max(float((mine - theirs).abs().max()) for mine, theirs in zip(own, true, strict=True))
    return worst / max(float(theirs.abs().max()) for theirs in true)
