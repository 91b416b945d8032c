"""Learning-rate finder: a short sweep of rising rates on a fresh copy of the run."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import cycle

import torch

from deepforward.data import Dataset, load
from deepforward.engine.assembly import Parts, assemble, build_optimizer
from deepforward.engine.batches import draw_batches
from deepforward.engine.device import choose_device, threads
from deepforward.engine.randomness import isolated, stream
from deepforward.engine.recipe import Recipe
from deepforward.engine.step import Stepper
from deepforward.errors import Diverged


@dataclass(frozen=True)
class LearningRateSearch:
    """What the finder saw.

    Attributes:
        learning_rate: The rate it advises.
        rates: Rates tried, rising geometrically.
        losses: Smoothed training loss after each.
        gradient_norms: Global gradient norm at each.
    """

    learning_rate: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]


def find_learning_rate(recipe: Recipe, data: Dataset | None = None) -> LearningRateSearch:
    """Sweep the learning rate for a recipe without training it.

    Raises:
        Diverged: The loss is not finite at the very first steps, whatever the rate.
        InvalidOption: The loss of the objective tells no progress.
        DeepforwardError: Anything in the recipe that does not fit.

    Source: Smith 2017, Cyclical learning rates for training neural networks, section 3.3.
    """
    data = data or load(recipe.data)
    recipe = recipe.complete(data.task).replace(learning_rate="find")
    with isolated(recipe.seed, choose_device(recipe.device)):
        parts = assemble(recipe, data)
        with threads(parts.arithmetic.threads):
            return sweep(parts, recipe)


def sweep(parts: Parts, recipe: Recipe, low: float = 1e-6, high: float = 10.0, steps: int = 120) -> LearningRateSearch:
    """Train copies of model and optimisers for `steps` steps at rates from `low` to `high`; `parts` is left as it was.

    The advice is a third of the rate at which the smoothed loss is lowest, which is where it is about to rise: the loss lags
    behind the rate, so the minimum itself is already too high. The sweep stops once the loss is twice its start above its best.
    """
    model = copy.deepcopy(parts.model)
    optimizers = {role: build_optimizer(recipe, model.get_submodule(role), parts.arithmetic) for role in parts.objective.roles}
    trial = Parts(**{**vars(parts), "model": model, "forward": model, "optimizers": optimizers})
    trial.objective = copy.deepcopy(parts.objective)
    model.train()
    device = parts.arithmetic.device
    with isolated(recipe.seed, device):
        return _sweep(trial, recipe, [low * (high / low) ** (i / (steps - 1)) for i in range(steps)])


def _sweep(parts: Parts, recipe: Recipe, ladder: list[float]) -> LearningRateSearch:
    rng = stream(recipe.seed, "order")
    stepper = Stepper(parts, stream(recipe.seed, "objective", parts.arithmetic.device.type))
    chunks = cycle(draw_batches(len(parts.train), recipe.batch_size or 1, rng)[: len(ladder)])
    rates, losses, norms = [], [], []
    mean, best = 0.0, math.inf
    for i, (rate, indices) in enumerate(zip(ladder, chunks, strict=False)):
        stepper.set_rate(rate)
        try:
            log = stepper.step(parts.batch(parts.train, indices), _require_finite, measure=True)
        except Diverged:
            break
        mean = 0.9 * mean + 0.1 * float(log["loss"])
        smooth = mean / (1 - 0.9 ** (i + 1))
        rates.append(rate)
        losses.append(smooth)
        norms.append(float(log["gradient_norm"]))
        best = min(best, smooth)
        if i > 10 and smooth > best + 2 * abs(losses[0]):
            break
    if len(rates) < 10:
        raise Diverged("the loss is not finite even at tiny rates; look at data and initialisation with `deepforward diagnose`")
    lowest = min(range(len(losses)), key=losses.__getitem__)
    return LearningRateSearch(rates[lowest] / 3, tuple(rates), tuple(losses), tuple(norms))


def _require_finite(loss: torch.Tensor) -> None:
    if not math.isfinite(loss.item()):
        raise Diverged(f"loss became {loss.item()}")
