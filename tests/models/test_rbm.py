"""Energies and probabilities of restricted Boltzmann machines against enumeration, in float64, and bad input."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from sklearn.neural_network import BernoulliRBM

from deepforward.errors import InvalidOption, ShapeError, TooLarge, UnknownName
from deepforward.metrics.likelihood import pseudo_log_likelihood
from deepforward.models.energy import RBM
from deepforward.models.energy.enumeration import all_states
from tests.models.rbm_examples import (
    VISIBLE,
    binary_states,
    exact_log_partition,
    generator,
    machine,
    plain_energy,
    visible_states,
)


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("kind", VISIBLE)
def test_free_energy_is_minus_log_of_the_sum_over_hidden_states(kind, beta):
    rbm = machine(kind)
    v, h = visible_states(rbm, kind), binary_states(4)
    expected = -(-plain_energy(rbm, v, h, beta)).logsumexp(1)
    torch.testing.assert_close(rbm.free_energy(v, beta), expected, rtol=0, atol=1e-12)
    rows = torch.full((len(v), 1), beta, dtype=torch.float64)
    torch.testing.assert_close(rbm.free_energy(v, rows), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_free_energy_of_rectified_units_is_that_of_quadrature(kind):
    """Four integrals, each right to 1e-8."""
    rbm = machine(kind, "relu").requires_grad_(False)
    v = visible_states(rbm, kind)[::7]
    for row in v:
        inputs = (row @ rbm.weight + rbm.hidden_units.bias).tolist()
        logs = [math.log(quad(lambda s, x=x: math.exp(x * s - s * s / 2), 0, np.inf)[0]) for x in inputs]
        expected = -float(row @ rbm.visible_units.bias) - sum(logs)
        assert float(rbm.free_energy(row[None])) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", VISIBLE)
def test_the_energy_is_that_written_out(kind):
    rbm = machine(kind)
    v, h = visible_states(rbm, kind), binary_states(4)
    rows = [rbm.energy((v[i].expand(16, -1), h)) for i in range(len(v))]
    torch.testing.assert_close(torch.stack(rows), plain_energy(rbm, v, h), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", VISIBLE)
def test_log_z_is_the_same_over_either_layer(kind):
    rbm = machine(kind)
    exact = float(exact_log_partition(rbm, kind).detach())
    assert rbm.log_partition() == pytest.approx(exact, abs=1e-12)
    if kind == "binary":
        turned = machine(size=4, hidden=6)
        with torch.no_grad():
            turned.weight.copy_(rbm.weight.T)
            turned.visible_units.bias.copy_(rbm.hidden_units.bias)
            turned.hidden_units.bias.copy_(rbm.visible_units.bias)
        assert turned.log_partition() == pytest.approx(exact, abs=1e-12)
    rectified = machine("binary", "relu")
    by_states = (-rectified.free_energy(binary_states(6))).logsumexp(0)
    assert rectified.log_partition() == pytest.approx(float(by_states.detach()), abs=1e-12)


def test_states_are_counted_in_chunks_and_each_comes_once():
    seen = torch.cat(list(all_states(16)))
    assert seen.shape == (2**16, 16)
    assert torch.equal((seen.long() * 2 ** torch.arange(16)).sum(1), torch.arange(2**16))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: RBM((784,), hidden=500), r"got 500 binary units, 2\^500 states, about 10\^1\d\d years"),
        (lambda: RBM((25,), hidden=25), r"2\^25 states, about \d+ seconds"),
        (lambda: RBM((38,), hidden=38), r"2\^38 states, about \d+ hours"),
        (lambda: RBM((20_000,), hidden=20_000, weight_scale=0.0), r"2\^20000 states, about 10\^60\d\d years"),
        (lambda: RBM((9,), hidden=3, visible="softmax", categories=3, hidden_kind="relu"), "got no binary layer"),
    ],
)
def test_what_is_too_large_says_what_it_would_cost_and_what_to_use(model, message):
    built = model() if "20000" not in message else None
    with pytest.raises(TooLarge, match=message) as caught:
        next(all_states(20_000, 20_000**2)) if built is None else built.log_partition()
    assert "annealed_log_partition" in str(caught.value)
    assert "\n" not in str(caught.value)


def twin(rbm):
    peer = BernoulliRBM(n_components=4)
    peer.components_ = rbm.weight.detach().numpy().T.copy()
    peer.intercept_hidden_ = rbm.hidden_units.bias.detach().numpy()
    peer.intercept_visible_ = rbm.visible_units.bias.detach().numpy()
    peer.n_features_in_ = 6
    return peer


class Chosen(np.random.RandomState):
    """Chooses the unit that it was told to."""

    unit = 0

    def randint(self, low, high=None, size=None):
        return np.full(size, self.unit)


def test_scikit_learn_agrees_on_free_energy_features_and_pseudo_likelihood():
    rbm = machine()
    v = binary_states(6)
    peer = twin(rbm)
    with torch.no_grad():
        assert rbm.free_energy(v).numpy() == pytest.approx(peer._free_energy(v.numpy()), abs=1e-12)
        assert rbm(v).numpy() == pytest.approx(peer.transform(v.numpy()), abs=1e-12)
        terms = []
        for unit in range(6):
            peer.random_state = Chosen()
            peer.random_state.unit = unit
            terms.append(peer.score_samples(v.numpy()))
        exact = pseudo_log_likelihood(rbm, v, generator(), exact=True)
    assert exact.numpy() == pytest.approx(np.mean(terms, axis=0), abs=1e-12)


def test_what_does_not_fit_is_refused_in_one_line():
    for make, error, message in (
        (lambda: RBM((4,), hidden=0), InvalidOption, "at least 1"),
        (lambda: RBM((4,), weight_scale=float("nan")), InvalidOption, "weight_scale=nan"),
        (lambda: RBM((4,), visible="binry"), UnknownName, "did you mean binary"),
        (lambda: RBM((4,), hidden_kind="softmax"), UnknownName, "kind of hidden units"),
        (lambda: RBM((4, 2))(torch.zeros(3, 2, 4)), ShapeError, r"expected \(batch, 4, 2\)"),
    ):
        with pytest.raises(error, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_before_training_the_visible_units_have_the_statistics_of_the_data_unless_they_were_learnt():
    rbm = RBM((6,), hidden=4)
    data = (torch.rand(200, 6, generator=generator()) < 0.2).float()
    rbm.prepare(data)
    torch.testing.assert_close(rbm.visible_units.bias.sigmoid(), (data.sum(0) + 1) / 202)
    learnt = rbm.visible_units.bias.detach().clone()
    rbm.prepare(1 - data)
    assert torch.equal(rbm.visible_units.bias, learnt)
    torch.testing.assert_close(rbm.visible_units.base.sigmoid(), (201 - data.sum(0)) / 202)
