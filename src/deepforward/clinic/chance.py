"""What a model that ignores its input can reach: the level from which progress is measured."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.data.checks import IGNORED
from deepforward.models.energy.grouped_units import SoftmaxUnits
from deepforward.models.energy.units import BinaryUnits, GaussianUnits, Units


class Span(NamedTuple):
    """Between which losses a model moves.

    Attributes:
        chance: What a model reaches that ignores how its inputs hang together.
        floor: What no model can go below.
    """

    chance: float
    floor: float


def is_likelihood(objective: str) -> bool:
    """Whether an objective is about how likely its examples are: its metric says so, or it makes them values of visible units.

    Args:
        objective: Name of the objective's card, "" if none is known.
    """
    return objective != "" and (
        catalogue.load("objectives", objective).metric.startswith("log_likelihood") or binarizing(objective, {}) is not None
    )


def binarizing(objective: str, options: Mapping[str, Any]) -> str | None:
    """How an objective makes data values of the visible units, or None if it does not.

    Args:
        objective: Name of the objective's card.
        options: Its keyword arguments.
    """
    option = inspect.signature(catalogue.load("objectives", objective)).parameters.get("binarize")
    return None if option is None else str(options.get("binarize", option.default))


def guess(objective: str) -> str:
    """What a model knows that reaches the chance level of an objective, in words.

    Args:
        objective: Name of the objective's card, "" if none is known.
    """
    if is_likelihood(objective):
        return "the rate of each unit"
    tasks = catalogue.card("objectives", objective).details.get("tasks", ()) if objective else ("classification",)
    return "class frequency" if {"classification", "segmentation"} & set(tasks) else "the mean"


def chance_level(objective: str, options: Mapping[str, Any], targets: Tensor) -> float | None:
    """Training loss of the best constant output.

    - `cross-entropy`: entropy of the class frequencies, -sum p log p, nats.
    - `pixel-cross-entropy`: the same of the class frequencies of the pixels.
    - `squared-error`: variance of the targets; of images, that of each pixel about its own mean, averaged over the pixels.
    - `mse-one-hot`: (high - low)^2 times the mean of p (1 - p).

    Args:
        objective: Name of the objective's card.
        options: Its keyword arguments.
        targets: Targets of the training split.

    Returns:
        The level, or None for an objective whose chance level is not known.
    """
    if objective == "squared-error":
        return float(targets.double().var(0, correction=0).mean())
    if objective not in ("cross-entropy", "pixel-cross-entropy", "mse-one-hot"):
        return None
    known = targets[targets != IGNORED] if objective == "pixel-cross-entropy" else targets
    p = torch.bincount(known.flatten().long()).double() / known.numel()
    if objective.endswith("cross-entropy"):
        return float(torch.special.entr(p).sum())
    span = options.get("high", 1.0) - options.get("low", -1.0)
    return float(span**2 * (p * (1 - p)).mean())


def likelihood_span(model: nn.Module, binarize: str, inputs: Tensor) -> Span | None:
    """Negative log-likelihood of independent units fitted to the data, and the least that any model of such units has.

    - Binary units with values drawn from x in [0, 1]: chance is the sum over the units of H(mean x), H(p) = -p log p - (1 - p)
      log(1 - p): the cross-entropy in expectation over the draws. A draw carries the noise H(x) of its own, which no model
      foretells: the floor is the mean over the examples of the sum of H(x), and chance - floor is what the units tell about
      each other. With `none`, x itself stands for the draw: log p is convex in x, so -log p(x) is at least that of the draws,
      and the floor holds for it, too. With `threshold` there is no noise, and the floor is 0.
    - Softmax units: the same with H = -sum p log p over each group.
    - Gaussian units of precision 1: chance is the sum of (log 2 pi + variance) / 2, and the density of a mixture of such
      normals is nowhere above that of one at its mean, so the floor is the sum of (log 2 pi) / 2. What lies between is half the
      variance. A precision that is learnt has no floor, since a density may grow without end.

    Args:
        model: The built model; its visible units tell of what kind the values are.
        binarize: How data become values of the visible units (option of the objective).
        inputs: Scaled training examples.

    Returns:
        Both in nats an example, or None where the visible units are of another kind.
    """
    units, values = _visible_units(model), inputs.flatten(1).double()
    size = getattr(model, "num_visible", None) or getattr(units, "size", None)
    if type(units) is GaussianUnits and not units.log_precision.requires_grad:
        constant = 0.5 * math.log(2 * math.pi) * values.shape[1]
        return Span(constant + 0.5 * float(values.var(0, correction=0).sum()), constant)
    if not isinstance(units, (BinaryUnits, SoftmaxUnits)) or values.shape[1] != size:
        return None
    if binarize == "threshold":
        values = units.realised(values, binarize, torch.Generator())  # nothing is drawn
    chance, noise = (_entropy(units, p).sum(1) for p in (values.mean(0, keepdim=True), values))
    return Span(float(chance.mean()), float(noise.mean()))


def _visible_units(model: nn.Module) -> Units | None:
    """The kind of the visible units; a Boltzmann machine holds them and the hidden ones as one layer of units of one kind."""
    own = getattr(model, "data_units", None) or getattr(model, "visible_units", None)
    return own or next((module for module in model.modules() if isinstance(module, Units)), None)


def _entropy(units: BinaryUnits | SoftmaxUnits, p: Tensor) -> Tensor:
    """Entropy of each value's own part, nats: of both outcomes of a binary unit, of one category of a softmax unit."""
    return torch.special.entr(p) + (torch.special.entr(1 - p) if isinstance(units, BinaryUnits) else 0.0)
