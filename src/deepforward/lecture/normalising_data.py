"""Claim: data are scaled by statistics of theirs, written words by the lines they stand on, and networks train by it."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deepforward.data import Dataset, Scaling, Split, load
from deepforward.data.synthetic_words import SyntheticWord, synthetic_word
from deepforward.data.word_lines import LINES, WordLines, fit_word_lines
from deepforward.data.word_normalization import normalize_word
from deepforward.engine import Recipe, fit
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines, paths

#: Maxima of a word -> words measured, by budget.
WORDS = {"smoke": {12: 8, 40: 4, 150: 2}, "full": {8: 40, 12: 40, 20: 40, 40: 40, 80: 20, 150: 20}}
LONG = 150
SCALINGS = ("none", "centre", "min-max", "softmax", "standardise")


class NormalisingData(Claim):
    """Identities of the scalings, training with each of them, and the lines of synthetic words whose lines are known.

    The table has one row a number: `quantity`, `at` and `value`; a `path` is a list of points.
    """

    says: ClassVar[str] = (
        "Features are brought to mean 0, to variance 1, to [0, 1] or [-1, 1], or squashed by softmax scaling "
        "1 / (1 + exp(-(x - mean) / (r sigma))), which is linear near the mean. Networks train faster by it. A written word is "
        "normalised by four parallel parabolas, fitted to the turning points of the pen by expectation maximisation."
    )
    correction: ClassVar[str] = (
        "E40: r sigma_k, not sigma, divides, and the function is a logistic, not a softmax. E41: it is linear only up to y³: "
        "|xhat - (1/2 + y/4)| <= |y|³/48. E42: Cov[x] = E[x x'] - E[x] E[x]', not 'and'. E43: the data are {x_1, ..., x_N}."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """14 words (smoke) or 200 (full), 150 maxima in the longest, and a perceptron on digits in units of their own.

        It learns at one rate (smoke) or at the best of four for each scaling (full).
        """
        progress("identities")
        rows = list(_identities(rng))
        epochs, repeats, rates = (5, 1, (0.1,)) if budget == "smoke" else (20, 3, (0.3, 0.1, 0.03, 0.01))
        seeds = torch.randint(2**31, (repeats,), generator=rng).tolist()
        for scaling in SCALINGS:
            progress(f"training with scaling {scaling}")
            best = [min(_train(scaling, epochs, rate, seed) for rate in rates) for seed in seeds]
            rows.append(number("loss", scaling, statistics.median(loss for loss, _ in best)))
            rows.append(number("accuracy", scaling, statistics.median(accuracy for _, accuracy in best)))
        for peaks, count in WORDS[budget].items():
            progress(f"{count} words of {peaks} maxima")
            rows += _words(peaks, count, rng)
        return from_rows([*rows, *_drawing(rng)])

    def check(self, table: Table) -> list[Check]:
        """Identities to rounding, the order of the scalings, and the errors of the lines against what was measured before."""
        identity, loss, accuracy = (numbers(table, q) for q in ("identity", "loss", "accuracy"))
        worst = {q: numbers(table, f"largest error, {q}")[LONG] for q in ("slope", "curvature", "offset")}
        beside, spread = (numbers(table, f"median error, {who}")[LONG] for who in ("fit", "told"))
        fall = max(numbers(table, "fall of the posterior").values())
        gain = numbers(table, "loss of a single start").values()
        others, inf = min(value for name, value in loss.items() if name != "standardise"), math.inf
        speed = "LeCun et al. 1998: the Hessian's condition"
        before = "20 words, noise .05, 10% outliers, measured before"
        return [
            Check("mean after standardisation", identity["mean"], 0, 1e-12, "", "definition"),
            Check("variance after standardisation", identity["variance"], 0, 1e-12, "", "definition"),
            Check("ends of min-max", identity["ends"], 0, 1e-12, "", "[-1, 1]"),
            Check("softmax scaling against the logistic", identity["logistic"], 0, 1e-12, "", "E40: r sigma_k divides"),
            Check("divided by sigma, r = 3", identity["printed"], 0.05, inf, "", "E40: what was printed"),
            Check("|xhat - (1/2 + y/4)|, |y| <= 1", identity["linear"], 0.018935, 0.018945, "", "E41: below 1/48 = .0208"),
            Check("the same over |y|³/48", identity["order"], 0.999, 1, "ratio", "E41: reached as y -> 0, never passed"),
            Check("E[x x'] - E[x] E[x]' against Cov", identity["covariance"], 0, 1e-10, "relative", "E42"),
            Check("E[x x'] against Cov", identity["second moment"], 1, inf, "relative", "E42: what is left without the minus"),
            Check("training loss, none over centred", loss["none"] / loss["centre"], 1.2, inf, "ratio", speed),
            Check("training loss, none over standardised", loss["none"] / loss["standardise"], 5, inf, "ratio", speed),
            Check("training loss, next best over standardised", others / loss["standardise"], 1, inf, "ratio", speed),
            Check("test accuracy, standardised", accuracy["standardise"], 0.93, 1, "share", "digits, plain pixels: 0.97"),
            Check("lead in test accuracy over no scaling", accuracy["standardise"] - accuracy["none"], 0.04, 1, "share", speed),
            Check("largest error of the slope", worst["slope"], 0, 0.0033, "", before),
            Check("largest error of the curvature", worst["curvature"], 0, 0.0019, "1/core height", before),
            Check("largest error of an offset", worst["offset"], 0, 0.024, "core heights", before),
            Check(
                "median error over that of least squares told all", beside / spread, 0.5, 1.5, "ratio", "efficient at 301 turns"
            ),
            Check("largest fall of the posterior", fall, 0, 2e-13, "nats/turn", "expectation maximisation; rounding"),
            Check("most that one start loses", max(gain), 0.5, inf, "nats", "several starts are needed"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The word before and after, errors against its length, softmax scaling, and training with each scaling."""
        loss, accuracy, gap = (numbers(table, q) for q in ("loss", "accuracy", "departure from the line"))
        errors = {who: numbers(table, f"median error, {who}") for who in ("fit", "told")}
        return [
            _picture(table, "written", "A synthetic word that climbs, bends and leans, and the lines found."),
            _picture(table, "normalised", "The same word level, upright, and of core height 1."),
            lines(
                list(errors["fit"]),
                {
                    "fitted": list(errors["fit"].values()),
                    "told each line": list(errors["told"].values()),
                },
                x_title="maxima of the word",
                y_title="median error of an offset, core heights",
                log_x=True,
                log_y=True,
                caption="In long words hardly worse than least squares that is told which point belongs to which line.",
            ),
            lines(
                list(gap),
                {
                    "|xhat - (1/2 + y/4)|": list(gap.values()),
                    "bound |y|³/48": [abs(y) ** 3 / 48 for y in gap],
                },
                x_title="y = (x - mean) / (r sigma)",
                y_title="departure from the line",
                caption="Softmax scaling is linear only up to order y³.",
            ),
            Cells(
                columns=["scaling", "training loss, nats", "test accuracy"],
                rows=[[name, loss[name], accuracy[name]] for name in SCALINGS],
                formats={"training loss, nats": ".3g", "test accuracy": ".1%"},
                caption="A perceptron on the digits, each pixel in a unit and from a zero of its own.",
            ),
        ]

    def refutation(self) -> Table:
        """Scalings that are not what they are called and do not help, and lines that are missed."""
        rows = [number("identity", k, 0.5) for k in ("mean", "variance", "ends", "logistic", "linear", "order", "covariance")]
        rows += [number("identity", k, 0.0) for k in ("printed", "second moment")]
        rows += [number("loss", name, 1.5 if name == "standardise" else 1.0) for name in SCALINGS] + [
            number("accuracy", name, 0.1) for name in SCALINGS
        ]
        rows += [number(f"largest error, {q}", LONG, 0.16) for q in ("slope", "curvature", "offset")]
        rows += [number("median error, fit", LONG, 0.3), number("median error, told", LONG, 0.01)]
        return from_rows([*rows, number("fall of the posterior", LONG, 1e-3), number("loss of a single start", LONG, 0.0)])


