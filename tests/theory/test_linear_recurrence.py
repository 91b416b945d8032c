"""The linear recurrent network: its fixed point, the rate of approach, and what a reader does not see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.errors import InvalidData, ShapeError
from deepforward.theory.linear_recurrence import LinearRecurrence


def network(radius, seed, state=6, inputs=4):
    rng = torch.Generator().manual_seed(seed)
    W, U = (torch.randn(state, n, generator=rng, dtype=torch.float64) for n in (inputs, state))
    U *= radius / torch.linalg.eigvals(U).abs().max()
    return LinearRecurrence(W, U), torch.randn(inputs, generator=rng, dtype=torch.float64)


@settings(deadline=None, max_examples=25)
@given(radius=st.floats(0.1, 0.9), seed=st.integers(0, 10**6))
def test_states_approach_the_fixed_point_as_the_powers_of_u(radius, seed):
    model, x = network(radius, seed)
    fixed = model.fixed_point(x)
    h = torch.tensor(fixed.point, dtype=torch.float64)
    torch.testing.assert_close(model.W @ x + model.U @ h, h, rtol=1e-11, atol=1e-11)
    assert fixed.kind == "sink"
    assert fixed.spectral_radius == pytest.approx(radius, rel=1e-12) == model.spectral_radius
    start = torch.zeros(6, dtype=torch.float64)
    states = model.states(x, start, 40)
    assert states.shape == (41, 6)
    for t in (0, 1, 7, 40):
        expected = torch.linalg.matrix_power(model.U, t) @ (start - h)
        torch.testing.assert_close(states[t] - h, expected, rtol=1e-9, atol=1e-11 * max(1.0, h.norm().item()))


def test_the_distance_contracts_as_the_spectral_radius():
    """Symmetric U: the slowest direction is an eigenvector, so that the ratio of distances tends to rho itself."""
    model, x = network(0.5, 1)
    U = (model.U + model.U.T) / 2
    model = LinearRecurrence(model.W, U * 0.8 / torch.linalg.eigvalsh(U).abs().max())
    h = torch.tensor(model.fixed_point(x).point, dtype=torch.float64)
    distances = (model.states(x, torch.ones(6, dtype=torch.float64), 100) - h).norm(dim=1)
    assert (distances[1:] <= 0.8 * distances[:-1] * (1 + 1e-9) + 1e-15).all()
    assert (distances[60] / distances[40]) ** (1 / 20) == pytest.approx(0.8, rel=1e-3)


def test_above_one_the_fixed_point_is_there_and_repels():
    model, x = network(1.3, 2)
    fixed = model.fixed_point(x)
    assert fixed.kind in ("source", "saddle")
    near = torch.tensor(fixed.point, dtype=torch.float64) + 1e-6
    assert model.states(x, near, 200)[-1].norm() > 1e6


def test_a_reader_gives_the_input_back_although_states_do_not_vanish():
    model, x = network(0.9, 3)
    V = torch.linalg.pinv(model.W)
    torch.testing.assert_close(V @ model.W, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-14)
    assert (model.W @ V - torch.eye(6, dtype=torch.float64)).norm() > 1  # rank 4 of 6: sqrt(2)
    unread = model.unread_states(V)
    assert unread.shape == (6, 2)
    torch.testing.assert_close(unread.T @ unread, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-14)
    for h in unread.T:
        torch.testing.assert_close(V @ (model.W @ x + model.U @ h), x, rtol=0, atol=1e-13)
    read = torch.ones(6, dtype=torch.float64)
    assert torch.dist(V @ (model.W @ x + model.U @ read), x) > 0.1


def test_a_reader_of_all_states_leaves_none_unread():
    model, _ = network(0.9, 4, state=4, inputs=4)
    assert model.unread_states(torch.linalg.inv(model.W)).shape == (4, 0)


def test_bad_input():
    with pytest.raises(ShapeError, match=r"got W \(2, 1\) and U \(3, 3\)"):
        LinearRecurrence(torch.zeros(2, 1), torch.zeros(3, 3))
    with pytest.raises(ShapeError):
        LinearRecurrence(torch.zeros(2, 1), torch.zeros(2, 3))
    with pytest.raises(InvalidData, match="the eigenvalue 1"):
        LinearRecurrence(torch.ones(2, 1), torch.eye(2)).fixed_point(torch.ones(1))
