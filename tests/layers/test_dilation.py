"""Which pixels stacks of dilated convolutions touch, held against gradients of such stacks, and the paper's arithmetic."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from deepforward.errors import GriddingWarning, InvalidOption
from deepforward.layers.dilation import check_rates, coverage, hybrid_rates, touched, warn_of_gridding


def touched_by_gradient(rates, kernel):
    """The pixels that the centre of the output depends on, by autograd through convolutions of ones: counts of paths."""
    side = 1 + (kernel - 1) * sum(rates)
    image = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    outputs = image
    for rate in rates:
        convolution = nn.Conv2d(1, 1, kernel, dilation=rate, bias=False, dtype=torch.float64)
        nn.init.ones_(convolution.weight)
        outputs = convolution(outputs)
    (gradient,) = torch.autograd.grad(outputs.sum(), image)
    return (gradient[0, 0] > 0).numpy()


@pytest.mark.parametrize(
    ("rates", "kernel"), [((2, 2, 2), 3), ((1, 2, 3), 3), ((1, 2, 9), 3), ((3, 1), 2), ((2, 5), 5), ((1, 4, 2), 4), ((3,), 3)]
)
def test_what_is_touched_is_what_a_gradient_reaches(rates, kernel):
    seen = touched_by_gradient(rates, kernel)
    offsets = touched(rates, kernel)
    assert np.array_equal(seen, np.outer(offsets, offsets))
    assert coverage(rates, kernel) == seen.sum() / seen.size
    assert check_rates(rates, kernel).field == len(seen)


# Wang et al. 2018, section 3.2 (M_2 of (1, 2, 5) and (1, 2, 9)), and lecture item A4.7.
@pytest.mark.parametrize(
    ("rates", "second", "complies", "share"),
    [
        ((2, 2, 2), 2, False, 49 / 169),
        ((1, 2, 3), 2, True, 1.0),
        ((1, 2, 5), 2, True, 1.0),
        ((1, 2, 9), 5, False, 441 / 625),
        ((1, 2, 5, 9), 2, True, 1.0),
    ],
)
def test_numbers_of_the_paper_and_the_lecture(rates, second, complies, share):
    found = check_rates(rates)
    assert (found.distances[1], found.complies, found.coverage) == (second, complies, share)
    assert found.leaves_holes == (share < 1)


def test_the_rule_suffices_where_the_first_rate_is_one_and_not_else():
    stacks = [rates for n in (1, 2, 3, 4) for rates in itertools.product(range(1, 8), repeat=n)]
    passing = [rates for rates in stacks if check_rates(rates).complies]
    assert len(passing) > 500
    assert all(coverage(rates) == 1 for rates in passing if rates[0] == 1)
    assert check_rates((2, 3)).complies and coverage((2, 3)) == 81 / 121


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_hybrid_rates_leave_no_hole_and_keep_the_field_where_any_can(kernel):
    for n in (1, 2, 3, 4, 7):
        for rates in itertools.product((1, 2, 3, 6), repeat=n) if n < 5 else [(2,) * 7, (4,) * 7, (1, 9, 2, 3, 3, 8, 2)]:
            found = hybrid_rates(rates, kernel)
            assert len(found) == n and coverage(found, kernel) == 1
            assert sum(found) <= sum(rates)
            if n < 5 and sum(rates) <= sum(kernel**i for i in range(n)):  # the largest sum without holes
                assert sum(found) == sum(rates)


def test_hybrid_rates_by_name():
    assert hybrid_rates((2, 2, 2)) == (1, 2, 3)
    assert hybrid_rates((4, 4, 4)) == (1, 3, 8)
    assert hybrid_rates((1, 2, 9)) == (1, 3, 8)
    assert hybrid_rates((1, 2, 5)) == (1, 2, 5)
    assert hybrid_rates((2,) * 6) == (1, 2, 3, 1, 2, 3)


def test_one_tap_cannot_be_mended():
    assert coverage((5,), 1) == 1
    with pytest.raises(InvalidOption, match="got kernel 1, expected at least 2"):
        hybrid_rates((2, 2), 1)


@pytest.mark.parametrize("rates", [(), (0,), (1, -2)])
def test_rates_below_one_are_refused(rates):
    with pytest.raises(InvalidOption, match="expected whole numbers of at least 1"):
        check_rates(rates)


def test_a_warning_says_what_is_wrong_and_what_is_better():
    with pytest.warns(GriddingWarning) as caught:
        warn_of_gridding("the network", (2, 2, 2))
    assert str(caught[0].message) == (
        "the network: rates (2, 2, 2) touch 29.0% of their field of 13 x 13 pixels (common factor 2); "
        "use (1, 2, 3), which leaves no hole"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_gridding("the network", (1, 2, 3))
