"""Segmentation by any network with the surface of scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepforward.data.checks import IGNORED
from deepforward.errors import InvalidData, ShapeError
from deepforward.estimators.network import NetworkEstimator
from deepforward.metrics.segmentation import confusion_of, mean_iou


@dataclass(eq=False, repr=False, kw_only=True)
class Segmenter(NetworkEstimator):
    """Any network that gives logits for each pixel, as an estimator that learns masks from images.

    Parameters are stored, copied and searched as scikit-learn's contract wants. Its full `check_estimator` feeds tables and
    labels only, and is not for estimators of images and masks. What is None is what the model's card says, and where it says
    nothing, what `deepforward.Recipe` does.

    Args:
        model: Name of a card for segmentation (`deepforward list models`), or `file.py:factory`.
        model_options: Keyword arguments of the model, such as `{"rates": (1, 2, 5)}`.
        input_shape: Shape of one image, such as (1, 32, 32), where X has it flattened.
        scaling: Name of a scaling, fitted on the training data: `standardise`, `min-max`, `none`, ...
        augmentation: Changes of the training images, in which masks take part, such as `("flip", "shift?pixels=2")`.
        epochs: Passes over the data.
        batch_size: Images a step.
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
        n_features_in_: Number of pixels, where X was flattened.
    """

    model: str = "hdc-duc"

    def fit(self, X: Any, y: Any) -> Segmenter:
        """Train anew.

        Args:
            X: Images (examples, height, width) or (examples, channels, height, width).
            y: Masks (examples, height, width) of whole numbers, the class label of each pixel. 255 is no class and is not
                learnt, unless 0 and 255 are all there are.

        Returns:
            The estimator itself.

        Raises:
            ShapeError: Masks that are not of the size of the images, or images that the model does not fit. Like all errors
                below but the last, a `ValueError`.
            InvalidData: Labels that are not whole numbers, fewer than 2 or more than 255 classes.
            InvalidOption: A parameter out of range.
            Diverged: Training led to numbers that are not finite.
        """
        inputs = self._examples(X, reset=True)
        if y is None:
            raise InvalidData("fit requires y to be passed, but the target y is None; give the masks")
        masks = _masks_of(y, (len(inputs), *inputs.shape[2:]))
        found = np.unique(masks)
        classes = found if found.tolist() == [0, IGNORED] else found[found != IGNORED]
        if not 2 <= len(classes) <= IGNORED:
            raise InvalidData(f"y: got {len(classes)} classes, expected 2 to {IGNORED}; give masks that show more than one")
        self.classes_ = classes
        self._train(inputs, self._indices(masks), tuple(str(label) for label in classes))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Softmax of the outputs: (examples, classes, height, width), float64, in the order of `classes_`."""
        return self._outputs(X).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each pixel: (examples, height, width)."""
        best = self._outputs(X).argmax(1).numpy()
        return self.classes_[best]

    def score(self, X: Any, y: Any) -> float:
        """Mean intersection over union of the classes that occur or are given, in [0, 1]; more is better."""
        given = self._outputs(X).argmax(1)
        right = self._indices(_masks_of(y, tuple(given.shape))).long()
        return mean_iou(confusion_of(given, right, len(self.classes_)))

    def _indices(self, masks: np.ndarray) -> Tensor:
        """Class indices as uint8, 255 where there is no class.

        Raises:
            InvalidData: A label that the masks of the fit lack.
        """
        places = np.searchsorted(self.classes_, masks).clip(max=len(self.classes_) - 1)
        is_known = self.classes_[places] == masks
        if not (is_known | (masks == IGNORED)).all():
            label = masks[~is_known & (masks != IGNORED)][0]
            raise InvalidData(f"y: got the label {label}, expected those of the fit, {', '.join(map(str, self.classes_))}")
        return torch.from_numpy(np.where(is_known, places, IGNORED).astype(np.uint8))


def _masks_of(y: Any, shape: tuple[int, ...]) -> np.ndarray:
    masks = np.asarray(y)
    if masks.shape != shape:
        raise ShapeError(f"y: got masks of shape {masks.shape}; expected {shape}, a label for each pixel of the images")
    if masks.dtype.kind not in "biu":
        raise InvalidData(f"y: got masks of {masks.dtype}, expected whole numbers, the class label of each pixel; convert them")
    return masks.astype(np.int64)
