"""Claim: the neocognitron organises itself without a teacher, to planes that stand for patterns wherever they are."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deepforward.engine import Recipe, fit
from deepforward.layers.neocognitron import SLayer
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.models.neocognitron import Neocognitron
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import scatter

SIZE, PLANES, PRESENTATIONS = 16, 24, 100
SELECTIVITIES = (1.5, 4.0)
#: Corners (row, column) of the strokes of our digits 0 to 4, drawn one pixel wide.
STROKES = (
    ((1, 6), (1, 9), (5, 13), (10, 13), (14, 9), (14, 6), (10, 2), (5, 2), (1, 6)),
    ((1, 8), (14, 8)),
    ((4, 2), (1, 5), (1, 10), (4, 13), (14, 3), (14, 13)),
    ((1, 3), (1, 12), (6, 7), (10, 12), (14, 8), (14, 5), (11, 2)),
    ((14, 10), (1, 10), (10, 2), (10, 13)),
)
SHIFTS = tuple(itertools.product((-1, 0, 1), repeat=2))
#: Budget -> random patterns shown to a cell of each selectivity, and random orders in which the five patterns are shown.
BUDGETS = {"smoke": (2000, 0), "full": (4000, 50)}
IN_TURN = "in turn"
#: What is read on MNIST -> training examples (None: all), options of the network.
READ_OUTS: dict[str, tuple[int | None, dict[str, Any]]] = {
    "C1, 10000 examples": (10_000, {"read_out": [1]}),
    "C2, 10000 examples": (10_000, {"read_out": [2]}),
    "C3, 10000 examples": (10_000, {"read_out": [3]}),
    "C2 and C3, 64 planes": (None, {"planes": [24, 64, 64], "read_out": [2, 3]}),
}
PIXELS = "pixels, 10000 examples"
EPOCHS = 4


class SelfOrganisation(Claim):
    """Thresholds of S-cells, the system of 1980 on five patterns, and a linear read-out on MNIST.

    The table has one row a number: `quantity`, `at` (a selectivity, cosine, pattern, or what is read) and `value`.
    """

    says: ClassVar[str] = (
        "The neocognitron recognises patterns by their shape, wherever they are: S-cells extract features that they learnt "
        "without a teacher, C-cells forgive their places. An S-cell fires exactly where the cosine of what it sees and what it "
        "learnt exceeds r / (1 + r); shown the digits 0 to 4, it gives each a plane of its own, also where they are shifted."
    )
    correction: ClassVar[str] = (
        "E12: u_S is r times phi(...), and h has 2 r / (1 + r) in front: with 2 / (1 + r) the threshold would be 1 / (1 + r), "
        "lower the more selective a cell is meant to be."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """One cell; five patterns in turn; full: in 50 random orders too, and MNIST, about five minutes."""
        count, orders = BUDGETS[budget]
        rows = []
        for r in SELECTIVITIES:
            progress(f"one cell of r = {r}")
            rows += _threshold(r, count, rng)
        progress("five patterns")
        network = organised(None)
        rows += [*_success(IN_TURN, network), *_pictures(network)]
        for order in range(orders):
            progress(f"five patterns, random order {order + 1}")
            rows += _success(order, organised(rng))
        return from_rows(rows + (_read_outs(rng, progress) if budget == "full" else []))

    def check(self, table: Table) -> list[Check]:
        """Thresholds against r / (1 + r), planes and shifts against the system of 1980, accuracy against a linear one."""
        exact, lecture = numbers(table, "threshold"), numbers(table, "threshold, lecture")
        firing, silent = numbers(table, "lowest firing"), numbers(table, "highest silent")
        planes, shifts, read = (numbers(table, name) for name in ("planes", "shifts", "test accuracy"))
        identity = "identity; float64, bisection"
        checks = []
        for r in SELECTIVITIES:
            bound = r / (1 + r)
            checks += [
                Check(f"r = {r}: threshold less r/(1+r)", abs(exact[r] - bound), 0, 1e-12, "cosine", identity),
                Check(f"r = {r}: lowest cosine that fires", firing[r], bound, bound + 0.02, "cosine", "random patterns"),
                Check(f"r = {r}: highest that is silent", silent[r], bound - 0.02, bound, "cosine", "random patterns"),
                Check(f"r = {r}: without r in h, less 1/(1+r)", abs(lecture[r] - 1 / (1 + r)), 0, 1e-12, "cosine", "E12"),
            ]
        checks += [
            Check("planes of C3 for five patterns", planes[IN_TURN], 5, 5, "", "Fukushima 1980; patterns shown in turn"),
            Check("pixel shifts that the plane wins", shifts[IN_TURN], 0.8, 1, "share", "the worst pattern; shown in turn"),
        ]
        random = [at for at in planes if at != IN_TURN]
        if random:
            apart = sum(planes[at] == 5 for at in random) / len(random)
            moved = sum(shifts[at] for at in random) / len(random)
            checks += [
                Check("random orders that give five planes", apart, 0.9, 1, "share", "147 of 148 orders tried before"),
                Check(
                    "pixel shifts, random orders", moved, 0.8, 1, "share", "the worst pattern of each order, mean over orders"
                ),
            ]
        if read:
            linear = "a linear read-out of pixels: 0.90 to 0.92"
            gain = read["C1, 10000 examples"] - read[PIXELS]
            best = read["C2 and C3, 64 planes"]
            checks += [
                Check("MNIST: test accuracy of the read-out", best, 0.95, 1, "share", linear),
                Check("MNIST: C1 above pixels", gain, 0.03, 1, "share", linear),
            ]
        return checks

    def draw(self, table: Table) -> list[Block]:
        """Responses against cosine; the patterns, what S1 learnt, what the layers say of a pattern, and who wins."""
        points = [(x, y, f"r = {r}") for r in SELECTIVITIES for x, y in entries(table, f"response, r = {r}").items()]
        x, y, groups = (list(column) for column in zip(*points, strict=True))
        pictures = {name: np.asarray(rows, np.float32)[:, None] for name, rows in entries(table, "pictures").items()}
        won = [[digit, *row] for digit, row in entries(table, "winner").items()]
        read = [[name, value] for name, value in numbers(table, "test accuracy").items()]
        blocks: list[Block] = [
            scatter(
                *(x, y),
                groups=groups,
                x_title="cosine of what the cell sees and what it learnt",
                y_title="response of the S-cell",
                size=14,
                caption="Random patterns. A cell is silent up to a cosine of r / (1 + r): 0.6 for r = 1.5, 0.8 for r = 4.",
            )
        ]
        captions = {
            "patterns": "The patterns.",
            "S1": "What the planes of S1 learnt without a teacher: excitatory weights.",
            **{name: f"What {name} says of the 2, a picture a plane." for name in ("C1", "S2", "C2", "S3")},
        }
        for name, picture in pictures.items():
            grid = Images(picture, caption=captions[name], contrast="each" if name == "S1" else "together", half=True)
            blocks.append(grid)
        blocks.append(
            Cells(
                ["pattern", "plane that wins", "its response", "the next one's"],
                won,
                {"its response": ".3f", "the next one's": ".3f"},
                "The cells of C3, one a plane.",
            )
        )
        if read:
            said = (
                "Test accuracy on MNIST of a linear read-out. Only it is trained with labels; 24 planes a stage if not named."
            )
            blocks.append(Cells(["what is read", "accuracy"], read, {"accuracy": ".4f"}, said))
        return blocks

    def refutation(self) -> Table:
        """Cells that fire at any cosine, five patterns in one plane that loses them when shifted, and a useless read-out."""
        rows = []
        for r in SELECTIVITIES:
            values = {"threshold": 0.0, "lowest firing": 0.0, "highest silent": 1.0, "threshold, lecture": 1.0}
            rows += [number(quantity, r, value) for quantity, value in values.items()]
        for order in (IN_TURN, 0):
            rows += [number("planes", order, 1), number("shifts", order, 0.2)]
        return from_rows([*rows, *(number("test accuracy", at, 0.9) for at in (PIXELS, *READ_OUTS))])


def patterns() -> Tensor:
    """The digits 0 to 4 as strokes one pixel wide, (5, 1, 16, 16), 1 on 0."""
    drawn = torch.zeros(len(STROKES), 1, SIZE, SIZE)
    for picture, corners in zip(drawn, STROKES, strict=True):
        for (row, column), (next_row, next_column) in itertools.pairwise(corners):
            steps = max(abs(next_row - row), abs(next_column - column))
            for i in range(steps + 1):
                at = i / steps
                picture[0, round(row + at * (next_row - row)), round(column + at * (next_column - column))] = 1
    return drawn


def organised(rng: torch.Generator | None) -> Neocognitron:
    """The layout of 1980 after each of the five patterns was shown 20 times, in random orders or, without `rng`, in turn."""
    with torch.random.fork_rng(devices=[]):  # for the read-out, which is not used here
        network = Neocognitron((1, SIZE, SIZE), len(STROKES))
    network.self_organise(patterns(), rng, PRESENTATIONS)
    return network


@torch.no_grad()
def winners(network: Neocognitron, inputs: Tensor) -> tuple[list[int], list[list[float]]]:
    """The plane of C3 that says most of each input, -1 where all are silent; and what each plane says."""
    said = network.responses(inputs)[-1][1].flatten(1)
    return torch.where(said.amax(1) > 0, said.argmax(1), -1).tolist(), said.tolist()


def _success(order: object, network: Neocognitron) -> list[dict[str, Any]]:
    """Planes that win for some pattern, and the least share, of any pattern, of its nine places in which its plane wins."""
    shown = patterns()
    own, _ = winners(network, shown)
    places = torch.stack([shown.roll(shift, (2, 3)) for shift in SHIFTS], 1).flatten(0, 1)
    won = torch.tensor(winners(network, places)[0]).view(len(own), -1) == torch.tensor(own)[:, None]
    least = min(share if plane >= 0 else 0.0 for plane, share in zip(own, won.double().mean(1).tolist(), strict=True))
    return [number("planes", order, len(set(own) - {-1})), number("shifts", order, least)]


def _threshold(r: float, count: int, rng: torch.Generator) -> list[dict[str, Any]]:
    """Responses of a cell that learnt one pattern to random ones, and the cosine where it begins to fire, by bisection."""
    cell = SLayer(1, 1, selectivity=r).double()
    cell.a.zero_()
    learnt = torch.rand(1, 1, 5, 5, generator=rng, dtype=torch.float64)
    cell.learn(learnt, torch.ones(1, 1, 1, 1, dtype=torch.float64))

    def cosine(x: Tensor) -> Tensor:
        inner = (cell.c * learnt * x).sum((1, 2, 3))
        return inner / ((cell.c * learnt**2).sum() * (cell.c * x**2).sum((1, 2, 3))).sqrt()

    noise, thin = torch.rand(2, count, 1, 5, 5, generator=rng, dtype=torch.float64)
    noise *= thin < 0.3
    share = torch.rand(count, 1, 1, 1, generator=rng, dtype=torch.float64)
    shown = share * learnt + (1 - share) * noise
    cosines, responses = cosine(shown), cell(shown).flatten()
    kept = slice(0, 400)  # to be drawn
    rows = [
        number(f"response, r = {r}", round(x, 6), round(y, 6))
        for x, y in zip(cosines[kept].tolist(), responses[kept].tolist(), strict=True)
    ]
    rows += [
        number("lowest firing", r, cosines[responses > 0].min().item()),
        number("highest silent", r, cosines[responses == 0].max().item()),
    ]

    def begins(fires: Callable[[Tensor], bool]) -> float:
        low, high = 0.0, math.pi / 2  # angle to what was learnt: it fires at the lower one
        other = noise[:1] - (cell.c * noise[:1] * learnt).sum() / (cell.c * learnt**2).sum() * learnt
        other = other * ((cell.c * learnt**2).sum() / (cell.c * other**2).sum()).sqrt()
        for _ in range(60):
            middle = (low + high) / 2
            is_firing = fires(math.cos(middle) * learnt + math.sin(middle) * other)
            low, high = (middle, high) if is_firing else (low, middle)
        return math.cos(low)

    def fires_by_lecture(x: Tensor) -> bool:
        return bool((cell.a * x).sum() > 2 / (1 + r) * cell.b * cell.inhibition(x).squeeze())

    rows.append(number("threshold", r, begins(lambda x: bool(cell(x) > 0))))
    rows.append(number("threshold, lecture", r, begins(fires_by_lecture)))
    return rows


@torch.no_grad()
def _pictures(network: Neocognitron) -> list[dict[str, Any]]:
    """The patterns, excitatory weights of S1, responses to the 2, and who wins; pictures as nested lists."""
    shown = patterns()

    def plain(pixels: Tensor) -> list[Any]:
        return [[[round(value, 3) for value in row] for row in picture] for picture in pixels.tolist()]

    said = dict(zip(("S1", "C1", "S2", "C2", "S3"), itertools.chain(*network.responses(shown[2:3])), strict=False))
    weights = network.get_submodule("stages.0.s").get_buffer("a")[:, 0]
    found: dict[str, Any] = {"patterns": plain(shown[:, 0]), "S1": plain(weights / weights.max())}
    found |= {name: plain(said[name][0]) for name in ("C1", "S2", "C2", "S3")}
    rows: list[dict[str, Any]] = [{"quantity": "pictures", "at": name, "value": value} for name, value in found.items()]
    for digit, (plane, responses) in enumerate(zip(*winners(network, shown), strict=True)):
        highest, runner_up = sorted(responses, reverse=True)[:2]
        rows.append({"quantity": "winner", "at": digit, "value": [plane, highest, runner_up]})
    return rows


def _read_outs(rng: torch.Generator, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Test accuracy on MNIST of a linear read-out of pixels, of each stage, and of the upper two of a larger network."""
    shared: dict[str, Any] = {"seed": int(torch.randint(2**31, (1,), generator=rng)), "epochs": EPOCHS}
    few = "mnist?train=10000"
    recipes = {PIXELS: Recipe(model="perceptron", model_options={"depth": 0}, data=few, **shared)}
    for name, (examples, options) in READ_OUTS.items():
        data = "mnist" if examples is None else few
        recipes[name] = Recipe(model="neocognitron", model_options=options, data=data, **shared)
    rows = []
    for name, recipe in recipes.items():
        progress(f"read-out of {name}")
        with tempfile.TemporaryDirectory() as folder:
            run = fit(recipe, Path(folder) / "run", quiet=True, throwaway=True)
            rows.append(number("test accuracy", name, run.metrics["test/accuracy"]))
    return rows
