"""How fast are images coded? FISTA against ISTA, and against a plain loop of torch and the Lasso of scikit-learn.

The same filters and images for all: 16 random filters of 7x7 of unit norm, patches of the photograph `astronaut` less their
mean. A row: process time until the objective of every image is within 1% (small images: 0.1%, too) of the least, which long
FISTA in float64 finds. Ours is `sparse_code` (FISTA, restarted). `plain ISTA` and `plain FISTA` are written as is usual, with
torch's transposed convolution. None is timed for stopping: each takes the number of steps after which it has arrived, to a
sixteenth of it. `scikit-learn` is coordinate descent on the dense matrix of the operator, one image after the other, for small
images only, as the matrix of large ones does not fit; building the matrix is not counted; its tolerance is the loosest that
arrives. `ratio` above 1: ours is faster. One thread, median of 5 rounds in turn.
Usage: python benchmarks/sparse_coding.py [--quick] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from comparison import Row, arguments, compare, in_turn, publish
from sklearn.linear_model import Lasso
from torch import Tensor
from torch.nn import functional as F

from deepforward.data.photographs import grey_photograph
from deepforward.layers.filter_learning import unit_norm
from deepforward.layers.sparse_coding import objective, sparse_code
from deepforward.layers.synthesis import operator_norm, synthesise

WEIGHT = 10.0


def patches(count: int, side: int) -> Tensor:
    """Patches of `astronaut` less their mean."""
    image = grey_photograph("astronaut").float() / 255
    squares = image.unfold(0, side, side).unfold(1, side, side).reshape(-1, 1, side, side)
    squares = squares[torch.linspace(0, len(squares) - 1, count).long()]
    return squares - squares.mean((1, 2, 3), keepdim=True)


def plain(images: Tensor, filters: Tensor, steps: int, accelerated: bool = False) -> Tensor:
    """ISTA or FISTA as it is usually written."""
    padding = filters.shape[2] - 1
    shape = len(images), len(filters), images.shape[2] + padding, images.shape[3] + padding
    maps = ahead = images.new_zeros(shape)
    size, t = float(WEIGHT * operator_norm(filters, *shape[2:]) ** 2), 1.0
    for _ in range(steps):
        error = F.conv_transpose2d(ahead, filters, padding=padding) - images
        new = F.softshrink(ahead - WEIGHT / size * F.conv2d(error, filters, padding=padding), 1 / size)
        next_t = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = new + (t - 1) / next_t * (new - maps) if accelerated else new
        maps, t = new, next_t
    return maps


def steps_needed(least: Tensor, share: float, run: Callable[[int], Tensor], images: Tensor, filters: Tensor) -> int:
    """Steps, among 10, 20, 40, ... and halves between, after which all objectives are within a share of the least."""

    def arrived(steps: int) -> bool:
        maps = run(steps)
        return bool((objective(maps, synthesise(maps, filters), images, WEIGHT) <= (1 + share) * least).all())

    high = 10
    while not arrived(high) and high < 10_000:
        high *= 2
    low = high // 2
    for _ in range(4):
        middle = (low + high) // 2
        low, high = (low, middle) if arrived(middle) else (middle, high)
    return high


def seconds(run: Callable[[], object]) -> float:
    """Process time of a call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def lasso(images: Tensor, filters: Tensor, least: Tensor, share: float) -> Callable[[], Tensor]:
    """Coordinate descent for each image, the matrix built before, at the loosest of its tolerances that arrives."""
    side, extent = images.shape[2], filters.shape[2]
    shape = len(filters), side + extent - 1, side + extent - 1
    units = torch.eye(int(np.prod(shape)))
    design = np.asfortranarray(synthesise(units.reshape(-1, *shape), filters).flatten(1).t().numpy().astype(np.float64))

    def run(tolerance: float) -> Tensor:
        model = Lasso(alpha=1 / (WEIGHT * side * side), fit_intercept=False, tol=tolerance, max_iter=10_000)
        found = [model.fit(design, image.flatten().double().numpy()).coef_ for image in images]
        return torch.from_numpy(np.stack(found)).float().reshape(-1, *shape)

    for tolerance in (0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 1e-4):
        maps = run(tolerance)
        if (objective(maps, synthesise(maps, filters), images, WEIGHT) <= (1 + share) * least).all():
            break
    return lambda: run(tolerance)


def rows(count: int, side: int, share: float, rounds: int, with_lasso: bool) -> list[Row]:
    """Ours against each peer, until all objectives are within a share of the least."""
    images = patches(count, side)
    filters = unit_norm(torch.randn(16, 1, 7, 7, generator=torch.Generator().manual_seed(0)))
    least = sparse_code(images.double(), filters.double(), WEIGHT, steps=1000, tolerance=1e-6).objective[-1].float()
    runs: dict[str, Callable[[int], Tensor]] = {
        "ours": lambda steps: sparse_code(images, filters, WEIGHT, steps=steps, tolerance=0).maps,
        "our ISTA": lambda steps: sparse_code(images, filters, WEIGHT, method="ista", steps=steps, tolerance=0).maps,
        "plain ISTA": lambda steps: plain(images, filters, steps),
        "plain FISTA": lambda steps: plain(images, filters, steps, accelerated=True),
    }
    steps = {name: steps_needed(least, share, run, images, filters) for name, run in runs.items()}
    variants = {name: lambda run=run, n=steps[name]: seconds(lambda: run(n)) for name, run in runs.items()}
    if with_lasso:
        coordinates = lasso(images, filters, least, share)
        variants["scikit-learn"] = lambda: seconds(coordinates)
    taken = in_turn(variants, rounds)
    what = f"{count} of {side}x{side}, within {share:.1%}"
    found = []
    for name in list(variants)[1:]:
        told = f"{name}, {steps[name]} steps" if name in steps else name
        found.append(compare(f"{what}, {steps['ours']} steps", taken["ours"], taken[name], told, "s"))
    return found


def main() -> None:
    """All sizes."""
    options = arguments(__doc__)
    torch.set_num_threads(1)
    both, loose = (0.01, 0.001), (0.01,)
    sizes = [(4, 16, both, True)] if options.quick else [(4, 16, both, True), (16, 32, loose, False), (1, 128, loose, False)]
    rounds = 2 if options.quick else 5
    table = [row for count, side, shares, dense in sizes for share in shares for row in rows(count, side, share, rounds, dense)]
    publish("Is sparse coding fast?", table, options.json)


if __name__ == "__main__":
    main()
