"""What all estimators have in common: how they store parameters, train on, score, and what they tell scikit-learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from torch import Tensor

from deepforward.estimators.arrays import tensor_of


class Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A transformer that can train on and score.

    Subclasses are data classes: their fields, and nothing else that is annotated in the class, are the parameters.
    """

    #: Constructors store whatever they are given, as scikit-learn's contract wants; `fit` looks at it. Checkers at run time
    #: therefore leave them alone; for mypy their annotations hold.
    __no_type_check__: ClassVar[bool] = True

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Train on with `X`, (examples, features); `y` is ignored. The first call begins."""
        is_first = not hasattr(self, "model_")
        inputs = tensor_of(self, X, reset=is_first)
        if is_first:
            self._begin(inputs)
        self._go_on(inputs)
        return self

    @abstractmethod
    def score_samples(self, X: Any) -> np.ndarray:
        """How well the model knows each example, in float64; more is better."""

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`; more is better."""
        return float(self.score_samples(X).mean())

    @abstractmethod
    def _begin(self, inputs: Tensor) -> None:
        """Make what `inputs` are the first data of."""

    @abstractmethod
    def _go_on(self, inputs: Tensor) -> None:
        """Train on what there is."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
