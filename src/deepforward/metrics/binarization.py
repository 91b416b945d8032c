"""How well a page was parted into ink and paper: the measures of the DIBCO contests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from deepforward.errors import MissingExtra, ShapeError

_BLOCK, _REACH = 8, 2


@dataclass(frozen=True)
class BinarizationScores:
    """The measures of one page, or their means over several.

    Attributes:
        f_measure: Percent (`f_measure`).
        pseudo_f_measure: Percent (`pseudo_f_measure`).
        psnr: Decibels (`psnr`).
        drd: Flipped pixels a block with text, weighted (`drd`); less is better.
    """

    f_measure: float
    pseudo_f_measure: float
    psnr: float
    drd: float


def binarization_scores(
    found: Bool[Tensor, "pages height width"], truth: Bool[Tensor, "pages height width"]
) -> BinarizationScores:
    """All four measures, each averaged over the pages.

    Args:
        found: What a method takes for ink.
        truth: What is ink.

    Raises:
        ShapeError: The two differ in shape.
        MissingExtra: scikit-image, which thins strokes, is not installed.
    """
    measures = (f_measure, pseudo_f_measure, psnr, drd)
    of_pages = [[measure(page, true) for measure in measures] for page, true in zip(found, truth, strict=True)]
    return BinarizationScores(*(float(value) for value in np.mean(of_pages, axis=0)))


def f_measure(found: Bool[Tensor, "height width"], truth: Bool[Tensor, "height width"]) -> float:
    """F = 2 R P / (R + P) in percent; R = TP / (TP + FN) is recall of ink, P = TP / (TP + FP) precision.

    It is 100 where neither has ink, and 0 where only one has.

    Raises:
        ShapeError: The two differ in shape.
    """
    _check(found, truth)
    both = int((found & truth).sum())
    total = int(found.sum()) + int(truth.sum())
    return 200.0 * both / total if total else 100.0


def pseudo_f_measure(found: Bool[Tensor, "height width"], truth: Bool[Tensor, "height width"]) -> float:
    """The F-measure, in percent, of weighted recall sum(B G_w) / sum(G_w) and weighted precision sum(B G P_w) / sum(B P_w).

    B is what was found, G the truth, G_w and P_w are `recall_weights` and `precision_weights` of G. To shave a stroke costs
    less than to break it, and to thicken it less than to join it to the next.

    It is 100 where neither has ink, and 0 where only one has.

    Raises:
        ShapeError: The two differ in shape.
        MissingExtra: scikit-image, which thins strokes, is not installed.

    Source: Ntirogiannis, Gatos, Pratikakis 2013, Performance evaluation methodology for historical document image binarization,
        IEEE Trans. Image Processing 22(2). The weights follow its definitions, not, bit by bit, the contests' program.
    """
    _check(found, truth)
    if not (found.any() and truth.any()):
        return 100.0 if not (found.any() or truth.any()) else 0.0
    of_recall, of_precision = recall_weights(truth), precision_weights(truth)
    recall = float((of_recall * found).sum() / of_recall.sum())
    precision = float((of_precision * (found & truth)).sum() / (of_precision * found).sum())
    return 200.0 * recall * precision / (recall + precision) if recall + precision else 0.0


def recall_weights(truth: Bool[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """Weight of each pixel of ink: its distance to the paper, over the sum of those distances across the stroke.

    Distances are chessboard distances, 1 at the edge of a stroke. A pixel belongs to the nearest point of the skeleton, and the
    pixels that belong to one point are a section across the stroke, whose weights sum to 1; so that a thin stroke and a thick
    one of the same length count alike. Paper weighs 0.

    Raises:
        MissingExtra: scikit-image, which thins strokes, is not installed.
    """
    ink = truth.cpu().numpy()
    if not ink.any():
        return torch.zeros(ink.shape, dtype=torch.float64)
    depth = np.where(ink, _distance(ink), 0).astype(np.float64)
    section = _nearest(_skeleton(ink))
    sums = np.bincount(section.ravel(), depth.ravel(), minlength=ink.size)
    return torch.from_numpy(depth / np.maximum(sums[section], 1.0))


def precision_weights(truth: Bool[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """What each pixel weighs if it is taken for ink: 1 for ink and far paper, up to 2 for paper near a stroke.

    Within a stroke width w of the nearest component, paper at distance d from it weighs 1 + min(1, d / min(w, m)), m being the
    distance at the nearest point of the paper's own skeleton, which runs midway between strokes. w is twice the mean depth of
    the component along its skeleton.

    Raises:
        MissingExtra: scikit-image, which thins strokes, is not installed.
    """
    ink = truth.cpu().numpy()
    if not ink.any() or ink.all():
        return torch.ones(ink.shape, dtype=torch.float64)
    distance = np.where(ink, 0, _distance(~ink, border=False)).astype(np.float64)
    width = _stroke_width(ink).ravel()[_nearest(ink)]
    middle = distance.ravel()[_nearest(_skeleton(~ink))]
    share = distance / np.maximum(np.minimum(width, middle), 1.0)
    return torch.from_numpy(1.0 + np.where(distance <= width, np.minimum(share, 1.0), 0.0))


def psnr(found: Bool[Tensor, "height width"], truth: Bool[Tensor, "height width"]) -> float:
    """Peak signal-to-noise ratio in decibels, -10 log10 of the share of pixels that are wrong; infinite where none is.

    Raises:
        ShapeError: The two differ in shape.
    """
    _check(found, truth)
    wrong = float((found != truth).double().mean())
    return -10.0 * math.log10(wrong) if wrong else math.inf


def drd(found: Bool[Tensor, "height width"], truth: Bool[Tensor, "height width"]) -> float:
    """Distance-reciprocal distortion: sum of D_k over the flipped pixels k, divided by the number of 8x8 blocks with text.

    D_k sums, over the 5x5 pixels of the truth around k that differ from what was found at k, 1 / distance to k, normalised so
    that 24 such pixels give 1. Blocks with text are those of the truth that are neither all ink nor all paper; on a page
    without any, the sum is divided by 1. Beyond the edge of the page nothing counts; blocks that it cuts do.

    Raises:
        ShapeError: The two differ in shape.

    Source: Lu, Kot, Shi 2004, Distance-reciprocal distortion measure for binary document images, IEEE Signal Processing
        Letters 11(2).
    """
    _check(found, truth)
    y, x = torch.meshgrid(*2 * (torch.arange(-_REACH, _REACH + 1, dtype=torch.float64),), indexing="ij")
    distances = (x**2 + y**2).sqrt()
    weights = torch.where(distances > 0, 1.0 / distances, 0.0)
    weights = (weights / weights.sum())[None, None]
    ink = truth.double()[None, None]
    near_ink = functional.conv2d(ink, weights, padding=_REACH)[0, 0]
    near_all = functional.conv2d(torch.ones_like(ink), weights, padding=_REACH)[0, 0]
    distortion = torch.where(found, near_all - near_ink, near_ink)[found != truth].sum()
    most = functional.max_pool2d(ink, _BLOCK, ceil_mode=True)
    least = -functional.max_pool2d(-ink, _BLOCK, ceil_mode=True)
    return float(distortion / (most != least).sum().clamp(min=1))


def _check(found: Tensor, truth: Tensor) -> None:
    if found.shape != truth.shape:
        raise ShapeError(f"got a page of {tuple(found.shape)} pixels and a truth of {tuple(truth.shape)}; give two of one size")


def _distance(inside: np.ndarray, *, border: bool = True) -> np.ndarray:
    """Chessboard distance of each pixel inside to the nearest outside, the edge of the page being outside if it is a border."""
    padded = np.pad(inside, 1, constant_values=not border)
    return ndimage.distance_transform_cdt(padded, metric="chessboard")[1:-1, 1:-1]


def _nearest(points: np.ndarray) -> np.ndarray:
    """Flat index of the point that is nearest to each pixel (Euclidean)."""
    rows, columns = ndimage.distance_transform_edt(~points, return_distances=False, return_indices=True)
    return rows * points.shape[1] + columns


def _stroke_width(ink: np.ndarray) -> np.ndarray:
    """For each pixel of ink, twice the mean depth of its component (8-connected) along the skeleton, at least 2."""
    components, count = ndimage.label(ink, np.ones((3, 3)))
    depth = _distance(ink)
    skeleton = _skeleton(ink)
    means = ndimage.mean(depth, np.where(skeleton, components, 0), np.arange(1, count + 1))
    widths = np.concatenate(([0.0], 2.0 * np.nan_to_num(means, nan=1.0)))
    return widths[components]


def _skeleton(shape: np.ndarray) -> np.ndarray:
    """Points midway between the edges of a shape; the shape itself where thinning leaves nothing of it."""
    thin: Any
    try:
        from skimage.morphology import skeletonize as thin  # noqa: PLC0415  (an extra)
    except ImportError:
        raise MissingExtra(
            "got no scikit-image, which thins strokes for the pseudo-F-measure; run pip install 'deepforward[images]'"
        ) from None
    skeleton = thin(shape)
    return skeleton if skeleton.any() else shape
