"""What the estimators of networks have in common: a recipe of any model, trained by the one engine."""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from deepforward.data import Dataset, Split
from deepforward.engine import Recipe
from deepforward.errors import ShapeError
from deepforward.estimators.arrays import images_of, python_number, seed_of, tensor_of
from deepforward.estimators.training import train

#: Examples a forward pass.
_CHUNK = 256


@dataclass(eq=False, repr=False, kw_only=True)
class NetworkEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """A network of the zoo, or one's own, trained by a recipe whose fields are the parameters.

    Attributes:
        recipe_: The complete recipe of the last fit.
        model_: The trained module; it takes scaled examples.
        scaling_: The fitted scaling before it.
        history_: One mapping an epoch.
        shape_: Shape of one example.
    """

    #: Constructors store whatever they are given, as scikit-learn's contract wants; `fit` looks at it. Checkers at run time
    #: therefore leave them alone; for mypy their annotations hold.
    __no_type_check__: ClassVar[bool] = True

    model: str = "perceptron"
    model_options: Mapping[str, Any] | None = None
    input_shape: Sequence[int] | None = None
    scaling: str | None = None
    augmentation: Sequence[str] = ()
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    learning_rate: float | str | None = None
    weight_decay: float | None = None
    validation_fraction: float = 0.0
    patience: int | None = None
    device: str = "auto"
    verbose: int = 0
    random_state: Any = None

    def _train(self, inputs: Tensor, targets: Tensor, classes: tuple[str, ...]) -> None:
        """Train anew on examples (examples, *shape)."""
        split = Split(inputs, targets)
        data = Dataset("given", split, split.spread(1), classes)  # an estimator has no use for a test split
        parts, self.history_ = train(self._recipe().complete(data.task), data, verbose=self.verbose)
        self.recipe_, self.scaling_, self.shape_ = parts.recipe, parts.scaling, data.shape
        self.model_: Any = parts.model.eval()

    def _recipe(self) -> Recipe:
        """All that fixes the training, as plain values; the data are given with it."""
        return Recipe(
            model=self.model,
            model_options=dict(self.model_options or {}),
            data="given",
            scaling=self.scaling,
            augmentation=tuple(self.augmentation),
            epochs=python_number(self.epochs),
            batch_size=python_number(self.batch_size),
            optimizer=self.optimizer,
            learning_rate=python_number(self.learning_rate),
            weight_decay=python_number(self.weight_decay),
            validation=python_number(self.validation_fraction),
            patience=python_number(self.patience),
            device=self.device,
            probe_budget=0.0,
            seed=seed_of(self.random_state),
        )

    def _examples(self, X: Any, *, reset: bool) -> Tensor:
        """`X` as the examples that the model takes.

        Raises:
            ShapeError: Other examples than those of the fit, or columns that `input_shape` does not fit.
        """
        values = images_of(X) if np.asarray(X).ndim > 2 else tensor_of(self, X, reset=reset)
        if reset and values.ndim > 2:
            self.__dict__.pop("n_features_in_", None)  # images have none, though an earlier fit may have been to a table
        if values.ndim == 2 and self.input_shape is not None:
            shape = tuple(self.input_shape)
            if values.shape[1] != torch.Size(shape).numel():
                got = f"{values.shape[1]} columns and input_shape={shape}"
                raise ShapeError(f"X: got {got}; expected {torch.Size(shape).numel()} columns for it; change either")
            values = values.reshape(-1, *shape)
        if not reset and tuple(values.shape[1:]) != self.shape_:
            raise ShapeError(f"X: got examples of shape {tuple(values.shape[1:])}; expected {self.shape_} as in fit")
        return values

    def _outputs(self, X: Any) -> Tensor:
        """What the model gives for each example, in float64, whose rounding is too small to tell which others stood beside."""
        check_is_fitted(self, "model_")
        examples = self._examples(X, reset=False)
        # Apple's devices lack float64.
        exact, scaling = (copy.deepcopy(module).cpu().double() for module in (self.model_, self.scaling_))
        with torch.no_grad():
            return torch.cat([exact(scaling(chunk.double())) for chunk in examples.split(_CHUNK)])
