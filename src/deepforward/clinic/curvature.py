"""How fast the gradient turns along the way, and the clipping threshold that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from deepforward.data import Dataset
from deepforward.engine import Recipe
from deepforward.engine.assembly import Parts, assemble
from deepforward.engine.device import choose_device, threads
from deepforward.engine.randomness import isolated, stream
from deepforward.errors import NoEffect

#: Longest update, in units of the length over which the gradient changes by as much as itself. The theory proves 1; 2 to 4
#: trained best on three measured problems.
KAPPA = 3.0

#: Ratio of the largest to the smallest gradient norm without which L1 cannot be told from L0.
_SPREAD = 3.0


@dataclass(frozen=True)
class ClipThreshold:
    """A norm to clip at, and what it was concluded from.

    Attributes:
        threshold: Norm of the gradient.
        rule: `kappa / (L1 rate)` where L1 was identified, else `kappa median(|g| / L) / rate`.
        gradient_norms: |g| at the probed points.
        smoothness: L there: largest |g(y) - g(x)| / |y - x| for y on the next update.
    """

    threshold: float
    rule: str
    gradient_norms: tuple[float, ...]
    smoothness: tuple[float, ...]


def clip_threshold(recipe: Recipe, data: Dataset, steps: int = 24) -> ClipThreshold:
    """Measure the threshold at which an update is KAPPA times as long as the gradient takes to change by its own size.

    Under (L0, L1)-smoothness L = L0 + L1 |g|, that length is 1 / L1 where |g| is large, so the threshold of the gradient is
    kappa / (L1 * rate). With momentum m the rate is rate / (1 - m).

    Args:
        recipe: A complete recipe with a number for a rate and a plain gradient method.
        data: Its data.
        steps: Points to probe along plain gradient descent at the safe step 1 / L; each costs four passes.

    Raises:
        NoEffect: An adaptive optimiser, which divides the gradient's norm out again, or no rate yet, or a rate of 0.

    Source: Zhang, He, Sra, Jadbabaie 2020, Why gradient clipping accelerates training, theorem 3 and section 5.
    """
    rate = recipe.learning_rate
    if recipe.optimizer != "sgd" or not isinstance(rate, (int, float)):
        raise NoEffect(
            f"got {recipe.optimizer} at rate {rate}; clipping is measured for sgd at a given rate; choose another cure"
        )
    if not rate:
        raise NoEffect("got a rate of 0, at which nothing moves, clipped or not; choose another prescription")
    rate = rate / (1.0 - (recipe.optimizer_options or {}).get("momentum", 0.0))
    with isolated(recipe.seed, choose_device(recipe.device)):
        parts = assemble(recipe, data)
        with threads(parts.arithmetic.threads):
            norms, smoothness = _along_the_way(parts, steps)
    slope = _identified_slope(norms, smoothness, np.random.default_rng(recipe.seed))
    length = 1.0 / slope if slope else float(np.median(norms / smoothness))
    rule = "kappa / (L1 rate)" if slope else "kappa median(|g| / L) / rate"
    threshold = float(f"{KAPPA * length / rate:.3g}")
    return ClipThreshold(threshold, rule, tuple(norms.tolist()), tuple(smoothness.tolist()))


def _along_the_way(parts: Parts, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """|g| and L at the points of a short descent, the same batch at both ends of each difference."""
    parameters: list[Tensor] = [p for p in parts.model.parameters() if p.requires_grad]
    order = torch.randperm(len(parts.train), generator=stream(parts.recipe.seed, "order"))
    size = parts.recipe.batch_size or 1
    norms, smoothness = [], []
    length = 1e-3 * float(_norm([p.detach() for p in parameters]))  # a first step short beside the weights
    parts.model.train()
    for k in range(steps):
        start = k * size % max(1, len(order) - size)
        gradient = _gradient(parts, parameters, order[start : start + size])
        norm = float(_norm(gradient))
        if not 0 < norm < float("inf"):
            break
        bend = _bend(parts, parameters, gradient, order[start : start + size], length / norm)
        if not 0 < bend < float("inf"):
            break
        norms.append(norm)
        smoothness.append(bend)
        length = norm / bend
    if len(norms) < 3:
        raise NoEffect("the gradient vanishes or is not finite: no threshold can be measured; choose another prescription")
    return np.array(norms), np.array(smoothness)


def _bend(parts: Parts, parameters: list[Tensor], gradient: list[Tensor], indices: Tensor, step: float) -> float:
    """Walk the step in thirds; the largest change of the gradient over the distance walked."""
    largest = 0.0
    for third in (1, 2, 3):
        with torch.no_grad():
            torch._foreach_add_(parameters, gradient, alpha=-step / 3)
        there = _gradient(parts, parameters, indices)
        change = float(_norm([a - b for a, b in zip(there, gradient, strict=True)]))
        largest = max(largest, change / (step * third / 3 * float(_norm(gradient))))
    return largest


def _gradient(parts: Parts, parameters: list[Tensor], indices: Tensor) -> list[Tensor]:
    rng = stream(parts.recipe.seed, "objective", parts.arithmetic.device.type)
    signal = next(iter(parts.objective.signals(parts.model, parts.batch(parts.train, indices), rng)))
    found = torch.autograd.grad(signal.loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def _identified_slope(norms: np.ndarray, smoothness: np.ndarray, rng: np.random.Generator) -> float:
    """L1 of the fit L = L0 + L1 |g| with L0, L1 >= 0, or 0 where it is not identified.

    It is not if the norms hardly vary, if L1 |g| is nowhere the larger part of L, or if 5% of bootstrap fits have none.
    """

    def fit(index: np.ndarray) -> float:
        design = np.stack([np.ones(len(index)), norms[index]], axis=1)
        return float(nnls(design, smoothness[index])[0][1])

    slope = fit(np.arange(len(norms)))
    if norms.max() < _SPREAD * norms.min() or slope * norms.max() < smoothness.max() / 2:
        return 0.0
    draws = [fit(rng.integers(len(norms), size=len(norms))) for _ in range(200)]
    return slope if np.quantile(draws, 0.05) > 0 else 0.0
