"""Claim: composing f(x) = 3.5 x (1 - x) with itself makes slopes grow like 3.5^n, and its orbits end on a cycle of four."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch

from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines
from deepforward.theory.maps import LogisticMap

LAPS = [2, 4, 8, 14, 24, 38, 58, 84]
FIXED = 5 / 7
CURVES = {"f": 1, "f∘f": 2, "f∘f∘f": 3}


class ComposedLogisticMap(Claim):
    """Slopes, laps, ends of orbits, fixed points and Lyapunov exponents of the logistic map.

    The table has one row a number: `quantity`, `at` (compositions n, or the point x) and `value`.
    """

    says: ClassVar[str] = (
        "Composing f(x) = 3.5 x (1 - x) with itself, the slope grows in both signs, up to 3.5^n; iterates may end on a fixed "
        "point, a sink if |f'| < 1 and a source if |f'| > 1, but here both are sources and orbits end on a cycle of four."
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
        rows = [*_curves(f), *_slopes(f, depth), *_sources(f), *_exponents()]
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
        return [
            Check("largest |slope| of fⁿ against 3.5ⁿ", misfit, 0, 1e-12, "relative", "|f'| = 3.5 at the fixed point 0"),
            Check("laps of f¹ ... f⁸ that differ", wrong_laps, 0, 0, "", f"preimages of 1/2: {', '.join(map(str, LAPS))}"),
            Check("share of orbits of period 4", share, 1, 1, "", "Singer 1978: one attracting cycle"),
            Check("least distance to a fixed point", apart, 0.1, 1, "", "E25: .383, .501, .827, .875 against 0 and 5/7"),
            Check("slope at 5/7", numbers(table, "slope")[FIXED], -1.5, -1.5, "", "f'(x) = 3.5 (1 - 2 x)"),
            Check("departure from 5/7", min(growth.values()), 1.4, 1.6, "factor/step", "E26: a source repels by |f'| = 1.5"),
            Check("Lyapunov exponent, r = 3.5", exponents[3.5], -0.8726, -0.8724, "nats/step", "ln(0.0305) / 4"),
            Check("Lyapunov exponent, r = 4", exponents[4.0], 0.6921, 0.6942, "nats/step", "ln 2"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The first three compositions, the growth of slopes and laps, and the table of exponents."""
        curves = {name: list(numbers(table, name).values()) for name in CURVES}
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
            Cells(
                columns=["r", "Lyapunov exponent, nats/step"],
                rows=list(numbers(table, "exponent").items()),
                caption="Negative: the orbit settles on a cycle. Positive: chaos.",
            ),
        ]

    def refutation(self) -> Table:
        """Slopes and laps that do not grow, orbits that end on 5/7, and a fixed point there that attracts."""
        rows = [number("largest slope", n, 3.5) for n in range(1, 9)] + [number("laps", n, 2) for n in range(1, 9)]
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
