"""Claim: where a loss bends more the steeper it is, gradient descent must shorten its long steps, and clipping does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.data import Scaling, load
from deepforward.errors import MissingExtra
from deepforward.instruments import LocalSmoothness, Smoothness
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines, scatter
from deepforward.theory import (
    clipped_iterations,
    clipped_step,
    descent_iterations,
    normalized_step,
    theorem_3_parameters,
    theorem_6_step,
)

#: x^4: L0, L1, and the norm of the gradient that counts as stationary.
QUARTIC = (16.0, 1.0, 0.01)
#: Start -> steps of clipped descent; and of plain descent, as far as anyone waits.
CLIPPED = {10.0: 1159, 30.0: 1359, 100.0: 2059}
PLAIN = {10.0: 54_489, 30.0: 1_466_000, 100.0: 5_000_000}
PATIENCE = 5_000_000
#: a cosh(b x): L0 = a b^2, L1 = b.
A, B = 1e-5, 40.0
#: Training -> step size and clipping norm of the walk.
WALKS: dict[str, tuple[float, float | None]] = {
    "LSTM, large steps, clipped": (10.0, 0.25),
    "LSTM, small steps": (0.5, None),
    "batch normalisation, large steps, clipped": (5.0, 0.25),
    "batch normalisation, small steps": (0.1, None),
}


class GradientClipping(Claim):
    """Steps to a stationary point of x^4 and cosh, step sizes against each other, and smoothness of small networks.

    The table has one row a number: `quantity`, `at` (start, draw, or point) and `value`.
    """

    says: ClassVar[str] = (
        "Clipping by norm, g <- min(1, eta / |g|) g, keeps steps from overshooting where the gradient explodes. If "
        "|Hessian| <= L0 + L1 |grad|, as along the training of deep networks, the best step shrinks with the "
        "gradient: clipped and normalised descent take about the same steps and need a number of them that does not "
        "grow with the steepest gradient met."
    )
    correction: ClassVar[str] = (
        "E28: eta is a threshold, not a step size, and the equation an assignment. E29: S is a set of points, not a "
        "sphere. E30: clipped descent is min{eta_c, gamma eta_c / |g|}. E31: normalised descent has eta_n of its own,"
        " eta_n / (|g| + beta). E32: h_c / 2 <= h_n <= h_c, which is sharper than 2 h_c. E33: the quadratic f(y) ~ "
        "... is a Taylor expansion, no bound. E34: it is f - h |g|^2, with y = x - h g. E35: the best step is h*, not"
        " eta*. E36: the assumption on the Hessian is the third. E37: gamma = min{1 / eta_c, 1 / (10 L1 eta_c)}; with"
        " L0 for L1, cosh oscillates for ever. E38: what correlates is the norm of the gradient with that of the "
        "Hessian, and in residual networks with large steps and clipping only; in the small networks here it is "
        "weaker, not absent, without. E39: the authors are not those of the batch normalisation paper."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Smoke: plain descent from 10 only, 60 steps of each walk. Full: from 30 and 100 too, 150 steps."""
        full = budget == "full"
        rows = [*_quartic(list(PLAIN) if full else [10.0], progress), *_starts(rng), *_cosh(), *_ratios(rng)]
        rows.append(number("h* - 1 / L", "for all L and |g|", _best_step_less_one_over_l()))
        for name, (lr, clip) in WALKS.items():
            progress(f"smoothness along the training: {name}")
            rows += _walk(name, lr, clip, 150 if full else 60, rng)
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Counts of steps to the step; the bounds and identities; the sign of the correlations."""
        clipped, plain, oscillation = (numbers(table, q) for q in ("x^4, clipped", "x^4, plain", "cosh, L0 for L1"))
        inf = math.inf
        counts = sum(clipped.get(start) != steps for start, steps in CLIPPED.items())
        ratios, r = numbers(table, "h_n / h_c"), numbers(table, "correlation")
        measured = "lecture.md A10, measured"
        relative = max(abs(steps / PLAIN[start] - 1) for start, steps in plain.items())
        large, small = (r[f"batch normalisation, {kind}"] for kind in ("large steps, clipped", "small steps"))
        return [
            Check("x^4, clipped: starts with another number of steps", counts, 0, 0, "", "1159, 1359, 2059: " + measured),
            Check(
                "x^4, plain: steps against the published", relative, 0, 5e-4, "relative", "54489, 1.466e6, > 5e6: " + measured
            ),
            Check("x^4, plain over clipped from 10", plain[10.0] / clipped[10.0], 40, inf, "ratio", "theorems 3 and 6"),
            Check("steps over the bound of theorem 3", max(numbers(table, "of bound").values()), 0, 1, "share", "theorem 3"),
            Check("steps over the bound of theorem 6", plain[10.0] / _descent_bound(10.0), 0, 1, "share", "theorem 6"),
            Check("cosh, the paper's gamma", numbers(table, "cosh, paper")[0.5], 247, 247, "steps", measured),
            Check("cosh, L0 for L1: |x| after 1000 steps", oscillation[1000], 0.499, 0.501, "", "E37: oscillates for ever"),
            Check("least h_n / h_c", ratios["least"], 0.5 - 1e-15, 1, "ratio", "E32, up to rounding"),
            Check("largest h_n / h_c", ratios["largest"], 0.9, 1 + 1e-15, "ratio", "E32, up to rounding"),
            Check("h* - 1 / L", numbers(table, "h* - 1 / L")["for all L and |g|"], 0, 0, "", "sympy"),
            Check(
                "LSTM: log |g| against log L", r["LSTM, large steps, clipped"], 0.5, 1, "Pearson r", "Zhang et al., figure 1"
            ),
            Check("batch normalisation: r gained", large - small, 0, 2, "", "sign: Zhang et al., ResNet-20, E38"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The way of both gammas on cosh, smoothness against the gradient, and the counts of steps."""
        paths = {name: numbers(table, f"cosh, {name}: |x|") for name in ("paper's gamma", "L0 for L1")}
        points = [
            (norm, bend, name)
            for name in WALKS
            for norm, bend in zip(numbers(table, f"{name}: |g|").values(), numbers(table, f"{name}: L").values(), strict=True)
        ]
        steps = [
            [start, numbers(table, "x^4, clipped").get(start), numbers(table, "x^4, plain").get(start)] for start in CLIPPED
        ]
        return [
            lines(
                list(paths["paper's gamma"]),
                {name: list(path.values()) for name, path in paths.items()},
                x_title="step",
                y_title="|x|",
                log_y=True,
                caption="1e-5 cosh(40 x) from 0.5: with L0 in the place of L1 the steps are too long for ever (E37).",
            ),
            scatter(
                [x for x, _, _ in points],
                [y for _, y, _ in points],
                x_title="norm of the gradient",
                y_title="local smoothness L",
                groups=[name for _, _, name in points],
                log_x=True,
                log_y=True,
                caption="Where the loss is steep it also bends: a step of 1 / L is shorter there.",
            ),
            Cells(
                ["x^4 from", "steps clipped", "steps plain"],
                steps,
                caption=f"To a gradient of {QUARTIC[2]}; plain descent stopped at {PATIENCE}.",
            ),
            Cells(["training", "Pearson r of log |g| and log L"], list(numbers(table, "correlation").items())),
        ]

    def refutation(self) -> Table:
        """Clipping that does not help, bounds that do not hold, steps apart, and no correlation."""
        rows = [number("x^4, clipped", start, steps + 1) for start, steps in PLAIN.items()]
        rows += [number("x^4, plain", 10.0, 1e13), number("of bound", 10.0, 2.0), number("cosh, paper", 0.5, 1000)]
        rows += [number("cosh, L0 for L1", 1000, 1e-6), number("h_n / h_c", "least", 0.1), number("h_n / h_c", "largest", 2.0)]
        rows += [number("h* - 1 / L", "for all L and |g|", 1.0)]
        rows += [number("correlation", name, 0.4 if "small" in name else -0.1) for name in WALKS]
        rows[0]["value"] = 2e12  # plain descent 40 times slower is what clipping was to show
        return from_rows(rows)


