"""Scores of predicted masks."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def confusion_of(
    predicted: Int[Tensor, "*shape"], targets: Int[Tensor, "*shape"], classes: int
) -> Int[Tensor, "classes classes"]:
    """Number of pixels by right class (row) and class given (column); targets that are no class (255) do not count.

    Args:
        predicted: Class index of each pixel, each in [0, classes).
        targets: The right ones.
        classes: Number of classes.
    """
    counts = (targets >= 0) & (targets < classes)
    pairs = targets[counts].long() * classes + predicted[counts].long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def iou_per_class(confusion: Int[Tensor, "classes classes"]) -> Float[Tensor, " classes"]:
    """Intersection over union of each class, in [0, 1]; NaN for a class that neither occurs nor is given.

    IoU_c = n_cc / (sum_j n_cj + sum_i n_ic - n_cc).

    Args:
        confusion: Number of pixels by right class (row) and class given (column).

    Source: Everingham et al. 2010, The Pascal visual object classes challenge, section 4.3 (over the pixels of all images).
    """
    counts = confusion.double()
    hits = counts.diagonal()
    return hits / (counts.sum(0) + counts.sum(1) - hits)


def mean_iou(confusion: Int[Tensor, "classes classes"]) -> float:
    """Mean of `iou_per_class` over the classes that occur or are given."""
    return float(iou_per_class(confusion).nanmean())