def _identities(rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """How far the scalings are from their definitions, on 1000 examples of four features far from 0 and of unequal size."""
    size = 10.0 ** torch.arange(-1, 3, dtype=torch.float64)
    x = torch.randn(1000, 4, generator=rng, dtype=torch.float64) * size + 3 * size
    standard = Scaling.fit("standardise", x)(x)
    yield number("identity", "mean", standard.mean(0).abs().max().item())
    yield number("identity", "variance", (standard.var(0, correction=0) - 1).abs().max().item())
    ends = torch.stack(Scaling.fit("min-max?low=-1&high=1", x)(x).aminmax(dim=0))
    yield number("identity", "ends", (ends.abs() - 1).abs().max().item())
    soft, y = Scaling.fit("softmax?r=3", x)(x), (x - x.mean(0)) / x.std(0, correction=0)
    yield number("identity", "logistic", (soft - 1 / (1 + (-y / 3).exp())).abs().max().item())
    yield number("identity", "printed", (soft - 1 / (1 + (-y).exp())).abs().max().item())
    mean, second = x.mean(0), x.T @ x / len(x)
    covariance = torch.from_numpy(np.cov(x.numpy(), rowvar=False, bias=True))
    yield number("identity", "covariance", _relative(second - mean[:, None] * mean, covariance))
    yield number("identity", "second moment", _relative(second, covariance))
    grid = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    departure = (Scaling("softmax", (1,)).double()(grid[:, None])[:, 0] - (0.5 + grid / 4)).abs()
    yield number("identity", "linear", departure.max().item())
    away = grid.abs() >= 0.02  # nearer to 0 the departure is one of rounding
    yield number("identity", "order", (departure[away] / (grid[away].abs() ** 3 / 48)).max().item())
    yield from (number("departure from the line", round(grid[i].item(), 3), departure[i].item()) for i in range(0, 2001, 20))


def _relative(value: Tensor, truth: Tensor) -> float:
    return ((value - truth).norm() / truth.norm()).item()


def _in_units_of_their_own(seed: int) -> Dataset:
    """The digits, each pixel multiplied by 10^u, u even in [-2, 2], and moved by as much as it is large."""
    rng, digits = torch.Generator().manual_seed(seed), load("digits")
    unit = 10 ** (4 * torch.rand(64, generator=rng) - 2)
    zero = 2 * torch.rand(64, generator=rng) - 1

    def moved(split: Split) -> Split:
        return Split((split.inputs.flatten(1).float() / 16 + zero) * unit, split.targets)

    return Dataset("digits in units of their own", moved(digits.train), moved(digits.test), digits.classes)


def _train(scaling: str, epochs: int, learning_rate: float, seed: int) -> tuple[float, float]:
    """Training loss and test accuracy after training; clipped, so that no learning rate is lost to divergence."""
    data = _in_units_of_their_own(seed)
    recipe = Recipe(
        model="perceptron",
        model_options={"depth": 2, "width": 64},
        data="digits",
        scaling=scaling,
        validation=0.0,
        objective="cross-entropy",
        epochs=epochs,
        batch_size=50,
        optimizer="sgd",
        optimizer_options={"momentum": 0.9},
        learning_rate=learning_rate,
        clip=1.0,
        precision="fp32",
        compile="off",
        device="cpu",
        threads=1,
        probe_budget=0.0,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True)
        return run.history[-1]["train/loss"], run.metrics["test/accuracy"]


def _words(peaks: int, count: int, rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """Errors of the lines of words that have as many ascenders as not, and of least squares told the line of each point."""
    errors, told, falls, losses = [], [], [], []
    for _ in range(count):
        word = synthetic_word(rng, peaks=peaks, noise=0.05, outliers=0.1, ascenders=0.5, descenders=0.5)
        found = fit_word_lines(word.maxima, word.minima)
        truth = _values(word.lines.at(found.lines.origin))
        errors.append((_values(found.lines) - truth).abs())
        told.append((_told(word, found.lines.origin) - truth).abs())
        falls.append(-found.log_posteriors.diff(dim=0).min().item() / len(word.turns))
        ends = found.log_posteriors[-1]
        losses.append((ends[found.best] - ends[len(ends) // 2]).item())
    largest = torch.stack(errors).amax(0)
    yield number("largest error, slope", peaks, largest[0].item())
    yield number("largest error, curvature", peaks, largest[1].item())
    yield number("largest error, offset", peaks, largest[2:].max().item())
    for who, values in (("fit", errors), ("told", told)):
        yield number(f"median error, {who}", peaks, statistics.median(torch.stack(values)[:, 2:].flatten().tolist()))
    yield number("fall of the posterior", peaks, max(*falls, 0.0))
    yield number("loss of a single start", peaks, max(losses))


def _values(found: WordLines) -> Tensor:
    return torch.tensor([found.slope, found.curvature, *found.offsets], dtype=torch.float64)


def _told(word: SyntheticWord, origin: float) -> Tensor:
    """Slope, curvature and offsets by least squares on the points that are no outliers, knowing the line of each."""
    kept, line = word.turns[~word.is_outlier], word.line[~word.is_outlier]
    u = kept[:, 0] - origin
    design = torch.cat([torch.stack([u, u**2], dim=1), torch.eye(4, dtype=torch.float64)[line]], dim=1)
    return torch.linalg.pinv(design) @ kept[:, 1]  # a line without points is taken for 0


def _drawing(rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """One word before and after, with its lines."""
    word = synthetic_word(rng, peaks=16, curvature=0.03)
    ours = normalize_word([word.trajectory])
    found, middle = ours.lines, ours.lines.origin
    x = torch.linspace(word.trajectory[:, 0].min().item(), word.trajectory[:, 0].max().item(), 40, dtype=torch.float64)
    yield _path("written", "pen", word.trajectory)
    yield _path("normalised", "pen", ours.strokes[0])
    for k, line in enumerate(LINES):
        yield _path("written", line, torch.stack([x, found.rise(x) + found.offsets[k]], dim=1))
        height = (found.offsets[k] - found.offsets[2]) / found.core_height
        yield _path("normalised", line, torch.stack([(x - middle) / found.core_height, torch.full_like(x, height)], dim=1))


def _path(where: str, what: str, points: Tensor) -> dict[str, Any]:
    return {"quantity": f"path, {where}", "at": what, "value": [[round(v, 3) for v in point] for point in points.tolist()]}


def _picture(table: Table, where: str, caption: str) -> Block:
    unit = "core heights" if where == "normalised" else "as written"
    curves = entries(table, f"path, {where}")
    return paths(curves, x_title=f"x, {unit}", y_title=f"height, {unit}", caption=caption)
