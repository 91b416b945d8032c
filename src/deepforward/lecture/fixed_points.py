"""Claim: sinks attract, sources repel, basins part the plane, and the composed gradient explodes at their frontier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines, regions
from deepforward.theory.basins import basins, grid, log_growth, newton_map
from deepforward.theory.fixed_points import fixed_points, fixed_points_from, iterated
from deepforward.theory.linear_recurrence import LinearRecurrence

CUBE = newton_map(torch.tensor([1.0, 0.0, 0.0, -1.0]))
ROOTS = {"1": 1 + 0j, "-1/2 + i√3/2": complex(-0.5, math.sqrt(0.75)), "-1/2 - i√3/2": complex(-0.5, -math.sqrt(0.75))}
#: Pixels a side of the pictures, and applications after which growth is drawn, one letter a pixel between these decades.
SIDE, APPLICATIONS, DECADES = 160, 8, (-10, 10)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
KINDS = ("sink", "source", "saddle", "neutral")


class FixedPoints(Claim):
    """Fixed points of three maps, basins of Newton's method, and the linear recurrent network with its reader.

    The table has one row a number: `quantity`, `at` and `value`; the rows of a picture are strings, a character a pixel.
    """

    says: ClassVar[str] = (
        "Iterates may end on a fixed point x = f(x): a sink if |f'(x)| < 1, a source if |f'(x)| > 1. Sinks part the plane into "
        "basins of attraction; inside one the gradient of the composed map vanishes, at the frontier it explodes. The linear "
        "recurrent encoder-decoder h = W x + U h goes to (I - U)^-1 W x if rho(U) < 1."
    )
    correction: ClassVar[str] = (
        "E24: an encoder and a decoder, not two encoders. E26: |f'(x)|, not f'(x), tells sink from source. "
        "E27: V W = I makes V a left inverse only, W V need not be the identity, and V U h = 0 does not need h near 0."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """A grid of 401 (smoke) or 801 (full) points a side; 5 or 200 random recurrent networks."""
        size, networks = (401, 5) if budget == "smoke" else (801, 200)
        progress("fixed points")
        rows = [*_line(), *_units()]
        progress(f"basins, {size} x {size} starts")
        rows += _basins(size)
        progress("recurrent networks")
        for k in range(networks):
            rows += _settling(k, rng) + _reading(k, rng)
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Multipliers known exactly, symmetric basins, and identities of linear algebra."""
        slope, sinks, of_units = (numbers(table, q) for q in ("slope", "sinks of f^n", "units"))
        shares, growth = numbers(table, "share of the disc").values(), numbers(table, "growth")
        rates, ends = numbers(table, "rate against rho").values(), numbers(table, "distance at the end").values()
        left, right, state, back = (list(numbers(table, q).values()) for q in ("|V W - I|", "|W V - I|", "|h|", "|y - x|"))
        inf = math.inf
        return [
            Check("slope at 0", slope["0"], 3.5 - 1e-12, 3.5 + 1e-12, "", "f' = 3.5 (1 - 2x)"),
            Check("slope at 5/7", slope["5/7"], -1.5 - 1e-12, -1.5 + 1e-12, "", "E26: a source though f' < 1"),
            Check("sinks of f", sinks[1], 0, 0, "", "E26: 3.5 and |-1.5| are above 1"),
            Check("sinks of f⁴", sinks[4], 4, 4, "", "the cycle of four, multiplier -0.0305"),
            Check("two units, sinks", of_units["sink"], 4, 4, "", "h = tanh 2h: h = ±0.9575 in each unit"),
            Check("two units, sources", of_units["source"], 1, 1, "", "h = 0, both slopes 2"),
            Check("two units, saddles", of_units["saddle"], 4, 4, "", "one unit at 0, the other not"),
            Check("smallest basin in |z| <= 2", min(shares), 0.3325, 0.3334, "share", "1/3; 801 points a side: .3333"),
            Check("largest basin in |z| <= 2", max(shares), 0.3333, 0.3342, "share", "1/3; 801 points a side: .3335"),
            Check("growth inside", growth["inside"], -inf, -10, "nats", "roots are sinks of slope 0"),
            Check("growth at the frontier", growth["frontier"], 1, inf, "nats", "ends jump from root to root"),
            Check("contraction a step against rho(U)", max(rates), 0, 0.02, "relative", "h_t - h* = U^t (h_0 - h*)"),
            Check("distance to (I - U)^-1 W x", max(ends), 0, 1e-9, "relative", "rho <= 0.9, 400 steps"),
            Check("V W against I", max(left), 0, 1e-12, "", "pseudo-inverse of W, full column rank"),
            Check("W V against I", min(right), 1.414, 1.415, "", "E27: a projection of rank 4 of 6: √2"),
            Check("unread state, length", min(state), 0.35, inf, "", "E27: V U h = 0 in 2 of 6 dimensions"),
            Check("input given back", max(back), 0, 1e-12, "", "E27: V (W x + U h) = x all the same"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The basins, the growth of the gradient, the approach of the recurrent network, and the fixed points."""
        labels, growth = (entries(table, q) for q in ("basin row", "growth row"))
        picture = np.array([[int(c) if c != "-" else -1 for c in row] for row in labels.values()])
        heights = np.array([[LETTERS.index(c) for c in row] for row in growth.values()], np.float64)
        distances = numbers(table, "distance")
        where = numbers(table, "slope")
        return [
            regions(
                picture,
                list(ROOTS),
                caption="Where Newton's method for z³ = 1 ends, |Re z|, |Im z| <= 2: three basins.",
                half=True,
            ),
            Images(
                heights[None, None],
                caption=f"|derivative| of {APPLICATIONS} applications, 10^{DECADES[0]} (black) to 10^{DECADES[1]} (white): it "
                " vanishes inside the basins and explodes at their frontier.",
                columns=1,
                half=True,
            ),
            lines(
                list(distances),
                {"|h_t - h*|": list(distances.values()), "rho^t": list(numbers(table, "rho^t").values())},
                x_title="steps t",
                y_title="distance to the fixed point",
                log_y=True,
                caption="A linear recurrent network with rho(U) = 0.9 goes to (I - U)⁻¹ W x, as fast as rho says.",
            ),
            Cells(
                columns=["fixed point of 3.5 x (1 - x)", "slope", "kind"],
                rows=[[x, s, "source" if abs(s) > 1 else "sink"] for x, s in where.items()],
                caption="|slope| tells sink from source.",
            ),
        ]

    def refutation(self) -> Table:
        """Fixed points that attract, lopsided basins with the same gradient everywhere, and a reader that must see h."""
        rows = [
            number("slope", "0", 0.5),
            number("slope", "5/7", 0.9),
            number("sinks of f^n", 1, 2),
            number("sinks of f^n", 4, 0),
        ]
        rows += [number("units", kind, 2) for kind in KINDS]
        rows += [number("share of the disc", name, share) for name, share in zip(ROOTS, (0.2, 0.3, 0.5), strict=True)]
        rows += [number("growth", "inside", 0.0), number("growth", "frontier", 0.0)]
        rows += [number("rate against rho", 0, 0.3), number("distance at the end", 0, 1.0), number("|V W - I|", 0, 1.0)]
        return from_rows([*rows, number("|W V - I|", 0, 0.0), number("|h|", 0, 0.0), number("|y - x|", 0, 1.0)])


def _line() -> Iterator[dict[str, Any]]:
    """Slopes at the fixed points of the lecture's map, and how many of those of its compositions are sinks."""

    def f(x: torch.Tensor) -> torch.Tensor:
        return 3.5 * x * (1 - x)

    for name, point in zip(("0", "5/7"), fixed_points(f, 0, 1), strict=True):
        yield number("slope", name, point.multipliers[0].real)
    for n in (1, 2, 4):
        yield number("sinks of f^n", n, sum(p.kind == "sink" for p in fixed_points(iterated(f, n), 0, 1)))


def _units() -> Iterator[dict[str, Any]]:
    """Fixed points of two Hopfield units in continuous time's discrete twin, h = tanh(2 W h), W = I by Hebb's rule, by kind."""
    found = fixed_points_from(lambda h: torch.tanh(2 * h), 1.2 * grid((-1, -1), (1, 1), 5).reshape(-1, 2))
    for kind in KINDS:
        yield number("units", kind, sum(point.kind == kind for point in found))


def _basins(size: int) -> Iterator[dict[str, Any]]:
    """Shares of the disc |z| <= 2, growth of the gradient inside basins and at their frontier, and the pictures of both."""
    plane = grid((-2, -2), (2, 2), size)
    found = basins(CUBE, plane)
    order = _order(found.attractors)
    shares = found.shares(plane.norm(dim=-1) <= 2)
    for name, k in zip(ROOTS, order, strict=True):
        yield number("share of the disc", name, shares[k])
    shown = basins(CUBE, grid((-2, -2), (2, 2), SIDE))
    points = grid((-2, -2), (2, 2), SIDE)
    growth = log_growth(CUBE, points.reshape(-1, 2), torch.tensor([1.0, 0.0], dtype=torch.float64), APPLICATIONS).reshape(
        SIDE, SIDE
    )
    frontier = shown.frontier()
    yield number("growth", "inside", max(growth[~frontier].median().item(), -1e3))
    yield number("growth", "frontier", growth[frontier].median().item())
    digits = {k: str(i) for i, k in enumerate(_order(shown.attractors))}
    low, high = DECADES
    shade = ((growth / math.log(10)).clamp(low, high) - low) / (high - low)
    levels = (shade * (len(LETTERS) - 1)).round().long()
    for y in range(SIDE):
        yield {"quantity": "basin row", "at": y, "value": "".join(digits.get(k, "-") for k in shown.labels[y].tolist())}
        yield {"quantity": "growth row", "at": y, "value": "".join(LETTERS[k] for k in levels[y].tolist())}


def _order(attractors: tuple[torch.Tensor, ...]) -> list[int]:
    """Index of the attractor nearest to each root."""
    ends = [complex(*attractor[0].tolist()) for attractor in attractors]
    return [min(range(len(ends)), key=lambda k: abs(ends[k] - root)) for root in ROOTS.values()]


def _settling(k: int, rng: torch.Generator) -> list[dict[str, Any]]:
    """How a recurrent network of 6 states goes to its fixed point, by the rate of the last steps above rounding."""
    model, x = _network(rng, 0.9 if k == 0 else 0.7 + 0.2 * torch.rand((), generator=rng).item())
    target = torch.tensor(model.fixed_point(x).point, dtype=torch.float64)
    states = model.states(x, torch.zeros(6, dtype=torch.float64), 400)
    distance = (states - target).norm(dim=1) / target.norm()
    rho = model.spectral_radius
    rows = [
        number("rate against rho", k, abs((distance[60] / distance[20]).item() ** (1 / 40) / rho - 1)),
        number("distance at the end", k, distance[-1].item()),
    ]
    if k == 0:
        rows += [number("distance", t, distance[t].item()) for t in range(101)]
        rows += [number("rho^t", t, distance[0].item() * rho**t) for t in range(101)]
    return rows


def _reading(k: int, rng: torch.Generator) -> list[dict[str, Any]]:
    """The reader V with V W = I on a state h of length 1 that it does not see."""
    model, x = _network(rng, 0.9)
    V = torch.linalg.pinv(model.W)
    h = model.unread_states(V)[:, 0]
    return [
        number("|V W - I|", k, (V @ model.W - torch.eye(4)).norm().item()),
        number("|W V - I|", k, (model.W @ V - torch.eye(6)).norm().item()),
        number("|h|", k, h.norm().item()),
        number("|y - x|", k, torch.dist(V @ (model.W @ x + model.U @ h), x).item()),
    ]


def _network(rng: torch.Generator, radius: float) -> tuple[LinearRecurrence, torch.Tensor]:
    """Four inputs, six states; U symmetric, so that distances fall without swinging, with eigenvalues spread up to `radius`."""
    W, x = torch.randn(6, 4, generator=rng, dtype=torch.float64), torch.randn(4, generator=rng, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=rng, dtype=torch.float64)).Q
    sizes = radius * torch.tensor([1.0, -0.8, 0.6, -0.4, 0.2, 0.1], dtype=torch.float64)
    return LinearRecurrence(W, basis @ torch.diag(sizes) @ basis.T), x
