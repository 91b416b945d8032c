"""Claim: composing f(x) = 3.5 x (1 - x) with itself makes slopes grow like 3.5^n, and its orbits end on a cycle of four."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, ClassVar

import torch

from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines, scatter
from deepforward.theory.maps import LogisticMap, bifurcation_diagram

LAPS = [2, 4, 8, 14, 24, 38, 58, 84]
FIXED = 5 / 7
CYCLE = [0.38282, 0.50088, 0.82694, 0.87500]
CURVES = {"f": 1, "f∘f": 2, "f∘f∘f": 3}


class ComposedLogisticMap(Claim):
    """Slopes, laps, ends of orbits, fixed points and Lyapunov exponents of the logistic map.

    The table has one row a number: `quantity`, `at` (compositions n, r, or the point x) and `value`; an `orbit` is a list.
    """

    says: ClassVar[str] = (
        "Composing f(x) = 3.5 x (1 - x) with itself gives degree 2^n and slopes of both signs up to 3.5^n; iterates may end on "
        "a fixed point, a sink if |f'| < 1, a source if |f'| > 1, but here both are sources and orbits end on a cycle of four."
    )
    correction: ClassVar[str] = (
        "E25: iterates need not end at infinity, 0 or a fixed point; f itself ends on a 4-cycle. "
        "E26: |f'(x*)|, not f'(x*), tells sink from source: f'(5/7) = -1.5 belongs to a source."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """8 compositions and 20 orbits (smoke) or 12 and 1000 (full)."""
        depth, starts = (8, 20) if budget == "smoke" else (12, 1000)
        f = LogisticMap(3.5)
        progress("curves and slopes")
        rows = [*_curves(f), *_slopes(f, depth), *_sources(f), *_exponents(), *_cycle(f)]
        progress("bifurcations")
        rows += _bifurcations()
        progress(f"{starts} orbits")
        for start in torch.rand(starts, generator=rng, dtype=torch.float64).tolist():
            rows += _end(f, start)
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Numbers known exactly, or by the mathematics of the map."""
        slopes, laps, growth = (numbers(table, q) for q in ("largest slope", "laps", "departure from 5/7"))
        wrong_laps = sum(laps.get(n) != count for n, count in enumerate(LAPS, start=1))
        misfit = max(abs(value / 3.5**n - 1) for n, value in slopes.items())
        periods = list(numbers(table, "period").values())
        exponents, apart = numbers(table, "exponent"), min(numbers(table, "distance to fixed point").values())
        share = periods.count(4) / len(periods)
        degrees, cycle, births = (numbers(table, q) for q in ("degree", "point of the cycle", "smallest r"))
        wrong_degrees = sum(round(degree) != 2**n for n, degree in degrees.items())
        off_cycle = max(abs(cycle[k] - point) for k, point in enumerate(CYCLE))
        return [
            Check("largest |slope| of fⁿ against 3.5ⁿ", misfit, 0, 1e-12, "relative", "|f'| = 3.5 at the fixed point 0"),
            Check("compositions whose degree is not 2ⁿ", wrong_degrees, 0, 0, "", "each composition squares"),
            Check("laps of f¹ ... f⁸ that differ", wrong_laps, 0, 0, "", f"preimages of 1/2: {', '.join(map(str, LAPS))}"),
            Check("share of orbits of period 4", share, 1, 1, "", "Singer 1978: one attracting cycle"),
            Check("points of the cycle of four", off_cycle, 0, 5e-6, "", ", ".join(f"{x:.5f}" for x in CYCLE)),
            Check("smallest r with a cycle of two", births[2], 2.99, 3.02, "", "|2 - r| = 1"),
            Check("smallest r with a cycle of four", births[4], 1 + math.sqrt(6), 3.47, "", "1 + √6, May 1976"),
            Check("least distance to a fixed point", apart, 0.1, 1, "", "E25: .383, .501, .827, .875 against 0 and 5/7"),
            Check("slope at 5/7", numbers(table, "slope")[FIXED], -1.5, -1.5, "", "f'(x) = 3.5 (1 - 2 x)"),
            Check("departure from 5/7", min(growth.values()), 1.4, 1.6, "factor/step", "E26: a source repels by |f'| = 1.5"),
            Check("Lyapunov exponent, r = 3.5", exponents[3.5], -0.8726, -0.8724, "nats/step", "ln(0.0305) / 4"),
            Check("Lyapunov exponent, r = 4", exponents[4.0], 0.6921, 0.6942, "nats/step", "ln 2"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The first three compositions, the growth of slopes and laps, and the table of exponents."""
        curves = {name: list(numbers(table, name).values()) for name in CURVES}
        orbits = entries(table, "orbit")
        growth = {name: list(numbers(table, name).values()) for name in ("largest slope", "laps")}
        return [
            lines(
                list(numbers(table, "f")),
                curves,
                x_title="x",
                y_title="fⁿ(x)",
                caption="Each composition is steeper, up and down, and has more laps.",
            ),
            lines(
                list(numbers(table, "laps")),
                growth,
                x_title="compositions n",
                y_title="of fⁿ",
                log_y=True,
                caption="Slopes grow like 3.5ⁿ, the number of laps more slowly.",
            ),
            scatter(
                [r for r, points in orbits.items() for _ in points],
                [x for points in orbits.values() for x in points],
                x_title="r",
                y_title="where orbits of r x (1 - x) end",
                size=3,
                caption="One fixed point up to r = 3, then cycles of two, of four at the lecture's 3.5, of eight, ..., chaos, "
                "and windows of order in it.",
            ),
            Cells(
                columns=["r", "Lyapunov exponent, nats/step"],
                rows=list(numbers(table, "exponent").items()),
                caption="Negative: the orbit settles on a cycle. Positive: chaos.",
            ),
        ]

    def refutation(self) -> Table:
        """Slopes and laps that do not grow, orbits that end on 5/7, and a fixed point there that attracts."""
        rows = [number("largest slope", n, 3.5) for n in range(1, 9)] + [number("laps", n, 2) for n in range(1, 9)]
        rows += [number("degree", n, 2 * n + 1) for n in range(1, 9)] + [number("smallest r", n, 3.9) for n in (2, 4)]
        rows += [number("point of the cycle", k, FIXED) for k in range(4)]
        rows += [number("period", 0.3, 1), number("distance to fixed point", 0.3, 0.0), number("slope", FIXED, 0.5)]
        rows += [number("departure from 5/7", 0.0, 0.5), number("exponent", 3.5, 0.5), number("exponent", 4.0, -0.5)]
        return from_rows(rows)


def _curves(f: LogisticMap) -> Iterator[dict[str, Any]]:
    grid = torch.linspace(0, 1, 301, dtype=torch.float64)
    for name, n in CURVES.items():
        values = f.iterate(grid, n).tolist()
        yield from (number(name, x, y) for x, y in zip(grid.tolist(), values, strict=True))


def _slopes(f: LogisticMap, depth: int) -> Iterator[dict[str, Any]]:
    grid = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    for n in range(1, depth + 1):
        yield number("largest slope", n, f.derivative(grid, n).abs().max().item())
        yield number("laps", n, f.laps(n))
        yield number("degree", n, _degree(f, n))


def _degree(f: LogisticMap, n: int) -> float:
    """Degree of the polynomial f^n: how many decades it grows by in one decade of x, far out, in exact arithmetic."""
    sizes = []
    for decade in (60, 61):
        x = Fraction(10**decade)
        for _ in range(n):
            x = Fraction(f.r) * x * (1 - x)
        sizes.append(math.log10(abs(x.numerator)) - math.log10(x.denominator))
    return sizes[1] - sizes[0]


def _cycle(f: LogisticMap) -> Iterator[dict[str, Any]]:
    cycle = f.attracting_cycle()
    for k, point in enumerate(sorted(cycle.points) if cycle else []):
        yield number("point of the cycle", k, point)


def _bifurcations() -> Iterator[dict[str, Any]]:
    """Ends of orbits between r = 2.6 and 4, ten points each, and where they first are 2 and 4 apart by 1e-3."""
    rates = torch.linspace(2.6, 4, 281, dtype=torch.float64)
    visited = bifurcation_diagram(rates, points=10)
    many = (visited.sort(1).values.diff(dim=1) > 1e-3).sum(1) + 1
    for count in (2, 4):
        yield number("smallest r", count, rates[many >= count][0].item())
    for r, points in zip(rates.tolist(), visited.tolist(), strict=True):
        yield {"quantity": "orbit", "at": round(r, 3), "value": [round(x, 4) for x in points]}


def _sources(f: LogisticMap) -> Iterator[dict[str, Any]]:
    """The slope at 5/7, and the factor by which orbits that begin 1e-6 beside it depart with each step."""
    yield number("slope", FIXED, round(f.fixed_points()[1].multiplier, 12))
    for beside in (-1e-6, 1e-6):
        gone = abs(f.orbit(FIXED + beside, 10)[-1] - FIXED)
        yield number("departure from 5/7", beside, (gone / abs(beside)) ** (1 / 10))


def _exponents() -> Iterator[dict[str, Any]]:
    for r in (2.8, 3.2, 3.5, 3.7, 4.0):
        yield number("exponent", r, LogisticMap(r).lyapunov_exponent(0.3, 4000))


def _end(f: LogisticMap, start: float) -> Iterator[dict[str, Any]]:
    """The period of the orbit after 1000 steps (0 if above 16), and its distance from both fixed points."""
    tail = f.orbit(start, 1016)[1000:]
    yield number("period", start, next((p for p in range(1, 17) if abs(tail[p] - tail[0]) < 1e-9), 0))
    yield number("distance to fixed point", start, min(abs(x - fixed) for x in tail for fixed in (0.0, FIXED)))
