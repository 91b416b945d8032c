"""Generated sources against enumeration and geometry."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from deepforward.data import load


def whole(data):
    return torch.cat((data.train.inputs, data.test.inputs)), torch.cat((data.train.targets, data.test.targets))


def test_rings_lie_on_their_circles():
    inputs, labels = whole(load("rings?noise=0&classes=3&n=300"))
    assert torch.bincount(labels).tolist() == [100, 100, 100]
    torch.testing.assert_close(inputs.norm(dim=1), (labels + 1) / 3)


def test_noise_has_the_deviation_asked_for():
    clean, _ = whole(load("rings?noise=0&n=4000"))
    noisy, _ = whole(load("rings?noise=0.1&n=4000"))
    # 8000 normal draws: their sample deviation is within 4 standard errors, 0.1 * 4 / sqrt(16000), with probability 0.99994.
    assert float((noisy - clean).std()) == pytest.approx(0.1, abs=0.0032)


def test_spirals_turn_with_their_radius():
    inputs, labels = whole(load("spirals?noise=0&classes=2"))
    radius = inputs.norm(dim=1)
    angle = torch.atan2(inputs[:, 1], inputs[:, 0])
    rest = (angle - 3 * math.pi * radius - math.pi * labels) / (2 * math.pi)
    assert (rest - rest.round()).abs().max() < 1e-5  # float32 angles up to 11 rad, over radii that are not tiny
    assert 0.9 < float(radius.max()) <= 1 + 1e-6


@pytest.mark.parametrize("bits", [3, 8])
def test_parity_has_every_string_once_with_its_product(bits):
    inputs, labels = whole(load(f"parity?bits={bits}"))
    assert {tuple(row) for row in inputs.tolist()} == set(itertools.product((-1.0, 1.0), repeat=bits))
    assert len(inputs) == 2**bits
    # prod(-x) is +1 for an even number of ones
    assert torch.equal((-inputs).prod(dim=1), 1.0 - 2 * labels)


@pytest.mark.parametrize("size", [2, 4])
def test_bars_and_stripes_are_all_patterns_with_constant_lines(size):
    inputs, labels = whole(load(f"bars-and-stripes?size={size}"))
    images = [tuple(map(tuple, image)) for image in inputs[:, 0].tolist()]
    bars = {(line,) * size for line in itertools.product((0, 1), repeat=size)}
    stripes = {tuple(zip(*image, strict=True)) for image in bars}
    assert len(images) == len(set(images)) == 2 ** (size + 1) - 2
    assert set(images) == bars | stripes
    for image, label in zip(images, labels.tolist(), strict=True):
        assert image in (stripes if label else bars)


def test_flips_occur_with_their_probability():
    inputs, _ = whole(load("bars-and-stripes?n=4000&noise=0.1&size=6"))
    clean, _ = whole(load("bars-and-stripes?n=4000&size=6"))
    # 144000 flips of probability 0.1: 4 standard errors are 4 * sqrt(0.09 / 144000).
    assert float((inputs != clean).float().mean()) == pytest.approx(0.1, abs=0.0032)


def test_pairs_of_bars_are_two_equal_bars_7_or_11_columns_apart():
    inputs, labels = whole(load("bar-pairs?noise=0&n=200"))
    for image, label in zip(inputs[:, 0], labels, strict=True):
        columns, rows = image.sum(0).nonzero().flatten(), image.sum(1).nonzero().flatten()
        assert int(columns[1] - columns[0]) == (7, 11)[int(label)]
        assert len(columns) == 2
        assert torch.equal(image[:, columns[0]], image[:, columns[1]])
        assert 4 <= len(rows) == rows[-1] - rows[0] + 1 <= 7
        assert min(int(columns[0]), int(rows[0]), 19 - int(columns[1]), 19 - int(rows[-1])) >= 3


def test_windows_narrower_than_a_pair_see_as_many_bars_in_both_classes():
    """Counted over all places at which all of the bars is seen: as many windows of 7 columns hold one bar, and none two."""
    inputs, labels = whole(load("bar-pairs?noise=0&n=400"))
    bars = (inputs[:, 0].amax(1) > 0).float()
    in_window = torch.nn.functional.pad(bars, (6, 6)).unfold(1, 7, 1).sum(2)
    counts = [torch.stack([(in_window[labels == label] == k).sum(1) for k in range(3)], 1) for label in (0, 1)]
    assert all(torch.equal(rows, rows[:1].expand_as(rows)) for rows in counts)
    assert torch.equal(counts[0][0], counts[1][0])
    assert int(counts[0][0, 2]) == 0
