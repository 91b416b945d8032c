"""Energies, probabilities and mean field of Boltzmann machines against enumeration written out anew, and bad input."""

import math

import pytest
import torch

from deepforward.errors import InvalidData, InvalidOption, ShapeError, TooLarge
from deepforward.models.energy import RBM, BoltzmannMachine, Cooling
from deepforward.models.energy.enumeration import all_states
from tests.models.boltzmann_examples import double_sum, forms, generator, machine, split, states, without_hidden_connections


@forms
def test_energy_is_the_double_sum(visible, hidden, connectivity):
    model = machine(visible, hidden, connectivity=connectivity)
    x = states(model.num_units)
    assert torch.allclose(model.energy(split(model, x)), double_sum(model, x), atol=1e-13)


def test_the_printed_matrix_form_counts_each_pair_twice_if_weights_are_symmetric():
    model = machine(6)
    x = states(6)
    pairs = -double_sum(model, x) - x @ model.bias
    assert torch.allclose(((x @ model.weight) * x).sum(1), 2 * pairs, atol=1e-13)
    assert torch.allclose(((x @ model.weight.triu()) * x).sum(1), pairs, atol=1e-13)


def test_weights_stay_symmetric_without_diagonal_whatever_the_optimiser_does():
    model = machine(5, 2, connectivity=without_hidden_connections(5, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.3, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model.weight * torch.randn(7, 7, generator=generator(), dtype=torch.float64)).sum().backward()
        optimizer.step()
    weight = model.weight.detach()
    assert torch.equal(weight, weight.t())
    assert not weight.diagonal().any()
    assert not weight[5:, 5:].any()


@pytest.mark.parametrize(("hidden", "pairs"), [(0, 120), (3, 171)])
def test_one_parameter_for_each_pair_and_each_unit(hidden, pairs):
    model = BoltzmannMachine((1, 4, 4), hidden=hidden)
    assert sum(p.numel() for p in model.parameters()) == pairs + 16 + hidden


@forms
def test_probabilities_are_those_of_the_energy_and_sum_to_one(visible, hidden, connectivity):
    model = machine(visible, hidden, connectivity=connectivity)
    x = next(all_states(model.num_units, like=model.bias))
    boltzmann = (-double_sum(model, x)).exp()
    assert torch.allclose(model.probabilities(), boltzmann / boltzmann.sum(), atol=1e-14)
    assert model.probabilities().sum().item() == pytest.approx(1, abs=1e-12)
    assert model.log_partition() == pytest.approx(boltzmann.sum().log().item(), abs=1e-12)


@forms
def test_log_probability_sums_the_hidden_units_out(visible, hidden, connectivity):
    model = machine(visible, hidden, connectivity=connectivity)
    v, h = states(visible), states(hidden)
    joint = torch.stack([-double_sum(model, torch.cat((row.expand(len(h), -1), h), 1)) for row in v])
    expected = joint.logsumexp(1) - joint.flatten().logsumexp(0)
    assert torch.allclose(model.log_probability(v), expected, atol=1e-12)
    assert not model.is_bound


def test_without_connections_inside_a_layer_it_is_a_restricted_machine():
    rbm = RBM((4,), hidden=3).double()
    connected = without_hidden_connections(4, 3)
    connected[:4, :4] = False
    model = machine(4, 3, connectivity=connected)
    with torch.no_grad():
        rbm.weight.copy_(model.weight[:4, 4:])
        rbm.visible_units.bias.copy_(model.bias[:4])
        rbm.hidden_units.bias.copy_(model.bias[4:])
    v = states(4)
    assert model.log_partition() == pytest.approx(rbm.log_partition(), abs=1e-12)
    assert torch.allclose(model.log_unnormalised(v, generator()), -rbm.free_energy(v), atol=1e-12)
    assert torch.allclose(model(v), rbm(v), atol=1e-12)


def test_many_states_are_counted_in_chunks_and_differentiated():
    independent = machine(17, connectivity=torch.zeros(17, 17, dtype=torch.bool), dtype=torch.float64)
    log_z = independent.log_partition_tensor()
    assert log_z.item() == pytest.approx(torch.nn.functional.softplus(independent.bias).sum().item(), abs=1e-10)
    (gradient,) = torch.autograd.grad(log_z, independent.bias)
    assert torch.allclose(gradient, independent.bias.sigmoid(), atol=1e-12)


# Mean field


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_mean_field_stands_still_and_bounds_the_likelihood(scale):
    model = machine(4, 6, scale=scale, seed=1)
    v = states(4)
    means, residual = model.mean_field(v)
    assert residual <= 1e-8
    inputs = v @ model.weight[:4, 4:] + model.bias[4:] + means @ model.weight[4:, 4:]
    assert (inputs.sigmoid() - means).abs().max().item() <= 1e-8
    q = means.clamp(1e-300, 1)
    bound = -model.energy((v, means)) - (q * q.log() + (1 - means) * torch.log1p(-means).nan_to_num(neginf=0)).sum(1)
    exact = model.log_unnormalised(v, generator())
    assert (bound <= exact + 1e-12).all()
    assert (bound < exact - 1e-6).any()


def test_log_unnormalised_is_a_bound_beyond_twelve_connected_hidden_units():
    model = machine(3, 14, scale=0.4)
    h = states(14)
    exact = torch.stack([(-double_sum(model, torch.cat((v.expand(len(h), -1), h), 1))).logsumexp(0) for v in states(3)])
    bound = model.log_unnormalised(states(3), generator())
    assert (bound <= exact).all()
    assert (bound > exact - 1).all()
    with pytest.raises(TooLarge, match=r"14 hidden units that are connected.*at most 12; use log_unnormalised"):
        model.log_probability(states(3))


# Refusals


@pytest.mark.parametrize(
    ("values", "said"), [(math.nan, "got nan"), (1.5, "got 1.5"), (-0.5, "got -0.5"), (math.inf, "got inf")]
)
@pytest.mark.parametrize("method", ["log_probability", "mean_field", "check"])
def test_values_that_no_unit_takes_are_refused(method, values, said):
    data = torch.zeros(2, 4, dtype=torch.float64)
    data[1, 2] = values
    with pytest.raises(InvalidData, match=f"{said} in example 1, unit 2; expected numbers from 0 to 1") as caught:
        getattr(machine(4, 2), method)(data)
    assert "\n" not in str(caught.value)


def test_another_number_of_units_is_refused():
    model = machine(4, 2)
    for method in (model.log_probability, model.mean_field):
        with pytest.raises(ShapeError, match=r"got shape \(3, 5\); expected \(batch, 4\)"):
            method(torch.zeros(3, 5, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"layer 'units' got inputs of shape \(3, 5\), expected \(batch, 4\)"):
        model(torch.zeros(3, 5, dtype=torch.float64))


def test_too_many_units_are_refused_with_the_time_and_the_estimate():
    for method in (BoltzmannMachine((25,)).log_partition, BoltzmannMachine((20,), hidden=5).probabilities):
        with pytest.raises(TooLarge, match=r"25 binary units, 2\^25 states, about .* at most 24; use annealed"):
            method()


@pytest.mark.parametrize("options", [{"hidden": -1}, {"hidden": True}, {"weight_scale": math.nan}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InvalidOption, match=rf"boltzmann machine got {next(iter(options))}="):
        BoltzmannMachine((4,), **options)


def test_a_connectivity_must_fit_and_be_symmetric():
    with pytest.raises(ShapeError, match=r"\(3, 3\); expected \(4, 4\)"):
        BoltzmannMachine((4,), connectivity=torch.zeros(3, 3, dtype=torch.bool))
    for wrong in (torch.ones(4, 4).triu(1).bool(), torch.ones(4, 4).bool()):
        with pytest.raises(InvalidOption, match="not symmetric with a False diagonal"):
            BoltzmannMachine((4,), connectivity=wrong)


@pytest.mark.parametrize("options", [(1.0, 2.0, 10), (1.0, 0.0, 10), (2.0, 1.0, 1), (math.nan, 1.0, 10)])
def test_a_cooling_must_cool(options):
    with pytest.raises(InvalidOption, match="expected first >= last > 0"):
        Cooling(*options)
