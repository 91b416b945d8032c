"""Machines with copied layers, by which a deep Boltzmann machine is trained greedily."""

import pytest
import torch

from deepforward.errors import InvalidData
from deepforward.models.energy import RBM, DeepBoltzmannMachine
from deepforward.models.energy.enumeration import all_states
from tests.models.deep_boltzmann_examples import machine, rng


def copied(seed=0):
    return machine(4, (3, 3, 2), seed=seed, learn=True)


def explicit(small):
    """The machine of a stack with its copies written out as units of their own."""
    (below, above), W = small.copies, small.weight.detach()
    rbm = RBM((W.shape[0] * below,), hidden=W.shape[1] * above).double()
    rbm.weight = torch.nn.Parameter(W.repeat(below, above))
    for units, own, count in ((rbm.visible_units, small.visible_units, below), (rbm.hidden_units, small.hidden_units, above)):
        units.bias = torch.nn.Parameter(own.bias.detach().repeat(count))
    return rbm


def test_inner_layers_are_copied_and_parameters_shared():
    model = copied()
    assert [small.copies for small in model.stack] == [(2, 1), (2, 2), (1, 2)]
    assert [small.copies for small in DeepBoltzmannMachine((4,), hidden=(3, 2)).stack] == [(2, 1), (1, 2)]
    for k, small in enumerate(model.stack):
        assert small.weight is model.weights[k]
        assert small.visible_units.bias is model.layers[k].bias
        assert small.hidden_units.bias is model.layers[k + 1].bias


def test_an_inner_layer_has_two_biases_until_the_machines_are_composed():
    model = copied()
    with torch.no_grad():
        c = [units.bias.clone() for units in model.layers]
        model.begin_layer(0)
        model.layers[1].bias += 1.0  # the hidden bias of machine 0 is learnt
        model.begin_layer(1)
        visible = torch.rand(5, 4, generator=rng(), dtype=torch.float64)
        features = model.stack[0](visible)
        model.layers[1].bias += 4.0  # the visible bias of machine 1 is learnt
        model.begin_layer(1)  # as when a run is continued: nothing happens
        assert torch.equal(model.stack[0](visible), features)
        model.begin_layer(2)
        model.layers[2].bias -= 2.0
        assert torch.equal(model.stack[0](visible), features)
        for machine, bias in zip(model.stack, (c[1] + 1.0, c[2], c[3]), strict=True):
            assert torch.equal(machine.hidden_units.bias, bias)
        for machine, bias in zip(model.stack, (c[0], c[1] + 5.0, c[2] - 2.0), strict=True):
            assert torch.equal(machine.visible_units.bias, bias)
        model.compose()
        for units, bias in zip(model.layers, (c[0], c[1] + 3.0, c[2] - 1.0, c[3]), strict=True):
            assert torch.allclose(units.bias, bias, atol=1e-12)
        model.compose()
        assert torch.allclose(model.layers[1].bias, c[1] + 3.0, atol=1e-12)


@pytest.mark.parametrize("layer", range(3))
def test_conditionals_of_the_copied_machines_are_those_of_the_paper(layer):
    small = copied().stack[layer]
    (below, above), W = small.copies, small.weight
    v = torch.rand(5, W.shape[0], generator=rng(), dtype=torch.float64).round()
    h = torch.rand(5, W.shape[1], generator=rng(1), dtype=torch.float64).round()
    up = (below * v @ W + small.hidden_units.bias).sigmoid()
    down = (above * h @ W.t() + small.visible_units.bias).sigmoid()
    assert torch.allclose(small(v), up, atol=1e-12)
    assert torch.allclose(small.activity(small.realise(small.visible(v), "stochastic", rng())) / above, up, atol=1e-12)
    assert torch.allclose(small.mean_visible((v, above * h)) / below, down, atol=1e-12)


@pytest.mark.parametrize("layer", range(3))
def test_copied_machines_are_those_with_the_copies_written_out(layer):
    small = copied().stack[layer]
    below, above = small.copies
    whole = explicit(small)
    states = torch.cat(list(all_states(whole.visible_units.size, like=small.weight)))
    sums = states.reshape(len(states), below, -1).sum(1)
    ways = torch.lgamma(torch.tensor(below + 1.0)) - torch.lgamma(sums + 1) - torch.lgamma(below + 1 - sums)
    assert torch.allclose(small.free_energy(sums), whole.free_energy(states) - ways.sum(1), atol=1e-6, rtol=0)
    hidden = torch.rand(len(states), whole.hidden_units.size, generator=rng(), dtype=torch.float64).round()
    pair = sums, hidden.reshape(len(states), above, -1).sum(1)
    own = small.energy(pair) - small.hidden_units.potential(pair[1]) - small.visible_units.potential(pair[0])
    assert torch.allclose(own, whole.energy((states, hidden)), atol=1e-10, rtol=0)


