"""The fit of a word's four lines against scipy's densities, autograd, least squares that know the answer, and symmetry."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from deepforward.data import word_lines
from deepforward.data.synthetic_words import synthetic_word
from deepforward.data.word_lines import RESTARTS, WordLines, fit_word_lines
from deepforward.errors import InvalidData, InvalidOption

EVEN = {"ascenders": 0.5, "descenders": 0.5}


def word(seed, **options):
    return synthetic_word(torch.Generator().manual_seed(seed), **options)


def numbers(lines):
    return np.array([lines.slope, lines.curvature, *lines.offsets])


def knowing(w, origin):
    """Least squares on the turning points that are no outliers, told which line each belongs to."""
    kept, line = w.turns[~w.is_outlier].numpy(), w.line[~w.is_outlier].numpy()
    u = kept[:, 0] - origin
    curvature, slope, *offsets = np.linalg.lstsq(np.column_stack([u**2, u, np.eye(4)[line]]), kept[:, 1])[0]
    return np.array([slope, curvature, *offsets])


def test_twenty_lines_of_writing_are_found_as_well_as_published():
    """Six of the 20 words of the lecture's measurement; 301 turning points, of which 10% are outliers, noise 0.05."""
    errors, beside = [], []
    for seed in range(6):
        w = word(seed, peaks=150, noise=0.05, outliers=0.1, **EVEN)
        fit = fit_word_lines(w.maxima, w.minima)
        truth = numbers(w.lines.at(fit.lines.origin))
        errors.append(abs(numbers(fit.lines) - truth))
        beside.append(abs(numbers(fit.lines) - knowing(w, fit.lines.origin)))
        assert 0.04 < fit.noise < 0.065  # outliers near a line count as its noise
    slope, curvature, *offsets = np.max(errors, axis=0)
    assert slope < 0.0033 and curvature < 0.0019 and max(offsets) < 0.024
    assert np.max(beside) < 0.015  # of least squares that know every point's line: 2 standard errors of an offset


@pytest.mark.parametrize("seed", range(5))
def test_the_posterior_never_falls(seed):
    fit = fit_word_lines(*(lambda w: (w.maxima, w.minima))(word(seed, peaks=20)))
    assert fit.log_posteriors.shape[1] == RESTARTS == 21
    assert fit.log_posteriors.diff(dim=0).min() > -2e-13  # of about 100 nats: rounding
    assert fit.log_posteriors[-1].argmax() == fit.best


def problem(seed, **options):
    w = word(seed, **options)
    frame = word_lines._frame(w.maxima, w.minima)
    return word_lines._points(torch.cat([w.maxima, w.minima]), len(w.maxima), *frame)


def test_the_posterior_is_that_of_the_mixture_and_its_priors():
    points = problem(1, peaks=9)
    parameters = word_lines._start(points)
    shares, log_posterior = word_lines._expect(parameters, points)
    for r in (0, 10, 20):
        curvature, slope, *offsets = parameters.theta[r].tolist()
        deviation, weights = math.sqrt(parameters.variance[r]), parameters.shares[r].numpy()
        total = 0.0
        for n, kind in enumerate(points.kinds.tolist()):
            u = points.design[n, 0, 1].item()
            parts = [
                weights[kind, j]
                * stats.norm.pdf(points.heights[n].item(), offsets[2 * kind + j] + slope * u + curvature * u**2, deviation)
                for j in (0, 1)
            ]
            parts.append(weights[kind, 2] * math.exp(points.log_uniform))
            assert shares[r, n].tolist() == pytest.approx(np.array(parts) / sum(parts), rel=1e-9)
            total += math.log(sum(parts))
        prior = stats.norm.logpdf(curvature / 0.2) + stats.norm.logpdf(slope) + 2 * 0.5 * math.log(2 * math.pi)
        prior += sum(stats.norm.logpdf((a - b - 1) / 0.4) + 0.5 * math.log(2 * math.pi) for a, b in itertools.pairwise(offsets))
        prior += (np.log(weights) * [1, 1, 0.5]).sum()
        prior += 2 * math.log(0.01) - 2 * math.log(deviation**2) - 2 * 0.01 / deviation**2 - 2 * math.log(0.01)
        assert log_posterior[r].item() == pytest.approx(total + prior, rel=1e-10)


