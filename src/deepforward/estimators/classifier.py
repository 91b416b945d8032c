"""Classification by any network with the surface of scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from deepforward.errors import InvalidData
from deepforward.estimators.network import NetworkEstimator


@dataclass(eq=False, repr=False, kw_only=True)
class NetworkClassifier(ClassifierMixin, NetworkEstimator):  # type: ignore[misc]
    """Any network of the zoo, or one's own, as a classifier of tables or images.

    What is None is what the model's card says, and where it says nothing, what `deepforward.Recipe` does.

    Args:
        model: Name of a card (`deepforward list models`), or `file.py:factory`.
        model_options: Keyword arguments of the model.
        input_shape: Shape of one example, such as (1, 28, 28), where X has it flattened.
        scaling: Name of a scaling, fitted on the training data: `standardise`, `min-max`, `none`, ...
        augmentation: Changes of the training images, such as `("flip", "shift?pixels=2")`.
        epochs: Passes over the data.
        batch_size: Examples a step.
        optimizer: `sgd`, `adam`, `adamw`, ...
        learning_rate: Peak rate, or `find`.
        weight_decay: L2 penalty, or decoupled decay for `adamw`.
        validation_fraction: Share held out to choose the best epoch by, and to be scored after each, into `history_`.
        patience: Epochs without a better validation loss before stopping.
        device: `auto`, `cpu`, `cuda`, ...
        verbose: Whether progress is shown.
        random_state: None, a whole number or a `RandomState`.

    Attributes:
        classes_: Class labels, sorted.
        recipe_, model_, scaling_, history_, shape_: See `NetworkEstimator`.
        n_features_in_: Number of features, where X was a table.
    """

    def fit(self, X: Any, y: Any) -> NetworkClassifier:
        """Train anew.

        Args:
            X: (examples, features), or images (examples, height, width) or (examples, channels, height, width).
            y: (examples,) class labels of any kind.

        Returns:
            The estimator itself.

        Raises:
            InvalidData: One class only, or numbers of examples that differ. Like all errors below but the last, a `ValueError`.
            InvalidOption: A parameter out of range.
            ShapeError: The model does not fit the examples.
            Diverged: Training led to numbers that are not finite.
        """
        inputs = self._examples(X, reset=True)
        if y is None:
            raise InvalidData("fit requires y to be passed, but the target y is None; give the class labels")
        assert_all_finite(y, input_name="y")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(labels) != len(inputs):
            raise InvalidData(f"got {len(inputs)} examples in X and {len(labels)} labels in y; expected as many of each")
        self.classes_, indices = np.unique(labels, return_inverse=True)
        self._train(inputs, torch.from_numpy(indices).long(), tuple(str(label) for label in self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Softmax of the outputs: (examples, classes), float64, in the order of `classes_`."""
        return self._outputs(X).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each example."""
        best = self._outputs(X).argmax(1).numpy()
        return self.classes_[best]
