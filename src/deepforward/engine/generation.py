"""Draws from a trained model: new examples, and examples of which a part is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward import catalogue
from deepforward.engine.assembly import Parts
from deepforward.errors import InvalidModel, InvalidOption
from deepforward.objectives.energy_portrait import known_half


@dataclass(frozen=True)
class Completions:
    """Test examples of which a part was taken away and drawn again.

    Attributes:
        truth: The examples, in the units of the data.
        completed: The same where known, else the mean of the model's last sweep.
        known: 1 where a value was given, else 0.
    """

    truth: Float[Tensor, "examples *shape"]
    completed: Float[Tensor, "examples *shape"]
    known: Float[Tensor, "*shape"]


def sample(parts: Parts, count: int, steps: int, seed: int) -> Float[Tensor, "count *shape"]:
    """New examples from chains of the model that begin at independent units.

    Args:
        parts: A trained model and its scaling.
        count: Number of chains, each of which gives one example.
        steps: Gibbs sweeps of each.
        seed: Fixes the draws.

    Returns:
        Means of the visible units after the last sweep, in the units of the data, on the CPU.

    Raises:
        InvalidOption: A number is out of range.
        InvalidModel: The model has no chains.
    """
    _check(count=count, steps=steps)
    model, rng = _with_chains(parts), _rng(parts, seed)
    with torch.inference_mode():
        means = model.mean_visible(model.advance(model.start(count, rng), rng, steps))
        return parts.unscaled(means)


def complete(parts: Parts, given: str, count: int, steps: int, seed: int) -> Completions:
    """Draw the missing half of test examples, the other half held fast.

    Args:
        parts: A trained model, its scaling and data.
        given: The half that is known: `upper`, `lower`, `left` or `right`.
        count: How many test examples, evenly spread over the split; all, where there are fewer.
        steps: Gibbs sweeps of each.
        seed: Fixes the draws.

    Raises:
        InvalidOption: A number is out of range.
        InvalidModel: The model cannot fill in.
        UnknownName: Another half.
        ShapeError: The examples are no images.
    """
    _check(count=count, steps=steps)
    model, rng = _with_chains(parts), _rng(parts, seed)
    if not hasattr(model, "fill"):
        raise InvalidModel(
            f"a run of '{parts.recipe.model}' samples but cannot fill in what is missing; expected two layers, as rbm has; "
            "leave --given out"
        )
    known = known_half(parts.data.shape, given)
    test = parts.data.test.spread(count)
    with torch.inference_mode():
        inputs = parts.batch(test).inputs
        seen = model.realise(model.visible(inputs), getattr(parts.objective, "binarize", "none"), rng)
        filled = model.fill(seen, known.flatten().to(seen).expand_as(seen), rng, steps=steps)
        truth, drawn = test.inputs.float().cpu(), parts.unscaled(filled)
    return Completions(truth, torch.where(known > 0, truth, drawn), known)


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidOption(f"sampling got {name}={value!r}; expected a whole number of at least 1")


def _with_chains(parts: Parts) -> Any:
    if not _has_chains(parts.model):
        able = ", ".join(card.name for card in catalogue.cards("models") if _has_chains(card.load()))
        raise InvalidModel(f"a run of '{parts.recipe.model}' has no chains to sample from; expected a run of one of: {able}")
    return parts.model


def _has_chains(model: object) -> bool:
    return all(hasattr(model, method) for method in ("start", "advance", "mean_visible"))


def _rng(parts: Parts, seed: int) -> torch.Generator:
    return torch.Generator(parts.arithmetic.device.type).manual_seed(seed)