def test_it_ends_where_the_gradient_of_the_posterior_vanishes():
    points = problem(2, peaks=15)
    parameters = word_lines._start(points)
    for _ in range(500):
        parameters = word_lines._maximise(parameters, word_lines._expect(parameters, points)[0], points)
    theta, variance = parameters.theta.clone().requires_grad_(), parameters.variance.clone().requires_grad_()
    logits = parameters.shares.log().requires_grad_()
    ends = word_lines._Parameters(theta, variance, logits.softmax(2))
    gradients = torch.autograd.grad(word_lines._expect(ends, points)[1].sum(), (theta, variance, logits))
    assert max(g.abs().max().item() for g in gradients) < 1e-5  # curvature of about 1e4 a unit, parameters to 1e-9


def test_lengths_and_places_do_not_matter():
    w = word(3, peaks=25)
    plain = fit_word_lines(w.maxima, w.minima).lines
    move = torch.tensor([-700.0, 90.0])
    moved = fit_word_lines(40 * w.maxima + move, 40 * w.minima + move).lines
    assert moved.slope == pytest.approx(plain.slope, abs=1e-6)
    assert moved.curvature == pytest.approx(plain.curvature / 40, abs=1e-7)
    assert moved.origin == pytest.approx(40 * plain.origin - 700, rel=1e-12)
    assert moved.offsets == pytest.approx([40 * y + 90 for y in plain.offsets], abs=1e-4)
    assert moved.core_height == pytest.approx(40 * plain.core_height, rel=1e-6)


def test_without_noise_the_lines_are_exact_but_for_the_prior():
    w = word(4, noise=0.0, outliers=0.0)
    fit = fit_word_lines(w.maxima, w.minima)
    assert numbers(fit.lines) == pytest.approx(numbers(w.lines.at(fit.lines.origin)), abs=1e-3)


def test_a_line_without_points_stands_where_the_prior_puts_it():
    w = word(5, ascenders=0.0, descenders=0.0, outliers=0.0)
    lines = fit_word_lines(w.maxima, w.minima).lines
    truth = w.lines.at(lines.origin)
    assert lines.offsets[1:3] == pytest.approx(truth.offsets[1:3], abs=0.03)
    ascender, core, base, descender = lines.offsets
    assert (ascender - core, base - descender) == pytest.approx((1, 1), abs=0.1)


def test_lines_do_not_fall_together_in_words_of_few_ascenders():
    """A line that no point supports may not double its neighbour: the prior on their distance forbids it."""
    for seed in range(20):
        w = word(seed, peaks=16, outliers=0.0, ascenders=0.1, descenders=0.05)
        offsets = fit_word_lines(w.maxima, w.minima).lines.offsets
        assert min(a - b for a, b in itertools.pairwise(offsets)) > 0.3


def test_one_start_is_not_enough():
    middle, lost = RESTARTS // 2, 0
    for seed in range(20):
        w = word(seed, peaks=8)
        ends = fit_word_lines(w.maxima, w.minima).log_posteriors[-1]
        lost += bool(ends[middle] < ends.max() - 0.5)
    assert 1 <= lost <= 15


def test_lines_are_the_same_from_another_origin():
    lines = WordLines(0.2, -0.03, 1.5, (3.0, 2.0, 1.0, 0.0))
    other = lines.at(-4.0)
    x = torch.linspace(-5, 5, 11, dtype=torch.float64)
    for a, b in zip(lines.offsets, other.offsets, strict=True):
        torch.testing.assert_close(a + lines.rise(x), b + other.rise(x), rtol=1e-12, atol=1e-12)
    assert other.core_height == pytest.approx(1.0, rel=1e-12)


def test_bad_input():
    w = word(6)
    with pytest.raises(InvalidData, match="got 1 maxima and 61 minima"):
        fit_word_lines(w.maxima[:1], w.minima)
    with pytest.raises(InvalidData, match="5 in all"):
        fit_word_lines(w.maxima[:2], w.minima[:2])
    with pytest.raises(InvalidData, match="not finite"):
        fit_word_lines(w.maxima * math.nan, w.minima)
    with pytest.raises(InvalidData, match="y must grow upwards"):
        fit_word_lines(w.minima, w.maxima)
    with pytest.raises(InvalidData, match="over a length 0"):
        fit_word_lines(w.maxima * torch.tensor([0, 1]), w.minima * torch.tensor([0, 1]))
    with pytest.raises(InvalidOption, match="got 0 iterations"):
        fit_word_lines(w.maxima, w.minima, iterations=0)
