"""How fast the gradient turns along a short walk, and how far ahead it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepforward.errors import InvalidModel, InvalidOption
from deepforward.instruments.batch_gradient import BatchGradient, norm
from deepforward.instruments.examination import Examination
from deepforward.instruments.left_as_found import left_as_found
from deepforward.theory.smoothness_fit import SmoothnessFit, fit_smoothness

#: Length of the first step of a walk that finds its own, against that of the weights.
_FIRST = 1e-3


@dataclass(frozen=True)
class Smoothness:
    """A walk: one entry a step in every column.

    Attributes:
        losses: Loss before the step.
        gradient_norms: |g| there.
        smoothness: L: largest |g(y) - g(x)| / |y - x| for y on the step from x; |H v| to first order, v being g / |g|.
        effective_smoothness: The same for y on the step and beyond (Santurkar's effective beta).
        loss_ranges: Lowest and highest loss at the points on the step and beyond.
        gradient_ranges: Least and largest |g(y) - g(x)| at these points (Santurkar's gradient predictiveness).
        step_sizes: h of the step x - h g.
        fit: L0, L1 and whether L1 is identified; None if the walk ended before its third step.
    """

    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    smoothness: tuple[float, ...]
    effective_smoothness: tuple[float, ...]
    loss_ranges: tuple[tuple[float, float], ...]
    gradient_ranges: tuple[tuple[float, float], ...]
    step_sizes: tuple[float, ...]
    fit: SmoothnessFit | None


class _Step(NamedTuple):
    """One entry of each column of `Smoothness`."""

    loss: float
    gradient_norm: float
    smoothness: float
    effective_smoothness: float
    loss_range: tuple[float, float]
    gradient_range: tuple[float, float]
    step_size: float


class LocalSmoothness(Examination[Smoothness]):
    """Walks by plain gradient descent, one batch a step, and looks at loss and gradient on the way.

    A step costs 1 + `points` + len(`beyond`) forward and backward passes, hence 6 training steps by default. Both ends of each
    difference are taken on the same batch with the same random draws. The walk ends early where the gradient vanishes or is
    not finite.

    Args:
        steps: Steps to walk, at least 1. Batches are taken in turn, from the first again after the last.
        lr: Step size; None is 1 / L as last measured, so that the walk is safe whatever the training's rate.
        clip: Norm above which a gradient is shortened in the walk.
        points: Points on each step, at least 3: with one, L1 comes out several times too small.
        beyond: Further points along the gradient, in steps, each above 1.
        window: How many of the last steps the fit rests on; None is all. The first steps of a training bend most.

    Raises:
        InvalidOption: An argument is out of range.

    Source: Zhang, He, Sra, Jadbabaie 2020, section 5 (smoothness on the step); Santurkar, Tsipras, Ilyas, Madry 2018, section
    3.2 and figure 4 (ranges and effective smoothness along the gradient).
    """

    def __init__(
        self,
        steps: int = 24,
        *,
        lr: float | None = None,
        clip: float | None = None,
        points: int = 3,
        beyond: Sequence[float] = (2.0, 4.0),
        window: int | None = None,
    ) -> None:
        self.steps, self.lr, self.clip, self.points, self.window = steps, lr, clip, points, window
        self.beyond = tuple(beyond)
        if steps < 1 or (window is not None and window < 3):
            raise InvalidOption(f"got steps={steps}, window={window}; expected steps at least 1 and a window of at least 3")
        if points < 3 or any(not ahead > 1 for ahead in self.beyond):
            raise InvalidOption(f"got points={points}, beyond={self.beyond}; expected 3 points at least, and steps above 1")
        if any(value is not None and not 0 < value < float("inf") for value in (lr, clip)):
            raise InvalidOption(f"got lr={lr}, clip={clip}; expected positive numbers, or None")

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> Smoothness:
        """Walk and measure; parameters are put back to the bit.

        Raises:
            InvalidModel: No parameter requires a gradient.
        """
        parameters: list[Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise InvalidModel("got a model without a parameter that requires a gradient; there is no way to walk")
        rows: list[_Step] = []
        with left_as_found(model, moves=True):
            for k in range(self.steps):
                gradient = BatchGradient(model, parameters, batches[k % len(batches)], loss)
                step = self._step(gradient, parameters, rows[-1].smoothness if rows else None)
                if step is None:
                    break
                rows.append(step)
        return self._record(rows)

    def _step(self, gradient: BatchGradient, parameters: list[Tensor], known: float | None) -> _Step | None:
        """Look along the gradient, then go the step; None where there is none to go."""
        loss, downhill = gradient()
        size = norm(downhill)
        if not 0 < size < float("inf"):
            return None
        h = self._size(size, known, parameters)
        origin = [parameter.detach().clone() for parameter in parameters]
        seen: list[tuple[float, float, float]] = []
        for place in (*self.beyond, *((k + 1) / self.points for k in range(self.points))):  # on the step last: it ends there
            with torch.no_grad():
                torch._foreach_copy_(parameters, torch._foreach_sub(origin, downhill, alpha=place * h))
            ahead, there = gradient()
            seen.append((place, ahead, norm(torch._foreach_sub(there, downhill))))
        on_the_step = max(change / (place * h * size) for place, _, change in seen[len(self.beyond) :])
        if not 0 < on_the_step < float("inf"):
            return None
        anywhere = max(change / (place * h * size) for place, _, change in seen)
        losses, changes = [ahead for _, ahead, _ in seen], [change for _, _, change in seen]
        ranges = (min(losses), max(losses)), (min(changes), max(changes))
        return _Step(loss, size, on_the_step, anywhere, *ranges, h)

    def _size(self, norm_of_gradient: float, known: float | None, parameters: list[Tensor]) -> float:
        if self.lr is None:
            first = _FIRST * (norm(parameters) or 1.0) / norm_of_gradient
            return first if known is None else 1.0 / known
        return self.lr if self.clip is None else self.lr * min(1.0, self.clip / norm_of_gradient)

    def _record(self, rows: Sequence[_Step]) -> Smoothness:
        fit = None
        if len(rows) >= 3:
            last = rows[-self.window :] if self.window else rows
            norms, bends = [row.gradient_norm for row in last], [row.smoothness for row in last]
            fit = fit_smoothness(norms, bends, torch.Generator().manual_seed(0))
        return Smoothness(
            losses=tuple(row.loss for row in rows),
            gradient_norms=tuple(row.gradient_norm for row in rows),
            smoothness=tuple(row.smoothness for row in rows),
            effective_smoothness=tuple(row.effective_smoothness for row in rows),
            loss_ranges=tuple(row.loss_range for row in rows),
            gradient_ranges=tuple(row.gradient_range for row in rows),
            step_sizes=tuple(row.step_size for row in rows),
            fit=fit,
        )
