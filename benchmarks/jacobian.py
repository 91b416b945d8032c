"""What does the Jacobian of a residual block of 16384 numbers cost? Promised: its isometry defect in 50 ms, with the error.

The whole matrix would be 1 GiB and 16384 backward passes; one of its rows is timed beside. One thread, one example, 8 probes.
Usage: python benchmarks/jacobian.py [--quick] [--json FILE]
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from comparison import against_bound, arguments, compare, in_turn, publish, stated

from deepforward.instruments import JacobianSpectrum
from deepforward.models.residual import Block


def seconds(action: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    block, inputs = Block(16, 16, 1, True), torch.randn(1, 16, 32, 32)

    def measure(sigma_max: bool) -> object:
        return JacobianSpectrum(samples=1, sigma_max=sigma_max).measure(block, [inputs], lambda m, x: m(x).square().mean())

    x = inputs.clone().requires_grad_()
    out = copy.deepcopy(block).eval()(x).flatten()

    def row() -> object:
        return torch.autograd.grad(out[0], x, retain_graph=True)

    variants: dict[str, Callable[[], float]] = {
        "moments": lambda: seconds(lambda: measure(False)),
        "with largest": lambda: seconds(lambda: measure(True)),
        "all rows": lambda: seconds(row) * out.numel(),
    }
    in_turn(variants, 2)
    taken = in_turn(variants, 5 if options.quick else 31)
    (spectrum,) = measure(True).maps
    error = f"standard error {spectrum.error:.2g}; singular values at most {spectrum.sigma_max:.4g}"
    rows = [
        against_bound("isometry defect, 16384 -> 16384", taken["moments"], 0.05, "s"),
        compare("the same", taken["moments"], taken["all rows"], "16384 rows one by one", "s"),
        compare("with the largest singular value", taken["with largest"], taken["all rows"], "16384 rows one by one", "s"),
        stated("isometry defect", spectrum.isometry_defect, None, "", "", reason=error),
    ]
    publish("Jacobian of a ResNet block", rows, options.json)


if __name__ == "__main__":
    main()
