"""Sweeps, dreams, annealing and filling of restricted Boltzmann machines against their exact distributions."""

import math

import pytest
import torch
from scipy.stats import chi2

from deepforward.errors import InvalidData
from tests.models.rbm_examples import KINDS, binary_states, generator, machine, plain_energy, visible_states


def sticky():
    """A model of 3 x 2 units whose next state depends on the present one."""
    rbm = machine(size=3, hidden=2, seed=1).requires_grad_(False)
    rbm.weight.copy_(torch.tensor([[2.0, -1.5], [-2.5, 1.0], [1.5, 2.0]]))
    return rbm


def transition(rbm, beta):
    """T[v, v'] = sum over h of p(h | v) p(v' | h), from conditionals written out."""
    v, h = binary_states(rbm.visible_units.size), binary_states(rbm.hidden_units.size)
    up = (beta * v @ rbm.weight + rbm.hidden_units.bias_at(beta)).sigmoid()
    down = (beta * h @ rbm.weight.T + rbm.visible_units.bias_at(beta)).sigmoid()
    h_given_v = torch.where(h[None] > 0, up[:, None], 1 - up[:, None]).prod(2)
    v_given_h = torch.where(v[None] > 0, down[:, None], 1 - down[:, None]).prod(2)
    return h_given_v @ v_given_h


def number(states):
    """Index of binary states in the order of `binary_states`."""
    return (states.long() * 2 ** torch.arange(states.shape[1] - 1, -1, -1)).sum(1)


def p_value(counts, expected):
    """Smallest p-value over the rows of a table of counts."""
    statistic = ((counts - expected) ** 2 / expected).sum(1)
    return float(chi2.sf(statistic.numpy(), counts.shape[1] - 1).min())


def tabulated(start, stop, states=8):
    return torch.bincount(number(start) * states + number(stop), minlength=states * states).reshape(states, states).double()


@pytest.mark.parametrize("beta", [1.0, 0.5, "rows"])
def test_a_sweep_makes_the_transitions_that_leave_the_model_invariant(beta):
    """Eight chi-square tests at 1e-4 / 8 each: a sound sampler fails one time in 10,000, with this seed never."""
    rbm = sticky()
    number_beta = 0.7 if beta == "rows" else beta
    exact = transition(rbm, number_beta)
    p = (-rbm.free_energy(binary_states(3), number_beta)).softmax(0)
    torch.testing.assert_close(p @ exact, p, rtol=0, atol=1e-14)
    assert (exact - exact[0]).abs().max() > 0.05  # the start matters
    v = binary_states(3).repeat_interleave(20_000, 0)
    used = torch.full((len(v), 1), 0.7, dtype=torch.float64) if beta == "rows" else beta
    later = rbm.advance(rbm.begin_at(v, generator(3), used), generator(4), 1, used)
    assert p_value(tabulated(v, later[0]), 20_000 * exact) > 1e-4 / 8
    conditional = rbm.hidden_units.mean(used * rbm.up(later[0]), used)
    joint = torch.bincount(number(later[0]) * 4 + number(later[1]), minlength=32).reshape(8, 4)
    h = binary_states(2)
    p_h = torch.where(h[None] > 0, conditional[:, None], 1 - conditional[:, None]).prod(2)
    expected = torch.zeros(8, 4, dtype=torch.float64).index_add_(0, number(later[0]), p_h)
    assert p_value(joint.double(), expected) > 1e-4 / 8


@pytest.mark.parametrize("bf16", [False, True])
def test_dreams_in_float32_and_bf16_make_the_same_transitions(bf16):
    """As above, for the step written by hand, two sweeps of it; bf16 rounds weights by 2^-9, less than counts can see."""
    rbm = sticky()
    exact = torch.linalg.matrix_power(transition(rbm, 1.0), 2)
    v, rbm = binary_states(3).repeat_interleave(20_000, 0).float(), rbm.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        _, begun = rbm.observe(v, generator(5))
        dreamt, drawn = rbm.dream(begun, generator(6), 2)
    assert p_value(tabulated(v, drawn[0]), 20_000 * exact) > 1e-4 / 8
    assert torch.equal(dreamt[0], drawn[0])
    means = rbm.activity(drawn[0].float())
    # bf16 rounds inputs of size up to 4 by 1/128, which a sigmoid makes a quarter of, and the mean by 2^-9.
    torch.testing.assert_close(dreamt[1].float(), means, rtol=0, atol=1 / 256 if bf16 else 1e-6)


@pytest.mark.parametrize(("visible", "hidden"), KINDS)
def test_annealing_adds_the_difference_of_exact_unnormalised_logs(visible, hidden):
    rbm = machine(visible, hidden)
    v = visible_states(rbm, visible)
    ratio, _ = rbm.anneal(v, 0.3, 0.8, generator())
    if hidden == "binary":
        h = binary_states(4)
        expected = [(-plain_energy(rbm, v, h, beta)).logsumexp(1) for beta in (0.3, 0.8)]
        torch.testing.assert_close(ratio, expected[1] - expected[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ratio, rbm.free_energy(v, 0.3) - rbm.free_energy(v, 0.8), rtol=0, atol=1e-12)


def test_annealing_moves_by_the_transition_of_the_next_temperature_and_begins_at_independent_units():
    """Eight chi-square tests at 1e-4 / 8 and one at 1e-4."""
    rbm = sticky()
    v = binary_states(3).repeat_interleave(20_000, 0)
    _, moved = rbm.anneal(v, 0.2, 0.6, generator(7))
    assert p_value(tabulated(v, moved), 20_000 * transition(rbm, 0.6)) > 1e-4 / 8
    logs = -rbm.free_energy(binary_states(3), 0.0)
    assert float(rbm.log_base_partition()) == pytest.approx(float(logs.logsumexp(0)), abs=1e-12)
    begun = rbm.annealing_start(50_000, generator(8))
    counts = torch.bincount(number(begun), minlength=8).double()
    assert p_value(counts[None], 50_000 * logs.softmax(0)[None]) > 1e-4


def test_missing_units_are_filled_by_their_distribution_given_the_known_ones():
    """Conditional probabilities by enumeration; 4.5 standard errors of 20,000 independent fillings."""
    rbm = machine(size=6, hidden=4, seed=3).requires_grad_(False)
    known = torch.tensor([1.0, 1, 0, 1, 0, 0], dtype=torch.float64)
    given = torch.tensor([1.0, 0, float("nan"), 1, 7, -3], dtype=torch.float64)
    filled = rbm.fill(given.expand(20_000, -1), known.expand(20_000, -1), generator(), steps=40)
    assert torch.equal(filled[:, known > 0], given[known > 0].expand(20_000, -1))
    v = binary_states(6)
    fits = (v[:, known > 0] == given[known > 0]).all(1)
    expected = (-rbm.free_energy(v[fits])).softmax(0) @ v[fits]
    missing = known == 0
    error = filled.std(0) / math.sqrt(20_000)
    assert ((filled.mean(0) - expected).abs()[missing] < 4.5 * error[missing]).all()
    with pytest.raises(InvalidData, match="known: got nan in example 0, unit 2"):
        rbm.fill(given.expand(2, -1), torch.ones(2, 6), generator())
