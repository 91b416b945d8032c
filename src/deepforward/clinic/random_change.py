"""A change drawn at random: what a repair must be held against, since automatic ones were found no better than such."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from deepforward.data import Dataset
from deepforward.engine import Recipe
from deepforward.engine.assembly import assemble
from deepforward.engine.device import choose_device
from deepforward.engine.randomness import isolated
from deepforward.errors import DeepforwardError, NoEffect
from deepforward.layers.activations import ACTIVATIONS

#: Draws that may be refused, since they do not fit the network or change nothing, before the search is given up.
_DRAWS = 50


def random_change(recipe: Recipe, data: Dataset, rng: torch.Generator) -> tuple[str, Recipe]:
    """Change one thing that people change, to a random value.

    With equal chances: weights drawn anew (critical, orthogonal or He), batch normalisation, skips of any scale from 0.05 to 2,
    another activation, the rate times 1/30 to 30, the batch times 1/4 to 4, a clipping norm from 0.1 to 10, a weight decay from
    1e-6 to 1e-2, another scaling of the inputs.

    Args:
        recipe: A complete recipe.
        data: Its data.
        rng: Source of the draws.

    Returns:
        The change in words, and the changed recipe, which can be built.

    Raises:
        NoEffect: No draw of fifty fits the recipe.

    Source: Kim, Humbatova, Jahangirova, Tonella, Yoo 2023, Repairing DNN architecture: are we there yet?
    """
    kinds = list(_CHANGES)
    for _ in range(_DRAWS):
        kind = kinds[int(torch.randint(len(kinds), (), generator=rng))]
        try:
            changed = recipe.replace(**_CHANGES[kind](recipe, rng))
            if changed == recipe:
                continue
            with isolated(changed.seed, choose_device(changed.device)):
                assemble(changed, data)
        except DeepforwardError:
            continue  # it does not fit this network: another
        return _words(recipe, changed), changed
    raise NoEffect(f"none of {_DRAWS} random changes fits {recipe.model} on {recipe.data}; compare without one")


def _words(before: Recipe, after: Recipe) -> str:
    (field,) = before.differences(after)
    value = after.alterations[-1] if field == "alterations" else getattr(after, field)
    return f"{field} {value:.3g}" if isinstance(value, float) else f"{field} {value}"


def _choice(rng: torch.Generator, *values: str) -> str:
    return values[int(torch.randint(len(values), (), generator=rng))]


def _between(rng: torch.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform, to three digits."""
    share = float(torch.rand((), generator=rng))
    return float(f"{math.exp(math.log(low) + share * math.log(high / low)):.3g}")


def _altered(text: str, recipe: Recipe) -> dict[str, Any]:
    return {"alterations": (*recipe.alterations, text)}


def _rate(recipe: Recipe, rng: torch.Generator) -> dict[str, Any]:
    rate = recipe.learning_rate
    return {"learning_rate": rate * _between(rng, 1 / 30, 30.0)} if isinstance(rate, (int, float)) else {}


#: Kind -> the fields that change, drawn.
_CHANGES: Mapping[str, Callable[[Recipe, torch.Generator], dict[str, Any]]] = {
    "weights": lambda recipe, rng: _altered(
        _choice(rng, "critical-initialization", "critical-initialization?orthogonal=true", "he-initialization"), recipe
    ),
    "normalisation": lambda recipe, rng: _altered("batch-normalization", recipe),
    "skips": lambda recipe, rng: _altered(f"residual?scale={_between(rng, 0.05, 2.0)}", recipe),
    "activation": lambda recipe, rng: _altered(f"activation?name={_choice(rng, *ACTIVATIONS)}", recipe),
    "rate": _rate,
    "batch": lambda recipe, rng: {"batch_size": max(1, round((recipe.batch_size or 1) * _between(rng, 0.25, 4.0)))},
    "clipping": lambda recipe, rng: {"clip": _between(rng, 0.1, 10.0)},
    "decay": lambda recipe, rng: {"weight_decay": _between(rng, 1e-6, 1e-2)},
    "scaling": lambda recipe, rng: {"scaling": _choice(rng, "none", "standardise", "min-max", "softmax")},
}
