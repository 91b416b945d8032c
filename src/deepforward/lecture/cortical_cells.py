"""Claim: simple cells see a line at its place, complex cells see its orientation wherever it lies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from deepforward.layers.cortical_cells import ComplexCells, SimpleCells, grating, orientation_tuning, tuning_width
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block, Images
from deepforward.report.figures import lines

#: Pixels: wavelength of the receptive fields and standard deviation of their Gaussian.
WAVELENGTH, WIDTH = 8.0, 4.0
PHASES = 16
#: Budget -> orientations of the cells, and degrees between two gratings.
BUDGETS = {"smoke": (4, 5), "full": (12, 1)}
#: Pixels by which a line is moved across the stripes.
SHIFTS = range(-8, 9)


class SimpleAndComplexCells(Claim):
    """Responses to gratings of all phases and orientations, to a line at all places, and to uniform light.

    The table has one row a number: `quantity`, `at` (degrees, or pixels) and `value`.
    """

    says: ClassVar[str] = (
        "Hubel and Wiesel found simple cells, which fire when a line or an edge of one orientation lies at one place of their "
        "receptive field, and complex cells, which fire when it lies anywhere in the field. A rectified linear filter and the "
        "root of the sum of squares of two of them, a quarter turn apart, behave so."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Cells of 4 orientations and gratings every 5 degrees (smoke), or of 12 and every degree (full); no random draws."""
        orientations, step = BUDGETS[budget]
        simple = SimpleCells(orientations, 4, WAVELENGTH, WIDTH, torch.float64)
        energy = ComplexCells(orientations, WAVELENGTH, WIDTH, torch.float64)
        side = simple.fields.shape[-1]
        progress("phases")
        rows = []
        for k in range(orientations):
            waves = [_grating(side, math.pi * k / orientations, 2 * math.pi * p / PHASES) for p in range(PHASES)]
            linear, response = (f(torch.cat(waves), padding="valid")[..., 0, 0] for f in (simple.linear, energy))
            if k == 0:
                for p in range(PHASES):
                    rows += [number("simple by phase", 360 * p / PHASES, float(linear[p, 0, 0]))]
                    rows += [number("complex by phase", 360 * p / PHASES, float(response[p, 0]))]
            variation = float(response[:, k].std(correction=0) / response[:, k].mean())
            rows.append(number("variation over phases", 180 * k / orientations, variation))
        progress("orientations")
        rows += _tuning(simple, energy, step)
        progress("places")
        return from_rows([*rows, *_places(simple, energy), *_light(simple)])

    def check(self, table: Table) -> list[Check]:
        """Phase, orientation, place, light."""
        simple, place = numbers(table, "simple by phase"), numbers(table, "simple by place")
        shifted, tuning = numbers(table, "complex by place"), numbers(table, "tuning")
        silent = sum(response <= 1e-12 for response in simple.values()) / len(simple)
        within = [shifted[x] / shifted[0] for x in shifted if abs(x) <= WAVELENGTH / 2]
        half = "half the mass of the Gaussian within 3 widths, 0.497"
        law = "the Fourier transform of the Gaussian"
        return [
            Check("simple, before rectification: lowest of 16 phases", min(simple.values()), -0.502, -0.492, "", half),
            Check("simple, before rectification: highest", max(simple.values()), 0.492, 0.502, "", half),
            Check("simple: phases at which it is silent", silent, 0.4, 0.6, "share", "rectification"),
            Check(
                "complex: variation over 16 phases, the largest of all orientations",
                max(numbers(table, "variation over phases").values()),
                0,
                0.01,
                "",
                "lecture.md A4.2: 2.2e-4",
            ),
            Check("complex: half width of the tuning over its closed form", tuning["half width"], 0.95, 1.05, "", law),
            Check("preferred orientation against that of the field", tuning["error"], 0, 1e-9, "degrees", "definition"),
            Check("complex: response across the best orientation", tuning["across"], 0, 0.01, "share of the best", law),
            Check("simple: lowest response to a line within the field", min(place.values()), 0, 0, "", "it must lie in place"),
            Check("complex: least within half a wavelength", min(within), 0.5, 1, "share of the best", "wherever it lies"),
            Check("uniform light", numbers(table, "uniform light")[0], 0, 1e-12, "", "Hubel and Wiesel 1962"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The receptive fields, responses by phase, orientation and place, and what the cells see of a ring."""
        simple, energy = (numbers(table, f"{kind} by phase") for kind in ("simple", "complex"))
        tuning = {kind: numbers(table, f"{kind} tuning") for kind in ("simple", "complex")}
        places = {kind: numbers(table, f"{kind} by place") for kind in ("simple", "complex")}
        rectified = {
            "simple, before rectification": list(simple.values()),
            "simple": [max(value, 0.0) for value in simple.values()],
            "complex": list(energy.values()),
        }
        return [
            _fields(),
            lines(
                list(simple),
                rectified,
                x_title="phase of the grating, degrees",
                y_title="response",
                caption="A simple cell follows the phase, a complex one does not.",
            ),
            lines(
                list(tuning["complex"]),
                {kind: [value / max(curve.values()) for value in curve.values()] for kind, curve in tuning.items()},
                x_title="orientation of the grating, degrees from the best",
                y_title="mean response, share of the best",
                caption="Tuning curves, by which orientation is told. They are alike, since both cells filter alike.",
            ),
            lines(
                list(places["complex"]),
                {kind: [value / max(curve.values()) for value in curve.values()] for kind, curve in places.items()},
                x_title="place of a bright line, pixels from the middle of the field",
                y_title="response, share of the best",
                caption="The simple cell fires only where the line falls on its bright stripes.",
            ),
            _ring(),
        ]

    def refutation(self) -> Table:
        """Cells that see everything, everywhere, alike, and light besides."""
        rows = [number(f"{kind} by phase", 360 * p / PHASES, 1.0) for kind in ("simple", "complex") for p in range(PHASES)]
        rows += [number("simple by place", x, 1.0) for x in SHIFTS] + [
            number("complex by place", x, 1.0 / (1 + x * x)) for x in SHIFTS
        ]
        rows += [number("tuning", "half width", 2.0), number("tuning", "error", 30.0), number("tuning", "across", 1.0)]
        return from_rows([*rows, number("variation over phases", 0, 0.7), number("uniform light", 0, 1.0)])


def _grating(side: int, orientation: float, phase: float) -> Tensor:
    return grating(side, WAVELENGTH, orientation, phase, torch.float64)[None, None]


def _tuning(simple: SimpleCells, energy: ComplexCells, step: int) -> list[dict[str, Any]]:
    """Mean responses over phases by orientation, of the first cells, whose best orientation is 0; then their summary."""
    degrees = list(range(-90, 91, step))
    curves = {
        kind: orientation_tuning(cells, [math.radians(a) for a in degrees]) for kind, cells in _named(simple, energy).items()
    }
    own = [180 * k / simple.orientations for k in range(simple.orientations)]
    grid = [a % 180 for a in degrees[1:]]
    best = [grid[int(curve[1:, k].argmax())] for curve in curves.values() for k in range(simple.orientations)]
    across = orientation_tuning(energy, [math.pi / 2])[0, 0] / curves["complex"][degrees.index(0), 0]
    off = [abs(a - b) for a, b in zip(best, own * 2, strict=True)]
    return [
        *(number(f"{kind} tuning", a, float(r)) for kind, c in curves.items() for a, r in zip(degrees, c[:, 0], strict=True)),
        number("tuning", "half width", _half_width(energy) / tuning_width(WAVELENGTH, WIDTH)),
        number("tuning", "across", float(across)),
        number("tuning", "error", statistics.fmean(off)),
    ]


def _half_width(cells: ComplexCells) -> float:
    """Orientation in radians at which the response of the first cell is halved, by bisection."""
    low, high = 0.0, math.pi / 2
    half = float(orientation_tuning(cells, [0.0])[0, 0]) / 2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if float(orientation_tuning(cells, [middle])[0, 0]) > half else (low, middle)
    return low


def _named(simple: SimpleCells, energy: ComplexCells) -> dict[str, SimpleCells | ComplexCells]:
    return {"simple": simple, "complex": energy}


def _places(simple: SimpleCells, energy: ComplexCells) -> list[dict[str, Any]]:
    """Responses of the first cells to a line of one pixel's width, upright as their stripes, at each place."""
    side = simple.fields.shape[-1]
    images = torch.zeros(len(SHIFTS), 1, side, side, dtype=torch.float64)
    for image, x in zip(images, SHIFTS, strict=True):
        image[..., side // 2 + x] = 1.0
    one, other = (cells(images, padding="valid")[..., 0, 0] for cells in (simple, energy))
    named = {"simple": one[:, 0, 0], "complex": other[:, 0]}
    return [number(f"{k} by place", x, float(r)) for k, c in named.items() for x, r in zip(SHIFTS, c, strict=True)]


def _light(simple: SimpleCells) -> list[dict[str, Any]]:
    side = simple.fields.shape[-1]
    light = torch.ones(1, 1, side, side, dtype=torch.float64)
    return [number("uniform light", 0, float(simple.linear(light, padding="valid").abs().max()))]


def _fields() -> Images:
    cells = SimpleCells(4, 4, WAVELENGTH, WIDTH)
    captions = [f"{45 * a} deg, {('even', 'odd', 'even, dark', 'odd, dark')[p]}" for a in range(4) for p in range(4)]
    return Images(cells.fields.numpy(), captions, "Receptive fields of simple cells.", half=True, columns=4)


def _ring(side: int = 96, radius: float = 32.0) -> Images:
    """A bright ring, and where on it complex cells of each orientation fire."""
    y, x = torch.meshgrid(*(torch.arange(side) - (side - 1) / 2 for _ in range(2)), indexing="ij")
    ring = torch.exp(-((torch.hypot(x, y) - radius) ** 2) / 8)[None, None]
    seen = ComplexCells(4, WAVELENGTH, WIDTH)(ring)[0]
    pictures = torch.cat([ring[0] * float(seen.max()), seen])[:, None]
    captions = ["a ring", *(f"stripes across {45 * a} degrees" for a in range(4))]
    return Images(pictures.numpy(), captions, "What complex cells of four orientations see of a ring.", columns=5)
