"""A recipe trained for an estimator, which keeps no folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deepforward.data import Dataset
from deepforward.engine import Recipe, fit
from deepforward.engine.assembly import Parts
from deepforward.errors import Diverged


def train(recipe: Recipe, data: Dataset, *, verbose: int = 0) -> tuple[Parts, list[dict[str, float]]]:
    """Run the engine in a folder that does not stay: the trained parts, and a mapping for each epoch.

    Raises:
        Diverged: Training led to numbers that are not finite.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = fit(recipe, Path(folder) / "run", quiet=not verbose, data=data, throwaway=True)
        except Diverged as error:  # its advice names the folder, which is about to go
            raise Diverged(f"{str(error).partition(';')[0]}; lower the learning rate") from None
        return run.parts(), run.history
