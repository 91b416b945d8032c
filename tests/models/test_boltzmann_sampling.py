"""Sampling and annealing of Boltzmann machines. A deviation of 4.5 standard errors has probability 7e-6."""

import math

import pytest
import torch

from deepforward.metrics.likelihood import annealed_log_partition, best_log_partition, reverse_annealed_log_partition
from deepforward.models.energy import Cooling
from tests.models.boltzmann_examples import double_sum, forms, generator, machine, split, states, without_hidden_connections


def farthest(samples, exact):
    """Largest deviation of a mean from its exact value, in standard errors."""
    return ((samples.mean(0) - exact) / (exact * (1 - exact) / len(samples)).sqrt()).abs().max().item()


def moments(x):
    rows, columns = torch.triu_indices(x.shape[1], x.shape[1], 1)
    return torch.cat((x, x[:, rows] * x[:, columns]), 1)


@pytest.mark.parametrize("visible", [8, 5])
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_gibbs_sampling_has_the_exact_moments(visible, beta):
    """36 moments of independent chains after 60 sweeps: an error in 4000 seeds."""
    model = machine(visible, 8 - visible, seed=3)
    model.units.base.copy_(torch.linspace(-1, 1, 8))
    x = states(8)
    tempered = beta * -double_sum(model, x) + (1 - beta) * x @ model.units.base
    exact = tempered.softmax(0).detach() @ moments(x)
    rng = generator()
    drawn = torch.cat(model.advance(model.start(20_000, rng), rng, 60, beta), 1)
    assert farthest(moments(drawn), exact) < 4.5


def test_each_row_may_have_its_own_temperature():
    model = machine(4, seed=5)
    x, rng = states(4), generator()
    beta = torch.tensor([[0.0], [1.0]], dtype=torch.float64).repeat(10_000, 1)
    drawn = model.advance(model.start(20_000, rng), rng, 40, beta)[0]
    assert farthest(moments(drawn[0::2]), moments(x).mean(0)) < 4.5
    assert farthest(moments(drawn[1::2]), (-double_sum(model, x)).softmax(0).detach() @ moments(x)) < 4.5


@pytest.mark.parametrize(("hidden", "independent"), [(3, False), (3, True), (13, False)])
def test_hidden_units_are_drawn_from_their_posterior(hidden, independent):
    """Beyond 12 connected units by sweeps, which for weights of this size forget within ten."""
    model = machine(4, hidden, scale=0.5, seed=2, connectivity=without_hidden_connections(4, hidden) if independent else None)
    visible = torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    h = states(hidden)
    exact = (-double_sum(model, torch.cat((visible.expand(len(h), -1), h), 1))).softmax(0).detach() @ moments(h)
    drawn = model.begin_at(visible.expand(20_000, -1), generator())[1]
    assert farthest(moments(drawn), exact) < 4.5
    if hidden == 3:
        assert torch.allclose(model.clamp(visible, generator())[1][0], exact[:3], atol=1e-12)


def test_the_same_generator_gives_the_same_chains():
    model = machine(6, 3)
    first, second = (torch.cat(model.advance(model.start(5, rng), rng, 3), 1) for rng in (generator(1), generator(1)))
    assert torch.equal(first, second)


def test_filling_holds_what_is_known_and_has_the_exact_means():
    model = machine(5, 2, seed=4)
    known = torch.tensor([1.0, 0, 0, 1, 0], dtype=torch.float64).expand(8000, -1)
    given = torch.tensor([1.0, math.nan, math.nan, 0, math.nan], dtype=torch.float64).expand(8000, -1)
    filled = model.fill(given, known, generator(), steps=40)
    assert torch.equal(filled[:, [0, 3]], given[:, [0, 3]])
    x = states(7)
    agrees = (x[:, 0] == 1) & (x[:, 3] == 0)
    exact = (-double_sum(model, x[agrees])).softmax(0).detach() @ x[agrees]
    errors = filled.std(0) / math.sqrt(8000)
    unknown = [1, 2, 4]
    assert (((filled.mean(0) - exact[:5]) / errors)[unknown].abs() < 4.5).all()


def test_mean_of_a_visible_unit_given_all_others():
    model = machine(4, 2)
    x = states(6)
    on, off = x.clone(), x.clone()
    on[:, 1], off[:, 1] = 1, 0
    expected = torch.sigmoid(double_sum(model, off) - double_sum(model, on))
    assert torch.allclose(model.mean_visible(split(model, x))[:, 1], expected, atol=1e-12)


# Annealing


@forms
def test_annealed_importance_sampling_finds_the_partition_function(visible, hidden, connectivity):
    """100 chains with 1000 temperatures: standard errors are below 0.035 nat at these weights."""
    model = machine(visible, hidden, connectivity=connectivity)
    model.prepare(states(visible)[1:7])
    rng = generator()
    found = annealed_log_partition(model, rng, chains=100, temperatures=1000)
    assert found.log_partition == pytest.approx(model.log_partition(), abs=0.1)
    samples = model.advance(model.start(100, rng), rng, 100)[0]
    assert reverse_annealed_log_partition(model, samples, rng, temperatures=1000).log_partition == pytest.approx(
        model.log_partition(), abs=0.1
    )


def test_annealing_works_where_hidden_units_cannot_be_summed_out():
    model = machine(3, 13, scale=0.5)
    found = annealed_log_partition(model, generator(), chains=100, temperatures=1000)
    assert found.log_partition == pytest.approx((-double_sum(model, states(16))).logsumexp(0).item(), abs=0.1)


def test_many_units_are_annealed_instead_of_counted():
    model = machine(30, scale=0.1)
    assert best_log_partition(model, generator(), chains=10, temperatures=50).chains == 10


@pytest.mark.parametrize("seed", range(5))
def test_simulated_annealing_finds_the_ground_state(seed):
    model = machine(10, 4, scale=2.0, seed=seed)
    x = states(14)
    energies = double_sum(model, x)
    found = model.annealed_search(generator(), Cooling(20, 0.05, 150))
    assert torch.equal(torch.cat(found.state, 1)[0], x[energies.argmin()])
    assert found.energies[0].item() == pytest.approx(energies.min().item(), abs=1e-12)
    assert torch.equal(found.energies, found.energies.sort().values)
    assert torch.allclose(found.energies, model.energy(found.state))


def test_temperatures_fall_geometrically():
    assert Cooling(8, 1, 4).temperatures == pytest.approx([8, 4, 2, 1])
