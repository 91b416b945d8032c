"""The clipping threshold that follows from how fast the gradient turns along the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from deepforward.data import Batch, Dataset
from deepforward.engine import Recipe
from deepforward.engine.assembly import Parts, assemble
from deepforward.engine.device import choose_device, threads
from deepforward.engine.randomness import isolated, stream
from deepforward.errors import NoEffect
from deepforward.instruments import LocalSmoothness, Smoothness
from deepforward.theory import Clipping, largest_stable_rate, theorem_3_parameters

#: Longest update, in units of the length over which the gradient changes by as much as itself. The theory proves a tenth of 1.
#: 2 to 4 trained best on the three problems it was chosen on. On three others, at two rates each, nothing diverged from 1 to 8;
#: after 300 steps 8 was best, and the loss with 3 was 1.0 to 1.6 times that of the best of five thresholds by hand
#: (benchmarks/clip_threshold.py).
KAPPA = 3.0


@dataclass(frozen=True)
class ClipThreshold:
    """A norm to clip at, and what it was concluded from.

    Attributes:
        threshold: Norm of the gradient; infinite where no clipping is needed.
        rule: `no clipping is needed` where the rate is stable at every point, `kappa / (L1 rate)` where L1 was identified, else
            `kappa median(|g| / L) / rate`.
        measured: The walk, with the fit of L0 and L1.
        proven: Step size and threshold for which theorem 3 bounds the descent, where L0 and L1 are known: far smaller.
    """

    threshold: float
    rule: str
    measured: Smoothness
    proven: Clipping | None


def clip_threshold(recipe: Recipe, data: Dataset, steps: int = 24) -> ClipThreshold:
    """Measure the threshold at which an update is KAPPA times as long as the gradient takes to change by its own size.

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
            f"got {recipe.optimizer} at rate {rate}; clipping is measured for sgd at a given rate; see update_ratio in the "
            "readings, or choose another cure"
        )
    if not rate:
        raise NoEffect("got a rate of 0, at which nothing moves, clipped or not; choose another prescription")
    with isolated(recipe.seed, choose_device(recipe.device)):
        parts = assemble(recipe, data)
        with threads(parts.arithmetic.threads):
            measured = _along_the_way(parts, steps)
    options = recipe.optimizer_options or {}
    return threshold_of(measured, rate, options.get("momentum", 0.0), nesterov=options.get("nesterov", False))


def threshold_of(
    measured: Smoothness, rate: float, momentum: float = 0.0, *, nesterov: bool = False, kappa: float = KAPPA
) -> ClipThreshold:
    """Conclude a threshold from a walk.

    Under L = L0 + L1 |g| the gradient changes by its own size over the length |g| / L, which is 1 / L1 where |g| is large, so
    that the threshold is kappa / (L1 rate). With momentum m the longest update is that of the rate / (1 - m). Neither L0 nor L1
    alone gives a threshold, nor L0 / L1, which knows nothing of the rate.

    Args:
        measured: A walk of at least 3 steps.
        rate: Learning rate, positive.
        momentum: m in [0, 1).
        nesterov: Whether the momentum is Nesterov's.
        kappa: Longest update, in units of that length.

    Raises:
        NoEffect: The walk is shorter.
    """
    fit = measured.fit
    if fit is None:
        raise NoEffect("the gradient vanishes or is not finite: no threshold can be measured; choose another prescription")
    points = list(zip(measured.gradient_norms, measured.smoothness, strict=True))
    steepest = max(max(bend, fit.L0 + fit.L1 * norm) for norm, bend in points)
    proven = theorem_3_parameters(fit.L0, fit.L1) if fit.identified and fit.L0 > 0 else None
    if rate < largest_stable_rate(steepest, momentum, nesterov=nesterov):
        return ClipThreshold(math.inf, "no clipping is needed", measured, proven)
    if fit.identified:
        length, rule = 1.0 / fit.L1, "kappa / (L1 rate)"
    else:
        length, rule = median([norm / bend for norm, bend in points]), "kappa median(|g| / L) / rate"
    return ClipThreshold(float(f"{kappa * length * (1.0 - momentum) / rate:.3g}"), rule, measured, proven)


def _along_the_way(parts: Parts, steps: int) -> Smoothness:
    """A walk on training batches in the order of an epoch."""
    size = parts.recipe.batch_size or 1
    order = torch.randperm(len(parts.train), generator=stream(parts.recipe.seed, "order"))
    starts = [k * size % max(1, len(order) - size) for k in range(steps)]
    batches = [parts.batch(parts.train, order[start : start + size]) for start in starts]
    parts.model.train()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        rng = stream(parts.recipe.seed, "objective", parts.arithmetic.device.type)
        return next(iter(parts.objective.signals(model, batch, rng))).loss

    return LocalSmoothness(steps, beyond=()).measure(parts.model, batches, loss)
