import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import jacrev

from deepforward.errors import ShapeError
from deepforward.theory.recurrence import SimplifiedRecurrence, gains_nearing_one, products_of_slopes


def random_vectors(length, seed):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(3, length, generator=rng, dtype=torch.float64).unbind()


@pytest.mark.parametrize("activation", [None, torch.tanh, torch.sigmoid])
@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_closed_gradients_equal_autograd(activation, length, seed):
    weights, gains, inputs = random_vectors(length, seed)

    def states(weights, gains):
        return SimplifiedRecurrence(weights, gains, inputs, activation).states()

    by_weights, by_gains = jacrev(states, argnums=(0, 1))(weights, gains)
    ours = SimplifiedRecurrence(weights, gains, inputs, activation).gradients()
    torch.testing.assert_close(ours.weights, by_weights, rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(ours.gains, by_gains, rtol=1e-15, atol=1e-15)


def test_zero_gains_cut_the_past_off():
    weights, gains, inputs = random_vectors(5, 0)
    gains[2] = 0.0
    ours = SimplifiedRecurrence(weights, gains, inputs).gradients()
    assert (ours.weights[3:, :3] == 0).all()
    assert ours.weights[3, 3] == inputs[3]
    assert ours.gains[3, 2] != 0


@settings(deadline=None)
@given(gains=st.lists(st.floats(-0.9, 0.9), min_size=2, max_size=60))
def test_gains_bounded_below_one_vanish_geometrically(gains):
    reach = products_of_slopes(torch.tensor(gains, dtype=torch.float64))[-1].abs()
    distance = torch.arange(len(gains) - 1, -1, -1, dtype=torch.float64)
    assert (reach <= 0.9**distance * (1 + 1e-13)).all()


@settings(deadline=None)
@given(gains=st.lists(st.floats(1.1, 3.0) | st.floats(-3.0, -1.1), min_size=2, max_size=60))
def test_gains_bounded_above_one_explode_geometrically(gains):
    reach = products_of_slopes(torch.tensor(gains, dtype=torch.float64))[-1].abs()
    distance = torch.arange(len(gains) - 1, -1, -1, dtype=torch.float64)
    assert (reach >= 1.1**distance * (1 - 1e-13)).all()


def test_gains_below_one_need_not_vanish_nor_gains_above_one_explode():
    below, above = gains_nearing_one(10**6, -1), gains_nearing_one(10**6, +1)
    assert (below < 1).all()
    assert (above > 1).all()
    n = 10**6
    assert below.prod().item() == pytest.approx((n + 2) / (2 * n + 2), rel=1e-11)  # a million roundings of 1e-16
    assert above.prod().item() == pytest.approx(math.sinh(math.pi) / (2 * math.pi), rel=2e-6)  # tail of the product: 1/n


@pytest.mark.parametrize("shapes", [((3,), (4,), (3,)), ((2, 2), (2, 2), (2, 2))])
def test_lengths_must_agree(shapes):
    with pytest.raises(ShapeError, match="three vectors of one length"):
        SimplifiedRecurrence(*(torch.zeros(shape) for shape in shapes))
