"""Claim: Jacobians of deep Gaussian networks spread with depth; those of orthogonal critical ones keep to one of two laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import optimize, stats
from torch.nn import functional as F

from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.figures import lines
from deepforward.theory.mean_field import Elementwise, moments
from deepforward.theory.spectra import Spectrum, bernoulli_class, gaussian_linear, jacobian_spectrum

#: Depths of the Gaussian linear networks, and of the orthogonal ones, whose spectra have variance 1.
GAUSSIAN, ORTHOGONAL = (1, 2, 4, 8), 32
#: Width by budget.
WIDTHS = {"smoke": 150, "full": 1000}


@dataclass(frozen=True)
class _Network:
    """A deep network whose pre-activations have second moment q, and the law of its spectrum."""

    phi: Elementwise
    q: float
    depth: int
    weight_variance: float
    orthogonal: bool
    law: Spectrum


class UniversalSpectra(Claim):
    """Eigenvalues of J J^T of drawn networks against free probability.

    The table has one row a number: `quantity`, `at` (a network or an eigenvalue) and `value`.
    """

    says: ClassVar[str] = (
        "At criticality the squared singular values of the Jacobian have mean 1. With Gaussian weights their variance grows as "
        "the depth; with orthogonal weights it is held at any depth by a small q, and the law is one of two by the activation: "
        "hard-tanh and shifted ReLU (slope 0 or 1) with edge e at variance 1, erf and tanh (smooth) with a wider one."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """One network of each kind, of width 150 (smoke) or 1000 (full)."""
        width = WIDTHS[budget]
        rows = [number("width", "networks", width)]
        for name, network in _networks().items():
            progress(name)
            rows += _compare(name, network.law, _eigenvalues(network, width, rng))
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Largest eigenvalue and variance of each network against its law."""
        full = numbers(table, "width")["networks"] >= 1000
        checks = []
        for name, edge in numbers(table, "edge").items():
            # the largest of N eigenvalues strays by N^(-2/3) times a factor that grows with depth for Gaussian weights
            orthogonal = name.startswith("orthogonal")
            most = (0.03 if orthogonal else 0.1) if full else (0.15 if orthogonal else 0.45)
            off = numbers(table, "measured edge")[name] / edge - 1
            checks.append(Check(f"largest eigenvalue, {name}", off, -most, most, "relative", "edge by free probability"))
            most = 0.1 if full else 0.5
            off = numbers(table, "measured variance")[name] / numbers(table, "variance")[name] - 1
            checks.append(Check(f"variance, {name}", off, -most, most, "relative", "free probability"))
        return checks

    def draw(self, table: Table) -> list[Block]:
        """Counts of eigenvalues over the curve of theory, a chart for each network."""
        blocks: list[Block] = []
        for name in numbers(table, "edge"):
            theory = numbers(table, f"density, {name}")
            series = {"theory": list(theory.values()), "one network": list(numbers(table, f"counted, {name}").values())}
            title = "squared singular value of the Jacobian"
            blocks.append(lines(list(theory), series, x_title=title, y_title="density", log_y=True, caption=f"{name}."))
        return blocks

    def refutation(self) -> Table:
        """As if every spectrum were three times as wide, with edges twice as far."""
        rows = [number("width", "networks", 1000)]
        for name, network in _networks().items():
            rows += [number("edge", name, network.law.edge), number("variance", name, network.law.variance)]
            rows += [
                number("measured edge", name, 2 * network.law.edge),
                number("measured variance", name, 3 * network.law.variance),
            ]
        return from_rows(rows)


def _networks() -> dict[str, _Network]:
    found = {
        f"Gaussian linear, depth {depth}": _Network(lambda x: x, 1.0, depth, 1.0, False, gaussian_linear(depth))
        for depth in GAUSSIAN
    }
    share = 1 / (1 + 1 / ORTHOGONAL)  # of slopes that are 1, for variance 1
    q = float(stats.norm.ppf((1 + share) / 2)) ** -2
    found[f"orthogonal hard-tanh, depth {ORTHOGONAL}"] = _Network(
        F.hardtanh, q, ORTHOGONAL, 1 / share, True, bernoulli_class(1.0)
    )
    q = math.exp(optimize.brentq(lambda log_q: _variance(torch.erf, math.exp(log_q)) - 1, -9, 1))
    weight_variance = 1 / moments(torch.erf, q).slope
    law = jacobian_spectrum(torch.erf, q, ORTHOGONAL, weight_variance, orthogonal=True)
    found[f"orthogonal erf, depth {ORTHOGONAL}"] = _Network(torch.erf, q, ORTHOGONAL, weight_variance, True, law)
    return found


def _variance(phi: Elementwise, q: float) -> float:
    found = moments(phi, q)
    return ORTHOGONAL * (found.slope_fourth / found.slope**2 - 1)


def _eigenvalues(network: _Network, width: int, rng: torch.Generator) -> np.ndarray:
    """Of J J^T of one network, the biases making up what z lacks of the second moment q."""
    h = math.sqrt(network.q / network.weight_variance) * torch.randn(width, generator=rng)
    jacobian = torch.eye(width)
    for _ in range(network.depth):
        matrix = torch.randn(width, width, generator=rng) / math.sqrt(width)
        if network.orthogonal:
            matrix, triangle = torch.linalg.qr(matrix)
            matrix = matrix * triangle.diagonal().sign()
        matrix = math.sqrt(network.weight_variance) * matrix
        z = matrix @ h
        z = z + math.sqrt(max(network.q - float(z.square().mean()), 0.0)) * torch.randn(width, generator=rng)
        z.requires_grad_()
        h = network.phi(z)
        (slope,) = torch.autograd.grad(h.sum(), z)
        h, jacobian = h.detach(), slope[:, None] * (matrix @ jacobian)
    return torch.linalg.svdvals(jacobian).square().double().numpy()


def _compare(name: str, law: Spectrum, eigenvalues: np.ndarray) -> Iterator[dict[str, Any]]:
    yield number("edge", name, law.edge)
    yield number("variance", name, law.variance)
    yield number("measured edge", name, float(eigenvalues.max()))
    yield number("measured variance", name, float(eigenvalues.var()))
    borders = np.linspace(0.0, 1.1 * law.edge, 46)
    middles = (borders[1:] + borders[:-1]) / 2
    counted = np.histogram(eigenvalues, borders)[0] / len(eigenvalues) / (borders[1] - borders[0])
    for x, density, share in zip(middles, law.density(middles), counted, strict=True):
        yield number(f"density, {name}", float(x), float(density) if x < law.edge else 0.0)
        yield number(f"counted, {name}", float(x), float(share))
