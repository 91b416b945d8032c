"""Words written along known lines, and what is left of slope, curvature, slant and size."""

from __future__ import annotations

import math

import pytest
import torch

from deepforward.data.synthetic_words import synthetic_word
from deepforward.data.word_normalization import normalize_word, turning_points
from deepforward.errors import InvalidData, InvalidOption, ShapeError


def word(seed, **options):
    return synthetic_word(torch.Generator().manual_seed(seed), **options)


def test_turning_points_of_a_level_word_are_those_it_was_made_of():
    for seed in range(4):
        w = word(seed, slope=0.0, curvature=0.0)
        maxima, minima = turning_points([w.trajectory])
        torch.testing.assert_close(maxima, w.maxima, rtol=0, atol=1e-12)
        torch.testing.assert_close(minima, w.minima, rtol=0, atol=1e-12)


def test_slope_moves_turning_points_by_less_than_the_noise():
    """A half cosine of height 1 and width 0.25 curves by pi^2 / (2 * 0.25^2) = 79, so slope s shifts a turn by s^2 / 158."""
    for seed in range(4):
        w = word(seed)
        for found, made in zip(turning_points([w.trajectory]), (w.maxima, w.minima), strict=True):
            assert len(found) == len(made)
            off = found[:, 1] - made[:, 1]
            assert off.abs().median() < 0.002 and off.abs().max() < 0.05


def test_known_lines_of_the_generator():
    w = word(0, noise=0.0, outliers=0.0, peaks=400)
    offsets = torch.tensor(w.lines.offsets, dtype=torch.float64)
    torch.testing.assert_close(w.turns[:, 1], offsets[w.line] + w.lines.rise(w.turns[:, 0]), rtol=0, atol=1e-12)
    share = (w.line[1::2] == 0).double().mean().item(), (w.line[::2] == 3).double().mean().item()
    assert share == pytest.approx((0.3, 0.25), abs=4.5 * math.sqrt(0.25 / 400))  # p < 1e-5
    noisy = word(0, outliers=0.0, peaks=400)
    residual = noisy.turns[:, 1] - noisy.lines.rise(noisy.turns[:, 0]) - torch.tensor(noisy.lines.offsets)[noisy.line]
    assert residual.std().item() == pytest.approx(0.05, rel=0.1)
    assert word(1, peaks=400).is_outlier.double().mean().item() == pytest.approx(0.1, abs=4.5 * math.sqrt(0.09 / 801))


@pytest.mark.parametrize("seed", range(6))
def test_a_normalised_word_is_level_upright_and_of_height_one(seed):
    w = word(seed)
    ours = normalize_word([w.trajectory])
    assert ours.slant == pytest.approx(w.slant, abs=0.02)
    assert ours.lines.core_height == pytest.approx(1, abs=0.06)
    maxima, minima = turning_points(ours.strokes)
    for points, k, height in ((minima, 2, 0.0), (maxima, 1, 1.0)):
        is_upper = k == 1
        line, outlier = (v[1::2] if is_upper else v[::2] for v in (w.line, w.is_outlier))
        assert len(points) == len(line)
        kept = points[(line == k) & ~outlier]
        design = torch.stack([kept[:, 0] ** 2, kept[:, 0], torch.ones(len(kept), dtype=torch.float64)], dim=1)
        bend, slope, level = torch.linalg.lstsq(design, kept[:, 1:]).solution[:, 0].tolist()
        assert (bend, slope, level) == pytest.approx((0, 0, height), abs=0.05)
        assert abs(bend) < 1e-3 and abs(slope) < 5e-3


def test_a_word_is_normalised_to_the_same_wherever_and_however_large_it_is_written():
    w = word(7)
    ours = normalize_word([w.trajectory])
    moved = normalize_word([120 * w.trajectory + torch.tensor([3000.0, -50.0])])
    torch.testing.assert_close(moved.strokes[0], ours.strokes[0], rtol=0, atol=1e-4)
    assert moved.slant == pytest.approx(ours.slant, abs=1e-6)


def test_a_normalised_word_changes_no_more():
    w = word(8)
    once = normalize_word([w.trajectory])
    twice = normalize_word(once.strokes)
    assert (twice.lines.slope, twice.slant) == pytest.approx((0, 0), abs=3e-3)
    assert twice.lines.core_height == pytest.approx(1, abs=5e-3)


def test_the_pen_may_be_lifted():
    w = word(9)
    parts = [w.trajectory[:400], w.trajectory[400:900], w.trajectory[900:]]
    dot = torch.tensor([[5.0, 2.4]], dtype=torch.float64)
    ours, whole = normalize_word([*parts, dot]), normalize_word([w.trajectory])
    assert [len(s) for s in ours.strokes] == [len(s) for s in (*parts, dot)]
    assert ours.lines.slope == pytest.approx(whole.lines.slope, abs=2e-3)
    torch.testing.assert_close(torch.cat(ours.strokes[:3]), whole.strokes[0], rtol=0, atol=0.05)


def test_trembling_is_no_turning_point_and_a_flat_top_is_one():
    rng = torch.Generator().manual_seed(0)
    w = word(10, slope=0.0, curvature=0.0, outliers=0.0)
    trembling = w.trajectory + 0.01 * torch.randn(w.trajectory.shape, generator=rng, dtype=torch.float64)
    assert [len(t) for t in turning_points([trembling])] == [len(w.maxima), len(w.minima)]
    assert sum(map(len, turning_points([trembling], prominence=0.0))) > len(w.turns)
    flat = torch.tensor([[0.0, 0], [1, 1], [2, 1], [3, 1], [4, 0], [5, 1]])
    maxima, minima = turning_points([flat])
    assert maxima.tolist() == [[2, 1]] and minima.tolist() == [[4, 0]]


def test_bad_input():
    w = word(11)
    with pytest.raises(InvalidData, match="got no strokes"):
        normalize_word([])
    with pytest.raises(ShapeError, match=r"got a stroke of shape \(2, 5\)"):
        turning_points([torch.zeros(2, 5)])
    with pytest.raises(InvalidData, match="not finite"):
        normalize_word([w.trajectory * math.inf])
    with pytest.raises(InvalidData, match="without points"):
        normalize_word([torch.zeros(0, 2)])
    with pytest.raises(InvalidData, match="0 maxima and 0 minima"):
        normalize_word([torch.zeros(9, 2)])
    with pytest.raises(InvalidOption, match="shares"):
        word(0, outliers=1.5)
    with pytest.raises(InvalidOption, match="peaks=0"):
        word(0, peaks=0)
