"""How well two maps of edges agree."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F


class Agreement(NamedTuple):
    """Shares in [0, 1].

    Attributes:
        precision: Share of the edge pixels found that are right.
        recall: Share of the edge pixels of the reference that are found.
        f1: Their harmonic mean; 0 where nothing agrees.
    """

    precision: float
    recall: float
    f1: float


def edge_agreement(
    found: Bool[Tensor, "*batch height width"], reference: Bool[Tensor, "*batch height width"], tolerance: int = 0
) -> Agreement:
    """Precision, recall and F1 of edge pixels; one counts as right if the other map has one within `tolerance` pixels.

    The distance is the larger one of rows and columns. With 0 a pixel must be the same. Martin et al. match edges one to one
    within 0.75% of the diagonal (5.4 pixels of a 512x512 image); here several pixels may be near the same one, within a far
    smaller distance.

    Args:
        found: Edges to judge.
        reference: Edges as they should be.
        tolerance: Pixels.

    Source: Martin, Fowlkes, Malik 2004, Learning to detect natural image boundaries, IEEE TPAMI 26 (precision and recall).
    """
    precision, recall = _share_near(found, reference, tolerance), _share_near(reference, found, tolerance)
    total = precision + recall
    return Agreement(precision, recall, 2 * precision * recall / total if total else 0.0)


def _share_near(edges: Tensor, others: Tensor, tolerance: int) -> float:
    """Share of the edge pixels with one of the other map near; 0 where there are none."""
    wide = F.max_pool2d(others.float().reshape(-1, 1, *others.shape[-2:]), 2 * tolerance + 1, 1, tolerance)
    near = torch.logical_and(edges, wide.reshape(others.shape) > 0)
    return float(near.sum() / edges.sum().clamp(min=1))
