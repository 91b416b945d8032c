"""Measures of binarisation against explicit loops over pixels, and against bars whose weights are known in closed form."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from skimage.morphology import skeletonize
from torch import Tensor

from deepforward.errors import ShapeError
from deepforward.metrics.binarization import (
    binarization_scores,
    drd,
    f_measure,
    precision_weights,
    pseudo_f_measure,
    psnr,
    recall_weights,
)


def page(seed: int, ink: float = 0.4, size: tuple[int, int] = (19, 26)) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) < ink


def bars(*rows: tuple[int, int], size: tuple[int, int] = (40, 60)) -> Tensor:
    """Horizontal bars over the rows given, first and last, the same distance from both edges."""
    found = torch.zeros(size, dtype=torch.bool)
    for first, last in rows:
        found[first : last + 1, 5:-5] = True
    return found


def pixels(image: Tensor) -> list[tuple[int, int]]:
    return list(itertools.product(*map(range, image.shape)))


def slow_drd(found: Tensor, truth: Tensor) -> float:
    """Lu, Kot and Shi, one pixel after the other."""
    near = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]
    total_weight = sum(1 / math.hypot(dy, dx) for dy, dx in near)
    height, width = truth.shape
    distortion = 0.0
    for y, x in pixels(truth):
        if found[y, x] != truth[y, x]:
            for dy, dx in near:
                if 0 <= y + dy < height and 0 <= x + dx < width and truth[y + dy, x + dx] != found[y, x]:
                    distortion += 1 / math.hypot(dy, dx) / total_weight
    blocks = [truth[y : y + 8, x : x + 8] for y in range(0, height, 8) for x in range(0, width, 8)]
    return distortion / max(sum(bool(block.any() and not block.all()) for block in blocks), 1)


@pytest.mark.parametrize("seed", range(4))
def test_counting_pixel_by_pixel_gives_the_same(seed: int) -> None:
    truth = page(seed)
    found = truth ^ page(seed + 10, 0.1)
    tp = sum(bool(found[p] and truth[p]) for p in pixels(truth))
    fp = sum(bool(found[p] and not truth[p]) for p in pixels(truth))
    fn = sum(bool(truth[p] and not found[p]) for p in pixels(truth))
    recall, precision = tp / (tp + fn), tp / (tp + fp)
    assert f_measure(found, truth) == pytest.approx(200 * recall * precision / (recall + precision), rel=1e-12)
    error = sum((255 * int(found[p]) - 255 * int(truth[p])) ** 2 for p in pixels(truth)) / truth.numel()
    assert psnr(found, truth) == pytest.approx(10 * math.log10(255**2 / error), rel=1e-12)
    assert drd(found, truth) == pytest.approx(slow_drd(found, truth), rel=1e-12)


def test_the_contests_own_example() -> None:
    """27 pixels right, 11 too many, 8 missed: F = 73.9% (H-DIBCO 2010, page on evaluation)."""
    truth, found = torch.zeros(2, 50, 1, dtype=torch.bool)
    truth[:35], found[:27], found[35:46] = True, True, True
    assert f_measure(found, truth) == pytest.approx(73.97, abs=0.01)  # printed with one digit, cut off


def test_a_flipped_pixel_amid_paper_weighs_one_and_at_the_edge_less() -> None:
    truth = bars((10, 12))
    far, corner = truth.clone(), truth.clone()
    far[30, 30] = corner[0, 0] = True
    blocks = sum(bool(b.any() and not b.all()) for rows in truth.split(8, 0) for b in rows.split(8, 1))
    assert drd(far, truth) == pytest.approx(1 / blocks, rel=1e-12)
    assert drd(corner, truth) == pytest.approx(slow_drd(corner, truth), rel=1e-12)
    assert drd(corner, truth) < drd(far, truth)


@pytest.mark.parametrize("width", [1, 3, 5, 7])
def test_the_section_of_a_stroke_weighs_one_in_all_in_proportion_to_depth(width: int) -> None:
    radius = (width + 1) // 2
    truth = bars((10, 9 + width))
    weights = recall_weights(truth)
    depths = [min(i + 1, width - i) for i in range(width)]
    assert weights[10 : 10 + width, 30].tolist() == pytest.approx([d / radius**2 for d in depths], rel=1e-12)
    assert float(weights[~truth].abs().sum()) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_weights_of_recall_sum_to_the_points_of_the_skeleton(seed: int) -> None:
    truth = torch.nn.functional.max_pool2d(page(seed, 0.02, (40, 40)).float()[None, None], 5, 1, 2)[0, 0] > 0
    weights = recall_weights(truth)
    assert float(weights.sum()) == pytest.approx(int(skeletonize(truth.numpy()).sum()), rel=1e-9)
    assert bool(((weights > 0) == truth).all())


def test_paper_near_a_stroke_weighs_up_to_two_and_that_between_strokes_most_in_the_middle() -> None:
    lone = precision_weights(bars((20, 22)))  # depth 2 along its skeleton, so a stroke width of at most 4
    down = lone[20:, 30]
    assert down[:3].tolist() == [1, 1, 1]
    assert bool((down[3:6].diff() > 0).all())
    assert down[8:].tolist() == [1] * 12
    gap = precision_weights(bars((10, 14), (18, 22)))[15:18, 30]  # distances 1, 2, 1; midway at 2
    assert gap.tolist() == pytest.approx([1.5, 2.0, 1.5])
    assert 1 <= float(lone.min()) <= float(lone.max()) <= 2


def test_the_pseudo_f_measure_is_that_of_the_weights() -> None:
    truth = bars((10, 12), (16, 20))
    found = truth ^ (page(3, 0.05, (40, 60)))
    g, p = recall_weights(truth), precision_weights(truth)
    recall = sum(float(g[i]) for i in pixels(truth) if found[i]) / sum(float(g[i]) for i in pixels(truth))
    precision = sum(float(p[i]) for i in pixels(truth) if found[i] and truth[i]) / sum(
        float(p[i]) for i in pixels(truth) if found[i]
    )
    assert pseudo_f_measure(found, truth) == pytest.approx(200 * recall * precision / (recall + precision), rel=1e-9)


def test_breaking_costs_more_than_shaving_and_joining_more_than_thickening() -> None:
    truth = bars((10, 14), (18, 22))
    shaved, broken, thicker, joined = (truth.clone() for _ in range(4))
    shaved[10, 10:25] = False
    broken[10:15, 10:13] = False
    thicker[9, 10:19] = True
    joined[15:18, 10:13] = True
    assert int((truth ^ shaved).sum()) == int((truth ^ broken).sum()) == 15
    assert int((truth ^ thicker).sum()) == int((truth ^ joined).sum()) == 9
    assert f_measure(shaved, truth) == f_measure(broken, truth)
    assert pseudo_f_measure(shaved, truth) > pseudo_f_measure(broken, truth)
    assert f_measure(thicker, truth) == f_measure(joined, truth)
    assert pseudo_f_measure(thicker, truth) > pseudo_f_measure(joined, truth)


@pytest.mark.parametrize("measure", [f_measure, pseudo_f_measure])
def test_pages_without_ink(measure) -> None:
    blank, inked = torch.zeros(9, 9, dtype=torch.bool), page(0, size=(9, 9))
    assert measure(blank, blank) == 100
    assert measure(inked, blank) == measure(blank, inked) == 0
    assert measure(inked, inked) == pytest.approx(100)


def test_a_blank_truth_has_no_blocks_and_a_perfect_page_no_noise() -> None:
    blank = torch.zeros(9, 9, dtype=torch.bool)
    assert drd(blank, blank) == 0
    assert drd(~blank, blank) == pytest.approx(slow_drd(~blank, blank))
    assert psnr(blank, blank) == math.inf


def test_small_dots_keep_a_weight() -> None:
    """Thinning leaves something of every component, be it a point or a square of two."""
    truth = torch.zeros(12, 24, dtype=torch.bool)
    truth[3, 3] = truth[6:8, 12:14] = truth[9, 20:22] = True
    assert bool((recall_weights(truth)[truth] > 0).all())
    assert bool((precision_weights(truth) >= 1).all())


def test_scores_are_means_over_pages() -> None:
    truth = torch.stack([page(0), page(1)])
    found = truth ^ torch.stack([page(2, 0.1), page(3, 0.1)])
    scores = binarization_scores(found, truth)
    for name, measure in (("f_measure", f_measure), ("pseudo_f_measure", pseudo_f_measure), ("psnr", psnr), ("drd", drd)):
        expected = sum(measure(*pair) for pair in zip(found, truth, strict=True)) / 2
        assert getattr(scores, name) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("measure", [f_measure, pseudo_f_measure, psnr, drd])
def test_pages_of_two_sizes_are_refused(measure, unchecked) -> None:
    with unchecked(), pytest.raises(ShapeError, match=r"got a page of \(4, 4\) pixels and a truth of \(4, 5\)"):
        measure(page(0, size=(4, 4)), page(0, size=(4, 5)))
