"""Probabilities and mean field of deep Boltzmann machines against enumeration of all their states, and bad input."""

from itertools import pairwise

import pytest
import torch

from deepforward.errors import InvalidData, InvalidOption, ShapeError, TooLarge
from deepforward.models.energy import DeepBoltzmannMachine
from deepforward.models.energy.enumeration import all_states
from tests.models.deep_boltzmann_examples import SHAPES, every, machine, rng


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_partition_function_and_probabilities_are_those_of_all_joint_states(shape, seed):
    model = machine(*shape, seed=seed)
    state = every(model)
    log_z = (-model.energy(state)).logsumexp(0)
    assert model.log_partition() == pytest.approx(float(log_z), abs=1e-10)
    visible = torch.cat(list(all_states(shape[0], like=log_z)))
    slow = torch.stack([(-model.energy(state))[(state[0] == v).all(1)].logsumexp(0) for v in visible]) - log_z
    assert torch.allclose(model.exact_log_probability(visible), slow, atol=1e-10, rtol=0)
    assert float(slow.exp().sum()) == pytest.approx(1.0, abs=1e-10)


def test_an_energy_is_written_as_in_the_paper():
    model = machine(4, (3, 2))
    v, h, g = every(model)
    W1, W2, b, c, d = *model.weights, *(units.bias for units in model.layers)
    slow = torch.stack([-v[i] @ W1 @ h[i] - h[i] @ W2 @ g[i] - b @ v[i] - c @ h[i] - d @ g[i] for i in range(len(v))])
    assert torch.allclose(model.energy((v, h, g)), slow, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_bound_is_never_above_the_probability(shape, scale):
    visible = torch.cat(list(all_states(shape[0], like=torch.zeros((), dtype=torch.float64))))
    loosest = 0.0
    for seed in range(5):
        model = machine(*shape, seed=seed, scale=scale)
        gap = model.exact_log_probability(visible) + model.log_partition() - model.log_unnormalised(visible, rng())
        assert gap.min() >= -1e-10
        loosest = max(loosest, float(gap.max()))
    assert loosest > 1e-4  # it is a bound, not the thing itself: the test would see one that is too high


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_field_converges_and_no_sweep_worsens_its_bound(shape):
    visible = torch.cat(list(all_states(shape[0], like=torch.zeros((), dtype=torch.float64))))
    for seed in range(5):
        model = machine(*shape, seed=seed)
        bounds = [model.bound(model.mean_field(visible, steps, 0.0)[0]) for steps in range(12)]
        assert all((after - before).min() >= -1e-12 for before, after in pairwise(bounds))
        assert (bounds[-1] - bounds[0]).max() > 1e-3
        state, residual = model.mean_field(visible, 10_000, 1e-9)
        assert residual <= 1e-9
        weights = list(model.weights)
        for k in range(1, len(state)):
            below = state[k - 1] @ weights[k - 1]
            above = state[k + 1] @ weights[k].t() if k + 1 < len(state) else 0
            assert torch.allclose(state[k], (below + above + model.layers[k].bias).sigmoid(), atol=1e-8, rtol=0)


def test_the_mean_field_begins_with_a_doubled_pass_and_stops_by_tolerance():
    model = machine(4, (3, 2, 2))
    visible = torch.rand(5, 4, generator=rng(), dtype=torch.float64)
    state, residual = model.mean_field(visible, 0)
    W, units = list(model.weights), list(model.layers)
    first = (2 * visible @ W[0] + units[1].bias).sigmoid()
    second = (2 * first @ W[1] + units[2].bias).sigmoid()
    third = (second @ W[2] + units[3].bias).sigmoid()
    assert residual == float("inf")
    for values, slow in zip(state[1:], (first, second, third), strict=True):
        assert torch.allclose(values, slow, atol=1e-12, rtol=0)
    assert model.mean_field(visible, 1000, 1e-2)[1] <= 1e-2
    assert model.mean_field(visible, 1000, 1e-2)[1] > model.mean_field(visible, 1000, 1e-6)[1]


def test_means_are_differentiable_and_the_same_with_and_without_gradients():
    model = machine(4, (3, 2), learn=True).float()
    visible = torch.rand(5, 4, generator=rng())
    features = model(visible)
    with torch.no_grad():
        assert torch.allclose(model(visible), features, atol=1e-6)
    features.sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.weights)


def test_learnt_biases_outlive_the_preparation_of_a_later_stage():
    model = DeepBoltzmannMachine((4,), hidden=(3, 2))
    model.prepare(torch.rand(20, 4, generator=rng()))
    first = model.layers[0].bias.detach().clone()
    assert first.abs().sum() > 0
    with torch.no_grad():
        model.layers[0].bias += 1.0
    model.prepare(torch.rand(20, 4, generator=rng(1)))
    assert torch.equal(model.layers[0].bias, first + 1.0)


def test_parameters_are_those_of_the_paper():
    """784-500-1000: 784 x 500 + 500 x 1000 weights and 2284 biases."""
    assert sum(p.numel() for p in DeepBoltzmannMachine((1, 28, 28)).parameters()) == 784 * 500 + 500 * 1000 + 2284
    assert [c.weight for c in DeepBoltzmannMachine((4,), hidden=(3, 2, 2)).connections] == [f"weights.{k}" for k in range(3)]


# Bad input.


@pytest.mark.parametrize("hidden", [(), (5,), (5, 0), (5, True)])
def test_hidden_layers_must_be_two_or_more_whole_numbers(hidden):
    with pytest.raises(InvalidOption, match="hidden="):
        DeepBoltzmannMachine((4,), hidden=hidden)


@pytest.mark.parametrize("option", [{"mean_field_steps": 0}, {"mean_field_tolerance": float("nan")}, {"weight_scale": -1.0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(InvalidOption, match=next(iter(option))):
        DeepBoltzmannMachine((4,), **option)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
def test_data_outside_the_units_range_are_refused(value):
    model = DeepBoltzmannMachine((4,), hidden=(3, 2))
    visible = torch.full((3, 4), 0.5)
    visible[1, 2] = value
    with pytest.raises(InvalidData, match="example 1, unit 2"):
        model.check(visible)


def test_a_wrong_shape_and_too_many_states_are_refused():
    model = DeepBoltzmannMachine((2, 3))
    with pytest.raises(ShapeError, match=r"layer 'layers\.0' got inputs of shape"):
        model(torch.zeros(2, 3, 2))
    with pytest.raises(TooLarge, match="500 binary units"):
        model.log_partition()
    with pytest.raises(TooLarge, match="500 binary units"):
        model.exact_log_probability(torch.zeros(1, 6))