@pytest.mark.parametrize("layer", range(3))
def test_gap_gradients_of_copied_machines_are_those_of_autograd(layer):
    small = copied().stack[layer]
    sizes, copies = (small.visible_units.size, small.hidden_units.size), small.copies
    data, chains = (
        tuple(c * torch.rand(n, size, generator=rng(n), dtype=torch.float64) for c, size in zip(copies, sizes, strict=True))
        for n in (5, 7)
    )
    gradients = small.gap_gradients(data, chains)
    small.gap(data, chains).backward()
    assert gradients.keys() == dict(small.named_parameters()).keys()
    for name, p in small.named_parameters():
        assert torch.allclose(gradients[name], p.grad, atol=1e-13, rtol=0)


@pytest.mark.parametrize("layer", range(3))
def test_the_gradient_of_a_copied_machine_is_that_of_its_likelihood(layer):
    """Expected gap gradients by enumeration against autograd through the explicit copies, which share their weights."""
    small = copied().stack[layer]
    below, above = small.copies
    v = torch.tensor([[1.0, 0, 1, 1][: small.visible_units.size]], dtype=torch.float64)
    W, b, c = (p.detach().clone().requires_grad_() for p in (small.weight, small.visible_units.bias, small.hidden_units.bias))

    def free_energy(states):
        return -states @ b.repeat(below) - torch.nn.functional.softplus(states @ W.repeat(below, above) + c.repeat(above)).sum(
            1
        )

    states = torch.cat(list(all_states(below * len(b), like=W)))
    (free_energy(v.repeat(1, below))[0] + (-free_energy(states)).logsumexp(0)).backward()
    p = (-free_energy(states)).softmax(0).detach()
    data = small.clamp(small.realise(small.visible(v), "none", rng()), rng())
    sums = states.reshape(len(states), below, -1).sum(1)
    found = [small.gap_gradients(data, small.clamp(s[None], rng())) for s in sums]
    for name, exact in (("weight", W.grad), ("visible_units.bias", b.grad), ("hidden_units.bias", c.grad)):
        mean = sum(q * gradients[name] for q, gradients in zip(p, found, strict=True))
        assert torch.allclose(mean, exact, atol=1e-12, rtol=0)


def test_draws_of_copied_units_have_their_mean_and_variance():
    units = copied().stack[1].visible_units
    inputs = torch.zeros(40_000, units.size, dtype=torch.float64)
    drawn, p = units.sample(inputs, rng()), units.bias.sigmoid()
    assert set(drawn.unique().tolist()) <= {0.0, 1.0, 2.0}
    assert (drawn.mean(0) - 2 * p).abs().max() < 4.5 * 0.71 / 200
    assert (drawn.var(0) - 2 * p * (1 - p)).abs().max() < 0.03


@pytest.mark.parametrize("how", ["stochastic", "threshold", "none"])
@pytest.mark.parametrize("layer", range(3))
def test_values_of_copied_machines_are_sums_and_those_of_one_copy_outside(layer, how):
    small = copied().stack[layer]
    (below, above), v = small.copies, torch.rand(500, small.visible_units.size, generator=rng(), dtype=torch.float64)
    visible = small.realise(small.visible(v), how, rng())
    small.check(visible)
    small.prepare(visible)
    one = {"stochastic": visible / below, "threshold": (v > 0.5).double(), "none": v}[how]
    assert torch.equal(visible, below * one)
    assert small.visible_units.base.sigmoid().numpy() == pytest.approx(((one.sum(0) + 1) / 502).numpy(), abs=1e-12)
    shown, active = small.per_unit(small.clamp(visible, rng()))
    assert torch.allclose(shown, one) and torch.allclose(active, (visible @ small.weight + small.hidden_units.bias).sigmoid())
    assert [units.binary for units in (small.visible_units, small.hidden_units)] == [below == 1, above == 1]
    with pytest.raises(InvalidData, match=r"got 1\.5 in example 0, unit 0; expected numbers from 0 to 1"):
        small.check(torch.full((2, len(small.weight)), 1.5 * below))
