"""Claim: in the simplified recurrent network the gradient is a product of slopes, which vanishes or explodes with depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from deepforward.lecture.claim import Check, Claim, Table, from_rows, to_rows
from deepforward.report.blocks import Block
from deepforward.report.figures import lines
from deepforward.theory.recurrence import SimplifiedRecurrence, gains_nearing_one

#: Kind of gains -> how they are drawn, `count` of them.
GAINS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "at most 0.9": lambda count, rng: _uniform(count, rng, 0.5, 0.9),
    "at least 1.1": lambda count, rng: _uniform(count, rng, 1.1, 1.5),
    "1 - 1/k²": lambda count, rng: gains_nearing_one(count, -1),
    "1 + 1/k²": lambda count, rng: gains_nearing_one(count, +1),
    "1, squashed by tanh": lambda count, rng: torch.ones(count, dtype=torch.float64),
}


class RecurrentGradient(Claim):
    """The closed gradients of h_t = w_t x_t + s_{t-1} h_{t-1} against autograd, for gains of five kinds and growing depth."""

    says: ClassVar[str] = (
        "With h_t = w_t x_t + z_{t-1} and z_t = s_t h_t, dh_t/dw_i = x_i s_i ... s_{t-1}: the gradient vanishes if all "
        "|s_k| <= c < 1 and explodes if all |s_k| >= c > 1; an activation that squashes shrinks it further."
    )
    correction: ClassVar[str] = (
        "E21: x_i, not x_t. E22: the product runs over k = i ... t-1. "
        "E23: s_k < 1 alone is not enough, prod(1 - 1/k²) tends to 1/2."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Depths 2 to 64 (smoke) or 2 to 512 (full): gradients of the last state by autograd and in closed form."""
        rows = []
        for steps in [2**k for k in range(1, 7 if budget == "smoke" else 10)]:
            progress(f"{steps} steps")
            for kind, draw in GAINS.items():
                weights, inputs = torch.randn(2, steps, generator=rng, dtype=torch.float64)
                activation = torch.tanh if "tanh" in kind else None
                model = SimplifiedRecurrence(weights, draw(steps, rng), inputs, activation)
                rows.append({"gains": kind, "steps": steps, **_compare(model)})
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Closed form equals autograd, the printed one does not, and the products go where theory says."""
        deepest = max(table["steps"])

        def rates(kind: str) -> list[float]:
            return [math.log(r["gradient"]) / (r["steps"] - 1) for r in to_rows(table) if r["gains"] == kind]

        def end(kind: str) -> float:
            return next(r["gradient"] for r in to_rows(table) if r["gains"] == kind and r["steps"] == deepest)

        halving = (deepest + 1) / (2 * deepest)
        inf = math.inf
        return [
            Check("closed form against autograd", max(table["error"]), 0, 1e-12, "relative", "identity, float64, 512 steps"),
            Check("printed x_t against autograd", max(table["printed_error"]), 1e-3, inf, "relative", "E21: x_i, not x_t"),
            Check("rate, |s| <= 0.9", max(rates("at most 0.9")), -inf, math.log(0.9), "nats/step", "bound of each factor"),
            Check("rate, |s| >= 1.1", min(rates("at least 1.1")), math.log(1.1), inf, "nats/step", "bound of each factor"),
            Check("gradient, s_k = 1 - 1/k²", end("1 - 1/k²"), halving - 1e-12, halving + 1e-12, "", "E23: telescopes"),
            Check("gradient, s_k = 1 + 1/k²", end("1 + 1/k²"), 1.25, math.sinh(math.pi) / math.tau, "", "product of sinh"),
            Check("rate, tanh", max(rates("1, squashed by tanh")), -inf, 0, "nats/step", "0 < tanh' <= 1"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The gradient that reaches the first step against depth."""
        series = {kind: [r["gradient"] for r in to_rows(table) if r["gains"] == kind] for kind in GAINS}
        return [
            lines(
                sorted(set(table["steps"])),
                series,
                x_title="steps t",
                y_title="|dh_t / dh_1|",
                log_x=True,
                log_y=True,
                caption="Gains bounded away from 1 make the gradient vanish or explode; gains that soon near 1 do neither.",
            )
        ]

    def refutation(self) -> Table:
        """Gradients as if x_t were right, gains bounded away from 1 did nothing, and those that near 1 did everything."""
        steps, wrong = 64, {"error": 1.0, "printed_error": 0.0}
        gradients = {"at most 0.9": 1.0, "at least 1.1": 1.0, "1 - 1/k²": 1e-9, "1 + 1/k²": 1e9, "1, squashed by tanh": 2.0}
        return from_rows([{"gains": kind, "steps": steps, "gradient": g, **wrong} for kind, g in gradients.items()])


def _compare(model: SimplifiedRecurrence) -> dict[str, Any]:
    """|dh_t/dh_1| by autograd, and the relative errors of both closed forms of dh_t/dw_i and dh_t/ds_i for the last t."""
    weights, gains = (v.clone().requires_grad_() for v in (model.weights, model.gains))
    last = SimplifiedRecurrence(weights, gains, model.inputs, model.activation).states()[-1]
    by_weights, by_gains = torch.autograd.grad(last, (weights, gains))
    closed = model.gradients()
    printed = model.inputs[-1] * closed.weights[-1] / model.inputs
    return {
        "gradient": (by_weights[0] / model.inputs[0]).abs().item(),
        "error": max(_distance(closed.weights[-1], by_weights), _distance(closed.gains[-1], by_gains)),
        "printed_error": _distance(printed, by_weights),
    }


def _distance(value: Tensor, truth: Tensor) -> float:
    return ((value - truth).norm() / truth.norm()).item()


def _uniform(count: int, rng: torch.Generator, low: float, high: float) -> Tensor:
    size = low + (high - low) * torch.rand(count, generator=rng, dtype=torch.float64)
    return size * (2 * torch.randint(2, (count,), generator=rng) - 1)
