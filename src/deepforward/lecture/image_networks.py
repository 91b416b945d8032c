"""What claims about images share: networks trained to be applied to whole images, and pictures as rows of a table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepforward.data import Dataset
from deepforward.engine import Recipe, fit
from deepforward.engine.evaluation import looking
from deepforward.lecture.claim import Table, entries

#: A trained network: images (batch, channels, height, width) in the units of its data -> its outputs.
Network = Callable[[Tensor], Tensor]


def trained(model: str, data: Dataset, rng: torch.Generator, **fields: Any) -> Network:
    """The network that the card `model` trains on `data`, on one thread of the CPU.

    Args:
        model: Name of a card.
        data: What to train on; its test split chooses nothing.
        rng: Draws the seed of the run.
        fields: Of the recipe, where they differ from the card's.
    """
    seed = int(torch.randint(2**31, (), generator=rng))
    usual: dict[str, Any] = {"validation": 0.0, "device": "cpu", "threads": 1, "compile": "off", "probe_budget": 0.0}
    recipe = Recipe(model=model, data=data.name, seed=seed, **{**usual, **fields})
    with tempfile.TemporaryDirectory() as folder:
        parts = fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True).parts()

    def apply(images: Tensor) -> Tensor:
        with looking(parts), parts.arithmetic.autocast():
            outputs = parts.model(parts.arithmetic.place(parts.scaling(images)))
        return outputs.float().contiguous().clone()

    return apply


def picture_rows(name: str, image: Tensor) -> Iterator[dict[str, Any]]:
    """Rows of a table that hold a grey image (height, width) with values in [0, 1]: a byte a pixel, in hexadecimal."""
    grey = (255 * image.float()).round().clamp(0, 255).to(torch.uint8)
    for y, row in enumerate(grey.numpy()):
        yield {"quantity": f"picture of {name}", "at": y, "value": row.tobytes().hex()}


def picture(table: Table, name: str) -> np.ndarray:
    """The image that `picture_rows` put into a table, (1, height, width) uint8."""
    rows = entries(table, f"picture of {name}").values()
    return np.stack([np.frombuffer(bytes.fromhex(row), np.uint8) for row in rows])[None]
