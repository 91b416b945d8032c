"""Gibbs sampling and annealing of deep Boltzmann machines against enumeration of all their states."""

import pytest
import torch

from deepforward.metrics.likelihood import annealed_log_partition, reverse_annealed_log_partition
from deepforward.models.energy.enumeration import all_states
from deepforward.models.energy.units import BinaryUnits
from tests.models.deep_boltzmann_examples import every, machine, rng


class Prescribed:
    """Makes `BinaryUnits.sample` return what is prescribed and sums the log-probabilities of that."""

    def __init__(self, monkeypatch, model, wanted):
        self.log_p = torch.zeros((), dtype=torch.float64)
        number = {units: k for k, units in enumerate(model.layers)}

        def sample(units, inputs, rng, beta=1.0):
            values, p = wanted[number[units]], units.mean(inputs, beta)
            self.log_p = self.log_p + (values * p.log() + (1 - values) * (1 - p).log()).sum(1)
            return values

        monkeypatch.setattr(BinaryUnits, "sample", sample)


@pytest.mark.parametrize("shape", [(3, (2, 2)), (2, (2, 2, 1))])
@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_gibbs_sampling_leaves_the_distribution_as_it_is(shape, beta, monkeypatch):
    model = machine(*shape)
    state = every(model)
    count = len(state[0])
    log_p = sum(beta * (a @ W * b).sum(1) for W, a, b in zip(model.weights, state, state[1:], strict=False))
    log_p = log_p + sum((s * (beta * u.bias + (1 - beta) * u.base)).sum(1) for u, s in zip(model.layers, state, strict=True))
    here, there = (
        tuple(values[index] for values in state)
        for index in torch.cartesian_prod(torch.arange(count), torch.arange(count)).unbind(1)
    )
    prescribed = Prescribed(monkeypatch, model, there)
    model.advance(here, rng(), beta=beta)
    transition = prescribed.log_p.exp().reshape(count, count)
    assert torch.allclose(transition.sum(1), torch.ones(count, dtype=torch.float64), atol=1e-12)
    p = log_p.softmax(0)
    assert (p @ transition - p).abs().max() < 1e-12
    assert (transition - p).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(3, (2, 2)), (2, (2, 1, 2))])
def test_annealing_weights_and_moves_are_exact(shape, monkeypatch):
    """The weight is log p*_high - log p*_low of the odd layers, and the move leaves p_high as it is."""
    model, low, high = machine(*shape), 0.3, 0.7
    state = every(model)

    def tempered(beta):
        log_p = sum(beta * (a @ W * b).sum(1) for W, a, b in zip(model.weights, state, state[1:], strict=False))
        return log_p + sum((s * u.bias_at(beta)).sum(1) for u, s in zip(model.layers, state, strict=True))

    odd_of = torch.cat(state[1::2], 1)
    odds = torch.cat(list(all_states(odd_of.shape[1], like=odd_of)))
    evens = torch.cat(list(all_states(sum(u.size for u in list(model.layers)[::2]), like=odd_of)))

    def marginal(beta):
        return torch.stack([tempered(beta)[(odd_of == odd).all(1)].logsumexp(0) for odd in odds])

    ratio, drawn = model.anneal(odds, low, high, rng())
    assert torch.allclose(ratio, marginal(high) - marginal(low), atol=1e-12, rtol=0)
    assert drawn.shape == odds.shape
    index = torch.cartesian_prod(torch.arange(len(odds)), torch.arange(len(evens)), torch.arange(len(odds))).unbind(1)
    wanted = model._split(evens[index[1]], model._even) | model._split(odds[index[2]], model._odd)
    prescribed = Prescribed(monkeypatch, model, wanted)
    model.anneal(odds[index[0]], low, high, rng())
    transition = prescribed.log_p.exp().reshape(len(odds), len(evens), len(odds)).sum(1)
    p = marginal(high).softmax(0)
    assert (p @ transition - p).abs().max() < 1e-12
    assert float(model.log_base_partition()) == pytest.approx(float(marginal(0.0).logsumexp(0)), abs=1e-12)


@pytest.mark.parametrize("hidden", [(8, 6), (5, 6, 4)])
def test_annealing_finds_the_partition_function(hidden):
    model = machine(8, hidden, seed=1)
    exact = model.log_partition()
    forward = annealed_log_partition(model, rng(), chains=400, temperatures=150)
    assert forward.log_partition == pytest.approx(exact, abs=0.1)
    assert forward.low - 0.05 < exact < forward.high + 0.05
    chains = model.advance(model.start(400, rng(1)), rng(2), 100)
    reverse = reverse_annealed_log_partition(model, torch.cat(chains[1::2], 1), rng(), temperatures=150)
    assert reverse.log_partition == pytest.approx(exact, abs=0.1)


def test_a_dream_is_what_advance_and_expected_give():
    model = machine(6, (5, 4, 3), scale=0.5).float()
    begun = model.start(50, rng())
    expected, drawn = model.dream(begun, rng(7), steps=3)
    slow = model.advance(begun, rng(7), 3)
    for fast, values in zip(drawn, slow, strict=True):
        assert torch.equal(fast, values)
    for fast, values in zip(expected, model.expected(slow), strict=True):
        assert torch.allclose(fast, values, atol=1e-6)


def test_long_chains_have_the_moments_of_enumeration():
    model = machine(4, (3, 2), scale=0.7)
    state = every(model)
    p = (-model.energy(state)).softmax(0)
    chains = model.advance(model.start(20_000, rng(1)), rng(2), 50)
    for drawn, values in zip(chains, state, strict=True):
        assert (drawn.mean(0) - p @ values).abs().max() < 4.5 * 0.5 / 20_000**0.5  # 4.5 sigma: 1e-4 for all nine units
