"""A network that tells ink from paper, with the surface of scikit-learn."""

from __future__ import annotations

import tempfile
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted
from torch import Tensor

from deepforward.data import Dataset, Split
from deepforward.engine import Recipe, fit
from deepforward.engine.prediction import PAGE, tiled
from deepforward.errors import InvalidData
from deepforward.estimators.arrays import python_number, seed_of
from deepforward.metrics.binarization import f_measure


@dataclass(eq=False, repr=False)
class Binarizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learns from pages and masks of their ink, and gives the masks of other pages, of any size.

    Args:
        n_iter: Passes over the pages.
        batch_size: Pages a step.
        learning_rate: Peak rate of AdamW.
        channels: Maps of the two stages of the network.
        depth: Convolutions of its second stage after the one that halves.
        validation_fraction: Share of the pages held out to choose the best epoch by; 0 keeps the last.
        device: `auto`, `cpu`, `cuda` or `mps`.
        verbose: Whether progress is shown.
        random_state: Fixes weights and order: None, a whole number or a `RandomState`.

    Attributes:
        recipe_: The complete recipe of the last fit.
        model_: The trained module; it takes scaled pages (pages, 1, height, width).
        scaling_: The fitted scaling before it.
        history_: One mapping an epoch.

    Source: Peng, Cao, Natarajan 2017 (see `deepforward.models.binarization`).
    """

    #: Constructors store whatever they are given, as scikit-learn's contract wants; `fit` looks at it.
    __no_type_check__: ClassVar[bool] = True

    n_iter: int = 30
    _: KW_ONLY
    batch_size: int = 4
    learning_rate: float = 3e-3
    channels: tuple[int, int] = (32, 64)
    depth: int = 2
    validation_fraction: float = 0.0
    device: str = "auto"
    verbose: int = 0
    random_state: Any = None

    def fit(self, X: Any, y: Any) -> Any:
        """Train anew.

        Args:
            X: Pages (pages, height, width), uint8 or floating point, in any units; later ones must be in the same.
            y: Masks of the same shape: 1 or True where there is ink, 0 where not, 255 where it is not known.

        Returns:
            The estimator itself.

        Raises:
            ValueError: The arrays are no pages and masks of one shape, or have values that are not finite.
            InvalidData: Masks with other values, or all of one class. Like `InvalidOption`, it is a `ValueError`.
            InvalidOption: A parameter out of range.
            Diverged: Training led to numbers that are not finite.
        """
        inputs, masks = _pages(X), _masks(y)
        check_consistent_length(X, y)
        pages = Split(inputs, masks)
        data = Dataset("X", pages, pages.select(torch.arange(1)), PAGE)
        with tempfile.TemporaryDirectory() as folder:
            run = fit(self._recipe(), Path(folder) / "run", quiet=not self.verbose, data=data, throwaway=True)
            parts, self.history_ = run.parts(), run.history
        self.recipe_, self.model_, self.scaling_ = parts.recipe, parts.model, parts.scaling
        # What is kept knows the size of the pages, not the pages.
        size = inputs.shape[2:]
        corner = torch.zeros(1, *size, dtype=torch.uint8)
        corner[0, 0, 0] = PAGE.index("ink")
        blank = Split(torch.zeros(1, 1, *size, dtype=torch.uint8), corner)
        self._parts = replace(
            parts, data=Dataset("X", blank, blank, PAGE), train=blank, validation=None, optimizers={}, forward=parts.model
        )
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Where there is ink: (pages, height, width), bool.

        Args:
            X: Pages (pages, height, width) in the units of those of the fit, of any size.

        Raises:
            ValueError: The array is no stack of pages, or has values that are not finite.
        """
        check_is_fitted(self, "model_")
        found = [tiled(self._parts, page).argmax(0) == PAGE.index("ink") for page in _pages(X)]
        return torch.stack(found).numpy()

    def transform(self, X: Any) -> np.ndarray:
        """What `predict` gives."""
        return self.predict(X)

    def score(self, X: Any, y: Any) -> float:
        """Mean over the pages of the F-measure, in percent; pixels whose mask is 255 do not count.

        Raises:
            ValueError: As `fit`.
        """
        masks = _masks(y)
        known, found = masks != 255, torch.from_numpy(self.predict(X))
        check_consistent_length(X, y)
        pairs = zip(found & known, (masks == 1) & known, strict=True)
        return float(np.mean([f_measure(page, truth) for page, truth in pairs]))

    def _recipe(self) -> Recipe:
        return Recipe(
            model="binarization-network",
            model_options={"channels": [python_number(c) for c in self.channels], "depth": python_number(self.depth)},
            data="X",
            epochs=python_number(self.n_iter),
            batch_size=python_number(self.batch_size),
            learning_rate=python_number(self.learning_rate),
            validation=python_number(self.validation_fraction),
            device=self.device,
            probe_budget=0.0,
            seed=seed_of(self.random_state),
        )


def _pages(X: Any) -> Tensor:
    """(pages, 1, height, width), uint8 where the pages are, else float32."""
    is_bytes = getattr(X, "dtype", None) == np.uint8
    array = check_array(X, dtype=np.uint8 if is_bytes else np.float32, allow_nd=True)
    return torch.from_numpy(np.require(_stack(array, "X"), requirements=["C", "W"]))[:, None]


def _masks(y: Any) -> Tensor:
    array = _stack(check_array(y, dtype=None, allow_nd=True), "y")
    masks = array.astype(np.uint8)
    if not np.array_equal(masks, array):
        raise InvalidData(f"y: got values such as {array[masks != array].flat[0]}; expected 0 paper, 1 ink, 255 unknown")
    return torch.from_numpy(masks)


def _stack(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim != 3:
        raise InvalidData(f"{name}: got an array of shape {array.shape}; expected (pages, height, width)")
    return array