def _descend(slope: Callable[[float], float], x: float, step: Callable[[float], float], epsilon: float, most: int) -> int:
    """Steps of x <- x - h(|f'|) f' until |f'| <= epsilon."""
    for taken in range(most):
        g = slope(x)
        if abs(g) <= epsilon:
            return taken
        x -= step(abs(g)) * g
    return most


def _cube(x: float) -> float:
    return 4 * x * x * x


def _clipped(eta_c: float, gamma: float) -> Callable[[float], float]:
    return lambda norm: min(eta_c, gamma * eta_c / norm)


def _descent_bound(start: float) -> float:
    L0, L1, epsilon = QUARTIC
    return descent_iterations(L0, L1, _cube(start), start**4, epsilon)


def _quartic(plain: list[float], progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    L0, L1, epsilon = QUARTIC
    for start in CLIPPED:
        taken = _descend(_cube, start, _clipped(*theorem_3_parameters(L0, L1)), epsilon, PATIENCE)
        yield number("x^4, clipped", start, taken)
    for start in plain:
        progress(f"plain descent on x^4 from {start:g}")
        h = theorem_6_step(L0, L1, _cube(start))
        yield number("x^4, plain", start, _descend(_cube, start, _clipped(h, math.inf), epsilon, PATIENCE))


def _starts(rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """Clipped descent from 20 random starts on each function: steps as a share of theorem 3's bound."""
    L0, L1, epsilon = QUARTIC
    step = _clipped(*theorem_3_parameters(L0, L1))
    for start in (1 + 99 * torch.rand(20, generator=rng, dtype=torch.float64)).tolist():
        taken = _descend(_cube, start, step, epsilon, PATIENCE)
        yield number("of bound", start, taken / clipped_iterations(L0, L1, start**4, epsilon))
    L0, L1, epsilon = A * B * B, B, 1e-6
    step = _clipped(*theorem_3_parameters(L0, L1))
    for start in (0.5 * torch.rand(20, generator=rng, dtype=torch.float64)).tolist():
        taken = _descend(_slope_of_cosh, start, step, epsilon, PATIENCE)
        yield number("of bound", start, taken / clipped_iterations(L0, L1, A * math.cosh(B * start) - A, epsilon))


def _slope_of_cosh(x: float) -> float:
    return A * B * math.sinh(B * x)


def _cosh() -> Iterator[dict[str, Any]]:
    """Steps to |f'| <= 1e-6 with the paper's gamma, and where 1000 steps with the lecture's end; both ways step by step."""
    eta_c, gamma = theorem_3_parameters(A * B * B, B)
    gammas = {"paper's gamma": gamma, "L0 for L1": min(1 / eta_c, 1 / (10 * A * B * B * eta_c))}
    yield number("cosh, paper", 0.5, _descend(_slope_of_cosh, 0.5, _clipped(eta_c, gamma), 1e-6, 1000))
    for name, threshold in gammas.items():
        x, step = 0.5, _clipped(eta_c, threshold)
        for n in range(1000):
            if n <= 250 and n % 2 == 0:
                yield number(f"cosh, {name}: |x|", n, abs(x))
            x -= step(abs(_slope_of_cosh(x))) * _slope_of_cosh(x)
        if name == "L0 for L1":
            yield number("cosh, L0 for L1", 1000, abs(x))


def _ratios(rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """Extremes of h_n / h_c with eta_n = gamma eta_c and beta = gamma, over 10^6 draws of |g|, eta_c and gamma, 1e-6 to 1e6."""
    norm, eta_c, gamma = (10 ** (12 * torch.rand(3, 10**6, generator=rng, dtype=torch.float64) - 6)).unbind()
    ratio = normalized_step(norm, gamma * eta_c, gamma) / clipped_step(norm, eta_c, gamma)
    yield number("h_n / h_c", "least", float(ratio.min()))
    yield number("h_n / h_c", "largest", float(ratio.max()))


def _best_step_less_one_over_l() -> float:
    """The h that minimises -h |g|^2 + L h^2 |g|^2 / 2, less 1 / L: a formula that must simplify to 0."""
    try:
        import sympy  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        raise MissingExtra("got no sympy, which the best step is derived with; pip install 'deepforward[theory]'") from error
    h, g, L = sympy.symbols("h g L", positive=True)
    (best,) = sympy.solve(sympy.diff(-h * g**2 + L * h**2 * g**2 / 2, h), h)
    return float(sympy.simplify(best - 1 / L))


class _RowReader(nn.Module):
    """An LSTM that reads the 8 rows of a digit."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.output = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.lstm(images.flatten(1, 2))[0][:, -1])


def _normalized() -> nn.Module:
    """Ten layers with batch normalisation."""
    layers: list[nn.Module] = [nn.Flatten()]
    for k in range(10):
        layers += [nn.Linear(48 if k else 64, 48), nn.BatchNorm1d(48), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(48, 10))


def _walk(name: str, lr: float, clip: float | None, steps: int, rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """Train that long on the digits, looking at |g| and L before every step."""
    data = load("digits").train
    inputs = Scaling.fit("standardise", data.inputs)(data.inputs)
    order = torch.cat([torch.randperm(len(inputs), generator=rng) for _ in range(1 + steps * 64 // len(inputs))])
    batches = [(inputs[index], data.targets[index]) for index in order.split(64)[:steps]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
        model = _RowReader() if name.startswith("LSTM") else _normalized()
    measured = LocalSmoothness(steps, lr=lr, clip=clip, beyond=()).measure(model, batches, _cross_entropy)
    assert measured.fit is not None
    yield number("correlation", name, measured.fit.correlation)
    yield from _points(name, measured)


def _cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def _points(name: str, measured: Smoothness) -> Iterator[dict[str, Any]]:
    for step, (norm, bend) in enumerate(zip(measured.gradient_norms, measured.smoothness, strict=True)):
        yield number(f"{name}: |g|", step, norm)
        yield number(f"{name}: L", step, bend)
