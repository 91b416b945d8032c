"""Examples as a trained model sees them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.data import Split
from deepforward.engine.assembly import Parts
from deepforward.engine.evaluation import chunks, looking
from deepforward.errors import InvalidModel


def embed(parts: Parts, split: Split) -> Float[Tensor, "examples features"]:
    """What the model makes of each example of `split`, flattened, on the CPU.

    It is what the model's `features(inputs)` gives, if it has that, else its outputs; in evaluation mode and full precision.

    Args:
        parts: A trained model and its scaling.
        split: Raw examples.

    Raises:
        ShapeError: The examples have another shape than those of the run.
        InvalidModel: The model gives something else than one tensor with a row for each example.
    """
    features = getattr(parts.model, "features", None)
    forward = features if callable(features) else parts.model
    with looking(parts):
        rows = [_rows(forward(chunk.inputs), parts) for chunk in chunks(parts, split)]
    found = torch.cat(rows)
    if len(found) != len(split):
        raise InvalidModel(f"'{parts.recipe.model}' gives {len(found)} rows for {len(split)} examples; expected one for each")
    return found


def _rows(outputs: object, parts: Parts) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.ndim < 1:
        raise InvalidModel(
            f"'{parts.recipe.model}' gives {type(outputs).__name__}; expected a tensor with a row for each example; "
            "give it a method features(inputs) that returns one"
        )
    return outputs.float().reshape(len(outputs), -1).cpu()
